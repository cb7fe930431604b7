use decidable_canon::Digest;

use super::{GENESIS, chain_text, json};

/// The parts of a line.
pub(super) struct Line<'a> {
    pub(super) sequence: u64,
    pub(super) previous: Option<Digest>,
    pub(super) hash: Digest,
    pub(super) data: &'a [u8],
}

const HASH_DIGITS: usize = 64;

/// Takes a line apart, strictly: `{"sequence":N,"previous_hash":"…","entry_hash":"…","data":…}`.
pub(super) fn parse(text: &[u8]) -> Result<Line<'_>, &'static str> {
    let rest = text
        .strip_prefix(br#"{"sequence":"#)
        .ok_or("the line does not begin as an entry of a JSON-lines log does")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at_checked(digits).unwrap_or_default();
    let sequence = canonical_number(number).ok_or("the sequence is not a number as it is written")?;
    let rest = rest
        .strip_prefix(br#","previous_hash":""#)
        .ok_or("the sequence is not followed by a previous hash")?;
    let (previous, rest) = match rest.strip_prefix(GENESIS.as_bytes()) {
        Some(rest) => (None, rest),
        None => {
            let (hash, rest) = hash(rest).ok_or("the previous hash is neither 64 lowercase hex digits nor genesis")?;
            (Some(hash), rest)
        }
    };
    let rest = rest
        .strip_prefix(br#"","entry_hash":""#)
        .ok_or("the previous hash is not followed by the entry's hash")?;
    let (hash, rest) = hash(rest).ok_or("the entry's hash is not 64 lowercase hex digits")?;
    let rest = rest
        .strip_prefix(br#"","data":"#)
        .ok_or("the entry's hash is not followed by its data")?;
    let data = rest.strip_suffix(b"}").ok_or("the line does not end with its data")?;
    json::value_text(data)?;
    Ok(Line {
        sequence,
        previous,
        hash,
        data,
    })
}

fn hash(text: &[u8]) -> Option<(Digest, &[u8])> {
    let (digits, rest) = text.split_at_checked(HASH_DIGITS)?;
    let digest = Digest::from_hex(std::str::from_utf8(digits).ok()?)?;
    Some((digest, rest))
}

/// A number from 1 in its one spelling.
pub(super) fn canonical_number(digits: &[u8]) -> Option<u64> {
    if digits.first().is_none_or(|first| *first == b'0') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Writes a line, its line feed included, into `out`.
pub(super) fn format(sequence: u64, previous: Option<&Digest>, hash: &Digest, data: &str, out: &mut String) {
    out.clear();
    out.push_str(r#"{"sequence":"#);
    out.push_str(&sequence.to_string());
    out.push_str(r#","previous_hash":""#);
    chain_text(previous, out);
    out.push_str(r#"","entry_hash":""#);
    chain_text(Some(hash), out);
    out.push_str(r#"","data":"#);
    out.push_str(data);
    out.push_str("}\n");
}
