//! Bytes that are held back. Mostly they are few, and then they are kept in place, where a token is put behind them as one number.

/// Bytes that are kept in place.
const SHORT_BYTES: usize = 16;

/// Half of them: bytes held, and a token, that fit there together.
const HALF: usize = SHORT_BYTES / 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// The bytes if they are few, and zeros behind them.
    short: [u8; SHORT_BYTES],
    length: usize,
    /// The bytes if they are more.
    long: Vec<u8>,
}

impl Held {
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.short.get(..self.length).unwrap_or(&self.long)
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let length = self.length.saturating_add(bytes.len());
        match self.short.get_mut(self.length..length) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                if let Some(short) = self.short.get(..self.length) {
                    self.long.clear();
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
            self.long.drain(..count.min(self.long.len()));
            if let Some(room) = self.short.get_mut(..rest) {
                room.copy_from_slice(&self.long);
            }
        }
        self.length = rest;
        if let Some(behind) = self.short.get_mut(rest..) {
            behind.fill(0);
        }
    }

    /// Whether there is room for a token.
    #[inline(always)]
    pub(crate) const fn has_room(&self) -> bool {
        self.length <= HALF
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts a token of a few bytes behind what is held, of which only the last bytes are held from now on: the others are added to `out`.
    /// There must be room for both.
    #[inline(always)]
    pub(crate) fn pass(&mut self, token: Token, hold: usize, out: &mut Vec<u8>) {
        let count = self.length.wrapping_add(token.length).saturating_sub(hold);
        let behind = u128::from(token.bytes).wrapping_shl(bits(self.length));
        let both = u128::from_le_bytes(self.short) | behind;
        let end = out.len().saturating_add(count);
        out.extend_from_slice(&both.to_le_bytes());
        out.truncate(end);
        self.short = both.checked_shr(bits(count)).unwrap_or(0).to_le_bytes();
        self.length = hold;
    }
}

/// A token of at most eight bytes, as one number.
#[derive(Clone, Copy)]
pub(crate) struct Token {
    bytes: u64,
    length: usize,
}

impl Token {
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let length = bytes.len();
        let behind = |bytes: u32, by: usize| u64::from(bytes).wrapping_shl(bits(by));
        let number = if length > HALF {
            return None;
        } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            // Where the two overlap they have the same bytes.
            u64::from(u32::from_le_bytes(*first)) | behind(u32::from_le_bytes(*last), length.wrapping_sub(4))
        } else {
            let [middle, last] = [length >> 1, length.wrapping_sub(1)];
            let byte = |place: usize| Some(behind((*bytes.get(place)?).into(), place));
            byte(0)? | byte(middle)? | byte(last)?
        };
        Some(Self { bytes: number, length })
    }
}

/// How many bits so many bytes have; there are never more than some tens.
#[inline(always)]
fn bits(bytes: usize) -> u32 {
    decidable_canon::cast::u32_from_usize(bytes << 3).unwrap_or(u32::MAX)
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
                    let mut quick = plain.clone();
                    plain.extend(second);
                    assert_eq!(plain.bytes(), all);
                    plain.advance(leaves.len());
                    assert_eq!((plain.bytes(), plain.len()), (stays, keep));
                    let mut out = vec![7];
                    let token = Token::of(second).filter(|_| quick.has_room());
                    assert_eq!(token.is_some(), held <= 8 && (1..=8).contains(&pushed));
                    if let Some(token) = token {
                        quick.pass(token, keep, &mut out);
                        assert_eq!(out, [&[7], leaves].concat());
                        assert_eq!((quick.bytes(), quick.len()), (stays, keep));
                        // What stands behind is zero, or the next token would be another.
                        if quick.has_room() {
                            quick.pass(Token::of(b"xyz").unwrap(), 0, &mut out);
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
