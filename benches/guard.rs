//! `cargo bench -p decidable-benches --bench guard`: texts to stop at, in a stream that has none of them, per byte. Beside us the table of
//! the crate aho-corasick, stepped byte by byte, and libfse, which is built on it.
//!
//! The others only look; ours also copies out what may leave. Beside libfse's entropy of logits stand our statistics of them.
//!
//! There are two streams. One is of syllables, and so are its texts. The other is what people wrote: this project's documents and
//! sources, one after the other, so that it changes as they do; its texts are stretches of it whose last letter was changed, words in one
//! list, and in the other stretches of 4 to 24 bytes.

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
    logits::LogitStats,
};

const BYTES: usize = 1 << 20;
const STREAMS: usize = 64;
const STRETCH: usize = 1 << 16;

fn main() {
    let mut random = Random::new(7);
    let stream = text(&mut random);
    for rules in [12, 1_000] {
        let words = words(&mut random, rules);
        let automaton = compared(&format!("{rules} texts"), &stream, &words);
        if rules == 12 {
            audited("12 texts, a token of 4 bytes", stream.as_bytes(), &automaton);
        } else {
            with_patterns("1000 texts and 50 patterns, tokens of 4 bytes", &stream, &words);
        }
    }
    let stream = written();
    for rules in [12, 1_000] {
        let words = stretches(&mut random, &stream, rules, |random, rest| {
            let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            (random.between(0, 1) == 0 && (4..=24).contains(&length)).then_some(length)
        });
        compared(&format!("written, {rules} words"), &stream, &words);
    }
    let varied = stretches(&mut random, &stream, 1_000, |random, _| {
        Some(random.between(4, 24) as usize)
    });
    compared("written, 1000 of 4 to 24", &stream, &varied);
    logits(&mut random);
}

/// The statistics of one step of a vocabulary, in single precision: libfse's function gives the entropy alone.
fn logits(random: &mut Random) {
    const VOCABULARY: usize = 128_256;
    let draw = || random.between(0, 1 << 20) as f32 / 65_536.0 - 8.0;
    let logits: Vec<f32> = std::iter::repeat_with(draw).take(VOCABULARY).collect();
    let ours = LogitStats::of(logits.as_slice(), 7).expect("the logits are numbers");
    let theirs = libfse::metrics::shannon_entropy_from_logits(&logits);
    assert!((ours.entropy - f64::from(theirs)).abs() < 0.01, "both know the entropy");
    measure(
        "logits of 128,256 tokens",
        Plan::default(),
        1,
        vec![
            Contestant::each("libfse", |_| {
                libfse::metrics::shannon_entropy_from_logits(black_box(&logits))
            }),
            Contestant::each("ours", |_| LogitStats::of(black_box(logits.as_slice()), 7)),
        ],
    );
}

fn compared(label: &str, text: &str, texts: &[String]) -> Arc<Automaton> {
    let stream = text.as_bytes();
    let dfa = DFA::new(texts).expect("the texts make an automaton");
    let fse = libfse::FseMap::compile(
        texts
            .iter()
            .map(|text| libfse::Rule::new(text.as_bytes(), libfse::FseOpcode::Reject(0)))
            .collect(),
    )
    .expect("the texts make a map");
    let automaton = texts.iter().map(|text| Rule::literal(text, text)).collect();
    let automaton = Arc::new(Automaton::new(automaton).expect("the texts make an automaton"));
    for (name, size) in [
        ("tokens of 4 bytes", 4),
        ("chunks of 4,096 bytes", 4_096),
        ("chunks of 65,536 bytes", 65_536),
    ] {
        chunks(&format!("{label}, {name}"), size, stream, &dfa, &fse, &automaton);
    }
    interleaved(&format!("{label}, {STREAMS} streams"), text, &fse, &automaton);
    automaton
}

/// Nobody else here knows patterns.
fn with_patterns(label: &str, text: &str, words: &[String]) {
    let pattern = |n: usize| format!(r"\b[a-z]{{{}}}-\d{{{}}}x{n}\b", n % 5 + 2, n % 4 + 3);
    let texts = words.iter().map(|word| Rule::literal(word, word));
    let rules = texts.chain((0..50).map(|n| Rule::regex(format!("pattern {n}"), pattern(n))));
    let automaton = Automaton::new(rules.collect()).expect("the rules make an automaton");
    let mut cursor = Cursor::new(automaton.into());
    let mut out = Vec::new();
    let stretches: Vec<_> = text.as_bytes().chunks_exact(STRETCH).collect();
    measure(
        label,
        Plan::default(),
        STRETCH as u64,
        vec![Contestant::each("ours", |repetition| {
            for chunk in stretches[repetition as usize % stretches.len()].chunks(4) {
                out.clear();
                black_box(cursor.push(chunk, &mut out));
            }
        })],
    );
    assert_eq!(cursor.stopped(), None);
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

/// A stretch of the text is a repetition.
fn chunks(label: &str, size: usize, text: &[u8], dfa: &DFA, fse: &libfse::FseMap, automaton: &Arc<Automaton>) {
    let start = dfa.start_state(Anchored::No).expect("it begins anywhere");
    let mut cursor = Cursor::new(Arc::clone(automaton));
    let mut theirs = fse.new_cursor().expect("a cursor");
    let mut out = Vec::new();
    let stretches: Vec<_> = text.chunks_exact(STRETCH).collect();
    let stretch = |repetition: u64| stretches[repetition as usize % stretches.len()];
    let mut state = start;
    measure(
        label,
        Plan::default(),
        STRETCH as u64,
        vec![
            Contestant::each("libfse", |repetition| {
                for chunk in stretch(repetition).chunks(size) {
                    assert!(fse.scan_with_cursor(&mut theirs, chunk).is_ok());
                }
            }),
            Contestant::each("aho-corasick", |repetition| {
                for byte in stretch(repetition) {
                    state = dfa.next_state(Anchored::No, state, *byte);
                    if dfa.is_special(state) && dfa.is_match(state) {
                        return true;
                    }
                }
                false
            }),
            Contestant::each("ours", |repetition| {
                for chunk in stretch(repetition).chunks(size) {
                    out.clear();
                    black_box(cursor.push(chunk, &mut out));
                }
            }),
        ],
    );
    assert_eq!(cursor.stopped(), None);
}

/// Each stream gets a token of its part of the text in turn: a turn is a repetition.
fn interleaved(label: &str, text: &str, fse: &libfse::FseMap, automaton: &Arc<Automaton>) {
    let mut ours: Vec<_> = (0..STREAMS).map(|_| Cursor::new(Arc::clone(automaton))).collect();
    let mut theirs: Vec<_> = (0..STREAMS).map(|_| fse.new_cursor().expect("a cursor")).collect();
    let mut out = Vec::new();
    // Tokens lie in the order in which they come, as if a model had just made them.
    let parts: Vec<_> = parts(text).map(str::as_bytes).collect();
    let places = (0..parts[0].len() / 4 * 4).step_by(4);
    let tokens: Vec<u8> = places
        .flat_map(|place| {
            parts
                .iter()
                .flat_map(move |part| part[place..place + 4].iter().copied())
        })
        .collect();
    let turns: Vec<_> = tokens.chunks_exact(STREAMS * 4).collect();
    let turn = |repetition: u64| turns[repetition as usize % turns.len()].chunks_exact(4);
    measure(
        label,
        Plan::default(),
        (STREAMS * 4) as u64,
        vec![
            Contestant::each("libfse", |repetition| {
                for (stream, token) in theirs.iter_mut().zip(turn(repetition)) {
                    assert!(fse.scan_with_cursor(stream, token).is_ok());
                }
            }),
            Contestant::each("ours", |repetition| {
                for (stream, token) in ours.iter_mut().zip(turn(repetition)) {
                    out.clear();
                    black_box(stream.push(token, &mut out));
                }
            }),
        ],
    );
    assert!(ours.iter().all(|stream| stream.stopped().is_none()));
}

/// Each stream's part of a text.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let length = text.len() / STREAMS;
    (0..STREAMS).map(move |stream| &text[stream * length..(stream + 1) * length])
}

const SYLLABLES: [&str; 24] = [
    "an", "ber", "co", "da", "en", "fi", "ga", "ho", "in", "ja", "ke", "lo", "men", "no", "or", "pa", "re", "sa", "ti",
    "un", "ver", "wa", "yo", "za",
];

/// Words of some syllables, with spaces, and none of those that are looked for.
fn text(random: &mut Random) -> String {
    let mut text = String::new();
    while text.len() < BYTES {
        for _ in 0..random.between(1, 4) {
            text += random.pick(&SYLLABLES);
        }
        text.push(' ');
    }
    text.truncate(BYTES);
    text
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

/// The project's documents and sources.
fn written() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<_> = ["docs", "examples", "python", "rust", "tests"]
        .map(|folder| root.join(folder))
        .into();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the project") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|of| of == "md" || of == "rs" || of == "py")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut text: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("a text of the project"))
        .collect();
    text.retain(|letter| letter.is_ascii());
    text.truncate(2 * BYTES);
    text
}

/// So many stretches of a text, of the length that is given for a place in it, whose last letter was changed so that the text has none,
/// nor a part of it where it begins again.
fn stretches(
    random: &mut Random,
    text: &str,
    count: usize,
    length: impl Fn(&mut Random, &str) -> Option<usize>,
) -> Vec<String> {
    let whole = &text[..text.len() / STRETCH * STRETCH];
    let again: String = [whole, whole, text]
        .into_iter()
        .chain(parts(text).flat_map(|part| [part, part]))
        .collect();
    let mut found = std::collections::BTreeSet::new();
    while found.len() < count {
        let place = random.between(0, text.len() as u64 - 100) as usize;
        let rest = &text[place..];
        if let Some(length) = length(random, rest) {
            let last = random.between(u64::from(b'a'), u64::from(b'z')) as u8;
            let changed = format!("{}{}", &rest[..length - 1], char::from(last));
            if !again.contains(&changed) {
                found.insert(changed);
            }
        }
    }
    found.into_iter().collect()
}
