//! Batches over NumPy arrays: rows in, rows out, no object a row.

use std::cell::Cell;
use std::collections::TryReserveError;
use std::iter;
use std::mem::take;
use std::num::NonZeroU16;
use std::slice::ChunksMut;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;

use decidable_canon::Reader;
use decidable_kernel::batch::{
    self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, HOLD_ROW_BYTES, Plan, Quotes, REQUEST_ROW_BYTES, Rows,
};
use decidable_kernel::{Decision, ErrorKind, Vectors};
use numpy::{BorrowError, PyArray1, PyArrayMethods as _, PyReadwriteArray1, PyUntypedArray};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PySlice, PyTuple};

use crate::errors::{self, Class, raise};
use crate::values::{counted, optional, optional_text, otherwise, short, wrong, wrong_type};

/// Rows that a thread copies, decides and writes at a time at most: what comes in and goes out stays in a core's cache, and beside the
/// arrays of the caller a batch takes no more memory.
const ROWS_AT_A_TIME: usize = 4_096;

/// So many pieces each of several threads takes at least: while it copies one, the others decide theirs, and at the end they wait for
/// less than one.
const PIECES_OF_A_THREAD: usize = 8;

/// So many candidates looked at make a thread worth waking where nobody said how many: some hundred microseconds. Where the
/// cores are busy with something else, a thread that is waited for costs more than it brings in less.
const WORK_WORTH_A_THREAD: usize = 1 << 20;

/// So many where somebody asked for threads: some tens of microseconds, which is what it takes to wake one.
const WORK_WORTH_WAKING: usize = 1 << 18;

/// So many candidates are looked at a time by each thread at most, some tenths of a second where there are no vectors: an interrupt
/// is heard in between.
const WORK_AT_A_TIME: usize = 1 << 25;

/// Rows are never fewer at a time: what is prepared for a catalog would cost as much as deciding them.
const ROWS_AT_LEAST: usize = 64;

/// What a row costs beside its candidates, as so many candidates.
pub(crate) const WORK_OF_A_ROW: usize = 24;

/// What a digest costs, as so many candidates.
const WORK_OF_A_DIGEST: usize = 512;

/// So many quotes are copied before an interrupt is heard.
const QUOTES_AT_A_TIME: usize = 1 << 16;

const QUOTE_BYTES: usize = 8 + 4 + 8;
const DIGEST_BYTES: usize = 32;

/// What a caller asks for beside the decisions.
pub(crate) struct Asked<'a, 'py> {
    pub(crate) threads: Option<&'a Bound<'py, PyAny>>,
    pub(crate) vectors: Option<&'a Bound<'py, PyAny>>,
    pub(crate) quotes: Option<&'a Bound<'py, PyAny>>,
    pub(crate) max_output_tokens: Option<&'a Bound<'py, PyAny>>,
    pub(crate) out: Option<&'a Bound<'py, PyAny>>,
    pub(crate) counts: Option<&'a Bound<'py, PyAny>>,
    pub(crate) gates: Option<&'a Bound<'py, PyAny>>,
    pub(crate) holds: Option<&'a Bound<'py, PyAny>>,
}

impl Asked<'_, '_> {
    /// How so many rows are to be decided among so many candidates.
    pub(crate) fn plan(&self, py: Python<'_>, candidates: usize) -> PyResult<impl Fn(usize) -> Plan + use<>> {
        let threads = threads_of(self.threads)?;
        let vectors = vectors_of(py, self.vectors)?;
        Ok(move |rows: usize| Plan {
            threads: threads_for(threads, rows, candidates.saturating_add(WORK_OF_A_ROW)),
            vectors,
        })
    }
}

/// Room for what is answered on some rows.
pub(crate) struct Answer<'a> {
    pub(crate) decisions: &'a mut [u8],
    pub(crate) counts: Option<&'a mut [u8]>,
    pub(crate) gates: Option<&'a mut [u8]>,
    pub(crate) holds: Option<&'a mut [u8]>,
}

impl Answer<'_> {
    /// Answers on rows, of which the first has that number in the whole batch, with the interpreter lock free. An interrupt is
    /// heard after each step: with many candidates each of them takes some tenths of a second.
    pub(crate) fn fill<'r>(
        self,
        py: Python<'_>,
        policy: &decidable_kernel::Policy,
        first: usize,
        plan: Plan,
        given: impl FnOnce() -> Result<(Rows<'r>, Quotes), decidable_kernel::Error> + Send,
    ) -> PyResult<()> {
        let Self {
            decisions,
            counts,
            gates,
            holds,
        } = self;
        let fault = |error| batch_error(py, &error, first);
        let (rows, quotes) = py
            .detach(|| {
                let (rows, quotes) = given()?;
                batch::decide_rows(policy, rows, &quotes, decisions, plan).map(|()| (rows, quotes))
            })
            .map_err(fault)?;
        if let Some(counts) = counts {
            py.check_signals()?;
            py.detach(|| batch::count(policy, rows, &quotes, decisions, counts, plan))
                .map_err(fault)?;
        }
        if let Some(gates) = gates {
            py.check_signals()?;
            py.detach(|| batch::gates(policy, rows, &quotes, gates, plan))
                .map_err(fault)?;
        }
        if let Some(holds) = holds {
            py.check_signals()?;
            py.detach(|| batch::holds(policy, rows, &quotes, decisions, holds, plan))
                .map_err(fault)?;
        }
        Ok(())
    }
}

/// Decides an array of `REQUEST_DTYPE`.
pub(crate) fn decide<'py>(
    policy: &decidable_kernel::Policy,
    requests: &Bound<'py, PyAny>,
    asked: &Asked<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = requests.py();
    let candidates = policy.candidates().len();
    let plan_for = asked.plan(py, candidates)?;
    let arrays = Arrays::of(py)?;
    let input = arrays.rows_in(
        "requests",
        requests,
        &arrays.request,
        "REQUEST_DTYPE, or a table with __arrow_c_stream__ or __arrow_c_array__",
    )?;
    let count = input.rows;
    let quotes = arrays.quotes(asked.quotes, count)?;
    let most = asked.max_output_tokens.map(|most| {
        arrays.expect("max_output_tokens", most, &arrays.u32, "uint32", Some(&[count]))?;
        arrays.rows_in("max_output_tokens", most, &arrays.u32, "uint32")
    });
    let most = most.transpose()?;
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
    if let Some(holds) = asked.holds {
        arrays.expect_out("holds", holds, &arrays.u64, "uint64", &[count])?;
    }
    refuse_shared(
        &arrays,
        [
            ("requests", Some(requests)),
            ("max_output_tokens", asked.max_output_tokens),
        ],
        [
            ("out", asked.out),
            ("counts", asked.counts),
            ("gates", asked.gates),
            ("holds", asked.holds),
        ],
    )?;
    let plan = plan_for(count);
    let pieces = Pieces::new(
        &input,
        most.as_ref(),
        plan.threads,
        candidates.saturating_add(WORK_OF_A_ROW),
    );
    // Each piece is one thread's.
    let plan = Plan { threads: 1, ..plan };
    // What is refused leaves room of the caller's as it is. One piece is checked as a whole before it is decided; of several the
    // first would be written before the last is looked at.
    let room_given = [asked.out, asked.counts, asked.gates, asked.holds];
    if count > pieces.at_a_time && room_given.iter().any(Option::is_some) {
        pieces.each(py, iter::repeat(()), |py, piece, ()| {
            py.detach(|| {
                rows_of(piece.rows, piece.most, plan)?;
                quotes_of(&quotes, piece.first, piece.count()).map(drop)
            })
            .map_err(|error| batch_error(py, &error, piece.first))
        })?;
    }
    let mut decided = Room::of(Some(&decisions), count, DECISION_ROW_BYTES)?;
    let mut counts = Room::of(asked.counts, count, COUNTS_ROW_BYTES)?;
    let mut gates = Room::of(asked.gates, count, candidates)?;
    let mut holds = Room::of(asked.holds, count, HOLD_ROW_BYTES)?;
    let beside = (counts.pieces(pieces.at_a_time))
        .zip(gates.pieces(pieces.at_a_time))
        .zip(holds.pieces(pieces.at_a_time));
    let rooms = decided.pieces(pieces.at_a_time).zip(beside);
    pieces.each(py, rooms, |py, piece, (decisions, ((counts, gates), holds))| {
        let answer = Answer {
            decisions: decisions.unwrap_or_default(),
            counts,
            gates,
            holds,
        };
        answer.fill(py, policy, piece.first, plan, || {
            Ok((
                rows_of(piece.rows, piece.most, plan)?,
                quotes_of(&quotes, piece.first, piece.count())?,
            ))
        })
    })?;
    drop((decided, counts, gates, holds));
    Ok(decisions)
}

/// Rows that come in, a piece at a time.
struct Pieces<'a> {
    input: &'a Input,
    most: Option<&'a Input>,
    at_a_time: usize,
    threads: usize,
}

/// A copy of some rows, of which the first has that number, and their largest uses, if there are any.
struct Piece<'a> {
    first: usize,
    rows: &'a [u8],
    row_bytes: usize,
    most: Option<&'a [u32]>,
}

impl Piece<'_> {
    fn count(&self) -> usize {
        self.rows.len() / self.row_bytes.max(1)
    }
}

impl<'a> Pieces<'a> {
    /// For so many threads, each row as much work as looking at so many candidates.
    fn new(input: &'a Input, most: Option<&'a Input>, threads: usize, work_of_a_row: usize) -> Self {
        let mut at_a_time = ROWS_AT_A_TIME.min(most_at_a_time(1, work_of_a_row));
        if threads > 1 {
            let fair = input.rows.div_ceil(threads.saturating_mul(PIECES_OF_A_THREAD));
            at_a_time = at_a_time.min(fair.next_multiple_of(ROWS_AT_LEAST));
        }
        Self {
            input,
            most,
            at_a_time: at_a_time.max(1),
            threads,
        }
    }

    /// Has each piece copied with the interpreter lock held, so that rows are whole whoever writes to the array, and worked on, with
    /// its room. Each thread copies what it then works on, and the work gives up the lock. After an interrupt or what is refused no
    /// further piece is begun, and the first that was refused is told of.
    fn each<R: Send>(
        &self,
        py: Python<'_>,
        rooms: impl Iterator<Item = R> + Send,
        work: impl Fn(Python<'_>, &Piece<'_>, R) -> PyResult<()> + Sync,
    ) -> PyResult<()> {
        let pieces = (0..self.input.rows).step_by(self.at_a_time).zip(rooms);
        // Whoever has one of these two holds the interpreter lock, too, and does not give it up meanwhile.
        let (pieces, refused) = (Mutex::new(Some(pieces)), Mutex::new(None));
        let next = || locked(&pieces).as_mut().and_then(Iterator::next);
        let refuse = |row: usize, error: PyErr| {
            let other = {
                *locked(&pieces) = None;
                let mut refused = locked(&refused);
                match &*refused {
                    Some((earlier, _)) if *earlier < row => Some((row, error)),
                    _ => refused.replace((row, error)),
                }
            };
            drop(other);
        };
        let take_part = |py: Python<'_>| {
            let (mut copy, mut tokens) = (Copied::room(), Vec::new());
            while let Some((first, room)) = next() {
                // An interrupt goes before what else is refused.
                if let Err(error) = py.check_signals() {
                    return refuse(0, error);
                }
                let done = self.copy(py, first, &mut copy.0, &mut tokens);
                if let Err(error) = done.and_then(|piece| work(py, &piece, room)) {
                    return refuse(first, error);
                }
            }
        };
        // Where the interpreter ends others do not get its lock, and those that wait for it are gone.
        if self.threads > 1 && !is_ending(py) {
            py.detach(|| batch::on_threads(self.threads, &|| Python::try_attach(take_part).unwrap_or_default()));
        }
        // On one thread that is all of them.
        take_part(py);
        let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        refused.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn copy<'c>(
        &self,
        py: Python<'_>,
        first: usize,
        copy: &'c mut Vec<u8>,
        tokens: &'c mut Vec<u32>,
    ) -> PyResult<Piece<'c>> {
        Ok(Piece {
            first,
            rows: self.input.copy(py, first, self.at_a_time, copy)?,
            row_bytes: self.input.row_bytes,
            most: match self.most {
                Some(most) => Some(most_of(py, most, first, self.at_a_time, tokens)?),
                None => None,
            },
        })
    }
}

/// Whether the interpreter is at its end.
fn is_ending(py: Python<'_>) -> bool {
    static IS_FINALIZING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let asked = IS_FINALIZING.import(py, "sys", "is_finalizing");
    asked.and_then(|asked| asked.call0()?.is_truthy()).unwrap_or(true)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The largest uses of a piece of rows.
fn most_of<'a>(
    py: Python<'_>,
    most: &Input,
    first: usize,
    rows: usize,
    tokens: &'a mut Vec<u32>,
) -> PyResult<&'a [u32]> {
    let mut bytes = Vec::new();
    let bytes = most.copy(py, first, rows, &mut bytes)?;
    tokens.clear();
    tokens.try_reserve(rows).map_err(no_room)?;
    tokens.extend(bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)));
    Ok(tokens)
}

pub(crate) fn rows_of<'a>(
    bytes: &'a [u8],
    most: Option<&'a [u32]>,
    plan: Plan,
) -> Result<Rows<'a>, decidable_kernel::Error> {
    let rows = Rows::new(bytes, plan.threads)?;
    match most {
        Some(most) => rows.with_max_output_tokens(most),
        None => Ok(rows),
    }
}

/// The digests of an array of `REQUEST_DTYPE` or `DECISION_DTYPE`, an array of 32 bytes each.
///
/// A request's is that of `Request.digest`, a decision's that of `Decision.digest`; a row that no decision has is refused. Rows are copied and hashed a piece at a
/// time, and the interpreter lock is free while they are hashed, as in `Policy.decide_batch`.
#[pyfunction]
#[pyo3(signature = (rows, *, quotes=None, threads=None))]
pub(crate) fn digest_batch<'py>(
    rows: &Bound<'py, PyAny>,
    quotes: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = rows.py();
    let threads = threads_of(threads)?;
    let arrays = Arrays::of(py)?;
    let of_decisions = match rows.getattr_opt("dtype")? {
        Some(dtype) => otherwise(py, dtype.eq(&arrays.decision), false)?,
        None => false,
    };
    let (dtype, name) = if of_decisions {
        (&arrays.decision, "DECISION_DTYPE")
    } else {
        (&arrays.request, "REQUEST_DTYPE or DECISION_DTYPE")
    };
    let input = arrays.rows_in("rows", rows, dtype, name)?;
    let count = input.rows;
    let quotes = match quotes {
        Some(quotes) if of_decisions => {
            return Err(wrong_type("quotes", "left out for decisions", quotes));
        }
        _ => arrays.quotes(quotes, count)?,
    };
    let digests = arrays
        .numpy
        .call_method1("empty", ((count, DIGEST_BYTES), &arrays.byte))?;
    let threads = threads_for(threads, count, WORK_OF_A_DIGEST);
    let pieces = Pieces::new(&input, None, threads, WORK_OF_A_DIGEST);
    let mut room = Room::of(Some(&digests), count, DIGEST_BYTES)?;
    // Each piece is one thread's.
    let plan = Plan::threads(1);
    pieces.each(py, room.pieces(pieces.at_a_time), |py, piece, out| {
        let out = out.unwrap_or_default();
        py.detach(|| {
            if of_decisions {
                decisions_in(piece.rows)?;
                return batch::digest_decisions(piece.rows, out, plan);
            }
            let here = quotes_of(&quotes, piece.first, piece.count())?;
            batch::digest_requests(Rows::new(piece.rows, plan.threads)?, &here, out, plan)
        })
        .map_err(|error| batch_error(py, &error, piece.first))
    })?;
    drop(room);
    Ok(digests)
}

/// Refuses rows that are no decisions, by the first of them.
pub(crate) fn decisions_in(rows: &[u8]) -> Result<(), decidable_kernel::Error> {
    let (rows, _) = rows.as_chunks::<DECISION_ROW_BYTES>();
    rows.iter().enumerate().try_for_each(|(number, row)| {
        let decision = Decision::decode(&mut Reader::new(row));
        decision.map(drop).map_err(|error| error.in_row(number))
    })
}

/// Has the threads of batches be the interpreter's for as long as they are there: to be that anew for each batch takes a lock of CPython's
/// without the interpreter lock, and a child that is forked meanwhile never gets it (3.11, `_PyThreadState_DeleteExcept`).
pub(crate) fn run_within_interpreter() {
    batch::run_within(|run| {
        if Python::try_attach(|py| py.detach(&mut *run)).is_none() {
            run();
        }
    });
}

/// Called before a fork: the threads that are being started are the interpreter's first.
#[pyfunction]
pub(crate) fn before_fork(py: Python<'_>) {
    py.detach(batch::before_fork);
}

/// Called in the parent of a fork.
#[pyfunction]
pub(crate) fn after_fork() {
    batch::after_fork();
}

/// Called in a child of a fork, which has none of its parent's threads.
#[pyfunction]
pub(crate) fn forked() {
    batch::forked();
}

/// The instructions that this machine has for batches, the narrowest first.
#[pyfunction]
pub(crate) fn vectors(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, Vectors::available().map(Vectors::label).collect::<Vec<_>>())
}

/// The most rows of a piece, however small the rest of it is, so that an interrupt is heard.
pub(crate) fn most_at_a_time(threads: usize, work_of_a_row: usize) -> usize {
    let heard = WORK_AT_A_TIME / work_of_a_row.max(1);
    heard.max(ROWS_AT_LEAST).saturating_mul(threads.max(1))
}

/// How many cores there are: asked once, because asking takes as long as deciding some hundred rows.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// On how many threads so many rows are worked at, each of which costs as much as so many candidates: at most what a caller asks for,
/// and never more than there are cores.
fn threads_for(asked: Option<usize>, rows: usize, work_of_a_row: usize) -> usize {
    let work = rows.saturating_mul(work_of_a_row);
    let worth = match asked {
        Some(asked) => asked.min(work / WORK_WORTH_WAKING),
        None => work / WORK_WORTH_A_THREAD,
    };
    cores().min(worth).max(1)
}

fn threads_of(threads: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let threads = optional::<NonZeroU16>("threads", threads)?;
    Ok(threads.map(|threads| threads.get().into()))
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
fn quotes_of(all: &[u8], first: usize, rows: usize) -> Result<Quotes, decidable_kernel::Error> {
    let (all, _) = all.as_chunks::<QUOTE_BYTES>();
    if all.is_empty() {
        return Ok(Quotes::default());
    }
    let number = |row: usize| u64::try_from(row).unwrap_or(u64::MAX);
    let (first, end) = (number(first), number(first.saturating_add(rows)));
    let start = all.partition_point(|bytes| quote(bytes).0 < first);
    let here = all.get(start..).unwrap_or_default().iter().map(quote);
    let here = here.take_while(|(row, ..)| *row < end);
    Quotes::new(
        here.map(|(row, model, cost)| (row.saturating_sub(first), model, cost)),
        rows,
    )
}

/// An error of a batch, with its row counted from the first of all.
pub(crate) fn batch_error(py: Python<'_>, error: &decidable_kernel::Error, first: usize) -> PyErr {
    if error.kind() == ErrorKind::NoMemory {
        return PyMemoryError::new_err(error.to_string());
    }
    let row = error.row().map(|row| row.saturating_add(first));
    let message = match row {
        Some(row) => error.clone().in_row(row).to_string(),
        None => error.to_string(),
    };
    raise(py, Class::InvalidInput, error.code(), &message, |details| {
        details.set_item("row", row)?;
        details.set_item("field", error.field())?;
        details.set_item("value", error.value())
    })
}

/// The error where there is no memory.
pub(crate) fn no_room(error: TryReserveError) -> PyErr {
    PyMemoryError::new_err(error.to_string())
}

fn not_contiguous(py: Python<'_>, error: &dyn core::fmt::Display) -> PyErr {
    errors::plain(
        py,
        Class::InvalidInput,
        "batch.not_contiguous",
        &format!("the array cannot be used in place: {error}"),
    )
}

/// The error where memory is in use: one may write to it, or any number read.
fn taken(py: Python<'_>, error: &BorrowError) -> PyErr {
    match error {
        BorrowError::AlreadyBorrowed => not_contiguous(
            py,
            &"a batch is using its memory, or was when this process was forked from another",
        ),
        error => not_contiguous(py, error),
    }
}

/// An array as it is: a subclass may have views of its own.
fn plain<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let plain = array.py().get_type::<PyUntypedArray>();
    plain.getattr("view")?.call1((array, &plain))
}

/// An array's bytes, in place.
fn as_bytes<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let flat = plain(array)?.call_method1("reshape", (-1,))?;
    Ok(flat.call_method1("view", ("u1",))?.cast_into::<PyArray1<u8>>()?)
}

/// Rows that an array says it has and that are not there.
fn not_there(py: Python<'_>) -> PyErr {
    not_contiguous(py, &"it does not have the rows that it says it has")
}

/// Rows that come in.
struct Input {
    numpy: Py<PyAny>,
    array: Py<PyAny>,
    /// Their bytes in place, if they are contiguous.
    bytes: Option<Py<PyArray1<u8>>>,
    rows: usize,
    row_bytes: usize,
}

impl Input {
    /// Copies so many rows from `first` on, or what is left, while the interpreter lock is held.
    fn copy<'a>(&self, py: Python<'_>, first: usize, rows: usize, copy: &'a mut Vec<u8>) -> PyResult<&'a [u8]> {
        copy.clear();
        self.append(py, first, rows, copy)?;
        Ok(copy)
    }

    /// Copies them behind those that were copied before.
    fn append(&self, py: Python<'_>, first: usize, rows: usize, copy: &mut Vec<u8>) -> PyResult<()> {
        let rows = rows.min(self.rows.saturating_sub(first));
        let end = first.saturating_add(rows);
        match &self.bytes {
            Some(bytes) => self.add(bytes.bind(py), first, end, copy),
            None => {
                let piece = PySlice::new(py, isize::try_from(first)?, isize::try_from(end)?, 1);
                let piece = self.array.bind(py).get_item(piece)?;
                let piece = as_bytes(&self.numpy.bind(py).call_method1("ascontiguousarray", (piece,))?)?;
                self.add(&piece, 0, rows, copy)
            }
        }
    }

    fn add(&self, bytes: &Bound<'_, PyArray1<u8>>, first: usize, end: usize, copy: &mut Vec<u8>) -> PyResult<()> {
        let py = bytes.py();
        // Room of another thread's may lie in it.
        let bytes = bytes.try_readonly().map_err(|error| taken(py, &error))?;
        let bytes = bytes.as_slice().map_err(|error| not_contiguous(py, &error))?;
        let range = first.saturating_mul(self.row_bytes)..end.saturating_mul(self.row_bytes);
        let rows = bytes.get(range).ok_or_else(|| not_there(py))?;
        copy.try_reserve(rows.len()).map_err(no_room)?;
        copy.extend_from_slice(rows);
        Ok(())
    }
}

thread_local! {
    static COPIED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Room for copied rows, which a thread keeps for its next batch if it is not large. Beside an answer as large, taking it anew would often
/// have every page of both come from the system again, which takes longer than deciding the rows.
struct Copied(Vec<u8>);

/// A thread keeps no more bytes than that: the rows of a piece.
const KEPT_BYTES: usize = ROWS_AT_A_TIME * REQUEST_ROW_BYTES;

impl Copied {
    fn room() -> Self {
        Self(COPIED.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if self.0.capacity() <= KEPT_BYTES {
            // A thread that is at its end keeps nothing.
            let _ = COPIED.try_with(|kept| kept.set(take(&mut self.0)));
        }
    }
}

/// Room of an array that is written in place, or none.
struct Room<'py> {
    bytes: Option<PyReadwriteArray1<'py, u8>>,
    row_bytes: usize,
}

/// The room of one piece of rows after the other, or of none.
struct RoomPieces<'a>(Option<ChunksMut<'a, u8>>);

impl<'a> Iterator for RoomPieces<'a> {
    type Item = Option<&'a mut [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Some(chunks) => chunks.next().map(Some),
            None => Some(None),
        }
    }
}

/// Refuses room that lies in the memory of other room, of which what is written first would be lost, or of what is read while room is
/// written. The bounds of arrays are compared: room is contiguous, so only what leaves all of it out between two of its own rows
/// is taken for shared and is not.
fn refuse_shared<'py>(
    arrays: &Arrays<'py>,
    read: [(&str, Option<&Bound<'py, PyAny>>); 2],
    rooms: [(&str, Option<&Bound<'py, PyAny>>); 4],
) -> PyResult<()> {
    let py = arrays.numpy.py();
    for (at, (name, room)) in rooms.iter().enumerate() {
        let Some(room) = room else { continue };
        for (other, array) in read.iter().chain(rooms.iter().take(at)) {
            let Some(array) = array else { continue };
            let share = arrays
                .numpy
                .call_method1("may_share_memory", (plain(room)?, plain(array)?))?;
            if share.is_truthy()? {
                return Err(not_contiguous(py, &format_args!("{name} shares memory with {other}")));
            }
        }
    }
    Ok(())
}

impl<'py> Room<'py> {
    fn of(array: Option<&Bound<'py, PyAny>>, rows: usize, row_bytes: usize) -> PyResult<Self> {
        let bytes = match array {
            None => None,
            Some(array) => {
                let py = array.py();
                let bytes = as_bytes(array)?;
                let bytes = bytes.try_readwrite().map_err(|error| taken(py, &error))?;
                // An array may say that it has other rows than it has.
                let whole = bytes
                    .as_slice()
                    .is_ok_and(|bytes| Some(bytes.len()) == rows.checked_mul(row_bytes));
                Some(whole.then_some(bytes).ok_or_else(|| not_there(py))?)
            }
        };
        Ok(Self { bytes, row_bytes })
    }

    /// The room of so many rows after the other.
    fn pieces(&mut self, at_a_time: usize) -> RoomPieces<'_> {
        let bytes = at_a_time.saturating_mul(self.row_bytes).max(1);
        let room = self.bytes.as_mut().map(|room| room.as_slice_mut().unwrap_or_default());
        RoomPieces(room.map(|room| room.chunks_mut(bytes)))
    }
}

/// NumPy and the record types, looked up once.
pub(crate) struct Arrays<'py> {
    numpy: Bound<'py, PyAny>,
    request: Bound<'py, PyAny>,
    pub(crate) decision: Bound<'py, PyAny>,
    pub(crate) rejection: Bound<'py, PyAny>,
    quote: Bound<'py, PyAny>,
    pub(crate) byte: Bound<'py, PyAny>,
    u32: Bound<'py, PyAny>,
    pub(crate) u64: Bound<'py, PyAny>,
}

static ARRAYS: PyOnceLock<[Py<PyAny>; 8]> = PyOnceLock::new();

impl<'py> Arrays<'py> {
    pub(crate) fn of(py: Python<'py>) -> PyResult<Self> {
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
                numpy.call_method1("dtype", ("<u4",))?.unbind(),
                numpy.call_method1("dtype", ("<u8",))?.unbind(),
            ])
        })?;
        let [numpy, request, decision, rejection, quote, byte, u32, u64] =
            found.each_ref().map(|object| object.bind(py).clone());
        Ok(Self {
            numpy,
            request,
            decision,
            rejection,
            quote,
            byte,
            u32,
            u64,
        })
    }

    /// The rows of an array that comes in.
    fn rows_in(
        &self,
        field: &str,
        array: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
        name: &str,
    ) -> PyResult<Input> {
        self.expect(field, array, dtype, name, None)?;
        let contiguous = array.getattr("flags")?.getattr("c_contiguous")?.is_truthy()?;
        Ok(Input {
            numpy: self.numpy.clone().unbind(),
            bytes: contiguous.then(|| as_bytes(array)).transpose()?.map(Bound::unbind),
            array: array.clone().unbind(),
            rows: array.len()?,
            row_bytes: dtype.getattr("itemsize")?.extract()?,
        })
    }

    /// A copy of all of an array, however it lies in memory.
    pub(crate) fn copied(
        &self,
        field: &str,
        array: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
        name: &str,
        shape: Option<&[usize]>,
    ) -> PyResult<Vec<u8>> {
        self.expect(field, array, dtype, name, shape)?;
        let whole = as_bytes(&self.numpy.call_method1("ascontiguousarray", (array,))?)?;
        let bytes = whole.try_readonly().map_err(|error| taken(array.py(), &error))?;
        let bytes = bytes.as_slice()?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).map_err(no_room)?;
        copy.extend_from_slice(bytes);
        Ok(copy)
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
        // What a mask hides would be taken for what is there.
        let masked = self.numpy.getattr("ma")?.getattr("MaskedArray")?;
        if !array.is_instance(&self.numpy.getattr("ndarray")?)? || array.is_instance(&masked)? {
            return Err(wrong_type(field, &format!("a NumPy array of {name}"), array));
        }
        let has = array.getattr("dtype")?;
        let found: Vec<usize> = array.getattr("shape")?.extract()?;
        if has.eq(dtype)? && shape.map_or(found.len() == 1, |shape| found == shape) {
            return Ok(());
        }
        let why = if has.eq(dtype)? {
            match shape {
                None => format!("it has {} dimensions", found.len()),
                Some(_) => format!("it has the shape {found:?}"),
            }
        } else {
            self.difference(shape.is_none().then_some(field), &has, dtype)?
        };
        let message = match shape {
            None => format!("{field} must be a 1-dimensional array of {name}: {why}"),
            Some(shape) => format!("{field} must be an array of {name} of shape {shape:?}: {why}"),
        };
        Err(raise(
            py,
            Class::InvalidInput,
            "batch.wrong_dtype",
            &message,
            |details| details.set_item("field", field),
        ))
    }

    /// How a type of records differs from the one that is needed, and what makes an array that comes in one of that: `astype` puts
    /// fields into fields by their order, whatever their names are.
    fn difference(
        &self,
        comes_in: Option<&str>,
        has: &Bound<'py, PyAny>,
        dtype: &Bound<'py, PyAny>,
    ) -> PyResult<String> {
        let names = |dtype: &Bound<'py, PyAny>| dtype.getattr("names")?.extract::<Option<Vec<String>>>();
        let shown = |dtype: &Bound<'py, PyAny>| PyResult::Ok(short(&dtype.str()?.to_string_lossy(), 60));
        let (Some(theirs), Some(ours)) = (names(has)?, names(dtype)?) else {
            return Ok(format!("it is an array of {}", shown(has)?));
        };
        if let Some(missing) = ours.iter().find(|name| !theirs.contains(name)) {
            return Ok(format!("it has no field {missing}"));
        }
        if let Some(unknown) = theirs.iter().find(|name| !ours.contains(name)) {
            return Ok(format!(
                "its field {} is none of these",
                short(&format!("{unknown:?}"), 60)
            ));
        }
        if let Some((there, here)) = theirs.iter().zip(&ours).find(|(there, here)| there != here) {
            return Ok(format!("its field {there} stands where {here} does"));
        }
        let mut differs = "it has other bytes between its fields".to_owned();
        for name in &ours {
            let (has, needed) = (has.get_item(name)?, dtype.get_item(name)?);
            if has.ne(&needed)? {
                differs = format!("its field {name} is {} and not {}", shown(&has)?, shown(&needed)?);
                break;
            }
        }
        let known = [
            (&self.request, "REQUEST_DTYPE"),
            (&self.decision, "DECISION_DTYPE"),
            (&self.rejection, "REJECTION_DTYPE"),
            (&self.quote, "QUOTE_DTYPE"),
        ];
        let known = known.into_iter().find(|(known, _)| known.is(dtype));
        Ok(match (comes_in, known) {
            (Some(field), Some((_, name))) => {
                format!("{differs}; where every number fits, {field}.astype(decidable.{name}) is one")
            }
            _ => differs,
        })
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
        if array.is_instance_of::<PyBool>() {
            let room = format!("a NumPy array of {name} to write to: True is for a table, and requests is an array");
            return Err(wrong(field, &room, array));
        }
        self.expect(field, array, dtype, name, Some(shape))?;
        let flags = array.getattr("flags")?;
        for flag in ["c_contiguous", "writeable"] {
            if !flags.getattr(flag)?.is_truthy()? {
                return Err(not_contiguous(array.py(), &format_args!("{field} is not {flag}")));
            }
        }
        Ok(())
    }

    /// Quotes, which are given in any order, in ascending order. They are sorted as they were copied, so that they take no more than
    /// a copy, and with the interpreter lock free.
    fn quotes(&self, quotes: Option<&Bound<'py, PyAny>>, rows: usize) -> PyResult<Vec<u8>> {
        let mut all = Vec::new();
        let Some(quotes) = quotes else {
            return Ok(all);
        };
        let py = quotes.py();
        let quotes = self.rows_in("quotes", quotes, &self.quote, "QUOTE_DTYPE")?;
        all.try_reserve_exact(quotes.rows.saturating_mul(QUOTE_BYTES))
            .map_err(no_room)?;
        for first in (0..quotes.rows).step_by(QUOTES_AT_A_TIME) {
            py.check_signals()?;
            quotes.append(py, first, QUOTES_AT_A_TIME, &mut all)?;
        }
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        let none_of_them = py.detach(|| {
            let (each, _) = all.as_chunks_mut::<QUOTE_BYTES>();
            each.sort_unstable_by_key(quote);
            let there = each.partition_point(|bytes| quote(bytes).0 < rows);
            each.get(there).map(|bytes| quote(bytes).0)
        });
        match none_of_them {
            None => Ok(all),
            Some(row) => {
                let message = format!("quotes: row {row} is none of {}", counted(rows, "request"));
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
