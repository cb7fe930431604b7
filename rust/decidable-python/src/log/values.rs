//! Tails and anchors as dictionaries, and an anchor back.
//!
//! It knows nothing of where they come from.

use decidable_wal::exchange::Anchor;
use decidable_wal::{Tail, TailReason};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{Class, raise};
use crate::values::{instead, integer, text, truth};

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
    let item = |name: &str| {
        value.get_item(name).map_err(|error| {
            instead(value.py(), error, || {
                let message = format!("an anchor needs {name:?}");
                raise(
                    value.py(),
                    Class::InvalidInput,
                    "head.incomplete",
                    &message,
                    |details| details.set_item("field", name),
                )
            })
        })
    };
    let schema = text("schema_version", &item("schema_version")?)?;
    if schema != ANCHOR_SCHEMA {
        let message = format!("the anchor's schema is {schema:?}, not {ANCHOR_SCHEMA:?}");
        return Err(raise(
            value.py(),
            Class::InvalidInput,
            "head.unknown_schema",
            &message,
            |details| {
                details.set_item("field", "schema_version")?;
                details.set_item("value", &schema)
            },
        ));
    }
    Ok(Anchor {
        sequence: integer("sequence", &item("sequence")?)?,
        last_hash: decidable_canon::Digest::from_bytes(crate::values::hex_bytes("last_hash", &item("last_hash")?)?),
        keyed: truth("keyed", &item("keyed")?)?,
    })
}
