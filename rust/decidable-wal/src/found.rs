use std::collections::BTreeSet;

use decidable_canon::{Digest, cast};

use crate::{
    batch::{Frame, PrivateState},
    error::{Error, ErrorKind},
    frame::Chain,
    note::{CALLER_KIND_MIN, Durability, Note, NoteKind},
    record::{Head, Record},
    segment::SegmentHead,
};

/// What a scan established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The last record of the last whole batch. Keep it elsewhere to detect a later cut.
    pub head: Head,
    /// How many records there are, the log's own among them.
    pub records: u64,
    /// How many batches they were written in.
    pub batches: u64,
    /// How many bytes the segment's head and the whole batches take.
    pub bytes: u64,
    /// When the log was created, in nanoseconds since 1970-01-01 UTC.
    pub created_ns: i64,
    /// The time of the last record.
    pub last_time_ns: Option<i64>,
    /// How often it was opened for writing.
    pub sessions: u64,
    /// The record of the last opening: whatever is before it is of a session that has ended. Zero before the first.
    pub opened_seq: u64,
    /// How often an unfinished end was cut.
    pub recoveries: u64,
    /// Whether the last record says that the log was closed.
    pub closed: bool,
    /// Whether the batches carry seals.
    pub keyed: bool,
    /// Whether the seals were checked.
    pub sealed: bool,
    /// Whether a given head was found.
    pub head_found: bool,
    /// The records whose private parts are erased, as the log records it, ascending. Of those that were gone when they were
    /// read, the erasure may be recorded behind what was read.
    pub erased: Vec<u64>,
    /// Those of them whose bytes are not all gone yet; the next writer finishes that.
    pub unfinished_erasures: Vec<u64>,
    /// Records whose private parts are zeroed although the log records no erasure, ascending; after a session without
    /// syncs also those that a power loss took from it.
    pub unrecorded_erasures: Vec<u64>,
    /// What follows the last whole batch.
    pub tail: Option<Tail>,
}

/// Bytes after the last whole batch. They are no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
    /// What they look like.
    pub reason: TailReason,
}

/// What the bytes after the last whole batch look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailReason {
    /// The beginning of a batch: a writer was stopped, or is at work.
    Incomplete,
    /// Zeros: the file had been made longer when the power was lost.
    Zeros,
    /// A batch with holes: a power loss, or damage to the last batch. The log alone cannot tell which.
    Damaged,
}

/// What a scan has found so far, with what a writer needs besides.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) scanned: Scanned,
    pub(crate) ended: bool,
    /// The chain behind the last whole batch.
    pub(crate) chain: Chain,
    /// Where the last whole batch begins.
    pub(crate) last_batch_at: u64,
    pub(crate) session: Option<Session>,
    /// Whether the machine has started anew since that writer, where that is known. Known at the end.
    pub(crate) restarted: Option<bool>,
    /// The cuts that the log records: where, and of which bytes.
    pub(crate) cuts: BTreeSet<(u64, Digest)>,
    /// The records that the log says are erased.
    pub(crate) erased: BTreeSet<u64>,
    /// Those of them of which the last batch says it: that one was written proves that all before were zeroed.
    pub(crate) erased_last: BTreeSet<u64>,
    /// The records whose private parts are zero.
    pub(crate) zeroed: BTreeSet<u64>,
    /// The records whose private parts are neither zero nor what was committed to, and where they begin.
    pub(crate) altered: Vec<(u64, u64)>,
    /// The records whose private parts are gone although something is still in their place: those whose erasure was
    /// interrupted, and those that a power loss took. Known at the end.
    pub(crate) to_zero: BTreeSet<u64>,
}

/// The last writer that opened the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) boot_id: Option<[u8; 16]>,
    pub(crate) sync: Durability,
    /// Where the batch begins in which it said so.
    pub(crate) at: u64,
}

impl Found {
    /// Before the first batch, which begins at `at`.
    pub(crate) fn nothing(head: &SegmentHead, chain: Chain, at: u64, has_key: bool) -> Self {
        let scanned = Scanned {
            head: Head {
                log_id: head.log_id,
                seq: 0,
                hash: chain.hash,
            },
            records: 0,
            batches: 0,
            bytes: at,
            created_ns: head.created_ns,
            last_time_ns: None,
            sessions: 0,
            opened_seq: 0,
            recoveries: 0,
            closed: false,
            keyed: head.is_keyed(),
            sealed: head.is_keyed() && has_key,
            head_found: false,
            erased: Vec::new(),
            unfinished_erasures: Vec::new(),
            unrecorded_erasures: Vec::new(),
            tail: None,
        };
        Self {
            scanned,
            ended: false,
            chain,
            last_batch_at: at,
            session: None,
            restarted: None,
            cuts: BTreeSet::new(),
            erased: BTreeSet::new(),
            erased_last: BTreeSet::new(),
            zeroed: BTreeSet::new(),
            altered: Vec::new(),
            to_zero: BTreeSet::new(),
        }
    }

    /// Whether a record's private part is gone, or is to go.
    pub(crate) fn is_erased(&self, seq: u64) -> bool {
        self.erased.contains(&seq) || self.zeroed.contains(&seq) || self.to_zero.contains(&seq)
    }

    /// Takes a verified record into account.
    #[inline]
    pub(crate) fn account(&mut self, record: &Record<'_>, frame: &Frame, batch_at: u64) -> Result<(), Error> {
        let scanned = &mut self.scanned;
        scanned.records = scanned.records.saturating_add(1);
        scanned.last_time_ns = Some(record.time_ns);
        scanned.closed = record.kind == NoteKind::Closed.code();
        scanned.head.seq = record.seq;
        scanned.head.hash = record.hash;
        match frame.private {
            PrivateState::None | PrivateState::Intact => {}
            PrivateState::Zero => {
                self.zeroed.insert(record.seq);
            }
            PrivateState::Other => {
                let offset = batch_at.saturating_add(cast::u64_from_usize(frame.at));
                self.altered.push((record.seq, offset));
            }
        }
        if record.kind < CALLER_KIND_MIN {
            self.account_note(record, batch_at)?;
        }
        Ok(())
    }

    /// Reads a record of the log about itself.
    fn account_note(&mut self, record: &Record<'_>, batch_at: u64) -> Result<(), Error> {
        let malformed = |why: String| {
            Error::new(ErrorKind::NoteMalformed, why)
                .at_seq(record.seq)
                .at_offset(batch_at)
        };
        let kind = NoteKind::from_code(record.kind).ok_or_else(|| {
            malformed(format!(
                "the log has a record of the unknown kind {} about itself",
                record.kind
            ))
        })?;
        let note = Note::decode(kind, record.payload)
            .map_err(|error| malformed(format!("a record of the log about itself is malformed: {error}")))?;
        match note {
            Note::Opened { boot_id, sync, .. } => {
                self.scanned.sessions = self.scanned.sessions.saturating_add(1);
                self.scanned.opened_seq = record.seq;
                self.session = Some(Session {
                    boot_id,
                    sync,
                    at: batch_at,
                });
            }
            Note::Recovered { offset, digest, .. } => {
                self.scanned.recoveries = self.scanned.recoveries.saturating_add(1);
                self.cuts.insert((offset, digest));
            }
            Note::Erased { seqs } => {
                self.erased.extend(&seqs);
                self.erased_last.extend(seqs);
            }
            Note::Closed => {}
        }
        Ok(())
    }

    /// The records whose private parts are gone or altered although no record that was read says so.
    fn unexplained(&self) -> impl Iterator<Item = u64> {
        let altered = self.altered.iter().map(|(seq, _)| *seq);
        let gone = self.zeroed.iter().copied().chain(altered);
        gone.filter(|seq| !self.erased.contains(seq))
    }
    pub(crate) fn has_unexplained(&self) -> bool {
        self.unexplained().next().is_some()
    }
    /// Takes into account that the log has recorded erasures since it was read.
    pub(crate) fn explain(&mut self, erased_since: &BTreeSet<u64>) {
        let explained: Vec<_> = self.unexplained().filter(|seq| erased_since.contains(seq)).collect();
        self.erased.extend(explained);
    }

    /// Draws the conclusions that only the end allows. From `holes_from` on a power loss may have left holes, also in
    /// private parts, which no hash after them covers.
    pub(crate) fn conclude(&mut self, wanted: Option<&Head>, holes_from: Option<u64>) -> Result<(), Error> {
        if let Some(wanted) = wanted
            && !self.scanned.head_found
        {
            return Err(Error::new(
                ErrorKind::ShorterThanHead,
                format!(
                    "the log ends at record {}, before the head that was given: records up to {} existed",
                    self.scanned.head.seq, wanted.seq
                ),
            )
            .at_seq(wanted.seq)
            .at_offset(self.scanned.bytes));
        }
        for (seq, offset) in &self.altered {
            if !self.erased.contains(seq) && holes_from.is_none_or(|from| *offset < from) {
                return Err(Error::new(
                    ErrorKind::PrivateDamaged,
                    "the private part of a record is neither what was committed to nor erased",
                )
                .at_seq(*seq)
                .at_offset(*offset));
            }
            self.to_zero.insert(*seq);
        }
        self.to_zero.extend(self.erased.difference(&self.zeroed));
        self.scanned.erased = self.erased.iter().copied().collect();
        self.scanned.unfinished_erasures = self.erased.intersection(&self.to_zero).copied().collect();
        let gone = &self.zeroed | &self.to_zero;
        self.scanned.unrecorded_erasures = gone.difference(&self.erased).copied().collect();
        Ok(())
    }
}
