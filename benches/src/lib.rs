//! What the benches share: workloads, the reference implementation's types, and a harness that measures contestants
//! in turn within one run, so that a noisy machine is noisy for all of them.

pub mod random;
pub mod rounds;
pub mod workload;
pub mod cases;
pub mod peer;
