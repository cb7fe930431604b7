//! The answer to a table: rows as the kernel writes them, which become columns when someone reads them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem::take;
use std::sync::{Arc, OnceLock};

use arrow_array::types::{UInt16Type, UInt32Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, FixedSizeListArray, Int64Array, PrimitiveArray, StructArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use decidable_canon::Reader;
use decidable_kernel::batch::{COUNTS_ROW_BYTES, DECISION_ROW_BYTES, HOLD_ROW_BYTES, NOT_LOOKED_AT, UTILITY};
use decidable_kernel::{Decision, MOST_CANDIDATES, Rejections};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyType};
use pyo3_arrow::ffi::{ArrayIterator, to_schema_pycapsule, to_stream_pycapsule};

use super::CHUNK_ROWS;
use crate::batch::{Answer, Arrays, batch_error, decisions_in, no_room};
use crate::errors::{Class, plain};
use crate::values::counted;

/// Gates that are columns of their own at a time, at most.
const GATES_AT_A_TIME: usize = 1 << 25;

/// What is answered beside decisions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) counts: bool,
    /// For so many models.
    pub(super) gates: Option<usize>,
    pub(super) holds: bool,
}

impl Beside {
    const fn bytes_of_counts(&self) -> usize {
        if self.counts { COUNTS_ROW_BYTES } else { 0 }
    }
    fn bytes_of_gates(&self) -> usize {
        self.gates.unwrap_or(0)
    }
    const fn bytes_of_holds(&self) -> usize {
        if self.holds { HOLD_ROW_BYTES } else { 0 }
    }

    /// Rows that are columns of their own at a time.
    fn rows_at_a_time(&self) -> usize {
        let of_gates = GATES_AT_A_TIME / self.bytes_of_gates().max(1);
        CHUNK_ROWS.min(of_gates).max(1)
    }
}

/// Some rows, one behind the other, as a batch of an array writes them; what was not asked for is empty.
#[derive(Default)]
struct Chunk {
    decisions: Vec<u8>,
    counts: Vec<u8>,
    gates: Vec<u8>,
    holds: Vec<u8>,
}

/// Some rows of a chunk.
#[derive(Default)]
struct Part<'a> {
    decisions: &'a [u8],
    counts: &'a [u8],
    gates: &'a [u8],
    holds: &'a [u8],
}

impl Chunk {
    fn rows(&self) -> usize {
        self.decisions.len() / DECISION_ROW_BYTES
    }

    /// Those rows that it has of so many from `first` on.
    fn part(&self, beside: &Beside, first: usize, rows: usize) -> Part<'_> {
        let end = first.saturating_add(rows).min(self.rows());
        let range = |each: usize| first.saturating_mul(each)..end.saturating_mul(each);
        Part {
            decisions: self.decisions.get(range(DECISION_ROW_BYTES)).unwrap_or_default(),
            counts: self.counts.get(range(beside.bytes_of_counts())).unwrap_or_default(),
            gates: self.gates.get(range(beside.bytes_of_gates())).unwrap_or_default(),
            holds: self.holds.get(range(beside.bytes_of_holds())).unwrap_or_default(),
        }
    }

    /// Room for so many rows more.
    fn more(&mut self, beside: &Beside, rows: usize) -> PyResult<Answer<'_>> {
        fn more(bytes: &mut Vec<u8>, by: usize) -> PyResult<&mut [u8]> {
            let start = bytes.len();
            bytes.try_reserve(by).map_err(no_room)?;
            bytes.resize(start.saturating_add(by), 0);
            Ok(bytes.get_mut(start..).unwrap_or_default())
        }
        let bytes = |each: usize| rows.saturating_mul(each);
        let counts = more(&mut self.counts, bytes(beside.bytes_of_counts()))?;
        let gates = more(&mut self.gates, bytes(beside.bytes_of_gates()))?;
        let holds = more(&mut self.holds, bytes(beside.bytes_of_holds()))?;
        Ok(Answer {
            decisions: more(&mut self.decisions, bytes(DECISION_ROW_BYTES))?,
            counts: beside.counts.then_some(counts),
            gates: beside.gates.is_some().then_some(gates),
            holds: beside.holds.then_some(holds),
        })
    }

    /// Gives back the room that it does not need.
    fn end(mut self) -> Self {
        for bytes in [&mut self.decisions, &mut self.counts, &mut self.gates, &mut self.holds] {
            bytes.shrink_to_fit();
        }
        self
    }
}

/// The chunks of an answer while it is made: rows of small chunks of a table are in one, up to so many.
pub(super) struct Answers {
    beside: Beside,
    most: usize,
    ended: Vec<Chunk>,
    last: Chunk,
}

impl Answers {
    pub(super) fn of(beside: Beside, most: usize) -> Self {
        Self {
            beside,
            most,
            ended: Vec::new(),
            last: Chunk::default(),
        }
    }

    /// Room for the next rows.
    pub(super) fn room(&mut self, rows: usize) -> PyResult<Answer<'_>> {
        if self.last.rows().saturating_add(rows) > self.most {
            self.end_last()?;
        }
        self.last.more(&self.beside, rows)
    }

    fn end_last(&mut self) -> PyResult<()> {
        if self.last.rows() > 0 {
            self.ended.try_reserve(1).map_err(no_room)?;
            self.ended.push(take(&mut self.last).end());
        }
        Ok(())
    }

    /// All of them.
    pub(super) fn end(mut self) -> PyResult<Decisions> {
        self.end_last()?;
        Ok(Decisions::of(self.beside, self.ended))
    }
}

/// A class, and what it is made of.
type Remade<'py> = (Bound<'py, PyType>, (Bound<'py, PyAny>,), Bound<'py, PyDict>);

/// The decisions on a table, in order: a table for whoever reads the Arrow PyCapsule interface, or an array.
///
/// Its columns are the fields of `DECISION_DTYPE`, and `counts`, `gates` and `holds` where they were asked for; what is absent
/// is null. Made of the arrays that a batch of an array gives, it is their table.
#[pyclass(frozen, module = "decidable")]
pub(crate) struct Decisions {
    beside: Beside,
    chunks: Arc<[Chunk]>,
    hash: OnceLock<u64>,
}

impl Decisions {
    fn of(beside: Beside, chunks: Vec<Chunk>) -> Self {
        Self {
            beside,
            chunks: chunks.into(),
            hash: OnceLock::new(),
        }
    }

    /// The rows of one part, of so many bytes each, wherever chunks end.
    fn rows(&self, part: impl Fn(&Chunk) -> &[u8], bytes: usize) -> impl Iterator<Item = &[u8]> {
        self.chunks
            .iter()
            .flat_map(move |chunk| part(chunk).chunks_exact(bytes.max(1)))
    }

    /// All of one part, copied with the interpreter lock free.
    fn all<'py>(&self, py: Python<'py>, part: fn(&Chunk) -> &[u8]) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let all = py.detach(|| {
            let bytes = self.chunks.iter().map(|chunk| part(chunk).len());
            let mut all = Vec::new();
            all.try_reserve_exact(bytes.fold(0, usize::saturating_add))?;
            for chunk in self.chunks.iter() {
                all.extend_from_slice(part(chunk));
            }
            Ok(all)
        });
        Ok(PyArray1::from_vec(py, all.map_err(no_room)?))
    }

    /// What was asked for beside the decisions, as the arrays that a batch of an array fills.
    fn beside_as_arrays<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let arrays = Arrays::of(py)?;
        let keywords = PyDict::new(py);
        if self.beside.counts {
            let counts = self.all(py, |chunk| &chunk.counts)?;
            keywords.set_item("counts", counts.call_method1("view", (&arrays.rejection,))?)?;
        }
        if let Some(models) = self.beside.gates {
            let gates = self.all(py, |chunk| &chunk.gates)?;
            keywords.set_item("gates", gates.call_method1("reshape", (self.__len__(), models))?)?;
        }
        if self.beside.holds {
            let holds = self.all(py, |chunk| &chunk.holds)?;
            keywords.set_item("holds", holds.call_method1("view", (&arrays.u64,))?)?;
        }
        Ok(keywords)
    }

    fn field(&self) -> PyResult<FieldRef> {
        let empty = table(&self.beside, &Part::default()).map_err(pyo3_arrow::error::PyArrowError::from)?;
        Ok(Arc::new(Field::new("", empty.data_type().clone(), false)))
    }
}

#[pymethods]
impl Decisions {
    #[new]
    #[pyo3(signature = (decisions, *, counts=None, gates=None, holds=None))]
    fn new(
        decisions: &Bound<'_, PyAny>,
        counts: Option<&Bound<'_, PyAny>>,
        gates: Option<&Bound<'_, PyAny>>,
        holds: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = decisions.py();
        let arrays = Arrays::of(py)?;
        let mut chunk = Chunk {
            decisions: arrays.copied("decisions", decisions, &arrays.decision, "DECISION_DTYPE", None)?,
            ..Chunk::default()
        };
        py.detach(|| decisions_in(&chunk.decisions))
            .map_err(|error| batch_error(py, &error, 0))?;
        let count = chunk.rows();
        let mut models = None;
        if let Some(counts) = counts {
            chunk.counts = arrays.copied("counts", counts, &arrays.rejection, "REJECTION_DTYPE", Some(&[count]))?;
        }
        if let Some(gates) = gates {
            let shape = gates.getattr_opt("shape")?;
            let shape = shape.and_then(|shape| shape.extract::<(usize, usize)>().ok());
            // What has no number of models, or one that no catalog has, is refused with the shape that it should have.
            let columns = shape.map_or(1, |(_, columns)| columns).clamp(1, MOST_CANDIDATES);
            chunk.gates = arrays.copied("gates", gates, &arrays.byte, "uint8", Some(&[count, columns]))?;
            if let Some(at) = py.detach(|| chunk.gates.iter().position(|gate| !is_gate(*gate))) {
                let value = chunk.gates.get(at).copied().unwrap_or_default();
                let range = format!("0 to {UTILITY} and {NOT_LOOKED_AT}");
                return Err(super::outside(py, at / columns, "gates", value.into(), &range));
            }
            models = Some(columns);
        }
        if let Some(holds) = holds {
            chunk.holds = arrays.copied("holds", holds, &arrays.u64, "uint64", Some(&[count]))?;
        }
        let beside = Beside {
            counts: counts.is_some(),
            gates: models,
            holds: holds.is_some(),
        };
        Ok(Self::of(beside, vec![chunk]))
    }
    /// What a pickled one is made of again: with every protocol, of which the first two know no `__getnewargs_ex__`.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Remade<'py>)> {
        let py = slf.py();
        let this = slf.get();
        let make = PyModule::import(py, "copyreg")?.getattr("__newobj_ex__")?;
        let (decisions, keywords) = (this.to_numpy(py)?, this.beside_as_arrays(py)?);
        Ok((make, (slf.get_type(), (decisions,), keywords)))
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    /// Equal where the tables are, whatever their chunks.
    fn __eq__(&self, py: Python<'_>, other: &Self) -> bool {
        self.beside == other.beside
            && py.detach(|| {
                let same = |part: fn(&Chunk) -> &[u8], bytes| self.rows(part, bytes).eq(other.rows(part, bytes));
                same(|chunk| &chunk.decisions, DECISION_ROW_BYTES)
                    && same(|chunk| &chunk.counts, COUNTS_ROW_BYTES)
                    && same(|chunk| &chunk.gates, self.beside.gates.unwrap_or(0))
                    && same(|chunk| &chunk.holds, HOLD_ROW_BYTES)
            })
    }
    fn __hash__(&self, py: Python<'_>) -> u64 {
        // It takes as long as the table is.
        if let Some(hash) = self.hash.get() {
            return *hash;
        }
        py.detach(|| {
            let mut state = DefaultHasher::new();
            for row in self.rows(|chunk| &chunk.decisions, DECISION_ROW_BYTES) {
                row.hash(&mut state);
            }
            *self.hash.get_or_init(|| state.finish())
        })
    }
    fn __len__(&self) -> usize {
        self.chunks.iter().map(Chunk::rows).fold(0, usize::saturating_add)
    }
    fn __repr__(&self) -> String {
        format!("<Decisions on {}>", counted(self.__len__(), "request"))
    }
    /// The stream of the table, as often as it is asked for. Another schema is not made: the columns have these types.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface leaves it to us whether to honour this one.
        let _ = requested_schema;
        let (beside, chunks) = (self.beside, Arc::clone(&self.chunks));
        let rows = beside.rows_at_a_time();
        // Each is found when it is its turn: a list of all would need memory before the first.
        let counted = Arc::clone(&chunks);
        let parts = (0..chunks.len()).flat_map(move |number| {
            let count = counted.get(number).map_or(0, Chunk::rows);
            (0..count).step_by(rows).map(move |first| (number, first))
        });
        let tables = parts.map(move |(number, first)| {
            let part = chunks.get(number).map(|chunk| chunk.part(&beside, first, rows));
            table(&beside, &part.unwrap_or_default())
        });
        let reader = Box::new(ArrayIterator::new(tables, self.field()?));
        Ok(to_stream_pycapsule(py, reader, None)?)
    }
    /// The schema of the table.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, self.field()?.as_ref())?)
    }
    /// A new array of `DECISION_DTYPE`, as a batch of an array gives it.
    fn to_numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let decisions = self.all(py, |chunk| &chunk.decisions)?;
        decisions.call_method1("view", (&Arrays::of(py)?.decision,))
    }
    /// What NumPy makes an array of: that of `to_numpy`, which is a copy always.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            let message = "the array of decisions is a copy, and copy=False asks for none";
            return Err(plain(py, Class::InvalidInput, "batch.copied", message));
        }
        let array = self.to_numpy(py)?;
        match dtype {
            None => Ok(array),
            Some(dtype) => array.call_method1("astype", (dtype,)),
        }
    }
}

/// 0 for none, then the gates by their numbers.
fn is_gate(byte: u8) -> bool {
    byte <= UTILITY || byte == NOT_LOOKED_AT
}

/// Room for so many values of a column: where there is none the reader is told, and the process goes on.
fn room<T>(count: usize) -> Result<Vec<T>, ArrowError> {
    let mut room = Vec::new();
    room.try_reserve_exact(count)
        .map_err(|error| ArrowError::MemoryError(error.to_string()))?;
    Ok(room)
}

/// Values of a column that may be absent, in room that they have from the beginning.
struct Absent<T> {
    values: Vec<T>,
    /// A bit for each value, the lowest of a byte first: whether it is there.
    there: Vec<u8>,
}

impl<T: ArrowNativeType> Absent<T> {
    fn room(count: usize) -> Result<Self, ArrowError> {
        Ok(Self {
            values: room(count)?,
            there: room(count.div_ceil(8))?,
        })
    }

    fn push(&mut self, value: Option<T>) {
        let bit = self.values.len() % 8;
        if bit == 0 {
            self.there.push(0);
        }
        if let Some(byte) = self.there.last_mut() {
            *byte |= u8::from(value.is_some()) << bit;
        }
        self.values.push(value.unwrap_or_default());
    }

    fn column<A: ArrowPrimitiveType<Native = T>>(self) -> PrimitiveArray<A> {
        let there = BooleanBuffer::new(Buffer::from_vec(self.there), 0, self.values.len());
        let nulls = NullBuffer::new(there);
        PrimitiveArray::new(self.values.into(), (nulls.null_count() > 0).then_some(nulls))
    }
}

/// Rows of decisions as columns, and what was asked beside them; what is absent is what the kernel says is.
fn table(beside: &Beside, chunk: &Part<'_>) -> Result<ArrayRef, ArrowError> {
    let (rows, _) = chunk.decisions.as_chunks::<DECISION_ROW_BYTES>();
    let count = rows.len();
    let mut request_sequence = room(count)?;
    let mut action = room(count)?;
    let mut reason = room(count)?;
    let mut selected_model_id = Absent::room(count)?;
    let mut selected_model_index = Absent::room(count)?;
    let mut estimated_cost = room(count)?;
    let mut expected_utility = room(count)?;
    let mut counterfactual_model_id = Absent::room(count)?;
    let mut counterfactual_utility = room(count)?;
    let mut evaluated_models = room(count)?;
    let mut eligible_models = room(count)?;
    let mut policy_epoch = room(count)?;
    let mut catalog_epoch = room(count)?;
    for row in rows {
        let decision = Decision::decode(&mut Reader::new(row))
            .map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
        request_sequence.push(decision.request_sequence);
        action.push(decision.action.code());
        reason.push(decision.reason.code());
        selected_model_id.push(decision.selected_model_id);
        selected_model_index.push(decision.selected_model_index);
        estimated_cost.push(decision.estimated_cost_microunits);
        expected_utility.push(decision.expected_utility_microunits);
        counterfactual_model_id.push(decision.counterfactual_model_id);
        counterfactual_utility.push(decision.counterfactual_utility_microunits);
        evaluated_models.push(decision.evaluated_models);
        eligible_models.push(decision.eligible_models);
        policy_epoch.push(decision.policy_epoch);
        catalog_epoch.push(decision.catalog_epoch);
    }
    let mut columns: Vec<(&str, bool, ArrayRef)> = vec![
        ("request_sequence", false, Arc::new(UInt64Array::from(request_sequence))),
        ("action", false, Arc::new(UInt8Array::from(action))),
        ("reason", false, Arc::new(UInt16Array::from(reason))),
        (
            "selected_model_id",
            true,
            Arc::new(selected_model_id.column::<UInt32Type>()),
        ),
        (
            "selected_model_index",
            true,
            Arc::new(selected_model_index.column::<UInt16Type>()),
        ),
        (
            "estimated_cost_microunits",
            false,
            Arc::new(UInt64Array::from(estimated_cost)),
        ),
        (
            "expected_utility_microunits",
            false,
            Arc::new(Int64Array::from(expected_utility)),
        ),
        (
            "counterfactual_model_id",
            true,
            Arc::new(counterfactual_model_id.column::<UInt32Type>()),
        ),
        (
            "counterfactual_utility_microunits",
            false,
            Arc::new(Int64Array::from(counterfactual_utility)),
        ),
        ("evaluated_models", false, Arc::new(UInt16Array::from(evaluated_models))),
        ("eligible_models", false, Arc::new(UInt16Array::from(eligible_models))),
        ("policy_epoch", false, Arc::new(UInt64Array::from(policy_epoch))),
        ("catalog_epoch", false, Arc::new(UInt64Array::from(catalog_epoch))),
    ];
    if beside.counts {
        columns.push(("counts", false, counts(chunk.counts)?));
    }
    if let Some(models) = beside.gates {
        columns.push(("gates", false, gates(chunk.gates, models, count)?));
    }
    if beside.holds {
        let (holds, _) = chunk.holds.as_chunks();
        let mut each = room(holds.len())?;
        each.extend(holds.iter().map(|hold| u64::from_le_bytes(*hold)));
        columns.push(("holds", false, Arc::new(UInt64Array::from(each))));
    }
    struct_of(columns)
}

/// How many models each gate refused, a number for each gate.
fn counts(rows: &[u8]) -> Result<ArrayRef, ArrowError> {
    let (rows, _) = rows.as_chunks::<COUNTS_ROW_BYTES>();
    let of_gate = |gate: usize| -> Result<ArrayRef, ArrowError> {
        let mut counted = room(rows.len())?;
        let each = rows
            .iter()
            .map(|row| row.as_chunks().0.get(gate).copied().unwrap_or_default());
        counted.extend(each.map(u32::from_le_bytes));
        Ok(Arc::new(UInt32Array::from(counted)))
    };
    let columns = Rejections::NAMES.into_iter().enumerate();
    let columns = columns.map(|(gate, name)| Ok((name, false, of_gate(gate)?)));
    struct_of(columns.collect::<Result<_, ArrowError>>()?)
}

/// The gate at which each model lost, as many numbers a row as there are models.
fn gates(gates: &[u8], models: usize, rows: usize) -> Result<ArrayRef, ArrowError> {
    let size = i32::try_from(models).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
    let each = Arc::new(Field::new("item", DataType::UInt8, false));
    let mut all = room(gates.len())?;
    all.extend_from_slice(gates);
    let lists = FixedSizeListArray::try_new_with_length(each, size, Arc::new(UInt8Array::from(all)), None, rows)?;
    Ok(Arc::new(lists))
}

fn struct_of(columns: Vec<(&str, bool, ArrayRef)>) -> Result<ArrayRef, ArrowError> {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, nullable, array)| (Field::new(name, array.data_type().clone(), nullable), array))
        .unzip();
    Ok(Arc::new(StructArray::try_new(fields.into(), arrays, None)?))
}
