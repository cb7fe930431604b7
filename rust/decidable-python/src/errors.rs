//! The one mapping from Rust errors to the Python exceptions of `decidable.errors`.

use std::fmt::Display;
use std::path::Path;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// A class of the exception tree.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    InvalidInput,
    UnknownName,
    Conflict,
    LogUnavailable,
    VerificationError,
}

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "InvalidInput",
            Self::UnknownName => "UnknownName",
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

/// Of statistics of logits; with a row where there are several.
pub(crate) fn logits(py: Python<'_>, error: &decidable_guard::logits::Error, row: Option<usize>) -> PyErr {
    let message = match row {
        Some(row) => format!("row {row}: {error}"),
        None => error.to_string(),
    };
    raise(py, Class::InvalidInput, error.code(), &message, |details| {
        details.set_item("index", error.index())?;
        details.set_item("row", row)
    })
}

const fn ledger_class(kind: decidable_ledger::ErrorKind) -> Class {
    use decidable_ledger::ErrorKind as Kind;
    match kind {
        Kind::UnknownAccount => Class::UnknownName,
        Kind::UnknownHold | Kind::HoldInUse | Kind::AccountExists => Class::Conflict,
        Kind::Unbalanced => Class::VerificationError,
        _ => Class::InvalidInput,
    }
}

pub(crate) fn ledger(py: Python<'_>, error: &decidable_ledger::Error) -> PyErr {
    plain(py, ledger_class(error.kind()), error.code(), &error.to_string())
}

/// What the ledger refuses of an account: an amount is told with the name that the caller has for the account.
pub(crate) fn ledger_of(
    py: Python<'_>,
    kind: decidable_ledger::ErrorKind,
    error: &dyn Display,
    account: &str,
) -> PyErr {
    use decidable_ledger::ErrorKind as Kind;
    if !matches!(kind, Kind::InvalidAmount | Kind::Overflow) {
        return plain(py, ledger_class(kind), kind.code(), &error.to_string());
    }
    let message = format!("account {account:?}: {error}");
    raise(py, ledger_class(kind), kind.code(), &message, |details| {
        details.set_item("account", account)
    })
}

fn wal_class(kind: decidable_wal::ErrorKind) -> Class {
    use decidable_wal::ErrorKind as Kind;
    if kind.is_corruption() {
        return Class::VerificationError;
    }
    match kind {
        Kind::NotFound | Kind::UnknownSeq => Class::UnknownName,
        Kind::Invalid | Kind::TooLarge | Kind::NotALog => Class::InvalidInput,
        _ => Class::LogUnavailable,
    }
}

/// The message, and the detail, of what is wrong with the log in this directory.
struct Place<'a>(Option<&'a Path>);

impl Place<'_> {
    fn message(&self, error: &impl Display) -> String {
        match self.0 {
            Some(path) => format!("{}: {error}", path.display()),
            None => error.to_string(),
        }
    }
    fn note(&self, details: &Bound<'_, PyDict>) -> PyResult<()> {
        match self.0 {
            Some(path) => details.set_item("path", path.as_os_str()),
            None => Ok(()),
        }
    }
}

fn log(py: Python<'_>, error: &decidable_wal::Error, seq: Option<u64>, at: Option<&Path>) -> PyErr {
    let place = Place(at);
    raise(
        py,
        wal_class(error.kind()),
        error.code(),
        &place.message(error),
        |details| {
            place.note(details)?;
            details.set_item("seq", seq)?;
            details.set_item("offset", error.offset())?;
            details.set_item("line", error.line())?;
            details.set_item("os_code", error.os_code())?;
            details.set_item("what", error.code())
        },
    )
}

/// An error of reading a log. That there is none names the directory; the rest says where in the log it is.
pub(crate) fn reading(py: Python<'_>, error: &decidable_engine::Error, log: &Path) -> PyErr {
    use decidable_engine::ErrorKind as Kind;
    let none = matches!(error.kind(), Kind::Log(inner) if inner.kind() == decidable_wal::ErrorKind::NotFound);
    placed(py, error, none.then_some(log))
}

pub(crate) fn engine(py: Python<'_>, error: &decidable_engine::Error) -> PyErr {
    placed(py, error, None)
}

/// An error of an engine: what is wrong with its log names the directory.
pub(crate) fn engine_of(py: Python<'_>, error: &decidable_engine::Error, log: &Path) -> PyErr {
    placed(py, error, Some(log))
}

fn placed(py: Python<'_>, error: &decidable_engine::Error, at: Option<&Path>) -> PyErr {
    use decidable_engine::ErrorKind as Kind;
    use decidable_replay::ErrorKind as Replay;
    let class = match error.kind() {
        Kind::Log(inner) => return log(py, inner, error.seq().or(inner.seq()), at),
        Kind::Kernel(inner) => return kernel(py, inner),
        Kind::Replay(inner) if error.seq().is_none() => match inner.kind() {
            Replay::UnknownPolicy | Replay::UnknownAccount | Replay::UnknownTicket => Class::UnknownName,
            Replay::NothingSelected | Replay::AlreadyClosed | Replay::KeyConflict => Class::Conflict,
            Replay::Disagrees => Class::VerificationError,
            Replay::Ledger(kind) => ledger_class(kind),
            _ => Class::InvalidInput,
        },
        // Whatever is wrong with a record that was read is wrong with the log.
        _ if error.seq().is_some() => Class::VerificationError,
        Kind::Replay(_) | Kind::NotText(_) | Kind::DoesNotReplay(_) => Class::VerificationError,
        Kind::UnknownAccount(_) => Class::UnknownName,
        Kind::AccountExists(_)
        | Kind::KeyConflict(_)
        | Kind::Dispatched(_)
        | Kind::InDoubt(_)
        | Kind::SettledOtherwise(_) => Class::Conflict,
        Kind::BadName(_) | Kind::BadKey(_) | Kind::TooLarge(_) | Kind::NotExportable(_) => Class::InvalidInput,
        _ => Class::LogUnavailable,
    };
    let place = Place(at.filter(|_| matches!(class, Class::LogUnavailable | Class::VerificationError)));
    raise(py, class, error.code(), &place.message(error), |details| {
        place.note(details)?;
        details.set_item("seq", error.seq())?;
        if let Kind::NameGone { account } = error.kind() {
            details.set_item("account_number", account)?;
        }
        details.set_item("what", error.code())
    })
}
