//! What holds for every policy and every request.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod cases;

use decidable_canon::{Canonical as _, Reader};
use decidable_kernel::{
    Action, Candidate, Decision, Finding, Lever, LeverKind, Limits, Objective, Policy, Reason, Rejections, Request,
    RequestFields, Terms, batch, identity,
};
use proptest::prelude::*;

/// The candidates that passed, with their terms.
fn passed(policy: &Policy, request: &Request) -> Vec<(Candidate, Terms)> {
    let verdicts = policy.explain(request).verdicts;
    policy
        .candidates()
        .iter()
        .zip(verdicts)
        .filter_map(|(candidate, verdict)| match verdict.finding {
            Finding::Eligible(terms) => Some((*candidate, terms)),
            _ => None,
        })
        .collect()
}

/// The order of docs/spec, as a key to sort by.
fn key(objective: Objective, candidate: &Candidate, terms: &Terms) -> impl Ord + use<> {
    let cost = i128::from(terms.cost_microunits);
    let quality = -i128::from(candidate.quality_bps);
    let latency = i128::from(candidate.p95_latency_ms);
    let id = candidate.model_id;
    match objective {
        Objective::Utility => (-i128::from(terms.utility), cost, quality, id),
        Objective::Cheapest => (cost, quality, latency, id),
        Objective::Quality => (quality, cost, latency, id),
        Objective::Fastest => (latency, cost, quality, id),
    }
}

fn total(rejections: &Rejections) -> u32 {
    rejections.counts().into_iter().sum()
}

/// A policy with one candidate changed, and the request's quotes with it.
fn moved(policy: &Policy, request: &Request, model_id: u32, kind: LeverKind, value: u64) -> (Policy, Request) {
    let mut candidates = policy.candidates().to_vec();
    let mut quotes = request.quotes().to_vec();
    let scaled = |rate: u64| u64::try_from(u128::from(rate) * u128::from(value) / 1_000_000).unwrap_or(u64::MAX);
    let candidate = candidates
        .iter_mut()
        .find(|candidate| candidate.model_id == model_id)
        .unwrap();
    match kind {
        LeverKind::QualityBps => candidate.quality_bps = u16::try_from(value).unwrap(),
        LeverKind::LatencyMs => candidate.p95_latency_ms = u32::try_from(value).unwrap(),
        LeverKind::RiskCeilingBps => candidate.risk_ceiling_bps = u16::try_from(value).unwrap(),
        LeverKind::Enabled => candidate.enabled = value == 1,
        LeverKind::PricePpm => {
            candidate.input_cost_microunits_per_million_tokens =
                scaled(candidate.input_cost_microunits_per_million_tokens);
            candidate.output_cost_microunits_per_million_tokens =
                scaled(candidate.output_cost_microunits_per_million_tokens);
            for (quoted, cost) in &mut quotes {
                if *quoted == model_id {
                    *cost = scaled(*cost);
                }
            }
        }
    }
    let policy = Policy::new(*policy.limits(), candidates, None).unwrap();
    (policy, request.clone().with_quotes(quotes).unwrap())
}

fn selects(policy: &Policy, request: &Request, model_id: u32, kind: LeverKind, value: u64) -> bool {
    let (policy, request) = moved(policy, request, model_id, kind, value);
    policy.decide(&request).selected_model_id == Some(model_id)
}

/// The value next to `from` on the way to `to`.
fn next(from: u64, to: u64) -> u64 {
    if to > from { from + 1 } else { from - 1 }
}

/// Where a lever ends in the direction in which it harms or helps.
fn end(kind: LeverKind, better: bool) -> u64 {
    match (kind, better) {
        (LeverKind::QualityBps | LeverKind::RiskCeilingBps, true) => 10_000,
        (LeverKind::QualityBps | LeverKind::RiskCeilingBps, false) => 0,
        (LeverKind::LatencyMs | LeverKind::PricePpm, true) => 0,
        (LeverKind::LatencyMs, false) => u32::MAX.into(),
        (LeverKind::PricePpm, false) => 1_000_000_000,
        (LeverKind::Enabled, better) => better.into(),
    }
}

fn find(levers: &[Lever], kind: LeverKind) -> Option<&Lever> {
    levers.iter().find(|lever| lever.kind == kind)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_decision_is_the_first_of_those_that_pass_and_names_the_second(
        policy in cases::policy(70, &Objective::ALL),
        request in cases::request(),
    ) {
        let decision = policy.decide(&request);
        let fields = request.fields();
        let mut passed = passed(&policy, &request);
        passed.sort_by_key(|(candidate, terms)| key(policy.limits().objective, candidate, terms));
        prop_assert_eq!(usize::from(decision.eligible_models), passed.len());
        prop_assert_eq!(decision.request_sequence, fields.request_sequence);
        let first = passed.first();
        prop_assert_eq!(decision.selected_model_id, first.map(|(candidate, _)| candidate.model_id));
        prop_assert_eq!(decision.estimated_cost_microunits, first.map_or(0, |(_, terms)| terms.cost_microunits));
        prop_assert_eq!(decision.expected_utility_microunits, first.map_or(0, |(_, terms)| terms.utility));
        let second = passed.get(1);
        prop_assert_eq!(decision.counterfactual_model_id, second.map(|(candidate, _)| candidate.model_id));
        prop_assert_eq!(decision.counterfactual_utility_microunits, second.map_or(0, |(_, terms)| terms.utility));
        let (action, reason) = match decision.selected_model_id {
            Some(id) if id == fields.requested_model_id => (Action::ExecuteRequested, Reason::RequestedModelMaximizesUtility),
            Some(_) => (Action::Substitute, Reason::AlternativeMaximizesUtility),
            None => (Action::Reject, decision.reason),
        };
        prop_assert_eq!((decision.action, decision.reason), (action, reason));
        if let Some(index) = decision.selected_model_index {
            prop_assert_eq!(Some(policy.candidates()[usize::from(index)].model_id), decision.selected_model_id);
        }
    }

    #[test]
    fn what_is_decided_is_what_the_definition_derives(
        policy in cases::policy(70, &Objective::ALL),
        request in cases::request(),
    ) {
        let (decision, rejections) = policy.derive_counted(&request);
        prop_assert_eq!(policy.derive(&request), decision);
        prop_assert_eq!(policy.decide(&request), decision);
        prop_assert_eq!(policy.decide_counted(&request), (decision, rejections));
    }

    #[test]
    fn counting_changes_no_decision_and_counts_everyone(
        policy in cases::policy(70, &Objective::ALL),
        request in cases::request(),
    ) {
        let (decision, rejections) = policy.decide_counted(&request);
        prop_assert_eq!(decision, policy.decide(&request));
        prop_assert_eq!(total(&rejections) + u32::from(decision.eligible_models), u32::from(decision.evaluated_models));
        if matches!(decision.reason, Reason::RiskHardLimit | Reason::ConfidenceHardLimit) {
            prop_assert_eq!((decision.evaluated_models, rejections), (0, Rejections::default()));
        } else {
            prop_assert_eq!(usize::from(decision.evaluated_models), policy.candidates().len());
            if decision.action == Action::Reject {
                prop_assert_eq!(decision.reason, rejections.dominant());
            }
        }
        if policy.limits().objective != Objective::Utility {
            prop_assert_eq!(rejections.utility, 0);
        }
    }

    #[test]
    fn a_batch_decides_as_single_calls_do(
        policy in cases::policy(40, &Objective::ALL),
        fields in prop::collection::vec(cases::fields(), 0..30),
    ) {
        let mut rows = Vec::new();
        let mut expected = Vec::new();
        for fields in &fields {
            fields.encode(&mut rows);
            policy.decide(&Request::new(*fields).unwrap()).encode(&mut expected);
        }
        let mut out = vec![0; expected.len()];
        batch::decide(&policy, &rows, &mut out, batch::Plan::threads(2)).unwrap();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn the_utility_of_one_is_that_of_its_verdict(
        policy in cases::policy(20, &Objective::ALL),
        request in cases::request(),
    ) {
        let passed = passed(&policy, &request);
        for candidate in policy.candidates() {
            let terms = passed.iter().find(|(other, _)| other.model_id == candidate.model_id).map(|(_, terms)| terms);
            prop_assert_eq!(policy.utility(&request, candidate.model_id), terms.map(|terms| terms.utility));
        }
        prop_assert_eq!(policy.utility(&request, 201), None);
    }

    #[test]
    fn a_hold_covers_the_estimate_and_the_largest_use(
        policy in cases::policy(20, &Objective::ALL),
        request in cases::request(),
    ) {
        let decision = policy.decide(&request);
        let hold = policy.hold(&request, &decision);
        prop_assert_eq!(hold.is_some(), decision.selected_model_id.is_some());
        if let (Some(hold), Some(model_id)) = (hold, decision.selected_model_id) {
            let fields = request.fields();
            let at = |tokens| policy.cost(model_id, fields.input_tokens, tokens).unwrap();
            let largest = at(request.max_output_tokens());
            let quote = request.quotes().iter().find(|(quoted, _)| *quoted == model_id);
            let expected = match quote {
                None => largest,
                Some((_, quote)) => quote.saturating_add(largest - at(fields.output_tokens)),
            };
            prop_assert_eq!(hold, expected);
            prop_assert!(hold >= decision.estimated_cost_microunits);
        }
    }

    #[test]
    fn everything_written_is_read_back(
        policy in cases::policy(20, &Objective::ALL),
        request in cases::request(),
    ) {
        let mut bytes = Vec::new();
        policy.encode(&mut bytes);
        request.encode(&mut bytes);
        let decision = policy.decide(&request);
        decision.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let again = Policy::decode(&mut reader).unwrap();
        prop_assert_eq!(again.digest(), policy.digest());
        prop_assert_eq!(again.candidates(), policy.candidates());
        prop_assert_eq!(again.limits(), policy.limits());
        prop_assert_eq!(&Request::decode(&mut reader).unwrap(), &request);
        prop_assert_eq!(Decision::decode(&mut reader).unwrap(), decision);
        reader.finish().unwrap();
        prop_assert_eq!(identity(&again, &request, &decision), identity(&policy, &request, &decision));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn at_the_nearest_value_a_candidate_wins_and_one_step_nearer_it_does_not(
        policy in cases::policy(6, &Objective::ALL),
        request in cases::request(),
    ) {
        let decision = policy.decide(&request);
        for candidate in policy.candidates() {
            let id = candidate.model_id;
            let found = policy.what_would_win(&request, id).unwrap();
            prop_assert_eq!(found.blocked_by_request.is_some(), decision.evaluated_models == 0);
            if found.blocked_by_request.is_some() || decision.selected_model_id == Some(id) {
                prop_assert_eq!(found.levers, vec![]);
                continue;
            }
            for kind in LeverKind::ALL {
                let lever = find(&found.levers, kind);
                if (kind == LeverKind::Enabled) == candidate.enabled {
                    prop_assert!(lever.is_none());
                } else if let Some(lever) = lever {
                    prop_assert!(selects(&policy, &request, id, kind, lever.boundary));
                    prop_assert!(!selects(&policy, &request, id, kind, next(lever.boundary, lever.current)));
                } else {
                    prop_assert!(!selects(&policy, &request, id, kind, end(kind, true)));
                }
            }
        }
    }

    #[test]
    fn at_the_farthest_value_the_winner_still_wins_and_one_step_on_it_does_not(
        policy in cases::policy(6, &Objective::ALL),
        request in cases::request(),
    ) {
        let decision = policy.decide(&request);
        let margin = policy.margin(&request);
        prop_assert_eq!(margin.as_ref().map(|margin| margin.model_id), decision.selected_model_id);
        if let Some(margin) = margin {
            let id = margin.model_id;
            for kind in [LeverKind::QualityBps, LeverKind::LatencyMs, LeverKind::PricePpm, LeverKind::RiskCeilingBps] {
                if let Some(lever) = find(&margin.levers, kind) {
                    prop_assert!(selects(&policy, &request, id, kind, lever.boundary));
                    prop_assert!(!selects(&policy, &request, id, kind, next(lever.boundary, end(kind, false))));
                    let cost = moved(&policy, &request, id, kind, lever.boundary);
                    let cost = cost.0.decide(&cost.1).estimated_cost_microunits;
                    prop_assert_eq!(lever.cost_at_boundary_microunits, (kind == LeverKind::PricePpm).then_some(cost));
                } else {
                    prop_assert!(selects(&policy, &request, id, kind, end(kind, false)));
                }
            }
            prop_assert!(find(&margin.levers, LeverKind::Enabled).is_none());
        }
    }
}

#[test]
fn ties_are_broken_by_cost_then_quality_then_model_id() {
    let candidate = |model_id, quality_bps, rate, p95_latency_ms| Candidate {
        model_id,
        quality_bps,
        p95_latency_ms,
        input_cost_microunits_per_million_tokens: rate,
        ..Candidate::default()
    };
    // 1,000,000 input tokens make the rate the cost; a basis point of quality is worth a microunit.
    let request = Request::new(RequestFields {
        input_tokens: 1_000_000,
        business_value_microunits: 10_000,
        ..RequestFields::default()
    })
    .unwrap();
    let decide = |catalog| {
        let limits = Limits {
            latency_penalty_microunits_per_ms: 1,
            ..Limits::default()
        };
        let decision = Policy::new(limits, catalog, None).unwrap().decide(&request);
        (
            decision.selected_model_id.unwrap(),
            decision.counterfactual_model_id.unwrap(),
        )
    };
    // The same utility: the cheaper first, though its quality is lower.
    assert_eq!(
        decide(vec![candidate(1, 5_010, 20, 0), candidate(2, 5_000, 10, 0)]),
        (2, 1)
    );
    // The same utility and cost: the better first, though slower.
    assert_eq!(
        decide(vec![candidate(1, 5_000, 10, 0), candidate(2, 5_010, 10, 10)]),
        (2, 1)
    );
    // The same in everything: the lower number first.
    assert_eq!(
        decide(vec![
            candidate(9, 5_000, 10, 0),
            candidate(4, 5_000, 10, 0),
            candidate(7, 5_000, 10, 0)
        ]),
        (4, 7)
    );
}

#[test]
fn a_cost_capped_at_the_largest_number_still_fits_an_unlimited_budget() {
    let candidate = Candidate {
        model_id: 1,
        input_cost_microunits_per_million_tokens: u64::MAX,
        ..Candidate::default()
    };
    let limits = Limits {
        objective: Objective::Cheapest,
        ..Limits::default()
    };
    let policy = Policy::new(limits, vec![candidate], None).unwrap();
    let request = |budget_limit_microunits| {
        Request::new(RequestFields {
            input_tokens: u32::MAX,
            budget_limit_microunits,
            ..RequestFields::default()
        })
        .unwrap()
    };
    let decision = policy.decide(&request(u64::MAX));
    assert_eq!(decision.estimated_cost_microunits, u64::MAX);
    assert_eq!(decision.expected_utility_microunits, i64::MIN);
    assert_eq!(policy.decide(&request(u64::MAX - 1)).reason, Reason::BudgetConstraint);
}
