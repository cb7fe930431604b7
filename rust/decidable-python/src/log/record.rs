//! A record for Python: what it says, as fields and attributes by kind.
//!
//! It knows neither files nor how a log is walked; the reader hands it records that were verified.

use std::sync::Arc;

use decidable_canon::hex;
use decidable_engine::{Book, Entry};
use decidable_replay::{Holding, Record as Step};
use decidable_wal::{Note, NoteKind, PrivatePart};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::decision::Decision;
use crate::errors::{Class, raise};
use crate::ledger::Balance;
use crate::policy::Policy;
use crate::request::Request;

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
pub(super) struct Seen {
    pub(super) kind: &'static str,
    seq: u64,
    time_ns: i64,
    hash: [u8; 32],
    private: Option<String>,
    erased: bool,
    entry: Entry,
    note: Option<Note>,
    account: Option<String>,
}

const LOG_KINDS: [&str; 4] = ["opened", "recovered", "erased", "closed"];

pub(super) fn known_kind(py: Python<'_>, kind: &str) -> PyResult<String> {
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
    pub(super) fn of(framed: &decidable_wal::Record<'_>, entry: Entry, book: &Book) -> Option<Self> {
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
                    Step::Audit { ticket, .. } => of_ticket(*ticket),
                    Step::Policy { .. } => None,
                };
                (record.kind().label(), account.map(|account| book.account_name(account)))
            }
        };
        let note = match entry {
            // The scan has read the log's own notes, and refuses one that it cannot read.
            Entry::Log => note_kind.and_then(|kind| Note::decode(kind, framed.payload).ok()),
            Entry::Step(_) => None,
        };
        let private = match framed.private {
            // The book refuses what is not text.
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

    pub(super) fn into_record(self, py: Python<'_>) -> PyResult<Record> {
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
    // Whatever has a balance has an account.
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
                // The replay has made the hold again, and a ledger holds nothing negative.
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
        Step::Audit { ticket, hash } => {
            fields.set_item("request_sequence", ticket)?;
            fields.set_item("account", account)?;
            fields.set_item("audit_hash", PyBytes::new(py, hash.bytes()))
        }
    }
}
