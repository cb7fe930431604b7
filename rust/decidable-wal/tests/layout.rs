//! The bytes of a log, built by hand from docs/spec/log.md and compared with those that are written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod logs;

use decidable_canon::{Digest, Key};
use decidable_wal::{
    Entry, ErrorKind, FRAME_PAYLOAD_BYTES_MAX, Options, Private, RECORD_BYTES_MAX, SEGMENT_NAME, TailReason,
    frame_bytes,
};
use logs::{BOOT, key, open, options};
use proptest::prelude::*;

/// One frame, as the document says.
#[derive(Clone, Copy)]
struct Frame<'a> {
    seq: u64,
    batch: (u64, u32),
    kind: u16,
    flags: u16,
    time_ns: i64,
    payload: &'a [u8],
    private: Option<&'a Private<'a>>,
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    *Digest::of(&parts.concat()).bytes()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().div_ceil(8) * 8, 0);
    padded
}

fn head(key: Option<&Key>) -> Vec<u8> {
    let log_id = [7; 16];
    let created_ns = 1_000_i64.to_le_bytes();
    let salt = &sha256(&[&log_id, &created_ns])[..4];
    let check = key.map_or([0; 16], |key| {
        key.mac(&[b"dcdkey0\0", &log_id]).bytes()[..16].try_into().unwrap()
    });
    let mut head = b"dcdseg0\0".to_vec();
    head.extend(0_u16.to_le_bytes());
    head.extend(u16::from(key.is_some()).to_le_bytes());
    head.extend(128_u32.to_le_bytes());
    head.extend(log_id);
    head.extend(1_u64.to_le_bytes());
    head.extend(1_u64.to_le_bytes());
    head.extend([0; 32]);
    head.extend(created_ns);
    head.extend(BOOT);
    head.extend(salt);
    head.extend(check);
    head.extend(crc32c::crc32c(&head).to_le_bytes());
    assert_eq!(head.len(), 128);
    head
}

fn frame(frame: &Frame<'_>, salt: u32, previous: &mut [u8; 32], key: Option<&Key>) -> Vec<u8> {
    let mut header = b"DCF0".to_vec();
    header.extend(u32::try_from(frame.payload.len()).unwrap().to_le_bytes());
    header.extend(frame.seq.to_le_bytes());
    header.extend(frame.batch.0.to_le_bytes());
    header.extend(frame.batch.1.to_le_bytes());
    header.extend(frame.kind.to_le_bytes());
    header.extend(frame.flags.to_le_bytes());
    header.extend(frame.time_ns.to_le_bytes());
    header.extend(
        frame
            .private
            .map_or(0, |private| u32::try_from(private.bytes.len()).unwrap())
            .to_le_bytes(),
    );
    assert_eq!(header.len(), 44);
    let commitment = frame
        .private
        .map(|private| sha256(&[b"dcdprv0\0", &private.salt, &private.bytes]));
    let committed = commitment.as_ref().map_or(&[][..], |commitment| commitment);
    *previous = sha256(&[b"dcdrec0\0", &header, frame.payload, committed, &*previous]);
    let mut bytes = header.clone();
    bytes.extend((crc32c::crc32c(&header) ^ salt).to_le_bytes());
    bytes.extend(padded(frame.payload));
    bytes.extend(committed);
    bytes.extend(*previous);
    if let Some(private) = frame.private {
        bytes.extend(private.salt);
        bytes.extend(padded(&private.bytes));
    }
    let last = frame.seq == frame.batch.0 + u64::from(frame.batch.1) - 1 && frame.flags & 2 == 0;
    if let (Some(key), true) = (key, last) {
        let (first, count) = (frame.batch.0.to_le_bytes(), frame.batch.1.to_le_bytes());
        bytes.extend(key.mac(&[b"dcdsea0\0", &[7; 16], &first, &count, &*previous]).bytes());
    }
    bytes
}

#[test]
fn the_bytes_are_those_of_the_document() {
    for key in [None, Some(key())] {
        let private = Private {
            salt: [9; 32],
            bytes: b"someone".into(),
        };
        let large: Vec<u8> = (0..FRAME_PAYLOAD_BYTES_MAX + 5)
            .map(|at| u8::try_from(at % 256).unwrap())
            .collect();
        let entries = vec![
            Entry {
                kind: 16,
                time_ns: 500,
                payload: b"thirteen byte".into(),
                private: Some(private.clone()),
            },
            Entry {
                kind: 17,
                time_ns: 3_000,
                payload: large.clone().into(),
                private: None,
            },
        ];
        let storage = decidable_wal::Memory::new();
        let (log, ..) = open(&storage, options(key.as_ref(), BOOT)).unwrap();
        let last = log.append(&entries).unwrap().last;
        log.wait(last, None).unwrap();
        let found = log.head();
        log.close().unwrap();

        let version = env!("CARGO_PKG_VERSION");
        let mut opened = vec![1];
        opened.extend(BOOT);
        opened.extend(1_u64.to_le_bytes());
        opened.push(0);
        opened.extend(u32::try_from(version.len()).unwrap().to_le_bytes());
        opened.extend(version.as_bytes());
        let (one, rest) = large.split_at(FRAME_PAYLOAD_BYTES_MAX);
        let plain = Frame {
            seq: 1,
            batch: (1, 1),
            kind: 1,
            flags: 0,
            time_ns: 1_000,
            payload: &opened,
            private: None,
        };
        let frames = [
            Frame { ..plain },
            Frame {
                seq: 2,
                batch: (2, 2),
                kind: 16,
                flags: 1,
                payload: b"thirteen byte",
                private: Some(&private),
                ..plain
            },
            Frame {
                seq: 3,
                batch: (2, 2),
                kind: 17,
                flags: 2,
                time_ns: 3_000,
                payload: one,
                ..plain
            },
            Frame {
                seq: 3,
                batch: (2, 2),
                kind: 17,
                flags: 0,
                time_ns: 3_000,
                payload: rest,
                ..plain
            },
            Frame {
                seq: 4,
                batch: (4, 1),
                kind: 4,
                flags: 0,
                time_ns: 3_000,
                payload: &[],
                ..plain
            },
        ];
        let mut bytes = head(key.as_ref());
        let salt = u32::from_le_bytes(bytes[104..108].try_into().unwrap());
        let mut previous = sha256(&[&bytes]);
        for (index, each) in frames.iter().enumerate() {
            bytes.extend(frame(each, salt, &mut previous, key.as_ref()));
            if index == 3 {
                assert_eq!((found.seq, found.hash.bytes()), (3, &previous));
            }
        }
        assert!(storage.contents(SEGMENT_NAME).unwrap() == bytes);
        let sizes = frame_bytes(13, Some(7)) + frame_bytes(large.len(), None);
        assert_eq!(sizes, 48 + 16 + 32 + 32 + 32 + 8 + 2 * 80 + FRAME_PAYLOAD_BYTES_MAX + 8);
    }
}

/// A log of these frames, every one with the right checksum and the right hash.
fn forged(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = head(None);
    let salt = u32::from_le_bytes(bytes[104..108].try_into().unwrap());
    let mut previous = sha256(&[&bytes]);
    for each in frames {
        bytes.extend(frame(each, salt, &mut previous, None));
    }
    bytes
}

#[test]
fn frames_that_no_writer_writes_are_refused_though_their_hashes_are_right() {
    let full = vec![1; FRAME_PAYLOAD_BYTES_MAX];
    let private = Private {
        salt: [9; 32],
        bytes: vec![2].into(),
    };
    let plain = Frame {
        seq: 1,
        batch: (1, 1),
        kind: 16,
        flags: 0,
        time_ns: 5,
        payload: b"x",
        private: None,
    };
    let two = Frame { batch: (1, 2), ..plain };
    let part = Frame {
        flags: 2,
        payload: &full,
        ..plain
    };
    let right: [&[Frame<'_>]; 4] = [
        &[plain],
        &[two, Frame { seq: 2, ..two }],
        &[part, plain],
        &[
            plain,
            Frame {
                seq: 2,
                batch: (2, 1),
                ..plain
            },
        ],
    ];
    for frames in right {
        let scanned = logs::scan(&forged(frames), None, None, |_| ()).unwrap();
        assert_eq!(scanned.tail, None);
    }
    let next = Frame {
        seq: 2,
        batch: (2, 1),
        ..plain
    };
    let wrong: [&[Frame<'_>]; 17] = [
        &[Frame { seq: 2, ..plain }],
        &[Frame { batch: (2, 1), ..plain }],
        &[Frame { batch: (1, 0), ..plain }],
        &[Frame {
            batch: (1, 65_537),
            ..plain
        }],
        &[Frame { flags: 4, ..plain }],
        &[Frame { flags: 0x8000, ..plain }],
        &[Frame {
            private: Some(&private),
            ..plain
        }],
        &[part, Frame { payload: &[], ..plain }],
        &[
            Frame {
                payload: &full[1..],
                ..part
            },
            plain,
        ],
        &[part, Frame { kind: 17, ..plain }],
        &[part, Frame { time_ns: 6, ..plain }],
        &[
            Frame {
                flags: 3,
                private: Some(&private),
                ..part
            },
            plain,
        ],
        &[
            two,
            Frame {
                seq: 2,
                batch: (1, 3),
                ..two
            },
            Frame {
                seq: 3,
                batch: (1, 3),
                ..two
            },
        ],
        &[two, Frame { seq: 3, ..two }],
        &[
            two,
            Frame {
                seq: 2,
                time_ns: 4,
                ..two
            },
        ],
        &[plain, Frame { time_ns: 4, ..next }],
        &[
            plain,
            Frame {
                seq: 3,
                batch: (3, 1),
                ..plain
            },
        ],
    ];
    for (index, frames) in wrong.iter().enumerate() {
        match logs::scan(&forged(frames), None, None, |_| ()) {
            Ok(scanned) => {
                let tail = scanned.tail.unwrap_or_else(|| panic!("case {index} was accepted"));
                assert_eq!(tail.reason, TailReason::Damaged, "case {index}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::FrameDamaged, "case {index}"),
        }
    }
    // Another version's note, and notes that are not as they are written.
    for (kind, payload) in [
        (5, &b""[..]),
        (15, b""),
        (1, b""),
        (2, b"short"),
        (3, &[1; 9]),
        (3, &[1; 16]),
        (4, b"x"),
    ] {
        let error = logs::scan(&forged(&[Frame { kind, payload, ..plain }]), None, None, |_| ()).unwrap_err();
        assert_eq!((error.kind(), error.seq()), (ErrorKind::NoteMalformed, Some(1)));
    }
}

#[test]
fn no_record_and_no_batch_makes_a_reader_take_more_memory_than_the_largest_that_is_written() {
    let full = vec![1; FRAME_PAYLOAD_BYTES_MAX];
    let frames_of_a_record = RECORD_BYTES_MAX / FRAME_PAYLOAD_BYTES_MAX;
    let part = Frame {
        seq: 1,
        batch: (1, 1),
        kind: 16,
        flags: 2,
        time_ns: 5,
        payload: &full,
        private: None,
    };
    let endless_record = vec![part; frames_of_a_record + 2];
    let largest_records = (1..=5_u64).flat_map(|seq| {
        let part = Frame {
            seq,
            batch: (1, 5),
            ..part
        };
        let end = Frame { flags: 0, ..part };
        vec![part; frames_of_a_record - 1].into_iter().chain([end])
    });
    for frames in [endless_record, largest_records.collect()] {
        let scanned = logs::scan(&forged(&frames), None, None, |_| ()).unwrap();
        assert_eq!(
            (scanned.records, scanned.tail.unwrap().reason),
            (0, TailReason::Damaged)
        );
    }
}

fn any_entry() -> impl Strategy<Value = Entry<'static>> {
    let private = (any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(mut salt, bytes)| {
        salt[0] |= 1;
        Private {
            salt,
            bytes: bytes.into(),
        }
    });
    (
        16..=u16::MAX,
        any::<i64>(),
        prop::collection::vec(any::<u8>(), 0..300),
        prop::option::of(private),
    )
        .prop_map(|(kind, time_ns, payload, private)| Entry {
            kind,
            time_ns,
            payload: payload.into(),
            private,
        })
}

proptest! {
    #[test]
    fn what_is_appended_is_what_is_read(
        groups in prop::collection::vec(prop::collection::vec(any_entry(), 1..6), 0..8),
        keyed: bool,
        in_two_sessions: bool,
    ) {
        let key = keyed.then(key);
        let storage = decidable_wal::Memory::new();
        let options = Options { time_ns: i64::MIN, ..options(key.as_ref(), BOOT) };
        let (mut log, ..) = open(&storage, options.clone()).unwrap();
        for (index, group) in groups.iter().enumerate() {
            if in_two_sessions && index == 3 {
                log.close().unwrap();
                log = open(&storage, options.clone()).unwrap().0;
            }
            log.append(group).unwrap();
        }
        let head = log.close().unwrap();
        let bytes = storage.contents(SEGMENT_NAME).unwrap();
        let mut read = Vec::new();
        let mut last_time_ns = i64::MIN;
        let scanned = logs::scan(&bytes, key.as_ref(), Some(head), |record| {
            assert!(record.time_ns >= last_time_ns);
            last_time_ns = record.time_ns;
            if record.kind >= 16 {
                read.push(logs::Seen::from(record));
            }
        }).unwrap();
        prop_assert!(scanned.head_found && scanned.closed && scanned.sealed == keyed);
        let appended: Vec<&Entry> = groups.iter().flatten().collect();
        prop_assert_eq!(read.len(), appended.len());
        for (seen, entry) in read.iter().zip(appended) {
            prop_assert_eq!((seen.kind, &*seen.payload), (entry.kind, &*entry.payload));
            prop_assert_eq!(&seen.private, &entry.private.as_ref().map(|private| Some(private.bytes.to_vec())));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_without_a_panic(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        at in 0_usize..1_200,
    ) {
        let made = logs::make(None, &[vec![logs::numbered(3, 70), logs::numbered(4, 9)], vec![logs::numbered(5, 100)]]);
        let mut bytes = made.bytes;
        let at = at.min(bytes.len());
        let end = (at + garbage.len()).min(bytes.len());
        bytes.splice(at..end, garbage);
        // Whatever comes of it, it comes as a value or an error.
        let _ = logs::scan(&bytes, None, None, |_| ());
    }
}
