//! Four requests side by side against one catalog, which is what makes a batch fast: each lane of a vector belongs to
//! one request, and the candidates pass by one after the other.
//!
//! [`Policy::derive`] is the definition. The lanes find the first two in the order of utilities for ordinary numbers;
//! what they cannot decide is decided one after the other: numbers outside the bounds below, utilities that are equal where that
//! matters, and requests that nobody passes, because a rejection counts who failed what. Integers only, as everywhere.

use decidable_canon::{
    Canonical as _, Row, cast,
    units::{BPS_WHOLE_SQUARED, TOKENS_PER_RATE},
};
use fearless_simd::{Level, dispatch, i64x4, prelude::*, u64x4};

use crate::{
    Candidate, Limits, Objective, Policy, RequestFields,
    decision::DecisionRow,
    gate::refusal,
    rank::Contender,
    request::RequestRow,
    screen::{GUARDS, Screen, Side},
    trial::Verdicts,
};

/// How many requests are decided side by side: with more, their numbers and keys do not fit 16 registers of 256 bits.
pub(super) const LANES: usize = 4;

/// One number of each request.
type Lane = [u64; LANES];

// What the lanes decide. Beyond any of these bounds they leave the request, or the whole catalog, to the definition.

/// 34 thousand currency units. Its product with a proportion and with the largest multiplier of risk fits 64 bits.
const LARGEST_VALUE: u64 = 1 << 35;
const TOKEN_BITS: u32 = 24;
/// 65 thousand currency units for a million tokens: its whole microunits for one token have 16 bits.
const RATES: u64 = TOKENS_PER_RATE << 16;
const LARGEST_LATENCY_PENALTY: u64 = 1 << 45;

// A division by a constant becomes a multiplication by a fraction that is a little too small or too large, with so many
// bits that the result, rounded as the definition rounds, is the same. The factors are split into halves of 32 bits,
// because that is the multiplication that every vector unit has.

/// Bits behind the point of a microunit per token.
const RATE_BITS: u32 = 48;
/// Bits behind the point of a microunit per basis point of quality.
const SURE_BITS: u32 = 41;

const _: () = assert!(BPS_WHOLE_SQUARED == 100_000_000);

const HALF: u32 = 32;
const LOW_HALF: u64 = (1 << HALF) - 1;

/// Bits of a place among the candidates, below the utility in a key.
const PLACE_BITS: u32 = 16;
const PLACES: u64 = (1 << PLACE_BITS) - 1;

/// A rate as microunits per token, with [`RATE_BITS`] behind the point, rounded down.
#[derive(Clone, Copy)]
struct Rate {
    high: u64,
    low: u64,
}

impl Rate {
    /// What is added before the bits behind the point are cut, so that a cost is rounded up. It is added to the low product, and
    /// two cuts one after the other cut as one does.
    const ROUND_UP: u64 = (1 << RATE_BITS) - 1;

    /// For a rate below [`RATES`]. The last four bits are left 0, so it is too small by less than 16 / 2^48.
    ///
    /// For fewer than 2^24 tokens a cost is then too small by less than 2^28 / 2^48 < 10^-6. Exact costs are whole
    /// millionths, so the next whole microunit above is the same.
    fn new(rate: u64) -> Option<Self> {
        const SPARE: u32 = 4;
        if rate >= RATES {
            return None;
        }
        let (whole, part) = (rate / TOKENS_PER_RATE, rate % TOKENS_PER_RATE);
        // part < 10^6 < 2^20
        let fraction = ((part << (RATE_BITS - SPARE)) / TOKENS_PER_RATE) << SPARE;
        let fixed = whole << RATE_BITS | fraction;
        Some(Self {
            high: fixed >> HALF,
            low: fixed & LOW_HALF,
        })
    }

    /// `ceil(tokens × rate / 10^6)`: [`Sweep::cost`] for one.
    #[inline(always)]
    const fn cost(self, tokens: u64) -> u64 {
        let low = tokens.wrapping_mul(self.low).wrapping_add(Self::ROUND_UP) >> HALF;
        tokens.wrapping_mul(self.high).wrapping_add(low) >> (RATE_BITS - HALF)
    }
}

/// What a basis point of quality is worth to a request, with [`SURE_BITS`] behind the point, rounded up.
#[derive(Clone, Copy)]
struct Sure {
    high: u64,
    low: u64,
}

impl Sure {
    /// 2^90 / 10^8, rounded up.
    const FACTOR: u128 = (1_u128 << 90).div_ceil(100_000_000);
    const FACTOR_BITS: u32 = 90;

    /// For a value of at most [`LARGEST_VALUE`] and a proportion of at most the whole.
    ///
    /// It is above the exact number by less than 2: one for the last bit, and 2^49 / 2^49 for the factor's. Times a
    /// quality of at most 10^4 it is too large by less than 2 × 10^4 / 2^41 < 10^-8. Exact values are whole
    /// hundred-millionths, so the whole microunit below is the same.
    #[inline(always)]
    fn new(value: u64, confidence_bps: u16) -> Self {
        let product = u128::from(value.wrapping_mul(confidence_bps.into()));
        let cut = product.wrapping_mul(Self::FACTOR) >> (Self::FACTOR_BITS - SURE_BITS);
        // Below 2^35 × 10^4 × 2^41 / 10^8 < 2^63.
        let fixed = cast::u64_saturating_from_u128(cut).wrapping_add(1);
        Self {
            high: fixed >> HALF,
            low: fixed & LOW_HALF,
        }
    }
}

/// A candidate's side.
#[derive(Clone, Copy)]
struct Offer {
    /// The complement of its standing: see [`Side`].
    shortfall: u64,
    /// The complement of its capabilities.
    lacking: u64,
    provider: u64,
    region_mask: u64,
    input: Rate,
    output: Rate,
    quality: u64,
    latency_penalty: u64,
    /// Its place among the offers, for the keys.
    place: u64,
    /// Its place in the catalog.
    index: usize,
}

impl Offer {
    fn new(limits: &Limits, candidate: &Candidate, place: usize, index: usize) -> Option<Self> {
        let latency_penalty =
            u64::from(candidate.p95_latency_ms).checked_mul(limits.latency_penalty_microunits_per_ms)?;
        (latency_penalty <= LARGEST_LATENCY_PENALTY).then_some(())?;
        let side = Side::new(candidate);
        Some(Self {
            shortfall: !side.standing,
            lacking: !side.capabilities,
            provider: side.provider,
            region_mask: side.region_mask,
            input: Rate::new(candidate.input_cost_microunits_per_million_tokens)?,
            output: Rate::new(candidate.output_cost_microunits_per_million_tokens)?,
            quality: candidate.quality_bps.into(),
            latency_penalty,
            place: cast::u64_from_usize(place),
            index,
        })
    }
}

/// The requests' side: one number of each request in a row.
#[derive(Default)]
struct Asked {
    demanded: Lane,
    required_capabilities: Lane,
    refused_providers: Lane,
    required_region_mask: Lane,
    any_region: Lane,
    input_tokens: Lane,
    output_tokens: Lane,
    sure_high: Lane,
    sure_low: Lane,
    /// At most 2^63 − 1, so that it compares as a signed number.
    budget: Lane,
    risk_penalty: Lane,
    /// A key must be above it: a positive utility at any place, or more than there is where the lanes cannot decide.
    floor: Lane,
}

/// What came of a sweep: for each request the best three keys, utility above place, and how many passed.
#[derive(Default)]
struct Found {
    first: Lane,
    second: Lane,
    third: Lane,
    eligible: Lane,
}

/// A catalog, made ready for requests in lanes.
pub(crate) struct Wide<'a> {
    policy: &'a Policy,
    offers: Vec<Offer>,
    level: Level,
}

impl<'a> Wide<'a> {
    /// With the vectors of a level; `None` where the definition is needed.
    pub(super) fn new(policy: &'a Policy, level: Level) -> Option<Self> {
        let limits = policy.limits();
        if limits.objective != Objective::Utility {
            return None;
        }
        let enabled = policy
            .candidates()
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.enabled);
        let offers = enabled
            .enumerate()
            .map(|(place, (index, candidate))| Offer::new(limits, candidate, place, index))
            .collect::<Option<_>>()?;
        Some(Self { policy, offers, level })
    }

    /// Decides rows that were checked.
    pub(super) fn decide(&self, requests: &[RequestRow], decisions: &mut [DecisionRow]) {
        dispatch!(self.level, simd => self.decide_with(simd, requests, decisions));
    }

    #[inline(always)]
    fn decide_with<S: Simd>(&self, simd: S, requests: &[RequestRow], decisions: &mut [DecisionRow]) {
        for (requests, decisions) in requests.chunks(LANES).zip(decisions.chunks_mut(LANES)) {
            let mut asked = Asked::default();
            let mut fields = [RequestFields::default(); LANES];
            for ((lane, fields), request) in fields.iter_mut().enumerate().zip(requests) {
                *fields = RequestFields::from_row(request);
                self.ask(&mut asked, lane, fields);
            }
            let found = sweep(simd, &self.offers, &asked);
            for (((lane, request), _), decision) in fields.iter().enumerate().zip(requests).zip(decisions) {
                match self.verdicts(&found, &asked, lane, request) {
                    Some(verdicts) => self.policy.conclusion(request, &verdicts),
                    None => self.policy.decide_plainly(request, &[]),
                }
                .encode(&mut Row::new(decision));
            }
        }
    }

    /// Puts a request into its lane. One that the lanes cannot decide demands a utility that nobody has.
    #[inline(always)]
    fn ask(&self, asked: &mut Asked, lane: usize, request: &RequestFields) {
        let limits = self.policy.limits();
        let value = cast::u64_from_i64(request.business_value_microunits).unwrap_or(0);
        let mut put = |lanes: fn(&mut Asked) -> &mut Lane, number: u64| {
            if let Some(place) = lanes(asked).get_mut(lane) {
                *place = number;
            }
        };
        let beyond = (request.input_tokens | request.output_tokens) >> TOKEN_BITS != 0 || value > LARGEST_VALUE;
        if beyond || refusal(limits, request).is_some() {
            put(|asked| &mut asked.floor, u64::MAX >> 1);
            return;
        }
        let screen = Screen::new(request);
        let sure = Sure::new(value, request.confidence_bps);
        // Below 2^35 × 10^4 × 5 × 10^4 < 2^64.
        let risk = value
            .wrapping_mul(request.risk_bps.into())
            .wrapping_mul(limits.risk_penalty_multiplier_bps.into())
            / BPS_WHOLE_SQUARED;
        put(|asked| &mut asked.demanded, screen.demanded);
        put(|asked| &mut asked.required_capabilities, screen.required_capabilities);
        put(|asked| &mut asked.refused_providers, screen.refused_providers);
        put(|asked| &mut asked.required_region_mask, screen.required_region_mask);
        put(|asked| &mut asked.any_region, screen.any_region);
        put(|asked| &mut asked.input_tokens, request.input_tokens.into());
        put(|asked| &mut asked.output_tokens, request.output_tokens.into());
        put(|asked| &mut asked.sure_high, sure.high);
        put(|asked| &mut asked.sure_low, sure.low);
        put(
            |asked| &mut asked.budget,
            request.budget_limit_microunits.min(u64::MAX >> 1),
        );
        put(|asked| &mut asked.risk_penalty, risk);
        // Below 2^64 / 10^8 < 2^38, so that with the place it is below 2^54.
        put(|asked| &mut asked.floor, (risk << PLACE_BITS) | PLACES);
    }

    /// What came of a sweep for one request, unless equal utilities or the lack of a candidate need the definition.
    #[inline(always)]
    fn verdicts(&self, found: &Found, asked: &Asked, lane: usize, request: &RequestFields) -> Option<Verdicts<'a>> {
        let number = |lanes: &Lane| lanes.get(lane).copied().unwrap_or(0);
        let [first, second, third] = [&found.first, &found.second, &found.third].map(number);
        let equal = |a: u64, b: u64| a >> PLACE_BITS == b >> PLACE_BITS;
        if first == 0 || equal(first, second) || (second != 0 && equal(second, third)) {
            return None;
        }
        let contender = |key: u64| {
            let offer = self.offers.get(cast::usize_from_u64(key & PLACES)?)?;
            let input = offer.input.cost(request.input_tokens.into());
            let output = offer.output.cost(request.output_tokens.into());
            let contender = Contender {
                candidate: self.policy.candidates().get(offer.index)?,
                cost: input.wrapping_add(output),
                utility: (key >> PLACE_BITS)
                    .wrapping_sub(number(&asked.risk_penalty))
                    .cast_signed(),
            };
            Some((offer.index, contender))
        };
        Some(Verdicts {
            first: Some(contender(first)?),
            second: if second == 0 { None } else { Some(contender(second)?.1) },
            // At most as many as candidates, of which there are at most 65,535.
            eligible: u32::try_from(number(&found.eligible)).ok()?,
            over_budget: 0,
            worthless: 0,
        })
    }
}

/// Lets every candidate pass by the requests.
///
/// Nothing here leaves 64 bits: a cost is below 2^41, a quality-adjusted value at most 2^35 and a latency penalty at most
/// 2^45, so that a difference fits a key above its place. The utility of one that passes is at most 2^35 before risk.
#[inline(always)]
fn sweep<S: Simd>(simd: S, offers: &[Offer], asked: &Asked) -> Found {
    let none = [
        asked.required_capabilities,
        asked.refused_providers,
        asked.required_region_mask,
    ];
    if none.as_flattened().iter().all(|mask| *mask == 0) {
        sweep_all::<S, false>(simd, offers, asked)
    } else {
        sweep_all::<S, true>(simd, offers, asked)
    }
}

/// With `MASKS` off no request asks for capabilities, providers or regions.
#[inline(always)]
fn sweep_all<S: Simd, const MASKS: bool>(simd: S, offers: &[Offer], asked: &Asked) -> Found {
    let demanded = u64x4::simd_from(simd, asked.demanded);
    let required_capabilities = u64x4::simd_from(simd, asked.required_capabilities);
    let refused_providers = u64x4::simd_from(simd, asked.refused_providers);
    let required_region_mask = u64x4::simd_from(simd, asked.required_region_mask);
    let any_region = u64x4::simd_from(simd, asked.any_region);
    let input_tokens = u64x4::simd_from(simd, asked.input_tokens);
    let output_tokens = u64x4::simd_from(simd, asked.output_tokens);
    let sure_high = u64x4::simd_from(simd, asked.sure_high);
    let sure_low = u64x4::simd_from(simd, asked.sure_low);
    let budget = signed(u64x4::simd_from(simd, asked.budget));
    let floor = signed(u64x4::simd_from(simd, asked.floor));

    let none = signed(u64x4::splat(simd, 0));
    // Nobody above the floor: a key that is not above it takes no place.
    let (mut first, mut second, mut third) = (floor, floor, floor);
    let mut eligible = none;
    for offer in offers {
        // The gates as [`Screen`] has them: the complement of a difference is the complement plus the other.
        let mut fails = (u64x4::splat(simd, offer.shortfall) + demanded) & GUARDS;
        if MASKS {
            let missing = required_capabilities & u64x4::splat(simd, offer.lacking);
            let refused = refused_providers & u64x4::splat(simd, offer.provider);
            fails |= missing | refused;
        }
        let mut passes = fails.simd_eq(u64x4::splat(simd, 0));
        if MASKS {
            let within = required_region_mask & u64x4::splat(simd, offer.region_mask) | any_region;
            passes &= !within.simd_eq(u64x4::splat(simd, 0));
        }
        let cost = cost(simd, input_tokens, &offer.input) + cost(simd, output_tokens, &offer.output);
        passes &= signed(cost).simd_le(budget);

        let quality = u64x4::splat(simd, offer.quality);
        let quality_adjusted = (times(quality, sure_high) + (times(quality, sure_low) >> HALF)) >> (SURE_BITS - HALF);
        let before_risk = quality_adjusted - (cost + u64x4::splat(simd, offer.latency_penalty));
        let key = signed(before_risk << PLACE_BITS | u64x4::splat(simd, offer.place));
        let key = passes.select(key, none);
        eligible = key.simd_gt(floor).select(eligible + i64x4::splat(simd, 1), eligible);

        // Each comparison serves twice, for the larger and the smaller.
        let leads = key.simd_gt(first);
        let rest = leads.select(first, key);
        first = leads.select(key, first);
        let follows = rest.simd_gt(second);
        let last = follows.select(second, rest);
        second = follows.select(rest, second);
        third = third.max(last);
    }
    let above = |keys: i64x4<S>| unsigned(keys.simd_gt(floor).select(keys, none)).into();
    Found {
        first: above(first),
        second: above(second),
        third: above(third),
        eligible: unsigned(eligible).into(),
    }
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

/// The product of numbers below 2^32: cutting them lets the compiler take the short multiplication.
#[inline(always)]
fn times<S: Simd>(a: u64x4<S>, b: u64x4<S>) -> u64x4<S> {
    (a & LOW_HALF) * (b & LOW_HALF)
}

/// [`Rate::cost`] for all lanes.
#[inline(always)]
fn cost<S: Simd>(simd: S, tokens: u64x4<S>, rate: &Rate) -> u64x4<S> {
    let low = (times(tokens, u64x4::splat(simd, rate.low)) + Rate::ROUND_UP) >> HALF;
    (times(tokens, u64x4::splat(simd, rate.high)) + low) >> (RATE_BITS - HALF)
}

#[cfg(test)]
#[path = "wide_tests.rs"]
mod tests;
