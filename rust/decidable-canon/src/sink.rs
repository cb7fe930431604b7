use crate::{Digest, cast, tag::Tag};

/// Where a layout is written: a byte vector, or a hasher directly.
///
/// The default methods are the only definition of how a value becomes bytes.
pub trait Sink {
    /// Appends raw bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends a tag.
    #[inline]
    fn tag(&mut self, tag: Tag) {
        self.put(tag.bytes());
    }
    /// Appends one byte.
    #[inline]
    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// Appends a truth value as one byte, 0 or 1.
    #[inline]
    fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }
    /// Appends two bytes, little-endian.
    #[inline]
    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// Appends four bytes, little-endian.
    #[inline]
    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// Appends eight bytes, little-endian.
    #[inline]
    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// Appends eight bytes, little-endian, two's complement.
    #[inline]
    fn i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }
    /// Appends the 32 bytes of a digest.
    #[inline]
    fn digest(&mut self, value: &Digest) {
        self.put(value.bytes());
    }
    /// Appends a `u32` byte length and the bytes. A blob of 4 GiB or more is cut at the largest length; every caller
    /// bounds its strings far below (docs/limits.md).
    #[inline]
    fn blob(&mut self, value: &[u8]) {
        let length = cast::u32_from_usize(value.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.put(value.get(..cast::usize_from_u32(length)).unwrap_or(value));
    }
    /// Appends a string: `u32` byte length and UTF-8.
    #[inline]
    fn str(&mut self, value: &str) {
        self.blob(value.as_bytes());
    }
    /// Appends a presence byte and, if there is a value, the value.
    #[inline]
    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T))
    where
        Self: Sized,
    {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
