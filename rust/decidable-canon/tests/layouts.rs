//! What goes in comes out, and nothing else is accepted.

#![allow(clippy::unwrap_used, missing_docs)]

use decidable_canon::{Canonical, Digest, Hasher, Key, Message, ReadErrorKind, Reader, Sink, cast, hex, tag};
use proptest::prelude::*;

struct Blob(Vec<u8>);

impl Canonical for Blob {
    const TAG: tag::Tag = tag::STATE;
    fn encode<S: Sink>(&self, out: &mut S) {
        let Self(bytes) = self;
        out.put(bytes);
    }
}

proptest! {
    #[test]
    fn a_hasher_and_a_vector_see_the_same_bytes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..12)) {
        let mut hasher = Hasher::new();
        let mut bytes = Vec::new();
        for piece in &pieces {
            hasher.put(piece);
            bytes.put(piece);
        }
        prop_assert_eq!(hasher.finish(), Digest::of(&bytes));
    }

    #[test]
    fn every_value_is_read_back(a in any::<u16>(), b in any::<i64>(), c in any::<Option<u32>>(), d in ".{0,40}", e in any::<bool>()) {
        let mut bytes = Vec::new();
        bytes.u16(a);
        bytes.i64(b);
        bytes.option(c, Sink::u32);
        bytes.str(&d);
        bytes.bool(e);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.u16().unwrap(), a);
        prop_assert_eq!(reader.i64().unwrap(), b);
        prop_assert_eq!(reader.option(Reader::u32).unwrap(), c);
        prop_assert_eq!(reader.str().unwrap(), d.as_str());
        prop_assert_eq!(reader.bool().unwrap(), e);
        prop_assert!(reader.finish().is_ok());
        for length in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..length]);
            let read = reader.u16().and_then(|_| reader.i64()).and_then(|_| reader.option(Reader::u32)).and_then(|_| reader.str().map(drop)).and_then(|()| reader.bool());
            prop_assert_eq!(read.unwrap_err().kind(), ReadErrorKind::Truncated);
        }
    }

    #[test]
    fn hex_is_read_back_and_uppercase_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let text = hex::encode(&bytes);
        prop_assert_eq!(hex::decode(&text), Some(bytes.clone()));
        let upper = text.to_uppercase();
        if upper != text {
            prop_assert_eq!(hex::decode(&upper), None);
        }
        prop_assert_eq!(hex::decode(&format!("{text}0")), None);
    }

    #[test]
    fn casts_agree_with_the_standard_conversions(value in any::<i128>(), unsigned in any::<u128>()) {
        prop_assert_eq!(cast::i64_from_i128(value), i64::try_from(value).ok());
        prop_assert_eq!(cast::u64_from_u128(unsigned), u64::try_from(unsigned).ok());
        prop_assert_eq!(cast::u64_saturating_from_u128(unsigned), u64::try_from(unsigned).unwrap_or(u64::MAX));
        prop_assert_eq!(i128::from(cast::i64_clamped_from_i128(value)), value.clamp(i64::MIN.into(), i64::MAX.into()));
        prop_assert_eq!(cast::i128_saturating_from_u128(unsigned), i128::try_from(unsigned).unwrap_or(i128::MAX));
    }
}

#[test]
fn a_layout_begins_with_its_tag() {
    let mut bytes = b"calystt1\0".to_vec();
    bytes.extend(b"state");
    assert_eq!(Blob(b"state".to_vec()).digest(), Digest::of(&bytes));
}

#[test]
fn no_tag_begins_another() {
    for (name, tag) in tag::ALL {
        assert_eq!(tag.bytes().last(), Some(&0), "{name}");
        for (other, longer) in tag::ALL {
            assert!(
                name == other || !longer.bytes().starts_with(tag.bytes()),
                "{name} begins {other}"
            );
        }
    }
}

#[test]
fn an_unknown_tag_and_trailing_bytes_are_refused() {
    let mut reader = Reader::new(b"calystt2\0");
    assert_eq!(reader.tag(tag::STATE).unwrap_err().kind(), ReadErrorKind::UnknownTag);
    let reader = Reader::new(b"x");
    assert_eq!(reader.finish().unwrap_err().kind(), ReadErrorKind::Trailing);
    assert_eq!(Reader::new(&[2]).bool().unwrap_err().kind(), ReadErrorKind::NotABool);
}

#[test]
fn hmac_matches_rfc_4231_test_case_6_and_short_keys_are_refused() {
    let key = Key::new(&[0xaa; 131]).unwrap();
    let mac = key.mac(&[b"Test Using Larger Than Block-Size Key", b" - Hash Key First"]);
    assert_eq!(
        mac.to_string(),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
    assert!(key.verify(&[b"Test Using Larger Than Block-Size Key - Hash Key First"], &mac));
    assert!(!key.verify(&[b"another message"], &mac));
    assert_eq!(Key::new(&[0; 31]).unwrap_err().given, 31);
    assert_eq!(format!("{key:?}"), "Key(…)");
}

/// A value with a layout of a fixed length, as rows have it.
struct Fixed<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Canonical for Fixed<BYTES> {
    const TAG: tag::Tag = tag::STATE;
    fn encode<S: Sink>(&self, out: &mut S) {
        let Self(bytes) = self;
        out.put(bytes);
    }
}

proptest! {
    #[test]
    fn messages_that_are_hashed_in_turn_have_the_digests_of_their_layouts(
        one: [u8; 20], two: [u8; 20], three: [u8; 20], long: [[u8; 11]; 10],
    ) {
        const TAGGED: usize = 9 + 20;
        // The bit and the length just fit two blocks.
        const LONGEST: usize = 9 + 110;
        let values = [one, two, three].map(Fixed);
        let messages = values.each_ref().map(Message::<1>::of::<TAGGED, _>);
        prop_assert_eq!(Message::digests(messages.each_ref()), values.each_ref().map(Canonical::digest));
        let mut bytes = [0; 110];
        bytes.copy_from_slice(long.as_flattened());
        let value = Fixed(bytes);
        prop_assert_eq!(Message::<2>::of::<LONGEST, _>(&value).digest(), value.digest());
    }
}
