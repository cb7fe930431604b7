//! `cargo bench -p decidable-benches --bench kernel`: deciding and digesting beside the reference implementation, in
//! interleaved rounds of one run. Labels on the command line choose: `-- decide/22 digest`. With `--criterion` criterion
//! measures the kernel alone, against its own earlier runs.

#![allow(missing_docs)]

use calybris_core::digest;
use criterion::Criterion;
use decidable_benches::{
    peer,
    rounds::{Contestant, Plan, measure},
    workload::{self, Workload},
};
use decidable_canon::Canonical as _;
use decidable_kernel::{
    Policy, Request, RequestFields, Vectors,
    batch::{self, DECISION_ROW_BYTES},
};

const SIZES: [u32; 5] = [4, 22, 64, 256, 1_024];

fn main() {
    if std::env::args().any(|argument| argument == "--criterion") {
        return alone(&mut Criterion::default().sample_size(50));
    }
    let builds: [fn(u32) -> Workload; 2] = [workload::synthetic, workload::realistic];
    let all = || {
        builds
            .into_iter()
            .flat_map(|build| SIZES.map(|size| (size, build(size))))
    };
    for (size, workload) in all() {
        single(size, &workload);
    }
    for (size, workload) in all() {
        batches(size, &workload);
    }
    refused(&workload::realistic(22));
    digests(&workload::realistic(22));
}

/// The kernel alone, with criterion's statistics.
fn alone(criterion: &mut Criterion) {
    for workload in [workload::synthetic(22), workload::realistic(22)] {
        let Workload { name, policy, requests } = &workload;
        let mut next = requests.iter().cycle();
        criterion.bench_function(&format!("decide/22/{name}"), |bencher| {
            bencher.iter(|| next.next().map(|request| policy.decide(request)));
        });
        criterion.bench_function(&format!("explain/22/{name}"), |bencher| {
            bencher.iter(|| next.next().map(|request| policy.explain(request)));
        });
        criterion.bench_function(&format!("margin/22/{name}"), |bencher| {
            bencher.iter(|| next.next().map(|request| policy.margin(request)));
        });
    }
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

/// Many at once: the reference takes and returns its own types, ours takes and returns packed rows. With every width of
/// vectors that the machine has, and on two threads.
fn batches(size: u32, workload: &Workload) {
    let Workload { name, policy, requests } = workload;
    let theirs = peer::policy(policy);
    let inputs: Vec<_> = requests.iter().map(|request| peer::input(request.fields())).collect();
    let mut rows = Vec::new();
    for request in requests {
        request.fields().encode(&mut rows);
    }
    let mut out = vec![0; requests.len() * DECISION_ROW_BYTES];
    for vectors in Vectors::available() {
        let plan = batch::Plan {
            threads: 1,
            vectors: Some(vectors),
        };
        measure(
            &format!("batch/{size}/{name}/{}", vectors.label()),
            Plan {
                rounds: 51,
                ..Plan::default()
            },
            requests.len() as u64,
            vec![
                Contestant::each("peer", |_| theirs.prescribe_batch(&inputs)),
                Contestant::each("ours", |_| batch::decide(policy, &rows, &mut out, plan)),
            ],
        );
    }
    let many: Vec<u8> = rows.repeat(16);
    let mut out = vec![0; 16 * requests.len() * DECISION_ROW_BYTES];
    let mut more = out.clone();
    measure(
        &format!("threads/{size}/{name}: 1 and 2"),
        Plan {
            rounds: 51,
            ..Plan::default()
        },
        16 * requests.len() as u64,
        vec![
            Contestant::each("one", |_| {
                batch::decide(policy, &many, &mut out, batch::Plan::threads(1))
            }),
            Contestant::each("two", |_| {
                batch::decide(policy, &many, &mut more, batch::Plan::threads(2))
            }),
        ],
    );
}

/// Requests that the policy's risk limit refuses before any candidate is looked at.
fn refused(workload: &Workload) {
    let Workload { policy, requests, .. } = workload;
    let theirs = peer::policy(policy);
    let fields = RequestFields {
        risk_bps: 9_900,
        ..*requests[0].fields()
    };
    let (request, input) = (Request::new(fields).expect("in range"), peer::input(&fields));
    measure(
        "decide/refused",
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |_| theirs.prescribe(input)),
            Contestant::each("ours", |_| policy.decide(&request)),
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
    // Ours is computed once, when the policy is built; the reference's on every call. Then both built and digested.
    measure(
        "digest/policy/22",
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |_| digest::policy_digest(&theirs)),
            Contestant::each("ours", |_| std::hint::black_box(policy).digest()),
        ],
    );
    let limits = *policy.limits();
    measure(
        "build+digest/policy/22",
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |_| digest::policy_digest(&peer::policy(policy))),
            Contestant::each("ours", |_| {
                Policy::new(limits, policy.candidates().to_vec(), None).map(|policy| policy.digest())
            }),
        ],
    );
}
