//! Quotes beside rows: which row has which, found by a part of a batch without looking at the others.

use core::ops::Range;

use decidable_canon::cast;

use crate::{Error, request::quotes_error};

/// Costs that replace those from rates, of requests that are rows. By default none, beside any number of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotes {
    /// How many requests there are; `None` beside any number.
    requests: Option<usize>,
    /// The rows that have quotes, ascending, and where those of each end.
    rows: Vec<(usize, usize)>,
    costs: Vec<(u32, u64)>,
}

impl Quotes {
    /// Takes quotes for requests of which there are `rows`: each the number of its row, a `model_id` and a cost in microunits,
    /// in ascending order.
    ///
    /// # Errors
    /// `NoMemory` where they do not fit in memory; `OutOfRange` for a row that there is not; with the row, `QuotesNotAscending`, `ReservedModelId` for a quote for 0, or
    /// `OutOfRange` for more than 65,535 of one row.
    pub fn new(quotes: impl IntoIterator<Item = (u64, u32, u64)>, rows: usize) -> Result<Self, Error> {
        let no_memory = |_| Error::no_memory("quotes");
        let mut taken = Self {
            requests: Some(rows),
            ..Self::default()
        };
        let quotes = quotes.into_iter();
        taken.costs.try_reserve(quotes.size_hint().0).map_err(no_memory)?;
        for (row, model_id, cost) in quotes {
            let last_row = cast::u64_from_usize(rows).saturating_sub(1);
            let row = cast::usize_from_u64(row)
                .filter(|row| *row < rows)
                .ok_or_else(|| Error::out_of_range("quotes.row", row, last_row))?;
            if let Some(&(before, _)) = taken.rows.last()
                && before > row
            {
                return Err(Error::quote_rows_not_ascending(before, row).in_row(row));
            }
            taken.costs.try_reserve(1).map_err(no_memory)?;
            taken.costs.push((model_id, cost));
            let end = taken.costs.len();
            match taken.rows.last_mut() {
                Some((last, last_end)) if *last == row => *last_end = end,
                _ => {
                    taken.rows.try_reserve(1).map_err(no_memory)?;
                    taken.rows.push((row, end));
                }
            }
        }
        for (row, costs) in taken.within(0..rows) {
            quotes_error(costs).map_err(|error| error.in_row(row))?;
        }
        Ok(taken)
    }

    /// Refuses quotes that were taken for another number of requests.
    pub(super) fn fit(&self, rows: usize) -> Result<(), Error> {
        match self.requests {
            Some(requests) if requests != rows => Err(Error::quotes_of_others(requests, rows)),
            _ => Ok(()),
        }
    }

    /// The rows of a part that have quotes, counted from its beginning, with them.
    pub(super) fn within(&self, part: Range<usize>) -> impl Iterator<Item = (usize, &[(u32, u64)])> {
        let (before, rest) = self
            .rows
            .split_at_checked(self.rows.partition_point(|(row, _)| *row < part.start))
            .unwrap_or_default();
        let mut start = before.last().map_or(0, |(_, end)| *end);
        rest.iter()
            .take_while(move |(row, _)| *row < part.end)
            .map(move |(row, end)| {
                let costs = self.costs.get(start..*end).unwrap_or_default();
                start = *end;
                (row.saturating_sub(part.start), costs)
            })
    }

    /// Does the work on each row of a part that has quotes: its number in the part, what goes in, the quotes, and the room for what
    /// comes out.
    pub(super) fn each<I, O>(
        &self,
        first_row: usize,
        input: &[I],
        room: &mut [O],
        work: impl Fn(usize, &I, &[(u32, u64)], &mut O),
    ) {
        for (row, costs) in self.within(first_row..first_row.saturating_add(input.len())) {
            if let (Some(input), Some(room)) = (input.get(row), room.get_mut(row)) {
                work(row, input, costs, room);
            }
        }
    }
}
