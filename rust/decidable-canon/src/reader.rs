use core::fmt;

use crate::{Digest, cast, tag::Tag};

/// Reads a layout back, strictly: every byte is accounted for and every value has one spelling.
///
/// ```
/// use decidable_canon::{Reader, Sink};
/// let mut bytes = Vec::new();
/// bytes.u16(7);
/// bytes.str("seven");
/// let mut reader = Reader::new(&bytes);
/// assert_eq!((reader.u16()?, reader.str()?), (7, "seven"));
/// reader.finish()?;
/// # Ok::<(), decidable_canon::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

/// Why bytes are not the layout that was expected, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadError {
    offset: usize,
    kind: ReadErrorKind,
}

/// What was wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// The bytes end inside a value.
    Truncated,
    /// Bytes follow the last value.
    Trailing,
    /// The tag is not the expected one.
    UnknownTag,
    /// A presence or truth byte is neither 0 nor 1.
    NotABool,
    /// A string is not UTF-8.
    NotUtf8,
    /// A value lies outside what the layout allows.
    OutOfRange,
}

impl ReadError {
    /// The offset of the byte at which the value begins that could not be read.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
    /// What was wrong.
    #[must_use]
    pub const fn kind(&self) -> ReadErrorKind {
        self.kind
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ReadErrorKind::Truncated => "the bytes end inside a value",
            ReadErrorKind::Trailing => "bytes follow the last value",
            ReadErrorKind::UnknownTag => "the tag is not known",
            ReadErrorKind::NotABool => "a presence byte is neither 0 nor 1",
            ReadErrorKind::NotUtf8 => "a string is not UTF-8",
            ReadErrorKind::OutOfRange => "a value lies outside its range",
        };
        write!(f, "{what}, at byte {}", self.offset)
    }
}

impl core::error::Error for ReadError {}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// The offset of the next byte.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// An error of `kind` at the next byte, for a caller that finds a value out of range.
    #[must_use]
    pub const fn error(&self, kind: ReadErrorKind) -> ReadError {
        ReadError {
            offset: self.offset,
            kind,
        }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// `Truncated` if there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(self.error(ReadErrorKind::Truncated))?;
        self.rest = rest;
        self.offset = self.offset.saturating_add(count);
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(self.error(ReadErrorKind::Truncated))?;
        self.rest = rest;
        self.offset = self.offset.saturating_add(N);
        Ok(*taken)
    }

    /// A tag, which must be `expected`.
    ///
    /// # Errors
    /// `Truncated` or `UnknownTag`.
    pub fn tag(&mut self, expected: Tag) -> Result<(), ReadError> {
        let unknown = self.error(ReadErrorKind::UnknownTag);
        if self.take(expected.bytes().len())? == expected.bytes() {
            Ok(())
        } else {
            Err(unknown)
        }
    }
    /// One byte.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        self.array::<1>().map(u8::from_le_bytes)
    }
    /// A truth value.
    ///
    /// # Errors
    /// `Truncated`, or `NotABool` for a byte other than 0 and 1.
    pub fn bool(&mut self) -> Result<bool, ReadError> {
        let error = self.error(ReadErrorKind::NotABool);
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(error),
        }
    }
    /// Two bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_le_bytes)
    }
    /// Four bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }
    /// Eight bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }
    /// Eight bytes, two's complement.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i64(&mut self) -> Result<i64, ReadError> {
        self.array().map(i64::from_le_bytes)
    }
    /// The 32 bytes of a digest.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn digest(&mut self) -> Result<Digest, ReadError> {
        self.array().map(Digest::from_bytes)
    }
    /// A `u32` length and that many bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn blob(&mut self) -> Result<&'a [u8], ReadError> {
        let length = self.u32()?;
        self.take(cast::usize_from_u32(length))
    }
    /// A string.
    ///
    /// # Errors
    /// `Truncated` or `NotUtf8`.
    pub fn str(&mut self) -> Result<&'a str, ReadError> {
        let error = self.error(ReadErrorKind::NotUtf8);
        core::str::from_utf8(self.blob()?).map_err(|_| error)
    }
    /// A presence byte and, if it is 1, a value.
    ///
    /// # Errors
    /// Those of `bool` and of `read`.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Ends the layout.
    ///
    /// # Errors
    /// `Trailing` if bytes are left.
    pub const fn finish(&self) -> Result<(), ReadError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(ReadErrorKind::Trailing))
        }
    }
}
