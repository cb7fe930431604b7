//! Requests and candidates meet with AVX-512 and its multiplication of 52 bits. Eight requests meet one candidate after
//! the other, or one request meets eight candidates at a time: the arithmetic is the same, and only which side is spread
//! over the lanes differs.
//!
//! It finds the first two in an objective's order for ordinary numbers, cut or rounded so that the result is that of the
//! definition ([`Policy::derive`](crate::Policy::derive)); what it cannot decide it says: numbers beyond the bounds below. Integers
//! only, as everywhere.

#[macro_use]
mod features;
mod table;
mod meet;
mod rows;
mod one;

pub(crate) use one::{Met, decide_one, settle_one};
pub(crate) use rows::{count_rows, decide_rows, reasons};
pub(crate) use table::Table;

/// How many requests, or candidates, meet at a time.
pub(crate) const LANES: usize = 8;

/// One number of each.
type Lane = [u64; LANES];

#[cfg(test)]
mod tests;
