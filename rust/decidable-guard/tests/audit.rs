//! A generation is watched, and what is written of it holds or is refused.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use decidable_canon::{Canonical as _, Digest, Key, hex};
use decidable_guard::{
    Action, Automaton, Check, Cursor, Event, Intervention, Match, Monitor, MostEntropy, Pattern, Reads, Rule, Severity,
    Stop,
    audit::{Audit, AuditErrorKind, Ending, Head, LONGEST_MODEL_NAME_BYTES, Trail, matched_digest},
};
use proptest::prelude::*;

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).unwrap()
}

fn head() -> Head {
    Head {
        id: [7; 16],
        boot_id: Some([9; 16]),
        created_ns: 1_700_000_000_000_000_000,
        rules: Digest::of(b"rules"),
        decision: Some((12, Digest::of(b"decision"))),
        model: "small".to_owned(),
    }
}

const HEAD_BYTES: usize = 8 + 1 + 16 + 17 + 8 + 32 + 41 + 4 + 5 + 16 + 32;

fn cursor() -> Cursor {
    let rules = vec![
        Rule::literal("drop", "DROP TABLE"),
        Rule::regex("ssn", r"\d{3}-\d{2}-\d{4}").with_action(Action::Redact),
        Rule::literal("note", "private").with_action(Action::Record),
    ];
    Cursor::new(Arc::new(Automaton::new(rules).unwrap()))
}

fn token(id: u32, bytes: &[u8]) -> Event<'_> {
    Event::Token {
        id,
        bytes,
        entropy: None,
    }
}

/// An audit of a generation of fifty tokens with two matches, ended.
fn fifty(key: Option<Key>) -> Vec<u8> {
    let mut monitor = Monitor::new(cursor()).with_trail(Trail::new(&head(), key, 0).unwrap(), Some([5; 32]));
    let mut out = Vec::new();
    for step in 0..48 {
        assert_eq!(
            monitor.intervene(token(step, b"so "), step.into(), &mut out),
            Intervention::Continue
        );
    }
    monitor.intervene(token(48, b"078-05-1120 private "), 48, &mut out);
    monitor.intervene(token(49, b"DROP"), 49, &mut out);
    monitor.intervene(Event::End, 50, &mut out);
    monitor.trail().unwrap().bytes().to_vec()
}

#[test]
fn what_is_written_is_read_back() {
    for key in [None, Some(key(1))] {
        let audit = Audit::read(&fifty(key.clone()), key.as_ref()).unwrap();
        assert_eq!((&audit.head, audit.sealed), (&head(), key.is_some()));
        assert_eq!(audit.frames.len(), 50);
        for (frame, step) in audit.frames.iter().zip(0..) {
            assert_eq!(
                (frame.step_seq, frame.token_id, frame.timestamp_ns),
                (step + 1, u32::try_from(step).unwrap(), i64::try_from(step).unwrap())
            );
        }
        let end = audit.end.unwrap();
        assert_eq!(
            (end.ending, end.tokens, end.matches, end.timestamp_ns),
            (Ending::Finished, 50, 2, 50)
        );
        assert_eq!((end.taken, end.released), (48 * 3 + 20 + 4, 48 * 3 + 20 + 4));
        let texts = audit
            .matches
            .iter()
            .map(|each| (each.found.rule, each.step_seq, each.text.unwrap()));
        let digest = |text: &[u8]| matched_digest(&[5; 32], text);
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [(1, 49, digest(b"078-05-1120")), (2, 49, digest(b"private"))]
        );
        assert_eq!(audit.tail, None);
    }
}

#[test]
fn every_cut_is_refused_in_the_head_and_unfinished_behind_it() {
    for key in [None, Some(key(1))] {
        let bytes = fifty(key.clone());
        let whole = Audit::read(&bytes, key.as_ref()).unwrap();
        let mut head_bytes = 0;
        for length in 0..bytes.len() {
            match Audit::read(&bytes[..length], key.as_ref()) {
                Err(error) => {
                    assert_eq!((error.kind(), length), (AuditErrorKind::Damaged, head_bytes));
                    assert!(error.offset() <= length);
                    head_bytes += 1;
                }
                Ok(audit) => {
                    assert_eq!(audit.end, None, "{length}");
                    let tail = audit.tail.unwrap();
                    assert_eq!(tail.offset + tail.bytes, length);
                    assert_eq!(audit.frames, whole.frames[..audit.frames.len()]);
                }
            }
        }
        assert_eq!(head_bytes, HEAD_BYTES);
    }
}

#[test]
fn every_changed_bit_is_refused_with_its_place() {
    let key = key(1);
    let bytes = fifty(Some(key.clone()));
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = Audit::read(&changed, Some(&key)).unwrap_err();
        assert!(
            matches!(error.kind(), AuditErrorKind::Damaged | AuditErrorKind::SealBroken),
            "{bit}: {error}"
        );
        if bit / 8 < HEAD_BYTES {
            assert!(error.offset() < HEAD_BYTES, "{bit}: {error}");
        } else {
            assert!(
                (error.offset()..error.offset() + 128).contains(&(bit / 8)),
                "{bit}: {error}"
            );
        }
        // Without the key everything but the seal is checked.
        let seal = bit / 8 >= bytes.len() - 32;
        assert_eq!(Audit::read(&changed, None).is_ok(), seal, "{bit}");
    }
}

/// Wherever a page begins that never reached the disk, in a frame, in the seal or between two, and however much room was made behind it.
#[test]
fn room_that_was_never_written_is_no_damage() {
    for (sealed, read) in [(None, None), (Some(key(1)), Some(key(1))), (Some(key(1)), None)] {
        let bytes = fifty(sealed.clone());
        // Without the key a seal is whole as long as it does not end in many zeros.
        let unfinished = bytes.len() - if sealed.is_some() && read.is_none() { 7 } else { 0 };
        for written in HEAD_BYTES..unfinished {
            // What was written of a frame may end in zeros itself.
            let zeros = bytes[written..].iter().take_while(|byte| **byte == 0).count();
            let cut = Audit::read(&bytes[..written + zeros], read.as_ref()).unwrap();
            for length in [bytes.len(), bytes.len() + 300] {
                let torn = [&bytes[..written], &vec![0; length - written]].concat();
                let audit = Audit::read(&torn, read.as_ref()).unwrap();
                let tail = audit.tail.unwrap();
                assert_eq!((audit.end, tail.offset), (None, cut.tail.unwrap().offset), "{written}");
                assert_eq!(tail.bytes, length - tail.offset);
                assert_eq!((&audit.frames, &audit.matches), (&cut.frames, &cut.matches));
                assert_eq!(audit.chain, cut.chain);
                // What was written behind it says that it is none.
                let more = [torn.as_slice(), &[1]].concat();
                let error = Audit::read(&more, read.as_ref()).unwrap_err();
                let in_seal = sealed.is_some() && written >= bytes.len() - 32;
                let place = if in_seal && read.is_none() {
                    bytes.len()
                } else {
                    tail.offset
                };
                assert_eq!(error.offset(), place, "{written}");
                assert_eq!(error.kind() == AuditErrorKind::SealBroken, in_seal && read.is_some());
            }
        }
        for written in unfinished..bytes.len() {
            let torn = [&bytes[..written], &vec![0; bytes.len() - written]].concat();
            assert_eq!(Audit::read(&torn, None).unwrap().end.unwrap().ending, Ending::Finished);
        }
        let more = [bytes.as_slice(), &[0]].concat();
        assert!(Audit::read(&more, read.as_ref()).is_err(), "behind the end");
    }
}

/// The zeros at the end of a seal may be its own: with the key that is known, and without it they are taken for that where they are few.
#[test]
fn a_seal_that_ends_in_zero_is_whole() {
    let key = key(1);
    let mut ended_in_zero = 0;
    for number in 0..2_048_u16 {
        let [high, low] = number.to_be_bytes();
        let mut head = head();
        head.id[..2].copy_from_slice(&[high, low]);
        let mut trail = Trail::new(&head, Some(key.clone()), 0).unwrap();
        trail.token(1, 1);
        trail.end(Ending::Finished, 2, 3, 3);
        if trail.bytes().ends_with(&[0]) {
            ended_in_zero += 1;
            for key in [Some(&key), None] {
                let audit = Audit::read(trail.bytes(), key).unwrap();
                assert_eq!(audit.end.unwrap().ending, Ending::Finished, "{number}");
                assert_eq!(audit.tail, None, "{number}");
            }
        }
    }
    assert!(ended_in_zero > 0);
}

#[test]
fn a_wrong_key_is_told_from_damage() {
    let sealed = fifty(Some(key(1)));
    let kind = |bytes: &[u8], key: Option<&Key>| {
        Audit::read(bytes, key)
            .map(|_| ())
            .map_err(|error| (error.kind(), error.code()))
    };
    assert_eq!(
        kind(&sealed, Some(&key(2))),
        Err((AuditErrorKind::WrongKey, "audit.wrong_key"))
    );
    assert_eq!(
        kind(&fifty(None), Some(&key(2))),
        Err((AuditErrorKind::NotSealed, "audit.not_sealed"))
    );
    assert_eq!(kind(&sealed, None), Ok(()));
}

#[test]
fn totals_that_do_not_add_up_are_refused_although_the_chain_holds() {
    let trail = || Trail::new(&head(), None, 0).unwrap();
    let found = Match {
        rule: 0,
        start: 1,
        end: 3,
    };
    let refused = |trail: Trail| Audit::read(trail.bytes(), None).is_err();
    let at = |start, end| Match { rule: 0, start, end };
    let none: &[Match] = &[];
    for (ending, taken, released, matches, holds) in [
        (Ending::Finished, 3, 3, none, true),
        (Ending::Finished, 3, 2, none, false),
        (Ending::Failed, 3, 2, none, true),
        (Ending::Failed, 3, 4, none, false),
        (Ending::Matched, 3, 1, none, false),
        // Nothing matches behind the end of the text, but where a match stops it.
        (Ending::Finished, 3, 3, &[at(1, 3)], true),
        (Ending::Finished, 2, 2, &[at(1, 3)], false),
        (Ending::Failed, 2, 1, &[at(1, 3)], false),
        (Ending::Matched, 3, 1, &[at(3, 5), at(1, 3)], true),
        // The text ends with the match that stops it.
        (Ending::Matched, 3, 1, &[at(1, 3)], true),
        (Ending::Matched, 4, 1, &[at(1, 3)], false),
        (Ending::Matched, 2, 1, &[at(1, 3)], false),
        (Ending::Matched, 3, 1, &[at(1, 3), at(0, 2)], false),
        // Nothing of that came out, but what was replaced by then.
        (Ending::Matched, 3, 0, &[at(1, 3)], true),
        (Ending::Matched, 3, 2, &[at(1, 3)], false),
        (Ending::Matched, 3, 2, &[at(0, 2), at(1, 3)], true),
        (Ending::Matched, 3, 2, &[at(0, 1), at(1, 3)], false),
        (Ending::Matched, 3, 3, &[at(0, 5), at(1, 3)], true),
        (Ending::Matched, 3, 2, &[at(0, 5), at(1, 3)], false),
    ] {
        let mut trail = trail();
        trail.token(1, 0);
        for found in matches {
            trail.matched(found, None);
        }
        trail.end(ending, 0, taken, released);
        assert_eq!(refused(trail), !holds, "{ending:?} {taken} {released} {matches:?}");
    }
    // What is replaced up to the end of the text begins in what was replaced.
    for (start, end, holds) in [(0, 5, true), (2, 5, true), (3, 5, false), (1_000, 1_005, false)] {
        let mut trail = trail();
        trail.matched(&Match { rule: 1, start, end }, None);
        trail.matched(&found, None);
        trail.end(Ending::Matched, 0, 3, 3);
        assert_eq!(refused(trail), !holds, "{start}..{end}");
    }
    let mut matched = trail();
    matched.matched(&found, None);
    matched.end(Ending::Matched, 0, 3, 1);
    matched.token(1, 1);
    matched.matched(&found, None);
    let audit = Audit::read(matched.bytes(), None).unwrap();
    assert_eq!(
        (audit.frames.len(), audit.matches.len()),
        (0, 1),
        "nothing comes after the end"
    );
    let mut backwards = trail();
    backwards.matched(&Match { start: 3, ..found }, None);
    assert!(refused(backwards));
}

#[test]
fn a_model_name_has_a_limit() {
    let named = |bytes| {
        Trail::new(
            &Head {
                model: "m".repeat(bytes),
                ..head()
            },
            None,
            0,
        )
        .map(|_| ())
    };
    assert_eq!(named(LONGEST_MODEL_NAME_BYTES), Ok(()));
    assert_eq!(named(LONGEST_MODEL_NAME_BYTES + 1), Err(LONGEST_MODEL_NAME_BYTES + 1));
}

/// Whoever writes one has its chain in his hands, and what is read of it has to be what a writer may write.
#[test]
fn a_head_that_nobody_writes_is_refused_although_its_chain_holds() {
    let longest = Head {
        model: "m".repeat(LONGEST_MODEL_NAME_BYTES),
        ..head()
    };
    let written = Trail::new(&longest, None, 0).unwrap().bytes().to_vec();
    let name = HEAD_BYTES - 32 - 16 - 5;
    let check = name + LONGEST_MODEL_NAME_BYTES;
    assert_eq!(written.len(), check + 16 + 32);
    let read = |head: Vec<u8>| {
        let chained = [head.as_slice(), Digest::of(&head).bytes()].concat();
        Audit::read(&chained, None)
            .map(|audit| audit.head)
            .map_err(|error| (error.kind(), error.offset()))
    };
    let head = &written[..check + 16];
    assert_eq!(read(head.to_vec()), Ok(longest));
    // The name is one byte longer, and says so.
    let mut long = head.to_vec();
    long[name - 4..name].copy_from_slice(&u32::try_from(LONGEST_MODEL_NAME_BYTES + 1).unwrap().to_le_bytes());
    long.insert(name, b'm');
    assert_eq!(read(long), Err((AuditErrorKind::Damaged, name - 4)));
    // What is not sealed has the check of a key.
    for byte in check..check + 16 {
        let mut checked = head.to_vec();
        checked[byte] = 1;
        assert_eq!(read(checked), Err((AuditErrorKind::Damaged, check)));
    }
}

#[test]
fn a_match_that_stops_is_the_last() {
    let mut monitor = Monitor::new(cursor()).with_trail(Trail::new(&head(), None, 0).unwrap(), None);
    let mut out = Vec::new();
    assert_eq!(
        monitor.intervene(token(1, b"private: DROP TAB"), 1, &mut out),
        Intervention::Continue
    );
    let stop = monitor.intervene(token(2, b"LE users"), 2, &mut out);
    let found = Match {
        rule: 0,
        start: 9,
        end: 19,
    };
    assert_eq!(stop, Intervention::Stop(Stop::Matched(found)));
    for event in [token(3, b"more"), Event::Text(b"more"), Event::End, Event::Unknown] {
        assert_eq!(monitor.intervene(event, 3, &mut out), stop);
    }
    assert_eq!(out, b"private: ");
    assert_eq!(monitor.matches().count(), 1);
    let audit = Audit::read(monitor.trail().unwrap().bytes(), None).unwrap();
    assert_eq!(
        audit.matches.last().map(|each| (each.found, each.step_seq, each.text)),
        Some((found, 2, None))
    );
    let end = audit.end.unwrap();
    assert_eq!((end.ending, end.tokens, end.matches), (Ending::Matched, 2, 2));
    assert_eq!((end.taken, end.released), (19, 9));
}

/// What follows a word that stops is to say that it ends there: characters that its rule does not see do not, and others see them.
#[test]
fn rules_that_read_otherwise_may_match_behind_the_end_of_the_text() {
    let exact = |rule: Rule, action| rule.with_reads(Reads::Exact).with_action(action);
    for (rule, text, taken, released, matches) in [
        (
            exact(Rule::regex("control", r"[\x00-\x08]"), Action::Record),
            "drop\0.",
            4,
            0,
            2,
        ),
        (
            exact(Rule::literal("mark", "\u{200b}"), Action::Record),
            "drop\u{200b}\u{200b}.",
            4,
            0,
            3,
        ),
        (
            exact(Rule::literal("mark", "xdrop\u{200b}"), Action::Redact),
            "xdrop\u{200b}.",
            5,
            5,
            2,
        ),
        (
            exact(Rule::literal("mark", "\u{200b}"), Action::Redact),
            "a drop\u{200b}.",
            6,
            2,
            1,
        ),
    ] {
        let rules = vec![Rule::regex("drop", r"drop\b"), rule];
        let cursor = Cursor::new(Arc::new(Automaton::new(rules).unwrap()));
        let mut monitor = Monitor::new(cursor).with_trail(Trail::new(&head(), None, 0).unwrap(), None);
        let mut out = Vec::new();
        for (character, id) in text.chars().zip(0..) {
            monitor.intervene(token(id, character.to_string().as_bytes()), 0, &mut out);
        }
        let audit = Audit::read(monitor.trail().unwrap().bytes(), None).unwrap();
        let end = audit.end.unwrap();
        assert_eq!(
            (end.ending, end.taken, end.released, end.matches),
            (Ending::Matched, taken, released, matches),
            "{text:?}"
        );
        assert_eq!(audit.matches.last().unwrap().found.rule, 0);
    }
}

#[test]
fn what_is_no_event_stops_and_so_does_what_comes_after_the_end() {
    let mut out = Vec::new();
    let mut monitor = Monitor::new(cursor());
    monitor.intervene(Event::Text(b"fine DROP"), 0, &mut out);
    assert_eq!(
        monitor.intervene(Event::Unknown, 0, &mut out),
        Intervention::Stop(Stop::Failed(5))
    );
    assert_eq!(
        monitor.intervene(Event::End, 0, &mut out),
        Intervention::Stop(Stop::Failed(5))
    );
    assert_eq!(out, b"fine ");
    let mut monitor = Monitor::new(cursor());
    assert_eq!(monitor.intervene(Event::End, 0, &mut out), Intervention::Continue);
    assert_eq!(monitor.intervene(Event::End, 0, &mut out), Intervention::Continue);
    assert_eq!(
        monitor.intervene(token(1, b"x"), 0, &mut out),
        Intervention::Stop(Stop::Failed(0))
    );
    assert_eq!(
        monitor.intervene(Event::End, 0, &mut out),
        Intervention::Stop(Stop::Failed(0))
    );
}

#[test]
fn a_model_that_is_too_unsure_is_stopped_before_its_text_leaves() {
    let most = MostEntropy { nats: 2.0, steps: 3 };
    let run = |entropies: &[Option<f64>]| {
        let mut monitor = Monitor::new(cursor()).with_most_entropy(most);
        let mut out = Vec::new();
        for entropy in entropies {
            let event = Event::Token {
                id: 0,
                bytes: b"x",
                entropy: *entropy,
            };
            monitor.intervene(event, 0, &mut out);
        }
        (monitor.cursor().stopped(), out.len())
    };
    assert_eq!(run(&[Some(9.0), Some(9.0), Some(2.0), Some(9.0), Some(9.0)]), (None, 5));
    assert_eq!(
        run(&[Some(1.0), Some(9.0), Some(2.1), Some(2.1), Some(0.0)]),
        (Some(Stop::Uncertain(3)), 3)
    );
    assert_eq!(
        run(&[None, Some(f64::NAN), None]),
        (Some(Stop::Uncertain(2)), 2),
        "what is not known is above"
    );
    let mut monitor = Monitor::new(cursor()).with_most_entropy(MostEntropy { nats: 2.0, steps: 0 });
    assert_eq!(
        monitor.intervene(
            Event::Token {
                id: 0,
                bytes: b"x",
                entropy: Some(1.0)
            },
            0,
            &mut Vec::new()
        ),
        Intervention::Continue
    );
}

/// The rules and the audit of tests/vectors/guard.json.
#[test]
fn the_bytes_are_those_of_the_vectors() {
    let rules = vec![
        Rule {
            reads: Reads::Exact,
            ..Rule::literal("drop", "DROP TABLE")
        },
        Rule {
            severity: Severity::Medium,
            replacement: "<…>".to_owned(),
            ..Rule::new(
                "name",
                Pattern::Literal {
                    text: "Zoë".to_owned(),
                    ignore_case: true,
                },
            )
            .with_action(Action::Redact)
        },
        Rule {
            severity: Severity::Low,
            ..Rule::regex("number", r"\d{4}").with_action(Action::Record)
        },
        Rule {
            reads: Reads::Folded,
            check: Some(Check::Luhn),
            ..Rule::regex("card", r"\d{16}").with_action(Action::Ignore)
        },
    ];
    let automaton = Automaton::new(rules).unwrap();
    let head = Head {
        rules: automaton.digest(),
        ..head()
    };
    let trail = Trail::new(&head, Some(key(1)), 0).unwrap();
    let mut monitor = Monitor::new(Cursor::new(Arc::new(automaton))).with_trail(trail, Some([5; 32]));
    let mut out = Vec::new();
    monitor.intervene(
        token(17, "call Zoë: 1234 ".as_bytes()),
        1_700_000_000_000_000_001,
        &mut out,
    );
    monitor.intervene(token(u32::MAX, b"DROP TABLE"), -2, &mut out);
    let vectors = include_str!("../../../tests/vectors/guard.json");
    let rules = hex::encode(&monitor.cursor().automaton().to_bytes());
    assert!(vectors.contains(&rules), "{rules}");
    let audit = hex::encode(monitor.trail().unwrap().bytes());
    assert!(vectors.contains(&audit), "{audit}");
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kept in 0..400_usize) {
        let begun = [fifty(None).get(..kept).unwrap_or_default(), &bytes].concat();
        for bytes in [&bytes, &begun] {
            if let Ok(audit) = Audit::read(bytes, None) {
                prop_assert_eq!(audit.end, None);
            }
        }
        let rules = cursor().automaton().to_bytes();
        let begun = [rules.get(..kept % rules.len()).unwrap_or_default(), &bytes].concat();
        prop_assert!(Automaton::from_bytes(&bytes).is_err());
        prop_assert!(Automaton::from_bytes(&begun).is_err());
    }
}
