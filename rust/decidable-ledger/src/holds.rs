use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use decidable_canon::cast;

use crate::accounts::AccountId;

/// The number of a hold, chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub u64);

impl core::fmt::Display for HoldId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Into how many parts the open holds are divided, each with its own lock.
const SHARDS: usize = 64;

/// What an open hold is: whose, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) account: AccountId,
    pub(crate) amount: u64,
}

/// One part of the open holds.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) open: HashMap<u64, Held, BuildHasherDefault<Mix>>,
    /// How many operations that changed the ledger went through this shard.
    pub(crate) changes: u64,
}

impl Shard {
    pub(crate) fn changed(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }
}

/// A shard to itself, on its own cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(Mutex<Shard>);

/// The open holds by number.
///
/// Every operation that changes money works while it has the lock of one shard: that of its hold. So whoever has all of
/// them ([`Holds::still`]) knows that nothing is in flight.
#[derive(Debug)]
pub(crate) struct Holds {
    shards: [Cell; SHARDS],
}

impl Holds {
    pub(crate) fn new() -> Self {
        Self {
            shards: core::array::from_fn(|_| Cell::default()),
        }
    }

    /// The shard of a number, locked.
    pub(crate) fn shard(&self, number: u64) -> MutexGuard<'_, Shard> {
        // The low bits of the mixed number choose the place in the map, the high ones the shard.
        let chosen = cast::usize_from_u64(mix(number) >> (u64::BITS - SHARDS.ilog2())).unwrap_or_default();
        let [first, ..] = &self.shards;
        lock(self.shards.get(chosen).unwrap_or(first))
    }

    /// All shards, locked in order: nothing is in flight until they are let go.
    pub(crate) fn still(&self) -> [MutexGuard<'_, Shard>; SHARDS] {
        self.shards.each_ref().map(lock)
    }
}

/// A shard's lock. No code panics while it has one, so a poisoned lock guards a sound shard.
fn lock(cell: &Cell) -> MutexGuard<'_, Shard> {
    cell.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spreads a number over 64 bits, one to one (the finaliser of `SplitMix64`).
const fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Hashes one number. Numbers of holds are the program's own, not a stranger's, so the hash needs no secret.
#[derive(Debug, Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}
