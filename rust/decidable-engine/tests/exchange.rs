//! Our log as one of the exchange format: every decision is in it and verifies, or the export refuses and says which not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod ground;

use std::io::{self, Write};
use std::sync::Arc;

use decidable_canon::Key;
use decidable_engine::{Engine, Error, Options, export, verify_exchange};
use decidable_kernel::{Candidate, Limits, Policy, RequestFields};
use decidable_wal::Memory;
use ground::{CHEAP, options, request, risky};

/// A policy of the shared contract, which the format can hold.
fn shared() -> Arc<Policy> {
    let candidate = |model_id, quality_bps, rate| Candidate {
        model_id,
        quality_bps,
        input_cost_microunits_per_million_tokens: rate,
        output_cost_microunits_per_million_tokens: rate,
        ..Candidate::default()
    };
    let catalog = vec![candidate(1, 6_000, 1_000_000), candidate(2, 9_000, 50_000_000)];
    Arc::new(Policy::new(Limits::default(), catalog, None).unwrap())
}

fn written(key: Option<Key>) -> (Memory, Arc<Policy>) {
    let (storage, policy) = (Memory::new(), shared());
    let engine = Engine::open(
        Arc::new(storage.clone()),
        Options {
            policy: policy.clone(),
            key,
            ..options()
        },
    )
    .unwrap();
    engine.open_account("acme", 1_000_000).unwrap();
    for metadata in [
        None,
        Some("{\"who\": \"me\"}"),
        Some("plain words"),
        Some("two\nlines"),
        Some(""),
    ] {
        engine.decide(&request(CHEAP), Some("acme"), None, metadata).unwrap();
    }
    engine.decide(&risky(9_800), Some("acme"), None, None).unwrap();
    engine.decide(&request(99), None, None, None).unwrap();
    engine.settle(1, ground::cost(5)).unwrap();
    engine.close().unwrap();
    (storage, policy)
}

fn exported(
    storage: &Memory,
    key: Option<Key>,
    out_key: Option<Key>,
) -> Result<(Vec<u8>, decidable_engine::Exported), Error> {
    let mut out = Vec::new();
    let summary = export(storage, key, &mut out, out_key, |_| Ok(()))?;
    Ok((out, summary))
}

#[test]
fn what_is_exported_verifies_with_its_anchor_and_policy() {
    for (key, out_key) in [(None, None), (Some(ground::key()), None), (None, Some(ground::key()))] {
        let (storage, policy) = written(key.clone());
        let (lines, summary) = exported(&storage, key, out_key.clone()).unwrap();
        assert_eq!((summary.decisions, summary.refusals), (6, 1));
        let anchor = summary.anchor.unwrap();
        let verified =
            verify_exchange(lines.as_slice(), out_key.clone(), Some(anchor), &[&policy], |_| Ok(())).unwrap();
        assert_eq!(
            (verified.rederived, verified.read.entries, verified.read.anchor_found),
            (6, 6, true)
        );
        assert!(verified.missing_policies.is_empty());
        let without = verify_exchange(lines.as_slice(), out_key.clone(), None, &[], |_| Ok(())).unwrap();
        assert_eq!(
            (without.rederived, without.missing_policies),
            (0, vec![policy.shared_digest()])
        );
        for line in String::from_utf8(lines.clone()).unwrap().lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            let place = &entry["data"]["metadata"]["decidable"];
            assert!(
                place["seq"].is_u64() && place["hash"].as_str().unwrap().len() == 64,
                "{line}"
            );
        }
        // A line that does not follow is refused with its number.
        let changed = String::from_utf8(lines)
            .unwrap()
            .replacen("Alternative", "Requested", 1);
        let error = verify_exchange(changed.as_bytes(), out_key, Some(anchor), &[&policy], |_| Ok(())).unwrap_err();
        assert_eq!(error.code(), "wal.chain_broken");
    }
}

#[test]
fn the_callers_metadata_travel_as_json_unless_they_were_erased() {
    let (storage, policy) = written(None);
    let engine = Engine::open(Arc::new(storage.clone()), Options { policy, ..options() }).unwrap();
    // Opening, policy, account, then the decisions.
    assert_eq!(engine.erase(&[5]).unwrap().seqs, [5]);
    engine.close().unwrap();
    let (lines, _) = exported(&storage, None, None).unwrap();
    let found: Vec<serde_json::Value> = String::from_utf8(lines)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["data"]["metadata"]["metadata"].take())
        .collect();
    let expected: serde_json::Value =
        serde_json::from_str(r#"[null, null, "plain words", "two\nlines", "", null]"#).unwrap();
    assert_eq!(serde_json::Value::from(found), expected);
}

#[test]
fn decisions_that_used_our_extensions_are_refused_by_number() {
    let storage = Memory::new();
    let engine = ground::funded(&storage, 1_000_000);
    for _ in 0..10 {
        ground::decide(&engine, CHEAP);
    }
    engine.close().unwrap();
    let error = exported(&storage, None, None).unwrap_err();
    assert_eq!(error.code(), "engine.not_exportable");
    let message = error.to_string();
    assert!(
        message.contains("decisions 1, 2, 3, 4, 5, 6, 7, 8 and 2 more"),
        "{message}"
    );
    assert!(message.contains("the objective cheapest"), "{message}");

    let (storage, policy) = written(None);
    let engine = Engine::open(Arc::new(storage.clone()), Options { policy, ..options() }).unwrap();
    let quoted = request(CHEAP).with_quotes(vec![(1, 5)]).unwrap();
    assert_eq!(engine.decide(&quoted, None, None, None).unwrap().view.number, 8);
    engine.close().unwrap();
    let message = exported(&storage, None, None).unwrap_err().to_string();
    assert!(
        message.contains("decisions 8 ") && message.contains("quotes"),
        "{message}"
    );
}

#[test]
fn a_larger_answer_than_expected_only_sizes_the_hold_so_it_can_be_exported() {
    let (storage, policy) = written(None);
    let engine = Engine::open(
        Arc::new(storage.clone()),
        Options {
            policy: policy.clone(),
            ..options()
        },
    )
    .unwrap();
    let fields = RequestFields {
        output_tokens: 10,
        ..*request(CHEAP).fields()
    };
    let longer = decidable_kernel::Request::new(fields)
        .unwrap()
        .with_max_output_tokens(999)
        .unwrap();
    engine.decide(&longer, Some("acme"), None, None).unwrap();
    engine.close().unwrap();
    let (lines, summary) = exported(&storage, None, None).unwrap();
    let verified = verify_exchange(lines.as_slice(), None, summary.anchor, &[&policy], |_| Ok(())).unwrap();
    assert_eq!(verified.rederived, 7);
}

#[test]
fn a_log_without_decisions_is_exported_as_nothing() {
    let storage = Memory::new();
    ground::open(&storage).close().unwrap();
    let (lines, summary) = exported(&storage, None, None).unwrap();
    assert!(lines.is_empty() && summary.anchor.is_none() && summary.decisions == 0);
}

/// Takes so many bytes and then no more.
struct Full(usize, bool);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 && !bytes.is_empty() {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(taken)
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.1 {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
    }
}

#[test]
fn an_export_that_cannot_be_written_says_so() {
    let (storage, _) = written(None);
    let error = export(&storage, None, Full(1_000, true), None, |_| Ok(())).unwrap_err();
    assert_eq!(error.code(), "wal.io");
    let error = export(&storage, None, Full(usize::MAX, false), None, |_| Ok(())).unwrap_err();
    assert_eq!(error.code(), "engine.not_written");
    let error = export(&storage, None, Vec::new(), None, |_| Err("enough".to_owned())).unwrap_err();
    assert_eq!(error.code(), "wal.visit");
    let error = export(&Memory::new(), None, Vec::new(), None, |_| Ok(())).unwrap_err();
    assert_eq!(error.code(), "wal.not_found");
}
