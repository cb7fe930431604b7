//! The screen admits exactly what the gates let pass.

use proptest::prelude::*;

use super::{Passing, Side};
use crate::{Candidate, RequestFields, gate::Gates};

/// Values at and around the edges of a range, and any between.
fn edges(highest: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1.min(highest)),
        Just(highest - 1),
        Just(highest),
        0..=highest,
    ]
}

fn bps() -> impl Strategy<Value = u16> {
    edges(10_000).prop_map(|value| u16::try_from(value).unwrap())
}

fn milliseconds() -> impl Strategy<Value = u32> {
    edges(u32::MAX.into()).prop_map(|value| u32::try_from(value).unwrap())
}

fn mask() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        (0_u32..64).prop_map(|bit| 1 << bit),
        any::<u64>(),
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a | b),
    ]
}

prop_compose! {
    fn candidate()(
        quality_bps in bps(),
        risk_ceiling_bps in bps(),
        p95_latency_ms in milliseconds(),
        provider_id in 0_u16..64,
        capabilities in mask(),
        region_mask in mask(),
        enabled in prop::bool::weighted(0.9),
    ) -> Candidate {
        Candidate { quality_bps, risk_ceiling_bps, p95_latency_ms, provider_id, capabilities, region_mask, enabled, ..Candidate::default() }
    }
}

prop_compose! {
    fn request()(
        minimum_quality_bps in bps(),
        risk_bps in bps(),
        max_p95_latency_ms in milliseconds(),
        required_capabilities in mask(),
        allowed_provider_mask in mask(),
        required_region_mask in mask(),
    ) -> RequestFields {
        RequestFields {
            minimum_quality_bps, risk_bps, max_p95_latency_ms, required_capabilities, allowed_provider_mask, required_region_mask,
            ..RequestFields::default()
        }
    }
}

/// A request that a candidate meets exactly, so that one change decides.
fn meeting(candidate: &Candidate, request: RequestFields, kept: [bool; 6]) -> RequestFields {
    let [quality, risk, latency, capability, provider, region] = kept;
    let mut met = request;
    if quality {
        met.minimum_quality_bps = candidate.quality_bps;
    }
    if risk {
        met.risk_bps = candidate.risk_ceiling_bps;
    }
    if latency {
        met.max_p95_latency_ms = candidate.p95_latency_ms;
    }
    if capability {
        met.required_capabilities &= candidate.capabilities;
    }
    if provider {
        met.allowed_provider_mask |= 1 << candidate.provider_id;
    }
    if region {
        met.required_region_mask |= candidate.region_mask;
    }
    met
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_screen_admits_what_passes_the_gates(
        candidates in prop::collection::vec(candidate(), 0..200),
        request in request(),
        kept in any::<[bool; 6]>(),
    ) {
        let request = candidates.first().map_or(request, |first| meeting(first, request, kept));
        let sides: Vec<_> = candidates.iter().map(Side::new).collect();
        let gates = Gates::new(&request);
        let passing: Vec<_> = candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| gates.first_refusal(candidate).is_none())
            .map(|(place, _)| place)
            .collect();
        prop_assert_eq!(Passing::new(&request, &sides).is_empty(), passing.is_empty());
        let mut visited = Vec::new();
        Passing::new(&request, &sides).each(|place| visited.push(place));
        prop_assert_eq!(visited, passing);
    }
}
