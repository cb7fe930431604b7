use core::hash::{Hash, Hasher};

use decidable_kernel::Finding;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyTuple};

use crate::decision::{Decision, Reason};

/// What became of one candidate.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Verdict(decidable_kernel::Verdict);

#[pymethods]
impl Verdict {
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[getter]
    const fn model_id(&self) -> u32 {
        self.0.model_id
    }
    #[getter]
    const fn quality_bps(&self) -> u16 {
        self.0.quality_bps
    }
    #[getter]
    const fn p95_latency_ms(&self) -> u32 {
        self.0.p95_latency_ms
    }
    #[getter]
    const fn verdict(&self) -> &'static str {
        match self.0.finding {
            Finding::Refused { .. } => "gate",
            Finding::OverBudget { .. } => "over_budget",
            Finding::NonPositiveUtility(_) => "non_positive_utility",
            Finding::Eligible(_) => "eligible",
        }
    }
    #[getter]
    const fn gate(&self) -> Option<&'static str> {
        match self.0.finding {
            Finding::Refused { gate, .. } => Some(gate.name()),
            _ => None,
        }
    }
    #[getter]
    const fn measured(&self) -> Option<u64> {
        match self.0.finding {
            Finding::Refused { measured, .. } => Some(measured),
            Finding::OverBudget { cost_microunits, .. } => Some(cost_microunits),
            _ => None,
        }
    }
    #[getter]
    const fn limit(&self) -> Option<u64> {
        match self.0.finding {
            Finding::Refused { limit, .. } => Some(limit),
            Finding::OverBudget { limit_microunits, .. } => Some(limit_microunits),
            _ => None,
        }
    }
    #[getter]
    fn quality_adjusted(&self) -> Option<u64> {
        self.terms().map(|terms| terms.quality_adjusted)
    }
    #[getter]
    fn risk_penalty(&self) -> Option<u128> {
        self.terms().map(|terms| terms.risk_penalty)
    }
    #[getter]
    fn cost_microunits(&self) -> Option<u64> {
        match self.0.finding {
            Finding::OverBudget { cost_microunits, .. } => Some(cost_microunits),
            _ => self.terms().map(|terms| terms.cost_microunits),
        }
    }
    #[getter]
    fn latency_penalty(&self) -> Option<u128> {
        self.terms().map(|terms| terms.latency_penalty)
    }
    #[getter]
    fn utility(&self) -> Option<i64> {
        self.terms().map(|terms| terms.utility)
    }
    fn __repr__(&self) -> String {
        let decidable_kernel::Verdict {
            model_id,
            quality_bps,
            p95_latency_ms,
            finding,
        } = &self.0;
        let found = match finding {
            Finding::Refused { gate, measured, limit } => {
                format!(", gate='{}', measured={measured}, limit={limit}", gate.name())
            }
            Finding::OverBudget {
                cost_microunits,
                limit_microunits,
            } => {
                format!(", measured={cost_microunits}, limit={limit_microunits}, cost_microunits={cost_microunits}")
            }
            Finding::NonPositiveUtility(terms) | Finding::Eligible(terms) => format!(
                ", quality_adjusted={}, risk_penalty={}, cost_microunits={}, latency_penalty={}, utility={}",
                terms.quality_adjusted, terms.risk_penalty, terms.cost_microunits, terms.latency_penalty, terms.utility
            ),
        };
        format!(
            "Verdict(model_id={model_id}, quality_bps={quality_bps}, p95_latency_ms={p95_latency_ms}, \
             verdict='{}'{found})",
            self.verdict()
        )
    }
}

impl Verdict {
    const fn terms(&self) -> Option<&decidable_kernel::Terms> {
        match &self.0.finding {
            Finding::NonPositiveUtility(terms) | Finding::Eligible(terms) => Some(terms),
            _ => None,
        }
    }
}

/// One verdict a candidate, in catalog order; `str()` is a table.
#[pyclass(frozen, eq, hash, sequence, module = "decidable")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Explanation(pub(crate) decidable_kernel::Explanation);

impl Hash for Explanation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.decision.hash(state);
        self.0.verdicts.hash(state);
    }
}

#[pymethods]
impl Explanation {
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    /// The decision that is explained.
    #[getter]
    const fn decision(&self) -> Decision {
        Decision(self.0.decision)
    }
    /// What the policy prefers among those that passed.
    #[getter]
    const fn objective(&self) -> &'static str {
        self.0.objective.label()
    }
    fn __len__(&self) -> usize {
        self.0.verdicts.len()
    }
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let verdicts = self
            .0
            .verdicts
            .iter()
            .map(|verdict| Bound::new(py, Verdict(*verdict)))
            .collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, verdicts)?.try_iter()
    }
    fn __getitem__(&self, index: isize) -> PyResult<Verdict> {
        let place = if index < 0 {
            self.0.verdicts.len().checked_add_signed(index)
        } else {
            usize::try_from(index).ok()
        };
        place
            .and_then(|place| self.0.verdicts.get(place))
            .map(|verdict| Verdict(*verdict))
            .ok_or_else(|| PyIndexError::new_err("there is no verdict of that index"))
    }
    fn __str__(&self) -> String {
        self.0.to_string()
    }
    fn __repr__(&self) -> String {
        format!(
            "Explanation(decision={}, objective='{}', verdicts={})",
            self.decision().__repr__(),
            self.objective(),
            self.0.verdicts.len()
        )
    }
}

/// One quantity and the value at which the answer turns.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lever(pub(crate) decidable_kernel::Lever);

#[pymethods]
impl Lever {
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[getter]
    const fn lever(&self) -> &'static str {
        self.0.kind.label()
    }
    #[getter]
    const fn current(&self) -> u64 {
        self.0.current
    }
    #[getter]
    const fn boundary(&self) -> u64 {
        self.0.boundary
    }
    #[getter]
    const fn cost_at_boundary_microunits(&self) -> Option<u64> {
        self.0.cost_at_boundary_microunits
    }
    fn __repr__(&self) -> String {
        let cost = self
            .0
            .cost_at_boundary_microunits
            .map_or_else(|| "None".to_owned(), |cost| cost.to_string());
        format!(
            "Lever(lever='{}', current={}, boundary={}, cost_at_boundary_microunits={cost})",
            self.0.kind.label(),
            self.0.current,
            self.0.boundary
        )
    }
}

/// What would make a candidate win, one lever at a time.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct WhatWouldWin(pub(crate) decidable_kernel::WhatWouldWin);

impl Hash for WhatWouldWin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let decidable_kernel::WhatWouldWin {
            model_id,
            blocked_by_request,
            levers,
        } = &self.0;
        (model_id, blocked_by_request, levers).hash(state);
    }
}

#[pymethods]
impl WhatWouldWin {
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[getter]
    const fn model_id(&self) -> u32 {
        self.0.model_id
    }
    #[getter]
    fn blocked_by_request(&self, py: Python<'_>) -> PyResult<Option<Py<Reason>>> {
        self.0
            .blocked_by_request
            .map(|reason| Reason::constant(py, reason))
            .transpose()
    }
    #[getter]
    fn levers(&self) -> Levers {
        Levers(self.0.levers.clone())
    }
    fn __repr__(&self) -> String {
        let blocked = self.0.blocked_by_request.map_or_else(
            || "None".to_owned(),
            |reason| format!("Reason.{}", reason.label().to_uppercase()),
        );
        format!(
            "WhatWouldWin(model_id={}, blocked_by_request={blocked}, levers={})",
            self.0.model_id,
            shown(&self.0.levers)
        )
    }
}

/// How far the winner is from losing, one lever at a time.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Margin(pub(crate) decidable_kernel::Margin);

impl Hash for Margin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let decidable_kernel::Margin { model_id, levers } = &self.0;
        (model_id, levers).hash(state);
    }
}

#[pymethods]
impl Margin {
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[getter]
    const fn model_id(&self) -> u32 {
        self.0.model_id
    }
    #[getter]
    fn levers(&self) -> Levers {
        Levers(self.0.levers.clone())
    }
    fn __repr__(&self) -> String {
        format!("Margin(model_id={}, levers={})", self.0.model_id, shown(&self.0.levers))
    }
}

/// Levers as a tuple is printed.
fn shown(levers: &[decidable_kernel::Lever]) -> String {
    let each = levers
        .iter()
        .map(|lever| Lever(*lever).__repr__() + ", ")
        .collect::<String>();
    format!("({})", each.trim_end())
}

/// Levers as a tuple.
pub(crate) struct Levers(Vec<decidable_kernel::Lever>);

impl<'py> IntoPyObject<'py> for Levers {
    type Target = PyTuple;
    type Output = Bound<'py, Self::Target>;
    type Error = PyErr;
    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let levers = self
            .0
            .into_iter()
            .map(|lever| Bound::new(py, Lever(lever)))
            .collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, levers)
    }
}

/// Text from outside as a person may read it: what does not show itself, by its number.
#[pyfunction]
pub(crate) fn visible(text: &str) -> String {
    decidable_kernel::visible(text)
}
