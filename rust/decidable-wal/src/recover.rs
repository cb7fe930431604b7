use std::{collections::BTreeSet, sync::Arc};

use decidable_canon::{Digest, Hasher, Sink as _, cast};

use crate::{
    batch::PrivateState,
    error::{Error, ErrorKind},
    found::{Found, Tail, TailReason},
    gathered::Zone,
    note::{Durability, RecoveryReason},
    record::RECORD_BYTES_MAX,
    segment::SegmentHead,
    source::Source,
    storage::{Access, Storage, StoredFile},
    walk::Walk,
    writer::{Failure, read_whole, write_whole},
};

/// Bytes that recovery cut from the end of a log, and where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Where the cut was made.
    pub offset: u64,
    /// How many bytes were cut.
    pub cut_bytes: u64,
    /// Their SHA-256.
    pub digest: Digest,
    /// Why.
    pub reason: RecoveryReason,
    /// The file in the log's directory that has them.
    pub quarantine: String,
}

const QUARANTINE: &str = "quarantine";

/// The copy of an unfinished end while it is made.
const UNFINISHED_COPY: &str = "unfinished.tmp";

impl Recovery {
    fn new(offset: u64, cut_bytes: u64, digest: Digest, reason: RecoveryReason) -> Self {
        Self {
            quarantine: format!("{QUARANTINE}/{offset:020}-{digest}.{}", reason.label()),
            offset,
            cut_bytes,
            digest,
            reason,
        }
    }

    /// Reads a quarantined file's name back.
    fn of_file(name: &str, cut_bytes: u64) -> Option<Self> {
        let (place, reason) = name.split_once('.')?;
        let (offset, digest) = place.split_once('-')?;
        let recovery = Self::new(
            offset.parse().ok()?,
            cut_bytes,
            Digest::from_hex(digest)?,
            RecoveryReason::from_label(reason)?,
        );
        recovery.quarantine.ends_with(name).then_some(recovery)
    }
}

/// Keeps the unfinished end in quarantine, durably, and only then cuts it from the log. Bytes with the same place and
/// digest have the same name, so a recovery that is interrupted does the same again. [`write_again`] makes the cut durable.
pub(crate) fn cut(storage: &dyn Storage, file: &dyn StoredFile, tail: &Tail) -> Result<(), Error> {
    let failed = |action: &'static str| move |error| Error::io(action, &error);
    let reason = match tail.reason {
        TailReason::Incomplete => RecoveryReason::Torn,
        TailReason::Zeros | TailReason::Damaged => RecoveryReason::PowerLoss,
    };
    let kept = failed("cannot keep the unfinished end in quarantine");
    let temporary = format!("{QUARANTINE}/{UNFINISHED_COPY}");
    storage.create_directory(QUARANTINE).map_err(kept)?;
    storage.sync_directory("").map_err(kept)?;
    let copy = storage.open(&temporary, Access::Create).map_err(kept)?;
    let mut hasher = Hasher::new();
    each_piece(
        file,
        tail.offset,
        tail.offset.saturating_add(tail.bytes),
        |at, bytes| {
            hasher.put(bytes);
            write_whole(&*copy, bytes, at.saturating_sub(tail.offset))
        },
    )?;
    copy.sync_data().map_err(kept)?;
    let recovery = Recovery::new(tail.offset, tail.bytes, hasher.finish(), reason);
    storage.rename(&temporary, &recovery.quarantine).map_err(kept)?;
    storage.sync_directory(QUARANTINE).map_err(kept)?;
    file.set_length(tail.offset)
        .map_err(failed("cannot cut the unfinished end"))
}

pub(crate) fn failed_io(failure: &Failure) -> Error {
    failure.error(ErrorKind::Io, "the log cannot be opened")
}

/// The quarantined ends that the log does not mention yet: the one that was just cut, and one whose mention was lost in
/// a crash.
pub(crate) fn unmentioned(storage: &dyn Storage, mentioned: &BTreeSet<(u64, Digest)>) -> Result<Vec<Recovery>, Error> {
    let failed = |error| Error::io("cannot look into the quarantine", &error);
    let mut recoveries = Vec::new();
    for name in storage.list(QUARANTINE).map_err(failed)? {
        let Some(recovery) = Recovery::of_file(&name, 0) else {
            continue;
        };
        if mentioned.contains(&(recovery.offset, recovery.digest)) {
            continue;
        }
        let file = storage.open(&recovery.quarantine, Access::Read).map_err(failed)?;
        recoveries.push(Recovery {
            cut_bytes: file.state().map_err(failed)?.length,
            ..recovery
        });
    }
    Ok(recoveries)
}

/// Writes zeros over everything that recovery has put into quarantine, durably; names and lengths stay. All of it is
/// written, whatever it seems to hold: zeros in the page cache need not be on the disk.
pub(crate) fn zero_quarantine(storage: &dyn Storage) -> Result<(), Error> {
    let failed = |error| Error::io("cannot erase what is in quarantine", &error);
    for name in storage.list(QUARANTINE).map_err(failed)? {
        if name != UNFINISHED_COPY && Recovery::of_file(&name, 0).is_none() {
            continue;
        }
        let file = storage
            .open(&format!("{QUARANTINE}/{name}"), Access::Write)
            .map_err(failed)?;
        let length = file.state().map_err(failed)?.length;
        let mut at = 0;
        while at < length {
            // What does not fit a length is more than a piece.
            let bytes =
                cast::usize_from_u64(length.saturating_sub(at)).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            write_whole(&*file, &vec![0; bytes], at)
                .map_err(|failure| failure.error(ErrorKind::Io, "cannot erase what is in quarantine"))?;
            at = at.saturating_add(cast::u64_from_usize(bytes));
        }
        file.sync_data().map_err(failed)?;
    }
    Ok(())
}

/// What is read to be written elsewhere or again is read in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// Reads the bytes from `start` up to `end` and hands them to `write`, piece by piece, each with its place.
fn each_piece(
    file: &dyn StoredFile,
    start: u64,
    end: u64,
    mut write: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Error> {
    let mut at = start;
    while at < end {
        let next = end.min(at.saturating_add(cast::u64_from_usize(PIECE_BYTES)));
        let bytes =
            read_whole(file, at, next).map_err(|error| Error::io("cannot read the log", &error).at_offset(at))?;
        write(at, &bytes).map_err(|failure| failed_io(&failure))?;
        at = next;
    }
    Ok(())
}

/// Writes again, unchanged, the bytes that no later write proves to be durable, and syncs them. After a sync that failed
/// they may be in the page cache and, marked clean, nowhere else; a new sync alone would succeed and mean nothing.
pub(crate) fn write_again(file: &dyn StoredFile, found: &Found) -> Result<(), Error> {
    // A batch is written only after the sync of the one before it has returned, so its presence proves that sync. A
    // session that did not sync proves only what was there when it began.
    let start = match found.session {
        Some(session) if session.sync == Durability::None => session.at,
        _ => found.last_batch_at,
    };
    each_piece(file, start, found.scanned.bytes, |at, bytes| {
        write_whole(file, bytes, at)
    })?;
    file.sync_data()
        .map_err(|error| Error::io("cannot make the end of the log durable", &error))
}

/// One erasure takes as many records as one record can list.
const ERASED_RECORDS_MAX: usize = RECORD_BYTES_MAX / 8;

pub(crate) fn refuse_too_many(erased: usize) -> Result<(), Error> {
    if erased > ERASED_RECORDS_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("one erasure takes at most {ERASED_RECORDS_MAX} records"),
        ));
    }
    Ok(())
}

/// A private part that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) seq: u64,
    /// Absent if the record was written without one.
    pub(crate) zone: Option<Zone>,
}

/// Finds the private parts of records, by number, in the first `length` bytes of a log.
pub(crate) fn locate(
    file: Arc<dyn StoredFile>,
    length: u64,
    head: &SegmentHead,
    seqs: &BTreeSet<u64>,
    mut watch: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Vec<Located>, Error> {
    let mut located = Vec::with_capacity(seqs.len());
    let mut walk = Walk::new(Source::of_file(file, length), head);
    while located.len() < seqs.len()
        && walk.follow(|walk| {
            watch(walk.expected.next_seq)?;
            for frame in &walk.frames {
                let header = &frame.header;
                if header.continues() || !seqs.contains(&header.seq) {
                    continue;
                }
                let at = cast::u64_from_usize(frame.at.saturating_add(frame.layout.private));
                let bytes = frame.layout.seal.saturating_sub(frame.layout.private);
                located.push(Located {
                    seq: header.seq,
                    zone: header.has_private().then_some(Zone {
                        offset: walk.at.saturating_add(at),
                        bytes,
                    }),
                });
            }
            Ok(())
        })?
    {}
    Ok(located)
}

/// Hands every record of the verified part of a log to `visit`, without hashing it again.
pub(crate) fn replay(
    file: Arc<dyn StoredFile>,
    head: &SegmentHead,
    found: &Found,
    mut visit: impl FnMut(&crate::Record<'_>) -> Result<(), String>,
) -> Result<(), Error> {
    let mut walk = Walk::new(Source::of_file(file, found.scanned.bytes), head);
    while walk.follow(|walk| {
        walk.each_record(
            |frame| found.is_erased(frame.header.seq),
            |record, frame| {
                debug_assert_eq!(frame.private, PrivateState::None);
                visit(record).map_err(|message| Error::new(ErrorKind::Visit, message).at_seq(record.seq))
            },
        )
    })? {}
    Ok(())
}
