//! Requests as rows, from bytes to bytes: eight at a time they become columns, meet all candidates, and leave as rows.

use core::arch::x86_64::*;

use decidable_canon::cast;
use fearless_simd::{Avx512, kernel, prelude::*, u8x64, u64x8};

use super::{
    LANES,
    meet::{ask, cost, count_all, meet_all, numbers, settle_all, splat},
    table::Table,
};
use crate::{
    Reason, Rejections,
    decision::{DECISION_ROW_BYTES, DecisionRow},
    gate::{DOMINANCE, by_dominance, unpacked},
    left::{Left, PIECE},
    request::{REQUEST_ROW_BYTES, RequestRow},
};

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

/// The first 64 bytes of a decision's row, from the columns that [`decide_group`] gathers; 255 for a zero.
const LAYOUT: [u8; 64] = [
    56, 57, 58, 59, 60, 61, 62, 63, // request_sequence
    6,  // action
    7, 255, // reason, whose second byte is 0
    0, 1, 2, 3, // selected_model_id
    4, 5, // selected_model_index
    8, 9, 10, 11, 12, 13, 14, 15, // estimated_cost_microunits
    16, 17, 18, 19, 20, 21, 22, 23, // expected_utility_microunits
    24, 25, 26, 27, // counterfactual_model_id
    32, 33, 34, 35, 36, 37, 38, 39, // counterfactual_utility_microunits
    30, 31, // evaluated_models
    28, 29, // eligible_models
    40, 41, 42, 43, 44, 45, 46, 47, // policy_epoch
    48, 49, 50, 51, 52, 53, 54, // catalog_epoch, but for its last byte
];

/// What is put into a column of one row goes into its last.
const LAST_COLUMN: __mmask8 = 1 << 7;

const REJECTED: u64 = 3 << 48;
const SELECTED: u64 = 1 << 48 | 1 << 56;
const RISKY: u64 = refused(Reason::RiskHardLimit);
const UNSURE: u64 = refused(Reason::ConfidenceHardLimit);

const fn refused(reason: Reason) -> u64 {
    REJECTED | cast::u64_from_usize(cast::usize_from_u16(reason.code())) << 56
}

const _: () = assert!(DECISION_ROW_BYTES == 65);

/// Decides a piece of rows, but for what is left.
pub(crate) fn decide_rows(table: &Table, requests: &[RequestRow], decisions: &mut [DecisionRow]) -> Left {
    debug_assert!(requests.len() <= PIECE, "a bit for each row");
    decide_with(table.token, table, requests, decisions)
}

kernel! {
    fn decide_with(
        token: Avx512, table: &Table, requests: &[RequestRow], decisions: &mut [DecisionRow]
    ) -> Left {
        let mut left = Left::default();
        let (groups, rest) = requests.as_chunks::<LANES>();
        let (rooms, rest_of_room) = decisions.as_chunks_mut::<LANES>();
        let mut note = |start: u32, (beyond, rejected): (__mmask8, __mmask8)| {
            left.beyond |= u64::from(beyond) << start;
            left.rejected |= u64::from(rejected) << start;
        };
        for ((requests, decisions), start) in groups.iter().zip(rooms).zip((0..).step_by(LANES)) {
            note(start, decide_group(token, table, requests, decisions));
        }
        if let Some(first) = rest.first() {
            // A shorter group has its first row in the lanes that are left.
            let mut requests = [*first; LANES];
            let mut decisions = [[0; DECISION_ROW_BYTES]; LANES];
            for (request, row) in requests.iter_mut().zip(rest) {
                *request = *row;
            }
            let (beyond, rejected) = decide_group(token, table, &requests, &mut decisions);
            let here = !(u8::MAX << rest.len());
            note(u32::try_from(groups.len() * LANES).unwrap_or(0), (beyond & here, rejected & here));
            for (room, decision) in rest_of_room.iter_mut().zip(decisions) {
                *room = decision;
            }
        }
        left
    }
}

with_features! {
    /// Decides eight rows: those that are left to others, because they are beyond the bounds or undecided, and those that nobody
    /// passed, so that a reason is missing.
    fn decide_group(
        token: Avx512,
        table: &Table,
        requests: &[RequestRow; LANES],
        decisions: &mut [DecisionRow; LANES],
    ) -> (__mmask8, __mmask8) {
        let columns = columns(token, requests.each_ref());
        let asked = ask::<false>(table, columns);
        if asked.beyond == u8::MAX {
            return (u8::MAX, 0);
        }
        let [_, _, _, _, latency_and_model, capabilities, providers, regions] = columns;
        let masks = _mm512_or_si512(
            _mm512_or_si512(capabilities, regions),
            _mm512_xor_si512(providers, splat(u64::MAX)),
        );
        let (mut best, eligible) = match (table.by_utility, _mm512_test_epi64_mask(masks, masks) != 0) {
            (true, true) => meet_all::<true, true>(&asked, &table.offers),
            (true, false) => meet_all::<true, false>(&asked, &table.offers),
            (false, _) => meet_all::<false, true>(&asked, &table.offers),
        };
        let tied = best.tied(table);
        if tied != 0 {
            best = settle_all(&asked, &table.offers, best, tied);
        }

        let first = numbers(token, best.first).map(|key| table.named(key));
        let second = numbers(token, best.second).map(|key| table.named(key));
        // The second's number goes into a column that the first leaves free.
        let mut seconds = second.iter();
        let [chosen, input, output, quality, latency_penalty, .., alternative] = transposed(first.map(|who| {
            let number = seconds.next().map_or(0, |[number, ..]| *number);
            let who = u64x8::simd_from(token, *who).into();
            _mm512_mask_set1_epi64(who, LAST_COLUMN, number.cast_signed())
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
        let half = splat(u32::MAX.into());
        let requested = _mm512_srli_epi64::<32>(latency_and_model);
        let other = _mm512_cmpneq_epi64_mask(_mm512_and_si512(chosen, half), requested);
        // Action and reason are 1 for the requested candidate and 2 for another.
        let what = _mm512_mask_add_epi64(splat(SELECTED), other, splat(SELECTED), splat(SELECTED));
        let what = _mm512_mask_mov_epi64(splat(REJECTED), any, what);
        let what = _mm512_mask_mov_epi64(what, asked.refused, splat(UNSURE));
        let what = _mm512_mask_mov_epi64(what, asked.risky, splat(RISKY));
        let evaluated = _mm512_maskz_mov_epi64(!asked.refused, splat(table.evaluated << 48));
        let counts = _mm512_or_si512(_mm512_slli_epi64::<32>(eligible), evaluated);
        let rows = transposed([
            _mm512_or_si512(chosen, what),
            cost,
            _mm512_maskz_mov_epi64(any, utility),
            _mm512_or_si512(_mm512_and_si512(alternative, half), counts),
            _mm512_maskz_mov_epi64(two, second_utility),
            splat(table.policy_epoch),
            splat(table.catalog_epoch),
            _mm512_setzero_si512(),
        ]);
        let layout: __m512i = u8x64::simd_from(token, LAYOUT).into();
        let present = !_mm512_movepi8_mask(layout);
        let [.., last_byte] = table.catalog_epoch.to_le_bytes();
        for ((row, request), decision) in rows.into_iter().zip(requests).zip(decisions) {
            let number = request.first_chunk().map_or(0, |number| i64::from_le_bytes(*number));
            let row = _mm512_mask_set1_epi64(row, LAST_COLUMN, number);
            let bytes: [u8; 64] = u8x64::simd_from(token, _mm512_maskz_permutexvar_epi8(present, layout, row)).into();
            if let Some((begins, [last])) = decision.split_first_chunk_mut::<64>() {
                *begins = bytes;
                *last = last_byte;
            }
        }
        (asked.beyond, !any & !asked.beyond & !asked.refused)
    }
}

/// How many candidates each request lost at each gate, each counted at the first that it failed, given how many are eligible. What is
/// left of those that are switched on, but for the eligible, had no positive utility.
///
/// `None` where one of them is beyond the bounds.
pub(crate) fn count_rows(table: &Table, rows: [(&RequestRow, u16); LANES]) -> Option<[Rejections; LANES]> {
    count_with(table.token, table, rows)
}

kernel! {
    fn count_with(
        token: Avx512, table: &Table, rows: [(&RequestRow, u16); LANES]
    ) -> Option<[Rejections; LANES]> {
        let asked = ask::<false>(table, columns(token, rows.map(|(row, _)| row)));
        if asked.beyond != 0 {
            return None;
        }
        let [low, high] = count_all(&asked, &table.offers);
        let mut counts = numbers(token, low).into_iter().zip(numbers(token, high)).zip(rows).zip(0..);
        Some([(); LANES].map(|()| match counts.next() {
            Some((((low, high), (_, eligible)), lane)) if asked.refused >> lane & 1 == 0 => {
                table.rejections(unpacked([low, high]), eligible)
            }
            _ => Rejections::default(),
        }))
    }
}

/// Why nobody was selected for requests that are not refused and for which nobody is eligible.
pub(crate) fn reasons(table: &Table, rows: [&RequestRow; LANES]) -> [Reason; LANES] {
    reasons_with(table.token, table, rows)
}

kernel! {
    fn reasons_with(token: Avx512, table: &Table, rows: [&RequestRow; LANES]) -> [Reason; LANES] {
        const RANK_BITS: u32 = 4;
        let [low, high] = count_all(&ask::<true>(table, columns(token, rows)), &table.offers);
        let count = |counts, at: u64| _mm512_and_si512(_mm512_srlv_epi64(counts, splat(at)), splat(u16::MAX.into()));
        let [quality, latency, capability, provider] = [0, 16, 32, 48].map(|at| count(low, at));
        let [region, risk_ceiling, budget] = [0, 16, 32].map(|at| count(high, at));
        let failed = [quality, latency, capability, provider, region, risk_ceiling, budget]
            .into_iter()
            .fold(_mm512_setzero_si512(), |sum, count| _mm512_add_epi64(sum, count));
        let worthless = _mm512_sub_epi64(splat(table.enabled()), failed);
        let disabled = splat(table.disabled.into());
        let counts = [disabled, quality, risk_ceiling, latency, capability, provider, region, budget, worthless];
        // The largest count, and of equal ones the last in the order of what dominates.
        let most = by_dominance(counts)
            .into_iter()
            .zip(0..)
            .fold(_mm512_setzero_si512(), |most, (count, rank)| {
                _mm512_max_epi64(most, _mm512_or_si512(_mm512_slli_epi64::<RANK_BITS>(count), splat(rank)))
            });
        numbers(token, most).map(|most| {
            let rank = cast::usize_from_u64(most & ((1 << RANK_BITS) - 1)).unwrap_or(0);
            DOMINANCE.get(rank).copied().unwrap_or(Reason::NoEnabledModel)
        })
    }
}
