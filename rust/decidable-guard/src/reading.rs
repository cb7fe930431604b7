//! How rules read a text: which bytes they see, and what those stand for in the stream.

use crate::folding::{fold, folded};

/// Bytes that are read, all of them for one stretch of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    bytes: [u8; 4],
    length: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Piece {
    /// A byte that stands for itself.
    pub(crate) const fn byte(byte: u8, at: u64) -> Self {
        Self {
            bytes: [byte, 0, 0, 0],
            length: 1,
            start: at,
            end: at.saturating_add(1),
        }
    }

    /// A code point that is written in so many bytes.
    pub(crate) fn code_point(code_point: char, start: u64, written: usize) -> Self {
        let mut bytes = [0; 4];
        Self {
            length: code_point.encode_utf8(&mut bytes).len(),
            bytes,
            start,
            end: start.saturating_add(decidable_canon::cast::u64_from_usize(written)),
        }
    }

    /// What stands for nothing.
    pub(crate) fn nothing(start: u64, written: usize) -> Self {
        Self {
            bytes: [0; 4],
            length: 0,
            start,
            end: start.saturating_add(decidable_canon::cast::u64_from_usize(written)),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Bytes that rules see at once, all of them for one stretch of the stream: none where it is invisible to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Units, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Units {
    bytes: Vec<u8>,
    /// How many bytes each has, and where it stands.
    list: Vec<(usize, u64, u64)>,
}

impl Units {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    pub(crate) fn push(&mut self, bytes: &[u8], start: u64, end: u64) {
        self.begin(start, end);
        self.extend(bytes);
    }

    fn begin(&mut self, start: u64, end: u64) {
        self.list.push((0, start, end));
    }

    /// Adds bytes to the last unit.
    fn extend(&mut self, bytes: &[u8]) {
        if let Some((length, ..)) = self.list.last_mut() {
            *length = length.saturating_add(bytes.len());
            self.bytes.extend_from_slice(bytes);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Unit<'_>> {
        let mut rest = self.bytes.as_slice();
        self.list.iter().map(move |(length, start, end)| {
            let (bytes, more) = rest.split_at_checked(*length).unwrap_or_default();
            rest = more;
            Unit {
                bytes,
                start: *start,
                end: *end,
            }
        })
    }
}

/// How a rule reads a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reads {
    /// Without what nobody sees: control characters other than white space (what `\s` matches), the code points that Unicode calls
    /// `Default_Ignorable_Code_Point`, and the format characters of annotations (U+FFF9 to FFFB) and of hieroglyphs (U+13430 to 1343F). They
    /// cannot split a match, and go with the match that they are in.
    #[default]
    Visible,
    /// Every byte as it is.
    Exact,
    /// As [`Self::Visible`], and each code point as the ASCII that it stands for or looks like: the compatibility composition (NFKC) of each
    /// by itself, then what UTS 39 calls confusable, where that is ASCII. Upper case stays upper case, and ASCII is itself.
    Folded,
}

impl Reads {
    /// Every way to read.
    pub const ALL: [Self; 3] = [Self::Visible, Self::Exact, Self::Folded];

    /// Its name in lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Exact => "exact",
            Self::Folded => "folded",
        }
    }

    /// Whether a byte stands for itself, whatever comes before and after.
    pub(crate) fn is_plain(self, byte: u8) -> bool {
        match self {
            Self::Exact => true,
            Self::Visible if byte.is_ascii() => !is_invisible(char::from(byte)),
            Self::Visible => !may_be_invisible(&[byte]),
            Self::Folded => byte.is_ascii() && !is_invisible(char::from(byte)),
        }
    }

    /// Whether rules that read so never see a code point, and what they see instead.
    pub(crate) fn hides(self, code_point: char) -> Option<String> {
        let seen = match self {
            Self::Exact => return None,
            _ if is_invisible(code_point) => String::new(),
            Self::Visible => return None,
            Self::Folded => folded(code_point.encode_utf8(&mut [0; 4])),
        };
        (!seen.chars().eq([code_point])).then_some(seen)
    }

    /// Whether more must come to know how the beginning of a code point is read.
    fn waits(self, beginning: &[u8]) -> bool {
        let length = beginning.first().map_or(0, |first| length_of(*first));
        beginning.len() < length
            && match self {
                Self::Exact => false,
                Self::Visible => may_be_invisible(beginning),
                Self::Folded => true,
            }
    }
}

impl core::fmt::Display for Reads {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.label())
    }
}

/// What is invisible: control characters (`Cc`) other than white space of ASCII, `Default_Ignorable_Code_Point` of Unicode 17.0
/// (`DerivedCoreProperties.txt`), and the format characters (`Cf`) beside them that have no width, those of annotations between lines
/// and of Egyptian hieroglyphs; in ascending order. What else is `Cf` stands before a number and is seen (`Prepended_Concatenation_Mark`).
const INVISIBLE: [(u32, u32); 21] = [
    (0x00, 0x08),
    (0x0e, 0x1f),
    (0x7f, 0x9f),
    (0xad, 0xad),
    (0x034f, 0x034f),
    (0x061c, 0x061c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1_3430, 0x1_343f),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
];

/// Whether nobody sees a code point.
pub(crate) fn is_invisible(code_point: char) -> bool {
    has_invisible(code_point.into(), code_point.into())
}

fn has_invisible(from: u32, to: u32) -> bool {
    INVISIBLE.iter().any(|(first, last)| *first <= to && from <= *last)
}

/// Bytes of the code point that a byte begins; 0 if it begins none.
const fn length_of(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    }
}

/// Whether a code point of several bytes that begins so may be one that nobody sees.
fn may_be_invisible(beginning: &[u8]) -> bool {
    let Some((first, rest)) = beginning.split_first() else {
        return false;
    };
    let (bits, least) = match length_of(*first) {
        2 => (first & 0x1f, 0x80),
        3 => (first & 0x0f, 0x800),
        4 => (first & 0x07, 0x1_0000),
        _ => return false,
    };
    let (mut from, mut to) = (u32::from(bits), u32::from(bits));
    for place in 1..length_of(*first) {
        let (low, high) = match rest.get(place.saturating_sub(1)) {
            Some(byte) => (byte & 0x3f, byte & 0x3f),
            None => (0, 0x3f),
        };
        from = from << 6 | u32::from(low);
        to = to << 6 | u32::from(high);
    }
    has_invisible(from.max(least), to)
}

/// What one way to read makes of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    reads: Reads,
    /// The beginning of a code point that more must come of, and where it is.
    beginning: [u8; 4],
    length: usize,
    start: u64,
}

impl Reader {
    pub(crate) fn new(reads: Reads) -> Self {
        Self {
            reads,
            ..Self::default()
        }
    }

    /// Takes the next piece.
    pub(crate) fn take(&mut self, piece: &Piece, units: &mut Units) {
        let bytes = piece.bytes();
        if self.reads == Reads::Exact {
            return units.push(bytes, piece.start, piece.end);
        }
        let [byte] = bytes else {
            self.end(units);
            return match core::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()) {
                Some(code_point) => self.see(code_point, piece.start, piece.end, units),
                None => units.push(bytes, piece.start, piece.end),
            };
        };
        if byte.is_ascii() {
            self.end(units);
            return self.see(char::from(*byte), piece.start, piece.end, units);
        }
        if self.length == 0 || length_of(*byte) > 0 {
            self.end(units);
            self.start = piece.start;
        }
        if let Some(room) = self.beginning.get_mut(self.length) {
            *room = *byte;
        }
        self.length = self.length.saturating_add(1);
        let beginning = self.beginning;
        let written = beginning.get(..self.length).unwrap_or_default();
        if self.reads.waits(written) {
            return;
        }
        match core::str::from_utf8(written).ok().and_then(|text| text.chars().next()) {
            Some(code_point) if self.reads == Reads::Folded || is_invisible(code_point) => {
                self.length = 0;
                self.see(code_point, self.start, piece.end, units);
            }
            _ => self.end(units),
        }
    }

    /// The stream ends here: the beginning of a code point is read as it is.
    pub(crate) fn end(&mut self, units: &mut Units) {
        let beginning = self.beginning.iter().zip(self.start..).take(self.length);
        for (byte, at) in beginning {
            units.push(&[*byte], at, at.saturating_add(1));
        }
        self.length = 0;
    }

    /// Where the beginning of a code point is that more must come of.
    #[inline]
    pub(crate) fn pending(&self) -> Option<u64> {
        (self.length > 0).then_some(self.start)
    }

    fn see(&self, code_point: char, start: u64, end: u64, units: &mut Units) {
        if is_invisible(code_point) {
            return units.push(&[], start, end);
        }
        let mut bytes = [0; 4];
        if self.reads == Reads::Folded {
            units.begin(start, end);
            return fold(code_point, |c| units.extend(c.encode_utf8(&mut bytes).as_bytes()));
        }
        units.push(code_point.encode_utf8(&mut bytes).as_bytes(), start, end);
    }
}
