//! Names, objectives, quotes and the largest use: docs/spec/extensions.md.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use decidable_canon::{Canonical as _, Digest, Reader, Sink as _};
use decidable_kernel::{
    Action, Candidate, Group, LeverKind, Limits, Names, Objective, Policy, Reason, Request, RequestFields, identity,
};

fn named(entries: &[(u32, &str)]) -> BTreeMap<u32, String> {
    entries.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

fn names() -> Names {
    Names::new(
        named(&[(7, "large"), (3, "small")]),
        named(&[(0, "acme")]),
        named(&[(63, "eu")]),
        BTreeMap::new(),
    )
    .unwrap()
}

fn catalog() -> Vec<Candidate> {
    let candidate = |model_id, quality_bps, p95_latency_ms, rate| Candidate {
        model_id,
        quality_bps,
        p95_latency_ms,
        input_cost_microunits_per_million_tokens: rate,
        output_cost_microunits_per_million_tokens: 10 * rate,
        ..Candidate::default()
    };
    vec![
        candidate(3, 6_000, 900, 1_000_000),
        candidate(5, 7_000, 100, 3_000_000),
        candidate(7, 9_500, 800, 4_000_000),
    ]
}

fn policy(objective: Objective, names: Option<Names>) -> Policy {
    let limits = Limits {
        objective,
        latency_penalty_microunits_per_ms: 1,
        ..Limits::default()
    };
    Policy::new(limits, catalog(), names).unwrap()
}

fn fields() -> RequestFields {
    RequestFields {
        requested_model_id: 5,
        input_tokens: 1_000,
        output_tokens: 100,
        business_value_microunits: 40_000,
        budget_limit_microunits: 9_000,
        ..RequestFields::default()
    }
}

fn request() -> Request {
    Request::new(fields()).unwrap()
}

#[test]
fn names_are_found_both_ways_and_have_the_digest_of_their_layout() {
    let names = names();
    assert_eq!(names.name(Group::Model, 7), Some("large"));
    assert_eq!(names.id(Group::Model, "small"), Some(3));
    assert_eq!(names.id(Group::Provider, "acme"), Some(0));
    assert_eq!(names.name(Group::Region, 63), Some("eu"));
    assert_eq!(names.name(Group::Capability, 0), None);
    assert_eq!(names.id(Group::Model, "acme"), None);
    assert_eq!(names.names(Group::Model).len(), 2);
    let mut bytes = b"dcdnam1\0".to_vec();
    bytes.u32(2);
    bytes.u32(3);
    bytes.str("small");
    bytes.u32(7);
    bytes.str("large");
    bytes.u32(1);
    bytes.u32(0);
    bytes.str("acme");
    bytes.u32(1);
    bytes.u32(63);
    bytes.str("eu");
    bytes.u32(0);
    assert_eq!(names.digest(), Digest::of(&bytes));
}

#[test]
fn an_extended_policy_digest_wraps_the_shared_one() {
    let plain = policy(Objective::Utility, None);
    assert_eq!(plain.digest(), plain.shared_digest());
    assert!(!plain.is_extended());
    for (objective, names) in [
        (Objective::Utility, Some(names())),
        (Objective::Cheapest, None),
        (Objective::Quality, Some(names())),
        (Objective::Fastest, Some(Names::default())),
    ] {
        let mut bytes = b"dcdpol1\0".to_vec();
        bytes.digest(&plain.shared_digest());
        bytes.u8(objective.code());
        bytes.bool(names.is_some());
        if let Some(names) = &names {
            bytes.digest(&names.digest());
        }
        let extended = policy(objective, names);
        assert!(extended.is_extended());
        assert_eq!(extended.shared_digest(), plain.shared_digest());
        assert_eq!(extended.digest(), Digest::of(&bytes));
    }
}

#[test]
fn names_and_objective_are_read_back() {
    let policy = policy(Objective::Fastest, Some(names()));
    let mut bytes = Vec::new();
    policy.encode(&mut bytes);
    let mut reader = Reader::new(&bytes);
    let again = Policy::decode(&mut reader).unwrap();
    reader.finish().unwrap();
    assert_eq!(again, policy);
    assert_eq!(again.digest(), policy.digest());
    assert_eq!(again.names(), policy.names());
    assert_eq!(again.limits(), policy.limits());
}

#[test]
fn every_objective_has_its_own_order_and_reasons_stay() {
    let first_and_second = |objective| {
        let decision = policy(objective, None).decide(&request());
        (
            decision.selected_model_id.unwrap(),
            decision.counterfactual_model_id.unwrap(),
            decision.action,
        )
    };
    // Utilities are 21,100, 21,900 and 29,200; costs 2,000, 6,000 and 8,000.
    assert_eq!(first_and_second(Objective::Utility), (7, 5, Action::Substitute));
    assert_eq!(first_and_second(Objective::Cheapest), (3, 5, Action::Substitute));
    assert_eq!(first_and_second(Objective::Quality), (7, 5, Action::Substitute));
    assert_eq!(first_and_second(Objective::Fastest), (5, 7, Action::ExecuteRequested));
    let reason = policy(Objective::Fastest, None).decide(&request()).reason;
    assert_eq!(reason, Reason::RequestedModelMaximizesUtility);
}

#[test]
fn only_the_utility_objective_asks_for_a_positive_utility() {
    let worthless = Request::new(RequestFields {
        business_value_microunits: -1,
        ..fields()
    })
    .unwrap();
    let refused = policy(Objective::Utility, None).decide(&worthless);
    assert_eq!(refused.reason, Reason::NonPositiveUtility);
    let chosen = policy(Objective::Cheapest, None).decide(&worthless);
    assert_eq!(chosen.selected_model_id, Some(3));
    assert_eq!(chosen.expected_utility_microunits, -2_900);
    assert_eq!(chosen.eligible_models, 3);
    assert_eq!(policy(Objective::Cheapest, None).utility(&worthless, 3), Some(-2_900));
}

#[test]
fn objectives_have_codes_and_names() {
    for (code, objective) in (0..).zip(Objective::ALL) {
        assert_eq!(objective.code(), code);
        assert_eq!(Objective::from_code(code), Some(objective));
        assert_eq!(Objective::from_label(objective.label()), Some(objective));
    }
    assert_eq!(Objective::from_code(4), None);
    assert_eq!(Objective::from_label("Utility"), None);
}

#[test]
fn a_quote_replaces_the_cost_in_budget_utility_and_order() {
    let cheapest = policy(Objective::Cheapest, None);
    let quoted = request().with_quotes(vec![(5, 1_999), (7, 9_001), (8, 1)]).unwrap();
    let decision = cheapest.decide(&quoted);
    assert_eq!(decision.selected_model_id, Some(5));
    assert_eq!(decision.estimated_cost_microunits, 1_999);
    assert_eq!(decision.expected_utility_microunits, 28_000 - 1_999 - 100);
    // 7 is over the budget at its quote; 8 is in no catalog.
    assert_eq!(decision.eligible_models, 2);
    assert_eq!(cheapest.decide_counted(&quoted).1.budget, 1);
}

#[test]
fn a_quote_too_large_for_the_narrow_prices_is_exact() {
    let cheapest = policy(Objective::Cheapest, None);
    let unlimited = Request::new(RequestFields {
        budget_limit_microunits: u64::MAX,
        ..fields()
    })
    .unwrap();
    let quoted = unlimited
        .with_quotes(vec![(3, u64::MAX), (5, u64::MAX), (7, u64::MAX)])
        .unwrap();
    let decision = cheapest.decide(&quoted);
    assert_eq!(decision.estimated_cost_microunits, u64::MAX);
    assert_eq!(decision.expected_utility_microunits, i64::MIN);
    assert_eq!(decision.selected_model_id, Some(7));
}

#[test]
fn an_extended_request_digest_wraps_the_shared_one() {
    let plain = request();
    assert_eq!(plain.digest(), plain.shared_digest());
    let quoted = request().with_quotes(vec![(3, 4), (5, 6)]).unwrap();
    assert!(quoted.is_extended());
    assert_eq!(quoted.shared_digest(), plain.shared_digest());
    let mut bytes = b"dcdreq1\0".to_vec();
    bytes.digest(&plain.shared_digest());
    bytes.u32(2);
    bytes.u32(3);
    bytes.u64(4);
    bytes.u32(5);
    bytes.u64(6);
    assert_eq!(quoted.digest(), Digest::of(&bytes));
    assert_eq!(request().with_quotes(Vec::new()).unwrap(), plain);
}

#[test]
fn an_identity_covers_what_extends_the_contract() {
    let digests = |policy: &Policy, request: &Request| identity(policy, request, &policy.decide(request));
    let plain = policy(Objective::Utility, None);
    let with_names = policy(Objective::Utility, Some(names()));
    let quoted = request().with_quotes(vec![(8, 1)]).unwrap();
    assert_eq!(plain.decide(&request()), with_names.decide(&quoted));
    assert_ne!(digests(&plain, &request()), digests(&with_names, &request()));
    assert_ne!(digests(&plain, &request()), digests(&plain, &quoted));
}

#[test]
fn the_largest_use_sizes_the_hold_and_changes_no_decision() {
    let policy = policy(Objective::Cheapest, None);
    let larger = request().with_max_output_tokens(500).unwrap();
    let decision = policy.decide(&larger);
    assert_eq!(decision, policy.decide(&request()));
    assert_eq!(larger.digest(), request().digest());
    assert_eq!(policy.hold(&request(), &decision), Some(2_000));
    assert_eq!(policy.hold(&larger, &decision), Some(6_000));
    let quoted = larger.clone().with_quotes(vec![(3, 500)]).unwrap();
    assert_eq!(policy.hold(&quoted, &policy.decide(&quoted)), Some(500 + 4_000));
    assert_eq!(policy.cost(3, 1_000, 500), Some(6_000));
    assert_eq!(policy.cost(4, 1_000, 500), None);
    let rejected = Request::new(RequestFields {
        budget_limit_microunits: 1,
        ..fields()
    })
    .unwrap();
    assert_eq!(policy.hold(&rejected, &policy.decide(&rejected)), None);
}

#[test]
fn another_number_is_the_only_change() {
    let request = request()
        .with_max_output_tokens(500)
        .unwrap()
        .with_quotes(vec![(3, 500)])
        .unwrap();
    let numbered = request.numbered(99);
    assert_eq!(numbered.fields().request_sequence, 99);
    assert_ne!(numbered.digest(), request.digest());
    assert_eq!(numbered.numbered(0), request);
}

#[test]
fn the_price_lever_moves_a_quote_as_it_moves_the_rates() {
    let cheapest = policy(Objective::Cheapest, None);
    let quoted = request().with_quotes(vec![(7, 4_000)]).unwrap();
    let found = cheapest.what_would_win(&quoted, 7).unwrap();
    let [lever] = found.levers.as_slice() else {
        unreachable!("the price alone can do it")
    };
    // At 2,000 it ties with 3 and is better.
    assert_eq!(lever.kind, LeverKind::PricePpm);
    assert_eq!(lever.boundary, 500_249);
    assert_eq!(lever.cost_at_boundary_microunits, Some(2_000));
}
