//! Code points as the ones that they look like.

use unicode_normalization::UnicodeNormalization as _;
use unicode_security::confusable_detection::skeleton;

/// Writes a code point as rules with [``Reads::Folded``] see it: its compatibility composition (NFKC), and each code point of that which
/// looks like ASCII (UTS 39) as what it looks like. ASCII is itself.
///
/// UTS 39 has one sign for I, l, 1 and |, and one for O and 0; here an upper-case letter looks like an upper-case letter, and a digit like
/// a digit.
pub(crate) fn fold(code_point: char, mut write: impl FnMut(char)) {
    if code_point.is_ascii() {
        return write(code_point);
    }
    for part in core::iter::once(code_point).nfkc() {
        if part.is_ascii() {
            write(part);
            continue;
        }
        let mut bytes = [0; 4];
        let part_alone = part.encode_utf8(&mut bytes);
        let looks = || skeleton(part_alone);
        let is_ascii = looks().all(|c| c.is_ascii());
        if !is_ascii || looks().next().is_none() {
            write(part);
        } else if looks().eq(['l']) && part.is_uppercase() {
            write('I');
        } else if looks().eq(['l']) && part.is_numeric() {
            write('1');
        } else if looks().eq(['O']) && part.is_numeric() {
            write('0');
        } else if looks().eq(['r', 'n']) {
            write('m');
        } else {
            looks().for_each(&mut write);
        }
    }
}

/// A text as such rules see it.
pub(crate) fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for code_point in text.chars() {
        fold(code_point, |c| folded.push(c));
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_ascii_is_seen_as_ascii() {
        for (written, seen) in [
            ("DROP TABLE m01lIO|'\"", "DROP TABLE m01lIO|'\""),
            // Full width, mathematical, circled, ligatures, dots, spaces.
            ("ＤＲＯＰ\u{3000}\u{a0}１２", "DROP  12"),
            ("𝐃𝑅𝕺𝙋 Ⅻ ⓓ ﬁ … ²", "DROP XII d fi ... 2"),
            // Cyrillic, Greek, Cherokee, Armenian.
            ("раssԝоrd аdmіn", "password admin"),
            ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"),
            ("ІЈЅ оО Ӏ", "IJS oO I"),
            // Letters that look like no ASCII, and those with marks, stay.
            ("é ß 漢 д 😀 ’", "é ß 漢 д 😀 '"),
        ] {
            assert_eq!(folded(written), seen, "{written}");
        }
    }

    #[test]
    fn what_was_folded_stays() {
        for code_point in (0x80..=0x10_ffff).filter_map(char::from_u32) {
            let once = folded(code_point.encode_utf8(&mut [0; 4]));
            assert!(!once.is_empty(), "{code_point:?}");
            assert_eq!(folded(&once), once, "{code_point:?}");
        }
    }
}
