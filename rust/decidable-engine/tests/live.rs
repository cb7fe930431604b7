//! The live path: what is answered, written, held and refused, and what a second process finds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod ground;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use decidable_engine::{Decide, Engine, ErrorKind, Observation, Options, Standing, Watch};
use decidable_kernel::{Decision, Policy, Request};
use decidable_replay::{Disposition, Status, Ticket, Use};
use decidable_wal::{Access, Durability, Fault, Memory, SEGMENT_NAME, Storage};
use ground::{
    CHEAP, DEAR, FREE, conserved, cost, decide, funded, opened_with, options, policy, request, risky, settle, verify,
    verify_with,
};

/// Tells the truth until it is told not to.
struct Liar(Arc<AtomicBool>, fn(Decision) -> Decision);

impl Decide for Liar {
    fn decide(&self, policy: &Policy, request: &Request) -> Decision {
        let honest = policy.decide(request);
        if self.0.load(Ordering::SeqCst) {
            self.1(honest)
        } else {
            honest
        }
    }
}

#[test]
fn a_decision_that_does_not_replay_is_refused_and_nothing_is_written() {
    let lies: [fn(Decision) -> Decision; 5] = [
        |honest| Decision {
            selected_model_id: Some(DEAR),
            ..honest
        },
        |honest| Decision {
            expected_utility_microunits: honest.expected_utility_microunits + 1,
            ..honest
        },
        |honest| Decision {
            estimated_cost_microunits: 0,
            ..honest
        },
        |honest| Decision {
            request_sequence: honest.request_sequence + 1,
            ..honest
        },
        |honest| Decision {
            catalog_epoch: 9,
            ..honest
        },
    ];
    for lie in lies {
        let storage = Memory::new();
        let lying = Arc::new(AtomicBool::new(false));
        let decider: Box<dyn Decide> = Box::new(Liar(lying.clone(), lie));
        let engine = opened_with(
            &storage,
            Options {
                decide: Some(decider),
                ..options()
            },
        )
        .unwrap();
        engine.open_account("acme", 10_000).unwrap();
        assert_eq!(decide(&engine, CHEAP).view.number, 1);
        let (head, balance) = (engine.head().unwrap(), engine.balance("acme").unwrap());

        lying.store(true, Ordering::SeqCst);
        for key in [None, Some("k")] {
            let error = engine.decide(&request(CHEAP), Some("acme"), key, None).unwrap_err();
            assert_eq!(error.code(), "engine.does_not_replay");
            assert!(error.to_string().contains("was not written: a decision's"), "{error}");
        }
        assert_eq!(engine.head().unwrap(), head);
        assert_eq!(engine.balance("acme").unwrap(), balance);
        assert_eq!(engine.open_tickets().unwrap().len(), 1);

        // The engine is as it was: the next honest decision has the next number, and the key is free.
        lying.store(false, Ordering::SeqCst);
        let next = engine.decide(&request(CHEAP), Some("acme"), Some("k"), None).unwrap();
        assert_eq!(
            (next.view.number, next.step.seq, next.replayed),
            (2, head.seq + 1, false)
        );
        engine.close().unwrap();
        assert_eq!(verify(&storage).unwrap().decisions, 2);
    }
}

/// Waits, in the middle of a decision, until someone says to go on; or panics.
struct Slow {
    begun: mpsc::SyncSender<()>,
    go_on: Mutex<mpsc::Receiver<bool>>,
}

impl Decide for Slow {
    fn decide(&self, policy: &Policy, request: &Request) -> Decision {
        self.begun.send(()).unwrap();
        let go_on = self.go_on.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(go_on.recv_timeout(PATIENCE).unwrap(), "told to panic");
        policy.decide(request)
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn nobody_waits_for_a_decision_that_is_being_derived_and_one_that_panics_stops_nobody() {
    let storage = Memory::new();
    let (begun, began) = mpsc::sync_channel(1);
    let (go, go_on) = mpsc::channel();
    let slow: Box<dyn Decide> = Box::new(Slow {
        begun,
        go_on: Mutex::new(go_on),
    });
    let slow = Options {
        decide: Some(slow),
        ..options()
    };
    let engine = Arc::new(opened_with(&storage, slow).unwrap());
    for panics in [false, true] {
        let deciding = {
            let engine = engine.clone();
            std::thread::spawn(move || engine.decide(&request(CHEAP), Some("acme"), None, Some("words")))
        };
        began.recv_timeout(PATIENCE).unwrap();
        // While it decides an account is opened, and topped up, which it will find.
        if !panics {
            engine.open_account("acme", 1_000).unwrap();
        }
        engine.top_up("acme", 1_000).unwrap();
        assert!(!deciding.is_finished());
        go.send(!panics).unwrap();
        match deciding.join() {
            Ok(answer) => assert_eq!(answer.unwrap().view.ticket.held(), Some(1_400)),
            Err(_) => assert!(panics),
        }
    }
    assert_eq!(engine.balance("acme").unwrap().reserved, 1_400);
    engine.close().unwrap();
    assert_eq!(verify(&storage).unwrap().decisions, 1);
}

#[test]
fn an_opening_that_is_ended_by_its_watcher_changes_nothing() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    for _ in 0..20 {
        decide(&engine, CHEAP);
    }
    let head = engine.close().unwrap();
    let seen = |ends_at: Option<usize>| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        let watch: Watch = Box::new(move |seq| {
            let mut told = told.lock().unwrap();
            told.push(seq);
            match ends_at {
                Some(at) if told.len() == at => Err("enough".to_owned()),
                _ => Ok(()),
            }
        });
        let opened = opened_with(
            &storage,
            Options {
                watch: Some(watch),
                ..options()
            },
        );
        (opened, Arc::into_inner(seen).unwrap().into_inner().unwrap())
    };
    // In the first reading, and in the second.
    let records = usize::try_from(head.seq).unwrap();
    for ends_at in [1, 5, records, records + 1, 2 * records] {
        let (opened, seen) = seen(Some(ends_at));
        assert_eq!(opened.unwrap_err().code(), "wal.visit");
        assert_eq!(seen.len(), ends_at);
        assert_eq!(verify(&storage).unwrap().scanned.head, head);
    }
    let (opened, seen) = seen(None);
    opened.unwrap().close().unwrap();
    let all: Vec<u64> = (1..=head.seq).collect();
    assert_eq!(seen, [all.clone(), all].concat());
}

#[test]
fn requests_are_numbered_by_the_engine_over_decisions_and_refusals_and_sessions() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let numbered = |engine: &Engine, request: &Request| {
        let answer = engine.decide(request, Some("acme"), None, None).unwrap();
        assert_eq!(
            answer.view.ticket.request().fields().request_sequence,
            answer.view.number
        );
        answer.view.number
    };
    assert_eq!(numbered(&engine, &request(CHEAP).numbered(900)), 1);
    assert_eq!(numbered(&engine, &risky(9_700)), 2);
    assert_eq!(numbered(&engine, &request(99)), 3);
    engine.close().unwrap();
    drop(engine);
    let engine = ground::open(&storage);
    assert_eq!(numbered(&engine, &request(DEAR)), 4);
    let unknown = engine.decide(&request(CHEAP), Some("nobody"), None, None).unwrap_err();
    assert_eq!(unknown.code(), "engine.unknown_account");
    assert_eq!(numbered(&engine, &request(CHEAP)), 5);
}

#[test]
fn the_safety_ceiling_is_refused_before_any_policy_and_logged_as_its_own_kind() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let decided = engine.decide(&risky(9_699), Some("acme"), None, None).unwrap();
    assert!(matches!(decided.view.ticket, Ticket::Decided { .. }));
    let refused = engine.decide(&risky(9_700), Some("acme"), Some("k"), None).unwrap();
    assert!(matches!(refused.view.ticket, Ticket::Refused { .. }));
    assert!(refused.view.standing.is_none() && refused.view.policy.is_none());
    assert!(
        engine
            .decide(&risky(9_700), Some("acme"), Some("k"), None)
            .unwrap()
            .replayed
    );
    engine.close().unwrap();
    let verified = verify(&storage).unwrap();
    assert_eq!((verified.decisions, verified.refusals), (1, 1));
}

#[test]
fn the_same_key_gives_the_same_ticket_also_after_opening_again() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    engine.open_account("beta", 10_000).unwrap();
    let first = engine.decide(&request(CHEAP), Some("acme"), Some("k-1"), None).unwrap();
    let check = |engine: &Engine, standing| {
        let again = engine
            .decide(
                &request(CHEAP).numbered(77),
                Some("acme"),
                Some("k-1"),
                Some("other words"),
            )
            .unwrap();
        assert_eq!(
            (again.view.number, again.step.seq, again.replayed),
            (1, first.step.seq, true)
        );
        assert_eq!(again.view.standing, standing);
        for (model, account) in [(DEAR, Some("acme")), (CHEAP, Some("beta")), (CHEAP, None)] {
            let error = engine.decide(&request(model), account, Some("k-1"), None).unwrap_err();
            assert_eq!(error.code(), "engine.key_conflict");
        }
    };
    check(&engine, Some(Standing::Held));
    engine.close().unwrap();
    let engine = ground::open(&storage);
    check(&engine, Some(Standing::InDoubt));
    settle(&engine, 1, 800);
    check(&engine, None);
    engine.close().unwrap();
    let engine = ground::open(&storage);
    check(&engine, None);
    assert!(matches!(
        engine.ticket(1).unwrap().ticket,
        Ticket::Decided {
            status: Status::Settled { .. },
            ..
        }
    ));
    let settled = engine.settle(1, cost(800)).unwrap();
    assert!(settled.replayed && settled.step.seq > first.step.seq);
    assert_eq!(
        engine.settle(1, cost(801)).unwrap_err().code(),
        "engine.settled_otherwise"
    );
    for key in ["", "a\nb", &"x".repeat(257)] {
        let error = engine.decide(&request(CHEAP), None, Some(key), None).unwrap_err();
        assert_eq!(error.code(), "engine.bad_key");
    }
}

#[test]
fn a_cancelled_tickets_key_is_free_again() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let ask = |engine: &Engine| {
        engine
            .decide(&request(CHEAP), Some("acme"), Some("k"), None)
            .unwrap()
            .view
            .number
    };
    assert_eq!(ask(&engine), 1);
    let step = engine.cancel(1).unwrap();
    assert_eq!(engine.cancel(1).unwrap().seq, step.seq);
    assert_eq!((ask(&engine), ask(&engine)), (2, 2));
    assert_eq!(engine.balance("acme").unwrap().reserved, 1_400);
    engine.close().unwrap();
    let engine = ground::open(&storage);
    assert_eq!((ask(&engine), engine.cancel(1).unwrap().seq), (2, step.seq));
}

#[test]
fn what_was_dispatched_is_settled_or_stays_in_doubt() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    for _ in 0..4 {
        decide(&engine, CHEAP);
    }
    engine.dispatch(1).unwrap();
    assert_eq!(engine.dispatch(1).unwrap_err().code(), "engine.dispatched");
    assert_eq!(engine.reconcile(1, None).unwrap_err().code(), "engine.dispatched");
    assert_eq!(engine.ticket(1).unwrap().standing, Some(Standing::Dispatched));
    assert_eq!(engine.cancel(1).unwrap_err().code(), "engine.dispatched");
    engine.leave(1).unwrap();
    assert_eq!(engine.ticket(1).unwrap().standing, Some(Standing::InDoubt));
    assert_eq!(engine.dispatch(1).unwrap_err().code(), "engine.in_doubt");
    assert_eq!(engine.cancel(1).unwrap_err().code(), "engine.dispatched");
    engine.close().unwrap();

    let engine = ground::open(&storage);
    let open: Vec<_> = engine
        .open_tickets()
        .unwrap()
        .iter()
        .map(|view| (view.number, view.standing))
        .collect();
    assert_eq!(
        open,
        (1..=4)
            .map(|number| (number, Some(Standing::InDoubt)))
            .collect::<Vec<_>>()
    );
    assert_eq!(engine.cancel(2).unwrap_err().code(), "engine.dispatched");
    let (charged, released) = (
        engine.reconcile(1, Some(cost(1_000))).unwrap(),
        engine.reconcile(2, None).unwrap(),
    );
    // The same again changes nothing, other words contradict.
    assert_eq!(engine.reconcile(1, Some(cost(1_000))).unwrap().seq, charged.seq);
    assert_eq!(engine.reconcile(2, None).unwrap().seq, released.seq);
    assert_eq!(
        engine.reconcile(1, Some(cost(2))).unwrap_err().code(),
        "engine.settled_otherwise"
    );
    assert_eq!(engine.reconcile(1, None).unwrap_err().code(), "replay.already_closed");
    assert_eq!(
        engine.reconcile(2, Some(cost(2))).unwrap_err().code(),
        "replay.already_closed"
    );
    for closed in [1, 2] {
        assert_eq!(engine.dispatch(closed).unwrap_err().code(), "replay.already_closed");
    }
    let balance = engine.balance("acme").unwrap();
    assert_eq!(
        (balance.remaining, balance.reserved, balance.committed),
        (96_200, 2_800, 1_000)
    );
    engine.close().unwrap();
    assert_eq!(
        verify(&storage)
            .unwrap()
            .open_tickets
            .iter()
            .map(|open| open.number)
            .collect::<Vec<_>>(),
        [3, 4]
    );
}

#[test]
fn another_policy_is_installed_once_and_earlier_tickets_keep_theirs() {
    let storage = Memory::new();
    let engine = funded(&storage, 1_000_000);
    decide(&engine, CHEAP);
    engine.close().unwrap();
    for _ in 0..2 {
        let engine = opened_with(
            &storage,
            Options {
                policy: policy(2),
                ..options()
            },
        )
        .unwrap();
        assert_eq!(engine.policy().unwrap().limits().policy_epoch, 2);
        assert_eq!(engine.ticket(1).unwrap().policy.unwrap().limits().policy_epoch, 1);
        engine.close().unwrap();
    }
    let engine = opened_with(
        &storage,
        Options {
            policy: policy(2),
            ..options()
        },
    )
    .unwrap();
    let used = Use {
        input_tokens: Some(1_000),
        output_tokens: Some(100),
        ..Use::default()
    };
    assert_eq!(engine.settle(1, used).unwrap().record.charged, 1_400);
    assert_eq!(decide(&engine, CHEAP).view.policy.unwrap().limits().policy_epoch, 2);
    engine.close().unwrap();
    // Back to the first: it is installed again, under the next number.
    ground::open(&storage).close().unwrap();
    let verified = verify_with(&storage, None, None, Some(&[policy(1).digest(), policy(2).digest()])).unwrap();
    assert_eq!(verified.policies, 3);
}

#[test]
fn no_step_waits_for_the_disk() {
    let storage = Memory::new();
    let engine = funded(&storage, 1_000_000_000);
    let decide = || {
        let answer = engine.decide(&request(CHEAP), Some("acme"), None, Some("words"));
        answer.unwrap().step.seq
    };
    engine.wait((0..500).map(|_| decide()).max().unwrap(), None).unwrap();
    storage.stall(true);
    let mut last = 0;
    for number in 1..=500 {
        let decided = decide();
        engine.dispatch(number).unwrap();
        last = engine.settle(number, cost(7)).unwrap().step.seq;
        assert!(decided < last);
    }
    engine.open_account("beta", 1).unwrap();
    assert_eq!(engine.balance("acme").unwrap().committed, 3_500);
    let error = engine.wait(last, Some(Duration::from_millis(1))).unwrap_err();
    assert_eq!(error.code(), "wal.timeout");
    assert!(engine.head().unwrap().seq < last);
    storage.stall(false);
    engine.wait(last, None).unwrap();
    assert!(engine.wait_change(last - 1, None).unwrap() >= last);
    engine.close().unwrap();
    assert_eq!(verify(&storage).unwrap().settlements, 500);
}

/// After a power loss there would be no such ticket, or it would be another's.
#[test]
fn there_is_no_ticket_to_act_on_before_its_decision_is_durable() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let first = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
    engine.wait(first.step.seq, None).unwrap();
    storage.stall(true);
    let second = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
    let numbers = || {
        let tickets = engine.open_tickets().unwrap();
        tickets.iter().map(|view| view.number).collect::<Vec<_>>()
    };
    let unknown = [engine.ticket(2).map(drop), engine.dispatch(2)].map(|refused| refused.map_err(|error| error.code()));
    let (open, known) = (numbers(), engine.ticket(1).is_ok());
    storage.stall(false);
    assert_eq!(unknown, [Err("replay.unknown_ticket"); 2]);
    assert_eq!((open, known), (vec![1], true));
    engine.wait(second.step.seq, None).unwrap();
    assert_eq!(numbers(), [1, 2]);
    engine.dispatch(2).unwrap();
    assert_eq!(engine.ticket(2).unwrap().standing, Some(Standing::Dispatched));
}

/// What someone knows to be spent is written, also where nothing else is taken.
#[test]
fn a_settlement_is_taken_also_when_the_queue_is_full() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let acted = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
    engine.wait(acted.step.seq, None).unwrap();
    engine.dispatch(1).unwrap();
    storage.stall(true);
    let large = "x".repeat(1 << 20);
    for metadata in [Some(large.as_str()), None] {
        let refused = loop {
            // Nobody meets this, so that no money is asked for.
            if let Err(error) = engine.decide(&request(10_000), None, None, metadata) {
                break error;
            }
        };
        assert_eq!(refused.code(), "wal.overloaded");
    }
    let settled = engine.settle(1, cost(7));
    storage.stall(false);
    engine.wait(settled.unwrap().step.seq, None).unwrap();
    engine.close().unwrap();
    let verified = verify(&storage).unwrap();
    assert_eq!((verified.settlements, verified.open_tickets.len()), (1, 0));
}

#[test]
fn closing_makes_nobody_wait_for_the_disk_but_the_one_who_closes() {
    let storage = Memory::new();
    let engine = Arc::new(funded(&storage, 100_000));
    storage.stall(true);
    engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
    let closing = {
        let engine = engine.clone();
        std::thread::spawn(move || engine.close())
    };
    // The disk stands still, and whoever comes is answered.
    loop {
        match engine.decide(&request(CHEAP), Some("acme"), None, None) {
            Ok(_) => std::thread::yield_now(),
            Err(refusal) => break assert_eq!(refusal.code(), "wal.closed"),
        }
    }
    assert!(engine.balance("acme").unwrap().reserved >= 1_400);
    assert!(!closing.is_finished());
    storage.stall(false);
    let head = closing.join().unwrap().unwrap();
    assert_eq!(engine.close().unwrap(), head);
    assert_eq!(verify(&storage).unwrap().scanned.head, head);
}

#[test]
fn a_hold_stays_as_long_as_one_of_those_who_were_answered_may_have_it() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let ask = || engine.decide(&request(CHEAP), Some("acme"), Some("key"), None).unwrap();
    let (first, second, third) = (ask(), ask(), ask());
    assert!(!first.replayed && second.replayed && third.replayed);
    let reserved = || engine.balance("acme").unwrap().reserved;
    for _ in 0..2 {
        engine.disown(1).unwrap();
        assert_eq!(reserved(), 1_400);
    }
    engine.disown(1).unwrap();
    assert_eq!(reserved(), 0);
    // The key is free again, and the last one of another answer keeps it when it acts.
    let again = ask();
    assert!(!again.replayed && ask().replayed);
    engine.disown(again.view.number).unwrap();
    engine.wait(again.step.seq, None).unwrap();
    engine.dispatch(again.view.number).unwrap();
    engine.disown(again.view.number).unwrap();
    assert_eq!(reserved(), 1_400);
}

#[test]
fn a_full_queue_refuses_and_changes_nothing_and_the_engine_goes_on() {
    let storage = Memory::new();
    let engine = funded(&storage, 1_000_000_000);
    let large = "x".repeat(1 << 20);
    storage.stall(true);
    let mut taken = 0;
    let error = loop {
        match engine.decide(&request(CHEAP), Some("acme"), None, Some(&large)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000);
    };
    assert_eq!(error.code(), "wal.overloaded");
    let balance = engine.balance("acme").unwrap();
    assert_eq!(balance.reserved, taken * 1_400);
    storage.stall(false);
    let next = loop {
        // Room comes as the disk keeps up again.
        match engine.decide(&request(CHEAP), Some("acme"), None, Some(&large)) {
            Ok(answer) => break answer,
            Err(error) => assert_eq!(error.code(), "wal.overloaded"),
        }
        std::thread::yield_now();
    };
    assert_eq!(i64::try_from(next.view.number).unwrap(), taken + 1);
    engine.close().unwrap();
    assert_eq!(i64::try_from(verify(&storage).unwrap().decisions).unwrap(), taken + 1);
}

#[test]
fn a_hold_that_nobody_received_is_released_also_when_the_queue_is_full() {
    let storage = Memory::new();
    let engine = funded(&storage, 1_000_000_000);
    let large = "x".repeat(1 << 20);
    storage.stall(true);
    let mut taken = engine
        .decide(&request(CHEAP), Some("acme"), Some("key 1"), None)
        .unwrap()
        .view
        .number;
    while storage.waiting() == 0 {
        std::thread::yield_now();
    }
    // First by the large, then by the small, until not even a cancellation would fit.
    for metadata in [Some(large.as_str()), None] {
        let refused = loop {
            let key = format!("key {}", taken + 1);
            match engine.decide(&request(CHEAP), Some("acme"), Some(&key), metadata) {
                Ok(answer) => taken = answer.view.number,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.code(), "wal.overloaded");
    }
    // The last is left to whoever has it; what takes money is refused as before.
    let disowned: Vec<_> = (1..taken - 1).map(|number| engine.disown(number)).collect();
    let cancelled = engine.cancel(taken - 1);
    let refused = engine.decide(&request(CHEAP), Some("acme"), Some("key 1"), None);
    // A test that fails must not wait for the disk.
    storage.stall(false);
    assert!(taken > 10 && disowned.iter().all(Result::is_ok), "{disowned:?}");
    engine.wait(cancelled.unwrap().seq, None).unwrap();
    assert_eq!(refused.unwrap_err().code(), "wal.overloaded");
    assert_eq!(engine.balance("acme").unwrap().reserved, 1_400);
    assert_eq!(engine.open_tickets().unwrap().len(), 1);
    engine.wait(engine.cancel(taken).unwrap().seq, None).unwrap();
    let again = engine
        .decide(&request(CHEAP), Some("acme"), Some("key 1"), None)
        .unwrap();
    assert!(!again.replayed);
    engine.close().unwrap();
    let verified = verify(&storage).unwrap();
    assert_eq!(verified.decisions, taken + 1);
    assert_eq!(verified.open_tickets.len(), 1);
}

#[test]
fn what_the_log_does_not_take_is_refused_before_anything_changes() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let most = "x".repeat(1 << 20);
    let more = format!("{most}x");
    let error = engine
        .decide(&request(CHEAP), Some("acme"), Some("k"), Some(&more))
        .unwrap_err();
    assert_eq!(error.code(), "engine.too_large");
    assert_eq!(engine.balance("acme").unwrap().reserved, 0);
    let answer = engine
        .decide(&request(CHEAP), Some("acme"), Some("k"), Some(&most))
        .unwrap();
    assert_eq!((answer.view.number, answer.replayed), (1, false));
    engine.close().unwrap();
    drop(engine);
    let provenance = "x".repeat(17 << 20);
    let error = opened_with(
        &storage,
        Options {
            policy: policy(2),
            provenance,
            ..options()
        },
    )
    .unwrap_err();
    assert_eq!(error.code(), "engine.too_large");
    // It let go of the log.
    assert_eq!(ground::open(&storage).policy().unwrap().limits().policy_epoch, 1);
}

#[test]
fn many_quotes_fit_a_record_of_many_frames() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let quotes = (1..=50_000).map(|model| (model, 700)).collect();
    let quoted = request(CHEAP).with_quotes(quotes).unwrap();
    let answer = engine.decide(&quoted, Some("acme"), Some("k"), None).unwrap();
    engine.wait(answer.step.seq, None).unwrap();
    engine.close().unwrap();
    let engine = ground::open(&storage);
    assert!(engine.decide(&quoted, Some("acme"), Some("k"), None).unwrap().replayed);
    assert_eq!(engine.ticket(1).unwrap().ticket.held(), Some(700));
}

#[test]
fn after_a_failed_write_everything_is_refused_until_the_log_is_opened_again() {
    for (keyed, failing) in [(false, 1), (true, 1), (false, 2), (true, 2), (false, 3), (true, 3)] {
        let storage = Memory::new();
        let key = keyed.then(ground::key);
        let engine = opened_with(
            &storage,
            Options {
                key: key.clone(),
                ..options()
            },
        )
        .unwrap();
        engine.open_account("acme", 100_000).unwrap();
        let (held, other) = (decide(&engine, CHEAP), decide(&engine, CHEAP));
        engine.dispatch(1).unwrap();
        let durable = engine.head().unwrap();
        // The writer is idle. It looks at the file, writes, and syncs: each of them can fail.
        storage.fail_at(storage.operations() + failing, Fault::Fail(std::io::ErrorKind::Other));
        let first = engine.settle(1, cost(900)).unwrap();
        let error = engine.wait(first.step.seq, None).unwrap_err();
        assert_eq!(error.code(), "wal.durability_lost");
        assert_eq!(
            engine.wait_change(durable.seq, None).unwrap_err().code(),
            "wal.durability_lost"
        );
        // What was durable before is still answered for.
        engine.wait(held.step.seq, None).unwrap();

        let seen = Observation {
            disposition: Disposition::Abandoned,
            realized_cost_microunits: None,
            realized_latency_ms: None,
            succeeded: None,
        };
        let refusals = [
            engine.decide(&request(CHEAP), Some("acme"), None, None).map(drop),
            engine.settle(other.view.number, cost(1)).map(drop),
            engine.cancel(other.view.number).map(drop),
            engine.dispatch(other.view.number),
            engine.reconcile(other.view.number, None).map(drop),
            engine.observe(other.view.number, seen).map(drop),
            engine.open_account("beta", 1).map(drop),
            engine.top_up("acme", 1).map(drop),
            engine.set_cap("acme", None).map(drop),
            // A repeated settlement is not confirmed, and no books are shown that the log may not have.
            engine.settle(1, cost(900)).map(drop),
            engine.balance("acme").map(drop),
            engine.balances().map(drop),
            engine.ticket(1).map(drop),
            engine.open_tickets().map(drop),
        ];
        for (at, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.unwrap_err().code(), "wal.poisoned", "{at}");
        }
        // Whoever leaves a ticket after the fault is not told of it twice.
        engine.leave(1).unwrap();
        assert_eq!(engine.head().unwrap(), durable);
        assert_eq!(engine.close().unwrap_err().code(), "wal.durability_lost");
        assert_eq!(engine.close().unwrap_err().code(), "wal.durability_lost");

        // It is closed all the same: another one opens the log and finds what was acknowledged.
        let engine = opened_with(
            &storage,
            Options {
                key: key.clone(),
                head: Some(durable),
                ..options()
            },
        )
        .unwrap();
        let open: Vec<u64> = engine.open_tickets().unwrap().iter().map(|view| view.number).collect();
        // Whether the settlement that was never acknowledged is there, only the disk knows.
        assert_eq!(open, if failing == 3 { vec![2] } else { vec![1, 2] });
        engine.reconcile(2, Some(cost(1))).unwrap();
        engine.close().unwrap();
        verify_with(&storage, key, Some(durable), None).unwrap();
    }
}

#[test]
fn a_closed_engine_refuses_and_still_shows_its_books() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    let answer = decide(&engine, CHEAP);
    let head = engine.close().unwrap();
    assert_eq!(engine.close().unwrap(), head);
    let refusal = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap_err();
    assert_eq!(refusal.code(), "wal.closed");
    assert_eq!(engine.dispatch(1).unwrap_err().code(), "wal.closed");
    assert_eq!(engine.wait_change(head.seq, None).unwrap_err().code(), "wal.closed");
    engine.wait(answer.step.seq, None).unwrap();
    assert_eq!(engine.balance("acme").unwrap().reserved, 1_400);
    // The log is free although the engine is still there.
    ground::open(&storage).close().unwrap();
}

#[test]
fn account_names_are_names_and_stay_apart_from_erased_ones() {
    let storage = Memory::new();
    let engine = funded(&storage, 100);
    for name in ["", "#0", "#acme", "a\tb", "\u{7f}", &"x".repeat(257)] {
        assert_eq!(
            engine.open_account(name, 1).unwrap_err().code(),
            "engine.bad_name",
            "{name:?}"
        );
    }
    assert_eq!(
        engine.open_account("acme", 1).unwrap_err().code(),
        "engine.account_exists"
    );
    assert_eq!(
        engine.open_account("beta", -1).unwrap_err().code(),
        "ledger.invalid_amount"
    );
    let (_, step) = engine.open_account(&"ü".repeat(128), 5).unwrap();
    engine.wait(step.seq, None).unwrap();
    assert_eq!(engine.balances().unwrap().len(), 2);

    // The account of record 3 is acme: opening, policy, account.
    let erased = engine.erase(&[3]).unwrap();
    assert_eq!(erased.seqs, [3]);
    assert_eq!(engine.balance("acme").unwrap_err().code(), "engine.unknown_account");
    assert_eq!(engine.balance("#0").unwrap().initial, 100);
    // The name is free: whoever takes it has another account.
    engine.open_account("acme", 7).unwrap();
    engine.decide(&request(CHEAP), Some("#0"), None, None).unwrap();
    let live = engine.balances().unwrap();
    engine.close().unwrap();
    let verified = verify(&storage).unwrap();
    assert_eq!(verified.balances, live);
    assert_eq!(verified.balances[0].0, "#0");
    assert_eq!(ground::open(&storage).balances().unwrap(), live);
}

/// Runs `erase` in one thread and, once it waits for the disk, `meanwhile` in another, which must not wait for it.
fn while_erasing(storage: &Memory, engine: &Engine, resume: impl Fn(), meanwhile: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let erasing = scope.spawn(|| engine.erase(&[3]));
        while storage.waiting() == 0 {
            assert!(!erasing.is_finished(), "an erasure that does not wait");
            std::thread::yield_now();
        }
        let (done, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            meanwhile();
            done.send(()).unwrap();
        });
        // Long enough for any machine; where the steps wait for the erasure, it never ends.
        let went_on = told.recv_timeout(Duration::from_secs(60));
        let waits = !erasing.is_finished();
        resume();
        assert_eq!(erasing.join().unwrap().unwrap().seqs, [3]);
        assert!(waits && went_on.is_ok(), "the steps waited for the erasure");
    });
}

#[test]
fn decisions_go_on_while_an_erasure_reads_the_log() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    storage.stall_reads(true);
    while_erasing(
        &storage,
        &engine,
        || storage.stall_reads(false),
        || {
            let answer = decide(&engine, CHEAP);
            settle(&engine, answer.view.number, 700);
            assert_eq!(engine.balance("acme").unwrap().committed, 700);
        },
    );
    assert_eq!(engine.balances().unwrap()[0].0, "#0");
    engine.close().unwrap();
    let verified = verify(&storage).unwrap();
    assert_eq!((verified.scanned.erased, verified.settlements), (vec![3], 1));
}

#[test]
fn a_name_is_taken_until_its_bytes_are_gone_and_decisions_do_not_wait_for_that() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    storage.stall(true);
    while_erasing(
        &storage,
        &engine,
        || storage.stall(false),
        || {
            // Until the disk has it nothing is erased: the log would be read with this name.
            assert_eq!(
                engine.open_account("acme", 1).unwrap_err().code(),
                "engine.account_exists"
            );
            engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
        },
    );
    assert_eq!(engine.balance("acme").unwrap_err().code(), "engine.unknown_account");
    assert_eq!(engine.balance("#0").unwrap().reserved, 1_400);
    engine.open_account("acme", 7).unwrap();
    let live = engine.balances().unwrap();
    engine.close().unwrap();
    assert_eq!(verify(&storage).unwrap().balances, live);
}

/// Zeroes a private part in place, with its salt, as someone does who can write the directory.
fn blank(storage: &Memory, private: &[u8]) {
    let bytes = storage.contents(SEGMENT_NAME).unwrap();
    let mut windows = bytes.windows(private.len());
    let at = u64::try_from(windows.position(|window| window == private).unwrap()).unwrap();
    let file = storage.open(SEGMENT_NAME, Access::Write).unwrap();
    file.write_at(&vec![0; 32 + private.len()], at - 32).unwrap();
}

#[test]
fn a_name_that_someone_else_has_blanked_stays_taken() {
    let storage = Memory::new();
    let engine = funded(&storage, 100_000);
    engine.open_account("beta", 7).unwrap();
    decide(&engine, CHEAP);
    blank(&storage, b"acme");
    // The erasure of another does not take it along.
    let erased = engine.erase(&[3, 4]).unwrap();
    assert_eq!((erased.seqs, erased.already), (vec![4], vec![3]));
    assert_eq!(engine.balance("acme").unwrap().reserved, 1_400);
    let refused = engine.open_account("acme", 100_000).unwrap_err();
    assert_eq!(refused.code(), "engine.account_exists");
    engine.open_account("beta", 9).unwrap();
    engine.close().unwrap();
    // Nobody recorded that it is erased, so the log says so too.
    let refused = opened_with(&storage, options()).unwrap_err();
    assert_eq!((refused.code(), refused.seq()), ("engine.name_gone", Some(3)));
    assert_eq!(verify(&storage).unwrap_err().code(), "engine.name_gone");
}

#[test]
fn a_log_reads_as_one_whenever_an_erasure_ends_early_and_its_name_is_taken_again() {
    for operation in 1.. {
        let storage = Memory::new();
        let engine = funded(&storage, 100_000);
        storage.fail_at(storage.operations() + operation, Fault::Die(5));
        let reused = engine.erase(&[3]).is_ok()
            && engine
                .open_account("acme", 7)
                .and_then(|(_, step)| engine.wait(step.seq, None))
                .is_ok();
        let lost = storage.after_power_loss(operation);
        ground::restarted(&lost, None);
        for (left, what) in [(storage.after_kill(), "killed"), (lost, "power lost")] {
            let what = format!("operation {operation}, {what}");
            let verified = verify(&left).unwrap_or_else(|error| panic!("{what}: {error}"));
            let balances = ground::open(&left).balances().unwrap();
            let names: Vec<_> = balances.iter().map(|(name, _)| name.as_str()).collect();
            // One step may be in the log that was never acknowledged.
            assert!(
                names == ["#0", "acme"] || (!reused && (names == ["acme"] || names == ["#0"])),
                "{what}: {names:?}"
            );
            assert_eq!(names[0] == "#0", !verified.scanned.erased.is_empty(), "{what}");
        }
        if reused {
            break;
        }
    }
}

#[test]
fn records_carry_the_time_of_the_engines_clock() {
    let storage = Memory::new();
    let (options, clock) = ground::clocked(5_000);
    let engine = opened_with(&storage, options).unwrap();
    clock.advance_to(9_000);
    engine.open_account("acme", 1).unwrap();
    clock.advance_to(8_000);
    engine.top_up("acme", 1).unwrap();
    engine.close().unwrap();
    let mut times = Vec::new();
    decidable_engine::read(&storage, &decidable_wal::ScanOptions::default(), |framed, _, _| {
        times.push(framed.time_ns);
        Ok(())
    })
    .unwrap();
    assert_eq!(times, [5_000, 5_000, 9_000, 9_000, 9_000]);
}

#[test]
fn threads_on_one_account_near_its_limit_conserve_every_unit() {
    let storage = Memory::new();
    let engine = opened_with(
        &storage,
        Options {
            sync: Durability::None,
            ..options()
        },
    )
    .unwrap();
    engine.open_account("acme", 50_000).unwrap();
    let (held, denied) = (
        std::sync::atomic::AtomicU64::new(0),
        std::sync::atomic::AtomicU64::new(0),
    );
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (engine, held, denied) = (&engine, &held, &denied);
            scope.spawn(move || {
                for step in 0..100 {
                    let answer = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
                    if answer.view.standing.is_none() {
                        denied.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    held.fetch_add(1, Ordering::Relaxed);
                    let number = answer.view.number;
                    match (thread + step) % 3 {
                        0 => drop(engine.cancel(number).unwrap()),
                        1 => drop(engine.settle(number, cost(20)).unwrap()),
                        _ => drop(engine.settle(number, cost(0)).unwrap()),
                    }
                    assert!(conserved(&engine.balance("acme").unwrap()));
                }
            });
        }
    });
    let balance = engine.balance("acme").unwrap();
    assert!(conserved(&balance) && balance.reserved == 0);
    assert_eq!(held.into_inner() + denied.into_inner(), 800);
    engine.close().unwrap();
    let verified = verify(&storage).unwrap();
    assert_eq!((verified.decisions, verified.balances[0].1), (800, balance));
}

#[test]
fn a_log_is_refused_by_who_has_another_key_or_none() {
    let storage = Memory::new();
    let key = ground::key();
    opened_with(
        &storage,
        Options {
            key: Some(key.clone()),
            ..options()
        },
    )
    .unwrap()
    .close()
    .unwrap();
    let other = decidable_canon::Key::new(&[1; 32]).unwrap();
    let open = |key| {
        opened_with(&storage, Options { key, ..options() })
            .map(drop)
            .unwrap_err()
            .code()
    };
    assert_eq!(
        (open(None), open(Some(other.clone()))),
        ("wal.key_missing", "wal.wrong_key")
    );
    assert_eq!(
        verify_with(&storage, Some(other), None, None).unwrap_err().code(),
        "wal.wrong_key"
    );
    assert!(
        verify_with(&storage, Some(key.clone()), None, None)
            .unwrap()
            .scanned
            .sealed
    );
    // Everything but the seals can be checked by anyone.
    assert!(!verify(&storage).unwrap().scanned.sealed);

    let open_log = Memory::new();
    ground::open(&open_log).close().unwrap();
    let error = opened_with(
        &open_log,
        Options {
            key: Some(key),
            ..options()
        },
    )
    .unwrap_err();
    assert_eq!(error.code(), "wal.not_keyed");

    let held = ground::open(&open_log);
    assert_eq!(opened_with(&open_log, options()).unwrap_err().code(), "wal.locked");
    drop(held);
    ground::open(&open_log).close().unwrap();
}

#[test]
fn a_free_candidate_is_held_and_charged_later() {
    let storage = Memory::new();
    let engine = funded(&storage, 100);
    let answer = decide(&engine, FREE);
    assert_eq!(
        (answer.view.ticket.held(), answer.view.standing),
        (Some(0), Some(Standing::Held))
    );
    settle(&engine, 1, 60);
    assert_eq!(engine.balance("acme").unwrap().committed, 60);
    engine.close().unwrap();
    verify(&storage).unwrap();
}

#[test]
fn an_error_names_its_place_and_reads_on_one_line() {
    let storage = Memory::new();
    let error = verify(&storage).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Log(_)));
    assert_eq!((error.code(), error.seq()), ("wal.not_found", None));
    let engine = funded(&storage, 1);
    let error = engine.settle(5, cost(1)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Replay(_)) && error.seq().is_none());
    assert_eq!(error.to_string(), "no ticket 5 is known");
}
