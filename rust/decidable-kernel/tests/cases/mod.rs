//! Policies and requests for property tests: ordinary ones and those at the edges of every range.

use std::collections::BTreeMap;

use decidable_kernel::{Candidate, Limits, Objective, Policy, Request, RequestFields};
use proptest::prelude::*;

fn bps() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 0_u16..=10_000, 1 => Just(0), 1 => Just(9_999), 1 => Just(10_000)]
}

/// Numbers of every magnitude.
fn magnitude() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
}

fn mask() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(u64::MAX),
        1 => Just(0),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a | b),
        1 => any::<u64>(),
    ]
}

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..100_000_000, 2 => 0_u64..4, 1 => magnitude()]
}

prop_compose! {
    fn candidate()(
        provider_id in 0_u16..64,
        quality_bps in bps(),
        risk_ceiling_bps in prop_oneof![Just(10_000), bps()],
        enabled in prop::bool::weighted(0.9),
        p95_latency_ms in prop_oneof![8 => 0_u32..5_000, 1 => any::<u32>()],
        capabilities in mask(),
        region_mask in mask(),
        input in rate(),
        output in rate(),
    ) -> Candidate {
        Candidate {
            model_id: 0,
            provider_id,
            quality_bps,
            risk_ceiling_bps,
            enabled,
            p95_latency_ms,
            capabilities,
            region_mask,
            input_cost_microunits_per_million_tokens: input,
            output_cost_microunits_per_million_tokens: output,
        }
    }
}

prop_compose! {
    fn limits(objectives: &'static [Objective])(
        policy_epoch in magnitude(),
        catalog_epoch in magnitude(),
        hard_risk_limit_bps in prop_oneof![9 => Just(10_000), 1 => bps()],
        minimum_confidence_bps in prop_oneof![9 => Just(0), 1 => bps()],
        risk_penalty_multiplier_bps in prop_oneof![4 => 0_u16..=5_000, 1 => 0_u16..=50_000],
        latency_penalty_microunits_per_ms in prop_oneof![Just(0), 0_u64..20, magnitude()],
        objective in prop::sample::select(objectives),
    ) -> Limits {
        Limits {
            policy_epoch,
            catalog_epoch,
            hard_risk_limit_bps,
            minimum_confidence_bps,
            risk_penalty_multiplier_bps,
            latency_penalty_microunits_per_ms,
            objective,
        }
    }
}

prop_compose! {
    /// A policy of up to `most` candidates, one of which is enabled; twins, which only the `model_id` tells apart, are
    /// frequent.
    pub fn policy(most: usize, objectives: &'static [Objective])(
        limits in limits(objectives),
        candidates in prop::collection::btree_map(1_u32..=200, (candidate(), prop::bool::weighted(0.3)), 1..=most),
    ) -> Policy {
        let mut catalog: Vec<Candidate> = Vec::new();
        for (model_id, (candidate, twin)) in candidates {
            let like = catalog.last().filter(|_| twin).copied().unwrap_or(candidate);
            catalog.push(Candidate { model_id, ..like });
        }
        catalog[0].enabled = true;
        Policy::new(limits, catalog, None).unwrap()
    }
}

prop_compose! {
    pub fn fields()(
        request_sequence in magnitude(),
        requested_model_id in 0_u32..=200,
        input_tokens in prop_oneof![8 => 0_u32..200_000, 1 => any::<u32>()],
        output_tokens in prop_oneof![8 => 0_u32..20_000, 1 => any::<u32>()],
        business_value_microunits in prop_oneof![8 => 0_i64..100_000_000, 1 => any::<i64>(), 1 => Just(i64::MAX)],
        budget_limit_microunits in prop_oneof![4 => Just(u64::MAX), 4 => 0_u64..100_000_000, 1 => magnitude()],
        risk_bps in prop_oneof![4 => 0_u16..2_000, 1 => bps()],
        confidence_bps in bps(),
        minimum_quality_bps in prop_oneof![2 => Just(0), 1 => bps()],
        max_p95_latency_ms in prop_oneof![2 => Just(0), 1 => 0_u32..10_000],
        required_capabilities in prop_oneof![3 => Just(0), 1 => (0_u32..64).prop_map(|bit| 1 << bit)],
        allowed_provider_mask in prop_oneof![3 => Just(u64::MAX), 1 => mask()],
        required_region_mask in prop_oneof![3 => Just(0), 1 => mask()],
    ) -> RequestFields {
        RequestFields {
            request_sequence,
            requested_model_id,
            input_tokens,
            output_tokens,
            business_value_microunits,
            budget_limit_microunits,
            risk_bps,
            confidence_bps,
            minimum_quality_bps,
            max_p95_latency_ms,
            required_capabilities,
            allowed_provider_mask,
            required_region_mask,
        }
    }
}

fn quotes() -> impl Strategy<Value = BTreeMap<u32, u64>> {
    let some = prop::collection::btree_map(
        1_u32..=200,
        prop_oneof![4 => 0_u64..50_000_000, 1 => magnitude()],
        0..20,
    );
    prop_oneof![Just(BTreeMap::new()), some]
}

prop_compose! {
    pub fn request()(
        fields in fields(),
        more in prop_oneof![Just(0), 0_u32..10_000],
        quotes in quotes(),
    ) -> Request {
        Request::new(fields)
            .unwrap()
            .with_max_output_tokens(fields.output_tokens.saturating_add(more))
            .unwrap()
            .with_quotes(quotes.into_iter().collect())
            .unwrap()
    }
}
