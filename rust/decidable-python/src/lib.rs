//! The extension module behind the Python package `decidable`.
//!
//! It converts values and maps errors; it decides nothing itself.

mod errors;
mod values;
mod decision;
mod model;
mod request;
mod signals;
mod source;
mod explain;
mod batch;
mod logits;
mod arrow;
mod policy;
mod ledger;
mod key;
mod clock;
mod engine;
mod pressure;
mod guard;
mod audit;
mod monitor;
mod log;

use pyo3::prelude::*;

/// The native half of `decidable`; everything public is exported by the package.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::arrow::Decisions;
    #[pymodule_export]
    use super::audit::read_audit;
    #[pymodule_export]
    use super::batch::{after_fork, before_fork, digest_batch, forked, vectors};
    #[pymodule_export]
    use super::clock::ManualClock;
    #[pymodule_export]
    use super::decision::{Action, Decision, Reason};
    #[pymodule_export]
    use super::engine::{Answer, Engine, Settlement};
    #[pymodule_export]
    use super::explain::{Explanation, Lever, Margin, Verdict, WhatWouldWin, visible};
    #[pymodule_export]
    use super::guard::{Automaton, Cursor, Match, Rule, StopReason};
    #[pymodule_export]
    use super::key::Key;
    #[pymodule_export]
    use super::ledger::{Balance, Hold, Ledger, LedgerSnapshot};
    #[pymodule_export]
    use super::log::{Reader, Record, check_head, export_log, verify_exchange, verify_log};
    #[pymodule_export]
    use super::logits::{LogitBounds, LogitStats, logit_stats, logit_stats_from_top_k};
    #[pymodule_export]
    use super::model::{Model, Names};
    #[pymodule_export]
    use super::monitor::Monitor;
    #[pymodule_export]
    use super::policy::{Policy, identity};
    #[pymodule_export]
    use super::pressure::Pressure;
    #[pymodule_export]
    use super::request::Request;

    use super::{Bound, PyAnyMethods as _, PyModule, PyModuleMethods as _, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::batch::run_within_interpreter();
        let sequence = module.py().import("collections.abc")?.getattr("Sequence")?;
        sequence.call_method1("register", (module.getattr("Explanation")?,))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("VECTORS", decidable_kernel::Vectors::best().label())?;
        module.add("MAX_HOLD_BYTES", decidable_guard::MAX_HOLD_BYTES)?;
        module.add("MOST_MATCHES", decidable_guard::MOST_MATCHES)?;
        module.add("LONGEST_PATTERN_BYTES", decidable_guard::LONGEST_PATTERN_BYTES)?;
        module.add("SAFETY_CEILING_BPS", decidable_replay::SAFETY_CEILING_BPS)?;
        module.add("RETAINED_TICKETS", decidable_replay::RETAINED_TICKETS)
    }
}
