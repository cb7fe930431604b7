//! Decides rows of a workload between two lines that it prints, for `benches/python/instructions.py`, which counts what is
//! executed between them; before, how long a decision and a cycle take, in nanoseconds.
//!
//! `rows SIZE syn|real VECTORS ROWS`

use std::{hint::black_box, time::Instant};

use decidable_benches::workload;
use decidable_canon::Canonical as _;
use decidable_kernel::{
    Vectors,
    batch::{self, DECISION_ROW_BYTES, Plan, REQUEST_ROW_BYTES},
};

const ROUNDS: usize = 101;
const STEPS: u64 = 1 << 16;

/// The median of as many rounds, in nanoseconds.
fn median(mut round: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2] as f64
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [size, name, label, count] = arguments.as_slice() else {
        panic!("rows SIZE syn|real VECTORS ROWS");
    };
    let size = size.parse().expect("a number of candidates");
    let workload = match name.as_str() {
        "syn" => workload::synthetic(size),
        _ => workload::realistic(size),
    };
    let mut rows = Vec::new();
    for request in &workload.requests {
        request.fields().encode(&mut rows);
    }
    let count: usize = count.parse().expect("a number of rows");
    let few = &rows[..count * REQUEST_ROW_BYTES];
    let mut out = vec![0; workload.requests.len() * DECISION_ROW_BYTES];
    let plan = Plan {
        threads: 1,
        vectors: Vectors::available().find(|vectors| vectors.label() == label),
    };
    let mut decide = |rows: &[u8]| {
        let decisions = rows.len() / REQUEST_ROW_BYTES;
        let room = &mut out[..decisions * DECISION_ROW_BYTES];
        batch::decide(&workload.policy, rows, room, plan).expect("room for the decisions");
        decisions as f64
    };
    let mut decisions = 0.0;
    let decision = median(|| decisions = decide(&rows)) / decisions;
    // Two steps that wait for each other take two cycles.
    let cycle = median(|| {
        let steps = 0..black_box(STEPS);
        black_box(steps.fold(black_box(1_u64), |sum, step| sum.rotate_left(1) ^ step));
    }) / (2 * STEPS) as f64;
    println!("{decision} {cycle}");
    println!("begin");
    decide(few);
    println!("end");
}
