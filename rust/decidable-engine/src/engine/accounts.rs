//! Accounts: opening, funds, caps, balances.
//!
//! Names are known here and in the book; records and state know numbers alone.

use decidable_ledger::Balance;
use decidable_replay::{Command, Record};

use super::{Engine, Step};
use crate::book::{SHOWN_CHARS, is_account_name, is_name};
use crate::{Error, ErrorKind};

impl Engine {
    /// Opens an account. Its name is kept as a private part of its record.
    ///
    /// # Errors
    /// If the name is not valid or taken, the amount negative, or the log cannot take the record.
    pub fn open_account(&self, name: &str, initial: i64) -> Result<(Balance, Step), Error> {
        if !is_name(name) || !is_account_name(name) {
            return Err(bad_name(name));
        }
        let mut core = self.core()?;
        if core.book.number(name).is_some() {
            return Err(Error::new(ErrorKind::AccountExists(name.to_owned())));
        }
        let private = core.private(name)?;
        match self.perform(&mut core, Command::OpenAccount { initial }, Some(private))? {
            (Record::Account { account, balance }, step) => {
                core.book.name(account, step.seq, Some(name.to_owned()));
                Ok((balance, step))
            }
            _ => Err(Error::new(ErrorKind::Stopped)),
        }
    }

    /// Adds funds to an account; debt is repaid first.
    ///
    /// # Errors
    /// If the account is unknown, the amount not positive or too large, or the log cannot take the record.
    pub fn top_up(&self, name: &str, amount: i64) -> Result<(Balance, Step), Error> {
        let mut core = self.core()?;
        let account = core.account(name)?;
        match self.perform(&mut core, Command::TopUp { account, amount }, None)? {
            (Record::TopUp { balance, .. }, step) => Ok((balance, step)),
            _ => Err(Error::new(ErrorKind::Stopped)),
        }
    }

    /// Sets or lifts the exposure cap of an account.
    ///
    /// # Errors
    /// If the account is unknown, the cap negative, or the log cannot take the record.
    pub fn set_cap(&self, name: &str, cap: Option<i64>) -> Result<(Balance, Step), Error> {
        let mut core = self.core()?;
        let account = core.account(name)?;
        match self.perform(&mut core, Command::SetCap { account, cap }, None)? {
            (Record::Cap { balance, .. }, step) => Ok((balance, step)),
            _ => Err(Error::new(ErrorKind::Stopped)),
        }
    }

    /// The balance of an account.
    ///
    /// # Errors
    /// If the account is unknown.
    pub fn balance(&self, name: &str) -> Result<Balance, Error> {
        let core = self.core()?;
        let account = core.account(name)?;
        core.book
            .state()
            .balance(account)
            .ok_or_else(|| Error::new(ErrorKind::UnknownAccount(name.to_owned())))
    }

    /// The balance of an account that is open already, and the number of the record that opened it: whoever relies on that
    /// waits for it.
    ///
    /// # Errors
    /// If the account is unknown.
    pub fn opened_account(&self, name: &str) -> Result<(Balance, u64), Error> {
        let core = self.core()?;
        let account = core.account(name)?;
        core.book
            .state()
            .balance(account)
            .zip(core.book.opened_by(account))
            .ok_or_else(|| Error::new(ErrorKind::UnknownAccount(name.to_owned())))
    }

    /// Names and balances of all accounts, in the order of opening.
    ///
    /// # Errors
    /// If the engine was forked or stopped.
    pub fn balances(&self) -> Result<Vec<(String, Balance)>, Error> {
        let core = self.core()?;
        Ok((0..core.book.state().accounts())
            .filter_map(|account| Some((core.book.account_name(account), core.book.state().balance(account)?)))
            .collect())
    }

    /// The name of an account by its number.
    ///
    /// # Errors
    /// If the engine was forked or stopped.
    pub fn account_name(&self, account: u32) -> Result<String, Error> {
        Ok(self.core()?.book.account_name(account))
    }
}

fn bad_name(name: &str) -> Error {
    Error::new(ErrorKind::BadName(name.chars().take(SHOWN_CHARS).collect()))
}
