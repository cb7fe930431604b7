//! Wherever the 64-bit price list lets itself be built, it gives the exact numbers.

use proptest::prelude::*;

use super::{Ceilings, Exact, Narrow, Price, Quoted};
use crate::{Candidate, Limits, RequestFields};

/// Values of any magnitude, those around the bounds among them.
fn wide(bounds: &'static [u64]) -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift),
        1 => (prop::sample::select(bounds), 0_u64..3).prop_map(|(bound, more)| bound.saturating_add(more).saturating_sub(1)),
    ]
}

fn tokens() -> impl Strategy<Value = u32> {
    wide(&[1, 1_000_000, 1 << 31, 0xffff_ffff]).prop_map(|value| u32::try_from(value).unwrap_or(u32::MAX))
}

fn bps(highest: u16) -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(1), Just(highest), 0..=highest]
}

prop_compose! {
    fn candidate()(
        model_id in 1_u32..9,
        quality_bps in bps(10_000),
        p95_latency_ms in tokens(),
        input in wide(&[1, 1_000_000, 1 << 32, 1 << 44, u64::MAX]),
        output in wide(&[1, 1_000_000, 1 << 32, 1 << 44, u64::MAX]),
    ) -> Candidate {
        Candidate {
            model_id,
            quality_bps,
            p95_latency_ms,
            input_cost_microunits_per_million_tokens: input,
            output_cost_microunits_per_million_tokens: output,
            ..Candidate::default()
        }
    }
}

prop_compose! {
    fn request()(
        input_tokens in tokens(),
        output_tokens in tokens(),
        value in wide(&[1, Narrow::LARGEST_VALUE, 1 << 63]),
        risk_bps in bps(10_000),
        confidence_bps in bps(10_000),
    ) -> RequestFields {
        RequestFields {
            input_tokens, output_tokens, business_value_microunits: value.cast_signed(), risk_bps, confidence_bps,
            ..RequestFields::default()
        }
    }
}

prop_compose! {
    fn limits()(
        risk_penalty_multiplier_bps in bps(50_000),
        latency_penalty_microunits_per_ms in wide(&[1, 1 << 29, 1 << 32, Narrow::LARGEST_LATENCY_PENALTY]),
    ) -> Limits {
        Limits { risk_penalty_multiplier_bps, latency_penalty_microunits_per_ms, ..Limits::default() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_narrow_price_is_the_exact_price(
        limits in limits(),
        candidates in prop::collection::vec(candidate(), 1..4),
        request in request(),
        quotes in prop::collection::btree_map(1_u32..9, wide(&[Narrow::LARGEST_QUOTE, u64::MAX]), 0..3),
    ) {
        let quotes: Vec<_> = quotes.into_iter().collect();
        if let Some(narrow) = Ceilings::new(&limits, &candidates).and_then(|ceilings| Narrow::new(&ceilings, &limits, &request)) {
            let exact = Exact::new(&limits, &request, &[]);
            for candidate in &candidates {
                let cost = exact.cost(candidate);
                prop_assert_eq!(narrow.cost(candidate), cost);
                prop_assert_eq!(narrow.utility(candidate, cost), exact.utility(candidate, cost));
            }
            if let Some(quoted) = Quoted::new(narrow, &quotes) {
                let exact = Exact::new(&limits, &request, &quotes);
                for candidate in &candidates {
                    let cost = exact.cost(candidate);
                    prop_assert_eq!(quoted.cost(candidate), cost);
                    prop_assert_eq!(quoted.utility(candidate, cost), exact.utility(candidate, cost));
                }
            }
        }
    }

    #[test]
    fn an_exact_utility_is_the_clamped_difference_of_its_terms(
        limits in limits(),
        candidate in candidate(),
        request in request(),
    ) {
        let exact = Exact::new(&limits, &request, &[]);
        let cost = exact.cost(&candidate);
        let terms = exact.terms(&candidate, cost);
        let value = u128::try_from(request.business_value_microunits.max(0)).unwrap();
        let over = |a: u16, b: u16| value * u128::from(a) * u128::from(b) / 100_000_000;
        prop_assert_eq!(u128::from(terms.quality_adjusted), over(request.confidence_bps, candidate.quality_bps));
        prop_assert_eq!(terms.risk_penalty, over(request.risk_bps, limits.risk_penalty_multiplier_bps));
        let side = |tokens: u32, rate: u64| (u128::from(tokens) * u128::from(rate)).div_ceil(1_000_000);
        let sides = side(request.input_tokens, candidate.input_cost_microunits_per_million_tokens)
            + side(request.output_tokens, candidate.output_cost_microunits_per_million_tokens);
        prop_assert_eq!(u128::from(cost), sides.min(u64::MAX.into()));
        let utility = i128::from(terms.quality_adjusted)
            - i128::try_from(terms.risk_penalty + u128::from(cost) + terms.latency_penalty).unwrap();
        prop_assert_eq!(i128::from(terms.utility), utility.clamp(i64::MIN.into(), i64::MAX.into()));
    }
}

#[test]
fn the_bounds_themselves_fit() {
    let limits = Limits {
        risk_penalty_multiplier_bps: 50_000,
        latency_penalty_microunits_per_ms: Narrow::LARGEST_LATENCY_PENALTY,
        ..Limits::default()
    };
    // The largest rate whose product with the largest count of tokens, rounded up, fits 64 bits.
    let rate = (u64::MAX - 999_999) / u64::from(u32::MAX);
    let candidate = Candidate {
        model_id: 1,
        p95_latency_ms: 1,
        input_cost_microunits_per_million_tokens: rate,
        output_cost_microunits_per_million_tokens: rate,
        ..Candidate::default()
    };
    let request = RequestFields {
        input_tokens: u32::MAX,
        output_tokens: u32::MAX,
        business_value_microunits: Narrow::LARGEST_VALUE.cast_signed(),
        risk_bps: 10_000,
        ..RequestFields::default()
    };
    let narrow = |rate, value: u64, penalty, quote| {
        let candidate = Candidate {
            input_cost_microunits_per_million_tokens: rate,
            ..candidate
        };
        let limits = Limits {
            latency_penalty_microunits_per_ms: penalty,
            ..limits
        };
        let request = RequestFields {
            business_value_microunits: value.cast_signed(),
            ..request
        };
        let exact = Exact::new(&limits, &request, quote);
        let narrow = Narrow::new(&Ceilings::new(&limits, &[candidate])?, &limits, &request)?;
        let quoted = Quoted::new(narrow, quote)?;
        let cost = exact.cost(&candidate);
        assert_eq!(quoted.cost(&candidate), cost);
        assert_eq!(quoted.utility(&candidate, cost), exact.utility(&candidate, cost));
        Some(())
    };
    let (value, penalty) = (Narrow::LARGEST_VALUE, Narrow::LARGEST_LATENCY_PENALTY);
    assert!(narrow(rate, value, penalty, &[]).is_some());
    assert!(narrow(rate, value, penalty, &[(1, Narrow::LARGEST_QUOTE)]).is_some());
    assert!(narrow(rate + 1, value, penalty, &[]).is_none());
    assert!(narrow(rate, value + 1, penalty, &[]).is_none());
    assert!(narrow(rate, value, penalty + 1, &[]).is_none());
    assert!(narrow(rate, value, penalty, &[(1, Narrow::LARGEST_QUOTE + 1)]).is_none());
}
