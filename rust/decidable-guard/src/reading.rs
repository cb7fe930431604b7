//! How rules read a text: which bytes they see, and what those stand for in the stream.

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
        self.bytes.extend_from_slice(bytes);
        self.list.push((bytes.len(), start, end));
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

/// What one reading makes of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {}

impl Reader {
    /// Takes the next piece.
    pub(crate) fn take(&mut self, piece: &Piece, units: &mut Units) {
        units.push(piece.bytes(), piece.start, piece.end);
    }

    /// The stream ends here.
    pub(crate) fn end(&mut self, _units: &mut Units) {}

    /// Where something begins that is not complete.
    pub(crate) fn pending(&self) -> Option<u64> {
        None
    }
}
