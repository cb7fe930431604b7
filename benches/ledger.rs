//! `cargo bench -p decidable-benches --bench ledger`: pairs of reserve and commit beside the reference implementation, in
//! interleaved rounds of one run.
//!
//! One account and 10,000 accounts; 1, 2 and 8 threads. The reference finds its account by name each time. Ours is
//! measured both ways: by name, and by the number that a caller keeps.

#![allow(missing_docs)]

use std::{hint::black_box, thread};

use calybris_core::budget::{BudgetEngine, BudgetReservation};
use decidable_benches::{
    random::Random,
    rounds::{Contestant, Plan, measure},
};
use decidable_ledger::{AccountId, HoldId, Ledger, Reserve};

const HELD: i64 = 1_000;
const SPENT: i64 = 640;
const FUNDS: i64 = 1 << 53;

/// Which account every pair of a thread is for, in an order that is the same for all contestants.
const ORDER: usize = 1 << 14;

fn main() {
    for accounts in [1, 10_000] {
        for threads in [1, 2, 8] {
            pairs(accounts, threads);
        }
    }
}

fn pairs(accounts: usize, threads: usize) {
    let names: Vec<String> = (0..accounts).map(|account| format!("team-{account}/search")).collect();
    let mut random = Random::new(7);
    let order: Vec<usize> = (0..ORDER).map(|_| random.below(accounts as u64) as usize).collect();
    let theirs = BudgetEngine::new();
    let ours = Ledger::new();
    let ids: Vec<AccountId> = names
        .iter()
        .map(|name| {
            theirs.ensure_tenant(name, FUNDS);
            ours.open_account(name, FUNDS).expect("the names differ")
        })
        .collect();

    let peer_pair = |at: usize| {
        let (answer, id) = theirs.try_reserve(&names[at], HELD);
        debug_assert!(matches!(answer, BudgetReservation::Reserved { .. }));
        black_box(answer);
        black_box(theirs.commit(id.expect("funds suffice"), SPENT));
    };
    let our_pair = |account: AccountId, hold: HoldId| {
        let answer = ours.reserve(account, hold, HELD).expect("the account is open");
        debug_assert!(matches!(answer, Reserve::Held { .. }));
        black_box(answer.balance());
        black_box(ours.commit(hold, SPENT).expect("the hold is open"));
    };

    let plan = Plan {
        rounds: 21,
        round_ms: if threads == 1 { 10 } else { 40 },
    };
    measure(
        &format!("pair/{accounts} accounts/{threads} threads"),
        plan,
        1,
        vec![
            Contestant::new("peer", |count| {
                spread(count, threads, |n| peer_pair(order[n % ORDER]));
            }),
            Contestant::new("by name", |count| {
                spread(count, threads, |n| {
                    let account = ours.account(&names[order[n % ORDER]]).expect("the account is open");
                    our_pair(account, ours.next_hold());
                });
            }),
            Contestant::new("ours", |count| {
                spread(count, threads, |n| our_pair(ids[order[n % ORDER]], ours.next_hold()));
            }),
        ],
    );
    ours.verify().expect("every pair is balanced");
}

/// Does `count` pieces of work on so many threads. The threads begin at different places of the order.
fn spread(count: u64, threads: usize, work: impl Fn(usize) + Sync) {
    let each = (count as usize).div_ceil(threads);
    if threads == 1 {
        (0..each).for_each(work);
        return;
    }
    thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || {
                let first = thread * ORDER / threads;
                (first..first + each).for_each(work);
            });
        }
    });
}
