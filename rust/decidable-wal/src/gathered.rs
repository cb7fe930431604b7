use std::borrow::Cow;

use decidable_canon::cast;

use crate::{
    frame::frame_bytes,
    record::{Entry, Private},
};

/// A batch that gave back its room keeps at most this many bytes of it: as much as a batch is filled with.
const ROOM_BYTES_KEPT: usize = 1 << 20;

/// The records of one batch, in the order of their numbers: filled by those who append, written by the flusher. Their
/// bytes lie one after the other, so that a record costs no allocation once the room is there.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    first: u64,
    records: Vec<Staged>,
    /// Of each record the payload, then the private bytes.
    bytes: Vec<u8>,
    weight: usize,
    erasures: Vec<Erasure>,
}

/// A record of a batch without its bytes.
#[derive(Debug)]
struct Staged {
    kind: u16,
    time_ns: i64,
    payload_bytes: usize,
    private: Option<StagedPrivate>,
}

#[derive(Debug)]
struct StagedPrivate {
    salt: [u8; 32],
    bytes: usize,
}

/// The record of an erasure, and what to zero once it is durable.
#[derive(Debug)]
pub(crate) struct Erasure {
    pub(crate) seq: u64,
    pub(crate) zones: Vec<Zone>,
}

/// The place of a private part: salt, bytes and padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
}

/// How many bytes of the log an entry takes.
pub(crate) fn weight(entry: &Entry<'_>) -> usize {
    frame_bytes(
        entry.payload.len(),
        entry.private.as_ref().map(|private| private.bytes.len()),
    )
}

impl Gathered {
    /// A batch without records yet, whose first has that number.
    pub(crate) fn from(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }
    /// The same for one that was cleared, in the room that it has.
    pub(crate) const fn begin(&mut self, first: u64) {
        self.first = first;
    }

    /// Adds a record, at a time that is not before the one of the record before.
    pub(crate) fn push(&mut self, entry: &Entry<'_>, time_ns: i64) {
        self.weight = self.weight.saturating_add(weight(entry));
        self.bytes.extend_from_slice(&entry.payload);
        let private = entry.private.as_ref().map(|private| {
            self.bytes.extend_from_slice(&private.bytes);
            StagedPrivate {
                salt: private.salt,
                bytes: private.bytes.len(),
            }
        });
        self.records.push(Staged {
            kind: entry.kind,
            time_ns,
            payload_bytes: entry.payload.len(),
            private,
        });
    }

    /// Private parts to zero once the last record is durable.
    pub(crate) fn zero_later(&mut self, zones: &[Zone]) {
        if !zones.is_empty() {
            self.erasures.push(Erasure {
                seq: self
                    .first
                    .saturating_add(cast::u64_from_usize(self.records.len()))
                    .saturating_sub(1),
                zones: zones.to_vec(),
            });
        }
    }

    /// Forgets the records and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.bytes.shrink_to(ROOM_BYTES_KEPT);
        self.weight = 0;
        self.erasures.clear();
    }

    /// The number of the first record.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }
    pub(crate) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
    /// How many records there are.
    pub(crate) const fn records(&self) -> usize {
        self.records.len()
    }
    /// How many bytes of the log they take, without a seal.
    pub(crate) const fn bytes(&self) -> usize {
        self.weight
    }
    pub(crate) fn erasures(&self) -> &[Erasure] {
        &self.erasures
    }

    /// The records, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.bytes.as_slice();
        let mut next = move |length: usize| {
            // The lengths are of what `push` put there, in this order.
            let (bytes, after) = rest.split_at_checked(length).unwrap_or_default();
            rest = after;
            Cow::Borrowed(bytes)
        };
        self.records.iter().map(move |record| Entry {
            kind: record.kind,
            time_ns: record.time_ns,
            payload: next(record.payload_bytes),
            private: record.private.as_ref().map(|private| Private {
                salt: private.salt,
                bytes: next(private.bytes),
            }),
        })
    }
}
