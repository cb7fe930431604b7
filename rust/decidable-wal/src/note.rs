use decidable_canon::{Digest, ReadError, ReadErrorKind, Reader, Sink as _};

/// The smallest kind that a caller may use. Those below belong to the log itself.
pub const CALLER_KIND_MIN: u16 = 16;

/// The version that a writer notes.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After a sync of the batch that it is in: it survives a power loss.
    #[default]
    Group,
    /// After the write: it survives the end of the process, not a power loss.
    None,
}

impl Durability {
    /// The byte that stands for it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Group => 0,
            Self::None => 1,
        }
    }
    /// What the byte stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Group),
            1 => Some(Self::None),
            _ => None,
        }
    }
}

/// Why the end of a log was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryReason {
    /// The last batch was written only in part: the bytes are the beginning of a batch.
    Torn,
    /// The last batch has holes, and the machine has started anew since: a power loss.
    PowerLoss,
}

impl RecoveryReason {
    /// The byte that stands for it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Torn => 1,
            Self::PowerLoss => 2,
        }
    }
    /// What the byte stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Torn),
            2 => Some(Self::PowerLoss),
            _ => None,
        }
    }
    /// The word for it, as in the names of quarantined files.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::PowerLoss => "power-loss",
        }
    }
    /// What the word stands for.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        match label {
            "torn" => Some(Self::Torn),
            "power-loss" => Some(Self::PowerLoss),
            _ => None,
        }
    }
}

/// The kinds of the log's own records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// A writer opened the log.
    Opened,
    /// A writer cut an unfinished end.
    Recovered,
    /// Private parts are erased.
    Erased,
    /// A writer closed the log.
    Closed,
}

impl NoteKind {
    /// The kind's number.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Opened => 1,
            Self::Recovered => 2,
            Self::Erased => 3,
            Self::Closed => 4,
        }
    }
    /// The kind with that number.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Opened),
            2 => Some(Self::Recovered),
            3 => Some(Self::Erased),
            4 => Some(Self::Closed),
            _ => None,
        }
    }
}

/// What a log records about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A writer opened the log.
    Opened {
        /// Which start of the machine it was, where that is known.
        boot_id: Option<[u8; 16]>,
        /// How often the log has been opened for writing, this time included.
        epoch: u64,
        /// When its records count as written.
        sync: Durability,
        /// The version of the library.
        version: String,
    },
    /// A writer cut an unfinished end and kept the bytes in quarantine.
    Recovered {
        /// Where the cut was made.
        offset: u64,
        /// How many bytes were cut.
        cut_bytes: u64,
        /// The SHA-256 of those bytes.
        digest: Digest,
        /// Why.
        reason: RecoveryReason,
    },
    /// The private parts of these records are erased.
    Erased {
        /// Their numbers, ascending.
        seqs: Vec<u64>,
    },
    /// A writer closed the log.
    Closed,
}

impl Note {
    /// The note of a writer of this version.
    pub(crate) fn opened(boot_id: Option<[u8; 16]>, epoch: u64, sync: Durability) -> Self {
        Self::Opened {
            boot_id,
            epoch,
            sync,
            version: VERSION.to_owned(),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> NoteKind {
        match self {
            Self::Opened { .. } => NoteKind::Opened,
            Self::Recovered { .. } => NoteKind::Recovered,
            Self::Erased { .. } => NoteKind::Erased,
            Self::Closed => NoteKind::Closed,
        }
    }

    /// Its payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Opened {
                boot_id,
                epoch,
                sync,
                version,
            } => {
                out.option(*boot_id, |out, id| out.extend_from_slice(&id));
                out.u64(*epoch);
                out.u8(sync.code());
                out.str(version);
            }
            Self::Recovered {
                offset,
                cut_bytes,
                digest,
                reason,
            } => {
                out.u64(*offset);
                out.u64(*cut_bytes);
                out.digest(digest);
                out.u8(reason.code());
            }
            Self::Erased { seqs } => {
                for seq in seqs {
                    out.u64(*seq);
                }
            }
            Self::Closed => {}
        }
        out
    }

    /// Reads the payload of a record of `kind`.
    ///
    /// # Errors
    /// If the bytes are not that kind's layout.
    pub fn decode(kind: NoteKind, payload: &[u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(payload);
        let note = match kind {
            NoteKind::Opened => {
                let boot_id = reader.option(|reader| {
                    let at = reader.error(ReadErrorKind::Truncated);
                    reader.take(16)?.try_into().map_err(|_| at)
                })?;
                let epoch = reader.u64()?;
                let range = reader.error(ReadErrorKind::OutOfRange);
                Self::Opened {
                    boot_id,
                    epoch,
                    sync: Durability::from_code(reader.u8()?).ok_or(range)?,
                    version: reader.str()?.to_owned(),
                }
            }
            NoteKind::Recovered => {
                let (offset, cut_bytes, digest) = (reader.u64()?, reader.u64()?, reader.digest()?);
                let range = reader.error(ReadErrorKind::OutOfRange);
                Self::Recovered {
                    offset,
                    cut_bytes,
                    digest,
                    reason: RecoveryReason::from_code(reader.u8()?).ok_or(range)?,
                }
            }
            NoteKind::Erased => {
                let mut seqs: Vec<u64> = Vec::with_capacity(payload.len() / 8);
                while reader.offset() < payload.len() {
                    let range = reader.error(ReadErrorKind::OutOfRange);
                    let seq = reader.u64()?;
                    if seqs.last().is_some_and(|last| *last >= seq) {
                        return Err(range);
                    }
                    seqs.push(seq);
                }
                Self::Erased { seqs }
            }
            NoteKind::Closed => Self::Closed,
        };
        reader.finish()?;
        Ok(note)
    }
}
