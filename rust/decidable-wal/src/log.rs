use std::{
    collections::{BTreeSet, VecDeque},
    fmt, io, mem, process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use decidable_canon::{Key, cast, hex};

use crate::{
    batch::is_zero,
    error::{Error, ErrorKind},
    frame::{Chain, frame_bytes},
    note::{CALLER_KIND_MIN, Note, Sync},
    record::{Entry, GROUP_BYTES_MAX, GROUP_RECORDS_MAX, Head, PRIVATE_BYTES_MAX, Position, RECORD_BYTES_MAX, Record},
    recover::{self, Recovery},
    scan::{Scan, ScanOptions, refuse_other_segments},
    segment::{SEGMENT_NAME, SegmentHead},
    storage::{Access, Lock, Locking, Storage, StoredFile},
    writer::{Failure, Group, Writer, read_whole, write_whole},
};

/// The queue holds at most this many records: more than a thousand group commits of 64 writers, so that a full queue means
/// a stalled disk and not a burst.
pub const QUEUE_RECORDS_MAX: usize = 65_536;

/// The queue holds at most this many bytes, which bounds the memory that a stalled disk can cost.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A batch takes groups up to this many records and bytes; a larger group is a batch of its own. Beyond that a write no
/// longer gets cheaper by the record, and every waiter waits longer.
const BATCH_RECORDS_MAX: usize = 4_096;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Without a sync nothing holds the flusher up, and it would write every record on its own. So it waits until so many
/// bytes are queued, somebody waits for a record, or so long.
const PATIENCE_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_millis(1);

const _: () = assert!(BATCH_RECORDS_MAX <= GROUP_RECORDS_MAX && BATCH_BYTES_MAX <= GROUP_BYTES_MAX);
const _: () = assert!(GROUP_RECORDS_MAX <= QUEUE_RECORDS_MAX && GROUP_BYTES_MAX <= QUEUE_BYTES_MAX);

/// One erasure takes as many records as one record can list.
const ERASED_RECORDS_MAX: usize = RECORD_BYTES_MAX / 8;

const LOCK_NAME: &str = "LOCK";

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The key that seals the batches. Whether a log is sealed is settled when it is created.
    pub key: Option<Key>,
    /// When a record counts as written.
    pub sync: Sync,
    /// The id of a log that is created: random bytes, not all zero. It is part of the chain.
    pub log_id: [u8; 16],
    /// Which start of the machine this is ([`boot_id`](crate::boot_id)); it tells a power loss from damage.
    pub boot_id: Option<[u8; 16]>,
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
            sync: Sync::Group,
            log_id: [0; 16],
            boot_id: None,
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
    /// Records whose private parts are zero although no erasure is recorded.
    pub unrecorded_erasures: Vec<u64>,
}

/// What came of an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The records whose private parts were erased, ascending.
    pub seqs: Vec<u64>,
    /// The records whose private parts were gone already.
    pub already: Vec<u64>,
    /// The records that have no private part.
    pub without: Vec<u64>,
    /// The record that says so; absent if there was nothing to erase.
    pub recorded: Option<u64>,
}

/// A log that is open for writing. Share it by reference or in an `Arc`; every method may be called from any thread.
pub struct Log {
    shared: Arc<Shared>,
    file: Arc<dyn StoredFile>,
    segment: SegmentHead,
    opened: Head,
    /// The process that opened it; a forked child must not touch it.
    process: u32,
    flusher: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

/// What callers and the flusher share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when the flusher is idle and there is work, and when it has been patient for long enough.
    work: Condvar,
    /// Whether the flusher waits for more before it writes: only without a sync.
    patient: bool,
    progress: Mutex<Progress>,
    /// Signalled when `progress` has changed and someone waits.
    moved: Condvar,
    /// The number of the last durable record: `progress.head.seq`, to be read without a lock.
    durable: AtomicU64,
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct Queue {
    groups: VecDeque<Group>,
    records: usize,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
    next_seq: u64,
    last_time_ns: i64,
    intake: Intake,
    flusher_is_idle: bool,
    flusher_is_patient: bool,
    /// Whether somebody waits for what is queued.
    urgent: bool,
}

/// Whether the queue takes entries.
#[derive(Clone, Debug)]
enum Intake {
    Open,
    Closed,
    Poisoned(Failure),
}

#[derive(Debug)]
struct Progress {
    head: Head,
    /// The segment's length behind the head.
    length: u64,
    /// The last record of an erasure that is finished.
    erased: u64,
    failure: Option<Failure>,
    /// Whether the flusher has ended.
    ended: bool,
    waiting: usize,
}

impl Log {
    /// Opens the log in `storage` for writing: takes the lock, creates the log if there is none and that was asked for,
    /// verifies it, hands every record to `visit`, cuts an unfinished end, and records the opening.
    ///
    /// Nothing is visited before everything is verified, and nothing is changed before everything was visited.
    ///
    /// # Errors
    /// `NotFound`, `Locked`, `KeyMissing`, `WrongKey`, `NotKeyed`; corruption with the record and the byte; `HeadMismatch`,
    /// `ShorterThanHead`; `Visit`; `Io`.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: Options,
        mut visit: impl FnMut(&Record<'_>) -> Result<(), String>,
    ) -> Result<(Self, Opened), Error> {
        Self::open_visited(&*storage, options, &mut visit)
    }

    fn open_visited(
        storage: &dyn Storage,
        options: Options,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), String>,
    ) -> Result<(Self, Opened), Error> {
        let exists = is_there(storage)?;
        if !exists {
            refuse_creation(&options)?;
            storage
                .create()
                .map_err(|error| Error::io("cannot make the log's directory", &error))?;
        }
        let lock = take_lock(storage, &options)?;
        refuse_other_segments(storage)?;
        // Somebody may have created it before we had the lock.
        let created = !is_there(storage)?;
        if created {
            create_segment(storage, &options)?;
        }
        let file = storage
            .open(SEGMENT_NAME, Access::Write)
            .map_err(|error| Error::io("cannot open the log", &error))?;

        let scan = Scan::of_file(
            file.clone(),
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
        let found = scan.finish_found()?;
        recover::replay(file.clone(), &segment, &found, visit)?;

        // The name may be the work of a writer that was stopped before it was durable.
        storage
            .sync_directory("")
            .map_err(|error| Error::io("cannot make the log's name durable", &error))?;
        if let Some(tail) = &found.scanned.tail {
            recover::cut(storage, &*file, tail)?;
        }
        recover::write_again(&*file, &found)?;
        let recoveries = recover::unmentioned(storage, &found.cuts)?;
        let mut writer = Writer {
            file: file.clone(),
            length: found.scanned.bytes,
            chain: Chain {
                hash: found.chain.hash,
                ..found.chain
            },
            key: options.key,
            sync: Sync::Group,
            buffer: Vec::new(),
        };
        let unfinished = found
            .scanned
            .unfinished_erasures
            .iter()
            .copied()
            .collect::<BTreeSet<_>>();
        if !unfinished.is_empty() {
            let zones = recover::locate(file.clone(), found.scanned.bytes, &segment, &unfinished)?
                .iter()
                .filter_map(|located| located.zone)
                .collect::<Vec<_>>();
            writer.zero(&zones).map_err(|failure| recover::failed_io(&failure))?;
        }

        let epoch = found.scanned.sessions.saturating_add(1);
        let last_time_ns = options.time_ns.max(found.scanned.last_time_ns.unwrap_or(i64::MIN));
        let mut notes = recoveries.iter().map(recovered_note).collect::<Vec<_>>();
        notes.push(Note::opened(options.boot_id, epoch, options.sync));
        let group = Group {
            first: found.scanned.head.seq.saturating_add(1),
            entries: notes.iter().map(|note| note_entry(note, last_time_ns)).collect(),
            zones: Vec::new(),
        };
        let head = writer
            .append(&[group])
            .map_err(|failure| recover::failed_io(&failure))?;
        writer.sync = options.sync;

        let opened = Opened {
            head,
            records: found.scanned.records,
            created,
            epoch,
            closed_before: found.scanned.closed,
            last_time_ns,
            recoveries,
            erasures_finished: unfinished.into_iter().collect(),
            unrecorded_erasures: found.scanned.unrecorded_erasures,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                groups: VecDeque::new(),
                records: 0,
                bytes: 0,
                records_max: options.queue_records_max,
                bytes_max: options.queue_bytes_max,
                next_seq: head.seq.saturating_add(1),
                last_time_ns,
                intake: Intake::Open,
                flusher_is_idle: false,
                flusher_is_patient: false,
                urgent: false,
            }),
            work: Condvar::new(),
            patient: options.sync == Sync::None,
            progress: Mutex::new(Progress {
                head,
                length: writer.length,
                erased: 0,
                failure: None,
                ended: false,
                waiting: 0,
            }),
            moved: Condvar::new(),
            durable: AtomicU64::new(head.seq),
            abandoned: AtomicBool::new(false),
        });
        let flusher = thread::Builder::new()
            .name("decidable-wal".to_owned())
            .spawn({
                let shared = shared.clone();
                move || flush(&shared, writer)
            })
            .map_err(|error| Error::io("cannot start the log's writer", &error))?;
        let log = Self {
            shared,
            file,
            segment,
            opened: head,
            process: process::id(),
            flusher: Mutex::new(Some(flusher)),
            lock: Mutex::new(Some(lock)),
        };
        Ok((log, opened))
    }

    /// Queues entries to be written together: after a crash all of them are there or none. Does not wait for the disk;
    /// [`Log::wait`] for the last number does.
    ///
    /// # Errors
    /// `Overloaded` if the queue is full: nothing was taken, try again later. `Invalid`, `TooLarge`, `Poisoned`, `Closed`,
    /// `Abandoned`.
    pub fn append(&self, entries: Vec<Entry>) -> Result<Position, Error> {
        for entry in &entries {
            accept(entry)?;
        }
        self.shared.enqueue(entries, Vec::new(), false)
    }

    /// Whether a record of `bytes` bytes, its private part included, would be taken now. A caller that must not append in
    /// vain asks before it changes anything of its own; while nobody else appends the answer stands.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn ready(&self, bytes: usize) -> Result<(), Error> {
        self.shared.refuse_abandoned()?;
        let queue = self.shared.queue();
        queue.intake()?;
        queue.make_room(1, bytes)
    }

    /// The number that the next record gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.shared.queue().next_seq
    }

    /// Waits until the record of that number is durable (without syncing: written).
    ///
    /// # Errors
    /// `Timeout`; `DurabilityLost` if a write or sync failed before; `UnknownSequence` if no such record was appended;
    /// `Closed`, `Abandoned`.
    pub fn wait(&self, seq: u64, timeout: Option<Duration>) -> Result<(), Error> {
        if self.shared.durable.load(Ordering::Acquire) >= seq {
            return Ok(());
        }
        self.shared.refuse_abandoned()?;
        if self.shared.hurry() <= seq {
            return Err(Error::new(ErrorKind::UnknownSequence, "no record of that number was appended").at_seq(seq));
        }
        match self.shared.wait_until(timeout, |progress| progress.head.seq >= seq)? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Timeout, "the record was not durable in time").at_seq(seq)),
        }
    }

    /// Waits until a record after `seen` is durable, or until the time is over; returns the number of the last durable one.
    ///
    /// # Errors
    /// `DurabilityLost` if a write or sync failed; `Closed` once nothing more will come; `Abandoned`.
    pub fn wait_change(&self, seen: u64, timeout: Option<Duration>) -> Result<u64, Error> {
        self.shared.refuse_abandoned()?;
        self.shared.hurry();
        self.shared.wait_until(timeout, |progress| progress.head.seq > seen)?;
        Ok(self.shared.durable.load(Ordering::Acquire))
    }

    /// The last durable record. Kept elsewhere, it detects a log that was cut or altered before it.
    #[must_use]
    pub fn head(&self) -> Head {
        if self.shared.abandoned.load(Ordering::Acquire) {
            return self.opened;
        }
        self.shared.progress().head
    }

    /// The log's id.
    #[must_use]
    pub const fn log_id(&self) -> [u8; 16] {
        self.segment.log_id
    }

    /// Erases the private parts of records: first the record that says so is durable, then salt and bytes are zeroed in
    /// place and synced. Every proof stays valid, because the chain covers only the commitments. An erasure that is
    /// interrupted in between is finished when the log is opened next.
    ///
    /// # Errors
    /// `UnknownSequence` for a record that is not durable yet; `TooLarge` for millions at once; those of [`Log::append`] and [`Log::wait`].
    pub fn erase(&self, seqs: &[u64], time_ns: i64) -> Result<Erased, Error> {
        self.shared.refuse_abandoned()?;
        let wanted = seqs.iter().copied().collect::<BTreeSet<_>>();
        if wanted.len() > ERASED_RECORDS_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("one erasure takes at most {ERASED_RECORDS_MAX} records"),
            ));
        }
        let (head, length) = {
            let progress = self.shared.progress();
            (progress.head, progress.length)
        };
        if let Some(unknown) = wanted.iter().find(|seq| **seq == 0 || **seq > head.seq) {
            return Err(
                Error::new(ErrorKind::UnknownSequence, "there is no durable record of that number").at_seq(*unknown),
            );
        }
        let mut erased = Erased {
            seqs: Vec::new(),
            already: Vec::new(),
            without: Vec::new(),
            recorded: None,
        };
        let mut zones = Vec::new();
        for located in recover::locate(self.file.clone(), length, &self.segment, &wanted)? {
            let Some(zone) = located.zone else {
                erased.without.push(located.seq);
                continue;
            };
            let end = zone.offset.saturating_add(cast::u64_from_usize(zone.bytes));
            let bytes = read_whole(&*self.file, zone.offset, end)
                .map_err(|error| Error::io("cannot read a private part", &error).at_seq(located.seq))?;
            if is_zero(&bytes) {
                erased.already.push(located.seq);
            } else {
                erased.seqs.push(located.seq);
                zones.push(zone);
            }
        }
        if zones.is_empty() {
            return Ok(erased);
        }
        let note = Note::Erased {
            seqs: erased.seqs.clone(),
        };
        let position = self.shared.enqueue(vec![note_entry(&note, time_ns)], zones, false)?;
        self.shared.hurry();
        self.shared
            .wait_until(None, |progress| progress.erased >= position.last)?;
        erased.recorded = Some(position.last);
        Ok(erased)
    }

    /// Writes what is queued, records the closing, syncs, and unlocks. Returns the final head. Closing again returns it too.
    ///
    /// # Errors
    /// `DurabilityLost` if a write or sync failed, now or before; the log is unlocked all the same. `Abandoned`.
    pub fn close(&self) -> Result<Head, Error> {
        self.shared.refuse_abandoned()?;
        let mut flusher = hold(&self.flusher);
        if let Some(thread) = flusher.take() {
            let last_time_ns = self.shared.queue().last_time_ns;
            // A poisoned log refuses the note; what matters then is the failure below.
            let _ = self
                .shared
                .enqueue(vec![note_entry(&Note::Closed, last_time_ns)], Vec::new(), true);
            self.end(thread);
        }
        let progress = self.shared.progress();
        match &progress.failure {
            None => Ok(progress.head),
            Some(failure) => Err(lost(failure)),
        }
    }

    /// For a child after `fork`: lets go of the log without flushing, joining or unlocking anything. The parent goes on.
    /// Every later call in the child fails with `Abandoned`.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Release);
        // A lock of ours that a thread of the parent held when the process was forked is held for ever; do not wait.
        if let Ok(mut lock) = self.lock.try_lock() {
            *lock = None;
        }
        if let Ok(mut flusher) = self.flusher.try_lock() {
            // The thread does not exist in the child; its handle must not be used, not even to detach it.
            mem::forget(flusher.take());
        }
    }

    /// Lets the flusher finish what is queued, waits for it, and unlocks.
    fn end(&self, flusher: JoinHandle<()>) {
        {
            let mut queue = self.shared.queue();
            if matches!(queue.intake, Intake::Open) {
                queue.intake = Intake::Closed;
            }
            self.shared.work.notify_all();
        }
        // A flusher that panicked has poisoned the log while unwinding.
        let _ = flusher.join();
        if let Some(lock) = hold(&self.lock).take() {
            lock.release();
        }
    }
}

impl Drop for Log {
    /// Writes what is queued and unlocks, without recording a closing.
    fn drop(&mut self) {
        if self.process != process::id() {
            self.abandon();
        }
        if self.shared.abandoned.load(Ordering::Acquire) {
            return;
        }
        let flusher = hold(&self.flusher).take();
        if let Some(flusher) = flusher {
            self.end(flusher);
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("log_id", &hex::encode(&self.segment.log_id))
            .field("durable", &self.shared.durable.load(Ordering::Acquire))
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        hold(&self.queue)
    }
    fn progress(&self) -> MutexGuard<'_, Progress> {
        hold(&self.progress)
    }

    fn refuse_abandoned(&self) -> Result<(), Error> {
        if self.abandoned.load(Ordering::Acquire) {
            Err(Error::new(
                ErrorKind::Abandoned,
                "the log belongs to the process that opened it, and this one was forked from it",
            ))
        } else {
            Ok(())
        }
    }

    fn enqueue(
        &self,
        mut entries: Vec<Entry>,
        zones: Vec<crate::writer::Zone>,
        closes: bool,
    ) -> Result<Position, Error> {
        self.refuse_abandoned()?;
        let records = entries.len();
        let bytes = entries.iter().map(weight).sum::<usize>();
        let mut queue = self.queue();
        queue.intake()?;
        if !closes {
            queue.make_room(records, bytes)?;
        }
        let first = queue.next_seq;
        let count = cast::u64_from_usize(records);
        let (Some(next), Some(last)) = (first.checked_add(count), count.checked_sub(1)) else {
            return Err(Error::new(ErrorKind::Invalid, "a group needs at least one entry"));
        };
        for entry in &mut entries {
            entry.time_ns = entry.time_ns.max(queue.last_time_ns);
            queue.last_time_ns = entry.time_ns;
        }
        queue.next_seq = next;
        queue.records = queue.records.saturating_add(records);
        queue.bytes = queue.bytes.saturating_add(bytes);
        queue.groups.push_back(Group { first, entries, zones });
        if closes {
            queue.intake = Intake::Closed;
        }
        let enough = queue.flusher_is_patient && (queue.bytes >= PATIENCE_BYTES || closes);
        let wake = mem::take(&mut queue.flusher_is_idle) || enough;
        drop(queue);
        if wake {
            self.work.notify_one();
        }
        Ok(Position {
            first,
            last: first.saturating_add(last),
        })
    }

    /// Says that somebody waits for what is queued; the number that the next record gets.
    fn hurry(&self) -> u64 {
        let mut queue = self.queue();
        queue.urgent = true;
        let next_seq = queue.next_seq;
        let wake = queue.flusher_is_patient;
        drop(queue);
        if wake {
            self.work.notify_one();
        }
        next_seq
    }

    /// Waits until `reached`, and says whether it was.
    fn wait_until(&self, timeout: Option<Duration>, reached: impl Fn(&Progress) -> bool) -> Result<bool, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut progress = self.progress();
        loop {
            if reached(&progress) {
                return Ok(true);
            }
            if let Some(failure) = &progress.failure {
                return Err(lost(failure));
            }
            if progress.ended {
                return Err(Error::new(ErrorKind::Closed, "the log is closed"));
            }
            let left = match deadline {
                None => None,
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => Some(left),
                    _ => return Ok(false),
                },
            };
            progress.waiting = progress.waiting.saturating_add(1);
            progress = match left {
                None => self.moved.wait(progress).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.moved
                        .wait_timeout(progress, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            progress.waiting = progress.waiting.saturating_sub(1);
        }
    }

    /// Changes the progress and wakes those who wait for it.
    fn advance(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress();
        change(&mut progress);
        self.durable.store(progress.head.seq, Ordering::Release);
        let waiting = progress.waiting > 0;
        drop(progress);
        if waiting {
            self.moved.notify_all();
        }
    }

    /// Stops everything after the first failure: what waits is told, what is queued is dropped, nothing more is taken.
    fn poison(&self, failure: &Failure) {
        let dropped = {
            let mut queue = self.queue();
            queue.intake = Intake::Poisoned(failure.clone());
            queue.records = 0;
            queue.bytes = 0;
            mem::take(&mut queue.groups)
        };
        self.advance(|progress| progress.failure = Some(failure.clone()));
        drop(dropped);
    }

    /// Lets the queue grow until enough is there, somebody waits for it, or the time is over.
    fn be_patient<'a>(&self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let begun = Instant::now();
        queue.flusher_is_patient = true;
        while !queue.urgent && queue.bytes < PATIENCE_BYTES && matches!(queue.intake, Intake::Open) {
            let Some(left) = PATIENCE.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                break;
            };
            queue = self
                .work
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        queue.flusher_is_patient = false;
        queue.urgent = false;
        queue
    }

    /// Takes the groups of the next batch into `batch`; false when there will be no more.
    fn take(&self, batch: &mut Vec<Group>) -> bool {
        let mut queue = self.queue();
        while queue.groups.is_empty() {
            if !matches!(queue.intake, Intake::Open) {
                return false;
            }
            queue.flusher_is_idle = true;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.flusher_is_idle = false;
        if self.patient {
            queue = self.be_patient(queue);
        }
        let (mut records, mut bytes) = (0_usize, 0_usize);
        while let Some(group) = queue.groups.front() {
            let more = group.entries.len();
            let heavier = group.entries.iter().map(weight).sum::<usize>();
            let fits =
                records.saturating_add(more) <= BATCH_RECORDS_MAX && bytes.saturating_add(heavier) <= BATCH_BYTES_MAX;
            if !batch.is_empty() && !fits {
                break;
            }
            records = records.saturating_add(more);
            bytes = bytes.saturating_add(heavier);
            batch.extend(queue.groups.pop_front());
        }
        queue.records = queue.records.saturating_sub(records);
        queue.bytes = queue.bytes.saturating_sub(bytes);
        true
    }
}

impl Queue {
    fn intake(&self) -> Result<(), Error> {
        match &self.intake {
            Intake::Open => Ok(()),
            Intake::Closed => Err(Error::new(ErrorKind::Closed, "the log is closed")),
            Intake::Poisoned(failure) => Err(failure.error(ErrorKind::Poisoned, "the log takes nothing more, because")),
        }
    }

    fn make_room(&self, records: usize, bytes: usize) -> Result<(), Error> {
        if records > self.records_max.min(GROUP_RECORDS_MAX) || bytes > self.bytes_max.min(GROUP_BYTES_MAX) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a group of {records} entries and {bytes} bytes is larger than the log takes"),
            ));
        }
        if self.records.saturating_add(records) > self.records_max || self.bytes.saturating_add(bytes) > self.bytes_max
        {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!("the disk does not keep up: {} records are queued already", self.records),
            ));
        }
        Ok(())
    }
}

/// The life of the flusher: batch after batch until the log is closed or a write or sync fails.
fn flush(shared: &Shared, mut writer: Writer) {
    let guard = Ending { shared };
    let mut batch = Vec::new();
    while shared.take(&mut batch) {
        if let Err(failure) = flush_batch(shared, &mut writer, &batch) {
            shared.poison(&failure);
            return;
        }
        batch.clear();
    }
    if writer.sync == Sync::None
        && let Err(failure) = writer.sync()
    {
        shared.poison(&failure);
    }
    drop(guard);
}

fn flush_batch(shared: &Shared, writer: &mut Writer, batch: &[Group]) -> Result<(), Failure> {
    let head = writer.append(batch)?;
    let length = writer.length;
    shared.advance(|progress| {
        progress.head = head;
        progress.length = length;
    });
    for group in batch {
        if group.zones.is_empty() {
            continue;
        }
        if writer.sync == Sync::None {
            // The record must be durable before the bytes go, whatever the log promises otherwise.
            writer.sync()?;
        }
        writer.zero(&group.zones)?;
        shared.advance(|progress| progress.erased = group.first);
    }
    Ok(())
}

/// Tells everyone who waits when the flusher ends, also when it panics.
struct Ending<'a> {
    shared: &'a Shared,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.poison(&Failure::new("the log's writer panicked"));
        }
        self.shared.advance(|progress| progress.ended = true);
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave the data half-changed, so a panic elsewhere does not matter.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(failure: &Failure) -> Error {
    failure.error(ErrorKind::DurabilityLost, "the record may not be durable")
}

/// How many bytes an entry takes in the queue and in a batch, nearly.
fn weight(entry: &Entry) -> usize {
    frame_bytes(
        entry.payload.len(),
        entry.private.as_ref().map(|private| private.bytes.len()),
    )
}

fn accept(entry: &Entry) -> Result<(), Error> {
    if entry.kind < CALLER_KIND_MIN {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "kind {} belongs to the log itself; a caller's begin at {CALLER_KIND_MIN}",
                entry.kind
            ),
        ));
    }
    if entry.payload.len() > RECORD_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "a payload of {} bytes; at most {RECORD_BYTES_MAX} are taken",
                entry.payload.len()
            ),
        ));
    }
    if let Some(private) = &entry.private {
        if private.bytes.len() > PRIVATE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "a private part of {} bytes; at most {PRIVATE_BYTES_MAX} are taken",
                    private.bytes.len()
                ),
            ));
        }
        if is_zero(&private.salt) {
            return Err(Error::new(ErrorKind::Invalid, "the salt of a private part is all zero"));
        }
    }
    Ok(())
}

fn note_entry(note: &Note, time_ns: i64) -> Entry {
    Entry {
        kind: note.kind().code(),
        time_ns,
        payload: note.encode(),
        private: None,
    }
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

fn take_lock(storage: &dyn Storage, options: &Options) -> Result<Box<dyn Lock>, Error> {
    let boot = options
        .boot_id
        .map_or_else(|| "unknown".to_owned(), |id| hex::encode(&id));
    let text = format!("pid {}\nboot {boot}\n", process::id());
    match storage.lock(LOCK_NAME, &text) {
        Ok(Locking::Held(lock)) => Ok(lock),
        Ok(Locking::Busy(holder)) => Err(Error::new(
            ErrorKind::Locked,
            format!("the log is open for writing elsewhere: {}", holder.replace('\n', ", ")),
        )),
        Err(error) => Err(Error::io("cannot lock the log", &error)),
    }
}

/// Makes the first segment: a temporary file, its contents durable, then its name. Opening makes the name durable.
fn create_segment(storage: &dyn Storage, options: &Options) -> Result<(), Error> {
    let failed = |error| Error::io("cannot create the log", &error);
    refuse_creation(options)?;
    let head = SegmentHead::first(options.log_id, options.time_ns, options.boot_id, options.key.as_ref());
    let temporary = format!("{SEGMENT_NAME}.tmp");
    let file = storage.open(&temporary, Access::Create).map_err(failed)?;
    write_whole(&*file, &head.encode(), 0).map_err(|failure| recover::failed_io(&failure))?;
    file.sync_data().map_err(failed)?;
    storage.rename(&temporary, SEGMENT_NAME).map_err(failed)
}
