use decidable_canon::Digest;

use super::{json::Reader, line::canonical_number};
use crate::error::{Error, ErrorKind};

/// A place in an exchange log's chain, kept outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The number of an entry.
    pub sequence: u64,
    /// Its hash.
    pub last_hash: Digest,
    /// Whether the log is keyed.
    pub keyed: bool,
}

const SCHEMA: &str = "calybris.wal-anchor.v1";

impl Anchor {
    /// The anchor as a JSON object.
    ///
    /// ```
    /// # use decidable_wal::exchange::Anchor;
    /// # use decidable_canon::Digest;
    /// let anchor = Anchor { sequence: 3, last_hash: Digest::of(b"x"), keyed: false };
    /// assert_eq!(Anchor::from_json(&anchor.to_json())?, anchor);
    /// # Ok::<(), decidable_wal::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self {
            sequence,
            last_hash,
            keyed,
        } = self;
        format!(r#"{{"schema_version":"{SCHEMA}","sequence":{sequence},"last_hash":"{last_hash}","keyed":{keyed}}}"#)
    }

    /// Reads the JSON object back: exactly its four members, each once, in any order.
    ///
    /// # Errors
    /// `LineMalformed` if it is anything else.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Self::parse(&mut Reader::new(text.as_bytes())).ok_or_else(|| {
            Error::new(
                ErrorKind::LineMalformed,
                "the anchor is not an object with exactly schema_version, sequence, last_hash and keyed",
            )
        })
    }

    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        let (mut schema, mut sequence, mut last_hash, mut keyed) = (None, None, None, None);
        reader.space();
        reader.literal(b"{")?;
        loop {
            reader.space();
            let known = match reader.member_name()? {
                b"schema_version" => schema.replace(reader.string()?).is_none(),
                b"sequence" => sequence.replace(canonical_number(reader.digits()?)?).is_none(),
                b"last_hash" => {
                    let digits = std::str::from_utf8(reader.string()?).ok()?;
                    last_hash.replace(Digest::from_hex(digits)?).is_none()
                }
                b"keyed" => keyed.replace(truth(reader)?).is_none(),
                _ => false,
            };
            if !known {
                return None;
            }
            reader.space();
            if reader.literal(b",").is_none() {
                break;
            }
        }
        reader.literal(b"}")?;
        reader.space();
        let right = reader.is_at_end() && schema? == SCHEMA.as_bytes();
        right.then_some(Self {
            sequence: sequence?,
            last_hash: last_hash?,
            keyed: keyed?,
        })
    }
}

fn truth(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.literal(b"true") {
        Some(()) => Some(true),
        None => reader.literal(b"false").map(|()| false),
    }
}
