//! The log in a real directory.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    missing_docs
)]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    thread,
};

use decidable_wal::{
    Durability, Entry, ErrorKind, Files, Log, Options, Private, SEGMENT_NAME, ScanOptions, Storage, TailReason,
    boot_id, scan,
};

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("decidable-wal-{}-{number}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn log(&self) -> PathBuf {
        self.0.join("state/log")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options() -> Options {
    Options {
        log_id: [7; 16],
        boot_id: boot_id(),
        create: true,
        ..Options::default()
    }
}

fn files(path: &Path) -> Arc<Files> {
    Arc::new(Files::new(path))
}

fn entry(index: u64) -> Entry<'static> {
    Entry {
        kind: 16,
        time_ns: 0,
        payload: index.to_le_bytes().repeat(20).into(),
        private: index.is_multiple_of(4).then(|| Private {
            salt: [1; 32],
            bytes: b"someone".into(),
        }),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn a_log_lives_through_sessions_in_a_directory_that_only_its_owner_reads() {
    let scratch = Scratch::new();
    let path = scratch.log();
    for session in 0..3 {
        let mut seen = 0;
        let (log, opened) = Log::open(files(&path), options(), |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(
            (seen, opened.created, opened.epoch),
            (opened.records, session == 0, session + 1)
        );
        let last = (0..50)
            .map(|index| log.append(&[entry(index)]).unwrap().last)
            .max()
            .unwrap();
        log.wait(last, None).unwrap();
        assert!(!log.erase(&[2 + 52 * session], 0).unwrap().already.contains(&2));
        log.close().unwrap();
    }
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
    for name in ["LOCK", SEGMENT_NAME] {
        assert_eq!(mode(&path.join(name)), 0o600);
    }
    let scanned = scan(&*files(&path), &ScanOptions::default(), |_| Ok(())).unwrap();
    assert_eq!((scanned.sessions, scanned.closed, scanned.tail), (3, true, None));
    let lock = fs::read_to_string(path.join("LOCK")).unwrap();
    assert!(lock.starts_with(&format!("pid {}\n", process::id())), "{lock}");
}

#[test]
fn a_torn_end_is_cut_and_kept_in_quarantine() {
    let scratch = Scratch::new();
    let path = scratch.log();
    let (log, _) = Log::open(files(&path), options(), |_| Ok(())).unwrap();
    log.append(&[entry(1), entry(2)]).unwrap();
    drop(log);
    let segment = path.join(SEGMENT_NAME);
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 3]).unwrap();
    let scanned = scan(&*files(&path), &ScanOptions::default(), |_| Ok(())).unwrap();
    assert_eq!(
        (scanned.records, scanned.tail.unwrap().reason),
        (1, TailReason::Incomplete)
    );
    let (_, opened) = Log::open(files(&path), options(), |_| Ok(())).unwrap();
    let recovery = &opened.recoveries[0];
    assert_eq!(
        fs::read(path.join(&recovery.quarantine)).unwrap(),
        bytes[scanned.bytes as usize..bytes.len() - 3]
    );
    assert_eq!(
        (mode(&path.join("quarantine")), mode(&path.join(&recovery.quarantine))),
        (0o700, 0o600)
    );
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_log() {
    let scratch = Scratch::new();
    let path = scratch.log();
    let (log, _) = Log::open(files(&path), options(), |_| Ok(())).unwrap();
    let alias = scratch.0.join("alias");
    symlink(&path, &alias).unwrap();
    for path in [&path, &alias] {
        let error = Log::open(files(path), options(), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains(&format!("pid {}", process::id())), "{error}");
    }
    log.close().unwrap();
    Log::open(files(&alias), options(), |_| Ok(())).unwrap();
}

#[test]
fn what_is_no_regular_file_is_no_log() {
    let scratch = Scratch::new();
    let path = scratch.log();
    Log::open(files(&path), options(), |_| Ok(()))
        .unwrap()
        .0
        .close()
        .unwrap();
    let (segment, moved) = (path.join(SEGMENT_NAME), scratch.0.join("moved"));
    fs::rename(&segment, &moved).unwrap();
    symlink(&moved, &segment).unwrap();
    for outcome in [
        Log::open(files(&path), options(), |_| Ok(())).map(|_| ()),
        scan(&*files(&path), &ScanOptions::default(), |_| Ok(())).map(|_| ()),
    ] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Io);
    }
    let (lock, outside) = (path.join("LOCK"), scratch.0.join("outside"));
    fs::remove_file(&segment).unwrap();
    fs::rename(&moved, &segment).unwrap();
    fs::remove_file(&lock).unwrap();
    symlink(&outside, &lock).unwrap();
    let error = Log::open(files(&path), options(), |_| Ok(())).unwrap_err();
    assert_eq!((error.kind(), outside.exists()), (ErrorKind::Io, false), "{error}");
    fs::remove_file(&lock).unwrap();
    fs::remove_file(&segment).unwrap();
    fs::create_dir(&segment).unwrap();
    assert_eq!(
        Log::open(files(&path), options(), |_| Ok(())).unwrap_err().kind(),
        ErrorKind::Io
    );
}

#[test]
fn a_file_that_is_removed_replaced_or_written_by_others_stops_the_log() {
    let changes: [fn(&Path); 4] = [
        |segment| fs::remove_file(segment).unwrap(),
        |segment| {
            let copy = segment.with_extension("copy");
            fs::copy(segment, &copy).unwrap();
            fs::rename(&copy, segment).unwrap();
        },
        |segment| {
            let bytes = fs::read(segment).unwrap();
            fs::write(segment, [&bytes[..], b"x"].concat()).unwrap();
        },
        |segment| {
            fs::OpenOptions::new()
                .write(true)
                .open(segment)
                .unwrap()
                .set_len(140)
                .unwrap()
        },
    ];
    for change in changes {
        let scratch = Scratch::new();
        let path = scratch.log();
        let (log, _) = Log::open(files(&path), options(), |_| Ok(())).unwrap();
        change(&path.join(SEGMENT_NAME));
        let last = log.append(&[entry(1)]).unwrap().last;
        assert_eq!(log.wait(last, None).unwrap_err().kind(), ErrorKind::DurabilityLost);
        assert_eq!(log.append(&[entry(1)]).unwrap_err().kind(), ErrorKind::Poisoned);
    }
}

#[test]
fn readers_of_a_log_that_is_being_written_see_whole_batches_and_at_most_an_unfinished_end() {
    let scratch = Scratch::new();
    let path = scratch.log();
    let (log, _) = Log::open(
        files(&path),
        Options {
            sync: Durability::None,
            ..options()
        },
        |_| Ok(()),
    )
    .unwrap();
    let (done, scans) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut records = 0;
            while !done.load(Ordering::Acquire) {
                let scanned = scan(&*files(&path), &ScanOptions::default(), |_| Ok(())).unwrap();
                assert!(scanned.records >= records);
                assert!(
                    scanned.tail.is_none_or(|tail| tail.reason == TailReason::Incomplete),
                    "{scanned:?}"
                );
                records = scanned.records;
                scans.fetch_add(1, Ordering::AcqRel);
            }
        });
        let mut last = 0;
        for index in 0..3_000 {
            last = log.append(&[entry(index), entry(index + 1)]).unwrap().last;
            if index % 100 == 0 {
                log.wait(last, None).unwrap();
                // The reader gets on as the writer does; if it has failed, nobody waits for it.
                let before = scans.load(Ordering::Acquire);
                while scans.load(Ordering::Acquire) == before && !reader.is_finished() {
                    thread::yield_now();
                }
            }
        }
        log.wait(last, None).unwrap();
        done.store(true, Ordering::Release);
    });
}

#[test]
fn readers_beside_erasures_accuse_nobody() {
    let scratch = Scratch::new();
    let path = scratch.log();
    let (log, _) = Log::open(files(&path), options(), |_| Ok(())).unwrap();
    let done = AtomicBool::new(false);
    let personal = |index: u64| Entry {
        // Large enough that a reader is in the midst of it now and then.
        private: Some(Private {
            salt: [1; 32],
            bytes: vec![7; 300_000].into(),
        }),
        ..entry(index)
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        let scanned = scan(&*files(&path), &ScanOptions::default(), |_| Ok(())).unwrap();
                        assert_eq!(scanned.unrecorded_erasures, [], "{scanned:?}");
                        assert!(
                            scanned.tail.is_none_or(|tail| tail.reason == TailReason::Incomplete),
                            "{scanned:?}"
                        );
                    }
                })
            })
            .collect();
        for index in 0..60 {
            let last = log.append(&[personal(index)]).unwrap().last;
            log.wait(last, None).unwrap();
            log.erase(&[last], 0).unwrap();
            if readers.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn two_creators_make_one_log() {
    for _ in 0..20 {
        let scratch = Scratch::new();
        let path = scratch.log();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let creators: Vec<_> = (1..=4_u8)
                .map(|id| {
                    let path = &path;
                    scope.spawn(move || {
                        Log::open(
                            files(path),
                            Options {
                                log_id: [id; 16],
                                ..options()
                            },
                            |_| Ok(()),
                        )
                    })
                })
                .collect();
            creators.into_iter().map(|creator| creator.join().unwrap()).collect()
        });
        let open = outcomes.iter().flatten().count();
        assert!(open >= 1 && outcomes.iter().flatten().filter(|(_, opened)| opened.created).count() == 1);
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        }
        assert_eq!(files(&path).list("").unwrap(), [SEGMENT_NAME, "LOCK"]);
    }
}

#[test]
fn a_log_is_not_created_among_other_files() {
    type Make = fn(&Path);
    let others: [(&str, Make); 4] = [
        ("models.toml", |place| fs::write(place, "mine").unwrap()),
        (".hidden", |place| fs::write(place, "mine").unwrap()),
        ("folder", |place| fs::create_dir(place).unwrap()),
        // What is left of a log whose segment is gone is no place for a new one.
        ("quarantine", |place| fs::create_dir(place).unwrap()),
    ];
    for (name, make) in others {
        let scratch = Scratch::new();
        make(&scratch.0.join(name));
        let error = Log::open(files(&scratch.0), options(), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotALog, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(files(&scratch.0).list("").unwrap(), [name]);
    }
    let scratch = Scratch::new();
    fs::write(scratch.0.join("models.toml"), "mine").unwrap();
    let (log, _) = Log::open(files(&scratch.0.join("state")), options(), |_| Ok(())).unwrap();
    log.close().unwrap();
    // A log that is there stays one, whatever is laid beside it later.
    fs::write(scratch.0.join("state/head.json"), "{}").unwrap();
    Log::open(files(&scratch.0.join("state")), options(), |_| Ok(())).unwrap();
}

#[test]
fn a_creation_that_was_cut_off_is_begun_again() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("LOCK"), "pid 1\n").unwrap();
    fs::write(scratch.0.join(format!("{SEGMENT_NAME}.tmp")), "half").unwrap();
    let (_, opened) = Log::open(files(&scratch.0), options(), |_| Ok(())).unwrap();
    assert!(opened.created);
}

#[test]
fn a_log_that_lost_its_segment_is_not_begun_again() {
    // Whether it was opened once or twice, closed or stopped.
    for (openings, closed) in [(1, true), (1, false), (2, true), (2, false)] {
        let scratch = Scratch::new();
        for _ in 0..openings {
            let (log, _) = Log::open(files(&scratch.0), options(), |_| Ok(())).unwrap();
            if closed {
                log.close().unwrap();
            }
        }
        let segment = scratch.0.join(SEGMENT_NAME);
        let bytes = fs::read(&segment).unwrap();
        fs::remove_file(&segment).unwrap();
        for options in [
            options(),
            Options {
                recover: true,
                ..options()
            },
            Options {
                create: false,
                ..options()
            },
        ] {
            let error = Log::open(files(&scratch.0), options, |_| Ok(())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SegmentMissing, "{error}");
        }
        let error = scan(&*files(&scratch.0), &ScanOptions::default(), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SegmentMissing, "{error}");
        assert_eq!(files(&scratch.0).list("").unwrap(), ["LOCK"]);
        fs::write(&segment, bytes).unwrap();
        Log::open(files(&scratch.0), options(), |_| Ok(())).unwrap();
    }
}

#[test]
fn an_abandoned_log_leaves_the_lock_to_whoever_else_has_it() {
    let scratch = Scratch::new();
    let path = scratch.log();
    let (log, _) = Log::open(files(&path), options(), |_| Ok(())).unwrap();
    log.abandon();
    assert_eq!(log.append(&[entry(1)]).unwrap_err().kind(), ErrorKind::Abandoned);
    drop(log);
    // No other process shares the descriptor here, so the last one to close it has unlocked it.
    Log::open(files(&path), options(), |_| Ok(())).unwrap();
}
