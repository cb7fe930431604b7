//! The logs that the tests damage: what was appended, batch by batch, so that what is read back can be compared.
#![allow(dead_code, unreachable_pub, clippy::as_conversions)]

use std::sync::Arc;

use decidable_canon::Key;
use decidable_wal::{
    Entry, Error, Head, Log, Memory, Opened, Options, Private, PrivatePart, Record, SEGMENT_NAME, ScanOptions, Scanned,
    scan_bytes,
};

pub const BOOT: [u8; 16] = [0xb0; 16];
pub const NEXT_BOOT: [u8; 16] = [0xb1; 16];

/// A record as it was appended or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub seq: u64,
    pub kind: u16,
    pub payload: Vec<u8>,
    /// `None` for no private part, `Some(None)` for an erased one.
    pub private: Option<Option<Vec<u8>>>,
}

impl From<&Record<'_>> for Seen {
    fn from(record: &Record<'_>) -> Self {
        Self {
            seq: record.seq,
            kind: record.kind,
            payload: record.payload.to_vec(),
            private: match record.private {
                PrivatePart::None => None,
                PrivatePart::Present(bytes) => Some(Some(bytes.to_vec())),
                PrivatePart::Erased => Some(None),
            },
        }
    }
}

/// A finished log and what is known of it.
pub struct Made {
    pub storage: Memory,
    pub bytes: Vec<u8>,
    pub records: Vec<Seen>,
    /// Where each batch ends, the segment's head first, and the number of its last record.
    pub ends: Vec<(usize, u64)>,
    pub head: Head,
    pub key: Option<Key>,
}

pub fn key() -> Key {
    Key::new(&[0x5e; 32]).unwrap()
}

pub fn options(key: Option<&Key>, boot_id: [u8; 16]) -> Options {
    Options {
        key: key.cloned(),
        log_id: [7; 16],
        boot_id: Some(boot_id),
        time_ns: 1_000,
        create: true,
        ..Options::default()
    }
}

pub fn open(storage: &Memory, options: Options) -> Result<(Log, Opened, Vec<Seen>), Error> {
    let mut records = Vec::new();
    let (log, opened) = Log::open(Arc::new(storage.clone()), options, |record| {
        records.push(Seen::from(record));
        Ok(())
    })?;
    Ok((log, opened, records))
}

pub fn entry(kind: u16, payload: &[u8]) -> Entry<'static> {
    Entry {
        kind,
        time_ns: 2_000,
        payload: payload.to_vec().into(),
        private: None,
    }
}

/// The entry that the tests append as number `index`: of many sizes, many with a private part.
pub fn numbered(index: u64, bytes: usize) -> Entry<'static> {
    let payload = (0..bytes)
        .map(|at| u8::try_from((at as u64 * 31 + index * 7) % 251).unwrap())
        .collect();
    Entry {
        kind: 16 + u16::try_from(index % 5).unwrap(),
        time_ns: i64::try_from(index).unwrap() * 10,
        payload,
        private: (index.is_multiple_of(3) || index.is_multiple_of(7)).then(|| Private {
            salt: [u8::try_from(index % 250).unwrap() + 1; 32],
            bytes: format!("account-{index}").into_bytes().into(),
        }),
    }
}

/// Appends each group as a batch of its own. The opening is the first batch.
pub fn make(key: Option<&Key>, groups: &[Vec<Entry<'_>>]) -> Made {
    let storage = Memory::new();
    let (log, opened, _) = open(&storage, options(key, BOOT)).unwrap();
    let length = || storage.contents(SEGMENT_NAME).unwrap().len();
    let mut ends = vec![(128, 0), (length(), opened.head.seq)];
    for group in groups {
        let position = log.append(group).unwrap();
        log.wait(position.last, None).unwrap();
        ends.push((length(), position.last));
    }
    let head = log.head();
    // A clean closing would add a record; these logs end where a writer was stopped.
    let left = storage.after_kill();
    drop(log);
    let bytes = left.contents(SEGMENT_NAME).unwrap();
    let mut records = Vec::new();
    scan(&bytes, key, None, |record| records.push(Seen::from(record))).unwrap();
    Made {
        storage: left,
        bytes,
        records,
        ends,
        head,
        key: key.cloned(),
    }
}

pub fn scan(
    bytes: &[u8],
    key: Option<&Key>,
    head: Option<Head>,
    mut each: impl FnMut(&Record<'_>),
) -> Result<Scanned, Error> {
    let options = ScanOptions {
        key: key.cloned(),
        head,
        boot_id: None,
    };
    scan_bytes(bytes, &options, |record| {
        each(record);
        Ok(())
    })
}

/// A directory that holds a log of these bytes.
pub fn holding(bytes: &[u8]) -> Memory {
    let storage = Memory::new();
    storage.put(SEGMENT_NAME, bytes);
    storage
}

/// Fifty records in batches of one to five, of many sizes; `large` of them spans frames.
pub fn fifty(key: Option<&Key>, large: bool) -> Made {
    let mut groups = Vec::new();
    let mut index = 2;
    for turn in 0.. {
        let count = ((turn + 1) % 5 + 1).min(51 - index);
        if count == 0 {
            break;
        }
        groups.push(
            (index..index + count)
                .map(|index| {
                    let bytes = if large && index == 20 {
                        70_000
                    } else {
                        usize::try_from(index * 37 % 90).unwrap()
                    };
                    numbered(index, bytes)
                })
                .collect(),
        );
        index += count;
    }
    let made = make(key, &groups);
    assert_eq!(made.head.seq, 50);
    made
}

impl Made {
    /// The records of the batches that end within `length` bytes.
    pub fn whole(&self, length: usize) -> &[Seen] {
        let last = self
            .ends
            .iter()
            .rev()
            .find(|(end, _)| *end <= length)
            .map_or(0, |(_, last)| *last);
        &self.records[..usize::try_from(last).unwrap()]
    }
    /// Where the last batch begins.
    pub fn last_batch(&self) -> usize {
        self.ends[self.ends.len() - 2].0
    }
}
