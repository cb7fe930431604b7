//! Tails and anchors as dictionaries, and an anchor back.
//!
//! It knows nothing of where they come from.

use decidable_canon::Digest;
use decidable_wal::exchange::Anchor;
use decidable_wal::{Tail, TailReason};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::values::{hex_bytes, integer, members, truth};

pub(super) fn tail_dict<'py>(py: Python<'py>, tail: &Tail) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("offset", tail.offset)?;
    dict.set_item("bytes", tail.bytes)?;
    let reason = match tail.reason {
        TailReason::Incomplete => "incomplete",
        TailReason::Zeros => "zeros",
        TailReason::Damaged => "damaged",
    };
    dict.set_item("reason", reason)?;
    Ok(dict)
}

const ANCHOR_SCHEMA: &str = "calybris.wal-anchor.v1";

pub(super) fn anchor_dict<'py>(py: Python<'py>, anchor: &Anchor) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("schema_version", ANCHOR_SCHEMA)?;
    dict.set_item("sequence", anchor.sequence)?;
    dict.set_item("last_hash", anchor.last_hash.to_string())?;
    dict.set_item("keyed", anchor.keyed)?;
    Ok(dict)
}

pub(super) fn anchor_of(value: &Bound<'_, PyAny>) -> PyResult<Anchor> {
    let item = members("an anchor", ANCHOR_SCHEMA, value)?;
    Ok(Anchor {
        sequence: integer("sequence", &item("sequence")?)?,
        last_hash: Digest::from_bytes(hex_bytes("last_hash", &item("last_hash")?)?),
        keyed: truth("keyed", &item("keyed")?)?,
    })
}
