//! The live path: decide, hold, log, settle; and what can be said of a log afterwards.
//!
//! The engine numbers requests, keeps the ledger and the open tickets, and writes every step to the log before it
//! answers. Its state is the one that [`decidable_replay`] derives from records, so what it holds in memory and what
//! anyone derives from the log later are the same by construction.
//!
//! It reads one clock, through [`Clock`]. It does not know Python, and below it nothing knows the time.

mod error;
mod clock;
mod salts;
mod book;
mod engine;
mod verify;
mod exchange;

pub use book::{Book, Entry};
pub use clock::{Clock, ManualClock, SystemClock};
pub use engine::{Answer, Decide, Engine, Observation, Options, Settled, Standing, Step, TicketView, Watch};
pub use error::{Error, ErrorKind};
pub use exchange::{ExchangeVerified, Exported, export, verify_exchange};
pub use verify::{OpenTicket, Verified, read, verify};
