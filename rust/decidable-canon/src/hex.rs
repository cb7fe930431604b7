//! Lowercase hex, encoded by table and decoded strictly.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends the lowercase hex of `bytes` to `out`.
///
/// ```
/// let mut out = String::new();
/// decidable_canon::hex::encode_into(&[0, 255], &mut out);
/// assert_eq!(out, "00ff");
/// ```
pub fn encode_into(bytes: &[u8], out: &mut String) {
    out.reserve(bytes.len().saturating_mul(2));
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            if let Some(symbol) = DIGITS.get(usize::from(digit)) {
                out.push(char::from(*symbol));
            }
        }
    }
}

/// The lowercase hex of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    encode_into(bytes, &mut out);
    out
}

/// The bytes that `text` spells: an even number of lowercase hex digits, nothing else.
///
/// ```
/// use decidable_canon::hex;
/// assert_eq!(hex::decode("00ff"), Some(vec![0, 255]));
/// assert_eq!(hex::decode("00F"), None);
/// ```
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?))
        .collect()
}

const fn nibble(symbol: u8) -> Option<u8> {
    match symbol {
        b'0'..=b'9' => Some(symbol - b'0'),
        b'a'..=b'f' => Some(symbol - b'a' + 10),
        _ => None,
    }
}
