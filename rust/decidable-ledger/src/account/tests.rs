use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::*;
use crate::between;

/// An account of 100 on which a hold of 60 is open.
fn account() -> Rc<Account> {
    let account = Rc::new(Account::new(100));
    account.reserve(60).unwrap().unwrap();
    account
}

/// As [`account`], with 30 more, on which another hold is open.
fn account_of_two() -> Rc<Account> {
    let account = Rc::new(Account::new(130));
    account.reserve(60).unwrap().unwrap();
    account.reserve(30).unwrap().unwrap();
    account
}

/// What `act` answers when `other` happens before the access with this number, from 0, and whether there is one.
fn at<T>(access: u32, account: &Rc<Account>, other: fn(&Account), act: impl FnOnce(&Account) -> T) -> (T, bool) {
    let reached = Rc::new(Cell::new(0));
    let (counted, concerned) = (Rc::clone(&reached), Rc::clone(account));
    let happening = move || {
        if counted.replace(counted.get() + 1) == access {
            other(&concerned);
        }
    };
    let answer = between::with(happening, || act(account));
    (answer, reached.get() > access)
}

/// What other threads can do between two accesses: to commit all, to commit a part, to release, to hold, and to hold and
/// commit.
const OTHERS: [fn(&Account); 5] = [
    |account| _ = account.commit(60, 60),
    |account| _ = account.commit(60, 20),
    |account| _ = account.release(60),
    |account| _ = account.reserve(40).unwrap().unwrap(),
    |account| {
        account.reserve(40).unwrap().unwrap();
        account.commit(40, 40);
    },
];

/// Has each of [`OTHERS`] happen before each access of `act` to an account, and gives what `act` answered with the words
/// before and after the other, and at the end.
fn everywhere<T>(begin: fn() -> Rc<Account>, act: fn(&Account) -> T, mut check: impl FnMut(T, Words, Words, Words)) {
    for other in OTHERS {
        let mut access = 0;
        loop {
            let account = begin();
            let before = account.read();
            let other_alone = begin();
            other(&other_alone);
            let (answer, reached) = at(access, &account, other, act);
            if !reached {
                break;
            }
            check(answer, before, other_alone.read(), account.read());
            access += 1;
        }
        assert!(access > 0, "nothing was accessed");
    }
}

#[test]
fn what_is_read_never_has_less_reserved_than_there_is() {
    everywhere(account, Account::read, |words, before, after, _| {
        assert!(words.spent <= words.used, "{words:?}");
        // `used` is that of one of the two moments, and `spent` is not later.
        let mut moments = [before, after].into_iter().filter(|moment| moment.used == words.used);
        assert!(moments.any(|moment| words.spent <= moment.spent), "{words:?}");
        assert!(words.reserved() >= before.reserved().min(after.reserved()), "{words:?}");
    });
}

#[test]
fn what_is_read_exactly_is_of_one_moment() {
    everywhere(account, Account::read_exact, |words, before, after, _| {
        let words = words.unwrap();
        assert!(words == before || words == after, "{words:?}");
    });
}

#[test]
fn a_reserve_among_others_is_answered_as_at_one_moment() {
    everywhere(
        account,
        |account| account.reserve(40).unwrap(),
        |answer, before, after, end| match answer {
            Ok(words) => {
                assert!(words.spent <= words.used, "{words:?}");
                assert_eq!(end.used, after.used + 40);
                assert!(end.used <= end.initial);
            }
            Err((_, words)) => {
                assert!(words == before || words == after, "{words:?}");
                assert!(words.reserve(40).is_err());
                assert_eq!(end, after);
            }
        },
    );
}

/// Whether the hold of 30 that was settled among others by returning `surplus` and spending `actual` was answered with
/// words that stand: `used` of the moment, `spent` not later, nothing reserved hidden, and in the end both are done.
fn settled_among_others(act: fn(&Account) -> Words, surplus: u64, actual: u64) {
    everywhere(account_of_two, act, |words, before, after, end| {
        let settled = |moment: Words| Words {
            used: moment.used - surplus,
            spent: moment.spent + actual,
            ..moment
        };
        let moments = [settled(before), settled(after)];
        assert_eq!(end, moments[1]);
        assert!(words.spent <= words.used, "{words:?}");
        assert!(words.used - words.spent <= words.initial, "{words:?}");
        let mut then = moments.iter().filter(|moment| moment.used == words.used);
        assert!(then.any(|moment| words.spent <= moment.spent), "{words:?}");
        let least = moments[0].reserved().min(moments[1].reserved());
        assert!(words.reserved() >= least, "{words:?}");
        assert_eq!((words.initial, words.cap), (end.initial, end.cap));
    });
}

#[test]
fn a_commit_among_others_is_answered_with_words_that_stand() {
    settled_among_others(|account| account.commit(30, 10), 20, 10);
    settled_among_others(|account| account.commit(30, 0), 30, 0);
    settled_among_others(|account| account.commit(30, 30), 0, 30);
}

#[test]
fn a_release_among_others_is_answered_with_words_that_stand() {
    settled_among_others(|account| account.release(30), 30, 0);
}

#[test]
fn commits_at_every_look_leave_it_to_who_is_alone() {
    // Before each access, somebody holds 1 and spends it.
    let busy = |account: &Rc<Account>| {
        let concerned = Rc::clone(account);
        move || {
            concerned.reserve(1).unwrap().unwrap();
            concerned.commit(1, 1);
        }
    };
    let account = Rc::new(Account::new(1_000));
    assert_eq!(between::with(busy(&account), || account.read_exact()), None);
    assert_eq!(between::with(busy(&account), || account.reserve(2_000)), None);
}

#[test]
fn what_is_reserved_alone_is_set_aside() {
    let account = account();
    let words = account.reserve_alone(40).unwrap();
    assert_eq!((words.used, words.reserved()), (100, 100));
    assert_eq!(account.read(), words);
    assert_eq!(account.reserve_alone(1), Err((Denial::Insufficient, words)));
    assert_eq!(account.read(), words);
}

#[test]
fn whoever_looks_in_the_middle_of_a_commit_sees_that_it_is_in_flight() {
    let account = account();
    let before = account.read();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (noted, concerned) = (Rc::clone(&seen), Rc::clone(&account));
    let look = move || noted.borrow_mut().push((concerned.read(), concerned.read_exact()));
    between::with(look, || account.commit(60, 20));
    let after = account.read();
    for (words, exact) in seen.take() {
        assert!(words.spent <= words.used, "{words:?}");
        assert!(exact.is_none_or(|words| words == before || words == after), "{exact:?}");
    }
}
