use core::fmt;

/// Why rules cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A rule without a name, or with the name of another.
    Name,
    /// A pattern that matches nothing, or that matches the empty text.
    Empty,
    /// A regular expression that cannot be read.
    Syntax,
    /// Something that no automaton of this kind can decide: look-around other than `(?<=…)` at its beginning and `(?!…)`, of
    /// one character, at its end, or a back-reference.
    Unsupported,
    /// More than a limit allows.
    TooLarge,
    /// Bytes that are not those of rules.
    Unreadable,
}

/// Characters of a rule's name that a message has. It may be a whole pattern, and what is wrong with it comes behind it.
const SHOWN_CHARACTERS: usize = 80;

/// A rule that cannot be used: which, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    rule: Option<String>,
    offset: Option<usize>,
    message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, rule: &str, why: impl fmt::Display) -> Self {
        let (shown, more) = match rule.char_indices().nth(SHOWN_CHARACTERS) {
            Some((length, _)) => (rule.get(..length).unwrap_or(rule), "…"),
            None => (rule, ""),
        };
        Self {
            kind,
            rule: Some(rule.to_owned()),
            offset: None,
            message: format!("rule {shown:?}{more}: {why}"),
        }
    }

    pub(crate) fn of_all(kind: ErrorKind, why: impl fmt::Display) -> Self {
        Self {
            kind,
            rule: None,
            offset: None,
            message: why.to_string(),
        }
    }

    pub(crate) fn at(offset: usize, why: impl fmt::Display) -> Self {
        Self {
            kind: ErrorKind::Unreadable,
            rule: None,
            offset: Some(offset),
            message: format!("the bytes of rules cannot be read: {why}"),
        }
    }

    /// The same, of a byte of the rule's pattern.
    pub(crate) fn in_pattern(self, offset: usize) -> Self {
        Self {
            offset: Some(offset),
            ..self
        }
    }

    /// The kind of fault.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The name of the rule, if it is one rule's.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// Which byte could not be read, of a rule's pattern or of the bytes of rules.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        self.offset
    }

    /// The stable code of the kind.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::Name => "guard.name",
            ErrorKind::Empty => "guard.empty",
            ErrorKind::Syntax => "guard.syntax",
            ErrorKind::Unsupported => "guard.unsupported",
            ErrorKind::TooLarge => "guard.too_large",
            ErrorKind::Unreadable => "guard.unreadable",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Error {}
