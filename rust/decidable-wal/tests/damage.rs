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

use decidable_canon::Key;
use decidable_wal::{ErrorKind, Memory, NoteKind, SEGMENT_NAME, ScanOptions, TailReason, scan_bytes};
use logs::{BOOT, Made, NEXT_BOOT, Seen, fifty, holding, key, open, options};

fn shapes() -> [Made; 2] {
    [fifty(None, false), fifty(Some(&key()), false)]
}

/// Opens the log as a writer would, appends, opens it again, and returns what the first opening showed.
fn open_append_and_reopen(storage: &Memory, key: Option<&Key>, boot: [u8; 16]) -> (Vec<Seen>, bool) {
    let (log, opened, records) = open(storage, options(key, boot)).unwrap();
    let position = log.append(vec![logs::numbered(99, 10)]).unwrap();
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

/// What a scan of changed bytes may say: corruption with its place, or, for the last batch after a restart, a tail.
fn assert_refused_or_cut(made: &Made, changed: &[u8], at: usize) {
    for boot in [BOOT, NEXT_BOOT] {
        let options = ScanOptions {
            key: made.key.clone(),
            head: None,
            boot_id: Some(boot),
        };
        let mut seen = 0;
        match scan_bytes(changed, &options, |_| {
            seen += 1;
            Ok(())
        }) {
            Err(error) => {
                assert!(
                    error.kind().is_corruption() || error.kind() == ErrorKind::UnknownFormat,
                    "byte {at}: {error}"
                );
                let offset = usize::try_from(error.offset().unwrap()).unwrap();
                assert!(offset <= at, "byte {at}: {error}");
                let frame_bytes_max = 66_000;
                assert!(
                    at < 128 || (at - offset < frame_bytes_max && error.seq().is_some()),
                    "byte {at}: {error}"
                );
            }
            Ok(scanned) => {
                assert!(boot == NEXT_BOOT && at >= made.last_batch(), "byte {at}: {scanned:?}");
                let tail = scanned.tail.unwrap();
                assert_eq!(
                    (tail.offset, tail.reason),
                    (made.last_batch() as u64, TailReason::Damaged)
                );
                assert_eq!(seen, made.whole(made.last_batch()).len());
            }
        }
        let with_head = ScanOptions {
            head: Some(made.head),
            ..options
        };
        let error = scan_bytes(changed, &with_head, |_| Ok(())).unwrap_err();
        assert!(
            error.kind().is_corruption() || error.kind() == ErrorKind::UnknownFormat,
            "byte {at}: {error}"
        );
    }
}

#[test]
fn every_changed_bit_is_refused_or_cut_and_with_a_head_always_refused() {
    for made in shapes() {
        let mut changed = made.bytes.clone();
        for at in 0..made.bytes.len() {
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                assert_refused_or_cut(&made, &changed, at);
                changed[at] ^= 1 << bit;
            }
        }
    }
}
