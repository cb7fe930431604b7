//! Bytes that are held back. Mostly they are few, and then they are kept in place, where a token is put behind them as one number.

use decidable_canon::cast;

use crate::steps;

/// Bytes that are kept in place.
const SHORT_BYTES: usize = 16;

/// Half of them: bytes held, and a token, that fit there together.
const HALF: u32 = 8;

#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// The bytes if they are few, and zeros behind them.
    short: [u8; SHORT_BYTES],
    length: usize,
    /// The bytes if they are more, behind some that were taken away: those are cleared once they are as many as the others, so that
    /// no byte is moved more often than bytes are taken away.
    long: Vec<u8>,
    gone: usize,
}

impl Held {
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self.short.get(..self.length) {
            Some(short) => short,
            None => self.long.get(self.gone..).unwrap_or_default(),
        }
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let length = self.length.saturating_add(bytes.len());
        match self.short.get_mut(self.length..length) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                if let Some(short) = self.short.get(..self.length) {
                    self.long.clear();
                    self.gone = 0;
                    self.long.extend_from_slice(short);
                }
                self.long.extend_from_slice(bytes);
            }
        }
        self.length = length;
    }

    /// Takes the first bytes away.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        let rest = self.length.saturating_sub(count);
        if self.length <= SHORT_BYTES {
            self.short.copy_within(self.length.saturating_sub(rest)..self.length, 0);
        } else {
            self.gone = self.gone.saturating_add(count).min(self.long.len());
            if let Some(room) = self.short.get_mut(..rest) {
                room.copy_from_slice(self.long.get(self.gone..).unwrap_or_default());
            } else if self.gone >= rest {
                steps::count_all(rest);
                self.long.drain(..core::mem::take(&mut self.gone));
            }
        }
        self.length = rest;
        if let Some(behind) = self.short.get_mut(rest..) {
            behind.fill(0);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many bytes are held, if there is room for a token.
    #[inline(always)]
    pub(crate) fn room(&self) -> Option<u32> {
        cast::u32_from_usize(self.length).filter(|length| *length <= HALF)
    }

    /// Puts a token behind the bytes that are held, of which only the last stay: the others come out, with zeros or bytes that stay behind
    /// them.
    #[inline(always)]
    pub(crate) fn pass(&mut self, held: u32, token: Token, stay: u32) -> Passed {
        let count = held.wrapping_add(token.length).wrapping_sub(stay);
        let both = u128::from_le_bytes(self.short) | u128::from(token.bytes).wrapping_shl(held << 3);
        self.short = both.checked_shr(count << 3).unwrap_or(0).to_le_bytes();
        self.length = cast::usize_from_u32(stay);
        let half = |of: u128| cast::u64_from_u128(of & u128::from(u64::MAX)).unwrap_or(0);
        Passed {
            first: half(both).to_le_bytes(),
            second: half(both >> 64).to_le_bytes(),
            count: cast::usize_from_u32(count),
        }
    }

    /// The same for any bytes: what comes out is added to `out`.
    pub(crate) fn pass_bytes(&mut self, bytes: &[u8], stay: usize, out: &mut Vec<u8>) {
        let Some(split) = bytes.len().checked_sub(stay) else {
            self.extend(bytes);
            let count = self.length.saturating_sub(stay);
            out.extend_from_slice(self.bytes().get(..count).unwrap_or_default());
            return self.advance(count);
        };
        let (leaves, stays) = bytes.split_at_checked(split).unwrap_or_default();
        out.extend_from_slice(self.bytes());
        out.extend_from_slice(leaves);
        self.advance(usize::MAX);
        self.extend(stays);
    }
}

/// Bytes that come out: the first so many of these. In halves, because they are numbers: where both were written at once, reading them
/// back would wait.
pub(crate) struct Passed {
    pub(crate) first: [u8; 8],
    pub(crate) second: [u8; 8],
    pub(crate) count: usize,
}

/// A token of at most eight bytes, as one number.
#[derive(Clone, Copy, Default)]
pub(crate) struct Token {
    bytes: u64,
    length: u32,
}

impl Token {
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let length = cast::u32_from_usize(bytes.len()).filter(|length| *length <= HALF)?;
        let bytes = if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            // Where the two overlap they have the same bytes.
            u64::from(first) | u64::from(last).wrapping_shl((length << 3).wrapping_sub(32))
        } else {
            let (middle, last) = (length >> 1, length.wrapping_sub(1));
            let byte = |at: u32| Some(u64::from(*bytes.get(cast::usize_from_u32(at))?).wrapping_shl(at << 3));
            byte(0)? | byte(middle)? | byte(last)?
        };
        Some(Self { bytes, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that can be done to it, beside a plain list, for every number of bytes held, pushed and kept.
    #[test]
    fn it_is_a_list_of_bytes() {
        let text: Vec<u8> = (1..=60).collect();
        for held in 0..=40 {
            for pushed in 0..=20 {
                let (first, second) = (&text[..held], &text[held..held + pushed]);
                let all = &text[..held + pushed];
                for keep in 0..=all.len() {
                    let (leaves, stays) = all.split_at(all.len() - keep);
                    let mut plain = Held::default();
                    plain.extend(first);
                    assert_eq!(plain.bytes(), first);
                    let (mut quick, mut at_once, mut out) = (plain.clone(), plain.clone(), vec![7]);
                    at_once.pass_bytes(second, keep, &mut out);
                    assert_eq!((out, at_once.bytes()), ([&[7], leaves].concat(), stays));
                    plain.extend(second);
                    assert_eq!(plain.bytes(), all);
                    plain.advance(leaves.len());
                    assert_eq!((plain.bytes(), plain.len()), (stays, keep));
                    let mut out = vec![7];
                    let (token, room) = (Token::of(second), quick.room());
                    assert_eq!(token.is_some(), (1..=8).contains(&pushed));
                    assert_eq!(room.is_some(), held <= 8);
                    if let (Some(token), Some(held)) = (token, room) {
                        let passed = quick.pass(held, token, u32::try_from(keep).unwrap());
                        out.extend_from_slice(&[passed.first, passed.second].as_flattened()[..passed.count]);
                        assert_eq!(out, [&[7], leaves].concat());
                        assert_eq!((quick.bytes(), quick.len()), (stays, keep));
                        // What stands behind is zero, or the next token would be another.
                        if let Some(held) = quick.room() {
                            let passed = quick.pass(held, Token::of(b"xyz").unwrap(), 0);
                            out.extend_from_slice(&[passed.first, passed.second].as_flattened()[..passed.count]);
                            assert_eq!(out, [&[7], all, b"xyz"].concat());
                        }
                    }
                    plain.clear();
                    assert_eq!(plain.bytes(), b"");
                }
            }
        }
    }
}
