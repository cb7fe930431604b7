//! Keys, heads, and the hands that may write.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    missing_docs
)]

mod logs;

use std::sync::Arc;

use decidable_canon::{Digest, Key};
use decidable_wal::{Error, ErrorKind, Head, Log, Memory, Options, SEGMENT_NAME, ScanOptions, Storage, scan};
use logs::{BOOT, entry, fifty, holding, key, open, options};

fn kind<T>(outcome: Result<T, Error>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.kind(),
    }
}

#[test]
fn a_wrong_key_is_told_from_damage() {
    let made = fifty(Some(&key()), false);
    let wrong = Key::new(&[1; 32]).unwrap();
    assert_eq!(
        kind(logs::scan(&made.bytes, Some(&wrong), None, |_| ())),
        ErrorKind::WrongKey
    );
    assert_eq!(
        kind(open(&made.storage, options(Some(&wrong), BOOT))),
        ErrorKind::WrongKey
    );
    assert_eq!(kind(open(&made.storage, options(None, BOOT))), ErrorKind::KeyMissing);
    open(&made.storage, options(Some(&key()), BOOT)).unwrap();
}

#[test]
fn a_key_for_a_log_without_seals_is_refused() {
    let made = fifty(None, false);
    assert_eq!(
        kind(logs::scan(&made.bytes, Some(&key()), None, |_| ())),
        ErrorKind::NotKeyed
    );
    assert_eq!(
        kind(open(&made.storage, options(Some(&key()), BOOT))),
        ErrorKind::NotKeyed
    );
}

#[test]
fn whoever_lacks_the_key_checks_everything_but_the_seals() {
    let made = fifty(Some(&key()), false);
    let scanned = logs::scan(&made.bytes, None, Some(made.head), |_| ()).unwrap();
    assert_eq!((scanned.keyed, scanned.sealed, scanned.head_found), (true, false, true));
    let scanned = logs::scan(&made.bytes, Some(&key()), Some(made.head), |_| ()).unwrap();
    assert_eq!((scanned.keyed, scanned.sealed), (true, true));
    for (end, last) in &made.ends[1..] {
        let mut changed = made.bytes.clone();
        changed[end - 1] ^= 1;
        logs::scan(&changed, None, Some(made.head), |_| ()).unwrap();
        let error = logs::scan(&changed, Some(&key()), Some(made.head), |_| ()).unwrap_err();
        // A broken last seal could be a power loss; the head says that it is not.
        let expected = if *last == 50 {
            ErrorKind::ShorterThanHead
        } else {
            ErrorKind::SealBroken
        };
        assert_eq!((error.kind(), error.seq()), (expected, Some(*last)));
    }
}

#[test]
fn batches_of_two_logs_under_one_key_do_not_mix() {
    let one = fifty(Some(&key()), false);
    let storage = Memory::new();
    let other = Options {
        log_id: [8; 16],
        ..options(Some(&key()), BOOT)
    };
    let (log, ..) = open(&storage, other).unwrap();
    log.append(&[entry(16, b"other")]).unwrap();
    log.close().unwrap();
    let other = storage.contents(SEGMENT_NAME).unwrap();
    let spliced = [&one.bytes[..one.ends[1].0], &other[one.ends[1].0..]].concat();
    let scanned = logs::scan(&spliced, Some(&key()), None, |_| ()).unwrap();
    assert_eq!(
        (scanned.records, scanned.tail.unwrap().offset),
        (1, one.ends[1].0 as u64)
    );
    assert_eq!(
        kind(logs::scan(&other, Some(&key()), Some(one.head), |_| ())),
        ErrorKind::HeadMismatch
    );
}

#[test]
fn a_head_is_met_anywhere_in_the_log_and_only_there() {
    let made = fifty(None, false);
    let mut heads = vec![];
    logs::scan(&made.bytes, None, None, |record| {
        heads.push(Head {
            log_id: [7; 16],
            seq: record.seq,
            hash: record.hash,
        });
    })
    .unwrap();
    assert_eq!(heads.last(), Some(&made.head));
    for head in &heads {
        assert!(logs::scan(&made.bytes, None, Some(*head), |_| ()).unwrap().head_found);
        let wrong = Head {
            hash: Digest::of(b"wrong"),
            ..*head
        };
        let error = logs::scan(&made.bytes, None, Some(wrong), |_| ()).unwrap_err();
        assert_eq!((error.kind(), error.seq()), (ErrorKind::HeadMismatch, Some(head.seq)));
        let later = Head { seq: 51, ..*head };
        assert_eq!(
            kind(logs::scan(&made.bytes, None, Some(later), |_| ())),
            ErrorKind::ShorterThanHead
        );
    }
    let empty = logs::scan(&made.bytes[..128], None, None, |_| ()).unwrap();
    assert_eq!((empty.head.seq, empty.records, empty.head_found), (0, 0, false));
    assert!(
        logs::scan(&made.bytes, None, Some(empty.head), |_| ())
            .unwrap()
            .head_found
    );
}

#[test]
fn a_writer_with_a_head_changes_nothing_when_the_log_does_not_contain_it() {
    let made = fifty(None, false);
    let cut = holding(&made.bytes[..made.bytes.len() - 5]);
    let with_head = Options {
        head: Some(made.head),
        ..options(None, logs::NEXT_BOOT)
    };
    assert_eq!(kind(open(&cut, with_head.clone())), ErrorKind::ShorterThanHead);
    assert_eq!(cut.contents(SEGMENT_NAME).unwrap(), made.bytes[..made.bytes.len() - 5]);
    let nothing = Memory::new();
    assert_eq!(kind(open(&nothing, with_head)), ErrorKind::NotFound);
    assert_eq!(nothing.contents(SEGMENT_NAME), None);
}

#[test]
fn there_is_one_writer_and_any_number_of_readers() {
    let storage = Memory::new();
    let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
    let error = open(&storage, options(None, BOOT)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Locked, "wal.locked"));
    assert!(
        error.to_string().contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
    scan(&storage, &ScanOptions::default(), |_| Ok(())).unwrap();
    log.close().unwrap();
    let (second, ..) = open(&storage, options(None, BOOT)).unwrap();
    drop(second);
    open(&storage, options(None, BOOT)).unwrap();
}

#[test]
fn what_is_not_there_is_not_created_unasked() {
    let storage = Memory::new();
    let asked_not = Options {
        create: false,
        ..options(None, BOOT)
    };
    assert_eq!(kind(open(&storage, asked_not)), ErrorKind::NotFound);
    assert_eq!(
        kind(scan(&storage, &ScanOptions::default(), |_| Ok(()))),
        ErrorKind::NotFound
    );
    let nameless = Options {
        log_id: [0; 16],
        ..options(None, BOOT)
    };
    assert_eq!(kind(open(&storage, nameless)), ErrorKind::Invalid);
    assert!(storage.list("").unwrap().is_empty());
}

#[test]
fn other_formats_and_further_segments_are_refused() {
    for bytes in [vec![b'x'; 500], [b"dcdseg1\0".to_vec(), vec![0; 500]].concat()] {
        assert_eq!(
            kind(open(&holding(&bytes), options(None, BOOT))),
            ErrorKind::UnknownFormat
        );
    }
    let made = fifty(None, false);
    made.storage.put("00000000000000000051.seg", b"later");
    assert_eq!(kind(open(&made.storage, options(None, BOOT))), ErrorKind::UnknownFormat);
    assert_eq!(
        kind(scan(&made.storage, &ScanOptions::default(), |_| Ok(()))),
        ErrorKind::UnknownFormat
    );
}

#[test]
fn a_visitors_refusal_leaves_the_log_as_it_was() {
    let made = fifty(None, false);
    let before = holding(&made.bytes[..made.bytes.len() - 1]);
    let outcome = Log::open(Arc::new(before.clone()), options(None, BOOT), |record| {
        if record.seq == 7 {
            Err("seven".to_owned())
        } else {
            Ok(())
        }
    });
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.kind(), error.seq(), error.to_string()),
        (ErrorKind::Visit, Some(7), "seven (record 7)".to_owned())
    );
    assert_eq!(
        before.contents(SEGMENT_NAME).unwrap(),
        made.bytes[..made.bytes.len() - 1]
    );
    open(&before, options(None, BOOT)).unwrap();
}

#[test]
fn somebody_elses_write_cut_or_replacement_stops_the_log_within_one_batch() {
    let foreign: [fn(&Memory); 3] = [
        |storage| {
            let bytes = storage.contents(SEGMENT_NAME).unwrap();
            let file = storage.open(SEGMENT_NAME, decidable_wal::Access::Write).unwrap();
            file.write_at(b"foreign", bytes.len() as u64).unwrap();
        },
        |storage| {
            storage
                .open(SEGMENT_NAME, decidable_wal::Access::Write)
                .unwrap()
                .set_length(200)
                .unwrap()
        },
        |storage| storage.put(SEGMENT_NAME, &storage.contents(SEGMENT_NAME).unwrap()),
    ];
    for change in foreign {
        let storage = Memory::new();
        let (log, ..) = open(&storage, options(None, BOOT)).unwrap();
        let last = log.append(&[entry(16, b"one")]).unwrap().last;
        log.wait(last, None).unwrap();
        change(&storage);
        let left = storage.contents(SEGMENT_NAME).unwrap();
        let last = log.append(&[entry(16, b"two")]).unwrap().last;
        assert_eq!(kind(log.wait(last, None)), ErrorKind::DurabilityLost);
        assert_eq!(
            storage.contents(SEGMENT_NAME).unwrap(),
            left,
            "nothing is written over it"
        );
    }
}

#[test]
fn an_abandoned_log_refuses_everything_and_is_dropped_without_waiting() {
    let storage = Memory::new();
    let (log, opened, _) = open(&storage, options(None, BOOT)).unwrap();
    log.abandon();
    assert_eq!(kind(log.append(&[entry(16, b"x")])), ErrorKind::Abandoned);
    assert_eq!(kind(log.wait(9, None)), ErrorKind::Abandoned);
    assert_eq!(kind(log.wait_change(0, None)), ErrorKind::Abandoned);
    assert_eq!(kind(log.erase(&[1], 0)), ErrorKind::Abandoned);
    assert_eq!(kind(log.close()), ErrorKind::Abandoned);
    assert_eq!(log.head(), opened.head);
    drop(log);
}
