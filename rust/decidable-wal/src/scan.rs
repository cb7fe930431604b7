use std::{collections::BTreeSet, io, sync::Arc};

use decidable_canon::{Digest, Key, cast};

use crate::{
    batch::{self, Damage, Frame, Outline, PrivateState, is_zero},
    error::{Error, ErrorKind},
    frame::{Chain, HEADER_BYTES, Header, MAGIC},
    note::{CALLER_KIND_MIN, Note, NoteKind, Sync},
    record::{Head, Record},
    segment::{SEGMENT_HEAD_BYTES, SEGMENT_NAME, SEGMENT_SUFFIX, SegmentHead},
    source::Source,
    storage::{Access, Storage, StoredFile},
    walk::Walk,
};

/// What a scan is given besides the log.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    /// The key of a sealed log. Without it everything but the seals is checked, and [`Scanned::sealed`] is false.
    pub key: Option<Key>,
    /// A place that the log must contain: without one, a log that was cut at the end of a batch looks complete.
    pub head: Option<Head>,
    /// Which start of the machine this is, if the log was written on it. A damaged end that no crash since can have left
    /// is then corruption; otherwise it is reported as a [`Tail`].
    pub boot_id: Option<[u8; 16]>,
}

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
    /// The records whose private parts are erased, as the log records it, ascending.
    pub erased: Vec<u64>,
    /// Those of them whose bytes are not all gone yet; the next writer finishes that.
    pub unfinished_erasures: Vec<u64>,
    /// Records whose private parts are zeroed although the log records no erasure, ascending.
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

/// Reads and verifies a log without ever writing: chain, batches, private parts, seals, head.
///
/// Every record of a batch is handed to `visit` once that batch and everything before it is verified. What was visited
/// counts only when the scan returns without an error.
///
/// # Errors
/// `NotFound`; corruption with the record and the byte; `HeadMismatch`, `ShorterThanHead`, `WrongKey`, `NotKeyed`; `Visit`
/// with the message of `visit`.
pub fn scan(
    storage: &dyn Storage,
    options: &ScanOptions,
    visit: impl FnMut(&Record<'_>) -> Result<(), String>,
) -> Result<Scanned, Error> {
    let mut visit = visit;
    let mut scan = Scan::open(storage, options)?;
    while scan.next_batch(&mut visit)? {}
    scan.finish()
}

/// As [`scan`], of a segment's bytes in memory.
///
/// # Errors
/// As [`scan`].
pub fn scan_bytes(
    bytes: &[u8],
    options: &ScanOptions,
    visit: impl FnMut(&Record<'_>) -> Result<(), String>,
) -> Result<Scanned, Error> {
    let mut visit = visit;
    let mut scan = Scan::of_bytes(bytes, options)?;
    while scan.next_batch(&mut visit)? {}
    scan.finish()
}

/// A scan that is taken batch by batch, for a caller who wants to stop or to interleave.
///
/// ```
/// # use std::sync::Arc;
/// # use decidable_wal::{Log, Memory, Options, Scan, ScanOptions};
/// # let storage = Arc::new(Memory::new());
/// # Log::open(storage.clone(), Options { log_id: [7; 16], create: true, ..Options::default() }, |_| Ok(()))?.0.close()?;
/// let mut scan = Scan::open(&*storage, &ScanOptions::default())?;
/// while scan.next_batch(|record| Ok(println!("{}", record.seq)))? {}
/// assert_eq!(scan.finish()?.records, 2);          // the log's own: opened, closed
/// # Ok::<(), decidable_wal::Error>(())
/// ```
#[derive(Debug)]
pub struct Scan<'a> {
    walk: Walk<'a>,
    head: SegmentHead,
    options: ScanOptions,
    found: Found,
}

/// What a scan has found so far, with what a writer needs besides.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) scanned: Scanned,
    ended: bool,
    /// The chain behind the last whole batch.
    pub(crate) chain: Chain,
    /// Where the last whole batch begins.
    pub(crate) last_batch_at: u64,
    pub(crate) session: Option<Session>,
    /// The cuts that the log records: where, and of which bytes.
    pub(crate) cuts: BTreeSet<(u64, Digest)>,
    /// The records that the log says are erased.
    pub(crate) erased: BTreeSet<u64>,
    /// The records whose private parts are zero.
    zeroed: BTreeSet<u64>,
    /// The records whose private parts are neither zero nor what was committed to, and where they begin.
    altered: Vec<(u64, u64)>,
}

/// The last writer that opened the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) boot_id: Option<[u8; 16]>,
    pub(crate) sync: Sync,
    /// Where the batch begins in which it said so.
    pub(crate) at: u64,
}

impl Found {
    /// Whether a record's private part is gone, or is to go.
    pub(crate) fn is_erased(&self, seq: u64) -> bool {
        self.erased.contains(&seq) || self.zeroed.contains(&seq)
    }

    /// Takes a verified record into account.
    #[inline]
    fn account(&mut self, record: &Record<'_>, frame: &Frame, batch_at: u64) -> Result<(), Error> {
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
            Note::Erased { seqs } => self.erased.extend(seqs),
            Note::Closed => {}
        }
        Ok(())
    }

    /// Draws the conclusions that only the end allows.
    fn conclude(&mut self, wanted: Option<&Head>) -> Result<(), Error> {
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
        if let Some((seq, offset)) = self.altered.iter().find(|(seq, _)| !self.erased.contains(seq)) {
            return Err(Error::new(
                ErrorKind::PrivateDamaged,
                "the private part of a record is neither what was committed to nor erased",
            )
            .at_seq(*seq)
            .at_offset(*offset));
        }
        self.scanned.erased = self.erased.iter().copied().collect();
        self.scanned.unfinished_erasures = self.erased.difference(&self.zeroed).copied().collect();
        self.scanned.unrecorded_erasures = self.zeroed.difference(&self.erased).copied().collect();
        Ok(())
    }
}

impl<'a> Scan<'a> {
    /// Begins a scan of the log in `storage`.
    ///
    /// # Errors
    /// `NotFound`, `UnknownFormat`, `HeaderDamaged`, `WrongKey`, `NotKeyed`, or those of the storage.
    pub fn open(storage: &dyn Storage, options: &ScanOptions) -> Result<Scan<'static>, Error> {
        refuse_other_segments(storage)?;
        let file = storage.open(SEGMENT_NAME, Access::Read).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                Error::new(ErrorKind::NotFound, "there is no log here")
            } else {
                Error::io("cannot open the log", &error)
            }
        })?;
        Scan::of_file(file, options)
    }

    /// Begins a scan of a segment's bytes in memory.
    ///
    /// # Errors
    /// As [`Scan::open`].
    pub fn of_bytes(bytes: &'a [u8], options: &ScanOptions) -> Result<Self, Error> {
        Self::new(Source::of_bytes(bytes), options)
    }

    /// Begins a scan of an open segment, up to its present end.
    pub(crate) fn of_file(file: Arc<dyn StoredFile>, options: &ScanOptions) -> Result<Scan<'static>, Error> {
        let state = file.state().map_err(|error| Error::io("cannot read the log", &error))?;
        Scan::new(Source::of_file(file, state.length), options)
    }

    fn new(mut source: Source<'a>, options: &ScanOptions) -> Result<Self, Error> {
        source.load(0, SEGMENT_HEAD_BYTES)?;
        let head = SegmentHead::decode(source.from(0))?;
        head.accept_key(options.key.as_ref())?;
        let walk = Walk::new(source, &head);
        let scanned = Scanned {
            head: Head {
                log_id: head.log_id,
                seq: 0,
                hash: walk.expected.chain.hash,
            },
            records: 0,
            batches: 0,
            bytes: walk.at,
            created_ns: head.created_ns,
            last_time_ns: None,
            sessions: 0,
            recoveries: 0,
            closed: false,
            keyed: head.is_keyed(),
            sealed: head.is_keyed() && options.key.is_some(),
            head_found: false,
            erased: Vec::new(),
            unfinished_erasures: Vec::new(),
            unrecorded_erasures: Vec::new(),
            tail: None,
        };
        let found = Found {
            scanned,
            ended: false,
            chain: walk.expected.chain,
            last_batch_at: walk.at,
            session: None,
            cuts: BTreeSet::new(),
            erased: BTreeSet::new(),
            zeroed: BTreeSet::new(),
            altered: Vec::new(),
        };
        let mut scan = Self {
            walk,
            head,
            options: options.clone(),
            found,
        };
        let genesis = scan.found.scanned.head;
        scan.found.scanned.head_found = meets(options.head.as_ref(), &genesis)?;
        Ok(scan)
    }

    /// The log's id.
    #[must_use]
    pub const fn log_id(&self) -> [u8; 16] {
        self.head.log_id
    }

    pub(crate) const fn segment_head(&self) -> &SegmentHead {
        &self.head
    }

    /// Verifies the next batch and hands its records to `visit`. False at the end.
    ///
    /// # Errors
    /// As [`scan`].
    pub fn next_batch(&mut self, mut visit: impl FnMut(&Record<'_>) -> Result<(), String>) -> Result<bool, Error> {
        if self.found.ended || !self.walk.has_more() {
            self.found.ended = true;
            return Ok(false);
        }
        match self.verify()? {
            Verdict::Whole(bytes) => {
                self.accept(bytes, &mut visit)?;
                Ok(true)
            }
            Verdict::Damaged(damage, begins) => {
                self.found.ended = true;
                self.found.scanned.tail = Some(Tail {
                    offset: self.walk.at,
                    bytes: self.walk.source.length().saturating_sub(self.walk.at),
                    reason: self.judge(&damage, begins)?,
                });
                Ok(false)
            }
        }
    }

    /// Outlines and checks the next batch.
    #[inline]
    fn verify(&mut self) -> Result<Verdict, Error> {
        let outline = self.walk.outline()?;
        let restarted = self.machine_restarted();
        let Walk {
            source,
            expected,
            at,
            frames,
            ..
        } = &mut self.walk;
        let bytes = source.from(*at);
        expected.chain = self.found.chain;
        let mut check = || batch::check(bytes, frames, expected, self.options.key.as_ref());
        Ok(match outline {
            Outline::Whole(length) => {
                let mut verdict = check();
                if verdict.is_ok() && at.saturating_add(cast::u64_from_usize(length)) == source.length() {
                    verdict = batch::check_last_private(frames, restarted == Some(true));
                }
                match verdict {
                    Ok(()) => Verdict::Whole(length),
                    Err(damage) => Verdict::Damaged(damage, false),
                }
            }
            Outline::Ends(damage) => match check() {
                Ok(()) => Verdict::Damaged(damage, true),
                Err(damage) => Verdict::Damaged(damage, false),
            },
            Outline::Broken(damage) => Verdict::Damaged(damage, false),
        })
    }

    /// Takes a verified batch of `bytes` into account and steps over it.
    #[inline]
    fn accept(&mut self, bytes: usize, visit: &mut impl FnMut(&Record<'_>) -> Result<(), String>) -> Result<(), Error> {
        let batch_at = self.walk.at;
        let (found, wanted) = (&mut self.found, self.options.head.as_ref());
        self.walk.each_record(
            |frame| frame.private != PrivateState::Intact,
            |record, frame| {
                found.account(record, frame, batch_at)?;
                found.scanned.head_found |= meets(wanted, &found.scanned.head)?;
                visit(record).map_err(|message| Error::new(ErrorKind::Visit, message).at_seq(record.seq))
            },
        )?;
        self.walk.advance(bytes);
        found.chain = self.walk.expected.chain;
        found.last_batch_at = batch_at;
        found.scanned.bytes = self.walk.at;
        found.scanned.batches = found.scanned.batches.saturating_add(1);
        Ok(())
    }

    /// Whether the machine has started anew since the last writer opened the log, where that is known.
    fn machine_restarted(&self) -> Option<bool> {
        let now = self.options.boot_id?;
        let then = match self.found.session {
            Some(session) => session.boot_id,
            None => self.head.boot_id,
        };
        then.map(|then| now != then)
    }

    /// Tells an unfinished end from corruption.
    fn judge(&mut self, damage: &Damage, begins: bool) -> Result<TailReason, Error> {
        if begins {
            return Ok(TailReason::Incomplete);
        }
        let offset = self.walk.at.saturating_add(cast::u64_from_usize(damage.at));
        let corrupt = |why: String| {
            Error::new(damage.kind, format!("{}; {why}", damage.what))
                .at_seq(damage.seq)
                .at_offset(offset)
        };
        let restarted = self.machine_restarted();
        let unsynced = self.found.session.is_some_and(|session| session.sync == Sync::None);
        if let Some(later) = self.later_batch(unsynced && restarted != Some(false))? {
            return Err(corrupt(format!(
                "a later batch is intact at byte {later}, so this is damage and not an unfinished end"
            )));
        }
        if restarted == Some(false) {
            return Err(corrupt(
                "the machine has not started anew since, so no crash can have left this".to_owned(),
            ));
        }
        Ok(if self.rest_is_zero()? {
            TailReason::Zeros
        } else {
            TailReason::Damaged
        })
    }

    /// The place of a valid header of a later batch than the next: a batch is written only when the one before it is
    /// durable. In a session that did not sync, that holds only for batches in which a writer opened the log.
    fn later_batch(&mut self, only_openings: bool) -> Result<Option<u64>, Error> {
        let expected = self.walk.expected;
        let is_later = |header: &Header| {
            header.batch_first > expected.next_seq
                && header.seq >= header.batch_first
                && header.batch_last() >= Some(header.seq)
                && (!only_openings || header.kind == NoteKind::Opened.code())
        };
        // Frames begin at multiples of eight; only where bytes were taken out or put in do they not.
        for step in [8, 1] {
            let mut at = self.walk.at;
            loop {
                self.walk.source.load(at, HEADER_BYTES)?;
                let bytes = self.walk.source.from(at);
                let mut passed = 0_usize;
                while let Some(header) = bytes.get(passed..).and_then(|rest| rest.first_chunk()) {
                    if header.starts_with(&MAGIC)
                        && let Some(header) = Header::decode(header, expected.chain.salt)
                        && is_later(&header)
                    {
                        return Ok(Some(at.saturating_add(cast::u64_from_usize(passed))));
                    }
                    passed = passed.saturating_add(step);
                }
                if passed == 0 {
                    break;
                }
                at = at.saturating_add(cast::u64_from_usize(passed));
            }
        }
        Ok(None)
    }

    fn rest_is_zero(&mut self) -> Result<bool, Error> {
        let mut at = self.walk.at;
        while at < self.walk.source.length() {
            self.walk.source.load(at, 1)?;
            let bytes = self.walk.source.from(at);
            if !is_zero(bytes) {
                return Ok(false);
            }
            at = at.saturating_add(cast::u64_from_usize(bytes.len()));
        }
        Ok(true)
    }

    /// Verifies what is left and says what was established.
    ///
    /// # Errors
    /// As [`scan`].
    pub fn finish(self) -> Result<Scanned, Error> {
        Ok(self.finish_found()?.scanned)
    }

    pub(crate) fn finish_found(mut self) -> Result<Found, Error> {
        while self.next_batch(|_| Ok(()))? {}
        self.found.conclude(self.options.head.as_ref())?;
        Ok(self.found)
    }
}

/// What came of verifying a batch.
enum Verdict {
    /// It is right and takes so many bytes.
    Whole(usize),
    /// It is not, and whether the bytes are the beginning of a batch all the same.
    Damaged(Damage, bool),
}

/// Whether this place of the log is the wanted head.
#[inline]
fn meets(wanted: Option<&Head>, here: &Head) -> Result<bool, Error> {
    let Some(wanted) = wanted else {
        return Ok(false);
    };
    if wanted.log_id != here.log_id {
        return Err(Error::new(
            ErrorKind::HeadMismatch,
            "the head that was given is of another log",
        ));
    }
    if wanted.seq == here.seq && wanted.hash != here.hash {
        return Err(Error::new(
            ErrorKind::HeadMismatch,
            "the log does not contain the head that was given: this record has another hash",
        )
        .at_seq(here.seq));
    }
    Ok(wanted.seq == here.seq)
}

/// A log of more than one segment was written by a later version.
pub(crate) fn refuse_other_segments(storage: &dyn Storage) -> Result<(), Error> {
    let names = storage
        .list("")
        .map_err(|error| Error::io("cannot list the log's directory", &error))?;
    match names
        .iter()
        .find(|name| name.ends_with(SEGMENT_SUFFIX) && *name != SEGMENT_NAME)
    {
        Some(other) => Err(Error::new(
            ErrorKind::UnknownFormat,
            format!("the log has a segment {other}, which this version does not know"),
        )),
        None => Ok(()),
    }
}
