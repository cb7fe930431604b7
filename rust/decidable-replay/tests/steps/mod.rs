//! Policies, requests and the state that the tests perform commands on.
#![allow(dead_code, unreachable_pub)]

use std::{collections::BTreeMap, sync::Arc};

use decidable_canon::Digest;
use decidable_kernel::{Candidate, Limits, Names, Objective, Policy, Request, RequestFields};
use decidable_ledger::Balance;
use decidable_replay::{Command, Error, Kind, Record, State};

pub const FREE: u32 = 1;
pub const CHEAP: u32 = 2;
pub const DEAR: u32 = 3;

fn candidate(model_id: u32, quality_bps: u16, rate: u64) -> Candidate {
    Candidate {
        model_id,
        quality_bps,
        p95_latency_ms: 100,
        input_cost_microunits_per_million_tokens: rate,
        output_cost_microunits_per_million_tokens: rate.saturating_mul(4),
        ..Candidate::default()
    }
}

/// The cheapest of a free, a cheap and a dear candidate that meets the request's floor of quality.
pub fn cheapest(policy_epoch: u64) -> Arc<Policy> {
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

/// The same candidates under the shared contract, with names.
pub fn utility() -> Arc<Policy> {
    let catalog = vec![
        candidate(FREE, 2_000, 0),
        candidate(CHEAP, 6_000, 1_000_000),
        candidate(DEAR, 9_000, 50_000_000),
    ];
    let models = BTreeMap::from([
        (FREE, "free".to_owned()),
        (CHEAP, "cheap".to_owned()),
        (DEAR, "dear".to_owned()),
    ]);
    let names = Names::new(models, BTreeMap::new(), BTreeMap::new(), BTreeMap::new()).unwrap();
    Arc::new(Policy::new(Limits::default(), catalog, Some(names)).unwrap())
}

pub fn fields(minimum_quality_bps: u16) -> RequestFields {
    RequestFields {
        input_tokens: 1_000,
        output_tokens: 100,
        business_value_microunits: 1_000_000,
        minimum_quality_bps,
        ..RequestFields::default()
    }
}

/// A request that the candidate wins under [`cheapest`].
pub fn request_for(model: u32) -> Request {
    let floor = match model {
        FREE => 0,
        CHEAP => 5_000,
        DEAR => 9_000,
        _ => 10_000,
    };
    Request::new(fields(floor)).unwrap()
}

pub fn decide(account: Option<u32>, request: Request) -> Command {
    Command::Decide {
        policy: 0,
        account,
        request,
        caller_key: None,
        proposed: None,
    }
}

pub fn keyed(account: Option<u32>, request: Request, key: u8) -> Command {
    let caller_key = Some(Digest::from_bytes([key; 32]));
    Command::Decide {
        policy: 0,
        account,
        request,
        caller_key,
        proposed: None,
    }
}

/// What two states that agree have in common, as far as anyone can ask.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub policies: Vec<Digest>,
    pub balances: Vec<Balance>,
    pub next_request: u64,
    pub tickets: Vec<String>,
}

pub fn seen(state: &State) -> Seen {
    state.ledger().verify().unwrap();
    let balances: Vec<Balance> = (0..state.accounts())
        .map(|account| state.balance(account).unwrap())
        .collect();
    for balance in &balances {
        assert_eq!(
            balance.remaining + balance.reserved + balance.committed,
            balance.initial
        );
        assert!(
            balance
                .remaining
                .min(balance.reserved)
                .min(balance.committed)
                .min(balance.debt)
                >= 0
        );
        assert!(balance.debt == 0 || balance.remaining == 0);
    }
    Seen {
        policies: state.policies().iter().map(|policy| policy.digest()).collect(),
        balances,
        next_request: state.next_request(),
        tickets: (1..state.next_request())
            .map(|number| format!("{:?}", state.ticket(number)))
            .collect(),
    }
}

/// A state, and the records it wrote.
pub struct Written {
    pub state: State,
    pub records: Vec<(u64, Kind, Vec<u8>)>,
}

impl Written {
    pub fn new() -> Self {
        Self::on(State::new())
    }
    pub fn on(state: State) -> Self {
        Self {
            state,
            records: Vec::new(),
        }
    }
    /// [`cheapest`] and an account with so much.
    pub fn with_account(initial: i64) -> Self {
        let mut written = Self::new();
        written
            .perform(Command::InstallPolicy {
                policy: cheapest(1),
                provenance: "by hand".to_owned(),
            })
            .unwrap();
        written.perform(Command::OpenAccount { initial }).unwrap();
        written
    }
    pub fn perform(&mut self, command: Command) -> Result<Record, Error> {
        let seq = 10 + u64::try_from(self.records.len()).unwrap();
        let record = self.state.perform(seq, command)?;
        let mut payload = Vec::new();
        record.encode(&mut payload);
        self.records.push((seq, record.kind(), payload));
        Ok(record)
    }
    pub fn replay_on(&self, mut state: State) -> State {
        for (seq, kind, payload) in &self.records {
            let record = state.replay(*seq, *kind, payload).unwrap();
            assert_eq!(record.kind(), *kind);
        }
        state
    }
}
