use std::sync::Arc;

use decidable_engine::Clock as _;
use pyo3::prelude::*;

use crate::values::integer;

/// A clock that a caller moves, for replaying recorded traffic at its own times: nanoseconds since 1970-01-01 UTC.
#[pyclass(frozen, module = "decidable")]
pub(crate) struct ManualClock(pub(crate) Arc<decidable_engine::ManualClock>);

#[pymethods]
impl ManualClock {
    #[new]
    fn new(time_ns: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(Arc::new(decidable_engine::ManualClock::new(integer(
            "time_ns", time_ns,
        )?))))
    }
    /// Moves the clock forward; an earlier time changes nothing.
    fn advance_to(&self, time_ns: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.advance_to(integer("time_ns", time_ns)?);
        Ok(())
    }
    #[getter]
    fn time_ns(&self) -> i64 {
        self.0.now_ns()
    }
}
