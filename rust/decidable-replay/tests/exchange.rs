//! What a line of the exchange format says, against the reference implementation's own logs and against every change of
//! them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use decidable_canon::Digest;
use decidable_kernel::{Action, Candidate, Limits, Policy, Reason};
use decidable_replay::{ErrorKind, exchange};
use serde_json::{Value, json};

fn vector(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

/// The policy of that line of `policies.jsonl`.
fn policy(line: usize) -> Policy {
    let row: Value = serde_json::from_str(vector("policies.jsonl").lines().nth(line).unwrap()).unwrap();
    let row = row.get("policy").unwrap_or(&row).clone();
    let limits = Limits {
        policy_epoch: number(&row["policy_epoch"]),
        catalog_epoch: number(&row["catalog_epoch"]),
        hard_risk_limit_bps: number(&row["hard_risk_limit_bps"]),
        minimum_confidence_bps: number(&row["minimum_confidence_bps"]),
        risk_penalty_multiplier_bps: number(&row["risk_penalty_multiplier_bps"]),
        latency_penalty_microunits_per_ms: number(&row["latency_penalty_microunits_per_ms"]),
        ..Limits::default()
    };
    let candidates = row["models"].as_array().unwrap().iter().map(|model| Candidate {
        model_id: number(&model["model_id"]),
        provider_id: number(&model["provider_id"]),
        quality_bps: number(&model["quality_bps"]),
        risk_ceiling_bps: number(&model["risk_ceiling_bps"]),
        enabled: model["enabled"]
            .as_bool()
            .unwrap_or_else(|| model["enabled"] == json!(1)),
        p95_latency_ms: number(&model["p95_latency_ms"]),
        capabilities: number(&model["capabilities"]),
        region_mask: number(&model["region_mask"]),
        input_cost_microunits_per_million_tokens: number(&model["input_cost_microunits_per_million_tokens"]),
        output_cost_microunits_per_million_tokens: number(&model["output_cost_microunits_per_million_tokens"]),
    });
    Policy::new(limits, candidates.collect(), None).unwrap()
}

fn anchored_policy() -> Policy {
    let anchor: Value = serde_json::from_str(&vector("log_plain.jsonl.anchor.json")).unwrap();
    policy(number(&anchor["policy"]))
}

/// The audited data of every line, as written.
fn data() -> Vec<String> {
    vector("log_plain.jsonl")
        .lines()
        .map(|line| {
            line.split_once(r#","data":"#)
                .unwrap()
                .1
                .strip_suffix('}')
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// Also where every digest is right and no policy is given.
#[test]
fn a_model_that_is_selected_without_its_place_or_a_place_without_its_model_is_unreadable() {
    let line = data()
        .into_iter()
        .find(|line| !line.contains(r#""selected_model_id":0"#))
        .unwrap();
    for (field, none) in [("selected_model_index", 65_535), ("selected_model_id", 0)] {
        let mut forged: Value = serde_json::from_str(&line).unwrap();
        forged["decision"][field] = json!(none);
        forged["audit"]["decision_digest_hex"] = json!(digest_of(&forged["decision"]));
        let error = exchange::verify(forged.to_string().as_bytes(), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreadable, "{field}");
        assert!(error.to_string().contains("do not go together"), "{error}");
    }
}

/// The digest of a decision as the line says it, from the layout `calydcn1` of docs/spec/formats.md.
fn digest_of(decision: &Value) -> String {
    let code = |name: &str, all: &[&str]| all.iter().position(|other| *other == name);
    let actions = Action::ALL.map(Action::name);
    let action = Action::ALL[code(decision["action"].as_str().unwrap(), &actions).unwrap()];
    let reason = decision["reason"].as_str().unwrap();
    let reason = Reason::ALL.into_iter().find(|known| known.name() == reason).unwrap();
    let mut bytes = b"calydcn1\0".to_vec();
    bytes.extend(number::<u64>(&decision["request_sequence"]).to_le_bytes());
    bytes.push(action.code());
    bytes.extend(reason.code().to_le_bytes());
    bytes.extend(number::<u32>(&decision["selected_model_id"]).to_le_bytes());
    bytes.extend(number::<u16>(&decision["selected_model_index"]).to_le_bytes());
    bytes.extend(number::<u64>(&decision["estimated_cost_microunits"]).to_le_bytes());
    bytes.extend(decision["expected_utility_microunits"].as_i64().unwrap().to_le_bytes());
    bytes.extend(number::<u32>(&decision["counterfactual_model_id"]).to_le_bytes());
    bytes.extend(
        decision["counterfactual_utility_microunits"]
            .as_i64()
            .unwrap()
            .to_le_bytes(),
    );
    bytes.extend(number::<u16>(&decision["evaluated_models"]).to_le_bytes());
    bytes.extend(number::<u16>(&decision["eligible_models"]).to_le_bytes());
    bytes.extend(number::<u64>(&decision["policy_epoch"]).to_le_bytes());
    bytes.extend(number::<u64>(&decision["catalog_epoch"]).to_le_bytes());
    Digest::of(&bytes).to_string()
}

#[test]
fn every_decision_of_the_reference_follows_from_its_policy() {
    let policy = anchored_policy();
    let mut selected = 0;
    for line in data() {
        let audited = exchange::verify(line.as_bytes(), &[&policy]).unwrap();
        assert!(audited.rederived);
        assert_eq!(audited.policy_digest, policy.shared_digest());
        selected += u32::from(audited.decision.selected_model_id.is_some());
        // Without the policy the digests are all that can be checked, and it says so.
        assert!(!exchange::verify(line.as_bytes(), &[]).unwrap().rederived);
    }
    assert!((50..200).contains(&selected), "{selected}");
}

/// Every leaf of a JSON value, by its path.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), found)),
        _ => found.push(path.to_owned()),
    }
}

fn changes(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) if number.is_i64() && number.as_i64().unwrap() < 0 => vec![json!(0), json!(1)],
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            vec![
                json!(number.wrapping_add(1)),
                json!(number ^ 2),
                json!(-1),
                json!(1.5),
                json!("1"),
                Value::Null,
            ]
        }
        Value::Bool(truth) => vec![json!(!truth), json!(1), Value::Null],
        Value::String(text) => {
            let other = if text.starts_with('0') { "1" } else { "0" };
            let mut changed = text.clone();
            changed.replace_range(..1, other);
            vec![
                json!(changed),
                json!(""),
                json!(text.to_uppercase()),
                json!(7),
                Value::Null,
            ]
        }
        other => panic!("{other} is no leaf of audited data"),
    }
}

#[test]
fn every_changed_value_is_refused_when_the_policy_is_known() {
    let policy = anchored_policy();
    let lines = data();
    for line in [&lines[0], &lines[1], &lines[199]] {
        let whole: Value = serde_json::from_str(line).unwrap();
        let mut paths = Vec::new();
        for part in ["audit", "input", "decision"] {
            leaves(&whole[part], &format!("/{part}"), &mut paths);
        }
        assert_eq!(paths.len(), 10 + 13 + 13);
        for path in &paths {
            for change in changes(whole.pointer(path).unwrap()) {
                let mut changed = whole.clone();
                if *whole.pointer(path).unwrap() == change {
                    continue;
                }
                *changed.pointer_mut(path).unwrap() = change.clone();
                let text = changed.to_string();
                // A changed policy digest names a policy that is not known; the decision is then only claimed.
                match exchange::verify(text.as_bytes(), &[&policy]) {
                    Ok(audited) => {
                        assert_eq!(path, "/audit/policy_digest_hex", "{change}");
                        assert!(!audited.rederived);
                    }
                    Err(error) => {
                        assert!(
                            matches!(error.kind(), ErrorKind::Disagrees | ErrorKind::Unreadable),
                            "{path}: {error}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_decision_with_matching_digests_is_still_derived_again() {
    use decidable_canon::Canonical as _;
    let policy = anchored_policy();
    let line = &data()[0];
    let audited = exchange::verify(line.as_bytes(), &[]).unwrap();
    let mut whole: Value = serde_json::from_str(line).unwrap();
    whole["decision"]["expected_utility_microunits"] = json!(1);
    let forged = decidable_kernel::Decision {
        expected_utility_microunits: 1,
        ..audited.decision
    };
    whole["audit"]["decision_digest_hex"] = json!(forged.digest().to_string());
    assert!(!exchange::verify(whole.to_string().as_bytes(), &[]).unwrap().rederived);
    let error = exchange::verify(whole.to_string().as_bytes(), &[&policy]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disagrees);
    assert!(
        error
            .to_string()
            .contains("expected_utility_microunits is written as 1"),
        "{error}"
    );
}

#[test]
fn missing_unknown_and_repeated_members_are_unreadable() {
    let line = &data()[0];
    let whole: Value = serde_json::from_str(line).unwrap();
    for part in ["audit", "input", "decision", "metadata"] {
        let mut without = whole.clone();
        without.as_object_mut().unwrap().remove(part);
        assert_eq!(
            exchange::verify(without.to_string().as_bytes(), &[])
                .unwrap_err()
                .kind(),
            ErrorKind::Unreadable
        );
        let mut more = whole.clone();
        if part == "metadata" {
            more["more"] = json!(1);
        } else {
            more[part]["more"] = json!(1);
        }
        assert_eq!(
            exchange::verify(more.to_string().as_bytes(), &[]).unwrap_err().kind(),
            ErrorKind::Unreadable
        );
    }
    let repeated = line.replacen(r#""audit":"#, r#""metadata":null,"audit":"#, 1);
    assert_eq!(
        exchange::verify(repeated.as_bytes(), &[]).unwrap_err().kind(),
        ErrorKind::Unreadable
    );
    for garbage in [
        &b""[..],
        b"null",
        b"[]",
        b"{",
        &line.as_bytes()[..line.len() - 1],
        b"\xff\xfe",
    ] {
        assert_eq!(
            exchange::verify(garbage, &[]).unwrap_err().kind(),
            ErrorKind::Unreadable
        );
    }
    // Metadata say nothing that is checked here; the chain covers them.
    for metadata in [json!(null), json!({"a": [1, 2.5, {"b": "\u{0}"}]}), json!("text")] {
        let mut other = whole.clone();
        other["metadata"] = metadata;
        exchange::verify(other.to_string().as_bytes(), &[]).unwrap();
    }
}

#[test]
fn a_text_becomes_a_json_value_on_one_line() {
    for (text, expected) in [
        (r#"{"a": 1}"#, r#"{"a": 1}"#),
        (" 7 ", "7"),
        ("null", "null"),
        ("plain words", r#""plain words""#),
        ("", r#""""#),
        ("{\n}", r#""{\n}""#),
        ("{\r}", r#""{\r}""#),
        (r#"{"a": 1"#, r#""{\"a\": 1""#),
        ("\u{2028}🔒", "\"\u{2028}🔒\""),
        ("1],[2", r#""1],[2""#),
        ("1e999", r#""1e999""#),
        (r#""\ud800""#, r#""\"\\ud800\"""#),
    ] {
        assert_eq!(exchange::json(text), expected);
        let value: Value = serde_json::from_str(&exchange::json(text)).unwrap();
        assert!(value.is_string() || serde_json::from_str::<Value>(text).unwrap() == value);
    }
    // A line nests it three deep, and readers follow 127.
    for (depth, is_value) in [(1, true), (124, true), (125, false), (130, false), (100_000, false)] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let value: Value = serde_json::from_str(&exchange::json(&text)).unwrap();
        assert_eq!(value.as_str(), (!is_value).then_some(text.as_str()), "{depth}");
    }
}
