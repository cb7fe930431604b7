use decidable_canon::{Canonical as _, Reader};
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::errors;
use crate::values::bytes;

/// What a decision does: one object for each of the three, `Action.REJECT` and so on.
///
/// Compare with `is`, `==`, `in` or `case`; it is a key of a dict, and is pickled. `str()` and `.label` give the stable
/// name (`"reject"`), `int()` and `.code` the stable number, `.name` the name of the exchange format (`"Reject"`). It is
/// not a `str`: what is written as JSON is one of these.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Action(pub(crate) decidable_kernel::Action);

/// Why: one object for each of the thirteen, compared and named as an `Action` is.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reason(pub(crate) decidable_kernel::Reason);

#[pymethods]
impl Action {
    #[classattr]
    const fn __match_args__() -> (&'static str,) {
        ("label",)
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[classattr]
    const EXECUTE_REQUESTED: Self = Self(decidable_kernel::Action::ExecuteRequested);
    #[classattr]
    const SUBSTITUTE: Self = Self(decidable_kernel::Action::Substitute);
    #[classattr]
    const REJECT: Self = Self(decidable_kernel::Action::Reject);

    #[getter]
    const fn code(&self) -> u8 {
        self.0.code()
    }
    #[getter]
    const fn name(&self) -> &'static str {
        self.0.name()
    }
    #[getter]
    const fn label(&self) -> &'static str {
        self.0.label()
    }
    const fn __int__(&self) -> u8 {
        self.0.code()
    }
    const fn __str__(&self) -> &'static str {
        self.0.label()
    }
    fn __repr__(&self) -> String {
        format!("Action.{}", self.0.label().to_uppercase())
    }
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute_of(py, "Action", &self.0.label().to_uppercase())
    }
}

#[pymethods]
impl Reason {
    #[classattr]
    const fn __match_args__() -> (&'static str,) {
        ("label",)
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[classattr]
    const REQUESTED_MODEL_MAXIMIZES_UTILITY: Self = Self(decidable_kernel::Reason::RequestedModelMaximizesUtility);
    #[classattr]
    const ALTERNATIVE_MAXIMIZES_UTILITY: Self = Self(decidable_kernel::Reason::AlternativeMaximizesUtility);
    #[classattr]
    const RISK_HARD_LIMIT: Self = Self(decidable_kernel::Reason::RiskHardLimit);
    #[classattr]
    const CONFIDENCE_HARD_LIMIT: Self = Self(decidable_kernel::Reason::ConfidenceHardLimit);
    #[classattr]
    const NO_ENABLED_MODEL: Self = Self(decidable_kernel::Reason::NoEnabledModel);
    #[classattr]
    const QUALITY_CONSTRAINT: Self = Self(decidable_kernel::Reason::QualityConstraint);
    #[classattr]
    const LATENCY_CONSTRAINT: Self = Self(decidable_kernel::Reason::LatencyConstraint);
    #[classattr]
    const CAPABILITY_CONSTRAINT: Self = Self(decidable_kernel::Reason::CapabilityConstraint);
    #[classattr]
    const PROVIDER_CONSTRAINT: Self = Self(decidable_kernel::Reason::ProviderConstraint);
    #[classattr]
    const REGION_CONSTRAINT: Self = Self(decidable_kernel::Reason::RegionConstraint);
    #[classattr]
    const BUDGET_CONSTRAINT: Self = Self(decidable_kernel::Reason::BudgetConstraint);
    #[classattr]
    const NON_POSITIVE_UTILITY: Self = Self(decidable_kernel::Reason::NonPositiveUtility);
    #[classattr]
    const RISK_CEILING_CONSTRAINT: Self = Self(decidable_kernel::Reason::RiskCeilingConstraint);

    #[getter]
    const fn code(&self) -> u16 {
        self.0.code()
    }
    #[getter]
    const fn name(&self) -> &'static str {
        self.0.name()
    }
    #[getter]
    const fn label(&self) -> &'static str {
        self.0.label()
    }
    const fn __int__(&self) -> u16 {
        self.0.code()
    }
    const fn __str__(&self) -> &'static str {
        self.0.label()
    }
    fn __repr__(&self) -> String {
        format!("Reason.{}", self.0.label().to_uppercase())
    }
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute_of(py, "Reason", &self.0.label().to_uppercase())
    }
}

impl Action {
    /// The constant of the class: one object for each value, so that `is` compares as `==` does.
    fn constant(py: Python<'_>, action: decidable_kernel::Action) -> PyResult<Py<Self>> {
        static CONSTANTS: PyOnceLock<Vec<Py<Action>>> = PyOnceLock::new();
        let labels = decidable_kernel::Action::ALL.iter().map(|action| action.label());
        let constants = CONSTANTS.get_or_try_init(py, || constants(py, labels))?;
        let found = constants.iter().find(|constant| constant.get().0 == action);
        found.map_or_else(|| Py::new(py, Self(action)), |constant| Ok(constant.clone_ref(py)))
    }
}

impl Reason {
    /// As [`Action::constant`].
    pub(crate) fn constant(py: Python<'_>, reason: decidable_kernel::Reason) -> PyResult<Py<Self>> {
        static CONSTANTS: PyOnceLock<Vec<Py<Reason>>> = PyOnceLock::new();
        let labels = decidable_kernel::Reason::ALL.iter().map(|reason| reason.label());
        let constants = CONSTANTS.get_or_try_init(py, || constants(py, labels))?;
        let found = constants.iter().find(|constant| constant.get().0 == reason);
        found.map_or_else(|| Py::new(py, Self(reason)), |constant| Ok(constant.clone_ref(py)))
    }
}

/// The constants of a class, by their labels.
fn constants<T: PyClass>(py: Python<'_>, labels: impl Iterator<Item = &'static str>) -> PyResult<Vec<Py<T>>> {
    let class = py.get_type::<T>();
    labels
        .map(|label| Ok(class.getattr(label.to_uppercase())?.cast_into::<T>()?.unbind()))
        .collect()
}

/// `(getattr, (class, name))`: how a constant of a class is pickled.
fn attribute_of<'py>(py: Python<'py>, class: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let getattr = py.import("builtins")?.getattr("getattr")?;
    let class = py.import("decidable")?.getattr(class)?;
    Ok((getattr, (class, name)).into_pyobject(py)?.into_any())
}

/// One decision: what was selected, why, and at what cost.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Decision(pub(crate) decidable_kernel::Decision);

#[pymethods]
impl Decision {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str, &'static str) {
        (
            "action",
            "reason",
            "selected_model_id",
            "estimated_cost_microunits",
            "expected_utility_microunits",
        )
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    /// Reads the layout that `to_bytes` wrote.
    #[staticmethod]
    fn from_bytes(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut reader = Reader::new(bytes("data", data)?);
        decidable_kernel::Decision::decode(&mut reader)
            .and_then(|decision| Ok(reader.finish().map(|()| Self(decision))?))
            .map_err(|error| errors::kernel(data.py(), &error))
    }
    /// The fields in the layout of `calydcn1`, without its tag.
    #[allow(clippy::wrong_self_convention, reason = "methods of a Python class take a reference")]
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut layout = Vec::new();
        self.0.encode(&mut layout);
        PyBytes::new(py, &layout)
    }
    /// The digest `calydcn1` (docs/spec/formats.md).
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.digest().bytes())
    }
    #[getter]
    const fn request_sequence(&self) -> u64 {
        self.0.request_sequence
    }
    #[getter]
    fn action(&self, py: Python<'_>) -> PyResult<Py<Action>> {
        Action::constant(py, self.0.action)
    }
    #[getter]
    fn reason(&self, py: Python<'_>) -> PyResult<Py<Reason>> {
        Reason::constant(py, self.0.reason)
    }
    #[getter]
    const fn selected_model_id(&self) -> Option<u32> {
        self.0.selected_model_id
    }
    #[getter]
    const fn selected_model_index(&self) -> Option<u16> {
        self.0.selected_model_index
    }
    #[getter]
    const fn estimated_cost_microunits(&self) -> u64 {
        self.0.estimated_cost_microunits
    }
    #[getter]
    const fn expected_utility_microunits(&self) -> i64 {
        self.0.expected_utility_microunits
    }
    #[getter]
    const fn counterfactual_model_id(&self) -> Option<u32> {
        self.0.counterfactual_model_id
    }
    #[getter]
    const fn counterfactual_utility_microunits(&self) -> i64 {
        self.0.counterfactual_utility_microunits
    }
    #[getter]
    const fn evaluated_models(&self) -> u16 {
        self.0.evaluated_models
    }
    #[getter]
    const fn eligible_models(&self) -> u16 {
        self.0.eligible_models
    }
    #[getter]
    const fn policy_epoch(&self) -> u64 {
        self.0.policy_epoch
    }
    #[getter]
    const fn catalog_epoch(&self) -> u64 {
        self.0.catalog_epoch
    }
    pub(crate) fn __repr__(&self) -> String {
        let decidable_kernel::Decision {
            request_sequence,
            action,
            reason,
            selected_model_id,
            selected_model_index,
            estimated_cost_microunits,
            expected_utility_microunits,
            counterfactual_model_id,
            counterfactual_utility_microunits,
            evaluated_models,
            eligible_models,
            policy_epoch,
            catalog_epoch,
        } = self.0;
        let or_none = |value: Option<u32>| value.map_or_else(|| "None".to_owned(), |value| value.to_string());
        format!(
            "Decision(request_sequence={request_sequence}, action={}, reason={}, selected_model_id={}, \
             selected_model_index={}, estimated_cost_microunits={estimated_cost_microunits}, \
             expected_utility_microunits={expected_utility_microunits}, counterfactual_model_id={}, \
             counterfactual_utility_microunits={counterfactual_utility_microunits}, evaluated_models={evaluated_models}, \
             eligible_models={eligible_models}, policy_epoch={policy_epoch}, catalog_epoch={catalog_epoch})",
            Action(action).__repr__(),
            Reason(reason).__repr__(),
            or_none(selected_model_id),
            or_none(selected_model_index.map(u32::from)),
            or_none(counterfactual_model_id),
        )
    }
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rebuild = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((rebuild, (self.to_bytes(py),)).into_pyobject(py)?.into_any())
    }
}
