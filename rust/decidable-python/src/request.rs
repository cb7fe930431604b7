use decidable_kernel::RequestFields;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::errors;
use crate::model::repr;
use crate::values::{Given, dictionary, integer_in, integer_or_none, no_missing, no_others, wrong, wrong_type};

/// What [`Request`] is made of.
const FIELDS: [&str; 15] = [
    "input_tokens",
    "output_tokens",
    "request_sequence",
    "requested_model_id",
    "business_value_microunits",
    "budget_limit_microunits",
    "risk_bps",
    "confidence_bps",
    "minimum_quality_bps",
    "max_p95_latency_ms",
    "required_capabilities",
    "allowed_provider_mask",
    "required_region_mask",
    "max_output_tokens",
    "quotes",
];

/// One request (docs/spec/decisions.md, "request"; docs/spec/extensions.md for quotes and the largest use).
///
/// `quotes` are by number: one for a model that the catalog lacks changes nothing but the digest. `decidable.builders.request` takes
/// names, and refuses one that the catalog lacks.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request(pub(crate) decidable_kernel::Request);

#[pymethods]
impl Request {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str) {
        ("input_tokens", "output_tokens")
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[new]
    #[pyo3(signature = (*, input_tokens=Given::NOT, output_tokens=Given::NOT, request_sequence=Given::NOT, requested_model_id=None,
        business_value_microunits=Given::NOT, budget_limit_microunits=None, risk_bps=Given::NOT, confidence_bps=Given::NOT,
        minimum_quality_bps=Given::NOT, max_p95_latency_ms=None, required_capabilities=Given::NOT, allowed_provider_mask=None,
        required_region_mask=None, max_output_tokens=None, quotes=None, **others),
        text_signature = "(*, input_tokens, output_tokens, request_sequence=..., requested_model_id=None, business_value_microunits=..., budget_limit_microunits=None, risk_bps=..., confidence_bps=..., minimum_quality_bps=..., max_p95_latency_ms=None, required_capabilities=..., allowed_provider_mask=None, required_region_mask=None, max_output_tokens=None, quotes=None)")]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        input_tokens: Given<'_, '_>,
        output_tokens: Given<'_, '_>,
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
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_others("Request.__new__", others, &FIELDS)?;
        no_missing("Request.__new__", &FIELDS, [input_tokens, output_tokens])?;
        Arguments {
            request_sequence,
            requested_model_id: requested_model_id.into(),
            input_tokens,
            output_tokens,
            business_value_microunits,
            budget_limit_microunits: budget_limit_microunits.into(),
            risk_bps,
            confidence_bps,
            minimum_quality_bps,
            max_p95_latency_ms: max_p95_latency_ms.into(),
            required_capabilities,
            allowed_provider_mask: allowed_provider_mask.into(),
            required_region_mask: required_region_mask.into(),
            max_output_tokens: max_output_tokens.into(),
            quotes: quotes.into(),
        }
        .read(py, None)
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
    #[pyo3(signature = (*, input_tokens=Given::NOT, output_tokens=Given::NOT, request_sequence=Given::NOT, requested_model_id=Given::NOT, business_value_microunits=Given::NOT, budget_limit_microunits=Given::NOT, risk_bps=Given::NOT, confidence_bps=Given::NOT, minimum_quality_bps=Given::NOT, max_p95_latency_ms=Given::NOT, required_capabilities=Given::NOT, allowed_provider_mask=Given::NOT, required_region_mask=Given::NOT, max_output_tokens=Given::NOT, quotes=Given::NOT, **others), text_signature = "($self, *, input_tokens=..., output_tokens=..., request_sequence=..., requested_model_id=..., business_value_microunits=..., budget_limit_microunits=..., risk_bps=..., confidence_bps=..., minimum_quality_bps=..., max_p95_latency_ms=..., required_capabilities=..., allowed_provider_mask=..., required_region_mask=..., max_output_tokens=..., quotes=...)")]
    #[allow(clippy::too_many_arguments)]
    fn replace(
        &self,
        py: Python<'_>,
        input_tokens: Given<'_, '_>,
        output_tokens: Given<'_, '_>,
        request_sequence: Given<'_, '_>,
        requested_model_id: Given<'_, '_>,
        business_value_microunits: Given<'_, '_>,
        budget_limit_microunits: Given<'_, '_>,
        risk_bps: Given<'_, '_>,
        confidence_bps: Given<'_, '_>,
        minimum_quality_bps: Given<'_, '_>,
        max_p95_latency_ms: Given<'_, '_>,
        required_capabilities: Given<'_, '_>,
        allowed_provider_mask: Given<'_, '_>,
        required_region_mask: Given<'_, '_>,
        max_output_tokens: Given<'_, '_>,
        quotes: Given<'_, '_>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_others("Request.replace", others, &FIELDS)?;
        Arguments {
            request_sequence,
            requested_model_id,
            input_tokens,
            output_tokens,
            business_value_microunits,
            budget_limit_microunits,
            risk_bps,
            confidence_bps,
            minimum_quality_bps,
            max_p95_latency_ms,
            required_capabilities,
            allowed_provider_mask,
            required_region_mask,
            max_output_tokens,
            quotes,
        }
        .read(py, Some(&self.0))
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
        keywords.set_item("max_output_tokens", said_most(&self.0))?;
        keywords.set_item("quotes", self.quotes(py)?)?;
        Ok(keywords)
    }
}

/// The largest use, where it does not follow the expected one.
fn said_most(request: &decidable_kernel::Request) -> Option<u32> {
    let most = request.max_output_tokens();
    (most != request.fields().output_tokens).then_some(most)
}

/// What was given for each field.
struct Arguments<'a, 'py> {
    request_sequence: Given<'a, 'py>,
    requested_model_id: Given<'a, 'py>,
    input_tokens: Given<'a, 'py>,
    output_tokens: Given<'a, 'py>,
    business_value_microunits: Given<'a, 'py>,
    budget_limit_microunits: Given<'a, 'py>,
    risk_bps: Given<'a, 'py>,
    confidence_bps: Given<'a, 'py>,
    minimum_quality_bps: Given<'a, 'py>,
    max_p95_latency_ms: Given<'a, 'py>,
    required_capabilities: Given<'a, 'py>,
    allowed_provider_mask: Given<'a, 'py>,
    required_region_mask: Given<'a, 'py>,
    max_output_tokens: Given<'a, 'py>,
    quotes: Given<'a, 'py>,
}

impl Arguments<'_, '_> {
    /// The request that has them, and in place of those that were left out the fields of `before`.
    fn read(self, py: Python<'_>, before: Option<&decidable_kernel::Request>) -> PyResult<Request> {
        let none = RequestFields::default();
        let same = before.map_or(&none, decidable_kernel::Request::fields);
        let fields = RequestFields {
            request_sequence: self
                .request_sequence
                .integer_or("request_sequence", same.request_sequence)?,
            requested_model_id: self.requested_model_id.optional_or(
                "requested_model_id",
                none.requested_model_id,
                same.requested_model_id,
            )?,
            input_tokens: self.input_tokens.integer_or("input_tokens", same.input_tokens)?,
            output_tokens: self.output_tokens.integer_or("output_tokens", same.output_tokens)?,
            business_value_microunits: self
                .business_value_microunits
                .integer_or("business_value_microunits", same.business_value_microunits)?,
            budget_limit_microunits: self.budget_limit_microunits.optional_or(
                "budget_limit_microunits",
                none.budget_limit_microunits,
                same.budget_limit_microunits,
            )?,
            risk_bps: self.risk_bps.integer_or("risk_bps", same.risk_bps)?,
            confidence_bps: self.confidence_bps.integer_or("confidence_bps", same.confidence_bps)?,
            minimum_quality_bps: self
                .minimum_quality_bps
                .integer_or("minimum_quality_bps", same.minimum_quality_bps)?,
            max_p95_latency_ms: self.max_p95_latency_ms.optional_or(
                "max_p95_latency_ms",
                none.max_p95_latency_ms,
                same.max_p95_latency_ms,
            )?,
            required_capabilities: self
                .required_capabilities
                .integer_or("required_capabilities", same.required_capabilities)?,
            allowed_provider_mask: self.allowed_provider_mask.optional_or(
                "allowed_provider_mask",
                none.allowed_provider_mask,
                same.allowed_provider_mask,
            )?,
            required_region_mask: self.required_region_mask.optional_or(
                "required_region_mask",
                none.required_region_mask,
                same.required_region_mask,
            )?,
        };
        let most = self.max_output_tokens.or(before.and_then(said_most), |value| {
            integer_or_none("max_output_tokens", value)
        })?;
        let quotes = match self.quotes.0 {
            Some(value) if value.is_none() => Vec::new(),
            Some(value) => quoted(&value)?,
            None => before.map_or_else(Vec::new, |before| before.quotes().to_vec()),
        };
        let build = || {
            let mut request = decidable_kernel::Request::new(fields)?;
            if let Some(most) = most {
                request = request.with_max_output_tokens(most)?;
            }
            if !quotes.is_empty() {
                request = request.with_quotes(quotes)?;
            }
            Ok(Request(request))
        };
        build().map_err(|error| errors::kernel(py, &error))
    }
}

/// A request, or a row of `REQUEST_DTYPE`, as it stands in an array or as a tuple, which becomes one in `room`.
#[inline(always)]
pub(crate) fn requested<'a>(
    value: &'a Bound<'_, PyAny>,
    room: &'a mut Option<decidable_kernel::Request>,
) -> PyResult<&'a decidable_kernel::Request> {
    match value.cast::<Request>() {
        Ok(request) => Ok(&request.get().0),
        Err(_) => Ok(room.insert(row_of(value)?)),
    }
}

#[inline(never)]
fn row_of(value: &Bound<'_, PyAny>) -> PyResult<decidable_kernel::Request> {
    match value.cast::<PyTuple>() {
        Ok(row) if row.len() == ROW => of_row(row).map(|request| request.0),
        Ok(row) => {
            let must_be = format!(
                "a Request, or a tuple of the {ROW} fields of REQUEST_DTYPE, as .tolist() gives, not of {}",
                row.len()
            );
            Err(wrong("request", &must_be, value))
        }
        Err(_) if is_array_row(value)? => row_of(&value.call_method0("item")?),
        Err(_) => Err(wrong_type(
            "request",
            "a Request, a row of REQUEST_DTYPE, or a tuple of its fields, as .tolist() gives",
            value,
        )),
    }
}

/// Whether it is one row of an array of `REQUEST_DTYPE`.
fn is_array_row(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    if !value.is_instance(&PyModule::import(py, "numpy")?.getattr("void")?)? {
        return Ok(false);
    }
    let wanted = PyModule::import(py, "decidable.arrays")?.getattr("REQUEST_DTYPE")?;
    value.getattr("dtype")?.eq(wanted)
}

/// The fields of a row.
const ROW: usize = 13;

fn of_row(row: &Bound<'_, PyTuple>) -> PyResult<Request> {
    let mut values = row.iter_borrowed();
    let mut next = || Given(values.next());
    Arguments {
        request_sequence: next(),
        requested_model_id: next(),
        input_tokens: next(),
        output_tokens: next(),
        business_value_microunits: next(),
        budget_limit_microunits: next(),
        risk_bps: next(),
        confidence_bps: next(),
        minimum_quality_bps: next(),
        max_p95_latency_ms: next(),
        required_capabilities: next(),
        allowed_provider_mask: next(),
        required_region_mask: next(),
        max_output_tokens: Given::NOT,
        quotes: Given::NOT,
    }
    .read(row.py(), None)
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
        .map(|(model, cost)| {
            let model = integer_in("quotes", &"quotes: a model_id", &model)?;
            let cost = integer_in("quotes", &format_args!("quotes: the cost for model {model}"), &cost)?;
            Ok((model, cost))
        })
        .collect::<PyResult<Vec<(u32, u64)>>>()?;
    quotes.sort_unstable();
    Ok(quotes)
}
