//! Rules over a stream of text: what may not be said is stopped in the middle of a word, before a byte of it has left.
//!
//! [`Rule`]s are compiled to one [`Automaton`], which any number of streams share; a [`Cursor`] is one stream. What a stream is pushed
//! comes out again as soon as it can no longer be part of a match that stops or redacts, so that ordinary text is not held back at all.
//!
//! A [`Monitor`] is a generation under them, event by event, with its [`audit`].
//!
//! It knows no model, no runtime and no log: not where text comes from nor where it goes.
//!
//! [`logits`] says how sure a model is of its next token.
//!
//! # Matches
//!
//! A rule looks for a text or for a regular expression. Patterns are compiled to tables of states over bytes, so that a byte costs the
//! same whatever came before; back-references and most look-around cannot be, and are refused by name.

mod steps;
mod error;
#[cfg(test)]
mod levels;
mod check;
mod folding;
mod reading;
mod rule;
mod sieve;
mod syntax;
mod patterns;
mod before;
mod literals;
mod attempts;
mod json;
mod automaton;
mod layout;
mod matcher;
mod held;
mod cursor;
pub mod audit;
mod monitor;

pub mod logits;

pub use attempts::MOST_ATTEMPTS;
pub use automaton::{Automaton, LONGEST_PATTERN_BYTES, MOST_RULES, MOST_TABLE_BYTES};
pub use check::Check;
pub use cursor::{Cursor, MAX_HOLD_BYTES, Match, Stop};
pub use error::{Error, ErrorKind};
pub use matcher::{MOST_MATCHES, Pressure};
pub use monitor::{Event, Intervention, Monitor, MostEntropy};
pub use patterns::MOST_NFA_BYTES;
pub use reading::Reads;
pub use rule::{Action, Pattern, Rule, Severity};
