//! The codes of docs/errors.md that no test in Python produces are produced here, each by the fault that it stands for.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod ground;

use std::collections::BTreeSet;
use std::io;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use decidable_canon::{Canonical as _, Digest};
use decidable_engine::{Clock, Decide, Engine, Options, export};
use decidable_kernel::batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, Plan, Quotes, Rows};
use decidable_kernel::{Decision, Limits, Policy, Request};
use decidable_ledger::{Ledger, LedgerSnapshot, Reserve};
use decidable_replay::{Command, Kind, Record, SettlementRecord, State, Use};
use decidable_wal::{Entry, Log, Memory, ScanOptions};
use ground::{CHEAP, DEAR, Step, funded, opened_with, options, policy, rechained, request, steps, verify};

/// One needs what only the inside of a crate has: a test there compares the error's code with it.
const INSIDE: &str = "replay.too_many";

/// The codes in the section of docs/errors.md with that title.
fn listed(title: &str) -> BTreeSet<String> {
    let text = include_str!("../../../docs/errors.md");
    let (_, section) = text.split_once(&format!("## {title}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let quoted = section.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.contains('.')).map(str::to_owned).collect()
}

#[test]
fn every_code_that_only_tests_in_rust_produce_is_produced() {
    let mut produced: BTreeSet<String> = BTreeSet::new();
    for codes in [
        of_the_kernel(),
        of_the_ledger(),
        of_records(),
        of_the_log(),
        of_the_engine(),
    ] {
        produced.extend(codes.into_iter().map(str::to_owned));
    }
    let inside = include_str!("../../decidable-replay/src/state/tests.rs");
    assert!(inside.contains(&format!(
        "assert_eq!((error.kind(), error.code()), (ErrorKind::TooMany, {INSIDE:?}));"
    )));
    assert!(produced.insert(INSIDE.to_owned()), "{INSIDE} is produced here");
    assert_eq!(produced, listed("Codes that only tests in Rust produce"));
}

fn of_the_kernel() -> Vec<&'static str> {
    let (policy, plan, none) = (policy(1), Plan::default(), Quotes::default());
    let row_count = batch::decide(&policy, &[0; 71], &mut [0; 65], plan).unwrap_err();
    let mut rows = Vec::new();
    request(CHEAP).fields().encode(&mut rows);
    let rows = Rows::new(&rows, 1).unwrap();
    // The decision of a request with another number.
    let decisions = [1; DECISION_ROW_BYTES];
    let other_decision = batch::count(&policy, rows, &none, &decisions, &mut [0; COUNTS_ROW_BYTES], plan).unwrap_err();
    // As many quotes as there are numbers.
    let no_memory = Quotes::new(iter::repeat((0, CHEAP, 1)), 1).unwrap_err();
    vec![row_count.code(), other_decision.code(), no_memory.code()]
}

fn of_the_ledger() -> Vec<&'static str> {
    let ledger = Ledger::new();
    let account = ledger.open_account("acme", 10).unwrap();
    let hold = ledger.next_hold();
    assert!(matches!(
        ledger.reserve(account, hold, 1).unwrap(),
        Reserve::Held { .. }
    ));
    let unbalanced = "{\"version\":1,\"tenants\":[{\"tenant_id\":\"acme\",\"initial_microcents\":7,\
         \"remaining_microcents\":1,\"reserved_microcents\":2,\"committed_microcents\":3,\"debt_microcents\":0}],\
         \"active_reservations\":0,\"wal_high_watermark\":null}";
    let snapshot = LedgerSnapshot::from_json(unbalanced).unwrap();
    vec![
        ledger.reserve(account, hold, 1).unwrap_err().code(),
        snapshot.verify().unwrap_err().code(),
    ]
}

fn of_records() -> Vec<&'static str> {
    let mut state = State::new();
    let ask = |policy, account, request: Request| Command::Decide {
        policy,
        account,
        request,
        caller_key: Some(Digest::of(b"key")),
        proposed: None,
    };
    let no_policy = state.perform(1, ask(0, None, request(CHEAP).numbered(1))).unwrap_err();
    let install = Command::InstallPolicy {
        policy: policy(1),
        provenance: String::new(),
    };
    state.perform(1, install).unwrap();
    let no_account = state
        .perform(2, ask(0, Some(3), request(CHEAP).numbered(1)))
        .unwrap_err();
    state.perform(2, ask(0, None, request(CHEAP).numbered(1))).unwrap();
    let conflict = state.perform(3, ask(0, None, request(DEAR).numbered(2))).unwrap_err();
    vec![
        no_policy.code(),
        no_account.code(),
        conflict.code(),
        Record::decode(Kind::Account, b"short").unwrap_err().code(),
        changed(|steps| {
            steps.last_mut().unwrap().change(|record| match record {
                Record::Settlement(settled) => Record::Settlement(SettlementRecord {
                    charged: settled.charged + 1,
                    ..settled
                }),
                other => panic!("{other:?} is no settlement"),
            });
        }),
    ]
}

fn of_the_log() -> Vec<&'static str> {
    let storage = Memory::new();
    let small = decidable_wal::Options {
        create: true,
        log_id: [7; 16],
        queue_records_max: 1,
        ..decidable_wal::Options::default()
    };
    let (log, opened) = Log::open(Arc::new(storage.clone()), small.clone(), |_| Ok(())).unwrap();
    let entry = |kind, bytes: usize| Entry {
        kind,
        time_ns: 1,
        payload: vec![0; bytes].into(),
        private: None,
    };
    let invalid = log.append(&[entry(1, 0)]).unwrap_err();
    let too_large = log
        .append(&[entry(16, decidable_wal::RECORD_BYTES_MAX + 1)])
        .unwrap_err();
    storage.stall(true);
    let overloaded = loop {
        if let Err(error) = log.append(&[entry(16, 1)]) {
            break error;
        }
    };
    let timeout = log
        .wait(opened.head.seq + 1, Some(Duration::from_millis(1)))
        .unwrap_err();
    storage.stall(false);
    log.close().unwrap();
    let visit = decidable_wal::scan(&storage, &ScanOptions::default(), |_| Err("no".to_owned())).unwrap_err();
    let (log, _) = Log::open(Arc::new(storage), small, |_| Ok(())).unwrap();
    log.abandon();
    let abandoned = log.append(&[entry(16, 0)]).unwrap_err();
    vec![
        invalid.code(),
        too_large.code(),
        overloaded.code(),
        timeout.code(),
        visit.code(),
        abandoned.code(),
    ]
}

/// The code with which a log is refused whose steps were changed and chained again.
fn changed(change: impl FnOnce(&mut Vec<Step>)) -> &'static str {
    let storage = Memory::new();
    let engine = funded(&storage, 10_000);
    let number = ground::decide(&engine, CHEAP).view.number;
    ground::settle(&engine, number, 900);
    engine.close().unwrap();
    let mut changed = steps(&storage);
    change(&mut changed);
    verify(&rechained(&storage, &changed)).unwrap_err().code()
}

struct Liar;

impl Decide for Liar {
    fn decide(&self, policy: &Policy, request: &Request) -> Decision {
        Decision {
            selected_model_id: Some(DEAR),
            ..policy.decide(request)
        }
    }
}

#[derive(Default)]
struct Fragile(AtomicBool);

impl Clock for Fragile {
    fn now_ns(&self) -> i64 {
        assert!(!self.0.load(Ordering::Relaxed), "the clock stands still");
        1
    }
}

struct Full;

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

fn of_the_engine() -> Vec<&'static str> {
    let lying = Options {
        decide: Some(Box::new(Liar)),
        ..options()
    };
    let engine = opened_with(&Memory::new(), lying).unwrap();
    let does_not_replay = engine.decide(&request(CHEAP), None, None, None).unwrap_err();

    let clock = Arc::new(Fragile::default());
    let fragile = Options {
        clock: clock.clone(),
        ..options()
    };
    let engine = Engine::open(Arc::new(Memory::new()), fragile).unwrap();
    clock.0.store(true, Ordering::Relaxed);
    catch_unwind(AssertUnwindSafe(|| engine.decide(&request(CHEAP), None, None, None))).unwrap_err();
    clock.0.store(false, Ordering::Relaxed);
    let stopped = engine.settle(1, Use::default()).unwrap_err();

    let shared = Options {
        policy: Arc::new(Policy::new(Limits::default(), policy(1).candidates().to_vec(), None).unwrap()),
        ..options()
    };
    let storage = Memory::new();
    opened_with(&storage, shared).unwrap().close().unwrap();
    let not_written = export(&storage, None, Full, None, |_| Ok(())).err().unwrap();
    vec![
        does_not_replay.code(),
        stopped.code(),
        not_written.code(),
        changed(|steps| steps[1].kind = 99),
        changed(|steps| steps[1].private = Some(vec![0xff])),
    ]
}
