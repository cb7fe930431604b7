//! `cargo bench -p decidable-benches --bench engine`: the whole path beside the reference implementation, in interleaved
//! rounds of one run, on real files and without a sync on either side.
//!
//! - `append`: decide, verify that the decision replays, write it to the log. Ours also keeps the ticket open.
//! - `chain`: verify the chain of a log of such decisions.
//! - `replay`: derive every decision and digest of it again.

#![allow(missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use calybris_core::wal::{AuditedRecord, WalWriter, replay_audited_wal, verify_wal};
use decidable_benches::{
    peer,
    rounds::{Contestant, Plan, measure},
    workload::{Workload, realistic},
};
use decidable_engine::{Engine, Options, SystemClock};
use decidable_wal::{Durability, Files, ScanOptions, scan};

/// How many decisions a log has that is verified.
const LOGGED: usize = 20_000;

const METADATA: &str = r#"{"tenant":"acme/search","trace":"8f14e45f-ceea-467f-a0e2-7d3f2c1b9a55"}"#;

fn main() {
    let folder = std::env::temp_dir().join(format!("decidable-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let workload = realistic(22);
    append(&workload, &folder);
    verification(&workload, &folder);
    fs::remove_dir_all(&folder).expect("the temporary folder can be removed");
}

fn open(workload: &Workload, folder: &Path) -> Engine {
    let options = Options {
        policy: Arc::new(workload.policy.clone()),
        provenance: String::new(),
        key: None,
        sync: Durability::None,
        head: None,
        recover: false,
        clock: Arc::new(SystemClock),
        decide: None,
        watch: None,
    };
    Engine::open(Arc::new(Files::new(folder)), options).expect("the log opens")
}

fn append(workload: &Workload, folder: &Path) {
    let engine = open(workload, &folder.join("ours-append"));
    let theirs = peer::policy(&workload.policy);
    let inputs: Vec<_> = workload
        .requests
        .iter()
        .map(|request| peer::input(request.fields()))
        .collect();
    let mut writer = WalWriter::<AuditedRecord<serde_json::Value>>::open(&folder.join("theirs-append.jsonl"))
        .expect("the reference's log opens");
    let metadata: serde_json::Value = serde_json::from_str(METADATA).expect("it is JSON");
    let plan = Plan {
        rounds: 15,
        round_ms: 40,
    };
    let mut at = 0;
    let mut next = move |length: usize| {
        at = (at + 1) % length;
        at
    };
    let mut peer_next = next;
    measure(
        "append/22/real",
        plan,
        1,
        vec![
            Contestant::each("peer", |_| {
                let input = inputs[peer_next(inputs.len())];
                let decision = theirs.prescribe(input);
                writer
                    .append_verified_audited(&theirs, input, decision, metadata.clone())
                    .expect("it is written")
            }),
            Contestant::new("ours", |repetitions| {
                let mut last = 0;
                for done in 0..repetitions {
                    let request = &workload.requests[next(workload.requests.len())];
                    let answer = engine.decide(request, None, None, Some(METADATA)).expect("it is taken");
                    last = answer.step.seq;
                    // The queue has a limit; a caller that never waits would meet it.
                    if done % 4_096 == 4_095 {
                        engine.wait(last, None).expect("it is written");
                    }
                }
                engine.wait(last, None).expect("it is written");
            }),
        ],
    );
}

fn verification(workload: &Workload, folder: &Path) {
    let ours = folder.join("ours-log");
    let theirs: PathBuf = folder.join("theirs-log.jsonl");
    let policy = peer::policy(&workload.policy);
    {
        let engine = open(workload, &ours);
        let mut writer =
            WalWriter::<AuditedRecord<serde_json::Value>>::open(&theirs).expect("the reference's log opens");
        let metadata: serde_json::Value = serde_json::from_str(METADATA).expect("it is JSON");
        for request in workload.requests.iter().cycle().take(LOGGED) {
            let answer = engine.decide(request, None, None, Some(METADATA)).expect("it is taken");
            engine.wait(answer.step.seq, None).expect("it is written");
            let input = peer::input(request.fields());
            let decision = policy.prescribe(input);
            writer
                .append_verified_audited(&policy, input, decision, metadata.clone())
                .expect("it is written");
        }
        engine.close().expect("it closes");
    }
    let plan = Plan { rounds: 9, round_ms: 1 };
    let storage = Files::new(&ours);
    measure(
        "chain/22/real",
        plan,
        LOGGED as u64,
        vec![
            Contestant::each("peer", |_| verify_wal(&theirs).expect("it holds")),
            Contestant::each("ours", |_| {
                scan(&storage, &ScanOptions::default(), |_| Ok(()))
                    .expect("it holds")
                    .records
            }),
        ],
    );
    measure(
        "replay/22/real",
        plan,
        LOGGED as u64,
        vec![
            Contestant::each("peer", |_| {
                replay_audited_wal(&theirs, &policy).expect("it holds").len()
            }),
            Contestant::each("ours", |_| {
                decidable_engine::verify(&storage, None, None, None, |_| Ok(()))
                    .expect("it holds")
                    .decisions
            }),
        ],
    );
}
