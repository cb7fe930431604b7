//! A sieve in front of the table, where the texts are few: stretches of bytes in which none of them can be are passed by a vector at a
//! time. Each text has a window of a few bytes; two looks by half a byte each say which texts' windows a place can be, and only such places
//! are compared. That is how Teddy works (X. Wang et al., Hyperscan, NSDI 2019, section 4.2).

use fearless_simd::{Level, dispatch, prelude::*, u8x16};

/// Bytes of a window. A shorter text has places in its window where anything stands.
const WINDOW: usize = 4;

/// Texts share eight bits, and with more than two to a bit too many places would be compared.
const MOST: usize = 16;

/// The rarest bytes of a text make its window: letters of English, the most frequent first (P. Norvig, English Letter Frequency Counts, 2013).
const FREQUENT: &[u8] = b" etaoinsrhldcumfpgwybvkxjqz";

/// A text of more bytes costs more to compare than a look at the table for each.
const LONGEST: usize = 64;

/// So many places are compared, and one more for so many bytes: beyond, going by the table is no slower
/// (`cargo bench -p decidable-benches --bench guard -- "written, 12"`).
const COMPARED_AT_LEAST: usize = 8;
const BYTES_PER_COMPARED: usize = 64;

/// For each half of a byte the texts, or kinds of byte, that it can be of.
type Halves = [[u8; 16]; 2];

#[derive(Debug)]
pub(crate) struct Sieve {
    texts: Vec<Text>,
    window: [Halves; WINDOW],
    /// Bytes that may not stand for themselves: in a text, and in a document in JSON.
    watched: [Watched; 2],
    level: Level,
}

#[derive(Debug)]
struct Text {
    bytes: Vec<u8>,
    ignore_case: bool,
    /// Where its window begins.
    offset: usize,
    /// The bit that stands for it.
    bit: u8,
}

/// Which bytes may not stand for themselves: those of ASCII, a bit for each upper half, and whether any other.
#[derive(Debug)]
struct Watched {
    halves: Halves,
    others: bool,
}

impl Watched {
    fn new(plain: &[bool; 256]) -> Self {
        let mut this = Self {
            halves: [[0; 16]; 2],
            others: false,
        };
        for (byte, _) in (0..=u8::MAX).zip(plain).filter(|(_, plain)| !**plain) {
            match byte >> 4 {
                half @ 0..8 => mark(&mut this.halves, byte, 1 << half),
                _ => this.others = true,
            }
        }
        this
    }
}

/// Lets a byte be of these texts or kinds.
fn mark([low, high]: &mut Halves, byte: u8, bits: u8) {
    for (half, of) in [(low, byte & 15), (high, byte >> 4)] {
        if let Some(known) = half.get_mut(usize::from(of)) {
            *known |= bits;
        }
    }
}

impl Text {
    fn new(bytes: &[u8], ignore_case: bool) -> Self {
        let frequency = |byte: &u8| {
            let rank = FREQUENT.iter().position(|letter| *letter == byte.to_ascii_lowercase());
            rank.map_or(0, |rank| FREQUENT.len().saturating_sub(rank))
        };
        let windows = bytes.windows(WINDOW).enumerate();
        let offset = windows.min_by_key(|(_, window)| window.iter().map(frequency).sum::<usize>());
        Self {
            bytes: bytes.to_vec(),
            ignore_case,
            offset: offset.map_or(0, |(offset, _)| offset),
            bit: 0,
        }
    }

    fn window(&self) -> &[u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    /// Whether its window is at a place, and it around that.
    fn is_at(&self, place: usize, bytes: &[u8]) -> bool {
        let there = place
            .checked_sub(self.offset)
            .and_then(|start| bytes.get(start..)?.get(..self.bytes.len()));
        there.is_some_and(|there| {
            if self.ignore_case {
                there.eq_ignore_ascii_case(&self.bytes)
            } else {
                *there == *self.bytes
            }
        })
    }
}

impl Sieve {
    /// Takes texts, each with whether the letters A to Z match in either case, and as `Literals` does which bytes stand for themselves.
    /// `None` where the texts are too many or one is too long, or the machine has no look by half a byte.
    pub(crate) fn new(texts: &[(&[u8], bool)], plain: &[[bool; 256]; 2]) -> Option<Self> {
        let level = Level::new();
        let fit = texts.len() <= MOST && texts.iter().all(|(text, _)| text.len() <= LONGEST);
        if texts.is_empty() || !fit || !has_looks(level) {
            return None;
        }
        let mut texts: Vec<_> = texts
            .iter()
            .map(|(text, ignore_case)| Text::new(text, *ignore_case))
            .collect();
        texts.sort_by(|a, b| a.window().cmp(b.window()));
        let mut window = [[[0; 16]; 2]; WINDOW];
        let share = texts.len().div_ceil(8);
        for (alike, bit) in texts.chunks_mut(share).zip(0..8) {
            for text in alike {
                text.bit = 1 << bit;
                let bytes = text.window().iter().map(Some).chain(core::iter::repeat(None));
                for (halves, byte) in window.iter_mut().zip(bytes) {
                    match byte {
                        Some(byte) if text.ignore_case => {
                            mark(halves, byte.to_ascii_lowercase(), text.bit);
                            mark(halves, byte.to_ascii_uppercase(), text.bit);
                        }
                        Some(byte) => mark(halves, *byte, text.bit),
                        None => (0..=u8::MAX).for_each(|byte| mark(halves, byte, text.bit)),
                    }
                }
            }
        }
        Some(Self {
            texts,
            window,
            watched: plain.each_ref().map(Watched::new),
            level,
        })
    }

    /// How many of the first bytes are passed: each stands for itself, and none of them begins the window of a text that is there whole.
    pub(crate) fn pass(&self, bytes: &[u8], json: bool) -> usize {
        let [text, document] = &self.watched;
        let watched = if json { document } else { text };
        dispatch!(self.level, simd => self.pass_with(simd, watched, bytes))
    }

    #[inline(always)]
    fn pass_with<S: Simd>(&self, simd: S, watched: &Watched, bytes: &[u8]) -> usize {
        let width = S::u8s::LEN;
        let Some(last) = bytes.len().checked_sub(width.saturating_add(WINDOW - 1)) else {
            return 0;
        };
        let table = |half: &[u8; 16]| S::u8s::block_splat(u8x16::from_slice(simd, half));
        let tables = |halves: &Halves| halves.each_ref().map(table);
        let lower = S::u8s::splat(simd, 15);
        let look = |[low, high]: [S::u8s; 2], bytes: S::u8s| {
            low.swizzle_dyn_within_blocks(bytes & lower) & high.swizzle_dyn_within_blocks(bytes >> 4)
        };
        let window = self.window.each_ref().map(tables);
        let watched_ones = tables(&watched.halves);
        let others = S::u8s::splat(simd, if watched.others { 1 << 7 } else { 0 });
        let nothing = S::u8s::splat(simd, 0);
        let mut compared = COMPARED_AT_LEAST.saturating_add(bytes.len() / BYTES_PER_COMPARED);
        let mut at = 0_usize;
        loop {
            let mut may = S::u8s::splat(simd, u8::MAX);
            let mut watched = nothing;
            for (offset, halves) in window.into_iter().enumerate() {
                let start = at.wrapping_add(offset);
                let Some(block) = bytes.get(start..start.wrapping_add(width)) else {
                    return at;
                };
                let block = S::u8s::from_slice(simd, block);
                if offset == 0 {
                    watched = look(watched_ones, block) | (block & others);
                }
                may &= look(halves, block);
            }
            let mut found = (may | watched).simd_ne(nothing).to_bitmask();
            if found != 0 {
                let is_watched = watched.simd_ne(nothing).to_bitmask();
                while found != 0 {
                    let place = found.trailing_zeros();
                    let here = at.wrapping_add(usize::try_from(place).unwrap_or(0));
                    found &= found.wrapping_sub(1);
                    compared = compared.saturating_sub(1);
                    if is_watched >> place & 1 == 1 || compared == 0 {
                        return here;
                    }
                    let may = may
                        .as_slice()
                        .get(usize::try_from(place).unwrap_or(0))
                        .copied()
                        .unwrap_or(0);
                    if self
                        .texts
                        .iter()
                        .any(|text| may & text.bit != 0 && text.is_at(here, bytes))
                    {
                        return here;
                    }
                }
            }
            if at == last {
                return last.wrapping_add(width);
            }
            // The last overlaps what is before it.
            at = at.wrapping_add(width).min(last);
        }
    }
}

/// Whether a look by half a byte is one instruction.
fn has_looks(level: Level) -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has = level.as_sse4_2().is_some();
    #[cfg(target_arch = "aarch64")]
    let has = level.as_neon().is_some();
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has = {
        let _ = level;
        false
    };
    has
}

#[cfg(test)]
mod tests;
