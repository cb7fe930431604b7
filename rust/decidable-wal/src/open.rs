use std::{collections::BTreeSet, io, process, sync::Arc};

use decidable_canon::{Key, hex};

use crate::{
    batch::is_zero,
    error::{Error, ErrorKind},
    found::{Found, Scanned, Tail, TailReason},
    gathered::Gathered,
    note::{Durability, Note},
    queue::{QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX},
    record::{Head, Record},
    recover::{self, Recovery},
    scan::{LOCK_NAME, LOCK_SEGMENT, Scan, ScanOptions, absent, refuse_other_segments},
    segment::{SEGMENT_NAME, SEGMENT_SUFFIX, SegmentHead},
    storage::{Access, Lock, Locking, Storage, StoredFile},
    writer::{Writer, note_entry, write_whole},
};

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The key that seals the batches. Whether a log is sealed is settled when it is created.
    pub key: Option<Key>,
    /// When a record counts as written.
    pub sync: Durability,
    /// The id of a log that is created: random bytes, not all zero. It is part of the chain.
    pub log_id: [u8; 16],
    /// Which start of the machine this is ([`boot_id`](crate::boot_id)), where that is known; it tells a power loss from
    /// damage.
    pub boot_id: Option<[u8; 16]>,
    /// Whether a damaged end is cut although it is not known whether the machine has started anew: so it may be damage to
    /// what was acknowledged.
    pub recover: bool,
    /// The time of the opening, in nanoseconds since 1970-01-01 UTC.
    pub time_ns: i64,
    /// Whether a log is created where there is none.
    pub create: bool,
    /// A place that the log must contain, kept elsewhere.
    pub head: Option<Head>,
    /// The queue holds at most this many records.
    pub queue_records_max: usize,
    /// The queue holds at most this many bytes.
    pub queue_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key: None,
            sync: Durability::Group,
            log_id: [0; 16],
            boot_id: None,
            recover: false,
            time_ns: 0,
            create: false,
            head: None,
            queue_records_max: QUEUE_RECORDS_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }
}

/// What opening a log found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The head after opening, the record of the opening included.
    pub head: Head,
    /// How many records there were before.
    pub records: u64,
    /// Whether the log was created.
    pub created: bool,
    /// How often it has been opened for writing, this time included.
    pub epoch: u64,
    /// Whether the writer before closed it.
    pub closed_before: bool,
    /// The time of the last record: no later record has an earlier one.
    pub last_time_ns: i64,
    /// The ends that were cut and are recorded now.
    pub recoveries: Vec<Recovery>,
    /// The records whose erasure had been interrupted and is done now.
    pub erasures_finished: Vec<u64>,
    /// Records whose private parts are gone although no erasure was recorded before.
    pub unrecorded_erasures: Vec<u64>,
}

/// A log that is held, verified and visited, and in which nothing has been changed yet. Dropping it lets go of the log.
#[derive(Debug)]
pub struct Opening {
    storage: Arc<dyn Storage>,
    options: Options,
    lock: Box<dyn Lock>,
    marked: bool,
    created: bool,
    file: Arc<dyn StoredFile>,
    segment: SegmentHead,
    found: Found,
}

/// A log that is recovered, and whose writer is at its end.
pub(crate) struct Ready {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) segment: SegmentHead,
    pub(crate) writer: Writer,
    pub(crate) opened: Opened,
    pub(crate) queue_records_max: usize,
    pub(crate) queue_bytes_max: usize,
}

impl Opening {
    /// The first half of `Log::open`: whoever has visited the records can still leave the log as it is. `watch` is told the
    /// number of each record while the log is verified, before anything is visited, and can end that.
    ///
    /// # Errors
    /// As `Log::open`.
    pub fn begin(
        storage: Arc<dyn Storage>,
        options: Options,
        watch: impl FnMut(u64) -> Result<(), String>,
        mut visit: impl FnMut(&Record<'_>) -> Result<(), String>,
    ) -> Result<Self, Error> {
        let Claim { lock, marked, created } = claim(&*storage, &options)?;
        let file = storage
            .open(SEGMENT_NAME, Access::Write)
            .map_err(|error| Error::io("cannot open the log", &error))?;
        let (segment, found) = verify(file.clone(), &options, watch)?;
        recover::replay(file.clone(), &segment, &found, &mut visit)?;
        Ok(Self {
            storage,
            options,
            lock,
            marked,
            created,
            file,
            segment,
            found,
        })
    }

    /// What was found.
    #[must_use]
    pub const fn scanned(&self) -> &Scanned {
        &self.found.scanned
    }

    /// Everything that opening a log for writing does but starting its flusher.
    pub(crate) fn ready(self, erased: &[u64]) -> Result<Ready, Error> {
        let Self {
            storage,
            options,
            mut lock,
            marked,
            created,
            file,
            segment,
            found,
        } = self;
        let erased: BTreeSet<_> = erased.iter().copied().collect();
        let gone: Vec<_> = (found.scanned.unrecorded_erasures.iter().copied())
            .filter(|seq| erased.contains(seq))
            .collect();
        recover::refuse_too_many(gone.len())?;

        let recoveries = repair(&*storage, &*file, &found)?;
        let mut writer = Writer {
            file,
            length: found.scanned.bytes,
            chain: found.chain,
            key: options.key.clone(),
            sync: Durability::Group,
            buffer: Vec::new(),
        };
        finish_erasures(&writer, &segment, &found)?;
        let mut opened = Opened {
            head: found.scanned.head,
            records: found.scanned.records,
            created,
            epoch: found.scanned.sessions.saturating_add(1),
            closed_before: found.scanned.closed,
            last_time_ns: options.time_ns.max(found.scanned.last_time_ns.unwrap_or(i64::MIN)),
            recoveries,
            erasures_finished: found.scanned.unfinished_erasures,
            unrecorded_erasures: found.scanned.unrecorded_erasures,
        };
        opened.head = note_opening(&mut writer, &opened, gone, &options)?;
        if !marked {
            // Only now are the segment and its name durable: what the line says stays true.
            lock.write(&lock_text(&options, true))
                .map_err(|error| Error::io("cannot write the lock", &error))?;
        }
        writer.sync = options.sync;
        Ok(Ready {
            storage,
            lock,
            segment,
            writer,
            opened,
            queue_records_max: options.queue_records_max,
            queue_bytes_max: options.queue_bytes_max,
        })
    }
}

/// What came of taking a log.
struct Claim {
    lock: Box<dyn Lock>,
    /// Whether the lock's file says that the segment is there.
    marked: bool,
    created: bool,
}

/// Takes the lock of a log that is there, or creates one.
fn claim(storage: &dyn Storage, options: &Options) -> Result<Claim, Error> {
    let marked = is_there(storage)?;
    if !marked {
        refuse_lost(storage)?;
        refuse_creation(options)?;
        refuse_others_place(storage)?;
        storage
            .create()
            .map_err(|error| Error::io("cannot make the log's directory", &error))?;
    }
    let lock = take_lock(storage, options, marked)?;
    refuse_other_segments(storage)?;
    // Somebody may have created it before we had the lock.
    let created = !is_there(storage)?;
    if created {
        create_segment(storage, options)?;
    }
    Ok(Claim { lock, marked, created })
}

/// A log that was here and lost its segment is not begun again as if nothing had been.
fn refuse_lost(storage: &dyn Storage) -> Result<(), Error> {
    let error = absent(storage);
    match error.kind() {
        ErrorKind::NotFound => Ok(()),
        // Somebody may have created it since we looked.
        ErrorKind::SegmentMissing if is_there(storage)? => Ok(()),
        _ => Err(error),
    }
}

fn verify(
    file: Arc<dyn StoredFile>,
    options: &Options,
    watch: impl FnMut(u64) -> Result<(), String>,
) -> Result<(SegmentHead, Found), Error> {
    let scan = Scan::of_file(
        file,
        &ScanOptions {
            key: options.key.clone(),
            head: options.head,
            boot_id: options.boot_id,
        },
    )?;
    let segment = scan.segment_head().clone();
    if segment.is_keyed() && options.key.is_none() {
        return Err(Error::new(
            ErrorKind::KeyMissing,
            "the log is sealed under a key, and none was given",
        ));
    }
    let found = scan.finish_found(watch)?;
    if !options.recover {
        refuse_damaged_end(&found)?;
    }
    Ok((segment, found))
}

/// An end that is not merely short is a power loss or damage to what was acknowledged. Only a machine that is known to have
/// started anew can have lost power.
fn refuse_damaged_end(found: &Found) -> Result<(), Error> {
    match &found.scanned.tail {
        Some(Tail { offset, bytes, reason }) if *reason != TailReason::Incomplete && found.restarted.is_none() => {
            let seq = found.scanned.head.seq.saturating_add(1);
            Err(Error::new(
                ErrorKind::EndDamaged,
                format!(
                    "the batch of record {seq} and what follows it, {bytes} bytes, are damaged, and it is not known whether the \
                     machine lost power since or what was acknowledged was changed: opening the log with recover cuts them and \
                     keeps a copy",
                ),
            )
            .at_seq(seq)
            .at_offset(*offset))
        }
        _ => Ok(()),
    }
}

/// Cuts an unfinished end and makes everything before it durable; the cuts that the log does not mention yet.
fn repair(storage: &dyn Storage, file: &dyn StoredFile, found: &Found) -> Result<Vec<Recovery>, Error> {
    // The name may be the work of a writer that was stopped before it was durable.
    storage
        .sync_directory("")
        .map_err(|error| Error::io("cannot make the log's name durable", &error))?;
    if let Some(tail) = &found.scanned.tail {
        recover::cut(storage, file, tail)?;
    }
    recover::write_again(file, found)?;
    recover::unmentioned(storage, &found.cuts)
}

/// Zeroes what is gone and not zero yet, and again what the last batch says is erased: the zeros may be in the page cache
/// and nowhere else.
fn finish_erasures(writer: &Writer, segment: &SegmentHead, found: &Found) -> Result<(), Error> {
    let open = &found.erased_last | &found.to_zero;
    if open.is_empty() {
        return Ok(());
    }
    let located = recover::locate(writer.file.clone(), writer.length, segment, &open, |_| Ok(()))?;
    let zones: Vec<_> = located.iter().filter_map(|located| located.zone).collect();
    writer.zero(&zones).map_err(|failure| recover::failed_io(&failure))
}

/// Writes, in one batch, what the opening did, what is `gone` and that the log is open; the head after it.
fn note_opening(writer: &mut Writer, opened: &Opened, gone: Vec<u64>, options: &Options) -> Result<Head, Error> {
    let mut notes: Vec<_> = opened.recoveries.iter().map(recovered_note).collect();
    if !gone.is_empty() {
        notes.push(Note::Erased { seqs: gone });
    }
    notes.push(Note::opened(options.boot_id, opened.epoch, options.sync));
    let mut gathered = Gathered::from(opened.head.seq.saturating_add(1));
    for note in &notes {
        gathered.push(&note_entry(note, opened.last_time_ns), opened.last_time_ns);
    }
    writer.append(&gathered).map_err(|failure| recover::failed_io(&failure))
}

fn recovered_note(recovery: &Recovery) -> Note {
    Note::Recovered {
        offset: recovery.offset,
        cut_bytes: recovery.cut_bytes,
        digest: recovery.digest,
        reason: recovery.reason,
    }
}

fn is_there(storage: &dyn Storage) -> Result<bool, Error> {
    match storage.open(SEGMENT_NAME, Access::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("cannot open the log", &error)),
    }
}

fn refuse_creation(options: &Options) -> Result<(), Error> {
    if !options.create {
        return Err(Error::new(ErrorKind::NotFound, "there is no log here"));
    }
    if options.head.is_some() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "there is no log here, and the head that was given says that there was one",
        ));
    }
    if is_zero(&options.log_id) {
        return Err(Error::new(ErrorKind::Invalid, "the id of a new log is all zero"));
    }
    Ok(())
}

/// A log is created in a directory of its own: one that is empty, or where an earlier creation was cut off.
fn refuse_others_place(storage: &dyn Storage) -> Result<(), Error> {
    let names = storage
        .list("")
        .map_err(|error| Error::io("cannot list the log's directory", &error))?;
    // A segment may have come from someone who creates the log beside us.
    let ours = |name: &str| name == LOCK_NAME || name == temporary_name() || name.ends_with(SEGMENT_SUFFIX);
    match names.iter().find(|name| !ours(name)) {
        Some(other) => Err(Error::new(
            ErrorKind::NotALog,
            format!("there is no log here, but other files ({other:?}): a new log needs a directory of its own"),
        )),
        None => Ok(()),
    }
}

/// What the first segment is called until it is whole.
fn temporary_name() -> String {
    format!("{SEGMENT_NAME}.tmp")
}

fn lock_text(options: &Options, marked: bool) -> String {
    let boot = options
        .boot_id
        .map_or_else(|| "unknown".to_owned(), |id| hex::encode(&id));
    let line = if marked {
        format!("{LOCK_SEGMENT}{SEGMENT_NAME}\n")
    } else {
        String::new()
    };
    format!("pid {}\nboot {boot}\n{line}", process::id())
}

fn take_lock(storage: &dyn Storage, options: &Options, marked: bool) -> Result<Box<dyn Lock>, Error> {
    match storage.lock(LOCK_NAME, &lock_text(options, marked)) {
        Ok(Locking::Held(lock)) => Ok(lock),
        Ok(Locking::Busy(holder)) => Err(Error::new(ErrorKind::Locked, open_elsewhere(&holder))),
        Err(error) => Err(Error::io("cannot lock the log", &error)),
    }
}

/// Who holds the log, as far as its lock file says. Processes in different containers can have the same number.
fn open_elsewhere(holder: &str) -> String {
    match holder.lines().find_map(|line| line.strip_prefix("pid ")) {
        Some(pid) if pid == process::id().to_string() => format!(
            "the log is open for writing by this process, pid {pid}, or by one of the same number in another container: close \
             what was opened before"
        ),
        Some(pid) => format!("the log is open for writing elsewhere: pid {pid}"),
        None => "the log is open for writing elsewhere".to_owned(),
    }
}

/// Makes the first segment: a temporary file, its contents durable, then its name. Opening makes the name durable.
fn create_segment(storage: &dyn Storage, options: &Options) -> Result<(), Error> {
    let failed = |error| Error::io("cannot create the log", &error);
    refuse_creation(options)?;
    let head = SegmentHead::first(options.log_id, options.time_ns, options.boot_id, options.key.as_ref());
    let temporary = temporary_name();
    let file = storage.open(&temporary, Access::Create).map_err(failed)?;
    write_whole(&*file, &head.encode(), 0).map_err(|failure| recover::failed_io(&failure))?;
    file.sync_data().map_err(failed)?;
    storage.rename(&temporary, SEGMENT_NAME).map_err(failed)
}
