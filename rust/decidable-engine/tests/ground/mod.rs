//! A policy, requests, an engine over a directory in memory, and logs that are written again with a valid chain.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;

use decidable_canon::{Digest, Key};
use decidable_engine::{Answer, Clock, Engine, Error, ManualClock, Options, SystemClock, Verified};
use decidable_kernel::{Candidate, Limits, Objective, Policy, Request, RequestFields};
use decidable_ledger::Balance;
use decidable_replay::{Kind, Record, Use};
use decidable_wal::{CALLER_KIND_MIN, Durability, Entry, Head, Log, Memory, Private, PrivatePart, Scan, ScanOptions};

pub const FREE: u32 = 1;
pub const CHEAP: u32 = 2;
pub const DEAR: u32 = 3;

/// The cheapest of a free, a cheap and a dear candidate that meets the request's floor of quality.
pub fn policy(policy_epoch: u64) -> Arc<Policy> {
    let candidate = |model_id, quality_bps, rate| Candidate {
        model_id,
        quality_bps,
        p95_latency_ms: 100,
        input_cost_microunits_per_million_tokens: rate,
        output_cost_microunits_per_million_tokens: rate * 4,
        ..Candidate::default()
    };
    let limits = Limits {
        policy_epoch,
        objective: Objective::Cheapest,
        ..Limits::default()
    };
    let catalog = vec![
        candidate(FREE, 2_000, 0),
        candidate(CHEAP, 6_000, 1_000_000),
        candidate(DEAR, 9_000, 50_000_000),
    ];
    Arc::new(Policy::new(limits, catalog, None).unwrap())
}

/// A request that the candidate wins: 1,000 tokens in, 100 out. The cheap one costs 1,400 microunits.
pub fn request(model: u32) -> Request {
    let minimum_quality_bps = match model {
        FREE => 0,
        CHEAP => 5_000,
        DEAR => 9_000,
        _ => 10_000,
    };
    let fields = RequestFields {
        input_tokens: 1_000,
        output_tokens: 100,
        business_value_microunits: 1_000_000,
        minimum_quality_bps,
        ..RequestFields::default()
    };
    Request::new(fields).unwrap()
}

pub fn risky(risk_bps: u16) -> Request {
    Request::new(RequestFields {
        risk_bps,
        ..*request(FREE).fields()
    })
    .unwrap()
}

pub fn cost(cost_microunits: u64) -> Use {
    Use {
        cost_microunits: Some(cost_microunits),
        ..Use::default()
    }
}

pub fn key() -> Key {
    Key::new(&[0x5e; 32]).unwrap()
}

pub fn options() -> Options {
    Options {
        policy: policy(1),
        provenance: "by hand".to_owned(),
        key: None,
        sync: Durability::Group,
        head: None,
        recover: false,
        clock: Arc::new(SystemClock),
        decide: None,
        watch: None,
    }
}

pub fn clocked(time_ns: i64) -> (Options, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(time_ns));
    let shared: Arc<dyn Clock> = clock.clone();
    (
        Options {
            clock: shared,
            ..options()
        },
        clock,
    )
}

pub fn open(storage: &Memory) -> Engine {
    Engine::open(Arc::new(storage.clone()), options()).unwrap()
}

pub fn opened_with(storage: &Memory, options: Options) -> Result<Engine, Error> {
    Engine::open(Arc::new(storage.clone()), options)
}

/// An engine with an account `acme` of so much.
pub fn funded(storage: &Memory, initial: i64) -> Engine {
    let engine = open(storage);
    let (_, step) = engine.open_account("acme", initial).unwrap();
    engine.wait(step.seq, None).unwrap();
    engine
}

pub fn decide(engine: &Engine, model: u32) -> Answer {
    let answer = engine.decide(&request(model), Some("acme"), None, None).unwrap();
    engine.wait(answer.step.seq, None).unwrap();
    answer
}

pub fn settle(engine: &Engine, ticket: u64, cost_microunits: u64) {
    let settled = engine.settle(ticket, cost(cost_microunits)).unwrap();
    engine.wait(settled.step.seq, None).unwrap();
}

/// The machine has started anew and the log was opened on it: only that tells a power loss from damage, and the engine
/// of a test cannot restart its machine.
pub fn restarted(image: &Memory, key: Option<Key>) {
    let options = decidable_wal::Options {
        key,
        boot_id: Some([0xb1; 16]),
        ..decidable_wal::Options::default()
    };
    if let Err(error) = Log::open(Arc::new(image.clone()), options, |_| Ok(())) {
        // Where there is no log yet, the engine makes one.
        assert_eq!(error.kind(), decidable_wal::ErrorKind::NotFound, "{error}");
    }
}

pub fn conserved(balance: &Balance) -> bool {
    balance.remaining + balance.reserved + balance.committed == balance.initial
        && balance
            .remaining
            .min(balance.reserved)
            .min(balance.committed)
            .min(balance.debt)
            >= 0
        && (balance.debt == 0 || balance.remaining == 0)
}

pub fn verify(storage: &Memory) -> Result<Verified, Error> {
    verify_with(storage, None, None, None)
}

pub fn verify_with(
    storage: &Memory,
    key: Option<Key>,
    head: Option<Head>,
    policies: Option<&[Digest]>,
) -> Result<Verified, Error> {
    decidable_engine::verify(storage, key, head, policies, |_| Ok(()))
}

/// A step of a log, to be changed and written again.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub kind: u16,
    pub payload: Vec<u8>,
    pub private: Option<Vec<u8>>,
}

impl Step {
    pub fn record(&self) -> Record {
        Record::decode(Kind::from_code(self.kind).unwrap(), &self.payload).unwrap()
    }
    pub fn change(&mut self, change: impl FnOnce(Record) -> Record) {
        let changed = change(self.record());
        self.kind = changed.kind().code();
        self.payload.clear();
        changed.encode(&mut self.payload);
    }
}

/// The steps of a log, without the log's records about itself.
pub fn steps(storage: &Memory) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut scan = Scan::open(storage, &ScanOptions::default()).unwrap();
    while scan
        .next_batch(|record| {
            if record.kind >= CALLER_KIND_MIN {
                let private = match record.private {
                    PrivatePart::Present(bytes) => Some(bytes.to_vec()),
                    PrivatePart::None | PrivatePart::Erased => None,
                };
                steps.push(Step {
                    kind: record.kind,
                    payload: record.payload.to_vec(),
                    private,
                });
            }
            Ok(())
        })
        .unwrap()
    {}
    steps
}

/// Where the first step stands in a log that [`rechained`] wrote: behind the record of its opening.
pub const FIRST_STEP: u64 = 2;

/// The steps as a new log of the same id: chain, batches and commitments are all in order.
pub fn rechained(storage: &Memory, steps: &[Step]) -> Memory {
    let log_id = Scan::open(storage, &ScanOptions::default()).unwrap().log_id();
    let written = Memory::new();
    let options = decidable_wal::Options {
        log_id,
        create: true,
        ..decidable_wal::Options::default()
    };
    let (log, _) = Log::open(Arc::new(written.clone()), options, |_| Ok(())).unwrap();
    for step in steps {
        let private = step.private.as_ref().map(|bytes| Private {
            salt: [1; 32],
            bytes: bytes.into(),
        });
        log.append(&[Entry {
            kind: step.kind,
            time_ns: 1,
            payload: (&step.payload).into(),
            private,
        }])
        .unwrap();
    }
    log.close().unwrap();
    written
}
