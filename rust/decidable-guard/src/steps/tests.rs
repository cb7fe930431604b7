//! What could be looked at again and again is looked at once.

use std::sync::Arc;

use super::COUNT;
use crate::{Action, Automaton, Cursor, Reads, Rule, Stop};

/// What a whole text in pieces of a length costs, and its cursor at the end.
fn counted(rule: Rule, json: bool, text: &[u8], piece: usize) -> (usize, Cursor) {
    let mut cursor = Cursor::new(Arc::new(Automaton::new(vec![rule]).unwrap()));
    if json {
        cursor = cursor.reading_json();
    }
    COUNT.set(0);
    let mut out = Vec::new();
    for piece in text.chunks(piece) {
        cursor.push(piece, &mut out);
    }
    cursor.finish(&mut out);
    (COUNT.get(), cursor)
}

#[test]
fn each_redaction_of_a_document_is_looked_at_once() {
    let rule = || Rule::literal("key", "key").with_action(Action::Redact);
    for count in [1_000, 20_000] {
        let document = format!("[\"{}\"]", "key ".repeat(count));
        for piece in [7, document.len()] {
            let (steps, mut cursor) = counted(rule(), true, document.as_bytes(), piece);
            assert_eq!(steps, count, "{piece}");
            assert_eq!((cursor.stopped(), cursor.matches().count()), (None, count), "{piece}");
        }
    }
    // The one that cannot be written comes behind many that can.
    let document = format!("[\"{}\", key]", "key ".repeat(1_000));
    for piece in [7, document.len()] {
        let (steps, cursor) = counted(rule(), true, document.as_bytes(), piece);
        assert_eq!(steps, 1_001, "{piece}");
        assert!(matches!(cursor.stopped(), Some(Stop::Matched(_))), "{piece}");
    }
}

#[test]
fn what_is_invisible_costs_no_more_the_more_of_it_there_is() {
    for count in [1_000, 15_000] {
        let text = format!("x D{}ROP TABLE", "\0\u{200b}".repeat(count));
        for piece in [1, 5, text.len()] {
            let (steps, cursor) = counted(Rule::literal("drop", "DROP TABLE"), false, text.as_bytes(), piece);
            assert!(steps <= text.len() * 4, "{piece}: {steps} for {}", text.len());
            assert!(
                matches!(cursor.stopped(), Some(Stop::Matched(found)) if found.start == 2),
                "{piece}"
            );
        }
    }
    // Nor where it stands between the letters of a long text that is looked for.
    let word = "abcdefghij".repeat(1_000);
    let text = word.chars().flat_map(|letter| [letter, '\0', '\0']).collect::<String>();
    let (steps, cursor) = counted(Rule::literal("long", word.as_str()), false, text.as_bytes(), 1);
    assert!(steps <= text.len() * 20, "{steps} for {}", text.len());
    assert!(matches!(cursor.stopped(), Some(Stop::Matched(_))));
}

#[test]
fn attempts_that_matches_part_are_looked_at_once_a_byte() {
    // Each x begins one that goes on as the others do, but each has found a match that the next one's start lies in.
    let rules = [("w", "w[wvxy]*c|wx"), ("v", "v[vxy]*c|vx"), ("x", "x[xy]*c|xx")];
    let rules = rules.map(|(name, pattern)| Rule::regex(name, pattern).with_action(Action::Redact));
    let automaton = Arc::new(Automaton::new(rules.into()).unwrap());
    for count in [50, 400] {
        let mut cursor = Cursor::new(Arc::clone(&automaton));
        let mut out = Vec::new();
        cursor.push(format!("wxv{}", "x".repeat(count)).as_bytes(), &mut out);
        assert!(cursor.pressure().count() >= count, "they do not go on side by side");
        COUNT.set(0);
        cursor.push("y".repeat(10).as_bytes(), &mut out);
        let steps = COUNT.get();
        assert!(
            steps <= 10 * 4 * (count + 2),
            "{steps} for 10 bytes and {count} attempts"
        );
        assert_eq!(cursor.stopped(), None);
    }
}

/// A long text to stop at that begins again with each letter: all that is held stays, but for one byte.
#[test]
fn what_is_held_is_not_moved_for_each_byte_that_leaves() {
    let word = format!("{}b", "a".repeat(10_000));
    for count in [30_000, 60_000] {
        let text = "a".repeat(count);
        for piece in [1, 7, 1_000] {
            let (steps, cursor) = counted(Rule::literal("long", word.as_str()), false, text.as_bytes(), piece);
            assert!(steps <= 2 * count, "{piece}: {steps} for {count}");
            assert_eq!(
                (cursor.stopped(), cursor.released()),
                (None, decidable_canon::cast::u64_from_usize(count)),
                "{piece}"
            );
        }
    }
}

/// Where a match that may stop is open for longer than may be held, and those that are replaced form a chain over two ways to read.
#[test]
fn a_chain_of_redactions_is_walked_once() {
    let rules = || {
        let redact = |name, pattern| Rule::regex(name, pattern).with_action(Action::Redact);
        let folded = redact("folded", "y.x").with_reads(Reads::Folded);
        vec![Rule::regex("stop", "a[^b]*b"), redact("visible", "x.y"), folded]
    };
    for count in [500, 5_000] {
        let text = format!("xa{}", "y.x.".repeat(count));
        for piece in [4, text.len()] {
            let automaton = Arc::new(Automaton::new(rules()).unwrap());
            let mut cursor = Cursor::new(automaton).with_max_hold(64);
            COUNT.set(0);
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(piece) {
                cursor.push(piece, &mut out);
            }
            assert!(
                COUNT.get() <= 4 * text.len(),
                "{} steps over {}",
                COUNT.get(),
                text.len()
            );
        }
    }
}
