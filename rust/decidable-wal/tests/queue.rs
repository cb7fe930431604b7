//! Groups, the queue and waiting.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    missing_docs
)]

mod logs;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use decidable_wal::{
    Access, Durability, Entry, ErrorKind, FileState, GROUP_BYTES_MAX, GROUP_RECORDS_MAX, Locking, Log, Memory, Options,
    RECORD_BYTES_MAX, ScanOptions, Storage, StoredFile, scan,
};
use logs::{BOOT, entry, numbered, open, options};

fn opened() -> (Memory, Log) {
    let storage = Memory::new();
    let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
    (storage, log)
}

#[test]
fn whatever_is_queued_meanwhile_is_one_write_and_one_sync() {
    let (storage, log) = opened();
    storage.stall(true);
    let first = log.append(&[entry(16, b"first")]).unwrap();
    // The flusher is in the sync of the first batch when the others queue up.
    while storage.writes() < 3 {
        thread::yield_now();
    }
    let (writes, syncs) = (storage.writes(), storage.syncs());
    let mut last = first.last;
    for index in 0..500 {
        last = log.append(&[numbered(index, 60), numbered(index, 10)]).unwrap().last;
    }
    assert_eq!(log.head().seq, first.first - 1);
    storage.stall(false);
    log.wait(last, None).unwrap();
    assert_eq!(
        (storage.writes(), storage.syncs()),
        (writes + 1, syncs + 2),
        "the stalled sync and one more"
    );
    log.close().unwrap();
    let mut batches = Vec::new();
    scan(&storage, &ScanOptions::default(), |record| {
        batches.push((record.batch_first, record.batch_count));
        Ok(())
    })
    .unwrap();
    batches.dedup();
    assert_eq!(batches, [(1, 1), (2, 1), (3, 1000), (1003, 1)]);
}

#[test]
fn a_stalled_disk_fills_the_queue_and_nothing_is_promised() {
    let storage = Memory::new();
    let (log, ..) = open(
        &storage,
        Options {
            queue_records_max: 100,
            queue_bytes_max: 1 << 20,
            ..options(None, BOOT)
        },
    )
    .unwrap();
    let head = log.head();
    storage.stall(true);
    let mut taken = 1;
    log.append(&[numbered(0, 100), numbered(0, 100)]).unwrap();
    // The flusher has taken these, and takes nothing more.
    while storage.waiting() == 0 {
        thread::yield_now();
    }
    let error = loop {
        match log.append(&[numbered(taken, 100), numbered(taken, 100)]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken <= 100);
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Overloaded, "wal.overloaded"));
    let start = Instant::now();
    let timeout = Duration::from_millis(20);
    assert_eq!(
        log.wait(head.seq + 1, Some(timeout)).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert_eq!(log.wait_change(head.seq, Some(timeout)).unwrap(), head.seq);
    assert!(start.elapsed() >= 2 * timeout);
    assert_eq!(log.head(), head);
    // What gives back is taken all the same, and leaves no room for anything else.
    assert_eq!(log.ready(10).unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(log.ready_beyond(10).unwrap(), head.seq + 2 * taken + 1);
    for _ in 0..200 {
        log.append_beyond(&[entry(16, b"gives back")]).unwrap();
    }
    let large = log.append_beyond(&[entry(16, &vec![0; 2 << 20])]);
    assert_eq!(large.unwrap_err().kind(), ErrorKind::TooLarge);
    let refused = log.append(&[entry(16, b"still no room")]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    storage.stall(false);
    log.wait(head.seq + 2 * taken + 200, None).unwrap();
    let last = log.append(&[entry(16, b"room again")]).unwrap().last;
    assert_eq!(last, head.seq + 2 * taken + 201);
    log.wait(last, None).unwrap();
}

#[test]
fn the_bytes_of_the_queue_are_bounded_too() {
    let storage = Memory::new();
    let (log, ..) = open(
        &storage,
        Options {
            queue_bytes_max: 10_000,
            ..options(None, BOOT)
        },
    )
    .unwrap();
    storage.stall(true);
    let mut taken = 0;
    while log.append(&[entry(16, &[1; 3_000])]).is_ok() {
        taken += 1;
        assert!(taken < 10);
    }
    assert!(taken >= 3);
    assert_eq!(
        log.append(&[entry(16, &[1; 10_000])]).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    storage.stall(false);
}

#[test]
fn what_the_log_does_not_take_is_refused_whole() {
    let (_, log) = opened();
    let cases = [
        (vec![], ErrorKind::Invalid),
        (vec![entry(16, b"fine"), entry(15, b"")], ErrorKind::Invalid),
        (
            vec![entry(16, b"fine"), entry(16, &vec![0; RECORD_BYTES_MAX + 1])],
            ErrorKind::TooLarge,
        ),
        (vec![entry(16, &vec![0; RECORD_BYTES_MAX]); 4], ErrorKind::TooLarge),
        (vec![entry(16, b""); GROUP_RECORDS_MAX + 1], ErrorKind::TooLarge),
    ];
    for (group, kind) in cases {
        assert_eq!(log.append(&group).unwrap_err().kind(), kind);
    }
    assert_eq!(log.append(&[entry(16, b"next")]).unwrap().first, 2);
    assert_eq!(log.wait(4, None).unwrap_err().kind(), ErrorKind::UnknownSeq);
}

#[test]
fn records_of_every_size_come_back_as_they_were() {
    let frame = decidable_wal::FRAME_PAYLOAD_BYTES_MAX;
    let sizes = [
        0,
        1,
        7,
        8,
        9,
        frame - 1,
        frame,
        frame + 1,
        2 * frame,
        3 * frame + 17,
        1 << 20,
        RECORD_BYTES_MAX,
    ];
    for sync in [Durability::Group, Durability::None] {
        let storage = Memory::new();
        let (log, ..) = open(
            &storage,
            Options {
                sync,
                ..options(None, BOOT)
            },
        )
        .unwrap();
        let entries: Vec<Entry> = sizes
            .iter()
            .zip(1..)
            .map(|(size, index)| Entry {
                payload: vec![index; *size].into(),
                ..numbered(u64::from(index), 0)
            })
            .collect();
        for group in entries.chunks(5) {
            log.append(group).unwrap();
        }
        log.close().unwrap();
        let mut read = Vec::new();
        let scanned = scan(&storage, &ScanOptions::default(), |record| {
            if record.kind >= 16 {
                read.push((record.kind, record.payload.to_vec()));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(read.len(), entries.len());
        for (entry, (kind, payload)) in entries.iter().zip(read) {
            assert!(entry.kind == kind && *entry.payload == payload);
        }
        assert_eq!((scanned.closed, scanned.tail), (true, None));
    }
}

#[test]
fn time_never_goes_back() {
    let (storage, log) = opened();
    let times = [5_000, 4_000, i64::MIN, 6_000, 0, i64::MAX, 1];
    for time_ns in times {
        log.append(&[Entry {
            time_ns,
            ..entry(16, b"t")
        }])
        .unwrap();
    }
    log.close().unwrap();
    let mut read = Vec::new();
    scan(&storage, &ScanOptions::default(), |record| {
        read.push(record.time_ns);
        Ok(())
    })
    .unwrap();
    assert_eq!(
        read,
        [1_000, 5_000, 5_000, 5_000, 6_000, 6_000, i64::MAX, i64::MAX, i64::MAX]
    );
    let (_, opened, _) = open(&storage, options(None, BOOT)).unwrap();
    assert_eq!(opened.last_time_ns, i64::MAX);
}

#[test]
fn a_closed_log_takes_nothing_and_keeps_its_promises() {
    let (storage, log) = opened();
    let last = log.append(&[entry(16, b"queued")]).unwrap().last;
    let head = log.close().unwrap();
    assert_eq!((head.seq, log.close().unwrap()), (last + 1, head));
    log.wait(last, None).unwrap();
    assert_eq!(log.append(&[entry(16, b"late")]).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(log.wait_change(head.seq, None).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(log.wait_change(0, None).unwrap(), head.seq);
    assert_eq!(scan(&storage, &ScanOptions::default(), |_| Ok(())).unwrap().head, head);
}

/// A disk whose files panic when they are written, once that is asked for.
#[derive(Debug)]
struct Panicking<Disk: ?Sized> {
    panics: Arc<AtomicBool>,
    disk: Arc<Disk>,
}

impl Storage for Panicking<Memory> {
    fn create(&self) -> io::Result<()> {
        self.disk.create()
    }
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.disk.create_directory(name)
    }
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(Panicking {
            panics: self.panics.clone(),
            disk: self.disk.open(name, access)?,
        }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_directory(&self, name: &str) -> io::Result<()> {
        self.disk.sync_directory(name)
    }
    fn lock(&self, name: &str, text: &str) -> io::Result<Locking> {
        self.disk.lock(name, text)
    }
}

impl StoredFile for Panicking<dyn StoredFile> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        assert!(!self.panics.load(Ordering::SeqCst), "the disk is on fire");
        self.disk.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }
    fn state(&self) -> io::Result<FileState> {
        self.disk.state()
    }
    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.set_length(length)
    }
}

#[test]
fn a_writer_that_panics_poisons_the_log_and_tells_everyone() {
    let memory = Memory::new();
    let panics = Arc::new(AtomicBool::new(false));
    let storage = Arc::new(Panicking {
        panics: panics.clone(),
        disk: Arc::new(memory.clone()),
    });
    let (log, _) = Log::open(storage, options(None, BOOT), |_| Ok(())).unwrap();
    let written = log.append(&[entry(16, b"written")]).unwrap().last;
    log.wait(written, None).unwrap();
    panics.store(true, Ordering::SeqCst);
    let lost = log.append(&[entry(16, b"lost")]).unwrap().last;
    let error = log.wait(lost, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DurabilityLost, "{error}");
    assert!(error.to_string().contains("the log's writer panicked"), "{error}");
    // Nobody writes any more, so nothing more is taken.
    assert!(log.has_failed());
    for refused in [
        log.append(&[entry(16, b"late")]).unwrap_err(),
        log.append_beyond(&[entry(16, b"late")]).unwrap_err(),
        log.ready(10).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Poisoned, "{refused}");
    }
    log.wait(written, None).unwrap();
    assert_eq!(log.close().unwrap_err().kind(), ErrorKind::DurabilityLost);
    drop(log);
    let (_, opened, _) = open(&memory, options(None, BOOT)).unwrap();
    assert_eq!(opened.head.seq, written + 1);
}

#[test]
fn a_waker_sees_every_change_and_then_the_end() {
    let (_, log) = opened();
    thread::scope(|scope| {
        let waker = scope.spawn(|| {
            let mut seen = vec![log.head().seq];
            loop {
                match log.wait_change(seen[seen.len() - 1], None) {
                    Ok(seq) => seen.push(seq),
                    Err(error) => return (seen, error.kind()),
                }
            }
        });
        let mut last = 0;
        for index in 0..50 {
            last = log.append(&[numbered(index, 5)]).unwrap().last;
            log.wait(last, None).unwrap();
        }
        let head = log.close().unwrap();
        let (seen, end) = waker.join().unwrap();
        assert!(seen.is_sorted_by(|before, after| before < after));
        assert_eq!(
            (seen.last(), end, head.seq),
            (Some(&(last + 1)), ErrorKind::Closed, last + 1)
        );
    });
}

#[test]
fn many_waiters_of_one_batch_are_all_woken() {
    let (storage, log) = opened();
    storage.stall(true);
    let last = log.append(&vec![entry(16, b"one"); 40]).unwrap().last;
    thread::scope(|scope| {
        let waiters: Vec<_> = (2..=last)
            .map(|seq| {
                scope.spawn({
                    let log = &log;
                    move || log.wait(seq, None)
                })
            })
            .collect();
        storage.stall(false);
        for waiter in waiters {
            waiter.join().unwrap().unwrap();
        }
    });
}

#[test]
fn the_largest_groups_are_written_and_read() {
    let (storage, log) = opened();
    log.append(&vec![entry(16, b""); GROUP_RECORDS_MAX]).unwrap();
    let sized = GROUP_BYTES_MAX / 4 - 258 * 80;
    log.append(&vec![entry(16, &vec![1; RECORD_BYTES_MAX.min(sized)]); 4])
        .unwrap();
    let head = log.close().unwrap();
    assert_eq!(head.seq, 1 + 65_536 + 4 + 1);
    let scanned = scan(&storage, &ScanOptions::default(), |_| Ok(())).unwrap();
    assert_eq!((scanned.head, scanned.batches, scanned.tail), (head, 4, None));
}
