//! What is looked for, and what happens where it is found.

use core::fmt;

use crate::{Check, Reads};

/// What happens where a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Nothing of the match is released, and nothing after it.
    Stop,
    /// The match is replaced.
    Redact,
    /// The match is noted and released.
    Record,
    /// The rule is switched off.
    Ignore,
}

impl Action {
    /// Every action, the strictest first.
    pub const ALL: [Self; 4] = [Self::Stop, Self::Redact, Self::Record, Self::Ignore];

    /// Its name in lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Redact => "redact",
            Self::Record => "record",
            Self::Ignore => "ignore",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How grave a match is, for whoever reads of it. It changes nothing about what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look some time.
    Low,
    /// Worth a look.
    Medium,
    /// Worth a look now.
    High,
}

impl Severity {
    /// Every severity, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Its name in lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This text.
    Literal {
        /// At least one byte.
        text: String,
        /// Whether the letters A to Z match in either case. No other letters have one here.
        ignore_case: bool,
    },
    /// A regular expression, in the syntax of the crate `regex`. `\d`, `\s`, `\w` and `\b` know ASCII only; everything else
    /// knows code points. How greedy a repetition is makes no difference: what is found is the earliest end or the longest match.
    Regex(String),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// How it is called, unlike any other.
    pub name: String,
    /// What it looks for.
    pub pattern: Pattern,
    /// What happens then.
    pub action: Action,
    /// What a redaction puts in place of a match.
    pub replacement: String,
    /// How grave a match is.
    pub severity: Severity,
    /// What a match must pass besides. One that does not is no match.
    pub check: Option<Check>,
    /// How it reads a text.
    pub reads: Reads,
}

impl Rule {
    /// What a redaction puts in place of a match, unless the rule says otherwise.
    pub const REPLACEMENT: &'static str = "[redacted]";

    /// A text to stop at.
    #[must_use]
    pub fn literal(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(
            name,
            Pattern::Literal {
                text: text.into(),
                ignore_case: false,
            },
        )
    }

    /// A regular expression to stop at.
    #[must_use]
    pub fn regex(name: impl Into<String>, pattern: impl Into<String>) -> Self {
        Self::new(name, Pattern::Regex(pattern.into()))
    }

    /// A rule that stops.
    #[must_use]
    pub fn new(name: impl Into<String>, pattern: Pattern) -> Self {
        Self {
            name: name.into(),
            pattern,
            action: Action::Stop,
            replacement: Self::REPLACEMENT.to_owned(),
            severity: Severity::High,
            check: None,
            reads: Reads::default(),
        }
    }

    /// The same with another action.
    #[must_use]
    pub fn with_action(self, action: Action) -> Self {
        Self { action, ..self }
    }

    /// The same with a check.
    #[must_use]
    pub fn with_check(self, check: Check) -> Self {
        Self {
            check: Some(check),
            ..self
        }
    }

    /// The same, reading a text in another way.
    #[must_use]
    pub fn with_reads(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }
}
