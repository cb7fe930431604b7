use core::fmt;

use decidable_canon::{ReadError, cast};

/// Why a policy, a request, names or rows were refused.
///
/// A rejected request is no error: it is a [`Decision`](crate::Decision) with a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    field: Option<&'static str>,
    value: Option<u64>,
    model_id: Option<u32>,
    row: Option<usize>,
    message: String,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value lies outside its range.
    OutOfRange,
    /// The catalog has no candidate.
    EmptyCatalog,
    /// The catalog has more candidates than an index can number.
    TooManyCandidates,
    /// `model_id` 0 means "nothing selected" in every layout and names no candidate.
    ReservedModelId,
    /// Two candidates have one `model_id`.
    DuplicateModelId,
    /// Every candidate is switched off.
    NoEnabledCandidate,
    /// A name is empty or too long.
    NameLength,
    /// Two ids of one group have the same name.
    DuplicateName,
    /// A group has too many names.
    TooManyNames,
    /// Two quotes are for one model, or quotes are not in ascending order of their `model_id`.
    QuotesNotAscending,
    /// The largest use is below the expected one.
    MaximumBelowExpected,
    /// The catalog has no candidate with this `model_id`.
    UnknownModel,
    /// The bytes are not whole rows, or there is not one row of output for each row of input.
    RowCount,
    /// A decision is none of this policy on the request of its row.
    OtherDecision,
    /// The bytes are not the layout.
    Unreadable,
    /// There is no memory for what was given.
    NoMemory,
}

impl ErrorKind {
    /// Every kind, for the test that compares them with the documents.
    pub const ALL: [Self; 16] = [
        Self::OutOfRange,
        Self::EmptyCatalog,
        Self::TooManyCandidates,
        Self::ReservedModelId,
        Self::DuplicateModelId,
        Self::NoEnabledCandidate,
        Self::NameLength,
        Self::DuplicateName,
        Self::TooManyNames,
        Self::QuotesNotAscending,
        Self::MaximumBelowExpected,
        Self::UnknownModel,
        Self::RowCount,
        Self::OtherDecision,
        Self::Unreadable,
        Self::NoMemory,
    ];

    /// The stable identifier of the kind.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::OutOfRange => "kernel.out_of_range",
            Self::EmptyCatalog => "kernel.empty_catalog",
            Self::TooManyCandidates => "kernel.too_many_candidates",
            Self::ReservedModelId => "kernel.reserved_model_id",
            Self::DuplicateModelId => "kernel.duplicate_model_id",
            Self::NoEnabledCandidate => "kernel.no_enabled_candidate",
            Self::NameLength => "kernel.name_length",
            Self::DuplicateName => "kernel.duplicate_name",
            Self::TooManyNames => "kernel.too_many_names",
            Self::QuotesNotAscending => "kernel.quotes_not_ascending",
            Self::MaximumBelowExpected => "kernel.maximum_below_expected",
            Self::UnknownModel => "kernel.unknown_model",
            Self::RowCount => "kernel.row_count",
            Self::OtherDecision => "kernel.other_decision",
            Self::Unreadable => "kernel.unreadable",
            Self::NoMemory => "kernel.no_memory",
        }
    }
}

impl Error {
    /// What was wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// The stable identifier of the kind, such as `kernel.out_of_range`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }
    /// The field that was refused, named as in docs/spec/decisions.md.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        self.field
    }
    /// The value that was refused.
    #[must_use]
    pub const fn value(&self) -> Option<u64> {
        self.value
    }
    /// The candidate that the field belongs to.
    #[must_use]
    pub const fn model_id(&self) -> Option<u32> {
        self.model_id
    }
    /// The row of a batch, from 0.
    #[must_use]
    pub const fn row(&self) -> Option<usize> {
        self.row
    }

    const fn new(kind: ErrorKind, message: String) -> Self {
        Self {
            kind,
            field: None,
            value: None,
            model_id: None,
            row: None,
            message,
        }
    }

    const fn naming(mut self, field: &'static str, value: u64) -> Self {
        self.field = Some(field);
        self.value = Some(value);
        self
    }

    pub(crate) fn out_of_range(field: &'static str, value: u64, largest: u64) -> Self {
        let message = format!("{field} must be at most {largest}, not {value}");
        Self::new(ErrorKind::OutOfRange, message).naming(field, value)
    }
    pub(crate) fn unknown_objective(code: u8) -> Self {
        let message = format!("objective must be the code of an objective (0 to 3), not {code}");
        Self::new(ErrorKind::OutOfRange, message).naming("objective", code.into())
    }
    pub(crate) fn empty_catalog() -> Self {
        let message = "a policy needs at least one candidate".to_owned();
        Self::new(ErrorKind::EmptyCatalog, message).naming("candidates", 0)
    }
    pub(crate) fn too_many_candidates(count: u64, largest: u64) -> Self {
        let message = format!("a policy has at most {largest} candidates, not {count}");
        Self::new(ErrorKind::TooManyCandidates, message).naming("candidates", count)
    }
    pub(crate) fn reserved_model_id(group: &str) -> Self {
        let message = format!("model_id 0 means that nothing was selected and cannot be the id of a {group}");
        Self::new(ErrorKind::ReservedModelId, message).naming("model_id", 0)
    }
    pub(crate) fn duplicate_model_id(model_id: u32) -> Self {
        let message = format!("two candidates have the model_id {model_id}");
        Self::new(ErrorKind::DuplicateModelId, message)
            .naming("model_id", model_id.into())
            .of_candidate(model_id)
    }
    pub(crate) fn no_enabled_candidate(count: u64) -> Self {
        let message = match count {
            1 => "the only candidate is not enabled".to_owned(),
            _ => format!("none of the {count} candidates is enabled"),
        };
        Self::new(ErrorKind::NoEnabledCandidate, message).naming("enabled", 0)
    }
    pub(crate) fn name_length(group: &'static str, id: u32, bytes: u64, largest: u64) -> Self {
        let message = format!("the name of {group} {id} must have 1 to {largest} bytes, not {bytes}");
        Self::new(ErrorKind::NameLength, message).naming(group, id.into())
    }
    pub(crate) fn duplicate_name(group: &'static str, first: u32, second: u32, name: &str) -> Self {
        let message = format!("{group} {first} and {group} {second} have the same name {name:?}");
        Self::new(ErrorKind::DuplicateName, message).naming(group, second.into())
    }
    pub(crate) fn too_many_names(group: &'static str, count: u64, largest: u64) -> Self {
        let message = format!("there are at most {largest} names of one group, not {count} names of a {group}");
        Self::new(ErrorKind::TooManyNames, message).naming(group, count)
    }
    pub(crate) fn quotes_not_ascending(before: u32, model_id: u32) -> Self {
        let message = if before == model_id {
            format!("two quotes for model {model_id}")
        } else {
            format!("quotes go in ascending order of model_id: {model_id} follows {before}")
        };
        Self::new(ErrorKind::QuotesNotAscending, message)
            .naming("quotes", model_id.into())
            .of_candidate(model_id)
    }
    pub(crate) fn quote_rows_not_ascending(before: usize, row: usize) -> Self {
        let message = format!("quotes go in ascending order of their rows: {row} follows {before}");
        Self::new(ErrorKind::QuotesNotAscending, message)
    }
    pub(crate) fn too_many_quotes(count: u64, largest: u64) -> Self {
        let message = format!("a request has at most {largest} quotes, not {count}");
        Self::new(ErrorKind::OutOfRange, message).naming("quotes", count)
    }
    pub(crate) fn maximum_below_expected(maximum: u32, expected: u32) -> Self {
        let message = format!("max_output_tokens must be at least output_tokens, which is {expected}, not {maximum}");
        Self::new(ErrorKind::MaximumBelowExpected, message).naming("max_output_tokens", maximum.into())
    }
    pub(crate) fn unknown_model(model_id: u32) -> Self {
        let message = format!("no candidate has the model_id {model_id}");
        Self::new(ErrorKind::UnknownModel, message)
            .naming("model_id", model_id.into())
            .of_candidate(model_id)
    }
    pub(crate) fn row_count(field: &'static str, bytes: u64, expected: impl fmt::Display) -> Self {
        let message = format!("{field} has {bytes} bytes, where {expected} are needed");
        Self::new(ErrorKind::RowCount, message).naming(field, bytes)
    }
    pub(crate) fn quotes_of_others(has: usize, needed: usize) -> Self {
        let message = format!("the quotes are those of {has} rows, where {needed} are needed");
        Self::new(ErrorKind::RowCount, message).naming("quotes", cast::u64_from_usize(has))
    }
    pub(crate) fn other_decision(field: &'static str, value: u64, expected: impl fmt::Display) -> Self {
        let message = format!("the decision has {field} {value}, where {expected} is needed");
        Self::new(ErrorKind::OtherDecision, message).naming(field, value)
    }
    pub(crate) fn no_memory(what: &str) -> Self {
        Self::new(ErrorKind::NoMemory, format!("there is no memory for the {what}"))
    }
    pub(crate) fn unreadable(error: ReadError) -> Self {
        Self::new(ErrorKind::Unreadable, error.to_string())
    }

    pub(crate) fn of_candidate(mut self, model_id: u32) -> Self {
        self.model_id = Some(model_id);
        self
    }
    /// The same of another row: whoever decides a part of a batch counts from the beginning of all.
    #[must_use]
    pub fn in_row(mut self, row: usize) -> Self {
        self.row = Some(row);
        self
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::unreadable(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        match self.model_id {
            Some(model_id) if self.field != Some("model_id") && self.field != Some("quotes") => {
                write!(f, "candidate {model_id}: {}", self.message)
            }
            _ => f.write_str(&self.message),
        }
    }
}

impl core::error::Error for Error {}
