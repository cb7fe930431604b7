//! What compiling a pattern may take.

#![allow(missing_docs, clippy::unwrap_used)]

use decidable_guard::{Automaton, Error, ErrorKind, Rule};

fn compiled(pattern: &str) -> Result<Automaton, Error> {
    Automaton::new(vec![Rule::regex("one", pattern)])
}

/// Its table would take a few kilobytes, and each of its states some hundred thousand steps.
#[test]
fn a_small_table_that_is_made_from_much_is_refused() {
    let empties = |count: usize, times: usize| format!(r"(?:a|{}b){{{times}}}c", r"\b|\B|".repeat(count));
    for (count, times) in [(2_000, 60), (500, 200)] {
        let error = compiled(&empties(count, times)).unwrap_err();
        assert_eq!((error.kind(), error.rule()), (ErrorKind::TooLarge, Some("one")));
        assert!(error.to_string().contains("what its table is made from"), "{error}");
    }
    assert!(compiled(&empties(10, 60)).unwrap().table_bytes() < 1 << 20);
    // The sets of its states are large, and nothing else is.
    assert_eq!(
        compiled("(?:(?:a?){100}){100}x").unwrap_err().kind(),
        ErrorKind::TooLarge
    );
}

/// It would guard nothing, and nobody would hear of it.
#[test]
fn a_pattern_to_which_no_text_leads_is_refused() {
    for pattern in [
        "x^a",
        "a$b",
        r"\b\Ba",
        r"a\bb",
        r"(?<=a\bb)c",
        r"a(?:\bb|\Bc^)",
        r"(?m)a^b",
    ] {
        let error = compiled(pattern).unwrap_err();
        assert_eq!(
            (error.kind(), error.rule()),
            (ErrorKind::Empty, Some("one")),
            "{pattern}"
        );
        let others = ["foo", pattern, "ba+r"].map(|pattern| Rule::regex(pattern, pattern));
        let error = Automaton::new(others.to_vec()).unwrap_err();
        assert_eq!((error.kind(), error.rule()), (ErrorKind::Empty, Some(pattern)));
    }
    for pattern in ["^a", "a$", r"\ba\b", r"a\Bb", r"(?m)a\n^b", r"a(?:\bb|c)", r"a(?!b)"] {
        assert!(compiled(pattern).is_ok(), "{pattern}");
    }
    // One that another always matches before is not such a one.
    let both = vec![Rule::regex("first", "a+"), Rule::regex("second", "a+b?")];
    assert!(Automaton::new(both).is_ok());
}

#[test]
fn long_patterns_that_take_little_are_accepted() {
    for pattern in [
        r#""[^"]{0,4000}""#,
        r"x.{0,1000}y",
        r"[ab]{1000}c",
        r"(?i)[\p{L}\p{N}]{40}",
        r"key=[^\s]{16,512}",
    ] {
        let made = compiled(pattern);
        assert!(made.is_ok(), "{pattern}: {:?}", made.err());
    }
}
