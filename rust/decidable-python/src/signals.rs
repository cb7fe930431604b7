//! Looking whether the interpreter was interrupted, from where it is not held.
//!
//! It knows nothing of what is interrupted.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How often someone who waits or reads looks.
pub(crate) const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// The looks of one call: at once, and whenever [`SIGNAL_CHECK`] has passed since the last.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    looked: Option<Instant>,
}

impl Signals {
    /// Raises what the interpreter's handlers raise, where it is time to ask. Each look takes the interpreter, for which
    /// other threads may make it wait, so it is not taken for every record.
    pub(crate) fn look(&mut self) -> PyResult<()> {
        if self.looked.is_some_and(|at| at.elapsed() < SIGNAL_CHECK) {
            return Ok(());
        }
        let outcome = Python::attach(|py| py.check_signals());
        self.looked = Some(Instant::now());
        outcome
    }
}
