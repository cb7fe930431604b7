//! However a text is pushed, the same comes of it: in tokens, in long chunks that are searched at several places, and byte by byte under the same rules with a pattern among them, which goes another way.

#![allow(missing_docs, clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;

use decidable_guard::{Action, Automaton, Cursor, Match, Pattern, Pressure, Reads, Rule, Stop};
use proptest::{prelude::*, sample::select};

/// What can be asked of a stream after a push, and what came out.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    out: Vec<u8>,
    stopped: Option<Stop>,
    held: usize,
    taken: u64,
    released: u64,
    matches: Vec<Match>,
    pressure: Vec<Pressure>,
}

fn seen(cursor: &mut Cursor, out: &[u8]) -> Seen {
    Seen {
        out: out.to_vec(),
        stopped: cursor.stopped(),
        held: cursor.held(),
        taken: cursor.taken(),
        released: cursor.released(),
        matches: cursor.matches().collect(),
        pressure: cursor.pressure().collect(),
    }
}

fn literal(text: &str, ignore_case: bool, reads: Reads) -> Rule {
    let text = text.to_owned();
    Rule::new(
        &text,
        Pattern::Literal {
            text: text.clone(),
            ignore_case,
        },
    )
    .with_reads(reads)
}

/// As many as [`automata`] has.
const SETS: usize = Reads::ALL.len() + 7;

/// Some sets of rules: few texts and many, short and long, in either case, read in every way, and patterns.
fn automata() -> Vec<Arc<Automaton>> {
    let texts = |reads| {
        vec![
            literal("abcab", false, reads),
            literal("bca", true, reads),
            literal("caaaaaaaabcaaaaaaaabcab", false, reads),
        ]
    };
    let mixed = vec![
        literal("abcab", false, Reads::Exact),
        Rule::regex("word", r"\bb+c\b").with_action(Action::Redact),
        Rule::regex("note", "c[ab]c").with_action(Action::Record),
    ];
    let mut sets: Vec<_> = Reads::ALL.into_iter().map(texts).collect();
    let stopping = |reads| {
        vec![
            literal("abcab", false, reads),
            Rule::regex("word", r"\bb+c\b").with_reads(reads),
            Rule::regex("two", "c[ab]{2,4}bc|aa[^c]").with_reads(reads),
        ]
    };
    sets.extend([
        mixed,
        stopping(Reads::Exact),
        stopping(Reads::Folded),
        // Of these the next byte may say which counts.
        vec![
            Rule::regex("ends", r"c[ab]*ab\b"),
            literal("aab", false, Reads::Visible),
            Rule::regex("goes on", r"b[ac]+ab\B"),
        ],
        vec![Rule::regex("word", r"\bca{3,}b(?:ca)?\b")],
        vec![literal("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false, Reads::Visible)],
        vec![],
    ]);
    assert_eq!(sets.len(), SETS);
    sets.into_iter()
        .map(|rules| Automaton::new(rules).unwrap().into())
        .collect()
}

/// The same rules, and a pattern that is nowhere.
fn with_a_pattern(automaton: &Automaton) -> Arc<Automaton> {
    let never = Rule::regex("never", "\u{1}\u{2}\u{3}")
        .with_action(Action::Record)
        .with_reads(Reads::Exact);
    Automaton::new(automaton.rules().iter().cloned().chain([never]).collect())
        .unwrap()
        .into()
}

/// Texts that are near to what is looked for, with what does not stand for itself in some of them.
fn texts() -> impl Strategy<Value = String> {
    let plain = select(vec!["a", "b", "c", "aa", "ca", "ab ", "bc", "C", "A", " "]);
    // Beginnings of the long ones, and all but their beginnings.
    let parts = select(vec![
        "caaaaaaaabcaaaaaaa",
        "abcaaaaaaaabca",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    let odd = select(vec![
        "\u{200b}", "é", "\"", "\\", "\\u0061", "\\u00", "ａ", "😀", "\u{7f}",
    ]);
    let plain = prop_oneof![5 => plain, 1 => parts];
    let mixed = prop_oneof![40 => plain.clone(), 1 => odd];
    let pieces = |piece: BoxedStrategy<&'static str>| proptest::collection::vec(piece, 0..200);
    let of = prop_oneof![
        pieces(plain.boxed()),
        pieces(mixed.clone().boxed()),
        proptest::collection::vec(mixed, 0..12)
    ];
    of.prop_map(|pieces| pieces.concat())
}

/// Chunks of a text that end at these places, as far as it has them.
fn cut<'a>(text: &'a str, lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = text.as_bytes();
    let mut chunks = Vec::new();
    for length in lengths {
        let (now, more) = rest.split_at((*length).min(rest.len()));
        chunks.push(now);
        rest = more;
    }
    chunks.push(rest);
    chunks
}

fn stream(set: usize, json: bool, hold: usize) -> Cursor {
    let automata = automata();
    let cursor = Cursor::new(Arc::clone(&automata[set])).with_max_hold(hold);
    if json { cursor.reading_json() } else { cursor }
}

fn holds() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(65_536_usize), 1 => 0..40_usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn tokens_are_their_bytes_one_by_one(
        (set, json, hold) in (0..SETS, any::<bool>(), holds()),
        text in texts(),
        lengths in proptest::collection::vec(prop_oneof![4 => 0..10_usize, 1 => 0..300_usize], 30),
    ) {
        let (mut whole, mut single) = (stream(set, json, hold), stream(set, json, hold));
        for chunk in cut(&text, &lengths) {
            let (mut out, mut same) = (Vec::new(), Vec::new());
            whole.push(chunk, &mut out);
            for byte in chunk {
                single.push(&[*byte], &mut same);
            }
            prop_assert_eq!(seen(&mut whole, &out), seen(&mut single, &same));
        }
        let (mut out, mut same) = (Vec::new(), Vec::new());
        prop_assert_eq!(whole.finish(&mut out), single.finish(&mut same));
        prop_assert_eq!(seen(&mut whole, &out), seen(&mut single, &same));
    }

    #[test]
    fn a_long_chunk_is_its_bytes_one_by_one(
        set in 0..SETS, json in any::<bool>(), text in texts(), lengths in proptest::collection::vec(0..300_usize, 0..4),
    ) {
        let automata = automata();
        let rules = &automata[set];
        let read = |automaton: &Arc<Automaton>, chunks: &[&[u8]]| {
            let mut cursor = Cursor::new(Arc::clone(automaton));
            if json {
                cursor = cursor.reading_json();
            }
            let mut out = Vec::new();
            for chunk in chunks {
                cursor.push(chunk, &mut out);
            }
            let now = seen(&mut cursor, &out);
            cursor.finish(&mut out);
            (now, out, cursor.stopped())
        };
        let single: Vec<_> = text.as_bytes().chunks(1).collect();
        let whole = read(rules, &[text.as_bytes()]);
        prop_assert_eq!(&whole, &read(rules, &cut(&text, &lengths)));
        prop_assert_eq!(&whole, &read(rules, &single));
        prop_assert_eq!(&whole, &read(&with_a_pattern(rules), &single));
    }
}

/// What is replaced is not held, also where something else may begin within it.
#[test]
fn what_is_allowed_to_be_held_does_not_depend_on_how_a_text_is_cut() {
    let rules = vec![
        Rule::regex("word", r"\bu\.").with_action(Action::Redact),
        literal(".-=", false, Reads::Folded).with_action(Action::Redact),
    ];
    let automaton: Arc<_> = Automaton::new(rules).unwrap().into();
    for text in ["u.-x", "u.-=", "u.u.-u.-"] {
        for size in 1..=text.len() {
            let mut cursor = Cursor::new(Arc::clone(&automaton)).with_max_hold(1);
            let mut out = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                assert_eq!(cursor.push(chunk, &mut out), None, "{text} by {size}");
            }
            assert_eq!(cursor.finish(&mut out), None, "{text} by {size}");
        }
    }
}

/// Also while tokens are taken with nothing but the state of the texts.
#[test]
fn how_a_text_is_read_may_change_on_the_way() {
    let automaton: Arc<_> = Automaton::new(vec![literal("so: DROP", false, Reads::Visible)])
        .unwrap()
        .into();
    let begun = || {
        let (mut cursor, mut out) = (Cursor::new(Arc::clone(&automaton)), Vec::new());
        for token in ["I", " so", ":"] {
            assert_eq!(cursor.push(token.as_bytes(), &mut out), None);
        }
        assert_eq!((out.as_slice(), cursor.held()), (b"I ".as_slice(), 3));
        (cursor, out)
    };
    let (cursor, mut out) = begun();
    let mut cursor = cursor.with_max_hold(4);
    assert_eq!(cursor.push(b" ", &mut out), None);
    assert_eq!(cursor.push(b"D", &mut out), Some(Stop::HeldTooMuch(2)));
    let (cursor, mut out) = begun();
    let mut cursor = cursor.reading_json();
    assert_eq!(cursor.push(br" \u004", &mut out), None);
    let drop = Match {
        rule: 0,
        start: 2,
        end: 15,
    };
    assert_eq!(cursor.push(b"4ROP", &mut out), Some(Stop::Matched(drop)));
    assert_eq!(out, b"I ");
}

#[test]
fn what_comes_after_the_end_is_not_swallowed() {
    for automaton in automata() {
        let mut cursor = Cursor::new(automaton);
        let mut out = Vec::new();
        cursor.push(b"xy", &mut out);
        assert_eq!(cursor.finish(&mut out), None);
        assert_eq!((cursor.push(b"", &mut out), cursor.stopped()), (None, None));
        assert_eq!(cursor.push(b"z", &mut out), Some(Stop::Failed(2)));
        assert_eq!(
            (cursor.stopped(), out.as_slice()),
            (Some(Stop::Failed(2)), b"xy".as_slice())
        );
    }
}
