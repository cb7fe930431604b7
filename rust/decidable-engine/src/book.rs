//! The state of a log with the names of its accounts: what recovery rebuilds and verification re-derives.

use std::collections::BTreeMap;

use decidable_canon::cast;
use decidable_replay::{Kind, Record, State};
use decidable_wal::{CALLER_KIND_MIN, PrivatePart, Record as Framed};

use crate::{Error, ErrorKind};

/// An account's name has at most this many bytes, as any name of the contract.
pub(crate) const LONGEST_NAME_BYTES: usize = 256;

/// What a framed record turned out to be.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A record of the log's own: a session that opened or closed it, a recovery, an erasure.
    Log,
    /// A step, which followed from those before it.
    Step(Record),
}

/// State and names.
#[derive(Debug, Default)]
pub struct Book {
    state: State,
    names: Vec<Option<String>>,
    numbers: BTreeMap<String, u32>,
}

impl Book {
    /// The book before the first record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record of a log and derives it again.
    ///
    /// # Errors
    /// If the record is of no known kind, cannot be read, or does not follow from those before it.
    pub fn read(&mut self, framed: &Framed<'_>) -> Result<Entry, Error> {
        if framed.kind < CALLER_KIND_MIN {
            return Ok(Entry::Log);
        }
        let at = |error: decidable_replay::Error| Error::at(ErrorKind::Replay(error), framed.seq);
        let kind =
            Kind::from_code(framed.kind).ok_or_else(|| Error::at(ErrorKind::UnknownKind(framed.kind), framed.seq))?;
        let record = self.state.replay(framed.seq, kind, framed.payload).map_err(at)?;
        if let Record::Account { account, .. } = record {
            let name = match framed.private {
                PrivatePart::Present(bytes) => Some(
                    core::str::from_utf8(bytes)
                        .map_err(|_| Error::at(ErrorKind::NotText("an account's name".to_owned()), framed.seq))?
                        .to_owned(),
                ),
                PrivatePart::Erased | PrivatePart::None => None,
            };
            self.name(account, name);
        }
        Ok(Entry::Step(record))
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }
    pub(crate) const fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The number of the account of that name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
    /// The name of an account, or `#` and its number where the name was erased.
    #[must_use]
    pub fn account_name(&self, account: u32) -> String {
        match self.names.get(cast::usize_from_u32(account)) {
            Some(Some(name)) => name.clone(),
            _ => format!("#{account}"),
        }
    }
    pub(crate) fn name(&mut self, account: u32, name: Option<String>) {
        if let Some(name) = &name {
            self.numbers.insert(name.clone(), account);
        } else {
            self.numbers.insert(format!("#{account}"), account);
        }
        self.names.push(name);
    }
}
