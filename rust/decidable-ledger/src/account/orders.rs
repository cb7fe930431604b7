//! What other threads see of an account in every order that memory allows: not that of one kind of processor alone.

use loom::{sync::Arc, thread};

use super::*;

/// An account of 100 on which a hold of 60 is open.
fn account() -> Account {
    let account = Account::new(100);
    account.reserve(60).unwrap().unwrap();
    account
}

/// The words after `act` alone.
fn after(act: fn(&Account)) -> Words {
    let account = account();
    act(&account);
    account.read()
}

/// What a thread can do to the hold.
const SETTLEMENTS: [fn(&Account); 3] = [
    |account| _ = account.commit(60, 60),
    |account| _ = account.commit(60, 20),
    |account| _ = account.release(60),
];

/// Has `act` in another thread while `look` looks, in every order.
fn beside(act: fn(&Account), look: impl Fn(&Account, Words, Words) + Send + Sync + 'static) {
    loom::model(move || {
        let (before, after) = (account().read(), after(act));
        let account = Arc::new(account());
        let acting = {
            let account = account.clone();
            thread::spawn(move || act(&account))
        };
        look(&account, before, after);
        acting.join().unwrap();
        assert_eq!(account.read_exact(), Some(account.read()));
    });
}

#[test]
fn orders_of_a_look() {
    for act in SETTLEMENTS {
        beside(act, |account, before, after| {
            let words = account.read();
            assert!(words.spent <= words.used, "{words:?}");
            let mut moments = [before, after].into_iter().filter(|moment| moment.used == words.used);
            assert!(moments.any(|moment| words.spent <= moment.spent), "{words:?}");
        });
        beside(act, |account, before, after| {
            let exact = account.read_exact();
            assert!(exact.is_none_or(|words| words == before || words == after), "{exact:?}");
        });
    }
}

#[test]
fn orders_of_a_reserve() {
    for act in SETTLEMENTS {
        for amount in [40, 60, 100] {
            beside(act, move |account, before, after| match account.reserve(amount) {
                Some(Ok(words)) => assert!(words.spent <= words.used && words.used <= words.initial, "{words:?}"),
                Some(Err((_, words))) => assert!(words == before || words == after, "{words:?}"),
                None => {}
            });
        }
    }
}

#[test]
fn orders_of_two_settlements() {
    for act in SETTLEMENTS {
        loom::model(move || {
            let account = Arc::new(account());
            account.reserve(30).unwrap().unwrap();
            let acting = {
                let account = account.clone();
                thread::spawn(move || act(&account))
            };
            let words = account.commit(30, 10);
            assert!(words.spent <= words.used, "{words:?}");
            let words = account.reserve(10).map(|answer| answer.unwrap());
            assert!(words.is_none_or(|words| words.spent <= words.used), "{words:?}");
            acting.join().unwrap();
            let end = account.read();
            assert_eq!(account.read_exact(), Some(end));
            assert_eq!(end.used - end.spent, if words.is_some() { 10 } else { 0 });
        });
    }
}
