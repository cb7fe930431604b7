//! How sure a model is of its next token: entropy, the distance between the first and the second, the probability of the one that
//! was chosen.
//!
//! [`LogitStats`] is of all logits of a step, [`LogitBounds`] of the few that an interface hands out. A logit is the natural
//! logarithm of a weight, in nats; probabilities are the weights over their sum. A logit of -∞ is masked: its probability is 0.
//!
//! The result has the same bits on every machine, with every width of vectors, and wherever the same values lie: additions and
//! multiplications of IEEE 754 in double precision alone, never fused, and [`LANES`] partial sums that are folded in one order.
//! Exponential and logarithm are polynomials of our own. Nothing here is digested, and nothing here decides: what is compared with a limit is
//! up to the caller.
//!
//! ```
//! use decidable_guard::logits::LogitStats;
//!
//! let stats = LogitStats::of(&[1.0, 3.0, f32::NEG_INFINITY, 1.0], 1)?;
//! assert_eq!((stats.top1, stats.top2), (1, Some(0)));
//! assert!((stats.selected_probability - 0.786_986).abs() < 1e-6);
//! assert!((stats.entropy - 0.665_573).abs() < 1e-6);
//! # Ok::<(), decidable_guard::logits::Error>(())
//! ```
//!
//! Two passes: the first finds the two largest logits, the second adds up the weights relative to the largest, and the weights times
//! their logarithms. The entropy follows from both sums: with weights w = 2^y and S their sum, it is
//! ln S − ln 2 × (Σ w y) / S. That is the textbook's −Σ p ln p; see C. E. Shannon, "A Mathematical Theory of Communication" (1948), § 6.

// Nothing that is digested or decided uses these numbers: they are what a caller shows, or compares with a limit of its own.
#![allow(clippy::float_arithmetic)]

use core::fmt;

use fearless_simd::{Level, dispatch};

mod bounds;
mod numbers;
mod passes;

pub use bounds::LogitBounds;
use numbers::{LOG2_E, ln, weight};
use passes::measure;

/// How many partial sums there are: that of a logit is its index, modulo this.
pub const LANES: usize = 16;

/// Why logits cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// None is given, or every one is masked.
    NoLogit,
    /// One is not a number.
    NotANumber,
    /// One is +∞.
    Infinite,
    /// The selected one is not among them.
    SelectedOutOfRange,
    /// What should be the logarithm of a probability, or one, lies outside its range.
    NotAProbability,
    /// The probabilities add up to more than 1, or the others could not make up the rest.
    NotADistribution,
    /// There are more values than the vocabulary has tokens.
    VocabularySize,
}

/// Logits that cannot be used: why, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    index: Option<usize>,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, index: Option<usize>) -> Self {
        Self { kind, index }
    }

    /// The kind of fault.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The index of the first logit that is wrong, or the one that was selected.
    #[must_use]
    pub const fn index(&self) -> Option<usize> {
        self.index
    }

    /// The stable code of the kind.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::NoLogit => "guard.no_logit",
            ErrorKind::NotANumber => "guard.not_a_number",
            ErrorKind::Infinite => "guard.infinite",
            ErrorKind::SelectedOutOfRange => "guard.selected_out_of_range",
            ErrorKind::NotAProbability => "guard.not_a_probability",
            ErrorKind::NotADistribution => "guard.not_a_distribution",
            ErrorKind::VocabularySize => "guard.vocabulary_size",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::NoLogit => "there is no logit above -inf",
            ErrorKind::NotANumber => "a logit is not a number",
            ErrorKind::Infinite => "a logit is +inf",
            ErrorKind::SelectedOutOfRange => "the selected token is not among them",
            ErrorKind::NotAProbability => "a value is no probability, or no logarithm of one",
            ErrorKind::NotADistribution => "the probabilities do not add up, with what the other tokens can have, to 1",
            ErrorKind::VocabularySize => "there are more values than tokens in the vocabulary",
        };
        match self.index {
            Some(index) => write!(f, "{what} (index {index})"),
            None => f.write_str(what),
        }
    }
}

impl core::error::Error for Error {}

/// Where logits lie, and how they are read. What implements it gives the same values each time.
pub trait Logits {
    /// How many there are.
    fn count(&self) -> usize;

    /// All of them, where they lie side by side as they are.
    fn in_place(&self) -> Option<&[f32]> {
        None
    }

    /// Writes those from `first` on into `block`, which is not longer than what is left.
    fn read(&self, first: usize, block: &mut [f32]);
}

impl<const N: usize> Logits for [f32; N] {
    fn count(&self) -> usize {
        N
    }
    fn in_place(&self) -> Option<&[f32]> {
        Some(self)
    }
    fn read(&self, first: usize, block: &mut [f32]) {
        self.as_slice().read(first, block);
    }
}

impl Logits for [f32] {
    fn count(&self) -> usize {
        self.len()
    }
    fn in_place(&self) -> Option<&[f32]> {
        Some(self)
    }
    #[inline(always)]
    fn read(&self, first: usize, block: &mut [f32]) {
        let from = self.get(first..).unwrap_or_default();
        for (to, logit) in block.iter_mut().zip(from) {
            *to = *logit;
        }
    }
}

/// Logits in half precision (IEEE 754 binary16), each as its bits.
#[derive(Clone, Copy, Debug)]
pub struct F16<'a>(pub &'a [u16]);

impl Logits for F16<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn read(&self, first: usize, block: &mut [f32]) {
        let from = self.0.get(first..).unwrap_or_default();
        for (to, bits) in block.iter_mut().zip(from) {
            *to = f32_from_f16(*bits);
        }
    }
}

/// Logits in bfloat16, the upper half of single precision, each as its bits.
#[derive(Clone, Copy, Debug)]
pub struct Bf16<'a>(pub &'a [u16]);

impl Logits for Bf16<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn read(&self, first: usize, block: &mut [f32]) {
        let from = self.0.get(first..).unwrap_or_default();
        for (to, bits) in block.iter_mut().zip(from) {
            *to = f32_from_bf16(*bits);
        }
    }
}

/// A number in half precision as one in single precision, which is exact.
///
/// ```
/// use decidable_guard::logits::f32_from_f16;
///
/// assert_eq!(f32_from_f16(0xc100), -2.5);
/// assert_eq!(f32_from_f16(0x0001), 2_f32.powi(-24));
/// ```
#[inline(always)]
#[must_use]
pub fn f32_from_f16(bits: u16) -> f32 {
    // The exponent's bias is 15 there and 127 here.
    const BIAS: u32 = (127 - 15) << 23;
    const EXPONENT: u32 = 0x1f << 23;
    const SMALLEST: u32 = BIAS + (1 << 23);
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let moved = magnitude.wrapping_add(BIAS);
    let exponent = magnitude & EXPONENT;
    // Below the smallest normal number there is no hidden bit: it is added and taken off again, which is exact.
    let subnormal = f32::from_bits(moved.wrapping_add(1 << 23)) - f32::from_bits(SMALLEST);
    let special = moved.wrapping_add(BIAS);
    let absolute = if exponent == 0 { subnormal.to_bits() } else { moved };
    let absolute = if exponent == EXPONENT { special } else { absolute };
    f32::from_bits(absolute | (u32::from(bits & 0x8000) << 16))
}

/// A number in bfloat16 as one in single precision, which is exact.
#[inline(always)]
#[must_use]
pub fn f32_from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// What the logits of one step say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitStats {
    /// The entropy of the probabilities, in nats: from 0, where one token is certain, to ln n, where n are alike.
    pub entropy: f64,
    /// The largest probability less the second largest. 1 where no second token is possible.
    pub dominance: f64,
    /// The probability of the selected token; 0 where it is masked.
    pub selected_probability: f64,
    /// The index of the selected token.
    pub selected: usize,
    /// The index of the largest logit, of equal ones the lowest.
    pub top1: usize,
    /// The index of the second largest, of equal ones the lowest; `None` where no other is above -∞.
    pub top2: Option<usize>,
}

impl LogitStats {
    /// The statistics of one step's logits, with the vectors that this machine has.
    ///
    /// Entropy and probabilities are within 10^-7 of the exact ones for up to 2^18 logits: each weight is too large or too small by
    /// less than 1.1 × 10^-8 of itself. A logit that is 625 nats or more below the largest counts as masked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotANumber`] and [`ErrorKind::Infinite`] with the index of the first such logit, [`ErrorKind::NoLogit`] where
    /// none is above -∞, [`ErrorKind::SelectedOutOfRange`].
    pub fn of<L: Logits + ?Sized>(logits: &L, selected: usize) -> Result<Self, Error> {
        Self::with(Level::new(), logits, selected)
    }

    pub(crate) fn with<L: Logits + ?Sized>(level: Level, logits: &L, selected: usize) -> Result<Self, Error> {
        if selected >= logits.count() {
            let kind = match logits.count() {
                0 => return Err(Error::new(ErrorKind::NoLogit, None)),
                _ => ErrorKind::SelectedOutOfRange,
            };
            return Err(Error::new(kind, Some(selected)));
        }
        let (top, sums) = dispatch!(level, simd => measure(simd, logits))?;
        let mut logit = [f32::NEG_INFINITY];
        logits.read(selected, &mut logit);
        let [logit] = logit;
        let first = f64::from(top.first);
        let relative = |logit: f32| weight((f64::from(logit) - first) * LOG2_E);
        let (total, logs) = sums.fold();
        Ok(Self {
            // The logarithm may be rounded down by more than is subtracted.
            entropy: (ln(total) - numbers::LN_2 * (logs / total)).max(0.0),
            dominance: (1.0 - relative(top.second)) / total,
            selected_probability: relative(logit) / total,
            selected,
            top1: top.first_index,
            top2: (top.second > f32::NEG_INFINITY).then_some(top.second_index),
        })
    }
}

#[cfg(test)]
mod tests;
