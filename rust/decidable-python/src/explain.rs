use core::hash::{Hash, Hasher};
use std::sync::Arc;

use decidable_kernel::{Finding, Gate, LeverKind, Terms};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};

use crate::decision::{Decision, Reason};
use crate::errors::{Class, raise};
use crate::model::Names;
use crate::values::{self, all_of, integer, one_of, optional, optional_text, shown, text};

/// What became of one candidate.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Verdict(decidable_kernel::Verdict);

#[pymethods]
impl Verdict {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("model_id", "verdict", "gate")
    }
    #[new]
    #[pyo3(signature = (*, model_id, quality_bps, p95_latency_ms, verdict, gate=None, measured=None, limit=None, quality_adjusted=None, risk_penalty=None, cost_microunits=None, latency_penalty=None, utility=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        model_id: &Bound<'_, PyAny>,
        quality_bps: &Bound<'_, PyAny>,
        p95_latency_ms: &Bound<'_, PyAny>,
        verdict: &Bound<'_, PyAny>,
        gate: Option<&Bound<'_, PyAny>>,
        measured: Option<&Bound<'_, PyAny>>,
        limit: Option<&Bound<'_, PyAny>>,
        quality_adjusted: Option<&Bound<'_, PyAny>>,
        risk_penalty: Option<&Bound<'_, PyAny>>,
        cost_microunits: Option<&Bound<'_, PyAny>>,
        latency_penalty: Option<&Bound<'_, PyAny>>,
        utility: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let found = Found {
            gate: optional_text("gate", gate)?,
            measured: optional("measured", measured)?,
            limit: optional("limit", limit)?,
            quality_adjusted: optional("quality_adjusted", quality_adjusted)?,
            risk_penalty: optional("risk_penalty", risk_penalty)?,
            cost_microunits: optional("cost_microunits", cost_microunits)?,
            latency_penalty: optional("latency_penalty", latency_penalty)?,
            utility: optional("utility", utility)?,
        };
        let made = found.finding(&text("verdict", verdict)?).map(|finding| {
            Ok::<_, PyErr>(Self(decidable_kernel::Verdict {
                model_id: integer("model_id", model_id)?,
                quality_bps: integer("quality_bps", quality_bps)?,
                p95_latency_ms: integer("p95_latency_ms", p95_latency_ms)?,
                finding,
            }))
        });
        match made.transpose()? {
            Some(made) if made.found() == found => Ok(made),
            _ => Err(impossible("verdict", verdict)),
        }
    }
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
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("model_id", self.model_id())?;
        keywords.set_item("quality_bps", self.quality_bps())?;
        keywords.set_item("p95_latency_ms", self.p95_latency_ms())?;
        keywords.set_item("verdict", self.verdict())?;
        keywords.set_item("gate", self.gate())?;
        keywords.set_item("measured", self.measured())?;
        keywords.set_item("limit", self.limit())?;
        keywords.set_item("quality_adjusted", self.quality_adjusted())?;
        keywords.set_item("risk_penalty", self.risk_penalty())?;
        keywords.set_item("cost_microunits", self.cost_microunits())?;
        keywords.set_item("latency_penalty", self.latency_penalty())?;
        keywords.set_item("utility", self.utility())?;
        Ok((PyTuple::empty(py), keywords))
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

/// What a verdict says of its candidate, as far as it was looked at.
#[derive(PartialEq, Eq)]
struct Found {
    gate: Option<String>,
    measured: Option<u64>,
    limit: Option<u64>,
    quality_adjusted: Option<u64>,
    risk_penalty: Option<u128>,
    cost_microunits: Option<u64>,
    latency_penalty: Option<u128>,
    utility: Option<i64>,
}

impl Found {
    fn finding(&self, verdict: &str) -> Option<Finding> {
        let terms = || {
            Some(Terms {
                quality_adjusted: self.quality_adjusted?,
                risk_penalty: self.risk_penalty?,
                cost_microunits: self.cost_microunits?,
                latency_penalty: self.latency_penalty?,
                utility: self.utility?,
            })
        };
        match verdict {
            "gate" => Some(Finding::Refused {
                gate: Gate::ALL
                    .into_iter()
                    .find(|gate| self.gate.as_deref() == Some(gate.name()))?,
                measured: self.measured?,
                limit: self.limit?,
            }),
            "over_budget" => Some(Finding::OverBudget {
                cost_microunits: self.cost_microunits?,
                limit_microunits: self.limit?,
            }),
            "non_positive_utility" => terms().map(Finding::NonPositiveUtility),
            "eligible" => terms().map(Finding::Eligible),
            _ => None,
        }
    }
}

/// A value that the kernel never gives.
fn impossible(kind: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let message = match shown(value) {
        Ok(value) => format!("there is no {kind} with such fields: {value}"),
        Err(raised) => return raised,
    };
    raise(
        value.py(),
        Class::InvalidInput,
        "input.impossible",
        &message,
        |details| {
            details.set_item("field", kind)?;
            details.set_item("value", value)
        },
    )
}

impl Verdict {
    fn found(&self) -> Found {
        Found {
            gate: self.gate().map(str::to_owned),
            measured: self.measured(),
            limit: self.limit(),
            quality_adjusted: self.quality_adjusted(),
            risk_penalty: self.risk_penalty(),
            cost_microunits: self.cost_microunits(),
            latency_penalty: self.latency_penalty(),
            utility: self.utility(),
        }
    }
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
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str) {
        ("decision", "objective")
    }
    #[new]
    #[pyo3(signature = (*, decision, objective, verdicts, names=None))]
    fn new(
        decision: &Bound<'_, PyAny>,
        objective: &Bound<'_, PyAny>,
        verdicts: &Bound<'_, PyAny>,
        names: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let decision = one_of::<Decision>("decision", "a Decision", decision)?.get().0;
        let names = names
            .map(|names| Ok::<_, PyErr>(one_of::<Names>("names", "Names or None", names)?.get().0.clone()))
            .transpose()?;
        let verdicts = all_of::<Verdict, _>("verdicts", "Verdicts", verdicts, |verdict| verdict.0)?;
        Ok(Self(decidable_kernel::Explanation::new(
            decision,
            values::objective(objective)?,
            verdicts,
            names.map(Arc::new),
        )))
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("decision", self.decision())?;
        keywords.set_item("objective", self.objective())?;
        keywords.set_item("verdicts", self.tuple(py)?)?;
        keywords.set_item("names", self.names())?;
        Ok((PyTuple::empty(py), keywords))
    }
    /// The names that its table shows.
    #[getter]
    fn names(&self) -> Option<Names> {
        self.0.names().map(|names| Names(names.clone()))
    }
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
        self.tuple(py)?.try_iter()
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
    fn __str__(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_string())
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

impl Explanation {
    fn tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let verdicts = self.0.verdicts.iter().map(|verdict| Bound::new(py, Verdict(*verdict)));
        PyTuple::new(py, verdicts.collect::<PyResult<Vec<_>>>()?)
    }
}

/// One quantity of a candidate, and the value at which the answer turns.
///
/// ``lever`` says which, and so the unit of ``current``, its value today, and of ``boundary``: ``"quality_bps"`` and
/// ``"risk_ceiling_bps"`` basis points, ``"latency_ms"`` milliseconds of the 95th percentile, ``"price_ppm"`` parts
/// per million of today's price (1,000,000 is today's; both rates are scaled, or the request's quote), ``"enabled"``
/// 0 or 1. ``boundary`` is the nearest value at which a candidate would win (:class:`WhatWouldWin`), or the farthest
/// at which the winner still does (:class:`Margin`). ``cost_at_boundary_microunits`` is what the request would cost
/// there, for a price alone.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lever(pub(crate) decidable_kernel::Lever);

#[pymethods]
impl Lever {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("lever", "current", "boundary")
    }
    #[new]
    #[pyo3(signature = (*, lever, current, boundary, cost_at_boundary_microunits=None))]
    fn new(
        lever: &Bound<'_, PyAny>,
        current: &Bound<'_, PyAny>,
        boundary: &Bound<'_, PyAny>,
        cost_at_boundary_microunits: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let label = text("lever", lever)?;
        let kind = LeverKind::ALL.into_iter().find(|kind| kind.label() == label);
        Ok(Self(decidable_kernel::Lever {
            kind: kind.ok_or_else(|| impossible("lever", lever))?,
            current: integer("current", current)?,
            boundary: integer("boundary", boundary)?,
            cost_at_boundary_microunits: optional("cost_at_boundary_microunits", cost_at_boundary_microunits)?,
        }))
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("lever", self.lever())?;
        keywords.set_item("current", self.current())?;
        keywords.set_item("boundary", self.boundary())?;
        keywords.set_item("cost_at_boundary_microunits", self.cost_at_boundary_microunits())?;
        Ok((PyTuple::empty(py), keywords))
    }
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

/// What would make a candidate win, everything else unchanged: each of ``levers`` can do it alone.
///
/// ``model_id`` is the candidate. ``levers`` is a tuple of :class:`Lever`, in the order quality, latency, price, risk
/// ceiling, enabled; what cannot do it alone is left out, a disabled candidate has ``"enabled"`` or nothing, and the
/// one that is selected has none. ``blocked_by_request`` is the reason why the request is refused whatever the
/// catalog, its risk or its confidence, and then there are no levers; else ``None``.
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
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str) {
        ("model_id", "levers")
    }
    #[new]
    #[pyo3(signature = (*, model_id, levers, blocked_by_request=None))]
    fn new(
        model_id: &Bound<'_, PyAny>,
        levers: &Bound<'_, PyAny>,
        blocked_by_request: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self(decidable_kernel::WhatWouldWin {
            model_id: integer("model_id", model_id)?,
            blocked_by_request: blocked_by_request
                .map(|reason| {
                    Ok::<_, PyErr>(
                        one_of::<Reason>("blocked_by_request", "a Reason or None", reason)?
                            .get()
                            .0,
                    )
                })
                .transpose()?,
            levers: all_of::<Lever, _>("levers", "Levers", levers, |lever| lever.0)?,
        }))
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("model_id", self.model_id())?;
        keywords.set_item("levers", self.levers())?;
        keywords.set_item("blocked_by_request", self.blocked_by_request(py)?)?;
        Ok((PyTuple::empty(py), keywords))
    }
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
            printed(&self.0.levers)
        )
    }
}

/// How far the winner is from losing, everything else unchanged: each of ``levers`` can end its selection alone.
///
/// ``model_id`` is the winner. ``levers`` is a tuple of :class:`Lever`, in the order quality, latency, price, risk
/// ceiling: each ``boundary`` is the farthest value at which it still wins, and one step on it does not. What cannot
/// end it alone is left out.
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
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str) {
        ("model_id", "levers")
    }
    #[new]
    #[pyo3(signature = (*, model_id, levers))]
    fn new(model_id: &Bound<'_, PyAny>, levers: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(decidable_kernel::Margin {
            model_id: integer("model_id", model_id)?,
            levers: all_of::<Lever, _>("levers", "Levers", levers, |lever| lever.0)?,
        }))
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("model_id", self.model_id())?;
        keywords.set_item("levers", self.levers())?;
        Ok((PyTuple::empty(py), keywords))
    }
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
        format!(
            "Margin(model_id={}, levers={})",
            self.0.model_id,
            printed(&self.0.levers)
        )
    }
}

/// Levers as a tuple is printed.
fn printed(levers: &[decidable_kernel::Lever]) -> String {
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
