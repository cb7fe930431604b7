//! Heads of logs as the documents that people keep.

use decidable_canon::{Digest, hex};
use decidable_wal::Head;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::values::{hex_bytes, integer, members, wrong_type};

/// The schema of a head file.
const HEAD_SCHEMA: &str = "decidable.head.v0";

pub(crate) fn head_dict<'py>(py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("schema_version", HEAD_SCHEMA)?;
    dict.set_item("log_id", hex::encode(&head.log_id))?;
    dict.set_item("seq", head.seq)?;
    dict.set_item("hash", head.hash.to_string())?;
    Ok(dict)
}

pub(crate) fn head_of(value: &Bound<'_, PyAny>) -> PyResult<Head> {
    if !value.is_instance_of::<PyDict>() {
        return Err(wrong_type("head", "a dict or a path", value));
    }
    let item = members("a head", HEAD_SCHEMA, value)?;
    Ok(Head {
        log_id: hex_bytes("log_id", &item("log_id")?)?,
        seq: integer("seq", &item("seq")?)?,
        hash: Digest::from_bytes(hex_bytes("hash", &item("hash")?)?),
    })
}
