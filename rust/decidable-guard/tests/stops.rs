//! Several stops that may end at one byte: which of them counts, and that nothing of it has left, however the text is cut.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use decidable_guard::{Action, Automaton, Cursor, Error, Event, Intervention, Match, Monitor, Reads, Rule, Stop};

type Found = (usize, u64, u64);

#[derive(Clone, Copy)]
struct Told<'a> {
    released: &'a str,
    stop: Option<Found>,
    /// How many bytes it takes to be stopped; one more than there are where the end does it.
    after: usize,
}

fn found(stop: Option<Stop>) -> Option<Found> {
    match stop {
        Some(Stop::Matched(Match { rule, start, end })) => Some((rule, start, end)),
        other => {
            assert_eq!(other, None);
            None
        }
    }
}

/// The same whole, byte by byte, and for every way to cut it in two; and nothing but what is released has left before.
fn check(cursor: &Cursor, text: &str, told: Told<'_>) {
    let bytes = text.as_bytes();
    let mut cuts: Vec<Vec<&[u8]>> = (0..=bytes.len())
        .map(|place| vec![&bytes[..place], &bytes[place..]])
        .collect();
    cuts.push(bytes.chunks(1).collect());
    for chunks in cuts {
        let (mut cursor, mut out, mut taken) = (cursor.clone(), Vec::new(), 0);
        for chunk in &chunks {
            cursor.push(chunk, &mut out);
            taken += chunk.len();
            assert!(told.released.as_bytes().starts_with(&out), "{text} as {chunks:?}");
            assert_eq!(cursor.stopped().is_some(), taken >= told.after, "{text} as {chunks:?}");
        }
        cursor.finish(&mut out);
        assert_eq!(
            (String::from_utf8(out).unwrap().as_str(), found(cursor.stopped())),
            (told.released, told.stop),
            "{text} as {chunks:?}"
        );
    }
}

fn cursor(rules: impl IntoIterator<Item = Rule>) -> Cursor {
    Cursor::new(Arc::new(Automaton::new(rules.into_iter().collect()).unwrap()))
}

/// Patterns by their places, each a rule that stops; and the same with the texts among them looked for as texts.
fn check_stops(patterns: &[&str], text: &str, told: Told<'_>) {
    let pattern = |text: &&str| Rule::regex(*text, *text);
    let literal = |text: &&str| match text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        true => Rule::literal(*text, *text),
        false => pattern(text),
    };
    check(&cursor(patterns.iter().map(pattern)), text, told);
    check(&cursor(patterns.iter().map(literal)), text, told);
    // Before and behind what is in no match, which is passed quickly.
    let far = "...... ...... ".repeat(20);
    let moved = Told {
        released: &format!("{far}{}", told.released),
        stop: told.stop.map(|(rule, start, end)| (rule, start + 280, end + 280)),
        after: told.after + 280,
    };
    check(&cursor(patterns.iter().map(literal)), &format!("{far}{text}"), moved);
}

fn told(released: &str, stop: Found, after: usize) -> Told<'_> {
    Told {
        released,
        stop: Some(stop),
        after,
    }
}

#[test]
fn of_stops_that_end_at_one_byte_the_next_byte_may_say_which_counts() {
    // It begins first, if it is one.
    check_stops(&[r"key-\b", "-"], "key-1", told("", (0, 0, 4), 5));
    check_stops(&["-", r"key-\b"], "key-1", told("", (1, 0, 4), 5));
    check_stops(&[r"key-\b", "-"], "key- 1", told("key", (1, 3, 4), 5));
    check_stops(&[r"key-\b", "-"], "key-", told("key", (1, 3, 4), 5));
    check_stops(&[r"key-\B", "-"], "key-1", told("key", (1, 3, 4), 5));
    check_stops(&[r"key-\B", "-"], "key- 1", told("", (0, 0, 4), 5));
    check_stops(&[r"key-\B", "-"], "key-", told("", (0, 0, 4), 5));
    check_stops(&[r"ba\b", "a"], "bab", told("b", (1, 1, 2), 3));
    check_stops(&[r"ba\b", "a"], "ba b", told("", (0, 0, 2), 3));
    check_stops(&[r"ba\b", "a"], "ba", told("", (0, 0, 2), 3));
    check_stops(&["ba$", "a"], "ba", told("", (0, 0, 2), 3));
    check_stops(&["ba$", "a"], "ba\n", told("b", (1, 1, 2), 3));
    check_stops(&["(?m)ba$", "a"], "ba\n", told("", (0, 0, 2), 3));
    // The same where the next byte ends a stop itself, or begins one.
    check_stops(&[r"ba\b", "a"], "baa", told("b", (1, 1, 2), 3));
    check_stops(&[r"key-\b", "-"], "key-key-1", told("", (0, 0, 4), 5));
    // In one pattern.
    check_stops(&[r"key-\b|-"], "key-1", told("", (0, 0, 4), 5));
    check_stops(&[r"key-\b|-"], "key-.", told("key", (0, 3, 4), 5));
}

#[test]
fn of_stops_that_begin_and_end_at_one_byte_the_next_byte_may_say_which_rule_is_first() {
    check_stops(&[r"ab\b", "ab"], "ab.", told("", (0, 0, 2), 3));
    check_stops(&[r"ab\b", "ab"], "abc", told("", (1, 0, 2), 3));
    check_stops(&[r"ab\b", "ab"], "ab", told("", (0, 0, 2), 3));
    // Nothing that may come is before it.
    check_stops(&["ab", r"ab\b"], "ab.", told("", (0, 0, 2), 2));
    check_stops(&["key-", r"-\b"], "key-1", told("", (0, 0, 4), 4));
    check_stops(&[r"-\b", "key-"], "key-1", told("", (1, 0, 4), 4));
}

#[test]
fn of_several_that_the_next_byte_decides_the_first_counts() {
    let rules = [r"xkey-\b", r"key-\B", "-"];
    check_stops(&rules, "xkey-1", told("", (0, 0, 5), 6));
    check_stops(&rules, "xkey-.", told("x", (1, 1, 5), 6));
    check_stops(&rules, "key-1", told("key", (2, 3, 4), 5));
    // One that may end later is none of them.
    check_stops(&["key-1", "-"], "key-1", told("key", (1, 3, 4), 4));
    check_stops(&[r"key-1\b", r"key-\b", "y-"], "key-1", told("", (1, 0, 4), 5));
}

#[test]
fn it_is_the_next_byte_that_the_rules_see() {
    let rules = |reads| [r"key-\b", "-"].map(|pattern| Rule::regex(pattern, pattern).with_reads(reads));
    for reads in [Reads::Visible, Reads::Folded] {
        let text = "key-\u{200b}\u{ad}1";
        check(&cursor(rules(reads)), text, told("", (0, 0, 4), text.len()));
        let text = "key-\u{200b}\u{ad}.";
        check(&cursor(rules(reads)), text, told("key", (1, 3, 4), text.len()));
        let text = "key-\u{200b}\u{ad}";
        check(&cursor(rules(reads)), text, told("key", (1, 3, 4), text.len() + 1));
    }
    check(&cursor(rules(Reads::Exact)), "key-\u{200b}1", told("key", (1, 3, 4), 5));
    // It is known what it looks like when all of it is there.
    check(&cursor(rules(Reads::Folded)), "ｋeｙ-ｂ", told("", (0, 0, 8), 11));
    // One code point that is seen as three.
    let dots = [r"x\.\b", r"\."].map(|pattern| Rule::regex(pattern, pattern).with_reads(Reads::Folded));
    check(&cursor(dots), "x…a", told("x", (1, 1, 4), 4));
    // They begin at one place of the stream, though not as they are seen.
    let dots = [r"\B\.", r"\.\.\B"].map(|pattern| Rule::regex(pattern, pattern).with_reads(Reads::Folded));
    check(&cursor(dots), "x…", told("x", (1, 1, 4), 4));
}

#[test]
fn it_is_so_in_a_document() {
    let rules = || [r"key-\b", "-"].map(|pattern| Rule::regex(pattern, pattern));
    let document = |text, told| check(&cursor(rules()).reading_json(), text, told);
    document(r#"{"a": "key-1"}"#, told(r#"{"a": ""#, (0, 7, 11), 12));
    document(r#"{"a": "key-"}"#, told(r#"{"a": "key"#, (1, 10, 11), 12));
    document(r#"{"a": "key\u002d\u0031"}"#, told(r#"{"a": ""#, (0, 7, 16), 22));
    document(r#"{"a": "key-\n1"}"#, told(r#"{"a": "key"#, (1, 10, 11), 13));
    document(r#"{"a": "key-"#, told(r#"{"a": "key"#, (1, 10, 11), 12));
}

/// A redaction that lies in no string stops, too, and waits as well.
#[test]
fn what_cannot_be_written_does_not_come_before_it() {
    let rules = || {
        let minus = Rule::literal("minus", "-").with_action(Action::Redact);
        [Rule::regex("far", r"akey-\b"), Rule::literal("near", "key-"), minus]
    };
    let document = |text, told| check(&cursor(rules()).reading_json(), text, told);
    document("[akey-1]", told("[", (0, 1, 6), 7));
    document("[akey- 1]", told("[a", (1, 2, 6), 7));
    document("[akey-", told("[a", (1, 2, 6), 7));
    // It may also begin before what is waited for.
    let wide = Rule::literal("wide", "zakey-").with_action(Action::Redact);
    let document = cursor(rules().into_iter().chain([wide])).reading_json();
    check(&document, "[zakey-1]", told("[", (0, 2, 7), 8));
    check(&document, "[zakey-.]", told("[", (1, 3, 7), 8));
}

/// Rules that read differently do not wait for each other, and then it is the first of those that are certain.
#[test]
fn another_reading_does_not_wait() {
    let rules = || {
        let exact = Rule::literal("minus", "-").with_reads(Reads::Exact);
        [Rule::regex("far", r"key-\b"), Rule::literal("near", "y-"), exact]
    };
    check(&cursor(rules()), "key-1", told("ke", (1, 2, 4), 4));
    check(&cursor(rules().into_iter().rev()), "key-1", told("ke", (1, 2, 4), 4));
}

/// A redaction is the leftmost and longest of the whole text.
#[test]
fn redactions_that_end_at_one_byte_are_decided_alike() {
    let rules = || [r"key-\b", "-"].map(|pattern| Rule::regex(pattern, pattern).with_action(Action::Redact));
    for (text, released) in [
        ("key-1", "[redacted]1"),
        ("key-.", "key[redacted]."),
        ("key-", "key[redacted]"),
    ] {
        let told = Told {
            released,
            stop: None,
            after: usize::MAX,
        };
        check(&cursor(rules()), text, told);
        check(&cursor(rules().into_iter().rev()), text, told);
    }
}

/// What waits is held, and what is held is no more than is allowed.
#[test]
fn what_waits_is_held() {
    let held = |most| {
        let mut cursor = cursor([r"key-\b", "-"].map(|pattern| Rule::regex(pattern, pattern))).with_max_hold(most);
        let mut out = Vec::new();
        let stopped = cursor.push(b". key-", &mut out);
        (String::from_utf8(out).unwrap(), stopped, cursor.held())
    };
    assert_eq!(held(4), (". ".to_owned(), None, 4));
    // It stops in either case, so that it stops with a match: with the one that is certain, and nothing of the other comes out.
    let dash = Match {
        rule: 1,
        start: 5,
        end: 6,
    };
    assert_eq!(held(3), (". ".to_owned(), Some(Stop::Matched(dash)), 0));
    assert_eq!(held(2), (". ".to_owned(), Some(Stop::HeldTooMuch(2)), 0));
}

/// Whoever generates token by token is not asked for one more where it is certain that a match stops.
#[test]
fn a_monitor_stops_at_the_token_with_which_a_match_is_certain() {
    let rules = || [r"key-\b", "-"].map(|pattern| Rule::regex(pattern, pattern));
    let token = |bytes| Event::Token {
        id: 1,
        bytes,
        entropy: None,
    };
    let mut monitor = Monitor::new(cursor(rules()));
    let mut out = Vec::new();
    assert_eq!(monitor.intervene(token(b". key"), 0, &mut out), Intervention::Continue);
    let dash = Match {
        rule: 1,
        start: 5,
        end: 6,
    };
    for bytes in [b"-".as_slice(), b"", b"1"] {
        let stopped = monitor.intervene(token(bytes), 0, &mut out);
        assert_eq!(stopped, Intervention::Stop(Stop::Matched(dash)));
    }
    assert_eq!((out.as_slice(), monitor.cursor().released()), (b". ".as_slice(), 2));
    // Where the token has the byte that says which counts, that one does.
    let mut monitor = Monitor::new(cursor(rules()));
    let key = Match {
        rule: 0,
        start: 2,
        end: 6,
    };
    assert_eq!(
        monitor.intervene(token(b". key-1"), 0, &mut out),
        Intervention::Stop(Stop::Matched(key))
    );
    // A match that only what comes next can make one stops nothing yet.
    let mut monitor = Monitor::new(cursor([Rule::regex("key", r"key\b")]));
    assert_eq!(monitor.intervene(token(b"key"), 0, &mut out), Intervention::Continue);
}

/// Rules that read otherwise wait for their own next byte: of what is certain by then the first end counts, wherever the others begin.
#[test]
fn of_stops_that_wait_in_several_readings_the_first_end_counts() {
    let rules = || {
        [
            Rule::regex("far", r"key-\b"),
            Rule::regex("near", "-"),
            Rule::regex("far marked", "key-\u{200b}\\b").with_reads(Reads::Exact),
            Rule::regex("near marked", "y-\u{200b}").with_reads(Reads::Exact),
        ]
    };
    let token = Event::Token {
        id: 1,
        bytes: ". key-\u{200b}".as_bytes(),
        entropy: None,
    };
    for rules in [rules().to_vec(), rules().into_iter().rev().collect()] {
        let near = rules.iter().position(|rule: &Rule| rule.name == "near").unwrap();
        let mut monitor = Monitor::new(cursor(rules));
        let mut out = Vec::new();
        let found = Match {
            rule: near,
            start: 5,
            end: 6,
        };
        assert_eq!(
            monitor.intervene(token, 0, &mut out),
            Intervention::Stop(Stop::Matched(found))
        );
        assert_eq!(out, b". ", "nothing of what may have been one");
    }
}

/// What may stand before a match and behind it, and what may not be written so.
#[test]
fn look_around_is_taken_at_both_ends_and_nowhere_else() {
    let rule = |pattern: &str| Automaton::new(vec![Rule::regex("it", pattern)]);
    for (pattern, text, found) in [
        (r"(?<=id: *)\d+(?![0-9a-z])", "id:  12a id: 345.", Some((13, 16))),
        (r"(?<=\b|_)\d\d(?![0-9])", "a12_34_", Some((4, 6))),
        (r"(?<=^|;)a", "ba;a", Some((3, 4))),
        (r"(?<=é)a", "éa", Some((2, 3))),
        (r"(?<=b)(?i)a(?![c])", "baC", None),
        (r"(?<=b)a(?!c)", "baC", Some((1, 2))),
        (r"a(?![bc])", "abaca", Some((4, 5))),
        // Flags may stand before, and hold for both; two letters have a form beyond ASCII, which may come next.
        (r"(?i)(?<=b)a(?!k)", "BAK bAs", Some((5, 6))),
        (r"(?i)(?<=b)a(?![a-z])", "BAK bA\u{212a}", Some((5, 6))),
        (r"(?x) (?<= b ) a", "ba", Some((1, 2))),
    ] {
        let automaton = Arc::new(rule(pattern).unwrap());
        for size in [1, 2, text.len()] {
            let mut cursor = Cursor::new(Arc::clone(&automaton));
            for chunk in text.as_bytes().chunks(size) {
                cursor.push(chunk, &mut Vec::new());
            }
            cursor.finish(&mut Vec::new());
            let stopped = cursor.stopped().map(|stop| match stop {
                Stop::Matched(found) => (found.start, found.end),
                other => panic!("{other:?}"),
            });
            assert_eq!(stopped, found, "{pattern} on {text}");
        }
    }
    for (pattern, at) in [
        ("a(?<=b)c", 1),
        ("(?<!b)a", 0),
        ("(?=b)a", 0),
        ("a(?=b)", 1),
        ("(?<=b)*a", 0),
        ("(?<=b)a|c", 0),
        ("(?<=b)", 0),
        ("(?<=(?<=b))a", 4),
        ("a(?!b)c", 1),
        ("a(?!bc)", 1),
        ("a(?!b|)", 1),
        ("a(?!é)", 1),
        ("a(?![^b])", 1),
        ("a(?!b)|c", 1),
        ("a(?!b)+", 1),
        ("a(?!b)(?!c)", 6),
        ("b(?i)(?<=b)a", 5),
        ("(?i)a(?!é)", 5),
        ("(?:a(?!b))", 4),
        ("[(?!b]a(?!c)d", 7),
    ] {
        let error = rule(pattern).unwrap_err();
        assert_eq!(error.kind(), decidable_guard::ErrorKind::Unsupported, "{pattern}");
        assert!(
            error
                .to_string()
                .ends_with(&format!("look-around at byte {at} is not supported")),
            "{error}"
        );
    }
    // What never stands before nothing stands behind, and a pattern has to match something besides.
    for pattern in [r"(?<=[^\s\S])a", "(?<=b)(?:a?)", r"(?<=\u200b)a"] {
        assert_eq!(
            rule(pattern).unwrap_err().kind(),
            decidable_guard::ErrorKind::Empty,
            "{pattern}"
        );
    }
}

/// A bit of one word says which of them a byte asks for, and those beyond the last bit share one.
#[test]
fn seventy_things_that_must_stand_before_are_told_apart() -> Result<(), Error> {
    let rule = |n: usize| Rule::regex(format!("r{n}"), format!("(?<=k{n}=)v[0-9]+"));
    for action in [Action::Redact, Action::Stop] {
        let rules = (0..70).map(|n| rule(n).with_action(action)).collect();
        let automaton = Arc::new(Automaton::new(rules)?);
        for n in 0..70 {
            let (mut cursor, mut out) = (Cursor::new(Arc::clone(&automaton)), Vec::new());
            cursor.push(format!("a k{n}=v12 k=v3 k{}=v4", n + 70).as_bytes(), &mut out);
            cursor.finish(&mut out);
            let left = match action {
                Action::Redact => format!("a k{n}=[redacted] k=v3 k{}=v4", n + 70),
                _ => format!("a k{n}="),
            };
            assert_eq!(String::from_utf8_lossy(&out), left);
        }
    }
    Ok(())
}

#[test]
fn what_must_stand_before_has_one_table_that_counts() -> Result<(), Error> {
    let taken = |patterns: &[&str]| {
        let rules = patterns.iter().map(|pattern| Rule::regex(*pattern, *pattern));
        Automaton::new(rules.collect()).map(|automaton| (automaton.table_bytes(), automaton.states()))
    };
    let (plain, one) = (taken(&[r"\d{4}"])?, taken(&[r"(?<=[ab]*a[ab]{9})\d{4}"])?);
    assert!(one.0 > plain.0 + 50_000 && one.1 > plain.1 + 1_000, "{plain:?} {one:?}");
    // Of another rule that asks for the same only its own table is added, of one that asks for another thing both.
    let same = taken(&[r"(?<=[ab]*a[ab]{9})\d{4}", r"(?<=[ab]*a[ab]{9})x\d{4}"])?;
    let other = taken(&[r"(?<=[ab]*a[ab]{9})\d{4}", r"(?<=[ab]*b[ab]{9})x\d{4}"])?;
    assert!(same.0 < one.0 + 10_000, "{one:?} {same:?}");
    assert!(other.0 > one.0 + 50_000, "{one:?} {other:?}");
    Ok(())
}
