//! Every operation on the disk fails once, in turn, until nothing fails any more; and the power goes at every moment.
//! What was acknowledged is there afterwards, and all that is there follows.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod ground;

use std::collections::BTreeMap;
use std::io;

use decidable_engine::{Engine, Error, Options, Standing};
use decidable_ledger::Balance;
use decidable_replay::{Record, Status, Ticket};
use decidable_wal::{Fault, Memory};
use ground::{CHEAP, cost, opened_with, options, request, restarted, verify_with};

/// What the caller was told to be durable.
#[derive(Debug, Default)]
struct Acknowledged {
    account: bool,
    decided: BTreeMap<u64, u64>,
    settled: BTreeMap<u64, u64>,
    cancelled: Vec<u64>,
}

fn opened(storage: &Memory, key: bool) -> Result<Engine, Error> {
    opened_with(
        storage,
        Options {
            key: key.then(ground::key),
            ..options()
        },
    )
}

/// Decides, settles and cancels until something fails; every step is awaited before the next.
fn work(storage: &Memory, key: bool, told: &mut Acknowledged) -> Result<(), Error> {
    let engine = opened(storage, key)?;
    let outcome = steps(&engine, told);
    let closing = engine.close();
    if let Err(error) = &outcome {
        assert!(error.code().starts_with("wal."), "{error}");
        // The engine that has failed once takes nothing more and still lets go of the log.
        assert!(engine.decide(&request(CHEAP), Some("acme"), None, None).is_err());
        assert!(closing.is_err());
    }
    outcome?;
    closing.map(drop)
}

fn steps(engine: &Engine, told: &mut Acknowledged) -> Result<(), Error> {
    let (_, step) = engine.open_account("acme", 100_000)?;
    engine.wait(step.seq, None)?;
    told.account = true;
    for round in 0..4_u64 {
        let answer = engine.decide(
            &request(CHEAP),
            Some("acme"),
            Some(&format!("k-{round}")),
            Some("private words"),
        )?;
        engine.wait(answer.step.seq, None)?;
        let number = answer.view.number;
        told.decided.insert(number, answer.step.seq);
        let other = engine.decide(&request(CHEAP), Some("acme"), None, None)?;
        engine.wait(other.step.seq, None)?;
        told.decided.insert(other.view.number, other.step.seq);
        match round % 2 {
            0 => {
                let settled = engine.settle(number, cost(500 + round))?;
                engine.wait(settled.step.seq, None)?;
                told.settled.insert(number, 500 + round);
            }
            _ => {
                engine.wait(engine.cancel(number)?.seq, None)?;
                told.cancelled.push(number);
            }
        }
    }
    Ok(())
}

/// The log has what was acknowledged, nothing that does not follow, and can be gone on with.
fn holds(image: &Memory, key: bool, told: &Acknowledged, what: &str) {
    let engine = match opened(image, key) {
        Ok(engine) => engine,
        Err(error) => {
            // Before the first acknowledgement the log may not even have begun.
            assert!(!told.account, "{what}: {error}");
            return;
        }
    };
    let balances = engine.balances().unwrap();
    assert!(balances.len() == 1 || !told.account, "{what}: {balances:?}");
    for (number, seq) in &told.decided {
        let view = engine.ticket(*number).unwrap();
        assert_eq!(view.ticket.seq(), *seq, "{what}");
        let Ticket::Decided { status, .. } = view.ticket else {
            panic!("{what}: {number} is no decision")
        };
        match (told.settled.get(number), told.cancelled.contains(number), status) {
            (Some(charged), _, Status::Settled { record, .. }) => {
                assert_eq!(u64::try_from(record.charged).unwrap(), *charged, "{what}");
            }
            (None, true, Status::Cancelled { .. }) => {}
            // One step may be in the log that was never acknowledged.
            (None, false, Status::Settled { .. } | Status::Cancelled { .. }) => {}
            (None, false, Status::Open(_)) => assert_eq!(view.standing, Some(Standing::InDoubt), "{what}"),
            (settled, cancelled, status) => panic!("{what}: {number}: {settled:?} {cancelled} {status:?}"),
        }
    }
    if let Some((_, balance)) = balances.first() {
        assert_eq!(*balance, counted(image), "{what}");
        let next = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
        engine.wait(next.step.seq, None).unwrap();
        engine.settle(next.view.number, cost(3)).unwrap();
    }
    for view in engine.open_tickets().unwrap() {
        engine.reconcile(view.number, None).unwrap();
    }
    let head = engine.close().unwrap();
    let verified = verify_with(image, key.then(ground::key), Some(head), &[]).unwrap();
    assert!(
        verified.open_tickets.is_empty() && verified.scanned.tail.is_none(),
        "{what}"
    );
    opened(image, key).unwrap().close().unwrap();
}

/// The balance as plain arithmetic over the records has it.
fn counted(image: &Memory) -> Balance {
    let (mut held, mut balance) = (BTreeMap::new(), None);
    decidable_engine::read(image, &decidable_wal::ScanOptions::default(), |_, entry, _| {
        let decidable_engine::Entry::Step(record) = entry else {
            return Ok(());
        };
        match record {
            Record::Account { balance: opened, .. } => balance = Some(*opened),
            Record::Decision(record) => {
                held.insert(record.request.fields().request_sequence, 1_400);
            }
            Record::Settlement(record) => {
                held.remove(&record.ticket);
                let now = balance.as_mut().unwrap();
                now.committed += i64::try_from(record.used.cost_microunits.unwrap()).unwrap();
            }
            Record::Cancellation { ticket, .. } => drop(held.remove(ticket)),
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    let mut balance = balance.unwrap();
    balance.reserved = held.values().sum();
    balance.remaining = balance.initial - balance.reserved - balance.committed;
    balance
}

#[test]
fn every_operation_can_fail_once() {
    for key in [false, true] {
        for fault in [Fault::Fail(io::ErrorKind::StorageFull), Fault::Short(40)] {
            let mut failed = 0_u64;
            loop {
                let storage = Memory::new();
                storage.fail_at(failed + 1, fault);
                let mut told = Acknowledged::default();
                let outcome = work(&storage, key, &mut told);
                let what = format!("operation {} with {fault:?}, keyed {key}: {outcome:?}", failed + 1);
                if storage.operations() <= failed {
                    outcome.unwrap();
                    break;
                }
                holds(&storage.after_kill(), key, &told, &what);
                for seed in 0..3 {
                    let left = storage.after_power_loss(seed);
                    restarted(&left, key.then(ground::key));
                    holds(&left, key, &told, &format!("{what}, power {seed}"));
                }
                failed += 1;
            }
            assert!(failed > 60, "{failed}");
        }
    }
}

#[test]
fn a_full_disk_refuses_and_with_room_again_the_log_goes_on() {
    let storage = Memory::new();
    opened(&storage, false).unwrap().close().unwrap();
    let full = storage.contents(decidable_wal::SEGMENT_NAME).unwrap().len();
    for room in (0..3_000).step_by(97) {
        let storage = Memory::new();
        opened(&storage, false).unwrap().close().unwrap();
        storage.limit(Some(full + room));
        let mut told = Acknowledged::default();
        let error = work(&storage, false, &mut told).unwrap_err();
        assert!(error.code().starts_with("wal."), "{error}");
        storage.limit(None);
        holds(&storage, false, &told, &format!("{room} bytes of room: {error}"));
    }
}
