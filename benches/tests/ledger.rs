//! Random operations on the reference implementation's ledger and on ours, answer by answer.
#![allow(missing_docs)]

use calybris_core::{
    budget::{BudgetEngine, BudgetReservation, BudgetSettlement, TopUpResult},
    finance,
};
use decidable_benches::random::Random;
use decidable_canon::Canonical as _;
use decidable_ledger::{AccountId, Balance, Denial, ErrorKind, HoldId, Ledger, LedgerSnapshot, Reserve};

const NAMES: [&str; 4] = ["acme", "tenant/ünï", "Åse", "zeta"];

struct Both {
    theirs: BudgetEngine,
    ours: Ledger,
    /// The numbers of open and of settled holds, which are the reference's.
    seen: Vec<u64>,
    unused: u64,
}

impl Both {
    fn new(random: &mut Random) -> Self {
        let both = Self {
            theirs: BudgetEngine::new(),
            ours: Ledger::new(),
            seen: Vec::new(),
            unused: u64::MAX,
        };
        for name in NAMES {
            let initial = amount(random).max(0);
            both.theirs.ensure_tenant(name, initial);
            both.ours.open_account(name, initial).unwrap();
            if random.one_in(3) {
                // No cap is 0 there.
                let cap = random.between(1, 3_000) as i64;
                both.theirs.set_max_reserved_microcents(name, cap);
                both.ours.set_cap(both.ours.account(name).unwrap(), Some(cap)).unwrap();
            }
        }
        both
    }

    fn balance(&self, account: usize) -> Balance {
        self.ours.balance(AccountId(account as u32)).unwrap()
    }

    fn reserve(&mut self, account: usize, amount: i64) {
        let (theirs, id) = self.theirs.try_reserve(NAMES[account], amount);
        self.unused -= 1;
        let hold = HoldId(id.unwrap_or(self.unused));
        let ours = self.ours.reserve(AccountId(account as u32), hold, amount);
        self.seen.extend(id);
        if amount == 0 {
            // The other difference by design: nothing can be held here, and changes no figure.
            assert!(matches!(theirs, BudgetReservation::Insufficient { .. }), "{theirs:?}");
            if let Reserve::Held { hold, balance } = ours.unwrap() {
                assert_eq!(self.ours.release(hold).unwrap(), balance);
            }
            return;
        }
        match (theirs, ours) {
            (BudgetReservation::Reserved { remaining_microcents }, Ok(Reserve::Held { balance, .. })) => {
                assert_eq!(remaining_microcents, balance.remaining);
            }
            (
                BudgetReservation::Insufficient {
                    remaining_microcents: 0,
                    required_microcents,
                },
                Err(error),
            ) => {
                assert_eq!(error.kind(), ErrorKind::InvalidAmount);
                assert!(required_microcents < 0);
            }
            (theirs, Ok(Reserve::Denied { reason, balance })) => {
                let same = match theirs {
                    BudgetReservation::Insufficient {
                        remaining_microcents, ..
                    } => reason == Denial::Insufficient && remaining_microcents == balance.remaining,
                    BudgetReservation::ExposureLimitExceeded {
                        current_reserved_microcents,
                        max_reserved_microcents,
                    } => {
                        reason == Denial::OverCap
                            && current_reserved_microcents == balance.reserved
                            && Some(max_reserved_microcents) == balance.cap
                    }
                    BudgetReservation::Overflow {
                        current_reserved_microcents,
                    } => reason == Denial::Overflow && current_reserved_microcents == balance.reserved,
                    _ => false,
                };
                assert!(same, "{theirs:?} there, {reason:?} {balance:?} here");
            }
            (theirs, ours) => panic!("{theirs:?} there, {ours:?} here"),
        }
    }

    fn commit(&mut self, number: u64, actual: i64) {
        let hold = HoldId(number);
        // A difference by design: what cannot be paid stays open there and becomes debt here.
        if let Some(held) = self.ours.hold(hold) {
            let balance = self.ours.balance(held.account).unwrap();
            if actual.saturating_sub(held.amount) > balance.remaining {
                let theirs = self.theirs.commit(number, actual);
                assert!(
                    matches!(
                        theirs,
                        BudgetSettlement::Overrun { .. } | BudgetSettlement::Overflow { .. }
                    ),
                    "{theirs:?}"
                );
                self.release(number);
                return;
            }
        }
        match (self.theirs.commit(number, actual), self.ours.commit(hold, actual)) {
            (
                BudgetSettlement::Committed {
                    remaining_microcents,
                    actual_microcents,
                },
                Ok(commit),
            ) => {
                assert_eq!(remaining_microcents, commit.balance.remaining);
                assert_eq!((actual_microcents, 0), (commit.charged, commit.debt));
            }
            (BudgetSettlement::MissingReservation, Err(error)) => assert_eq!(error.kind(), ErrorKind::UnknownHold),
            (BudgetSettlement::InvalidAmount, Err(error)) => assert_eq!(error.kind(), ErrorKind::InvalidAmount),
            (theirs, ours) => panic!("{theirs:?} there, {ours:?} here"),
        }
    }

    fn release(&mut self, number: u64) {
        let held = self.ours.hold(HoldId(number)).map(|hold| hold.amount);
        match (self.theirs.release(number), self.ours.release(HoldId(number))) {
            (
                BudgetSettlement::Released {
                    remaining_microcents,
                    returned_microcents,
                },
                Ok(balance),
            ) => {
                assert_eq!(remaining_microcents, balance.remaining);
                assert_eq!(Some(returned_microcents), held);
            }
            (BudgetSettlement::MissingReservation, Err(error)) => assert_eq!(error.kind(), ErrorKind::UnknownHold),
            (theirs, ours) => panic!("{theirs:?} there, {ours:?} here"),
        }
    }

    fn top_up(&mut self, account: usize, amount: i64) {
        let theirs = self.theirs.top_up_tenant(NAMES[account], amount);
        match (theirs, self.ours.top_up(AccountId(account as u32), amount)) {
            (
                TopUpResult::ToppedUp {
                    new_initial_microcents,
                    remaining_microcents,
                    ..
                },
                Ok(balance),
            ) => {
                assert_eq!(new_initial_microcents, balance.initial);
                assert_eq!(remaining_microcents, balance.remaining);
            }
            (TopUpResult::InvalidAmount, Err(error)) => assert_eq!(error.kind(), ErrorKind::InvalidAmount),
            (TopUpResult::Overflow, Err(error)) => assert_eq!(error.kind(), ErrorKind::Overflow),
            (theirs, ours) => panic!("{theirs:?} there, {ours:?} here"),
        }
    }

    /// Every figure of both, their digest of their snapshot and ours of ours, and what is certified.
    fn agree(&self) {
        for (account, name) in NAMES.iter().enumerate() {
            let balance = self.balance(account);
            assert_eq!(self.theirs.initial_microcents(name), Some(balance.initial));
            assert_eq!(self.theirs.remaining_microcents(name), Some(balance.remaining));
            assert_eq!(self.theirs.reserved_microcents(name), balance.reserved);
            assert_eq!(self.theirs.committed_microcents(name), Some(balance.committed));
            assert_eq!(balance.debt, 0);
        }
        let theirs = self.theirs.snapshot();
        let ours = self.ours.snapshot();
        // Versions count different things: ours is read back with theirs.
        let renumbered = ours.to_json().replacen(
            &format!("{{\"version\":{}", ours.version()),
            &format!("{{\"version\":{}", theirs.version),
            1,
        );
        let ours = LedgerSnapshot::from_json(&renumbered).unwrap();
        assert_eq!(ours.digest().bytes(), &finance::ledger_digest(&theirs));
        let certified = ours.certificate(0);
        let certificate = finance::certify_snapshot(&theirs, true, 0);
        assert_eq!(certificate.conservation_balanced, certified.balanced);
        assert_eq!(certificate.aggregate_totals_representable, certified.totals.is_some());
        let totals = certified
            .totals
            .map_or((0, 0), |totals| (totals.initial, totals.committed));
        assert_eq!(
            (
                certificate.total_initial_microcents,
                certificate.total_committed_microcents
            ),
            totals
        );
        assert_eq!(certificate.active_reservations as u64, certified.active_holds);
        self.ours.verify().unwrap();
    }
}

fn amount(random: &mut Random) -> i64 {
    match random.below(12) {
        0 => random.between(0, 2) as i64 - 2,
        1 => i64::MAX - random.below(300) as i64,
        2 => i64::MAX / 2 + random.below(5) as i64 - 2,
        3 => random.next() as i64,
        4 | 5 => random.between(1, 3_000_000) as i64,
        _ => random.between(1, 600) as i64,
    }
}

#[test]
fn random_operations_answer_alike() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut both = Both::new(&mut random);
        for step in 0..250 {
            let account = random.below(4) as usize;
            let number = match both.seen.len() as u64 {
                0 => 1,
                count if random.one_in(4) => both.seen[random.below(count) as usize],
                count => both.seen[(count - 1 - random.below(count.min(4))) as usize],
            };
            match random.below(10) {
                0..4 => {
                    let near = both
                        .balance(account)
                        .remaining
                        .saturating_add(random.below(3) as i64 - 1);
                    let amount = if random.one_in(5) { near } else { amount(&mut random) };
                    both.reserve(account, amount);
                }
                4..7 => {
                    let held = both.ours.hold(HoldId(number)).map_or(0, |hold| hold.amount);
                    let near = held.saturating_add(random.below(200) as i64 - 100);
                    let actual = if random.one_in(3) { amount(&mut random) } else { near };
                    both.commit(number, actual);
                }
                7..9 => both.release(number),
                _ => both.top_up(account, amount(&mut random)),
            }
            if step % 10 == 0 {
                both.agree();
            }
        }
        both.agree();
    }
}
