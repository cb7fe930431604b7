//! Audits of what was generated for a ticket: their hashes, so that the log shows which audit is the one that was written.
//!
//! What an audit is, and how its hash comes about, is the guard's to know.

use decidable_canon::Digest;
use decidable_replay::Command;

use super::{Engine, Step};
use crate::Error;

impl Engine {
    /// Notes the hash of an audit, the chain after its end (docs/spec/audit.md).
    ///
    /// # Errors
    /// If the ticket is unknown or forgotten, was refused or cancelled, or the log cannot take the record.
    pub fn audit(&self, ticket: u64, hash: Digest) -> Result<Step, Error> {
        let mut core = self.core()?;
        self.perform(&mut core, Command::Audit { ticket, hash }, None)
            .map(|(_, step)| step)
    }
}
