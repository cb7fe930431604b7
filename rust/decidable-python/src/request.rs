use decidable_kernel::RequestFields;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::errors;
use crate::model::{rebuilt, repr};
use crate::values::{Given, dictionary, integer, optional};

/// One request (docs/spec/decisions.md, "request"; docs/spec/extensions.md for quotes and the largest use).
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request(pub(crate) decidable_kernel::Request);

#[pymethods]
impl Request {
    #[new]
    #[pyo3(signature = (*, input_tokens, output_tokens, request_sequence=Given::NOT, requested_model_id=None,
        business_value_microunits=Given::NOT, budget_limit_microunits=None, risk_bps=Given::NOT, confidence_bps=Given::NOT,
        minimum_quality_bps=Given::NOT, max_p95_latency_ms=None, required_capabilities=Given::NOT, allowed_provider_mask=None,
        required_region_mask=None, max_output_tokens=None, quotes=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        input_tokens: &Bound<'_, PyAny>,
        output_tokens: &Bound<'_, PyAny>,
        request_sequence: Given<'_, '_>,
        requested_model_id: Option<&Bound<'_, PyAny>>,
        business_value_microunits: Given<'_, '_>,
        budget_limit_microunits: Option<&Bound<'_, PyAny>>,
        risk_bps: Given<'_, '_>,
        confidence_bps: Given<'_, '_>,
        minimum_quality_bps: Given<'_, '_>,
        max_p95_latency_ms: Option<&Bound<'_, PyAny>>,
        required_capabilities: Given<'_, '_>,
        allowed_provider_mask: Option<&Bound<'_, PyAny>>,
        required_region_mask: Option<&Bound<'_, PyAny>>,
        max_output_tokens: Option<&Bound<'_, PyAny>>,
        quotes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let none = RequestFields::default();
        let fields = RequestFields {
            request_sequence: request_sequence.integer_or("request_sequence", none.request_sequence)?,
            requested_model_id: optional("requested_model_id", requested_model_id)?.unwrap_or(none.requested_model_id),
            input_tokens: integer("input_tokens", input_tokens)?,
            output_tokens: integer("output_tokens", output_tokens)?,
            business_value_microunits: business_value_microunits
                .integer_or("business_value_microunits", none.business_value_microunits)?,
            budget_limit_microunits: optional("budget_limit_microunits", budget_limit_microunits)?
                .unwrap_or(none.budget_limit_microunits),
            risk_bps: risk_bps.integer_or("risk_bps", none.risk_bps)?,
            confidence_bps: confidence_bps.integer_or("confidence_bps", none.confidence_bps)?,
            minimum_quality_bps: minimum_quality_bps.integer_or("minimum_quality_bps", none.minimum_quality_bps)?,
            max_p95_latency_ms: optional("max_p95_latency_ms", max_p95_latency_ms)?.unwrap_or(none.max_p95_latency_ms),
            required_capabilities: required_capabilities
                .integer_or("required_capabilities", none.required_capabilities)?,
            allowed_provider_mask: optional("allowed_provider_mask", allowed_provider_mask)?
                .unwrap_or(none.allowed_provider_mask),
            required_region_mask: optional("required_region_mask", required_region_mask)?
                .unwrap_or(none.required_region_mask),
        };
        let most = optional("max_output_tokens", max_output_tokens)?;
        let quotes = quotes.map(quoted).transpose()?;
        let build = || {
            let mut request = decidable_kernel::Request::new(fields)?;
            if let Some(most) = most {
                request = request.with_max_output_tokens(most)?;
            }
            if let Some(quotes) = quotes {
                request = request.with_quotes(quotes)?;
            }
            Ok(Self(request))
        };
        build().map_err(|error| errors::kernel(input_tokens.py(), &error))
    }
    #[getter]
    const fn request_sequence(&self) -> u64 {
        self.0.fields().request_sequence
    }
    #[getter]
    const fn requested_model_id(&self) -> Option<u32> {
        present_u32(self.0.fields().requested_model_id)
    }
    #[getter]
    const fn input_tokens(&self) -> u32 {
        self.0.fields().input_tokens
    }
    #[getter]
    const fn output_tokens(&self) -> u32 {
        self.0.fields().output_tokens
    }
    #[getter]
    const fn business_value_microunits(&self) -> i64 {
        self.0.fields().business_value_microunits
    }
    #[getter]
    const fn budget_limit_microunits(&self) -> Option<u64> {
        match self.0.fields().budget_limit_microunits {
            u64::MAX => None,
            limit => Some(limit),
        }
    }
    #[getter]
    const fn risk_bps(&self) -> u16 {
        self.0.fields().risk_bps
    }
    #[getter]
    const fn confidence_bps(&self) -> u16 {
        self.0.fields().confidence_bps
    }
    #[getter]
    const fn minimum_quality_bps(&self) -> u16 {
        self.0.fields().minimum_quality_bps
    }
    #[getter]
    const fn max_p95_latency_ms(&self) -> Option<u32> {
        present_u32(self.0.fields().max_p95_latency_ms)
    }
    #[getter]
    const fn required_capabilities(&self) -> u64 {
        self.0.fields().required_capabilities
    }
    #[getter]
    const fn allowed_provider_mask(&self) -> Option<u64> {
        match self.0.fields().allowed_provider_mask {
            u64::MAX => None,
            mask => Some(mask),
        }
    }
    #[getter]
    const fn required_region_mask(&self) -> Option<u64> {
        match self.0.fields().required_region_mask {
            0 => None,
            mask => Some(mask),
        }
    }
    #[getter]
    const fn max_output_tokens(&self) -> u32 {
        self.0.max_output_tokens()
    }
    #[getter]
    fn quotes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.0.quotes().is_empty() {
            return Ok(None);
        }
        let quotes = PyDict::new(py);
        for (model, cost) in self.0.quotes() {
            quotes.set_item(model, cost)?;
        }
        Ok(Some(quotes))
    }
    /// The same request with some fields changed.
    #[pyo3(signature = (**changes))]
    fn replace<'py>(&self, py: Python<'py>, changes: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        rebuilt(&py.get_type::<Self>(), self.keywords(py)?, changes)
    }
    /// The digest: `calyinp1`, or `dcdreq1` where the request carries quotes.
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.digest().bytes())
    }
    /// The digest `calyinp1`, whatever extensions are used.
    fn shared_digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.shared_digest().bytes())
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::empty(py), self.keywords(py)?))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        repr("Request", &self.keywords(py)?)
    }
}

impl Request {
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let keywords = PyDict::new(py);
        keywords.set_item("request_sequence", self.request_sequence())?;
        keywords.set_item("requested_model_id", self.requested_model_id())?;
        keywords.set_item("input_tokens", self.input_tokens())?;
        keywords.set_item("output_tokens", self.output_tokens())?;
        keywords.set_item("business_value_microunits", self.business_value_microunits())?;
        keywords.set_item("budget_limit_microunits", self.budget_limit_microunits())?;
        keywords.set_item("risk_bps", self.risk_bps())?;
        keywords.set_item("confidence_bps", self.confidence_bps())?;
        keywords.set_item("minimum_quality_bps", self.minimum_quality_bps())?;
        keywords.set_item("max_p95_latency_ms", self.max_p95_latency_ms())?;
        keywords.set_item("required_capabilities", self.required_capabilities())?;
        keywords.set_item("allowed_provider_mask", self.allowed_provider_mask())?;
        keywords.set_item("required_region_mask", self.required_region_mask())?;
        // The default follows output_tokens, so that changing those alone stays possible.
        let most = self.max_output_tokens();
        keywords.set_item("max_output_tokens", (most != self.output_tokens()).then_some(most))?;
        keywords.set_item("quotes", self.quotes(py)?)?;
        Ok(keywords)
    }
}

const fn present_u32(value: u32) -> Option<u32> {
    match value {
        0 => None,
        value => Some(value),
    }
}

fn quoted(value: &Bound<'_, PyAny>) -> PyResult<Vec<(u32, u64)>> {
    let mut quotes = dictionary("quotes", value)?
        .iter()
        .map(|(model, cost)| Ok((integer("quotes", &model)?, integer("quotes", &cost)?)))
        .collect::<PyResult<Vec<(u32, u64)>>>()?;
    quotes.sort_unstable();
    Ok(quotes)
}
