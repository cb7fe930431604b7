//! What is erased for good, and how an engine ends: closed, drained, or abandoned in a forked child.
//!
//! It knows no step: what is half-way between state and log is kept apart by the lock alone.

use std::sync::PoisonError;
use std::time::Duration;

use decidable_wal::Head;

use super::Engine;
use crate::Error;

impl Engine {
    /// Erases the private parts of records, and what recovery has cut and kept, for good. Every proof still holds. An
    /// account whose name was among them is called `#` and its number from now on.
    ///
    /// Other steps go on meanwhile. The name stays taken until its bytes are gone from the disk: an account that takes it
    /// is written only then, so whenever the log is read, no two accounts have one name.
    ///
    /// # Errors
    /// If a record is not durable yet, or the log cannot write.
    pub fn erase(&self, seqs: &[u64]) -> Result<decidable_wal::Erased, Error> {
        let erased = self.begin_erase(seqs, |_| Ok(()))?;
        self.wait_erased(&erased, None)?;
        Ok(erased)
    }

    /// The first half of [`Engine::erase`]: finds the private parts and records that they go, without waiting for the disk.
    /// `watch` is told numbers of records while the log is read, and can end it; then nothing is erased.
    ///
    /// # Errors
    /// As [`Engine::erase`], and what `watch` said.
    pub fn begin_erase(
        &self,
        seqs: &[u64],
        watch: impl FnMut(u64) -> Result<(), String>,
    ) -> Result<decidable_wal::Erased, Error> {
        drop(self.core()?);
        let erasure = self.log.begin_erasure(seqs, watch)?;
        let time_ns = self.clock.now_ns();
        // The log numbers the record of an erasure by itself, and steps are numbered before they are handed over.
        let mut core = self.core()?;
        let erased = self.log.append_erasure(erasure, time_ns)?;
        // Of those that were gone before, another erasure of this session has its own entry. A name that someone else has
        // blanked stays taken, as it is refused when the log is opened again.
        core.erasures.push((erased.awaits, erased.seqs.clone()));
        Ok(erased)
    }

    /// Waits until what was erased is gone from the disk. It goes also where nobody waits.
    ///
    /// # Errors
    /// If the log could not write it, or `timeout` passed.
    pub fn wait_erased(&self, erased: &decidable_wal::Erased, timeout: Option<Duration>) -> Result<(), Error> {
        self.refuse_forked()?;
        Ok(self.log.wait_erased(erased, timeout)?)
    }

    /// Records the closing and takes no step any more, without waiting for the disk: [`Engine::wait_change`] tells when all
    /// is written, and [`Engine::close`] is quick then. Again it changes nothing.
    ///
    /// # Errors
    /// If the engine was forked.
    pub fn finish(&self) -> Result<(), Error> {
        self.refuse_forked()?;
        // Nothing may be half-way between state and log; what comes after finds the log closed. Those who come do not
        // wait for the disk.
        let _core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.log.finish()?)
    }

    /// Writes what is left and closes the log, also after a fault. Closing again changes nothing.
    ///
    /// # Errors
    /// If the log could not write, now or before; it is closed all the same. If the engine was forked.
    pub fn close(&self) -> Result<Head, Error> {
        self.finish()?;
        Ok(self.log.close()?)
    }

    /// Writes what is left and unlocks the log, without recording a closing. Dropping the engine does the same.
    pub fn drain(&self) {
        self.log.drain();
    }

    /// In a forked child: lets go of the log without writing, waiting or unlocking.
    pub fn abandon(&self) {
        self.log.abandon();
    }
}
