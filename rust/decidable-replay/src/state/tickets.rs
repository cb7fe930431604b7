//! Tickets: what was answered to each request and what has become of it; which are open, which are remembered, and for
//! which a caller's key stands.
//!
//! It knows neither how a request is decided nor what is charged: answers and settlements tell it what to keep.

use std::collections::VecDeque;
use std::sync::Arc;

use decidable_canon::{Digest, Hasher, Sink as _, tag};
use decidable_kernel::Request;
use decidable_ledger::HoldId;

use super::State;
use crate::{DecisionRecord, Error, ErrorKind, Holding, RefusalRecord, SettlementRecord, numbered::RECENT_MAX};

/// How many settled tickets are remembered, the latest first, and as many that nobody was charged for: for so long a
/// caller's key answers as before and an outcome can be observed. Requests that are refused cost nothing, so however
/// many come, they push out no settlement. One with many quotes counts as several ([`QUOTES_PER_TICKET`]). An open ticket
/// is never forgotten. At less than a kilobyte each this bounds what closed tickets take in a long-lived process to 512 MB.
///
/// It is part of the format: a log in which a forgotten key was used again only follows with the same number.
pub const RETAINED_TICKETS: usize = 262_144;

const _: () = assert!(RECENT_MAX == RETAINED_TICKETS);

/// A closed ticket counts as one more for every so many quotes of its request, which take half a kilobyte. It is part of
/// the format, too.
pub const QUOTES_PER_TICKET: usize = 32;

/// What a closed ticket takes at most, without the quotes that let it count as more: its place with its number, twice
/// because vectors double and twice because half of the places may be empty, what it points to, its key, which trees keep half empty, and its number in the order of closing.
const _: () = assert!(
    4 * size_of::<(u64, Option<Ticket>)>()
        + size_of::<DecisionRecord>()
        + size_of::<SettlementRecord>()
        + 2 * size_of::<(Digest, u64)>()
        + 2 * size_of::<u64>()
        < 1_024
);
const _: () = assert!(QUOTES_PER_TICKET * size_of::<(u32, u64)>() < 1_024);

/// What was answered to a request, and what has become of it.
#[derive(Clone, Debug)]
pub enum Ticket {
    /// The safety ceiling refused it.
    Refused {
        /// The record.
        record: Arc<RefusalRecord>,
        /// The number of the record in the log.
        seq: u64,
    },
    /// It was decided.
    Decided {
        /// The record.
        record: Arc<DecisionRecord>,
        /// The number of the record in the log.
        seq: u64,
        /// What has become of it.
        status: Status,
        /// How many outcomes were observed.
        revisions: u32,
    },
}

/// What has become of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing was selected, or the account could not hold it.
    Closed,
    /// Selected, and not settled yet. The hold, if an account was named.
    Open(Option<HoldId>),
    /// Settled.
    Settled {
        /// The settlement.
        record: Arc<SettlementRecord>,
        /// The number of its record in the log.
        seq: u64,
    },
    /// Cancelled; the hold was released.
    Cancelled {
        /// The number of its record in the log.
        seq: u64,
    },
}

impl Ticket {
    /// The number of the record in the log.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Refused { seq, .. } | Self::Decided { seq, .. } => *seq,
        }
    }
    /// The request, under the number that it was given.
    #[must_use]
    pub fn request(&self) -> &Request {
        match self {
            Self::Refused { record, .. } => &record.request,
            Self::Decided { record, .. } => &record.request,
        }
    }
    /// The number of the account that was named.
    #[must_use]
    pub fn account(&self) -> Option<u32> {
        match self {
            Self::Refused { record, .. } => record.account,
            Self::Decided { record, .. } => record.account,
        }
    }
    /// What was held for it, in microunits.
    #[must_use]
    pub fn held(&self) -> Option<i64> {
        match self {
            Self::Decided { record, .. } => match record.holding {
                Holding::Held { amount, .. } => Some(amount),
                _ => None,
            },
            Self::Refused { .. } => None,
        }
    }
    /// As how many tickets it counts once it is closed.
    fn weight(&self) -> usize {
        (self.request().quotes().len() / QUOTES_PER_TICKET).saturating_add(1)
    }
    fn caller_key(&self) -> Option<Digest> {
        match self {
            Self::Refused { record, .. } => record.caller_key,
            Self::Decided { record, .. } => record.caller_key,
        }
    }
    const fn is_settled(&self) -> bool {
        matches!(
            self,
            Self::Decided {
                status: Status::Settled { .. },
                ..
            }
        )
    }
    const fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Decided {
                status: Status::Open(_),
                ..
            }
        )
    }
}

/// The digest under which a log keeps a caller's key. The log's id goes into it, so that the same key cannot be
/// recognised across logs.
#[must_use]
pub fn caller_key(log_id: &[u8; 16], key: &str) -> Digest {
    let mut hasher = Hasher::new();
    hasher.tag(tag::CALLER_KEY);
    hasher.put(log_id);
    hasher.str(key);
    hasher.finish()
}

/// Closed tickets in the order of their closing.
#[derive(Debug, Default)]
pub(super) struct Closed {
    numbers: VecDeque<u64>,
    /// What they count as, together.
    weight: usize,
}

impl State {
    /// The ticket of that number, unless it was closed so long ago that it is forgotten.
    #[must_use]
    pub fn ticket(&self, number: u64) -> Option<&Ticket> {
        self.tickets.get(number)
    }
    /// The ticket that a caller's key was used for.
    #[must_use]
    pub fn ticket_of_key(&self, key: &Digest) -> Option<&Ticket> {
        self.tickets.get(*self.keys.get(key)?)
    }
    /// The ticket of that number.
    ///
    /// # Errors
    /// `UnknownTicket` if it was never written, or closed so long ago that it is forgotten.
    pub fn known_ticket(&self, number: u64) -> Result<&Ticket, Error> {
        self.tickets.get(number).ok_or_else(|| unknown_ticket(number))
    }
    /// Whether the ticket of that number can be settled or cancelled.
    ///
    /// # Errors
    /// `UnknownTicket`, `NothingSelected` or `AlreadyClosed` if not.
    pub fn expect_open(&self, number: u64) -> Result<(), Error> {
        self.open_record(number).map(drop)
    }
    /// The tickets that are neither settled nor cancelled, in order.
    pub fn open_tickets(&self) -> impl Iterator<Item = (u64, &Ticket)> {
        self.tickets.iter().filter(|(_, ticket)| ticket.is_open())
    }

    pub(super) fn keep(&mut self, number: u64, ticket: Ticket) {
        if let Some(key) = ticket.caller_key() {
            self.keys.insert(key, number);
        }
        let open = ticket.is_open();
        self.tickets.insert(number, ticket);
        if !open {
            self.close(number);
        }
    }

    fn close(&mut self, number: u64) {
        let Some(ticket) = self.tickets.get(number) else {
            return;
        };
        let closed = if ticket.is_settled() {
            &mut self.settled
        } else {
            &mut self.uncharged
        };
        closed.numbers.push_back(number);
        closed.weight = closed.weight.saturating_add(ticket.weight());
        let mut forgotten = Vec::new();
        while closed.weight > self.retained
            && let Some(oldest) = closed.numbers.pop_front()
        {
            if let Some(ticket) = self.tickets.remove(oldest) {
                closed.weight = closed.weight.saturating_sub(ticket.weight());
                forgotten.push((ticket.caller_key(), oldest));
            }
        }
        for (key, number) in forgotten {
            self.free_key(key, number);
        }
    }

    /// Forgets that a caller's key stands for this ticket; it may stand for a later one by now.
    pub(super) fn free_key(&mut self, key: Option<Digest>, number: u64) {
        if let Some(key) = key
            && self.keys.get(&key) == Some(&number)
        {
            self.keys.remove(&key);
        }
    }

    pub(super) fn open_record(&self, ticket: u64) -> Result<(Arc<DecisionRecord>, Option<HoldId>), Error> {
        match self.tickets.get(ticket).ok_or_else(|| unknown_ticket(ticket))? {
            Ticket::Decided {
                record,
                status: Status::Open(hold),
                ..
            } => Ok((Arc::clone(record), *hold)),
            Ticket::Refused { .. }
            | Ticket::Decided {
                status: Status::Closed, ..
            } => Err(Error::new(
                ErrorKind::NothingSelected,
                format!("ticket {ticket} selected nothing, so there is nothing to settle or cancel"),
            )),
            Ticket::Decided {
                status: Status::Settled { .. },
                ..
            } => Err(Error::new(
                ErrorKind::AlreadyClosed,
                format!("ticket {ticket} is settled already: whoever acts on a ticket looks at its state first"),
            )),
            Ticket::Decided {
                status: Status::Cancelled { .. },
                ..
            } => Err(Error::new(
                ErrorKind::AlreadyClosed,
                format!("ticket {ticket} is cancelled already: whoever acts on a ticket looks at its state first"),
            )),
        }
    }

    pub(super) fn set_status(&mut self, number: u64, new: Status) {
        if let Some(Ticket::Decided { status, .. }) = self.tickets.change(number) {
            *status = new;
        }
        self.close(number);
    }
}

pub(super) fn unknown_ticket(ticket: u64) -> Error {
    Error::unknown_ticket(ticket)
}
