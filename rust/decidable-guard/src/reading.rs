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
    /// Without what nobody sees: control characters other than tab, line feed and carriage return, the code points that Unicode calls
    /// `Default_Ignorable_Code_Point`, and bytes that are no UTF-8, which a lenient decoder leaves out. They cannot split a match, and go
    /// with the match that they are in.
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

    /// The way to read of a name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reads| reads.label() == label)
    }

    /// Whether a byte stands for itself, whatever comes before and after.
    pub(crate) fn is_plain(self, byte: u8) -> bool {
        match self {
            Self::Exact => true,
            Self::Visible | Self::Folded => byte.is_ascii() && !is_invisible(char::from(byte)),
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
}

impl core::fmt::Display for Reads {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.label())
    }
}

/// What is invisible: control characters (`Cc`) other than tab, line feed and carriage return, and `Default_Ignorable_Code_Point` of Unicode
/// 17.0 (`DerivedCoreProperties.txt`), in ascending order.
const INVISIBLE: [(u32, u32); 21] = [
    (0x00, 0x08),
    (0x0b, 0x0c),
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
    (0xfff0, 0xfff8),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
];

/// Whether nobody sees a code point.
pub(crate) fn is_invisible(code_point: char) -> bool {
    let code_point = code_point.into();
    INVISIBLE
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&code_point))
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
        loop {
            if self.length == 0 {
                self.start = piece.start;
            }
            if let Some(room) = self.beginning.get_mut(self.length) {
                *room = *byte;
            }
            let beginning = self.beginning;
            match core::str::from_utf8(beginning.get(..=self.length).unwrap_or_default()) {
                Ok(text) => {
                    self.length = 0;
                    if let Some(code_point) = text.chars().next() {
                        self.see(code_point, self.start, piece.end, units);
                    }
                    return;
                }
                Err(error) if error.error_len().is_none() => {
                    self.length = self.length.saturating_add(1);
                    return;
                }
                Err(_) if self.length == 0 => return units.push(&[], piece.start, piece.end),
                // What came before begins none, and this byte may.
                Err(_) => self.end(units),
            }
        }
    }

    /// The stream ends here, or goes on with something else: the beginning of a code point is none, and nobody sees it.
    pub(crate) fn end(&mut self, units: &mut Units) {
        for at in (self.start..).take(self.length) {
            units.push(&[], at, at.saturating_add(1));
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
