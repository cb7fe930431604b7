use proptest::prelude::*;

use super::{
    numbers::{LN_2, LOG2_E, LOWEST, MASKED, ln, power, weight},
    *,
};
use crate::levels::levels;

/// The definition: one logit after the other, no vectors.
fn plain(logits: &[f32], selected: usize) -> LogitStats {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap().then(a.cmp(b)));
    let top = f64::from(logits[order[0]]);
    let powers = |logit: f32| (f64::from(logit) - top) * LOG2_E;
    let (mut weights, mut logs) = ([0.0; LANES], [0.0; LANES]);
    for (index, logit) in logits.iter().enumerate() {
        let y = powers(*logit).max(LOWEST);
        weights[index % LANES] += power(y);
        logs[index % LANES] += power(y) * y;
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            weights[lane] += weights[lane + width];
            logs[lane] += logs[lane + width];
        }
    }
    let logs = if logs[0] > -(2_f64.powi(-900)) { 0.0 } else { logs[0] };
    let second = order.get(1).copied().filter(|index| logits[*index] > f32::NEG_INFINITY);
    LogitStats {
        entropy: (ln(weights[0]) - LN_2 * (logs / weights[0])).max(0.0),
        dominance: (1.0 - second.map_or(0.0, |index| weight(powers(logits[index])))) / weights[0],
        selected_probability: weight(powers(logits[selected])) / weights[0],
        selected,
        top1: order[0],
        top2: second,
    }
}

/// The definition of the textbook, with the exponential and the logarithm of the platform.
fn textbook(logits: &[f32], selected: usize) -> (f64, f64, f64) {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.partial_cmp(a).unwrap());
    let top = f64::from(sorted[0]);
    let weight = |logit: f32| (f64::from(logit) - top).exp();
    // The smallest first, which loses least.
    let total: f64 = sorted.iter().rev().map(|logit| weight(*logit)).sum();
    let entropy = sorted
        .iter()
        .rev()
        .map(|logit| weight(*logit) / total)
        .filter(|p| *p > 0.0);
    let entropy: f64 = entropy.map(|p| -p * p.ln()).sum();
    let second = sorted.get(1).map_or(0.0, |logit| weight(*logit) / total);
    (entropy, 1.0 / total - second, weight(logits[selected]) / total)
}

fn bits(stats: &LogitStats) -> ([u64; 3], [Option<usize>; 3]) {
    (
        [stats.entropy, stats.dominance, stats.selected_probability].map(f64::to_bits),
        [Some(stats.selected), Some(stats.top1), stats.top2],
    )
}

/// Every so many of what lies in memory, from the end to the beginning.
struct Strided<'a> {
    all: &'a [f32],
    step: usize,
}

impl Logits for Strided<'_> {
    fn count(&self) -> usize {
        self.all.len() / self.step
    }
    fn read(&self, first: usize, block: &mut [f32]) {
        for (index, to) in (first..).zip(block) {
            *to = self.all[self.all.len() - 1 - index * self.step];
        }
    }
}

/// Numbers that look random, from 0 to 1.
fn drawn(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    core::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f32::from(u16::try_from(state >> 48).unwrap()) / 65_536.0
            + f32::from(u8::try_from(state >> 40 & 0xff).unwrap()) / 1e8
    })
}

fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -30_f32..30.0,
        1 => Just(f32::NEG_INFINITY),
        1 => (-4_i8..4).prop_map(f32::from),
        1 => prop_oneof![Just(0.0_f32), Just(-0.0), Just(1e-40), Just(f32::MAX), Just(f32::MIN), -2e3_f32..0.0],
    ]
}

proptest! {
    #[test]
    fn every_width_of_vectors_gives_the_bits_of_the_definition(
        logits in prop::collection::vec(logit(), 1..2_600), at in any::<prop::sample::Index>(),
    ) {
        let selected = at.index(logits.len());
        prop_assume!(logits.iter().any(|logit| *logit > f32::NEG_INFINITY));
        let expected = bits(&plain(&logits, selected));
        for level in levels() {
            let stats = LogitStats::with(level, logits.as_slice(), selected).unwrap();
            prop_assert_eq!(bits(&stats), expected, "{:?}", level);
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_where_the_values_lie(
        halves in prop::collection::vec(prop_oneof![0_u16..0x7c00, 0x8000_u16..=0xfc00], 1..2_600),
        step in 1_usize..4,
    ) {
        let logits: Vec<f32> = halves.iter().map(|bits| f32_from_f16(*bits)).collect();
        prop_assume!(logits.iter().any(|logit| *logit > f32::NEG_INFINITY));
        let selected = logits.len() / 2;
        let expected = bits(&plain(&logits, selected));
        let spread: Vec<f32> = logits.iter().rev().flat_map(|logit| {
            core::iter::repeat_n(f32::NAN, step - 1).chain([*logit])
        }).collect();
        for level in levels() {
            let half = LogitStats::with(level, &F16(&halves), selected).unwrap();
            prop_assert_eq!(bits(&half), expected);
            let strided = LogitStats::with(level, &Strided { all: &spread, step }, selected).unwrap();
            prop_assert_eq!(bits(&strided), expected);
        }
    }

    #[test]
    fn bfloat16_is_the_upper_half_of_single_precision(
        halves in prop::collection::vec(prop_oneof![0_u16..0x7f80, 0x8000_u16..=0xff80], 1..2_600),
    ) {
        let logits: Vec<f32> = halves.iter().map(|bits| f32::from_bits(u32::from(*bits) << 16)).collect();
        prop_assume!(logits.iter().any(|logit| *logit > f32::NEG_INFINITY));
        for level in levels() {
            let stats = LogitStats::with(level, &Bf16(&halves), 0).unwrap();
            prop_assert_eq!(bits(&stats), bits(&plain(&logits, 0)));
        }
    }

    #[test]
    fn the_bounds_hold_what_all_tokens_would_have(
        logits in prop::collection::vec(-12_f32..12.0, 1..400), known in 1_usize..24, at in any::<prop::sample::Index>(),
    ) {
        let selected = at.index(logits.len());
        let stats = LogitStats::of(logits.as_slice(), selected).unwrap();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap());
        order.truncate(known);
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let logprobs: Vec<f64> = order.iter().map(|index| f64::from(logits[*index]) - total.ln()).collect();
        let probabilities: Vec<f64> = logprobs.iter().map(|value| value.exp()).collect();
        let vocabulary = u32::try_from(logits.len()).unwrap();
        let place = order.iter().position(|index| *index == selected);
        for bounds in [
            LogitBounds::of_logprobs(&logprobs, vocabulary, place).unwrap(),
            LogitBounds::of_probabilities(&probabilities, vocabulary, place).unwrap(),
        ] {
            let near = 1e-7;
            // What is left for the others is known to some 2 × 10^-8, the error of an exponential, and where it is next to nothing
            // its entropy changes by the logarithm of that for each part.
            const LEFT: f64 = 2e-8;
            let far = near + LEFT * (f64::from(vocabulary) / LEFT).ln();
            prop_assert!(bounds.entropy_lower - far <= stats.entropy && stats.entropy <= bounds.entropy_upper + far);
            prop_assert!(bounds.dominance_lower - near <= stats.dominance && stats.dominance <= bounds.dominance_upper + near);
            prop_assert!(bounds.selected_probability_lower - near <= stats.selected_probability);
            prop_assert!(stats.selected_probability <= bounds.selected_probability_upper + near);
        }
    }
}

/// Logits of every kind that could make the sums go wrong.
fn families() -> Vec<(&'static str, Vec<f32>)> {
    const MOST: usize = 1 << 18;
    let mut all = vec![
        ("one", vec![3.5]),
        ("alike", vec![0.1; MOST]),
        ("alike and large", vec![1e30; MOST]),
        ("one masked beside one", vec![f32::NEG_INFINITY, -7.0]),
        ("the largest and the smallest", vec![f32::MAX, f32::MIN, f32::MAX]),
        ("rising", (0_u16..u16::MAX).map(|n| f32::from(n) / 6e3).collect()),
        ("falling", (0_u16..u16::MAX).map(|n| -f32::from(n) / 6e3).collect()),
        (
            "rounded where the largest is subtracted",
            [vec![20.1], vec![8.3; MOST - 1]].concat(),
        ),
    ];
    // One token against all others, each with the same distance: where half of the probability is theirs, an error counts most.
    for tenth in [20_u8, 60, 100, 118, 124, 125, 126, 140, 180] {
        let below = -f32::from(tenth) / 10.0;
        all.push(("one against all", [vec![0.0], vec![below; MOST - 1]].concat()));
        all.push(("all against one", [vec![below + 100.3; MOST - 1], vec![100.3]].concat()));
    }
    for (seed, scale) in (1..).zip([0.1_f32, 1.0, 4.0, 12.0, 60.0, 1e3, 1e6, 1e37]) {
        for count in [
            1_usize, 2, 15, 16, 17, 63, 64, 65, 1_023, 1_024, 1_025, 50_257, 131_072, MOST,
        ] {
            all.push(("drawn", drawn(seed).take(count).map(|u| (u - 0.5) * scale).collect()));
        }
        let masked = drawn(seed).zip(drawn(seed + 100)).take(151_936);
        let masked = masked.map(|(u, v)| if v < 0.99 { f32::NEG_INFINITY } else { u * scale });
        all.push(("masked", masked.collect()));
    }
    all
}

#[test]
fn entropy_and_probabilities_are_within_a_ten_millionth_of_the_textbook() {
    let mut worst = 0.0_f64;
    for (what, logits) in families() {
        for selected in [0, logits.len() / 2, logits.len() - 1] {
            let stats = LogitStats::of(logits.as_slice(), selected).unwrap();
            let (entropy, dominance, probability) = textbook(&logits, selected);
            let wrong = (stats.entropy - entropy)
                .abs()
                .max((stats.dominance - dominance).abs())
                .max((stats.selected_probability - probability).abs());
            worst = worst.max(wrong);
            assert!(
                wrong < 1e-7,
                "{what} of {}: {wrong}, {stats:?}, {entropy}",
                logits.len()
            );
        }
    }
    println!("largest difference: {worst:.3e}");
}

#[test]
fn large_inputs_have_the_bits_of_the_definition_too() {
    for (what, logits) in families() {
        if logits.len() > 60_000 {
            continue;
        }
        let expected = bits(&plain(&logits, 0));
        for level in levels() {
            assert_eq!(
                bits(&LogitStats::with(level, logits.as_slice(), 0).unwrap()),
                expected,
                "{what}"
            );
        }
    }
}

#[test]
fn what_it_gives_is_the_same_for_ever() {
    let logits: Vec<f32> = (0_i16..5_000)
        .map(|n| f32::from(n % 1_009 * 31 % 509) / 64.0 - 7.5)
        .collect();
    let stats = LogitStats::of(logits.as_slice(), 777).unwrap();
    assert_eq!(
        [stats.entropy, stats.dominance, stats.selected_probability].map(f64::to_bits),
        FOR_EVER
    );
}

#[test]
fn one_possible_token_is_certain() {
    for logits in [vec![-3.0], vec![f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY]] {
        let place = logits.len() / 2;
        let stats = LogitStats::of(logits.as_slice(), place).unwrap();
        assert_eq!(stats.entropy.to_bits(), 0.0_f64.to_bits());
        assert_eq!((stats.dominance, stats.selected_probability), (1.0, 1.0));
        assert_eq!((stats.top1, stats.top2), (place, None));
    }
    let far = LogitStats::of(&[0.0, -700.0, f32::MIN], 1).unwrap();
    assert_eq!((far.entropy, far.dominance, far.selected_probability), (0.0, 1.0, 0.0));
    assert_eq!(far.top2, Some(1));
}

#[test]
fn of_equal_logits_the_lowest_index_is_first() {
    let mut logits = vec![0.5; 300];
    assert_eq!(tops(&logits), (0, Some(1)));
    logits[200] = 2.0;
    assert_eq!(tops(&logits), (200, Some(0)));
    logits[250] = 2.0;
    assert_eq!(tops(&logits), (200, Some(250)));
    logits[100] = 3.0;
    assert_eq!(tops(&logits), (100, Some(200)));
    assert_eq!(tops(&[-0.0, 0.0]), (0, Some(1)));
}

fn tops(logits: &[f32]) -> (usize, Option<usize>) {
    let stats = LogitStats::of(logits, 0).unwrap();
    (stats.top1, stats.top2)
}

#[test]
fn what_is_no_logit_is_refused_wherever_it_stands() {
    for place in [0, 15, 63, 64, 1_023, 1_024, 1_999] {
        for (value, kind) in [
            (f32::NAN, ErrorKind::NotANumber),
            (-f32::NAN, ErrorKind::NotANumber),
            (f32::INFINITY, ErrorKind::Infinite),
        ] {
            let mut logits = vec![1.0; 2_000];
            logits[place] = value;
            for level in levels() {
                let error = LogitStats::with(level, logits.as_slice(), 0).unwrap_err();
                assert_eq!((error.kind(), error.index()), (kind, Some(place)));
            }
        }
    }
    for (logits, kind) in [
        (vec![], ErrorKind::NoLogit),
        (vec![f32::NEG_INFINITY; 70], ErrorKind::NoLogit),
        (vec![1.0], ErrorKind::SelectedOutOfRange),
    ] {
        let error = LogitStats::of(logits.as_slice(), 1).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.code().starts_with("guard.") && !error.to_string().is_empty());
    }
}

#[test]
fn every_half_is_the_number_that_it_stands_for() {
    for bits in 0..=u16::MAX {
        let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 0x1f, bits & 0x3ff);
        let size = match exponent {
            0 => f32::from(fraction) * 2_f32.powi(-24),
            31 if fraction == 0 => f32::INFINITY,
            31 => f32::NAN,
            _ => f32::from(1_024 + fraction) * 2_f32.powi(i32::from(exponent) - 25),
        };
        let expected = if sign == 1 { -size } else { size };
        let found = f32_from_f16(bits);
        assert!(
            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
            "{bits:#06x}"
        );
        assert!(found.is_nan() || found.is_sign_negative() == (sign == 1));
    }
}

#[test]
fn powers_and_logarithms_are_those_of_the_platform_within_their_bounds() {
    let mut worst = 0.0_f64;
    for step in 0..400_000 {
        let y = -f64::from(step) / 400.0;
        worst = worst.max((power(y) / y.exp2() - 1.0).abs());
    }
    assert!(worst < 1.1e-8, "{worst}");
    assert_eq!((power(0.0), power(-3.0), weight(MASKED - 1.0)), (1.0, 0.125, 0.0));
    for step in 1..400_000 {
        let x = f64::from(step) / 1_000.0;
        assert!((ln(x) - x.ln()).abs() <= 1e-15 * x.ln().abs().max(1.0), "{x}");
    }
    for exponent in -1_000..1_000 {
        let x = 1.414 * 2_f64.powi(exponent);
        assert!((ln(x) / x.ln() - 1.0).abs() < 1e-15);
    }
    assert_eq!(ln(1.0).to_bits(), 0.0_f64.to_bits());
}

#[test]
fn the_bounds_are_met_by_the_extremes() {
    // 0.4 is left for eight others with at most 0.2 each: two with all of it, or all alike.
    let bounds = LogitBounds::of_probabilities(&[0.4, 0.2], 10, None).unwrap();
    let entropy = |shares: &[f64]| shares.iter().map(|p| -p * p.ln()).sum::<f64>();
    assert!((bounds.entropy_lower - entropy(&[0.4, 0.2, 0.2, 0.2])).abs() < 1e-12);
    assert!((bounds.entropy_upper - entropy(&[&[0.4, 0.2][..], &[0.05; 8]].concat())).abs() < 1e-12);
    assert!((bounds.dominance_lower - 0.2).abs() < 1e-12 && bounds.dominance_lower == bounds.dominance_upper);
    assert!(bounds.selected_probability_lower == 0.0 && (bounds.selected_probability_upper - 0.2).abs() < 1e-12);
    let alone = LogitBounds::of_probabilities(&[0.6], 3, Some(0)).unwrap();
    assert!((alone.dominance_lower - 0.2).abs() < 1e-12 && (alone.dominance_upper - 0.4).abs() < 1e-12);
    assert_eq!(
        (alone.selected_probability_lower, alone.selected_probability_upper),
        (0.6, 0.6)
    );
    let last = LogitBounds::of_probabilities(&[0.6, 0.3], 3, None).unwrap();
    assert!(
        (last.selected_probability_lower - 0.1).abs() < 1e-12 && (last.selected_probability_upper - 0.1).abs() < 1e-12
    );
    let all = LogitBounds::of_logprobs(&[0.0, f64::NEG_INFINITY, -9_999.0], 3, Some(2)).unwrap();
    assert_eq!(
        (all.entropy_lower, all.entropy_upper, all.dominance_lower),
        (0.0, 0.0, 1.0)
    );
}

#[test]
fn what_cannot_be_the_largest_probabilities_is_refused() {
    use ErrorKind as Kind;
    let refused = |values: &[f64], vocabulary, selected| {
        LogitBounds::of_probabilities(values, vocabulary, selected)
            .unwrap_err()
            .kind()
    };
    assert_eq!(refused(&[], 3, None), Kind::NoLogit);
    assert_eq!(refused(&[0.0], 3, Some(0)), Kind::NoLogit);
    assert_eq!(refused(&[0.5, 0.5], 1, Some(0)), Kind::VocabularySize);
    assert_eq!(refused(&[0.5], 3, Some(1)), Kind::SelectedOutOfRange);
    assert_eq!(refused(&[0.5, 0.5], 2, None), Kind::SelectedOutOfRange);
    assert_eq!(refused(&[0.9, 0.2], 9, Some(0)), Kind::NotADistribution);
    assert_eq!(refused(&[0.9, 0.01], 3, Some(0)), Kind::NotADistribution);
    assert_eq!(refused(&[0.9, f64::NAN], 3, Some(0)), Kind::NotAProbability);
    assert_eq!(refused(&[-0.1], 3, Some(0)), Kind::NotAProbability);
    let error = LogitBounds::of_logprobs(&[-0.1, 0.1], 3, Some(0)).unwrap_err();
    assert_eq!((error.kind(), error.index()), (Kind::NotAProbability, Some(1)));
    assert!(LogitBounds::of_logprobs(&[f64::NAN], 3, Some(0)).is_err());
}

// tests/test_logits.py derives the same numbers with NumPy.
const FOR_EVER: [u64; 3] = [4_620_056_054_163_077_464, 0, 4_530_283_974_075_347_413];
