//! What ends a ticket, a settlement or a cancellation, and what was observed of it.
//!
//! Saying the same again gives the same answer. What is charged follows from the record, not from here.

use std::sync::MutexGuard;
use std::time::Instant;

use decidable_replay::{Command, Disposition, OutcomeRecord, Record, SettlementRecord, Status, Ticket, Use};

use super::{Core, Engine, Standing, Step};
use crate::{Error, ErrorKind};

/// A settlement.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// The settlement.
    pub record: SettlementRecord,
    /// Its record.
    pub step: Step,
    /// Whether the same settlement was there before.
    pub replayed: bool,
}

/// What is observed of a ticket.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// What became of the action.
    pub disposition: Disposition,
    /// What it cost, in microunits.
    pub realized_cost_microunits: Option<u64>,
    /// How long it took, in milliseconds.
    pub realized_latency_ms: Option<u32>,
    /// Whether it did what it was for.
    pub succeeded: Option<bool>,
}

impl Engine {
    /// Settles a ticket. The same settlement again gives the same answer.
    ///
    /// # Errors
    /// If the ticket is unknown, cancelled, settled with other values, or the log cannot take the record.
    pub fn settle(&self, ticket: u64, used: Use) -> Result<Settled, Error> {
        let mut core = self.core()?;
        if let Some(Ticket::Decided {
            status: Status::Settled { record, seq },
            ..
        }) = core.book.state().ticket(ticket)
        {
            let told = Use {
                durable_ns: record.used.durable_ns,
                ..used
            };
            if record.used != told {
                return Err(Error::new(ErrorKind::SettledOtherwise(ticket)));
            }
            return Ok(Settled {
                record: **record,
                step: Step {
                    seq: *seq,
                    started: Instant::now(),
                },
                replayed: true,
            });
        }
        let (record, step) = self.perform(&mut core, Command::Settle { ticket, used }, None)?;
        core.close(ticket);
        let Record::Settlement(record) = record else {
            return Err(Error::new(ErrorKind::Stopped));
        };
        Ok(Settled {
            record,
            step,
            replayed: false,
        })
    }

    /// Cancels a ticket that nobody acts on, releases its hold, and frees the caller's key, also when the log's queue is
    /// full. Cancelling it again changes nothing.
    ///
    /// # Errors
    /// If the ticket is unknown, settled, dispatched or in doubt, or the log cannot take the record.
    pub fn cancel(&self, ticket: u64) -> Result<Step, Error> {
        let core = self.core()?;
        if matches!(core.standing(ticket), Some(Standing::Dispatched | Standing::InDoubt)) {
            return Err(Error::new(ErrorKind::Dispatched(ticket)));
        }
        self.release(core, ticket)
    }

    pub(super) fn release(&self, mut core: MutexGuard<'_, Core>, ticket: u64) -> Result<Step, Error> {
        if let Some(Ticket::Decided {
            status: Status::Cancelled { seq },
            ..
        }) = core.book.state().ticket(ticket)
        {
            return Ok(Step {
                seq: *seq,
                started: Instant::now(),
            });
        }
        let (_, step) = self.perform(&mut core, Command::Cancel { ticket }, None)?;
        core.close(ticket);
        Ok(step)
    }

    /// Ends the doubt about a ticket: settles it at what it cost, or releases it where it is certain that nothing was
    /// spent (`used` is `None`). The same again changes nothing.
    ///
    /// # Errors
    /// As [`Engine::settle`]; `Dispatched` where someone acts on the ticket right now, so that nobody can be certain.
    pub fn reconcile(&self, ticket: u64, used: Option<Use>) -> Result<Step, Error> {
        match used {
            Some(used) => self.settle(ticket, used).map(|settled| settled.step),
            None => {
                let core = self.core()?;
                if core.standing(ticket) == Some(Standing::Dispatched) {
                    return Err(Error::new(ErrorKind::Dispatched(ticket)));
                }
                self.release(core, ticket)
            }
        }
    }

    /// Notes what was observed of a ticket.
    ///
    /// # Errors
    /// If the ticket is unknown or forgotten, selected nothing, or the observation contradicts itself.
    pub fn observe(&self, ticket: u64, seen: Observation) -> Result<(OutcomeRecord, Step), Error> {
        let mut core = self.core()?;
        // A caller's clock may stand before 1970, which the record cannot say.
        let micros = u64::try_from(self.clock.now_ns() / 1_000).unwrap_or(0);
        let Observation {
            disposition,
            realized_cost_microunits,
            realized_latency_ms,
            succeeded,
        } = seen;
        let command = Command::Observe {
            ticket,
            observed_at_micros: micros,
            disposition,
            realized_cost_microunits,
            realized_latency_ms,
            succeeded,
        };
        match self.perform(&mut core, command, None)? {
            (Record::Outcome(record), step) => Ok((record, step)),
            _ => Err(Error::new(ErrorKind::Stopped)),
        }
    }
}
