//! How deep a stream is in its rules.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use decidable_guard::{Action, Automaton, Cursor, Pattern, Pressure, Rule};

fn cursor(rules: Vec<Rule>) -> Cursor {
    Cursor::new(Automaton::new(rules).unwrap().into())
}

/// The pressure after each byte of a text: the rule, what is matched, what remains.
fn pressed(rules: Vec<Rule>, text: &str) -> Vec<Vec<(usize, u64, u32)>> {
    let mut cursor = cursor(rules);
    let mut out = Vec::new();
    let each = |byte| {
        cursor.push(&[byte], &mut out);
        let now = cursor.pressure();
        now.map(
            |Pressure {
                 rule,
                 matched,
                 remaining,
             }| (rule, matched, remaining),
        )
        .collect()
    };
    text.bytes().map(each).collect()
}

#[test]
fn a_text_is_pressed_by_the_bytes_that_begin_it() {
    let rules = || {
        vec![
            Rule::literal("long", "abcd"),
            Rule::literal("short", "abx"),
            Rule::literal("other", "bc"),
        ]
    };
    assert_eq!(
        pressed(rules(), "zab"),
        [vec![], vec![(1, 1, 2)], vec![(1, 2, 1)]],
        "the nearest of those with the same beginning"
    );
    assert_eq!(pressed(rules(), "zabcz")[3], [], "it was stopped");
    let folded = Rule::new(
        "folded",
        Pattern::Literal {
            text: "stop".to_owned(),
            ignore_case: true,
        },
    );
    assert_eq!(
        pressed(vec![folded], "SsT"),
        [vec![(0, 1, 3)], vec![(0, 1, 3)], vec![(0, 2, 2)]]
    );
}

/// Texts that are compared in either case and those that are not are two trees.
#[test]
fn of_texts_of_both_cases_the_deepest_is_told_and_of_those_the_nearest() {
    let text = |text: &str, ignore_case| {
        Rule::new(
            text,
            Pattern::Literal {
                text: text.to_owned(),
                ignore_case,
            },
        )
    };
    for (cased, caseless, told) in [
        ("abcd", "abx", ["abx", "abx"]),
        ("abx", "abcd", ["abx", "abx"]),
        ("abcd", "bx", ["abcd", "abcd"]),
        ("bx", "abcd", ["abcd", "abcd"]),
        // As near, the first.
        ("abc", "abx", ["abc", "abx"]),
    ] {
        let mut rules = vec![text(cased, false), text(caseless, true)];
        for told in told {
            let (rule, _, _) = pressed(rules.clone(), "ab")[1][0];
            assert_eq!(rules[rule].name, told, "{cased} {caseless}");
            rules.reverse();
        }
    }
}

#[test]
fn a_pattern_is_pressed_by_each_attempt() {
    for action in [Action::Stop, Action::Redact, Action::Record] {
        let rules = || vec![Rule::regex("ssn", r"\d{3}-\d{2}").with_action(action)];
        let all = pressed(rules(), "1234-x");
        assert_eq!(all[0], [(0, 1, 5)]);
        assert_eq!(all[2], [(0, 3, 3), (0, 2, 4), (0, 1, 5)]);
        assert_eq!(all[4], [(0, 4, 2)]);
        assert_eq!(all[5], []);
    }
}

#[test]
fn a_pattern_that_the_next_byte_decides_has_nothing_remaining() {
    let rules = vec![Rule::regex("word", r"\bab\b")];
    assert_eq!(pressed(rules, "ab")[1], [(0, 2, 0)]);
}

#[test]
fn of_patterns_in_one_table_the_nearest_is_told_and_of_those_the_first() {
    let rules = || {
        vec![
            Rule::regex("far", "x[0-9]{4}"),
            Rule::regex("near", "x[0-9]{2}"),
            Rule::regex("as near", "x[0-8]{2}"),
        ]
    };
    assert_eq!(pressed(rules(), "x1"), [[(1, 1, 2)], [(1, 2, 1)]]);
    let rules = vec![
        Rule::regex("a", "x[0-9]{4}y"),
        Rule::regex("b", "xz"),
        Rule::regex("c", "x[0-9]{3}"),
    ];
    assert_eq!(pressed(rules, "x1"), [[(1, 1, 1)], [(2, 2, 2)]]);
}

#[test]
fn what_remains_is_what_the_shortest_match_needs() {
    for rule in [Rule::regex("tail", "secret(ly)?!"), Rule::literal("text", "secret!")] {
        let all = pressed(vec![rule], "secret");
        let remaining: Vec<_> = all.iter().map(|each| each[0].2).collect();
        assert_eq!(remaining, [6, 5, 4, 3, 2, 1]);
    }
}

#[test]
fn a_stream_that_has_ended_is_pressed_by_nothing() {
    let mut stream = cursor(vec![Rule::literal("a", "abc"), Rule::regex("b", "abd")]);
    let mut out = Vec::new();
    stream.push(b"ab", &mut out);
    assert_eq!(stream.pressure().count(), 2);
    let mut failed = stream.clone();
    failed.fail();
    assert_eq!(failed.pressure().count(), 0);
    stream.finish(&mut out);
    assert_eq!(stream.pressure().count(), 0);
}
