use std::{collections::BTreeSet, io, sync::Arc};

use decidable_canon::{Key, cast};

use crate::{
    batch::{self, Damage, Outline, PrivateState, is_zero},
    error::{Error, ErrorKind},
    found::{Found, Scanned, Tail, TailReason},
    frame::{HEADER_BYTES, Header, MAGIC},
    note::{Durability, Note, NoteKind},
    record::{Head, Record},
    segment::{SEGMENT_HEAD_BYTES, SEGMENT_NAME, SEGMENT_SUFFIX, SegmentHead},
    source::Source,
    storage::{Access, Storage, StoredFile},
    walk::Walk,
};

/// The file that a writer locks. Its text is for people, but for the line that says that the segment is there.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// How the line begins that says that the segment is there.
pub(crate) const LOCK_SEGMENT: &str = "segment ";

/// More of the lock's text than this is not looked at.
const LOCK_BYTES_READ: usize = 512;

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

/// Reads and verifies a log without ever writing: chain, batches, private parts, seals, head.
///
/// Every record of a batch is handed to `visit` once that batch and everything before it is verified. What was visited
/// counts only when the scan returns without an error.
///
/// # Errors
/// `NotFound`, `SegmentMissing`; corruption with the record and the byte; `HeadMismatch`, `ShorterThanHead`, `WrongKey`,
/// `NotKeyed`; `Visit` with the message of `visit`.
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

impl<'a> Scan<'a> {
    /// Begins a scan of the log in `storage`.
    ///
    /// # Errors
    /// `NotFound`, `SegmentMissing`, `UnknownFormat`, `HeaderDamaged`, `WrongKey`, `NotKeyed`, or those of the storage.
    pub fn open(storage: &dyn Storage, options: &ScanOptions) -> Result<Scan<'static>, Error> {
        refuse_other_segments(storage)?;
        let file = storage.open(SEGMENT_NAME, Access::Read).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                absent(storage)
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

    /// Begins a scan of an open segment, up to its present end. Only erasures that are recorded later are looked up behind it.
    pub(crate) fn of_file(file: Arc<dyn StoredFile>, options: &ScanOptions) -> Result<Scan<'static>, Error> {
        let state = file.state().map_err(|error| Error::io("cannot read the log", &error))?;
        Scan::new(Source::of_file(file, state.length), options)
    }

    fn new(mut source: Source<'a>, options: &ScanOptions) -> Result<Self, Error> {
        source.load(0, SEGMENT_HEAD_BYTES)?;
        let head = SegmentHead::decode(source.from(0))?;
        head.accept_key(options.key.as_ref())?;
        let walk = Walk::new(source, &head);
        let found = Found::nothing(&head, walk.expected.chain, walk.at, options.key.is_some());
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
                    verdict = self.check_last_private(restarted == Some(true))?;
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

    /// Checks the private parts of the batch with which the scan ends.
    fn check_last_private(&self, holes: bool) -> Result<Result<(), Damage>, Error> {
        let frames = &self.walk.frames;
        if batch::check_last_private(frames, holes, |_| false).is_ok() {
            return Ok(Ok(()));
        }
        let erased = self.erased_since()?;
        Ok(batch::check_last_private(frames, holes, |seq| erased.contains(&seq)))
    }

    /// The records whose erasure the log has recorded since the scan began, behind what it reads: a writer may have erased
    /// them while they were read. The record of an erasure is written before the first byte goes, so whoever has seen one
    /// gone finds it in what the file holds by now.
    fn erased_since(&self) -> Result<BTreeSet<u64>, Error> {
        let mut erased = BTreeSet::new();
        let Some(source) = self.walk.source.grown()? else {
            return Ok(erased);
        };
        let mut walk = self.walk.onward(source, self.found.chain);
        while walk.has_more() {
            let Outline::Whole(bytes) = walk.outline()? else {
                break;
            };
            let Walk {
                source,
                expected,
                at,
                frames,
                ..
            } = &mut walk;
            if batch::check(source.from(*at), frames, expected, self.options.key.as_ref()).is_err() {
                break;
            }
            walk.each_record(
                |_| false,
                |record, _| {
                    if record.kind == NoteKind::Erased.code()
                        && let Ok(Note::Erased { seqs }) = Note::decode(NoteKind::Erased, record.payload)
                    {
                        erased.extend(seqs);
                    }
                    Ok(())
                },
            )?;
            walk.advance(bytes);
        }
        Ok(erased)
    }

    /// Takes a verified batch of `bytes` into account and steps over it.
    #[inline]
    fn accept(&mut self, bytes: usize, visit: &mut impl FnMut(&Record<'_>) -> Result<(), String>) -> Result<(), Error> {
        let batch_at = self.walk.at;
        let (found, wanted) = (&mut self.found, self.options.head.as_ref());
        found.erased_last.clear();
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

    /// From where on a power loss may have left holes before whole batches: the last session did not sync, and the machine
    /// may have started anew since.
    fn holes_from(&self) -> Option<u64> {
        self.found
            .session
            .filter(|session| session.sync == Durability::None && self.machine_restarted() != Some(false))
            .map(|session| session.at)
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
        if let Some(later) = self.later_batch(self.holes_from().is_some())? {
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
        Ok(self.finish_found(|_| Ok(()))?.scanned)
    }

    pub(crate) fn finish_found(mut self, mut watch: impl FnMut(u64) -> Result<(), String>) -> Result<Found, Error> {
        while self.next_batch(|record| watch(record.seq))? {}
        if self.found.has_unexplained() {
            self.found.explain(&self.erased_since()?);
        }
        self.found.restarted = self.machine_restarted();
        let holes_from = self.holes_from();
        self.found.conclude(self.options.head.as_ref(), holes_from)?;
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

/// Why there is no segment.
pub(crate) fn absent(storage: &dyn Storage) -> Error {
    match had_segment(storage) {
        Ok(false) => Error::new(ErrorKind::NotFound, "there is no log here"),
        Ok(true) => Error::new(
            ErrorKind::SegmentMissing,
            format!(
                "a log was here, as {LOCK_NAME} says, and its segment {SEGMENT_NAME} is gone: bring it back, or open a new log \
                 in another directory"
            ),
        ),
        Err(error) => Error::io("cannot open the log's lock", &error),
    }
}

/// Whether the lock's file says that a segment was there.
fn had_segment(storage: &dyn Storage) -> io::Result<bool> {
    let file = match storage.open(LOCK_NAME, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut text = [0; LOCK_BYTES_READ];
    let read = match file.read_at(&mut text, 0) {
        // Windows lets nobody read what somebody has locked, who then creates the log just now.
        Err(_) if cfg!(windows) => 0,
        read => read?,
    };
    let text = String::from_utf8_lossy(text.get(..read).unwrap_or(&[]));
    Ok(text.lines().any(|line| line.starts_with(LOCK_SEGMENT)))
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
