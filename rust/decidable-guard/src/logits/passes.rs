//! The two passes over the logits.

use fearless_simd::prelude::*;

use super::{
    Error, ErrorKind, LANES, Logits,
    numbers::{Four, LOG2_E, LOWEST, MASKED, both, each, weights},
};

/// So many are read, searched or added up at a time: they stay in the first-level cache, and meet each lane equally often. This and the
/// next by `cargo bench -p decidable-benches --bench guard -- logits`.
const PIECE: usize = 1_024;
/// So many are compared before any is looked at.
const GLANCE: usize = 64;

const _: () = assert!(PIECE.is_multiple_of(2 * LANES) && GLANCE.is_multiple_of(LANES) && PIECE.is_multiple_of(GLANCE));

/// The two largest logits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Top {
    pub(super) first: f32,
    pub(super) second: f32,
    pub(super) first_index: usize,
    pub(super) second_index: usize,
}

/// The sums, lane by lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    /// Of the weights 2^y.
    weights: [f64; LANES],
    /// Of the weights times y.
    logs: [f64; LANES],
}

/// Finds the two largest, then adds up.
#[inline(always)]
pub(super) fn measure<S: Simd, L: Logits + ?Sized>(simd: S, logits: &L) -> Result<(Top, Sums), Error> {
    let mut room = [0.0; PIECE];
    let mut top = Top {
        first: f32::NEG_INFINITY,
        second: f32::NEG_INFINITY,
        first_index: 0,
        second_index: 0,
    };
    for first in (0..logits.count()).step_by(PIECE) {
        find(simd, first, piece(logits, first, &mut room), &mut top)?;
    }
    if top.first == f32::NEG_INFINITY {
        return Err(Error::new(ErrorKind::NoLogit, None));
    }
    let mut sums = Sums::default();
    for first in (0..logits.count()).step_by(PIECE) {
        sums.add(simd, top.first.into(), piece(logits, first, &mut room));
    }
    Ok((top, sums))
}

/// The logits from `first` on, in place or read into the room.
#[inline(always)]
fn piece<'a, L: Logits + ?Sized>(logits: &'a L, first: usize, room: &'a mut [f32; PIECE]) -> &'a [f32] {
    let left = logits.count().saturating_sub(first).min(PIECE);
    match logits.in_place() {
        Some(all) => all.get(first..).and_then(|all| all.get(..left)).unwrap_or_default(),
        None => {
            let block = room.get_mut(..left).unwrap_or_default();
            logits.read(first, block);
            block
        }
    }
}

/// Lets those of a piece that are above the second one take a place. Everything else is compared and passed by, but for what is not
/// a number: nothing is above it or below it.
#[inline(always)]
fn find<S: Simd>(simd: S, first: usize, piece: &[f32], top: &mut Top) -> Result<(), Error> {
    let (glances, rest) = piece.as_chunks::<GLANCE>();
    let mut index = first;
    for glance in glances {
        let second = S::f32s::splat(simd, top.second);
        let mut below = S::mask32s::splat(simd, true);
        for part in glance.chunks_exact(S::f32s::LEN) {
            below &= S::f32s::from_slice(simd, part).simd_le(second);
        }
        if !below.all_true() {
            top.admit(index, glance)?;
        }
        index = index.saturating_add(GLANCE);
    }
    top.admit(index, rest)
}

impl Top {
    fn admit(&mut self, first: usize, logits: &[f32]) -> Result<(), Error> {
        for (index, logit) in (first..).zip(logits) {
            if *logit <= self.second {
                continue;
            }
            if logit.is_nan() {
                return Err(Error::new(ErrorKind::NotANumber, Some(index)));
            }
            if *logit == f32::INFINITY {
                return Err(Error::new(ErrorKind::Infinite, Some(index)));
            }
            if *logit > self.first {
                (self.second, self.second_index) = (self.first, self.first_index);
                (self.first, self.first_index) = (*logit, index);
            } else {
                (self.second, self.second_index) = (*logit, index);
            }
        }
        Ok(())
    }
}

impl Sums {
    /// Adds a piece that begins in the first lane.
    ///
    /// Where a vector has fewer numbers than there are lanes, the piece is gone over once for each part of them, so that the sums
    /// stay in registers.
    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, top: f64, piece: &[f32]) {
        let (pairs, rest) = piece.as_chunks::<{ 2 * LANES }>();
        // What is missing in the last rows is masked.
        let mut last = [f32::NEG_INFINITY; 2 * LANES];
        for (to, logit) in last.iter_mut().zip(rest) {
            *to = *logit;
        }
        let last: &[[f32; 2 * LANES]] = if rest.is_empty() { &[] } else { &[last] };
        let width = S::f32s::LEN;
        let lanes = self
            .weights
            .chunks_exact_mut(width)
            .zip(self.logs.chunks_exact_mut(width));
        for (part, (weight_sums, log_sums)) in lanes.enumerate() {
            let (weights_low, weights_high) = weight_sums.split_at_mut(width / 2);
            let (logs_low, logs_high) = log_sums.split_at_mut(width / 2);
            let mut low = Sum::load(simd, weights_low, logs_low);
            let mut high = Sum::load(simd, weights_high, logs_high);
            for pairs in [pairs, last] {
                for pair in pairs {
                    let (first, second) = pair.split_at(LANES);
                    let mut parts = first.chunks_exact(width).zip(second.chunks_exact(width));
                    let Some((first, second)) = parts.nth(part) else {
                        continue;
                    };
                    let (a, b) = S::f32s::from_slice(simd, first).widen();
                    let (c, d) = S::f32s::from_slice(simd, second).widen();
                    let y = powers(simd, top, [a, b, c, d]);
                    let [a, b, c, d] = weights(simd, y);
                    let [e, f, g, h] = both(y, [a, b, c, d], |y, weight| weight * y);
                    low.add(a, e);
                    high.add(b, f);
                    low.add(c, g);
                    high.add(d, h);
                }
            }
            low.store(weights_low, logs_low);
            high.store(weights_high, logs_high);
        }
    }

    /// Both sums over all lanes: the upper half of the lanes is added to the lower one until one is left.
    pub(super) fn fold(&self) -> (f64, f64) {
        let logs = folded(self.logs);
        // What is left of masked logits alone is nothing.
        let logs = if logs > -MASKED_SUM { 0.0 } else { logs };
        (folded(self.weights), logs)
    }
}

/// 2^[`MASKED`].
const MASKED_SUM: f64 = f64::from_bits((1_023 - 900) << 52);

const _: () = assert!(MASKED == -900.0);

fn folded(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = lanes;
    let [a, b, c, d, e, f, g, h] = [a + i, b + j, c + k, d + l, e + m, f + n, g + o, h + p];
    let [a, b, c, d] = [a + e, b + f, c + g, d + h];
    (a + c) + (b + d)
}

/// A vector of each sum.
#[derive(Clone, Copy)]
struct Sum<S: Simd> {
    weights: S::f64s,
    logs: S::f64s,
}

impl<S: Simd> Sum<S> {
    #[inline(always)]
    fn load(simd: S, weights: &[f64], logs: &[f64]) -> Self {
        Self {
            weights: S::f64s::from_slice(simd, weights),
            logs: S::f64s::from_slice(simd, logs),
        }
    }

    #[inline(always)]
    fn add(&mut self, weight: S::f64s, log: S::f64s) {
        self.weights += weight;
        self.logs += log;
    }

    #[inline(always)]
    fn store(self, weights: &mut [f64], logs: &mut [f64]) {
        self.weights.store_slice(weights);
        self.logs.store_slice(logs);
    }
}

/// How many powers of two logits are above the top one, which is none or fewer; not below [`LOWEST`].
#[inline(always)]
fn powers<S: Simd>(simd: S, top: f64, logits: Four<S::f64s>) -> Four<S::f64s> {
    let all = |number| S::f64s::splat(simd, number);
    each(logits, |logits| ((logits - all(top)) * all(LOG2_E)).max(all(LOWEST)))
}
