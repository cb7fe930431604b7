use proptest::{prelude::*, sample::select};

use super::*;
use crate::levels::levels;

/// A sieve for texts, of which every other is compared in either case if one is.
fn sieve(texts: &[String], ignore_case: bool, plain: &[[bool; 256]; 2]) -> Option<Sieve> {
    let texts: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(place, text)| (text.as_bytes(), ignore_case && place % 2 == 0))
        .collect();
    Sieve::new(&texts, plain)
}

/// The same, place by place: up to the first byte that does not stand for itself or begins the window of a text that is there whole.
fn plainly(sieve: &Sieve, plain: &[bool; 256], bytes: &[u8]) -> usize {
    let stops = |place: &usize| {
        let there = |text: &Text| {
            let start = place.checked_sub(text.offset);
            start.is_some_and(|start| {
                let same = |(a, b): (&u8, &u8)| a == b || (text.ignore_case && a.eq_ignore_ascii_case(b));
                bytes.len() >= start + text.bytes.len() && bytes[start..].iter().zip(&text.bytes).all(same)
            })
        };
        !plain[usize::from(bytes[*place])] || sieve.texts.iter().any(there)
    };
    (0..bytes.len()).find(stops).unwrap_or(bytes.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_passes_that_may_not_and_all_but_the_end_that_may(
        texts in proptest::collection::vec("[abcA-C .]{1,9}", 1..=MOST),
        ignore_case in any::<bool>(),
        pieces in proptest::collection::vec(select(vec!["ab", "c", "Ab ", ".", "zzzzzzzzzzzzzzzz", "\u{e9}", "\n", "\u{7f}"]), 0..60),
        watched in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut plain = [true; 256];
        for byte in watched {
            plain[usize::from(byte)] = false;
        }
        let mut sieve = sieve(&texts, ignore_case, &[[true; 256], plain]).expect("the machine has looks");
        let bytes = pieces.concat().into_bytes();
        for level in levels() {
            sieve.level = level;
            for (json, plain) in [(false, [true; 256]), (true, plain)] {
                let (passed, most) = (sieve.pass(&bytes, json), plainly(&sieve, &plain, &bytes));
                prop_assert!(passed <= most, "{level:?} {texts:?} {bytes:?}");
            }
        }
    }
}

/// Bytes in which nothing is pass but for less than a window, at every length, with every width.
#[test]
fn all_of_what_is_clean_passes() {
    let mut sieve = sieve(&["needle".to_owned(), "pin".to_owned()], false, &[[true; 256]; 2]).unwrap();
    for level in levels() {
        sieve.level = level;
        for length in 64 + WINDOW..300 {
            let bytes = vec![b'.'; length];
            assert_eq!(sieve.pass(&bytes, false), length - (WINDOW - 1), "{level:?}");
        }
    }
}

/// What is there is stopped at, wherever it is, and where it is not there whole it passes.
#[test]
fn a_text_is_found_at_every_place() {
    let mut sieve = sieve(&["needle".to_owned(), "pin".to_owned()], false, &[[true; 256]; 2]).unwrap();
    for level in levels() {
        sieve.level = level;
        for place in 0..200 {
            for text in ["needle", "pin"] {
                let mut bytes = vec![b'.'; 300];
                bytes[place..place + text.len()].copy_from_slice(text.as_bytes());
                let offset = sieve
                    .texts
                    .iter()
                    .find(|known| known.bytes == text.as_bytes())
                    .unwrap()
                    .offset;
                assert_eq!(sieve.pass(&bytes, false), place + offset, "{level:?}");
                bytes[place + text.len() - 1] = b'!';
                assert_eq!(sieve.pass(&bytes, false), 300 - (WINDOW - 1), "{level:?}");
            }
        }
    }
}

/// Where nearly every place has to be compared it gives up.
#[test]
fn too_much_to_compare_ends_it() {
    let texts = vec!["bbbbbbbbba".to_owned()];
    let sieve = sieve(&texts, false, &[[true; 256]; 2]).unwrap();
    let bytes = vec![b'b'; 6_400];
    assert_eq!(sieve.pass(&bytes, false), COMPARED_AT_LEAST + 100 - 1);
}

#[test]
fn it_is_for_few_texts_and_short_ones() {
    let texts: Vec<_> = (0..=MOST).map(|n| format!("text {n}")).collect();
    let plain = [[true; 256]; 2];
    assert!(sieve(&texts[..MOST], false, &plain).is_some());
    assert!(sieve(&texts, false, &plain).is_none());
    assert!(sieve(&[], false, &plain).is_none());
    let long = |length: usize| sieve(&["j".repeat(length)], false, &plain);
    assert!(long(LONGEST).is_some() && long(LONGEST + 1).is_none());
}
