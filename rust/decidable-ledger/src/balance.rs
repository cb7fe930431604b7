use crate::number::{AccountId, HoldId};

/// The figures of one account, in microunits.
///
/// `remaining + reserved + committed = initial`, none negative, and `debt > 0` implies `remaining = 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Balance {
    /// All that the account was ever given: its opening amount and every top-up.
    pub initial: i64,
    /// What can still be held.
    pub remaining: i64,
    /// What is set aside by open holds.
    pub reserved: i64,
    /// What was spent and paid.
    pub committed: i64,
    /// What was spent and could not be paid. The next credits repay it.
    pub debt: i64,
    /// The exposure cap: a reserve may not raise `reserved` above it.
    pub cap: Option<i64>,
}

/// An open hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hold {
    /// Its number.
    pub id: HoldId,
    /// The account it is held on.
    pub account: AccountId,
    /// How much is set aside, in microunits.
    pub amount: i64,
}

/// The answer to a reserve: both are normal answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reserve {
    /// The amount is set aside.
    Held {
        /// The number of the hold, to settle it with.
        hold: HoldId,
        /// The account after the reserve.
        balance: Balance,
    },
    /// Nothing is set aside and nothing has changed.
    Denied {
        /// Why.
        reason: Denial,
        /// The account at the moment of the denial.
        balance: Balance,
    },
}

impl Reserve {
    /// The account at the moment of the answer.
    #[must_use]
    pub const fn balance(&self) -> Balance {
        match self {
            Self::Held { balance, .. } | Self::Denied { balance, .. } => *balance,
        }
    }
}

/// Why a reserve was denied; the first that applies, in the order of this list.
///
/// The list is closed on purpose: a new reason is a new meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// `reserved` would not fit an `i64`.
    Overflow,
    /// `reserved` would rise above the exposure cap.
    OverCap,
    /// `remaining` is less than the amount, or there is debt.
    Insufficient,
}

impl Denial {
    /// The number of the reason in a log (docs/spec/records.md).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Insufficient => 0,
            Self::OverCap => 1,
            Self::Overflow => 2,
        }
    }

    /// The reason with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Insufficient),
            1 => Some(Self::OverCap),
            2 => Some(Self::Overflow),
            _ => None,
        }
    }

    /// The reason in lower case, such as `over_cap`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::OverCap => "over_cap",
            Self::Insufficient => "insufficient",
        }
    }
}

/// What a commit did. `charged + debt` is what was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The account.
    pub account: AccountId,
    /// What the hold and, above it, `remaining` paid.
    pub charged: i64,
    /// What the hold had set aside and was not spent. It repays debt first.
    pub returned: i64,
    /// What was spent above the hold and could not be paid: the debt that this commit added.
    pub debt: i64,
    /// The account after the commit.
    pub balance: Balance,
}
