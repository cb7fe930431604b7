//! Many threads on one ledger: conservation in every snapshot, no legal hold refused, one settlement a hold.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    hint,
    sync::{
        Barrier,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use decidable_ledger::{AccountId, Denial, ErrorKind, HoldId, Ledger, Reserve};

const THREADS: u64 = 16;
const ROUNDS: u64 = 10_000;
/// What one thread may have held, or spent and not yet given back, at any moment.
const SHARE: i64 = 1_000;
const LIMIT: i64 = SHARE * 16;

/// A small generator, so that a run can be told from its seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

fn held(ledger: &Ledger, account: AccountId, hold: HoldId, amount: i64) {
    match ledger.reserve(account, hold, amount).unwrap() {
        Reserve::Held { balance, .. } => {
            assert_eq!(
                balance.remaining + balance.reserved + balance.committed,
                balance.initial
            );
            assert!(balance.remaining >= 0 && balance.reserved >= amount && balance.committed >= 0);
        }
        Reserve::Denied { reason, balance } => panic!("a legal hold of {amount} was denied: {reason:?} {balance:?}"),
    }
}

/// A thread at work: it is counted until it ends, also by a failed assertion, so that nobody waits for it for ever.
struct AtWork<'a>(&'a AtomicU64);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// How a thread settles what it holds.
#[derive(Clone, Copy, Debug)]
enum Settle {
    /// Commits all of it or a part, and tops the account up by what it spent before it reserves again.
    Commit,
    /// Releases it, or commits nothing.
    Release,
    /// Commits a part, and the account has funds enough for all of it: only the cap is near.
    Spend,
}

/// Every thread keeps to its share of `LIMIT`, so every reserve is legal; three other threads ask for what can never be
/// granted, take snapshots and verify.
fn no_legal_hold_is_refused(settle: Settle, cap: Option<i64>, seed: u64) {
    let ledger = Ledger::new();
    let funds = match settle {
        Settle::Spend => LIMIT + SHARE * i64::try_from(THREADS * ROUNDS).unwrap(),
        Settle::Commit | Settle::Release => LIMIT,
    };
    let account = ledger.open_account("near its limit", funds).unwrap();
    ledger.set_cap(account, cap).unwrap();
    let (spent, given) = (AtomicI64::new(0), AtomicI64::new(0));
    let working = AtomicU64::new(THREADS);
    let start = Barrier::new(usize::try_from(THREADS + 3).unwrap());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (ledger, start, working, spent, given) = (&ledger, &start, &working, &spent, &given);
            scope.spawn(move || {
                let _at_work = AtWork(working);
                let mut numbers = Numbers(seed * 1_000 + number);
                start.wait();
                for round in 0..ROUNDS {
                    let hold = HoldId(number * ROUNDS + round);
                    // Mostly the whole share, so that all threads together stand at the limit.
                    let amount = if numbers.below(4) > 0 {
                        SHARE
                    } else {
                        1 + numbers.below(SHARE)
                    };
                    held(ledger, account, hold, amount);
                    let actual = match settle {
                        Settle::Release => 0,
                        Settle::Commit | Settle::Spend => {
                            [0, amount, numbers.below(amount + 1)][usize::try_from(numbers.below(3)).unwrap()]
                        }
                    };
                    if actual == 0 && numbers.below(2) == 0 {
                        let balance = ledger.release(hold).unwrap();
                        assert_eq!(
                            balance.remaining + balance.reserved + balance.committed,
                            balance.initial
                        );
                    } else {
                        let commit = ledger.commit(hold, actual).unwrap();
                        let balance = commit.balance;
                        assert_eq!(
                            (commit.charged, commit.returned, commit.debt),
                            (actual, amount - actual, 0)
                        );
                        assert_eq!(
                            balance.remaining + balance.reserved + balance.committed,
                            balance.initial
                        );
                        assert!(balance.reserved >= 0 && balance.committed >= actual && balance.debt == 0);
                    }
                    spent.fetch_add(actual, SeqCst);
                    if matches!(settle, Settle::Commit) && actual > 0 {
                        ledger.top_up(account, actual).unwrap();
                        given.fetch_add(actual, SeqCst);
                    }
                }
            });
        }
        scope.spawn(|| {
            start.wait();
            let hold = HoldId(u64::MAX);
            while working.load(SeqCst) > 0 {
                let answer = ledger.reserve(account, hold, funds + SHARE * i64::try_from(THREADS * ROUNDS).unwrap());
                let Reserve::Denied { reason, balance } = answer.unwrap() else {
                    panic!("more was granted than there is");
                };
                let expected = if cap.is_some() {
                    Denial::OverCap
                } else {
                    Denial::Insufficient
                };
                assert_eq!(reason, expected);
                assert_eq!(
                    balance.remaining + balance.reserved + balance.committed,
                    balance.initial
                );
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            start.wait();
            while working.load(SeqCst) > 0 {
                let snapshot = ledger.snapshot();
                snapshot.verify().unwrap();
                let seen = snapshot.account("near its limit").unwrap();
                assert!(seen.reserved <= LIMIT && seen.debt == 0);
                assert!(snapshot.active_holds() <= THREADS);
                let balance = ledger.balance(account).unwrap();
                assert_eq!(
                    balance.remaining + balance.reserved + balance.committed,
                    balance.initial
                );
                assert!(balance.reserved <= LIMIT && balance.committed >= seen.committed);
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            start.wait();
            while working.load(SeqCst) > 0 {
                ledger.verify().unwrap();
                thread::yield_now();
            }
        });
    });
    ledger.verify().unwrap();
    let balance = ledger.balance(account).unwrap();
    assert_eq!(balance.reserved, 0);
    assert_eq!(balance.committed, spent.load(SeqCst));
    assert_eq!(balance.initial, funds + given.load(SeqCst));
    assert_eq!(balance.remaining, balance.initial - balance.committed);
    assert!(ledger.holds().is_empty());
}

#[test]
fn no_legal_hold_is_refused_where_holds_are_committed() {
    no_legal_hold_is_refused(Settle::Commit, None, 1);
}

#[test]
fn no_legal_hold_is_refused_where_holds_are_committed_under_a_cap() {
    no_legal_hold_is_refused(Settle::Commit, Some(LIMIT), 2);
}

#[test]
fn no_legal_hold_is_refused_where_holds_are_released() {
    no_legal_hold_is_refused(Settle::Release, None, 3);
}

#[test]
fn no_legal_hold_is_refused_where_holds_are_released_under_a_cap() {
    no_legal_hold_is_refused(Settle::Release, Some(LIMIT), 4);
}

#[test]
fn no_legal_hold_is_refused_where_only_the_cap_is_near() {
    no_legal_hold_is_refused(Settle::Spend, Some(LIMIT), 5);
}

#[test]
fn what_is_granted_never_exceeds_the_limit() {
    // More is asked than there is: 16 threads want twice their share. What they hold together is counted beside.
    let ledger = Ledger::new();
    let account = ledger.open_account("asked for more", LIMIT).unwrap();
    let granted = AtomicI64::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (ledger, granted) = (&ledger, &granted);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let hold = HoldId(number * ROUNDS + round);
                    match ledger.reserve(account, hold, 2 * SHARE).unwrap() {
                        Reserve::Held { .. } => {
                            let now = granted.fetch_add(2 * SHARE, SeqCst) + 2 * SHARE;
                            assert!(now <= LIMIT, "{now} granted of {LIMIT}");
                            if round % 16 == number {
                                thread::yield_now();
                            }
                            granted.fetch_sub(2 * SHARE, SeqCst);
                            ledger.release(hold).unwrap();
                        }
                        Reserve::Denied { reason, balance } => {
                            assert_eq!(reason, Denial::Insufficient);
                            assert!(balance.remaining < 2 * SHARE, "{balance:?}");
                        }
                    }
                }
            });
        }
    });
    ledger.verify().unwrap();
    assert_eq!(ledger.balance(account).unwrap().remaining, LIMIT);
}

#[test]
fn as_many_holds_are_granted_as_the_limit_has_room_for() {
    // 16 threads want twice their share and keep it: eight have it, whoever comes first.
    for (funds, cap, expected) in [
        (LIMIT, None, Denial::Insufficient),
        (2 * LIMIT, Some(LIMIT), Denial::OverCap),
    ] {
        let ledger = Ledger::new();
        let account = ledger.open_account("kept", funds).unwrap();
        ledger.set_cap(account, cap).unwrap();
        for round in 0..100 {
            let start = Barrier::new(usize::try_from(THREADS).unwrap());
            let granted = AtomicU64::new(0);
            thread::scope(|scope| {
                for number in 0..THREADS {
                    let (ledger, start, granted) = (&ledger, &start, &granted);
                    scope.spawn(move || {
                        start.wait();
                        let hold = HoldId(round * THREADS + number);
                        match ledger.reserve(account, hold, 2 * SHARE).unwrap() {
                            Reserve::Held { .. } => drop(granted.fetch_add(1, SeqCst)),
                            Reserve::Denied { reason, .. } => assert_eq!(reason, expected),
                        }
                    });
                }
            });
            assert_eq!(granted.load(SeqCst), THREADS / 2);
            for hold in ledger.holds() {
                ledger.release(hold.id).unwrap();
            }
        }
        ledger.verify().unwrap();
    }
}

#[test]
fn two_threads_that_want_the_last_of_it_get_it_once() {
    // Two threads begin each round together, give or take some steps of a processor: what fits once is granted once.
    let rounds = 60_000_u64;
    let ledger = Ledger::new();
    let account = ledger.open_account("the last of it", 1).unwrap();
    let (round, answered, granted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let ask = |number: u64| {
        if let Reserve::Held { .. } = ledger.reserve(account, HoldId(number), 1).unwrap() {
            granted.fetch_add(1, SeqCst);
        }
    };
    let mut numbers = Numbers(7);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            for now in 1..=rounds {
                await_round(&round, now);
                ask(2 * now);
                answered.store(now, SeqCst);
            }
        });
        for now in 1..=rounds {
            round.store(now, SeqCst);
            for _ in 0..numbers.below(60) {
                hint::spin_loop();
            }
            ask(2 * now + 1);
            while answered.load(SeqCst) < now && !other.is_finished() {
                thread::yield_now();
            }
            // Nothing is asserted before the last round: the other thread would wait for ever.
            for hold in ledger.holds() {
                ledger.release(hold.id).unwrap();
            }
        }
    });
    assert_eq!(granted.load(SeqCst), rounds);
    ledger.verify().unwrap();
}

fn await_round(round: &AtomicU64, now: u64) {
    let mut looks = 0_u32;
    while round.load(SeqCst) < now {
        looks += 1;
        if looks.is_multiple_of(1_000) {
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

#[test]
fn a_hold_settles_once_from_any_number_of_threads() {
    let ledger = Ledger::new();
    let account = ledger.open_account("settled", i64::MAX).unwrap();
    let (spent, settled) = (AtomicI64::new(0), AtomicU64::new(0));
    let holds = 5_000;
    for number in 0..holds {
        held(&ledger, account, HoldId(number), 100);
    }
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for number in 0..4_i64 {
            let (ledger, spent, settled, start) = (&ledger, &spent, &settled, &start);
            scope.spawn(move || {
                start.wait();
                for hold in (0..holds).map(HoldId) {
                    // Part of it, all of it, more than it, nothing.
                    let actual = [40, 100, 160, 0][usize::try_from(number).unwrap()];
                    let answer = if actual == 0 {
                        ledger.release(hold).map(|_| ())
                    } else {
                        ledger.commit(hold, actual).map(|_| ())
                    };
                    match answer {
                        Ok(()) => {
                            spent.fetch_add(actual, SeqCst);
                            settled.fetch_add(1, SeqCst);
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::UnknownHold),
                    }
                }
            });
        }
    });
    ledger.verify().unwrap();
    assert_eq!(settled.load(SeqCst), holds);
    let balance = ledger.balance(account).unwrap();
    assert_eq!((balance.reserved, balance.committed), (0, spent.load(SeqCst)));
}

#[test]
fn one_number_is_one_hold_from_any_number_of_threads() {
    let ledger = Ledger::new();
    let account = ledger.open_account("one number", 10).unwrap();
    for number in 0..300 {
        let won = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match ledger.reserve(account, HoldId(number), 10) {
                    Ok(Reserve::Held { .. }) => {
                        won.fetch_add(1, SeqCst);
                    }
                    Ok(Reserve::Denied { .. }) => panic!("the number is taken before the funds are asked"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::HoldInUse),
                });
            }
        });
        assert_eq!(won.load(SeqCst), 1);
        ledger.release(HoldId(number)).unwrap();
    }
    ledger.verify().unwrap();
}

#[test]
fn what_is_spent_beyond_the_funds_is_debt_and_nothing_is_lost() {
    let ledger = Ledger::new();
    let accounts: Vec<AccountId> = (0..3)
        .map(|number| ledger.open_account(&format!("overrun {number}"), 5_000).unwrap())
        .collect();
    let spent: Vec<AtomicI64> = (0..3).map(|_| AtomicI64::new(0)).collect();
    let given: Vec<AtomicI64> = (0..3).map(|_| AtomicI64::new(5_000)).collect();
    let (working, indebted) = (AtomicU64::new(8), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..8_u64 {
            let (ledger, accounts, working) = (&ledger, &accounts, &working);
            let (spent, given, indebted) = (&spent, &given, &indebted);
            scope.spawn(move || {
                let _at_work = AtWork(working);
                let mut numbers = Numbers(number);
                for round in 0..4_000 {
                    let hold = HoldId(number * 4_000 + round);
                    let at = usize::try_from(numbers.below(3)).unwrap();
                    let amount = 1 + numbers.below(300);
                    if let Reserve::Denied { balance, .. } = ledger.reserve(accounts[at], hold, amount).unwrap() {
                        assert!(balance.remaining < amount);
                        let more = 1 + numbers.below(900);
                        let balance = ledger.top_up(accounts[at], more).unwrap();
                        assert!(balance.debt == 0 || balance.remaining == 0);
                        given[at].fetch_add(more, SeqCst);
                        continue;
                    }
                    let actual = numbers.below(amount * 2);
                    let commit = ledger.commit(hold, actual).unwrap();
                    assert_eq!(commit.charged + commit.debt, actual);
                    assert!(commit.balance.debt == 0 || commit.balance.remaining == 0);
                    if commit.debt > 0 {
                        indebted.fetch_add(1, SeqCst);
                    }
                    spent[at].fetch_add(actual, SeqCst);
                }
            });
        }
        scope.spawn(|| {
            while working.load(SeqCst) > 0 {
                ledger.verify().unwrap();
                ledger.snapshot().verify().unwrap();
                thread::yield_now();
            }
        });
    });
    ledger.verify().unwrap();
    assert!(indebted.load(SeqCst) > 0, "nobody spent beyond the funds");
    for ((account, spent), given) in accounts.iter().zip(&spent).zip(&given) {
        let balance = ledger.balance(*account).unwrap();
        assert_eq!(balance.reserved, 0);
        assert_eq!(balance.initial, given.load(SeqCst));
        assert_eq!(balance.committed + balance.debt, spent.load(SeqCst));
    }
}

#[test]
fn a_cap_that_was_lowered_is_never_exceeded_afterwards() {
    let ledger = Ledger::new();
    let account = ledger.open_account("capped", i64::MAX).unwrap();
    let (capping, working, held) = (AtomicU64::new(1), AtomicU64::new(4), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..4_u64 {
            let (ledger, capping, working, held) = (&ledger, &capping, &working, &held);
            scope.spawn(move || {
                let _at_work = AtWork(working);
                let mut round = 0;
                while capping.load(SeqCst) > 0 {
                    let hold = HoldId(number << 32 | round);
                    round += 1;
                    if let Reserve::Held { .. } = ledger.reserve(account, hold, 50).unwrap() {
                        held.fetch_add(1, SeqCst);
                        ledger.commit(hold, 20).unwrap();
                    }
                }
            });
        }
        let _at_work = AtWork(&capping);
        for _ in 0..2_000 {
            // Somebody holds while there is no cap, so that there is something in flight when it comes.
            let before = held.load(SeqCst);
            while held.load(SeqCst) == before && working.load(SeqCst) == 4 {
                thread::yield_now();
            }
            ledger.set_cap(account, Some(0)).unwrap();
            let first = ledger.balance(account).unwrap().reserved;
            let second = ledger.balance(account).unwrap().reserved;
            assert!(
                second <= first,
                "reserved rose from {first} to {second} above a cap of 0"
            );
            ledger.set_cap(account, None).unwrap();
        }
    });
    assert!(held.load(SeqCst) >= 2_000);
    ledger.verify().unwrap();
}

#[test]
fn accounts_opened_by_many_threads_are_numbered_without_gaps() {
    let ledger = Ledger::new();
    thread::scope(|scope| {
        for number in 0..8 {
            let ledger = &ledger;
            scope.spawn(move || {
                for round in 0..200 {
                    let name = format!("{number}/{round}");
                    let account = ledger.open_account(&name, round).unwrap();
                    assert_eq!(ledger.account(&name), Some(account));
                    assert_eq!(ledger.balance(account).unwrap().initial, round);
                    assert_eq!(
                        ledger.open_account(&name, 1).unwrap_err().kind(),
                        ErrorKind::AccountExists
                    );
                }
            });
        }
    });
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.accounts().len(), 1_600);
    assert_eq!(snapshot.version(), 1_600);
    let numbers: BTreeSet<u32> = snapshot
        .accounts()
        .iter()
        .map(|account| ledger.account(&account.name).unwrap().0)
        .collect();
    assert_eq!(numbers, (0..1_600).collect());
}
