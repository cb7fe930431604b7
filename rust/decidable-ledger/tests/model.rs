//! Random operations against plain books in `i128`, written from the rules and not from the code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, thread};

use decidable_ledger::{AccountId, Balance, Commit, Denial, ErrorKind, HoldId, Ledger, Reserve};
use proptest::prelude::*;

const MOST: i128 = (1 << 63) - 1;

#[derive(Clone, Copy, Debug)]
struct Book {
    initial: i128,
    remaining: i128,
    reserved: i128,
    committed: i128,
    debt: i128,
    cap: Option<i128>,
}

impl Book {
    fn new(initial: i128) -> Self {
        Self {
            initial,
            remaining: initial,
            reserved: 0,
            committed: 0,
            debt: 0,
            cap: None,
        }
    }

    /// Money comes back to the account: it repays debt before anything remains.
    fn credit(&mut self, amount: i128) {
        let repaid = amount.min(self.debt);
        self.debt -= repaid;
        self.committed += repaid;
        self.remaining += amount - repaid;
    }

    fn balance(&self) -> Balance {
        let figure = |value: i128| i64::try_from(value).unwrap();
        assert_eq!(self.remaining + self.reserved + self.committed, self.initial);
        assert!(self.debt == 0 || self.remaining == 0);
        for part in [self.remaining, self.reserved, self.committed, self.debt] {
            assert!(part >= 0);
        }
        Balance {
            initial: figure(self.initial),
            remaining: figure(self.remaining),
            reserved: figure(self.reserved),
            committed: figure(self.committed),
            debt: figure(self.debt),
            cap: self.cap.map(figure),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Model {
    books: Vec<Book>,
    open: BTreeMap<u64, (usize, i128)>,
    changes: u64,
}

impl Model {
    fn open(&mut self, initial: i64) -> Result<AccountId, ErrorKind> {
        if initial < 0 {
            return Err(ErrorKind::InvalidAmount);
        }
        self.books.push(Book::new(initial.into()));
        self.changes += 1;
        Ok(AccountId(u32::try_from(self.books.len() - 1).unwrap()))
    }

    fn set_cap(&mut self, account: usize, cap: Option<i64>) -> Result<(), ErrorKind> {
        if cap.is_some_and(|cap| cap < 0) {
            return Err(ErrorKind::InvalidAmount);
        }
        let book = self.books.get_mut(account).ok_or(ErrorKind::UnknownAccount)?;
        book.cap = cap.map(i128::from);
        self.changes += 1;
        Ok(())
    }

    fn reserve(&mut self, account: usize, hold: u64, amount: i64) -> Result<Reserve, ErrorKind> {
        if amount < 0 {
            return Err(ErrorKind::InvalidAmount);
        }
        let amount = i128::from(amount);
        let book = self.books.get_mut(account).ok_or(ErrorKind::UnknownAccount)?;
        if self.open.contains_key(&hold) {
            return Err(ErrorKind::HoldInUse);
        }
        let reserved = book.reserved + amount;
        let reason = if reserved > MOST {
            Denial::Overflow
        } else if book.cap.is_some_and(|cap| reserved > cap) {
            Denial::OverCap
        } else if amount > book.remaining || book.debt > 0 {
            Denial::Insufficient
        } else {
            book.remaining -= amount;
            book.reserved += amount;
            self.open.insert(hold, (account, amount));
            self.changes += 1;
            return Ok(Reserve::Held {
                hold: HoldId(hold),
                balance: book.balance(),
            });
        };
        Ok(Reserve::Denied {
            reason,
            balance: book.balance(),
        })
    }

    fn commit(&mut self, hold: u64, actual: i64) -> Result<Commit, ErrorKind> {
        if actual < 0 {
            return Err(ErrorKind::InvalidAmount);
        }
        let actual = i128::from(actual);
        let (account, amount) = *self.open.get(&hold).ok_or(ErrorKind::UnknownHold)?;
        let mut book = self.books[account];
        book.reserved -= amount;
        let from_hold = actual.min(amount);
        book.committed += from_hold;
        book.credit(amount - from_hold);
        let from_remaining = (actual - from_hold).min(book.remaining);
        book.remaining -= from_remaining;
        book.committed += from_remaining;
        let debt = actual - from_hold - from_remaining;
        book.debt += debt;
        if book.debt > MOST {
            return Err(ErrorKind::Overflow);
        }
        self.books[account] = book;
        self.open.remove(&hold);
        self.changes += 1;
        Ok(Commit {
            account: AccountId(u32::try_from(account).unwrap()),
            charged: i64::try_from(from_hold + from_remaining).unwrap(),
            returned: i64::try_from(amount - from_hold).unwrap(),
            debt: i64::try_from(debt).unwrap(),
            balance: book.balance(),
        })
    }

    fn release(&mut self, hold: u64) -> Result<Balance, ErrorKind> {
        let (account, amount) = self.open.remove(&hold).ok_or(ErrorKind::UnknownHold)?;
        let book = &mut self.books[account];
        book.reserved -= amount;
        book.credit(amount);
        self.changes += 1;
        Ok(book.balance())
    }

    fn top_up(&mut self, account: usize, amount: i64) -> Result<Balance, ErrorKind> {
        if amount <= 0 {
            return Err(ErrorKind::InvalidAmount);
        }
        let book = self.books.get_mut(account).ok_or(ErrorKind::UnknownAccount)?;
        if book.initial + i128::from(amount) > MOST {
            return Err(ErrorKind::Overflow);
        }
        book.initial += i128::from(amount);
        book.credit(amount.into());
        self.changes += 1;
        Ok(book.balance())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Open(i64),
    SetCap(usize, Option<i64>),
    Reserve(usize, u64, i64),
    Commit(u64, i64),
    /// Commits what the hold has, and this much more or less.
    CommitNear(u64, i64),
    /// Reserves what remains, and this much more or less.
    ReserveNear(usize, u64, i64),
    Release(u64),
    TopUp(usize, i64),
    /// Two threads settle one hold at once: a commit of this amount and a release.
    Race(u64, i64),
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 1_i64..200,
        2 => 1_i64..2_000_000,
        1 => -2_i64..=0,
        2 => (i64::MAX - 200)..=i64::MAX,
        1 => (i64::MAX / 2 - 2)..=(i64::MAX / 2 + 2),
        1 => any::<i64>(),
    ]
}

fn operation() -> impl Strategy<Value = Op> {
    let account = || 0_usize..4;
    let hold = || 0_u64..12;
    prop_oneof![
        1 => prop_oneof![2 => 0_i64..500, 1 => Just(0), 1 => amount()].prop_map(Op::Open),
        2 => (account(), prop::option::of(prop_oneof![3 => 0_i64..400, 1 => amount()])).prop_map(|(a, cap)| Op::SetCap(a, cap)),
        8 => (account(), hold(), amount()).prop_map(|(a, h, x)| Op::Reserve(a, h, x)),
        4 => (account(), hold(), -2_i64..=1).prop_map(|(a, h, x)| Op::ReserveNear(a, h, x)),
        6 => (hold(), amount()).prop_map(|(h, x)| Op::Commit(h, x)),
        6 => (hold(), -60_i64..60).prop_map(|(h, x)| Op::CommitNear(h, x)),
        4 => hold().prop_map(Op::Release),
        3 => (account(), amount()).prop_map(|(a, x)| Op::TopUp(a, x)),
        1 => (hold(), 0_i64..150).prop_map(|(h, x)| Op::Race(h, x)),
    ]
}

struct Both {
    ledger: Ledger,
    model: Model,
}

impl Both {
    fn id(account: usize) -> AccountId {
        AccountId(u32::try_from(account).unwrap())
    }

    fn reserve(&mut self, account: usize, hold: u64, amount: i64) {
        let ours = self.ledger.reserve(Self::id(account), HoldId(hold), amount);
        assert_eq!(ours.map_err(|e| e.kind()), self.model.reserve(account, hold, amount));
    }

    fn commit(&mut self, hold: u64, actual: i64) {
        let ours = self.ledger.commit(HoldId(hold), actual);
        assert_eq!(ours.map_err(|e| e.kind()), self.model.commit(hold, actual));
    }

    fn race(&mut self, hold: u64, actual: i64) {
        let (commit, release) = thread::scope(|scope| {
            let commit = scope.spawn(|| self.ledger.commit(HoldId(hold), actual));
            let release = self.ledger.release(HoldId(hold));
            (commit.join().unwrap(), release)
        });
        let kind = |error: decidable_ledger::Error| error.kind();
        if commit.is_ok() || release.is_err() {
            assert_eq!(commit.map_err(kind), self.model.commit(hold, actual));
            assert_eq!(release.map_err(kind), Err(ErrorKind::UnknownHold));
        } else {
            assert_eq!(commit.map_err(kind), Err(ErrorKind::UnknownHold));
            assert_eq!(release.map_err(kind), self.model.release(hold));
        }
    }

    fn apply(&mut self, op: &Op) {
        let kind = |error: decidable_ledger::Error| error.kind();
        match *op {
            Op::Open(initial) => {
                let name = format!("account {}", self.model.books.len());
                let ours = self.ledger.open_account(&name, initial);
                assert_eq!(ours.map_err(kind), self.model.open(initial));
            }
            Op::SetCap(account, cap) => {
                let ours = self.ledger.set_cap(Self::id(account), cap);
                assert_eq!(ours.map_err(kind), self.model.set_cap(account, cap));
            }
            Op::Reserve(account, hold, amount) => self.reserve(account, hold, amount),
            Op::ReserveNear(account, hold, more) => {
                let remaining = self.model.books.get(account).map_or(0, |book| book.remaining);
                self.reserve(account, hold, i64::try_from(remaining).unwrap().saturating_add(more));
            }
            Op::Commit(hold, actual) => self.commit(hold, actual),
            Op::CommitNear(hold, more) => {
                let amount = self.model.open.get(&hold).map_or(0, |(_, amount)| *amount);
                self.commit(hold, i64::try_from(amount).unwrap().saturating_add(more));
            }
            Op::Release(hold) => {
                let ours = self.ledger.release(HoldId(hold));
                assert_eq!(ours.map_err(kind), self.model.release(hold));
            }
            Op::TopUp(account, amount) => {
                let ours = self.ledger.top_up(Self::id(account), amount);
                assert_eq!(ours.map_err(kind), self.model.top_up(account, amount));
            }
            Op::Race(hold, actual) => self.race(hold, actual),
        }
    }

    fn agree(&self) {
        self.ledger.verify().unwrap();
        let snapshot = self.ledger.snapshot();
        snapshot.verify().unwrap();
        assert_eq!(snapshot.version(), self.model.changes);
        assert_eq!(snapshot.accounts().len(), self.model.books.len());
        for (number, book) in self.model.books.iter().enumerate() {
            let balance = book.balance();
            assert_eq!(self.ledger.balance(Self::id(number)), Some(balance));
            let account = snapshot.account(&format!("account {number}")).unwrap();
            let figures = (
                account.initial,
                account.remaining,
                account.reserved,
                account.committed,
                account.debt,
            );
            let expected = (
                balance.initial,
                balance.remaining,
                balance.reserved,
                balance.committed,
                balance.debt,
            );
            assert_eq!(figures, expected);
        }
        let ours: Vec<_> = self
            .ledger
            .holds()
            .iter()
            .map(|hold| {
                (
                    hold.id.0,
                    (usize::try_from(hold.account.0).unwrap(), i128::from(hold.amount)),
                )
            })
            .collect();
        let expected: Vec<_> = self.model.open.iter().map(|(hold, held)| (*hold, *held)).collect();
        assert_eq!(ours, expected);
        assert_eq!(snapshot.active_holds(), u64::try_from(expected.len()).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_answers_as_plain_books_do(
        opened in prop::collection::vec(prop_oneof![3 => 0_i64..1_000, 1 => (i64::MAX - 200)..=i64::MAX], 1..4),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let mut both = Both { ledger: Ledger::new(), model: Model::default() };
        for initial in opened {
            both.apply(&Op::Open(initial));
        }
        for op in &operations {
            both.apply(op);
            both.agree();
        }
    }
}

/// What the random operations must have met, so that they are known to go everywhere.
#[test]
fn the_random_operations_reach_every_answer() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        let mut model = Model::default();
        for initial in [700, 0, i64::MAX] {
            model.open(initial).unwrap();
        }
        let operations = prop::collection::vec(operation(), 100)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        for op in operations {
            let note = match op {
                Op::Reserve(account, hold, amount) => match model.reserve(account, hold, amount) {
                    Ok(Reserve::Held { .. }) => "held".to_owned(),
                    Ok(Reserve::Denied { reason, .. }) => reason.label().to_owned(),
                    Err(kind) => format!("reserve {}", kind.code()),
                },
                Op::Commit(hold, actual) => match model.commit(hold, actual) {
                    Ok(commit) if commit.debt > 0 => "commit into debt".to_owned(),
                    Ok(commit) if commit.returned > 0 && commit.balance.debt > 0 => "surplus into debt".to_owned(),
                    Ok(commit) if commit.returned > 0 => "surplus".to_owned(),
                    Ok(_) => "commit".to_owned(),
                    Err(kind) => format!("commit {}", kind.code()),
                },
                Op::Release(hold) => match model.release(hold) {
                    Ok(balance) if balance.debt > 0 => "release into debt".to_owned(),
                    Ok(_) => "release".to_owned(),
                    Err(kind) => format!("release {}", kind.code()),
                },
                Op::TopUp(account, amount) => {
                    let before = model.books.get(account).map_or(0, |book| book.debt);
                    match model.top_up(account, amount) {
                        Ok(_) if before > 0 => "top-up of a debt".to_owned(),
                        Ok(_) => "top-up".to_owned(),
                        Err(kind) => format!("top-up {}", kind.code()),
                    }
                }
                Op::SetCap(account, cap) => {
                    let _ = model.set_cap(account, cap);
                    continue;
                }
                _ => continue,
            };
            *met.entry(note).or_default() += 1;
        }
    }
    for note in [
        "held",
        "overflow",
        "over_cap",
        "insufficient",
        "reserve ledger.hold_in_use",
        "reserve ledger.invalid_amount",
        "reserve ledger.unknown_account",
        "commit",
        "surplus",
        "surplus into debt",
        "commit into debt",
        "commit ledger.overflow",
        "commit ledger.unknown_hold",
        "commit ledger.invalid_amount",
        "release",
        "release into debt",
        "release ledger.unknown_hold",
        "top-up",
        "top-up of a debt",
        "top-up ledger.overflow",
        "top-up ledger.invalid_amount",
    ] {
        assert!(
            met.get(note).is_some_and(|count| *count >= 3),
            "{note} was met too rarely: {met:#?}"
        );
    }
}
