use std::collections::VecDeque;

use decidable_canon::cast;

/// How many of the latest numbers are found by their place alone: as many as closed tickets are remembered. An empty place
/// costs as much as a full one, so this bounds what a few entries that stay for ever can cost.
pub(crate) const RECENT_MAX: usize = 262_144;

/// A map from numbers that are given out in ascending order and mostly asked for soon after: the latest lie in a row, and
/// whatever stays longer is kept in order behind them.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<T> {
    /// The number of the first place.
    first: u64,
    recent: VecDeque<Option<T>>,
    older: Older<T>,
}

/// Numbers and values, ascending. What is taken out leaves its place behind until more than half of all places are empty:
/// so adding behind the last and taking out cost no search for room. Then the room that is left over is given back.
#[derive(Clone, Debug)]
struct Older<T> {
    places: VecDeque<(u64, Option<T>)>,
    empty: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self {
            first: 0,
            recent: VecDeque::new(),
            older: Older {
                places: VecDeque::new(),
                empty: 0,
            },
        }
    }
}

impl<T> Numbered<T> {
    /// A map of nothing.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The value of a number.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        match number.checked_sub(self.first) {
            Some(place) => self.recent.get(cast::usize_from_u64(place)?)?.as_ref(),
            None => self.older.get(number),
        }
    }

    /// The value of a number, to be changed.
    #[inline]
    pub(crate) fn change(&mut self, number: u64) -> Option<&mut T> {
        match number.checked_sub(self.first) {
            Some(place) => self.recent.get_mut(cast::usize_from_u64(place)?)?.as_mut(),
            None => self.older.change(number),
        }
    }

    /// Sets the value of a number.
    pub(crate) fn insert(&mut self, number: u64, value: T) {
        let end = self.first.saturating_add(cast::u64_from_usize(self.recent.len()));
        let ahead = number.checked_sub(end).map(cast::usize_from_u64);
        match ahead {
            None => match self.place(number) {
                Some(place) => *place = Some(value),
                None => self.older.insert(number, value),
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
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let taken = match self.place(number) {
            Some(place) => place.take(),
            None => self.older.remove(number),
        };
        while matches!(self.recent.front(), Some(None)) {
            self.retire();
        }
        taken
    }

    /// Numbers and values, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        // Saturating, because a range would step beyond the largest number after the last.
        let recent = (0_u64..).zip(&self.recent);
        let recent = recent.map(|(place, value)| (self.first.saturating_add(place), value));
        let older = self.older.places.iter().map(|(number, value)| (*number, value));
        older
            .chain(recent)
            .filter_map(|(number, value)| Some((number, value.as_ref()?)))
    }

    fn place(&mut self, number: u64) -> Option<&mut Option<T>> {
        let place = number.checked_sub(self.first)?;
        self.recent.get_mut(cast::usize_from_u64(place)?)
    }

    /// Moves the first of the recent behind them.
    fn retire(&mut self) {
        if let Some(Some(value)) = self.recent.pop_front() {
            self.older.places.push_back((self.first, Some(value)));
        }
        self.first = self.first.saturating_add(1);
    }
}

impl<T> Older<T> {
    fn find(&self, number: u64) -> Result<usize, usize> {
        self.places.binary_search_by_key(&number, |(number, _)| *number)
    }

    fn get(&self, number: u64) -> Option<&T> {
        self.places.get(self.find(number).ok()?)?.1.as_ref()
    }

    fn change(&mut self, number: u64) -> Option<&mut T> {
        let at = self.find(number).ok()?;
        self.places.get_mut(at)?.1.as_mut()
    }

    fn insert(&mut self, number: u64, value: T) {
        match self.find(number) {
            Ok(at) => {
                if let Some((_, place)) = self.places.get_mut(at)
                    && place.replace(value).is_none()
                {
                    self.empty = self.empty.saturating_sub(1);
                }
            }
            Err(at) => self.places.insert(at, (number, Some(value))),
        }
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.find(number).ok()?;
        let taken = self.places.get_mut(at)?.1.take()?;
        self.empty = self.empty.saturating_add(1);
        if self.empty > self.places.len() / 2 {
            self.places.retain(|(_, value)| value.is_some());
            self.places.shrink_to(self.places.len().saturating_mul(2));
            self.empty = 0;
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests;
