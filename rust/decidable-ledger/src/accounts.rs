use std::sync::OnceLock;

use decidable_canon::cast;

use crate::{account::Account, number::AccountId};

/// How many accounts the first row holds, as a power of two.
const FIRST_ROW_BITS: u32 = 5;

/// Rows double, so this many hold every `u32`.
const ROWS: usize = cast::usize_from_u32(u32::BITS - FIRST_ROW_BITS + 1);

/// All accounts by number: rows that double in length and never move, so that finding an account takes no lock.
#[derive(Debug)]
pub(crate) struct Accounts {
    rows: [OnceLock<Box<[OnceLock<Account>]>>; ROWS],
}

/// The row and the place in it, and how long that row is.
const fn place(id: AccountId) -> (usize, usize, usize) {
    let first = 1_u64 << FIRST_ROW_BITS;
    // Row r > 0 begins at account first << (r - 1) and is as long as all rows before it.
    let number = cast::u64_from_usize(cast::usize_from_u32(id.0));
    if number < first {
        return (0, cast::usize_from_u32(id.0), cast::usize_from_u32(1 << FIRST_ROW_BITS));
    }
    let row = number.ilog2() - FIRST_ROW_BITS + 1;
    let length = 1_u32 << (row + FIRST_ROW_BITS - 1);
    (
        cast::usize_from_u32(row),
        cast::usize_from_u32(id.0 - length),
        cast::usize_from_u32(length),
    )
}

impl Accounts {
    pub(crate) const fn new() -> Self {
        Self {
            rows: [const { OnceLock::new() }; ROWS],
        }
    }

    pub(crate) fn find(&self, id: AccountId) -> Option<&Account> {
        let (row, column, _) = place(id);
        self.rows.get(row)?.get()?.get(column)?.get()
    }

    /// Puts a new account at its place. `None` if the place is taken.
    pub(crate) fn put(&self, id: AccountId, account: Account) -> Option<()> {
        let (row, column, length) = place(id);
        let row = self
            .rows
            .get(row)?
            .get_or_init(|| (0..length).map(|_| OnceLock::new()).collect());
        row.get(column)?.set(account).ok()
    }
}

#[cfg(test)]
mod tests;
