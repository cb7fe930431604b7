//! `cargo bench -p decidable-benches --bench guard`: texts to stop at, in a stream that has none of them, per byte. Beside us the table of
//! the crate aho-corasick, stepped byte by byte, and libfse, which is built on it.
//!
//! The others only look; ours also copies out what may leave.

#![allow(missing_docs)]

use std::{hint::black_box, sync::Arc};

use aho_corasick::{Anchored, automaton::Automaton as _, dfa::DFA};
use decidable_benches::{
    random::Random,
    rounds::{Contestant, Plan, measure},
};
use decidable_canon::Canonical as _;
use decidable_guard::{
    Automaton, Cursor, Event, Monitor, Rule,
    audit::{Head, Trail},
};

const BYTES: usize = 1 << 20;
const STREAMS: usize = 64;

fn main() {
    let mut random = Random::new(7);
    let text = text(&mut random);
    for rules in [12, 1_000] {
        let words = words(&mut random, rules);
        let dfa = DFA::new(&words).expect("the texts make an automaton");
        let fse = libfse::FseMap::compile(
            words
                .iter()
                .map(|word| libfse::Rule::new(word.as_bytes(), libfse::FseOpcode::Reject(0)))
                .collect(),
        )
        .expect("the texts make a map");
        let automaton = words.iter().map(|word| Rule::literal(word, word)).collect();
        let automaton = Arc::new(Automaton::new(automaton).expect("the texts make an automaton"));
        for (name, size) in [("tokens of 4 bytes", 4), ("chunks of 4,096 bytes", 4_096)] {
            chunks(&format!("{rules} texts, {name}"), size, &text, &dfa, &fse, &automaton);
        }
        interleaved(&format!("{rules} texts, {STREAMS} streams"), &text, &fse, &automaton);
        if rules == 12 {
            audited("12 texts, a token of 4 bytes", &text, &automaton);
        }
    }
}

/// What a frame costs: alone, and beside the rules.
fn audited(label: &str, text: &[u8], automaton: &Arc<Automaton>) {
    let plan = Plan {
        rounds: 31,
        round_ms: 20,
    };
    let trail = || {
        let head = Head {
            id: [1; 16],
            boot_id: None,
            created_ns: 0,
            rules: automaton.digest(),
            decision: None,
            model: "small".to_owned(),
        };
        Trail::new(&head, None, 4_096).expect("a short name")
    };
    let mut alone = trail();
    let monitor = || Monitor::new(Cursor::new(Arc::clone(automaton)));
    let (mut bare, mut whole) = (monitor(), monitor().with_trail(trail(), None));
    let (mut out, mut other) = (Vec::new(), Vec::new());
    measure(
        label,
        plan,
        (text.len() / 4) as u64,
        vec![
            Contestant::each("frame", |_| {
                for token in 0..text.len() / 4 {
                    alone.token(token as u32, 7);
                    if alone.bytes().len() > 4_096 {
                        black_box(alone.bytes());
                        alone.clear();
                    }
                }
            }),
            Contestant::each("monitor", |_| {
                for bytes in text.chunks(4) {
                    out.clear();
                    black_box(bare.intervene(event(bytes), 7, &mut out));
                }
            }),
            Contestant::each("monitor and frame", |_| {
                for bytes in text.chunks(4) {
                    other.clear();
                    black_box(whole.intervene(event(bytes), 7, &mut other));
                    if let Some(trail) = whole.trail()
                        && trail.bytes().len() > 4_096
                    {
                        trail.clear();
                    }
                }
            }),
        ],
    );
}

fn event(bytes: &[u8]) -> Event<'_> {
    Event::Token {
        id: 1,
        bytes,
        entropy: None,
    }
}

fn chunks(label: &str, size: usize, text: &[u8], dfa: &DFA, fse: &libfse::FseMap, automaton: &Arc<Automaton>) {
    let plan = Plan {
        rounds: 31,
        round_ms: 20,
    };
    let start = dfa.start_state(Anchored::No).expect("it begins anywhere");
    let mut cursor = Cursor::new(Arc::clone(automaton));
    let mut theirs = fse.new_cursor().expect("a cursor");
    let mut out = Vec::new();
    measure(
        label,
        plan,
        text.len() as u64,
        vec![
            Contestant::each("libfse", |_| {
                for chunk in text.chunks(size) {
                    black_box(fse.scan_with_cursor(&mut theirs, chunk).is_ok());
                }
            }),
            Contestant::each("aho-corasick", |_| {
                let mut state = start;
                for byte in text {
                    state = dfa.next_state(Anchored::No, state, *byte);
                    if dfa.is_special(state) && dfa.is_match(state) {
                        return true;
                    }
                }
                black_box(state);
                false
            }),
            Contestant::each("ours", |_| {
                for chunk in text.chunks(size) {
                    out.clear();
                    black_box(cursor.push(chunk, &mut out));
                }
            }),
        ],
    );
}

/// Each stream gets a token in turn.
fn interleaved(label: &str, text: &[u8], fse: &libfse::FseMap, automaton: &Arc<Automaton>) {
    let plan = Plan {
        rounds: 31,
        round_ms: 20,
    };
    let mut ours: Vec<_> = (0..STREAMS).map(|_| Cursor::new(Arc::clone(automaton))).collect();
    let mut theirs: Vec<_> = (0..STREAMS).map(|_| fse.new_cursor().expect("a cursor")).collect();
    let mut out = Vec::new();
    measure(
        label,
        plan,
        text.len() as u64,
        vec![
            Contestant::each("libfse", |_| {
                for (chunk, stream) in text.chunks(4).zip((0..STREAMS).cycle()) {
                    black_box(fse.scan_with_cursor(&mut theirs[stream], chunk).is_ok());
                }
            }),
            Contestant::each("ours", |_| {
                for (chunk, stream) in text.chunks(4).zip((0..STREAMS).cycle()) {
                    out.clear();
                    black_box(ours[stream].push(chunk, &mut out));
                }
            }),
        ],
    );
}

const SYLLABLES: [&str; 24] = [
    "an", "ber", "co", "da", "en", "fi", "ga", "ho", "in", "ja", "ke", "lo", "men", "no", "or", "pa", "re", "sa", "ti",
    "un", "ver", "wa", "yo", "za",
];

/// Words of some syllables, with spaces, and none of those that are looked for.
fn text(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < BYTES {
        for _ in 0..random.between(1, 4) {
            text += random.pick(&SYLLABLES);
        }
        text.push(' ');
    }
    text.truncate(BYTES);
    text.into_bytes()
}

/// Words of the same syllables that end in a letter which the text does not have.
fn words(random: &mut Random, count: usize) -> Vec<String> {
    let mut words = std::collections::BTreeSet::new();
    while words.len() < count {
        let word: String = (0..random.between(2, 5)).map(|_| random.pick(&SYLLABLES)).collect();
        words.insert(word + "x");
    }
    words.into_iter().collect()
}
