//! What can be forgotten is beside the chain: erasing it leaves every proof valid.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    missing_docs
)]

mod logs;

use decidable_wal::{
    Entry, ErrorKind, Fault, Log, Memory, Options, Private, PrivatePart, SEGMENT_NAME, Scan, ScanOptions, Scanned,
    Storage, commitment, scan,
};
use logs::{BOOT, NEXT_BOOT, entry, key, numbered, open, options};

fn personal(index: u64) -> Entry<'static> {
    Entry {
        private: Some(Private {
            salt: [u8::try_from(index % 255).unwrap() + 1; 32],
            bytes: format!("person {index} of the log").into_bytes().into(),
        }),
        ..numbered(index, 50)
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn a_hundred_of_a_thousand_private_parts_are_erased_and_every_proof_holds() {
    for key in [None, Some(key())] {
        let storage = decidable_wal::Memory::new();
        let (log, opened, _) = open(&storage, options(key.as_ref(), BOOT)).unwrap();
        let mut last = opened.head.seq;
        for group in 0..100 {
            last = log
                .append(&(0..10).map(|index| personal(group * 10 + index)).collect::<Vec<_>>())
                .unwrap()
                .last;
        }
        log.wait(last, None).unwrap();
        let before = log.head();
        let wanted: Vec<u64> = (0..100).map(|index| 2 + index * 10 + index % 7).collect();
        let erased = log.erase(&wanted, 0).unwrap();
        assert_eq!((&erased.seqs, erased.recorded), (&wanted, Some(last + 1)));
        let after = log.close().unwrap();

        let bytes = storage.contents(SEGMENT_NAME).unwrap();
        for head in [before, after] {
            let options = ScanOptions {
                key: key.clone(),
                head: Some(head),
                boot_id: None,
            };
            let scanned = scan(&storage, &options, |record| {
                match record.private {
                    PrivatePart::Erased => assert!(wanted.contains(&record.seq)),
                    PrivatePart::Present(bytes) => assert_eq!(bytes, &*personal(record.seq - 2).private.unwrap().bytes),
                    PrivatePart::None => assert!(record.kind < 16),
                }
                Ok(())
            })
            .unwrap();
            assert_eq!(
                (&scanned.erased, scanned.head_found, scanned.sealed),
                (&wanted, true, key.is_some())
            );
            assert!(scanned.unfinished_erasures.is_empty() && scanned.unrecorded_erasures.is_empty());
        }
        for seq in 2..1002 {
            let private = personal(seq - 2).private.unwrap();
            assert_eq!(contains(&bytes, &private.bytes), !wanted.contains(&seq), "record {seq}");
            let committed = commitment(&private.salt, &private.bytes);
            assert!(contains(&bytes, committed.bytes()), "record {seq} keeps its commitment");
        }
        let (_, opened, records) = open(&storage, options(key.as_ref(), NEXT_BOOT)).unwrap();
        assert!(opened.erasures_finished.is_empty() && opened.unrecorded_erasures.is_empty());
        assert_eq!(records.iter().filter(|seen| seen.private == Some(None)).count(), 100);
    }
}

#[test]
fn erasing_says_what_was_gone_already_what_had_nothing_and_what_is_unknown() {
    let storage = decidable_wal::Memory::new();
    let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
    let last = log
        .append(&[personal(1), entry(16, b"plain"), personal(2)])
        .unwrap()
        .last;
    log.wait(last, None).unwrap();
    let first = log.erase(&[4, 2, 2, 3], 0).unwrap();
    assert_eq!(
        (first.seqs, first.already, first.without, first.recorded),
        (vec![2, 4], vec![], vec![3], Some(5))
    );
    let second = log.erase(&[2, 3, 4], 0).unwrap();
    assert_eq!(
        (second.seqs, second.already, second.without, second.recorded),
        (vec![], vec![2, 4], vec![3], None)
    );
    for unknown in [0, 6, u64::MAX] {
        let error = log.erase(&[2, unknown], 0).unwrap_err();
        assert_eq!((error.kind(), error.seq()), (ErrorKind::UnknownSeq, Some(unknown)));
    }
    assert_eq!(log.erase(&[], 0).unwrap().recorded, None);
}

#[test]
fn a_large_record_is_erased_too() {
    let storage = decidable_wal::Memory::new();
    let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
    let large = Entry {
        payload: vec![3; 200_000].into(),
        ..personal(1)
    };
    let last = log.append(&[large]).unwrap().last;
    log.wait(last, None).unwrap();
    assert_eq!(log.erase(&[2], 0).unwrap().seqs, [2]);
    let head = log.close().unwrap();
    let scanned = scan(
        &storage,
        &ScanOptions {
            head: Some(head),
            ..ScanOptions::default()
        },
        |_| Ok(()),
    )
    .unwrap();
    assert_eq!((scanned.erased, scanned.unfinished_erasures), (vec![2], vec![]));
}

#[test]
fn an_interrupted_erasure_is_reported_and_finished_by_the_next_writer() {
    for keep in [0, 5, 40] {
        let storage = decidable_wal::Memory::new();
        let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
        let last = log.append(&[personal(1), personal(2)]).unwrap().last;
        log.wait(last, None).unwrap();
        // Read, read, list; look, write, sync; look, zero: the process dies in the zeroing, which has taken `keep` bytes.
        storage.fail_at(storage.operations() + 3 + 5, Fault::Die(keep));
        let operations = storage.operations();
        assert_eq!(log.erase(&[2], 0).unwrap_err().kind(), ErrorKind::DurabilityLost);
        assert!(storage.operations() > operations);
        let left = storage.after_kill();
        let scanned = scan(&left, &ScanOptions::default(), |_| Ok(())).unwrap();
        assert_eq!(
            (&scanned.erased, &scanned.unfinished_erasures),
            (&vec![2], &vec![2]),
            "{keep} bytes"
        );
        let (_, opened, records) = open(&left, options(None, BOOT)).unwrap();
        assert_eq!(opened.erasures_finished, [2]);
        assert_eq!(records[1].private, Some(None));
        assert!(!contains(&left.contents(SEGMENT_NAME).unwrap(), b"person 1"));
        let scanned = scan(&left, &ScanOptions::default(), |_| Ok(())).unwrap();
        assert_eq!((scanned.erased, scanned.unfinished_erasures), (vec![2], vec![]));
    }
}

/// A log of one record, and an unfinished end in quarantine that has the private part of another.
fn quarantined() -> (decidable_wal::Memory, String) {
    let made = logs::make(None, &[vec![personal(1)], vec![personal(2), entry(16, &[5; 2_000])]]);
    let storage = logs::holding(&made.bytes[..made.bytes.len() - 1_000]);
    let (log, opened, _) = open(&storage, options(None, BOOT)).unwrap();
    log.close().unwrap();
    let name = opened.recoveries[0].quarantine.clone();
    let kept = storage.contents(&name).unwrap();
    assert!(contains(&kept, b"person 2 of the log"));
    // What an interrupted copy left, and what somebody else put there.
    storage.put("quarantine/unfinished.tmp", &kept[..kept.len() / 2]);
    storage.put("quarantine/notes.txt", b"ours");
    (storage, name)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[test]
fn an_erasure_takes_what_recovery_kept_with_it() {
    for wanted in [vec![2], vec![]] {
        let (storage, name) = quarantined();
        let before = storage.contents(&name).unwrap().len();
        let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
        // Nothing goes for an erasure that is refused.
        log.erase(&[99], 0).unwrap_err();
        assert!(!is_zero(&storage.contents(&name).unwrap()));
        assert_eq!(log.erase(&wanted, 0).unwrap().seqs, wanted);
        // Durably: the power may go at once.
        for seed in 0..10 {
            let left = storage.after_power_loss(seed);
            for file in [&name, "quarantine/unfinished.tmp"] {
                let bytes = left.contents(file).unwrap();
                assert!(is_zero(&bytes), "{file}, seed {seed}");
            }
            assert_eq!(left.contents(&name).unwrap().len(), before);
            assert_eq!(left.contents("quarantine/notes.txt").unwrap(), b"ours");
        }
        // The log still says what was cut, and says it once.
        log.close().unwrap();
        let (_, opened, records) = open(&storage, options(None, NEXT_BOOT)).unwrap();
        assert!(opened.recoveries.is_empty());
        assert_eq!(records.iter().filter(|seen| seen.kind == 2).count(), 1);
    }
}

#[test]
fn whoever_is_told_of_an_erasure_has_no_quarantined_bytes_whatever_fails() {
    for fault in [Fault::Die(700), Fault::Fail(std::io::ErrorKind::Other), Fault::Short(3)] {
        for operation in 1.. {
            let (storage, name) = quarantined();
            let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
            let before = storage.operations();
            storage.fail_at(before + operation, fault);
            let told = log.erase(&[2], 0).is_ok();
            let hit = storage.operations() >= before + operation;
            drop(log);
            assert!(
                !told || !hit,
                "{fault:?} at {operation}: an operation that failed was not noticed"
            );
            // Opened again and asked again, it is done.
            let left = storage.after_kill();
            let (log, opened, _) = open(&left, options(None, BOOT)).unwrap();
            // The record of the erasure may be torn; what was cut before is mentioned already.
            let anew = opened.recoveries.iter().any(|recovery| recovery.quarantine == name);
            assert!(!anew, "{fault:?} at {operation}");
            log.erase(&[2], 0).unwrap();
            let lost = left.after_power_loss(operation);
            assert!(is_zero(&lost.contents(&name).unwrap()), "{fault:?} at {operation}");
            assert!(!contains(&lost.contents(SEGMENT_NAME).unwrap(), b"person 1"));
            if !hit {
                break;
            }
        }
    }
}

#[test]
fn zeroing_a_private_part_without_a_record_is_reported() {
    let made = logs::make(None, &[vec![personal(1), personal(2)], vec![entry(16, b"later")]]);
    let secret = personal(1).private.unwrap();
    let at = made.bytes.windows(32).position(|window| window == secret.salt).unwrap();
    let mut bytes = made.bytes.clone();
    bytes[at..at + 32 + secret.bytes.len()].fill(0);
    let scanned = logs::scan(&bytes, None, Some(made.head), |_| ()).unwrap();
    assert_eq!((scanned.erased, scanned.unrecorded_erasures), (vec![], vec![2]));
    let storage = logs::holding(&bytes);
    let (_, opened, _) = open(&storage, options(None, NEXT_BOOT)).unwrap();
    assert_eq!(opened.unrecorded_erasures, [2]);
    // Zeroing only the salt, or only the bytes, is damage.
    for part in [at..at + 32, at + 32..at + 32 + secret.bytes.len()] {
        let mut bytes = made.bytes.clone();
        bytes[part].fill(0);
        let error = logs::scan(&bytes, None, None, |_| ()).unwrap_err();
        assert_eq!((error.kind(), error.seq()), (ErrorKind::PrivateDamaged, Some(2)));
    }
}

#[test]
fn zeros_in_the_last_batch_are_a_hole_after_a_restart_and_an_erasure_before() {
    let made = logs::make(None, &[vec![entry(16, b"first")], vec![personal(1), personal(2)]]);
    let secret = personal(1).private.unwrap();
    let at = made.bytes.windows(32).position(|window| window == secret.salt).unwrap();
    let mut bytes = made.bytes.clone();
    bytes[at..at + 32 + secret.bytes.len()].fill(0);
    let scanned = logs::scan(&bytes, None, None, |_| ()).unwrap();
    assert_eq!((scanned.records, scanned.unrecorded_erasures), (4, vec![3]));
    let (_, opened, _) = open(&logs::holding(&bytes), options(None, BOOT)).unwrap();
    assert_eq!((opened.records, opened.unrecorded_erasures), (4, vec![3]));
    let (_, opened, _) = open(&logs::holding(&bytes), options(None, NEXT_BOOT)).unwrap();
    assert_eq!(
        (opened.records, opened.recoveries[0].offset),
        (2, made.last_batch() as u64)
    );
}

#[test]
fn a_private_part_that_does_not_fit_its_rules_is_not_taken() {
    let storage = decidable_wal::Memory::new();
    let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
    let with = |salt, bytes: Vec<u8>| Entry {
        private: Some(Private {
            salt,
            bytes: bytes.into(),
        }),
        ..entry(16, b"")
    };
    assert_eq!(
        log.append(&[with([0; 32], vec![1])]).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let large = vec![1; decidable_wal::PRIVATE_BYTES_MAX + 1];
    assert_eq!(
        log.append(&[with([1; 32], large)]).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    let last = log
        .append(&[
            with([1; 32], vec![]),
            with([1; 32], vec![0; decidable_wal::PRIVATE_BYTES_MAX]),
        ])
        .unwrap()
        .last;
    log.wait(last, None).unwrap();
    log.close().unwrap();
    let mut sizes = Vec::new();
    scan(&storage, &ScanOptions::default(), |record| {
        if let PrivatePart::Present(bytes) = record.private {
            sizes.push(bytes.len());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(sizes, [0, decidable_wal::PRIVATE_BYTES_MAX]);
}

#[test]
fn an_erasure_is_durable_even_where_the_log_does_not_sync() {
    let storage = decidable_wal::Memory::new();
    let options_none = Options {
        sync: decidable_wal::Durability::None,
        ..options(None, BOOT)
    };
    let (log, ..) = open(&storage, options_none).unwrap();
    let last = log.append(&[personal(1)]).unwrap().last;
    log.wait(last, None).unwrap();
    log.erase(&[last], 0).unwrap();
    for seed in 0..20 {
        let left = storage.after_power_loss(seed);
        assert!(!contains(&left.contents(SEGMENT_NAME).unwrap(), b"person 1"));
        let (_, _, records) = open(&left, options(None, NEXT_BOOT)).unwrap();
        assert_eq!(records[1].private, Some(None));
    }
    assert!(storage.list("quarantine").unwrap().is_empty());
}

#[test]
fn no_byte_goes_before_the_record_that_says_so_is_durable() {
    for sync in [decidable_wal::Durability::Group, decidable_wal::Durability::None] {
        for later in 1..12 {
            let storage = decidable_wal::Memory::new();
            let (log, ..) = open(
                &storage,
                Options {
                    sync,
                    ..options(None, BOOT)
                },
            )
            .unwrap();
            let last = log.append(&[personal(1)]).unwrap().last;
            log.wait(last, None).unwrap();
            log.close().unwrap();
            let (log, ..) = open(
                &storage,
                Options {
                    sync,
                    ..options(None, BOOT)
                },
            )
            .unwrap();
            storage.fail_at(storage.operations() + later, Fault::Die(usize::MAX));
            let _ = log.erase(&[last], 0);
            for seed in 0..20 {
                let left = storage.after_power_loss(seed);
                let scanned = scan(&left, &ScanOptions::default(), |_| Ok(())).unwrap();
                assert!(
                    scanned.unrecorded_erasures.is_empty(),
                    "{sync:?}, {later} operations later, seed {seed}"
                );
            }
        }
    }
}

/// A log of so many bytes that a reader, once begun, has not read its end yet: the private parts are there.
fn with_a_far_end() -> (Memory, Log) {
    let storage = Memory::new();
    let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
    let mut last = 0;
    for group in [
        vec![entry(16, &[5; 400_000])],
        vec![personal(1)],
        vec![personal(2), personal(3)],
    ] {
        last = log.append(&group).unwrap().last;
        log.wait(last, None).unwrap();
    }
    assert_eq!(last, LAST);
    (storage, log)
}

/// The numbers of the records with a private part: one that a batch follows, and one in the last batch.
const EARLIER: u64 = 3;
const LAST: u64 = 5;

/// What a reader says that had begun before `meanwhile` and goes on after it.
fn read_across(storage: &Memory, meanwhile: impl FnOnce()) -> Result<Scanned, decidable_wal::Error> {
    let scan = Scan::open(storage, &ScanOptions::default()).unwrap();
    meanwhile();
    scan.finish()
}

#[test]
fn an_erasure_beside_a_reader_is_no_damage_wherever_it_stands() {
    for seq in [EARLIER, LAST] {
        let (storage, log) = with_a_far_end();
        let before = storage.operations();
        log.erase(&[seq], 0).unwrap();
        let operations = storage.operations() - before;
        let mut half_gone = 0;
        // Of the operations each is the one that fails, and none.
        for operation in 1..=operations + 1 {
            let (storage, log) = with_a_far_end();
            let context = format!("record {seq}, operation {operation}");
            let mut erased = false;
            let scanned = read_across(&storage, || {
                if operation <= operations {
                    // A write takes this much of what is to go, and no more.
                    storage.fail_at(storage.operations() + operation, Fault::Short(20));
                }
                erased = log.erase(&[seq], 0).is_ok();
            })
            .unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!((scanned.records, scanned.tail), (LAST, None), "{context}");
            assert_eq!(scanned.unrecorded_erasures, [], "{context}");
            assert_eq!(erased, operation > operations, "{context}");
            if erased {
                assert_eq!((scanned.erased, scanned.unfinished_erasures), (vec![seq], vec![]));
            } else {
                half_gone += scanned.unfinished_erasures.len();
            }
        }
        assert_eq!(half_gone, 1, "record {seq} was read half gone");
    }
}

#[test]
fn what_goes_beside_a_reader_without_a_record_is_accused_though_others_are_erased() {
    for seq in [EARLIER, LAST] {
        for (bytes, gone) in [(32 + 19, true), (20, false)] {
            let (storage, log) = with_a_far_end();
            let private = personal(seq - 2).private.unwrap();
            let scanned = read_across(&storage, || {
                log.erase(&[4], 0).unwrap();
                let file = storage.open(SEGMENT_NAME, decidable_wal::Access::Write).unwrap();
                let all = storage.contents(SEGMENT_NAME).unwrap();
                let salted = [&private.salt[..], &private.bytes].concat();
                let at = all.windows(salted.len()).position(|window| window == salted).unwrap();
                assert_eq!(file.write_at(&vec![0; bytes], at as u64).unwrap(), bytes);
            });
            match scanned {
                Ok(scanned) if gone => {
                    assert_eq!((scanned.erased, scanned.unrecorded_erasures), (vec![4], vec![seq]));
                }
                // Of a batch that was the last when the reader began nobody says more than that it is no whole one.
                Ok(scanned) => {
                    assert_eq!((seq, scanned.records), (LAST, EARLIER));
                    assert!(scanned.tail.is_some());
                }
                Err(error) => {
                    assert!(!gone && seq == EARLIER, "{error}");
                    assert_eq!((error.kind(), error.seq()), (ErrorKind::PrivateDamaged, Some(seq)));
                }
            }
        }
    }
}
