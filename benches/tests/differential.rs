//! Random and adversarial policies and requests: the reference implementation and the kernel give the same decisions,
//! counts, digests, explanations, utilities, what-ifs and margins.
//!
//! The seed is printed; `DECIDABLE_SEED=… cargo test -p decidable-benches --test differential` repeats a run.

#![allow(missing_docs)]

use std::time::{SystemTime, UNIX_EPOCH};

use calybris_core::{
    counterfactual::{self, Requirement},
    digest,
    kernel::{CandidateVerdict, PolicySnapshot},
};
use decidable_benches::{peer, random::Random};
use decidable_canon::Canonical as _;
use decidable_kernel::{Candidate, Finding, Lever, LeverKind, Limits, Policy, Request, RequestFields, batch};

const POLICIES: u64 = 2_000;
const REQUESTS: u64 = 100;

fn seed() -> u64 {
    let seed = std::env::var("DECIDABLE_SEED").ok().and_then(|text| text.parse().ok());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos() as u64)
    };
    let seed = seed.unwrap_or_else(now);
    println!("DECIDABLE_SEED={seed}");
    seed
}

/// A number of any magnitude, often at the edge of one.
fn magnitude(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next() >> random.below(64),
        1 => (1 << random.below(64)) - 1,
        2 => 1 << random.below(64),
        _ => random.below(1_000_000_000),
    }
}

fn bps(random: &mut Random) -> u16 {
    match random.below(6) {
        0 => random.pick(&[0, 1, 4_999, 5_000, 9_999, 10_000]),
        _ => random.between(0, 10_000) as u16,
    }
}

fn mask(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.pick(&[0, 1, u64::MAX, 1 << 63]),
        1 => random.next(),
        _ => random.next() | random.next(),
    }
}

/// How a policy and its requests are drawn.
#[derive(Clone, Copy, PartialEq)]
enum Temper {
    /// As in real catalogs.
    Ordinary,
    /// Few values for everything, so that many candidates tie.
    Tied,
    /// Every field at its edges.
    Extreme,
}

fn candidate(random: &mut Random, temper: Temper, model_id: u32) -> Candidate {
    let rate = |random: &mut Random| match temper {
        Temper::Ordinary => random.between(0, 100_000_000),
        Temper::Tied => random.pick(&[0, 1, 1_000_000]),
        Temper::Extreme => magnitude(random),
    };
    Candidate {
        model_id,
        provider_id: random.below(64) as u16,
        quality_bps: match temper {
            Temper::Tied => random.pick(&[7_000, 7_001]),
            _ => bps(random),
        },
        risk_ceiling_bps: if random.one_in(3) { bps(random) } else { 10_000 },
        enabled: !random.one_in(12),
        p95_latency_ms: match temper {
            Temper::Ordinary => random.below(8_000) as u32,
            Temper::Tied => random.pick(&[0, 1]),
            Temper::Extreme => magnitude(random) as u32,
        },
        capabilities: mask(random),
        region_mask: mask(random),
        input_cost_microunits_per_million_tokens: rate(random),
        output_cost_microunits_per_million_tokens: rate(random),
    }
}

fn policy(random: &mut Random, temper: Temper) -> Policy {
    let count = match random.below(8) {
        0 => 1,
        1 => random.between(62, 66),
        2 => random.between(126, 130),
        _ => random.between(2, 40),
    };
    let spread = random.between(1, 30) as u32;
    let mut catalog: Vec<_> = (0..count as u32)
        .map(|place| candidate(random, temper, 1 + place * spread))
        .collect();
    catalog[0].enabled = true;
    if random.one_in(5) {
        let last = catalog.len() - 1;
        catalog[last].model_id = u32::MAX;
    }
    let limits = Limits {
        policy_epoch: magnitude(random),
        catalog_epoch: magnitude(random),
        hard_risk_limit_bps: if random.one_in(4) { bps(random) } else { 10_000 },
        minimum_confidence_bps: if random.one_in(4) { bps(random) } else { 0 },
        risk_penalty_multiplier_bps: random.pick(&[0, 1, 3_500, 10_000, 50_000]),
        latency_penalty_microunits_per_ms: match temper {
            Temper::Extreme => magnitude(random),
            _ => random.below(5),
        },
        ..Limits::default()
    };
    Policy::new(limits, catalog, None).expect("a random policy is valid")
}

fn fields(random: &mut Random, temper: Temper, policy: &Policy) -> RequestFields {
    let extreme = temper == Temper::Extreme && random.one_in(2);
    let some = policy.candidates()[random.below(policy.candidates().len() as u64) as usize];
    let tokens = |random: &mut Random| {
        if extreme {
            magnitude(random) as u32
        } else {
            random.below(100_000) as u32
        }
    };
    let mut fields = RequestFields {
        request_sequence: magnitude(random),
        requested_model_id: random.pick(&[0, some.model_id, some.model_id.wrapping_add(1)]),
        input_tokens: tokens(random),
        output_tokens: tokens(random),
        business_value_microunits: if extreme {
            random.next() as i64 >> random.below(64)
        } else {
            random.below(100_000_000) as i64
        },
        budget_limit_microunits: random.pick(&[u64::MAX, 0, 1_000_000, 100_000_000]),
        risk_bps: if random.one_in(3) {
            bps(random)
        } else {
            random.below(1_000) as u16
        },
        confidence_bps: bps(random),
        minimum_quality_bps: if random.one_in(2) { bps(random) } else { 0 },
        max_p95_latency_ms: if random.one_in(3) {
            random.below(8_000) as u32
        } else {
            0
        },
        required_capabilities: if random.one_in(3) { 1 << random.below(64) } else { 0 },
        allowed_provider_mask: if random.one_in(3) { mask(random) } else { u64::MAX },
        required_region_mask: if random.one_in(3) { mask(random) } else { 0 },
    };
    // Now and then exactly what one candidate has.
    if random.one_in(3) {
        fields.minimum_quality_bps = some.quality_bps;
        fields.risk_bps = some.risk_ceiling_bps;
        fields.max_p95_latency_ms = some.p95_latency_ms;
        fields.budget_limit_microunits = policy
            .cost(some.model_id, fields.input_tokens, fields.output_tokens)
            .unwrap_or(0)
            .saturating_sub(random.below(2));
    }
    fields
}

#[test]
fn the_reference_and_the_kernel_agree_on_everything() {
    let mut random = Random::new(seed());
    let (mut decided, mut selected) = (0_u64, 0_u64);
    for number in 0..POLICIES {
        let temper = random.pick(&[Temper::Ordinary, Temper::Tied, Temper::Extreme]);
        let policy = policy(&mut random, temper);
        let theirs = peer::policy(&policy);
        assert_eq!(policy.digest().bytes(), &digest::policy_digest(&theirs));
        let mut rows = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..REQUESTS {
            let fields = fields(&mut random, temper, &policy);
            let request = Request::new(fields).expect("a random request is valid");
            let input = peer::input(&fields);
            let (prescribed, trace) = theirs.prescribe_with_trace(input);
            let decision = policy.decide(&request);
            assert_eq!(decision, peer::decision(&prescribed), "policy {number}: {fields:?}");
            let (counted, rejections) = policy.decide_counted(&request);
            assert_eq!(counted, decision);
            assert_eq!(rejections, peer::rejections(&trace.rejections));
            assert_eq!(request.digest().bytes(), &digest::input_digest(&input));
            assert_eq!(decision.digest().bytes(), &digest::decision_digest(&prescribed));
            fields.encode(&mut rows);
            decision.encode(&mut expected);
            decided += 1;
            selected += u64::from(decision.selected_model_id.is_some());
            if random.one_in(20) {
                closer(&mut random, &policy, &theirs, &request);
            }
        }
        let mut out = vec![0; expected.len()];
        batch::decide(&policy, &rows, &mut out, batch::Plan::threads(2)).expect("a batch of valid rows");
        assert!(out == expected, "policy {number}");
    }
    println!("{decided} decisions agree, {selected} of them with a selection");
    assert!(decided >= 100_000);
    assert!(selected > decided / 10, "too few selections to mean much");
}

/// Explanation, utilities, what-ifs and margin of one request.
fn closer(random: &mut Random, policy: &Policy, theirs: &PolicySnapshot, request: &Request) {
    let input = peer::input(request.fields());
    let ours = policy.explain(request);
    let explained = theirs.explain(input);
    assert_eq!(ours.verdicts.len(), explained.candidates.len());
    for (verdict, candidate) in ours.verdicts.iter().zip(&explained.candidates) {
        assert_eq!(verdict.model_id, candidate.model_id);
        assert_eq!(
            policy.utility(request, verdict.model_id),
            theirs.utility_for_model(input, verdict.model_id)
        );
        assert_eq!(Seen::from(verdict.finding), Seen::from(candidate.verdict));
    }
    let model_id = policy.candidates()[random.below(policy.candidates().len() as u64) as usize].model_id;
    let ours = policy
        .what_would_win(request, model_id)
        .expect("a candidate of the catalog");
    let found = counterfactual::what_would_win(theirs, input, model_id).expect("a candidate of the catalog");
    let blocked = found.blocked_by_request.map(|reason| reason as u16);
    assert_eq!(ours.blocked_by_request.map(|reason| reason.code()), blocked);
    assert_eq!(ours.levers, levers(&found.levers));
    let margin = counterfactual::decision_margin(theirs, input);
    let margin = margin.map(|margin| (margin.model_id, levers(&margin.levers)));
    assert_eq!(
        policy.margin(request).map(|margin| (margin.model_id, margin.levers)),
        margin
    );
}

/// A verdict, from either side.
#[derive(Debug, PartialEq)]
enum Seen {
    Refused(String, u64, u64),
    OverBudget(u64, u64),
    Weighed(bool, [i128; 5]),
}

impl From<Finding> for Seen {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Refused { gate, measured, limit } => Self::Refused(gate.name().to_owned(), measured, limit),
            Finding::OverBudget {
                cost_microunits,
                limit_microunits,
            } => Self::OverBudget(cost_microunits, limit_microunits),
            Finding::NonPositiveUtility(terms) | Finding::Eligible(terms) => Self::Weighed(
                matches!(finding, Finding::Eligible(_)),
                [
                    terms.quality_adjusted.into(),
                    terms.risk_penalty as i128,
                    terms.cost_microunits.into(),
                    terms.latency_penalty as i128,
                    terms.utility.into(),
                ],
            ),
        }
    }
}

impl From<CandidateVerdict> for Seen {
    fn from(verdict: CandidateVerdict) -> Self {
        match verdict {
            CandidateVerdict::Rejected { gate, measured, limit } => Self::Refused(format!("{gate:?}"), measured, limit),
            CandidateVerdict::OverBudget {
                cost_microunits,
                limit_microunits,
            } => Self::OverBudget(cost_microunits, limit_microunits),
            CandidateVerdict::NonPositiveUtility(terms) | CandidateVerdict::Eligible(terms) => Self::Weighed(
                matches!(verdict, CandidateVerdict::Eligible(_)),
                [
                    terms.quality_adjusted,
                    terms.risk_penalty,
                    terms.cost_microunits.into(),
                    terms.latency_penalty,
                    terms.utility.into(),
                ],
            ),
        }
    }
}

fn levers(requirements: &[Requirement]) -> Vec<Lever> {
    let lever = |requirement: &Requirement| Lever {
        kind: LeverKind::ALL
            .into_iter()
            .find(|kind| kind.name() == format!("{:?}", requirement.lever))
            .expect("both have the same levers"),
        current: requirement.current,
        boundary: requirement.boundary,
        cost_at_boundary_microunits: requirement.cost_at_boundary_microunits,
    };
    requirements.iter().map(lever).collect()
}
