#[cfg(not(test))]
use std::sync::atomic::AtomicU64;
use std::{
    hint,
    sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use decidable_canon::cast;

use crate::balance::{Balance, Denial};
#[cfg(test)]
use crate::between::AtomicU64;

/// The most that one figure can be: amounts are `i64` and never negative.
const FIGURE_MAX: u64 = i64::MAX.unsigned_abs();

/// The word of an account without a cap; a cap is at most [`FIGURE_MAX`].
const UNCAPPED: u64 = u64::MAX;

/// How often the words are read again before the caller is told to keep everything else out.
const READS: u32 = 16;

/// The figures of one account, and every change of them.
///
/// All that [`Balance`] says follows from the words, see [`Words::balance`]. The largest `initial` and the largest debt
/// are [`FIGURE_MAX`] each, so `used` and `spent` fit a `u64`.
///
/// A reserve and a release change `used`, and nothing else. A commit raises `spending`, lowers `used` by its surplus and
/// raises `spent`, in this order; while `spending` is above `spent`, a commit is in flight. `spending` and `spent` only
/// rise. Whatever else there is (a top-up, another cap, a commit above its hold) happens *alone*: the caller sees to it
/// that no other method of the account runs meanwhile. The methods that need that end in `_alone`.
///
/// INVARIANT: `spent <= used` and `used - spent <= initial` at every moment: a reserve needs `used + amount <= initial`,
/// and a commit takes no more from `used - spent` than its hold put there.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Account {
    /// All that was given.
    initial: AtomicU64,
    /// Reserved, committed and debt.
    used: AtomicU64,
    /// What `spent` will be when the commits in flight are done.
    spending: AtomicU64,
    /// Committed and debt.
    spent: AtomicU64,
    /// The exposure cap, or [`UNCAPPED`].
    cap: AtomicU64,
}

/// The words of an account as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) initial: u64,
    pub(crate) used: u64,
    pub(crate) spent: u64,
    pub(crate) cap: u64,
}

/// Why an amount cannot be held, and the words that say so.
pub(crate) type Denied = (Denial, Words);

impl Words {
    /// The figures that the words stand for: their only definition.
    pub(crate) fn balance(self) -> Balance {
        Balance {
            initial: figure(self.initial),
            remaining: figure(self.remaining()),
            reserved: figure(self.reserved()),
            committed: figure(self.spent.saturating_sub(self.debt())),
            debt: figure(self.debt()),
            cap: if self.cap == UNCAPPED {
                None
            } else {
                Some(figure(self.cap))
            },
        }
    }

    /// Whether the words keep the invariants and the open holds of the account add up to `held`.
    pub(crate) fn agree_with(self, held: u128) -> bool {
        self.initial <= FIGURE_MAX
            && self.debt() <= FIGURE_MAX
            && self.spent >= self.debt()
            && self.used.checked_sub(self.spent).map(u128::from) == Some(held)
            && held <= u128::from(self.initial)
    }

    const fn remaining(self) -> u64 {
        self.initial.saturating_sub(self.used)
    }

    const fn debt(self) -> u64 {
        self.used.saturating_sub(self.initial)
    }

    const fn reserved(self) -> u64 {
        self.used.saturating_sub(self.spent)
    }

    /// The words with `amount` set aside, or why not, in the order of the shared contract.
    const fn reserve(self, amount: u64) -> Result<Self, Denied> {
        let reserved = self.reserved().saturating_add(amount);
        if reserved > FIGURE_MAX {
            Err((Denial::Overflow, self))
        } else if reserved > self.cap {
            Err((Denial::OverCap, self))
        } else if amount > self.remaining() || self.debt() > 0 {
            // With debt nothing remains, so the second condition only concerns an amount of 0.
            Err((Denial::Insufficient, self))
        } else {
            Ok(Self {
                used: self.used.saturating_add(amount),
                ..self
            })
        }
    }
}

/// A word as a figure. The invariants keep every figure in range.
pub(crate) fn figure(word: u64) -> i64 {
    cast::i64_from_u64(word).unwrap_or(i64::MAX)
}

impl Account {
    pub(crate) fn new(initial: u64) -> Self {
        Self {
            initial: AtomicU64::new(initial),
            used: AtomicU64::new(0),
            spending: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            cap: AtomicU64::new(UNCAPPED),
        }
    }

    /// The words. `spent` is read before `used`, so it is no larger than at the moment `used` is read: `reserved` is then
    /// no smaller than it was at that moment, and a reserve that these words allow is allowed.
    ///
    /// They are exact if nothing else runs.
    pub(crate) fn read(&self) -> Words {
        let spent = self.spent.load(Acquire);
        self.words(self.used.load(Acquire), spent)
    }

    fn words(&self, used: u64, spent: u64) -> Words {
        Words {
            initial: self.initial.load(Acquire),
            used,
            spent,
            cap: self.cap.load(Acquire),
        }
    }

    /// Whether `words`, just read, are of one moment: no commit was in flight while `used` was read.
    fn is_exact(&self, words: Words) -> bool {
        // INVARIANT: `spent <= spending`, and both only rise. If `spending` is now what `spent` was before `used` was
        // read, neither has changed since.
        self.spending.load(Acquire) == words.spent
    }

    /// The words of one moment, or `None` if commits were in flight whenever it looked.
    pub(crate) fn read_exact(&self) -> Option<Words> {
        (0..READS).find_map(|_| {
            let words = self.read();
            let exact = self.is_exact(words).then_some(words);
            if exact.is_none() {
                hint::spin_loop();
            }
            exact
        })
    }

    /// Sets `amount` aside; or says why not with the words of one moment; or `None` if commits were in flight whenever it
    /// looked, and then [`Account::reserve_alone`] must tell.
    pub(crate) fn reserve(&self, amount: u64) -> Option<Result<Words, Denied>> {
        let mut doubts = 0;
        loop {
            let words = self.read();
            match words.reserve(amount) {
                Ok(after) => {
                    let swap = self.used.compare_exchange_weak(words.used, after.used, AcqRel, Relaxed);
                    if swap.is_ok() {
                        return Some(Ok(after));
                    }
                }
                Err(denied) if self.is_exact(words) => return Some(Err(denied)),
                Err(_) => {
                    doubts += 1;
                    if doubts == READS {
                        return None;
                    }
                }
            }
            hint::spin_loop();
        }
    }

    /// What [`Account::reserve`] means.
    pub(crate) fn reserve_alone(&self, amount: u64) -> Result<Words, Denied> {
        let after = self.read().reserve(amount)?;
        self.used.store(after.used, Release);
        Ok(after)
    }

    /// Settles a hold of `amount` by spending `actual`, which is at most `amount`.
    pub(crate) fn commit(&self, amount: u64, actual: u64) -> Words {
        let surplus = amount.saturating_sub(actual);
        // INVARIANT: what is reported of `spent` is read before `used` falls, so that it is not above `used`.
        let spent = self.spent.load(Acquire).saturating_add(actual);
        self.spending.fetch_add(actual, AcqRel);
        let used = self.used.fetch_sub(surplus, AcqRel).saturating_sub(surplus);
        self.spent.fetch_add(actual, AcqRel);
        self.words(used, spent)
    }

    /// Settles a hold of `amount` by returning all of it.
    pub(crate) fn release(&self, amount: u64) -> Words {
        let spent = self.spent.load(Acquire);
        let used = self.used.fetch_sub(amount, AcqRel).saturating_sub(amount);
        self.words(used, spent)
    }

    /// Settles a hold of `amount` by spending `excess` more than that: from `remaining` as far as that goes, the rest
    /// becomes debt. Answers with the words before and after; `None`, and nothing changes, if the debt would not fit.
    pub(crate) fn overrun_alone(&self, amount: u64, excess: u64) -> Option<(Words, Words)> {
        let before = self.read();
        let after = Words {
            used: before.used.checked_add(excess)?,
            spent: before.spent.checked_add(amount)?.checked_add(excess)?,
            ..before
        };
        if after.debt() > FIGURE_MAX {
            return None;
        }
        self.spending.store(after.spent, Release);
        self.used.store(after.used, Release);
        self.spent.store(after.spent, Release);
        Some((before, after))
    }

    /// Gives the account `amount` more. `None`, and nothing changes, if `initial` would not fit.
    pub(crate) fn top_up_alone(&self, amount: u64) -> Option<Words> {
        let before = self.read();
        let initial = before.initial.checked_add(amount).filter(|sum| *sum <= FIGURE_MAX)?;
        self.initial.store(initial, Release);
        Some(Words { initial, ..before })
    }

    /// Sets or lifts the exposure cap.
    pub(crate) fn set_cap_alone(&self, cap: Option<u64>) {
        self.cap.store(cap.unwrap_or(UNCAPPED), Release);
    }
}

#[cfg(all(test, loom))]
mod orders;
#[cfg(test)]
mod tests;
