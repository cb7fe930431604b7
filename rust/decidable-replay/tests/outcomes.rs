//! The digests of selections and outcomes against the reference implementation's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use decidable_canon::{Canonical as _, Digest};
use decidable_replay::{Disposition, Outcome, Selection, Strategy};
use serde_json::Value;

fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    value.as_u64().map(|number| T::try_from(number).ok().unwrap())
}

#[test]
fn selections_and_outcomes_have_the_references_digests() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/outcomes.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = 0;
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let selection = Selection {
            strategy: match row["strategy"].as_u64().unwrap() {
                0 => Strategy::MaximizeUtility,
                1 => Strategy::Explore,
                2 => Strategy::Human,
                other => panic!("strategy {other}"),
            },
            acted_model_id: number(&row["acted_model_id"]).filter(|model: &u32| *model != 0),
            propensity_bps: number(&row["propensity_bps"]),
        };
        assert_eq!(
            selection.digest().to_string(),
            row["selection_digest"].as_str().unwrap()
        );
        let outcome = Outcome {
            identity: Digest::from_hex(row["identity_digest"].as_str().unwrap()).unwrap(),
            observed_at_micros: number(&row["observed_at_micros"]).unwrap(),
            revision: number(&row["revision"]).unwrap(),
            selection: selection.digest(),
            disposition: match row["disposition"].as_str().unwrap() {
                "Applied" => Disposition::Applied,
                "Abandoned" => Disposition::Abandoned,
                "InFlight" => Disposition::InFlight,
                other => panic!("disposition {other}"),
            },
            realized_cost_microunits: number(&row["realized_cost_microunits"]),
            realized_latency_ms: number(&row["realized_latency_ms"]),
            succeeded: row["succeeded"].as_bool(),
        };
        assert_eq!(outcome.digest().to_string(), row["outcome_digest"].as_str().unwrap());
        rows += 1;
    }
    assert_eq!(rows, 240);
}
