//! Reading, verifying and exporting logs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use decidable_canon::{Key, hex};
use decidable_engine::{Book, Entry};
use decidable_replay::{Holding, Record as Step};
use decidable_wal::exchange::Anchor;
use decidable_wal::{Files, Note, NoteKind, PrivatePart, Scan, ScanOptions, Tail, TailReason};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::decision::Decision;
use crate::engine::{head_dict, head_of, keyed};
use crate::errors::{self, Class, raise};
use crate::ledger::Balance;
use crate::policy::Policy;
use crate::request::Request;
use crate::signals::Signals;
use crate::values::{instead, integer, otherwise, reason, text, truth, wrong_type};

/// How many records pass between two calls of the progress callback.
const PROGRESS_RECORDS: u64 = 4_096;

/// How many batches a reader walks between two looks at the interpreter's signals, where none has a record of the kind.
const BATCHES_UNSEEN: usize = 16;

/// One record of a log, verified as it was read. Its fields depend on the kind; they are attributes too.
#[pyclass(frozen, module = "decidable")]
pub(crate) struct Record {
    #[pyo3(get)]
    kind: &'static str,
    #[pyo3(get)]
    seq: u64,
    #[pyo3(get)]
    time_ns: i64,
    hash: [u8; 32],
    #[pyo3(get)]
    private: Option<String>,
    #[pyo3(get)]
    erased: bool,
    fields: Py<PyDict>,
}

#[pymethods]
impl Record {
    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.hash)
    }
    #[getter]
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.fields.bind(py).copy()
    }
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.fields.bind(py).get_item(name)?.ok_or_else(|| {
            PyAttributeError::new_err(format!("a record of kind {:?} has no attribute {name:?}", self.kind))
        })
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let names: Vec<String> = self.fields.bind(py).keys().extract()?;
        Ok(format!(
            "<Record {} of kind {}: {}>",
            self.seq,
            self.kind,
            names.join(", ")
        ))
    }
}

/// What a record says, before the interpreter is asked for anything.
struct Seen {
    kind: &'static str,
    seq: u64,
    time_ns: i64,
    hash: [u8; 32],
    private: Option<String>,
    erased: bool,
    entry: Entry,
    note: Option<Note>,
    account: Option<String>,
}

/// An iterator over the records of a log, verified batch by batch.
#[pyclass(frozen, module = "decidable._native")]
pub(crate) struct Reader(
    // In a box of its own: Python aligns objects to 16 bytes, and the ledger inside asks for more.
    Mutex<Box<Reading>>,
);

struct Reading {
    scan: Option<Scan<'static>>,
    book: Book,
    kind: Option<String>,
    ready: VecDeque<Seen>,
    /// What stood behind the last batch, once it was reached.
    tail: Option<Tail>,
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (path, *, kind=None, key=None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        kind: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let kind = kind.map(|kind| known_kind(py, &text("kind", kind)?)).transpose()?;
        let options = ScanOptions {
            key: keyed(key)?,
            ..ScanOptions::default()
        };
        let scan = py
            .detach(|| Scan::open(&Files::new(path), &options))
            .map_err(|error| errors::wal(py, &error))?;
        let reading = Reading {
            scan: Some(scan),
            book: Book::new(),
            kind,
            ready: VecDeque::new(),
            tail: None,
        };
        Ok(Self(Mutex::new(Box::new(reading))))
    }
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
    /// The bytes after the last whole batch, which are no records; known once the records have come to their end.
    #[getter]
    fn tail<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let tail = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).tail);
        tail.map(|tail| tail_dict(py, &tail)).transpose()
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Record>> {
        loop {
            let found = py
                .detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).walk())
                .map_err(|error| errors::engine(py, &error))?;
            match found {
                Walked::Found(seen) => return seen.into_record(py).map(Some),
                Walked::End => return Ok(None),
                Walked::Nothing => py.check_signals()?,
            }
        }
    }
}

/// What a reader came upon in the batches that it walked.
enum Walked {
    Found(Box<Seen>),
    Nothing,
    End,
}

impl Reading {
    /// Goes on to the next record of the kind, through so many batches at most.
    fn walk(&mut self) -> Result<Walked, decidable_engine::Error> {
        for _ in 0..BATCHES_UNSEEN {
            if let Some(seen) = self.ready.pop_front() {
                return Ok(Walked::Found(Box::new(seen)));
            }
            let Some(scan) = &mut self.scan else {
                return Ok(Walked::End);
            };
            let (book, ready, kind) = (&mut self.book, &mut self.ready, &self.kind);
            let mut fault = None;
            let more = scan.next_batch(|framed| {
                let entry = book.read(framed).map_err(|error| {
                    let message = error.to_string();
                    fault = Some(error);
                    message
                })?;
                if let Some(seen) = Seen::of(framed, entry, book)
                    && kind.as_deref().is_none_or(|kind| kind == seen.kind)
                {
                    ready.push_back(seen);
                }
                Ok(())
            });
            match (more, fault) {
                (Ok(true), None) => {}
                // Some things only the end shows, such as a private part that was changed and never erased.
                (Ok(false), None) => {
                    if let Some(scan) = self.scan.take() {
                        let scanned = scan.finish()?;
                        self.tail = scanned.tail;
                        book.expect_names(&scanned)?;
                    }
                }
                (more, fault) => {
                    self.scan = None;
                    self.ready.clear();
                    return Err(match (fault, more) {
                        (Some(fault), _) => fault,
                        (None, Err(error)) => error.into(),
                        (None, Ok(_)) => return Ok(Walked::End),
                    });
                }
            }
        }
        Ok(Walked::Nothing)
    }
}

const LOG_KINDS: [&str; 4] = ["opened", "recovered", "erased", "closed"];

fn known_kind(py: Python<'_>, kind: &str) -> PyResult<String> {
    let known: Vec<&str> = LOG_KINDS
        .into_iter()
        .chain(
            decidable_replay::Kind::ALL
                .into_iter()
                .map(decidable_replay::Kind::label),
        )
        .collect();
    if known.contains(&kind) {
        return Ok(kind.to_owned());
    }
    let message = format!("kind is {kind:?}, which is none of {}", known.join(", "));
    Err(raise(
        py,
        Class::InvalidInput,
        "log.unknown_kind",
        &message,
        |details| {
            details.set_item("field", "kind")?;
            details.set_item("value", kind)
        },
    ))
}

impl Seen {
    fn of(framed: &decidable_wal::Record<'_>, entry: Entry, book: &Book) -> Option<Self> {
        let note_kind = NoteKind::from_code(framed.kind);
        let (kind, account) = match (&entry, note_kind) {
            (Entry::Log, Some(NoteKind::Opened)) => ("opened", None),
            (Entry::Log, Some(NoteKind::Recovered)) => ("recovered", None),
            (Entry::Log, Some(NoteKind::Erased)) => ("erased", None),
            (Entry::Log, Some(NoteKind::Closed)) => ("closed", None),
            (Entry::Log, None) => return None,
            (Entry::Step(record), _) => {
                let state = book.state();
                let of_ticket = |number: u64| state.ticket(number).and_then(decidable_replay::Ticket::account);
                let account = match record {
                    Step::Account { account, .. } | Step::TopUp { account, .. } | Step::Cap { account, .. } => {
                        Some(*account)
                    }
                    Step::Decision(record) => record.account,
                    Step::Refusal(record) => record.account,
                    Step::Settlement(record) => of_ticket(record.ticket),
                    Step::Cancellation { ticket, .. } => of_ticket(*ticket),
                    Step::Outcome(record) => of_ticket(record.ticket),
                    Step::Policy { .. } => None,
                };
                (record.kind().label(), account.map(|account| book.account_name(account)))
            }
        };
        let note = match entry {
            Entry::Log => note_kind.and_then(|kind| Note::decode(kind, framed.payload).ok()),
            Entry::Step(_) => None,
        };
        let private = match framed.private {
            PrivatePart::Present(bytes) => core::str::from_utf8(bytes).ok().map(str::to_owned),
            PrivatePart::None | PrivatePart::Erased => None,
        };
        Some(Self {
            kind,
            seq: framed.seq,
            time_ns: framed.time_ns,
            hash: *framed.hash.bytes(),
            private,
            erased: framed.private == PrivatePart::Erased,
            entry,
            note,
            account,
        })
    }

    fn into_record(self, py: Python<'_>) -> PyResult<Record> {
        let fields = PyDict::new(py);
        if let Some(note) = &self.note {
            note_fields(&fields, note)?;
        }
        if let Entry::Step(record) = &self.entry {
            step_fields(py, &fields, record, self.account.as_deref())?;
        }
        Ok(Record {
            kind: self.kind,
            seq: self.seq,
            time_ns: self.time_ns,
            hash: self.hash,
            private: self.private,
            erased: self.erased,
            fields: fields.unbind(),
        })
    }
}

fn note_fields(fields: &Bound<'_, PyDict>, note: &Note) -> PyResult<()> {
    match note {
        Note::Opened {
            boot_id,
            epoch,
            sync,
            version,
        } => {
            fields.set_item("boot_id", boot_id.map(|id| hex::encode(&id)))?;
            fields.set_item("writer_epoch", epoch)?;
            fields.set_item(
                "sync",
                if *sync == decidable_wal::Durability::Group {
                    "group"
                } else {
                    "none"
                },
            )?;
            fields.set_item("version", version)
        }
        Note::Recovered {
            offset,
            cut_bytes,
            digest,
            reason,
        } => {
            fields.set_item("offset", offset)?;
            fields.set_item("cut_bytes", cut_bytes)?;
            fields.set_item("digest", digest.to_string())?;
            fields.set_item("cause", reason.label())
        }
        Note::Erased { seqs } => fields.set_item("seqs", seqs),
        Note::Closed => Ok(()),
    }
}

fn step_fields(py: Python<'_>, fields: &Bound<'_, PyDict>, record: &Step, account: Option<&str>) -> PyResult<()> {
    let balanced = |balance: &decidable_ledger::Balance| Balance::new(account.unwrap_or_default().to_owned(), *balance);
    match record {
        Step::Policy {
            number,
            policy,
            provenance,
        } => {
            fields.set_item("policy_number", number)?;
            fields.set_item("policy", Bound::new(py, Policy(Arc::clone(policy)))?)?;
            fields.set_item("digest", policy.digest().to_string())?;
            fields.set_item("provenance", provenance)
        }
        Step::Account {
            account: number,
            balance,
        } => {
            fields.set_item("account", account)?;
            fields.set_item("account_number", number)?;
            fields.set_item("initial_microunits", balance.initial)?;
            fields.set_item("balance", Bound::new(py, balanced(balance))?)
        }
        Step::TopUp {
            account: number,
            amount,
            balance,
        } => {
            fields.set_item("account", account)?;
            fields.set_item("account_number", number)?;
            fields.set_item("amount_microunits", amount)?;
            fields.set_item("balance", Bound::new(py, balanced(balance))?)
        }
        Step::Cap {
            account: number,
            balance,
        } => {
            fields.set_item("account", account)?;
            fields.set_item("account_number", number)?;
            fields.set_item("cap_microunits", balance.cap)?;
            fields.set_item("balance", Bound::new(py, balanced(balance))?)
        }
        Step::Decision(record) => {
            fields.set_item("request_sequence", record.request.fields().request_sequence)?;
            fields.set_item("policy_number", record.policy)?;
            fields.set_item("request", Bound::new(py, Request(record.request.clone()))?)?;
            fields.set_item("decision", Bound::new(py, Decision(record.decision))?)?;
            fields.set_item("identity", PyBytes::new(py, record.identity.bytes()))?;
            fields.set_item("account", account)?;
            fields.set_item("account_number", record.account)?;
            fields.set_item("caller_key", record.caller_key.map(|key| key.to_string()))?;
            let (outcome, hold, denial, balance) = match record.holding {
                Holding::Rejected => ("rejected", None, None, None),
                Holding::Unheld => ("unheld", None, None, None),
                Holding::Held { amount, balance } => ("held", u64::try_from(amount).ok(), None, Some(balance)),
                Holding::Denied {
                    amount,
                    denial,
                    balance,
                } => ("denied", Some(amount), Some(denial.label()), Some(balance)),
            };
            fields.set_item("outcome", outcome)?;
            fields.set_item("hold_microunits", hold)?;
            fields.set_item("denial", denial)?;
            fields.set_item(
                "balance",
                balance.map(|balance| Bound::new(py, balanced(&balance))).transpose()?,
            )
        }
        Step::Refusal(record) => {
            fields.set_item("request_sequence", record.request.fields().request_sequence)?;
            fields.set_item("request", Bound::new(py, Request(record.request.clone()))?)?;
            fields.set_item("risk_bps", record.request.fields().risk_bps)?;
            fields.set_item("account", account)?;
            fields.set_item("account_number", record.account)?;
            fields.set_item("caller_key", record.caller_key.map(|key| key.to_string()))
        }
        Step::Settlement(record) => {
            fields.set_item("request_sequence", record.ticket)?;
            fields.set_item("account", account)?;
            fields.set_item("charged_microunits", record.charged)?;
            fields.set_item("returned_microunits", record.returned)?;
            fields.set_item("debt_microunits", record.debt)?;
            fields.set_item("cost_microunits", record.used.cost_microunits)?;
            fields.set_item("input_tokens", record.used.input_tokens)?;
            fields.set_item("output_tokens", record.used.output_tokens)?;
            fields.set_item("latency_ms", record.used.latency_ms)?;
            fields.set_item("durable_ns", record.used.durable_ns)?;
            fields.set_item(
                "balance",
                record
                    .balance
                    .map(|balance| Bound::new(py, balanced(&balance)))
                    .transpose()?,
            )
        }
        Step::Cancellation { ticket, balance } => {
            fields.set_item("request_sequence", ticket)?;
            fields.set_item("account", account)?;
            fields.set_item(
                "balance",
                balance.map(|balance| Bound::new(py, balanced(&balance))).transpose()?,
            )
        }
        Step::Outcome(record) => {
            fields.set_item("request_sequence", record.ticket)?;
            fields.set_item("account", account)?;
            fields.set_item("observed_at_micros", record.observed_at_micros)?;
            fields.set_item("revision", record.revision)?;
            fields.set_item("disposition", record.disposition.label())?;
            fields.set_item("succeeded", record.succeeded)?;
            fields.set_item("realized_cost_microunits", record.realized_cost_microunits)?;
            fields.set_item("realized_latency_ms", record.realized_latency_ms)?;
            fields.set_item("digest", record.digest.to_string())
        }
    }
}

/// Calls back every so many records, and lets the interpreter handle its signals.
struct Progress<'a> {
    callback: Option<&'a Py<PyAny>>,
    signals: Signals,
    interrupted: Option<PyErr>,
    seen: u64,
}

impl<'a> Progress<'a> {
    fn to(callback: Option<&'a Py<PyAny>>) -> Self {
        Self {
            callback,
            signals: Signals::default(),
            interrupted: None,
            seen: 0,
        }
    }

    fn step(&mut self, seq: u64) -> Result<(), String> {
        self.look(seq).map_err(|error| {
            self.interrupted = Some(error);
            "interrupted".to_owned()
        })
    }

    fn look(&mut self, seq: u64) -> PyResult<()> {
        self.seen = self.seen.saturating_add(1);
        self.signals.look()?;
        match self.callback {
            Some(callback) if self.seen.is_multiple_of(PROGRESS_RECORDS) => {
                Python::attach(|py| callback.call1(py, (seq,)).map(drop))
            }
            _ => Ok(()),
        }
    }
}

/// The policies that someone gave.
fn given(policies: &Bound<'_, PyAny>) -> PyResult<Vec<Arc<decidable_kernel::Policy>>> {
    let wrong = |value: &Bound<'_, PyAny>| wrong_type("policies", "a sequence of Policy", value);
    policies
        .try_iter()
        .map_err(|error| instead(policies.py(), error, || wrong(policies)))?
        .map(|policy| {
            let policy = policy?;
            policy
                .cast::<Policy>()
                .map(|policy| Arc::clone(&policy.get().0))
                .map_err(|_| wrong(&policy))
        })
        .collect()
}

/// Derives a log again from its records alone.
#[pyfunction]
#[pyo3(signature = (path, *, policies, key=None, head=None, progress=None))]
pub(crate) fn verify_log<'py>(
    py: Python<'py>,
    path: PathBuf,
    policies: &Bound<'py, PyAny>,
    key: Option<&Bound<'py, PyAny>>,
    head: Option<&Bound<'py, PyAny>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let key = keyed(key)?;
    let head = head.map(head_of).transpose()?;
    let digests: Vec<_> = given(policies)?.iter().map(|policy| policy.digest()).collect();
    let mut progress = Progress::to(progress.as_ref());
    let verified =
        py.detach(|| decidable_engine::verify(&Files::new(path), key, head, &digests, |seq| progress.step(seq)));
    if let Some(interrupted) = progress.interrupted {
        return Err(interrupted);
    }
    let verified = verified.map_err(|error| errors::engine(py, &error))?;
    let scanned = &verified.scanned;
    let found = PyDict::new(py);
    found.set_item("head", head_dict(py, &scanned.head)?)?;
    found.set_item("records", scanned.records)?;
    found.set_item("batches", scanned.batches)?;
    found.set_item("bytes", scanned.bytes)?;
    found.set_item("sessions", scanned.sessions)?;
    found.set_item("recoveries", scanned.recoveries)?;
    found.set_item("closed", scanned.closed)?;
    found.set_item("keyed", scanned.keyed)?;
    found.set_item("sealed", scanned.sealed)?;
    found.set_item("head_found", scanned.head_found)?;
    found.set_item("erased", &scanned.erased)?;
    found.set_item("unfinished_erasures", &scanned.unfinished_erasures)?;
    found.set_item("unrecorded_erasures", &scanned.unrecorded_erasures)?;
    let tail = scanned.tail.map(|tail| tail_dict(py, &tail)).transpose()?;
    found.set_item("tail", tail)?;
    found.set_item("decisions", verified.decisions)?;
    found.set_item("refusals", verified.refusals)?;
    found.set_item("settlements", verified.settlements)?;
    found.set_item("outcomes", verified.outcomes)?;
    found.set_item("policies", verified.policies)?;
    let balances: Vec<Bound<'_, Balance>> = verified
        .balances
        .into_iter()
        .map(|(name, balance)| Bound::new(py, Balance::new(name, balance)))
        .collect::<PyResult<_>>()?;
    found.set_item("balances", balances)?;
    let open_tickets = verified
        .open_tickets
        .into_iter()
        .map(|ticket| {
            let dict = PyDict::new(py);
            dict.set_item("request_sequence", ticket.number)?;
            dict.set_item("seq", ticket.seq)?;
            dict.set_item("account", ticket.account)?;
            dict.set_item("hold_microunits", ticket.held)?;
            PyResult::Ok(dict)
        })
        .collect::<PyResult<Vec<_>>>()?;
    found.set_item("open_tickets", open_tickets)?;
    Ok(found)
}

/// Verifies a JSON-lines log of the exchange format.
#[pyfunction]
#[pyo3(signature = (path, *, policies, key=None, anchor=None, progress=None))]
pub(crate) fn verify_exchange<'py>(
    py: Python<'py>,
    path: PathBuf,
    policies: &Bound<'py, PyAny>,
    key: Option<&Bound<'py, PyAny>>,
    anchor: Option<&Bound<'py, PyAny>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let key: Option<Key> = keyed(key)?;
    let anchor = anchor.map(anchor_of).transpose()?;
    let owned = given(policies)?;
    let shown = path.display().to_string();
    let file = py.detach(|| File::open(&path)).map_err(|error| {
        raise(
            py,
            Class::InvalidInput,
            "log.unreadable",
            &format!("{shown} cannot be read: {}", reason(&error)),
            |details| details.set_item("path", &shown),
        )
    })?;
    let mut progress = Progress::to(progress.as_ref());
    let verified = py.detach(|| {
        let borrowed: Vec<&decidable_kernel::Policy> = owned.iter().map(|policy| &**policy).collect();
        decidable_engine::verify_exchange(BufReader::new(file), key, anchor, &borrowed, |seq| progress.step(seq))
    });
    if let Some(interrupted) = progress.interrupted {
        return Err(interrupted);
    }
    let verified = verified.map_err(|error| errors::engine(py, &error))?;
    let found = PyDict::new(py);
    let read = &verified.read;
    found.set_item("records", read.entries)?;
    found.set_item("bytes", read.bytes)?;
    found.set_item("keyed", read.keyed)?;
    found.set_item("anchor_found", read.anchor_found)?;
    let head = read
        .last
        .map(|last_hash| {
            anchor_dict(
                py,
                &Anchor {
                    sequence: read.entries,
                    last_hash,
                    keyed: read.keyed,
                },
            )
        })
        .transpose()?;
    found.set_item("head", head)?;
    let tail = read
        .tail
        .map(|tail| {
            let dict = PyDict::new(py);
            dict.set_item("offset", tail.offset)?;
            dict.set_item("bytes", tail.bytes)?;
            dict.set_item("reason", "incomplete")?;
            PyResult::Ok(dict)
        })
        .transpose()?;
    found.set_item("tail", tail)?;
    found.set_item("rederived", verified.rederived)?;
    let missing: Vec<String> = verified.missing_policies.iter().map(ToString::to_string).collect();
    found.set_item("missing_policies", missing)?;
    found.set_item("unnamed", verified.unnamed)?;
    Ok(found)
}

/// Where an export goes.
enum Target {
    /// A file that was created for it, its name, and why it could not be written.
    File {
        file: File,
        path: String,
        fault: Option<io::Error>,
    },
    /// An object that has `write`, and what it raised.
    Stream { stream: Py<PyAny>, fault: Option<PyErr> },
}

impl Target {
    fn of(out: &Bound<'_, PyAny>) -> PyResult<Self> {
        if out.hasattr("write")? {
            return Ok(Self::Stream {
                stream: out.clone().unbind(),
                fault: None,
            });
        }
        let (py, path) = (out.py(), out.extract::<PathBuf>()?);
        let shown = path.display().to_string();
        match py.detach(|| File::create_new(path)) {
            Ok(file) => Ok(Self::File {
                file,
                path: shown,
                fault: None,
            }),
            Err(error) => Err(unwritable(py, &shown, "created", &error)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.sync_all(),
            Self::Stream { .. } => Ok(()),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, fault, .. } => file.write(bytes).map_err(|error| {
                // The fault that the log makes of it would not name the file. One that is only interrupted is tried again.
                let kind = error.kind();
                if kind != io::ErrorKind::Interrupted {
                    *fault = Some(error);
                }
                kind.into()
            }),
            Self::Stream { fault: Some(_), .. } => Err(io::Error::other("the stream has failed")),
            Self::Stream { stream, fault } => Python::attach(|py| {
                let written = stream.call_method1(py, "write", (PyBytes::new(py, bytes),))?;
                // A stream that does not say how much it took has taken all.
                let written = otherwise(py, written.extract(py), bytes.len())?;
                Ok(written.min(bytes.len()))
            })
            .map_err(|error: PyErr| {
                *fault = Some(error);
                io::Error::other("the stream has failed")
            }),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unwritable(py: Python<'_>, path: &str, what: &str, error: &io::Error) -> PyErr {
    raise(
        py,
        Class::InvalidInput,
        "export.unwritable",
        &format!("{path} cannot be {what}: {}", reason(error)),
        |details| details.set_item("path", path),
    )
}

/// Writes the decisions of a log in the exchange format to a new file, or to an object that has `write`.
#[pyfunction]
#[pyo3(signature = (path, out, *, key=None, out_key=None, progress=None))]
pub(crate) fn export_log<'py>(
    py: Python<'py>,
    path: PathBuf,
    out: &Bound<'py, PyAny>,
    key: Option<&Bound<'py, PyAny>>,
    out_key: Option<&Bound<'py, PyAny>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (key, out_key) = (keyed(key)?, keyed(out_key)?);
    let mut target = Target::of(out)?;
    let mut progress = Progress::to(progress.as_ref());
    let exported = py.detach(|| {
        let out = BufWriter::new(&mut target);
        let exported = decidable_engine::export(&Files::new(path), key, out, out_key, |seq| progress.step(seq));
        exported.map(|exported| target.sync().map(|()| exported))
    });
    if let Some(interrupted) = progress.interrupted {
        return Err(interrupted);
    }
    let exported = match (exported, target) {
        (_, Target::Stream { fault: Some(fault), .. }) => return Err(fault),
        (Ok(Ok(exported)), _) => exported,
        (
            Err(_),
            Target::File {
                path,
                fault: Some(error),
                ..
            },
        )
        | (Ok(Err(error)), Target::File { path, .. }) => return Err(unwritable(py, &path, "written", &error)),
        (Ok(Err(error)), Target::Stream { .. }) => return Err(error.into()),
        (Err(error), _) => return Err(errors::engine(py, &error)),
    };
    let summary = PyDict::new(py);
    summary.set_item("decisions", exported.decisions)?;
    summary.set_item("refusals_left_out", exported.refusals)?;
    summary.set_item("tail", exported.tail.map(|tail| tail_dict(py, &tail)).transpose()?)?;
    summary.set_item(
        "anchor",
        exported.anchor.map(|anchor| anchor_dict(py, &anchor)).transpose()?,
    )?;
    Ok(summary)
}

fn tail_dict<'py>(py: Python<'py>, tail: &Tail) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("offset", tail.offset)?;
    dict.set_item("bytes", tail.bytes)?;
    let reason = match tail.reason {
        TailReason::Incomplete => "incomplete",
        TailReason::Zeros => "zeros",
        TailReason::Damaged => "damaged",
    };
    dict.set_item("reason", reason)?;
    Ok(dict)
}

const ANCHOR_SCHEMA: &str = "calybris.wal-anchor.v1";

fn anchor_dict<'py>(py: Python<'py>, anchor: &Anchor) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("schema_version", ANCHOR_SCHEMA)?;
    dict.set_item("sequence", anchor.sequence)?;
    dict.set_item("last_hash", anchor.last_hash.to_string())?;
    dict.set_item("keyed", anchor.keyed)?;
    Ok(dict)
}

fn anchor_of(value: &Bound<'_, PyAny>) -> PyResult<Anchor> {
    let item = |name: &str| {
        value.get_item(name).map_err(|error| {
            instead(value.py(), error, || {
                let message = format!("an anchor needs {name:?}");
                raise(
                    value.py(),
                    Class::InvalidInput,
                    "head.incomplete",
                    &message,
                    |details| details.set_item("field", name),
                )
            })
        })
    };
    let schema = text("schema_version", &item("schema_version")?)?;
    if schema != ANCHOR_SCHEMA {
        let message = format!("the anchor's schema is {schema:?}, not {ANCHOR_SCHEMA:?}");
        return Err(raise(
            value.py(),
            Class::InvalidInput,
            "head.unknown_schema",
            &message,
            |details| {
                details.set_item("field", "schema_version")?;
                details.set_item("value", &schema)
            },
        ));
    }
    Ok(Anchor {
        sequence: integer("sequence", &item("sequence")?)?,
        last_hash: decidable_canon::Digest::from_bytes(crate::values::hex_bytes("last_hash", &item("last_hash")?)?),
        keyed: truth("keyed", &item("keyed")?)?,
    })
}
