//! Four requests side by side against one catalog, with vectors of up to 256 bits: each lane of a vector belongs to one
//! request, and the candidates pass by one after the other.
//!
//! [`Policy::derive`] is the definition. The lanes find the first two in the order of utilities for ordinary numbers, cut or
//! rounded so that the result is that of the definition; what they cannot decide is decided one after the other: numbers
//! outside the bounds below. Integers only, as everywhere.
//!
//! A cost is a subtraction here. A request begins with a base, its tokens at the largest rate that there could be, and each
//! candidate leaves some of it: `left = base − cost`. What is compared is `utility + surplus`, where the surplus is the base and
//! the request's risk penalty, and a key is that above a place: `utility + surplus | place 16`.

use core::iter;

use decidable_canon::{
    cast,
    units::{BPS_WHOLE, BPS_WHOLE_SQUARED, TOKENS_PER_RATE},
};
use fearless_simd::{Level, dispatch, i64x4, mask64x4, prelude::*, u8x16, u32x8, u64x2, u64x4};

use crate::{
    Candidate, Limits, Objective, Policy, Rejections,
    decision::{DECISION_ROW_BYTES, DecisionRow, NO_INDEX},
    gate::unpacked,
    left::{Left, PIECE},
    places::{PLACE_BITS, PLACES, Places},
    price::latency_penalty,
    request::{REQUEST_ROW_BYTES, RequestRow},
    screen::{ENABLED, GUARDS, LATENCY_GUARD, QUALITY, QUALITY_GUARD, RISK, RISK_GUARD, Side},
};

/// How many requests are decided side by side: with more, their numbers and keys do not fit 16 registers of 256 bits.
pub(super) const LANES: usize = 4;
/// Their bits in [`Left`].
const GROUP: u32 = 4;

const _: () = assert!(cast::usize_from_u32(GROUP) == LANES && PIECE.is_multiple_of(LANES) && PIECE <= 64);

// What the lanes decide. Beyond any of these bounds they leave the request, or the whole catalog, to be decided one after the other.

/// 34 thousand currency units, or less: see [`value_max`].
const LARGEST_VALUE: u64 = 1 << 35;
const TOKEN_BITS: u32 = 24;
/// 32 thousand currency units for a million tokens: its whole microunits for one token have 15 bits.
const RATES: u64 = TOKENS_PER_RATE << WHOLE_RATE_BITS;
const WHOLE_RATE_BITS: u32 = 15;
/// With a class above it in a key, what is left of a base has fewer bits.
const TOKEN_BITS_BELOW_A_CLASS: u32 = 18;
const LEFT_BITS_BELOW_A_CLASS: u32 = TOKEN_BITS_BELOW_A_CLASS + WHOLE_RATE_BITS + 1;
const CLASSES: usize = 1 << (63 - LEFT_BITS_BELOW_A_CLASS - POINT_BITS);
const LARGEST_LATENCY_PENALTY: u64 = 1 << 45;
/// More than any cost within the bounds, which is below 2 × 2^(24 + 15).
const BUDGET_BITS: u32 = 41;

const _: () = assert!(2 << (TOKEN_BITS + WHOLE_RATE_BITS) < 1_u64 << BUDGET_BITS);
// So a utility, the largest number in a key, fits above its place.
const _: () = assert!((1 << BUDGET_BITS) + 5 * LARGEST_VALUE + LARGEST_LATENCY_PENALTY < 1 << (63 - POINT_BITS));

/// The largest value under a multiplier of risk: its product with that is at most [`LARGEST_VALUE`] × 10^4, too.
fn value_max(multiplier_bps: u16) -> u64 {
    LARGEST_VALUE * u64::from(BPS_WHOLE) / u64::from(multiplier_bps.max(BPS_WHOLE))
}

// A division by a constant becomes a multiplication by a fraction that is a little too small or too large, with so many
// bits that the result, cut off, is that of the definition. The factors have 64 bits in two halves, because a
// multiplication of 32 bits is what every vector unit has: see [`times`].

const HALF: u32 = 32;
const LOW_HALF: u64 = (1 << HALF) - 1;

/// Bits behind the point of what is compared. They are cut off, and in a key a place stands there.
const POINT_BITS: u32 = PLACE_BITS;
const WHOLE: u64 = !PLACES;

/// Bits behind the point of a microunit per token.
const RATE_BITS: u32 = POINT_BITS + HALF;
/// Bits behind the point of a microunit per basis point.
const SURE_BITS: u32 = 41;
/// Those that are missing are given to the basis points: then they have 14 + 7 bits.
const QUALITY_SHIFT: u32 = POINT_BITS + HALF - SURE_BITS;

/// 2^90 / 10^8, rounded up.
const SURE_FACTOR: u64 = cast::u64_saturating_from_u128((1_u128 << SURE_FACTOR_BITS).div_ceil(100_000_000));
const SURE_FACTOR_BITS: u32 = 90;

const _: () = assert!(BPS_WHOLE_SQUARED == 100_000_000);
const _: () = assert!(SURE_FACTOR < u64::MAX);

/// A number of 64 bits for [`times`].
#[derive(Clone, Copy)]
struct Halves {
    high: u32,
    low: u32,
}

impl Halves {
    const fn new(number: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
        Self {
            high: u32::from_le_bytes([e, f, g, h]),
            low: u32::from_le_bytes([a, b, c, d]),
        }
    }
}

/// A rate as its distance from the largest that there could be, with [`RATE_BITS`] behind the point. A product, cut, is then
/// a number of tokens less a cost that is rounded up: floor(t × (m − r)) = t × m − ceil(t × r).
///
/// The last four bits of a rate are left 0, so that it is too small by less than 16 / 2^48. For fewer than 2^24 tokens a
/// cost is then too small by less than 2^28 / 2^48 < 10^-6. Exact costs are whole millionths, so the next whole microunit
/// above is the same.
fn rebate(rate: u64) -> Option<u64> {
    const SPARE: u32 = 4;
    if rate >= RATES {
        return None;
    }
    let (whole, part) = (rate / TOKENS_PER_RATE, rate % TOKENS_PER_RATE);
    // part < 10^6 < 2^20
    let fraction = ((part << (RATE_BITS - SPARE)) / TOKENS_PER_RATE) << SPARE;
    let fixed = whole << RATE_BITS | fraction;
    // fixed < 2^(15 + 48)
    Some(DEAREST.wrapping_sub(fixed))
}

/// What rebates are distances from.
const DEAREST: u64 = 1 << (WHOLE_RATE_BITS + RATE_BITS);

/// A candidate's side.
#[derive(Clone, Copy)]
struct Offer {
    /// The complement of its standing: see [`Side`].
    shortfall: u64,
    /// The complement of its capabilities.
    lacking: u64,
    provider: u64,
    region_mask: u64,
    /// Rebates.
    input: Halves,
    output: Halves,
    /// Quality, shifted by [`QUALITY_SHIFT`].
    quality: u32,
    /// What its key begins with: its place, from 1 on, and above it the latency penalty that is subtracted, or its class.
    beginning: u64,
}

impl Offer {
    fn new(candidate: &Candidate, beginning: u64) -> Option<Self> {
        let side = Side::new(candidate);
        Some(Self {
            shortfall: !side.standing,
            lacking: !side.capabilities,
            provider: side.provider,
            region_mask: side.region_mask,
            input: Halves::new(rebate(candidate.input_cost_microunits_per_million_tokens)?),
            output: Halves::new(rebate(candidate.output_cost_microunits_per_million_tokens)?),
            quality: shifted_quality(candidate),
            beginning,
        })
    }
}

fn shifted_quality(candidate: &Candidate) -> u32 {
    u32::from(candidate.quality_bps) << QUALITY_SHIFT
}

/// What a decision needs of the candidate that it names: bytes 8 to 16 of a row that selects it, but for action and reason,
/// and byte 16; its rebates; its shifted quality and its latency penalty, where a key does not tell the utility.
type Who = [[u64; 2]; 3];

/// Action and reason are 1 for the requested candidate and 2 for another; a rejection's reason comes later.
const REQUESTED: u64 = 1 | 1 << 8;
const OTHER: u64 = 2 | 2 << 8;
const REJECTED: u64 = 3;
/// Where the numbers of a candidate are in the bytes from 8 on.
const ID: u32 = 24;
const INDEX: u32 = 56;

fn who(limits: &Limits, candidate: &Candidate, index: u16) -> Option<Who> {
    let index = u64::from(index);
    Some([
        [
            u64::from(candidate.model_id) << ID | index << INDEX,
            index >> (u64::BITS - INDEX),
        ],
        [
            rebate(candidate.input_cost_microunits_per_million_tokens)?,
            rebate(candidate.output_cost_microunits_per_million_tokens)?,
        ],
        [
            shifted_quality(candidate).into(),
            latency_penalty(limits, candidate.p95_latency_ms, LARGEST_LATENCY_PENALTY)? << POINT_BITS,
        ],
    ])
}

/// The requests' side: one number of each request in a lane.
struct Asked<S: Simd> {
    demanded: u64x4<S>,
    required_capabilities: u64x4<S>,
    refused_providers: u64x4<S>,
    required_region_mask: u64x4<S>,
    any_region: u64x4<S>,
    input: u64x4<S>,
    output: u64x4<S>,
    /// What a basis point of quality is worth, with [`SURE_BITS`] behind the point.
    sure: u64x4<S>,
    /// What a cost is subtracted from.
    base: u64x4<S>,
    /// The least that a request within its budget leaves of its base.
    least: i64x4<S>,
    /// The base and the risk penalty: what a key has above the utility.
    surplus: u64x4<S>,
    /// A key must be above it: a positive utility at any place where that is asked for, or more than there is where the lanes
    /// cannot decide.
    floor: i64x4<S>,
    /// Those with numbers beyond the bounds.
    beyond: mask64x4<S>,
    /// Those that are refused before any candidate.
    refused: mask64x4<S>,
}

/// The three largest keys of each lane.
struct Best<S: Simd> {
    first: i64x4<S>,
    second: i64x4<S>,
    third: i64x4<S>,
}

/// A catalog, made ready for requests in lanes.
pub(crate) struct Wide {
    level: Level,
    /// In pairs, the last with nobody if it is alone.
    offers: Vec<[Offer; 2]>,
    /// Who stands at each place, from 1 on; nobody at 0.
    who: Vec<Who>,
    candidates: u32,
    disabled: u32,
    by_utility: bool,
    /// Bits of a number of tokens that are beyond the bounds.
    many_tokens: u64,
    value_max: i64,
    hard_risk_limit_bps: u64,
    minimum_confidence_bps: u64,
    risk_penalty_multiplier_bps: u32,
    policy_epoch: u64,
    catalog_epoch: u64,
}

impl Wide {
    /// With the vectors of a level; `None` where a number of the catalog is beyond the bounds.
    pub(super) fn new(policy: &Policy, level: Level) -> Option<Self> {
        // Rows are little-endian, and are read and written as vectors.
        if cfg!(target_endian = "big") {
            return None;
        }
        let limits = policy.limits();
        let places = Places::new(limits.objective, policy.candidates());
        let by_utility = limits.objective == Objective::Utility;
        let token_bits = if places.classes() == 0 {
            TOKEN_BITS
        } else {
            TOKEN_BITS_BELOW_A_CLASS
        };
        if places.classes() > CLASSES {
            return None;
        }
        let order = || places.order.iter().copied();
        let mut offers: Vec<_> = order()
            .zip(1..)
            .map(|((_, candidate), place)| {
                let above_left = places.class(candidate) << LEFT_BITS_BELOW_A_CLASS;
                let penalty = latency_penalty(limits, candidate.p95_latency_ms, LARGEST_LATENCY_PENALTY)?;
                let above_place = if by_utility {
                    0_u64.wrapping_sub(penalty)
                } else {
                    above_left
                };
                Offer::new(candidate, (above_place << POINT_BITS).wrapping_add(place))
            })
            .collect::<Option<_>>()?;
        let candidates = cast::u32_from_usize(policy.candidates().len())?;
        let disabled = candidates.wrapping_sub(cast::u32_from_usize(offers.len())?);
        let nobody = Candidate {
            enabled: false,
            ..Candidate::default()
        };
        if !offers.len().is_multiple_of(2) {
            offers.push(Offer::new(&nobody, 0)?);
        }
        let nobody = who(limits, &nobody, NO_INDEX);
        let named = order().map(|(index, candidate)| who(limits, candidate, index));
        Some(Self {
            level,
            offers: offers.as_chunks().0.to_vec(),
            who: iter::once(nobody).chain(named).collect::<Option<_>>()?,
            candidates,
            disabled,
            by_utility,
            many_tokens: u64::MAX << token_bits & LOW_HALF,
            value_max: value_max(limits.risk_penalty_multiplier_bps).cast_signed(),
            hard_risk_limit_bps: limits.hard_risk_limit_bps.into(),
            minimum_confidence_bps: limits.minimum_confidence_bps.into(),
            risk_penalty_multiplier_bps: limits.risk_penalty_multiplier_bps.into(),
            policy_epoch: limits.policy_epoch,
            catalog_epoch: limits.catalog_epoch,
        })
    }

    /// Decides a piece of rows that were checked, but for what is left.
    pub(super) fn decide_rows(&self, requests: &[RequestRow], decisions: &mut [DecisionRow]) -> Left {
        dispatch!(self.level, simd => self.decide_with(simd, requests, decisions))
    }

    /// How many candidates each request lost at each gate, each counted at the first that it failed, given how many are eligible:
    /// those that are left of all had no positive utility. `None` where a number is beyond the bounds.
    pub(super) fn count_rows(&self, rows: [(&RequestRow, u16); LANES]) -> Option<[Rejections; LANES]> {
        dispatch!(self.level, simd => self.count_with(simd, rows))
    }

    /// Whom a key names.
    #[inline(always)]
    fn named(&self, key: u64) -> &Who {
        const NO_ONE: &Who = &[[0; 2]; 3];
        let place = cast::usize_from_u64(key & PLACES).unwrap_or(0);
        self.who.get(place).unwrap_or(NO_ONE)
    }

    #[inline(always)]
    fn decide_with<S: Simd>(&self, simd: S, requests: &[RequestRow], decisions: &mut [DecisionRow]) -> Left {
        let (requests, rest) = requests.as_chunks::<LANES>();
        let decisions = decisions.as_chunks_mut::<LANES>().0;
        let mut left = Left::default();
        let mut start = 0_u32;
        for (rows, decisions) in requests.iter().zip(decisions) {
            let rows = rows.each_ref();
            let asked = self.ask(simd, rows);
            let (mut best, eligible) = match (self.by_utility, asked.has_masks()) {
                (true, true) => meet_all::<S, true, true>(simd, &asked, &self.offers),
                (true, false) => meet_all::<S, true, false>(simd, &asked, &self.offers),
                (false, _) => meet_all::<S, false, true>(simd, &asked, &self.offers),
            };
            // With another objective the place of a key is part of the order, and nobody is equal to another.
            let tied = best.tied();
            if self.by_utility && tied.any_true() {
                best = settle_all(simd, &asked, &self.offers, &best, tied);
            }
            let beyond = (asked.beyond | asked.refused).to_bitmask();
            let rejected = best.first.simd_eq(0).to_bitmask() & !beyond;
            left.beyond |= beyond.wrapping_shl(start);
            left.rejected |= rejected.wrapping_shl(start);
            start = start.wrapping_add(GROUP);
            self.write(simd, &asked, &best, eligible, rows, decisions.each_mut());
        }
        // Fewer rows than lanes are not worth a group.
        if !rest.is_empty() {
            left.beyond |= u64::MAX.wrapping_shl(start);
        }
        left
    }

    /// Writes the decisions of a group. What is left is written over later.
    #[inline(always)]
    fn write<S: Simd>(
        &self,
        simd: S,
        asked: &Asked<S>,
        best: &Best<S>,
        eligible: u64x4<S>,
        rows: [&RequestRow; LANES],
        decisions: [&mut DecisionRow; LANES],
    ) {
        let none = u64x4::splat(simd, 0);
        let (first, second) = (unsigned(best.first), unsigned(best.second));
        let (no_first, no_second) = (first.simd_eq(none), second.simd_eq(none));
        let chosen = numbers(first).map(|key| self.named(key));
        let [number, index] = columns(chosen.map(|[number, ..]| u64x2::simd_from(simd, *number)));
        let other = numbers(second).map(|key| self.named(key));
        let alternative = u64x4::simd_from(simd, other.map(|[[number, _], ..]| *number)) >> ID & LOW_HALF;
        let (cost, utility) = self.worth(simd, asked, first, chosen);
        let second_utility = if self.by_utility {
            (second - asked.surplus) >> POINT_BITS
        } else {
            self.worth(simd, asked, second, other).1
        };
        let utility = no_first.select(none, utility);
        let second_utility = no_second.select(none, second_utility);
        let [sequence, requested] = fields::<S, SEQUENCE_AND_MODEL>(simd, rows);
        let is_requested = (number >> ID & LOW_HALF).simd_eq(requested & LOW_HALF);
        let what = is_requested.select(u64x4::splat(simd, REQUESTED), u64x4::splat(simd, OTHER));
        let what = no_first.select(u64x4::splat(simd, REJECTED), what);
        let evaluated = u64x4::splat(simd, u64::from(self.candidates) << 32);

        // A cost is below 2^40, so that its highest byte is 0. That of a utility has a place of its own.
        let from_0 = pairs(sequence, number | what);
        let from_16 = pairs(index | cost << 8, utility << 8);
        let from_33 = pairs(
            alternative | second_utility << 32,
            second_utility >> 32 | evaluated | eligible << 48,
        );
        let from_49 = bytes(u64x2::simd_from(simd, [self.policy_epoch, self.catalog_epoch]));
        let highest = numbers(utility).map(|utility| utility.to_le_bytes()[7]);
        let parts = from_0.into_iter().zip(from_16).zip(from_33).zip(highest);
        for (decision, (((from_0, from_16), from_33), highest)) in decisions.into_iter().zip(parts) {
            put(decision, 0, bytes(from_0));
            put(decision, 16, bytes(from_16));
            put(decision, 32, [highest]);
            put(decision, 33, bytes(from_33));
            put(decision, 49, from_49);
        }
    }

    /// What the candidates that keys name cost, and are worth.
    #[inline(always)]
    fn worth<S: Simd>(&self, simd: S, asked: &Asked<S>, keys: u64x4<S>, named: [&Who; LANES]) -> (u64x4<S>, u64x4<S>) {
        let [input, output] = columns(named.map(|[_, rebates, _]| u64x2::simd_from(simd, *rebates)));
        let left = cut(times(asked.input, input >> HALF, input)) + cut(times(asked.output, output >> HALF, output));
        let cost = asked.base - left;
        let utility = if self.by_utility {
            (keys - asked.surplus) >> POINT_BITS
        } else {
            let [quality, latency_penalty] = columns(named.map(|[.., worth]| u64x2::simd_from(simd, *worth)));
            let value = cut(times(quality, asked.sure >> HALF, asked.sure));
            // At least −(5 × 2^35 + 2^41 + 2^45) microunits with 16 bits behind the point, so that it is a signed number.
            let utility = value - (asked.surplus - asked.base) - cost - latency_penalty;
            unsigned(signed(utility) >> POINT_BITS)
        };
        (cost >> POINT_BITS, utility)
    }

    /// Takes requests apart.
    #[inline(always)]
    fn ask<S: Simd>(&self, simd: S, rows: [&RequestRow; LANES]) -> Asked<S> {
        const QUARTER: u64 = 0xffff;
        let splat = |number| u64x4::splat(simd, number);
        let none = splat(0);
        let [tokens, value] = fields::<S, TOKENS_AND_VALUE>(simd, rows);
        let [budget, risk] = fields::<S, BUDGET_AND_RISK>(simd, rows);
        let [limits, required_capabilities] = fields::<S, LIMITS_AND_CAPABILITIES>(simd, rows);
        let [allowed_providers, required_region_mask] = fields::<S, PROVIDERS_AND_REGIONS>(simd, rows);
        let (input, output) = (tokens & LOW_HALF, tokens >> HALF);
        let (risk, confidence, quality) = (risk & QUARTER, limits & QUARTER, limits >> 16 & QUARTER);
        let latency = limits >> HALF;
        let value = unsigned(signed(value).max(signed(none)));

        let many = !((input | output) & self.many_tokens).simd_eq(none);
        let dear = signed(value).simd_gt(self.value_max);
        let risky = !signed(splat(self.hard_risk_limit_bps)).simd_gt(signed(risk));
        let unsure = signed(splat(self.minimum_confidence_bps)).simd_gt(signed(confidence));
        let beyond = many | dear;
        let refused = risky | unsure;

        // What is demanded, in the places of a standing: the complement of the longest latency, or 0 for any.
        let latency = latency.simd_eq(none).select(none, latency ^ LOW_HALF);
        let demanded = latency | quality << QUALITY | risk << RISK;

        let at_risk = sure(value, both(simd, self.risk_penalty_multiplier_bps));
        let risk_penalty = cut(times(risk << QUALITY_SHIFT, at_risk >> HALF, at_risk));
        let base = (input + output) << (WHOLE_RATE_BITS + POINT_BITS);
        let surplus = base + risk_penalty;
        let budget = (budget >> BUDGET_BITS)
            .simd_eq(none)
            .select(budget, splat(1 << BUDGET_BITS));
        let floor = signed(if self.by_utility { surplus + PLACES } else { none });
        Asked {
            demanded,
            required_capabilities,
            refused_providers: !allowed_providers,
            required_region_mask,
            any_region: unsigned(required_region_mask.simd_eq(none).to_vector()),
            input,
            output,
            sure: sure(value, confidence),
            base,
            least: signed(base - (budget << POINT_BITS)),
            surplus,
            floor: (beyond | refused).select(signed(splat(u64::MAX >> 1)), floor),
            beyond,
            refused,
        }
    }

    #[inline(always)]
    fn count_with<S: Simd>(&self, simd: S, rows: [(&RequestRow, u16); LANES]) -> Option<[Rejections; LANES]> {
        let asked = self.ask(simd, rows.map(|(row, _)| row));
        if asked.beyond.any_true() {
            return None;
        }
        let refused = asked.refused.to_bitmask();
        let [low, high] = count_all(simd, &asked, &self.offers);
        let mut counts = numbers(low).into_iter().zip(numbers(high)).zip(rows).zip(0..);
        Some([(); LANES].map(|()| match counts.next() {
            Some((((low, high), (_, eligible)), lane)) if refused >> lane & 1 == 0 => {
                Rejections::of(self.candidates, self.disabled, unpacked([low, high]), eligible)
            }
            _ => Rejections::default(),
        }))
    }
}

impl<S: Simd> Asked<S> {
    /// Whether a request asks for capabilities, providers or regions.
    #[inline(always)]
    fn has_masks(&self) -> bool {
        (self.required_capabilities | self.refused_providers | self.required_region_mask)
            .simd_eq(0)
            .any_false()
    }
}

impl<S: Simd> Best<S> {
    #[inline(always)]
    fn admit(&mut self, a: i64x4<S>, b: i64x4<S>) {
        let (larger, smaller) = sorted(a, b);
        let (first, rest) = sorted(self.first, larger);
        // Either `rest` was the first, and so is above the second, or it is the larger, and so is above the smaller: the
        // lesser of the second and the smaller is in no case above what does not become second.
        let (second, last) = sorted(rest, larger_of(self.second, smaller));
        self.first = first;
        self.second = second;
        self.third = larger_of(self.third, last);
    }

    /// With 0 where nobody came above the floor.
    #[inline(always)]
    fn above(self, floor: i64x4<S>) -> Self {
        let above = |keys: i64x4<S>| keys.simd_gt(floor).to_vector() & keys;
        Self {
            first: above(self.first),
            second: above(self.second),
            third: above(self.third),
        }
    }

    /// The lanes where equal utilities leave it open who is first or second: see [`settle_all`].
    #[inline(always)]
    fn tied(&self) -> mask64x4<S> {
        let compared = |keys| unsigned(keys) & WHOLE;
        let (first, second, third) = (compared(self.first), compared(self.second), compared(self.third));
        let alone = second.simd_eq(0);
        (first.simd_eq(second) | second.simd_eq(third)) & !alone
    }
}

/// The larger and the smaller of each lane, by one comparison.
#[inline(always)]
fn sorted<S: Simd>(a: i64x4<S>, b: i64x4<S>) -> (i64x4<S>, i64x4<S>) {
    let larger = a.simd_gt(b);
    (larger.select(a, b), larger.select(b, a))
}

#[inline(always)]
fn larger_of<S: Simd>(a: i64x4<S>, b: i64x4<S>) -> i64x4<S> {
    sorted(a, b).0
}

/// Lets every candidate pass by the requests: the best keys, and how many passed.
#[inline(always)]
fn meet_all<S: Simd, const UTILITY: bool, const MASKS: bool>(
    simd: S,
    asked: &Asked<S>,
    offers: &[[Offer; 2]],
) -> (Best<S>, u64x4<S>) {
    let floor = asked.floor;
    // Nobody above the floor: a key that is not above it takes no place.
    let mut best = Best {
        first: floor,
        second: floor,
        third: floor,
    };
    let mut eligible = i64x4::splat(simd, 0);
    for [a, b] in offers {
        let a = meet::<S, UTILITY, MASKS>(simd, asked, a);
        let b = meet::<S, UTILITY, MASKS>(simd, asked, b);
        eligible = eligible - a.simd_gt(floor).to_vector() - b.simd_gt(floor).to_vector();
        best.admit(a, b);
    }
    (best.above(floor), unsigned(eligible))
}

/// The best keys, with those that are tied in their order: of those whose utility is the second key's the cheaper comes first, and of
/// equal costs the place decides. Where the first key has that utility as well they are first and second, else the first of them
/// is second.
#[inline(always)]
fn settle_all<S: Simd>(simd: S, asked: &Asked<S>, offers: &[[Offer; 2]], best: &Best<S>, tied: mask64x4<S>) -> Best<S> {
    let compared = unsigned(best.second) & WHOLE;
    let [mut first, mut second] = [i64x4::splat(simd, 0); 2];
    for offer in offers.as_flattened() {
        let key = unsigned(meet::<S, true, true>(simd, asked, offer));
        let equal = (key & WHOLE).simd_eq(compared);
        let own = (left(simd, asked, offer) | key & PLACES) & unsigned(equal.to_vector());
        let (larger, rest) = sorted(first, signed(own));
        first = larger;
        second = larger_of(second, rest);
    }
    let key = |own: i64x4<S>| signed(compared | unsigned(own) & PLACES);
    let both = tied & (unsigned(best.first) & WHOLE).simd_eq(compared);
    Best {
        first: both.select(key(first), best.first),
        second: both.select(key(second), tied.select(key(first), best.second)),
        third: best.third,
    }
}

/// Lets requests and a candidate meet: the keys of those that pass the first eight gates, and 0 for the others. With `MASKS`
/// off no request asks for capabilities, providers or regions. With `UTILITY` off a quality is worth nothing: a class stands above.
///
/// Nothing here leaves 64 bits: what is left of a base is below 2^40, a quality-adjusted value at most 2^35 and a latency
/// penalty at most 2^45, so that their sum fits a key above its place.
#[inline(always)]
fn meet<S: Simd, const UTILITY: bool, const MASKS: bool>(simd: S, asked: &Asked<S>, offer: &Offer) -> i64x4<S> {
    let splat = |number| u64x4::splat(simd, number);
    // The gates as [`crate::screen`] has them: the complement of a difference is the complement plus the other.
    let mut fails = (splat(offer.shortfall) + asked.demanded) & GUARDS;
    if MASKS {
        let missing = asked.required_capabilities & splat(offer.lacking);
        let refused = asked.refused_providers & splat(offer.provider);
        fails |= missing | refused;
    }
    let mut passes = fails.simd_eq(0);
    if MASKS {
        let within = asked.required_region_mask & splat(offer.region_mask) | asked.any_region;
        passes &= !within.simd_eq(0);
    }
    let left = left(simd, asked, offer);
    passes &= !asked.least.simd_gt(signed(left));
    let mut compared = left + splat(offer.beginning);
    if UTILITY {
        compared += cut(times(both(simd, offer.quality), asked.sure >> HALF, asked.sure));
    }
    signed(compared) & passes.to_vector()
}

/// What a candidate's cost leaves of the base of each request.
#[inline(always)]
fn left<S: Simd>(simd: S, asked: &Asked<S>, offer: &Offer) -> u64x4<S> {
    let Offer { input, output, .. } = offer;
    cut(times(asked.input, both(simd, input.high), both(simd, input.low)))
        + cut(times(asked.output, both(simd, output.high), both(simd, output.low)))
}

/// Counts of 16 bits side by side: quality, latency, capability and provider, then region, risk ceiling and budget. Each
/// candidate is counted at the first gate that it fails.
#[inline(always)]
fn count_all<S: Simd>(simd: S, asked: &Asked<S>, offers: &[[Offer; 2]]) -> [u64x4<S>; 2] {
    let splat = |number| u64x4::splat(simd, number);
    let none = splat(0);
    let [mut low, mut high] = [none; 2];
    for offer in offers.as_flattened() {
        let below = splat(offer.shortfall) + asked.demanded;
        let within = asked.required_region_mask & splat(offer.region_mask) | asked.any_region;
        // Who is switched off is counted by the catalog.
        let mut passes = (below & ENABLED).simd_eq(none);
        let passed = [
            (below & QUALITY_GUARD).simd_eq(none),
            (below & LATENCY_GUARD).simd_eq(none),
            (asked.required_capabilities & splat(offer.lacking)).simd_eq(none),
            (asked.refused_providers & splat(offer.provider)).simd_eq(none),
            !within.simd_eq(none),
            (below & RISK_GUARD).simd_eq(none),
            !asked.least.simd_gt(signed(left(simd, asked, offer))),
        ];
        for (gate, passed) in (0..).zip(passed) {
            let counts = if gate < 4 { &mut low } else { &mut high };
            *counts += unsigned((passes & !passed).to_vector()) & (1 << (gate % 4 * 16));
            passes &= passed;
        }
    }
    [low, high]
}

/// A product of a number of 32 bits with one of 64 bits, given as halves, less its lowest 32 bits. The halves' own higher bits
/// do not matter.
#[inline(always)]
fn times<S: Simd>(number: u64x4<S>, high: u64x4<S>, low: u64x4<S>) -> u64x4<S> {
    short(number, high) + (short(number, low) >> HALF)
}

/// The product of the lower halves: cutting them lets the compiler take the short multiplication.
#[inline(always)]
fn short<S: Simd>(a: u64x4<S>, b: u64x4<S>) -> u64x4<S> {
    (a & LOW_HALF) * (b & LOW_HALF)
}

/// A number of 32 bits in both halves of every lane: [`times`] looks at the lower ones.
#[inline(always)]
fn both<S: Simd>(simd: S, number: u32) -> u64x4<S> {
    u32x8::splat(simd, number).bitcast()
}

/// Without the bits behind the point.
#[inline(always)]
fn cut<S: Simd>(numbers: u64x4<S>) -> u64x4<S> {
    numbers & WHOLE
}

/// What a basis point is worth of a value and a proportion, with [`SURE_BITS`] behind the point, rounded up, for products of
/// both of at most [`LARGEST_VALUE`] × 10^4 < 2^49.
///
/// It is above the exact number by less than 2: one for the last bit, and 2^49 / 2^49 for the factor's. Times at most 10^4
/// basis points it is too large by less than 2 × 10^4 / 2^41 < 10^-8. Exact values are whole hundred-millionths, so the whole
/// microunit below is the same.
#[inline(always)]
fn sure<S: Simd>(value: u64x4<S>, proportion: u64x4<S>) -> u64x4<S> {
    const FACTOR: Halves = Halves::new(SURE_FACTOR);
    const CUT: u32 = SURE_FACTOR_BITS - SURE_BITS;
    let product = short(value, proportion) + (short(value >> HALF, proportion) << HALF);
    let [high, low] = [FACTOR.high, FACTOR.low].map(|half| both(value.simd, half));
    let upper = product >> HALF;
    // The lower half has 32 bits and the factor's higher one less than 31.5, the upper half 17: the sum is below 2^64.
    let middle = times(product, high, low) + short(upper, low);
    // Below 2^49 × 2^41 / 10^8 < 2^64.
    (short(upper, high) << (2 * HALF - CUT)) + (middle >> (CUT - HALF)) + 1
}

/// A vector of unsigned numbers below 2^63 as one of signed numbers, which more machines can compare.
#[inline(always)]
fn signed<S: Simd>(numbers: u64x4<S>) -> i64x4<S> {
    numbers.bitcast()
}

#[inline(always)]
fn unsigned<S: Simd>(numbers: i64x4<S>) -> u64x4<S> {
    numbers.bitcast()
}

#[inline(always)]
fn numbers<S: Simd>(vector: u64x4<S>) -> [u64; LANES] {
    vector.into()
}

/// Four rows of two numbers as two columns.
#[inline(always)]
fn columns<S: Simd>(rows: [u64x2<S>; LANES]) -> [u64x4<S>; 2] {
    let [a, b, c, d] = rows;
    [a.zip_low(b).combine(c.zip_low(d)), a.zip_high(b).combine(c.zip_high(d))]
}

/// Two columns as four rows.
#[inline(always)]
fn pairs<S: Simd>(a: u64x4<S>, b: u64x4<S>) -> [u64x2<S>; LANES] {
    let ((a, c), (b, d)) = (a.split(), b.split());
    [a.zip_low(b), a.zip_high(b), c.zip_low(d), c.zip_high(d)]
}

// Where two numbers of 64 bits begin in a request's row.

/// `request_sequence`; `requested_model_id` and 32 bits that are not used.
const SEQUENCE_AND_MODEL: usize = 0;
/// `input_tokens` and `output_tokens`; `business_value_microunits`.
const TOKENS_AND_VALUE: usize = 12;
/// `budget_limit_microunits`; `risk_bps` and 48 bits that are not used.
const BUDGET_AND_RISK: usize = 28;
/// `confidence_bps`, `minimum_quality_bps` and `max_p95_latency_ms`; `required_capabilities`.
const LIMITS_AND_CAPABILITIES: usize = 38;
/// `allowed_provider_mask`; `required_region_mask`.
const PROVIDERS_AND_REGIONS: usize = 54;

const _: () = assert!(REQUEST_ROW_BYTES == 70 && DECISION_ROW_BYTES == 65);

/// Two numbers of each request.
#[inline(always)]
fn fields<S: Simd, const AT: usize>(simd: S, rows: [&RequestRow; LANES]) -> [u64x4<S>; 2] {
    columns(rows.map(|row| u8x16::simd_from(simd, part::<16>(row, AT)).bitcast()))
}

#[inline(always)]
fn bytes<S: Simd>(numbers: u64x2<S>) -> [u8; 16] {
    numbers.bitcast::<u8x16<S>>().into()
}

/// Bytes of a row from a place on, which the caller knows to be there.
#[inline(always)]
fn part<const N: usize>(row: &RequestRow, at: usize) -> [u8; N] {
    let part = row.get(at..).and_then(<[u8]>::first_chunk);
    part.copied().unwrap_or([0; N])
}

#[inline(always)]
fn put<const N: usize>(row: &mut DecisionRow, at: usize, bytes: [u8; N]) {
    if let Some(part) = row.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *part = bytes;
    }
}

#[cfg(test)]
#[path = "wide_tests.rs"]
mod tests;
