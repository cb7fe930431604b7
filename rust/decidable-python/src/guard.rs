//! Rules over streams of text.

use std::{mem::replace, sync::Arc};

use decidable_canon::Canonical as _;
use pyo3::exceptions::PyUnicodeDecodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use crate::errors::{self, Class, raise};
use crate::model::repr;
use crate::pressure::pressure;
use crate::values::{
    Given, VALID_UNICODE, all_of, integer, optional, optional_text, text, truth, wrong_type, wrong_type_untold,
    wrong_untold,
};

/// From so many bytes of a chunk on others get the interpreter while it is read: below, that would take longer than reading them
/// (`benches/python/guard.py "of the documents"`).
const BYTES_WORTH_DETACHING: usize = 16_384;

/// One rule: what is looked for, and what happens where it is found.
///
/// Made with `Rule.literal` or `Rule.regex`. `action` is `"stop"` (nothing of the match leaves, and nothing after it), `"redact"` (it is
/// replaced), `"record"` (it is noted) or `"ignore"` (the rule is switched off). `reads` is how it sees a text: `"visible"` (invisible characters
/// cannot split a match), `"exact"`, or `"folded"` (what looks like ASCII is ASCII, too).
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rule(decidable_guard::Rule);

/// A word of a list.
trait Word: Copy + 'static {
    /// What the argument is called.
    const FIELD: &'static str;
    /// The code of the error for a word that is none.
    const UNKNOWN: &'static str;
    const ALL: &'static [Self];
    fn label(self) -> &'static str;
}

macro_rules! word {
    ($word:ident, $field:literal, $unknown:literal) => {
        impl Word for decidable_guard::$word {
            const FIELD: &'static str = $field;
            const UNKNOWN: &'static str = $unknown;
            const ALL: &'static [Self] = &Self::ALL;
            fn label(self) -> &'static str {
                self.label()
            }
        }
    };
}

word!(Severity, "severity", "guard.unknown_severity");
word!(Action, "action", "guard.unknown_action");
word!(Reads, "reads", "guard.unknown_reading");
word!(Check, "check", "guard.unknown_check");

/// The word that a text is, or an error with those that there are.
fn word<T: Word>(value: &Bound<'_, PyAny>) -> PyResult<T> {
    let label = text(T::FIELD, value)?;
    T::ALL.iter().copied().find(|one| one.label() == label).ok_or_else(|| {
        let known = T::ALL.iter().map(|one| one.label()).collect::<Vec<_>>().join(", ");
        let message = format!("{} is {label:?}, which is none of {known}", T::FIELD);
        raise(value.py(), Class::InvalidInput, T::UNKNOWN, &message, |details| {
            details.set_item("field", T::FIELD)?;
            details.set_item("value", &label)
        })
    })
}

fn rule(
    pattern: decidable_guard::Pattern,
    name: Option<&Bound<'_, PyAny>>,
    action: Given<'_, '_>,
    replacement: Given<'_, '_>,
    severity: Given<'_, '_>,
    reads: Given<'_, '_>,
    check: Option<&Bound<'_, PyAny>>,
) -> PyResult<Rule> {
    let (decidable_guard::Pattern::Literal { text: written, .. } | decidable_guard::Pattern::Regex(written)) = &pattern;
    let name = match name {
        Some(name) => text("name", name)?,
        None => written.clone(),
    };
    Ok(Rule(decidable_guard::Rule {
        name,
        pattern,
        action: action.or(decidable_guard::Action::Stop, word)?,
        replacement: replacement.or(decidable_guard::Rule::REPLACEMENT.to_owned(), |value| {
            text("replacement", value)
        })?,
        severity: severity.or(decidable_guard::Severity::High, word)?,
        reads: reads.or(decidable_guard::Reads::default(), word)?,
        check: check.map(word).transpose()?,
    }))
}

#[pymethods]
impl Rule {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("name", "action", "pattern")
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    /// A text to look for. With `ignore_case` the letters A to Z match in either case.
    #[staticmethod]
    #[pyo3(signature = (
        text, *, action=Given::NOT, name=None, replacement=Given::NOT, severity=Given::NOT, ignore_case=Given::NOT,
        reads=Given::NOT
    ))]
    fn literal(
        text: &Bound<'_, PyAny>,
        action: Given<'_, '_>,
        name: Option<&Bound<'_, PyAny>>,
        replacement: Given<'_, '_>,
        severity: Given<'_, '_>,
        ignore_case: Given<'_, '_>,
        reads: Given<'_, '_>,
    ) -> PyResult<Self> {
        let pattern = decidable_guard::Pattern::Literal {
            text: crate::values::text("text", text)?,
            ignore_case: ignore_case.or(false, |value| truth("ignore_case", value))?,
        };
        rule(pattern, name, action, replacement, severity, reads, None)
    }
    /// A regular expression to look for, in the syntax of Rust's crate `regex`, with `(?<=…)` at its beginning and `(?!…)`, of one
    /// character, at its end. With `check`, which is `"luhn"` or `"iban"`, a match whose check digits are wrong is none.
    #[staticmethod]
    #[pyo3(signature = (
        pattern, *, action=Given::NOT, name=None, replacement=Given::NOT, severity=Given::NOT, reads=Given::NOT, check=None
    ))]
    fn regex(
        pattern: &Bound<'_, PyAny>,
        action: Given<'_, '_>,
        name: Option<&Bound<'_, PyAny>>,
        replacement: Given<'_, '_>,
        severity: Given<'_, '_>,
        reads: Given<'_, '_>,
        check: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pattern = decidable_guard::Pattern::Regex(text("pattern", pattern)?);
        rule(pattern, name, action, replacement, severity, reads, check)
    }
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }
    #[getter]
    const fn action(&self) -> &'static str {
        self.0.action.label()
    }
    /// The text or the regular expression.
    #[getter]
    fn pattern(&self) -> &str {
        let (decidable_guard::Pattern::Literal { text, .. } | decidable_guard::Pattern::Regex(text)) = &self.0.pattern;
        text
    }
    /// `"literal"` or `"regex"`.
    #[getter]
    const fn kind(&self) -> &'static str {
        match self.0.pattern {
            decidable_guard::Pattern::Literal { .. } => "literal",
            decidable_guard::Pattern::Regex(_) => "regex",
        }
    }
    #[getter]
    fn replacement(&self) -> &str {
        &self.0.replacement
    }
    /// `"low"`, `"medium"` or `"high"`: how grave a match is. It changes nothing about what happens.
    #[getter]
    const fn severity(&self) -> &'static str {
        self.0.severity.label()
    }
    #[getter]
    const fn ignore_case(&self) -> bool {
        matches!(
            self.0.pattern,
            decidable_guard::Pattern::Literal { ignore_case: true, .. }
        )
    }
    /// How it reads a text: `"visible"`, `"exact"` or `"folded"`.
    #[getter]
    const fn reads(&self) -> &'static str {
        self.0.reads.label()
    }
    /// What a match must pass besides: `"luhn"`, `"iban"` or `None`.
    #[getter]
    fn check(&self) -> Option<&'static str> {
        self.0.check.map(decidable_guard::Check::label)
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let fields = PyDict::new(py);
        let first = if self.kind() == "regex" { "pattern" } else { "text" };
        fields.set_item(first, self.pattern())?;
        fields.set_item("action", self.action())?;
        fields.set_item("name", self.name())?;
        fields.set_item("replacement", self.replacement())?;
        fields.set_item("severity", self.severity())?;
        if self.ignore_case() {
            fields.set_item("ignore_case", true)?;
        }
        fields.set_item("reads", self.reads())?;
        if self.0.check.is_some() {
            fields.set_item("check", self.check())?;
        }
        repr(&format!("Rule.{}", self.kind()), &fields)
    }
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let this = slf.get();
        let rebuild = PyModule::import(py, "decidable.guard")?.getattr("_rule")?;
        let cases = this.ignore_case();
        let parts = (
            this.kind(),
            this.pattern(),
            this.action(),
            this.name(),
            this.replacement(),
            this.severity(),
            cases,
            this.reads(),
            this.check(),
        );
        Ok((rebuild, parts.into_pyobject(py)?))
    }
}

/// Rules, compiled to one automaton that any number of streams and threads share.
#[pyclass(frozen, module = "decidable._native")]
pub(crate) struct Automaton(pub(crate) Arc<decidable_guard::Automaton>);

impl Automaton {
    fn of(py: Python<'_>, compiled: Result<decidable_guard::Automaton, decidable_guard::Error>) -> PyResult<Self> {
        compiled.map(|automaton| Self(Arc::new(automaton))).map_err(|error| {
            raise(py, Class::InvalidInput, error.code(), &error.to_string(), |details| {
                details.set_item("rule", error.rule())?;
                details.set_item("offset", error.offset())
            })
        })
    }
}

#[pymethods]
impl Automaton {
    #[new]
    fn new(rules: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = rules.py();
        let rules = all_of("rules", "a sequence of Rule", rules, |rule: &Rule| rule.0.clone())?;
        let automaton = py.detach(|| decidable_guard::Automaton::new(rules));
        Self::of(py, automaton)
    }
    /// Reads what `to_bytes` wrote, and compiles it.
    #[staticmethod]
    fn from_bytes(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (py, bytes) = (data.py(), crate::values::bytes("data", data)?);
        Self::of(py, py.detach(|| decidable_guard::Automaton::from_bytes(bytes)))
    }
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.digest().bytes())
    }
    #[getter]
    fn rules<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.rules().iter().map(|rule| Rule(rule.clone())))
    }
    /// How many states its tables have, and how many bytes they take.
    #[getter]
    fn size(&self) -> (usize, usize) {
        (self.0.states(), self.0.table_bytes())
    }
    /// A stream from its beginning on: a text, or a document in JSON; whether every match is kept until it is taken.
    #[pyo3(signature = (max_hold, json, keeps_all = false))]
    fn cursor(&self, max_hold: &Bound<'_, PyAny>, json: &Bound<'_, PyAny>, keeps_all: bool) -> PyResult<Cursor> {
        let most: u32 = integer("max_hold", max_hold)?;
        let cursor = decidable_guard::Cursor::new(Arc::clone(&self.0))
            .with_max_hold(usize::try_from(most).unwrap_or(usize::MAX));
        let cursor = if keeps_all {
            cursor.keeping_all_matches()
        } else {
            cursor
        };
        Ok(Cursor {
            cursor: if truth("json", json)? {
                cursor.reading_json()
            } else {
                cursor
            },
            out: Vec::new(),
            kind: None,
            at_work: false,
        })
    }
}

/// Where a rule matched. Places are bytes of UTF-8 from the beginning of the stream.
#[pyclass(frozen, eq, hash, get_all, module = "decidable")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Match {
    rule: String,
    action: &'static str,
    start: u64,
    end: u64,
    /// Where the stream has several: the choice, output item or content block.
    choice: Option<u64>,
    /// And what of it: its text, its reasoning, the arguments of a call.
    channel: Option<String>,
}

impl Match {
    pub(crate) fn of(automaton: &decidable_guard::Automaton, found: &decidable_guard::Match) -> Self {
        let rule = automaton.rule_of(found);
        Self {
            rule: rule.map_or_else(String::new, |rule| rule.name.clone()),
            action: rule.map_or("", |rule| rule.action.label()),
            start: found.start,
            end: found.end,
            choice: None,
            channel: None,
        }
    }
}

#[pymethods]
impl Match {
    /// What a pickled one is rebuilt with.
    #[new]
    #[pyo3(signature = (rule, action, start, end, choice = None, channel = None))]
    fn new(
        rule: &Bound<'_, PyAny>,
        action: &Bound<'_, PyAny>,
        start: &Bound<'_, PyAny>,
        end: &Bound<'_, PyAny>,
        choice: Option<&Bound<'_, PyAny>>,
        channel: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            rule: text("rule", rule)?,
            action: word::<decidable_guard::Action>(action)?.label(),
            start: integer("start", start)?,
            end: integer("end", end)?,
            choice: optional("choice", choice)?,
            channel: optional_text("channel", channel)?,
        })
    }
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let this = slf.get();
        let parts = (
            &this.rule,
            this.action,
            this.start,
            this.end,
            this.choice,
            &this.channel,
        );
        Ok((slf.get_type(), parts.into_pyobject(slf.py())?))
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[classattr]
    const fn __match_args__() -> (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    ) {
        ("rule", "action", "start", "end", "choice", "channel")
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let fields = PyDict::new(py);
        fields.set_item("rule", &self.rule)?;
        fields.set_item("action", self.action)?;
        fields.set_item("start", self.start)?;
        fields.set_item("end", self.end)?;
        fields.set_item("choice", self.choice)?;
        fields.set_item("channel", self.channel.as_ref())?;
        repr("Match", &fields)
    }
}

/// Why a stream was stopped. `kind` is `"matched"` (with the rule and its place), `"held_too_much"`, `"too_many_attempts"`,
/// `"uncertain"` or `"failed"`.
#[pyclass(frozen, eq, hash, get_all, module = "decidable")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct StopReason {
    kind: &'static str,
    /// The rule's name, where one matched.
    rule: Option<String>,
    /// The first byte that did not come out, or where the match begins.
    start: u64,
    /// Where the match ends.
    end: Option<u64>,
    /// Where the stream has several: the choice, output item or content block.
    choice: Option<u64>,
    /// And what of it: its text, its reasoning, the arguments of a call.
    channel: Option<String>,
}

const KINDS: [&str; 5] = ["matched", "held_too_much", "too_many_attempts", "failed", "uncertain"];

#[pymethods]
impl StopReason {
    /// What a pickled one is rebuilt with.
    #[new]
    #[pyo3(signature = (kind, rule, start, end, choice = None, channel = None))]
    fn new(
        kind: &Bound<'_, PyAny>,
        rule: Option<&Bound<'_, PyAny>>,
        start: &Bound<'_, PyAny>,
        end: Option<&Bound<'_, PyAny>>,
        choice: Option<&Bound<'_, PyAny>>,
        channel: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let label = text("kind", kind)?;
        let known = KINDS.into_iter().find(|known| *known == label);
        Ok(Self {
            kind: known.ok_or_else(|| wrong_type("kind", &format!("one of {}", KINDS.join(", ")), kind))?,
            rule: rule.map(|rule| text("rule", rule)).transpose()?,
            start: integer("start", start)?,
            end: optional("end", end)?,
            choice: optional("choice", choice)?,
            channel: optional_text("channel", channel)?,
        })
    }
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let this = slf.get();
        let parts = (this.kind, &this.rule, this.start, this.end, this.choice, &this.channel);
        Ok((slf.get_type(), parts.into_pyobject(slf.py())?))
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[classattr]
    const fn __match_args__() -> (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    ) {
        ("kind", "rule", "start", "end", "choice", "channel")
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let fields = PyDict::new(py);
        fields.set_item("kind", self.kind)?;
        fields.set_item("rule", self.rule.as_ref())?;
        fields.set_item("start", self.start)?;
        fields.set_item("end", self.end)?;
        fields.set_item("choice", self.choice)?;
        fields.set_item("channel", self.channel.as_ref())?;
        repr("StopReason", &fields)
    }
}

pub(crate) fn reason(automaton: &decidable_guard::Automaton, stop: decidable_guard::Stop) -> StopReason {
    let other = |kind, start| StopReason {
        kind,
        rule: None,
        start,
        end: None,
        choice: None,
        channel: None,
    };
    match stop {
        decidable_guard::Stop::Matched(found) => StopReason {
            kind: "matched",
            rule: automaton.rule_of(&found).map(|rule| rule.name.clone()),
            start: found.start,
            end: Some(found.end),
            choice: None,
            channel: None,
        },
        decidable_guard::Stop::HeldTooMuch(start) => other("held_too_much", start),
        decidable_guard::Stop::TooManyAttempts(start) => other("too_many_attempts", start),
        decidable_guard::Stop::Failed(start) => other("failed", start),
        decidable_guard::Stop::Uncertain(start) => other("uncertain", start),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bytes,
}

/// One stream under the rules: what is pushed comes out as soon as it can no longer be part of a match that stops or redacts.
///
/// It is not frozen: that borrowing it costs one atomic step, where a mutex takes two, is noticed at every token.
#[pyclass(module = "decidable._native")]
pub(crate) struct Cursor {
    cursor: decidable_guard::Cursor,
    out: Vec<u8>,
    kind: Option<Kind>,
    /// Whether a call is under way, or has not come to its end.
    at_work: bool,
}

impl Cursor {
    /// Does the work of one call. It never waits: who waits while he holds the interpreter waits for one that has given it up and wants it
    /// back.
    #[inline(always)]
    fn with<'py, T>(slf: &Bound<'py, Self>, work: impl FnOnce(Python<'py>, &mut Self) -> PyResult<T>) -> PyResult<T> {
        let mut this = slf.try_borrow_mut().map_err(|_| in_use(slf.py()))?;
        if replace(&mut this.at_work, true) {
            // Whoever panicked may have left the stream half-way.
            this.cursor.fail();
        }
        let done = work(slf.py(), &mut this);
        this.at_work = false;
        done
    }
}

#[cold]
fn after_the_end(py: Python<'_>) -> PyErr {
    let message = "the stream is at its end, and what comes after it would be swallowed: it is of another stream";
    errors::plain(py, Class::Conflict, "guard.ended", message)
}

#[cold]
fn in_use(py: Python<'_>) -> PyErr {
    let message = "the stream is in use by another thread";
    errors::plain(py, Class::Conflict, "guard.in_use", message)
}

impl Cursor {
    /// The bytes of the next chunk, which are of the kind of those before. What is neither text nor bytes stops the stream.
    #[inline(always)]
    fn read<'a>(&mut self, chunk: &'a Bound<'_, PyAny>) -> PyResult<(&'a [u8], Kind)> {
        let (bytes, kind) = if let Ok(text) = chunk.cast::<PyString>() {
            (text.to_str().ok().map(str::as_bytes), Kind::Text)
        } else if let Ok(bytes) = chunk.cast::<PyBytes>() {
            (Some(bytes.as_bytes()), Kind::Bytes)
        } else {
            (None, Kind::Text)
        };
        match bytes.filter(|_| *self.kind.get_or_insert(kind) == kind) {
            Some(bytes) => Ok((bytes, kind)),
            None => Err(self.refused(chunk)),
        }
    }

    #[cold]
    fn refused(&mut self, chunk: &Bound<'_, PyAny>) -> PyErr {
        self.cursor.fail();
        match self.kind {
            Some(Kind::Bytes) => wrong_type_untold("chunk", "bytes, as before", chunk),
            _ if chunk.is_instance_of::<PyString>() => wrong_untold("chunk", VALID_UNICODE, chunk),
            Some(Kind::Text) => wrong_type_untold("chunk", "a str, as before", chunk),
            None => wrong_type_untold("chunk", "a str or bytes", chunk),
        }
    }
}

/// What comes out for a chunk: itself, if that is all of it and no more. What is not exactly text or bytes may be more than its bytes.
#[inline(always)]
fn given<'py>(
    chunk: &Bound<'py, PyAny>,
    (bytes, kind): (&[u8], Kind),
    out: &[u8],
    cursor: &mut decidable_guard::Cursor,
) -> PyResult<Bound<'py, PyAny>> {
    if is_same(out, bytes) && (chunk.is_exact_instance_of::<PyString>() || chunk.is_exact_instance_of::<PyBytes>()) {
        return Ok(chunk.clone());
    }
    released(chunk.py(), out, kind, cursor)
}

/// Whether two are the same. A few bytes are compared one by one: those that were just written cannot be read back at once otherwise.
#[inline(always)]
fn is_same(out: &[u8], bytes: &[u8]) -> bool {
    out.len() == bytes.len()
        && if out.len() <= 8 {
            out.iter().zip(bytes).all(|(out, byte)| out == byte)
        } else {
            out == bytes
        }
}

fn released<'py>(
    py: Python<'py>,
    out: &[u8],
    kind: Kind,
    cursor: &mut decidable_guard::Cursor,
) -> PyResult<Bound<'py, PyAny>> {
    match kind {
        Kind::Bytes => Ok(PyBytes::new(py, out).into_any()),
        Kind::Text => match PyString::from_bytes(py, out) {
            Ok(text) => Ok(text.into_any()),
            Err(error) => {
                cursor.fail();
                if !error.is_instance_of::<PyUnicodeDecodeError>(py) {
                    return Err(error);
                }
                let message = "what a stream of text would release is no text";
                Err(errors::plain(py, Class::InvalidInput, "guard.not_text", message))
            }
        },
    }
}

#[pymethods]
impl Cursor {
    /// Takes the next text or bytes and returns what may come out, of the same kind. What is neither stops the stream and raises, and so
    /// does what comes after its end.
    fn push<'py>(slf: &Bound<'py, Self>, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::with(slf, |py, this| {
            let read = this.read(chunk)?;
            let (bytes, _) = read;
            let Self { cursor, out, .. } = this;
            out.clear();
            let stop = if bytes.len() > BYTES_WORTH_DETACHING {
                py.detach(|| cursor.push(bytes, out))
            } else {
                cursor.push(bytes, out)
            };
            if stop.is_some() && cursor.is_swallowed() {
                return Err(after_the_end(py));
            }
            given(chunk, read, out, cursor)
        })
    }
    /// The stream ends: what is pending is decided, and the rest comes out.
    fn finish<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::with(slf, |py, this| {
            let Self { cursor, out, kind, .. } = this;
            out.clear();
            cursor.finish(out);
            released(py, out, kind.unwrap_or(Kind::Text), cursor)
        })
    }
    /// One that goes on from here by itself: how the stream would stand if this were its end can be asked of it.
    #[pyo3(name = "_copy")]
    fn copied(slf: &Bound<'_, Self>) -> PyResult<Self> {
        Self::with(slf, |_, this| {
            Ok(Self {
                cursor: this.cursor.clone(),
                out: Vec::new(),
                kind: this.kind,
                at_work: false,
            })
        })
    }
    /// Stops the stream, because its source cannot be followed any more.
    fn fail(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::with(slf, |_, this| {
            this.cursor.fail();
            Ok(())
        })
    }
    /// Why it was stopped, or `None`.
    #[getter]
    fn stopped(slf: &Bound<'_, Self>) -> PyResult<Option<StopReason>> {
        Self::with(slf, |_, this| {
            let stop = this.cursor.stopped();
            Ok(stop.map(|stop| reason(this.cursor.automaton(), stop)))
        })
    }
    /// How many bytes are held back.
    #[getter]
    fn held(slf: &Bound<'_, Self>) -> PyResult<usize> {
        Self::with(slf, |_, this| Ok(this.cursor.held()))
    }
    /// How deep it is in which rules, the nearest to a match first.
    fn pressure<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        Self::with(slf, |py, this| pressure(py, &this.cursor))
    }
    /// How many matches were not kept, because nobody took those before them (docs/limits.md).
    #[getter]
    fn matches_dropped(slf: &Bound<'_, Self>) -> PyResult<u64> {
        Self::with(slf, |_, this| Ok(this.cursor.matches_dropped()))
    }
    /// The matches that were noted or replaced since the last call, by where they begin.
    fn matches<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        Self::with(slf, |py, this| {
            let mut found: Vec<_> = this.cursor.matches().collect();
            found.sort_by_key(decidable_guard::Match::order);
            let automaton = this.cursor.automaton();
            PyList::new(py, found.iter().map(|found| Match::of(automaton, found)))
        })
    }
}
