//! Every cut and every changed bit of a log of fifty records: it opens with the right records, or refuses and names the
//! place; after it opened, it can be written and opened again; and a head that is kept elsewhere lets no change pass.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    missing_docs
)]

mod logs;

use decidable_canon::{Digest, Key};
use decidable_wal::{
    Error, ErrorKind, FRAME_PAYLOAD_BYTES_MAX, Memory, Note, NoteKind, RecoveryReason, SEGMENT_NAME, ScanOptions,
    Storage, TailReason, scan, scan_bytes,
};
use logs::{BOOT, Made, NEXT_BOOT, Seen, fifty, holding, key, open, options};

fn shapes() -> [Made; 2] {
    [fifty(None, false), fifty(Some(&key()), false)]
}

/// Opens the log as a writer would, appends, opens it again, and returns what the first opening showed.
fn open_append_and_reopen(storage: &Memory, key: Option<&Key>, boot: [u8; 16]) -> (Vec<Seen>, bool) {
    let (log, opened, records) = open(storage, options(key, boot)).unwrap();
    let position = log.append(&[logs::numbered(99, 10)]).unwrap();
    log.wait(position.last, None).unwrap();
    let head = log.close().unwrap();
    let (_, reopened, after) = open(
        storage,
        decidable_wal::Options {
            head: Some(head),
            ..options(key, boot)
        },
    )
    .unwrap();
    assert_eq!(after[..records.len()], records[..]);
    assert_eq!(reopened.epoch, opened.epoch + 1);
    assert!(reopened.closed_before && reopened.recoveries.is_empty());
    let noted = after
        .iter()
        .filter(|seen| seen.kind == NoteKind::Recovered.code())
        .count();
    assert_eq!(noted, opened.recoveries.len());
    (records, !opened.recoveries.is_empty())
}

#[test]
fn every_cut_opens_with_the_whole_batches_before_it() {
    for made in shapes() {
        for length in 0..made.bytes.len() {
            let cut = &made.bytes[..length];
            for boot in [BOOT, NEXT_BOOT] {
                let storage = holding(cut);
                if length < 128 {
                    let error = open(&storage, options(made.key.as_ref(), boot)).unwrap_err();
                    assert_eq!((error.kind(), error.offset()), (ErrorKind::HeaderDamaged, Some(0)));
                    continue;
                }
                let (records, recovered) = open_append_and_reopen(&storage, made.key.as_ref(), boot);
                assert_eq!(records, made.whole(length));
                assert_eq!(recovered, !made.ends.iter().any(|(end, _)| *end == length));
            }
        }
    }
}

#[test]
fn every_cut_is_refused_with_a_head() {
    for made in shapes() {
        for length in 128..made.bytes.len() {
            let error = logs::scan(&made.bytes[..length], made.key.as_ref(), Some(made.head), |_| ()).unwrap_err();
            assert_eq!((error.kind(), error.seq()), (ErrorKind::ShorterThanHead, Some(50)));
        }
    }
}

/// What a scan of changed bytes may say: corruption with its place, or, for the last batch after a restart of the machine, a
/// tail. With a head it may only refuse.
fn assert_refused_or_cut(made: &Made, changed: &[u8], at: usize) {
    let scan = |boot_id, head| {
        let options = ScanOptions {
            key: made.key.clone(),
            head,
            boot_id: Some(boot_id),
        };
        let mut seen = 0;
        let scanned = scan_bytes(changed, &options, |_| {
            seen += 1;
            Ok(())
        });
        (scanned, seen)
    };
    let assert_refused = |error: Error| {
        let known = error.kind().is_corruption() || error.kind() == ErrorKind::UnknownFormat;
        assert!(known, "byte {at}: {error}");
        error
    };
    let in_last = at >= made.last_batch();
    match scan(NEXT_BOOT, None) {
        (Err(error), _) => {
            let error = assert_refused(error);
            let offset = usize::try_from(error.offset().unwrap()).unwrap();
            let reach = made.bytes[offset..].len().min(FRAME_PAYLOAD_BYTES_MAX + 300);
            assert!((offset..offset + reach).contains(&at), "byte {at}: {error}");
            assert!(!in_last && (at < 128 || error.seq().is_some()), "byte {at}: {error}");
        }
        (Ok(scanned), seen) => {
            assert!(in_last, "byte {at}: {scanned:?}");
            let tail = scanned.tail.unwrap();
            assert_eq!(
                (tail.offset, tail.reason),
                (made.last_batch() as u64, TailReason::Damaged)
            );
            assert_eq!(seen, made.whole(made.last_batch()).len());
        }
    }
    assert_refused(scan(NEXT_BOOT, Some(made.head)).0.unwrap_err());
    if in_last {
        let error = assert_refused(scan(BOOT, None).0.unwrap_err());
        assert!(error.offset().unwrap() as usize <= at && error.seq().is_some());
    }
}

fn change_every_bit(made: &Made, places: impl Iterator<Item = usize>) {
    let mut changed = made.bytes.clone();
    for at in places {
        for bit in 0..8 {
            changed[at] ^= 1 << bit;
            assert_refused_or_cut(made, &changed, at);
            changed[at] ^= 1 << bit;
        }
    }
}

#[test]
fn every_changed_bit_is_refused_or_cut_and_with_a_head_always_refused() {
    let made = fifty(None, false);
    change_every_bit(&made, 0..made.bytes.len());
}

#[test]
fn every_changed_bit_of_a_sealed_log_is_refused_or_cut_and_with_a_head_always_refused() {
    let made = fifty(Some(&key()), false);
    change_every_bit(&made, 0..made.bytes.len());
}

#[test]
fn a_changed_bit_anywhere_in_a_record_that_spans_frames_is_found() {
    for made in [fifty(None, true), fifty(Some(&key()), true)] {
        // Every byte near the ends of the frames, and one in 97 of the long payload between.
        let (start, _) = made.ends.iter().rev().find(|(end, _)| *end < 66_000).unwrap();
        let large = *start + 100..*start + FRAME_PAYLOAD_BYTES_MAX - 100;
        change_every_bit(&made, large.clone().step_by(97));
        change_every_bit(&made, (large.end..large.end + 300).step_by(3));
    }
}

#[test]
#[ignore = "takes minutes; the ordinary run tries a sample of the long payload"]
fn every_changed_bit_of_a_log_with_a_record_that_spans_frames_is_found() {
    for made in [fifty(None, true), fifty(Some(&key()), true)] {
        change_every_bit(&made, 0..made.bytes.len());
    }
}

#[test]
fn after_a_restart_a_changed_last_batch_is_cut_and_the_log_goes_on() {
    for made in shapes() {
        for at in made.last_batch()..made.bytes.len() {
            let mut changed = made.bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let storage = holding(&changed);
            let error = open(&storage, options(made.key.as_ref(), BOOT)).unwrap_err();
            assert!(error.kind().is_corruption(), "byte {at}: {error}");
            assert_eq!(storage.contents(SEGMENT_NAME).unwrap(), changed);
            let (records, recovered) = open_append_and_reopen(&storage, made.key.as_ref(), NEXT_BOOT);
            assert_eq!((&records[..], recovered), (made.whole(made.last_batch()), true));
        }
    }
}

#[test]
fn an_erased_private_part_that_is_changed_is_erased_again() {
    let made = fifty(None, false);
    let (log, ..) = open(&made.storage, options(None, BOOT)).unwrap();
    let erased: Vec<u64> = made
        .records
        .iter()
        .filter(|seen| seen.private.is_some())
        .map(|seen| seen.seq)
        .collect();
    assert_eq!(log.erase(&erased, 0).unwrap().seqs, erased);
    let head = log.close().unwrap();
    let bytes = made.storage.contents(SEGMENT_NAME).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        match logs::scan(&changed, None, Some(head), |_| ()) {
            Err(error) => assert!(error.kind().is_corruption() || error.kind() == ErrorKind::UnknownFormat),
            Ok(scanned) => {
                assert_eq!(
                    (&scanned.erased, scanned.unfinished_erasures.len()),
                    (&erased, 1),
                    "byte {at}"
                );
                let storage = holding(&changed);
                let (_, opened, _) = open(&storage, options(None, BOOT)).unwrap();
                assert_eq!(opened.erasures_finished, scanned.unfinished_erasures);
                assert!(storage.contents(SEGMENT_NAME).unwrap().starts_with(&bytes));
            }
        }
    }
}

#[test]
fn bytes_taken_out_or_put_in_are_found() {
    let made = fifty(None, false);
    for at in (128..made.bytes.len()).step_by(11) {
        for count in [1, 8, 13, 80, 400] {
            let mut without = made.bytes.clone();
            without.drain(at..(at + count).min(made.bytes.len()));
            let mut with = made.bytes.clone();
            with.splice(at..at, vec![0x44; count]);
            for (changed, touched) in [(without, at + count), (with, at + 1)] {
                let head = Some(made.head);
                assert!(
                    logs::scan(&changed, None, head, |_| ())
                        .unwrap_err()
                        .kind()
                        .is_corruption()
                );
                match logs::scan(&changed, None, None, |_| ()) {
                    Err(error) => assert!(error.kind().is_corruption() && error.seq().is_some()),
                    // Only where no header of a later batch is left can it be a torn end.
                    Ok(scanned) => assert!(touched > made.last_batch(), "byte {at}: {scanned:?}"),
                }
            }
        }
    }
}

#[test]
fn batches_swapped_repeated_or_left_out_are_found() {
    let made = fifty(None, false);
    let batch = |index: usize| &made.bytes[made.ends[index - 1].0..made.ends[index].0];
    let last = made.ends.len() - 1;
    for index in 1..last {
        let mut orders = vec![
            (1..=last).filter(|at| *at != index).collect::<Vec<_>>(),
            (1..=last)
                .map(|at| {
                    if at == index {
                        at + 1
                    } else if at == index + 1 {
                        at - 1
                    } else {
                        at
                    }
                })
                .collect(),
        ];
        orders.push((1..=index).chain(index..=last).collect());
        for order in orders {
            let changed: Vec<u8> = [&made.bytes[..128]]
                .into_iter()
                .chain(order.iter().map(|index| batch(*index)))
                .flatten()
                .copied()
                .collect();
            let error = logs::scan(&changed, None, Some(made.head), |_| ()).unwrap_err();
            assert!(error.kind().is_corruption());
            if let Ok(scanned) = logs::scan(&changed, None, None, |_| ()) {
                assert!(index >= last - 1 && scanned.tail.is_some(), "{order:?}");
            }
        }
    }
}

#[test]
fn zeros_behind_the_end_are_a_power_loss_and_on_the_same_machine_damage() {
    let made = fifty(None, false);
    for (cut, reason) in [(0, TailReason::Zeros), (7, TailReason::Damaged)] {
        let mut longer = made.bytes[..made.bytes.len() - cut].to_vec();
        longer.extend([0; 4096]);
        let storage = holding(&longer);
        let error = open(&storage, options(None, BOOT)).unwrap_err();
        assert!(error.kind().is_corruption());
        let scanned = logs::scan(&longer, None, None, |_| ()).unwrap();
        assert_eq!(scanned.tail.unwrap().reason, reason);
        let (_, opened, records) = open(&storage, options(None, NEXT_BOOT)).unwrap();
        assert_eq!(opened.recoveries[0].reason, decidable_wal::RecoveryReason::PowerLoss);
        assert_eq!(records, made.whole(longer.len() - 4096));
    }
}

/// Opened where nobody says which start of the machine this is.
fn unknown_boot(made: &Made) -> decidable_wal::Options {
    decidable_wal::Options {
        boot_id: None,
        ..options(made.key.as_ref(), BOOT)
    }
}

#[test]
fn where_no_start_of_the_machine_is_known_a_damaged_end_is_cut_only_if_asked() {
    for made in shapes() {
        let asked = decidable_wal::Options {
            recover: true,
            ..unknown_boot(&made)
        };
        let last = made.last_batch();
        let whole = made.whole(last);
        let mut ends: Vec<Vec<u8>> = (last..made.bytes.len())
            .map(|at| {
                let mut changed = made.bytes.clone();
                changed[at] ^= 1 << (at % 8);
                changed
            })
            .collect();
        // The last batch as zeros, and zeros in place of its second half.
        for zeroed in [last, usize::midpoint(last, made.bytes.len())] {
            let mut changed = made.bytes.clone();
            changed[zeroed..].fill(0);
            ends.push(changed);
        }
        for end in ends {
            let storage = holding(&end);
            let error = open(&storage, unknown_boot(&made)).unwrap_err();
            assert_eq!(
                (error.kind(), error.seq(), error.offset()),
                (ErrorKind::EndDamaged, Some(whole.len() as u64 + 1), Some(last as u64))
            );
            let bytes = made.bytes.len() - last;
            assert!(error.to_string().contains(&format!("{bytes} bytes")), "{error}");
            assert_eq!(storage.contents(SEGMENT_NAME).unwrap(), end);
            assert!(storage.list("quarantine").unwrap().is_empty());
            let (_, opened, records) = open(&storage, asked.clone()).unwrap();
            assert_eq!(records, whole);
            let [recovery] = &opened.recoveries[..] else {
                panic!("{opened:?}")
            };
            assert_eq!(storage.contents(&recovery.quarantine).unwrap(), end[last..]);
        }
    }
}

#[test]
fn it_is_unknown_where_only_the_last_writer_knew_or_only_this_one_knows() {
    let made = fifty(None, false);
    let nameless = Memory::new();
    let (log, ..) = open(&nameless, unknown_boot(&made)).unwrap();
    let last = log.append(&[logs::numbered(2, 10)]).unwrap().last;
    log.wait(last, None).unwrap();
    let bytes = nameless.contents(SEGMENT_NAME).unwrap();
    for (bytes, boot_id) in [(&made.bytes, None), (&bytes, None), (&bytes, Some(NEXT_BOOT))] {
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        let options = decidable_wal::Options {
            boot_id,
            ..unknown_boot(&made)
        };
        let error = open(&holding(&changed), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EndDamaged, "{boot_id:?}");
    }
}

#[test]
fn where_no_start_of_the_machine_is_known_a_short_end_is_cut_as_ever() {
    let made = fifty(None, false);
    for length in made.last_batch()..made.bytes.len() {
        let (_, opened, records) = open(&holding(&made.bytes[..length]), unknown_boot(&made)).unwrap();
        assert_eq!(records, made.whole(made.last_batch()));
        assert_eq!(opened.recoveries.len(), usize::from(length > made.last_batch()));
    }
}

#[test]
fn what_is_no_unfinished_end_is_refused_although_a_recovery_was_asked_for() {
    let made = fifty(None, false);
    let mut changed = made.bytes.clone();
    changed[made.last_batch() - 1] ^= 1;
    let mut last = made.bytes.clone();
    last[made.last_batch() + 60] ^= 1;
    for (bytes, boot_id) in [
        (&changed, None),
        (&changed, Some(NEXT_BOOT)),
        (&changed, Some(BOOT)),
        (&last, Some(BOOT)),
    ] {
        let storage = holding(bytes);
        let options = decidable_wal::Options {
            boot_id,
            recover: true,
            ..unknown_boot(&made)
        };
        let error = open(&storage, options).unwrap_err();
        assert!(error.kind().is_corruption() && error.kind() != ErrorKind::EndDamaged);
        assert_eq!(storage.contents(SEGMENT_NAME).unwrap(), *bytes);
    }
}

#[test]
fn a_recovery_is_in_the_chain_and_its_bytes_are_kept() {
    let made = fifty(None, false);
    let storage = holding(&made.bytes[..made.bytes.len() - 9]);
    let (log, opened, _) = open(&storage, options(None, BOOT)).unwrap();
    let [recovery] = &opened.recoveries[..] else {
        panic!("{opened:?}")
    };
    let cut = &made.bytes[made.last_batch()..made.bytes.len() - 9];
    assert_eq!(
        (recovery.offset, recovery.cut_bytes),
        (made.last_batch() as u64, cut.len() as u64)
    );
    assert_eq!(recovery.digest, Digest::of(cut));
    assert_eq!(storage.contents(&recovery.quarantine).unwrap(), cut);
    log.close().unwrap();
    let mut notes = Vec::new();
    let scanned = scan(&storage, &ScanOptions::default(), |record| {
        notes.extend(NoteKind::from_code(record.kind).map(|kind| Note::decode(kind, record.payload).unwrap()));
        Ok(())
    })
    .unwrap();
    assert_eq!((scanned.recoveries, scanned.sessions, scanned.closed), (1, 2, true));
    assert_eq!(
        notes[1],
        Note::Recovered {
            offset: recovery.offset,
            cut_bytes: recovery.cut_bytes,
            digest: recovery.digest,
            reason: RecoveryReason::Torn
        }
    );
    // And the next cut of the same log too.
    let bytes = storage.contents(SEGMENT_NAME).unwrap();
    storage.put(SEGMENT_NAME, &bytes[..bytes.len() - 1]);
    let (log, opened, _) = open(&storage, options(None, BOOT)).unwrap();
    assert_eq!(opened.recoveries.len(), 1);
    log.close().unwrap();
    assert_eq!(
        scan(&storage, &ScanOptions::default(), |_| Ok(())).unwrap().recoveries,
        2
    );
}

#[test]
fn a_log_read_in_pieces_is_the_log_read_whole() {
    let groups: Vec<Vec<_>> = (0..40)
        .map(|turn| {
            (0..turn)
                .map(|index| logs::numbered(index, usize::try_from(turn * 397).unwrap()))
                .collect()
        })
        .collect();
    let made = logs::make(
        None,
        &groups
            .into_iter()
            .filter(|group: &Vec<_>| !group.is_empty())
            .collect::<Vec<_>>(),
    );
    assert!(made.bytes.len() > 4 << 20);
    let mut from_file = Vec::new();
    let scanned = scan(&made.storage, &ScanOptions::default(), |record| {
        from_file.push(Seen::from(record));
        Ok(())
    })
    .unwrap();
    assert!(from_file == made.records);
    assert_eq!(logs::scan(&made.bytes, None, None, |_| ()).unwrap(), scanned);
    let (_, _, replayed) = open(&made.storage, options(None, BOOT)).unwrap();
    assert!(replayed == made.records);
}
