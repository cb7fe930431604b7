//! Tickets: how they stand, who acts on one, and who left it.
//!
//! Who acts on a ticket is known to this process alone and is no record, so after opening a log again every open ticket is in doubt.

use std::sync::{Arc, PoisonError};

use decidable_kernel::Policy;
use decidable_replay::Ticket;

use super::room::RECORD_BYTES;
use super::{Core, Engine};
use crate::{Error, ErrorKind};

/// What has become of an open ticket in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has acted on it yet; it can be cancelled.
    Held,
    /// Someone is acting on it; it can be settled.
    Dispatched,
    /// Nobody knows whether someone acted on it: it was left without a settlement, or the process that held it ended.
    /// The money stays held until it is reconciled.
    InDoubt,
}

/// A ticket as it stands.
#[derive(Clone, Debug)]
pub struct TicketView {
    /// Its number.
    pub number: u64,
    /// What was answered, and what has become of it.
    pub ticket: Ticket,
    /// Where it stands, if it is open.
    pub standing: Option<Standing>,
    /// The policy that decided; `None` where the safety ceiling refused before any policy was read.
    pub policy: Option<Arc<Policy>>,
}

impl Engine {
    /// Says that someone acts on the ticket from now on. It can be said once: whoever says it again would spend twice.
    ///
    /// # Errors
    /// If the ticket is not open, its decision is not durable yet, it was dispatched before or is in doubt, or the log takes nothing: then the settlement
    /// could not be written either.
    pub fn dispatch(&self, ticket: u64) -> Result<(), Error> {
        let mut core = self.core()?;
        self.expect_durable(&core, ticket)?;
        core.open(ticket)?;
        self.log.ready(RECORD_BYTES)?;
        match core.standing(ticket) {
            Some(Standing::Held) => {
                core.acted.insert(ticket, Standing::Dispatched);
                Ok(())
            }
            Some(Standing::Dispatched) => Err(Error::new(ErrorKind::Dispatched(ticket))),
            Some(Standing::InDoubt) | None => Err(Error::new(ErrorKind::InDoubt(ticket))),
        }
    }

    /// Says that a caller never received its answer. The hold is released when the last of those whom the caller's key was
    /// answered with the same ticket says so; as long as someone else may hold it, it stays.
    ///
    /// # Errors
    /// If the log takes nothing more: then the ticket is in doubt when the log is opened again.
    pub fn disown(&self, ticket: u64) -> Result<(), Error> {
        let mut core = self.core()?;
        if core.standing(ticket) != Some(Standing::Held) {
            return Ok(());
        }
        match core.answered_again.get_mut(&ticket) {
            Some(others) if *others > 0 => {
                *others = others.saturating_sub(1);
                Ok(())
            }
            _ => self.release(core, ticket).map(drop),
        }
    }

    /// Says that the ticket was left without a settlement: it is in doubt from now on.
    ///
    /// # Errors
    /// If the engine was forked.
    pub fn leave(&self, ticket: u64) -> Result<(), Error> {
        self.refuse_forked()?;
        // After a fault too: what is in doubt stays so in this process, and is found so when the log is opened again.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        if core.standing(ticket).is_some() {
            core.acted.insert(ticket, Standing::InDoubt);
        }
        Ok(())
    }

    /// A ticket by its number. There is none that anyone could act on before its decision is durable: after a power loss it
    /// would be another's.
    ///
    /// # Errors
    /// If it is unknown, or was closed so long ago that it is forgotten.
    pub fn ticket(&self, number: u64) -> Result<TicketView, Error> {
        let core = self.core()?;
        self.expect_durable(&core, number)?;
        core.view(number)
    }

    fn expect_durable(&self, core: &Core, number: u64) -> Result<(), Error> {
        let ticket = core.book.state().known_ticket(number)?;
        if core.standing(number).is_some() && ticket.seq() > self.log.durable() {
            return Err(decidable_replay::Error::unknown_ticket(number).into());
        }
        Ok(())
    }

    /// The tickets whose decisions are durable and that are neither settled nor cancelled, in order.
    ///
    /// # Errors
    /// If the engine was forked or stopped.
    pub fn open_tickets(&self) -> Result<Vec<TicketView>, Error> {
        let core = self.core()?;
        let durable = self.log.durable();
        let open = core.book.state().open_tickets();
        let open = open.filter(|(_, ticket)| ticket.seq() <= durable);
        open.map(|(number, _)| core.view(number)).collect()
    }
}
