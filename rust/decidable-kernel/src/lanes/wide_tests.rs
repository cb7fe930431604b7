//! The arithmetic of the vectors of any width.

use decidable_canon::units::{BPS_WHOLE, BPS_WHOLE_SQUARED, TOKENS_PER_RATE};
use fearless_simd::{Level, dispatch, prelude::*, u64x4};

use super::super::tests::{Kind, Random, policy, request, rows};
use super::{
    CLASSES, HALF, Halves, LANES, LARGEST_VALUE, POINT_BITS, QUALITY_SHIFT, RATES, TOKEN_BITS, WHOLE_RATE_BITS, Wide,
    both, cut, rebate, sure, times, value_max,
};
use crate::{
    Candidate, HIGHEST_RISK_PENALTY_MULTIPLIER_BPS, Limits, Objective, Policy, Vectors, batch::DECISION_ROW_BYTES,
};

#[test]
fn most_selections_are_the_lanes_own_with_every_objective_and_width() {
    let mut random = Random(3);
    for objective in Objective::ALL {
        let policy = std::iter::repeat_with(|| policy(&mut random, Kind::Ordinary, 22))
            .find(|policy| policy.limits().objective == objective)
            .unwrap();
        let requests: Vec<_> = (0..LANES * 500)
            .map(|_| request(&mut random, Kind::Ordinary, &policy))
            .collect();
        for level in levels() {
            let lanes = Wide::new(&policy, level).unwrap();
            let (mut own, mut selected) = (0, 0);
            for requests in requests.chunks(LANES) {
                let mut decisions = [[0; DECISION_ROW_BYTES]; LANES];
                let left = lanes.decide_rows(&rows(requests), &mut decisions);
                for (lane, request) in requests.iter().enumerate() {
                    if policy.decide_fields(request, &[]).selected_model_id.is_some() {
                        own += u32::from(left.beyond >> lane & 1 == 0);
                        selected += 1;
                    }
                }
            }
            assert!(
                selected > 500 && own * 100 >= selected * 98,
                "{objective:?}: {own} of {selected}"
            );
        }
    }
}

#[test]
fn what_the_lanes_cannot_decide_they_do_not_take() {
    let candidate = Candidate {
        model_id: 1,
        ..Candidate::default()
    };
    let taken = |limits, candidate| {
        let policy = Policy::new(
            limits,
            vec![
                candidate,
                Candidate {
                    model_id: 2,
                    ..Candidate::default()
                },
            ],
            None,
        );
        Wide::new(&policy.unwrap(), Level::new()).is_some()
    };
    assert!(taken(Limits::default(), candidate));
    for (objective, is_taken) in [
        (Objective::Utility, true),
        (Objective::Cheapest, true),
        (Objective::Quality, true),
        (Objective::Fastest, false),
    ] {
        // A latency of its own for more candidates than a key has classes for.
        let latencies = 1..=u32::try_from(CLASSES).unwrap() + 1;
        let catalog = latencies.map(|number| Candidate {
            model_id: number,
            p95_latency_ms: number,
            ..Candidate::default()
        });
        let limits = Limits {
            objective,
            ..Limits::default()
        };
        let policy = Policy::new(limits, catalog.collect(), None).unwrap();
        assert_eq!(Wide::new(&policy, Level::new()).is_some(), is_taken, "{objective:?}");
    }
    let dear = Candidate {
        input_cost_microunits_per_million_tokens: RATES,
        ..candidate
    };
    assert!(!taken(Limits::default(), dear));
    assert!(taken(Limits::default(), Candidate { enabled: false, ..dear }));
    let slow = Candidate {
        p95_latency_ms: u32::MAX,
        ..candidate
    };
    let limits = Limits {
        latency_penalty_microunits_per_ms: 1 << 30,
        ..Limits::default()
    };
    assert!(!taken(limits, slow));
}

/// The number whose product with `number`, which 2 and 5 do not divide, is 1 modulo a power of ten.
fn inverse(number: u64, modulus: u64) -> u64 {
    // Euler: the units modulo 10^n are 4 × 10^(n − 1).
    let (mut exponent, mut base, mut result) = (modulus / 10 * 4 - 1, u128::from(number), 1_u128);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = result * base % u128::from(modulus);
        }
        base = base * base % u128::from(modulus);
        exponent /= 2;
    }
    u64::try_from(result).unwrap()
}

fn is_unit(number: u64) -> bool {
    !number.is_multiple_of(2) && !number.is_multiple_of(5)
}

/// The vectors of every width that this machine has.
fn levels() -> impl Iterator<Item = Level> {
    Vectors::available().filter_map(Vectors::level)
}

fn assert_cost(tokens: u64, rate: u64) {
    let exact = (u128::from(tokens) * u128::from(rate)).div_ceil(TOKENS_PER_RATE.into());
    let rebate = Halves::new(rebate(rate).unwrap());
    for level in levels() {
        let left: [u64; LANES] = dispatch!(level, simd => {
            let tokens = u64x4::splat(simd, tokens);
            cut(times(tokens, both(simd, rebate.high), both(simd, rebate.low))).into()
        });
        let cost = (tokens << WHOLE_RATE_BITS) - (left[LANES - 1] >> POINT_BITS);
        assert_eq!(u128::from(cost), exact, "{tokens} × {rate}");
    }
}

#[test]
fn a_cost_in_fixed_point_is_the_exact_cost() {
    let mut random = Random(11);
    let most = (1 << TOKEN_BITS) - 1;
    for _ in 0..100_000 {
        assert_cost(random.to(most), random.to(RATES - 1));
        // A millionth above a whole microunit, which rounds up to the next, with as many tokens as there can be.
        let tokens = most - random.to(2_000);
        if is_unit(tokens) {
            let rate = inverse(tokens, TOKENS_PER_RATE) + random.to((1 << WHOLE_RATE_BITS) - 1) * TOKENS_PER_RATE;
            assert_eq!(u128::from(tokens) * u128::from(rate) % 1_000_000, 1);
            assert_cost(tokens, rate);
        }
    }
    assert_cost(most, RATES - 1);
    assert!(rebate(RATES).is_none());
}

fn assert_value(value: u64, confidence: u16, quality: u16) {
    let exact = u128::from(value) * u128::from(confidence) * u128::from(quality) / u128::from(BPS_WHOLE_SQUARED);
    for level in levels() {
        let found: [u64; LANES] = dispatch!(level, simd => {
            let sure = sure(u64x4::splat(simd, value), u64x4::splat(simd, confidence.into()));
            let quality = both(simd, u32::from(quality) << QUALITY_SHIFT);
            (times(quality, sure >> HALF, sure) >> POINT_BITS).into()
        });
        assert_eq!(
            u128::from(found[LANES - 1]),
            exact,
            "{value} × {confidence} × {quality}"
        );
    }
}

#[test]
fn a_quality_adjusted_value_in_fixed_point_is_the_exact_value() {
    let mut random = Random(13);
    for _ in 0..100_000 {
        assert_value(random.to(LARGEST_VALUE), random.bps(), random.bps());
        // A hundred-millionth below a whole microunit, which rounds down to the one before, with the largest numbers.
        let [confidence, quality] = [(); 2].map(|()| BPS_WHOLE - u16::try_from(random.to(100)).unwrap());
        let factor = u64::from(confidence) * u64::from(quality);
        if is_unit(factor) {
            let below = BPS_WHOLE_SQUARED - inverse(factor, BPS_WHOLE_SQUARED);
            let value = below + random.to((LARGEST_VALUE - below) / BPS_WHOLE_SQUARED) * BPS_WHOLE_SQUARED;
            assert_eq!(u128::from(value) * u128::from(factor) % 100_000_000, 99_999_999);
            assert_value(value, confidence, quality);
        }
    }
    assert_value(LARGEST_VALUE, BPS_WHOLE, BPS_WHOLE);
    // A multiplier of risk in the place of the confidence, with the largest value that it allows.
    for multiplier in BPS_WHOLE..=HIGHEST_RISK_PENALTY_MULTIPLIER_BPS {
        let largest = value_max(multiplier);
        assert_value(largest, multiplier, BPS_WHOLE);
        assert_value(largest - random.to(1_000_000), multiplier, random.bps());
    }
}
