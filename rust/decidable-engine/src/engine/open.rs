//! From a log to an engine: the records are followed, and the policy is installed if it has to be.
//!
//! It knows nothing of the steps that come later.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use decidable_canon::{Key, cast};
use decidable_kernel::Policy;
use decidable_replay::{Command, Record};
use decidable_wal::{Durability, Head, Opening, Storage};

use super::decide::Kernel;
use super::room::room;
use crate::salts::{Salts, random};

use super::{Core, Decide, Engine};
use crate::{Book, Clock, Entry, Error};

/// How an engine is opened.
pub struct Options {
    /// The policy that decides. It is installed if it is not the one installed last.
    pub policy: Arc<Policy>,
    /// Where catalog and prices came from; kept in the policy's record.
    pub provenance: String,
    /// The key that seals the log, if it is sealed.
    pub key: Option<Key>,
    /// Whether an answer waits until its record is durable.
    pub sync: Durability,
    /// A head that was kept elsewhere: the log must contain it.
    pub head: Option<Head>,
    /// Whether the log is opened although something may be a power loss and may be damage: a damaged end is cut and kept,
    /// and of accounts whose names are gone it is recorded that they are erased.
    pub recover: bool,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How decisions are made, where it is not the kernel itself.
    pub decide: Option<Box<dyn Decide>>,
    /// Is told the numbers of the records while the log is read, once as it is verified and once as it is followed. With an
    /// error it ends the opening, and nothing was changed.
    pub watch: Option<Watch>,
}

/// See [`Options::watch`].
pub type Watch = Box<dyn FnMut(u64) -> Result<(), String> + Send>;

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("sync", &self.sync)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the log in `storage`, or creates it, rebuilds the state from its records, and installs the policy if it is
    /// not the one installed last. Tickets that an earlier process left open are in doubt.
    ///
    /// # Errors
    /// If the log is locked, damaged, sealed under another key, or does not follow from its own records; `NameGone`.
    pub fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Self, Error> {
        let Options {
            policy,
            provenance,
            key,
            sync,
            head,
            recover,
            clock,
            decide,
            watch,
        } = options;
        // Verifying and following take turns with it.
        let watch = RefCell::new(watch);
        let watched = |seq| watch.borrow_mut().as_mut().map_or(Ok(()), |watch| watch(seq));
        // What could be refused is refused before a log is created for it.
        room(
            &Command::InstallPolicy {
                policy: Arc::clone(&policy),
                provenance: provenance.clone(),
            },
            None,
        )?;
        let mut book = Book::new();
        let mut recorded = None;
        let mut fault = None;
        let opening = Opening::begin(
            storage,
            decidable_wal::Options {
                key,
                sync,
                head,
                log_id: log_id()?,
                boot_id: decidable_wal::boot_id(),
                recover,
                time_ns: clock.now_ns(),
                create: true,
                ..decidable_wal::Options::default()
            },
            watched,
            |framed| {
                let entry = book.read(framed).map_err(|error| {
                    let message = error.to_string();
                    fault = Some(error);
                    message
                })?;
                if let Entry::Step(Record::Policy { policy, provenance, .. }) = entry {
                    recorded = Some((policy, provenance));
                }
                watched(framed.seq)
            },
        );
        let opening = match (opening, fault) {
            (_, Some(fault)) => return Err(fault),
            (Err(error), None) => return Err(error.into()),
            (Ok(opening), None) => opening,
        };
        if !recover {
            book.expect_names(opening.scanned())?;
        }
        let gone: Vec<_> = book.names_gone(opening.scanned()).map(|(seq, _)| seq).collect();
        let (log, opened) = opening.finish(&gone)?;
        // What says nothing of where the policy came from is not recorded in place of what does.
        let installed = recorded.filter(|(installed, recorded)| {
            installed.digest() == policy.digest() && (provenance.is_empty() || provenance == *recorded)
        });
        let install = installed.is_none();
        let policy = installed.map_or(policy, |(installed, _)| installed);
        let engine = Self {
            core: Mutex::new(Core {
                policy: 0,
                first: book.state().next_request(),
                acted: BTreeMap::new(),
                answered_again: BTreeMap::new(),
                erasures: Vec::new(),
                log_id: log.log_id(),
                book,
                payload: Vec::new(),
                salts: Salts::default(),
            }),
            log,
            opened,
            policy: Arc::clone(&policy),
            clock,
            decide: decide.unwrap_or_else(|| Box::new(Kernel)),
            stopped: AtomicBool::new(false),
        };
        if install {
            let step = {
                let mut core = engine.core()?;
                engine
                    .perform(&mut core, Command::InstallPolicy { policy, provenance }, None)?
                    .1
            };
            engine.wait(step.seq, None)?;
        }
        {
            let mut core = engine.core()?;
            let count = core.book.state().policies().len();
            // The state numbers policies in 32 bits and refuses one more; a number that none has would be refused too.
            core.policy = cast::u32_from_usize(count.saturating_sub(1)).unwrap_or(u32::MAX);
        }
        Ok(engine)
    }
}

fn log_id() -> Result<[u8; 16], Error> {
    let mut id = [0; 16];
    random(&mut id)?;
    Ok(id)
}
