use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use decidable_canon::cast;

use crate::{
    account::{Account, Denied, Words, figure},
    accounts::Accounts,
    balance::{Balance, Commit, Hold, Reserve},
    error::{Error, ErrorKind},
    holds::{Held, Holds, Vacancy},
    number::{AccountId, HoldId},
    snapshot::{AccountSnapshot, Certificate, LedgerSnapshot},
};

/// An account's name has at most this many bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Accounts, the holds on them and their settlement. Share it by reference; every operation takes `&self`.
///
/// The balance that an operation answers with is that of the operation's own moment. Where other threads change the same
/// account meanwhile, their part of it may be an instant older; the equation of the balance holds in any case.
#[derive(Debug)]
pub struct Ledger {
    names: RwLock<HashMap<Box<str>, AccountId>>,
    accounts: Accounts,
    holds: Holds,
    drawn: AtomicU64,
    certified: Mutex<i64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// A ledger without accounts.
    #[must_use]
    pub fn new() -> Self {
        Self {
            names: RwLock::new(HashMap::new()),
            accounts: Accounts::new(),
            holds: Holds::new(),
            drawn: AtomicU64::new(0),
            certified: Mutex::new(0),
        }
    }

    /// Opens an account with `initial` microunits. Accounts are numbered from 0 in the order of opening.
    ///
    /// # Errors
    /// `InvalidName` unless the name has 1 to [`NAME_BYTES_MAX`] bytes; `InvalidAmount` if `initial` is negative;
    /// `AccountExists`; `TooManyAccounts`.
    pub fn open_account(&self, name: &str, initial: i64) -> Result<AccountId, Error> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidName,
                format_args!(
                    "an account's name has 1 to {NAME_BYTES_MAX} bytes, this one has {}",
                    name.len()
                ),
            ));
        }
        let initial = not_negative("initial", initial)?;
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.contains_key(name) {
            return Err(Error::new(
                ErrorKind::AccountExists,
                format_args!("account {name:?} is open already"),
            ));
        }
        let full = || Error::new(ErrorKind::TooManyAccounts, "the ledger has no room for another account");
        let id = AccountId(cast::u32_from_usize(names.len()).ok_or_else(full)?);
        self.accounts.put(id, Account::new(initial)).ok_or_else(full)?;
        names.insert(name.into(), id);
        Ok(id)
    }

    /// The account with this name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<AccountId> {
        self.names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied()
    }

    /// Sets or lifts the exposure cap of an account. Holds that are open stay, also above it.
    ///
    /// # Errors
    /// `InvalidAmount` if the cap is negative; `UnknownAccount`.
    pub fn set_cap(&self, account: AccountId, cap: Option<i64>) -> Result<(), Error> {
        let cap = cap.map(|cap| not_negative("cap", cap)).transpose()?;
        let found = self.find(account)?;
        let mut still = self.holds.still();
        found.set_cap_alone(cap);
        still.changed();
        Ok(())
    }

    /// Gives an account `amount` microunits more. It repays debt first.
    ///
    /// # Errors
    /// `InvalidAmount` if the amount is not positive; `UnknownAccount`; `Overflow` if `initial` would not fit an `i64`.
    pub fn top_up(&self, account: AccountId, amount: i64) -> Result<Balance, Error> {
        let amount = positive(amount)?;
        let found = self.find(account)?;
        let mut still = self.holds.still();
        let words = found.top_up_alone(amount).ok_or_else(|| {
            Error::new(
                ErrorKind::Overflow,
                format_args!("with {amount} microunits more, initial does not fit: it is at most 2^63 - 1"),
            )
        })?;
        still.changed();
        Ok(words.balance())
    }

    /// The next number for a hold: 1, 2, 3 and so on, for a caller that has no numbers of its own.
    pub fn next_hold(&self) -> HoldId {
        HoldId(self.drawn.fetch_add(1, Relaxed).wrapping_add(1))
    }

    /// Sets `amount` microunits of an account aside under the number `hold`, or denies it. An amount of 0 is a hold like
    /// any other: what is expected to be free may cost something in the end, and is committed then. An account in debt
    /// is denied even that.
    ///
    /// # Errors
    /// `InvalidAmount` if the amount is negative; `UnknownAccount`; `HoldInUse` if a hold with this number is open.
    pub fn reserve(&self, account: AccountId, hold: HoldId, amount: i64) -> Result<Reserve, Error> {
        let amount = not_negative("an amount to hold", amount)?;
        let found = self.find(account)?;
        let held = Held { account, amount };
        let mut shard = self.holds.shard(hold);
        let vacancy = shard.vacancy(hold)?;
        if let Some(answer) = found.reserve(amount) {
            return Ok(reserved(vacancy, hold, held, answer));
        }
        drop(shard);
        let mut still = self.holds.still();
        let vacancy = still.shard(hold).vacancy(hold)?;
        Ok(reserved(vacancy, hold, held, found.reserve_alone(amount)))
    }

    /// Settles a hold by spending `actual` microunits. What the hold has more is returned to the account; what it has
    /// less is debited from `remaining` as far as that goes, and the rest becomes debt.
    ///
    /// # Errors
    /// `InvalidAmount` if `actual` is negative; `UnknownHold`; `Overflow` if the debt would not fit an `i64`, and then
    /// the hold stays open.
    pub fn commit(&self, hold: HoldId, actual: i64) -> Result<Commit, Error> {
        let actual = not_negative("actual", actual)?;
        let mut shard = self.holds.shard(hold);
        let open = shard.open(hold)?;
        let held = open.held();
        let Some(surplus) = held.amount.checked_sub(actual) else {
            drop(shard);
            return self.overrun(hold, actual);
        };
        let words = self.find(held.account)?.commit(held.amount, actual);
        open.settle();
        Ok(Commit {
            account: held.account,
            charged: figure(actual),
            returned: figure(surplus),
            debt: 0,
            balance: words.balance(),
        })
    }

    /// Settles a hold by spending more than it has. It looks the hold up again: another thread may have settled it.
    #[cold]
    fn overrun(&self, hold: HoldId, actual: u64) -> Result<Commit, Error> {
        let mut still = self.holds.still();
        let open = still.shard(hold).open(hold)?;
        let held = open.held();
        let excess = actual.saturating_sub(held.amount);
        let (before, after) = self
            .find(held.account)?
            .overrun_alone(held.amount, excess)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Overflow,
                    format_args!("hold {hold}: with {actual} microunits spent, the debt does not fit"),
                )
            })?;
        open.settle();
        let balance = after.balance();
        let debt = balance.debt.saturating_sub(before.balance().debt);
        Ok(Commit {
            account: held.account,
            charged: figure(actual).saturating_sub(debt),
            returned: 0,
            debt,
            balance,
        })
    }

    /// Settles a hold by returning all of it.
    ///
    /// # Errors
    /// `UnknownHold`: it was never reserved, or it was settled.
    pub fn release(&self, hold: HoldId) -> Result<Balance, Error> {
        let mut shard = self.holds.shard(hold);
        let open = shard.open(hold)?;
        let held = open.held();
        let words = self.find(held.account)?.release(held.amount);
        open.settle();
        Ok(words.balance())
    }

    /// The figures of an account at one moment.
    #[must_use]
    pub fn balance(&self, account: AccountId) -> Option<Balance> {
        let found = self.accounts.find(account)?;
        let any = self.holds.shard(HoldId(u64::from(account.0)));
        if let Some(words) = found.read_exact() {
            return Some(words.balance());
        }
        drop(any);
        let _still = self.holds.still();
        Some(found.read().balance())
    }

    /// The open hold with this number.
    #[must_use]
    pub fn hold(&self, hold: HoldId) -> Option<Hold> {
        self.holds.shard(hold).find(hold).map(|held| open_hold(hold, held))
    }

    /// All open holds in the order of their numbers.
    #[must_use]
    pub fn holds(&self) -> Vec<Hold> {
        let still = self.holds.still();
        let mut holds: Vec<Hold> = still.iter().map(|(hold, held)| open_hold(hold, held)).collect();
        drop(still);
        holds.sort_unstable();
        holds
    }

    /// The whole ledger at one moment.
    #[must_use]
    pub fn snapshot(&self) -> LedgerSnapshot {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let still = self.holds.still();
        let accounts = names
            .iter()
            .filter_map(|(name, id)| Some(AccountSnapshot::new(name, self.accounts.find(*id)?.read().balance())))
            .collect();
        let version = still.changes().saturating_add(cast::u64_from_usize(names.len()));
        let active_holds = cast::u64_from_usize(still.count());
        drop((still, names));
        LedgerSnapshot::of(version, accounts, active_holds)
    }

    /// A certificate over a snapshot of this moment, with what was committed since the last one.
    pub fn certificate(&self) -> Certificate {
        let mut certified = self.certified.lock().unwrap_or_else(PoisonError::into_inner);
        let certificate = self.snapshot().certificate(*certified);
        if let Some(totals) = certificate.totals {
            *certified = totals.committed;
        }
        certificate
    }

    /// Checks every account while nothing is in flight: the equation of its balance, and that `reserved` is the sum of
    /// the open holds, counted one by one.
    ///
    /// # Errors
    /// `Unbalanced`, naming the account and the figures.
    pub fn verify(&self) -> Result<(), Error> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let still = self.holds.still();
        let mut sums: HashMap<AccountId, u128> = HashMap::new();
        for (_, held) in still.iter() {
            let sum = sums.entry(held.account).or_default();
            *sum = sum.saturating_add(u128::from(held.amount));
        }
        for (name, id) in names.iter() {
            let words = self.find(*id)?.read();
            let held = sums.remove(id).unwrap_or_default();
            if !words.agree_with(held) {
                return Err(Error::new(
                    ErrorKind::Unbalanced,
                    format_args!("account {name:?}: {words:?} do not agree with open holds of {held}"),
                ));
            }
        }
        match sums.keys().next() {
            None => Ok(()),
            Some(id) => Err(Error::new(
                ErrorKind::Unbalanced,
                format_args!("a hold is open on account {id}, which does not exist"),
            )),
        }
    }

    fn find(&self, account: AccountId) -> Result<&Account, Error> {
        self.accounts
            .find(account)
            .ok_or_else(|| Error::new(ErrorKind::UnknownAccount, format_args!("there is no account {account}")))
    }
}

/// Puts the hold at its place if it was granted.
fn reserved(vacancy: Vacancy<'_>, hold: HoldId, held: Held, answer: Result<Words, Denied>) -> Reserve {
    match answer {
        Ok(words) => {
            vacancy.fill(held);
            Reserve::Held {
                hold,
                balance: words.balance(),
            }
        }
        Err((reason, words)) => Reserve::Denied {
            reason,
            balance: words.balance(),
        },
    }
}

fn open_hold(id: HoldId, held: &Held) -> Hold {
    let Held { account, amount } = *held;
    Hold {
        id,
        account,
        amount: figure(amount),
    }
}

fn not_negative(what: &str, amount: i64) -> Result<u64, Error> {
    cast::u64_from_i64(amount).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidAmount,
            format_args!("{what} must not be negative, and is {amount}"),
        )
    })
}

fn positive(amount: i64) -> Result<u64, Error> {
    cast::u64_from_i64(amount).filter(|amount| *amount > 0).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidAmount,
            format_args!("an amount must be positive, and is {amount}"),
        )
    })
}

#[cfg(test)]
mod tests;
