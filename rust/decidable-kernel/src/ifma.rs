//! Requests and candidates meet with AVX-512 and its multiplication of 52 bits. Eight requests meet one candidate after
//! the other, or one request meets eight candidates at a time: the arithmetic is the same, and only which side is spread
//! over the lanes differs.
//!
//! It finds the first two in an objective's order for ordinary numbers, cut or rounded so that the result is that of the
//! definition ([`Policy::derive`](crate::Policy::derive)); what it cannot decide it says: numbers beyond the bounds below, and
//! equal utilities where that matters. Integers only, as everywhere.

use core::{arch::x86_64::*, hint, iter, ops::RangeInclusive};

use decidable_canon::{
    cast,
    units::{BPS_WHOLE, BPS_WHOLE_SQUARED, TOKENS_PER_RATE},
};
use fearless_simd::{Avx512, kernel, prelude::*, u8x64, u64x8};

use crate::{
    Candidate, Limits, Objective, Rejections, RequestFields,
    decision::{DECISION_ROW_BYTES, DecisionRow, NO_INDEX},
    request::{REQUEST_ROW_BYTES, RequestRow},
    screen::{GUARDS, LATENCY_GUARD, QUALITY_GUARD, RISK_GUARD, Side},
};

/// How many requests, or candidates, meet at a time.
pub(crate) const LANES: usize = 8;

/// One number of each.
type Lane = [u64; LANES];

/// A product has this many bits above those that are cut.
const PRODUCT_BITS: u32 = 52;
/// 34 thousand currency units: its product with a proportion is below 2^49.
const LARGEST_VALUE: u64 = 1 << 35;
/// The risk penalty is a product below 2^60 before it is divided: eight bits less are 52.
const RISK_PRODUCT_BITS: u32 = 60;
const LARGEST_LATENCY_PENALTY: u64 = 1 << 45;
/// More than any cost within the bounds, and a signed number.
const LARGEST_BUDGET: u64 = 1 << 62;
/// Bits behind the point of a rate. With fewer only requests of a few thousand tokens would be within the bounds; with more, no
/// request would be allowed more tokens.
const SCALE_BITS: RangeInclusive<u32> = 34..=50;
/// Bits of a place among the candidates, below what is compared in a key. Places begin at 1, so that no key is 0.
const PLACE_BITS: u32 = 16;
const PLACES: u64 = (1 << PLACE_BITS) - 1;
/// Bits of a cost, above the place: with objectives that look at something else first, that stands above it.
const COST_BITS: u32 = 33;
const CLASSES: usize = 1 << (63 - COST_BITS - PLACE_BITS);

// floor(n / 10^8) is floor(m / d) with m = n >> 8 and d = 390,625, because 10^8 = 2^8 × d. With M = (2^70 + e) / d, a whole
// number, m × M / 2^70 is too large by m × e / (d × 2^70). For m < 2^52 and e < 2^18 that is less than 1 / d, so that nothing
// more is cut off.
const WHOLE_CUT: u32 = 8;
const WHOLE_REST: u128 = 390_625;
const WHOLE_INVERSE: u64 = cast::u64_saturating_from_u128((1 << 70) / WHOLE_REST + 1);
const WHOLE_SHIFT: u32 = 70 - PRODUCT_BITS;
/// 2^52 / 10^8 with 24 more bits, rounded up: a remainder below 10^8 as bits behind the point.
const PART_BITS: u32 = 24;
const PART_FACTOR: u64 = cast::u64_saturating_from_u128((1_u128 << (PRODUCT_BITS + PART_BITS)).div_ceil(100_000_000));

const _: () = assert!(BPS_WHOLE_SQUARED == 390_625 << WHOLE_CUT);
const _: () = assert!(((1 << 70) / WHOLE_REST + 1) * WHOLE_REST - (1 << 70) < 1 << 18);
const _: () = assert!(WHOLE_INVERSE >> PRODUCT_BITS == 0 && PART_FACTOR >> PRODUCT_BITS == 0);

/// How rates and tokens are written in fixed point, so that the largest rate of the catalog fits.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Bits behind the point of a microunit per token.
    bits: u32,
    /// At most so many tokens.
    tokens_max: u64,
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
    const fn shift(self) -> u32 {
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
type Offer = [u64; 8];

/// What a decision needs of the candidate that it names: its number with its place in the catalog above, the rebates of input
/// and output, its quality and its latency penalty. As many numbers as there are lanes, so that it is read as a vector.
type Who = [u64; 8];

/// A catalog in fixed point.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    offers: Vec<Offer>,
    /// The same, eight candidates at a time, each of their numbers in a row.
    blocks: Vec<[Lane; 8]>,
    /// Who stands at each place, from 1 on; nobody at 0.
    who: Vec<Who>,
    scale: Scale,
    /// What every decision has: how many candidates were looked at, and the epochs.
    evaluated: u64,
    candidates: u32,
    disabled: u32,
    policy_epoch: u64,
    catalog_epoch: u64,
    value_max: u64,
    by_utility: bool,
    hard_risk_limit_bps: u64,
    minimum_confidence_bps: u64,
    risk_penalty_multiplier_bps: u64,
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
    fn named(&self, key: u64) -> &Who {
        const NO_ONE: &Who = &[0; 8];
        let place = cast::usize_from_u64(key & PLACES).unwrap_or(0);
        self.who.get(place).unwrap_or(NO_ONE)
    }

    /// What candidates failed at first, from the counts of [`lost`]: those that are left had no positive utility.
    #[inline(always)]
    fn rejections(&self, counts: [u32; 7], eligible: u16) -> Rejections {
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

/// What came of one request that met all candidates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Met {
    Selected(Selected),
    Rejected(Rejections),
}

/// Who was selected, and who would be otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected {
    /// The selected candidate's place in the catalog.
    pub(crate) first: u16,
    /// The second's, if there is one.
    pub(crate) second: Option<u16>,
    pub(crate) cost: u64,
    pub(crate) utility: i64,
    pub(crate) second_utility: i64,
    pub(crate) eligible: u16,
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

/// What a request brings to every candidate: one number of each request in a lane, or one request in all lanes.
struct Asked {
    demanded: __m512i,
    required_capabilities: __m512i,
    refused_providers: __m512i,
    required_region_mask: __m512i,
    any_region: __m512i,
    /// Tokens, shifted to be multiplied.
    input: __m512i,
    output: __m512i,
    /// What a basis point of quality is worth: whole microunits, and 52 bits behind the point, rounded up.
    sure_whole: __m512i,
    sure_part: __m512i,
    /// The least that a request within its budget leaves of its base.
    least: __m512i,
    /// A key must be above it.
    floor: __m512i,
    /// What a cost is subtracted from.
    base: __m512i,
    risk_penalty: __m512i,
    /// Those that the definition must decide: refused before any candidate, or with numbers beyond the bounds.
    beyond: __mmask8,
}

/// The three largest keys of each lane.
#[derive(Clone, Copy)]
struct Best {
    first: __m512i,
    second: __m512i,
    third: __m512i,
}

macro_rules! with_features {
    ($(#[$meta:meta])* fn $($rest:tt)*) => {
        $(#[$meta])*
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi,avx512vl")]
        #[inline]
        fn $($rest)*
    };
}

with_features! {
    fn splat(number: u64) -> __m512i {
        _mm512_set1_epi64(number.cast_signed())
    }
}

/// The numbers of a vector.
#[inline(always)]
fn numbers(token: Avx512, vector: __m512i) -> Lane {
    u64x8::simd_from(token, vector).into()
}

with_features! {
    /// floor(n / 10^8) for numbers below 2^60.
    fn over_whole(numbers: __m512i) -> __m512i {
        let cut = _mm512_srli_epi64::<WHOLE_CUT>(numbers);
        let product = _mm512_madd52hi_epu64(_mm512_setzero_si512(), cut, splat(WHOLE_INVERSE));
        _mm512_srli_epi64::<WHOLE_SHIFT>(product)
    }
}

with_features! {
    /// Takes requests apart: input and output tokens, value, budget, the proportions, latency, and three masks.
    fn ask(table: &Table, columns: [__m512i; 8]) -> Asked {
        let [tokens, value, budget, proportions, latency, capabilities, providers, regions] = columns;
        let zero = _mm512_setzero_si512();
        let half = splat(u32::MAX.into());
        let quarter = splat(u16::MAX.into());
        let input = _mm512_and_si512(tokens, half);
        let output = _mm512_srli_epi64::<32>(tokens);
        let risk = _mm512_and_si512(proportions, quarter);
        let confidence = _mm512_and_si512(_mm512_srli_epi64::<16>(proportions), quarter);
        let quality = _mm512_and_si512(_mm512_srli_epi64::<32>(proportions), quarter);
        let value = _mm512_max_epi64(value, zero);

        let refused = _mm512_cmpge_epu64_mask(risk, splat(table.hard_risk_limit_bps))
            | _mm512_cmplt_epu64_mask(confidence, splat(table.minimum_confidence_bps));
        let beyond = refused
            | _mm512_cmpgt_epu64_mask(_mm512_max_epu64(input, output), splat(table.scale.tokens_max))
            | _mm512_cmpgt_epu64_mask(value, splat(table.value_max));

        // What is demanded, in the places of a standing: the complement of the longest latency, or 0 for any.
        let latency = _mm512_and_si512(latency, half);
        let limited = _mm512_test_epi64_mask(latency, latency);
        let demanded = _mm512_or_si512(
            _mm512_maskz_andnot_epi64(limited, latency, half),
            _mm512_or_si512(_mm512_slli_epi64::<33>(quality), _mm512_slli_epi64::<48>(risk)),
        );

        let product = _mm512_mullo_epi64(value, confidence);
        let sure_whole = over_whole(product);
        let remainder = _mm512_sub_epi64(product, _mm512_mullo_epi64(sure_whole, splat(BPS_WHOLE_SQUARED)));
        let part_high = _mm512_madd52hi_epu64(zero, remainder, splat(PART_FACTOR));
        let part_low = _mm512_madd52lo_epu64(zero, remainder, splat(PART_FACTOR));
        let part = _mm512_or_si512(
            _mm512_slli_epi64::<{ PRODUCT_BITS - PART_BITS }>(part_high),
            _mm512_srli_epi64::<PART_BITS>(part_low),
        );
        let sure_part = _mm512_add_epi64(part, splat(1));

        let multiplied = _mm512_mullo_epi64(risk, splat(table.risk_penalty_multiplier_bps));
        let risk_penalty = over_whole(_mm512_mullo_epi64(value, multiplied));

        let shift = splat(table.scale.shift().into());
        let input = _mm512_sllv_epi64(input, shift);
        let output = _mm512_sllv_epi64(output, shift);
        let base = _mm512_srli_epi64::<1>(_mm512_add_epi64(input, output));
        let surplus = _mm512_add_epi64(base, risk_penalty);
        let least = _mm512_sub_epi64(base, _mm512_min_epu64(budget, splat(LARGEST_BUDGET)));
        let floor = if table.by_utility {
            // A positive utility, at any place.
            let above = _mm512_slli_epi64::<PLACE_BITS>(_mm512_add_epi64(surplus, splat(1)));
            _mm512_sub_epi64(above, splat(1))
        } else {
            zero
        };
        // Who is not decided here passes nobody.
        let floor = _mm512_mask_mov_epi64(floor, beyond, splat(u64::MAX >> 1));
        Asked {
            demanded,
            required_capabilities: capabilities,
            refused_providers: _mm512_xor_si512(providers, splat(u64::MAX)),
            required_region_mask: regions,
            any_region: _mm512_maskz_mov_epi64(_mm512_testn_epi64_mask(regions, regions), splat(u64::MAX)),
            input,
            output,
            sure_whole,
            sure_part,
            least,
            floor,
            base,
            risk_penalty,
            beyond,
        }
    }
}

with_features! {
    /// Lets requests and candidates meet: the keys of those that pass the first eight gates, and 0 for the others.
    fn meet<const UTILITY: bool, const MASKS: bool>(asked: &Asked, offer: [__m512i; 8]) -> __m512i {
        let [shortfall, lacking, provider, region_mask, input, output, quality, beginning] = offer;
        // The gates as [`crate::screen`] has them: the complement of a difference is the complement plus the other.
        let sums = _mm512_add_epi64(shortfall, asked.demanded);
        let passes = if MASKS {
            const OR_AND: i32 = 0xf8;
            let below = _mm512_and_si512(sums, splat(GUARDS));
            let missing = _mm512_ternarylogic_epi64::<OR_AND>(below, asked.required_capabilities, lacking);
            let fails = _mm512_ternarylogic_epi64::<OR_AND>(missing, asked.refused_providers, provider);
            let within = _mm512_ternarylogic_epi64::<OR_AND>(asked.any_region, asked.required_region_mask, region_mask);
            _mm512_mask_testn_epi64_mask(_mm512_test_epi64_mask(within, within), fails, fails)
        } else {
            _mm512_testn_epi64_mask(sums, splat(GUARDS))
        };
        let left = _mm512_madd52hi_epu64(_mm512_setzero_si512(), asked.input, input);
        let left = _mm512_madd52hi_epu64(left, asked.output, output);
        let passes = _mm512_mask_cmpge_epi64_mask(passes, left, asked.least);
        let compared = if UTILITY {
            let whole = _mm512_madd52lo_epu64(left, asked.sure_whole, quality);
            _mm512_madd52hi_epu64(whole, asked.sure_part, quality)
        } else {
            left
        };
        _mm512_maskz_add_epi64(passes, _mm512_slli_epi64::<PLACE_BITS>(compared), beginning)
    }
}

impl Best {
    with_features! {
        /// Nobody above the floor.
        fn none(asked: &Asked) -> Self {
            Self { first: asked.floor, second: asked.floor, third: asked.floor }
        }
    }
    with_features! {
        /// With 0 where nobody came above the floor.
        fn above(self, asked: &Asked) -> Self {
            let above = |keys| _mm512_maskz_mov_epi64(_mm512_cmpgt_epi64_mask(keys, asked.floor), keys);
            Self { first: above(self.first), second: above(self.second), third: above(self.third) }
        }
    }
    with_features! {
        fn admit(&mut self, key: __m512i) {
            let rest = _mm512_min_epi64(self.first, key);
            self.first = _mm512_max_epi64(self.first, key);
            let last = _mm512_min_epi64(self.second, rest);
            self.second = _mm512_max_epi64(self.second, rest);
            self.third = _mm512_max_epi64(self.third, last);
        }
    }
    /// With each vector's lanes moved.
    #[inline(always)]
    fn moved(self, by: impl Fn(__m512i) -> __m512i) -> Self {
        Self {
            first: by(self.first),
            second: by(self.second),
            third: by(self.third),
        }
    }
    with_features! {
        /// The best of both, lane by lane.
        fn merge(self, other: Self) -> Self {
            let first = _mm512_max_epi64(self.first, other.first);
            let rest = _mm512_min_epi64(self.first, other.first);
            let seconds = _mm512_max_epi64(self.second, other.second);
            let second = _mm512_max_epi64(rest, seconds);
            let third = _mm512_max_epi64(
                _mm512_min_epi64(rest, seconds),
                _mm512_max_epi64(
                    _mm512_min_epi64(self.second, other.second),
                    _mm512_max_epi64(self.third, other.third),
                ),
            );
            Self { first, second, third }
        }
    }
    with_features! {
        /// The lanes where equal utilities leave it open who is first or second.
        fn tied(self) -> __mmask8 {
            let compared = |keys| _mm512_srli_epi64::<PLACE_BITS>(keys);
            let (first, second, third) = (compared(self.first), compared(self.second), compared(self.third));
            let both = _mm512_test_epi64_mask(self.second, self.second);
            both & (_mm512_cmpeq_epi64_mask(first, second) | _mm512_cmpeq_epi64_mask(second, third))
        }
    }
}

with_features! {
    /// Eight rows as eight columns.
    fn transposed(rows: [__m512i; 8]) -> [__m512i; 8] {
        let [a, b, c, d, e, f, g, h] = rows;
        let pairs = |a, b| (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
        let quads = |ab, cd, ef, gh| {
            let (low, high) = (_mm512_shuffle_i64x2::<0x44>(ab, cd), _mm512_shuffle_i64x2::<0xee>(ab, cd));
            let (low2, high2) = (_mm512_shuffle_i64x2::<0x44>(ef, gh), _mm512_shuffle_i64x2::<0xee>(ef, gh));
            [
                _mm512_shuffle_i64x2::<0x88>(low, low2),
                _mm512_shuffle_i64x2::<0xdd>(low, low2),
                _mm512_shuffle_i64x2::<0x88>(high, high2),
                _mm512_shuffle_i64x2::<0xdd>(high, high2),
            ]
        };
        let [c0, c2, c4, c6] = quads(ab0, cd0, ef0, gh0);
        let [c1, c3, c5, c7] = quads(ab1, cd1, ef1, gh1);
        [c0, c1, c2, c3, c4, c5, c6, c7]
    }
}

/// Where the fields of a request's row are in its last 64 bytes, by the columns of [`ask`]; 255 for a zero.
const FIELDS: [u8; 64] = {
    const NO: u8 = 255;
    // A row begins with 8 bytes of number, of which 6 are before the last 64.
    [
        6, 7, 8, 9, 10, 11, 12, 13, // input_tokens, output_tokens
        14, 15, 16, 17, 18, 19, 20, 21, // business_value_microunits
        22, 23, 24, 25, 26, 27, 28, 29, // budget_limit_microunits
        30, 31, 32, 33, 34, 35, NO, NO, // risk_bps, confidence_bps, minimum_quality_bps
        36, 37, 38, 39, 2, 3, 4, 5, // max_p95_latency_ms, requested_model_id
        40, 41, 42, 43, 44, 45, 46, 47, // required_capabilities
        48, 49, 50, 51, 52, 53, 54, 55, // allowed_provider_mask
        56, 57, 58, 59, 60, 61, 62, 63, // required_region_mask
    ]
};

const _: () = assert!(REQUEST_ROW_BYTES == 70);

with_features! {
    /// Rows as the columns of [`ask`].
    fn columns(token: Avx512, rows: [&RequestRow; LANES]) -> [__m512i; 8] {
        let fields: __m512i = u8x64::simd_from(token, FIELDS).into();
        let present = !_mm512_movepi8_mask(fields);
        transposed(rows.map(|row| {
            let last = match row.last_chunk::<64>() {
                Some(last) => u8x64::simd_from(token, *last).into(),
                None => _mm512_setzero_si512(),
            };
            _mm512_maskz_permutexvar_epi8(present, fields, last)
        }))
    }
}

/// The first 64 bytes of a decision's row, from the columns that [`decide_rows`] gathers. Its number comes from the request.
const LAYOUT: [u8; 64] = [
    0, 0, 0, 0, 0, 0, 0, 0, // request_sequence
    6, // action
    7, 63, // reason, whose second byte is 0
    0, 1, 2, 3, // selected_model_id
    4, 5, // selected_model_index
    8, 9, 10, 11, 12, 13, 14, 15, // estimated_cost_microunits
    16, 17, 18, 19, 20, 21, 22, 23, // expected_utility_microunits
    24, 25, 26, 27, // counterfactual_model_id
    32, 33, 34, 35, 36, 37, 38, 39, // counterfactual_utility_microunits
    56, 57, // evaluated_models
    28, 29, // eligible_models
    40, 41, 42, 43, 44, 45, 46, 47, // policy_epoch
    48, 49, 50, 51, 52, 53, 54, // catalog_epoch, but for its last byte
];

const REJECTED: u64 = 3 << 48;
const SELECTED: u64 = 1 << 48 | 1 << 56;

const _: () = assert!(DECISION_ROW_BYTES == 65);

/// What the rows of a piece still need, one bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// The definition.
    pub(crate) beyond: u64,
    /// The reason of a rejection.
    pub(crate) rejected: u64,
}

/// How many rows a piece has at most: one bit each.
pub(crate) const PIECE: usize = 64;

kernel! {
    /// Decides a piece of rows, but for what is left.
    pub(crate) fn decide_rows(
        token: Avx512, table: &Table, requests: &[RequestRow], decisions: &mut [DecisionRow]
    ) -> Left {
        let layout: __m512i = u8x64::simd_from(token, LAYOUT).into();
        let constant = [splat(table.policy_epoch), splat(table.catalog_epoch), splat(table.evaluated)];
        let [.., last_byte] = table.catalog_epoch.to_le_bytes();
        let mut left = Left::default();
        let groups = requests.chunks(LANES).zip(decisions.chunks_mut(LANES));
        for ((requests, decisions), start) in groups.zip((0_u32..).step_by(LANES)) {
            let Some(first) = requests.first() else { continue };
            // A shorter group has its first row in the lanes that are left.
            let mut rows = [first; LANES];
            for (row, request) in rows.iter_mut().zip(requests) {
                *row = request;
            }
            let columns = columns(token, rows);
            let asked = ask(table, columns);
            let [_, _, _, _, latency_and_model, capabilities, providers, regions] = columns;
            let masks = _mm512_or_si512(
                _mm512_or_si512(capabilities, regions),
                _mm512_xor_si512(providers, splat(u64::MAX)),
            );
            let (best, eligible) = match (table.by_utility, _mm512_test_epi64_mask(masks, masks) != 0) {
                (true, true) => meet_all::<true, true>(&asked, &table.offers),
                (true, false) => meet_all::<true, false>(&asked, &table.offers),
                (false, _) => meet_all::<false, true>(&asked, &table.offers),
            };

            let first = numbers(token, best.first).map(|key| table.named(key));
            let second = numbers(token, best.second).map(|key| table.named(key));
            // The second's number goes into a column that the first leaves free.
            let mut seconds = second.iter();
            let [chosen, input, output, quality, latency_penalty, .., alternative] = transposed(first.map(|who| {
                let number = seconds.next().map_or(0, |[number, ..]| *number);
                let who = u64x8::simd_from(token, *who).into();
                _mm512_mask_set1_epi64(who, 1 << 7, number.cast_signed())
            }));
            let cost = cost(&asked, input, output);
            let (utility, second_utility) = if table.by_utility {
                (asked.utility(best.first), asked.utility(best.second))
            } else {
                let [_, input, output, second_quality, second_penalty, ..] =
                    transposed(second.map(|who| u64x8::simd_from(token, *who).into()));
                let second_cost = self::cost(&asked, input, output);
                (
                    asked.worth(cost, quality, latency_penalty),
                    asked.worth(second_cost, second_quality, second_penalty),
                )
            };
            let any = _mm512_test_epi64_mask(best.first, best.first);
            let two = _mm512_test_epi64_mask(best.second, best.second);
            let requested = _mm512_srli_epi64::<32>(latency_and_model);
            let other = _mm512_cmpneq_epi64_mask(_mm512_and_si512(chosen, splat(u32::MAX.into())), requested);
            // Action and reason are 1 for the requested candidate and 2 for another.
            let what = _mm512_mask_add_epi64(splat(SELECTED), other, splat(SELECTED), splat(SELECTED));
            let what = _mm512_mask_mov_epi64(splat(REJECTED), any, what);
            let rows = transposed([
                _mm512_or_si512(chosen, what),
                cost,
                _mm512_maskz_mov_epi64(any, utility),
                _mm512_or_si512(
                    _mm512_and_si512(alternative, splat(u32::MAX.into())),
                    _mm512_slli_epi64::<32>(eligible),
                ),
                _mm512_maskz_mov_epi64(two, second_utility),
                constant[0],
                constant[1],
                constant[2],
            ]);
            for ((row, request), decision) in rows.into_iter().zip(requests).zip(decisions.iter_mut()) {
                let bytes: [u8; 64] = u8x64::simd_from(token, _mm512_permutexvar_epi8(layout, row)).into();
                if let Some(begins) = decision.first_chunk_mut::<64>() {
                    *begins = bytes;
                }
                if let (Some(to), Some(from)) = (decision.first_chunk_mut::<8>(), request.first_chunk::<8>()) {
                    *to = *from;
                }
                if let Some(last) = decision.last_mut() {
                    *last = last_byte;
                }
            }
            let beyond = asked.beyond | best.tied();
            left.beyond |= u64::from(beyond) << start;
            left.rejected |= u64::from(!any & !beyond) << start;
        }
        let here = u64::MAX >> (PIECE.saturating_sub(requests.len())).min(63);
        Left { beyond: left.beyond & here, rejected: left.rejected & here }
    }
}

with_features! {
    /// The costs at the rebates of candidates.
    fn cost(asked: &Asked, input: __m512i, output: __m512i) -> __m512i {
        let left = _mm512_madd52hi_epu64(_mm512_setzero_si512(), asked.input, input);
        _mm512_sub_epi64(asked.base, _mm512_madd52hi_epu64(left, asked.output, output))
    }
}

impl Asked {
    with_features! {
        /// The utilities in keys that compare them.
        fn utility(&self, keys: __m512i) -> __m512i {
            let compared = _mm512_srli_epi64::<PLACE_BITS>(keys);
            _mm512_sub_epi64(compared, _mm512_add_epi64(self.base, self.risk_penalty))
        }
    }
    with_features! {
        /// The utilities of candidates with a cost, a quality and a latency penalty.
        fn worth(&self, cost: __m512i, quality: __m512i, latency_penalty: __m512i) -> __m512i {
            let whole = _mm512_madd52lo_epu64(_mm512_setzero_si512(), self.sure_whole, quality);
            let value = _mm512_madd52hi_epu64(whole, self.sure_part, quality);
            let penalties = _mm512_add_epi64(self.risk_penalty, latency_penalty);
            _mm512_sub_epi64(_mm512_sub_epi64(value, penalties), cost)
        }
    }
}

with_features! {
    fn meet_all<const UTILITY: bool, const MASKS: bool>(asked: &Asked, offers: &[Offer]) -> (Best, __m512i) {
        let mut best = Best::none(asked);
        let mut eligible = _mm512_setzero_si512();
        // The compiler would make a subtraction of a spread mask of this, if it knew the number.
        let one = splat(hint::black_box(1));
        for offer in offers {
            let key = meet::<UTILITY, MASKS>(asked, offer.map(|number| splat(number)));
            let passes = _mm512_cmpgt_epi64_mask(key, asked.floor);
            eligible = _mm512_mask_add_epi64(eligible, passes, eligible, one);
            best.admit(key);
        }
        (best.above(asked), eligible)
    }
}

kernel! {
    /// How many candidates each request lost at each gate, each counted at the first that it failed. What is left of those
    /// that are switched on, but for the eligible, had no positive utility.
    pub(crate) fn count_rows(token: Avx512, table: &Table, rows: [(&RequestRow, u16); LANES]) -> [Rejections; LANES] {
        let asked = ask(table, columns(token, rows.map(|(row, _)| row)));
        let [low, high] = count_all(&asked, &table.offers);
        let mut counts = numbers(token, low).into_iter().zip(numbers(token, high)).zip(rows);
        [(); LANES].map(|()| {
            let Some(((low, high), (_, eligible))) = counts.next() else {
                return Rejections::default();
            };
            let count = |numbers: u64, at: u32| u32::try_from(numbers >> at & 0xffff).unwrap_or(0);
            let low = [0, 16, 32, 48].map(|at| count(low, at));
            let high = [0, 16, 32].map(|at| count(high, at));
            let ([quality, latency, capability, provider], [region, risk_ceiling, budget]) = (low, high);
            table.rejections([quality, latency, capability, provider, region, risk_ceiling, budget], eligible)
        })
    }
}

with_features! {
    /// Counts of 16 bits side by side, in the order of [`lost`].
    fn count_all(asked: &Asked, offers: &[Offer]) -> [__m512i; 2] {
        let mut counts = [_mm512_setzero_si512(); 2];
        for offer in offers {
            let mut left = u8::MAX;
            let [low, high] = &mut counts;
            let mut add = |count: &mut __m512i, lost: __mmask8, one: u64| {
                *count = _mm512_mask_add_epi64(*count, left & lost, *count, splat(one));
                left &= !lost;
            };
            let [quality, latency, capability, provider, region, risk_ceiling, budget] =
                lost(asked, offer.map(|number| splat(number)));
            add(low, quality, 1);
            add(low, latency, 1 << 16);
            add(low, capability, 1 << 32);
            add(low, provider, 1 << 48);
            add(high, region, 1);
            add(high, risk_ceiling, 1 << 16);
            add(high, budget, 1 << 32);
        }
        counts
    }
}

with_features! {
    /// Who fails at quality, latency, capability, provider, region, risk ceiling and budget.
    fn lost(asked: &Asked, offer: [__m512i; 8]) -> [__mmask8; 7] {
        let [shortfall, lacking, provider, region_mask, input, output, ..] = offer;
        let below = _mm512_add_epi64(shortfall, asked.demanded);
        let within = _mm512_and_si512(asked.required_region_mask, region_mask);
        let within = _mm512_or_si512(within, asked.any_region);
        let rest = _mm512_madd52hi_epu64(_mm512_setzero_si512(), asked.input, input);
        let rest = _mm512_madd52hi_epu64(rest, asked.output, output);
        [
            _mm512_test_epi64_mask(below, splat(QUALITY_GUARD)),
            _mm512_test_epi64_mask(below, splat(LATENCY_GUARD)),
            _mm512_test_epi64_mask(asked.required_capabilities, lacking),
            _mm512_test_epi64_mask(asked.refused_providers, provider),
            _mm512_testn_epi64_mask(within, within),
            _mm512_test_epi64_mask(below, splat(RISK_GUARD)),
            _mm512_cmplt_epi64_mask(rest, asked.least),
        ]
    }
}

kernel! {
    /// Lets one request meet all candidates, eight at a time; `None` where the definition must decide.
    pub(crate) fn decide_one(token: Avx512, table: &Table, request: &RequestFields) -> Option<Met> {
        let columns = [
            u64::from(request.input_tokens) | u64::from(request.output_tokens) << 32,
            request.business_value_microunits.cast_unsigned(),
            request.budget_limit_microunits,
            u64::from(request.risk_bps)
                | u64::from(request.confidence_bps) << 16
                | u64::from(request.minimum_quality_bps) << 32,
            request.max_p95_latency_ms.into(),
            request.required_capabilities,
            request.allowed_provider_mask,
            request.required_region_mask,
        ];
        let asked = ask(table, columns.map(|number| splat(number)));
        let mut best = Best::none(&asked);
        let mut eligible = 0_u32;
        for block in &table.blocks {
            let offer = block.map(|numbers| u64x8::simd_from(token, numbers).into());
            let key = if table.by_utility {
                meet::<true, true>(&asked, offer)
            } else {
                meet::<false, true>(&asked, offer)
            };
            let passes = _mm512_cmpgt_epi64_mask(key, asked.floor);
            eligible = eligible.wrapping_add(passes.count_ones());
            best.admit(key);
        }
        // The other half, the other quarter of each half, and the neighbour.
        let best = best.merge(best.moved(|keys| _mm512_shuffle_i64x2::<0x4e>(keys, keys)));
        let best = best.merge(best.moved(|keys| _mm512_shuffle_i64x2::<0xb1>(keys, keys)));
        let best = best.merge(best.moved(|keys| _mm512_permutex_epi64::<0xb1>(keys))).above(&asked);
        if (asked.beyond | best.tied()) & 1 == 1 {
            return None;
        }
        let first = |vector: __m512i| _mm_cvtsi128_si64(_mm512_castsi512_si128(vector));
        if first(best.first) == 0 {
            return Some(Met::Rejected(table.rejections(count_one(token, table, &asked), 0)));
        }
        let [chosen, alternative] = [best.first, best.second].map(|keys| table.named(first(keys).cast_unsigned()));
        let place = |who: &Who| u16::try_from(who[0] >> 32).ok().filter(|index| *index != NO_INDEX);
        let costs = cost(&asked, splat(chosen[1]), splat(chosen[2]));
        let (utility, second_utility) = if table.by_utility {
            (first(asked.utility(best.first)), first(asked.utility(best.second)))
        } else {
            let second = cost(&asked, splat(alternative[1]), splat(alternative[2]));
            (
                first(asked.worth(costs, splat(chosen[3]), splat(chosen[4]))),
                first(asked.worth(second, splat(alternative[3]), splat(alternative[4]))),
            )
        };
        Some(Met::Selected(Selected {
            first: place(chosen)?,
            second: place(alternative),
            cost: first(costs).cast_unsigned(),
            utility,
            second_utility,
            eligible: u16::try_from(eligible).unwrap_or(u16::MAX),
        }))
    }
}

with_features! {
    /// How many candidates a request lost at each of the first eight gates.
    fn count_one(token: Avx512, table: &Table, asked: &Asked) -> [u32; 7] {
        let mut counts = [0_u32; 7];
        let mut rest = table.offers.len();
        for block in &table.blocks {
            let lost = lost(asked, block.map(|numbers| u64x8::simd_from(token, numbers).into()));
            let mut left = match rest {
                LANES.. => u8::MAX,
                _ => !(u8::MAX << rest),
            };
            rest = rest.saturating_sub(LANES);
            for (count, lost) in counts.iter_mut().zip(lost) {
                *count = count.wrapping_add((left & lost).count_ones());
                left &= !lost;
            }
        }
        counts
    }
}
