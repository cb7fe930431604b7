use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use decidable_canon::{Key, cast};
use decidable_kernel::{Decision, Policy, Request};
use decidable_ledger::Balance;
use decidable_replay::{
    Command, Derived, Disposition, Numbered, OutcomeRecord, Record, SettlementRecord, State, Status, Ticket, Use,
    caller_key,
};
use decidable_wal::{
    Entry, Head, Log, Opened, Opening, PRIVATE_BYTES_MAX, Private, RECORD_BYTES_MAX, Storage, Sync, frame_bytes,
};

use crate::book::{SHOWN_CHARS, is_account_name, is_name};
use crate::{Book, Clock, Error, ErrorKind};

/// How a decision is made. The kernel is the definition; whatever else is used here is replayed by the kernel before
/// its decision is written, and a decision that does not replay is refused.
pub trait Decide: Send + std::marker::Sync {
    /// The decision of `policy` on `request`.
    fn decide(&self, policy: &Policy, request: &Request) -> Decision;
}

/// The kernel itself.
#[derive(Clone, Copy, Debug, Default)]
struct Kernel;

impl Decide for Kernel {
    fn decide(&self, policy: &Policy, request: &Request) -> Decision {
        policy.decide(request)
    }
}

/// How an engine is opened.
pub struct Options {
    /// The policy that decides. It is installed if it is not the one installed last.
    pub policy: Arc<Policy>,
    /// Where catalog and prices came from; kept in the policy's record.
    pub provenance: String,
    /// The key that seals the log, if it is sealed.
    pub key: Option<Key>,
    /// Whether an answer waits until its record is durable.
    pub sync: Sync,
    /// A head that was kept elsewhere: the log must contain it.
    pub head: Option<Head>,
    /// Whether the log is opened although something may be a power loss and may be damage: a damaged end is cut and kept,
    /// and of accounts whose names are gone it is recorded that they are erased.
    pub recover: bool,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How decisions are made, where it is not the kernel itself.
    pub decide: Option<Box<dyn Decide>>,
    /// Is told the numbers of the records while the log is read, once as it is verified and once as it is followed. With an
    /// error it ends the opening, and nothing was changed.
    pub watch: Option<Watch>,
}

/// See [`Options::watch`].
pub type Watch = Box<dyn FnMut(u64) -> Result<(), String> + Send>;

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("sync", &self.sync)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

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

/// A step that was written: the number of its last record, to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The number of the record.
    pub seq: u64,
    /// When it was handed to the log.
    pub started: Instant,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The ticket.
    pub view: TicketView,
    /// Its record.
    pub step: Step,
    /// Whether the caller's key had been used for the same request before: then this is the earlier ticket.
    pub replayed: bool,
}

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

struct Core {
    book: Book,
    policy: u32,
    standings: Numbered<Standing>,
    /// The open tickets that a key was answered with again, and how often: so many callers hold them beside the first.
    answered_again: BTreeMap<u64, u32>,
    log_id: [u8; 16],
    /// The payload of the last record; kept for its room.
    payload: Vec<u8>,
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
    process: u32,
    stopped: AtomicBool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the log in `storage`, or creates it, rebuilds the state from its records, and installs the policy if it is
    /// not the one installed last. Tickets that an earlier process left open are in doubt.
    ///
    /// # Errors
    /// If the log is locked, damaged, sealed under another key, or does not follow from its own records; `NameGone`.
    pub fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Self, Error> {
        let Options {
            policy,
            provenance,
            key,
            sync,
            head,
            recover,
            clock,
            decide,
            watch,
        } = options;
        // Verifying and following take turns with it.
        let watch = RefCell::new(watch);
        let watched = |seq| watch.borrow_mut().as_mut().map_or(Ok(()), |watch| watch(seq));
        // What could be refused is refused before a log is created for it.
        room(
            &Command::InstallPolicy {
                policy: Arc::clone(&policy),
                provenance: provenance.clone(),
            },
            None,
        )?;
        let mut book = Book::new();
        let mut recorded = None;
        let mut fault = None;
        let opening = Opening::begin(
            storage,
            decidable_wal::Options {
                key,
                sync,
                head,
                log_id: random()?,
                boot_id: decidable_wal::boot_id(),
                recover,
                time_ns: clock.now_ns(),
                create: true,
                ..decidable_wal::Options::default()
            },
            watched,
            |framed| {
                let entry = book.read(framed).map_err(|error| {
                    let message = error.to_string();
                    fault = Some(error);
                    message
                })?;
                if let crate::Entry::Step(Record::Policy { policy, provenance, .. }) = entry {
                    recorded = Some((policy, provenance));
                }
                watched(framed.seq)
            },
        );
        let opening = match (opening, fault) {
            (_, Some(fault)) => return Err(fault),
            (Err(error), None) => return Err(error.into()),
            (Ok(opening), None) => opening,
        };
        if !recover {
            book.expect_names(opening.scanned())?;
        }
        let gone: Vec<_> = book.names_gone(opening.scanned()).map(|(seq, _)| seq).collect();
        let (log, opened) = opening.finish(&gone)?;
        let mut standings = Numbered::new();
        for (number, _) in book.state().open_tickets() {
            standings.insert(number, Standing::InDoubt);
        }
        // What says nothing of where the policy came from is not recorded in place of what does.
        let installed = recorded.filter(|(installed, recorded)| {
            installed.digest() == policy.digest() && (provenance.is_empty() || provenance == *recorded)
        });
        let install = installed.is_none();
        let policy = installed.map_or(policy, |(installed, _)| installed);
        let engine = Self {
            core: Mutex::new(Core {
                policy: 0,
                standings,
                answered_again: BTreeMap::new(),
                log_id: log.log_id(),
                book,
                payload: Vec::new(),
            }),
            log,
            opened,
            policy: Arc::clone(&policy),
            clock,
            decide: decide.unwrap_or_else(|| Box::new(Kernel)),
            process: std::process::id(),
            stopped: AtomicBool::new(false),
        };
        if install {
            let step = {
                let mut core = engine.core()?;
                engine
                    .perform(&mut core, Command::InstallPolicy { policy, provenance }, None)?
                    .1
            };
            engine.wait(step.seq, None)?;
        }
        {
            let mut core = engine.core()?;
            let count = core.book.state().policies().len();
            core.policy = cast::u32_from_usize(count.saturating_sub(1)).unwrap_or(u32::MAX);
        }
        Ok(engine)
    }

    /// What opening the log found and did: ends that were cut, erasures that were finished, and whether the writer before
    /// had closed it.
    #[must_use]
    pub const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// A forked child must not even wait for a lock: the thread that holds it exists only in the parent.
    fn refuse_forked(&self) -> Result<(), Error> {
        if self.process == std::process::id() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Forked))
        }
    }

    fn core(&self) -> Result<MutexGuard<'_, Core>, Error> {
        self.refuse_forked()?;
        // A thread that panicked while it held the lock may have left the state ahead of the log.
        let core = self.core.lock().map_err(|_| {
            self.stopped.store(true, Ordering::Release);
            Error::new(ErrorKind::Stopped)
        })?;
        // After a failed write the state is ahead of the log: not even a balance may be read from it.
        if self.log.has_failed() || self.stopped.load(Ordering::Acquire) {
            // The log knows the cause, if it was the disk.
            self.log.ready(0)?;
            return Err(Error::new(ErrorKind::Stopped));
        }
        Ok(core)
    }

    /// Performs a command and hands its record to the log, both or neither.
    fn perform(
        &self,
        core: &mut Core,
        command: Command,
        private: Option<Private<'_>>,
    ) -> Result<(Record, Step), Error> {
        let bytes = room(&command, private.as_ref())?;
        self.write(core, bytes, private, |state, seq| state.perform(seq, command))
    }

    /// Moves the state and hands the record of the move to the log, both or neither. At most `bytes` does it take there.
    fn write(
        &self,
        core: &mut Core,
        bytes: usize,
        private: Option<Private<'_>>,
        step: impl FnOnce(&mut State, u64) -> Result<Record, decidable_replay::Error>,
    ) -> Result<(Record, Step), Error> {
        let seq = self.log.ready(bytes)?;
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
        match self.log.append(&[entry]) {
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

    /// Waits until the durable part of the log ends after the record `seen`, and returns where it ends.
    ///
    /// # Errors
    /// If the log can take no more, or `timeout` passed.
    pub fn wait_change(&self, seen: u64, timeout: Option<Duration>) -> Result<u64, Error> {
        self.refuse_forked()?;
        Ok(self.log.wait_change(seen, timeout)?)
    }

    /// Decides a request, holds its largest cost on `account`, and hands the record to the log. The answer must not be
    /// acted on before [`Engine::wait`] has returned for its step.
    ///
    /// With a `key` that was used before for the same request and account the earlier ticket is returned, a refusal
    /// among them: repeating a request never turns its answer. The metadata of the first stay.
    ///
    /// # Errors
    /// If the account is unknown, the key was used for another request, the decision does not replay, or the log cannot
    /// take the record. A refusal is not an error.
    pub fn decide(
        &self,
        request: &Request,
        account: Option<&str>,
        key: Option<&str>,
        metadata: Option<&str>,
    ) -> Result<Answer, Error> {
        // What takes long with a large catalog is done before the state is held, so that nobody waits for it.
        let derived = self.derive(request);
        let private = metadata.map(private).transpose();
        let mut core = self.core()?;
        let payer = account.map(|name| core.account(name)).transpose()?;
        let caller_key = key
            .map(|key| keyed(key).map(|key| caller_key(&core.log_id, key)))
            .transpose()?;
        if let (Some(digest), Some(key)) = (&caller_key, key)
            && let Some(ticket) = core.book.state().ticket_of_key(digest)
        {
            let number = ticket.request().fields().request_sequence;
            if ticket.account() != payer || *ticket.request() != request.numbered(number) {
                return Err(Error::new(ErrorKind::KeyConflict(key.to_owned())));
            }
            let step = Step {
                seq: ticket.seq(),
                started: Instant::now(),
            };
            if core.standings.get(number).is_some() {
                let times = core.answered_again.entry(number).or_default();
                *times = times.saturating_add(1);
            }
            return Ok(Answer {
                view: core.view(number)?,
                step,
                replayed: true,
            });
        }
        let (derived, private) = (derived?, private?);
        let bytes = decision_room(request, metadata)?;
        let number = core.book.state().next_request();
        let policy = core.policy;
        let (record, step) = self.write(&mut core, bytes, private, |state, seq| {
            state.decide(seq, policy, payer, &derived, caller_key)
        })?;
        if matches!(&record, Record::Decision(_)) && core.is_open(number) {
            core.standings.insert(number, Standing::Held);
        }
        Ok(Answer {
            view: core.view(number)?,
            step,
            replayed: false,
        })
    }

    /// Decides a request and derives the decision again by the definition, which is what will be written.
    fn derive(&self, request: &Request) -> Result<Derived, Error> {
        let derived = Derived::new(&self.policy, request);
        derived
            .expect(|| self.decide.decide(&self.policy, request))
            .map_err(|error| Error::new(ErrorKind::DoesNotReplay(error.to_string())))?;
        Ok(derived)
    }

    /// How many candidates and quotes deciding a request looks at: whoever must not wait long asks before.
    #[must_use]
    pub fn work(&self, request: &Request) -> usize {
        self.policy.candidates().len().saturating_add(request.quotes().len())
    }

    /// Says that someone acts on the ticket from now on. It can be said once: whoever says it again would spend twice.
    ///
    /// # Errors
    /// If the ticket is not open, was dispatched before or is in doubt, or the log takes nothing: then the settlement
    /// could not be written either.
    pub fn dispatch(&self, ticket: u64) -> Result<(), Error> {
        let mut core = self.core()?;
        core.open(ticket)?;
        self.log.ready(RECORD_BYTES)?;
        match core.standings.change(ticket) {
            Some(standing @ Standing::Held) => {
                *standing = Standing::Dispatched;
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
    /// If the log cannot take the record.
    pub fn disown(&self, ticket: u64) -> Result<(), Error> {
        let mut core = self.core()?;
        if core.standings.get(ticket) != Some(&Standing::Held) {
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
        if let Some(standing) = core.standings.change(ticket) {
            *standing = Standing::InDoubt;
        }
        Ok(())
    }

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

    /// Cancels a ticket that nobody acts on, releases its hold, and frees the caller's key. Cancelling it again changes
    /// nothing.
    ///
    /// # Errors
    /// If the ticket is unknown, settled, dispatched or in doubt, or the log cannot take the record.
    pub fn cancel(&self, ticket: u64) -> Result<Step, Error> {
        let core = self.core()?;
        if matches!(
            core.standings.get(ticket),
            Some(Standing::Dispatched | Standing::InDoubt)
        ) {
            return Err(Error::new(ErrorKind::Dispatched(ticket)));
        }
        self.release(core, ticket)
    }

    fn release(&self, mut core: MutexGuard<'_, Core>, ticket: u64) -> Result<Step, Error> {
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
                if core.standings.get(ticket) == Some(&Standing::Dispatched) {
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

    /// Opens an account. Its name is kept as a private part of its record.
    ///
    /// # Errors
    /// If the name is not valid or taken, the amount negative, or the log cannot take the record.
    pub fn open_account(&self, name: &str, initial: i64) -> Result<(Balance, Step), Error> {
        if !is_name(name) || !is_account_name(name) {
            return Err(bad_name(name));
        }
        let private = private(name)?;
        let mut core = self.core()?;
        if core.book.number(name).is_some() {
            return Err(Error::new(ErrorKind::AccountExists(name.to_owned())));
        }
        match self.perform(&mut core, Command::OpenAccount { initial }, Some(private))? {
            (Record::Account { account, balance }, step) => {
                core.book.name(account, step.seq, Some(name.to_owned()));
                Ok((balance, step))
            }
            _ => Err(Error::new(ErrorKind::Stopped)),
        }
    }

    /// Adds funds to an account; debt is repaid first.
    ///
    /// # Errors
    /// If the account is unknown, the amount not positive or too large, or the log cannot take the record.
    pub fn top_up(&self, name: &str, amount: i64) -> Result<(Balance, Step), Error> {
        let mut core = self.core()?;
        let account = core.account(name)?;
        match self.perform(&mut core, Command::TopUp { account, amount }, None)? {
            (Record::TopUp { balance, .. }, step) => Ok((balance, step)),
            _ => Err(Error::new(ErrorKind::Stopped)),
        }
    }

    /// Sets or lifts the exposure cap of an account.
    ///
    /// # Errors
    /// If the account is unknown, the cap negative, or the log cannot take the record.
    pub fn set_cap(&self, name: &str, cap: Option<i64>) -> Result<(Balance, Step), Error> {
        let mut core = self.core()?;
        let account = core.account(name)?;
        match self.perform(&mut core, Command::SetCap { account, cap }, None)? {
            (Record::Cap { balance, .. }, step) => Ok((balance, step)),
            _ => Err(Error::new(ErrorKind::Stopped)),
        }
    }

    /// The balance of an account.
    ///
    /// # Errors
    /// If the account is unknown.
    pub fn balance(&self, name: &str) -> Result<Balance, Error> {
        let core = self.core()?;
        let account = core.account(name)?;
        core.book
            .state()
            .balance(account)
            .ok_or_else(|| Error::new(ErrorKind::UnknownAccount(name.to_owned())))
    }

    /// The balance of an account that is open already, and the number of the record that opened it: whoever relies on that
    /// waits for it.
    ///
    /// # Errors
    /// If the account is unknown.
    pub fn opened_account(&self, name: &str) -> Result<(Balance, u64), Error> {
        let core = self.core()?;
        let account = core.account(name)?;
        core.book
            .state()
            .balance(account)
            .zip(core.book.opened_by(account))
            .ok_or_else(|| Error::new(ErrorKind::UnknownAccount(name.to_owned())))
    }

    /// Names and balances of all accounts, in the order of opening.
    ///
    /// # Errors
    /// If the engine was forked or stopped.
    pub fn balances(&self) -> Result<Vec<(String, Balance)>, Error> {
        let core = self.core()?;
        Ok((0..core.book.state().accounts())
            .filter_map(|account| Some((core.book.account_name(account), core.book.state().balance(account)?)))
            .collect())
    }

    /// The name of an account by its number.
    ///
    /// # Errors
    /// If the engine was forked or stopped.
    pub fn account_name(&self, account: u32) -> Result<String, Error> {
        Ok(self.core()?.book.account_name(account))
    }

    /// A ticket by its number.
    ///
    /// # Errors
    /// If it is unknown, or was closed so long ago that it is forgotten.
    pub fn ticket(&self, number: u64) -> Result<TicketView, Error> {
        self.core()?.view(number)
    }

    /// The tickets that are neither settled nor cancelled, in order.
    ///
    /// # Errors
    /// If the engine was forked or stopped.
    pub fn open_tickets(&self) -> Result<Vec<TicketView>, Error> {
        let core = self.core()?;
        core.standings.iter().map(|(number, _)| core.view(number)).collect()
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

    /// Erases the private parts of records, and what recovery has cut and kept, for good. Every proof still holds. An
    /// account whose name was among them is called `#` and its number from now on.
    ///
    /// Other steps go on meanwhile. The name stays taken until its bytes are gone from the disk: an account that takes it
    /// is written only then, so whenever the log is read, no two accounts have one name.
    ///
    /// # Errors
    /// If a record is not durable yet, or the log cannot write.
    pub fn erase(&self, seqs: &[u64]) -> Result<decidable_wal::Erased, Error> {
        drop(self.core()?);
        let erasure = self.log.begin_erasure(seqs)?;
        let time_ns = self.clock.now_ns();
        let erased = {
            // The log numbers the record of an erasure by itself, and steps are numbered before they are handed over.
            let _core = self.core()?;
            self.log.append_erasure(erasure, time_ns)?
        };
        self.log.wait_erased()?;
        // An engine that has stopped meanwhile names no account any more.
        if let Ok(mut core) = self.core() {
            core.book.forget_names(erased.seqs.iter().chain(&erased.already));
        }
        Ok(erased)
    }

    /// Records the closing and takes no step any more, without waiting for the disk: [`Engine::wait_change`] tells when all
    /// is written, and [`Engine::close`] is quick then. Again it changes nothing.
    ///
    /// # Errors
    /// If the engine was forked.
    pub fn finish(&self) -> Result<(), Error> {
        self.refuse_forked()?;
        // Nothing may be half-way between state and log; what comes after finds the log closed. Those who come do not
        // wait for the disk.
        let _core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.log.finish()?)
    }

    /// Writes what is left and closes the log, also after a fault. Closing again changes nothing.
    ///
    /// # Errors
    /// If the log could not write, now or before; it is closed all the same. If the engine was forked.
    pub fn close(&self) -> Result<Head, Error> {
        self.finish()?;
        Ok(self.log.close()?)
    }

    /// Writes what is left and unlocks the log, without recording a closing. Dropping the engine does the same.
    pub fn drain(&self) {
        self.log.drain();
    }

    /// In a forked child: lets go of the log without writing, waiting or unlocking.
    pub fn abandon(&self) {
        self.stopped.store(true, Ordering::Release);
        self.log.abandon();
    }
}

impl Core {
    fn account(&self, name: &str) -> Result<u32, Error> {
        self.book
            .number(name)
            .ok_or_else(|| Error::new(ErrorKind::UnknownAccount(name.to_owned())))
    }
    fn is_open(&self, number: u64) -> bool {
        matches!(
            self.book.state().ticket(number),
            Some(Ticket::Decided {
                status: Status::Open(_),
                ..
            })
        )
    }
    fn close(&mut self, number: u64) {
        self.standings.remove(number);
        self.answered_again.remove(&number);
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
            standing: self.standings.get(number).copied(),
            policy,
        })
    }
}

/// Room for a payload beyond this is given back: nearly every record takes less.
const PAYLOAD_BYTES_KEPT: usize = 4_096;

/// What a record may take besides the parts that have no bound of their own.
const RECORD_BYTES: usize = 1_024;

/// What one quote takes at most.
const QUOTE_BYTES: usize = 16;

/// At most so many bytes does the record of a command take: what must be free in the queue before the state may move.
///
/// # Errors
/// `TooLarge` if the log takes no such record at all.
fn room(command: &Command, private: Option<&Private<'_>>) -> Result<usize, Error> {
    let payload = match command {
        Command::InstallPolicy { policy, provenance } => {
            let mut layout = Vec::new();
            policy.encode(&mut layout);
            layout.len().saturating_add(provenance.len())
        }
        Command::Decide { request, .. } => quotes_bytes(request),
        _ => 0,
    };
    fits(payload, private.map_or(0, |private| private.bytes.len()))
}

/// As [`room`], of the decision on a request.
fn decision_room(request: &Request, metadata: Option<&str>) -> Result<usize, Error> {
    fits(quotes_bytes(request), metadata.map_or(0, str::len))
}

fn quotes_bytes(request: &Request) -> usize {
    request.quotes().len().saturating_mul(QUOTE_BYTES)
}

/// What a record takes whose parts without a bound of their own have so many bytes.
fn fits(unbounded: usize, private: usize) -> Result<usize, Error> {
    let payload = RECORD_BYTES.saturating_add(unbounded);
    for (what, bytes, most) in [
        ("record", payload, RECORD_BYTES_MAX),
        ("private part", private, PRIVATE_BYTES_MAX),
    ] {
        if bytes > most {
            let message = format!("a {what} of {bytes} bytes, and the log takes at most {most}");
            return Err(Error::new(ErrorKind::TooLarge(message)));
        }
    }
    Ok(frame_bytes(payload, Some(private)))
}

/// The caller's key, which is held to what a name is held to.
fn keyed(key: &str) -> Result<&str, Error> {
    if is_name(key) {
        Ok(key)
    } else {
        Err(Error::new(ErrorKind::BadKey(key.chars().take(SHOWN_CHARS).collect())))
    }
}

fn bad_name(name: &str) -> Error {
    Error::new(ErrorKind::BadName(name.chars().take(SHOWN_CHARS).collect()))
}

/// A private part under a salt of its own, drawn from the system: no other salt, and nothing that this process keeps, says
/// anything of it.
fn private(text: &str) -> Result<Private<'_>, Error> {
    Ok(Private {
        salt: random()?,
        bytes: text.as_bytes().into(),
    })
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(ErrorKind::NoRandomness(error.to_string())))?;
    Ok(bytes)
}
