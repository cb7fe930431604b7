//! The workloads are those of the Python package: both compare theirs with `workloads.json`.

#![allow(missing_docs)]

use std::collections::BTreeMap;

use decidable_benches::workload::{self, Workload};
use decidable_canon::Digest;

/// SHA-256 of the policy's digest and of every request's, in order.
fn digest(workload: &Workload) -> String {
    let mut digests = workload.policy.digest().bytes().to_vec();
    for request in &workload.requests {
        digests.extend_from_slice(request.digest().bytes());
    }
    Digest::of(&digests).to_string()
}

#[test]
fn the_workloads_are_those_of_the_python_package() {
    let expected: BTreeMap<String, String> = serde_json::from_str(include_str!("../workloads.json")).unwrap();
    let found: BTreeMap<String, String> = [workload::synthetic, workload::realistic]
        .into_iter()
        .flat_map(|build| [1, 4, 22, 64, 256, 1_024].map(|size| (size, build(size))))
        .map(|(size, workload)| (format!("{}/{size}", workload.name), digest(&workload)))
        .collect();
    assert_eq!(found, expected);
}
