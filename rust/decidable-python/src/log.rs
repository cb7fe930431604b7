//! Logs for Python, after the fact: conversions of what is read and found, and reading that an interrupt can end.
//!
//! - `record`: one record and its fields
//! - `reader`: the iterator over them
//! - `verify`: a log, or one of the exchange format, derived again
//! - `export`: the exchange format from a log
//! - `progress`: what someone is told meanwhile
//! - `values`: tails and anchors
//!
//! The live path is `engine`'s; none of it writes to a log.

mod export;
mod progress;
mod reader;
mod record;
mod values;
mod verify;

pub(crate) use self::export::export_log;
pub(crate) use self::reader::Reader;
pub(crate) use self::record::Record;
pub(crate) use self::verify::{check_head, verify_exchange, verify_log};
