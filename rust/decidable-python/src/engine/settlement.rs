//! What a settlement charged, as a value: hashable, comparable, picklable.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::model::repr;
use crate::values::integer;

/// What a settlement charged.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Settlement {
    #[pyo3(get)]
    ticket: u64,
    #[pyo3(get)]
    charged_microunits: i64,
    #[pyo3(get)]
    returned_microunits: i64,
    #[pyo3(get)]
    debt_microunits: i64,
    #[pyo3(get)]
    seq: u64,
}

#[pymethods]
impl Settlement {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        ("ticket", "charged_microunits", "returned_microunits", "debt_microunits")
    }
    #[new]
    #[pyo3(signature = (*, ticket, charged_microunits, returned_microunits, debt_microunits, seq))]
    fn new(
        ticket: &Bound<'_, PyAny>,
        charged_microunits: &Bound<'_, PyAny>,
        returned_microunits: &Bound<'_, PyAny>,
        debt_microunits: &Bound<'_, PyAny>,
        seq: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            ticket: integer("ticket", ticket)?,
            charged_microunits: integer("charged_microunits", charged_microunits)?,
            returned_microunits: integer("returned_microunits", returned_microunits)?,
            debt_microunits: integer("debt_microunits", debt_microunits)?,
            seq: integer("seq", seq)?,
        })
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let Self {
            ticket,
            charged_microunits,
            returned_microunits,
            debt_microunits,
            seq,
        } = *self;
        let keywords = PyDict::new(py);
        keywords.set_item("ticket", ticket)?;
        keywords.set_item("charged_microunits", charged_microunits)?;
        keywords.set_item("returned_microunits", returned_microunits)?;
        keywords.set_item("debt_microunits", debt_microunits)?;
        keywords.set_item("seq", seq)?;
        Ok((PyTuple::empty(py), keywords))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        repr("Settlement", &self.__getnewargs_ex__(py)?.1)
    }
}

impl Settlement {
    pub(super) const fn of(ticket: u64, settled: &decidable_engine::Settled) -> Self {
        Self {
            ticket,
            charged_microunits: settled.record.charged,
            returned_microunits: settled.record.returned,
            debt_microunits: settled.record.debt,
            seq: settled.step.seq,
        }
    }
}
