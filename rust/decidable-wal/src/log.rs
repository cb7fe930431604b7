use std::{
    collections::BTreeSet,
    fmt, mem,
    sync::{Arc, Mutex, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use decidable_canon::{cast, hex};

use crate::{
    batch::is_zero,
    error::{Error, ErrorKind},
    gathered::Zone,
    note::{CALLER_KIND_MIN, Note},
    open::{Opened, Opening, Options, Ready},
    queue::{Room, Shared, flush, hold, lost},
    record::{Entry, Head, PRIVATE_BYTES_MAX, Position, RECORD_BYTES_MAX, Record},
    recover,
    segment::SegmentHead,
    storage::{Lock, Storage, StoredFile},
    writer::{note_entry, read_whole},
};

/// What came of an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The records whose private parts were erased, ascending.
    pub seqs: Vec<u64>,
    /// The records whose private parts were gone already.
    pub already: Vec<u64>,
    /// The records that have no private part.
    pub without: Vec<u64>,
    /// The record of the last erasure so far, which may be another's that took some of these: once it is finished they are
    /// all gone from the disk ([`Log::wait_erased`]).
    pub awaits: u64,
    /// The record that says so; absent if there was nothing to erase.
    pub recorded: Option<u64>,
}

/// Private parts that were found and are to be erased.
#[derive(Debug)]
pub struct Erasure {
    erased: Erased,
    zones: Vec<Zone>,
}

/// A log that is open for writing. Share it by reference or in an `Arc`; every method may be called from any thread.
pub struct Log {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    file: Arc<dyn StoredFile>,
    segment: SegmentHead,
    opened: Head,
    flusher: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Log {
    /// Opens the log in `storage` for writing: takes the lock, creates the log if there is none and that was asked for,
    /// verifies it, hands every record to `visit`, cuts an unfinished end, and records the opening.
    ///
    /// Nothing is visited before everything is verified, and nothing is changed before everything was visited.
    ///
    /// # Errors
    /// `NotFound`, `SegmentMissing`, `Locked`, `KeyMissing`, `WrongKey`, `NotKeyed`; corruption with the record and the byte, `EndDamaged` among
    /// it; `HeadMismatch`, `ShorterThanHead`; `Visit`; `Io`.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: Options,
        visit: impl FnMut(&Record<'_>) -> Result<(), String>,
    ) -> Result<(Self, Opened), Error> {
        Opening::begin(storage, options, |_| Ok(()), visit)?.finish(&[])
    }

    /// Starts the flusher of a log that is ready.
    fn start(ready: Ready) -> Result<(Self, Opened), Error> {
        let Ready {
            storage,
            lock,
            segment,
            writer,
            opened,
            queue_records_max,
            queue_bytes_max,
        } = ready;
        let file = writer.file.clone();
        let shared = Arc::new(Shared::new(
            opened.head,
            writer,
            opened.last_time_ns,
            queue_records_max,
            queue_bytes_max,
        ));
        let flusher = thread::Builder::new()
            .name("decidable-wal".to_owned())
            .spawn({
                let shared = shared.clone();
                move || flush(&shared)
            })
            .map_err(|error| Error::io("cannot start the log's writer", &error))?;
        let log = Self {
            shared,
            storage,
            file,
            segment,
            opened: opened.head,
            flusher: Mutex::new(Some(flusher)),
            lock: Mutex::new(Some(lock)),
        };
        Ok((log, opened))
    }

    /// Queues entries to be written together: after a crash all of them are there or none. Copies their bytes and does not
    /// wait for the disk; [`Log::wait`] for the last number does.
    ///
    /// # Errors
    /// `Overloaded` if the queue is full: nothing was taken, try again later. `Invalid`, `TooLarge`, `Poisoned`, `Closed`,
    /// `Abandoned`.
    pub fn append(&self, entries: &[Entry<'_>]) -> Result<Position, Error> {
        self.take(entries, Room::Needed)
    }

    /// As [`Log::append`], also when the queue is full: for what gives back what an earlier record took. Nothing here bounds
    /// how many of them wait, so the caller knows a bound.
    ///
    /// # Errors
    /// As [`Log::append`], without `Overloaded`.
    pub fn append_beyond(&self, entries: &[Entry<'_>]) -> Result<Position, Error> {
        self.take(entries, Room::Beyond)
    }

    fn take(&self, entries: &[Entry<'_>], room: Room) -> Result<Position, Error> {
        for entry in entries {
            accept(entry)?;
        }
        self.shared.enqueue(entries, &[], room)
    }

    /// The number that a record of `bytes` bytes, its private part included, would get now. A caller that must not append
    /// in vain asks before it changes anything of its own; while nobody else appends the answer stands.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn ready(&self, bytes: usize) -> Result<u64, Error> {
        self.next(bytes, Room::Needed)
    }

    /// As [`Log::ready`], for [`Log::append_beyond`].
    ///
    /// # Errors
    /// As [`Log::append_beyond`].
    pub fn ready_beyond(&self, bytes: usize) -> Result<u64, Error> {
        self.next(bytes, Room::Beyond)
    }

    fn next(&self, bytes: usize, room: Room) -> Result<u64, Error> {
        let queue = self.shared.enter()?;
        queue.intake()?;
        queue.make_room(1, bytes, room)?;
        Ok(queue.next_seq)
    }

    /// Waits until the record of that number is durable (without syncing: written).
    ///
    /// # Errors
    /// `Timeout`; `DurabilityLost` if a write or sync failed before; `UnknownSeq` if no such record was appended;
    /// `Closed`, `Abandoned`.
    pub fn wait(&self, seq: u64, timeout: Option<Duration>) -> Result<(), Error> {
        if self.shared.durable.load(Ordering::Acquire) >= seq {
            return Ok(());
        }
        self.refuse_forked()?;
        if self.shared.patient {
            self.shared.write_up_to(seq);
            if self.shared.durable.load(Ordering::Acquire) >= seq {
                return Ok(());
            }
        }
        if self.shared.hurry()? <= seq {
            return Err(Error::new(ErrorKind::UnknownSeq, "no record of that number was appended").at_seq(seq));
        }
        match self.shared.wait_until(timeout, |progress| progress.head.seq >= seq)? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Timeout, "the record was not durable in time").at_seq(seq)),
        }
    }

    /// Waits until a record after `seen` is durable, or until the time is over; returns the number of the last durable one,
    /// which is `seen` or before it where the time was over.
    ///
    /// # Errors
    /// `DurabilityLost` if a write or sync failed; `Closed` once nothing more will come; `Abandoned`.
    pub fn wait_change(&self, seen: u64, timeout: Option<Duration>) -> Result<u64, Error> {
        self.shared.hurry()?;
        self.shared.wait_until(timeout, |progress| progress.head.seq > seen)?;
        Ok(self.shared.durable.load(Ordering::Acquire))
    }

    /// The last durable record (without syncing: written). Kept elsewhere, it detects a log that was cut or altered before
    /// it.
    #[must_use]
    pub fn head(&self) -> Head {
        if self.refuse_forked().is_err() {
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
    /// What recovery has cut and kept goes too, before all else: it can hold private parts, and nobody can say whose.
    ///
    /// The three steps of it are [`Log::begin_erasure`], [`Log::append_erasure`] and [`Log::wait_erased`].
    ///
    /// # Errors
    /// `UnknownSeq` for a record that is not durable yet; `TooLarge` for millions at once; those of [`Log::append`] and [`Log::wait`].
    pub fn erase(&self, seqs: &[u64], time_ns: i64) -> Result<Erased, Error> {
        let erased = self.append_erasure(self.begin_erasure(seqs, |_| Ok(()))?, time_ns)?;
        self.wait_erased(&erased, None)?;
        Ok(erased)
    }

    /// Finds the private parts of records and looks which of them are still there; then zeroes what is in quarantine,
    /// durably. It reads the log up to the last of the records. `watch` is told numbers of records as they are reached.
    ///
    /// # Errors
    /// `UnknownSeq` for a record that is not durable yet, `TooLarge` for millions at once and `Visit` with what `watch`
    /// said, all before anything is changed; `Io`, `Abandoned`.
    pub fn begin_erasure(
        &self,
        seqs: &[u64],
        mut watch: impl FnMut(u64) -> Result<(), String>,
    ) -> Result<Erasure, Error> {
        self.refuse_forked()?;
        let wanted = seqs.iter().copied().collect::<BTreeSet<_>>();
        recover::refuse_too_many(wanted.len())?;
        let (head, length) = {
            let progress = self.shared.progress();
            (progress.head, progress.length)
        };
        if let Some(unknown) = wanted.iter().find(|seq| **seq == 0 || **seq > head.seq) {
            return Err(
                Error::new(ErrorKind::UnknownSeq, "there is no durable record of that number").at_seq(*unknown),
            );
        }
        let mut erased = Erased {
            seqs: Vec::new(),
            already: Vec::new(),
            without: Vec::new(),
            awaits: 0,
            recorded: None,
        };
        let mut zones = Vec::new();
        let mut watch = |seq| watch(seq).map_err(|message| Error::new(ErrorKind::Visit, message).at_seq(seq));
        for located in recover::locate(self.file.clone(), length, &self.segment, &wanted, &mut watch)? {
            watch(located.seq)?;
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
        recover::zero_quarantine(&*self.storage)?;
        Ok(Erasure { erased, zones })
    }

    /// Queues the record of an erasure; the bytes go once it is durable, which [`Log::wait_erased`] waits for. What
    /// another erasure took meanwhile is recorded again.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_erasure(&self, erasure: Erasure, time_ns: i64) -> Result<Erased, Error> {
        let Erasure { mut erased, zones } = erasure;
        if !zones.is_empty() {
            let note = Note::Erased {
                seqs: erased.seqs.clone(),
            };
            let position = self
                .shared
                .enqueue(&[note_entry(&note, time_ns)], &zones, Room::Needed)?;
            erased.recorded = Some(position.last);
        }
        erased.awaits = self.shared.enter()?.erasure;
        Ok(erased)
    }

    /// Waits until what was erased is gone from the disk, by whomever.
    ///
    /// # Errors
    /// As [`Log::wait`].
    pub fn wait_erased(&self, erased: &Erased, timeout: Option<Duration>) -> Result<(), Error> {
        self.shared.hurry()?;
        let awaits = erased.awaits;
        if self.shared.wait_until(timeout, |progress| progress.erased >= awaits)? {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Timeout, "what was erased was not gone from the disk in time").at_seq(awaits))
        }
    }

    /// The record of the last erasure of this session that is finished; zero before the first.
    #[must_use]
    pub fn erased(&self) -> u64 {
        self.shared.progress().erased
    }

    /// Refuses a child of the process that opened the log, whether somebody told it of that or not: the threads that it
    /// would wait for exist only in the parent. What waits, or touches the files, asks by itself.
    ///
    /// # Errors
    /// `Abandoned` in such a child.
    pub fn refuse_forked(&self) -> Result<(), Error> {
        self.shared.refuse_forked()
    }

    /// The number of the last durable record (without syncing: written).
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Whether a write or sync failed: then nothing is taken any more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Records the closing and takes nothing more. Does not wait for the disk; [`Log::close`] does.
    ///
    /// # Errors
    /// `Abandoned`.
    pub fn finish(&self) -> Result<(), Error> {
        let last_time_ns = self.shared.enter()?.last_time_ns;
        // A log that failed or was finished refuses the note. If it failed, closing says so.
        let _ = self
            .shared
            .enqueue(&[note_entry(&Note::Closed, last_time_ns)], &[], Room::Closing);
        Ok(())
    }

    /// Writes what is queued, records the closing, syncs, and unlocks. Returns the final head. Closing again returns it too.
    ///
    /// # Errors
    /// `DurabilityLost` if a write or sync failed, now or before; the log is unlocked all the same. `Abandoned`.
    pub fn close(&self) -> Result<Head, Error> {
        self.refuse_forked()?;
        let mut flusher = hold(&self.flusher);
        if let Some(thread) = flusher.take() {
            self.finish()?;
            self.end(thread);
        }
        let progress = self.shared.progress();
        match &progress.failure {
            None => Ok(progress.head),
            Some(failure) => Err(lost(failure)),
        }
    }

    /// Writes what is queued and unlocks, without recording a closing: what dropping the log does, which waits for the
    /// disk.
    pub fn drain(&self) {
        if self.refuse_forked().is_err() {
            return self.abandon();
        }
        let flusher = hold(&self.flusher).take();
        if let Some(flusher) = flusher {
            self.end(flusher);
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
        self.shared.finish();
        // A flusher that panicked has poisoned the log while unwinding.
        let _ = flusher.join();
        if let Some(lock) = hold(&self.lock).take() {
            lock.release();
        }
    }
}

impl Opening {
    /// The second half of [`Log::open`]: cuts an unfinished end and records the opening, and with it the erasure of those of
    /// `erased` whose private parts are gone although none is recorded.
    ///
    /// # Errors
    /// `TooLarge` if these are more than one record can list, and nothing was changed; else as [`Log::open`].
    pub fn finish(self, erased: &[u64]) -> Result<(Log, Opened), Error> {
        Log::start(self.ready(erased)?)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.drain();
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

fn accept(entry: &Entry<'_>) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{memory::Memory, note::Durability, queue::tests::in_a_child};

    #[test]
    fn a_child_that_nobody_told_touches_neither_the_files_nor_the_lock() {
        let options = Options {
            create: true,
            log_id: [7; 16],
            ..Options::default()
        };
        let (log, _) = Log::open(Arc::new(Memory::new()), options, |_| Ok(())).unwrap();
        for sync in [Durability::Group, Durability::None] {
            let (shared, file) = in_a_child(sync);
            let child = Log {
                shared: Arc::new(shared),
                storage: Arc::clone(&log.storage),
                file: Arc::clone(&file),
                segment: log.segment.clone(),
                opened: log.opened,
                flusher: Mutex::new(Some(thread::spawn(|| ()))),
                lock: Mutex::new(hold(&log.lock).take()),
            };
            let abandoned = |error: Error| assert_eq!(error.kind(), ErrorKind::Abandoned);
            let entry = Entry {
                kind: CALLER_KIND_MIN,
                time_ns: 1,
                payload: b"x".as_slice().into(),
                private: None,
            };
            // It goes into its copy of the queue, and no further.
            let last = child.append(&[entry]).unwrap().last;
            abandoned(child.wait(last, None).unwrap_err());
            abandoned(child.wait_change(last, None).unwrap_err());
            abandoned(child.begin_erasure(&[1], |_| Ok(())).map(drop).unwrap_err());
            abandoned(child.close().unwrap_err());
            assert_eq!(child.head(), child.opened);
            assert_eq!(file.state().unwrap().length, 0);
            // What it was about to join is its parent's to join, and the lock its parent's to release.
            assert!(hold(&child.flusher).is_some());
            *hold(&log.lock) = hold(&child.lock).take();
            assert!(hold(&log.lock).is_some());
        }
    }
}
