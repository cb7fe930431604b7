//! Accounts by number: opening, funds, caps, balances.
//!
//! It knows no names, and nothing of what is paid: holds are for the answers, charges for the settlements.

use decidable_canon::cast;
use decidable_ledger::{AccountId, Balance};

use super::{State, too_many};
use crate::{Error, ErrorKind, Record};

impl State {
    /// How many accounts are open.
    #[must_use]
    pub fn accounts(&self) -> u32 {
        cast::u32_from_usize(self.accounts.len()).unwrap_or(u32::MAX)
    }
    /// The balance of an account.
    #[must_use]
    pub fn balance(&self, account: u32) -> Option<Balance> {
        self.ledger.balance(*self.accounts.get(cast::usize_from_u32(account))?)
    }

    pub(super) fn account(&self, account: u32) -> Result<AccountId, Error> {
        self.accounts
            .get(cast::usize_from_u32(account))
            .copied()
            .ok_or_else(|| unknown_account(account))
    }

    pub(super) fn open_account(&mut self, initial: i64) -> Result<Record, Error> {
        let account = cast::u32_from_usize(self.accounts.len()).ok_or_else(|| too_many("accounts"))?;
        let id = self
            .ledger
            .open_account(&account.to_string(), initial)
            .map_err(|error| Error::ledger(&error))?;
        self.accounts.push(id);
        Ok(Record::Account {
            account,
            balance: self.ledger.balance(id).ok_or_else(|| unknown_account(account))?,
        })
    }

    pub(super) fn top_up(&self, account: u32, amount: i64) -> Result<Record, Error> {
        let id = self.account(account)?;
        let balance = self.ledger.top_up(id, amount).map_err(|error| Error::ledger(&error))?;
        Ok(Record::TopUp {
            account,
            amount,
            balance,
        })
    }

    pub(super) fn set_cap(&self, account: u32, cap: Option<i64>) -> Result<Record, Error> {
        let id = self.account(account)?;
        self.ledger.set_cap(id, cap).map_err(|error| Error::ledger(&error))?;
        Ok(Record::Cap {
            account,
            balance: self.ledger.balance(id).ok_or_else(|| unknown_account(account))?,
        })
    }
}

pub(super) fn unknown_account(account: u32) -> Error {
    Error::new(
        ErrorKind::UnknownAccount,
        format!("no account of number {account} is open"),
    )
}
