//! How sure a model is of its next token, of arrays that stay where they are.

use decidable_canon::cast;
use decidable_guard::logits::{
    Bf16, Error, F16, LogitBounds as Bounds, LogitStats as Stats, Logits, f32_from_bf16, f32_from_f16,
};
use numpy::ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, Axis, Ix1, Ix2, Slice};
use numpy::{
    Element, PyArray, PyArrayDescrMethods as _, PyArrayMethods as _, PyUntypedArray, PyUntypedArrayMethods as _,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::errors::{self, Class, raise};
use crate::model::repr;
use crate::values::{integer, integer_or_none, optional_text, truth, wrong_type};

/// From so many logits on the interpreter lock is given back while they are read: below, that would take longer than reading them
/// (`benches/python/logits.py`).
const WORTH_THE_LOCK: usize = 16_384;

/// What the logits of one step say.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct LogitStats {
    #[pyo3(get)]
    entropy: f64,
    #[pyo3(get)]
    dominance: f64,
    #[pyo3(get)]
    selected_probability: f64,
    #[pyo3(get)]
    selected: u64,
    #[pyo3(get)]
    top1: u64,
    #[pyo3(get)]
    top2: Option<u64>,
}

impl core::hash::Hash for LogitStats {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        [self.entropy, self.dominance, self.selected_probability]
            .map(hashed)
            .hash(state);
        (self.selected, self.top1, self.top2).hash(state);
    }
}

/// Equal numbers have equal bits here: zero has two signs.
fn hashed(number: f64) -> u64 {
    if number == 0.0 { 0 } else { number.to_bits() }
}

impl From<Stats> for LogitStats {
    fn from(stats: Stats) -> Self {
        Self {
            entropy: stats.entropy,
            dominance: stats.dominance,
            selected_probability: stats.selected_probability,
            selected: cast::u64_from_usize(stats.selected),
            top1: cast::u64_from_usize(stats.top1),
            top2: stats.top2.map(cast::u64_from_usize),
        }
    }
}

#[pymethods]
impl LogitStats {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("entropy", "dominance", "selected_probability")
    }
    #[new]
    #[pyo3(signature = (*, entropy, dominance, selected_probability, selected, top1, top2))]
    fn new(
        entropy: &Bound<'_, PyAny>,
        dominance: &Bound<'_, PyAny>,
        selected_probability: &Bound<'_, PyAny>,
        selected: &Bound<'_, PyAny>,
        top1: &Bound<'_, PyAny>,
        top2: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            entropy: number("entropy", entropy)?,
            dominance: number("dominance", dominance)?,
            selected_probability: number("selected_probability", selected_probability)?,
            selected: integer("selected", selected)?,
            top1: integer("top1", top1)?,
            top2: integer_or_none("top2", top2)?,
        })
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("entropy", self.entropy)?;
        keywords.set_item("dominance", self.dominance)?;
        keywords.set_item("selected_probability", self.selected_probability)?;
        keywords.set_item("selected", self.selected)?;
        keywords.set_item("top1", self.top1)?;
        keywords.set_item("top2", self.top2)?;
        Ok((PyTuple::empty(py), keywords))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        repr("LogitStats", &self.__getnewargs_ex__(py)?.1)
    }
}

/// Lower and upper bounds of what all logits of a step would say.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct LogitBounds {
    #[pyo3(get)]
    entropy_lower: f64,
    #[pyo3(get)]
    entropy_upper: f64,
    #[pyo3(get)]
    dominance_lower: f64,
    #[pyo3(get)]
    dominance_upper: f64,
    #[pyo3(get)]
    selected_probability_lower: f64,
    #[pyo3(get)]
    selected_probability_upper: f64,
}

impl LogitBounds {
    const fn numbers(&self) -> [(&'static str, f64); 6] {
        [
            ("entropy_lower", self.entropy_lower),
            ("entropy_upper", self.entropy_upper),
            ("dominance_lower", self.dominance_lower),
            ("dominance_upper", self.dominance_upper),
            ("selected_probability_lower", self.selected_probability_lower),
            ("selected_probability_upper", self.selected_probability_upper),
        ]
    }
}

impl core::hash::Hash for LogitBounds {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.numbers().map(|(_, number)| hashed(number)).hash(state);
    }
}

#[pymethods]
impl LogitBounds {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str) {
        ("entropy_lower", "entropy_upper")
    }
    #[new]
    #[pyo3(signature = (*, entropy_lower, entropy_upper, dominance_lower, dominance_upper, selected_probability_lower, selected_probability_upper))]
    fn new(
        entropy_lower: &Bound<'_, PyAny>,
        entropy_upper: &Bound<'_, PyAny>,
        dominance_lower: &Bound<'_, PyAny>,
        dominance_upper: &Bound<'_, PyAny>,
        selected_probability_lower: &Bound<'_, PyAny>,
        selected_probability_upper: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            entropy_lower: number("entropy_lower", entropy_lower)?,
            entropy_upper: number("entropy_upper", entropy_upper)?,
            dominance_lower: number("dominance_lower", dominance_lower)?,
            dominance_upper: number("dominance_upper", dominance_upper)?,
            selected_probability_lower: number("selected_probability_lower", selected_probability_lower)?,
            selected_probability_upper: number("selected_probability_upper", selected_probability_upper)?,
        })
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        for (field, number) in self.numbers() {
            keywords.set_item(field, number)?;
        }
        Ok((PyTuple::empty(py), keywords))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        repr("LogitBounds", &self.__getnewargs_ex__(py)?.1)
    }
}

/// A `float` that is a number, or an `int`; a bool is neither.
fn number(field: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let is_number =
        value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>();
    let number = is_number.then(|| value.extract::<f64>().ok()).flatten();
    number
        .filter(|number| !number.is_nan())
        .ok_or_else(|| wrong_type(field, "a float other than NaN", value))
}

/// Entropy, dominance and the selected token's probability of logits of one dimension, or a list of these for the rows of two.
#[pyfunction]
#[pyo3(signature = (logits, selected, *, dtype=None))]
pub(crate) fn logit_stats<'py>(
    logits: &Bound<'py, PyAny>,
    selected: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = logits.py();
    let as_bfloat16 = match optional_text("dtype", dtype)?.as_deref() {
        None => false,
        Some("bfloat16") => true,
        Some(other) => {
            let message = format!("dtype is {other:?}; it is \"bfloat16\", or left out");
            return Err(wrong_dtype(py, "dtype", &message));
        }
    };
    let array = array_of(logits)?;
    match number_of(&array, as_bfloat16)? {
        Number::F32 => measured::<f32>(&array, selected, Stats::of::<[f32]>, |logit| logit),
        Number::F16 => measured::<u16>(
            &array.call_method1("view", ("u2",))?,
            selected,
            |row, selected| Stats::of(&F16(row), selected),
            f32_from_f16,
        ),
        Number::Bf16 => measured::<u16>(
            &array.call_method1("view", ("u2",))?,
            selected,
            |row, selected| Stats::of(&Bf16(row), selected),
            f32_from_bf16,
        ),
    }
}

/// Bounds of the same from the natural logarithms of the largest probabilities, or from these themselves.
#[pyfunction]
#[pyo3(signature = (values, *, vocabulary_size, selected, probabilities=None))]
pub(crate) fn logit_stats_from_top_k(
    py: Python<'_>,
    values: &Bound<'_, PyAny>,
    vocabulary_size: &Bound<'_, PyAny>,
    selected: &Bound<'_, PyAny>,
    probabilities: Option<&Bound<'_, PyAny>>,
) -> PyResult<LogitBounds> {
    let vocabulary_size = integer::<u32>("vocabulary_size", vocabulary_size)?;
    let selected = integer_or_none("selected", selected)?.map(place);
    let probabilities = match probabilities {
        Some(given) => truth("probabilities", given)?,
        None => false,
    };
    let values: Vec<f64> = items("values", "the values", values)?
        .iter()
        .map(|value| number("values", &value))
        .collect::<PyResult<_>>()?;
    let bounds = if probabilities {
        Bounds::of_probabilities(&values, vocabulary_size, selected)
    } else {
        Bounds::of_logprobs(&values, vocabulary_size, selected)
    };
    let bounds = bounds.map_err(|error| errors::logits(py, &error, None))?;
    Ok(LogitBounds {
        entropy_lower: bounds.entropy_lower,
        entropy_upper: bounds.entropy_upper,
        dominance_lower: bounds.dominance_lower,
        dominance_upper: bounds.dominance_upper,
        selected_probability_lower: bounds.selected_probability_lower,
        selected_probability_upper: bounds.selected_probability_upper,
    })
}

/// A token's number as an index; what no array could have is out of every range.
fn place(token: u64) -> usize {
    cast::usize_from_u64(token).unwrap_or(usize::MAX)
}

/// A list or tuple, or an array of one dimension as one.
fn items<'py>(field: &str, what: &str, given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let list = match given.getattr_opt("tolist")? {
        Some(listed) => listed.call0()?,
        None => given.clone(),
    };
    if list.is_instance_of::<PyList>() {
        return Ok(list.cast_into::<PyList>()?);
    }
    match list.cast::<PyTuple>() {
        Ok(tuple) => Ok(tuple.to_list()),
        Err(_) => Err(wrong_type(field, &format!("a list, tuple or array of {what}"), given)),
    }
}

fn wrong_dtype(py: Python<'_>, field: &str, message: &str) -> PyErr {
    raise(py, Class::InvalidInput, "guard.wrong_dtype", message, |details| {
        details.set_item("field", field)
    })
}

/// The array itself, or one over the same memory: through DLPack, `__array_interface__`, `__array__` or the buffer protocol.
fn array_of<'py>(logits: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = logits.py();
    if logits.is_instance_of::<PyUntypedArray>() {
        if !logits.is_exact_instance_of::<PyUntypedArray>() && logits.hasattr("mask")? {
            let wanted = "an array without a mask beside it, such as .filled(-inf)";
            return Err(wrong_type("logits", wanted, logits));
        }
        return Ok(logits.clone());
    }
    let wanted = "an array: of NumPy, or what gives one through DLPack or the buffer protocol";
    if logits.is_instance_of::<PyList>() || logits.is_instance_of::<PyTuple>() || logits.is_instance_of::<PyString>() {
        return Err(wrong_type("logits", wanted, logits));
    }
    let numpy = PyModule::import(py, "numpy")?;
    let through = if logits.hasattr("__dlpack__")? {
        "from_dlpack"
    } else {
        "asarray"
    };
    let array = numpy.call_method1(through, (logits,)).map_err(|error| {
        if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
            return error;
        }
        let message = format!("logits cannot be read in place: {}", error.value(py));
        let raised = wrong_dtype(py, "logits", &message);
        raised.set_cause(py, Some(error));
        raised
    })?;
    // What is no array at all becomes one without a dimension.
    let dimensions = array.getattr("ndim")?.extract::<usize>()?;
    if dimensions == 0 {
        return Err(wrong_type("logits", wanted, logits));
    }
    Ok(array)
}

/// What the logits are kept as.
enum Number {
    F32,
    F16,
    Bf16,
}

fn number_of(array: &Bound<'_, PyAny>, as_bfloat16: bool) -> PyResult<Number> {
    let py = array.py();
    let dtype = array.cast::<PyUntypedArray>()?.dtype();
    let native = dtype.is_native_byteorder() != Some(false);
    match dtype.char() {
        b'f' if native && !as_bfloat16 => return Ok(Number::F32),
        b'e' if native && !as_bfloat16 => return Ok(Number::F16),
        b'H' if native && as_bfloat16 => return Ok(Number::Bf16),
        _ => {}
    }
    let name = dtype.getattr("name")?.to_string();
    if name == "bfloat16" && native {
        return Ok(Number::Bf16);
    }
    let name = if native {
        name
    } else {
        format!("{name} of the other byte order")
    };
    let message = if as_bfloat16 {
        format!("logits must be an array of uint16 with dtype=\"bfloat16\", not of {name}")
    } else {
        format!("logits must be an array of float32, float16 or bfloat16, not of {name}")
    };
    Err(wrong_dtype(py, "logits", &message))
}

/// Logits that do not lie side by side.
struct Strided<'a, T, F> {
    all: ArrayView1<'a, T>,
    widen: F,
}

impl<T: Copy, F: Fn(T) -> f32> Logits for Strided<'_, T, F> {
    fn count(&self) -> usize {
        self.all.len()
    }
    #[inline(always)]
    fn read(&self, first: usize, block: &mut [f32]) {
        let end = first.saturating_add(block.len()).min(self.all.len());
        let from = self.all.slice_axis(Axis(0), Slice::from(first.min(end)..end));
        if let Some(block) = block.get_mut(..from.len()) {
            ArrayViewMut1::from(block).zip_mut_with(&from, |to, logit| *to = (self.widen)(*logit));
        }
    }
}

/// The statistics of one row or of all rows. `whole` is for those that lie side by side.
fn measured<'py, T: Element + Copy + Sync>(
    array: &Bound<'py, PyAny>,
    selected: &Bound<'py, PyAny>,
    whole: impl Fn(&[T], usize) -> Result<Stats, Error> + Copy + Send + Sync,
    widen: impl Fn(T) -> f32 + Copy + Send + Sync,
) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    // Numbers that do not begin where the machine wants them are copied to where they do.
    let array = &match array.cast::<PyUntypedArray>()?.is_aligned() {
        true => array.clone(),
        false => array.call_method0("copy")?,
    };
    let of_row = move |row: ArrayView1<'_, T>, selected: usize| match row.to_slice() {
        Some(row) => whole(row, selected),
        None => Stats::of(&Strided { all: row, widen }, selected),
    };
    if let Ok(array) = array.cast::<PyArray<T, Ix1>>() {
        let selected = place(integer("selected", selected)?);
        let row = array.try_readonly().map_err(|error| unreadable(py, &error))?;
        let row = row.as_array();
        let stats = if row.len() < WORTH_THE_LOCK {
            of_row(row, selected)
        } else {
            py.detach(|| of_row(row, selected))
        };
        let stats = stats.map_err(|error| errors::logits(py, &error, None))?;
        return Ok(Bound::new(py, LogitStats::from(stats))?.into_any());
    }
    let Ok(array) = array.cast::<PyArray<T, Ix2>>() else {
        let dimensions = array.getattr("ndim")?.extract::<usize>()?;
        let message = format!("logits must have one dimension or two, not {dimensions}");
        return Err(wrong_dtype(py, "logits", &message));
    };
    let selected: Vec<usize> = items("selected", "one index for each row", selected)?
        .iter()
        .map(|token| integer("selected", &token).map(place))
        .collect::<PyResult<_>>()?;
    let rows = array.try_readonly().map_err(|error| unreadable(py, &error))?;
    let rows = rows.as_array();
    if rows.nrows() != selected.len() {
        let message = format!("selected has {} indices for {} rows", selected.len(), rows.nrows());
        return Err(raise(py, Class::InvalidInput, "guard.row_count", &message, |details| {
            details.set_item("field", "selected")
        }));
    }
    let of_rows = move |rows: ArrayView2<'_, T>, selected: &[usize]| -> Result<Vec<LogitStats>, (usize, Error)> {
        let rows = rows.axis_iter(Axis(0)).zip(selected).enumerate();
        rows.map(|(number, (row, selected))| {
            of_row(row, *selected)
                .map(LogitStats::from)
                .map_err(|error| (number, error))
        })
        .collect()
    };
    let stats = if rows.len() < WORTH_THE_LOCK {
        of_rows(rows, &selected)
    } else {
        py.detach(|| of_rows(rows, &selected))
    };
    let stats = stats.map_err(|(row, error)| errors::logits(py, &error, Some(row)))?;
    Ok(PyList::new(py, stats)?.into_any())
}

fn unreadable(py: Python<'_>, error: &dyn core::fmt::Display) -> PyErr {
    wrong_dtype(py, "logits", &format!("logits cannot be read in place: {error}"))
}
