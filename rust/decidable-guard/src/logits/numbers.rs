//! Exponential and logarithm in plain double precision.

use fearless_simd::prelude::*;

pub(super) const LOG2_E: f64 = core::f64::consts::LOG2_E;
pub(super) const LN_2: f64 = core::f64::consts::LN_2;

/// What is further below the top than 2^this counts as masked; 2^-900 is about 624 nats.
pub(super) const MASKED: f64 = -900.0;
/// Every exponent is at least this, so that its power of two is an ordinary number. So many of them that fit an address space add
/// up to less than 2^-920, which changes no sum of 1 or more.
pub(super) const LOWEST: f64 = -1_000.0;
/// 1.5 × 2^52. Added to a number it leaves the nearest whole number, ties to even, and has it in its lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

// 2^(f/4) for -1/2 <= f <= 1/2 as 1 + C1 f + … + C4 f^4; its fourth power is 2^f, with two multiplications in place of two more
// coefficients. They have the least largest relative error with a first one of 1, so that 2^0 is 1: found with the exchange algorithm
// of Remez (E. W. Cheney, "Introduction to Approximation Theory", chapter 3), and rounded to double precision. The error of the fourth
// power is below 1.1 × 10^-8; a test holds it to the exponential of the platform.
const C1: f64 = 0.173_286_768_160_335_06;
const C2: f64 = 0.015_014_152_788_916_818;
const C3: f64 = 0.000_867_670_788_534_395_6;
const C4: f64 = 0.000_037_607_139_880_362_65;

/// So many vectors take each step together: one alone, or four, would wait for themselves some of the time.
pub(super) type Eight<V> = [V; 8];

/// 2^y for y <= 0, in vectors; 2^[`LOWEST`] for what is below that. As [`weight`], but for what is masked.
///
/// The whole part of y goes to the exponent, the rest to the polynomial.
#[inline(always)]
pub(super) fn weights<S: Simd>(simd: S, y: Eight<S::f64s>) -> Eight<S::f64s> {
    let all = |number| S::f64s::splat(simd, number);
    let rounded = each(y, |y| y + all(ROUND));
    let rest = both(y, rounded, |y, rounded| y - (rounded - all(ROUND)));
    let root = each(rest, |rest| rest * all(C4) + all(C3));
    let root = both(rest, root, |rest, root| rest * root + all(C2));
    let root = both(rest, root, |rest, root| rest * root + all(C1));
    let root = both(rest, root, |rest, root| rest * root + all(1.0));
    let root = each(root, |root| root * root);
    let power = each(root, |root| root * root);
    both(power, rounded, |power, rounded| {
        S::f64s::from_bits(power.to_bits() + (rounded.to_bits() << 52))
    })
}

#[inline(always)]
pub(super) fn each<V>(values: Eight<V>, step: impl Fn(V) -> V) -> Eight<V> {
    let [a, b, c, d, e, f, g, h] = values;
    [step(a), step(b), step(c), step(d), step(e), step(f), step(g), step(h)]
}

#[inline(always)]
pub(super) fn both<V>(ones: Eight<V>, others: Eight<V>, step: impl Fn(V, V) -> V) -> Eight<V> {
    let [a, b, c, d, e, f, g, h] = ones;
    let [i, j, k, l, m, n, o, p] = others;
    [
        step(a, i),
        step(b, j),
        step(c, k),
        step(d, l),
        step(e, m),
        step(f, n),
        step(g, o),
        step(h, p),
    ]
}

/// 2^y for y <= 0: the weight of a logit that is y powers of two above the largest one. 0 below [`MASKED`].
pub(super) fn weight(y: f64) -> f64 {
    if y < MASKED { 0.0 } else { power(y) }
}

/// 2^y for y from [`LOWEST`] to 1.
pub(super) fn power(y: f64) -> f64 {
    let rounded = y + ROUND;
    let rest = y - (rounded - ROUND);
    let root = ((rest * C4 + C3) * rest + C2) * rest + C1;
    let root = root * rest + 1.0;
    let root = root * root;
    let power = root * root;
    f64::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 52))
}

/// The natural logarithm of an ordinary number above 0, too large or too small by less than 10^-15 of itself, or of 1 for a result
/// nearer to 0.
///
/// With x = 2^e × m and √½ <= m < √2, ln x = e ln 2 + 2 artanh s, where s = (m − 1) / (m + 1), and artanh s = s + s^3/3 + s^5/5 + …,
/// of which eleven terms are taken: |s| < 0.1716, so that the next is below 10^-18. The reduction is that of fdlibm's e_log.c.
pub(super) fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    // The bits of √½.
    const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let above = x.to_bits().wrapping_sub(ROOT_HALF);
    let m = f64::from_bits((above & MANTISSA).wrapping_add(ROOT_HALF));
    // The exponent has eleven bits and a sign.
    let exponent = i32::try_from(above.cast_signed() >> 52).unwrap_or_default();
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for divisor in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        sum = (sum + 1.0 / divisor) * square;
    }
    f64::from(exponent) * LN_2 + 2.0 * (s + s * sum)
}
