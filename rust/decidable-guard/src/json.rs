//! A document in JSON as the text of its strings: escapes are read as what they stand for, everything else as it is. One that JSON does not
//! have is read as well, because lenient readers know it: a line that goes on in the next one.

use std::collections::VecDeque;

use crate::reading::Piece;

/// Bytes of the longest escape: two halves of a code point.
const PAIR: usize = 12;

/// Bytes of an escape by number.
const NUMBERED: usize = 6;

/// What half of a code point stands for that has no other half.
const REPLACEMENT: char = '\u{fffd}';

/// How far a document has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Json {
    /// An escape that is not complete, and where it begins.
    escape: [u8; PAIR],
    length: usize,
    start: u64,
    /// The quotes that begin and end strings, behind what has come out.
    quotes: VecDeque<u64>,
    /// Whether what has come out ends in a string.
    released_in_string: bool,
}

/// What the beginning of an escape is.
enum Escape {
    Unfinished,
    /// So many of its bytes stand for a code point.
    Of(char, usize),
    /// So many of its bytes stand for nothing.
    Nothing(usize),
    Malformed,
}

impl Json {
    /// Whether a byte stands for itself, and changes nothing.
    pub(crate) const fn is_plain(byte: u8) -> bool {
        !matches!(byte, b'"' | b'\\')
    }

    /// Where an escape begins that is not complete.
    pub(crate) fn pending(&self) -> Option<u64> {
        (self.length > 0).then_some(self.start)
    }

    /// Takes the byte at a place.
    pub(crate) fn take(&mut self, byte: u8, at: u64, pieces: &mut Vec<Piece>) {
        if self.length == 0 {
            return self.begin(byte, at, pieces);
        }
        if let Some(room) = self.escape.get_mut(self.length) {
            *room = byte;
        }
        self.length = self.length.saturating_add(1);
        self.look(pieces, false);
    }

    /// The document ends here: an escape that is not complete is read as it is written.
    pub(crate) fn end(&mut self, pieces: &mut Vec<Piece>) {
        self.look(pieces, true);
    }

    fn begin(&mut self, byte: u8, at: u64, pieces: &mut Vec<Piece>) {
        // Outside of strings a document has none. Whoever reads what is none as one may begin its strings elsewhere.
        if byte == b'\\' {
            self.start = at;
            self.length = 1;
            self.escape = [byte; PAIR];
            return;
        }
        if byte == b'"' {
            self.quotes.push_back(at);
        }
        pieces.push(Piece::byte(byte, at));
    }

    /// Looks at what has come of an escape. What was taken for a part of it and is not is read again.
    fn look(&mut self, pieces: &mut Vec<Piece>, over: bool) {
        while self.length > 0 {
            let (escape, length, start) = (self.escape, self.length, self.start);
            let written = escape.get(..length).unwrap_or_default();
            let taken = match read(written, over) {
                Escape::Unfinished => return,
                Escape::Of(code_point, taken) => {
                    pieces.push(Piece::code_point(code_point, start, taken));
                    taken
                }
                Escape::Nothing(taken) => {
                    pieces.push(Piece::nothing(start, taken));
                    taken
                }
                Escape::Malformed => {
                    pieces.push(Piece::byte(b'\\', start));
                    1
                }
            };
            self.length = 0;
            for (byte, at) in written.iter().zip(start..).skip(taken) {
                if self.length == 0 {
                    self.begin(*byte, at, pieces);
                } else if let Some(room) = self.escape.get_mut(self.length) {
                    *room = *byte;
                    self.length = self.length.saturating_add(1);
                }
            }
        }
    }

    /// Whether what has not come out of a stretch that was taken lies within one string.
    pub(crate) fn is_in_string(&self, start: u64, end: u64) -> bool {
        let before = self.quotes.partition_point(|quote| *quote < start);
        let crosses = self.quotes.get(before).is_some_and(|quote| *quote < end);
        !crosses && self.released_in_string != (before & 1 == 1)
    }

    /// Everything before a place has come out.
    pub(crate) fn release(&mut self, to: u64) {
        while self.quotes.front().is_some_and(|quote| *quote < to) {
            self.quotes.pop_front();
            self.released_in_string = !self.released_in_string;
        }
    }
}

fn read(written: &[u8], over: bool) -> Escape {
    let unfinished = || if over { Escape::Malformed } else { Escape::Unfinished };
    let Some(kind) = written.get(1) else {
        return unfinished();
    };
    let of = match kind {
        b'"' | b'\\' | b'/' => char::from(*kind),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return read_numbered(written, over),
        b'\n' => return Escape::Nothing(2),
        b'\r' => {
            return match written.get(2) {
                Some(b'\n') => Escape::Nothing(3),
                None if !over => Escape::Unfinished,
                _ => Escape::Nothing(2),
            };
        }
        _ => return Escape::Malformed,
    };
    Escape::Of(of, 2)
}

fn read_numbered(written: &[u8], over: bool) -> Escape {
    let first = match number(written) {
        Ok(Some(first)) => first,
        Ok(None) if over => return Escape::Malformed,
        Ok(None) => return Escape::Unfinished,
        Err(()) => return Escape::Malformed,
    };
    if let Some(code_point) = char::from_u32(first) {
        return Escape::Of(code_point, NUMBERED);
    }
    let alone = Escape::Of(REPLACEMENT, NUMBERED);
    if first >= 0xdc00 {
        return alone;
    }
    match written.split_at_checked(NUMBERED).map(|(_, rest)| number(rest)) {
        Some(Ok(Some(second @ 0xdc00..=0xdfff))) => {
            let both = 0x1_0000_u32
                .wrapping_add((first & 0x3ff) << 10)
                .wrapping_add(second & 0x3ff);
            Escape::Of(char::from_u32(both).unwrap_or(REPLACEMENT), PAIR)
        }
        Some(Ok(None)) if !over => Escape::Unfinished,
        _ => alone,
    }
}

/// The number of an escape: `None` if it is not complete, an error if it is none.
fn number(written: &[u8]) -> Result<Option<u32>, ()> {
    let mut value = 0_u32;
    for (place, byte) in written.iter().take(NUMBERED).enumerate() {
        match (place, byte) {
            (0, b'\\') | (1, b'u') => {}
            (2.., _) => value = value << 4 | char::from(*byte).to_digit(16).ok_or(())?,
            _ => return Err(()),
        }
    }
    Ok((written.len() >= NUMBERED).then_some(value))
}

/// Writes a text as a part of a string.
pub(crate) fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => {
                let digit = |value: u8| {
                    char::from_digit(value.into(), 16).map_or(b'0', |digit| digit.try_into().unwrap_or(b'0'))
                };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decidable_canon::cast;

    fn read_all(document: &str) -> String {
        let (mut json, mut pieces) = (Json::default(), Vec::new());
        for (byte, at) in document.bytes().zip(0..) {
            json.take(byte, at, &mut pieces);
        }
        json.end(&mut pieces);
        let mut end = 0;
        let mut text = Vec::new();
        for piece in &pieces {
            assert_eq!(piece.start, end, "{document}");
            end = piece.end;
            text.extend_from_slice(piece.bytes());
        }
        assert_eq!(end, cast::u64_from_usize(document.len()));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_string_is_read_as_what_it_stands_for() {
        for (document, text) in [
            (r#"{"a": "\u0044ROP"}"#, r#"{"a": "DROP"}"#),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\"\\/\u{8}\u{c}\n\r\t\""),
            (r#""\ud83d\ude00\u20AC""#, "\"\u{1f600}\u{20ac}\""),
            // Halves without the other.
            (r#""\ud83d\ud83d\ude00\ude00""#, "\"\u{fffd}\u{1f600}\u{fffd}\""),
            (r#""\ud83dx\ud83d\n""#, "\"\u{fffd}x\u{fffd}\n\""),
            (r#""\ud83d\u004""#, "\"\u{fffd}\\u004\""),
            // What no escape is stands for itself, and the quote ends the string.
            (r#""\x\u12g4\u12" \x"#, r#""\x\u12g4\u12" \x"#),
            // A line goes on in the next.
            ("\"a\\\nb\\\r\nc\\\rd\\\\\n\\\r\\\n\"\\\r", "\"abcd\\\n\""),
            (r#""\u12\n"#, "\"\\u12\n"),
            (r#""\ud83d\"#, "\"\u{fffd}\\"),
            // Outside of strings they are read, too.
            (r#"\n"\n"\n"#, "\n\"\n\"\n"),
        ] {
            assert_eq!(read_all(document), text, "{document}");
        }
    }

    #[test]
    fn a_written_text_is_read_again() {
        let text: String = (0..0x80).filter_map(char::from_u32).chain(['é', '😀']).collect();
        let mut out = Vec::new();
        escape(&text, &mut out);
        let document = format!("\"{}\"", String::from_utf8(out).unwrap());
        assert_eq!(read_all(&document), format!("\"{text}\""));
    }
}
