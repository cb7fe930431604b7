use std::{
    collections::{
        HashMap,
        hash_map::{Entry, OccupiedEntry, VacantEntry},
    },
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use decidable_canon::cast;

use crate::{
    error::{Error, ErrorKind},
    number::{AccountId, HoldId},
};

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
    open: HashMap<u64, Held, BuildHasherDefault<Mix>>,
    /// How many operations that changed the ledger went through this shard.
    changes: u64,
}

/// A number that no open hold has.
pub(crate) struct Vacancy<'a> {
    place: VacantEntry<'a, u64, Held>,
    changes: &'a mut u64,
}

/// The place of an open hold.
pub(crate) struct Open<'a> {
    place: OccupiedEntry<'a, u64, Held>,
    changes: &'a mut u64,
}

impl Shard {
    /// The place for a new hold.
    pub(crate) fn vacancy(&mut self, hold: HoldId) -> Result<Vacancy<'_>, Error> {
        let Self { open, changes } = self;
        match open.entry(hold.0) {
            Entry::Vacant(place) => Ok(Vacancy { place, changes }),
            Entry::Occupied(_) => Err(in_use(hold)),
        }
    }

    /// The place of an open hold.
    pub(crate) fn open(&mut self, hold: HoldId) -> Result<Open<'_>, Error> {
        let Self { open, changes } = self;
        match open.entry(hold.0) {
            Entry::Occupied(place) => Ok(Open { place, changes }),
            Entry::Vacant(_) => Err(unknown(hold)),
        }
    }

    pub(crate) fn find(&self, hold: HoldId) -> Option<&Held> {
        self.open.get(&hold.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (HoldId, &Held)> {
        self.open.iter().map(|(number, held)| (HoldId(*number), held))
    }
}

impl Vacancy<'_> {
    /// Opens the hold.
    pub(crate) fn fill(self, held: Held) {
        self.place.insert(held);
        *self.changes = self.changes.saturating_add(1);
    }
}

impl Open<'_> {
    pub(crate) fn held(&self) -> Held {
        *self.place.get()
    }

    /// Forgets the hold: it is settled.
    pub(crate) fn settle(self) {
        self.place.remove();
        *self.changes = self.changes.saturating_add(1);
    }
}

#[cold]
fn in_use(hold: HoldId) -> Error {
    Error::new(ErrorKind::HoldInUse, format_args!("hold {hold} is open already"))
}

#[cold]
fn unknown(hold: HoldId) -> Error {
    Error::new(ErrorKind::UnknownHold, format_args!("no hold {hold} is open"))
}

/// A shard on its own cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(Mutex<Shard>);

/// The open holds by number.
///
/// Every operation on money works while it has the lock of a shard: that of its hold, or any one if it only looks. So
/// whoever has all of them ([`Holds::still`]) knows that nothing is in flight.
#[derive(Debug)]
pub(crate) struct Holds {
    cells: [Cell; SHARDS],
}

/// All shards locked: nothing is in flight.
pub(crate) struct Still<'a> {
    shards: [MutexGuard<'a, Shard>; SHARDS],
}

impl Holds {
    pub(crate) fn new() -> Self {
        Self {
            cells: core::array::from_fn(|_| Cell::default()),
        }
    }

    /// The shard of a hold, locked.
    pub(crate) fn shard(&self, hold: HoldId) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.cells;
        lock(self.cells.get(shard_of(hold)).unwrap_or(first))
    }

    /// Locks all shards, always in the same order.
    pub(crate) fn still(&self) -> Still<'_> {
        Still {
            shards: self.cells.each_ref().map(lock),
        }
    }

    /// Whether somebody has all shards locked, this thread or another.
    #[cfg(test)]
    pub(crate) fn are_still(&self) -> bool {
        self.cells.iter().all(|cell| cell.0.try_lock().is_err())
    }
}

impl Still<'_> {
    /// The shard of a hold.
    pub(crate) fn shard(&mut self, hold: HoldId) -> &mut Shard {
        let [first, rest @ ..] = &mut self.shards;
        match shard_of(hold).checked_sub(1).and_then(|at| rest.get_mut(at)) {
            Some(shard) => shard,
            None => first,
        }
    }

    /// Counts a change that is not of one hold.
    pub(crate) fn changed(&mut self) {
        let [first, ..] = &mut self.shards;
        first.changes = first.changes.saturating_add(1);
    }

    /// How many operations changed the ledger.
    pub(crate) fn changes(&self) -> u64 {
        self.shards
            .iter()
            .fold(0, |sum, shard| sum.saturating_add(shard.changes))
    }

    /// How many holds are open.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.open.len()).sum()
    }

    /// All open holds, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (HoldId, &Held)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

/// A shard's lock. No code panics while it has one, so a poisoned lock guards a sound shard.
fn lock(cell: &Cell) -> MutexGuard<'_, Shard> {
    cell.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In which shard a hold is. The high bits of the mixed number choose the shard, the low ones the place in its map.
fn shard_of(hold: HoldId) -> usize {
    // The bits that are left number the shards, and fit any length.
    cast::usize_from_u64(mix(hold.0) >> (u64::BITS - SHARDS.ilog2())).unwrap_or_default()
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
