use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use decidable_canon::{Canonical as _, Digest, Hasher, Sink as _, cast, tag, units::BPS_WHOLE};
use decidable_kernel::{Decision, Policy, Request, identity};
use decidable_ledger::{AccountId, Balance, HoldId, Ledger, Reserve};

use crate::{
    DecisionRecord, Disposition, Error, ErrorKind, Holding, Kind, Numbered, Outcome, OutcomeRecord, Record,
    RefusalRecord, SAFETY_CEILING_BPS, Selection, SettlementRecord, Strategy, Use, numbered::RECENT_MAX,
};

mod derived;

pub use derived::Derived;

/// How many closed tickets are remembered, the latest first: for so long a caller's key answers as before and an
/// outcome can be observed. One with many quotes counts as several ([`QUOTES_PER_TICKET`]). An open ticket is never
/// forgotten. At less than a kilobyte each this bounds what closed tickets take in a long-lived process to 256 MB.
///
/// It is part of the format: a log in which a forgotten key was used again only follows with the same number.
pub const RETAINED_TICKETS: usize = 262_144;

const _: () = assert!(RECENT_MAX == RETAINED_TICKETS);

/// A closed ticket counts as one more for every so many quotes of its request, which take half a kilobyte. It is part of
/// the format, too.
pub const QUOTES_PER_TICKET: usize = 32;

/// What a closed ticket takes at most, without the quotes that let it count as more: its place, twice because vectors
/// double, what it points to, its key, which trees keep half empty, and its number in the order of closing.
const _: () = assert!(
    2 * size_of::<Option<Ticket>>()
        + size_of::<DecisionRecord>()
        + size_of::<SettlementRecord>()
        + 2 * size_of::<(Digest, u64)>()
        + 2 * size_of::<u64>()
        < 1_024
);
const _: () = assert!(QUOTES_PER_TICKET * size_of::<(u32, u64)>() < 1_024);

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
}

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

/// All that follows from the records of a log so far.
#[derive(Debug)]
pub struct State {
    policies: Vec<Arc<Policy>>,
    ledger: Ledger,
    accounts: Vec<AccountId>,
    tickets: Numbered<Ticket>,
    keys: BTreeMap<Digest, u64>,
    closed: VecDeque<u64>,
    /// What the closed tickets count as, together.
    closed_weight: usize,
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
            closed: VecDeque::new(),
            closed_weight: 0,
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
    /// How many accounts are open.
    #[must_use]
    pub fn accounts(&self) -> u32 {
        cast::u32_from_usize(self.accounts.len()).unwrap_or(u32::MAX)
    }
    /// The balance of an account.
    #[must_use]
    pub fn balance(&self, account: u32) -> Option<Balance> {
        self.ledger.balance(*self.accounts.get(cast::usize_from_u32(account))?)
    }
    /// The number that the next request gets.
    #[must_use]
    pub const fn next_request(&self) -> u64 {
        self.next_request
    }
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

    /// Carries out a command and answers with the record that the log keeps under the number `seq`. On an error
    /// nothing has changed.
    ///
    /// # Errors
    /// The command names something that does not exist, is closed, or an amount that cannot be; see [`ErrorKind`].
    pub fn perform(&mut self, seq: u64, command: Command) -> Result<Record, Error> {
        match command {
            Command::InstallPolicy { policy, provenance } => self.install(policy, provenance),
            Command::OpenAccount { initial } => self.open_account(initial),
            Command::TopUp { account, amount } => {
                let id = self.account(account)?;
                let balance = self.ledger.top_up(id, amount).map_err(|error| Error::ledger(&error))?;
                Ok(Record::TopUp {
                    account,
                    amount,
                    balance,
                })
            }
            Command::SetCap { account, cap } => {
                let id = self.account(account)?;
                self.ledger.set_cap(id, cap).map_err(|error| Error::ledger(&error))?;
                Ok(Record::Cap {
                    account,
                    balance: self.ledger.balance(id).ok_or_else(|| unknown_account(account))?,
                })
            }
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

    fn account(&self, account: u32) -> Result<AccountId, Error> {
        self.accounts
            .get(cast::usize_from_u32(account))
            .copied()
            .ok_or_else(|| unknown_account(account))
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

    fn open_account(&mut self, initial: i64) -> Result<Record, Error> {
        let account = cast::u32_from_usize(self.accounts.len()).ok_or_else(|| too_many("accounts"))?;
        let id = self
            .ledger
            .open_account(&account.to_string(), initial)
            .map_err(|error| Error::ledger(&error))?;
        self.accounts.push(id);
        Ok(Record::Account {
            account,
            balance: self.ledger.balance(id).ok_or_else(|| unknown_account(account))?,
        })
    }

    /// As [`Command::Decide`], with the decision derived before.
    ///
    /// # Errors
    /// As [`State::perform`].
    pub fn decide(
        &mut self,
        seq: u64,
        policy: u32,
        account: Option<u32>,
        derived: &Derived,
        caller_key: Option<Digest>,
    ) -> Result<Record, Error> {
        self.answer(
            seq,
            policy,
            account,
            derived.request(),
            caller_key,
            |policy, request| Ok(derived.under(policy, request)),
        )
    }

    fn answer(
        &mut self,
        seq: u64,
        policy_number: u32,
        account: Option<u32>,
        request: &Request,
        caller_key: Option<Digest>,
        derive: impl FnOnce(&Policy, &Request) -> Result<Decision, Error>,
    ) -> Result<Record, Error> {
        let payer = account.map(|account| self.account(account)).transpose()?;
        if let Some(key) = caller_key
            && self.keys.contains_key(&key)
        {
            return Err(Error::new(
                ErrorKind::KeyConflict,
                "the caller's key was used before".to_owned(),
            ));
        }
        let number = self.next_request;
        let next = number.checked_add(1).ok_or_else(|| too_many("requests"))?;
        let request = request.numbered(number);
        if request.fields().risk_bps >= SAFETY_CEILING_BPS {
            let record = Arc::new(RefusalRecord {
                account,
                request,
                caller_key,
            });
            self.next_request = next;
            self.keep(
                number,
                Ticket::Refused {
                    record: Arc::clone(&record),
                    seq,
                },
            );
            return Ok(Record::Refusal(record));
        }
        let policy = self.policies.get(cast::usize_from_u32(policy_number)).ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownPolicy,
                format!("no policy of number {policy_number} is installed"),
            )
        })?;
        let last = self.policies.len().saturating_sub(1);
        if cast::usize_from_u32(policy_number) != last {
            return Err(Error::disagrees("the policy's number", policy_number, last));
        }
        let decision = derive(policy, &request)?;
        let identity = identity(policy, &request, &decision);
        let (holding, status) = match (policy.hold(&request, &decision), payer) {
            (None, _) => (Holding::Rejected, Status::Closed),
            (Some(_), None) => (Holding::Unheld, Status::Open(None)),
            (Some(amount), Some(payer)) => self.hold(payer, HoldId(number), amount)?,
        };
        let record = Arc::new(DecisionRecord {
            policy: policy_number,
            account,
            request,
            decision,
            identity,
            holding,
            caller_key,
        });
        self.next_request = next;
        self.keep(
            number,
            Ticket::Decided {
                record: Arc::clone(&record),
                seq,
                status,
                revisions: 0,
            },
        );
        Ok(Record::Decision(record))
    }

    fn hold(&self, payer: AccountId, hold: HoldId, amount: u64) -> Result<(Holding, Status), Error> {
        let Some(wanted) = cast::i64_from_u64(amount) else {
            let balance = self.ledger.balance(payer).ok_or_else(|| unknown_account(payer.0))?;
            let holding = Holding::Denied {
                amount,
                denial: decidable_ledger::Denial::Overflow,
                balance,
            };
            return Ok((holding, Status::Closed));
        };
        Ok(
            match self
                .ledger
                .reserve(payer, hold, wanted)
                .map_err(|error| Error::ledger(&error))?
            {
                Reserve::Held { hold, balance } => (
                    Holding::Held {
                        amount: wanted,
                        balance,
                    },
                    Status::Open(Some(hold)),
                ),
                Reserve::Denied { reason, balance } => (
                    Holding::Denied {
                        amount,
                        denial: reason,
                        balance,
                    },
                    Status::Closed,
                ),
            },
        )
    }

    fn keep(&mut self, number: u64, ticket: Ticket) {
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
        self.closed.push_back(number);
        let weight = self.tickets.get(number).map_or(0, Ticket::weight);
        self.closed_weight = self.closed_weight.saturating_add(weight);
        while self.closed_weight > self.retained
            && let Some(oldest) = self.closed.pop_front()
        {
            if let Some(ticket) = self.tickets.remove(oldest) {
                self.closed_weight = self.closed_weight.saturating_sub(ticket.weight());
                self.free_key(ticket.caller_key(), oldest);
            }
        }
    }

    /// Forgets that a caller's key stands for this ticket; it may stand for a later one by now.
    fn free_key(&mut self, key: Option<Digest>, number: u64) {
        if let Some(key) = key
            && self.keys.get(&key) == Some(&number)
        {
            self.keys.remove(&key);
        }
    }

    fn open_record(&self, ticket: u64) -> Result<(Arc<DecisionRecord>, Option<HoldId>), Error> {
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

    fn set_status(&mut self, number: u64, new: Status) {
        if let Some(Ticket::Decided { status, .. }) = self.tickets.change(number) {
            *status = new;
        }
        self.close(number);
    }

    fn settle(&mut self, seq: u64, ticket: u64, used: Use) -> Result<Record, Error> {
        let (record, hold) = self.open_record(ticket)?;
        let charged = self.charge(&record, &used)?;
        let (returned, debt, balance) = match hold {
            None => (0, 0, None),
            Some(hold) => {
                let commit = self
                    .ledger
                    .commit(hold, charged)
                    .map_err(|error| Error::ledger(&error))?;
                (commit.returned, commit.debt, Some(commit.balance))
            }
        };
        let settlement = SettlementRecord {
            ticket,
            used,
            charged,
            returned,
            debt,
            balance,
        };
        self.set_status(
            ticket,
            Status::Settled {
                record: Arc::new(settlement),
                seq,
            },
        );
        Ok(Record::Settlement(settlement))
    }

    /// What a settlement charges: the cost that was told, or the policy's price of the tokens that were used.
    fn charge(&self, record: &DecisionRecord, used: &Use) -> Result<i64, Error> {
        let cost = match (used.cost_microunits, used.input_tokens, used.output_tokens) {
            (Some(cost), _, _) => cost,
            (None, Some(input), Some(output)) => {
                let selected = record.decision.selected_model_id.unwrap_or(0);
                if record.request.quotes().iter().any(|(model, _)| *model == selected) {
                    return Err(Error::new(
                        ErrorKind::NoCost,
                        format!(
                            "model {selected} was quoted for this request, so its settlement needs cost_microunits"
                        ),
                    ));
                }
                let policy = self.policies.get(cast::usize_from_u32(record.policy)).ok_or_else(|| {
                    Error::new(
                        ErrorKind::UnknownPolicy,
                        format!("no policy of number {} is installed", record.policy),
                    )
                })?;
                policy.cost(selected, input, output).ok_or_else(|| {
                    Error::new(
                        ErrorKind::NothingSelected,
                        format!("model {selected} is not in the policy"),
                    )
                })?
            }
            (None, _, _) => {
                return Err(Error::new(
                    ErrorKind::NoCost,
                    "a settlement needs cost_microunits, or input_tokens and output_tokens".to_owned(),
                ));
            }
        };
        cast::i64_from_u64(cost).ok_or_else(|| {
            Error::new(
                ErrorKind::AmountOutOfRange,
                format!("a cost of {cost} microunits is beyond the ledger's range"),
            )
        })
    }

    fn cancel(&mut self, seq: u64, ticket: u64) -> Result<Record, Error> {
        let (record, hold) = self.open_record(ticket)?;
        let balance = match hold {
            None => None,
            Some(hold) => Some(self.ledger.release(hold).map_err(|error| Error::ledger(&error))?),
        };
        self.set_status(ticket, Status::Cancelled { seq });
        // Nothing was done under the caller's key, so whoever tries again with it is decided anew.
        self.free_key(record.caller_key, ticket);
        Ok(Record::Cancellation { ticket, balance })
    }

    fn observe(&mut self, seen: OutcomeRecord) -> Result<Record, Error> {
        let number = seen.ticket;
        let nothing_selected = || {
            Error::new(
                ErrorKind::NothingSelected,
                format!("ticket {number} selected nothing, so it has no outcome"),
            )
        };
        let Some(Ticket::Decided {
            record,
            status,
            revisions,
            ..
        }) = self.tickets.change(number)
        else {
            return Err(if self.tickets.get(number).is_some() {
                nothing_selected()
            } else {
                unknown_ticket(number)
            });
        };
        let measured =
            seen.realized_cost_microunits.is_some() || seen.realized_latency_ms.is_some() || seen.succeeded.is_some();
        if seen.disposition != Disposition::Abandoned && !matches!(status, Status::Open(_) | Status::Settled { .. }) {
            return Err(Error::new(
                ErrorKind::NothingSelected,
                format!("ticket {number} was refused or cancelled, so it can only have been abandoned"),
            ));
        }
        let consistent = match seen.disposition {
            Disposition::Applied => measured,
            Disposition::Abandoned => !measured,
            Disposition::InFlight => seen.succeeded.is_none(),
        };
        if !consistent {
            return Err(Error::new(
                ErrorKind::BadOutcome,
                "an applied outcome needs a measurement, an abandoned one carries none, one in flight cannot have succeeded"
                    .to_owned(),
            ));
        }
        let revision = revisions
            .checked_add(1)
            .ok_or_else(|| too_many("outcomes of one ticket"))?;
        let selection = Selection {
            strategy: Strategy::MaximizeUtility,
            acted_model_id: record.decision.selected_model_id,
            propensity_bps: Some(BPS_WHOLE),
        };
        let digest = Outcome {
            identity: record.identity,
            observed_at_micros: seen.observed_at_micros,
            revision,
            selection: selection.digest(),
            disposition: seen.disposition,
            realized_cost_microunits: seen.realized_cost_microunits,
            realized_latency_ms: seen.realized_latency_ms,
            succeeded: seen.succeeded,
        }
        .digest();
        *revisions = revision;
        Ok(Record::Outcome(OutcomeRecord {
            revision,
            digest,
            ..seen
        }))
    }
}

/// The command that a record answers.
fn command_of(record: &Record) -> Command {
    match record {
        Record::Policy {
            policy,
            provenance,
            number: _,
        } => Command::InstallPolicy {
            policy: Arc::clone(policy),
            provenance: provenance.clone(),
        },
        Record::Account { balance, account: _ } => Command::OpenAccount {
            initial: balance.initial,
        },
        Record::TopUp {
            account,
            amount,
            balance: _,
        } => Command::TopUp {
            account: *account,
            amount: *amount,
        },
        Record::Cap { account, balance } => Command::SetCap {
            account: *account,
            cap: balance.cap,
        },
        Record::Decision(record) => Command::Decide {
            policy: record.policy,
            account: record.account,
            request: record.request.clone(),
            caller_key: record.caller_key,
            proposed: Some(record.decision),
        },
        Record::Refusal(record) => Command::Decide {
            policy: 0,
            account: record.account,
            request: record.request.clone(),
            caller_key: record.caller_key,
            proposed: None,
        },
        Record::Settlement(record) => Command::Settle {
            ticket: record.ticket,
            used: record.used,
        },
        Record::Cancellation { ticket, balance: _ } => Command::Cancel { ticket: *ticket },
        Record::Outcome(record) => Command::Observe {
            ticket: record.ticket,
            observed_at_micros: record.observed_at_micros,
            disposition: record.disposition,
            realized_cost_microunits: record.realized_cost_microunits,
            realized_latency_ms: record.realized_latency_ms,
            succeeded: record.succeeded,
        },
    }
}

/// An error that names the first of the fields in which two values differ.
macro_rules! differs {
    ($what:literal, $written:expr, $derived:expr, [$($field:ident),+]) => {{
        let (written, derived) = ($written, $derived);
        $(if written.$field != derived.$field {
            return Error::disagrees(
                concat!($what, "'s ", stringify!($field)),
                format_args!("{:?}", written.$field),
                format_args!("{:?}", derived.$field),
            );
        })+
        Error::disagrees($what, format_args!("{written:?}"), format_args!("{derived:?}"))
    }};
}

pub(crate) fn other_decision(written: &Decision, derived: &Decision) -> Error {
    differs!(
        "a decision",
        written,
        derived,
        [
            action,
            reason,
            selected_model_id,
            selected_model_index,
            estimated_cost_microunits,
            expected_utility_microunits,
            counterfactual_model_id,
            counterfactual_utility_microunits,
            evaluated_models,
            eligible_models,
            policy_epoch,
            catalog_epoch,
            request_sequence
        ]
    )
}

/// Names the first thing in which two records of the same command differ.
fn difference(written: &Record, derived: &Record) -> Error {
    match (written, derived) {
        (Record::Decision(written), Record::Decision(derived)) => {
            differs!(
                "a decision",
                written,
                derived,
                [identity, holding, caller_key, account, policy]
            )
        }
        (Record::Settlement(written), Record::Settlement(derived)) => {
            differs!("a settlement", written, derived, [charged, returned, debt, balance])
        }
        (Record::Outcome(written), Record::Outcome(derived)) => {
            differs!("an outcome", written, derived, [revision, digest])
        }
        (Record::Policy { number: written, .. }, Record::Policy { number: derived, .. }) => {
            Error::disagrees("a policy's number", written, derived)
        }
        (Record::Account { account: written, .. }, Record::Account { account: derived, .. }) if written != derived => {
            Error::disagrees("an account's number", written, derived)
        }
        // What is left of these kinds is the balance after.
        (
            Record::Account { balance: written, .. }
            | Record::TopUp { balance: written, .. }
            | Record::Cap { balance: written, .. },
            Record::Account { balance: derived, .. }
            | Record::TopUp { balance: derived, .. }
            | Record::Cap { balance: derived, .. },
        ) => Error::disagrees(
            "an account's balance",
            format_args!("{written:?}"),
            format_args!("{derived:?}"),
        ),
        (Record::Cancellation { balance: written, .. }, Record::Cancellation { balance: derived, .. }) => {
            Error::disagrees(
                "a cancellation's balance",
                format_args!("{written:?}"),
                format_args!("{derived:?}"),
            )
        }
        _ => Error::disagrees(
            "what became of a request",
            written.kind().label(),
            derived.kind().label(),
        ),
    }
}

fn unknown_account(account: u32) -> Error {
    Error::new(
        ErrorKind::UnknownAccount,
        format!("no account of number {account} is open"),
    )
}

fn unknown_ticket(ticket: u64) -> Error {
    Error::new(ErrorKind::UnknownTicket, format!("no ticket {ticket} is known"))
}

fn too_many(what: &str) -> Error {
    Error::new(
        ErrorKind::TooMany,
        format!("the number of {what} has reached its limit"),
    )
}

#[cfg(test)]
mod tests;
