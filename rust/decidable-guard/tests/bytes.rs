//! Bytes that are no UTF-8: rules do not see them, but for those that read exactly.

#![allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;

use decidable_guard::{Action, Automaton, Cursor, Match, Reads, Rule, Stop};
use proptest::prelude::*;

const UNSEEN: u8 = 1;

const PIECES: [&[u8]; 12] = [
    b"a",
    b"b",
    b" ",
    b"\xc3\xa9",
    b"\xe2\x82\xac",
    b"\xc3",
    b"\xa9",
    b"\xe2\x82",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
];

fn rules(reads: Reads) -> Arc<Automaton> {
    let rules = vec![
        Rule::literal("é", "éa").with_action(Action::Redact),
        Rule::literal("ab", "ab€"),
        Rule::regex("any", r"\bb[^b]b").with_action(Action::Record),
    ];
    let rules = rules.into_iter().map(|rule| rule.with_reads(reads)).collect();
    Arc::new(Automaton::new(rules).unwrap())
}

fn told(automaton: &Arc<Automaton>, pieces: &[&[u8]]) -> (Vec<u8>, Option<Stop>, Vec<Match>) {
    let mut cursor = Cursor::new(Arc::clone(automaton));
    let mut out = Vec::new();
    for piece in pieces {
        cursor.push(piece, &mut out);
    }
    cursor.finish(&mut out);
    let matches = cursor.matches().collect();
    (out, cursor.stopped(), matches)
}

/// The same with a control character in the place of each byte that is no UTF-8.
fn replaced(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Err(error) = core::str::from_utf8(bytes) {
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        out.extend_from_slice(valid);
        let length = error.error_len().unwrap_or(rest.len());
        out.resize(out.len() + length, UNSEEN);
        bytes = &rest[length..];
    }
    out.extend_from_slice(bytes);
    out
}

proptest! {
    #[test]
    fn what_is_no_text_is_read_as_what_nobody_sees(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES.as_slice()), 0..12),
        reads in prop_oneof![Just(Reads::Visible), Just(Reads::Folded)],
        size in 1_usize..8,
    ) {
        let automaton = rules(reads);
        let bytes = pieces.concat();
        let control = replaced(&bytes);
        let (out, stop, matches) = told(&automaton, &bytes.chunks(size).collect::<Vec<_>>());
        let (expected, stop_there, matches_there) = told(&automaton, &[&control]);
        prop_assert_eq!((stop, matches), (stop_there, matches_there));
        // What comes out is as it was written, and what comes out of both is no other text.
        let visible = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != UNSEEN).collect::<Vec<_>>();
        prop_assert_eq!(out.len(), expected.len());
        prop_assert_eq!(visible(&replaced(&out)), visible(&expected));
    }
}

#[test]
fn whoever_reads_exactly_sees_every_byte() {
    let written: [&[u8]; 3] = [b"x DR\xffOP", b"x DR\xc3OP", b"x DR\xe2\x80OP"];
    for (reads, stops) in [(Reads::Visible, true), (Reads::Folded, true), (Reads::Exact, false)] {
        let automaton = Arc::new(Automaton::new(vec![Rule::literal("drop", "DROP").with_reads(reads)]).unwrap());
        for bytes in written {
            let (out, stop, _) = told(&automaton, &[bytes]);
            assert_eq!(stop.is_some(), stops, "{bytes:?}");
            assert_eq!(out, if stops { b"x " } else { bytes });
        }
    }
}
