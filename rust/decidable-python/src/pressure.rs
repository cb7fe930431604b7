//! How deep a stream is in its rules.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use crate::model::repr;
use crate::values::{integer, text};

/// How deep a stream is in a rule: how many of its last bytes may begin a match, and how many more one needs at least.
#[pyclass(frozen, eq, hash, get_all, module = "decidable")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pressure {
    rule: String,
    matched: u64,
    remaining: u32,
}

#[pymethods]
impl Pressure {
    /// What a pickled one is rebuilt with.
    #[new]
    fn new(rule: &Bound<'_, PyAny>, matched: &Bound<'_, PyAny>, remaining: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            rule: text("rule", rule)?,
            matched: integer("matched", matched)?,
            remaining: integer("remaining", remaining)?,
        })
    }
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let this = slf.get();
        let parts = (&this.rule, this.matched, this.remaining);
        Ok((slf.get_type(), parts.into_pyobject(slf.py())?))
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("rule", "matched", "remaining")
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let fields = PyDict::new(py);
        fields.set_item("rule", &self.rule)?;
        fields.set_item("matched", self.matched)?;
        fields.set_item("remaining", self.remaining)?;
        repr("Pressure", &fields)
    }
}

/// What presses a stream, the nearest to a match first.
pub(crate) fn pressure<'py>(py: Python<'py>, cursor: &decidable_guard::Cursor) -> PyResult<Bound<'py, PyList>> {
    let mut all: Vec<_> = cursor.pressure().collect();
    all.sort_by_key(|each| (each.remaining, each.rule, each.matched));
    let rules = cursor.automaton().rules();
    PyList::new(
        py,
        all.into_iter().map(|each| Pressure {
            rule: rules.get(each.rule).map_or_else(String::new, |rule| rule.name.clone()),
            matched: each.matched,
            remaining: each.remaining,
        }),
    )
}
