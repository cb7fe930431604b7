//! Units, checked casts, tags, canonical writing and reading, digests and hex.
//!
//! Everything that is hashed, stored or compared byte for byte goes through this crate, so that one rule holds
//! everywhere: integers are little-endian and exactly as wide as their type, an option is a presence byte and then
//! the value, a string is a `u32` byte length and UTF-8, and every layout starts with a tag.
//!
//! It knows no domain: not what a policy, a request, an account or a log is.
//!
//! ```
//! use decidable_canon::{Canonical, Sink, tag::{self, Tag}};
//!
//! struct Step(u64);
//! impl Canonical for Step {
//!     const TAG: Tag = tag::STATE;
//!     fn encode<S: Sink>(&self, out: &mut S) {
//!         let Self(step) = self;
//!         out.u64(*step);
//!     }
//! }
//! assert_eq!(Step(1).digest().to_string().len(), 64);
//! ```

pub mod cast;
pub mod units;
pub mod hex;
pub mod tag;
mod digest;
mod sink;
mod reader;
mod canonical;
mod row;
mod key;

pub use canonical::{Canonical, Hasher};
pub use digest::Digest;
pub use key::{Key, KeyError, MINIMUM_KEY_BYTES};
pub use reader::{ReadError, ReadErrorKind, Reader};
pub use row::{Message, Row};
pub use sink::Sink;
