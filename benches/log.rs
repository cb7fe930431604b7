//! `cargo bench -p decidable-benches --bench log`: the log by itself beside the reference implementation's, in interleaved
//! rounds of one run, on real files and without a sync on either side.
//!
//! - `raw-append`: the reference's `append_verified_audited` (`audited`), its plain `append` of the same bytes as a JSON string
//!   (`plain`), and ours, per record of about 300 bytes; ours has written everything when the time stops. `plain/ours` compares
//!   like with like; `audited/ours` is what the reference's callers pay for a decision, which ours checks one floor higher.
//! - `raw-chain`: `verify_wal` over logs of each of the two kinds, and our scan, from files; `bytes` is our scan of the same
//!   bytes in memory.

#![allow(missing_docs)]

use std::{fs, path::Path, sync::Arc};

use calybris_core::wal::{AuditedRecord, WalWriter, verify_wal};
use decidable_benches::{
    peer,
    rounds::{Contestant, Plan, measure},
    workload::realistic,
};
use decidable_canon::Key;
use decidable_wal::{Durability, Entry, ErrorKind, Files, Log, Options, SEGMENT_NAME, ScanOptions, scan, scan_bytes};

/// How many records a log has that is verified.
const LOGGED: u64 = 20_000;

/// About what a decision takes in our log.
const PAYLOAD_BYTES: usize = 300;

fn main() {
    let folder = std::env::temp_dir().join(format!("decidable-bench-log-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    append(&folder);
    for (name, key) in [
        ("plain", None),
        ("sealed", Some(Key::new(&[5; 32]).expect("it is long enough"))),
    ] {
        for group in [1, 64] {
            chain(&folder, name, key.as_ref(), group);
        }
    }
    fs::remove_dir_all(&folder).expect("the temporary folder can be removed");
}

fn open(folder: &Path, key: Option<&Key>) -> Log {
    let options = Options {
        key: key.cloned(),
        log_id: [7; 16],
        sync: Durability::None,
        create: true,
        ..Options::default()
    };
    Log::open(Arc::new(Files::new(folder)), options, |_| Ok(()))
        .expect("the log opens")
        .0
}

fn entry(number: u64) -> Entry<'static> {
    let mut payload = vec![b'x'; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    Entry {
        kind: 16,
        time_ns: 0,
        payload: payload.into(),
        private: None,
    }
}

/// Appends one entry, waiting only where the queue is full.
fn append_one(log: &Log, number: u64) -> u64 {
    loop {
        match log.append(&[entry(number)]) {
            Ok(position) => return position.last,
            Err(error) if error.kind() == ErrorKind::Overloaded => {
                log.wait_change(log.head().seq, None).expect("it is written");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn append(folder: &Path) {
    let workload = realistic(22);
    let policy = peer::policy(&workload.policy);
    let inputs: Vec<_> = workload
        .requests
        .iter()
        .map(|request| peer::input(request.fields()))
        .collect();
    let mut audited = WalWriter::<AuditedRecord<serde_json::Value>>::open(&folder.join("audited-append.jsonl"))
        .expect("the reference's log opens");
    let mut plain = WalWriter::<String>::open(&folder.join("plain-append.jsonl")).expect("the reference's log opens");
    let text = "x".repeat(PAYLOAD_BYTES);
    let log = open(&folder.join("ours-append"), None);
    let plan = Plan {
        rounds: 15,
        round_ms: 40,
    };
    let mask = inputs.len() - 1;
    measure(
        "raw-append/300",
        plan,
        1,
        vec![
            Contestant::each("audited", |n| {
                let input = inputs[n as usize & mask];
                let decision = policy.prescribe(input);
                audited
                    .append_verified_audited(&policy, input, decision, serde_json::Value::Null)
                    .expect("it is written")
            }),
            Contestant::each("plain", |_| plain.append(text.clone()).expect("it is written")),
            Contestant::new("ours", |repetitions| {
                let last = (0..repetitions).map(|number| append_one(&log, number)).last();
                log.wait(last.expect("there is work"), None).expect("it is written");
            }),
        ],
    );
}

fn chain(folder: &Path, name: &str, key: Option<&Key>, group: u64) {
    let path = folder.join(format!("ours-{name}-{group}"));
    {
        let log = open(&path, key);
        for first in (0..LOGGED).step_by(group as usize) {
            let entries: Vec<_> = (first..LOGGED.min(first + group)).map(entry).collect();
            let position = log.append(&entries).expect("it is taken");
            log.wait(position.last, None).expect("it is written");
        }
        log.close().expect("it closes");
    }
    let audited = folder.join("audited.jsonl");
    let plain = folder.join("plain.jsonl");
    if !audited.exists() {
        let workload = realistic(22);
        let policy = peer::policy(&workload.policy);
        let mut writer =
            WalWriter::<AuditedRecord<serde_json::Value>>::open(&audited).expect("the reference's log opens");
        for request in workload.requests.iter().cycle().take(LOGGED as usize) {
            let input = peer::input(request.fields());
            let decision = policy.prescribe(input);
            writer
                .append_verified_audited(&policy, input, decision, serde_json::Value::Null)
                .expect("it is written");
        }
        let mut writer = WalWriter::<String>::open(&plain).expect("the reference's log opens");
        for _ in 0..LOGGED {
            writer.append("x".repeat(PAYLOAD_BYTES)).expect("it is written");
        }
    }
    let storage = Files::new(&path);
    let bytes = fs::read(path.join(SEGMENT_NAME)).expect("the segment is there");
    let options = ScanOptions {
        key: key.cloned(),
        ..ScanOptions::default()
    };
    let plan = Plan {
        rounds: 15,
        round_ms: 1,
    };
    measure(
        &format!("raw-chain/300/{name}/{group}"),
        plan,
        LOGGED,
        vec![
            Contestant::each("audited", |_| verify_wal(&audited).expect("it holds")),
            Contestant::each("plain", |_| verify_wal(&plain).expect("it holds")),
            Contestant::each("bytes", |_| {
                scan_bytes(&bytes, &options, |_| Ok(())).expect("it holds").records
            }),
            Contestant::each("ours", |_| {
                scan(&storage, &options, |_| Ok(())).expect("it holds").records
            }),
        ],
    );
}
