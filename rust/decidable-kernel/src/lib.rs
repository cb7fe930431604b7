//! A pure function from a policy and a request to a decision, with its proof.
//!
//! A [`Policy`] holds limits and a catalog of candidates; a [`Request`] says what is asked for and what it may cost.
//! [`Policy::decide`] lets every candidate pass the gates, prices those that do and picks the first in a total order.
//! Explanations, utilities, what-ifs, margins and batches run the same gates, prices and order.
//!
//! Integers only. The crate knows no I/O, no clock, no float and no randomness: the same policy and request give the
//! same decision, bit for bit, on every machine. The semantics are docs/spec/decisions.md and docs/spec/extensions.md;
//! the byte layouts are docs/spec/formats.md.
//!
//! ```
//! use decidable_kernel::{Action, Candidate, Limits, Policy, Request, RequestFields};
//!
//! let candidate = |model_id, quality_bps, rate| Candidate {
//!     model_id,
//!     quality_bps,
//!     input_cost_microunits_per_million_tokens: rate,
//!     output_cost_microunits_per_million_tokens: 4 * rate,
//!     ..Candidate::default()
//! };
//! let catalog = vec![candidate(1, 7_000, 150_000), candidate(2, 9_000, 2_500_000)];
//! let policy = Policy::new(Limits::default(), catalog, None)?;
//! let request = Request::new(RequestFields {
//!     requested_model_id: 2,
//!     input_tokens: 1_200,
//!     output_tokens: 300,
//!     business_value_microunits: 20_000,
//!     ..RequestFields::default()
//! })?;
//! let decision = policy.decide(&request);
//! assert_eq!(decision.action, Action::Substitute);
//! assert_eq!(decision.selected_model_id, Some(1));
//! assert_eq!(decision.expected_utility_microunits, 14_000 - 360);
//! # Ok::<(), decidable_kernel::Error>(())
//! ```

mod visible;
mod error;
mod names;
mod candidate;
mod limits;
mod request;
mod decision;
mod gate;
mod screen;
mod price;
mod rank;
mod places;
mod trial;
mod left;
mod slower;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod policy;
mod decide;
mod identity;
mod explain;
mod derive;
mod table;
mod what_if;
mod vectors;
mod lanes;
pub mod batch;

pub use candidate::{Candidate, HIGHEST_PROVIDER_ID};
pub use decision::{Action, Decision, NO_INDEX, Reason};
pub use error::{Error, ErrorKind};
pub use explain::{Explanation, Finding, Verdict};
pub use gate::{Gate, Rejections};
pub use identity::identity;
pub use limits::{HIGHEST_RISK_PENALTY_MULTIPLIER_BPS, Limits, Objective};
pub use names::{Group, LONGEST_NAME_BYTES, Names};
pub use policy::{MOST_CANDIDATES, Policy};
pub use price::Terms;
pub use request::{Request, RequestFields};
pub use slower::{Slower, slower};
pub use vectors::Vectors;
pub use visible::visible;
pub use what_if::{Lever, LeverKind, Margin, WhatWouldWin};
