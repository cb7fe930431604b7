use core::fmt;

/// Why the engine, or a verification, cannot go on.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    seq: Option<u64>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The log cannot be opened, written or read.
    Log(decidable_wal::Error),
    /// A command cannot be performed, or a record does not follow.
    Replay(decidable_replay::Error),
    /// A request or policy is not valid.
    Kernel(decidable_kernel::Error),
    /// No account of that name is open.
    UnknownAccount(String),
    /// An account of that name is open already.
    AccountExists(String),
    /// A name is empty, too long, has control characters, or, of an account, begins with `#`.
    BadName(String),
    /// A caller's key is empty, too long, or has control characters.
    BadKey(String),
    /// A record is larger than the log takes. Nothing was changed.
    TooLarge(String),
    /// The caller's key was used before for another request.
    KeyConflict(String),
    /// A ticket was dispatched, so its money cannot be released without a settlement.
    Dispatched(u64),
    /// Nobody knows whether a ticket was acted on, so nobody may act on it: it is reconciled.
    InDoubt(u64),
    /// A ticket was settled before with another cost or other use.
    SettledOtherwise(u64),
    /// The decision that was proposed does not follow from policy and request. Nothing was written.
    DoesNotReplay(String),
    /// A record is of a kind that this version does not know.
    UnknownKind(u16),
    /// The log installed a policy that is not among those given to verify it with.
    PolicyNotGiven(String),
    /// The decision has no place in the exchange format.
    NotExportable(String),
    /// An export could not be written.
    NotWritten(String),
    /// The name of an account is gone, and the log records no erasure of it.
    NameGone {
        /// The number of the account.
        account: u32,
    },
    /// A private part is not text.
    NotText(String),
    /// The engine was used in a process that was forked from the one that opened it.
    Forked,
    /// Randomness for salts is not to be had.
    NoRandomness(String),
    /// An earlier fault left the engine unable to go on; reopen the log.
    Stopped,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind) -> Self {
        Self { kind, seq: None }
    }
    pub(crate) const fn at(kind: ErrorKind, seq: u64) -> Self {
        Self { kind, seq: Some(seq) }
    }
    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }
    /// The number of the record at which it went wrong, if it is about a record.
    #[must_use]
    pub const fn seq(&self) -> Option<u64> {
        self.seq
    }
    /// The stable code of the fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.kind {
            ErrorKind::Log(error) => error.code(),
            ErrorKind::Replay(error) => error.code(),
            ErrorKind::Kernel(error) => error.code(),
            ErrorKind::UnknownAccount(_) => "engine.unknown_account",
            ErrorKind::AccountExists(_) => "engine.account_exists",
            ErrorKind::BadName(_) => "engine.bad_name",
            ErrorKind::BadKey(_) => "engine.bad_key",
            ErrorKind::TooLarge(_) => "engine.too_large",
            ErrorKind::KeyConflict(_) => "engine.key_conflict",
            ErrorKind::Dispatched(_) => "engine.dispatched",
            ErrorKind::InDoubt(_) => "engine.in_doubt",
            ErrorKind::SettledOtherwise(_) => "engine.settled_otherwise",
            ErrorKind::DoesNotReplay(_) => "engine.does_not_replay",
            ErrorKind::UnknownKind(_) => "engine.unknown_kind",
            ErrorKind::PolicyNotGiven(_) => "engine.policy_not_given",
            ErrorKind::NotExportable(_) => "engine.not_exportable",
            ErrorKind::NotWritten(_) => "engine.not_written",
            ErrorKind::NameGone { .. } => "engine.name_gone",
            ErrorKind::NotText(_) => "engine.not_text",
            ErrorKind::Forked => "engine.forked",
            ErrorKind::NoRandomness(_) => "engine.no_randomness",
            ErrorKind::Stopped => "engine.stopped",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seq) = self.seq {
            write!(f, "record {seq}: ")?;
        }
        match &self.kind {
            ErrorKind::Log(error) => error.fmt(f),
            ErrorKind::Replay(error) => error.fmt(f),
            ErrorKind::Kernel(error) => error.fmt(f),
            ErrorKind::UnknownAccount(name) => write!(f, "no account {name:?} is open"),
            ErrorKind::AccountExists(name) => write!(f, "an account {name:?} is open already"),
            ErrorKind::BadName(name) => {
                write!(
                    f,
                    "a name has 1 to 256 bytes without control characters, an account's no # first; this is {name:?}"
                )
            }
            ErrorKind::BadKey(key) => {
                write!(
                    f,
                    "a caller's key has 1 to 256 bytes without control characters; this is {key:?}"
                )
            }
            ErrorKind::KeyConflict(key) => write!(f, "the key {key:?} was used before for another request"),
            ErrorKind::Dispatched(ticket) => {
                write!(
                    f,
                    "someone acts on ticket {ticket}, so it can be settled but not cancelled or acted on again"
                )
            }
            ErrorKind::InDoubt(ticket) => {
                write!(
                    f,
                    "ticket {ticket} is in doubt: someone may have acted on it, so it can only be reconciled"
                )
            }
            ErrorKind::SettledOtherwise(ticket) => write!(
                f,
                "ticket {ticket} was settled before with other values, which stand; the same values again are no error"
            ),
            ErrorKind::DoesNotReplay(what) => write!(f, "a decision does not replay and was not written: {what}"),
            ErrorKind::UnknownKind(kind) => write!(f, "kind {kind} is not known to this version"),
            ErrorKind::PolicyNotGiven(digest) => {
                write!(
                    f,
                    "the log installed the policy {digest}, which is not among those given"
                )
            }
            ErrorKind::NotExportable(what) | ErrorKind::TooLarge(what) => f.write_str(what),
            ErrorKind::NotWritten(what) => write!(f, "the export cannot be written: {what}"),
            ErrorKind::NameGone { account } => write!(
                f,
                "the name of account {account} is gone and the log records no erasure of it, so who pays is not known: \
                 opening the log with recover records it as erased"
            ),
            ErrorKind::NotText(what) => write!(f, "a private part is not text: {what}"),
            ErrorKind::Forked => {
                f.write_str("this engine belongs to the process that opened it; open another in the child")
            }
            ErrorKind::NoRandomness(what) => write!(f, "the system gives no randomness: {what}"),
            ErrorKind::Stopped => f.write_str("an earlier fault stopped this engine; close it and open the log again"),
        }
    }
}

impl core::error::Error for Error {}

impl From<decidable_wal::Error> for Error {
    fn from(error: decidable_wal::Error) -> Self {
        Self::new(ErrorKind::Log(error))
    }
}
impl From<decidable_replay::Error> for Error {
    fn from(error: decidable_replay::Error) -> Self {
        Self::new(ErrorKind::Replay(error))
    }
}
impl From<decidable_kernel::Error> for Error {
    fn from(error: decidable_kernel::Error) -> Self {
        Self::new(ErrorKind::Kernel(error))
    }
}
