use std::collections::{BTreeMap, VecDeque};

use decidable_canon::cast;

/// How many of the latest numbers are found by their place alone: as many as closed tickets are remembered. An empty place
/// costs as much as a full one, so this bounds what a few entries that stay for ever can cost.
pub(crate) const RECENT_MAX: usize = 262_144;

/// A map from numbers that are given out in ascending order and mostly asked for soon after: the latest lie in a row, and
/// whatever stays longer is kept in order behind them.
#[derive(Clone, Debug)]
pub struct Numbered<T> {
    /// The number of the first place.
    first: u64,
    recent: VecDeque<Option<T>>,
    older: BTreeMap<u64, T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self {
            first: 0,
            recent: VecDeque::new(),
            older: BTreeMap::new(),
        }
    }
}

impl<T> Numbered<T> {
    /// A map of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a number.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        match number.checked_sub(self.first) {
            Some(place) => self.recent.get(cast::usize_from_u64(place)?)?.as_ref(),
            None => self.older.get(&number),
        }
    }

    /// The value of a number, to be changed.
    #[inline]
    pub fn change(&mut self, number: u64) -> Option<&mut T> {
        match number.checked_sub(self.first) {
            Some(place) => self.recent.get_mut(cast::usize_from_u64(place)?)?.as_mut(),
            None => self.older.get_mut(&number),
        }
    }

    /// Sets the value of a number.
    pub fn insert(&mut self, number: u64, value: T) {
        let end = self.first.saturating_add(cast::u64_from_usize(self.recent.len()));
        let ahead = number.checked_sub(end).map(cast::usize_from_u64);
        match ahead {
            None => match self.place(number) {
                Some(place) => *place = Some(value),
                None => drop(self.older.insert(number, value)),
            },
            Some(Some(gap)) if gap < RECENT_MAX => {
                self.recent.extend((0..gap).map(|_| None));
                self.recent.push_back(Some(value));
                while self.recent.len() > RECENT_MAX {
                    self.retire();
                }
            }
            // A leap: what was recent is not any more.
            Some(_) => {
                while !self.recent.is_empty() {
                    self.retire();
                }
                self.first = number;
                self.recent.push_back(Some(value));
            }
        }
    }

    /// Takes the value of a number out.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let taken = match self.place(number) {
            Some(place) => place.take(),
            None => self.older.remove(&number),
        };
        while matches!(self.recent.front(), Some(None)) {
            self.retire();
        }
        taken
    }

    /// Numbers and values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        // Saturating, because a range would step beyond the largest number after the last.
        let recent = (0_u64..).zip(&self.recent);
        let recent = recent.map(|(place, value)| (self.first.saturating_add(place), value));
        let older = self.older.iter().map(|(number, value)| (*number, value));
        older.chain(recent.filter_map(|(number, value)| Some((number, value.as_ref()?))))
    }

    fn place(&mut self, number: u64) -> Option<&mut Option<T>> {
        let place = number.checked_sub(self.first)?;
        self.recent.get_mut(cast::usize_from_u64(place)?)
    }

    /// Moves the first of the recent behind them.
    fn retire(&mut self) {
        if let Some(Some(value)) = self.recent.pop_front() {
            self.older.insert(self.first, value);
        }
        self.first = self.first.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
