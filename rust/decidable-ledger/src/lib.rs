//! Accounts, holds and their settlement, from any number of threads.
//!
//! An account has an amount of money. A *hold* sets part of it aside before it is spent; it is settled once, by a
//! *commit* of what was really spent or by a *release*. After every operation
//!
//! ```text
//! remaining + reserved + committed = initial        none of them negative
//! debt > 0  implies  remaining = 0
//! ```
//!
//! where `debt` stands beside the equation: money that was spent beyond what the account had. Amounts are microunits
//! of the caller's currency, `i64`.
//!
//! It knows no files, no clock and no prices: not what a request, a policy or a log is.
//!
//! ```
//! use decidable_ledger::{Ledger, Reserve};
//!
//! let ledger = Ledger::new();
//! let account = ledger.open_account("acme/search", 1_000)?;
//! let hold = ledger.next_hold();
//! let Reserve::Held { balance, .. } = ledger.reserve(account, hold, 400)? else { unreachable!() };
//! assert_eq!((balance.remaining, balance.reserved), (600, 400));
//!
//! let commit = ledger.commit(hold, 250)?;
//! assert_eq!((commit.charged, commit.returned, commit.debt), (250, 150, 0));
//! assert_eq!(commit.balance.remaining, 750);
//! ledger.verify()?;
//! # Ok::<(), decidable_ledger::Error>(())
//! ```
//!
//! # Numbers of holds
//!
//! The caller says which number a hold has, so that whoever reads a log addresses it by the number the log knows. A
//! number is taken while its hold is open. A caller without numbers of its own draws them from
//! [`Ledger::next_hold`]: 1, 2, 3 and so on. Use one way or the other on one ledger.
//!
//! # What is a refusal and what is an error
//!
//! A hold that the account cannot carry is [`Reserve::Denied`], a value with its reason. An amount that cannot be, an
//! unknown account, a hold that does not exist or was settled already: these are an [`Error`]. Nothing has changed
//! then.
//!
//! # Why a legal hold is never refused
//!
//! A reserve raises what is used by one compare-and-swap, after it has seen that funds and cap allow it and never before:
//! a hold that will be denied is never visible to others. It denies only with figures that are known to be of one
//! moment. If commits are in flight whenever it looks, it waits until nothing else runs and decides then. The few
//! operations that these rules do not cover (a top-up, another cap, a commit above its hold) run alone.
//!
//! # Where the reference implementation differs
//!
//! The shared cases give the same balances. These are ours by design:
//!
//! * Our word is *account* and *hold*; the members of the JSON documents have the reference's names (`tenant_id`,
//!   `reserved_microcents`, `active_reservations`).
//! * A commit above its hold always settles: it debits `remaining` as far as that goes and the rest is debt, because
//!   the money is spent. The reference refuses with `Overrun` where `remaining` does not suffice, and the hold stays.
//!   For the same reason a commit that would take `committed` beyond an `i64` becomes debt here and is `Overflow`
//!   there.
//! * Every credit (a release, the surplus of a commit, a top-up) repays debt first.
//! * An account's name has 1 to 256 bytes, and opening it twice is an error. The reference takes any name and ignores
//!   the second opening.
//! * A reserve of nothing is a hold of nothing here, so that what is free can be held too; a reserve of less is an error.
//!   There both are `Insufficient`.
//! * An exposure cap of 0 admits no hold, and the cap is part of the balance. There, 0 lifts the cap.
//! * The digest is the shared one and covers what the shared layout has, so neither debt nor caps. The JSON documents
//!   have a member for debt, which is written only where there is debt.
//! * The `version` of a snapshot counts the operations that changed the ledger; there it is the allocator's counter
//!   with a marker bit.

mod error;
mod number;
mod balance;
#[cfg(test)]
mod between;
mod account;
mod accounts;
mod holds;
mod snapshot;
mod ledger;

pub use balance::{Balance, Commit, Denial, Hold, Reserve};
pub use error::{Error, ErrorKind};
pub use ledger::{Ledger, NAME_BYTES_MAX};
pub use number::{AccountId, HoldId};
pub use snapshot::{AccountSnapshot, Certificate, LedgerSnapshot, Totals};
