//! Values from Python: integers, texts, paths. What Python takes as an index is an integer here, NumPy's integers among them;
//! a float or a bool is none.

use std::fmt::Display;
use std::num::NonZeroU16;

use decidable_canon::hex;
use decidable_kernel::Objective;
use pyo3::PyClass;
use pyo3::exceptions::{PyAttributeError, PyException, PyLookupError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyString};

use crate::errors::{Class, raise};

/// An integer type with a range that an error can name.
pub(crate) trait Integer: for<'a, 'py> FromPyObject<'a, 'py> {
    const RANGE: &'static str;
}

impl Integer for u16 {
    const RANGE: &'static str = "0 to 65,535";
}
impl Integer for NonZeroU16 {
    const RANGE: &'static str = "1 to 65,535";
}
impl Integer for u32 {
    const RANGE: &'static str = "0 to 2^32 - 1";
}
impl Integer for u64 {
    const RANGE: &'static str = "0 to 2^64 - 1";
}
impl Integer for u128 {
    const RANGE: &'static str = "0 to 2^128 - 1";
}
impl Integer for i64 {
    const RANGE: &'static str = "-2^63 to 2^63 - 1";
}

/// An integer within the range of `T`.
#[inline]
pub(crate) fn integer<T: Integer>(field: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    integer_in(field, &field, value)
}

/// An integer within the range of `T` that is a part of a field; a message says which.
#[inline]
pub(crate) fn integer_in<T: Integer>(field: &str, part: &dyn Display, value: &Bound<'_, PyAny>) -> PyResult<T> {
    if value.is_exact_instance_of::<PyInt>() {
        return value
            .extract::<T>()
            .map_err(|_| out_of_range(field, part, value, T::RANGE));
    }
    let number = index(value, || not_an_integer(field, part, value))?;
    number
        .extract::<T>()
        .map_err(|_| out_of_range(field, part, &number, T::RANGE))
}

/// What stands for an integer without being an exact `int`: what has `__index__`, and is no bool.
#[cold]
fn index<'py>(value: &Bound<'py, PyAny>, refused: impl Fn() -> PyErr) -> PyResult<Bound<'py, PyAny>> {
    if value.is_instance_of::<PyBool>() {
        return Err(refused());
    }
    let number = value
        .call_method0("__index__")
        .map_err(|error| instead(value.py(), error, &refused))?;
    // A bool is no number here either.
    if number.is_exact_instance_of::<PyInt>() {
        Ok(number)
    } else {
        Err(refused())
    }
}

/// As [`integer`], beside which text stands that a guard has not read: what is none may be that, so its type stands for it.
#[inline]
pub(crate) fn integer_untold<T: Integer>(field: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    if !value.is_exact_instance_of::<PyInt>() {
        let number = index(value, || not_an_integer_as(field, &field, value, kind(value)))?;
        return integer(field, &number);
    }
    integer(field, value)
}

#[cold]
fn not_an_integer(field: &str, part: &dyn Display, value: &Bound<'_, PyAny>) -> PyErr {
    not_an_integer_as(field, part, value, value)
}

#[cold]
fn not_an_integer_as<'py>(
    field: &str,
    part: &dyn Display,
    value: &Bound<'py, PyAny>,
    told: impl IntoPyObject<'py>,
) -> PyErr {
    let message = format!("{part} must be an int, not {}", kind(value));
    raise(
        value.py(),
        Class::InvalidInput,
        "input.not_an_integer",
        &message,
        |details| {
            details.set_item("field", field)?;
            details.set_item("value", told)
        },
    )
}

#[cold]
fn out_of_range(field: &str, part: &dyn Display, value: &Bound<'_, PyAny>, range: &str) -> PyErr {
    let message = match shown(value) {
        Ok(value) => format!("{part} is {value}, outside {range}"),
        Err(raised) => return raised,
    };
    raise(
        value.py(),
        Class::InvalidInput,
        "input.out_of_range",
        &message,
        |details| {
            details.set_item("field", field)?;
            details.set_item("value", value)
        },
    )
}

/// An argument that may be left out, which is not the same as giving `None`.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a, 'py>(pub(crate) Option<Borrowed<'a, 'py, PyAny>>);

impl<'a, 'py> Given<'a, 'py> {
    pub(crate) const NOT: Self = Self(None);

    /// An integer within the range of `T`, or the default where the argument was left out.
    #[inline(always)]
    pub(crate) fn integer_or<T: Integer>(self, field: &str, default: T) -> PyResult<T> {
        self.or(default, |value| integer(field, value))
    }

    /// As [`Self::integer_or`], and `none` where `None` was given.
    #[inline(always)]
    pub(crate) fn optional_or<T: Integer>(self, field: &str, none: T, default: T) -> PyResult<T> {
        self.or(default, |value| {
            if value.is_none() {
                return Ok(none);
            }
            integer(field, value)
        })
    }

    /// What `read` makes of the argument, or the default where it was left out.
    #[inline(always)]
    pub(crate) fn or<T>(self, default: T, read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>) -> PyResult<T> {
        match self.0 {
            Some(value) => read(&value),
            None => Ok(default),
        }
    }
}

/// An argument that is left out by giving `None`.
impl<'a, 'py> From<Option<&'a Bound<'py, PyAny>>> for Given<'a, 'py> {
    fn from(value: Option<&'a Bound<'py, PyAny>>) -> Self {
        Self(value.map(Bound::as_borrowed))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'a, 'py> {
    type Error = core::convert::Infallible;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self(Some(value)))
    }
}

/// An integer, or `None`.
pub(crate) fn optional<T: Integer>(field: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<T>> {
    value.map(|value| integer(field, value)).transpose()
}

/// An integer, or the object `None`.
pub(crate) fn integer_or_none<T: Integer>(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<T>> {
    (!value.is_none()).then(|| integer(field, value)).transpose()
}

/// A `bool`; nothing else is one.
pub(crate) fn truth(field: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value
        .cast::<PyBool>()
        .map(|value| value.is_true())
        .map_err(|_| wrong_type(field, "a bool", value))
}

/// What a text must be.
pub(crate) const VALID_UNICODE: &str = "valid Unicode, which a str with a surrogate that has no other half is not";

/// A `str` that is UTF-8.
pub(crate) fn text(field: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let Ok(text) = value.cast::<PyString>() else {
        return Err(wrong_type(field, "a str", value));
    };
    text.to_str()
        .map(str::to_owned)
        .map_err(|_| wrong(field, VALID_UNICODE, value))
}

/// A `str`, or `None`.
pub(crate) fn optional_text(field: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<String>> {
    value.map(|value| text(field, value)).transpose()
}

/// The objective of a label.
pub(crate) fn objective(value: &Bound<'_, PyAny>) -> PyResult<Objective> {
    let name = text("objective", value)?;
    Objective::from_label(&name).ok_or_else(|| {
        let known = Objective::ALL.map(Objective::label).join(", ");
        let message = format!("objective is {name:?}, which is none of {known}");
        raise(
            value.py(),
            Class::InvalidInput,
            "kernel.unknown_objective",
            &message,
            |details| {
                details.set_item("field", "objective")?;
                details.set_item("value", &name)
            },
        )
    })
}

/// So many of a thing: `1 request`, `2 requests`.
pub(crate) fn counted<N: PartialEq + From<u8> + std::fmt::Display>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// Refuses keywords that a call does not take, and names those that it takes and that look alike.
pub(crate) fn no_others(call: &str, others: Option<&Bound<'_, PyDict>>, known: &[&str]) -> PyResult<()> {
    match others.and_then(|others| others.keys().iter().next()) {
        Some(name) => Err(unexpected(call, &name, known)?),
        None => Ok(()),
    }
}

#[cold]
fn unexpected(call: &str, name: &Bound<'_, PyAny>, known: &[&str]) -> PyResult<PyErr> {
    let builders = PyModule::import(name.py(), "decidable.builders")?;
    let shown: String = builders.getattr("describe")?.call1((name,))?.extract()?;
    let near: String = builders.getattr("suggestion")?.call1((name, known))?.extract()?;
    let message = format!("{call}() got an unexpected keyword argument {shown}{near}");
    Ok(PyTypeError::new_err(message))
}

/// Refuses a call that leaves out keywords that it needs: those of `names` that stand first.
#[inline(always)]
pub(crate) fn no_missing<const N: usize>(call: &str, names: &[&str], needed: [Given<'_, '_>; N]) -> PyResult<()> {
    if needed.iter().all(|given| given.0.is_some()) {
        return Ok(());
    }
    Err(missing(call, names, &needed))
}

#[cold]
fn missing(call: &str, names: &[&str], needed: &[Given<'_, '_>]) -> PyErr {
    let left_out: Vec<String> = names
        .iter()
        .zip(needed)
        .filter(|(_, given)| given.0.is_none())
        .map(|(name, _)| format!("'{name}'"))
        .collect();
    let arguments = if left_out.len() == 1 { "argument" } else { "arguments" };
    let listed = match left_out.split_last() {
        Some((last, [first])) => format!("{first} and {last}"),
        Some((last, before)) if !before.is_empty() => format!("{}, and {last}", before.join(", ")),
        _ => left_out.concat(),
    };
    let number = left_out.len();
    PyTypeError::new_err(format!(
        "{call}() missing {number} required keyword {arguments}: {listed}"
    ))
}

/// `bytes`.
pub(crate) fn bytes<'a>(field: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    value
        .cast::<PyBytes>()
        .map(|value| value.as_bytes())
        .map_err(|_| wrong_type_untold(field, "bytes", value))
}

/// The UTF-8 of a `str`, or `bytes`.
pub(crate) fn text_or_bytes<'a>(field: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.as_bytes());
    }
    let text = value
        .cast::<PyString>()
        .map_err(|_| wrong_type_untold(field, "a str or bytes", value))?;
    // Without the interpreter's own error, which has the text.
    text.to_str()
        .map(str::as_bytes)
        .map_err(|_| wrong_untold(field, VALID_UNICODE, value))
}

/// Exactly `N` bytes.
pub(crate) fn exactly<const N: usize>(field: &str, value: &Bound<'_, PyAny>) -> PyResult<[u8; N]> {
    let given = bytes(field, value)?;
    given
        .try_into()
        .map_err(|_| wrong_untold(field, &format!("{N} bytes, not {}", given.len()), value))
}

/// A dictionary from integers.
pub(crate) fn dictionary<'a, 'py>(field: &str, value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyDict>> {
    value.cast::<PyDict>().map_err(|_| wrong_type(field, "a dict", value))
}

/// The value, if it is one of that class.
pub(crate) fn one_of<'a, 'py, T: PyClass>(
    field: &str,
    wanted: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, T>> {
    value.cast::<T>().map_err(|_| wrong_type(field, wanted, value))
}

/// The values of an iterable of that class.
pub(crate) fn all_of<T: PyClass<Frozen = True> + Sync, V>(
    field: &str,
    wanted: &str,
    values: &Bound<'_, PyAny>,
    value: impl Fn(&T) -> V,
) -> PyResult<Vec<V>> {
    let each = values
        .try_iter()
        .map_err(|error| instead(values.py(), error, || wrong_type(field, wanted, values)))?;
    each.map(|one| {
        let one = one?;
        let one = one
            .cast::<T>()
            .map_err(|_| wrong(field, &format!("{wanted}, not of {}", kind(&one)), &one))?;
        Ok(value(one.get()))
    })
    .collect()
}

/// Exactly `N` bytes in lowercase hex.
pub(crate) fn hex_bytes<const N: usize>(field: &str, value: &Bound<'_, PyAny>) -> PyResult<[u8; N]> {
    let given = text(field, value)?;
    hex::decode(&given)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            let wanted = format!("{} lowercase hex digits", N.saturating_mul(2));
            let other = given.chars().find(|each| !matches!(each, '0'..='9' | 'a'..='f'));
            let found = match other {
                Some(other) => format!("and {other:?} is none"),
                None => format!("not {}", given.len()),
            };
            wrong(field, &format!("{wanted}, {found}"), value)
        })
}

/// The members of a document that says what it is, by name: of `what`, with its article, whose schema is this one.
pub(crate) fn members<'a, 'py>(
    what: &'a str,
    schema: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<impl Fn(&str) -> PyResult<Bound<'py, PyAny>> + 'a> {
    let py = value.py();
    let item = move |name: &str| {
        value.get_item(name).map_err(|error| {
            instead(py, error, || {
                let message = format!("{what} needs {name:?}");
                raise(py, Class::InvalidInput, "head.incomplete", &message, |details| {
                    details.set_item("field", name)
                })
            })
        })
    };
    let given = text("schema_version", &item("schema_version")?)?;
    if given == schema {
        return Ok(item);
    }
    let message = format!("the schema of {what} is {schema:?}, not {given:?}");
    Err(raise(
        py,
        Class::InvalidInput,
        "head.unknown_schema",
        &message,
        |details| {
            details.set_item("field", "schema_version")?;
            details.set_item("value", &given)
        },
    ))
}

/// What is raised in place of an error that says that a value lacks what was asked of it. Whatever else was raised while it
/// was asked stays: an interrupt, or what the handler of a signal raised.
pub(crate) fn instead(py: Python<'_>, raised: PyErr, refusal: impl FnOnce() -> PyErr) -> PyErr {
    let lacks = raised.is_instance_of::<PyAttributeError>(py)
        || raised.is_instance_of::<PyTypeError>(py)
        || raised.is_instance_of::<PyLookupError>(py);
    if lacks { refusal() } else { raised }
}

/// What was found, or `usual` where a value caused an error. What is no error of the value, such as an interrupt, stays.
pub(crate) fn otherwise<T>(py: Python<'_>, found: PyResult<T>, usual: T) -> PyResult<T> {
    match found {
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(usual),
        found => found,
    }
}

/// Why the system refused, in lower case and without the system's number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let said = error.to_string();
    match said.split_once(" (os error ") {
        Some((why, _)) => why.to_lowercase(),
        None => said,
    }
}

pub(crate) fn wrong_type(field: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    wrong(field, &format!("{wanted}, not {}", kind(value)), value)
}

/// As [`wrong_type`], where the message itself says what was found.
pub(crate) fn wrong(field: &str, must_be: &str, value: &Bound<'_, PyAny>) -> PyErr {
    wrong_as(value.py(), field, must_be, value)
}

/// As [`wrong_type`], of what may be a secret, or text that a guard has not read: its type stands for it, as errors are logged.
pub(crate) fn wrong_type_untold(field: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    wrong_untold(field, &format!("{wanted}, not {}", kind(value)), value)
}

/// As [`wrong_type_untold`], where the message itself says what was found.
pub(crate) fn wrong_untold(field: &str, must_be: &str, value: &Bound<'_, PyAny>) -> PyErr {
    wrong_as(value.py(), field, must_be, kind(value))
}

fn wrong_as<'py>(py: Python<'py>, field: &str, must_be: &str, value: impl IntoPyObject<'py>) -> PyErr {
    let message = format!("{field} must be {must_be}");
    raise(py, Class::InvalidInput, "input.wrong_type", &message, |details| {
        details.set_item("field", field)?;
        details.set_item("value", value)
    })
}

/// The value, or its size where it would not fit one line. What is no error of the value, such as an interrupt, is raised.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let many = || "an integer of many digits".to_owned();
    match value.repr() {
        Ok(text) => Ok(Some(text.to_string_lossy().into_owned())
            .filter(|text| text.len() <= 60)
            .unwrap_or_else(many)),
        Err(error) if error.is_instance_of::<PyException>(value.py()) => Ok(many()),
        Err(raised) => Err(raised),
    }
}

fn kind(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(
        |_| "something else".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The first line of a text, in at most so many characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown = line.chars().take(most).collect::<String>();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
