use std::collections::BTreeMap;

use decidable_canon::Canonical as _;
use decidable_kernel::{Candidate, Group};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::errors;
use crate::values::{Given, dictionary, integer, no_missing, no_others, text, truth};

/// What [`Model`] is made of.
const FIELDS: [&str; 10] = [
    "model_id",
    "quality_bps",
    "input_cost_microunits_per_million_tokens",
    "output_cost_microunits_per_million_tokens",
    "provider_id",
    "risk_ceiling_bps",
    "enabled",
    "p95_latency_ms",
    "capabilities",
    "region_mask",
];

/// One candidate of a catalog (docs/spec/decisions.md, "Candidate").
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Model(pub(crate) Candidate);

#[pymethods]
impl Model {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        (
            "model_id",
            "quality_bps",
            "input_cost_microunits_per_million_tokens",
            "output_cost_microunits_per_million_tokens",
        )
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[new]
    #[pyo3(signature = (*, model_id=Given::NOT, quality_bps=Given::NOT, input_cost_microunits_per_million_tokens=Given::NOT,
        output_cost_microunits_per_million_tokens=Given::NOT, provider_id=Given::NOT, risk_ceiling_bps=Given::NOT,
        enabled=Given::NOT, p95_latency_ms=Given::NOT, capabilities=Given::NOT, region_mask=Given::NOT, **others),
        text_signature = "(*, model_id, quality_bps, input_cost_microunits_per_million_tokens, output_cost_microunits_per_million_tokens, provider_id=..., risk_ceiling_bps=..., enabled=..., p95_latency_ms=..., capabilities=..., region_mask=...)")]
    #[allow(clippy::too_many_arguments)]
    fn new(
        model_id: Given<'_, '_>,
        quality_bps: Given<'_, '_>,
        input_cost_microunits_per_million_tokens: Given<'_, '_>,
        output_cost_microunits_per_million_tokens: Given<'_, '_>,
        provider_id: Given<'_, '_>,
        risk_ceiling_bps: Given<'_, '_>,
        enabled: Given<'_, '_>,
        p95_latency_ms: Given<'_, '_>,
        capabilities: Given<'_, '_>,
        region_mask: Given<'_, '_>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_others("Model.__new__", others, &FIELDS)?;
        let needed = [
            model_id,
            quality_bps,
            input_cost_microunits_per_million_tokens,
            output_cost_microunits_per_million_tokens,
        ];
        no_missing("Model.__new__", &FIELDS, needed)?;
        let candidate = Candidate {
            model_id: model_id.integer_or("model_id", 0)?,
            provider_id: provider_id.integer_or("provider_id", 0)?,
            quality_bps: quality_bps.integer_or("quality_bps", 0)?,
            risk_ceiling_bps: risk_ceiling_bps.integer_or("risk_ceiling_bps", 10_000)?,
            enabled: enabled.or(true, |value| truth("enabled", value))?,
            p95_latency_ms: p95_latency_ms.integer_or("p95_latency_ms", 0)?,
            capabilities: capabilities.integer_or("capabilities", 0)?,
            region_mask: region_mask.integer_or("region_mask", u64::MAX)?,
            input_cost_microunits_per_million_tokens: input_cost_microunits_per_million_tokens
                .integer_or("input_cost_microunits_per_million_tokens", 0)?,
            output_cost_microunits_per_million_tokens: output_cost_microunits_per_million_tokens
                .integer_or("output_cost_microunits_per_million_tokens", 0)?,
        };
        Ok(Self(candidate))
    }
    #[getter]
    const fn model_id(&self) -> u32 {
        self.0.model_id
    }
    #[getter]
    const fn provider_id(&self) -> u16 {
        self.0.provider_id
    }
    #[getter]
    const fn quality_bps(&self) -> u16 {
        self.0.quality_bps
    }
    #[getter]
    const fn risk_ceiling_bps(&self) -> u16 {
        self.0.risk_ceiling_bps
    }
    #[getter]
    const fn enabled(&self) -> bool {
        self.0.enabled
    }
    #[getter]
    const fn p95_latency_ms(&self) -> u32 {
        self.0.p95_latency_ms
    }
    #[getter]
    const fn capabilities(&self) -> u64 {
        self.0.capabilities
    }
    #[getter]
    const fn region_mask(&self) -> u64 {
        self.0.region_mask
    }
    #[getter]
    const fn input_cost_microunits_per_million_tokens(&self) -> u64 {
        self.0.input_cost_microunits_per_million_tokens
    }
    #[getter]
    const fn output_cost_microunits_per_million_tokens(&self) -> u64 {
        self.0.output_cost_microunits_per_million_tokens
    }
    /// The same model with some fields changed.
    #[pyo3(signature = (*, model_id=Given::NOT, quality_bps=Given::NOT, input_cost_microunits_per_million_tokens=Given::NOT, output_cost_microunits_per_million_tokens=Given::NOT, provider_id=Given::NOT, risk_ceiling_bps=Given::NOT, enabled=Given::NOT, p95_latency_ms=Given::NOT, capabilities=Given::NOT, region_mask=Given::NOT, **others), text_signature = "($self, *, model_id=..., quality_bps=..., input_cost_microunits_per_million_tokens=..., output_cost_microunits_per_million_tokens=..., provider_id=..., risk_ceiling_bps=..., enabled=..., p95_latency_ms=..., capabilities=..., region_mask=...)")]
    #[allow(clippy::too_many_arguments)]
    fn replace(
        &self,
        model_id: Given<'_, '_>,
        quality_bps: Given<'_, '_>,
        input_cost_microunits_per_million_tokens: Given<'_, '_>,
        output_cost_microunits_per_million_tokens: Given<'_, '_>,
        provider_id: Given<'_, '_>,
        risk_ceiling_bps: Given<'_, '_>,
        enabled: Given<'_, '_>,
        p95_latency_ms: Given<'_, '_>,
        capabilities: Given<'_, '_>,
        region_mask: Given<'_, '_>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_others("Model.replace", others, &FIELDS)?;
        let same = self.0;
        Ok(Self(Candidate {
            model_id: model_id.integer_or("model_id", same.model_id)?,
            quality_bps: quality_bps.integer_or("quality_bps", same.quality_bps)?,
            input_cost_microunits_per_million_tokens: input_cost_microunits_per_million_tokens.integer_or(
                "input_cost_microunits_per_million_tokens",
                same.input_cost_microunits_per_million_tokens,
            )?,
            output_cost_microunits_per_million_tokens: output_cost_microunits_per_million_tokens.integer_or(
                "output_cost_microunits_per_million_tokens",
                same.output_cost_microunits_per_million_tokens,
            )?,
            provider_id: provider_id.integer_or("provider_id", same.provider_id)?,
            risk_ceiling_bps: risk_ceiling_bps.integer_or("risk_ceiling_bps", same.risk_ceiling_bps)?,
            enabled: enabled.or(same.enabled, |value| truth("enabled", value))?,
            p95_latency_ms: p95_latency_ms.integer_or("p95_latency_ms", same.p95_latency_ms)?,
            capabilities: capabilities.integer_or("capabilities", same.capabilities)?,
            region_mask: region_mask.integer_or("region_mask", same.region_mask)?,
        }))
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::empty(py), self.keywords(py)?))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        repr("Model", &self.keywords(py)?)
    }
}

impl Model {
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Candidate {
            model_id,
            provider_id,
            quality_bps,
            risk_ceiling_bps,
            enabled,
            p95_latency_ms,
            capabilities,
            region_mask,
            input_cost_microunits_per_million_tokens,
            output_cost_microunits_per_million_tokens,
        } = self.0;
        let keywords = PyDict::new(py);
        keywords.set_item("model_id", model_id)?;
        keywords.set_item("provider_id", provider_id)?;
        keywords.set_item("quality_bps", quality_bps)?;
        keywords.set_item("risk_ceiling_bps", risk_ceiling_bps)?;
        keywords.set_item("enabled", enabled)?;
        keywords.set_item("p95_latency_ms", p95_latency_ms)?;
        keywords.set_item("capabilities", capabilities)?;
        keywords.set_item("region_mask", region_mask)?;
        keywords.set_item(
            "input_cost_microunits_per_million_tokens",
            input_cost_microunits_per_million_tokens,
        )?;
        keywords.set_item(
            "output_cost_microunits_per_million_tokens",
            output_cost_microunits_per_million_tokens,
        )?;
        Ok(keywords)
    }
}

/// `Class(field=value, …)`, which evaluates to an equal object.
pub(crate) fn repr(class: &str, keywords: &Bound<'_, PyDict>) -> PyResult<String> {
    let fields = keywords
        .iter()
        .map(|(field, value)| {
            // A string is not formatted itself: that asks it again, and an interrupt that comes then would be lost.
            let (field, value) = (field.str()?, value.repr()?);
            Ok(format!("{}={}", field.to_string_lossy(), value.to_string_lossy()))
        })
        .collect::<PyResult<Vec<_>>>()?;
    Ok(format!("{class}({})", fields.join(", ")))
}

/// The names of models, providers, regions and capabilities (docs/spec/extensions.md, "Names").
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) decidable_kernel::Names);

impl core::hash::Hash for Names {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.digest().hash(state);
    }
}

#[pymethods]
impl Names {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        ("models", "providers", "regions", "capabilities")
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[new]
    #[pyo3(signature = (*, models=Given::NOT, providers=Given::NOT, regions=Given::NOT, capabilities=Given::NOT, **others),
        text_signature = "(*, models=..., providers=..., regions=..., capabilities=...)")]
    fn new(
        py: Python<'_>,
        models: Given<'_, '_>,
        providers: Given<'_, '_>,
        regions: Given<'_, '_>,
        capabilities: Given<'_, '_>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_others(
            "Names.__new__",
            others,
            &["models", "providers", "regions", "capabilities"],
        )?;
        decidable_kernel::Names::new(
            registry("models", models)?,
            registry("providers", providers)?,
            registry("regions", regions)?,
            registry("capabilities", capabilities)?,
        )
        .map(Self)
        .map_err(|error| errors::kernel(py, &error))
    }
    #[getter]
    fn models<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.group(py, Group::Model)
    }
    #[getter]
    fn providers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.group(py, Group::Provider)
    }
    #[getter]
    fn regions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.group(py, Group::Region)
    }
    #[getter]
    fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.group(py, Group::Capability)
    }
    /// The digest `dcdnam1`.
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.digest().bytes())
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::empty(py), self.keywords(py)?))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        repr("Names", &self.keywords(py)?)
    }
}

impl Names {
    fn group<'py>(&self, py: Python<'py>, group: Group) -> PyResult<Bound<'py, PyDict>> {
        let names = PyDict::new(py);
        for (id, name) in self.0.names(group) {
            names.set_item(id, name)?;
        }
        Ok(names)
    }
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let keywords = PyDict::new(py);
        keywords.set_item("models", self.group(py, Group::Model)?)?;
        keywords.set_item("providers", self.group(py, Group::Provider)?)?;
        keywords.set_item("regions", self.group(py, Group::Region)?)?;
        keywords.set_item("capabilities", self.group(py, Group::Capability)?)?;
        Ok(keywords)
    }
}

fn registry(field: &str, value: Given<'_, '_>) -> PyResult<BTreeMap<u32, String>> {
    value.or(BTreeMap::new(), |value| {
        dictionary(field, value)?
            .iter()
            .map(|(id, name)| Ok((integer(field, &id)?, text(field, &name)?)))
            .collect()
    })
}
