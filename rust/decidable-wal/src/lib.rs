//! A tamper-evident, append-only log in one directory.
//!
//! Records are framed, chained by SHA-256 and written in batches: one write and one sync for everything that was queued
//! meanwhile, and no acknowledgement before the sync has returned. After a crash a batch is there whole or not at all. A
//! log may also be sealed under a key; the chain itself needs none, so anyone can check it. docs/spec/log.md gives the
//! bytes.
//!
//! It does not know what a record means: a record is a kind and bytes. It reads no clock and draws no random numbers:
//! times, log ids and salts are arguments. One process writes; any number may [`scan`], which never writes.
//!
//! ```
//! use std::sync::Arc;
//! use decidable_wal::{Entry, Log, Memory, Options, ScanOptions, Storage, scan};
//!
//! let storage: Arc<dyn Storage> = Arc::new(Memory::new());
//! let options = Options { log_id: [7; 16], create: true, ..Options::default() };
//! let (log, _) = Log::open(storage.clone(), options, |_| Ok(()))?;
//! let at = log.append(&[Entry { kind: 16, time_ns: 1, payload: b"hello".into(), private: None }])?;
//! log.wait(at.last, None)?;                       // durable from here on
//! let head = log.close()?;
//!
//! let scanned = scan(&*storage, &ScanOptions { head: Some(head), ..ScanOptions::default() }, |record| {
//!     assert!(record.kind < 16 || record.payload == b"hello");
//!     Ok(())
//! })?;
//! assert_eq!(scanned.head, head);
//! # Ok::<(), decidable_wal::Error>(())
//! ```

mod error;
mod join;
mod record;
mod note;
mod storage;
mod files;
mod memory;
mod segment;
mod frame;
mod source;
mod batch;
mod walk;
mod found;
mod scan;
mod gathered;
mod writer;
mod recover;
mod queue;
mod open;
mod log;
pub mod exchange;

pub use error::{Error, ErrorKind};
pub use files::{Files, above_standard, boot_id};
pub use found::{Scanned, Tail, TailReason};
pub use frame::{FRAME_PAYLOAD_BYTES_MAX, frame_bytes};
pub use log::{Erased, Erasure, Log};
pub use memory::{Fault, Memory};
pub use note::{CALLER_KIND_MIN, Durability, Note, NoteKind, RecoveryReason};
pub use open::{Opened, Opening, Options};
pub use queue::{QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX};
pub use record::{
    Entry, GROUP_BYTES_MAX, GROUP_RECORDS_MAX, Head, PRIVATE_BYTES_MAX, Position, Private, PrivatePart,
    RECORD_BYTES_MAX, Record, commitment,
};
pub use recover::Recovery;
pub use scan::{Scan, ScanOptions, scan, scan_bytes};
pub use segment::SEGMENT_NAME;
pub use storage::{Access, FileState, Lock, Locking, Storage, StoredFile};
