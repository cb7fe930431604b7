//! How many requests needed the slower ways to decide: counted in builds with debug assertions, for tests that force a
//! faster way and must know that it was taken.

use std::cell::Cell;

/// How many requests were decided, or counted for a batch, in the slower ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slower {
    /// One request and one candidate after the other.
    pub one_by_one: u64,
    /// Of these, how many in 128 bits.
    pub exact: u64,
    /// Of a batch's requests with quotes, those for which every candidate was looked at again.
    pub requoted: u64,
}

thread_local! {
    static COUNTED: Cell<Slower> = const { Cell::new(Slower { one_by_one: 0, exact: 0, requoted: 0 }) };
}

/// What this thread has decided in the slower ways so far; `None` in a build without debug assertions, which counts
/// nothing. Refused requests and those of [`Policy::derive`](crate::Policy::derive) are in no count.
#[must_use]
pub fn slower() -> Option<Slower> {
    cfg!(debug_assertions).then(|| COUNTED.get())
}

#[inline(always)]
pub(crate) fn count(number: impl FnOnce(&mut Slower) -> &mut u64) {
    if cfg!(debug_assertions) {
        let mut counted = COUNTED.get();
        let number = number(&mut counted);
        *number = number.wrapping_add(1);
        COUNTED.set(counted);
    }
}
