use std::{fmt, io};

/// Why the log refused, and where.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    detail: String,
    seq: Option<u64>,
    offset: Option<u64>,
    line: Option<u64>,
    os_code: Option<i32>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no log, and none may be created.
    NotFound,
    /// There is no log, and none is created among other files.
    NotALog,
    /// A log was here, and its segment is gone.
    SegmentMissing,
    /// Another process, or another handle of this one, holds the log.
    Locked,
    /// The bytes belong to no format that this version knows.
    UnknownFormat,
    /// The log is sealed under another key.
    WrongKey,
    /// The log is sealed and no key was given.
    KeyMissing,
    /// A key was given and the log is not sealed.
    NotKeyed,
    /// The head of the segment is damaged.
    HeaderDamaged,
    /// A frame's header, padding or order is not as written.
    FrameDamaged,
    /// A frame does not follow from the one before it.
    ChainBroken,
    /// A batch's seal does not fit.
    SealBroken,
    /// A private part is neither what was committed to nor erased.
    PrivateDamaged,
    /// The end is damaged, and it is not known whether a power loss can have left it.
    EndDamaged,
    /// A record of the log about itself has no known layout.
    NoteMalformed,
    /// The log does not contain the given head.
    HeadMismatch,
    /// The log ends before the given head.
    ShorterThanHead,
    /// A line of an exchange log is not of the line grammar.
    LineMalformed,
    /// A line of an exchange log has another number than its place.
    SequenceBroken,
    /// The queue is full; nothing was accepted.
    Overloaded,
    /// An earlier write or sync failed; the log takes nothing more.
    Poisoned,
    /// What was waited for may not be durable: a write or sync failed.
    DurabilityLost,
    /// The time given for waiting has passed.
    Timeout,
    /// The log is closed.
    Closed,
    /// The log was abandoned in a forked process.
    Abandoned,
    /// An entry or option that the log does not take.
    Invalid,
    /// An entry or group larger than the log takes.
    TooLarge,
    /// There is no record of that number.
    UnknownSeq,
    /// The visitor of records refused one.
    Visit,
    /// The storage failed.
    Io,
}

impl ErrorKind {
    /// The stable name of the kind.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotFound => "wal.not_found",
            Self::NotALog => "wal.not_a_log",
            Self::SegmentMissing => "wal.segment_missing",
            Self::Locked => "wal.locked",
            Self::UnknownFormat => "wal.unknown_format",
            Self::WrongKey => "wal.wrong_key",
            Self::KeyMissing => "wal.key_missing",
            Self::NotKeyed => "wal.not_keyed",
            Self::HeaderDamaged => "wal.header_damaged",
            Self::FrameDamaged => "wal.frame_damaged",
            Self::ChainBroken => "wal.chain_broken",
            Self::SealBroken => "wal.seal_broken",
            Self::PrivateDamaged => "wal.private_damaged",
            Self::EndDamaged => "wal.end_damaged",
            Self::NoteMalformed => "wal.note_malformed",
            Self::HeadMismatch => "wal.head_mismatch",
            Self::ShorterThanHead => "wal.shorter_than_head",
            Self::LineMalformed => "wal.line_malformed",
            Self::SequenceBroken => "wal.sequence_broken",
            Self::Overloaded => "wal.overloaded",
            Self::Poisoned => "wal.poisoned",
            Self::DurabilityLost => "wal.durability_lost",
            Self::Timeout => "wal.timeout",
            Self::Closed => "wal.closed",
            Self::Abandoned => "wal.abandoned",
            Self::Invalid => "wal.invalid",
            Self::TooLarge => "wal.too_large",
            Self::UnknownSeq => "wal.unknown_seq",
            Self::Visit => "wal.visit",
            Self::Io => "wal.io",
        }
    }

    /// Whether the bytes are not what was written: damage or tampering, not a torn end.
    #[must_use]
    pub const fn is_corruption(self) -> bool {
        matches!(
            self,
            Self::SegmentMissing
                | Self::HeaderDamaged
                | Self::FrameDamaged
                | Self::ChainBroken
                | Self::SealBroken
                | Self::PrivateDamaged
                | Self::EndDamaged
                | Self::NoteMalformed
                | Self::HeadMismatch
                | Self::ShorterThanHead
                | Self::LineMalformed
                | Self::SequenceBroken
        )
    }
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// The stable name of what went wrong.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }
    /// The number of the record or entry concerned.
    #[must_use]
    pub const fn seq(&self) -> Option<u64> {
        self.seq
    }
    /// The byte in the segment (or exchange log) at which the concerned piece begins.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        self.offset
    }
    /// The line of an exchange log, from 1.
    #[must_use]
    pub const fn line(&self) -> Option<u64> {
        self.line
    }
    /// The operating system's error number, where it gave one.
    #[must_use]
    pub const fn os_code(&self) -> Option<i32> {
        self.os_code
    }

    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            seq: None,
            offset: None,
            line: None,
            os_code: None,
        }
    }
    pub(crate) fn io(action: &str, cause: &io::Error) -> Self {
        Self {
            os_code: cause.raw_os_error(),
            ..Self::new(ErrorKind::Io, format!("{action}: {cause}"))
        }
    }
    pub(crate) const fn at_seq(mut self, seq: u64) -> Self {
        self.seq = Some(seq);
        self
    }
    pub(crate) const fn at_offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
    pub(crate) const fn at_line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }
    pub(crate) const fn with_os_code(mut self, code: Option<i32>) -> Self {
        self.os_code = code;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        let places = [("line", self.line), ("record", self.seq), ("byte", self.offset)];
        let mut separator = " (";
        for (name, place) in places {
            if let Some(place) = place {
                write!(f, "{separator}{name} {place}")?;
                separator = ", ";
            }
        }
        if separator == ", " { f.write_str(")") } else { Ok(()) }
    }
}

impl std::error::Error for Error {}
