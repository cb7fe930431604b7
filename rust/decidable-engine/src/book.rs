//! The state of a log with the names of its accounts: what recovery rebuilds and verification re-derives.

use std::collections::BTreeMap;

use decidable_canon::cast;
use decidable_ledger::NAME_BYTES_MAX;
use decidable_replay::{Kind, Record, State};
use decidable_wal::{CALLER_KIND_MIN, PrivatePart, Record as Framed, Scanned};

use crate::{Error, ErrorKind};

/// A message shows at most this much of a name.
pub(crate) const SHOWN_CHARS: usize = 64;

/// What a framed record turned out to be.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A record of the log's own: a session that opened or closed it, a recovery, an erasure.
    Log,
    /// A step, which followed from those before it.
    Step(Record),
}

/// Whether an account can have this name: `#` begins the names of accounts whose own was erased.
pub(crate) fn is_account_name(name: &str) -> bool {
    is_name(name) && !name.starts_with(ERASED_MARK)
}

/// Whether a person can read the name on one line: 1 to 256 bytes, no control characters.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

const ERASED_MARK: char = '#';

/// State and names.
#[derive(Debug, Default)]
pub struct Book {
    state: State,
    accounts: Vec<Named>,
    numbers: BTreeMap<String, u32>,
}

/// An account's name, unless it was erased, and the record that has it.
#[derive(Debug)]
struct Named {
    name: Option<String>,
    seq: u64,
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
        let text = match framed.private {
            PrivatePart::Present(bytes) => Some(core::str::from_utf8(bytes).map_err(|_| {
                let what = match record {
                    Record::Account { .. } => "an account's name",
                    _ => "a caller's metadata",
                };
                Error::at(ErrorKind::NotText(what.to_owned()), framed.seq)
            })?),
            PrivatePart::Erased | PrivatePart::None => None,
        };
        if let Record::Account { account, .. } = record {
            let name = text.map(str::to_owned);
            match &name {
                Some(name) if !is_account_name(name) => {
                    return Err(Error::at(
                        ErrorKind::BadName(name.chars().take(SHOWN_CHARS).collect()),
                        framed.seq,
                    ));
                }
                Some(name) if self.number(name).is_some() => {
                    return Err(Error::at(ErrorKind::AccountExists(name.clone()), framed.seq));
                }
                _ => self.name(account, framed.seq, name),
            }
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
        match self.accounts.get(cast::usize_from_u32(account)) {
            Some(Named { name: Some(name), .. }) => name.clone(),
            _ => nameless(account),
        }
    }
    /// The accounts whose names are gone although the log records no erasure: their records and numbers.
    pub(crate) fn names_gone(&self, scanned: &Scanned) -> impl Iterator<Item = (u64, u32)> {
        let unrecorded = scanned.unrecorded_erasures.iter();
        unrecorded.filter_map(|seq| Some((*seq, cast::u32_from_usize(self.place(*seq)?)?)))
    }
    /// Names say who pays, so one that is gone is only taken for erased where the log says that it is: a name that
    /// anyone can blank would be a budget that anyone can make new.
    ///
    /// # Errors
    /// `NameGone` with the first such record and its account.
    pub fn expect_names(&self, scanned: &Scanned) -> Result<(), Error> {
        match self.names_gone(scanned).next() {
            Some((seq, account)) => Err(Error::at(ErrorKind::NameGone { account }, seq)),
            None => Ok(()),
        }
    }
    /// Where the account is that a record opened. Accounts are numbered in the order of their records.
    fn place(&self, seq: u64) -> Option<usize> {
        self.accounts.binary_search_by_key(&seq, |named| named.seq).ok()
    }

    /// The number of the record that opened an account.
    pub(crate) fn opened_by(&self, account: u32) -> Option<u64> {
        self.accounts.get(cast::usize_from_u32(account)).map(|named| named.seq)
    }
    pub(crate) fn name(&mut self, account: u32, seq: u64, name: Option<String>) {
        self.numbers
            .insert(name.clone().unwrap_or_else(|| nameless(account)), account);
        self.accounts.push(Named { name, seq });
    }
    /// Forgets the names whose records are among `erased`, as a reader of the log does.
    pub(crate) fn forget_names<'a>(&mut self, erased: impl Iterator<Item = &'a u64>) {
        for seq in erased {
            let Some(at) = self.place(*seq) else {
                continue;
            };
            if let (Some(named), Some(account)) = (self.accounts.get_mut(at), cast::u32_from_usize(at))
                && let Some(name) = named.name.take()
            {
                self.numbers.remove(&name);
                self.numbers.insert(nameless(account), account);
            }
        }
    }
}

fn nameless(account: u32) -> String {
    format!("{ERASED_MARK}{account}")
}
