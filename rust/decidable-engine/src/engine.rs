//! The live path over one log: what every step shares.
//!
//! Here is who holds the state ([`Core`]), how a step moves it and hands its record to the log, both or neither, and the waiting for the disk. What the
//! steps are is beside it:
//!
//! - `open`: from a log to an engine; options, and which policy is installed
//! - `decide`: from a request to an answer, and the caller's keys
//! - `tickets`: looking at tickets; who acts on one, who left it
//! - `settle`: what ends a ticket, and what was observed of it; `audits`: which audits belong to it
//! - `accounts`: opening, funds, caps, balances
//! - `end`: erasing, closing, and what a forked child does
//! - `room`: how much of the log a record takes
//!
//! None of it decides, prices or counts money: what follows from a step is `decidable_replay`'s to know.

mod accounts;
mod audits;
mod decide;
mod end;
mod open;
mod room;
mod settle;
mod tickets;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use decidable_canon::cast;
use decidable_kernel::Policy;
use decidable_replay::{Command, Record, State, Status, Ticket};
use decidable_wal::{Entry, Head, Log, Opened, Private};

use self::room::room;
use crate::{Book, Clock, Error, ErrorKind, salts::Salts};

pub use self::decide::{Answer, Decide};
pub use self::open::{Options, Watch};
pub use self::settle::{Observation, Settled};
pub use self::tickets::{Standing, TicketView};

/// A step that was written: the number of its last record, to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The number of the record.
    pub seq: u64,
    /// When it was handed to the log.
    pub started: Instant,
}

struct Core {
    book: Book,
    policy: u32,
    /// The first ticket of this session. From it on a ticket that is open and of which nobody said anything is held by
    /// whoever was answered with it.
    first: u64,
    /// The open tickets that somebody has acted on or left in this session. Of the others it is clear where they stand
    /// ([`Core::standing`]).
    acted: BTreeMap<u64, Standing>,
    /// The open tickets that a key was answered with again, and how often: so many callers hold them beside the first.
    answered_again: BTreeMap<u64, u32>,
    /// Erasures that are recorded and whose names are not forgotten yet: for each the record of the log's that tells when
    /// they are gone from the disk ([`decidable_wal::Erased::awaits`]), and the records of the private parts.
    erasures: Vec<(u64, Vec<u64>)>,
    log_id: [u8; 16],
    /// The payload of the last record; kept for its room.
    payload: Vec<u8>,
    salts: Salts,
}

/// The live path over one log. Every method may be called from any thread.
pub struct Engine {
    log: Log,
    opened: Opened,
    core: Mutex<Core>,
    /// The policy that decides, which is the last that was installed.
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
    decide: Box<dyn Decide>,
    stopped: AtomicBool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// A forked child must not even wait for a lock: the thread that holds it exists only in the parent.
    fn refuse_forked(&self) -> Result<(), Error> {
        self.log.refuse_forked().map_err(|_| Error::new(ErrorKind::Forked))
    }

    fn core(&self) -> Result<MutexGuard<'_, Core>, Error> {
        self.refuse_forked()?;
        // A thread that panicked while it held the lock may have left the state ahead of the log.
        let mut core = self.core.lock().map_err(|_| {
            self.stopped.store(true, Ordering::Release);
            Error::new(ErrorKind::Stopped)
        })?;
        // After a failed write the state is ahead of the log: not even a balance may be read from it.
        if self.log.has_failed() || self.stopped.load(Ordering::Acquire) {
            // The log knows the cause, if it was the disk.
            self.log.ready(0)?;
            return Err(Error::new(ErrorKind::Stopped));
        }
        // Here, because nobody may be left who waits for an erasure.
        if !core.erasures.is_empty() {
            core.forget_names(self.log.erased());
        }
        Ok(core)
    }

    /// Performs a command and hands its record to the log, both or neither. What ends a ticket is taken also when the log's
    /// queue is full: else money would stay held for nobody, and what someone knows to be spent would be written nowhere,
    /// while the disk stands still. There is at most one such record for each open ticket.
    fn perform(
        &self,
        core: &mut Core,
        command: Command,
        private: Option<Private<'_>>,
    ) -> Result<(Record, Step), Error> {
        let bytes = room(&command, private.as_ref())?;
        let beyond = matches!(command, Command::Settle { .. } | Command::Cancel { .. });
        self.write(core, bytes, beyond, private, |state, seq| state.perform(seq, command))
    }

    /// Moves the state and hands the record of the move to the log, both or neither. At most `bytes` does it take there,
    /// `beyond` the bound of the queue or not.
    fn write(
        &self,
        core: &mut Core,
        bytes: usize,
        beyond: bool,
        private: Option<Private<'_>>,
        step: impl FnOnce(&mut State, u64) -> Result<Record, decidable_replay::Error>,
    ) -> Result<(Record, Step), Error> {
        let seq = if beyond {
            self.log.ready_beyond(bytes)?
        } else {
            self.log.ready(bytes)?
        };
        // The clock is the caller's code: it is read before anything has changed.
        let time_ns = self.clock.now_ns();
        let record = step(core.book.state_mut(), seq)?;
        core.payload.clear();
        core.payload.shrink_to(PAYLOAD_BYTES_KEPT);
        record.encode(&mut core.payload);
        let entry = Entry {
            kind: record.kind().code(),
            time_ns,
            payload: core.payload.as_slice().into(),
            private,
        };
        let appended = if beyond {
            self.log.append_beyond(&[entry])
        } else {
            self.log.append(&[entry])
        };
        match appended {
            Ok(position) => Ok((
                record,
                Step {
                    seq: position.last,
                    started: Instant::now(),
                },
            )),
            Err(error) => {
                // The state has moved and the log has not: nothing that follows would replay.
                self.stopped.store(true, Ordering::Release);
                Err(error.into())
            }
        }
    }

    /// Waits until the record `seq` is durable.
    ///
    /// # Errors
    /// If the log could not write it, or `timeout` passed.
    pub fn wait(&self, seq: u64, timeout: Option<Duration>) -> Result<(), Error> {
        self.refuse_forked()?;
        Ok(self.log.wait(seq, timeout)?)
    }

    /// Waits until the durable part of the log ends after the record `seen`, or until `timeout` has passed, and returns where
    /// it ends.
    ///
    /// # Errors
    /// If the log can take no more.
    pub fn wait_change(&self, seen: u64, timeout: Option<Duration>) -> Result<u64, Error> {
        self.refuse_forked()?;
        Ok(self.log.wait_change(seen, timeout)?)
    }

    /// What opening the log found and did: ends that were cut, erasures that were finished, and whether the writer before
    /// had closed it.
    #[must_use]
    pub const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The policy that decides.
    ///
    /// # Errors
    /// If the engine was forked or stopped.
    pub fn policy(&self) -> Result<Arc<Policy>, Error> {
        drop(self.core()?);
        Ok(Arc::clone(&self.policy))
    }

    /// The head of the durable part of the log.
    ///
    /// # Errors
    /// If the engine was forked.
    pub fn head(&self) -> Result<Head, Error> {
        self.refuse_forked()?;
        Ok(self.log.head())
    }
}

impl Core {
    fn account(&self, name: &str) -> Result<u32, Error> {
        self.book
            .number(name)
            .ok_or_else(|| Error::new(ErrorKind::UnknownAccount(name.to_owned())))
    }
    /// Where a ticket stands, if it is open: nobody knows what became of those that an earlier process left open, and
    /// nobody acts on those of this session of which nobody said so.
    fn standing(&self, number: u64) -> Option<Standing> {
        let unsaid = || {
            if number < self.first {
                Standing::InDoubt
            } else {
                Standing::Held
            }
        };
        match self.book.state().ticket(number)? {
            Ticket::Decided {
                status: Status::Open(_),
                ..
            } => Some(self.acted.get(&number).copied().unwrap_or_else(unsaid)),
            _ => None,
        }
    }
    fn close(&mut self, number: u64) {
        self.acted.remove(&number);
        self.answered_again.remove(&number);
    }
    /// A private part under a salt of its own: no other salt, and nothing that this process keeps, says anything of it.
    fn private<'a>(&mut self, text: &'a str) -> Result<Private<'a>, Error> {
        Ok(Private {
            salt: self.salts.take()?,
            bytes: text.as_bytes().into(),
        })
    }
    /// Forgets the names that are gone from the disk, up to the erasure that is finished.
    fn forget_names(&mut self, finished: u64) {
        let book = &mut self.book;
        self.erasures.retain(|(awaits, seqs)| {
            let gone = *awaits <= finished;
            if gone {
                book.forget_names(seqs.iter());
            }
            !gone
        });
    }
    fn open(&self, number: u64) -> Result<(), Error> {
        self.book.state().expect_open(number).map_err(Into::into)
    }
    fn view(&self, number: u64) -> Result<TicketView, Error> {
        let state = self.book.state();
        let ticket = state.known_ticket(number)?.clone();
        let policy = match &ticket {
            Ticket::Refused { .. } => None,
            Ticket::Decided { record, .. } => state.policies().get(cast::usize_from_u32(record.policy)).cloned(),
        };
        Ok(TicketView {
            number,
            ticket,
            standing: self.standing(number),
            policy,
        })
    }
}

/// Room for a payload beyond this is given back: nearly every record takes less.
const PAYLOAD_BYTES_KEPT: usize = 4_096;

#[cfg(test)]
mod tests;
