//! The state that follows from records, and how a command moves it.
//!
//! Here are the commands, what the state consists of, and the two ways forward: [`State::perform`] and
//! [`State::replay`]. What each command does is beside it:
//!
//! - `accounts`: opening, funds, caps, balances
//! - `answers`: from a request to a decision and its hold; `derived`: a decision that was derived before its turn
//! - `tickets`: what was answered, what is open, what is remembered, callers' keys
//! - `settlements`: settling and cancelling; `outcomes`: what was observed, and audits of what was generated
//! - `differences`: a record that was written beside the one that follows
//!
//! None of it knows the names of accounts, how records are stored, or the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use decidable_canon::{Digest, cast};
use decidable_kernel::{Decision, Policy, Request};
use decidable_ledger::{AccountId, Ledger};

use self::differences::{command_of, difference};
use self::tickets::Closed;
use crate::numbered::Numbered;
use crate::{Disposition, Error, ErrorKind, Kind, OutcomeRecord, Record, Use};

mod accounts;
mod answers;
mod derived;
mod differences;
mod outcomes;
mod settlements;
mod tickets;

pub use derived::Derived;
pub(crate) use differences::other_decision;
pub use tickets::{QUOTES_PER_TICKET, RETAINED_TICKETS, Status, Ticket, caller_key};

/// What someone asks of the state.
#[derive(Clone, Debug)]
pub enum Command {
    /// Install a policy under the next number.
    InstallPolicy {
        /// The policy.
        policy: Arc<Policy>,
        /// Where catalog and prices came from.
        provenance: String,
    },
    /// Open an account under the next number.
    OpenAccount {
        /// Its funds, in microunits.
        initial: i64,
    },
    /// Add funds.
    TopUp {
        /// Which account.
        account: u32,
        /// How much, in microunits.
        amount: i64,
    },
    /// Set or lift the exposure cap.
    SetCap {
        /// Which account.
        account: u32,
        /// The most that may be held at a time, in microunits.
        cap: Option<i64>,
    },
    /// Decide a request and hold its largest cost.
    Decide {
        /// The number of the policy.
        policy: u32,
        /// The account that pays, if any.
        account: Option<u32>,
        /// The request; it gets the next number.
        request: Request,
        /// The digest of the caller's key ([`caller_key`]).
        caller_key: Option<Digest>,
        /// What someone says the decision is. It is derived again and refused if another one follows.
        proposed: Option<Decision>,
    },
    /// Settle an open ticket.
    Settle {
        /// Which ticket.
        ticket: u64,
        /// What was used.
        used: Use,
    },
    /// Release the hold of an open ticket.
    Cancel {
        /// Which ticket.
        ticket: u64,
    },
    /// Note what was observed of a ticket.
    Observe {
        /// Which ticket.
        ticket: u64,
        /// When, microseconds since 1970-01-01 UTC.
        observed_at_micros: u64,
        /// What became of the action.
        disposition: Disposition,
        /// What it cost, in microunits.
        realized_cost_microunits: Option<u64>,
        /// How long it took, in milliseconds.
        realized_latency_ms: Option<u32>,
        /// Whether it did what it was for.
        succeeded: Option<bool>,
    },
    /// Note the hash of the audit of what was generated for a ticket.
    Audit {
        /// Which ticket.
        ticket: u64,
        /// The chain of the audit after its end.
        hash: Digest,
    },
}

/// All that follows from the records of a log so far.
#[derive(Debug)]
pub struct State {
    policies: Vec<Arc<Policy>>,
    ledger: Ledger,
    accounts: Vec<AccountId>,
    tickets: Numbered<Ticket>,
    keys: BTreeMap<Digest, u64>,
    /// The settled tickets, and those that nobody was charged for.
    settled: Closed,
    uncharged: Closed,
    /// As many as each of the two counts as at most.
    retained: usize,
    next_request: u64,
    scratch: Vec<u8>,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first record.
    #[must_use]
    pub fn new() -> Self {
        Self::remembering(RETAINED_TICKETS)
    }

    /// As [`State::new`], but remembering fewer closed tickets: for what need not follow a log.
    #[must_use]
    pub fn remembering(closed_tickets: usize) -> Self {
        Self {
            policies: Vec::new(),
            ledger: Ledger::new(),
            accounts: Vec::new(),
            tickets: Numbered::new(),
            keys: BTreeMap::new(),
            settled: Closed::default(),
            uncharged: Closed::default(),
            retained: closed_tickets,
            next_request: 1,
            scratch: Vec::new(),
        }
    }

    /// The installed policies, by number.
    #[must_use]
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }
    /// The ledger; its accounts are named by their numbers in decimal.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }
    /// The number that the next request gets.
    #[must_use]
    pub const fn next_request(&self) -> u64 {
        self.next_request
    }
    /// Carries out a command and answers with the record that the log keeps under the number `seq`. On an error
    /// nothing has changed.
    ///
    /// # Errors
    /// The command names something that does not exist, is closed, or an amount that cannot be; see [`ErrorKind`].
    pub fn perform(&mut self, seq: u64, command: Command) -> Result<Record, Error> {
        match command {
            Command::InstallPolicy { policy, provenance } => self.install(policy, provenance),
            Command::OpenAccount { initial } => self.open_account(initial),
            Command::TopUp { account, amount } => self.top_up(account, amount),
            Command::SetCap { account, cap } => self.set_cap(account, cap),
            Command::Decide {
                policy,
                account,
                request,
                caller_key,
                proposed,
            } => self.answer(seq, policy, account, &request, caller_key, |policy, request| {
                let decision = policy.derive(request);
                match proposed {
                    Some(proposed) if proposed != decision => Err(other_decision(&proposed, &decision)),
                    _ => Ok(decision),
                }
            }),
            Command::Settle { ticket, used } => self.settle(seq, ticket, used),
            Command::Cancel { ticket } => self.cancel(seq, ticket),
            Command::Observe {
                ticket,
                observed_at_micros,
                disposition,
                realized_cost_microunits,
                realized_latency_ms,
                succeeded,
            } => self.observe(OutcomeRecord {
                ticket,
                observed_at_micros,
                revision: 0,
                disposition,
                realized_cost_microunits,
                realized_latency_ms,
                succeeded,
                digest: Digest::from_bytes([0; 32]),
            }),
            Command::Audit { ticket, hash } => self.audit(ticket, hash),
        }
    }

    /// Takes a record as the log has it, performs its command again and compares, byte for byte.
    ///
    /// # Errors
    /// `Unreadable` if the payload is no record of that kind; `Disagrees`, naming what, if another record follows; and
    /// the errors of [`State::perform`] if the command cannot follow at all.
    pub fn replay(&mut self, seq: u64, kind: Kind, payload: &[u8]) -> Result<Record, Error> {
        let written = Record::decode(kind, payload)?;
        self.expect_number(&written)?;
        let derived = self.perform(seq, command_of(&written))?;
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clear();
        derived.encode(&mut scratch);
        let same = derived.kind() == kind && scratch == payload;
        self.scratch = scratch;
        if same {
            Ok(written)
        } else {
            Err(difference(&written, &derived))
        }
    }

    /// Requests are numbered without gaps.
    fn expect_number(&self, record: &Record) -> Result<(), Error> {
        let request = match record {
            Record::Decision(record) => &record.request,
            Record::Refusal(record) => &record.request,
            _ => return Ok(()),
        };
        let written = request.fields().request_sequence;
        if written == self.next_request {
            Ok(())
        } else {
            Err(Error::disagrees("the number of a request", written, self.next_request))
        }
    }

    fn install(&mut self, policy: Arc<Policy>, provenance: String) -> Result<Record, Error> {
        let number = cast::u32_from_usize(self.policies.len()).ok_or_else(|| too_many("policies"))?;
        self.policies.push(Arc::clone(&policy));
        Ok(Record::Policy {
            number,
            policy,
            provenance,
        })
    }
}

fn too_many(what: &str) -> Error {
    Error::new(
        ErrorKind::TooMany,
        format!("the number of {what} has reached its limit"),
    )
}

#[cfg(test)]
mod tests;
