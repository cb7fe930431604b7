//! `cargo bench -p decidable-benches --bench kernel`: deciding and digesting beside the reference implementation, in
//! interleaved rounds of one run.

#![allow(missing_docs)]

use calybris_core::digest;
use decidable_benches::{
    peer,
    rounds::{Contestant, Plan, measure},
    workload::{self, Workload},
};
use decidable_canon::Canonical as _;
use decidable_kernel::batch::{self, DECISION_ROW_BYTES};

const SIZES: [u32; 4] = [4, 22, 64, 256];

fn main() {
    for build in [workload::synthetic, workload::realistic] {
        for size in SIZES {
            let workload = build(size);
            single(size, &workload);
        }
    }
    for build in [workload::synthetic, workload::realistic] {
        for size in SIZES {
            let workload = build(size);
            batches(size, &workload);
        }
    }
    digests(&workload::realistic(22));
}

/// One decision at a time.
fn single(size: u32, workload: &Workload) {
    let Workload { name, policy, requests } = workload;
    let theirs = peer::policy(policy);
    let inputs: Vec<_> = requests.iter().map(|request| peer::input(request.fields())).collect();
    for (request, input) in requests.iter().zip(&inputs) {
        assert_eq!(policy.decide(request), peer::decision(&theirs.prescribe(*input)));
    }
    let mask = requests.len() - 1;
    measure(
        &format!("decide/{size}/{name}"),
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |n| theirs.prescribe(inputs[n as usize & mask])),
            Contestant::each("ours", |n| policy.decide(&requests[n as usize & mask])),
        ],
    );
}

/// The whole stream at once: the reference takes and returns its own types, ours takes and returns packed rows.
fn batches(size: u32, workload: &Workload) {
    let Workload { name, policy, requests } = workload;
    let theirs = peer::policy(policy);
    let inputs: Vec<_> = requests.iter().map(|request| peer::input(request.fields())).collect();
    let mut rows = Vec::new();
    for request in requests {
        request.fields().encode(&mut rows);
    }
    let mut out = vec![0; requests.len() * DECISION_ROW_BYTES];
    measure(
        &format!("batch/{size}/{name}"),
        Plan::default(),
        requests.len() as u64,
        vec![
            Contestant::each("peer", |_| theirs.prescribe_batch(&inputs)),
            Contestant::each("ours", |_| batch::decide(policy, &rows, &mut out, 1)),
        ],
    );
}

fn digests(workload: &Workload) {
    let Workload { policy, requests, .. } = workload;
    let theirs = peer::policy(policy);
    let inputs: Vec<_> = requests.iter().map(|request| peer::input(request.fields())).collect();
    let decisions: Vec<_> = requests.iter().map(|request| policy.decide(request)).collect();
    let their_decisions: Vec<_> = inputs.iter().map(|input| theirs.prescribe(*input)).collect();
    let mask = requests.len() - 1;
    measure(
        "digest/request",
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |n| digest::input_digest(&inputs[n as usize & mask])),
            Contestant::each("ours", |n| requests[n as usize & mask].digest()),
        ],
    );
    measure(
        "digest/decision",
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |n| digest::decision_digest(&their_decisions[n as usize & mask])),
            Contestant::each("ours", |n| decisions[n as usize & mask].digest()),
        ],
    );
    let limits = *policy.limits();
    measure(
        "digest/policy/22",
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |_| digest::policy_digest(&theirs)),
            Contestant::each("ours", |_| {
                decidable_kernel::Policy::new(limits, policy.candidates().to_vec(), None).map(|policy| policy.digest())
            }),
        ],
    );
}
