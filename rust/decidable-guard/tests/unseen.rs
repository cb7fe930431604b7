//! Which code points cannot split a match: those that Unicode gives no width, and no other format character.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use decidable_guard::{Automaton, Cursor, Reads, Rule};
use regex_syntax::hir::{Class, HirKind};

/// Format characters that have a width: signs that stand before a number and around it.
const SEEN: [(u32, u32); 7] = [
    (0x0600, 0x0605),
    (0x06dd, 0x06dd),
    (0x070f, 0x070f),
    (0x0890, 0x0891),
    (0x08e2, 0x08e2),
    (0x1_10bd, 0x1_10bd),
    (0x1_10cd, 0x1_10cd),
];

/// The code points of a class of Unicode's, as the crate for regexes knows it.
fn of(class: &str) -> Vec<char> {
    let HirKind::Class(Class::Unicode(class)) = regex_syntax::parse(class).unwrap().into_kind() else {
        return Vec::new();
    };
    class.iter().flat_map(|range| range.start()..=range.end()).collect()
}

/// Of the control characters white space is seen.
#[test]
fn nothing_else_is_unseen() {
    let unseen: std::collections::HashSet<char> = of(r"[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]")
        .into_iter()
        .collect();
    let rule = Rule::literal("drop", "DROP").with_reads(Reads::Visible);
    let automaton = Arc::new(Automaton::new(vec![rule]).unwrap());
    for code_point in char::MIN..=char::MAX {
        let white = ('\t'..='\r').contains(&code_point);
        if white || !unseen.contains(&code_point) {
            assert!(splits(&automaton, code_point), "U+{:04X}", u32::from(code_point));
        } else if code_point.is_control() {
            assert!(!splits(&automaton, code_point), "U+{:04X}", u32::from(code_point));
        }
    }
}

fn splits(automaton: &Arc<Automaton>, code_point: char) -> bool {
    let mut cursor = Cursor::new(Arc::clone(automaton));
    cursor.push(format!("DR{code_point}OP").as_bytes(), &mut Vec::new());
    cursor.stopped().is_none()
}

#[test]
fn no_format_character_without_a_width_splits_a_match() {
    let automaton = |reads| {
        let rule = Rule::literal("drop", "DROP").with_reads(reads);
        Arc::new(Automaton::new(vec![rule]).unwrap())
    };
    let unseen = of(r"[\p{Cf}\p{Default_Ignorable_Code_Point}]");
    assert!(
        ['\u{ad}', '\u{200b}', '\u{fff9}', '\u{fffb}', '\u{1343f}']
            .iter()
            .all(|c| unseen.contains(c))
    );
    for reads in [Reads::Visible, Reads::Folded] {
        let automaton = automaton(reads);
        for &code_point in &unseen {
            let place = u32::from(code_point);
            let is_seen = SEEN.iter().any(|(first, last)| (*first..=*last).contains(&place));
            assert_eq!(splits(&automaton, code_point), is_seen, "U+{place:04X}, {reads}");
        }
        // Empty, but as wide as any other, so whoever reads the text sees that something is there.
        for code_point in ['\u{2800}', '\u{a0}', '\u{2003}', '\u{fffc}', '\u{fffd}'] {
            assert!(splits(&automaton, code_point), "U+{:04X}", u32::from(code_point));
        }
    }
    let exact = automaton(Reads::Exact);
    assert!(unseen.iter().all(|code_point| splits(&exact, *code_point)));
}
