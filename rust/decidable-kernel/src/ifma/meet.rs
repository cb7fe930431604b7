use core::{arch::x86_64::*, hint};

use decidable_canon::{cast, units::BPS_WHOLE_SQUARED};
use fearless_simd::{Avx512, prelude::*, u64x8};

use super::{
    Lane,
    table::{LARGEST_VALUE, Offer, PRODUCT_BITS, Table},
};
use crate::places::{PLACE_BITS, PLACES};
use crate::screen::{GUARDS, LATENCY_GUARD, QUALITY, QUALITY_GUARD, RISK, RISK_GUARD};

/// More than any cost within the bounds, and a signed number.
const LARGEST_BUDGET: u64 = 1 << 62;

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
// A value times a proportion, which is at most 10^4 < 2^14, is divided by 10^8.
const _: () = assert!(LARGEST_VALUE <= 1 << (60 - 14));

// What a basis point of quality is worth has 52 bits behind the point, made from a remainder below 10^8: too large by more than 0
// and less than 10^8 / 2^24 + 1 < 7. Times a quality of at most 10^4 it is too large by less than 7 × 10^4 / 2^52 < 10^-8, and as
// exact values are whole hundred-millionths, the whole microunit below is the same. The part stays below 2^52, because the
// remainder is below 10^8 by one at least, which is worth 45 million.

/// What a request brings to every candidate: one number of each request in a lane, or one request in all lanes.
pub(super) struct Asked {
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
    pub(super) floor: __m512i,
    /// What a cost is subtracted from.
    base: __m512i,
    risk_penalty: __m512i,
    /// Those that are refused before any candidate: for their risk, and for their risk or their confidence.
    pub(super) risky: __mmask8,
    pub(super) refused: __mmask8,
    /// Those that are decided one after the other, because their numbers are beyond the bounds.
    pub(super) beyond: __mmask8,
}

/// The three largest keys of each lane.
#[derive(Clone, Copy)]
pub(super) struct Best {
    pub(super) first: __m512i,
    pub(super) second: __m512i,
    pub(super) third: __m512i,
}

with_features! {
    pub(super) fn splat(number: u64) -> __m512i {
        _mm512_set1_epi64(number.cast_signed())
    }
}

/// The numbers of a vector.
#[inline(always)]
pub(super) fn numbers(token: Avx512, vector: __m512i) -> Lane {
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
    /// Takes requests apart: input and output tokens, value, budget, the proportions, latency, and three masks. Unless they are
    /// `ADMITTED`, it sees who is refused.
    pub(super) fn ask<const ADMITTED: bool>(table: &Table, columns: [__m512i; 8]) -> Asked {
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

        let (risky, refused) = if ADMITTED {
            (0, 0)
        } else {
            let risky = _mm512_cmpge_epu64_mask(risk, splat(table.hard_risk_limit_bps));
            (risky, risky | _mm512_cmplt_epu64_mask(confidence, splat(table.minimum_confidence_bps)))
        };
        let beyond = !refused
            & (_mm512_cmpgt_epu64_mask(_mm512_max_epu64(input, output), splat(table.scale.tokens_max))
                | _mm512_cmpgt_epu64_mask(value, splat(LARGEST_VALUE)));

        // What is demanded, in the places of a standing: the complement of the longest latency, or 0 for any.
        let latency = _mm512_and_si512(latency, half);
        let limited = _mm512_test_epi64_mask(latency, latency);
        let demanded = _mm512_or_si512(
            _mm512_maskz_andnot_epi64(limited, latency, half),
            _mm512_or_si512(_mm512_slli_epi64::<QUALITY>(quality), _mm512_slli_epi64::<RISK>(risk)),
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

        // floor(v × r × m / 10^8), with v × r = w × 10^8 + rest: w × m is whole, and rest × m is below 5 × 10^12.
        let multiplier = splat(table.risk_penalty_multiplier_bps);
        let product = _mm512_mullo_epi64(value, risk);
        let whole = over_whole(product);
        let rest = _mm512_sub_epi64(product, _mm512_mullo_epi64(whole, splat(BPS_WHOLE_SQUARED)));
        let risk_penalty = _mm512_add_epi64(
            _mm512_mullo_epi64(whole, multiplier),
            over_whole(_mm512_mullo_epi64(rest, multiplier)),
        );

        let shift = splat(table.scale.shift().into());
        let input = _mm512_sllv_epi64(input, shift);
        let output = _mm512_sllv_epi64(output, shift);
        let base = _mm512_srli_epi64::<1>(_mm512_add_epi64(input, output));
        let surplus = _mm512_add_epi64(base, risk_penalty);
        let least = _mm512_sub_epi64(base, _mm512_min_epu64(budget, splat(LARGEST_BUDGET)));
        let floor = if table.by_utility {
            // A utility of 1 at place 0, where nobody is.
            _mm512_slli_epi64::<PLACE_BITS>(_mm512_add_epi64(surplus, splat(1)))
        } else {
            zero
        };
        // Who is not decided here passes nobody.
        let floor = _mm512_mask_mov_epi64(floor, refused | beyond, splat(u64::MAX >> 1));
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
            risky,
            refused,
            beyond,
        }
    }
}

with_features! {
    /// Lets requests and candidates meet: the keys of those that pass the first eight gates, and 0 for the others; and what each leaves
    /// of its base.
    pub(super) fn meet<const UTILITY: bool, const MASKS: bool>(asked: &Asked, offer: [__m512i; 8]) -> (__m512i, __m512i) {
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
        (_mm512_maskz_add_epi64(passes, _mm512_slli_epi64::<PLACE_BITS>(compared), beginning), left)
    }
}

impl Best {
    with_features! {
        /// Nobody. Who is below the floor is taken out [in the end](Self::above): the floor is known late.
        pub(super) fn none() -> Self {
            let zero = _mm512_setzero_si512();
            Self { first: zero, second: zero, third: zero }
        }
    }
    with_features! {
        /// With 0 where nobody came above the floor.
        pub(super) fn above(self, asked: &Asked) -> Self {
            let above = |keys| _mm512_maskz_mov_epi64(_mm512_cmpgt_epi64_mask(keys, asked.floor), keys);
            Self { first: above(self.first), second: above(self.second), third: above(self.third) }
        }
    }
    with_features! {
        pub(super) fn admit(&mut self, key: __m512i) {
            let rest = _mm512_min_epi64(self.first, key);
            self.first = _mm512_max_epi64(self.first, key);
            let last = _mm512_min_epi64(self.second, rest);
            self.second = _mm512_max_epi64(self.second, rest);
            self.third = _mm512_max_epi64(self.third, last);
        }
    }
    /// With each vector's lanes moved.
    #[inline(always)]
    pub(super) fn moved(self, by: impl Fn(__m512i) -> __m512i) -> Self {
        Self {
            first: by(self.first),
            second: by(self.second),
            third: by(self.third),
        }
    }
    with_features! {
        /// The best of both, lane by lane.
        pub(super) fn merge(self, other: Self) -> Self {
            let first = _mm512_max_epi64(self.first, other.first);
            let rest = _mm512_min_epi64(self.first, other.first);
            let seconds = _mm512_max_epi64(self.second, other.second);
            let second = _mm512_max_epi64(rest, seconds);
            // The smaller of both seconds is below a first and a second, and below the other first: fourth at most.
            let third = _mm512_max_epi64(_mm512_min_epi64(rest, seconds), _mm512_max_epi64(self.third, other.third));
            Self { first, second, third }
        }
    }
    with_features! {
        /// The lanes where equal utilities leave it open who is first or second: see [`Tied`]. With another objective nothing is left
        /// open: places are in its order.
        pub(super) fn tied(self, table: &Table) -> __mmask8 {
            if !table.by_utility {
                return 0;
            }
            let compared = |keys| _mm512_srli_epi64::<PLACE_BITS>(keys);
            let (first, second, third) = (compared(self.first), compared(self.second), compared(self.third));
            let both = _mm512_test_epi64_mask(self.second, self.second);
            both & (_mm512_cmpeq_epi64_mask(first, second) | _mm512_cmpeq_epi64_mask(second, third))
        }
    }
}

/// The first two of those in each lane whose utility is that of the second key: the cheaper first, and of equal costs by place. Where the
/// first key has that utility as well they are first and second, else the first of them is second.
#[derive(Clone, Copy)]
pub(super) struct Tied {
    /// The utility, as keys compare it.
    compared: __m512i,
    /// What is left of the base, above the place.
    first: __m512i,
    second: __m512i,
}

impl Tied {
    with_features! {
        /// Nobody yet.
        pub(super) fn new(best: &Best) -> Self {
            let zero = _mm512_setzero_si512();
            Self { compared: _mm512_srli_epi64::<PLACE_BITS>(best.second), first: zero, second: zero }
        }
    }
    with_features! {
        pub(super) fn admit(&mut self, (key, left): (__m512i, __m512i)) {
            let equal = _mm512_cmpeq_epi64_mask(_mm512_srli_epi64::<PLACE_BITS>(key), self.compared);
            let place = _mm512_and_si512(key, splat(PLACES));
            let own = _mm512_maskz_or_epi64(equal, _mm512_slli_epi64::<PLACE_BITS>(left), place);
            let rest = _mm512_min_epi64(self.first, own);
            self.first = _mm512_max_epi64(self.first, own);
            self.second = _mm512_max_epi64(self.second, rest);
        }
    }
    /// With each vector's lanes moved.
    #[inline(always)]
    pub(super) fn moved(self, by: impl Fn(__m512i) -> __m512i) -> Self {
        Self {
            first: by(self.first),
            second: by(self.second),
            ..self
        }
    }
    with_features! {
        /// The first two of both, lane by lane.
        pub(super) fn merge(self, other: Self) -> Self {
            let rest = _mm512_min_epi64(self.first, other.first);
            Self {
                first: _mm512_max_epi64(self.first, other.first),
                second: _mm512_max_epi64(rest, _mm512_max_epi64(self.second, other.second)),
                ..self
            }
        }
    }
    with_features! {
        /// The best keys, with those of the lanes that were tied in their order.
        pub(super) fn settle(self, best: Best, tied: __mmask8) -> Best {
            let key = |own| {
                _mm512_or_si512(_mm512_slli_epi64::<PLACE_BITS>(self.compared), _mm512_and_si512(own, splat(PLACES)))
            };
            let both = tied & _mm512_cmpeq_epi64_mask(_mm512_srli_epi64::<PLACE_BITS>(best.first), self.compared);
            let second = _mm512_mask_mov_epi64(best.second, tied, key(self.first));
            Best {
                first: _mm512_mask_mov_epi64(best.first, both, key(self.first)),
                second: _mm512_mask_mov_epi64(second, both, key(self.second)),
                ..best
            }
        }
    }
}

with_features! {
    /// Where requests are in the lanes: the best keys, with those that were tied in their order.
    #[cold]
    pub(super) fn settle_all(asked: &Asked, offers: &[Offer], best: Best, tied: __mmask8) -> Best {
        let mut equal = Tied::new(&best);
        for offer in offers {
            equal.admit(meet::<true, true>(asked, offer.map(|number| splat(number))));
        }
        equal.settle(best, tied)
    }
}

with_features! {
    /// The costs at the rebates of candidates.
    pub(super) fn cost(asked: &Asked, input: __m512i, output: __m512i) -> __m512i {
        let left = _mm512_madd52hi_epu64(_mm512_setzero_si512(), asked.input, input);
        _mm512_sub_epi64(asked.base, _mm512_madd52hi_epu64(left, asked.output, output))
    }
}

impl Asked {
    with_features! {
        /// The utilities in keys that compare them.
        pub(super) fn utility(&self, keys: __m512i) -> __m512i {
            let compared = _mm512_srli_epi64::<PLACE_BITS>(keys);
            _mm512_sub_epi64(compared, _mm512_add_epi64(self.base, self.risk_penalty))
        }
    }
    with_features! {
        /// The utilities of candidates with a cost, a quality and a latency penalty.
        pub(super) fn worth(&self, cost: __m512i, quality: __m512i, latency_penalty: __m512i) -> __m512i {
            let whole = _mm512_madd52lo_epu64(_mm512_setzero_si512(), self.sure_whole, quality);
            let value = _mm512_madd52hi_epu64(whole, self.sure_part, quality);
            let penalties = _mm512_add_epi64(self.risk_penalty, latency_penalty);
            _mm512_sub_epi64(_mm512_sub_epi64(value, penalties), cost)
        }
    }
}

with_features! {
    pub(super) fn meet_all<const UTILITY: bool, const MASKS: bool>(asked: &Asked, offers: &[Offer]) -> (Best, __m512i) {
        let mut best = Best::none();
        let mut eligible = _mm512_setzero_si512();
        // The compiler would make a subtraction of a spread mask of this, if it knew the number.
        let one = splat(hint::black_box(1));
        for offer in offers {
            let (key, _) = meet::<UTILITY, MASKS>(asked, offer.map(|number| splat(number)));
            let passes = _mm512_cmpgt_epi64_mask(key, asked.floor);
            eligible = _mm512_mask_add_epi64(eligible, passes, eligible, one);
            best.admit(key);
        }
        (best.above(asked), eligible)
    }
}

/// How many numbers of [`first_lost`] may be added before they are [spread](spread).
pub(super) const BYTE_COUNTS: usize = 255;

with_features! {
    /// The gate of [`lost`] that each fails first: a one in a byte for it, or nothing.
    pub(super) fn first_lost(asked: &Asked, offer: [__m512i; 8]) -> __m512i {
        // The even bytes become the first four counts of `unpacked`, the odd ones the other three.
        const QUALITY: u64 = 1;
        const LATENCY: u64 = 1 << 16;
        const CAPABILITY: u64 = 1 << 32;
        const PROVIDER: u64 = 1 << 48;
        const REGION: u64 = 1 << 8;
        const RISK_CEILING: u64 = 1 << 24;
        const BUDGET: u64 = 1 << 40;
        let [quality, latency, capability, provider, region, risk_ceiling, budget] = lost(asked, offer);
        // The last gate first, and those before it over it.
        let gate = _mm512_maskz_mov_epi64(budget, splat(BUDGET));
        let gate = _mm512_mask_mov_epi64(gate, risk_ceiling, splat(RISK_CEILING));
        let gate = _mm512_mask_mov_epi64(gate, region, splat(REGION));
        let gate = _mm512_mask_mov_epi64(gate, provider, splat(PROVIDER));
        let gate = _mm512_mask_mov_epi64(gate, capability, splat(CAPABILITY));
        let gate = _mm512_mask_mov_epi64(gate, latency, splat(LATENCY));
        _mm512_mask_mov_epi64(gate, quality, splat(QUALITY))
    }
}

with_features! {
    /// Counts in bytes as counts of 16 bits, in the order of [`unpacked`](crate::gate::unpacked).
    pub(super) fn spread(counts: __m512i) -> [__m512i; 2] {
        let even = splat(0x00ff_00ff_00ff_00ff);
        [_mm512_and_si512(counts, even), _mm512_and_si512(_mm512_srli_epi64::<8>(counts), even)]
    }
}

with_features! {
    /// How many candidates each request loses first at each gate.
    pub(super) fn count_all(asked: &Asked, offers: &[Offer]) -> [__m512i; 2] {
        let mut all = [_mm512_setzero_si512(); 2];
        for offers in offers.chunks(BYTE_COUNTS) {
            let mut counts = _mm512_setzero_si512();
            for offer in offers {
                counts = _mm512_add_epi64(counts, first_lost(asked, offer.map(|number| splat(number))));
            }
            for (all, counts) in all.iter_mut().zip(spread(counts)) {
                *all = _mm512_add_epi64(*all, counts);
            }
        }
        all
    }
}

with_features! {
    /// Who fails at quality, latency, capability, provider, region, risk ceiling and budget.
    pub(super) fn lost(asked: &Asked, offer: [__m512i; 8]) -> [__mmask8; 7] {
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
