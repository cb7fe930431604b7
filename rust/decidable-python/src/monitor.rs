//! Monitors of generations, and writing their audits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use decidable_canon::{Canonical as _, Digest, cast};
use decidable_guard::audit::{Head, LONGEST_MODEL_NAME_BYTES, Trail};
use decidable_guard::{Cursor, Event, MostEntropy};
use decidable_kernel::batch::this_process;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::audit::about;
use crate::errors::{Class, plain, raise};
use crate::guard::{Automaton, Match, StopReason, reason as why_stopped};
use crate::key::keyed;
use crate::pressure::pressure;
use crate::values::{bytes, exactly, integer, integer_untold, reason, text, text_or_bytes};

/// So many bytes of an audit are gathered before they are written, some 77 tokens: a page, so that writing is no part of what a token
/// takes that shows (`benches/python/guard.py "an event a token"`), and no more is lost with the process.
const GATHERED_BYTES: usize = 4_096;

/// Where an audit is written.
struct Sidecar {
    file: File,
    /// Its folder, which is made durable at the end whatever it is called by then, where a system has that.
    folder: Option<File>,
    path: PathBuf,
    /// The process that made it: a child of a fork shares the file, and must not touch it.
    process: (u32, u64),
}

struct State {
    monitor: decidable_guard::Monitor,
    /// Until the audit is whole or cannot be written.
    sidecar: Option<Sidecar>,
    /// It cannot be written, so no file has what comes next.
    lost: bool,
    out: Vec<u8>,
    /// That of the last event: what fails may be the clock.
    time_ns: i64,
}

impl State {
    /// Writes what was gathered of the audit, if it is so much; at the end all of it, durably.
    fn write(&mut self, py: Python<'_>, least: usize, last: bool) -> PyResult<()> {
        let Some(sidecar) = &mut self.sidecar else {
            return Ok(());
        };
        let Some(trail) = self.monitor.trail() else {
            return Ok(());
        };
        if !last && trail.bytes().len() < least {
            return Ok(());
        }
        // Of what is written in part the whole frames stay: their text came out.
        let written = sidecar.whole().and_then(|()| sidecar.file.write_all(trail.bytes()));
        let end = trail.end_bytes();
        trail.clear();
        let done = written.and_then(|()| {
            if last {
                py.detach(|| sidecar.durable(end))
            } else {
                Ok(())
            }
        });
        let failed = done.map_err(|error| unwritable(py, &sidecar.path, &error));
        self.lost = failed.is_err();
        if last || self.lost {
            self.sidecar = None;
        }
        failed
    }

    fn intervene(&mut self, py: Python<'_>, event: Event<'_>, time_ns: i64) -> PyResult<()> {
        self.out.clear();
        self.time_ns = time_ns;
        self.refuse_forked(py)?;
        let ends = matches!(event, Event::End);
        self.monitor.intervene(event, time_ns, &mut self.out);
        let last = ends || self.monitor.cursor().stopped().is_some();
        self.write(py, GATHERED_BYTES, last)
    }

    fn fail(&mut self, py: Python<'_>) -> PyResult<()> {
        self.intervene(py, Event::Unknown, self.time_ns)
    }

    /// In a child of a fork nothing of the audit is written: it is the parent's, which goes on with it. Asked at each event, and not
    /// only where something is written, so that nothing comes out of which no audit will tell.
    fn refuse_forked(&mut self, py: Python<'_>) -> PyResult<()> {
        let forked = |sidecar: &mut Sidecar| sidecar.process != this_process();
        match self.sidecar.take_if(forked) {
            // Closing the file writes nothing.
            Some(Sidecar { path, .. }) => {
                self.lost = true;
                let why = "belongs to the process that began it; begin another in the child";
                Err(about(py, Class::LogUnavailable, "audit.forked", why, &path))
            }
            None => Ok(()),
        }
    }
}

impl Sidecar {
    /// A file that was not there, which nobody else reads.
    fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let folder = if cfg!(unix) {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Some(decidable_wal::above_standard(File::open(
                parent.unwrap_or(Path::new(".")),
            )?)?)
        } else {
            None
        };
        Ok(Self {
            file: decidable_wal::above_standard(options.open(&path)?)?,
            folder,
            path,
            process: this_process(),
        })
    }

    /// File and name are on the device. Else the file does not have its end, of so many bytes, if that can be taken away again: nothing
    /// came out because of it.
    fn durable(&mut self, end: usize) -> io::Result<()> {
        let written = self.file.stream_position()?;
        let synced = self.file.sync_all();
        let named = self.folder.as_ref().map_or(Ok(()), File::sync_all);
        synced.and(named).inspect_err(|_| {
            let before = written.saturating_sub(cast::u64_from_usize(end));
            // Where the device lost more than that, the file is not made longer.
            if self.file.metadata().is_ok_and(|about| about.len() > before) && self.file.set_len(before).is_ok() {
                drop(self.file.sync_all());
            }
        })
    }

    /// Refuses a file that nobody finds any more, or that is not as long as what was written.
    fn whole(&mut self) -> io::Result<()> {
        let (about, written) = (self.file.metadata()?, self.file.stream_position()?);
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&about) == 0 {
            return Err(io::Error::other("it was removed meanwhile"));
        }
        if about.len() != written {
            let why = format!("it has {} bytes, and {written} were written", about.len());
            return Err(io::Error::other(why));
        }
        Ok(())
    }
}

fn unwritable(py: Python<'_>, path: &Path, error: &io::Error) -> PyErr {
    let (code, why) = if error.kind() == io::ErrorKind::AlreadyExists {
        ("audit.exists", "exists already".to_owned())
    } else {
        ("audit.unwritable", format!("cannot be written: {}", reason(error)))
    };
    about(py, Class::InvalidInput, code, &why, path)
}

/// One generation under the rules: control event by event, with its audit.
#[pyclass(frozen, module = "decidable._native")]
pub(crate) struct Monitor {
    state: Mutex<State>,
    /// Somebody asked while another was at it: the generation cannot be followed any more.
    fault: AtomicBool,
}

impl Monitor {
    fn intervene<'py>(&self, py: Python<'py>, event: Event<'_>, time_ns: i64) -> PyResult<Bound<'py, PyBytes>> {
        let mut state = self.locked(py)?;
        if self.fault.load(Ordering::Acquire) {
            state.fail(py)?;
        }
        match state.intervene(py, event, time_ns) {
            Ok(()) => Ok(PyBytes::new(py, &state.out)),
            // What cannot be written down does not come out.
            Err(error) => {
                state.fail(py)?;
                Err(error)
            }
        }
    }

    /// For who takes part in the generation: where another is at it, it cannot be followed any more.
    fn locked(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, State>> {
        self.look(py).inspect_err(|_| self.fault.store(true, Ordering::Release))
    }

    /// It never waits: who waits while he holds the interpreter waits for one that has given it up and wants it back.
    fn look(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(poisoned)) => {
                self.fault.store(true, Ordering::Release);
                Ok(poisoned.into_inner())
            }
            Err(TryLockError::WouldBlock) => {
                let message = "the generation is in use by another thread";
                Err(plain(py, Class::Conflict, "guard.in_use", message))
            }
        }
    }
}

#[pymethods]
impl Monitor {
    #[new]
    #[pyo3(signature = (automaton, max_hold, most_entropy, audit))]
    fn new(
        automaton: &Bound<'_, Automaton>,
        max_hold: &Bound<'_, PyAny>,
        most_entropy: Option<(f64, Bound<'_, PyAny>)>,
        audit: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = automaton.py();
        let automaton = &automaton.get().0;
        let most: u32 = integer("max_hold", max_hold)?;
        let cursor = Cursor::new(Arc::clone(automaton)).with_max_hold(usize::try_from(most).unwrap_or(usize::MAX));
        let mut monitor = decidable_guard::Monitor::new(cursor);
        if let Some((nats, steps)) = most_entropy {
            let steps = integer("steps", &steps)?;
            monitor = monitor.with_most_entropy(MostEntropy { nats, steps });
        }
        let (mut sidecar, mut time_ns) = (None, 0);
        if let Some(given) = audit {
            let item = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
                Ok(given.get_item(name)?.filter(|value| !value.is_none()))
            };
            let path: PathBuf = given.as_any().get_item("path")?.extract()?;
            let decision = match item("decision")? {
                Some(decision) => {
                    let (number, identity): (Bound<'_, PyAny>, Bound<'_, PyAny>) = decision.extract()?;
                    Some((
                        integer("number", &number)?,
                        Digest::from_bytes(exactly("identity", &identity)?),
                    ))
                }
                None => None,
            };
            time_ns = integer("time_ns", &given.as_any().get_item("time_ns")?)?;
            let head = Head {
                id: exactly("id", &given.as_any().get_item("id")?)?,
                boot_id: decidable_wal::boot_id(),
                created_ns: time_ns,
                rules: automaton.digest(),
                decision,
                model: text("model", &given.as_any().get_item("model")?)?,
            };
            let key = keyed(item("key")?.as_ref())?;
            let salt = item("salt")?.map(|salt| exactly("salt", &salt)).transpose()?;
            let trail = Trail::new(&head, key, GATHERED_BYTES).map_err(|length| {
                let message = format!("model has {length} bytes, more than {LONGEST_MODEL_NAME_BYTES}");
                raise(py, Class::InvalidInput, "guard.too_large", &message, |details| {
                    details.set_item("field", "model")
                })
            })?;
            monitor = monitor.with_trail(trail, salt);
            let created = Sidecar::create(path.clone()).map_err(|error| unwritable(py, &path, &error))?;
            sidecar = Some(created);
        }
        let mut state = State {
            monitor,
            sidecar,
            lost: false,
            out: Vec::new(),
            time_ns,
        };
        let path = state.sidecar.as_ref().map(|sidecar| sidecar.path.clone());
        // An audit that breaks off is one from its first token on.
        state.write(py, 0, false).inspect_err(|_| {
            // One without a beginning is none, and would keep the name from the next.
            if let Some(path) = path {
                drop(fs::remove_file(path));
            }
        })?;
        Ok(Self {
            state: Mutex::new(state),
            fault: AtomicBool::new(false),
        })
    }
    /// A token: what may come out of it.
    fn token<'py>(
        &self,
        token_id: &Bound<'py, PyAny>,
        data: &Bound<'py, PyAny>,
        entropy: Option<f64>,
        time_ns: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let event = Event::Token {
            id: integer_untold("token_id", token_id)?,
            bytes: bytes("data", data)?,
            entropy,
        };
        self.intervene(token_id.py(), event, integer("time_ns", time_ns)?)
    }
    /// Text that is of no token: what may come out of it.
    fn text<'py>(&self, data: &Bound<'py, PyAny>, time_ns: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let event = Event::Text(text_or_bytes("data", data)?);
        self.intervene(data.py(), event, integer("time_ns", time_ns)?)
    }
    /// The generation is over: the rest that may come out.
    fn finish<'py>(&self, time_ns: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        self.intervene(time_ns.py(), Event::End, integer("time_ns", time_ns)?)
    }
    /// Stops it, because it cannot be followed any more, at the time of the last event.
    fn fail(&self, py: Python<'_>) -> PyResult<()> {
        self.locked(py)?.fail(py)
    }
    /// Why it was stopped, or `None`.
    #[getter]
    fn stopped(&self, py: Python<'_>) -> PyResult<Option<StopReason>> {
        let state = self.look(py)?;
        let cursor = state.monitor.cursor();
        Ok(cursor.stopped().map(|stop| why_stopped(cursor.automaton(), stop)))
    }
    /// How many bytes are held back.
    #[getter]
    fn held(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.look(py)?.monitor.cursor().held())
    }
    /// The hash of the audit up to here, or `None` where there is none, or it could not be written.
    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut state = self.look(py)?;
        let trail = if state.lost { None } else { state.monitor.trail() };
        Ok(trail.map(|trail| PyBytes::new(py, trail.chain().bytes())))
    }
    /// How many matches were not kept, because nobody took those before them (docs/limits.md).
    #[getter]
    fn matches_dropped(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.look(py)?.monitor.matches_dropped())
    }
    /// The matches that were noted or replaced since the last call.
    fn matches<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut state = self.look(py)?;
        let mut found: Vec<_> = state.monitor.matches().collect();
        found.sort_by_key(decidable_guard::Match::order);
        let automaton = state.monitor.cursor().automaton();
        PyList::new(py, found.iter().map(|found| Match::of(automaton, found)))
    }
    /// How deep it is in which rules, the nearest to a match first.
    fn pressure<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        pressure(py, self.look(py)?.monitor.cursor())
    }
}
