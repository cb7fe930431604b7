use std::{
    collections::VecDeque,
    mem, process,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use decidable_canon::cast;

use crate::{
    error::{Error, ErrorKind},
    gathered::{Gathered, Zone, weight},
    note::Durability,
    record::{Entry, GROUP_BYTES_MAX, GROUP_RECORDS_MAX, Head, Position},
    writer::{Failure, Writer},
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
const PATIENCE_BYTES: usize = 128 << 10;
const PATIENCE: Duration = Duration::from_millis(1);

const _: () = assert!(BATCH_RECORDS_MAX <= GROUP_RECORDS_MAX && BATCH_BYTES_MAX <= GROUP_BYTES_MAX);
const _: () = assert!(GROUP_RECORDS_MAX <= QUEUE_RECORDS_MAX && GROUP_BYTES_MAX <= QUEUE_BYTES_MAX);

/// So many times the flusher of an unsynced log looks again before it sleeps until it is woken: waking it costs whoever
/// appends more than all the rest.
const LOOKS: usize = 64;

/// What callers and the flusher share. Whoever holds several of the locks took them in this order.
#[derive(Debug)]
pub(crate) struct Shared {
    hand: Mutex<Hand>,
    queue: Mutex<Queue>,
    /// Signalled when the flusher is idle and there is work, and when it has been patient for long enough.
    work: Condvar,
    /// Whether the flusher waits for more before it writes, and whoever waits writes: only without a sync.
    pub(crate) patient: bool,
    progress: Mutex<Progress>,
    /// Signalled when `progress` has changed and someone waits.
    moved: Condvar,
    /// The number of the last durable record: `progress.head.seq`, to be read without a lock.
    pub(crate) durable: AtomicU64,
    /// The process that opened the log; a forked child must not touch it.
    pub(crate) process: u32,
    pub(crate) abandoned: AtomicBool,
    /// Whether `progress` has a failure.
    pub(crate) failed: AtomicBool,
}

/// What writes, one batch after the other: the flusher's, and of an unsynced log also that of whoever waits.
#[derive(Debug)]
struct Hand {
    writer: Writer,
    /// The batch being written; kept for its room.
    batch: Gathered,
}

#[derive(Debug)]
pub(crate) struct Queue {
    /// The batches that wait, the last of which is being filled.
    batches: VecDeque<Gathered>,
    /// The room of a batch that was written, for the next one.
    spare: Gathered,
    records: usize,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
    pub(crate) next_seq: u64,
    pub(crate) last_time_ns: i64,
    /// The record of the last erasure.
    pub(crate) erasure: u64,
    pub(crate) intake: Intake,
    flusher_is_idle: bool,
    flusher_is_patient: bool,
    /// Whether somebody waits for what is queued.
    urgent: bool,
}

/// Whether entries need room in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Needed,
    /// They are taken also when the queue is full.
    Beyond,
    /// As `Beyond`, and nothing is taken after them.
    Closing,
}

/// Whether the queue takes entries.
#[derive(Clone, Debug)]
pub(crate) enum Intake {
    Open,
    Closed,
    Poisoned(Failure),
}

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) head: Head,
    /// The segment's length behind the head.
    pub(crate) length: u64,
    /// The record of the last erasure that is finished.
    pub(crate) erased: u64,
    pub(crate) failure: Option<Failure>,
    /// Whether the flusher has ended.
    ended: bool,
    waiting: usize,
}

impl Shared {
    /// The state behind a log that was just opened: nothing queued, everything durable up to `head`, which `length` bytes end with.
    pub(crate) fn new(head: Head, writer: Writer, last_time_ns: i64, records_max: usize, bytes_max: usize) -> Self {
        let (length, sync) = (writer.length, writer.sync);
        Self {
            hand: Mutex::new(Hand {
                writer,
                batch: Gathered::default(),
            }),
            queue: Mutex::new(Queue {
                batches: VecDeque::new(),
                spare: Gathered::default(),
                records: 0,
                bytes: 0,
                records_max,
                bytes_max,
                next_seq: head.seq.saturating_add(1),
                last_time_ns,
                erasure: 0,
                intake: Intake::Open,
                flusher_is_idle: false,
                flusher_is_patient: false,
                urgent: false,
            }),
            work: Condvar::new(),
            patient: sync == Durability::None,
            progress: Mutex::new(Progress {
                head,
                length,
                erased: 0,
                failure: None,
                ended: false,
                waiting: 0,
            }),
            moved: Condvar::new(),
            durable: AtomicU64::new(head.seq),
            process: process::id(),
            abandoned: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// Takes nothing more and lets the flusher finish what is queued.
    pub(crate) fn finish(&self) {
        let mut queue = self.queue();
        if matches!(queue.intake, Intake::Open) {
            queue.intake = Intake::Closed;
        }
        drop(queue);
        self.work.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        hold(&self.queue)
    }
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        hold(&self.progress)
    }

    pub(crate) fn refuse_abandoned(&self) -> Result<(), Error> {
        if self.abandoned.load(Ordering::Acquire) {
            Err(abandoned())
        } else {
            Ok(())
        }
    }

    /// As [`Shared::refuse_abandoned`], also in a child that nobody has told: for whoever waits. The threads that would
    /// wake it exist only in the parent.
    pub(crate) fn refuse_forked(&self) -> Result<(), Error> {
        self.refuse_abandoned()?;
        if self.process == process::id() {
            Ok(())
        } else {
            Err(abandoned())
        }
    }

    /// The queue, for a caller. Only one who finds it locked asks whether this is a forked child: asking takes longer than
    /// all that is done under the lock.
    pub(crate) fn enter(&self) -> Result<MutexGuard<'_, Queue>, Error> {
        self.refuse_abandoned()?;
        match self.queue.try_lock() {
            Ok(queue) => Ok(queue),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                self.refuse_forked()?;
                Ok(self.queue())
            }
        }
    }

    /// Puts entries into the batch that is being filled, or into the next. The private parts at `zones` are zeroed once
    /// they are durable.
    pub(crate) fn enqueue(&self, entries: &[Entry<'_>], zones: &[Zone], room: Room) -> Result<Position, Error> {
        let records = entries.len();
        let bytes = entries.iter().map(weight).sum::<usize>();
        let mut queue = self.enter()?;
        queue.intake()?;
        if room != Room::Closing {
            queue.make_room(records, bytes, room)?;
        }
        let first = queue.next_seq;
        let count = cast::u64_from_usize(records);
        let (Some(next), Some(last)) = (first.checked_add(count), count.checked_sub(1)) else {
            return Err(Error::new(ErrorKind::Invalid, "a group needs at least one entry"));
        };
        queue.gather(first, entries, zones);
        queue.next_seq = next;
        if !zones.is_empty() {
            queue.erasure = first;
        }
        queue.records = queue.records.saturating_add(records);
        queue.bytes = queue.bytes.saturating_add(bytes);
        if room == Room::Closing {
            queue.intake = Intake::Closed;
        }
        let is_over = queue.urgent || queue.bytes >= PATIENCE_BYTES || room == Room::Closing;
        let enough = queue.flusher_is_patient && is_over;
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
    pub(crate) fn hurry(&self) -> Result<u64, Error> {
        let mut queue = self.enter()?;
        queue.urgent = true;
        let next_seq = queue.next_seq;
        let wake = queue.flusher_is_patient;
        drop(queue);
        if wake {
            self.work.notify_one();
        }
        Ok(next_seq)
    }

    /// Waits until `reached`, and says whether it was.
    pub(crate) fn wait_until(
        &self,
        timeout: Option<Duration>,
        reached: impl Fn(&Progress) -> bool,
    ) -> Result<bool, Error> {
        self.refuse_forked()?;
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
        self.failed.store(true, Ordering::Release);
        let dropped = {
            let mut queue = self.queue();
            queue.intake = Intake::Poisoned(failure.clone());
            queue.records = 0;
            queue.bytes = 0;
            mem::take(&mut queue.batches)
        };
        self.advance(|progress| progress.failure = Some(failure.clone()));
        drop(dropped);
    }

    /// Writes what is queued, up to the record `seq`, in place of the flusher, if that does not write just now. Without a
    /// sync this takes less than waking it.
    pub(crate) fn write_up_to(&self, seq: u64) {
        let mut hand = match self.hand.try_lock() {
            Ok(hand) => hand,
            // Whoever panicked while it wrote has poisoned the log.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        while self.durable.load(Ordering::Acquire) < seq && self.write_next(&mut hand) {}
    }

    /// Writes the next batch; whether there was one and it was written.
    fn write_next(&self, hand: &mut Hand) -> bool {
        let _guard = Panicking { shared: self };
        let Hand { writer, batch } = hand;
        if !self.take(batch) {
            return false;
        }
        match flush_batch(self, writer, batch) {
            Ok(()) => true,
            Err(failure) => {
                self.poison(&failure);
                false
            }
        }
    }

    /// Lets the queue grow until enough is there, somebody waits for it, or the time is over.
    fn be_patient<'a>(&self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let begun = Instant::now();
        while !queue.urgent && queue.bytes < PATIENCE_BYTES && matches!(queue.intake, Intake::Open) {
            let Some(left) = PATIENCE.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                break;
            };
            queue = self.doze(queue, left);
        }
        queue.urgent = false;
        queue
    }

    /// Sleeps as a patient flusher does: for so long, or until somebody has no patience.
    fn doze<'a>(&self, mut queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
        queue.flusher_is_patient = true;
        let woken = self.work.wait_timeout(queue, time);
        let (mut queue, _) = woken.unwrap_or_else(PoisonError::into_inner);
        queue.flusher_is_patient = false;
        queue
    }

    /// Waits for something to write; false when there will be nothing more.
    fn await_batch(&self) -> bool {
        let mut queue = self.queue();
        let mut looks = 0;
        while queue.batches.is_empty() {
            if !matches!(queue.intake, Intake::Open) {
                return false;
            }
            if self.patient && looks < LOOKS {
                looks = looks.saturating_add(1);
                queue = self.doze(queue, PATIENCE);
            } else {
                queue.flusher_is_idle = true;
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
        queue.flusher_is_idle = false;
        if self.patient {
            drop(self.be_patient(queue));
        }
        true
    }

    /// Swaps the next batch for one that was written; false if none waits.
    fn take(&self, batch: &mut Gathered) -> bool {
        batch.clear();
        let mut queue = self.queue();
        mem::swap(&mut queue.spare, batch);
        let Some(next) = queue.batches.pop_front() else {
            return false;
        };
        *batch = next;
        queue.records = queue.records.saturating_sub(batch.records());
        queue.bytes = queue.bytes.saturating_sub(batch.bytes());
        true
    }
}

impl Queue {
    pub(crate) fn intake(&self) -> Result<(), Error> {
        match &self.intake {
            Intake::Open => Ok(()),
            Intake::Closed => Err(Error::new(ErrorKind::Closed, "the log is closed")),
            Intake::Poisoned(failure) => Err(failure.error(ErrorKind::Poisoned, "the log takes nothing more, because")),
        }
    }

    /// Adds a group to the last batch, or begins another with it. No time is before the one of the record before.
    fn gather(&mut self, first: u64, entries: &[Entry<'_>], zones: &[Zone]) {
        let records = entries.len();
        let bytes = entries.iter().map(weight).sum::<usize>();
        let fits = |batch: &Gathered| {
            batch.records().saturating_add(records) <= BATCH_RECORDS_MAX
                && batch.bytes().saturating_add(bytes) <= BATCH_BYTES_MAX
        };
        if !self.batches.back().is_some_and(fits) {
            let mut begun = mem::take(&mut self.spare);
            begun.begin(first);
            self.batches.push_back(begun);
        }
        if let Some(batch) = self.batches.back_mut() {
            for entry in entries {
                self.last_time_ns = self.last_time_ns.max(entry.time_ns);
                batch.push(entry, self.last_time_ns);
            }
            batch.zero_later(zones);
        }
    }

    pub(crate) fn make_room(&self, records: usize, bytes: usize, room: Room) -> Result<(), Error> {
        if records > self.records_max.min(GROUP_RECORDS_MAX) || bytes > self.bytes_max.min(GROUP_BYTES_MAX) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a group of {records} entries and {bytes} bytes is larger than the log takes"),
            ));
        }
        let is_full = self.records.saturating_add(records) > self.records_max
            || self.bytes.saturating_add(bytes) > self.bytes_max;
        if is_full && room == Room::Needed {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!("the disk does not keep up: {} records are queued already", self.records),
            ));
        }
        Ok(())
    }
}

/// The life of the flusher: batch after batch until the log is closed or a write or sync fails.
pub(crate) fn flush(shared: &Shared) {
    let guard = Ending { shared };
    while shared.await_batch() {
        // What waited may have been written by whoever waited for it.
        shared.write_next(&mut hold(&shared.hand));
    }
    let hand = hold(&shared.hand);
    let failed = matches!(shared.queue().intake, Intake::Poisoned(_));
    if !failed
        && hand.writer.sync == Durability::None
        && let Err(failure) = hand.writer.sync()
    {
        shared.poison(&failure);
    }
    drop(hand);
    drop(guard);
}

fn flush_batch(shared: &Shared, writer: &mut Writer, batch: &Gathered) -> Result<(), Failure> {
    let head = writer.append(batch)?;
    let length = writer.length;
    shared.advance(|progress| {
        progress.head = head;
        progress.length = length;
    });
    for erasure in batch.erasures() {
        if writer.sync == Durability::None {
            // The record must be durable before the bytes go, whatever the log promises otherwise.
            writer.sync()?;
        }
        writer.zero(&erasure.zones)?;
        shared.advance(|progress| progress.erased = erasure.seq);
    }
    Ok(())
}

/// Stops everything when a write panics.
struct Panicking<'a> {
    shared: &'a Shared,
}

impl Drop for Panicking<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.poison(&Failure::new("the log's writer panicked"));
        }
    }
}

/// Tells everyone who waits when the flusher ends, also when it panics.
struct Ending<'a> {
    shared: &'a Shared,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.shared.advance(|progress| progress.ended = true);
    }
}

fn abandoned() -> Error {
    Error::new(
        ErrorKind::Abandoned,
        "the log belongs to the process that opened it, and this one was forked from it",
    )
}

pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave the data half-changed, so a panic elsewhere does not matter.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn lost(failure: &Failure) -> Error {
    failure.error(ErrorKind::DurabilityLost, "the record may not be durable")
}

#[cfg(test)]
pub(crate) mod tests;
