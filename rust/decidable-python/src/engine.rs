//! The live path for Python: conversions of what is asked and answered, and waiting that an interrupt can end.
//!
//! It knows no rule of the engine. What is answered is beside it: `answer`, `settlement`, `head`.

mod answer;
mod head;
mod settlement;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use decidable_canon::Digest;
use decidable_engine::{Clock, Observation, Options, SystemClock, Watch};
use decidable_replay::{Disposition, Use};
use decidable_wal::{Durability, Files};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyTuple};

use self::answer::state_of;
use crate::clock::ManualClock;
use crate::errors::{self, Class, raise};
use crate::key::keyed;
use crate::ledger::Balance;
use crate::policy::Policy;
use crate::request::Request;
use crate::signals::{SIGNAL_CHECK, Signals};
use crate::values::{Given, exactly, instead, integer, optional, optional_text, text, truth, wrong_type};

pub(crate) use self::answer::Answer;
pub(crate) use self::head::{head_dict, head_of};
pub(crate) use self::settlement::Settlement;

/// The live path over one log directory. Private: `decidable.Engine` is the public class.
#[pyclass(frozen, module = "decidable._native")]
pub(crate) struct Engine {
    engine: Arc<decidable_engine::Engine>,
    /// The log's directory, as it was given.
    log: PathBuf,
}

impl Engine {
    /// What is raised for an error of this engine.
    fn fault(&self, py: Python<'_>, error: &decidable_engine::Error) -> PyErr {
        errors::engine_of(py, error, &self.log)
    }
    /// As [`Self::fault`], of an operation on the account of that name.
    fn fault_of(&self, py: Python<'_>, error: &decidable_engine::Error, account: &str) -> PyErr {
        match error.kind() {
            decidable_engine::ErrorKind::Replay(inner) if error.seq().is_none() => match inner.kind() {
                decidable_replay::ErrorKind::Ledger(kind) => errors::ledger_of(py, kind, inner, account),
                _ => self.fault(py, error),
            },
            _ => self.fault(py, error),
        }
    }
}

impl Drop for Engine {
    /// An engine that nobody closed waits for the disk here; the other threads must not wait with it.
    fn drop(&mut self) {
        // Where the interpreter cannot be asked any more, the log's own drop waits.
        let _ = Python::try_attach(|py| py.detach(|| self.engine.drain()));
    }
}

#[pymethods]
impl Engine {
    #[staticmethod]
    #[pyo3(signature = (path, *, policy, key=None, sync=Given::NOT, clock=None, provenance=Given::NOT, head=None, recover=Given::NOT))]
    #[allow(clippy::too_many_arguments)]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        policy: &Bound<'_, PyAny>,
        key: Option<&Bound<'_, PyAny>>,
        sync: Given<'_, '_>,
        clock: Option<&Bound<'_, PyAny>>,
        provenance: Given<'_, '_>,
        head: Option<&Bound<'_, PyAny>>,
        recover: Given<'_, '_>,
    ) -> PyResult<Self> {
        let policy = policy
            .cast::<Policy>()
            .map_err(|_| wrong_type("policy", "a Policy", policy))?;
        let sync = match sync.or("group".to_owned(), |value| text("sync", value))?.as_str() {
            "group" => Durability::Group,
            "none" => Durability::None,
            other => {
                let message = format!("sync is {other:?}, which is neither \"group\" nor \"none\"");
                return Err(raise(
                    py,
                    Class::InvalidInput,
                    "engine.unknown_sync",
                    &message,
                    |details| {
                        details.set_item("field", "sync")?;
                        details.set_item("value", other)
                    },
                ));
            }
        };
        let clock: Arc<dyn Clock> = match clock {
            None => Arc::new(SystemClock),
            Some(clock) => {
                let manual = clock
                    .cast::<ManualClock>()
                    .map_err(|_| wrong_type("clock", "a ManualClock", clock))?;
                let manual: Arc<decidable_engine::ManualClock> = Arc::clone(&manual.get().0);
                manual
            }
        };
        let interrupted = Arc::new(Mutex::new(None));
        let options = Options {
            policy: Arc::clone(&policy.get().0),
            provenance: provenance.or(String::new(), |value| text("provenance", value))?,
            key: keyed(key)?,
            sync,
            head: head.map(head_of).transpose()?,
            recover: recover.or(false, |value| truth("recover", value))?,
            clock,
            decide: None,
            watch: Some(interruptible(Arc::clone(&interrupted))),
        };
        let files = Arc::new(Files::new(path.clone()));
        let opened = py.detach(|| decidable_engine::Engine::open(files, options));
        if let Some(interrupted) = interrupted.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(interrupted);
        }
        match opened {
            Ok(engine) => Ok(Self {
                engine: Arc::new(engine),
                log: path,
            }),
            Err(error) => Err(errors::engine_of(py, &error, &path)),
        }
    }

    /// What opening the log found and did. `decidable.Opened` is the public class.
    fn opened<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let decidable_wal::Opened {
            head: _,
            records,
            created,
            epoch,
            closed_before,
            last_time_ns: _,
            recoveries,
            erasures_finished,
            unrecorded_erasures,
        } = self.engine.opened();
        let recoveries = recoveries.iter().map(|recovery| {
            let dict = PyDict::new(py);
            dict.set_item("offset", recovery.offset)?;
            dict.set_item("cut_bytes", recovery.cut_bytes)?;
            dict.set_item("digest", recovery.digest.to_string())?;
            dict.set_item("cause", recovery.reason.label())?;
            dict.set_item("quarantine", &recovery.quarantine)?;
            PyResult::Ok(dict)
        });
        let found = PyDict::new(py);
        found.set_item("created", created)?;
        found.set_item("records", records)?;
        found.set_item("writer_epoch", epoch)?;
        found.set_item("closed_before", closed_before)?;
        found.set_item(
            "recoveries",
            PyTuple::new(py, recoveries.collect::<PyResult<Vec<_>>>()?)?,
        )?;
        found.set_item("erasures_finished", PyTuple::new(py, erasures_finished)?)?;
        found.set_item("unrecorded_erasures", PyTuple::new(py, unrecorded_erasures)?)?;
        Ok(found)
    }

    /// How many candidates and quotes deciding a request looks at.
    fn work(&self, request: &Bound<'_, PyAny>) -> PyResult<usize> {
        let request = request
            .cast::<Request>()
            .map_err(|_| wrong_type("request", "a Request", request))?;
        Ok(self.engine.work(&request.get().0))
    }

    /// Decides, holds and hands the record to the log, without waiting for it.
    #[pyo3(signature = (request, *, account=None, key=None, metadata=None))]
    fn submit(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        account: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        metadata: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Answer> {
        let request = request
            .cast::<Request>()
            .map_err(|_| wrong_type("request", "a Request", request))?;
        let request = &request.get().0;
        let account = optional_text("account", account)?;
        let key = optional_text("key", key)?;
        let metadata = optional_text("metadata", metadata)?;
        let engine = &*self.engine;
        let answer = py
            .detach(|| engine.decide(request, account.as_deref(), key.as_deref(), metadata.as_deref()))
            .map_err(|error| self.fault(py, &error))?;
        if let Err(interrupted) = py.check_signals() {
            // The caller will not receive the answer. Where the log takes nothing more the interrupt matters more.
            let _ = py.detach(|| engine.disown(answer.view.number));
            return Err(interrupted);
        }
        Ok(Answer::new(answer, account))
    }

    /// Waits until the record of that number is durable. An interrupt ends the wait.
    fn wait(&self, py: Python<'_>, seq: u64) -> PyResult<()> {
        loop {
            let engine = &*self.engine;
            match py.detach(|| engine.wait(seq, Some(SIGNAL_CHECK))) {
                Ok(()) => return Ok(()),
                Err(error) if timed_out(&error) => py.check_signals()?,
                Err(error) => return Err(self.fault(py, &error)),
            }
        }
    }

    /// Waits until the durable part of the log ends after `seen`, at most `timeout_ms`, and returns where it ends.
    fn wait_change(&self, py: Python<'_>, seen: u64, timeout_ms: u64) -> PyResult<u64> {
        let engine = &*self.engine;
        py.detach(|| engine.wait_change(seen, Some(Duration::from_millis(timeout_ms))))
            .map_err(|error| self.fault(py, &error))
    }

    fn dispatch(&self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        let engine = &*self.engine;
        py.detach(|| engine.dispatch(ticket))
            .map_err(|error| self.fault(py, &error))
    }

    fn disown(&self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        let engine = &*self.engine;
        py.detach(|| engine.disown(ticket))
            .map_err(|error| self.fault(py, &error))
    }

    fn leave(&self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        let engine = &*self.engine;
        py.detach(|| engine.leave(ticket))
            .map_err(|error| self.fault(py, &error))
    }

    #[pyo3(signature = (ticket, *, cost_microunits=None, input_tokens=None, output_tokens=None, latency_ms=None, durable_ns=None))]
    #[allow(clippy::too_many_arguments)]
    fn submit_settle(
        &self,
        py: Python<'_>,
        ticket: &Bound<'_, PyAny>,
        cost_microunits: Option<&Bound<'_, PyAny>>,
        input_tokens: Option<&Bound<'_, PyAny>>,
        output_tokens: Option<&Bound<'_, PyAny>>,
        latency_ms: Option<&Bound<'_, PyAny>>,
        durable_ns: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Settlement> {
        let number = integer("ticket", ticket)?;
        let used = Use {
            cost_microunits: optional("cost_microunits", cost_microunits)?,
            input_tokens: optional("input_tokens", input_tokens)?,
            output_tokens: optional("output_tokens", output_tokens)?,
            latency_ms: optional("latency_ms", latency_ms)?,
            durable_ns: optional("durable_ns", durable_ns)?,
        };
        let engine = &*self.engine;
        let settled = py
            .detach(|| engine.settle(number, used))
            .map_err(|error| self.fault(py, &error))?;
        Ok(Settlement::of(number, &settled))
    }

    /// Releases the hold of a ticket that nobody acts on; the number of the record.
    fn submit_cancel(&self, py: Python<'_>, ticket: u64) -> PyResult<u64> {
        let engine = &*self.engine;
        py.detach(|| engine.cancel(ticket))
            .map(|step| step.seq)
            .map_err(|error| self.fault(py, &error))
    }

    /// Releases the hold of a ticket in doubt, where it is certain that nothing was spent.
    fn submit_release(&self, py: Python<'_>, ticket: &Bound<'_, PyAny>) -> PyResult<u64> {
        let number = integer("ticket", ticket)?;
        let engine = &*self.engine;
        py.detach(|| engine.reconcile(number, None))
            .map(|step| step.seq)
            .map_err(|error| self.fault(py, &error))
    }

    #[pyo3(signature = (ticket, *, abandoned, cost_microunits=None, latency_ms=None, succeeded=None))]
    fn submit_outcome(
        &self,
        py: Python<'_>,
        ticket: &Bound<'_, PyAny>,
        abandoned: &Bound<'_, PyAny>,
        cost_microunits: Option<&Bound<'_, PyAny>>,
        latency_ms: Option<&Bound<'_, PyAny>>,
        succeeded: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let number = integer("ticket", ticket)?;
        let seen = Observation {
            disposition: if truth("abandoned", abandoned)? {
                Disposition::Abandoned
            } else {
                Disposition::Applied
            },
            realized_cost_microunits: optional("cost_microunits", cost_microunits)?,
            realized_latency_ms: optional("latency_ms", latency_ms)?,
            succeeded: succeeded.map(|value| truth("succeeded", value)).transpose()?,
        };
        let engine = &*self.engine;
        py.detach(|| engine.observe(number, seen))
            .map(|(_, step)| step.seq)
            .map_err(|error| self.fault(py, &error))
    }

    fn submit_audit(&self, py: Python<'_>, ticket: &Bound<'_, PyAny>, audit_hash: &Bound<'_, PyAny>) -> PyResult<u64> {
        let number = integer("ticket", ticket)?;
        let hash = Digest::from_bytes(exactly("audit_hash", audit_hash)?);
        let engine = &*self.engine;
        py.detach(|| engine.audit(number, hash))
            .map(|step| step.seq)
            .map_err(|error| self.fault(py, &error))
    }

    fn submit_account(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        initial: &Bound<'_, PyAny>,
    ) -> PyResult<(Balance, u64)> {
        let (name, initial) = (text("account", name)?, integer("initial", initial)?);
        let engine = &*self.engine;
        let (balance, step) = py
            .detach(|| engine.open_account(&name, initial))
            .map_err(|error| self.fault_of(py, &error, &name))?;
        Ok((Balance::new(name, balance), step.seq))
    }

    fn submit_top_up(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        amount: &Bound<'_, PyAny>,
    ) -> PyResult<(Balance, u64)> {
        let (name, amount) = (text("account", name)?, integer("amount", amount)?);
        let engine = &*self.engine;
        let (balance, step) = py
            .detach(|| engine.top_up(&name, amount))
            .map_err(|error| self.fault_of(py, &error, &name))?;
        Ok((Balance::new(name, balance), step.seq))
    }

    #[pyo3(signature = (name, cap))]
    fn submit_cap(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        cap: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Balance, u64)> {
        let (name, cap) = (text("account", name)?, optional("cap", cap)?);
        let engine = &*self.engine;
        let (balance, step) = py
            .detach(|| engine.set_cap(&name, cap))
            .map_err(|error| self.fault_of(py, &error, &name))?;
        Ok((Balance::new(name, balance), step.seq))
    }

    fn balance(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<Balance> {
        let name = text("account", name)?;
        let engine = &*self.engine;
        let balance = py
            .detach(|| engine.balance(&name))
            .map_err(|error| self.fault(py, &error))?;
        Ok(Balance::new(name, balance))
    }

    /// The balance of an account that is open already, and the number of the record that opened it.
    fn opened_account(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<(Balance, u64)> {
        let name = text("account", name)?;
        let engine = &*self.engine;
        let (balance, seq) = py
            .detach(|| engine.opened_account(&name))
            .map_err(|error| self.fault(py, &error))?;
        Ok((Balance::new(name, balance), seq))
    }

    fn balances(&self, py: Python<'_>) -> PyResult<Vec<Balance>> {
        let engine = &*self.engine;
        let balances = py
            .detach(|| engine.balances())
            .map_err(|error| self.fault(py, &error))?;
        Ok(balances
            .into_iter()
            .map(|(name, balance)| Balance::new(name, balance))
            .collect())
    }

    /// The ticket of that number, as it stands.
    fn ticket(&self, py: Python<'_>, number: &Bound<'_, PyAny>) -> PyResult<Answer> {
        let number = integer("ticket", number)?;
        let engine = &*self.engine;
        py.detach(|| Answer::of(engine, engine.ticket(number)?))
            .map_err(|error| self.fault(py, &error))
    }

    /// Where the ticket of that number stands.
    fn state(&self, py: Python<'_>, number: u64) -> PyResult<&'static str> {
        let engine = &*self.engine;
        py.detach(|| engine.ticket(number).map(|view| state_of(&view)))
            .map_err(|error| self.fault(py, &error))
    }

    /// The tickets that are neither settled nor cancelled.
    fn open_tickets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let engine = &*self.engine;
        let answers = py
            .detach(|| {
                let views = engine.open_tickets()?.into_iter();
                views
                    .map(|view| Answer::of(engine, view))
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(|error| self.fault(py, &error))?;
        let answers = answers
            .into_iter()
            .map(|answer| Bound::new(py, answer))
            .collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, answers)
    }

    /// The policy that decides.
    fn policy(&self, py: Python<'_>) -> PyResult<Policy> {
        let engine = &*self.engine;
        py.detach(|| engine.policy())
            .map(Policy)
            .map_err(|error| self.fault(py, &error))
    }

    fn head<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let engine = &*self.engine;
        let head = py.detach(|| engine.head()).map_err(|error| self.fault(py, &error))?;
        head_dict(py, &head)
    }

    /// Erases the private parts of records: what was erased, what was gone before, what had none. An interrupt while the log
    /// is read leaves it as it was; one while the disk is waited for does not take back what is recorded.
    fn erase(&self, py: Python<'_>, seqs: &Bound<'_, PyAny>) -> PyResult<(Vec<u64>, Vec<u64>, Vec<u64>)> {
        let wanted = "a sequence of numbers of records";
        // Bytes are a sequence of numbers, and a text is one of texts: neither is meant.
        if seqs.is_instance_of::<PyBytes>() || seqs.is_instance_of::<PyByteArray>() {
            return Err(wrong_type("seqs", wanted, seqs));
        }
        let seqs = seqs
            .try_iter()
            .map_err(|error| instead(py, error, || wrong_type("seqs", wanted, seqs)))?
            .map(|one| integer("seqs", &one?))
            .collect::<PyResult<Vec<u64>>>()?;
        let engine = &*self.engine;
        let (mut signals, mut interrupted) = (Signals::default(), None);
        let erased = py.detach(|| {
            engine.begin_erase(&seqs, |_| {
                signals.look().map_err(|error| {
                    interrupted = Some(error);
                    "interrupted".to_owned()
                })
            })
        });
        if let Some(interrupted) = interrupted {
            return Err(interrupted);
        }
        let erased = erased.map_err(|error| self.fault(py, &error))?;
        loop {
            match py.detach(|| engine.wait_erased(&erased, Some(SIGNAL_CHECK))) {
                Ok(()) => return Ok((erased.seqs, erased.already, erased.without)),
                Err(error) if timed_out(&error) => py.check_signals()?,
                Err(error) => return Err(self.fault(py, &error)),
            }
        }
    }

    /// Waits for the disk as [`Engine::wait`] does. An interrupt leaves an engine that takes nothing more; closing it again
    /// waits for the rest.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let engine = &*self.engine;
        py.detach(|| engine.finish()).map_err(|error| self.fault(py, &error))?;
        // It ends with an error: nothing more comes.
        while py.detach(|| engine.wait_change(u64::MAX, Some(SIGNAL_CHECK))).is_ok() {
            py.check_signals()?;
        }
        let head = py.detach(|| engine.close()).map_err(|error| self.fault(py, &error))?;
        head_dict(py, &head)
    }

    fn abandon(&self) {
        self.engine.abandon();
    }
}

/// Ends an opening when the interpreter was interrupted, and keeps the exception.
fn interruptible(interrupted: Arc<Mutex<Option<PyErr>>>) -> Watch {
    let mut signals = Signals::default();
    Box::new(move |_| {
        signals.look().map_err(|error| {
            *interrupted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            "interrupted".to_owned()
        })
    })
}

fn timed_out(error: &decidable_engine::Error) -> bool {
    matches!(error.kind(), decidable_engine::ErrorKind::Log(inner) if inner.kind() == decidable_wal::ErrorKind::Timeout)
}
