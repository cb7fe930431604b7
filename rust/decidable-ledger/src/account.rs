use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use decidable_canon::cast;

use crate::balance::{Balance, Denial};

/// The most that one figure can be: amounts are `i64` and never negative.
const FIGURE_MAX: u64 = i64::MAX.unsigned_abs();

/// The word of an account without a cap; a cap is at most [`FIGURE_MAX`].
const UNCAPPED: u64 = u64::MAX;

/// The figures of one account in four words, and every change of them.
///
/// `initial` and `spent` only rise. All that [`Balance`] says follows from the words, see [`Words::balance`]. The
/// largest `initial` and the largest `debt` are [`FIGURE_MAX`] each, so that `used` and `spent` fit a `u64`.
///
/// INVARIANT: `spent <= used`, and `used - spent <= initial`, at every moment. It holds because a reserve needs
/// `used + amount <= initial`, and a settlement raises `spent` by no more than it takes from the hold (`settle`), or
/// happens while nothing else does (`overrun`).
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Account {
    /// All that was given.
    initial: AtomicU64,
    /// Reserved, committed and debt.
    used: AtomicU64,
    /// Committed and debt.
    spent: AtomicU64,
    /// The exposure cap, or [`UNCAPPED`].
    cap: AtomicU64,
}

/// The four words of an account as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) initial: u64,
    pub(crate) used: u64,
    pub(crate) spent: u64,
    pub(crate) cap: u64,
}

impl Words {
    /// The figures that the words stand for: their only definition.
    pub(crate) fn balance(self) -> Balance {
        let debt = self.used.saturating_sub(self.initial);
        Balance {
            initial: figure(self.initial),
            remaining: figure(self.initial.saturating_sub(self.used)),
            reserved: figure(self.reserved()),
            committed: figure(self.spent.saturating_sub(debt)),
            debt: figure(debt),
            cap: if self.cap == UNCAPPED {
                None
            } else {
                Some(figure(self.cap))
            },
        }
    }

    /// Whether the words keep the invariants and the open holds of the account add up to `held`.
    pub(crate) fn consistent(self, held: u128) -> bool {
        let debt = self.used.saturating_sub(self.initial);
        self.initial <= FIGURE_MAX
            && debt <= FIGURE_MAX
            && self.spent >= debt
            && self.used.checked_sub(self.spent).map(u128::from) == Some(held)
            && held <= u128::from(self.initial)
    }

    const fn reserved(self) -> u64 {
        self.used.saturating_sub(self.spent)
    }

    /// Why `amount` cannot be held, in the order of the shared contract.
    const fn denial(self, amount: u64) -> Option<Denial> {
        let reserved = self.reserved().saturating_add(amount);
        if reserved > FIGURE_MAX {
            Some(Denial::Overflow)
        } else if reserved > self.cap {
            Some(Denial::OverCap)
        } else if amount > self.initial.saturating_sub(self.used) {
            Some(Denial::Insufficient)
        } else {
            None
        }
    }
}

/// A word as a figure. The invariants keep every figure in range.
fn figure(word: u64) -> i64 {
    cast::i64_from_u64(word).unwrap_or(i64::MAX)
}

impl Account {
    pub(crate) const fn new(initial: u64) -> Self {
        Self {
            initial: AtomicU64::new(initial),
            used: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            cap: AtomicU64::new(UNCAPPED),
        }
    }

    /// Reads the words, the two that only rise before `used`: they are then no larger than at the moment `used` is
    /// read, which makes `denial` err on the side of refusing.
    fn read(&self) -> Words {
        let spent = self.spent.load(Acquire);
        let initial = self.initial.load(Acquire);
        let used = self.used.load(Acquire);
        Words {
            initial,
            used,
            spent,
            cap: self.cap.load(Relaxed),
        }
    }

    /// The words while nothing is in flight. The caller keeps everything else out.
    pub(crate) fn still(&self) -> Words {
        self.read()
    }

    /// Sets `amount` aside, or says why not with the words of one moment.
    ///
    /// The caller keeps changes of the cap out.
    pub(crate) fn reserve(&self, amount: u64) -> Result<Words, (Denial, Words)> {
        let mut seen = self.read();
        loop {
            if let Some(denial) = seen.denial(amount) {
                // INVARIANT: `spent` and `initial` only rise. If they are what they were before `used` was read, the
                // words are of one moment and the refusal is exact; otherwise look again.
                let again = self.read();
                if again.spent == seen.spent && again.initial == seen.initial {
                    return Err((denial, seen));
                }
                seen = again;
                continue;
            }
            let used = seen.used.saturating_add(amount);
            match self.used.compare_exchange_weak(seen.used, used, AcqRel, Acquire) {
                Ok(_) => return Ok(Words { used, ..seen }),
                Err(_) => seen = self.read(),
            }
        }
    }

    /// Settles a hold of `amount` by spending `actual`, which is at most `amount`.
    pub(crate) fn settle(&self, amount: u64, actual: u64) -> Words {
        // INVARIANT: `spent` rises before `used` falls, so that between the two `reserved` is lower and `remaining` is
        // no higher than before: a reserve that comes in between is right after the settlement, one that is refused is
        // right before it.
        let spent = self.spent.fetch_add(actual, AcqRel).saturating_add(actual);
        let surplus = amount.saturating_sub(actual);
        let used = self.used.fetch_sub(surplus, AcqRel).saturating_sub(surplus);
        Words {
            initial: self.initial.load(Acquire),
            used,
            spent,
            cap: self.cap.load(Relaxed),
        }
    }

    /// Returns a hold of `amount`.
    pub(crate) fn release(&self, amount: u64) -> Words {
        let spent = self.spent.load(Acquire);
        let used = self.used.fetch_sub(amount, AcqRel).saturating_sub(amount);
        Words {
            initial: self.initial.load(Acquire),
            used,
            spent,
            cap: self.cap.load(Relaxed),
        }
    }

    /// Settles a hold by spending `excess` more than the `amount` it has: from `remaining` as far as that goes, the rest
    /// becomes debt. `None`, and nothing changes, if the debt would not fit. The caller keeps everything else out.
    pub(crate) fn overrun(&self, amount: u64, excess: u64) -> Option<(Words, Words)> {
        let before = self.still();
        let after = Words {
            used: before.used.checked_add(excess)?,
            spent: before.spent.checked_add(amount)?.checked_add(excess)?,
            ..before
        };
        if after.used.saturating_sub(after.initial) > FIGURE_MAX {
            return None;
        }
        self.used.store(after.used, Release);
        self.spent.store(after.spent, Release);
        Some((before, after))
    }

    /// Gives the account `amount` more. `None`, and nothing changes, if `initial` would not fit.
    pub(crate) fn top_up(&self, amount: u64) -> Option<Words> {
        let raise = |initial: u64| initial.checked_add(amount).filter(|raised| *raised <= FIGURE_MAX);
        let before = self.initial.fetch_update(AcqRel, Acquire, raise).ok()?;
        Some(Words {
            initial: before.saturating_add(amount),
            ..self.read()
        })
    }

    /// Sets or lifts the exposure cap. The caller keeps everything else out.
    pub(crate) fn set_cap(&self, cap: Option<u64>) {
        self.cap.store(cap.unwrap_or(UNCAPPED), Relaxed);
    }
}
