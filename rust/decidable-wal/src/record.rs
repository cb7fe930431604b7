use std::borrow::Cow;

use decidable_canon::{Digest, tag};

use crate::join;

/// A record's payload has at most this many bytes: as much as an entry of the exchange format.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// A private part has at most this many bytes. It holds labels and metadata, not documents.
pub const PRIVATE_BYTES_MAX: usize = 1 << 20;

/// A group has at most this many entries.
pub const GROUP_RECORDS_MAX: usize = 65_536;

/// The frames of a group have at most this many bytes. A batch has no more than its largest group or than the writer
/// gathers, so a reader never needs more memory than this for one.
pub const GROUP_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(RECORD_BYTES_MAX < GROUP_BYTES_MAX && PRIVATE_BYTES_MAX < GROUP_BYTES_MAX);

/// What a caller appends. Its bytes may be borrowed: the log copies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What the payload is; 16 or more.
    pub kind: u16,
    /// When it happened, in nanoseconds since 1970-01-01 UTC. A time before the previous record's is raised to it.
    pub time_ns: i64,
    /// The bytes that are chained; at most [`RECORD_BYTES_MAX`].
    pub payload: Cow<'a, [u8]>,
    /// Bytes beside the chain that can be erased later.
    pub private: Option<Private<'a>>,
}

/// Bytes that the chain covers only through a salted commitment, so that they can be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private<'a> {
    /// Fresh random bytes, not all zero: without them the commitment to a guessable text could be guessed.
    pub salt: [u8; 32],
    /// The bytes; at most [`PRIVATE_BYTES_MAX`].
    pub bytes: Cow<'a, [u8]>,
}

/// The commitment to a private part: SHA-256 of the tag, the salt and the bytes.
#[must_use]
pub fn commitment(salt: &[u8; 32], bytes: &[u8]) -> Digest {
    join::digest(&[tag::PRIVATE.bytes(), salt, bytes])
}

/// A record as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number; the first record of a log is 1.
    pub seq: u64,
    /// What the payload is. Kinds below 16 are the log's own ([`Note`](crate::Note)).
    pub kind: u16,
    /// When it happened, in nanoseconds since 1970-01-01 UTC; never before the previous record.
    pub time_ns: i64,
    /// The chained bytes.
    pub payload: &'a [u8],
    /// The bytes beside the chain.
    pub private: PrivatePart<'a>,
    /// The chain up to and including this record.
    pub hash: Digest,
    /// The number of the first record of the batch that this one was written in.
    pub batch_first: u64,
    /// How many records that batch has.
    pub batch_count: u32,
}

/// The private part of a record as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivatePart<'a> {
    /// The record was written without one.
    None,
    /// The bytes, which are those that were committed to.
    Present(&'a [u8]),
    /// The bytes are gone; the commitment stays.
    Erased,
}

/// A place in one log's chain. Kept elsewhere, it detects a log that was cut, altered or replaced before that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which log.
    pub log_id: [u8; 16],
    /// The number of the last record; 0 for a log without records.
    pub seq: u64,
    /// The chain up to and including that record.
    pub hash: Digest,
}

/// The numbers that a group of entries was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of the first entry; the others follow without a gap.
    pub first: u64,
    /// The number of the last entry, the one to wait for.
    pub last: u64,
}
