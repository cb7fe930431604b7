//! What a candidate costs and what it is worth. [`Exact`] is the definition; [`Narrow`] gives the same numbers in 64
//! bits where they provably fit.

use decidable_canon::{
    cast,
    units::{BPS_WHOLE_SQUARED, TOKENS_PER_RATE},
};

use crate::{Candidate, Limits, RequestFields};

/// The parts of a utility, in microunits: `quality_adjusted − risk_penalty − cost − latency_penalty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The value at stake times confidence and quality, rounded down.
    pub quality_adjusted: u64,
    /// The value at stake times risk and the policy's multiplier, rounded down.
    pub risk_penalty: u128,
    /// The cost at the expected use.
    pub cost_microunits: u64,
    /// The latency times the policy's price of a millisecond.
    pub latency_penalty: u128,
    /// The difference, exact and then clamped to 64 bits.
    pub utility: i64,
}

/// Prices candidates for one request.
pub(crate) trait Price {
    /// The cost at the expected use.
    fn cost(&self, candidate: &Candidate) -> u64;
    /// The utility, given that cost.
    fn utility(&self, candidate: &Candidate, cost: u64) -> i64;
}

/// `floor(number / DIVISOR)`. Most numbers fit 64 bits, and there a division by a constant is a multiplication.
#[inline(always)]
fn over<const DIVISOR: u64>(number: u128) -> u128 {
    match u64::try_from(number) {
        Ok(number) => (number / DIVISOR).into(),
        Err(_) => number / u128::from(DIVISOR),
    }
}

/// `ceil(tokens × rate / 10^6)`.
#[inline(always)]
fn side(tokens: u32, rate: u64) -> u128 {
    // Below 2^96, so nothing here can overflow 128 bits.
    over::<TOKENS_PER_RATE>(u128::from(tokens) * u128::from(rate) + u128::from(TOKENS_PER_RATE - 1))
}

/// The cost of an amount of use from a candidate's rates, capped at the largest `u64`.
#[inline(always)]
pub(crate) fn cost_from_rates(candidate: &Candidate, input_tokens: u32, output_tokens: u32) -> u64 {
    cast::u64_saturating_from_u128(
        side(input_tokens, candidate.input_cost_microunits_per_million_tokens)
            + side(output_tokens, candidate.output_cost_microunits_per_million_tokens),
    )
}

/// `floor(value × a × b / 10^8)` for two proportions.
#[inline(always)]
fn proportion(value: u64, a: u16, b: u16) -> u128 {
    // Below 2^96.
    over::<BPS_WHOLE_SQUARED>(u128::from(value) * u128::from(a) * u128::from(b))
}

/// The definition of cost and utility: docs/spec/decisions.md, in 128 bits.
pub(crate) struct Exact<'a> {
    request: &'a RequestFields,
    quotes: &'a [(u32, u64)],
    latency_penalty_microunits_per_ms: u64,
    value: u64,
    risk_penalty: u128,
}

impl<'a> Exact<'a> {
    pub(crate) fn new(limits: &Limits, request: &'a RequestFields, quotes: &'a [(u32, u64)]) -> Self {
        let value = cast::u64_from_i64(request.business_value_microunits).unwrap_or(0);
        Self {
            request,
            quotes,
            latency_penalty_microunits_per_ms: limits.latency_penalty_microunits_per_ms,
            value,
            risk_penalty: proportion(value, request.risk_bps, limits.risk_penalty_multiplier_bps),
        }
    }

    /// The parts of a candidate's utility, given its cost.
    #[inline(always)]
    pub(crate) fn terms(&self, candidate: &Candidate, cost: u64) -> Terms {
        // Two proportions that are at most the whole: at most the value, which fits.
        let quality_adjusted = cast::u64_saturating_from_u128(proportion(
            self.value,
            self.request.confidence_bps,
            candidate.quality_bps,
        ));
        let latency_penalty = u128::from(candidate.p95_latency_ms) * u128::from(self.latency_penalty_microunits_per_ms);
        // The largest subtrahend is the latency's, below 2^96, so the sum is exact in 128 bits.
        let utility = i128::from(quality_adjusted)
            - cast::i128_saturating_from_u128(self.risk_penalty)
            - i128::from(cost)
            - cast::i128_saturating_from_u128(latency_penalty);
        Terms {
            quality_adjusted,
            risk_penalty: self.risk_penalty,
            cost_microunits: cost,
            latency_penalty,
            utility: cast::i64_clamped_from_i128(utility),
        }
    }
}

impl Price for Exact<'_> {
    fn cost(&self, candidate: &Candidate) -> u64 {
        quote(self.quotes, candidate.model_id)
            .unwrap_or_else(|| cost_from_rates(candidate, self.request.input_tokens, self.request.output_tokens))
    }
    fn utility(&self, candidate: &Candidate, cost: u64) -> i64 {
        self.terms(candidate, cost).utility
    }
}

/// What the numbers of a request must not exceed so that they fit 64 bits for a whole catalog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ceilings {
    input_tokens: u64,
    output_tokens: u64,
}

/// The penalty for so many milliseconds, in microunits, if it is at most the largest.
pub(crate) fn latency_penalty(limits: &Limits, p95_latency_ms: u32, largest: u64) -> Option<u64> {
    u64::from(p95_latency_ms)
        .checked_mul(limits.latency_penalty_microunits_per_ms)
        .filter(|penalty| *penalty <= largest)
}

impl Ceilings {
    /// `None` if the latency penalty of a candidate does not fit.
    pub(crate) fn new(limits: &Limits, candidates: &[Candidate]) -> Option<Self> {
        let largest = |of: fn(&Candidate) -> u64| candidates.iter().map(of).max().unwrap_or(0);
        // So many tokens at a rate, and the addend of a division that rounds up, are within 64 bits.
        let tokens = |rate| (u64::MAX - (TOKENS_PER_RATE - 1)).checked_div(rate).unwrap_or(u64::MAX);
        let slowest = candidates.iter().map(|candidate| candidate.p95_latency_ms).max();
        latency_penalty(limits, slowest.unwrap_or(0), Narrow::LARGEST_LATENCY_PENALTY)?;
        Some(Self {
            input_tokens: tokens(largest(|candidate| candidate.input_cost_microunits_per_million_tokens)),
            output_tokens: tokens(largest(|candidate| candidate.output_cost_microunits_per_million_tokens)),
        })
    }
}

/// The same cost and utility in 64 bits, for a request whose numbers stay within bounds for the whole catalog.
///
/// Within them no product, no sum and no difference leaves 64 bits and no utility needs a clamp, so the wrapping
/// operations never wrap. A property test holds it to [`Exact`].
#[derive(Clone, Copy)]
pub(crate) struct Narrow {
    input_tokens: u64,
    output_tokens: u64,
    /// `value × confidence`.
    sure: Split,
    risk_penalty: u64,
    latency_penalty_microunits_per_ms: u64,
}

impl Narrow {
    /// 1.1 × 10^15 microunits: times a whole of 10^4 < 2^14 it is within 64 bits.
    const LARGEST_VALUE: u64 = 1 << 50;
    const LARGEST_LATENCY_PENALTY: u64 = 1 << 61;
    const LARGEST_QUOTE: u64 = 1 << 61;

    /// `None` if a number may be out of bounds.
    #[inline(always)]
    pub(crate) fn new(ceilings: &Ceilings, limits: &Limits, request: &RequestFields) -> Option<Self> {
        let value = cast::u64_from_i64(request.business_value_microunits).unwrap_or(0);
        let input_tokens = u64::from(request.input_tokens);
        let output_tokens = u64::from(request.output_tokens);
        if value > Self::LARGEST_VALUE || input_tokens > ceilings.input_tokens || output_tokens > ceilings.output_tokens
        {
            return None;
        }
        Some(Self {
            input_tokens,
            output_tokens,
            sure: Split::new(value, request.confidence_bps),
            risk_penalty: Split::new(value, request.risk_bps).times(limits.risk_penalty_multiplier_bps),
            latency_penalty_microunits_per_ms: limits.latency_penalty_microunits_per_ms,
        })
    }
}

impl Price for Narrow {
    #[inline(always)]
    fn cost(&self, candidate: &Candidate) -> u64 {
        // The constructor saw the largest product and the addend fit; two sides are below 2^46.
        let side = |tokens: u64, rate| tokens.wrapping_mul(rate).wrapping_add(TOKENS_PER_RATE - 1) / TOKENS_PER_RATE;
        side(self.input_tokens, candidate.input_cost_microunits_per_million_tokens).wrapping_add(side(
            self.output_tokens,
            candidate.output_cost_microunits_per_million_tokens,
        ))
    }
    #[inline(always)]
    fn utility(&self, candidate: &Candidate, cost: u64) -> i64 {
        // The first term is at most 2^50; the others are at most 5 × 2^50, 2^61 and 2^61. So the difference is within
        // an i64, and its two's complement is what the wrapping subtractions leave.
        let latency_penalty = u64::from(candidate.p95_latency_ms).wrapping_mul(self.latency_penalty_microunits_per_ms);
        self.sure
            .times(candidate.quality_bps)
            .wrapping_sub(self.risk_penalty)
            .wrapping_sub(cost)
            .wrapping_sub(latency_penalty)
            .cast_signed()
    }
}

/// A value times a proportion, split as `whole × 10^8 + part`, so that times a second proportion and over 10^8 it is
/// `whole × bps + part × bps / 10^8`: the whole of one division is done once per request.
#[derive(Clone, Copy)]
struct Split {
    whole: u64,
    part: u64,
}

impl Split {
    /// For a value of at most 2^50 and a proportion of at most 10^4 < 2^14.
    #[inline]
    fn new(value: u64, bps: u16) -> Self {
        let product = value.wrapping_mul(bps.into());
        Self {
            whole: product / BPS_WHOLE_SQUARED,
            part: product % BPS_WHOLE_SQUARED,
        }
    }

    /// [`proportion`], for a second one below 2^16: whole < 2^64 / 10^8 < 2^38, part < 2^27.
    #[inline(always)]
    fn times(self, bps: u16) -> u64 {
        let bps = u64::from(bps);
        self.whole
            .wrapping_mul(bps)
            .wrapping_add(self.part.wrapping_mul(bps) / BPS_WHOLE_SQUARED)
    }
}

/// [`Narrow`] with quotes.
pub(crate) struct Quoted<'a> {
    narrow: Narrow,
    quotes: &'a [(u32, u64)],
}

impl<'a> Quoted<'a> {
    /// `None` if a quote is out of bounds.
    pub(crate) fn new(narrow: Narrow, quotes: &'a [(u32, u64)]) -> Option<Self> {
        let fits = quotes.iter().all(|(_, cost)| *cost <= Narrow::LARGEST_QUOTE);
        fits.then_some(Self { narrow, quotes })
    }
}

impl Price for Quoted<'_> {
    #[inline]
    fn cost(&self, candidate: &Candidate) -> u64 {
        quote(self.quotes, candidate.model_id).unwrap_or_else(|| self.narrow.cost(candidate))
    }
    #[inline]
    fn utility(&self, candidate: &Candidate, cost: u64) -> i64 {
        self.narrow.utility(candidate, cost)
    }
}

/// The quote for a candidate, among quotes in ascending order.
pub(crate) fn quote(quotes: &[(u32, u64)], model_id: u32) -> Option<u64> {
    let place = quotes.binary_search_by_key(&model_id, |(quoted, _)| *quoted).ok()?;
    quotes.get(place).map(|(_, cost)| *cost)
}

#[cfg(test)]
mod tests;
