//! The units of every quantity, said once.
//!
//! | quantity | unit | type |
//! | --- | --- | --- |
//! | money | microunit: a millionth of the caller's currency unit | `u64`, `i64` |
//! | rates | microunits per million tokens | `u64` |
//! | proportions | basis points | `u16` |
//! | latency | milliseconds | `u32` |
//! | time | nanoseconds since 1970-01-01 UTC | `i64` |

/// The whole in basis points: 100 %.
pub const BPS_WHOLE: u16 = 10_000;

/// Basis points times basis points in a whole: the divisor of a product of two proportions.
pub const BPS_WHOLE_SQUARED: u64 = 100_000_000;

/// How many tokens a rate prices.
pub const TOKENS_PER_RATE: u64 = 1_000_000;

/// Microunits in one unit of the caller's currency.
pub const MICROUNITS_PER_UNIT: u64 = 1_000_000;

const _: () = assert!(BPS_WHOLE_SQUARED == 10_000 * 10_000);
