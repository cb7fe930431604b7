//! Verifying a log, and a JSON-lines log of the exchange format: what is given, and what was found.
//!
//! It knows no rule: what follows from records is the engine's to say.

use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use decidable_canon::Key;
use decidable_wal::Files;
use decidable_wal::exchange::Anchor;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::progress::Progress;
use super::values::{anchor_dict, anchor_of, tail_dict};
use crate::engine::{head_dict, head_of};
use crate::errors::{self, Class, raise};
use crate::key::keyed;
use crate::ledger::Balance;
use crate::policy::Policy;
use crate::source::Source;
use crate::values::{all_of, reason};

/// The policies that someone gave. Nobody means an empty list: it would read as if all that the log has were approved.
fn given(policies: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<Arc<decidable_kernel::Policy>>>> {
    let Some(policies) = policies else {
        return Ok(None);
    };
    let given = all_of("policies", "a sequence of Policy", policies, |policy: &Policy| {
        Arc::clone(&policy.0)
    })?;
    if given.is_empty() {
        let message = "policies is empty: leave it out where none were approved";
        return Err(raise(
            policies.py(),
            Class::InvalidInput,
            "input.empty",
            message,
            |details| {
                details.set_item("field", "policies")?;
                details.set_item("value", policies)
            },
        ));
    }
    Ok(Some(given))
}

/// Derives a log again from its records alone.
#[pyfunction]
#[pyo3(signature = (path, *, policies=None, key=None, head=None, progress=None))]
pub(crate) fn verify_log<'py>(
    py: Python<'py>,
    path: PathBuf,
    policies: Option<&Bound<'py, PyAny>>,
    key: Option<&Bound<'py, PyAny>>,
    head: Option<&Bound<'py, PyAny>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let key = keyed(key)?;
    let head = head.map(head_of).transpose()?;
    let digests = given(policies)?.map(|policies| policies.iter().map(|policy| policy.digest()).collect::<Vec<_>>());
    let mut progress = Progress::to(py, progress.as_ref())?;
    let verified = py.detach(|| {
        decidable_engine::verify(&Files::new(path.clone()), key, head, digests.as_deref(), |seq| {
            progress.step(seq)
        })
    });
    if let Some(interrupted) = progress.interrupted {
        return Err(interrupted);
    }
    let verified = verified.map_err(|error| errors::reading(py, &error, &path))?;
    let scanned = &verified.scanned;
    let found = PyDict::new(py);
    found.set_item("head", head_dict(py, &scanned.head)?)?;
    found.set_item("records", scanned.records)?;
    found.set_item("batches", scanned.batches)?;
    found.set_item("bytes", scanned.bytes)?;
    found.set_item("sessions", scanned.sessions)?;
    found.set_item("opened_seq", scanned.opened_seq)?;
    found.set_item("recoveries", scanned.recoveries)?;
    found.set_item("closed", scanned.closed)?;
    found.set_item("keyed", scanned.keyed)?;
    found.set_item("sealed", scanned.sealed)?;
    found.set_item("head_found", scanned.head_found)?;
    found.set_item("erased", &scanned.erased)?;
    found.set_item("unfinished_erasures", &scanned.unfinished_erasures)?;
    found.set_item("unrecorded_erasures", &scanned.unrecorded_erasures)?;
    let tail = scanned.tail.map(|tail| tail_dict(py, &tail)).transpose()?;
    found.set_item("tail", tail)?;
    found.set_item("decisions", verified.decisions)?;
    found.set_item("refusals", verified.refusals)?;
    found.set_item("settlements", verified.settlements)?;
    found.set_item("outcomes", verified.outcomes)?;
    found.set_item("policies", verified.policies)?;
    let balances: Vec<Bound<'_, Balance>> = verified
        .balances
        .into_iter()
        .map(|(name, balance)| Bound::new(py, Balance::new(name, balance)))
        .collect::<PyResult<_>>()?;
    found.set_item("balances", balances)?;
    let open_tickets = verified
        .open_tickets
        .into_iter()
        .map(|ticket| {
            let dict = PyDict::new(py);
            dict.set_item("request_sequence", ticket.number)?;
            dict.set_item("seq", ticket.seq)?;
            dict.set_item("account", ticket.account)?;
            dict.set_item("hold_microunits", ticket.held)?;
            PyResult::Ok(dict)
        })
        .collect::<PyResult<Vec<_>>>()?;
    found.set_item("open_tickets", open_tickets)?;
    Ok(found)
}

/// Refuses what is neither a head nor an anchor of the exchange format.
#[pyfunction]
pub(crate) fn check_head(head: &Bound<'_, PyDict>) -> PyResult<()> {
    if head.contains("last_hash")? {
        anchor_of(head).map(drop)
    } else {
        head_of(head).map(drop)
    }
}

/// Verifies a JSON-lines log of the exchange format.
#[pyfunction]
#[pyo3(signature = (path, *, policies=None, key=None, anchor=None, progress=None))]
pub(crate) fn verify_exchange<'py>(
    py: Python<'py>,
    path: PathBuf,
    policies: Option<&Bound<'py, PyAny>>,
    key: Option<&Bound<'py, PyAny>>,
    anchor: Option<&Bound<'py, PyAny>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let key: Option<Key> = keyed(key)?;
    let anchor = anchor.map(anchor_of).transpose()?;
    let owned = given(policies)?.unwrap_or_default();
    let shown = path.display().to_string();
    let mut source = py.detach(|| Source::open(&path)).map_err(|error| {
        raise(
            py,
            Class::InvalidInput,
            "log.unreadable",
            &format!("{shown} cannot be read: {}", reason(&error)),
            |details| details.set_item("path", path.as_os_str()),
        )
    })?;
    let mut progress = Progress::to(py, progress.as_ref())?;
    let verified = py.detach(|| {
        let borrowed: Vec<&decidable_kernel::Policy> = owned.iter().map(|policy| &**policy).collect();
        decidable_engine::verify_exchange(BufReader::new(&mut source), key, anchor, &borrowed, |seq| {
            progress.step(seq)
        })
    });
    if let Some(interrupted) = progress.interrupted.or(source.interrupted) {
        return Err(interrupted);
    }
    let verified = verified.map_err(|error| errors::engine(py, &error))?;
    let found = PyDict::new(py);
    let read = &verified.read;
    found.set_item("records", read.entries)?;
    found.set_item("bytes", read.bytes)?;
    found.set_item("keyed", read.keyed)?;
    found.set_item("anchor_found", read.anchor_found)?;
    let head = read
        .last
        .map(|last_hash| {
            anchor_dict(
                py,
                &Anchor {
                    sequence: read.entries,
                    last_hash,
                    keyed: read.keyed,
                },
            )
        })
        .transpose()?;
    found.set_item("head", head)?;
    let tail = read
        .tail
        .map(|tail| {
            let dict = PyDict::new(py);
            dict.set_item("offset", tail.offset)?;
            dict.set_item("bytes", tail.bytes)?;
            dict.set_item("reason", "incomplete")?;
            PyResult::Ok(dict)
        })
        .transpose()?;
    found.set_item("tail", tail)?;
    found.set_item("rederived", verified.rederived)?;
    let missing: Vec<String> = verified.missing_policies.iter().map(ToString::to_string).collect();
    found.set_item("missing_policies", missing)?;
    found.set_item("unnamed", verified.unnamed)?;
    Ok(found)
}
