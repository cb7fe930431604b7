//! The fixed point gives the definition's numbers at all its bounds, and takes whatever is within them.

use decidable_canon::{
    Canonical as _,
    units::{BPS_WHOLE, BPS_WHOLE_SQUARED, TOKENS_PER_RATE},
};
use fearless_simd::Level;

use super::{
    Met,
    one::decide_one,
    table::{LARGEST_VALUE, SCALE_BITS, Table},
};
use crate::{
    Candidate, Limits, Objective, Policy, Request, RequestFields,
    batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, Plan, Quotes, Rows},
    gate,
    lanes::tests::{Random, has_no_widest, rows},
};

/// The number whose product with `number`, a unit, is 1 modulo `modulus`, by Euclid.
fn inverse(number: u64, modulus: u64) -> u64 {
    let (mut a, mut b) = (i128::from(number % modulus), i128::from(modulus));
    let (mut x, mut y) = (1_i128, 0_i128);
    while b != 0 {
        (x, y) = (y, x - a / b * y);
        (a, b) = (b, a % b);
    }
    u64::try_from(x.rem_euclid(i128::from(modulus))).unwrap()
}

/// Odd and no multiple of five, so that it has an inverse modulo a power of ten; or 0.
fn unit(number: u64) -> u64 {
    let odd = number | 1;
    if odd.is_multiple_of(5) {
        odd.saturating_sub(2)
    } else {
        odd
    }
}

fn common(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A number that times `factor` is 0, 1 or −1 modulo a power of ten; the latter two only if `factor` is a unit.
fn telling(random: &mut Random, factor: u64, modulus: u64) -> u64 {
    let whole = modulus / common(factor, modulus);
    match random.to(2) {
        _ if unit(factor) != factor => (whole * random.to(modulus / whole)) % modulus,
        0 => 0,
        1 => inverse(factor, modulus),
        _ => modulus - inverse(factor, modulus),
    }
}

/// A rate of which `tokens` cost a whole number of microunits, or one millionth more or less.
fn telling_rate(random: &mut Random, tokens: u64, largest: u64) -> u64 {
    if tokens == 0 || largest < 2 * TOKENS_PER_RATE {
        return random.to(largest);
    }
    random.to(largest / TOKENS_PER_RATE - 1) * TOKENS_PER_RATE + telling(random, tokens, TOKENS_PER_RATE)
}

/// A value of which confidence and quality leave a whole number of microunits, or one hundred-millionth more or less.
fn telling_value(random: &mut Random, confidence: u64, quality: u64) -> u64 {
    let modulus = BPS_WHOLE_SQUARED;
    random.to(LARGEST_VALUE / modulus - 1) * modulus + telling(random, confidence * quality, modulus)
}

/// A proportion that is a unit, or a multiple of many of them.
fn proportion(random: &mut Random) -> u16 {
    let number = if random.one_in(2) {
        unit(random.to(9_998))
    } else {
        [1, 2, 4, 5, 16, 25, 64, 125, 625, 1_000, 2_500, 4_096, 8_000, 10_000][usize::try_from(random.to(13)).unwrap()]
    };
    u16::try_from(number).unwrap()
}

fn edge(random: &mut Random, largest: u64) -> u64 {
    match random.to(5) {
        0 => 0,
        1 => 1,
        2 => largest,
        3 => largest - random.to(3).min(largest),
        _ => random.to(largest),
    }
}

#[test]
fn every_number_within_the_bounds_is_decided_by_the_definition() {
    let Some(token) = Level::new().as_avx512() else {
        has_no_widest();
        return;
    };
    let mut random = Random(52);
    let (mut taken, mut all) = (0_u32, 0_u32);
    for bits in SCALE_BITS {
        for objective in [
            Objective::Utility,
            Objective::Utility,
            Objective::Cheapest,
            Objective::Quality,
            Objective::Fastest,
        ] {
            // The largest rate that has so many bits.
            let largest = (((1_u128 << 51) * u128::from(TOKENS_PER_RATE) - 1) >> bits)
                .try_into()
                .unwrap();
            for multiplier in [0, 1, 3_355, 3_356, 50_000] {
                let limits = Limits {
                    objective,
                    risk_penalty_multiplier_bps: multiplier,
                    latency_penalty_microunits_per_ms: random.to(1 << 13),
                    hard_risk_limit_bps: BPS_WHOLE,
                    minimum_confidence_bps: 0,
                    ..Limits::default()
                };
                let tokens_max = Table::new(token, &limits, &[rated(1, largest, largest)])
                    .unwrap()
                    .tokens_max();
                assert_eq!(tokens_max, (1 << bits) / TOKENS_PER_RATE);
                let tokens = [edge(&mut random, tokens_max), edge(&mut random, tokens_max)];
                let confidence = proportion(&mut random);
                let mut candidates = vec![rated(1, largest, 0), rated(2, 0, largest), rated(3, 0, 0)];
                for model_id in 4..20 {
                    let [input, output] = tokens.map(|tokens| telling_rate(&mut random, tokens, largest));
                    candidates.push(Candidate {
                        quality_bps: proportion(&mut random),
                        p95_latency_ms: u32::try_from(edge(&mut random, u32::MAX.into())).unwrap(),
                        ..rated(model_id, input, output)
                    });
                }
                let quality = candidates.last().unwrap().quality_bps;
                let policy = Policy::new(limits, candidates, None).unwrap();
                let table = policy.table().unwrap();
                for _ in 0..12 {
                    let value = match random.to(3) {
                        0 => edge(&mut random, LARGEST_VALUE),
                        _ => telling_value(&mut random, confidence.into(), quality.into()),
                    };
                    let mut fields = RequestFields {
                        requested_model_id: 5,
                        input_tokens: u32::try_from(tokens[0]).unwrap(),
                        output_tokens: u32::try_from(tokens[1]).unwrap(),
                        business_value_microunits: i64::try_from(value).unwrap(),
                        confidence_bps: confidence,
                        risk_bps: u16::try_from(random.to(9_999)).unwrap(),
                        ..RequestFields::default()
                    };
                    if random.one_in(2) {
                        // Exactly what somebody costs, or one less.
                        let who = policy.candidates()[usize::try_from(random.to(18)).unwrap()].model_id;
                        let cost = policy.cost(who, fields.input_tokens, fields.output_tokens).unwrap();
                        fields.budget_limit_microunits = cost - random.to(1).min(cost);
                    }
                    let expected = policy.derive(&Request::new(fields).unwrap());
                    assert_eq!(policy.decide_fields(&fields, &[]), expected, "{fields:?} {policy:?}");
                    all += 1;
                    taken += u32::from(decide_one(table, &fields).is_some());
                    if let Some(Met::Rejected(counts)) = decide_one(table, &fields) {
                        assert_eq!(
                            counts,
                            policy.derive_counted(&Request::new(fields).unwrap()).1,
                            "{fields:?} {policy:?}"
                        );
                    }
                    // One more of each than is taken.
                    for beyond in [
                        RequestFields {
                            input_tokens: u32::try_from(tokens_max + 1).unwrap(),
                            ..fields
                        },
                        RequestFields {
                            output_tokens: u32::try_from(tokens_max + 1).unwrap(),
                            ..fields
                        },
                        RequestFields {
                            business_value_microunits: i64::try_from(LARGEST_VALUE + 1).unwrap(),
                            ..fields
                        },
                    ] {
                        assert!(decide_one(table, &beyond).is_none());
                    }
                }
            }
        }
    }
    assert!(taken * 10 > all * 9, "{taken} of {all}");
}

fn rated(model_id: u32, input: u64, output: u64) -> Candidate {
    Candidate {
        model_id,
        quality_bps: 9_999,
        risk_ceiling_bps: BPS_WHOLE,
        enabled: true,
        p95_latency_ms: 100,
        input_cost_microunits_per_million_tokens: input,
        output_cost_microunits_per_million_tokens: output,
        ..Candidate::default()
    }
}

/// The largest catalog, all of it switched on: places, counters and the floor at their ends.
#[test]
fn the_largest_numbers_of_a_catalog_are_decided_by_the_definition() {
    if Level::new().as_avx512().is_none() {
        has_no_widest();
        return;
    }
    let candidates = |quality_bps| {
        let mut candidates: Vec<_> = (1..=65_535).map(|model_id| rated(model_id, 1_000_000, 0)).collect();
        candidates.last_mut().unwrap().quality_bps = quality_bps;
        candidates
    };
    let request = RequestFields {
        input_tokens: 9_999,
        business_value_microunits: 10_000,
        ..RequestFields::default()
    };
    // Everybody's utility is 0, then the last one's is 1; and everybody fails one gate.
    for (objective, quality_bps) in [
        (Objective::Utility, 9_999),
        (Objective::Utility, BPS_WHOLE),
        (Objective::Cheapest, 9_999),
        (Objective::Cheapest, BPS_WHOLE),
        (Objective::Fastest, BPS_WHOLE),
    ] {
        let limits = Limits {
            objective,
            hard_risk_limit_bps: BPS_WHOLE,
            minimum_confidence_bps: 1,
            ..Limits::default()
        };
        let policy = Policy::new(limits, candidates(quality_bps), None).unwrap();
        let table = policy.table().unwrap();
        let all = [
            request,
            RequestFields {
                minimum_quality_bps: BPS_WHOLE,
                ..request
            },
            RequestFields {
                max_p95_latency_ms: 99,
                ..request
            },
            RequestFields {
                required_capabilities: 1,
                ..request
            },
            RequestFields {
                allowed_provider_mask: 2,
                ..request
            },
            RequestFields {
                required_region_mask: 2,
                ..request
            },
            RequestFields {
                budget_limit_microunits: 9_998,
                ..request
            },
            RequestFields {
                budget_limit_microunits: 9_999,
                ..request
            },
            RequestFields {
                risk_bps: BPS_WHOLE,
                ..request
            },
            RequestFields {
                confidence_bps: 0,
                ..request
            },
        ];
        let rows = rows(&all);
        let taken = Rows::new(rows.as_flattened(), 1).unwrap();
        let mut decided = vec![[0; DECISION_ROW_BYTES]; all.len()];
        let mut counted = vec![[0; COUNTS_ROW_BYTES]; all.len()];
        let (quotes, plan) = (Quotes::default(), Plan::threads(1));
        batch::decide_rows(&policy, taken, &quotes, decided.as_flattened_mut(), plan).unwrap();
        let decisions = decided.as_flattened();
        batch::count(&policy, taken, &quotes, decisions, counted.as_flattened_mut(), plan).unwrap();
        for ((fields, decision), counts_row) in all.into_iter().zip(decided).zip(counted) {
            let (expected, counts) = policy.derive_counted(&Request::new(fields).unwrap());
            let (mut row, mut counted) = (Vec::new(), Vec::new());
            expected.encode(&mut row);
            counts.encode(&mut counted);
            assert_eq!(
                (decision.as_slice(), counts_row.as_slice()),
                (row.as_slice(), counted.as_slice()),
                "{fields:?}"
            );
            assert_eq!(policy.decide_fields(&fields, &[]), expected, "{fields:?}");
            if gate::refusal(policy.limits(), &fields).is_some() {
                continue;
            }
            match decide_one(table, &fields) {
                Some(Met::Rejected(found)) => assert_eq!(found, counts, "{fields:?}"),
                Some(Met::Selected(_)) => assert!(expected.selected_model_id.is_some()),
                None => panic!("{fields:?}"),
            }
        }
    }
}
