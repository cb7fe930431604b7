//! The ledgers of the reference implementation, operation by operation (tests/vectors/ledgers.jsonl).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, fs};

use decidable_canon::Canonical;
use decidable_ledger::{AccountId, Balance, Denial, ErrorKind, HoldId, Ledger, LedgerSnapshot, Reserve};
use serde_json::{Value, json};

/// The reference takes an empty name and ours does not: this one stands in, and sorts at the same place.
const STAND_IN: &str = "\0";

fn ledgers() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/ledgers.jsonl");
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The plain books that every balance is compared with: what the reference's results say, kept by account.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Book {
    initial: i64,
    remaining: i64,
    reserved: i64,
    committed: i64,
    cap: Option<i64>,
}

impl Book {
    fn balance(self) -> Balance {
        Balance {
            initial: self.initial,
            remaining: self.remaining,
            reserved: self.reserved,
            committed: self.committed,
            debt: 0,
            cap: self.cap,
        }
    }
}

#[derive(Default)]
struct Run {
    ledger: Ledger,
    books: BTreeMap<String, Book>,
    open: BTreeMap<u64, (String, i64)>,
    unused: u64,
}

impl Run {
    fn name(op: &Value) -> &str {
        match op["tenant"].as_str().unwrap() {
            "" => STAND_IN,
            name => name,
        }
    }

    fn account(&self, op: &Value) -> Option<AccountId> {
        self.ledger.account(Self::name(op))
    }

    fn book(&mut self, name: &str) -> &mut Book {
        self.books.get_mut(name).unwrap()
    }

    fn reserve(&mut self, op: &Value) {
        let name = Self::name(op).to_owned();
        let amount = op["amount"].as_i64().unwrap();
        let result = &op["result"];
        // An account that does not exist still has a number that is refused.
        let account = self.account(op).unwrap_or(AccountId(u32::MAX));
        self.unused += 1;
        let hold = HoldId(op["reservation"].as_u64().unwrap_or(u64::MAX - self.unused));
        let answer = self.ledger.reserve(account, hold, amount);
        if amount == 0 && self.account(op).is_some() {
            // The reference refuses to hold nothing; here it is a hold, which changes no figure.
            assert_eq!(result["kind"], json!("Insufficient"));
            if let Reserve::Held { hold, balance } = answer.unwrap() {
                assert_eq!(balance, self.book(&name).balance());
                assert_eq!(self.ledger.release(hold).unwrap(), balance);
            }
            return;
        }
        let (reason, remaining) = match (result["kind"].as_str().unwrap(), answer) {
            ("Insufficient", Err(error)) => {
                let expected = if amount == 0 {
                    ErrorKind::UnknownAccount
                } else {
                    ErrorKind::InvalidAmount
                };
                assert!(amount <= 0 && error.kind() == expected, "{error}");
                assert_eq!(result["remaining_microcents"], json!(0));
                return;
            }
            ("MissingTenant", Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::UnknownAccount);
                return;
            }
            ("Reserved", Ok(Reserve::Held { hold: held, balance })) => {
                assert_eq!(held, hold);
                assert_eq!(result["remaining_microcents"], json!(balance.remaining));
                let book = self.book(&name);
                book.remaining -= amount;
                book.reserved += amount;
                assert_eq!(balance, book.balance());
                self.open.insert(hold.0, (name, amount));
                return;
            }
            (kind, Ok(Reserve::Denied { reason, balance })) => {
                assert_eq!(balance, self.book(&name).balance());
                let (expected, member, figure) = match kind {
                    "Insufficient" => (Denial::Insufficient, "remaining_microcents", balance.remaining),
                    "ExposureLimitExceeded" => {
                        assert_eq!(result["max_reserved_microcents"], json!(balance.cap));
                        (Denial::OverCap, "current_reserved_microcents", balance.reserved)
                    }
                    "Overflow" => (Denial::Overflow, "current_reserved_microcents", balance.reserved),
                    other => panic!("{other} for a denial"),
                };
                assert_eq!(reason, expected);
                (figure, &result[member])
            }
            (kind, other) => panic!("{kind} is {other:?} here"),
        };
        assert_eq!(&json!(reason), remaining);
    }

    fn settle(&mut self, op: &Value) {
        let hold = HoldId(op["reservation"].as_u64().unwrap());
        let result = &op["result"];
        let kind = result["kind"].as_str().unwrap();
        let is_commit = op["op"] == "commit";
        let actual = if is_commit { op["actual"].as_i64().unwrap() } else { 0 };
        let answer = if is_commit {
            self.ledger.commit(hold, actual).map(|commit| {
                assert_eq!((commit.charged, commit.debt), (actual, 0));
                (commit.balance, commit.returned)
            })
        } else {
            let held = self.ledger.hold(hold).map_or(0, |hold| hold.amount);
            self.ledger.release(hold).map(|balance| (balance, held))
        };
        match (kind, answer) {
            ("MissingReservation", Err(error)) => assert_eq!(error.kind(), ErrorKind::UnknownHold),
            ("InvalidAmount", Err(error)) => assert_eq!(error.kind(), ErrorKind::InvalidAmount),
            ("Committed" | "Released", Ok((balance, returned))) => {
                let (name, amount) = self.open.remove(&hold.0).unwrap();
                let book = self.book(&name);
                book.reserved -= amount;
                book.remaining += amount - actual;
                book.committed += actual;
                assert_eq!(balance, book.balance());
                assert_eq!(result["remaining_microcents"], json!(balance.remaining));
                if is_commit {
                    assert_eq!(result["actual_microcents"], json!(actual));
                    assert_eq!(returned, (amount - actual).max(0));
                } else {
                    assert_eq!(result["returned_microcents"], json!(returned));
                }
            }
            (kind, other) => panic!("{kind} is {other:?} here"),
        }
    }

    fn top_up(&mut self, op: &Value) {
        let name = Self::name(op).to_owned();
        let amount = op["amount"].as_i64().unwrap();
        let result = &op["result"];
        let account = self.account(op).unwrap_or(AccountId(u32::MAX));
        match (result["kind"].as_str().unwrap(), self.ledger.top_up(account, amount)) {
            ("InvalidAmount", Err(error)) => assert_eq!(error.kind(), ErrorKind::InvalidAmount),
            ("MissingTenant", Err(error)) => assert_eq!(error.kind(), ErrorKind::UnknownAccount),
            ("Overflow", Err(error)) => assert_eq!(error.kind(), ErrorKind::Overflow),
            ("ToppedUp", Ok(balance)) => {
                let book = self.book(&name);
                book.initial += amount;
                book.remaining += amount;
                assert_eq!(balance, book.balance());
                assert_eq!(result["added_microcents"], json!(amount));
                assert_eq!(result["new_initial_microcents"], json!(balance.initial));
                assert_eq!(result["remaining_microcents"], json!(balance.remaining));
            }
            (kind, other) => panic!("{kind} is {other:?} here"),
        }
    }

    fn apply(&mut self, op: &Value) {
        match op["op"].as_str().unwrap() {
            "ensure_tenant" => {
                let initial = op["amount"].as_i64().unwrap();
                self.ledger.open_account(Self::name(op), initial).unwrap();
                let book = Book {
                    initial,
                    remaining: initial,
                    reserved: 0,
                    committed: 0,
                    cap: None,
                };
                self.books.insert(Self::name(op).to_owned(), book);
            }
            "set_exposure_cap" => {
                let cap = op["amount"].as_i64();
                self.ledger.set_cap(self.account(op).unwrap(), cap).unwrap();
                self.book(Self::name(op)).cap = cap;
            }
            "reserve" => self.reserve(op),
            "commit" | "release" => self.settle(op),
            "top_up" => self.top_up(op),
            other => panic!("unknown operation {other}"),
        }
    }

    fn matches_the_books(&self) {
        for (name, book) in &self.books {
            let account = self.ledger.account(name).unwrap();
            assert_eq!(self.ledger.balance(account), Some(book.balance()), "{name:?}");
        }
        let open: Vec<u64> = self.ledger.holds().iter().map(|hold| hold.id.0).collect();
        assert_eq!(open, self.open.keys().copied().collect::<Vec<_>>());
        self.ledger.verify().unwrap();
    }
}

/// Our snapshot's document with the version of the reference, and the stand-in's name taken back.
fn as_the_reference_has_it(snapshot: &LedgerSnapshot, version: &Value) -> Value {
    let mut document: Value = serde_json::from_str(&snapshot.to_json()).unwrap();
    document["version"] = version.clone();
    for account in document["tenants"].as_array_mut().unwrap() {
        if account["tenant_id"] == STAND_IN {
            account["tenant_id"] = json!("");
        }
    }
    document
}

#[test]
fn every_operation_gives_the_answers_and_balances_of_the_reference() {
    let ledgers = ledgers();
    assert_eq!(ledgers.len(), 12);
    let mut operations = 0;
    for vector in &ledgers {
        let mut run = Run::default();
        for op in vector["operations"].as_array().unwrap() {
            run.apply(op);
            run.matches_the_books();
            operations += 1;
        }
        let document = as_the_reference_has_it(&run.ledger.snapshot(), &vector["snapshot"]["version"]);
        assert_eq!(document, vector["snapshot"]);
        let mut certificate: Value = serde_json::from_str(&run.ledger.certificate().to_json()).unwrap();
        for member in ["snapshot_version", "ledger_digest_hex"] {
            certificate[member] = vector["certificate"][member].clone();
        }
        assert_eq!(certificate, vector["certificate"]);
    }
    assert!(operations > 600, "{operations} operations");
}

#[test]
fn every_snapshot_has_the_digest_and_the_certificate_of_the_reference() {
    for vector in ledgers() {
        let snapshot = LedgerSnapshot::from_json(&vector["snapshot"].to_string()).unwrap();
        assert_eq!(json!(snapshot.digest().to_string()), vector["ledger_digest"]);
        assert_eq!(vector["conservation"], "conservation balanced");
        snapshot.verify().unwrap();
        // The certificate was taken from a snapshot of its own, which differs in its version alone.
        let mut document = vector["snapshot"].clone();
        document["version"] = vector["certificate"]["snapshot_version"].clone();
        let certificate = LedgerSnapshot::from_json(&document.to_string()).unwrap().certificate(0);
        let written: Value = serde_json::from_str(&certificate.to_json()).unwrap();
        assert_eq!(written, vector["certificate"]);
    }
}

#[test]
fn a_snapshot_is_written_with_the_members_of_the_reference_in_their_order() {
    for line in fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/ledgers.jsonl"
    ))
    .unwrap()
    .lines()
    {
        let start = line.find("\"snapshot\": ").unwrap() + "\"snapshot\": ".len();
        let end = line.find(", \"ledger_digest\"").unwrap();
        let written = &line[start..end];
        let ours = LedgerSnapshot::from_json(written).unwrap().to_json();
        assert_eq!(
            ours.replace("\":", "\": ")
                .replace(",\"", ", \"")
                .replace("},{", "}, {"),
            written
        );
    }
}
