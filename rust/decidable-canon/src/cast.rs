//! Every conversion between integer widths, in one file.
//!
//! The lint `as_conversions` is denied everywhere else, so a silent truncation cannot be written by accident. A
//! conversion that can lose something returns an `Option`; the others cannot lose anything on the platforms that are
//! supported (pointers of 32 bits or more, asserted below).

#![allow(clippy::as_conversions)]

const _: () = assert!(
    usize::BITS >= 32 && usize::BITS <= 64,
    "pointers of 32 to 64 bits are supported"
);

/// A `u32` as a length or index.
#[inline]
#[must_use]
pub const fn usize_from_u32(value: u32) -> usize {
    value as usize
}

/// A `u16` as a length or index.
#[inline]
#[must_use]
pub const fn usize_from_u16(value: u16) -> usize {
    value as usize
}

/// A length or index as a `u64`.
#[inline]
#[must_use]
pub const fn u64_from_usize(value: usize) -> u64 {
    value as u64
}

/// A length or index as an `i128`.
#[inline]
#[must_use]
pub const fn i128_from_usize(value: usize) -> i128 {
    value as i128
}

/// A length or index as a `u16`, if it fits.
#[inline]
#[must_use]
pub const fn u16_from_usize(value: usize) -> Option<u16> {
    if value <= u16::MAX as usize {
        Some(value as u16)
    } else {
        None
    }
}

/// A length or index as a `u32`, if it fits.
#[inline]
#[must_use]
pub const fn u32_from_usize(value: usize) -> Option<u32> {
    if value as u64 <= u32::MAX as u64 {
        Some(value as u32)
    } else {
        None
    }
}

/// A `u64` as a length or index, if it fits.
#[inline]
#[must_use]
pub const fn usize_from_u64(value: u64) -> Option<usize> {
    if value <= usize::MAX as u64 {
        Some(value as usize)
    } else {
        None
    }
}

/// A `u64` as an `i64`, if it fits.
#[inline]
#[must_use]
pub const fn i64_from_u64(value: u64) -> Option<i64> {
    if value <= i64::MAX as u64 {
        Some(value as i64)
    } else {
        None
    }
}

/// An `i64` as a `u64`, if it is not negative.
#[inline]
#[must_use]
pub const fn u64_from_i64(value: i64) -> Option<u64> {
    if value >= 0 { Some(value as u64) } else { None }
}

/// A `u128` as a `u64`, capped at the largest `u64`.
#[inline]
#[must_use]
pub const fn u64_saturating_from_u128(value: u128) -> u64 {
    if value > u64::MAX as u128 {
        u64::MAX
    } else {
        value as u64
    }
}

/// A `u128` as a `u64`, if it fits.
#[inline]
#[must_use]
pub const fn u64_from_u128(value: u128) -> Option<u64> {
    if value <= u64::MAX as u128 {
        Some(value as u64)
    } else {
        None
    }
}

/// An `i128` as an `i64`, if it fits.
#[inline]
#[must_use]
pub const fn i64_from_i128(value: i128) -> Option<i64> {
    if value >= i64::MIN as i128 && value <= i64::MAX as i128 {
        Some(value as i64)
    } else {
        None
    }
}

/// An `i128` as an `i64`, clamped to its range.
#[inline]
#[must_use]
pub const fn i64_clamped_from_i128(value: i128) -> i64 {
    if value > i64::MAX as i128 {
        i64::MAX
    } else if value < i64::MIN as i128 {
        i64::MIN
    } else {
        value as i64
    }
}

/// A `u128` as an `i128`, capped at the largest `i128`.
#[inline]
#[must_use]
pub const fn i128_saturating_from_u128(value: u128) -> i128 {
    if value > i128::MAX as u128 {
        i128::MAX
    } else {
        value as i128
    }
}
