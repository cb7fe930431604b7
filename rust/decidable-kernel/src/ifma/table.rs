use core::{iter, ops::RangeInclusive};

use decidable_canon::{
    cast,
    units::{BPS_WHOLE, TOKENS_PER_RATE},
};

use super::{LANES, Lane};
use crate::{
    Candidate, Limits, Objective, Rejections,
    decision::NO_INDEX,
    screen::{GUARDS, Side},
};

/// A product has this many bits above those that are cut.
pub(super) const PRODUCT_BITS: u32 = 52;
/// 34 thousand currency units: its product with a proportion is below 2^49.
const LARGEST_VALUE: u64 = 1 << 35;
/// The risk penalty is a product below 2^60 before it is divided: eight bits less are 52.
const RISK_PRODUCT_BITS: u32 = 60;
const LARGEST_LATENCY_PENALTY: u64 = 1 << 45;
/// Bits behind the point of a rate. With fewer only requests of a few thousand tokens would be within the bounds; with more, no
/// request would be allowed more tokens.
const SCALE_BITS: RangeInclusive<u32> = 34..=50;
/// Bits of a place among the candidates, below what is compared in a key. Places begin at 1, so that no key is 0.
pub(super) const PLACE_BITS: u32 = 16;
const PLACES: u64 = (1 << PLACE_BITS) - 1;
/// Bits of a cost, above the place: with objectives that look at something else first, that stands above it.
const COST_BITS: u32 = 33;
const CLASSES: usize = 1 << (63 - COST_BITS - PLACE_BITS);

/// How rates and tokens are written in fixed point, so that the largest rate of the catalog fits.
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
        let tokens_max = ((1 << bits) / TOKENS_PER_RATE).min(u32::MAX.into());
        Some(Self { bits, tokens_max })
    }

    /// What a number of tokens is shifted by, to be multiplied.
    pub(super) const fn shift(self) -> u32 {
        PRODUCT_BITS - self.bits
    }

    /// A rate as its distance from the largest that there could be. Then a product, cut, is a number of tokens less a
    /// cost that is rounded up: floor(t × (1 − r)) = t − ceil(t × r).
    fn rebate(self, rate: u64) -> u64 {
        (1_u64 << (PRODUCT_BITS - 1)).saturating_sub(cast::u64_saturating_from_u128(fixed(rate, self.bits)))
    }
}

/// A rate as microunits per token, rounded down.
fn fixed(rate: u64, bits: u32) -> u128 {
    (u128::from(rate) << bits) / u128::from(TOKENS_PER_RATE)
}

/// A candidate's side: shortfall (the complement of its standing), lacking (of its capabilities), provider, regions, the
/// rebates of input and output, quality, and what its key begins with.
pub(super) type Offer = [u64; 8];

/// What a decision needs of the candidate that it names: its number with its place in the catalog above, the rebates of input
/// and output, its quality and its latency penalty. As many numbers as there are lanes, so that it is read as a vector.
pub(super) type Who = [u64; 8];

/// A catalog in fixed point.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(super) offers: Vec<Offer>,
    /// The same, eight candidates at a time, each of their numbers in a row.
    pub(super) blocks: Vec<[Lane; 8]>,
    /// Who stands at each place, from 1 on; nobody at 0.
    who: Vec<Who>,
    pub(super) scale: Scale,
    /// What every decision has: how many candidates were looked at, and the epochs.
    pub(super) evaluated: u64,
    candidates: u32,
    disabled: u32,
    pub(super) policy_epoch: u64,
    pub(super) catalog_epoch: u64,
    pub(super) value_max: u64,
    pub(super) by_utility: bool,
    pub(super) hard_risk_limit_bps: u64,
    pub(super) minimum_confidence_bps: u64,
    pub(super) risk_penalty_multiplier_bps: u64,
}

impl Table {
    /// `None` where a number of the catalog is beyond the bounds.
    pub(crate) fn new(limits: &Limits, candidates: &[Candidate]) -> Option<Self> {
        let rates = candidates.iter().flat_map(|candidate| {
            [
                candidate.input_cost_microunits_per_million_tokens,
                candidate.output_cost_microunits_per_million_tokens,
            ]
        });
        let scale = Scale::new(rates.max()?)?;
        let mut order: Vec<(u16, &Candidate)> = candidates
            .iter()
            .zip(0..)
            .filter(|(candidate, _)| candidate.enabled)
            .map(|(candidate, index)| (index, candidate))
            .collect();
        // Of two that are equal in what a key compares, the later has the larger place and comes first.
        let quality = |candidate: &Candidate| candidate.quality_bps;
        let latency = |candidate: &Candidate| core::cmp::Reverse(candidate.p95_latency_ms);
        match limits.objective {
            Objective::Utility => {}
            Objective::Cheapest => order.sort_by_key(|(index, c)| (quality(c), latency(c), core::cmp::Reverse(*index))),
            Objective::Quality => order.sort_by_key(|(index, c)| (latency(c), core::cmp::Reverse(*index))),
            Objective::Fastest => order.sort_by_key(|(index, c)| (quality(c), core::cmp::Reverse(*index))),
        }
        let classes = classes(limits.objective, &order)?;
        let offers = order
            .iter()
            .zip(1..)
            .map(|((_, candidate), place)| {
                let penalty =
                    u64::from(candidate.p95_latency_ms).checked_mul(limits.latency_penalty_microunits_per_ms)?;
                let beginning = match limits.objective {
                    Objective::Utility if penalty > LARGEST_LATENCY_PENALTY => return None,
                    Objective::Utility => (0_u64.wrapping_sub(penalty) << PLACE_BITS).wrapping_add(place),
                    Objective::Cheapest => place,
                    Objective::Quality => class(&classes, candidate.quality_bps.into()).wrapping_add(place),
                    Objective::Fastest => class(&classes, (!candidate.p95_latency_ms).into()).wrapping_add(place),
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
                latency_penalty(limits, candidate)?,
                0,
                0,
                0,
            ])
        });
        let multiplier = u64::from(limits.risk_penalty_multiplier_bps);
        let largest = (1_u64 << RISK_PRODUCT_BITS) / (u64::from(BPS_WHOLE) * multiplier.max(1));
        Some(Self {
            blocks: offers.chunks(LANES).map(block).collect(),
            offers,
            who: iter::once(Some(nobody)).chain(who).collect::<Option<_>>()?,
            scale,
            evaluated: cast::u64_from_usize(candidates.len()),
            candidates: cast::u32_from_usize(candidates.len())?,
            disabled: cast::u32_from_usize(candidates.len().checked_sub(order.len())?)?,
            policy_epoch: limits.policy_epoch,
            catalog_epoch: limits.catalog_epoch,
            value_max: LARGEST_VALUE.min(largest.saturating_sub(1)),
            by_utility: limits.objective == Objective::Utility,
            hard_risk_limit_bps: limits.hard_risk_limit_bps.into(),
            minimum_confidence_bps: limits.minimum_confidence_bps.into(),
            risk_penalty_multiplier_bps: multiplier,
        })
    }
}

impl Table {
    /// Whom a key names.
    #[inline(always)]
    pub(super) fn named(&self, key: u64) -> &Who {
        const NO_ONE: &Who = &[0; 8];
        let place = cast::usize_from_u64(key & PLACES).unwrap_or(0);
        self.who.get(place).unwrap_or(NO_ONE)
    }

    /// What candidates failed at first, from the counts of [`lost`]: those that are left had no positive utility.
    #[inline(always)]
    pub(super) fn rejections(&self, counts: [u32; 7], eligible: u16) -> Rejections {
        let [quality, latency, capability, provider, region, risk_ceiling, budget] = counts;
        let counted = Rejections {
            disabled: self.disabled,
            quality,
            risk_ceiling,
            latency,
            capability,
            provider,
            region,
            budget,
            utility: 0,
        };
        let left = self.candidates.wrapping_sub(counted.sum());
        Rejections {
            utility: left.wrapping_sub(eligible.into()),
            ..counted
        }
    }
}

fn latency_penalty(limits: &Limits, candidate: &Candidate) -> Option<u64> {
    u64::from(candidate.p95_latency_ms)
        .checked_mul(limits.latency_penalty_microunits_per_ms)
        .filter(|penalty| *penalty <= LARGEST_LATENCY_PENALTY)
}

/// What an objective compares before the cost, ascending; `None` if there are more than a key has bits for.
fn classes(objective: Objective, order: &[(u16, &Candidate)]) -> Option<Vec<u64>> {
    let compared: fn(&Candidate) -> u64 = match objective {
        Objective::Utility | Objective::Cheapest => return Some(Vec::new()),
        Objective::Quality => |candidate| candidate.quality_bps.into(),
        Objective::Fastest => |candidate| (!candidate.p95_latency_ms).into(),
    };
    let mut classes: Vec<u64> = order.iter().map(|(_, candidate)| compared(candidate)).collect();
    classes.sort_unstable();
    classes.dedup();
    (classes.len() <= CLASSES).then_some(classes)
}

fn class(classes: &[u64], compared: u64) -> u64 {
    cast::u64_from_usize(classes.partition_point(|class| *class < compared)) << (COST_BITS + PLACE_BITS)
}

/// Up to eight offers, each of their numbers in a row. Who is missing is a candidate that is switched off.
fn block(offers: &[Offer]) -> [Lane; 8] {
    let nobody = [!(GUARDS & (GUARDS >> 1)), u64::MAX, u64::MAX, 0, 0, 0, 0, 0];
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
