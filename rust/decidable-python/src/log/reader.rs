//! Reading a log record by record, verified batch by batch.
//!
//! It knows nothing of what records say but their kind.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use decidable_engine::Book;
use decidable_wal::{Files, Scan, ScanOptions, Tail};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::record::{Record, Seen, known_kind};
use super::values::tail_dict;
use crate::errors;
use crate::key::keyed;
use crate::values::text;

/// How many batches a reader walks between two looks at the interpreter's signals, where none has a record of the kind.
const BATCHES_UNSEEN: usize = 16;

/// An iterator over the records of a log, verified batch by batch.
#[pyclass(frozen, module = "decidable._native")]
pub(crate) struct Reader(
    // In a box of its own: Python aligns objects to 16 bytes, and the ledger inside asks for more.
    Mutex<Box<Reading>>,
);

struct Reading {
    scan: Option<Scan<'static>>,
    book: Book,
    kind: Option<String>,
    ready: VecDeque<Seen>,
    /// What stood behind the last batch, once it was reached.
    tail: Option<Tail>,
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (path, *, kind=None, key=None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        kind: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let kind = kind.map(|kind| known_kind(py, &text("kind", kind)?)).transpose()?;
        let options = ScanOptions {
            key: keyed(key)?,
            ..ScanOptions::default()
        };
        let scan = py
            .detach(|| Scan::open(&Files::new(path.clone()), &options))
            .map_err(|error| errors::reading(py, &error.into(), &path))?;
        let reading = Reading {
            scan: Some(scan),
            book: Book::new(),
            kind,
            ready: VecDeque::new(),
            tail: None,
        };
        Ok(Self(Mutex::new(Box::new(reading))))
    }
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
    /// The bytes after the last whole batch, which are no records; known once the records have come to their end.
    #[getter]
    fn tail<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let tail = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).tail);
        tail.map(|tail| tail_dict(py, &tail)).transpose()
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Record>> {
        loop {
            let found = py
                .detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).walk())
                .map_err(|error| errors::engine(py, &error))?;
            match found {
                Walked::Found(seen) => return seen.into_record(py).map(Some),
                Walked::End => return Ok(None),
                Walked::Nothing => py.check_signals()?,
            }
        }
    }
}

/// What a reader came upon in the batches that it walked.
enum Walked {
    Found(Box<Seen>),
    Nothing,
    End,
}

impl Reading {
    /// Goes on to the next record of the kind, through so many batches at most.
    fn walk(&mut self) -> Result<Walked, decidable_engine::Error> {
        for _ in 0..BATCHES_UNSEEN {
            if let Some(seen) = self.ready.pop_front() {
                return Ok(Walked::Found(Box::new(seen)));
            }
            let Some(scan) = &mut self.scan else {
                return Ok(Walked::End);
            };
            let (book, ready, kind) = (&mut self.book, &mut self.ready, &self.kind);
            let mut fault = None;
            let more = scan.next_batch(|framed| {
                let entry = book.read(framed).map_err(|error| {
                    let message = error.to_string();
                    fault = Some(error);
                    message
                })?;
                if let Some(seen) = Seen::of(framed, entry, book)
                    && kind.as_deref().is_none_or(|kind| kind == seen.kind)
                {
                    ready.push_back(seen);
                }
                Ok(())
            });
            match (more, fault) {
                (Ok(true), None) => {}
                // Some things only the end shows, such as a private part that was changed and never erased.
                (Ok(false), None) => {
                    if let Some(scan) = self.scan.take() {
                        let scanned = scan.finish()?;
                        self.tail = scanned.tail;
                        book.expect_names(&scanned)?;
                    }
                }
                (more, fault) => {
                    self.scan = None;
                    self.ready.clear();
                    return Err(match (fault, more) {
                        (Some(fault), _) => fault,
                        (None, Err(error)) => error.into(),
                        (None, Ok(_)) => return Ok(Walked::End),
                    });
                }
            }
        }
        Ok(Walked::Nothing)
    }
}
