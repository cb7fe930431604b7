//! The one mapping from Rust errors to the Python exceptions of `decidable.errors`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// A class of the exception tree.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    InvalidInput,
    UnknownName,
    Refused,
    Conflict,
    LogUnavailable,
    VerificationError,
}

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "InvalidInput",
            Self::UnknownName => "UnknownName",
            Self::Refused => "Refused",
            Self::Conflict => "Conflict",
            Self::LogUnavailable => "LogUnavailable",
            Self::VerificationError => "VerificationError",
        }
    }
}

/// An exception with its code, its message and the values that the message names.
pub(crate) fn raise<'py>(
    py: Python<'py>,
    class: Class,
    code: &str,
    message: &str,
    details: impl FnOnce(&Bound<'py, PyDict>) -> PyResult<()>,
) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let module = CLASSES.get_or_try_init(py, || PyModule::import(py, "decidable.errors").map(Bound::unbind))?;
        let class = module.bind(py).getattr(class.name())?.cast_into::<PyType>()?;
        let keywords = PyDict::new(py);
        details(&keywords)?;
        Ok(PyErr::from_value(class.call((code, message), Some(&keywords))?))
    };
    build().unwrap_or_else(|error| error)
}

/// An exception without details.
pub(crate) fn plain(py: Python<'_>, class: Class, code: &str, message: &str) -> PyErr {
    raise(py, class, code, message, |_| Ok(()))
}

pub(crate) fn kernel(py: Python<'_>, error: &decidable_kernel::Error) -> PyErr {
    let class = match error.kind() {
        decidable_kernel::ErrorKind::UnknownModel => Class::UnknownName,
        _ => Class::InvalidInput,
    };
    raise(py, class, error.code(), &error.to_string(), |details| {
        details.set_item("field", error.field())?;
        details.set_item("value", error.value())?;
        details.set_item("model_id", error.model_id())?;
        details.set_item("row", error.row())
    })
}

pub(crate) fn ledger(py: Python<'_>, error: &decidable_ledger::Error) -> PyErr {
    use decidable_ledger::ErrorKind as Kind;
    let class = match error.kind() {
        Kind::UnknownAccount => Class::UnknownName,
        Kind::UnknownHold | Kind::HoldInUse | Kind::AccountExists => Class::Conflict,
        Kind::Unbalanced => Class::VerificationError,
        _ => Class::InvalidInput,
    };
    plain(py, class, error.code(), &error.to_string())
}

