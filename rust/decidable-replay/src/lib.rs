//! The record kinds of a log and how state follows from them.
//!
//! A [`Command`] is what someone asked for. [`State::perform`] carries it out and answers with the [`Record`] that the
//! log keeps: the command and everything that followed from it. [`State::replay`] takes a record that was read from a
//! log, performs its command again on the state that the records before it led to, and refuses it unless the same
//! record follows, byte for byte. The live path and verification therefore run the same code.
//!
//! It does no I/O and does not know how records are stored, chained or made durable.

mod error;
mod numbered;
mod outcome;
mod record;
mod state;
pub mod exchange;

pub use error::{Error, ErrorKind};
pub use outcome::{Disposition, Outcome, Selection, Strategy};
pub use record::{DecisionRecord, Holding, Kind, OutcomeRecord, Record, RefusalRecord, SettlementRecord, Use};
pub use state::{Command, Derived, QUOTES_PER_TICKET, RETAINED_TICKETS, State, Status, Ticket, caller_key};

/// The engine refuses a request at or above this risk before any policy is read (docs/spec/extensions.md). It is
/// compiled in: no policy, metadata or configuration can raise it.
pub const SAFETY_CEILING_BPS: u16 = 9_700;
