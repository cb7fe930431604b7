//! Every answer of the reference implementation in tests/vectors, value for value and byte for byte.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::{fs, path::Path};

use decidable_canon::{Canonical as _, Reader};
use decidable_kernel::{
    Candidate, Decision, ErrorKind, Finding, Lever, Limits, Policy, Rejections, Request, RequestFields, Terms,
    batch::{self, DECISION_ROW_BYTES, REQUEST_ROW_BYTES},
    identity,
};
use serde_json::Value;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(name);
    fs::read_to_string(path).unwrap()
}

fn lines(name: &str) -> Vec<Value> {
    text(name)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn field<T: TryFrom<i128>>(object: &Value, name: &str) -> T
where
    T::Error: std::fmt::Debug,
{
    let value = &object[name];
    let number = match value {
        Value::String(digits) => digits.parse::<i128>().unwrap(),
        _ => value
            .as_i64()
            .map(i128::from)
            .or_else(|| value.as_u64().map(i128::from))
            .unwrap_or_else(|| panic!("{name} of {object}")),
    };
    T::try_from(number).unwrap()
}

fn none_if<T: PartialEq>(value: T, none: T) -> Option<T> {
    (value != none).then_some(value)
}

fn candidate(model: &Value) -> Candidate {
    Candidate {
        model_id: field(model, "model_id"),
        provider_id: field(model, "provider_id"),
        quality_bps: field(model, "quality_bps"),
        risk_ceiling_bps: field(model, "risk_ceiling_bps"),
        enabled: field::<u8>(model, "enabled") == 1,
        p95_latency_ms: field(model, "p95_latency_ms"),
        capabilities: field(model, "capabilities"),
        region_mask: field(model, "region_mask"),
        input_cost_microunits_per_million_tokens: field(model, "input_cost_microunits_per_million_tokens"),
        output_cost_microunits_per_million_tokens: field(model, "output_cost_microunits_per_million_tokens"),
    }
}

fn policy(vector: &Value) -> Policy {
    let limits = Limits {
        policy_epoch: field(vector, "policy_epoch"),
        catalog_epoch: field(vector, "catalog_epoch"),
        hard_risk_limit_bps: field(vector, "hard_risk_limit_bps"),
        minimum_confidence_bps: field(vector, "minimum_confidence_bps"),
        risk_penalty_multiplier_bps: field(vector, "risk_penalty_multiplier_bps"),
        latency_penalty_microunits_per_ms: field(vector, "latency_penalty_microunits_per_ms"),
        ..Limits::default()
    };
    let models = vector["models"].as_array().unwrap();
    Policy::new(limits, models.iter().map(candidate).collect(), None).unwrap()
}

fn policies() -> Vec<Policy> {
    lines("policies.jsonl").iter().map(policy).collect()
}

fn request(input: &Value) -> Request {
    Request::new(RequestFields {
        request_sequence: field(input, "request_sequence"),
        requested_model_id: field(input, "requested_model_id"),
        input_tokens: field(input, "input_tokens"),
        output_tokens: field(input, "output_tokens"),
        business_value_microunits: field(input, "business_value_microunits"),
        budget_limit_microunits: field(input, "budget_limit_microunits"),
        risk_bps: field(input, "risk_bps"),
        confidence_bps: field(input, "confidence_bps"),
        minimum_quality_bps: field(input, "minimum_quality_bps"),
        max_p95_latency_ms: field(input, "max_p95_latency_ms"),
        required_capabilities: field(input, "required_capabilities"),
        allowed_provider_mask: field(input, "allowed_provider_mask"),
        required_region_mask: field(input, "required_region_mask"),
    })
    .unwrap()
}

fn decision(vector: &Value) -> Decision {
    Decision {
        request_sequence: field(vector, "request_sequence"),
        action: decidable_kernel::Action::from_code(field(vector, "action")).unwrap(),
        reason: decidable_kernel::Reason::from_code(field(vector, "reason")).unwrap(),
        selected_model_id: none_if(field(vector, "selected_model_id"), 0),
        selected_model_index: none_if(field(vector, "selected_model_index"), u16::MAX),
        estimated_cost_microunits: field(vector, "estimated_cost_microunits"),
        expected_utility_microunits: field(vector, "expected_utility_microunits"),
        counterfactual_model_id: none_if(field(vector, "counterfactual_model_id"), 0),
        counterfactual_utility_microunits: field(vector, "counterfactual_utility_microunits"),
        evaluated_models: field(vector, "evaluated_models"),
        eligible_models: field(vector, "eligible_models"),
        policy_epoch: field(vector, "policy_epoch"),
        catalog_epoch: field(vector, "catalog_epoch"),
    }
}

fn rejections(vector: &Value) -> Rejections {
    Rejections {
        disabled: field(vector, "disabled"),
        quality: field(vector, "quality"),
        risk_ceiling: field(vector, "risk_ceiling"),
        latency: field(vector, "latency"),
        capability: field(vector, "capability"),
        provider: field(vector, "provider"),
        region: field(vector, "region"),
        budget: field(vector, "budget"),
        utility: field(vector, "utility"),
    }
}

#[test]
fn every_policy_has_its_digest_and_is_read_back() {
    let vectors = lines("policies.jsonl");
    assert_eq!(vectors.len(), 48);
    for vector in vectors {
        let policy = policy(&vector);
        assert_eq!(policy.digest().to_string(), vector["policy_digest"]);
        assert_eq!(policy.shared_digest(), policy.digest());
        let mut bytes = Vec::new();
        policy.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let again = Policy::decode(&mut reader).unwrap();
        reader.finish().unwrap();
        assert_eq!(again.digest(), policy.digest());
        assert_eq!(again.candidates(), policy.candidates());
        assert_eq!(again.limits(), policy.limits());
    }
}

#[test]
fn every_decision_has_its_values_counts_and_digests() {
    let policies = policies();
    let vectors = lines("decisions.jsonl");
    assert_eq!(vectors.len(), 1_920);
    for vector in vectors {
        let policy = &policies[field::<usize>(&vector, "policy")];
        let request = request(&vector["input"]);
        let expected = decision(&vector["decision"]);
        assert_eq!(policy.decide(&request), expected);
        let counted = (expected, rejections(&vector["rejections"]));
        assert_eq!(policy.decide_counted(&request), counted);
        assert_eq!(policy.derive_counted(&request), counted);
        assert_eq!(request.digest().to_string(), vector["input_digest"]);
        assert_eq!(expected.digest().to_string(), vector["decision_digest"]);
        let mut bytes = Vec::new();
        expected.encode(&mut bytes);
        assert_eq!(bytes.len(), DECISION_ROW_BYTES);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Decision::decode(&mut reader).unwrap(), expected);
        reader.finish().unwrap();
    }
}

#[test]
fn a_batch_gives_the_same_decisions() {
    let vectors = lines("decisions.jsonl");
    for (number, policy) in policies().iter().enumerate() {
        let mut rows = Vec::new();
        let mut expected = Vec::new();
        let ours = vectors
            .iter()
            .filter(|vector| field::<usize>(vector, "policy") == number);
        // Some often enough that several threads have rows.
        let count = if number % 16 == 5 { 10_000 } else { 40 };
        for vector in ours.cycle().take(count) {
            request(&vector["input"]).fields().encode(&mut rows);
            decision(&vector["decision"]).encode(&mut expected);
        }
        assert_eq!(rows.len(), count * REQUEST_ROW_BYTES);
        for threads in [0, 1, 2, 3] {
            let mut out = vec![0; expected.len()];
            batch::decide(policy, &rows, &mut out, batch::Plan::threads(threads)).unwrap();
            assert!(out == expected, "policy {number}, {threads} threads");
        }
    }
}

#[test]
fn every_explanation_and_utility_is_the_same() {
    let policies = policies();
    let mut explained = 0;
    for vector in lines("decisions.jsonl") {
        let Some(expected) = vector.get("explain") else {
            continue;
        };
        explained += 1;
        let policy = &policies[field::<usize>(&vector, "policy")];
        let request = request(&vector["input"]);
        let explanation = policy.explain(&request);
        assert_eq!(explanation.decision, policy.decide(&request));
        let expected = expected.as_array().unwrap();
        assert_eq!(explanation.verdicts.len(), expected.len());
        for (verdict, expected) in explanation.verdicts.iter().zip(expected) {
            assert_eq!(verdict.model_id, field::<u32>(expected, "model_id"));
            let name = expected["verdict"].as_str().unwrap();
            let utility = policy.utility(&request, verdict.model_id);
            let terms = || Terms {
                quality_adjusted: field(expected, "quality_adjusted"),
                risk_penalty: field(expected, "risk_penalty"),
                cost_microunits: field(expected, "cost_microunits"),
                latency_penalty: field(expected, "latency_penalty"),
                utility: field(expected, "utility"),
            };
            match verdict.finding {
                Finding::Refused { gate, measured, limit } => {
                    assert_eq!(name, "rejected");
                    assert_eq!(gate.name(), expected["gate"]);
                    assert_eq!(measured, field::<u64>(expected, "measured"));
                    assert_eq!(limit, field::<u64>(expected, "limit"));
                    assert_eq!(utility, None);
                }
                Finding::OverBudget {
                    cost_microunits,
                    limit_microunits,
                } => {
                    assert_eq!(name, "over_budget");
                    assert_eq!(cost_microunits, field::<u64>(expected, "cost_microunits"));
                    assert_eq!(limit_microunits, field::<u64>(expected, "limit_microunits"));
                    assert_eq!(utility, None);
                }
                Finding::NonPositiveUtility(found) => {
                    assert_eq!(name, "non_positive_utility");
                    assert_eq!(found, terms());
                    assert_eq!(utility, None);
                }
                Finding::Eligible(found) => {
                    assert_eq!(name, "eligible");
                    assert_eq!(found, terms());
                    assert_eq!(utility, Some(found.utility));
                }
            }
        }
    }
    assert_eq!(explained, 102);
}

fn levers(found: &[Lever], expected: &Value) {
    let shown: Vec<_> = found
        .iter()
        .map(|lever| {
            serde_json::json!({
                "lever": lever.kind.name(),
                "current": lever.current,
                "boundary": lever.boundary,
                "cost_at_boundary_microunits": lever.cost_at_boundary_microunits,
            })
        })
        .collect();
    assert_eq!(&Value::from(shown), expected);
}

#[test]
fn every_what_if_and_margin_is_the_same() {
    let policies = policies();
    let vectors = lines("what_if.jsonl");
    assert_eq!(vectors.len(), 176);
    for vector in vectors {
        let policy = &policies[field::<usize>(&vector, "policy")];
        let request = request(&vector["input"]);
        let found = policy.what_would_win(&request, field(&vector, "model_id")).unwrap();
        assert_eq!(
            found.blocked_by_request.map(|reason| u64::from(reason.code())),
            vector["blocked_by_request"].as_u64()
        );
        levers(&found.levers, &vector["levers"]);
        match policy.margin(&request) {
            None => assert_eq!(vector["margin"], Value::Null),
            Some(margin) => {
                assert_eq!(margin.model_id, field::<u32>(&vector["margin"], "model_id"));
                levers(&margin.levers, &vector["margin"]["levers"]);
            }
        }
    }
}

#[test]
fn every_identity_has_its_digest() {
    let policies = policies();
    let vectors = lines("outcomes.jsonl");
    assert_eq!(vectors.len(), 240);
    for vector in vectors {
        let policy = &policies[field::<usize>(&vector, "policy")];
        let request = request(&vector["input"]);
        let decision = policy.decide(&request);
        assert_eq!(
            identity(policy, &request, &decision).to_string(),
            vector["identity_digest"]
        );
    }
}

#[test]
fn every_invalid_policy_is_refused_with_its_field_and_value() {
    let vectors: Vec<Value> = serde_json::from_str(&text("invalid_policies.json")).unwrap();
    let mut cases = Vec::new();
    for vector in &vectors {
        let limits = Limits {
            hard_risk_limit_bps: field(vector, "hard_risk_limit_bps"),
            minimum_confidence_bps: field(vector, "minimum_confidence_bps"),
            risk_penalty_multiplier_bps: field(vector, "risk_penalty_multiplier_bps"),
            ..Limits::default()
        };
        let case = vector["case"].as_str().unwrap();
        let models = vector["models"].as_array().unwrap();
        let error = if case == "enabled is 2" {
            // A bool cannot be 2, so this one is only met in bytes.
            two_enabled(limits, models)
        } else {
            Policy::new(limits, models.iter().map(candidate).collect(), None).unwrap_err()
        };
        cases.push((case, error.kind(), error.field().unwrap(), error.value().unwrap()));
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(
        cases,
        [
            ("empty catalog", ErrorKind::EmptyCatalog, "candidates", 0),
            (
                "hard risk limit out of range",
                ErrorKind::OutOfRange,
                "hard_risk_limit_bps",
                10_001
            ),
            (
                "minimum confidence out of range",
                ErrorKind::OutOfRange,
                "minimum_confidence_bps",
                10_001
            ),
            (
                "risk penalty multiplier out of range",
                ErrorKind::OutOfRange,
                "risk_penalty_multiplier_bps",
                50_001
            ),
            ("duplicate model id", ErrorKind::DuplicateModelId, "model_id", 2),
            ("model id zero", ErrorKind::ReservedModelId, "model_id", 0),
            ("provider id 64", ErrorKind::OutOfRange, "provider_id", 64),
            ("quality out of range", ErrorKind::OutOfRange, "quality_bps", 10_001),
            (
                "risk ceiling out of range",
                ErrorKind::OutOfRange,
                "risk_ceiling_bps",
                10_001
            ),
            ("enabled is 2", ErrorKind::OutOfRange, "enabled", 2),
            ("no enabled model", ErrorKind::NoEnabledCandidate, "enabled", 0),
        ]
    );
}

/// The bytes of a policy whose first candidate says 2 where 0 or 1 belongs, read back.
fn two_enabled(limits: Limits, models: &[Value]) -> decidable_kernel::Error {
    let policy = Policy::new(limits, models.iter().map(candidate).collect(), None).unwrap();
    let mut bytes = Vec::new();
    policy.encode(&mut bytes);
    // objective 1, limits 30, count 4, then model_id 4, provider_id 2, quality 2, risk ceiling 2.
    bytes[1 + 30 + 4 + 10] = 2;
    Policy::decode(&mut Reader::new(&bytes)).unwrap_err()
}
