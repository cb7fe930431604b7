//! Catalogs and requests that the benches decide.

use decidable_kernel::{Candidate, Limits, Policy, Request, RequestFields};

use crate::random::Random;

/// A policy and a stream of requests for it. There are as many requests as a power of two, so that a stream goes round
/// by masking.
pub struct Workload {
    /// Its short name.
    pub name: &'static str,
    /// The policy.
    pub policy: Policy,
    /// The requests.
    pub requests: Vec<Request>,
}

/// How many requests a stream has.
const REQUESTS: u64 = 4_096;

/// The formulas of the reference implementation's own bench, with `model_id` from 1 and a quality that stays in range:
/// no constraint but risk, confidence and quality.
#[must_use]
pub fn synthetic(candidates: u32) -> Workload {
    let requests = (0..REQUESTS).map(synthetic_fields).map(checked).collect();
    Workload {
        name: "syn",
        policy: policy(synthetic_catalog(candidates), 0),
        requests,
    }
}

/// The catalog of [`synthetic`].
#[must_use]
pub fn synthetic_catalog(candidates: u32) -> Vec<Candidate> {
    let candidate = |i| Candidate {
        model_id: i + 1,
        provider_id: (i % 6) as u16,
        quality_bps: (3_000 + (i % 23) * 300) as u16,
        risk_ceiling_bps: 9_500,
        enabled: true,
        p95_latency_ms: 100 + i * 50,
        capabilities: 0,
        region_mask: u64::MAX,
        input_cost_microunits_per_million_tokens: 10 + u64::from(i) * 50,
        output_cost_microunits_per_million_tokens: 40 + u64::from(i) * 200,
    };
    (0..candidates).map(candidate).collect()
}

/// Request `n` of [`synthetic`].
#[must_use]
pub fn synthetic_fields(n: u64) -> RequestFields {
    let sequence = n * 7 + 1;
    RequestFields {
        request_sequence: sequence,
        requested_model_id: (sequence % 22) as u32,
        input_tokens: 500 + (sequence % 10_000) as u32,
        output_tokens: 200 + (sequence % 5_000) as u32,
        business_value_microunits: 50_000,
        budget_limit_microunits: 10_000_000,
        risk_bps: (sequence % 8_000) as u16,
        confidence_bps: 6_000 + (sequence % 4_000) as u16,
        minimum_quality_bps: 3_000 + (sequence % 5_000) as u16,
        ..RequestFields::default()
    }
}

/// Every gate in play: capabilities, providers, regions and latency limits in a third to a half of the requests, rates
/// from 10^4 to 1.5 × 10^9 microunits per million tokens, some requests rejected.
#[must_use]
pub fn realistic(candidates: u32) -> Workload {
    let mut random = Random::new(22);
    let catalog = realistic_catalog(&mut random, candidates);
    let requests = (0..REQUESTS)
        .map(|n| realistic_fields(&mut random, n, candidates))
        .map(checked)
        .collect();
    Workload {
        name: "real",
        policy: policy(catalog, 2),
        requests,
    }
}

/// A catalog as that of [`realistic`].
#[must_use]
pub fn realistic_catalog(random: &mut Random, candidates: u32) -> Vec<Candidate> {
    let candidate = |i| {
        let rate = [10_000, 100_000, 1_000_000, 10_000_000, 150_000_000, 1_500_000_000];
        let magnitude = random.below(5) as usize;
        let input = random.between(rate[magnitude], rate[magnitude + 1]);
        Candidate {
            model_id: i + 1,
            provider_id: random.below(8) as u16,
            quality_bps: random.between(4_000, 9_900) as u16,
            risk_ceiling_bps: random.between(5_000, 10_000) as u16,
            enabled: !random.one_in(16),
            p95_latency_ms: random.between(150, 6_000) as u32,
            capabilities: random.next() | random.next(),
            region_mask: random.next() & random.next() & 0xff | 1 << random.below(8),
            input_cost_microunits_per_million_tokens: input,
            output_cost_microunits_per_million_tokens: input.saturating_mul(random.between(2, 5)),
        }
    };
    (0..candidates).map(candidate).collect()
}

/// A request as those of [`realistic`], for so many candidates.
#[must_use]
pub fn realistic_fields(random: &mut Random, n: u64, candidates: u32) -> RequestFields {
    RequestFields {
        request_sequence: n,
        requested_model_id: random.between(1, u64::from(candidates)) as u32,
        input_tokens: random.between(50, 30_000) as u32,
        output_tokens: random.between(10, 4_000) as u32,
        business_value_microunits: random.between(1_000, 5_000_000) as i64,
        budget_limit_microunits: random.between(10_000, 2_000_000),
        risk_bps: random.below(9_700) as u16,
        confidence_bps: random.between(5_300, 10_000) as u16,
        minimum_quality_bps: random.between(0, 8_000) as u16,
        max_p95_latency_ms: if random.one_in(3) {
            random.between(500, 6_000) as u32
        } else {
            0
        },
        required_capabilities: if random.one_in(2) { 1 << random.below(64) } else { 0 },
        allowed_provider_mask: if random.one_in(3) { random.next() } else { u64::MAX },
        required_region_mask: if random.one_in(3) { random.between(1, 255) } else { 0 },
    }
}

fn policy(catalog: Vec<Candidate>, latency_penalty_microunits_per_ms: u64) -> Policy {
    Policy::new(limits(latency_penalty_microunits_per_ms), catalog, None).expect("the workload's policy is valid")
}

/// The limits of either workload.
#[must_use]
pub fn limits(latency_penalty_microunits_per_ms: u64) -> Limits {
    Limits {
        hard_risk_limit_bps: 9_600,
        minimum_confidence_bps: 5_500,
        risk_penalty_multiplier_bps: 3_500,
        latency_penalty_microunits_per_ms,
        ..Limits::default()
    }
}

fn checked(fields: RequestFields) -> Request {
    Request::new(fields).expect("the workload's requests are valid")
}
