//! What someone is told while a log is read, and the interrupt that ends it.
//!
//! It knows nothing of what is read but the numbers of records.

use pyo3::prelude::*;

use crate::signals::Signals;
use crate::values::wrong_type;

/// How many records pass between two calls of the progress callback.
const PROGRESS_RECORDS: u64 = 4_096;

/// Calls back every so many records, and lets the interpreter handle its signals.
pub(super) struct Progress<'a> {
    callback: Option<&'a Py<PyAny>>,
    signals: Signals,
    pub(super) interrupted: Option<PyErr>,
    seen: u64,
}

impl<'a> Progress<'a> {
    pub(super) fn to(py: Python<'_>, callback: Option<&'a Py<PyAny>>) -> PyResult<Self> {
        let callback = callback.filter(|callback| !callback.is_none(py));
        if let Some(callback) = callback.map(|callback| callback.bind(py))
            && !callback.is_callable()
        {
            return Err(wrong_type("progress", "callable", callback));
        }
        Ok(Self {
            callback,
            signals: Signals::default(),
            interrupted: None,
            seen: 0,
        })
    }

    pub(super) fn step(&mut self, seq: u64) -> Result<(), String> {
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
