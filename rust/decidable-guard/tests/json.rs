//! Documents in JSON: rules see what a string stands for, and what comes out is what was written, or valid JSON.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use decidable_guard::{Action, Automaton, Cursor, Match, Rule, Stop};

fn told(automaton: &Arc<Automaton>, pieces: &[&[u8]]) -> (String, Option<Stop>, Vec<Match>) {
    let mut cursor = Cursor::new(Arc::clone(automaton)).reading_json();
    let mut out = Vec::new();
    for piece in pieces {
        cursor.push(piece, &mut out);
    }
    cursor.finish(&mut out);
    let matches = cursor.matches().collect();
    (String::from_utf8(out).unwrap(), cursor.stopped(), matches)
}

/// The same for every way to cut a document in two, and for single bytes.
fn check(rules: Vec<Rule>, document: &str, released: &str, stop: Option<&str>, replaced: &[&str]) {
    let automaton = Arc::new(Automaton::new(rules).unwrap());
    let bytes = document.as_bytes();
    let mut cuts: Vec<Vec<&[u8]>> = (0..=bytes.len())
        .map(|place| vec![&bytes[..place], &bytes[place..]])
        .collect();
    cuts.push(bytes.chunks(1).collect());
    let of = |found: &Match| {
        let place = |place: u64| usize::try_from(place).unwrap();
        document[place(found.start)..place(found.end)].to_owned()
    };
    for pieces in cuts {
        let (out, stopped, matches) = told(&automaton, &pieces);
        assert_eq!(out, released, "{document} as {pieces:?}");
        let found = match stopped {
            Some(Stop::Matched(found)) => Some(of(&found)),
            other => {
                assert_eq!(other, None);
                None
            }
        };
        assert_eq!(found.as_deref(), stop, "{document} as {pieces:?}");
        assert_eq!(
            matches.iter().map(of).collect::<Vec<_>>(),
            replaced,
            "{document} as {pieces:?}"
        );
    }
}

fn redact(name: &str, pattern: &str) -> Rule {
    Rule::regex(name, pattern).with_action(Action::Redact)
}

#[test]
fn an_escaped_text_is_the_text() {
    let drop = || vec![Rule::literal("drop", "DROP TABLE")];
    for written in [
        "DROP TABLE",
        r"\u0044ROP TABLE",
        r"DROP\u0020TABLE",
        r"\u0044\u0052\u004f\u0050\u0020\u0054\u0041\u0042\u004C\u0045",
    ] {
        let document = format!(r#"{{"q": "é\n{written} users"}}"#);
        check(drop(), &document, "{\"q\": \"é\\n", Some(written), &[]);
        let pattern = || vec![Rule::regex("drop", r"\bDROP\sTABLE\b")];
        check(pattern(), &document, "{\"q\": \"é\\n", Some(written), &[]);
    }
    // What only looks like the text is another.
    let document = r#"{"q": "D\\u0052OP TABLE, \tDROPTABLE"}"#;
    check(drop(), document, document, None, &[]);
    let n = || vec![Rule::regex("lines", "a\nb/\u{1f600}")];
    check(
        n(),
        r#"["a\nb\/\ud83d\ude00"]"#,
        r#"[""#,
        Some(r"a\nb\/\ud83d\ude00"),
        &[],
    );
}

#[test]
fn a_redaction_in_a_string_keeps_the_document_valid() {
    let ssn = Rule {
        replacement: "«\"\\\n»".to_owned(),
        ..redact("ssn", r"\b\d{3}-\d{2}-\d{4}\b")
    };
    check(
        vec![ssn],
        r#"{"a": "\"078\u002d05-112\u0030\"", "b": 3}"#,
        r#"{"a": "\"«\"\\\u000a»\"", "b": 3}"#.replace("«\"", "«\\\"").as_str(),
        None,
        &[r"078\u002d05-112\u0030"],
    );
    check(
        vec![redact("face", "x\u{1f600}?")],
        r#"["x\ud83d\ude00x\ud83dx"]"#,
        r#"["[redacted][redacted]\ud83d[redacted]"]"#,
        None,
        &[r"x\ud83d\ude00", "x", "x"],
    );
}

#[test]
fn a_redaction_that_no_string_holds_stops() {
    let digits = || vec![redact("digits", r"\d{4}"), redact("pair", r#"k": "v"#)];
    check(
        digits(),
        r#"{"a": "1234", "b": 1234}"#,
        r#"{"a": "[redacted]", "b": "#,
        Some("1234"),
        &["1234"],
    );
    check(
        digits(),
        r#"{"12345": 0, "k": "v"}"#,
        r#"{"[redacted]5": 0, ""#,
        Some(r#"k": "v"#),
        &["1234"],
    );
    check(digits(), "1234", "", Some("1234"), &[]);
    check(digits(), r#""1234"#, r#""[redacted]"#, None, &["1234"]);
    // A quote inside a string is none.
    check(
        digits(),
        r#"{"a": "k\": \"v"}"#,
        r#"{"a": "[redacted]"}"#,
        None,
        &[r#"k\": \"v"#],
    );
}

#[test]
fn what_no_escape_is_is_matched_as_it_is_written() {
    let rules = || vec![Rule::literal("u", r"\u00zz"), Rule::literal("x", r"\x41")];
    check(rules(), r#"["a\x41"]"#, r#"["a"#, Some(r"\x41"), &[]);
    check(rules(), r#"["a\u00zz"]"#, r#"["a"#, Some(r"\u00zz"), &[]);
    check(rules(), r#"["a\u00"#, r#"["a\u00"#, None, &[]);
    check(
        vec![Rule::literal("half", "\u{fffd}b")],
        r#"["a\ud800b"]"#,
        r#"["a"#,
        Some(r"\ud800b"),
        &[],
    );
}

#[test]
fn escapes_are_read_where_a_document_that_is_none_has_them_outside_of_its_strings() {
    let rules = || vec![Rule::literal("drop", "DROP TABLE")];
    let written = r"\u0044ROP TABLE";
    check(
        rules(),
        r#""{"q":"\u0044ROP TABLE users"}"#,
        r#""{"q":""#,
        Some(written),
        &[],
    );
    check(rules(), r"q: \u0044ROP TABLE users", "q: ", Some(written), &[]);
    check(
        rules(),
        r#"{\"q\": \"\u0044ROP TABLE users\"}"#,
        r#"{\"q\": \""#,
        Some(written),
        &[],
    );
}

#[test]
fn only_an_escape_that_is_not_complete_is_held() {
    let automaton = Arc::new(Automaton::new(vec![Rule::literal("drop", "DROP")]).unwrap());
    let mut cursor = Cursor::new(automaton).reading_json();
    let mut out = Vec::new();
    for (piece, held) in [
        ("{\"a\": \"x", 0),
        ("\\", 1),
        ("u00", 4),
        ("44", 6),
        ("x", 0),
        ("\\ud83d", 6),
        ("\\ude00", 0),
        ("\\n", 0),
    ] {
        cursor.push(piece.as_bytes(), &mut out);
        assert_eq!(cursor.held(), held, "{piece}");
    }
}
