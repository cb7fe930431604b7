//! The files of audits, read and checked.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use decidable_canon::Digest;
use decidable_guard::audit::{Audit, AuditError, AuditErrorKind, Head};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::errors::{Class, raise};
use crate::key::keyed;
use crate::values::reason;

/// An audit has at most this many bytes, some five million tokens; a file that is larger is something else.
const AUDIT_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn about(py: Python<'_>, class: Class, code: &str, why: &str, path: &Path) -> PyErr {
    let shown = path.display().to_string();
    raise(py, class, code, &format!("the audit {shown} {why}"), |details| {
        details.set_item("path", path.as_os_str())
    })
}

fn audit_error(py: Python<'_>, error: &AuditError, path: &Path) -> PyErr {
    let class = match error.kind() {
        AuditErrorKind::Damaged | AuditErrorKind::SealBroken => Class::VerificationError,
        AuditErrorKind::WrongKey | AuditErrorKind::NotSealed => Class::LogUnavailable,
    };
    let shown = path.display().to_string();
    raise(py, class, error.code(), &format!("{shown}: {error}"), |details| {
        details.set_item("path", path.as_os_str())?;
        details.set_item("offset", error.offset())?;
        details.set_item("what", error.code())
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe or a device may have no end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut raw = Vec::new();
    File::open(path)?
        .take(AUDIT_BYTES_MAX.saturating_add(1))
        .read_to_end(&mut raw)?;
    if decidable_canon::cast::u64_from_usize(raw.len()) > AUDIT_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {AUDIT_BYTES_MAX} bytes")));
    }
    Ok(raw)
}

/// What an audit says, every frame of it checked.
#[pyfunction]
#[pyo3(signature = (path, key=None))]
pub(crate) fn read_audit<'py>(
    py: Python<'py>,
    path: PathBuf,
    key: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let key = keyed(key)?;
    let raw = py.detach(|| read(&path)).map_err(|error| {
        let why = format!("cannot be read: {}", reason(&error));
        about(py, Class::InvalidInput, "audit.unreadable", &why, &path)
    })?;
    let audit = py
        .detach(|| Audit::read(&raw, key.as_ref()))
        .map_err(|error| audit_error(py, &error, &path))?;
    let digest = |digest: &Digest| PyBytes::new(py, digest.bytes());
    let found = PyDict::new(py);
    let Head {
        id,
        boot_id,
        created_ns,
        rules,
        decision,
        model,
    } = &audit.head;
    found.set_item("id", PyBytes::new(py, id))?;
    found.set_item("boot_id", boot_id.as_ref().map(|id| PyBytes::new(py, id)))?;
    found.set_item("created_ns", created_ns)?;
    found.set_item("rules", digest(rules))?;
    found.set_item(
        "decision",
        decision.as_ref().map(|(number, identity)| (*number, digest(identity))),
    )?;
    found.set_item("model", model)?;
    found.set_item("sealed", audit.sealed)?;
    let frames = audit.frames.iter().map(|frame| {
        (
            frame.step_seq,
            frame.token_id,
            frame.timestamp_ns,
            digest(&frame.chain_hash),
        )
    });
    found.set_item("frames", PyList::new(py, frames)?)?;
    let matches = audit.matches.iter().map(|each| {
        let at = &each.found;
        (at.rule, at.start, at.end, each.step_seq, each.text.as_ref().map(digest))
    });
    found.set_item("matches", PyList::new(py, matches)?)?;
    let end = audit.end.map(|end| {
        (
            end.ending.label(),
            end.timestamp_ns,
            end.tokens,
            end.matches,
            end.taken,
            end.released,
        )
    });
    found.set_item("end", end)?;
    found.set_item("hash", digest(&audit.chain))?;
    found.set_item("tail", audit.tail.map(|tail| (tail.offset, tail.bytes)))?;
    Ok(found)
}
