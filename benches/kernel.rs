//! `cargo bench -p decidable-benches --bench kernel`: deciding and digesting beside the reference implementation, in
//! interleaved rounds of one run. Labels on the command line choose: `-- decide/22 digest`. With `--criterion` criterion
//! measures the kernel alone, against its own earlier runs.

#![allow(missing_docs)]

use std::hint::black_box;

use calybris_core::digest;
use criterion::Criterion;
use decidable_benches::{
    peer,
    rounds::{Contestant, Plan, measure, wanted},
    workload::{self, Workload},
};
use decidable_canon::Canonical as _;
use decidable_kernel::{
    Candidate, Limits, Objective, Policy, Request, RequestFields, Vectors,
    batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, HOLD_ROW_BYTES, Quotes, Rows},
};

const SIZES: [u32; 5] = [4, 22, 64, 256, 1_024];
/// Up to the largest catalog.
const GROWING: [u32; 5] = [64, 256, 1_024, 8_192, 65_535];

fn main() {
    if std::env::args().any(|argument| argument == "--criterion") {
        return alone(&mut Criterion::default().sample_size(50));
    }
    let builds: [fn(u32) -> Workload; 2] = [workload::synthetic, workload::realistic];
    let all = |sizes: [u32; 5]| {
        builds
            .into_iter()
            .flat_map(move |build| sizes.into_iter().map(move |size| (size, build(size))))
    };
    for (size, workload) in all(SIZES) {
        single(size, &workload);
    }
    for (size, workload) in all(SIZES) {
        batches(size, &workload);
        threads(size, &workload);
    }
    for size in [22, 1_024] {
        let twice = twice(&workload::synthetic(size / 2));
        single(size, &twice);
        batches(size, &twice);
    }
    copies();
    for (size, workload) in all([22, 64, 256, 1_024, 4]) {
        beside(size, &workload);
    }
    for workload in [workload::synthetic(22), workload::realistic(22)] {
        objectives(&workload);
        quotes(&workload);
    }
    for (size, workload) in all(GROWING) {
        candidates(size, &workload);
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
    measure(
        &format!("derive/{size}/{name}"),
        Plan::default(),
        1,
        vec![
            Contestant::each("peer", |n| theirs.prescribe(inputs[n as usize & mask])),
            Contestant::each("ours", |n| policy.derive(&requests[n as usize & mask])),
        ],
    );
}

/// Every candidate from two providers: the first two are always equal but for their numbers.
fn twice(workload: &Workload) -> Workload {
    let candidates = workload.policy.candidates();
    let others = candidates.iter().map(|candidate| Candidate {
        model_id: candidate.model_id + 1_000_000,
        provider_id: candidate.provider_id ^ 1,
        ..*candidate
    });
    let candidates = candidates.iter().copied().chain(others).collect();
    Workload {
        name: "twice",
        policy: Policy::new(*workload.policy.limits(), candidates, None).expect("a valid policy"),
        requests: workload.requests.clone(),
    }
}

/// Many at once: the reference takes and returns its own types, ours takes and returns packed rows. With every width of
/// vectors that the machine has.
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
}

/// One thread and two.
fn threads(size: u32, workload: &Workload) {
    let Workload { name, policy, requests } = workload;
    let mut rows = Vec::new();
    for request in requests {
        request.fields().encode(&mut rows);
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

/// What may be asked for beside the decisions of a batch, on one thread. The gates are found one candidate after the other.
fn beside(size: u32, workload: &Workload) {
    let Workload { name, policy, requests } = workload;
    let mut bytes = Vec::new();
    for request in requests {
        request.fields().encode(&mut bytes);
    }
    let (plan, none) = (batch::Plan::threads(1), Quotes::default());
    let rows = Rows::new(&bytes, plan.threads).expect("valid rows");
    let room = |row_bytes: usize| vec![0; requests.len() * row_bytes];
    let mut decided = room(DECISION_ROW_BYTES);
    batch::decide_rows(policy, rows, &none, &mut decided, plan).expect("room for the decisions");
    let (mut out, mut counts, mut holds) = (decided.clone(), room(COUNTS_ROW_BYTES), room(HOLD_ROW_BYTES));
    let mut gates = room(policy.candidates().len());
    measure(
        &format!("beside/{size}/{name}"),
        Plan {
            rounds: 51,
            ..Plan::default()
        },
        requests.len() as u64,
        vec![
            Contestant::each("decisions", |_| batch::decide_rows(policy, rows, &none, &mut out, plan)),
            Contestant::each("counts", |_| {
                batch::count(policy, rows, &none, &decided, &mut counts, plan)
            }),
            Contestant::each("gates", |_| batch::gates(policy, rows, &none, &mut gates, plan)),
            Contestant::each("holds", |_| {
                batch::holds(policy, rows, &none, &decided, &mut holds, plan)
            }),
        ],
    );
}

/// Every objective with every width of vectors, beside one request after the other. The reference knows one objective.
fn objectives(workload: &Workload) {
    let mut rows = Vec::new();
    for request in &workload.requests {
        request.fields().encode(&mut rows);
    }
    for objective in Objective::ALL {
        let limits = Limits {
            objective,
            ..*workload.policy.limits()
        };
        let policy = Policy::new(limits, workload.policy.candidates().to_vec(), None).expect("a valid policy");
        let mut contestants = Vec::new();
        for vectors in Vectors::available() {
            let plan = batch::Plan {
                threads: 1,
                vectors: Some(vectors),
            };
            let (policy, rows) = (&policy, &rows);
            let mut out = vec![0; workload.requests.len() * DECISION_ROW_BYTES];
            contestants.push(Contestant::each(vectors.label(), move |_| {
                batch::decide(policy, rows, &mut out, plan)
            }));
        }
        measure(
            &format!("objective/22/{}/{}", workload.name, objective.label()),
            Plan {
                rounds: 51,
                ..Plan::default()
            },
            workload.requests.len() as u64,
            contestants,
        );
    }
}

/// Quotes for one candidate of every row, and for all of them, beside none; single calls with one, and two threads. The reference
/// knows no quotes.
fn quotes(workload: &Workload) {
    let Workload { name, policy, requests } = workload;
    // Enough for two threads.
    let requests: Vec<_> = requests.iter().cycle().take(4 * requests.len()).collect();
    let count = requests.len();
    let mut bytes = Vec::new();
    for request in &requests {
        request.fields().encode(&mut bytes);
    }
    let candidates: Vec<_> = policy.candidates().iter().map(|candidate| candidate.model_id).collect();
    let quoted = |row: usize, every: usize| {
        let chosen = candidates.iter().skip(row % every).step_by(every);
        chosen.map(|model_id| (*model_id, 100)).collect::<Vec<_>>()
    };
    let beside = |every: usize| {
        let each = (0..count).flat_map(|row| {
            let quotes = quoted(row, every);
            quotes
                .into_iter()
                .map(move |(model_id, cost)| (row as u64, model_id, cost))
        });
        Quotes::new(each, count).expect("quotes in ascending order")
    };
    let (none, one, all) = (Quotes::default(), beside(candidates.len()), beside(1));
    let single: Vec<_> = (requests.iter().enumerate())
        .map(|(row, request)| {
            let quotes = quoted(row, candidates.len());
            (*request)
                .clone()
                .with_quotes(quotes)
                .expect("quotes in ascending order")
        })
        .collect();
    let rows = Rows::new(&bytes, 1).expect("valid rows");
    let mut contestants = Vec::new();
    for (label, quotes, threads) in [
        ("none", &none, 1),
        ("one a row", &one, 1),
        ("two threads", &one, 2),
        ("all", &all, 1),
    ] {
        let mut out = vec![0; count * DECISION_ROW_BYTES];
        contestants.push(Contestant::each(label, move |_| {
            batch::decide_rows(policy, rows, quotes, &mut out, batch::Plan::threads(threads))
        }));
    }
    contestants.push(Contestant::each("single calls", |_| {
        for request in &single {
            black_box(policy.decide(black_box(request)));
        }
    }));
    let plan = Plan {
        rounds: 51,
        ..Plan::default()
    };
    measure(
        &format!("quotes/{}/{name}", candidates.len()),
        plan,
        count as u64,
        contestants,
    );
}

/// Bytes that are copied from memory to memory, and no more, on one thread and on two.
fn copies() {
    const ROWS: usize = 256 * 4_096;
    let label = "threads/copy: 1 and 2";
    let rows = vec![1_u8; ROWS * DECISION_ROW_BYTES];
    let mut rooms = [vec![0; rows.len()], vec![0; rows.len()]];
    let [room, more] = &mut rooms;
    measure(
        label,
        Plan {
            rounds: 51,
            ..Plan::default()
        },
        ROWS as u64,
        vec![
            Contestant::each("one", |_| room.copy_from_slice(black_box(&rows))),
            Contestant::each("two", |_| {
                let half = rows.len() / 2;
                std::thread::scope(|scope| {
                    let (first, second) = more.split_at_mut(half);
                    scope.spawn(|| second.copy_from_slice(black_box(&rows[half..])));
                    first.copy_from_slice(black_box(&rows[..half]));
                });
            }),
        ],
    );
}

/// Single calls, and batches with every width of vectors, in nanoseconds per candidate: where cost grows with the catalog,
/// the numbers stay. A batch has few rows here, and what it prepares for its catalog is in its number.
fn candidates(size: u32, workload: &Workload) {
    let label = format!("candidate/{size}/{}", workload.name);
    if !wanted(&label) {
        return;
    }
    let policy = &workload.policy;
    let requests = &workload.requests[..256];
    let theirs = peer::policy(policy);
    let inputs: Vec<_> = requests.iter().map(|request| peer::input(request.fields())).collect();
    let mut rows = Vec::new();
    for request in requests {
        request.fields().encode(&mut rows);
    }
    let mut contestants = vec![
        Contestant::each("peer", |_| theirs.prescribe_batch(&inputs)),
        Contestant::each("single", |_| {
            for request in requests {
                black_box(policy.decide(black_box(request)));
            }
        }),
    ];
    for vectors in Vectors::available() {
        let plan = batch::Plan {
            threads: 1,
            vectors: Some(vectors),
        };
        let (rows, mut out) = (&rows, vec![0; requests.len() * DECISION_ROW_BYTES]);
        contestants.push(Contestant::each(vectors.label(), move |_| {
            batch::decide(policy, rows, &mut out, plan)
        }));
    }
    let plan = Plan {
        rounds: if size > 1_024 { 15 } else { 51 },
        ..Plan::default()
    };
    measure(&label, plan, requests.len() as u64 * u64::from(size), contestants);
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
    let (mut rows, mut decision_rows) = (Vec::new(), Vec::new());
    for (request, decision) in requests.iter().zip(&decisions) {
        request.fields().encode(&mut rows);
        decision.encode(&mut decision_rows);
    }
    let rows = Rows::new(&rows, 1).expect("valid rows");
    let mut out = vec![0; requests.len() * 32];
    measure(
        "digest/requests of a batch",
        Plan::default(),
        requests.len() as u64,
        vec![
            Contestant::each("peer", |_| {
                for input in &inputs {
                    black_box(digest::input_digest(black_box(input)));
                }
            }),
            Contestant::each("ours", |_| {
                batch::digest_requests(rows, &Quotes::default(), &mut out, batch::Plan::threads(1))
            }),
        ],
    );
    measure(
        "digest/decisions of a batch",
        Plan::default(),
        requests.len() as u64,
        vec![
            Contestant::each("peer", |_| {
                for decision in &their_decisions {
                    black_box(digest::decision_digest(black_box(decision)));
                }
            }),
            Contestant::each("ours", |_| {
                batch::digest_decisions(&decision_rows, &mut out, batch::Plan::threads(1))
            }),
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
