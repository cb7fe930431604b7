//! Exporting a log to a new file, or to an object that has `write`.
//!
//! It knows nothing of the format: where the bytes go is all that is decided here.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use decidable_wal::Files;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::progress::Progress;
use super::values::{anchor_dict, tail_dict};
use crate::errors::{self, Class, raise};
use crate::key::keyed;
use crate::values::{otherwise, reason};

/// Where an export goes.
enum Target {
    /// A file that was created for it, its name, and why it could not be written.
    File {
        file: File,
        path: String,
        fault: Option<io::Error>,
    },
    /// An object that has `write`, and what it raised.
    Stream { stream: Py<PyAny>, fault: Option<PyErr> },
}

impl Target {
    fn of(out: &Bound<'_, PyAny>) -> PyResult<Self> {
        if out.hasattr("write")? {
            return Ok(Self::Stream {
                stream: out.clone().unbind(),
                fault: None,
            });
        }
        let (py, path) = (out.py(), out.extract::<PathBuf>()?);
        let shown = path.display().to_string();
        match py.detach(|| File::create_new(path)) {
            Ok(file) => Ok(Self::File {
                file,
                path: shown,
                fault: None,
            }),
            Err(error) => Err(unwritable(py, &shown, "created", &error)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.sync_all(),
            Self::Stream { .. } => Ok(()),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, fault, .. } => file.write(bytes).map_err(|error| {
                // The fault that the log makes of it would not name the file. One that is only interrupted is tried again.
                let kind = error.kind();
                if kind != io::ErrorKind::Interrupted {
                    *fault = Some(error);
                }
                kind.into()
            }),
            Self::Stream { fault: Some(_), .. } => Err(io::Error::other("the stream has failed")),
            Self::Stream { stream, fault } => Python::attach(|py| {
                let written = stream.call_method1(py, "write", (PyBytes::new(py, bytes),))?;
                // A stream that does not say how much it took has taken all.
                let written = otherwise(py, written.extract(py), bytes.len())?;
                Ok(written.min(bytes.len()))
            })
            .map_err(|error: PyErr| {
                *fault = Some(error);
                io::Error::other("the stream has failed")
            }),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unwritable(py: Python<'_>, path: &str, what: &str, error: &io::Error) -> PyErr {
    raise(
        py,
        Class::InvalidInput,
        "export.unwritable",
        &format!("{path} cannot be {what}: {}", reason(error)),
        |details| details.set_item("path", path),
    )
}

/// Writes the decisions of a log in the exchange format to a new file, or to an object that has `write`.
#[pyfunction]
#[pyo3(signature = (path, out, *, key=None, out_key=None, progress=None))]
pub(crate) fn export_log<'py>(
    py: Python<'py>,
    path: PathBuf,
    out: &Bound<'py, PyAny>,
    key: Option<&Bound<'py, PyAny>>,
    out_key: Option<&Bound<'py, PyAny>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (key, out_key) = (keyed(key)?, keyed(out_key)?);
    let mut target = Target::of(out)?;
    let mut progress = Progress::to(py, progress.as_ref())?;
    let exported = py.detach(|| {
        let out = BufWriter::new(&mut target);
        let exported = decidable_engine::export(&Files::new(path.clone()), key, out, out_key, |seq| progress.step(seq));
        exported.map(|exported| target.sync().map(|()| exported))
    });
    if let Some(interrupted) = progress.interrupted {
        return Err(interrupted);
    }
    let exported = match (exported, target) {
        (_, Target::Stream { fault: Some(fault), .. }) => return Err(fault),
        (Ok(Ok(exported)), _) => exported,
        (
            Err(_),
            Target::File {
                path,
                fault: Some(error),
                ..
            },
        )
        | (Ok(Err(error)), Target::File { path, .. }) => return Err(unwritable(py, &path, "written", &error)),
        (Ok(Err(error)), Target::Stream { .. }) => return Err(error.into()),
        (Err(error), _) => return Err(errors::reading(py, &error, &path)),
    };
    let summary = PyDict::new(py);
    summary.set_item("decisions", exported.decisions)?;
    summary.set_item("refusals_left_out", exported.refusals)?;
    summary.set_item("tail", exported.tail.map(|tail| tail_dict(py, &tail)).transpose()?)?;
    summary.set_item(
        "anchor",
        exported.anchor.map(|anchor| anchor_dict(py, &anchor)).transpose()?,
    )?;
    Ok(summary)
}
