use core::fmt;

/// Why a command cannot be performed, or a record does not follow from those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No policy of that number is installed.
    UnknownPolicy,
    /// No account of that number is open.
    UnknownAccount,
    /// No ticket of that number was written.
    UnknownTicket,
    /// The ticket selected nothing, so there is nothing to settle, cancel or observe.
    NothingSelected,
    /// The ticket is settled or cancelled already, and not with these values.
    AlreadyClosed,
    /// The caller's key was used before for another request.
    KeyConflict,
    /// An amount is negative or too large for the ledger.
    AmountOutOfRange,
    /// A settlement names neither a cost nor the tokens that were used, or no cost where a quote needs one.
    NoCost,
    /// An outcome contradicts itself.
    BadOutcome,
    /// A count has reached its limit.
    TooMany,
    /// The ledger refuses the operation as such, for this reason.
    Ledger(decidable_ledger::ErrorKind),
    /// A record is not the one that follows from the records before it.
    Disagrees,
    /// A record's bytes are not a layout that this version knows.
    Unreadable,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message }
    }
    /// No ticket of that number is known.
    #[must_use]
    pub fn unknown_ticket(number: u64) -> Self {
        Self::new(ErrorKind::UnknownTicket, format!("no ticket {number} is known"))
    }
    pub(crate) fn disagrees(what: &str, written: impl fmt::Display, derived: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Disagrees,
            format!("{what} is written as {written} but follows as {derived}"),
        )
    }
    pub(crate) fn unreadable(what: &str, error: &dyn fmt::Display) -> Self {
        Self::new(
            ErrorKind::Unreadable,
            format!("a record of kind {what} cannot be read: {error}"),
        )
    }
    pub(crate) fn ledger(error: &decidable_ledger::Error) -> Self {
        Self::new(ErrorKind::Ledger(error.kind()), error.to_string())
    }

    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// The stable code of the fault.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::UnknownPolicy => "replay.unknown_policy",
            ErrorKind::UnknownAccount => "replay.unknown_account",
            ErrorKind::UnknownTicket => "replay.unknown_ticket",
            ErrorKind::NothingSelected => "replay.nothing_selected",
            ErrorKind::AlreadyClosed => "replay.already_closed",
            ErrorKind::KeyConflict => "replay.key_conflict",
            ErrorKind::AmountOutOfRange => "replay.amount_out_of_range",
            ErrorKind::NoCost => "replay.no_cost",
            ErrorKind::BadOutcome => "replay.bad_outcome",
            ErrorKind::TooMany => "replay.too_many",
            ErrorKind::Ledger(kind) => kind.code(),
            ErrorKind::Disagrees => "replay.disagrees",
            ErrorKind::Unreadable => "replay.unreadable",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Error {}
