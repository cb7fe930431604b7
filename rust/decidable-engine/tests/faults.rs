//! Every operation on the disk fails once, in turn, until nothing fails any more; and the power goes at every moment.
//! What is there afterwards is the beginning of what was done, step by step, with all that was acknowledged; the books
//! are those that plain arithmetic has at that step; and whoever was not acknowledged was told why.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod ground;

use std::collections::BTreeMap;
use std::io;

use decidable_canon::Key;
use decidable_engine::{Engine, Error, Options, Standing};
use decidable_ledger::Balance;
use decidable_replay::{Record, Status, Ticket};
use decidable_wal::{Fault, Memory, SEGMENT_NAME};
use ground::{CHEAP, cost, opened_with, options, request, restarted, verify_with};

const FUNDS: i64 = 100_000;
/// What the cheap candidate costs for the request.
const HELD: i64 = 1_400;
const WORDS: &str = "private words";

/// One step of what is done: a record of its own, in a batch of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Install,
    Open,
    Decide { ticket: u64, key: bool },
    Settle { ticket: u64, cost: u64 },
    Cancel { ticket: u64 },
}

/// Everything that is done, in order; opening the engine is the first step.
fn script() -> Vec<Do> {
    let mut script = vec![Do::Install, Do::Open];
    for round in 0..4 {
        let ticket = 2 * round + 1;
        script.push(Do::Decide { ticket, key: true });
        script.push(Do::Decide {
            ticket: ticket + 1,
            key: false,
        });
        script.push(match round % 2 {
            0 => Do::Settle {
                ticket,
                cost: 500 + round,
            },
            _ => Do::Cancel { ticket },
        });
    }
    script
}

/// What became of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    Open,
    Settled(u64),
    Cancelled,
}

/// The books after the first steps of the script, by plain arithmetic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    account: bool,
    tickets: BTreeMap<u64, Became>,
}

impl Books {
    fn after(steps: &[Do]) -> Self {
        let mut books = Self::default();
        for step in steps {
            match *step {
                Do::Install => {}
                Do::Open => books.account = true,
                Do::Decide { ticket, .. } => drop(books.tickets.insert(ticket, Became::Open)),
                Do::Settle { ticket, cost } => drop(books.tickets.insert(ticket, Became::Settled(cost))),
                Do::Cancel { ticket } => drop(books.tickets.insert(ticket, Became::Cancelled)),
            }
        }
        books
    }
    fn balances(&self) -> Vec<(String, Balance)> {
        let (mut reserved, mut committed) = (0, 0);
        for became in self.tickets.values() {
            match became {
                Became::Open => reserved += HELD,
                Became::Settled(cost) => committed += i64::try_from(*cost).unwrap(),
                Became::Cancelled => {}
            }
        }
        let balance = Balance {
            initial: FUNDS,
            remaining: FUNDS - reserved - committed,
            reserved,
            committed,
            debt: 0,
            cap: None,
        };
        self.account.then(|| ("acme".to_owned(), balance)).into_iter().collect()
    }
    /// What an engine says of its tickets.
    fn of(engine: &Engine) -> Self {
        let mut tickets = BTreeMap::new();
        for number in 1.. {
            let view = match engine.ticket(number) {
                Ok(view) => view,
                Err(error) => {
                    assert_eq!(error.code(), "replay.unknown_ticket");
                    break;
                }
            };
            let Ticket::Decided { status, .. } = view.ticket else {
                panic!("{number} is no decision")
            };
            let became = match status {
                Status::Open(_) => Became::Open,
                Status::Settled { record, .. } => Became::Settled(u64::try_from(record.charged).unwrap()),
                Status::Cancelled { .. } => Became::Cancelled,
                Status::Closed => panic!("{number} was refused"),
            };
            // Nobody of this process has acted on what an earlier one left open.
            assert_eq!(view.standing, (became == Became::Open).then_some(Standing::InDoubt));
            tickets.insert(number, became);
        }
        Self {
            account: !engine.balances().unwrap().is_empty(),
            tickets,
        }
    }
}

/// How far it went: so many steps were acknowledged, and at most one more was on its way when it ended.
#[derive(Clone, Copy, Debug)]
struct Went {
    acknowledged: usize,
    at_most: usize,
}

fn opened(storage: &Memory, key: bool) -> Result<Engine, Error> {
    opened_with(
        storage,
        Options {
            key: sealed(key),
            ..options()
        },
    )
}

fn sealed(key: bool) -> Option<Key> {
    key.then(ground::key)
}

/// Does the script until something fails; every step is awaited before the next. `before` steps were done by an earlier
/// session.
fn work(storage: &Memory, key: bool, before: usize) -> (Went, Result<(), Error>) {
    let script = script();
    let engine = match opened(storage, key) {
        Ok(engine) => engine,
        Err(error) => {
            // Either the log could not be opened, or the policy not be written into it.
            let at_most = match error.code() {
                "wal.io" => before,
                "wal.durability_lost" => 1,
                other => panic!("{other}: {error}"),
            };
            let went = Went {
                acknowledged: before,
                at_most,
            };
            return (went, Err(error));
        }
    };
    let mut acknowledged = 1;
    for step in &script[1..] {
        if let Err(error) = perform(&engine, *step) {
            assert_eq!(error.code(), "wal.durability_lost", "{step:?}: {error}");
            // The engine that has failed once takes nothing more and still lets go of the log.
            let later = engine.decide(&request(CHEAP), None, None, None).unwrap_err();
            assert_eq!(later.code(), "wal.poisoned", "{later}");
            assert_eq!(engine.close().unwrap_err().code(), "wal.durability_lost");
            let went = Went {
                acknowledged,
                at_most: acknowledged + 1,
            };
            return (went, Err(error));
        }
        acknowledged += 1;
    }
    let went = Went {
        acknowledged,
        at_most: acknowledged,
    };
    let closed = engine.close().map(drop);
    if let Err(error) = &closed {
        assert_eq!(error.code(), "wal.durability_lost", "{error}");
    }
    (went, closed)
}

fn perform(engine: &Engine, step: Do) -> Result<(), Error> {
    let seq = match step {
        Do::Install => panic!("opening installs"),
        Do::Open => engine.open_account("acme", FUNDS)?.1.seq,
        Do::Decide { ticket, key } => {
            let text = format!("k-{ticket}");
            let (key, words) = if key {
                (Some(text.as_str()), Some(WORDS))
            } else {
                (None, None)
            };
            let answer = engine.decide(&request(CHEAP), Some("acme"), key, words)?;
            assert_eq!(answer.view.number, ticket);
            answer.step.seq
        }
        Do::Settle { ticket, cost: spent } => engine.settle(ticket, cost(spent))?.step.seq,
        Do::Cancel { ticket } => engine.cancel(ticket)?.seq,
    };
    engine.wait(seq, None)
}

/// Whether a record of the log is the step, private part included.
fn is_step(step: Do, found: &ground::Step) -> bool {
    let private = found.private.as_deref();
    match (step, found.record()) {
        (Do::Install, Record::Policy { number: 0, policy, .. }) => {
            policy.digest() == ground::policy(1).digest() && private.is_none()
        }
        (Do::Open, Record::Account { account: 0, balance }) => balance.initial == FUNDS && private == Some(b"acme"),
        (Do::Decide { ticket, key }, Record::Decision(record)) => {
            record.request == request(CHEAP).numbered(ticket)
                && record.caller_key.is_some() == key
                && private == key.then_some(WORDS.as_bytes())
        }
        (Do::Settle { ticket, cost }, Record::Settlement(record)) => {
            (record.ticket, record.used.cost_microunits) == (ticket, Some(cost)) && private.is_none()
        }
        (Do::Cancel { ticket }, Record::Cancellation { ticket: found, .. }) => ticket == found && private.is_none(),
        _ => false,
    }
}

/// The log has a beginning of the script with all that was acknowledged, the engine over it has the books of exactly
/// that, and it can be gone on with.
fn holds(image: &Memory, key: bool, power_lost: bool, went: Went, what: &str) {
    let script = script();
    // Before the first step there need not be a log.
    let found = match image.contents(SEGMENT_NAME) {
        Some(_) => ground::steps(image),
        None => Vec::new(),
    };
    let whole = found.len();
    assert!(
        (went.acknowledged..=went.at_most).contains(&whole),
        "{what}: {whole} steps, and {went:?}"
    );
    for (step, found) in script.iter().zip(&found) {
        assert!(is_step(*step, found), "{what}: {step:?} and {found:?}");
    }
    if power_lost {
        restarted(image, sealed(key));
    }
    let engine = opened(image, key).unwrap_or_else(|error| panic!("{what}: {error}"));
    let books = Books::after(&script[..whole]);
    assert_eq!(engine.balances().unwrap(), books.balances(), "{what}");
    assert_eq!(Books::of(&engine), books, "{what}");
    // What was acknowledged under a key is found again by it; what was not, or cancelled, is decided anew.
    if books.account {
        for (ticket, became) in books.tickets.iter().filter(|(ticket, _)| *ticket % 2 == 1) {
            if *became != Became::Cancelled {
                let again = engine.decide(&request(CHEAP), Some("acme"), Some(&format!("k-{ticket}")), None);
                let again = again.unwrap();
                assert_eq!((again.view.number, again.replayed), (*ticket, true), "{what}");
            }
        }
        let next = engine.decide(&request(CHEAP), Some("acme"), None, None).unwrap();
        assert_eq!(next.view.number, cast(books.tickets.len()) + 1, "{what}");
        engine.wait(next.step.seq, None).unwrap();
        engine.settle(next.view.number, cost(3)).unwrap();
    }
    for view in engine.open_tickets().unwrap() {
        engine.reconcile(view.number, None).unwrap();
    }
    let head = engine.close().unwrap();
    let verified = verify_with(image, sealed(key), Some(head), None).unwrap();
    assert!(
        verified.open_tickets.is_empty() && verified.scanned.tail.is_none(),
        "{what}"
    );
    assert_eq!(
        verified.decisions,
        cast(books.tickets.len()) + u64::from(books.account),
        "{what}"
    );
    opened(image, key).unwrap().close().unwrap();
}

fn cast(count: usize) -> u64 {
    u64::try_from(count).unwrap()
}

#[test]
fn every_operation_can_fail_once() {
    for key in [false, true] {
        for fault in [Fault::Fail(io::ErrorKind::StorageFull), Fault::Short(40)] {
            let mut failed = 0_u64;
            loop {
                let storage = Memory::new();
                storage.fail_at(failed + 1, fault);
                let (went, outcome) = work(&storage, key, 0);
                let what = format!("operation {} with {fault:?}, keyed {key}: {outcome:?}", failed + 1);
                if storage.operations() <= failed {
                    outcome.unwrap();
                    assert_eq!(went.acknowledged, script().len());
                    break;
                }
                assert!(outcome.is_err(), "{what}: it was not noticed");
                holds(&storage.after_kill(), key, false, went, &what);
                for seed in 0..3 {
                    let left = storage.after_power_loss(seed);
                    holds(&left, key, true, went, &format!("{what}, power {seed}"));
                }
                failed += 1;
            }
            assert!(failed > 60, "{failed}");
        }
    }
}

#[test]
fn a_full_disk_refuses_and_with_room_again_the_log_goes_on() {
    for before in [0, 1] {
        let begun = || {
            let storage = Memory::new();
            if before == 1 {
                opened(&storage, false).unwrap().close().unwrap();
            }
            storage
        };
        let full = begun().contents(SEGMENT_NAME).map_or(0, |bytes| bytes.len());
        let mut went_far = 0;
        for room in (0..3_000).step_by(97) {
            let storage = begun();
            storage.limit(Some(full + room));
            let (went, outcome) = work(&storage, false, before);
            let what = format!("{before} steps before, {room} bytes of room: {outcome:?}");
            assert!(outcome.is_err(), "{what}");
            storage.limit(None);
            holds(&storage, false, false, went, &what);
            went_far = went_far.max(went.acknowledged);
        }
        assert!(went_far > 3, "{went_far}");
    }
}
