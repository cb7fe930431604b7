//! The exchange format against the reference implementation's own logs, and against every small change of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use decidable_canon::{Key, hex};
use decidable_wal::{
    ErrorKind,
    exchange::{self, Anchor, ReadOptions, Writer},
};

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The value of a member of the anchor files, which are flat enough for this.
fn member<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\"{name}\": ")).unwrap();
    rest
}

fn log(name: &str) -> (Vec<u8>, ReadOptions) {
    let text = String::from_utf8(vector(&format!("{name}.anchor.json"))).unwrap();
    let inner = member(&text, "anchor");
    let inner = &inner[..=inner.find('}').unwrap()];
    let key = member(&text, "key_hex")
        .strip_prefix('"')
        .map(|rest| Key::new(&hex::decode(&rest[..rest.find('"').unwrap()]).unwrap()).unwrap());
    let options = ReadOptions {
        key,
        anchor: Some(Anchor::from_json(inner).unwrap()),
    };
    (vector(name), options)
}

fn kind_of(lines: &[u8], options: &ReadOptions) -> ErrorKind {
    exchange::read(lines, options, |_| Ok(())).unwrap_err().kind()
}

/// A log of a few entries with data of several shapes.
fn small(key: Option<&Key>) -> (Vec<u8>, Anchor) {
    let mut writer = Writer::new(Vec::new(), key.cloned());
    for data in ["{\"a\":[1,2.5e-3,\"\\u00e9\\n\"]}", "null", "[[],{}, true]"] {
        writer.append(data.as_bytes()).unwrap();
    }
    let anchor = writer.anchor().unwrap();
    (writer.into_inner(), anchor)
}

fn some_key() -> Key {
    Key::new(&[9; 32]).unwrap()
}

#[test]
fn the_logs_of_the_reference_verify_with_their_anchors() {
    for (name, keyed) in [("log_plain.jsonl", false), ("log_keyed.jsonl", true)] {
        let (lines, options) = log(name);
        let mut seen = 0;
        let read = exchange::read(&*lines, &options, |entry| {
            seen += 1;
            assert_eq!(entry.sequence, seen);
            assert!(entry.data.starts_with(b"{\"audit\":{"));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            (read.entries, read.keyed, read.anchor_found, read.tail),
            (200, keyed, true, None)
        );
        assert_eq!(read.last, Some(options.anchor.unwrap().last_hash));
    }
}

#[test]
fn writing_the_data_of_the_references_logs_again_gives_the_same_bytes() {
    for name in ["log_plain.jsonl", "log_keyed.jsonl"] {
        let (lines, options) = log(name);
        let mut writer = Writer::new(Vec::new(), options.key.clone());
        exchange::read(&*lines, &options, |entry| {
            assert_eq!(writer.append(entry.data).unwrap(), entry.hash);
            Ok(())
        })
        .unwrap();
        assert_eq!(writer.anchor(), options.anchor);
        assert!(writer.into_inner() == lines);
    }
}

#[test]
fn a_wrong_or_missing_key_is_refused() {
    let (lines, options) = log("log_keyed.jsonl");
    let without = ReadOptions {
        key: None,
        ..options.clone()
    };
    assert_eq!(kind_of(&lines, &without), ErrorKind::KeyMissing);
    assert_eq!(kind_of(&lines, &ReadOptions::default()), ErrorKind::ChainBroken);
    let wrong = ReadOptions {
        key: Some(some_key()),
        ..options
    };
    assert_eq!(kind_of(&lines, &wrong), ErrorKind::ChainBroken);

    let (lines, options) = log("log_plain.jsonl");
    let with = ReadOptions {
        key: Some(some_key()),
        ..options
    };
    assert_eq!(kind_of(&lines, &with), ErrorKind::NotKeyed);
}

#[test]
fn no_bit_of_an_anchored_log_can_change() {
    for key in [None, Some(some_key())] {
        let (lines, anchor) = small(key.as_ref());
        let options = ReadOptions {
            key,
            anchor: Some(anchor),
        };
        exchange::read(&*lines, &options, |_| Ok(())).unwrap();
        for index in 0..lines.len() {
            for bit in 0..8 {
                let mut changed = lines.clone();
                changed[index] ^= 1 << bit;
                let error = exchange::read(&*changed, &options, |_| Ok(())).unwrap_err();
                assert!(
                    error.kind().is_corruption() && error.seq().is_some() && error.offset().is_some(),
                    "{error:?}"
                );
            }
        }
    }
}

#[test]
fn every_cut_is_an_unfinished_tail_or_the_end_of_a_line_and_never_an_entry_more() {
    let (lines, anchor) = small(None);
    for length in 0..lines.len() {
        let cut = &lines[..length];
        let whole = cut.iter().filter(|byte| **byte == b'\n').count();
        let read = exchange::read(cut, &ReadOptions::default(), |_| Ok(())).unwrap();
        assert_eq!(read.entries, u64::try_from(whole).unwrap());
        assert_eq!(read.tail.is_some(), length > 0 && cut[length - 1] != b'\n');
        let anchored = ReadOptions {
            key: None,
            anchor: Some(anchor),
        };
        assert_eq!(kind_of(cut, &anchored), ErrorKind::ShorterThanHead);
    }
}

#[test]
fn a_torn_last_line_names_its_place() {
    let (lines, _) = small(None);
    let read = exchange::read(&lines[..lines.len() - 1], &ReadOptions::default(), |_| Ok(())).unwrap();
    let tail = read.tail.unwrap();
    assert_eq!(
        (tail.line, tail.offset, tail.offset + tail.bytes + 1),
        (3, read.bytes, u64::try_from(lines.len()).unwrap())
    );
}

#[test]
fn only_the_line_grammar_is_accepted() {
    let (lines, _) = small(None);
    let text = String::from_utf8(lines).unwrap();
    let first = text.lines().next().unwrap();
    let malformed = [
        first.replacen("{\"sequence\":1", "{ \"sequence\":1", 1),
        first.replacen("\"sequence\":1", "\"sequence\":01", 1),
        first.replacen("\"sequence\":1", "\"sequence\":1.0", 1),
        first.replacen("\"sequence\":1", "\"sequence\":18446744073709551616", 1),
        first.replacen("\"genesis\"", "\"Genesis\"", 1),
        first.replacen(",\"data\":", ",\"data\": ", 1),
        first.replacen(",\"data\":", ",\"more\":1,\"data\":", 1),
        format!("{first} "),
        format!("{first}\r"),
        format!(" {first}"),
        format!("{}{}", &first[..first.len() - 1], ",\"more\":1}"),
        first.replacen("[1,", "[01,", 1),
        first.replacen("[1,", "[1,,", 1),
        first.replacen("\\u00e9", "\\u00g9", 1),
        first.replacen("\\u00e9", "\u{7}", 1),
        String::new(),
        "null".to_owned(),
    ];
    for line in malformed {
        let error = exchange::read(format!("{line}\n").as_bytes(), &ReadOptions::default(), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LineMalformed, "{line}");
        assert_eq!((error.line(), error.seq(), error.offset()), (Some(1), Some(1), Some(0)));
    }
    let hash = first.split("\"entry_hash\":\"").nth(1).unwrap().get(..64).unwrap();
    let upper = first.replacen(hash, &hash.to_uppercase(), 1);
    assert_eq!(
        kind_of(format!("{upper}\n").as_bytes(), &ReadOptions::default()),
        ErrorKind::LineMalformed
    );
}

#[test]
fn swapped_repeated_and_missing_lines_are_refused() {
    let (lines, _) = small(None);
    let text = String::from_utf8(lines).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for order in [[1, 0, 2], [0, 0, 1], [0, 2, 2], [1, 2, 2], [0, 1, 1]] {
        let joined: String = order.iter().map(|index| lines[*index]).collect();
        assert_eq!(
            kind_of(joined.as_bytes(), &ReadOptions::default()),
            ErrorKind::SequenceBroken
        );
    }
    // The hash does not bind the sequence, so a renumbered line is found by the hash that it names.
    let renumbered = format!(
        "{}{}",
        lines[0],
        lines[2].replacen("\"sequence\":3", "\"sequence\":2", 1)
    );
    let error = exchange::read(renumbered.as_bytes(), &ReadOptions::default(), |_| Ok(())).unwrap_err();
    assert_eq!(
        (error.kind(), error.line(), error.seq()),
        (ErrorKind::ChainBroken, Some(2), Some(2))
    );
    assert!(
        error
            .to_string()
            .ends_with(&format!("(line 2, record 2, byte {})", lines[0].len())),
        "{error}"
    );
}

#[test]
fn data_that_is_not_one_value_on_one_line_is_not_written() {
    let mut writer = Writer::new(Vec::new(), None);
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    for data in [
        "",
        " 1",
        "1 ",
        "{\"a\":1}\n",
        "[1,\n2]",
        "1,\"more\":2",
        "{\"a\":1,}",
        "[1 2]",
        "nul",
        "-",
        "1.",
        "\"",
        "\"\t\"",
        &deep,
    ] {
        assert_eq!(
            writer.append(data.as_bytes()).unwrap_err().kind(),
            ErrorKind::LineMalformed,
            "{data:?}"
        );
    }
    assert_eq!(writer.append(b"\"\xff\"").unwrap_err().kind(), ErrorKind::LineMalformed);
    let long = format!("\"{}\"", "x".repeat(exchange::LINE_BYTES_MAX));
    assert_eq!(writer.append(long.as_bytes()).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(writer.anchor(), None);
    assert!(writer.into_inner().is_empty());
}

#[test]
fn a_line_beyond_the_limit_is_refused_without_being_kept() {
    let endless = std::io::BufReader::new(std::io::repeat(b' '));
    let error = exchange::read(endless, &ReadOptions::default(), |_| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.line()), (ErrorKind::TooLarge, Some(1)));
}

#[test]
fn an_anchor_has_exactly_its_members() {
    let (_, anchor) = small(None);
    let text = anchor.to_json();
    assert_eq!(
        Anchor::from_json(&text.replace(',', " ,\n ").replace(':', " : ")).unwrap(),
        anchor
    );
    for changed in [
        text.replace("v1", "v2"),
        text.replace("\"keyed\":false", "\"keyed\":0"),
        text.replace("\"keyed\":false", "\"keyed\":false,\"more\":1"),
        text.replace("\"keyed\":false", "\"keyed\":false,\"keyed\":false"),
        text.replace(",\"keyed\":false", ""),
        text.replace("\"sequence\":3", "\"sequence\":-3"),
        text.replace("\"sequence\":3", "\"sequence\":0"),
        format!("{text}x"),
        String::new(),
    ] {
        assert_eq!(
            Anchor::from_json(&changed).unwrap_err().kind(),
            ErrorKind::LineMalformed,
            "{changed}"
        );
    }
}

#[test]
fn a_visitors_refusal_ends_the_reading_at_its_entry() {
    let (lines, _) = small(None);
    let error = exchange::read(&*lines, &ReadOptions::default(), |entry| {
        if entry.sequence == 2 {
            Err("no".to_owned())
        } else {
            Ok(())
        }
    })
    .unwrap_err();
    assert_eq!((error.kind(), error.seq()), (ErrorKind::Visit, Some(2)));
}
