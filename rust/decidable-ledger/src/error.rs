use core::fmt;

/// What an operation on a ledger could not do. Nothing has changed when one is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    what: String,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name is empty or too long.
    InvalidName,
    /// An account with this name is open already.
    AccountExists,
    /// No account has this id.
    UnknownAccount,
    /// The ledger has no room for another account.
    TooManyAccounts,
    /// An amount is outside what the operation takes.
    InvalidAmount,
    /// A sum does not fit.
    Overflow,
    /// A hold with this number is open.
    HoldInUse,
    /// No hold with this number is open: it was never reserved, or it was settled.
    UnknownHold,
    /// The figures of an account contradict one another.
    Unbalanced,
    /// A document is not a ledger snapshot.
    InvalidSnapshot,
}

impl ErrorKind {
    /// A stable name, such as `ledger.unknown_hold`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidName => "ledger.invalid_name",
            Self::AccountExists => "ledger.account_exists",
            Self::UnknownAccount => "ledger.unknown_account",
            Self::TooManyAccounts => "ledger.too_many_accounts",
            Self::InvalidAmount => "ledger.invalid_amount",
            Self::Overflow => "ledger.overflow",
            Self::HoldInUse => "ledger.hold_in_use",
            Self::UnknownHold => "ledger.unknown_hold",
            Self::Unbalanced => "ledger.unbalanced",
            Self::InvalidSnapshot => "ledger.invalid_snapshot",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl fmt::Display) -> Self {
        Self {
            kind,
            what: what.to_string(),
        }
    }

    /// Which kind of error it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A stable name of the kind, such as `ledger.unknown_hold`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl core::error::Error for Error {}
