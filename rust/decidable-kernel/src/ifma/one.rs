use core::{arch::x86_64::*, hint};

use fearless_simd::{Avx512, kernel, prelude::*, u64x8};

use super::{
    LANES,
    meet::{Asked, BYTE_COUNTS, Best, Tied, ask, cost, first_lost, meet, splat, spread},
    table::{Table, Who},
};
use crate::{
    Rejections, RequestFields,
    decision::{NO_INDEX, Selected},
    gate::unpacked,
};

/// What came of one request that met all candidates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Met {
    Selected(Selected),
    Rejected(Rejections),
}

/// Lets one request, which is not refused, meet all candidates, eight at a time; `None` where that leaves it open: beyond the bounds, or
/// where equal utilities have to be [settled](settle_one).
pub(crate) fn decide_one(table: &Table, request: &RequestFields) -> Option<Met> {
    decide_with(table.token, table, request)
}

/// The same, also where utilities are equal.
#[cold]
pub(crate) fn settle_one(table: &Table, request: &RequestFields) -> Option<Met> {
    settle_with(table.token, table, request)
}

kernel! {
    fn decide_with(token: Avx512, table: &Table, request: &RequestFields) -> Option<Met> {
        met::<false>(token, table, request)
    }
}

kernel! {
    #[cold]
    fn settle_with(token: Avx512, table: &Table, request: &RequestFields) -> Option<Met> {
        met::<true>(token, table, request)
    }
}

with_features! {
    /// Those that are tied are put in order with `SETTLE` alone. What that needs would lie in memory for all requests otherwise, and most
    /// have none.
    fn met<const SETTLE: bool>(token: Avx512, table: &Table, request: &RequestFields) -> Option<Met> {
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
        // Through memory each number reaches all lanes at once; the compiler would take them out of one vector.
        let asked = ask::<true>(table, columns.map(|number| splat(hint::black_box(number))));
        if asked.beyond & 1 == 1 {
            return None;
        }
        let mut best = Best::none();
        let mut eligible = 0_u32;
        for block in &table.blocks {
            let offer = block.map(|numbers| u64x8::simd_from(token, numbers).into());
            let (key, _) = if table.by_utility {
                meet::<true, true>(&asked, offer)
            } else {
                meet::<false, true>(&asked, offer)
            };
            let passes = _mm512_cmpgt_epi64_mask(key, asked.floor);
            eligible = eligible.wrapping_add(passes.count_ones());
            best.admit(key);
        }
        let best = best.merge(best.moved(|keys| half(keys)));
        let best = best.merge(best.moved(|keys| quarter(keys)));
        let mut best = best.merge(best.moved(|keys| neighbour(keys))).above(&asked);
        if best.tied(table) & 1 == 1 {
            if !SETTLE {
                return None;
            }
            best = settled(token, table, &asked, best);
        }
        let first = |vector: __m512i| _mm_cvtsi128_si64(_mm512_castsi512_si128(vector));
        if first(best.first) == 0 {
            return Some(Met::Rejected(table.rejections(count_one(token, table, &asked), 0)));
        }
        let [chosen, alternative] = [best.first, best.second].map(|keys| table.named(first(keys).cast_unsigned()));
        let place = |who: &Who| u16::try_from(who[0] >> 32).unwrap_or(NO_INDEX);
        let number = |who: &Who| u32::try_from(who[0] & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let second = (place(alternative) != NO_INDEX).then(|| number(alternative));
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
            model_id: number(chosen),
            index: place(chosen),
            cost: first(costs).cast_unsigned(),
            utility,
            second,
            second_utility: second.map_or(0, |_| second_utility),
            eligible: u16::try_from(eligible).unwrap_or(u16::MAX),
        }))
    }
}

// Each lane's other half, the other quarter of each half, and the neighbour.
with_features! {
    fn half(keys: __m512i) -> __m512i {
        _mm512_shuffle_i64x2::<0x4e>(keys, keys)
    }
}
with_features! {
    fn quarter(keys: __m512i) -> __m512i {
        _mm512_shuffle_i64x2::<0xb1>(keys, keys)
    }
}
with_features! {
    fn neighbour(keys: __m512i) -> __m512i {
        _mm512_permutex_epi64::<0xb1>(keys)
    }
}

with_features! {
    /// The best keys of one request, which are tied, in their order.
    fn settled(token: Avx512, table: &Table, asked: &Asked, best: Best) -> Best {
        let mut equal = Tied::new(&best);
        for block in &table.blocks {
            equal.admit(meet::<true, true>(asked, block.map(|numbers| u64x8::simd_from(token, numbers).into())));
        }
        let equal = equal.merge(equal.moved(|keys| half(keys)));
        let equal = equal.merge(equal.moved(|keys| quarter(keys)));
        equal.merge(equal.moved(|keys| neighbour(keys))).settle(best, u8::MAX)
    }
}

with_features! {
    /// How many candidates a request lost at gates 2 to 8.
    fn count_one(token: Avx512, table: &Table, asked: &Asked) -> [u32; 7] {
        let mut all = [_mm512_setzero_si512(); 2];
        let mut rest = table.offers.len();
        for blocks in table.blocks.chunks(BYTE_COUNTS) {
            let mut counts = _mm512_setzero_si512();
            for block in blocks {
                let here = match rest {
                    LANES.. => u8::MAX,
                    _ => !(u8::MAX << rest),
                };
                rest = rest.saturating_sub(LANES);
                let lost = first_lost(asked, block.map(|numbers| u64x8::simd_from(token, numbers).into()));
                counts = _mm512_mask_add_epi64(counts, here, counts, lost);
            }
            for (all, counts) in all.iter_mut().zip(spread(counts)) {
                *all = _mm512_add_epi64(*all, counts);
            }
        }
        unpacked(all.map(|counts| _mm512_reduce_add_epi64(counts).cast_unsigned()))
    }
}
