//! A writer that dies, a disk that fails and a machine that loses power, at every single storage operation: what was
//! promised is in the reopened log, nothing else is but whole groups, and the log can be used on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    missing_docs
)]

mod logs;

use std::io::ErrorKind::{Other, StorageFull};

use decidable_canon::Digest;
use decidable_wal::{
    CALLER_KIND_MIN, Durability, Entry, Error, ErrorKind, Fault, Log, Memory, NoteKind, Options, Private, SEGMENT_NAME,
    ScanOptions, Storage, TailReason, scan,
};
use logs::{BOOT, NEXT_BOOT, Seen, entry, numbered, open, options};

/// What a writer got done before something went wrong.
#[derive(Default)]
struct Done {
    /// The groups that it tried to append, in order.
    submitted: Vec<Vec<Vec<u8>>>,
    /// How many of them it was told are durable.
    promised: usize,
    /// Whether it was told that the private part of its first record is erased.
    erased: bool,
}

fn submit(log: &Log, done: &mut Done, group: Vec<Entry>) -> Result<u64, Error> {
    done.submitted
        .push(group.iter().map(|entry| entry.payload.to_vec()).collect());
    let position = log.append(&group)?;
    log.wait(position.last, None)?;
    done.promised = done.submitted.len();
    Ok(position.first)
}

/// Two sessions: groups of several sizes, one with a private part that is erased, one that spans sectors.
fn work(storage: &Memory, options: &Options, done: &mut Done) -> Result<(), Error> {
    for session in 0..2 {
        let (log, ..) = open(storage, options.clone())?;
        let first = submit(&log, done, vec![numbered(3 + session, 40), numbered(5, 0)])?;
        submit(&log, done, vec![numbered(7, 700)])?;
        if session == 0 {
            log.erase(&[first], 0)?;
            done.erased = true;
        }
        submit(&log, done, vec![numbered(9, 1300), numbered(10, 1), numbered(11, 300)])?;
        log.close()?;
    }
    Ok(())
}

/// The payloads that callers appended, group by group as far as the groups are whole.
fn groups_of<'a>(records: &[Seen], submitted: &'a [Vec<Vec<u8>>]) -> &'a [Vec<Vec<u8>>] {
    let mut payloads = records
        .iter()
        .filter(|seen| seen.kind >= CALLER_KIND_MIN)
        .map(|seen| &seen.payload)
        .peekable();
    let mut whole = 0;
    while payloads.peek().is_some() {
        for payload in &submitted[whole] {
            assert_eq!(payloads.next(), Some(payload), "group {whole}");
        }
        whole += 1;
    }
    &submitted[..whole]
}

/// Opens what is left, compares it with what was done, uses it and opens it again.
fn assert_recovers(left: &Memory, options: &Options, done: &Done, context: &str) {
    let (log, opened, records) = open(left, options.clone()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = groups_of(&records, &done.submitted).len();
    assert!(
        found >= done.promised,
        "{context}: {found} of {} promised groups",
        done.promised
    );
    if done.erased {
        let erased = records.iter().find(|seen| seen.kind >= CALLER_KIND_MIN).unwrap();
        assert_eq!(erased.private, Some(None), "{context}");
    }
    let bytes = left.contents(SEGMENT_NAME).unwrap();
    let secret = records.iter().any(|seen| seen.private == Some(None));
    assert!(
        !secret || !contains(&bytes, b"account-3"),
        "{context}: an erased private part is still there"
    );
    for recovery in &opened.recoveries {
        let kept = left.contents(&recovery.quarantine).unwrap();
        assert_eq!(
            (kept.len() as u64, Digest::of(&kept)),
            (recovery.cut_bytes, recovery.digest),
            "{context}"
        );
    }
    let position = log.append(&[entry(16, b"after")]).unwrap();
    log.wait(position.last, None).unwrap();
    let head = log.close().unwrap();
    let (_, reopened, again) = open(
        left,
        Options {
            head: Some(head),
            ..options.clone()
        },
    )
    .unwrap();
    assert_eq!(again[..records.len()], records, "{context}");
    let noted = again
        .iter()
        .filter(|seen| seen.kind == NoteKind::Recovered.code())
        .count();
    let quarantined = left.list("quarantine").unwrap();
    let kept = quarantined.iter().filter(|name| !name.ends_with(".tmp")).count();
    assert_eq!(noted, kept, "{context}: every cut is in the log");
    assert_eq!(
        (reopened.epoch, reopened.recoveries.len()),
        (opened.epoch + 1, 0),
        "{context}"
    );
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn operations(options: &Options) -> u64 {
    let storage = Memory::new();
    let mut done = Done::default();
    work(&storage, options, &mut done).unwrap();
    assert_eq!((done.promised, done.submitted.len(), done.erased), (6, 6, true));
    storage.operations()
}

fn after(boot: [u8; 16]) -> Options {
    Options {
        time_ns: 9_000,
        ..options(None, boot)
    }
}

#[test]
fn a_writer_killed_at_any_operation_loses_nothing_that_it_promised() {
    let before = options(None, BOOT);
    for operation in 1..=operations(&before) {
        for taken in [0, 1, 47, 48, 200, 513, usize::MAX] {
            let storage = Memory::new();
            storage.fail_at(operation, Fault::Die(taken));
            let mut done = Done::default();
            // It may have promised everything before it died.
            let _ = work(&storage, &before, &mut done);
            let context = format!("operation {operation}, {taken} bytes taken");
            assert_recovers(&storage.after_kill(), &after(BOOT), &done, &context);
        }
    }
}

#[test]
fn a_power_loss_at_any_operation_loses_nothing_that_was_promised() {
    let before = options(None, BOOT);
    for operation in 1..=operations(&before) {
        let storage = Memory::new();
        storage.fail_at(operation, Fault::Die(usize::MAX));
        let mut done = Done::default();
        let _ = work(&storage, &before, &mut done);
        for seed in 0..40 {
            let context = format!("operation {operation}, seed {seed}");
            assert_recovers(&storage.after_power_loss(seed), &after(NEXT_BOOT), &done, &context);
        }
    }
}

/// The unfinished end that `before` had is still at its place in `after`, or in quarantine.
fn assert_kept(before: &Memory, after: &Memory, context: &str) {
    let (Some(old), Some(new)) = (before.contents(SEGMENT_NAME), after.contents(SEGMENT_NAME)) else {
        return;
    };
    let Some(tail) = logs::scan(&old, None, None, |_| ()).unwrap().tail else {
        return;
    };
    let cut = &old[tail.offset as usize..];
    let quarantined = after.list("quarantine").unwrap();
    let kept = quarantined
        .iter()
        .any(|name| after.contents(&format!("quarantine/{name}")).unwrap() == cut);
    assert!(kept || new.starts_with(&old), "{context}: {} bytes are gone", cut.len());
}

#[test]
fn a_recovery_that_is_itself_interrupted_is_done_again() {
    let before = options(None, BOOT);
    let last = operations(&before);
    for (operation, seed) in (20..=last).step_by(3).zip(0..) {
        let storage = Memory::new();
        storage.fail_at(operation, Fault::Die(usize::MAX));
        let mut done = Done::default();
        let _ = work(&storage, &before, &mut done);
        let left = storage.after_power_loss(seed);
        let mut within = 1;
        loop {
            let again = left.after_kill();
            again.fail_at(within, Fault::Die(100));
            let finished = open(&again, after(NEXT_BOOT)).is_ok();
            let context = format!("operation {operation}, seed {seed}, then operation {within}");
            assert_recovers(
                &again.after_kill(),
                &after(NEXT_BOOT),
                &done,
                &format!("{context}, killed"),
            );
            let lost = again.after_power_loss(seed);
            assert_kept(&left, &lost, &context);
            let third_boot = after([0xb2; 16]);
            assert_recovers(&lost, &third_boot, &done, &format!("{context}, power lost"));
            if finished {
                break;
            }
            within += 1;
        }
    }
}

#[test]
fn any_failing_operation_stops_the_log_and_loses_nothing_that_was_promised() {
    let before = options(None, BOOT);
    for operation in 1..=operations(&before) {
        for fault in [
            Fault::Fail(Other),
            Fault::Fail(StorageFull),
            Fault::Short(0),
            Fault::Short(1),
            Fault::Short(40),
        ] {
            let storage = Memory::new();
            storage.fail_at(operation, fault);
            let mut done = Done::default();
            let outcome = work(&storage, &before, &mut done);
            let context = format!("operation {operation}, {fault:?}");
            let error = outcome.expect_err(&context);
            assert!(
                matches!(error.kind(), ErrorKind::Io | ErrorKind::DurabilityLost),
                "{context}: {error}"
            );
            // The same machine, without a restart: the page cache still shows what a failed sync did not keep.
            assert_recovers(&storage, &after(BOOT), &done, &context);
            // What was promised since must be on the disk, not only in the page cache.
            let (log, ..) = open(&storage, after(BOOT)).unwrap();
            let mut done = Done::default();
            done.submitted.push(vec![b"kept".to_vec()]);
            let position = log.append(&[entry(16, b"kept")]).unwrap();
            log.wait(position.last, None).unwrap();
            let lost = storage.after_power_loss(operation);
            let (_, _, records) = open(&lost, after(NEXT_BOOT)).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(records.last().unwrap().payload, b"kept", "{context}");
        }
    }
}

#[test]
fn after_the_first_failure_nothing_is_taken_or_promised() {
    let storage = Memory::new();
    let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
    let promised = log.append(&[entry(16, b"one")]).unwrap();
    log.wait(promised.last, None).unwrap();
    let head = log.head();
    let (operations, syncs) = (storage.operations(), storage.syncs());
    // Look, write, sync: the sync fails.
    storage.fail_at(operations + 3, Fault::Fail(Other));
    let lost = log.append(&[entry(16, b"two")]).unwrap();
    let error = log.wait(lost.last, None).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::DurabilityLost, "wal.durability_lost")
    );
    for _ in 0..3 {
        assert_eq!(
            log.append(&[entry(16, b"three")]).unwrap_err().kind(),
            ErrorKind::Poisoned
        );
        assert_eq!(
            log.wait_change(head.seq, None).unwrap_err().kind(),
            ErrorKind::DurabilityLost
        );
        assert_eq!(log.erase(&[head.seq], 0).unwrap().recorded, None);
    }
    log.wait(promised.last, None).unwrap();
    assert_eq!(log.head(), head);
    assert_eq!(log.close().unwrap_err().kind(), ErrorKind::DurabilityLost);
    assert_eq!(storage.syncs(), syncs + 1, "a failed sync is not repeated");
    let (_, opened, _) = open(&storage, options(None, BOOT)).unwrap();
    assert!(!opened.closed_before);
}

#[test]
fn a_log_that_lost_its_segment_is_not_begun_again_whatever_fails() {
    let lock = format!("pid 1\nsegment {SEGMENT_NAME}\n");
    let mut failed = 0;
    for operation in 1.. {
        let lost = Memory::new();
        lost.put("LOCK", lock.as_bytes());
        lost.fail_at(operation, Fault::Fail(Other));
        let error = open(&lost, options(None, BOOT)).unwrap_err();
        assert_eq!(
            lost.contents(SEGMENT_NAME),
            None,
            "operation {operation}: a new log was begun"
        );
        if lost.operations() < operation {
            assert_eq!(error.kind(), ErrorKind::SegmentMissing);
            break;
        }
        assert!(
            matches!(error.kind(), ErrorKind::SegmentMissing | ErrorKind::Io),
            "operation {operation}: {error}"
        );
        failed += 1;
    }
    assert!(failed > 3, "only {failed} operations failed");
}

#[test]
fn a_full_disk_stops_the_log_and_room_lets_it_go_on() {
    let before = options(None, BOOT);
    let mut full = 0;
    for limit in (0..6_000).step_by(37) {
        let storage = Memory::new();
        storage.limit(Some(limit));
        let mut done = Done::default();
        let outcome = work(&storage, &before, &mut done);
        storage.limit(None);
        if let Err(error) = outcome {
            assert!(
                matches!(error.kind(), ErrorKind::Io | ErrorKind::DurabilityLost),
                "limit {limit}: {error}"
            );
            // Also where the first write of them was taken in part.
            assert!(
                error
                    .to_string()
                    .contains(&std::io::Error::from(StorageFull).to_string()),
                "limit {limit}: {error}"
            );
            full += 1;
        } else {
            assert!(limit > 4_000);
        }
        assert_recovers(&storage, &after(BOOT), &done, &format!("limit {limit}"));
    }
    assert!(full > 100, "{full} disks were full");
}

#[test]
fn a_session_without_syncs_survives_a_kill_whole_and_a_power_loss_as_a_prefix() {
    let before = Options {
        sync: Durability::None,
        ..options(None, BOOT)
    };
    let storage = Memory::new();
    let (log, ..) = open(&storage, before.clone()).unwrap();
    let mut done = Done::default();
    for turn in 0..12 {
        submit(&log, &mut done, vec![numbered(turn, 300), numbered(turn + 1, 200)]).unwrap();
    }
    assert_recovers(&storage.after_kill(), &after(BOOT), &done, "killed");
    done.promised = 0;
    let (head, mut ended_before) = (log.head(), 0);
    for seed in 0..300 {
        let left = storage.after_power_loss(seed);
        // A head of what was only written holds if everything survived, and is refused otherwise.
        let with_head = Options {
            head: Some(head),
            ..after(NEXT_BOOT)
        };
        if let Err(error) = open(&left.after_kill(), with_head) {
            assert_eq!(error.kind(), ErrorKind::ShorterThanHead, "seed {seed}");
            ended_before += 1;
        }
        assert_recovers(&left, &after(NEXT_BOOT), &done, &format!("seed {seed}"));
    }
    assert!(ended_before > 0);
    // What a session without syncs left when it was killed is made durable by the next opening, however that syncs.
    done.promised = done.submitted.len();
    for sync in [Durability::Group, Durability::None] {
        let killed = storage.after_kill();
        let reopened = Options {
            sync,
            ..options(None, BOOT)
        };
        let (log, ..) = open(&killed, reopened).unwrap();
        for seed in 0..100 {
            let left = killed.after_power_loss(seed);
            assert_recovers(
                &left,
                &after(NEXT_BOOT),
                &done,
                &format!("reopened, {sync:?}, seed {seed}"),
            );
        }
        drop(log);
    }
    drop(log);
}

/// A session without syncs whose private parts are larger than a sector, so that a power loss can take one and leave
/// the record; and what was submitted.
fn unsynced_with_large_private_parts() -> (Memory, Done) {
    let storage = Memory::new();
    let without = Options {
        sync: Durability::None,
        ..options(None, BOOT)
    };
    let (log, ..) = open(&storage, without).unwrap();
    let mut done = Done::default();
    for turn in 0..8 {
        let large = Entry {
            private: Some(Private {
                salt: [9; 32],
                bytes: large_private(turn).into(),
            }),
            ..numbered(40 + turn, 100)
        };
        submit(&log, &mut done, vec![large, numbered(41 + turn, 20)]).unwrap();
    }
    // Before the log is dropped: nothing is closed or synced.
    (storage.after_kill(), done)
}

fn large_private(turn: u64) -> Vec<u8> {
    vec![u8::try_from(turn).unwrap() + 1; 3_000]
}

#[test]
fn a_private_part_that_a_power_loss_took_from_a_session_without_syncs_is_reported_and_the_log_goes_on() {
    let (storage, mut done) = unsynced_with_large_private_parts();
    assert_recovers(&storage.after_kill(), &after(BOOT), &done, "killed");
    done.promised = 0;
    let mut lost_in_all = 0;
    for seed in 0..400 {
        for boot_id in [Some(NEXT_BOOT), None] {
            let left = storage.after_power_loss(seed);
            let mut options = Options { boot_id, ..after(BOOT) };
            let context = format!("seed {seed}, boot {boot_id:?}");
            // A reader says of each record what the writer says afterwards.
            let reader = ScanOptions {
                boot_id,
                ..ScanOptions::default()
            };
            let mut read = Vec::new();
            let scanned = scan(&left, &reader, |record| {
                read.push(Seen::from(record));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{context}: {error}"));
            // Where the restart is not known, only whoever asks for it has the damaged end cut.
            if boot_id.is_none() && scanned.tail.is_some_and(|tail| tail.reason != TailReason::Incomplete) {
                assert_eq!(open(&left, options.clone()).unwrap_err().kind(), ErrorKind::EndDamaged);
                options.recover = true;
            }
            let (log, opened, records) =
                open(&left, options.clone()).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(read[..], records[..], "{context}");
            assert_eq!(opened.unrecorded_erasures, scanned.unrecorded_erasures, "{context}");
            for seen in &records {
                match &seen.private {
                    Some(None) => assert!(opened.unrecorded_erasures.contains(&seen.seq), "{context}"),
                    Some(Some(bytes)) if bytes.len() == 3_000 => {
                        assert_eq!(*bytes, large_private((seen.seq - 2) / 2), "{context}");
                    }
                    _ => {}
                }
            }
            lost_in_all += opened.unrecorded_erasures.len();
            let head = log.close().unwrap();
            // What is left of a part that was lost is gone, so that nobody takes it for damage later.
            let scanned = scan(
                &left,
                &ScanOptions {
                    head: Some(head),
                    ..ScanOptions::default()
                },
                |_| Ok(()),
            )
            .unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(scanned.unrecorded_erasures, opened.unrecorded_erasures, "{context}");
            assert_recovers(&left, &options, &done, &context);
        }
    }
    assert!(lost_in_all > 20, "{lost_in_all}");
    // On the machine that has not started anew, and in a session that synced, it is damage.
    for (name, sync, boot_id) in [
        ("same boot", Durability::None, BOOT),
        ("synced", Durability::Group, NEXT_BOOT),
    ] {
        let damaged = Memory::new();
        let (log, ..) = open(
            &damaged,
            Options {
                sync,
                ..options(None, BOOT)
            },
        )
        .unwrap();
        for turn in [0, 3, 1] {
            let position = log.append(&[numbered(turn, 10)]).unwrap();
            log.wait(position.last, None).unwrap();
        }
        let mut bytes = damaged.contents(SEGMENT_NAME).unwrap();
        let at = bytes.windows(9).position(|window| window == b"account-3").unwrap();
        bytes[at] ^= 1;
        damaged.put(SEGMENT_NAME, &bytes);
        let error = open(&damaged.after_kill(), after(boot_id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PrivateDamaged, "{name}");
    }
}

#[test]
fn a_closing_syncs_what_a_session_without_syncs_wrote() {
    let storage = Memory::new();
    let (log, ..) = open(
        &storage,
        Options {
            sync: Durability::None,
            ..options(None, BOOT)
        },
    )
    .unwrap();
    let mut done = Done::default();
    submit(&log, &mut done, vec![numbered(1, 3_000)]).unwrap();
    log.close().unwrap();
    for seed in 0..50 {
        assert_recovers(
            &storage.after_power_loss(seed),
            &after(NEXT_BOOT),
            &done,
            &format!("seed {seed}"),
        );
    }
}

#[test]
fn a_session_without_syncs_whose_closing_fails_is_written_again_whole() {
    let storage = Memory::new();
    let without = Options {
        sync: Durability::None,
        ..options(None, BOOT)
    };
    let (log, ..) = open(&storage, without).unwrap();
    let mut done = Done::default();
    for turn in 0..5 {
        submit(&log, &mut done, vec![numbered(turn, 2_000)]).unwrap();
    }
    // Look, write, sync: the only sync of what was appended fails, and the page cache holds what the disk does not.
    storage.fail_at(storage.operations() + 3, Fault::Fail(Other));
    assert_eq!(log.close().unwrap_err().kind(), ErrorKind::DurabilityLost);
    let (log, ..) = open(&storage, after(BOOT)).unwrap();
    for seed in 0..20 {
        let left = storage.after_power_loss(seed);
        assert_recovers(&left, &after(NEXT_BOOT), &done, &format!("seed {seed}"));
    }
    drop(log);
}
