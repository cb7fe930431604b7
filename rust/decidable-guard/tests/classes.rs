//! Which characters a class takes: those of `\\d`, `\\s` and `\\w` are ASCII, also without case.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use decidable_guard::{Automaton, Cursor, Reads, Rule};

/// The third forms of `s` and `k`, which are what Unicode makes of them without case.
const THIRD: [char; 2] = ['\u{17f}', '\u{212a}'];

fn automaton(pattern: &str) -> Arc<Automaton> {
    let rule = Rule::regex("class", pattern).with_reads(Reads::Exact);
    Arc::new(Automaton::new(vec![rule]).unwrap())
}

fn finds(automaton: &Arc<Automaton>, text: &str) -> bool {
    let mut cursor = Cursor::new(Arc::clone(automaton));
    cursor.push(text.as_bytes(), &mut Vec::new());
    cursor.finish(&mut Vec::new());
    cursor.stopped().is_some()
}

#[test]
fn a_class_that_knows_ascii_only_takes_the_same_without_case() {
    let characters: Vec<String> = (0..0x250)
        .chain([0x660, 0x1e9e, 0x2028, 0x212a, 0x212b, 0xff21])
        .filter_map(char::from_u32)
        .map(String::from)
        .collect();
    for class in [
        r"\d",
        r"\D",
        r"\s",
        r"\S",
        r"\w",
        r"\W",
        r"[\w]",
        r"[^\w]",
        r"[\W]",
        r"[^\W]",
        r"[\w.-]",
        r"[^\w.-]",
        r"[\w&&[^0-9]]",
        r"[\w--\d]",
        r"[[\w]~~[\d.]]",
        r"[^[^\w]]",
    ] {
        let with_case = automaton(class);
        for pattern in [
            format!("(?i){class}"),
            format!("(?i:{class})"),
            format!("(?:(?i){class}|{class})"),
        ] {
            let without = automaton(&pattern);
            for text in &characters {
                assert_eq!(finds(&without, text), finds(&with_case, text), "{pattern} on {text:?}");
            }
        }
    }
    assert!(THIRD.iter().all(|c| !finds(&automaton(r"(?i)\w"), &c.to_string())));
    // Beside it everything is taken without case.
    for (class, takes, leaves) in [
        (r"(?i)[\dé]", "7éÉ", "aſ"),
        (r"(?i)[\ds]", "7sSſ", "k\u{212a}"),
        (r"(?i)[\d\p{Lu}]", "7aAé", "_"),
        (r"(?i)[^\ds]", "k\u{212a}é", "7sSſ"),
        (r"(?i)[\w&&[^s]]", "k7_", "sSſ\u{212a}"),
        (r"(?i:\d)[sx]", "", "7S"),
        (r"(?i:[\dx])", "xX", "y"),
        (r"(?i-u)[\dx]", "xX", "y"),
        (r"(?-u)\w", "x7", "-"),
        // Flags of a group end with it.
        (r"(?:(?-u:a)|(?i)[k\w])", "kK7\u{212a}", "ſ-"),
        (r"(?:(?i-u:a)|[\ds])", "7s", "Sſ"),
    ] {
        let automaton = automaton(class);
        assert!(takes.chars().all(|c| finds(&automaton, &c.to_string())), "{class}");
        assert!(leaves.chars().all(|c| !finds(&automaton, &c.to_string())), "{class}");
    }
}

/// What Unicode says of letters without case, in patterns; texts know A to Z alone.
#[test]
fn without_case_a_letter_of_a_pattern_has_every_form_that_unicode_gives_it() {
    for (pattern, third) in [
        ("(?i)s", '\u{17f}'),
        ("(?i)K", '\u{212a}'),
        ("(?i)[a-z]", '\u{17f}'),
        ("(?i)[a-z]", '\u{212a}'),
        ("(?i)é", 'É'),
    ] {
        assert!(finds(&automaton(pattern), &third.to_string()), "{pattern}");
        assert!(
            !finds(&automaton(&pattern.replace("(?i)", "")), &third.to_string()),
            "{pattern}"
        );
    }
    for (pattern, c) in [("s", '\u{17f}'), ("k", '\u{212a}'), ("é", 'É')] {
        let rule = Rule::new(
            "text",
            decidable_guard::Pattern::Literal {
                text: pattern.to_owned(),
                ignore_case: true,
            },
        );
        let automaton = Arc::new(Automaton::new(vec![rule]).unwrap());
        assert!(!finds(&automaton, &c.to_string()), "{pattern}");
    }
}

/// One of ASCII, or the form of such a letter that stands beside it: nothing else is silently left out.
#[test]
fn what_may_not_come_next_is_ascii() {
    let taken = |pattern: &str| Automaton::new(vec![Rule::regex("ahead", pattern)]).map_err(|error| error.code());
    for pattern in [
        "a(?![\u{17f}\u{212a}])",
        "a(?!\u{17f})",
        "a(?!\u{212a})",
        "a(?![b\u{17f}])",
        "a(?![s\u{17f}])",
        "a(?![a-z\u{17f}])",
        "a(?![A-Z\u{212a}])",
        "(?i)a(?![é])",
        r"a(?!\W)",
    ] {
        assert_eq!(taken(pattern).map(|_| ()), Err("guard.unsupported"), "{pattern}");
    }
    for (pattern, passes) in [
        ("(?i)a(?![s])", "as"),
        ("(?i)a(?![a-z])", "ak"),
        (r"(?i)a(?!\w)", "ak"),
        (r"(?i)a(?![\w-])", "a-"),
        (r"a(?!\w)", "as"),
    ] {
        let automaton = automaton(pattern);
        assert!(!finds(&automaton, passes), "{pattern}");
        assert!(finds(&automaton, "a\u{17f}") && finds(&automaton, "a"), "{pattern}");
    }
}
