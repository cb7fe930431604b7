use std::{cell::Cell, rc::Rc};

use super::*;
use crate::between;

/// A ledger and an account of 1000 on which a hold of 10 is open, with room under its cap for 1 more.
fn ledger() -> (Rc<Ledger>, AccountId) {
    let ledger = Rc::new(Ledger::new());
    let account = ledger.open_account("busy", 1_000).unwrap();
    let held = ledger.reserve(account, HoldId(1), 10).unwrap();
    assert_eq!(held.balance().reserved, 10);
    ledger.set_cap(account, Some(11)).unwrap();
    (ledger, account)
}

/// What `act` answers if somebody holds 1 and spends it before every access to a word, except while nothing may be in
/// flight, and how many accesses there were while nothing was.
fn busy<T>(ledger: &Rc<Ledger>, account: AccountId, act: impl FnOnce(&Ledger) -> T) -> (T, u32) {
    let alone = Rc::new(Cell::new(0));
    let (counted, concerned) = (Rc::clone(&alone), Rc::clone(ledger));
    let happening = move || {
        if concerned.holds.are_still() {
            counted.set(counted.get() + 1);
        } else {
            // As in a ledger's operation on a hold of its own, in a shard that is free.
            let found = concerned.find(account).unwrap();
            found.reserve(1).unwrap().unwrap();
            found.commit(1, 1);
        }
    };
    let answer = between::with(happening, || act(ledger));
    (answer, alone.get())
}

#[test]
fn a_reserve_that_commits_keep_in_doubt_is_granted_alone_and_the_money_is_set_aside() {
    let (ledger, account) = ledger();
    let (answer, alone) = busy(&ledger, account, |ledger| ledger.reserve(account, HoldId(2), 1));
    let answer = answer.unwrap();
    assert!(alone > 0, "nobody was kept out");
    assert!(matches!(answer, Reserve::Held { .. }), "{answer:?}");
    assert_eq!(answer.balance().reserved, 11);
    assert_eq!(ledger.balance(account), Some(answer.balance()));
    assert_eq!(ledger.hold(HoldId(2)).unwrap().amount, 1);
    ledger.verify().unwrap();
}

#[test]
fn a_reserve_that_commits_keep_in_doubt_is_denied_alone_with_the_figures_of_one_moment() {
    let (ledger, account) = ledger();
    let (answer, alone) = busy(&ledger, account, |ledger| ledger.reserve(account, HoldId(2), 2));
    let answer = answer.unwrap();
    assert!(alone > 0, "nobody was kept out");
    assert!(matches!(answer, Reserve::Denied { .. }), "{answer:?}");
    assert_eq!(answer.balance().reserved, 10);
    assert_eq!(ledger.balance(account), Some(answer.balance()));
    assert_eq!(ledger.hold(HoldId(2)), None);
    ledger.verify().unwrap();
}

#[test]
fn a_balance_that_commits_keep_in_doubt_is_read_alone() {
    let (ledger, account) = ledger();
    let (balance, alone) = busy(&ledger, account, |ledger| ledger.balance(account));
    assert!(alone > 0, "nobody was kept out");
    let balance = balance.unwrap();
    assert_eq!(balance.reserved, 10);
    assert!(balance.committed > 0, "nobody was busy");
    assert_eq!(ledger.balance(account), Some(balance));
}

type Operation = fn(&Ledger, AccountId);

#[test]
fn what_needs_to_be_alone_is_alone_at_every_access() {
    let operations: [(&str, Operation); 6] = [
        ("set_cap", |ledger, account| {
            ledger.set_cap(account, Some(5)).unwrap();
        }),
        ("top_up", |ledger, account| _ = ledger.top_up(account, 5).unwrap()),
        ("overrun", |ledger, _| _ = ledger.commit(HoldId(1), 2_000).unwrap()),
        ("snapshot", |ledger, _| _ = ledger.snapshot()),
        ("certificate", |ledger, _| _ = ledger.certificate()),
        ("verify", |ledger, _| ledger.verify().unwrap()),
    ];
    for (name, act) in operations {
        let (ledger, account) = ledger();
        let accesses = Rc::new(Cell::new((0, 0)));
        let (counted, concerned) = (Rc::clone(&accesses), Rc::clone(&ledger));
        let happening = move || {
            let (all, alone) = counted.get();
            counted.set((all + 1, alone + u32::from(concerned.holds.are_still())));
        };
        between::with(happening, || act(&ledger, account));
        let (all, alone) = accesses.get();
        assert!(all > 0, "{name} accessed nothing");
        assert_eq!(all, alone, "{name} did not keep everything else out");
        assert!(!ledger.holds.are_still(), "{name} keeps everything out still");
    }
}
