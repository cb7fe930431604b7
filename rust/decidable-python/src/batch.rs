//! Batches over NumPy arrays: rows in, rows out, no object a row.

use std::thread::available_parallelism;

use decidable_kernel::Vectors;
use decidable_kernel::batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, Plan, Quotes, REQUEST_ROW_BYTES, Rows};
use numpy::{PyArray1, PyArrayMethods as _};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::errors::{self, Class, raise};
use crate::values::{optional, optional_text, wrong_type};

/// Rows that are copied, decided and written at a time by each thread: what comes in and goes out stays in a core's cache,
/// and beside the arrays of the caller a batch takes no more memory.
const ROWS_AT_A_TIME: usize = 4_096;

/// With several threads each takes so many times as much, because starting a thread costs as much as deciding some hundred rows.
const MORE_WITH_THREADS: usize = 8;

/// Below so many rows a second thread costs more than it brings.
const ROWS_WORTH_A_THREAD: usize = 8_192;

const QUOTE_BYTES: usize = 8 + 4 + 8;
const DIGEST_BYTES: usize = 32;

/// What a caller asks for beside the decisions.
pub(crate) struct Asked<'a, 'py> {
    pub(crate) threads: Option<&'a Bound<'py, PyAny>>,
    pub(crate) vectors: Option<&'a Bound<'py, PyAny>>,
    pub(crate) quotes: Option<&'a Bound<'py, PyAny>>,
    pub(crate) out: Option<&'a Bound<'py, PyAny>>,
    pub(crate) counts: Option<&'a Bound<'py, PyAny>>,
    pub(crate) gates: Option<&'a Bound<'py, PyAny>>,
}

impl Asked<'_, '_> {
    /// How so many rows are to be decided.
    pub(crate) fn plan(&self, py: Python<'_>) -> PyResult<impl Fn(usize) -> Plan + use<>> {
        let threads = threads_of(py, self.threads)?;
        let vectors = vectors_of(py, self.vectors)?;
        Ok(move |rows: usize| Plan {
            threads: threads.unwrap_or_else(|| cores().min(rows / ROWS_WORTH_A_THREAD).max(1)),
            vectors,
        })
    }
}

/// Decides an array of `REQUEST_DTYPE`.
pub(crate) fn decide<'py>(
    policy: &decidable_kernel::Policy,
    requests: &Bound<'py, PyAny>,
    asked: &Asked<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = requests.py();
    let plan_for = asked.plan(py)?;
    let arrays = Arrays::of(py)?;
    let input = arrays.bytes_in("requests", requests, &arrays.request, "REQUEST_DTYPE")?;
    let count = requests.len()?;
    let candidates = policy.candidates().len();
    let mut quotes = match asked.quotes {
        None => Vec::new(),
        Some(quotes) => arrays.quotes(quotes, count)?,
    };
    quotes.sort_unstable();
    let decisions = match asked.out {
        None => arrays.numpy.call_method1("empty", (count, &arrays.decision))?,
        Some(out) => {
            arrays.expect_out("out", out, &arrays.decision, "DECISION_DTYPE", &[count])?;
            out.clone()
        }
    };
    if let Some(counts) = asked.counts {
        arrays.expect_out("counts", counts, &arrays.rejection, "REJECTION_DTYPE", &[count])?;
    }
    if let Some(gates) = asked.gates {
        arrays.expect_out("gates", gates, &arrays.byte, "uint8", &[count, candidates])?;
    }
    let threads = plan_for(count).threads.max(1);
    let at_a_time = match threads {
        1 => ROWS_AT_A_TIME,
        _ => ROWS_AT_A_TIME.saturating_mul(MORE_WITH_THREADS).saturating_mul(threads),
    };
    let mut pieces = Pieces {
        input,
        copy: Vec::new(),
        at_a_time,
        count,
    };
    // What is refused leaves room of the caller's as it is.
    if asked.out.is_some() || asked.counts.is_some() || asked.gates.is_some() {
        for first in (0..count).step_by(at_a_time) {
            let copy = pieces.copied(py, first)?;
            py.detach(|| {
                Rows::new(copy)?;
                quotes_of(&quotes, first, copy.len() / REQUEST_ROW_BYTES).map(drop)
            })
            .map_err(|error| batch_error(py, &error, first))?;
        }
    }
    let mut decided = Room::of(Some(&decisions), DECISION_ROW_BYTES)?;
    let mut counts = Room::of(asked.counts, COUNTS_ROW_BYTES)?;
    let mut gates = Room::of(asked.gates, candidates)?;
    for first in (0..count).step_by(at_a_time) {
        let copy = pieces.copied(py, first)?;
        let rows_here = copy.len() / REQUEST_ROW_BYTES;
        let here = quotes_of(&quotes, first, rows_here).map_err(|error| batch_error(py, &error, first))?;
        let plan = plan_for(rows_here);
        let (decided, counts, gates) = (
            decided.piece(first, rows_here),
            counts.piece(first, rows_here),
            gates.piece(first, rows_here),
        );
        py.detach(|| -> Result<(), decidable_kernel::Error> {
            let rows = Rows::new(copy)?;
            let Some(decided) = decided else { return Ok(()) };
            batch::decide_rows(policy, rows, &here, decided, plan)?;
            if let Some(counts) = counts {
                batch::count(policy, rows, &here, decided, counts, plan)?;
            }
            if let Some(gates) = gates {
                batch::gates(policy, rows, &here, gates, plan)?;
            }
            Ok(())
        })
        .map_err(|error| batch_error(py, &error, first))?;
    }
    drop((decided, counts, gates));
    Ok(decisions)
}

/// The digests of an array of `REQUEST_DTYPE` or `DECISION_DTYPE`, an array of 32 bytes each.
///
/// A request's is that of `Request.digest` without quotes, a decision's that of `Decision.digest`. The interpreter lock is free
/// while they are computed, as in `Policy.decide_batch`.
#[pyfunction]
#[pyo3(signature = (rows, *, threads=None))]
pub(crate) fn digest_batch<'py>(
    rows: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = rows.py();
    let threads = threads_of(py, threads)?;
    let arrays = Arrays::of(py)?;
    let of_decisions = rows
        .getattr_opt("dtype")?
        .is_some_and(|dtype| dtype.eq(&arrays.decision).unwrap_or(false));
    let (dtype, name, row_bytes) = if of_decisions {
        (&arrays.decision, "DECISION_DTYPE", DECISION_ROW_BYTES)
    } else {
        (&arrays.request, "REQUEST_DTYPE or DECISION_DTYPE", REQUEST_ROW_BYTES)
    };
    let input = arrays.bytes_in("rows", rows, dtype, name)?;
    let count = rows.len()?;
    let digests = arrays
        .numpy
        .call_method1("empty", ((count, DIGEST_BYTES), &arrays.byte))?;
    let plan = Plan::threads(threads.unwrap_or_else(|| cores().min(count / ROWS_WORTH_A_THREAD).max(1)));
    let copy = {
        let input = input.readonly();
        input.as_slice().map_err(|error| not_contiguous(py, &error))?.to_vec()
    };
    let mut room = Room::of(Some(&digests), DIGEST_BYTES)?;
    if let Some(out) = room.piece(0, count) {
        py.detach(|| match row_bytes {
            REQUEST_ROW_BYTES => batch::digest_requests(Rows::new(&copy)?, out, plan),
            _ => batch::digest_decisions(&copy, out, plan),
        })
        .map_err(|error| batch_error(py, &error, 0))?;
    }
    drop(room);
    Ok(digests)
}

/// The instructions that this machine has for batches, the narrowest first.
#[pyfunction]
pub(crate) fn vectors(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, Vectors::available().map(Vectors::label).collect::<Vec<_>>())
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn threads_of(py: Python<'_>, threads: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    match optional::<u16>("threads", threads)? {
        Some(0) => Err(raise(
            py,
            Class::InvalidInput,
            "batch.no_thread",
            "threads must be at least 1",
            |details| {
                details.set_item("field", "threads")?;
                details.set_item("value", 0)
            },
        )),
        threads => Ok(threads.map(usize::from)),
    }
}

fn vectors_of(py: Python<'_>, vectors: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vectors>> {
    let Some(label) = optional_text("vectors", vectors)? else {
        return Ok(None);
    };
    let found = Vectors::available().find(|vectors| vectors.label() == label);
    found.map(Some).ok_or_else(|| {
        let has: Vec<_> = Vectors::available().map(Vectors::label).collect();
        let message = format!("this machine has no vectors {label:?}; it has {}", has.join(", "));
        raise(py, Class::InvalidInput, "batch.no_vectors", &message, |details| {
            details.set_item("field", "vectors")?;
            details.set_item("value", &label)
        })
    })
}

/// The quotes of a piece of rows, of all in ascending order.
fn quotes_of(all: &[(u64, u32, u64)], first: usize, rows: usize) -> Result<Quotes, decidable_kernel::Error> {
    if all.is_empty() {
        return Ok(Quotes::default());
    }
    let number = |row: usize| u64::try_from(row).unwrap_or(u64::MAX);
    let (first, end) = (number(first), number(first.saturating_add(rows)));
    let start = all.partition_point(|(row, ..)| *row < first);
    let here = all.get(start..).unwrap_or_default();
    let here = here.iter().take_while(|(row, ..)| *row < end);
    Quotes::new(
        here.map(|(row, model, cost)| (row.saturating_sub(first), *model, *cost)),
        rows,
    )
}

/// An error of a batch, with its row counted from the first of all.
pub(crate) fn batch_error(py: Python<'_>, error: &decidable_kernel::Error, first: usize) -> PyErr {
    let row = error.row().map(|row| row.saturating_add(first));
    let message = match (row, error.kind(), error.field(), error.value()) {
        (Some(row), decidable_kernel::ErrorKind::OutOfRange, Some(field), Some(value)) => {
            format!("row {row}: {field} is {value}, above 10,000")
        }
        (Some(row), ..) => format!("row {row}: {error}"),
        _ => error.to_string(),
    };
    raise(py, Class::InvalidInput, error.code(), &message, |details| {
        details.set_item("row", row)?;
        details.set_item("field", error.field())?;
        details.set_item("value", error.value())
    })
}

fn not_contiguous(py: Python<'_>, error: &dyn core::fmt::Display) -> PyErr {
    errors::plain(
        py,
        Class::InvalidInput,
        "batch.not_contiguous",
        &format!("the array cannot be used in place: {error}"),
    )
}

/// An array's bytes, in place.
fn as_bytes<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let flat = array.call_method1("reshape", (-1,))?;
    Ok(flat.call_method1("view", ("u1",))?.cast_into::<PyArray1<u8>>()?)
}

/// Rows that come in, and a copy of some of them.
struct Pieces<'py> {
    input: Bound<'py, PyArray1<u8>>,
    copy: Vec<u8>,
    at_a_time: usize,
    count: usize,
}

impl Pieces<'_> {
    /// A copy of the rows from `first` on, made while the interpreter lock is held.
    fn copied(&mut self, py: Python<'_>, first: usize) -> PyResult<&[u8]> {
        let rows = self.at_a_time.min(self.count.saturating_sub(first));
        let start = first.saturating_mul(REQUEST_ROW_BYTES);
        let end = start.saturating_add(rows.saturating_mul(REQUEST_ROW_BYTES));
        let input = self.input.readonly();
        let input = input.as_slice().map_err(|error| not_contiguous(py, &error))?;
        self.copy.clear();
        self.copy.extend_from_slice(input.get(start..end).unwrap_or_default());
        Ok(&self.copy)
    }
}

/// Room of an array that is written in place, or none.
struct Room<'py> {
    bytes: Option<numpy::PyReadwriteArray1<'py, u8>>,
    row_bytes: usize,
}

impl<'py> Room<'py> {
    fn of(array: Option<&Bound<'py, PyAny>>, row_bytes: usize) -> PyResult<Self> {
        let bytes = match array {
            None => None,
            Some(array) => {
                let py = array.py();
                let bytes = as_bytes(array)?;
                Some(bytes.try_readwrite().map_err(|error| not_contiguous(py, &error))?)
            }
        };
        Ok(Self { bytes, row_bytes })
    }

    /// The room of some rows.
    fn piece(&mut self, first: usize, rows: usize) -> Option<&mut [u8]> {
        let start = first.saturating_mul(self.row_bytes);
        let end = start.saturating_add(rows.saturating_mul(self.row_bytes));
        self.bytes.as_mut()?.as_slice_mut().ok()?.get_mut(start..end)
    }
}

/// NumPy and the record types, looked up once.
struct Arrays<'py> {
    numpy: Bound<'py, PyAny>,
    request: Bound<'py, PyAny>,
    decision: Bound<'py, PyAny>,
    rejection: Bound<'py, PyAny>,
    quote: Bound<'py, PyAny>,
    byte: Bound<'py, PyAny>,
}

static ARRAYS: PyOnceLock<[Py<PyAny>; 6]> = PyOnceLock::new();

impl<'py> Arrays<'py> {
    fn of(py: Python<'py>) -> PyResult<Self> {
        let found = ARRAYS.get_or_try_init(py, || -> PyResult<_> {
            let arrays = PyModule::import(py, "decidable.arrays")?;
            let numpy = PyModule::import(py, "numpy")?;
            Ok([
                numpy.clone().into_any().unbind(),
                arrays.getattr("REQUEST_DTYPE")?.unbind(),
                arrays.getattr("DECISION_DTYPE")?.unbind(),
                arrays.getattr("REJECTION_DTYPE")?.unbind(),
                arrays.getattr("QUOTE_DTYPE")?.unbind(),
                numpy.call_method1("dtype", ("u1",))?.unbind(),
            ])
        })?;
        let [numpy, request, decision, rejection, quote, byte] = found.each_ref().map(|object| object.bind(py).clone());
        Ok(Self {
            numpy,
            request,
            decision,
            rejection,
            quote,
            byte,
        })
    }

    /// The bytes of an array that comes in: in place if it is contiguous, else of a contiguous copy.
    fn bytes_in(
        &self,
        field: &str,
        array: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
        name: &str,
    ) -> PyResult<Bound<'py, PyArray1<u8>>> {
        self.expect(field, array, dtype, name, None)?;
        as_bytes(&self.numpy.call_method1("ascontiguousarray", (array,))?)
    }

    /// Refuses an array that is not of a type and shape; without a shape it must have one dimension.
    fn expect(
        &self,
        field: &str,
        array: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
        name: &str,
        shape: Option<&[usize]>,
    ) -> PyResult<()> {
        let py = array.py();
        if !array.is_instance(&self.numpy.getattr("ndarray")?)? {
            return Err(wrong_type(field, &format!("a NumPy array of {name}"), array));
        }
        let has = array.getattr("dtype")?;
        let found: Vec<usize> = array.getattr("shape")?.extract()?;
        if has.eq(dtype)? && shape.map_or(found.len() == 1, |shape| found == shape) {
            return Ok(());
        }
        let has = has.to_string();
        let shown = has.get(..60).map_or_else(|| has.clone(), |start| format!("{start}…"));
        let message = match shape {
            None => format!(
                "{field} must be a 1-dimensional array of {name}, not {}-dimensional of {shown}",
                found.len()
            ),
            Some(shape) => {
                format!("{field} must be an array of {name} of shape {shape:?}, not of {shown} of shape {found:?}")
            }
        };
        Err(raise(
            py,
            Class::InvalidInput,
            "batch.wrong_dtype",
            &message,
            |details| details.set_item("field", field),
        ))
    }

    /// Refuses an array that cannot be written in place, too.
    fn expect_out(
        &self,
        field: &str,
        array: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
        name: &str,
        shape: &[usize],
    ) -> PyResult<()> {
        self.expect(field, array, dtype, name, Some(shape))?;
        let flags = array.getattr("flags")?;
        for flag in ["c_contiguous", "writeable"] {
            if !flags.getattr(flag)?.is_truthy()? {
                return Err(not_contiguous(array.py(), &format_args!("{field} is not {flag}")));
            }
        }
        Ok(())
    }

    /// Quotes as they are given, in any order.
    fn quotes(&self, quotes: &Bound<'py, PyAny>, rows: usize) -> PyResult<Vec<(u64, u32, u64)>> {
        let py = quotes.py();
        let bytes = self.bytes_in("quotes", quotes, &self.quote, "QUOTE_DTYPE")?;
        let bytes = bytes.readonly();
        let bytes = bytes.as_slice().map_err(|error| not_contiguous(py, &error))?;
        let all: Vec<_> = bytes.as_chunks::<QUOTE_BYTES>().0.iter().map(quote).collect();
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        match all.iter().find(|(row, ..)| *row >= rows) {
            None => Ok(all),
            Some((row, ..)) => {
                let message = format!("quotes: row is {row}, and there are {rows} requests");
                Err(raise(
                    py,
                    Class::InvalidInput,
                    "batch.no_such_row",
                    &message,
                    |details| {
                        details.set_item("field", "row")?;
                        details.set_item("value", row)
                    },
                ))
            }
        }
    }
}

fn quote(bytes: &[u8; QUOTE_BYTES]) -> (u64, u32, u64) {
    let [r0, r1, r2, r3, r4, r5, r6, r7, m0, m1, m2, m3, cost @ ..] = *bytes;
    (
        u64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
        u32::from_le_bytes([m0, m1, m2, m3]),
        u64::from_le_bytes(cost),
    )
}
