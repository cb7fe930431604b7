//! Batches as tables, through the Arrow PyCapsule interface: columns to rows of requests, rows of decisions to columns.
//!
//! No library of tables is imported or known here; whatever has the methods of that interface is a table.

use std::collections::TryReserveError;
use std::iter;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, GenericListArray, OffsetSizeTrait, PrimitiveArray};
use arrow_schema::{ArrowError, DataType, FieldRef};
use decidable_canon::Canonical as _;
use decidable_kernel::batch::{Quotes, REQUEST_ROW_BYTES};
use decidable_kernel::{Policy, RequestFields};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyCapsule, PyDict, PyType};
use pyo3_arrow::ffi::{ArrayIterator, ArrayReader};
use pyo3_arrow::{PyArray, PyArrayReader};

use crate::batch::{Asked, WORK_OF_A_ROW, most_at_a_time, no_room, rows_of};
use crate::errors::{Class, raise};
use crate::values::{Integer, short};

mod decisions;
mod quietly;

pub(crate) use decisions::Decisions;
use decisions::{Answers, Beside};

/// Rows that are copied, decided and kept at a time, whatever the chunks of the table are; of a large catalog fewer, as of an array.
const CHUNK_ROWS: usize = 65_536;

/// The integer type of a request's field.
#[derive(Clone, Copy)]
enum Width {
    U16,
    U32,
    U64,
    I64,
}

impl Width {
    const fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
            Self::U64 | Self::I64 => 8,
        }
    }
    const fn range(self) -> &'static str {
        match self {
            Self::U16 => u16::RANGE,
            Self::U32 => u32::RANGE,
            Self::U64 => u64::RANGE,
            Self::I64 => i64::RANGE,
        }
    }
}

/// What may be left out of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// A value, as a null, or the column: the field may be absent.
    Value,
    /// The column: then every row has the default.
    Column,
    /// Nothing: a request has it.
    Refused,
}

/// The fields of a request's row, in their order.
const FIELDS: [(&str, Width, Absence); 13] = [
    ("request_sequence", Width::U64, Absence::Column),
    ("requested_model_id", Width::U32, Absence::Value),
    ("input_tokens", Width::U32, Absence::Refused),
    ("output_tokens", Width::U32, Absence::Refused),
    ("business_value_microunits", Width::I64, Absence::Column),
    ("budget_limit_microunits", Width::U64, Absence::Value),
    ("risk_bps", Width::U16, Absence::Column),
    ("confidence_bps", Width::U16, Absence::Column),
    ("minimum_quality_bps", Width::U16, Absence::Column),
    ("max_p95_latency_ms", Width::U32, Absence::Value),
    ("required_capabilities", Width::U64, Absence::Column),
    ("allowed_provider_mask", Width::U64, Absence::Value),
    ("required_region_mask", Width::U64, Absence::Value),
];

/// The column of largest uses; a null is the expected one.
const MOST: &str = "max_output_tokens";

/// Where the expected use stands in a row.
const OUTPUT_TOKENS: usize = 8 + 4 + 4;

/// The column of quotes, and the parts of a quote.
const QUOTES: &str = "quotes";
const MODEL_ID: &str = "model_id";
const COST: &str = "cost_microunits";

/// Decides `requests`, if they are a table.
pub(crate) fn decide<'py>(
    policy: &Policy,
    requests: &Bound<'py, PyAny>,
    asked: &Asked<'_, 'py>,
) -> PyResult<Option<Bound<'py, Decisions>>> {
    let py = requests.py();
    let Some(export) = Export::of(requests)? else {
        return Ok(None);
    };
    let candidates = policy.candidates().len();
    let plan = asked.plan(py, candidates)?;
    for (name, given) in [
        (QUOTES, asked.quotes),
        (MOST, asked.max_output_tokens),
        ("out", asked.out),
    ] {
        if given.is_some() {
            return Err(only_for_arrays(py, name, "the rows of an array"));
        }
    }
    let beside = Beside {
        counts: wanted("counts", asked.counts)?,
        gates: wanted("gates", asked.gates)?.then_some(candidates),
        holds: wanted("holds", asked.holds)?,
    };
    let mut reader = export.read(requests)?;
    let table = reader.field();
    let columns = Columns::of(py, &table)?;
    let mut absent = Vec::with_capacity(REQUEST_ROW_BYTES);
    RequestFields::default().encode(&mut absent);
    let mut first: usize = 0;
    let most_rows = |rows| most_at_a_time(plan(rows).threads, candidates.saturating_add(WORK_OF_A_ROW));
    let mut answers = Answers::of(beside, CHUNK_ROWS.min(most_rows(CHUNK_ROWS)));
    while let Some(table) = next(py, &mut reader, &table)? {
        let Some(table) = table.as_struct_opt() else {
            return Err(unreadable(py, "a chunk is no table"));
        };
        if let Some(row) = (table.null_count() > 0).then(|| first_null(table)).flatten() {
            return Err(null(py, "requests", first.saturating_add(row)));
        }
        let mut start: usize = 0;
        while start < table.len() {
            let rest = table.len().saturating_sub(start).min(CHUNK_ROWS);
            let count = rest.min(most_rows(rest));
            let part = |index: usize| -> PyResult<ArrayRef> {
                let array = table.columns().get(index);
                let array = array.ok_or_else(|| unreadable(py, "a chunk lacks a column"))?;
                Ok(array.slice(start, count))
            };
            // The interpreter lock is held here: an array that the table was made of may be written to by others.
            let mut rows = Vec::new();
            rows.try_reserve_exact(absent.len().saturating_mul(count))
                .map_err(no_room)?;
            (0..count).for_each(|_| rows.extend_from_slice(&absent));
            for column in &columns.fields {
                let array = part(column.index)?;
                column
                    .copy(&array, rows.as_chunks_mut::<REQUEST_ROW_BYTES>().0)
                    .map_err(|fault| fault.raise(py, column, array.data_type(), first))?;
            }
            let tokens = match &columns.most {
                None => None,
                Some(column) => {
                    let array = part(column.index)?;
                    let mut tokens = expected(&rows).map_err(no_room)?;
                    column
                        .copy(&array, &mut tokens)
                        .map_err(|fault| fault.raise(py, column, array.data_type(), first))?;
                    let mut numbers = Vec::new();
                    numbers.try_reserve_exact(tokens.len()).map_err(no_room)?;
                    numbers.extend(tokens.into_iter().map(u32::from_le_bytes));
                    Some(numbers)
                }
            };
            let mut quotes = match columns.quotes {
                None => Vec::new(),
                Some(index) => quotes_in(&part(index)?).map_err(|fault| fault.raise(py, first))?,
            };
            let plan = plan(count);
            answers.room(count)?.fill(py, policy, first, plan, || {
                quotes.sort_unstable();
                Ok((rows_of(&rows, tokens.as_deref(), plan)?, Quotes::new(quotes, count)?))
            })?;
            start = start.saturating_add(count);
            first = first.saturating_add(count);
            py.check_signals()?;
        }
        py.check_signals()?;
    }
    Bound::new(py, answers.end()?).map(Some)
}

/// Whether a caller wants a column beside the decisions. Room for it would have to be as long as the table, which a stream does not
/// tell.
fn wanted(name: &str, given: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let Some(given) = given else { return Ok(false) };
    given.cast::<PyBool>().map(|given| given.is_true()).map_err(|_| {
        only_for_arrays(
            given.py(),
            name,
            "True or False, as room goes with the rows of an array",
        )
    })
}

fn only_for_arrays(py: Python<'_>, name: &str, with: &str) -> PyErr {
    let message = format!("{name} goes with {with}, and requests is a table");
    refused(py, "batch.only_for_arrays", &message, |details| {
        details.set_item("field", name)
    })
}

/// The expected uses of rows.
fn expected(rows: &[u8]) -> Result<Vec<[u8; 4]>, TryReserveError> {
    let (rows, _) = rows.as_chunks::<REQUEST_ROW_BYTES>();
    let mut expected = Vec::new();
    expected.try_reserve_exact(rows.len())?;
    let tokens = rows.iter().map(|row| row.get(OUTPUT_TOKENS..)?.first_chunk().copied());
    expected.extend(tokens.map(Option::unwrap_or_default));
    Ok(expected)
}

/// The method by which a table is handed over.
enum Export<'py> {
    Stream(Bound<'py, PyAny>),
    Array(Bound<'py, PyAny>),
}

impl<'py> Export<'py> {
    /// That of `requests`, if it has one. A class has it and nothing to hand over.
    fn of(requests: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        if requests.is_instance_of::<PyType>() {
            return Ok(None);
        }
        if let Some(stream) = requests.getattr_opt("__arrow_c_stream__")? {
            return Ok(Some(Self::Stream(stream)));
        }
        Ok(requests.getattr_opt("__arrow_c_array__")?.map(Self::Array))
    }

    /// What reads the chunks of `requests`.
    fn read(self, requests: &Bound<'py, PyAny>) -> PyResult<Box<dyn ArrayReader + Send>> {
        match self {
            Self::Stream(export) => {
                let py = export.py();
                let readable = |error: PyErr| unreadable_for(py, &error);
                let capsule = export.call0()?;
                let capsule = capsule.cast::<PyCapsule>().map_err(|error| readable(error.into()))?;
                read_stream(capsule).map_err(|error| of_one_column(requests, &error).unwrap_or_else(|| readable(error)))
            }
            Self::Array(export) => {
                let py = export.py();
                let readable = |error: PyErr| unreadable_for(py, &error);
                let exported = export.call0()?;
                let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) =
                    exported.extract().map_err(readable)?;
                let array = quietly::run(|| PyArray::from_arrow_pycapsule(&schema, &array));
                let array = array.map_err(|why| unreadable(py, &why))?.map_err(readable)?;
                let (array, field) = array.into_inner();
                Ok(Box::new(ArrayIterator::new([Ok(array)], field)))
            }
        }
    }
}

fn read_stream(capsule: &Bound<'_, PyCapsule>) -> PyResult<Box<dyn ArrayReader + Send>> {
    quietly::run(|| PyArrayReader::from_arrow_pycapsule(capsule)?.into_reader())
        .unwrap_or_else(|why| Err(unreadable(capsule.py(), &why)))
}

/// Of a table that is not understood, the field whose column is not: the error of the whole does not name it. A column is asked for
/// as pyarrow, polars and pandas have it, and alone.
fn of_one_column(table: &Bound<'_, PyAny>, error: &PyErr) -> Option<PyErr> {
    let py = table.py();
    let why = |error: &PyErr| error.value(py).str().map(|why| why.to_string()).ok();
    let whole = why(error).filter(|why| why.contains(NO_SUCH_TYPE))?;
    let alone = |name: &str| -> PyResult<Option<PyErr>> {
        let column = table.get_item(name)?.call_method0("__arrow_c_stream__")?;
        Ok(read_stream(column.cast::<PyCapsule>()?).err())
    };
    let mut names = FIELDS.iter().map(|(name, ..)| *name).chain([MOST, QUOTES]);
    names.find_map(|name| match alone(name) {
        Ok(Some(error)) if why(&error).as_ref() == Some(&whole) => {
            let kind = short(whole.split('"').find(|part| part.starts_with('_'))?, 60);
            let message = format!("{name} must be a column of integers of 8 to 64 bits, not of {kind}");
            Some(column_type(py, name, &message, kind))
        }
        // An interrupt is no error of the table.
        Err(error) if !error.is_instance_of::<PyException>(py) => Some(error),
        _ => None,
    })
}

/// What the crate says of a type that it does not know.
const NO_SUCH_TYPE: &str = "is still not supported in Rust implementation";

/// What the crate says of nulls alone that are handed over with a buffer, as polars does.
const NULLS_WITH_A_BUFFER: &str = "The datatype \"Null\" doesn't expect buffer";

/// The next chunk of a stream. The one who makes it may need the interpreter, so it is let go of.
fn next(py: Python<'_>, reader: &mut Box<dyn ArrayReader + Send>, table: &FieldRef) -> PyResult<Option<ArrayRef>> {
    let found = py.detach(|| quietly::run(|| reader.next()));
    let error = match found.unwrap_or_else(|why| Some(Err(ArrowError::CDataInterface(why)))) {
        None => return Ok(None),
        Some(Ok(chunk)) => return Ok(Some(chunk)),
        Some(Err(error)) => error.to_string(),
    };
    py.check_signals()?;
    if let Some(raised) = Raised::of(&error) {
        let (kind, why) = raised.line.split_once(": ").unwrap_or((raised.line, ""));
        return Err(match kind {
            "KeyboardInterrupt" if raised.certain => PyKeyboardInterrupt::new_err(why.to_owned()),
            "MemoryError" if raised.certain => PyMemoryError::new_err(why.to_owned()),
            _ => unreadable(py, raised.line),
        });
    }
    if error.contains(NULLS_WITH_A_BUFFER)
        && let Some((name, place)) = nulls_in(table)
    {
        let cast = if place == QUOTES {
            ""
        } else {
            " (in polars, .cast(pl.UInt32))"
        };
        let message = format!(
            "{place} is a column of nothing but nulls, handed over with a buffer that such a column does not have: leave \
             it out, or give it a type{cast}"
        );
        return Err(column_type(py, &name, &message, shown(&DataType::Null)));
    }
    Err(unreadable(py, &error))
}

/// The first column of nothing but nulls, and where it is, of which it may be a part.
fn nulls_in(table: &FieldRef) -> Option<(String, String)> {
    fn place_in(field: &FieldRef) -> Option<String> {
        let name = field.name();
        match field.data_type() {
            DataType::Null => Some(name.clone()),
            // The name of what a list holds says nothing.
            DataType::List(item) | DataType::LargeList(item) => match item.data_type() {
                DataType::Null => Some(name.clone()),
                DataType::Struct(parts) => Some(format!("{name}.{}", parts.iter().find_map(place_in)?)),
                _ => None,
            },
            DataType::Struct(parts) => Some(format!("{name}.{}", parts.iter().find_map(place_in)?)),
            _ => None,
        }
    }
    let DataType::Struct(columns) = table.data_type() else {
        return None;
    };
    columns
        .iter()
        .find_map(|column| Some((column.name().clone(), place_in(column)?)))
}

/// What the Python code raised that a reader of pyarrow reads from: the line that names it.
struct Raised<'a> {
    line: &'a str,
    /// Whether it names the error and nothing that a message or a note tells of, so that its kind can be raised again.
    certain: bool,
}

impl<'a> Raised<'a> {
    /// From the text of the error: a status, its message, and a traceback that ends with the same message behind the kind. Messages,
    /// also of what was raised before, may have any lines, those of other tracebacks among them, so that the first line counts that
    /// fits the status.
    fn of(error: &'a str) -> Option<Self> {
        const DETAIL: &str = ". Detail: Python exception: ";
        let (status, traceback) = error.split_once(DETAIL)?;
        let traceback = traceback.trim_end();
        // Behind frames, or without any: what C raised has none.
        let later = traceback.match_indices('\n').filter_map(|(end, _)| {
            let (before, line) = (traceback.get(..end)?, traceback.get(end.saturating_add(1)..)?);
            let last = before.lines().next_back()?;
            (last.starts_with(' ') && !line.starts_with(' ') || LINKS.contains(&last)).then_some(line)
        });
        let mut starts = iter::once(traceback).chain(later);
        let own = |from: &&str| {
            let (kind, why) = from.split_once(": ").unwrap_or((from, ""));
            let of_status = status.trim_end().strip_suffix(why).map(str::trim_end);
            !kind.contains(char::is_whitespace) && of_status.is_some_and(|status| status.ends_with(':'))
        };
        let first_line = |text: &'a str| text.lines().next();
        if let Some(line) = starts.find(own).and_then(first_line) {
            let certain = !traceback.contains(DETAIL) && is_of_lines(traceback);
            return Some(Self { line, certain });
        }
        // With notes, and where a kind has its message in another form, the first that is told of.
        let mut lines = traceback.lines().skip_while(|line| *line == HEADER);
        let line = lines.find(|line| !line.is_empty() && !line.starts_with(' '))?;
        Some(Self { line, certain: false })
    }
}

/// Whether each error of a traceback is told in one line, behind its frames: more may be of a note, which may have anything in it.
fn is_of_lines(traceback: &str) -> bool {
    let is_of_a_line = |told: &str| {
        let frames = told
            .strip_prefix(HEADER)
            .unwrap_or(told)
            .trim_start_matches('\n')
            .lines();
        frames.filter(|line| !line.starts_with(' ')).count() == 1
    };
    let mut parts = traceback.split("\n\n");
    parts.next().is_some_and(is_of_a_line)
        && iter::from_fn(|| Some((parts.next()?, parts.next())))
            .all(|(link, told)| LINKS.contains(&link) && told.is_some_and(is_of_a_line))
}

/// What stands between the errors of a traceback.
const LINKS: [&str; 2] = [
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
];

/// What a traceback begins with.
const HEADER: &str = "Traceback (most recent call last):";

/// A column of the table, and the field that it has the values of.
struct Column {
    index: usize,
    name: &'static str,
    width: Width,
    absence: Absence,
    at: usize,
}

/// The columns of a table, each a field of a request, the largest uses or the quotes, and none is there twice.
struct Columns {
    fields: Vec<Column>,
    most: Option<Column>,
    quotes: Option<usize>,
}

impl Columns {
    fn of(py: Python<'_>, table: &FieldRef) -> PyResult<Self> {
        let DataType::Struct(fields) = table.data_type() else {
            let kind = shown(table.data_type());
            let message = format!("requests must be a table, and an array of {kind} has no columns");
            return Err(refused(py, "batch.not_a_table", &message, |details| {
                details.set_item("field", "requests")?;
                details.set_item("type", kind)
            }));
        };
        let index_of_pandas = index_of_pandas(table);
        let names = FIELDS.iter().map(|(name, ..)| *name).chain([MOST, QUOTES]);
        for name in names {
            let is_column = fields.iter().any(|field| field.name() == name);
            if !is_column && index_of_pandas.ranges.iter().any(|range| range == name) {
                return Err(kept_as_a_range(py, name));
            }
        }
        let mut columns: Vec<Column> = Vec::with_capacity(fields.len());
        let (mut most, mut quotes) = (None, None);
        let twice = |name: &str| {
            let message = format!("the table has two columns {name}");
            refused(py, "batch.duplicate_column", &message, |details| {
                details.set_item("field", name)
            })
        };
        for (index, field) in fields.iter().enumerate() {
            if field.name() == QUOTES {
                if !are_quotes(field.data_type()) {
                    let kind = shown(field.data_type());
                    let message = format!(
                        "{QUOTES} must be a column of lists of structs of the integers {MODEL_ID} and {COST}, not of {kind}"
                    );
                    return Err(column_type(py, QUOTES, &message, kind));
                }
                if quotes.replace(index).is_some() {
                    return Err(twice(QUOTES));
                }
                continue;
            }
            if field.name() == MOST {
                let column = Column {
                    index,
                    name: MOST,
                    width: Width::U32,
                    absence: Absence::Value,
                    at: 0,
                };
                if !are_integers(field.data_type()) {
                    return Err(Fault::Type.raise(py, &column, field.data_type(), 0));
                }
                if most.replace(column).is_some() {
                    return Err(twice(MOST));
                }
                continue;
            }
            let mut at: usize = 0;
            let known = FIELDS.iter().find(|(name, width, _)| {
                let found = name == field.name();
                at = at.saturating_add(if found { 0 } else { width.bytes() });
                found
            });
            let Some(&(name, width, absence)) = known else {
                if index_of_pandas.columns.iter().any(|index| index == field.name()) {
                    continue;
                }
                return Err(unknown(py, field.name()));
            };
            if columns.iter().any(|column| column.name == name) {
                return Err(twice(name));
            }
            let column = Column {
                index,
                name,
                width,
                absence,
                at,
            };
            if !are_integers(field.data_type()) {
                return Err(Fault::Type.raise(py, &column, field.data_type(), 0));
            }
            columns.push(column);
        }
        for (name, _, absence) in FIELDS {
            if absence == Absence::Refused && !columns.iter().any(|column| column.name == name) {
                let message = format!("the table has no column {name}, which every request has");
                return Err(refused(py, "batch.missing_column", &message, |details| {
                    details.set_item("field", name)
                }));
            }
        }
        Ok(Self {
            fields: columns,
            most,
            quotes,
        })
    }
}

/// Integers of any width, or nothing but nulls.
fn are_integers(kind: &DataType) -> bool {
    kind.is_integer() || *kind == DataType::Null
}

/// Lists of quotes, or lists or rows of nothing but nulls.
fn are_quotes(kind: &DataType) -> bool {
    let (DataType::List(quote) | DataType::LargeList(quote)) = kind else {
        return *kind == DataType::Null;
    };
    let fields = match quote.data_type() {
        DataType::Struct(fields) => fields,
        // Lists of which each is empty are handed over so.
        kind => return *kind == DataType::Null,
    };
    let has = |name| {
        let mut named = fields.iter().filter(|field| field.name() == name);
        named.next().is_some_and(|field| are_integers(field.data_type())) && named.next().is_none()
    };
    fields.len() == 2 && has(MODEL_ID) && has(COST)
}

/// The quotes of rows, each with the number of its row among them.
fn quotes_in(lists: &ArrayRef) -> Result<Vec<(u64, u32, u64)>, QuoteFault> {
    match lists.data_type() {
        DataType::Null => Ok(Vec::new()),
        DataType::List(_) => quotes_of_lists(lists.as_list::<i32>()),
        DataType::LargeList(_) => quotes_of_lists(lists.as_list::<i64>()),
        _ => Err(QuoteFault::Type),
    }
}

fn quotes_of_lists<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> Result<Vec<(u64, u32, u64)>, QuoteFault> {
    if *lists.values().data_type() == DataType::Null {
        let mut rows = lists.value_offsets().windows(2).enumerate();
        let quoted = rows.find(|(row, ends)| ends.first() != ends.last() && !lists.is_null(*row));
        return match quoted {
            None => Ok(Vec::new()),
            Some((row, _)) => Err(QuoteFault::Null {
                row,
                quote: 0,
                part: None,
            }),
        };
    }
    let quotes = lists.values().as_struct_opt().ok_or(QuoteFault::Type)?;
    let column = |name| quotes.column_by_name(name).ok_or(QuoteFault::Type);
    let (models, costs) = (column(MODEL_ID)?, column(COST)?);
    let mut found = Vec::new();
    for (row, ends) in lists.value_offsets().windows(2).enumerate() {
        let [start, end] = ends else { continue };
        // What lies under a null is no list.
        if lists.is_null(row) {
            continue;
        }
        let places = start.as_usize()..end.as_usize();
        found.try_reserve(places.len()).map_err(QuoteFault::NoRoom)?;
        for (quote, place) in places.enumerate() {
            let null = |part| QuoteFault::Null { row, quote, part };
            if quotes.is_null(place) {
                return Err(null(None));
            }
            let number = |array: &ArrayRef, part| number_at(array, place).ok_or_else(|| null(Some(part)));
            let (model_id, cost) = (number(models, MODEL_ID)?, number(costs, COST)?);
            let outside = |part, value, range| QuoteFault::Outside {
                row,
                quote,
                part,
                value,
                range,
            };
            found.push((
                u64::try_from(row).map_err(|_| QuoteFault::Type)?,
                u32::try_from(model_id).map_err(|_| outside(MODEL_ID, model_id, u32::RANGE))?,
                u64::try_from(cost).map_err(|_| outside(COST, cost, u64::RANGE))?,
            ));
        }
    }
    Ok(found)
}

/// The integer at a place; `None` for a null.
fn number_at(array: &ArrayRef, place: usize) -> Option<i128> {
    fn of<A: ArrowPrimitiveType<Native: Into<i128>>>(array: &ArrayRef, place: usize) -> Option<i128> {
        let array = array.as_primitive_opt::<A>()?;
        let value = array.values().get(place).copied()?;
        (!array.is_null(place)).then(|| value.into())
    }
    match array.data_type() {
        DataType::Int8 => of::<Int8Type>(array, place),
        DataType::Int16 => of::<Int16Type>(array, place),
        DataType::Int32 => of::<Int32Type>(array, place),
        DataType::Int64 => of::<Int64Type>(array, place),
        DataType::UInt8 => of::<UInt8Type>(array, place),
        DataType::UInt16 => of::<UInt16Type>(array, place),
        DataType::UInt32 => of::<UInt32Type>(array, place),
        DataType::UInt64 => of::<UInt64Type>(array, place),
        _ => None,
    }
}

/// What pandas lists beside a table as the index of the data frame, which was no column there.
struct IndexOfPandas {
    /// Names of columns of the table.
    columns: Vec<String>,
    /// Names of what is written down as a range, and is no column of the table.
    ranges: Vec<String>,
}

fn index_of_pandas(table: &FieldRef) -> IndexOfPandas {
    let described = table.metadata().get("pandas");
    let described = described.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let listed = described
        .as_ref()
        .and_then(|described| described.get("index_columns")?.as_array());
    let listed = listed.into_iter().flatten();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    IndexOfPandas {
        columns: listed.clone().filter_map(text).collect(),
        ranges: listed.filter_map(|range| text(range.get("name")?)).collect(),
    }
}

/// What is wrong with a value of a column; rows count from the first that was being copied.
enum Fault {
    Type,
    Null { row: usize },
    Outside { row: usize, value: i128 },
}

/// What is wrong with quotes: with one of a row's by its number among them, and a part of it or the whole.
enum QuoteFault {
    Type,
    Null {
        row: usize,
        quote: usize,
        part: Option<&'static str>,
    },
    Outside {
        row: usize,
        quote: usize,
        part: &'static str,
        value: i128,
        range: &'static str,
    },
    NoRoom(TryReserveError),
}

impl QuoteFault {
    fn raise(self, py: Python<'_>, first: usize) -> PyErr {
        match self {
            Self::Type => unreadable(py, "its quotes are of another type than it says"),
            Self::Null { row, quote, part } => {
                let row = first.saturating_add(row);
                let part = part.map_or_else(String::new, |part| format!(".{part}"));
                null_at(
                    py,
                    QUOTES,
                    row,
                    &format!("row {row}: {QUOTES}[{quote}]{part} is null, and a quote has no absence"),
                )
            }
            Self::Outside {
                row,
                quote,
                part,
                value,
                range,
            } => {
                let row = first.saturating_add(row);
                outside_at(py, row, QUOTES, &format!("{QUOTES}[{quote}].{part}"), value, range)
            }
            Self::NoRoom(error) => no_room(error),
        }
    }
}

impl Fault {
    fn raise(self, py: Python<'_>, column: &Column, kind: &DataType, first: usize) -> PyErr {
        let name = column.name;
        match self {
            Self::Type => {
                let kind = shown(kind);
                let message = format!("{name} must be a column of integers, not of {kind}");
                column_type(py, name, &message, kind)
            }
            Self::Null { row } => null(py, name, first.saturating_add(row)),
            Self::Outside { row, value } => {
                let row = first.saturating_add(row);
                outside(py, row, name, value, column.width.range())
            }
        }
    }
}

fn column_type(py: Python<'_>, name: &str, message: &str, kind: String) -> PyErr {
    refused(py, "batch.column_type", message, |details| {
        details.set_item("field", name)?;
        details.set_item("type", kind)
    })
}

fn outside(py: Python<'_>, row: usize, name: &str, value: i128, range: &str) -> PyErr {
    outside_at(py, row, name, name, value, range)
}

/// The same of a value in a field.
fn outside_at(py: Python<'_>, row: usize, name: &str, place: &str, value: i128, range: &str) -> PyErr {
    let message = format!("row {row}: {place} is {value}, outside {range}");
    refused(py, "input.out_of_range", &message, |details| {
        details.set_item("row", row)?;
        details.set_item("field", name)?;
        details.set_item("value", value)
    })
}

impl Column {
    /// Copies the column into rows that hold the field's default.
    fn copy<const ROW: usize>(&self, array: &ArrayRef, rows: &mut [[u8; ROW]]) -> Result<(), Fault> {
        if self.absence != Absence::Value
            && let Some(row) = first_null(array)
        {
            return Err(Fault::Null { row });
        }
        match array.data_type() {
            DataType::Null => Ok(()),
            DataType::Int8 => self.copy_from(array.as_primitive::<Int8Type>(), rows),
            DataType::Int16 => self.copy_from(array.as_primitive::<Int16Type>(), rows),
            DataType::Int32 => self.copy_from(array.as_primitive::<Int32Type>(), rows),
            DataType::Int64 => self.copy_from(array.as_primitive::<Int64Type>(), rows),
            DataType::UInt8 => self.copy_from(array.as_primitive::<UInt8Type>(), rows),
            DataType::UInt16 => self.copy_from(array.as_primitive::<UInt16Type>(), rows),
            DataType::UInt32 => self.copy_from(array.as_primitive::<UInt32Type>(), rows),
            DataType::UInt64 => self.copy_from(array.as_primitive::<UInt64Type>(), rows),
            _ => Err(Fault::Type),
        }
    }

    fn copy_from<A, const ROW: usize>(&self, array: &PrimitiveArray<A>, rows: &mut [[u8; ROW]]) -> Result<(), Fault>
    where
        A: ArrowPrimitiveType,
        A::Native: Into<i128>,
        u16: TryFrom<A::Native>,
        u32: TryFrom<A::Native>,
        u64: TryFrom<A::Native>,
        i64: TryFrom<A::Native>,
    {
        match self.width {
            Width::U16 => write(self.at, array, rows, |value| {
                u16::try_from(value).map(u16::to_le_bytes).ok()
            }),
            Width::U32 => write(self.at, array, rows, |value| {
                u32::try_from(value).map(u32::to_le_bytes).ok()
            }),
            Width::U64 => write(self.at, array, rows, |value| {
                u64::try_from(value).map(u64::to_le_bytes).ok()
            }),
            Width::I64 => write(self.at, array, rows, |value| {
                i64::try_from(value).map(i64::to_le_bytes).ok()
            }),
        }
    }
}

/// Writes the values that are there into the rows.
fn write<A, const ROW: usize, const N: usize>(
    at: usize,
    array: &PrimitiveArray<A>,
    rows: &mut [[u8; ROW]],
    bytes: impl Fn(A::Native) -> Option<[u8; N]>,
) -> Result<(), Fault>
where
    A: ArrowPrimitiveType,
    A::Native: Into<i128>,
{
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    for (row, (&value, place)) in array.values().iter().zip(rows).enumerate() {
        // What lies under a null is no value.
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        let Some(written) = bytes(value) else {
            return Err(Fault::Outside {
                row,
                value: value.into(),
            });
        };
        if let Some(place) = place.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = written;
        }
    }
    Ok(())
}

fn first_null(array: &dyn Array) -> Option<usize> {
    let nulls = array.logical_nulls()?;
    (nulls.null_count() > 0)
        .then(|| (0..nulls.len()).find(|row| nulls.is_null(*row)))
        .flatten()
}

fn shown(kind: &DataType) -> String {
    short(&kind.to_string(), 60)
}

fn refused<'py>(
    py: Python<'py>,
    code: &str,
    message: &str,
    details: impl FnOnce(&Bound<'py, PyDict>) -> PyResult<()>,
) -> PyErr {
    raise(py, Class::InvalidInput, code, message, details)
}

/// What is no error of the table, such as an interrupt, stays; also one that comes while the reason is asked for.
fn unreadable_for(py: Python<'_>, error: &PyErr) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error.clone_ref(py);
    }
    match error.value(py).str() {
        Ok(why) => unreadable(py, &why.to_string_lossy()),
        Err(raised) => raised,
    }
}

fn unreadable(py: Python<'_>, why: &str) -> PyErr {
    let message = format!("requests cannot be read as a table: {}", short(why, 200));
    refused(py, "batch.unreadable", &message, |details| {
        details.set_item("field", "requests")
    })
}

fn null(py: Python<'_>, field: &str, row: usize) -> PyErr {
    let message = match field {
        "requests" => format!("row {row} is null"),
        _ => format!("row {row}: {field} is null, and the field has no absence"),
    };
    null_at(py, field, row, &message)
}

fn null_at(py: Python<'_>, field: &str, row: usize, message: &str) -> PyErr {
    refused(py, "batch.null", message, |details| {
        details.set_item("row", row)?;
        details.set_item("field", field)
    })
}

/// Its values are in what pandas says beside the table alone, and a limit that is passed over would be one that nobody set.
fn kept_as_a_range(py: Python<'_>, name: &str) -> PyErr {
    let message = format!(
        "{name} is the index of a pandas data frame, which keeps it as a range and hands over no column of it: \
         make it one with .reset_index()"
    );
    refused(py, "batch.missing_column", &message, |details| {
        details.set_item("field", name)
    })
}

fn unknown(py: Python<'_>, name: &str) -> PyErr {
    let near = || -> PyResult<Option<String>> {
        let names = FIELDS.iter().map(|(name, _, _)| *name).chain([MOST, QUOTES]);
        let names = names.collect::<Vec<_>>();
        let difflib = PyModule::import(py, "difflib")?;
        let near = difflib.call_method1("get_close_matches", (name, names, 1))?;
        Ok(near.extract::<Vec<String>>()?.pop())
    };
    let near = match near() {
        Ok(near) => near.map_or_else(String::new, |near| format!(" (did you mean {near}?)")),
        Err(error) => return error,
    };
    let name_shown = short(&format!("{name:?}"), 60);
    let message = format!("column {name_shown} is no field of a request{near}; select the columns that are");
    refused(py, "batch.unknown_column", &message, |details| {
        details.set_item("field", name)
    })
}
