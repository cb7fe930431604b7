use std::sync::Arc;

use decidable_canon::Reader;
use decidable_kernel::{Limits, Objective, Rejections};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::arrow;
use crate::batch::{self, Asked};
use crate::decision::Decision;
use crate::errors::{self, Class, raise};
use crate::explain::{Explanation, Margin, WhatWouldWin};
use crate::model::{Model, Names};
use crate::request::{Request, requested};
use crate::values::{self, Given, bytes, counted, instead, integer, no_others, one_of, wrong_type};

/// A single call over so many candidates takes about as long as letting go of the interpreter lock is worth.
const CANDIDATES_WORTH_DETACHING: usize = 512;

/// A catalog under limits: it decides (docs/spec/decisions.md).
#[pyclass(frozen, module = "decidable")]
pub(crate) struct Policy(pub(crate) Arc<decidable_kernel::Policy>);

/// The limits that [`Policy`] takes beside its catalog.
const LIMITS: [&str; 7] = [
    "policy_epoch",
    "catalog_epoch",
    "hard_risk_limit_bps",
    "minimum_confidence_bps",
    "risk_penalty_multiplier_bps",
    "latency_penalty_microunits_per_ms",
    "objective",
];

#[pymethods]
impl Policy {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str) {
        ("objective", "models")
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[new]
    #[pyo3(signature = (catalog, *, policy_epoch=Given::NOT, catalog_epoch=Given::NOT, hard_risk_limit_bps=Given::NOT,
        minimum_confidence_bps=Given::NOT, risk_penalty_multiplier_bps=Given::NOT, latency_penalty_microunits_per_ms=Given::NOT,
        objective=Given::NOT, **others),
        text_signature = "(catalog, *, policy_epoch=..., catalog_epoch=..., hard_risk_limit_bps=..., minimum_confidence_bps=..., risk_penalty_multiplier_bps=..., latency_penalty_microunits_per_ms=..., objective=...)")]
    #[allow(clippy::too_many_arguments)]
    fn new(
        catalog: &Bound<'_, PyAny>,
        policy_epoch: Given<'_, '_>,
        catalog_epoch: Given<'_, '_>,
        hard_risk_limit_bps: Given<'_, '_>,
        minimum_confidence_bps: Given<'_, '_>,
        risk_penalty_multiplier_bps: Given<'_, '_>,
        latency_penalty_microunits_per_ms: Given<'_, '_>,
        objective: Given<'_, '_>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_others("Policy.__new__", others, &LIMITS)?;
        let py = catalog.py();
        let limits = Limits {
            policy_epoch: policy_epoch.integer_or("policy_epoch", 1)?,
            catalog_epoch: catalog_epoch.integer_or("catalog_epoch", 1)?,
            hard_risk_limit_bps: hard_risk_limit_bps.integer_or("hard_risk_limit_bps", 10_000)?,
            minimum_confidence_bps: minimum_confidence_bps.integer_or("minimum_confidence_bps", 0)?,
            risk_penalty_multiplier_bps: risk_penalty_multiplier_bps.integer_or("risk_penalty_multiplier_bps", 0)?,
            latency_penalty_microunits_per_ms: latency_penalty_microunits_per_ms
                .integer_or("latency_penalty_microunits_per_ms", 0)?,
            objective: objective.or(Objective::Utility, values::objective)?,
        };
        let not_a_catalog = |error| {
            instead(py, error, || {
                wrong_type("catalog", "a Catalog (with .models and .names)", catalog)
            })
        };
        let models = catalog.getattr("models").map_err(not_a_catalog)?;
        let candidates = models
            .try_iter()
            .map_err(|error| {
                instead(py, error, || {
                    wrong_type("catalog.models", "a sequence of Model", &models)
                })
            })?
            .map(|model| {
                let model = model?;
                model
                    .cast::<Model>()
                    .map(|model| model.get().0)
                    .map_err(|_| wrong_type("catalog.models", "Model", &model))
            })
            .collect::<PyResult<Vec<_>>>()?;
        let names = match catalog.getattr("names").map_err(not_a_catalog)? {
            names if names.is_none() => None,
            names => Some(
                names
                    .cast::<Names>()
                    .map_err(|_| wrong_type("catalog.names", "Names or None", &names))?
                    .get()
                    .0
                    .clone(),
            ),
        };
        decidable_kernel::Policy::new(limits, candidates, names)
            .map(|policy| Self(Arc::new(policy)))
            .map_err(|error| errors::kernel(py, &error))
    }
    #[getter]
    fn policy_epoch(&self) -> u64 {
        self.0.limits().policy_epoch
    }
    #[getter]
    fn catalog_epoch(&self) -> u64 {
        self.0.limits().catalog_epoch
    }
    #[getter]
    fn hard_risk_limit_bps(&self) -> u16 {
        self.0.limits().hard_risk_limit_bps
    }
    #[getter]
    fn minimum_confidence_bps(&self) -> u16 {
        self.0.limits().minimum_confidence_bps
    }
    #[getter]
    fn risk_penalty_multiplier_bps(&self) -> u16 {
        self.0.limits().risk_penalty_multiplier_bps
    }
    #[getter]
    fn latency_penalty_microunits_per_ms(&self) -> u64 {
        self.0.limits().latency_penalty_microunits_per_ms
    }
    #[getter]
    fn objective(&self) -> &'static str {
        self.0.limits().objective.label()
    }
    /// The candidates by ascending `model_id`.
    #[getter]
    fn models<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let models = self
            .0
            .candidates()
            .iter()
            .map(|candidate| Bound::new(py, Model(*candidate)))
            .collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, models)
    }
    #[getter]
    fn names(&self) -> Option<Names> {
        self.0.names().map(|names| Names(names.clone()))
    }
    /// Decides one request.
    ///
    /// Here and in the methods below, a row of `REQUEST_DTYPE` as `.tolist()` gives it will do for a `Request`: a tuple of
    /// its fields in their order. That spares the object.
    fn decide<'py>(&self, py: Python<'py>, request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Decision>> {
        let mut row = None;
        let request = requested(request, &mut row)?;
        if self.0.candidates().len() > CANDIDATES_WORTH_DETACHING {
            return Bound::new(py, Decision(py.detach(|| self.0.decide(request))));
        }
        // Two objects are made in two places, so that the decision that is found at once is never written anywhere but there.
        match self.0.decide_at_once(request) {
            Some(decision) => Bound::new(py, Decision(decision)),
            None => Bound::new(py, Decision(self.0.decide_left_open(request))),
        }
    }
    /// Decides one request and counts the candidates that each gate refused.
    fn decide_counted<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
    ) -> PyResult<(Decision, Bound<'py, PyDict>)> {
        let mut row = None;
        let request = requested(request, &mut row)?;
        let (decision, rejections) = self.detached(py, || self.0.decide_counted(request));
        let counts = PyDict::new(py);
        for (name, count) in Rejections::NAMES.into_iter().zip(rejections.counts()) {
            counts.set_item(name, count)?;
        }
        Ok((Decision(decision), counts))
    }
    /// Decides an array of `REQUEST_DTYPE` into an array of `DECISION_DTYPE`, or a table into `Decisions`, in order.
    ///
    /// Rows are copied some thousands at a time and decided as copied. The interpreter lock is held while they are copied, so
    /// another thread sees or changes no row half-way; it is free while they are decided, and what is written to rows
    /// that were not copied yet counts. A free-threaded interpreter has no such lock: there nothing may write to the
    /// arrays before the call returns.
    ///
    /// What is refused leaves the room that was given as it is, unless another thread makes a row impossible meanwhile:
    /// then the rows before it may have their answers in the room, and the error names the row (docs/batches.md).
    #[pyo3(signature = (requests, *, threads=None, vectors=None, quotes=None, max_output_tokens=None, out=None,
        counts=None, gates=None, holds=None))]
    #[allow(clippy::too_many_arguments)]
    fn decide_batch<'py>(
        &self,
        requests: &Bound<'py, PyAny>,
        threads: Option<&Bound<'py, PyAny>>,
        vectors: Option<&Bound<'py, PyAny>>,
        quotes: Option<&Bound<'py, PyAny>>,
        max_output_tokens: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
        counts: Option<&Bound<'py, PyAny>>,
        gates: Option<&Bound<'py, PyAny>>,
        holds: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let asked = Asked {
            threads,
            vectors,
            quotes,
            max_output_tokens,
            out,
            counts,
            gates,
            holds,
        };
        match arrow::decide(&self.0, requests, &asked)? {
            Some(decisions) => Ok(decisions.into_any()),
            None => batch::decide(&self.0, requests, &asked),
        }
    }
    /// One verdict a candidate; prints as a table.
    fn explain(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Explanation> {
        let mut row = None;
        let request = requested(request, &mut row)?;
        Ok(Explanation(self.detached(py, || self.0.explain(request))))
    }
    /// The utility of one candidate, or `None` where it is not eligible.
    #[pyo3(signature = (request, *, model_id))]
    fn utility(&self, request: &Bound<'_, PyAny>, model_id: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
        Ok(self
            .0
            .utility(requested(request, &mut None)?, integer("model_id", model_id)?))
    }
    /// What a candidate costs from its rates, in microunits.
    #[pyo3(signature = (*, model_id, input_tokens, output_tokens))]
    fn cost(
        &self,
        py: Python<'_>,
        model_id: &Bound<'_, PyAny>,
        input_tokens: &Bound<'_, PyAny>,
        output_tokens: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let model_id = integer("model_id", model_id)?;
        self.0
            .cost(
                model_id,
                integer("input_tokens", input_tokens)?,
                integer("output_tokens", output_tokens)?,
            )
            .ok_or_else(|| {
                let message = format!("model_id {model_id} is not in the catalog");
                raise(py, Class::UnknownName, "kernel.unknown_model", &message, |details| {
                    details.set_item("field", "model_id")?;
                    details.set_item("value", model_id)
                })
            })
    }
    /// What the engine would hold for the request: the selected candidate's cost at `max_output_tokens`.
    fn hold(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let mut row = None;
        let request = requested(request, &mut row)?;
        Ok(self.detached(py, || self.0.hold(request, &self.0.decide(request))))
    }
    /// What would make a candidate win, one lever at a time.
    #[pyo3(signature = (request, *, model_id))]
    fn what_would_win(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        model_id: &Bound<'_, PyAny>,
    ) -> PyResult<WhatWouldWin> {
        let mut row = None;
        let request = requested(request, &mut row)?;
        let model_id = integer("model_id", model_id)?;
        py.detach(|| self.0.what_would_win(request, model_id))
            .map(WhatWouldWin)
            .map_err(|error| errors::kernel(py, &error))
    }
    /// How far the winner is from losing, or `None` where nothing is selected.
    fn margin(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Option<Margin>> {
        let mut row = None;
        let request = requested(request, &mut row)?;
        Ok(py.detach(|| self.0.margin(request)).map(Margin))
    }
    /// The digest: `calypol1`, or `dcdpol1` where the policy has an objective or names.
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.digest().bytes())
    }
    /// The digest `calypol1`, whatever extensions are used.
    fn shared_digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.shared_digest().bytes())
    }
    /// The whole policy, as a log keeps it.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut layout = Vec::new();
        self.0.encode(&mut layout);
        PyBytes::new(py, &layout)
    }
    /// Reads what `to_bytes` wrote.
    #[staticmethod]
    fn from_bytes(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut reader = Reader::new(bytes("data", data)?);
        decidable_kernel::Policy::decode(&mut reader)
            .and_then(|policy| Ok(reader.finish().map(|()| Self(Arc::new(policy)))?))
            .map_err(|error| errors::kernel(data.py(), &error))
    }
    fn __eq__(&self, other: &Self) -> bool {
        self.0.digest() == other.0.digest()
    }
    fn __hash__(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self.0.digest().bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
    fn __repr__(&self) -> String {
        let limits = self.0.limits();
        format!(
            "<Policy of {}, objective {}, policy_epoch {}, catalog_epoch {}, digest {}>",
            counted(self.0.candidates().len(), "model"),
            limits.objective.label(),
            limits.policy_epoch,
            limits.catalog_epoch,
            self.0.digest()
        )
    }
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rebuild = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((rebuild, (self.to_bytes(py),)).into_pyobject(py)?.into_any())
    }
}

impl Policy {
    /// What is found by looking at every candidate, with the interpreter lock free where they are many.
    fn detached<T: Send>(&self, py: Python<'_>, find: impl FnOnce() -> T + Send) -> T {
        if self.0.candidates().len() > CANDIDATES_WORTH_DETACHING {
            return py.detach(find);
        }
        find()
    }
}

/// The digest that binds a policy, a request and a decision (`calyidn1`).
#[pyfunction]
pub(crate) fn identity<'py>(
    py: Python<'py>,
    policy: &Bound<'py, PyAny>,
    request: &Bound<'py, PyAny>,
    decision: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let policy = one_of::<Policy>("policy", "a Policy", policy)?;
    let request = one_of::<Request>("request", "a Request", request)?;
    let decision = one_of::<Decision>("decision", "a Decision", decision)?;
    let digest = decidable_kernel::identity(&policy.get().0, &request.get().0, &decision.get().0);
    Ok(PyBytes::new(py, digest.bytes()))
}
