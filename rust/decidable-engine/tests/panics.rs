//! What code that the caller brought does at the wrong moment leaves nothing half done.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod ground;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use decidable_engine::{Clock, Engine, Options};
use decidable_wal::{Durability, Memory};
use ground::{CHEAP, policy, request};

#[derive(Default)]
struct Fragile {
    breaks: AtomicBool,
}

impl Clock for Fragile {
    fn now_ns(&self) -> i64 {
        assert!(!self.breaks.load(Ordering::Relaxed), "the clock stands still");
        1
    }
}

#[test]
fn a_clock_that_panics_stops_the_engine_and_leaves_a_log_that_opens() {
    let storage = Memory::new();
    let clock = Arc::new(Fragile::default());
    let options = Options {
        policy: policy(1),
        provenance: String::new(),
        key: None,
        sync: Durability::Group,
        head: None,
        recover: false,
        clock: clock.clone(),
        decide: None,
        watch: None,
    };
    let engine = Engine::open(Arc::new(storage.clone()), options).unwrap();
    engine.open_account("acme", 10_000).unwrap();
    engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();

    clock.breaks.store(true, Ordering::Relaxed);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        engine.decide(&request(CHEAP), Some("acme"), None, None)
    }));
    assert!(panicked.is_err());
    clock.breaks.store(false, Ordering::Relaxed);
    let refused = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap_err();
    assert_eq!(refused.code(), "engine.stopped");
    engine.close().unwrap();

    let engine = ground::open(&storage);
    assert_eq!(engine.open_tickets().unwrap().len(), 1);
    assert_eq!(engine.balance("acme").unwrap().reserved, 1_400);
    engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
}

/// Has the log closed under the engine's feet once it is asked for the time.
#[derive(Default)]
struct Closing {
    engine: OnceLock<Arc<Engine>>,
}

impl Clock for Closing {
    fn now_ns(&self) -> i64 {
        if let Some(engine) = self.engine.get() {
            engine.drain();
        }
        1
    }
}

#[test]
fn an_engine_whose_state_went_ahead_of_its_log_answers_nothing_more() {
    let storage = Memory::new();
    let clock = Arc::new(Closing::default());
    let options = Options {
        clock: clock.clone(),
        ..ground::options()
    };
    let engine = Arc::new(ground::opened_with(&storage, options).unwrap());
    engine.open_account("acme", 10_000).unwrap();
    // The log was ready, and takes nothing any more when the record comes.
    clock.engine.set(engine.clone()).unwrap();
    let refused = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap_err();
    assert_eq!(refused.code(), "wal.closed");
    // The hold is in the state alone: no balance is told from there.
    assert_eq!(engine.balance("acme").unwrap_err().code(), "wal.closed");
    assert_eq!(engine.open_tickets().unwrap_err().code(), "wal.closed");
    let opened = ground::open(&storage);
    assert_eq!(opened.balance("acme").unwrap().reserved, 0);
}
