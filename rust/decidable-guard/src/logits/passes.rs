//! The two passes over the logits.

use fearless_simd::prelude::*;

use super::{
    Error, ErrorKind, LANES, Logits,
    numbers::{Eight, LOG2_E, LOWEST, MASKED, both, each, weights},
};

/// So many are read, searched or added up at a time: they stay in the first-level cache, and meet each lane equally often. This and the
/// next by `cargo bench -p decidable-benches --bench guard -- logits`.
const PIECE: usize = 1_024;
/// So many are compared before any is looked at.
const GLANCE: usize = 64;
/// So many times each lane is met in one step: with the two vectors that a part of a row becomes these are [`Eight`].
const ROWS: usize = 4;

const _: () =
    assert!(PIECE.is_multiple_of(ROWS * LANES) && GLANCE.is_multiple_of(LANES) && PIECE.is_multiple_of(GLANCE));

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
        let (blocks, rest) = piece.as_chunks::<{ ROWS * LANES }>();
        // What is missing in the last rows is masked.
        let mut last = [f32::NEG_INFINITY; ROWS * LANES];
        for (to, logit) in last.iter_mut().zip(rest) {
            *to = *logit;
        }
        let last: &[[f32; ROWS * LANES]] = if rest.is_empty() { &[] } else { &[last] };
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
            for blocks in [blocks, last] {
                for block in blocks {
                    let (rows, _) = block.as_chunks::<LANES>();
                    let [first, second, third, fourth] = rows else { continue };
                    let read = |row: &[f32; LANES]| {
                        let part = row.chunks_exact(width).nth(part).unwrap_or_default();
                        S::f32s::from_slice(simd, part).widen()
                    };
                    let ((a, b), (c, d)) = (read(first), read(second));
                    let ((e, f), (g, h)) = (read(third), read(fourth));
                    let y = powers(simd, top, [a, b, c, d, e, f, g, h]);
                    let weights = weights(simd, y);
                    let logs = both(y, weights, |y, weight| weight * y);
                    let [a, b, c, d, e, f, g, h] = weights;
                    let [i, j, k, l, m, n, o, p] = logs;
                    low.add(a, i);
                    high.add(b, j);
                    low.add(c, k);
                    high.add(d, l);
                    low.add(e, m);
                    high.add(f, n);
                    low.add(g, o);
                    high.add(h, p);
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
fn powers<S: Simd>(simd: S, top: f64, logits: Eight<S::f64s>) -> Eight<S::f64s> {
    let all = |number| S::f64s::splat(simd, number);
    each(logits, |logits| ((logits - all(top)) * all(LOG2_E)).max(all(LOWEST)))
}
