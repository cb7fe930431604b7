use core::{iter, ops::RangeInclusive};

use decidable_canon::{cast, units::TOKENS_PER_RATE};

use fearless_simd::Avx512;

use super::{LANES, Lane};
use crate::{
    Candidate, Limits, Objective, Rejections,
    decision::NO_INDEX,
    places::{PLACE_BITS, PLACES, Places},
    price::latency_penalty,
    screen::Side,
};

/// A product has this many bits above those that are cut.
pub(super) const PRODUCT_BITS: u32 = 52;
/// 17 million currency units. So a floor, the largest number in a key, fits: five times the value and a base, above a place.
pub(super) const LARGEST_VALUE: u64 = 1 << 44;
/// Twice as much, so that a utility fits a key above its place.
const LARGEST_LATENCY_PENALTY: u64 = 1 << 45;
/// Bits behind the point of a rate. With fewer only requests of a few thousand tokens would be within the bounds; with more,
/// tokens would not be shifted at all, and half of them is needed.
pub(super) const SCALE_BITS: RangeInclusive<u32> = 34..=51;
/// Bits of what is left of a base, above the place: with objectives that look at something else first, that stands above it.
const LEFT_BITS: u32 = 33;
const CLASSES: usize = 1 << (63 - LEFT_BITS - PLACE_BITS);

const _: () = assert!((1 << PRODUCT_BITS) / TOKENS_PER_RATE < 1 << LEFT_BITS);
const _: () = assert!((1 << LEFT_BITS) + 5 * LARGEST_VALUE + 1 < 1 << (63 - PLACE_BITS));
const _: () = assert!(LARGEST_LATENCY_PENALTY + (1 << LEFT_BITS) + LARGEST_VALUE < 1 << (63 - PLACE_BITS));

/// How rates and tokens are written in fixed point, so that the largest rate of the catalog fits.
///
/// A cost is a subtraction here. A request begins with a base, its tokens at the largest rate that there could be, and each
/// candidate leaves some of it: `left = base − cost`. So more is better, as with utilities, and a multiplication that adds can
/// gather it. A rate is kept as its rebate, its distance from the largest: floor(t × (1 − r)) = t − ceil(t × r), so that the
/// product, which is cut, rounds the cost up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Bits behind the point of a microunit per token.
    bits: u32,
    /// At most so many tokens.
    pub(super) tokens_max: u64,
}

impl Scale {
    /// `None` if the largest rate leaves too few bits.
    fn new(largest_rate: u64) -> Option<Self> {
        let fits = |bits: &u32| fixed(largest_rate, *bits) < 1 << (PRODUCT_BITS - 1);
        let bits = SCALE_BITS.rev().find(fits)?;
        // A rate is too small by less than its last bit. For so many tokens a cost is then too small by less than a
        // millionth, and as exact costs are whole millionths, the next whole microunit above is the same.
        let tokens_max = (1 << bits) / TOKENS_PER_RATE;
        Some(Self { bits, tokens_max })
    }

    /// What a number of tokens is shifted by, to be multiplied.
    pub(super) const fn shift(self) -> u32 {
        PRODUCT_BITS - self.bits
    }

    /// A rate as its distance from the largest that there could be.
    fn rebate(self, rate: u64) -> u64 {
        (1_u64 << (PRODUCT_BITS - 1)).saturating_sub(cast::u64_saturating_from_u128(fixed(rate, self.bits)))
    }
}

/// A rate as microunits per token, rounded down.
fn fixed(rate: u64, bits: u32) -> u128 {
    (u128::from(rate) << bits) / u128::from(TOKENS_PER_RATE)
}

/// A candidate's side: shortfall (the complement of its standing), lacking (of its capabilities), provider, regions, the
/// rebates of input and output, quality, and what is added to its key: what is compared before the rest on top, its place below.
///
/// A key is `utility + surplus | place 16` where utilities are compared, and `class 14 | left 33 | place 16` otherwise.
pub(super) type Offer = [u64; 8];

/// What a decision needs of the candidate that it names: its number with its place in the catalog above, the rebates of input
/// and output, its quality and its latency penalty. As many numbers as there are lanes, so that it is read as a vector.
pub(super) type Who = [u64; 8];

/// A catalog in fixed point.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The proof that this machine has the instructions.
    pub(super) token: Avx512,
    pub(super) offers: Vec<Offer>,
    /// The same, eight candidates at a time, each of their numbers in a row.
    pub(super) blocks: Vec<[Lane; 8]>,
    /// Who stands at each place, from 1 on; nobody at 0.
    who: Vec<Who>,
    nobody: Who,
    pub(super) scale: Scale,
    /// What every decision has: how many candidates were looked at, and the epochs.
    pub(super) evaluated: u64,
    candidates: u32,
    pub(super) disabled: u32,
    pub(super) policy_epoch: u64,
    pub(super) catalog_epoch: u64,
    pub(super) by_utility: bool,
    pub(super) hard_risk_limit_bps: u64,
    pub(super) minimum_confidence_bps: u64,
    pub(super) risk_penalty_multiplier_bps: u64,
}

impl Table {
    /// `None` where a number of the catalog is beyond the bounds.
    pub(crate) fn new(token: Avx512, limits: &Limits, candidates: &[Candidate]) -> Option<Self> {
        let places = Places::new(limits.objective, candidates);
        if places.classes() > CLASSES {
            return None;
        }
        let order = &places.order;
        let rates = order.iter().flat_map(|(_, candidate)| {
            [
                candidate.input_cost_microunits_per_million_tokens,
                candidate.output_cost_microunits_per_million_tokens,
            ]
        });
        let scale = Scale::new(rates.max()?)?;
        let offers = order
            .iter()
            .zip(1..)
            .map(|((_, candidate), place)| {
                let penalty = latency_penalty(limits, candidate.p95_latency_ms, LARGEST_LATENCY_PENALTY)?;
                let beginning = match limits.objective {
                    Objective::Utility => (0_u64.wrapping_sub(penalty) << PLACE_BITS).wrapping_add(place),
                    _ => (places.class(candidate) << (LEFT_BITS + PLACE_BITS)).wrapping_add(place),
                };
                let side = Side::new(candidate);
                Some([
                    !side.standing,
                    !side.capabilities,
                    side.provider,
                    side.region_mask,
                    scale.rebate(candidate.input_cost_microunits_per_million_tokens),
                    scale.rebate(candidate.output_cost_microunits_per_million_tokens),
                    candidate.quality_bps.into(),
                    beginning,
                ])
            })
            .collect::<Option<Vec<Offer>>>()?;
        let nobody: Who = [
            u64::from(NO_INDEX) << 32,
            scale.rebate(0),
            scale.rebate(0),
            0,
            0,
            0,
            0,
            0,
        ];
        let who = order.iter().map(|(index, candidate)| {
            Some([
                u64::from(candidate.model_id) | u64::from(*index) << 32,
                scale.rebate(candidate.input_cost_microunits_per_million_tokens),
                scale.rebate(candidate.output_cost_microunits_per_million_tokens),
                candidate.quality_bps.into(),
                latency_penalty(limits, candidate.p95_latency_ms, LARGEST_LATENCY_PENALTY)?,
                0,
                0,
                0,
            ])
        });
        Some(Self {
            token,
            blocks: offers.chunks(LANES).map(block).collect(),
            offers,
            nobody,
            who: iter::once(Some(nobody)).chain(who).collect::<Option<_>>()?,
            scale,
            evaluated: cast::u64_from_usize(candidates.len()),
            candidates: cast::u32_from_usize(candidates.len())?,
            disabled: cast::u32_from_usize(candidates.len().checked_sub(order.len())?)?,
            policy_epoch: limits.policy_epoch,
            catalog_epoch: limits.catalog_epoch,
            by_utility: limits.objective == Objective::Utility,
            hard_risk_limit_bps: limits.hard_risk_limit_bps.into(),
            minimum_confidence_bps: limits.minimum_confidence_bps.into(),
            risk_penalty_multiplier_bps: limits.risk_penalty_multiplier_bps.into(),
        })
    }
}

impl Table {
    /// Whom a key names.
    #[inline(always)]
    pub(super) fn named(&self, key: u64) -> &Who {
        let place = cast::usize_from_u64(key & PLACES).unwrap_or(0);
        self.who.get(place).unwrap_or(&self.nobody)
    }

    /// At most so many tokens are decided here.
    #[cfg(test)]
    pub(super) const fn tokens_max(&self) -> u64 {
        self.scale.tokens_max
    }

    /// How many candidates are switched on.
    pub(super) const fn enabled(&self) -> u64 {
        cast::u64_from_usize(self.offers.len())
    }

    /// What candidates failed at first, from the counts of [`lost`](super::meet::lost).
    #[inline(always)]
    pub(super) fn rejections(&self, counts: [u32; 7], eligible: u16) -> Rejections {
        Rejections::of(self.candidates, self.disabled, counts, eligible)
    }
}

/// Up to eight offers, each of their numbers in a row. Who is missing is a candidate that is switched off.
fn block(offers: &[Offer]) -> [Lane; 8] {
    let off = Side::new(&Candidate {
        enabled: false,
        ..Candidate::default()
    });
    let nobody = [!off.standing, 0, 0, 0, 0, 0, 0, 0];
    let mut block = [Lane::default(); 8];
    for (lane, offer) in offers.iter().chain(iter::repeat(&nobody)).take(LANES).enumerate() {
        for (row, number) in block.iter_mut().zip(offer) {
            if let Some(place) = row.get_mut(lane) {
                *place = *number;
            }
        }
    }
    block
}
