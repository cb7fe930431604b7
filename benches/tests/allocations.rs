//! Deciding allocates nothing, and a batch only what it prepares for its catalog, however many rows it has.

#![allow(missing_docs)]

use std::sync::Arc;

use allocation_counter::measure;
use decidable_benches::{
    cases::Family,
    random::Random,
    workload::{self, Workload},
};
use decidable_canon::Canonical as _;
use decidable_guard::{
    Action, Automaton, Check, Cursor, Event, Monitor, Reads, Rule,
    audit::{Head, Trail},
};
use decidable_kernel::{
    Limits, Objective, Policy, Request, Vectors,
    batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, HOLD_ROW_BYTES, Plan, Quotes, Rows},
};

/// Policies of every objective, small enough for one candidate after the other, and large enough for many at once.
fn policies() -> impl Iterator<Item = (Policy, Vec<Request>)> {
    let objectives = || Objective::ALL.into_iter();
    [1, 5, 22, 300].into_iter().flat_map(move |candidates| {
        objectives().map(move |objective| {
            let Workload { policy, requests, .. } = workload::realistic(candidates);
            let limits = Limits {
                objective,
                ..*policy.limits()
            };
            let policy = Policy::new(limits, policy.candidates().to_vec(), None).expect("a valid policy");
            (policy, requests)
        })
    })
}

/// How many allocations a call makes, and of how many bytes.
fn allocated<T>(call: impl FnOnce() -> T) -> (u64, u64) {
    let info = measure(|| {
        std::hint::black_box(call());
    });
    (info.count_total, info.bytes_total)
}

const NOTHING: (u64, u64) = (0, 0);

fn quoted(request: &Request) -> Request {
    request
        .clone()
        .with_quotes(vec![(1, 100), (3, 2_000_000)])
        .expect("quotes in ascending order")
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocated(|| vec![0_u64; 3]), (1, 24));
}

#[test]
fn a_decision_allocates_nothing() {
    let mut selected = 0;
    for (policy, requests) in policies() {
        for request in requests.iter().take(500) {
            selected += u32::from(policy.decide(request).selected_model_id.is_some());
            for request in [request, &quoted(request)] {
                assert_eq!(allocated(|| policy.decide(request)), NOTHING, "{request:?}");
                assert_eq!(allocated(|| policy.decide_counted(request)), NOTHING, "{request:?}");
                assert_eq!(allocated(|| policy.derive(request)), NOTHING, "{request:?}");
            }
        }
    }
    assert!(selected > 2_000, "{selected}");
}

#[test]
fn numbers_at_the_edges_allocate_nothing() {
    let mut random = Random::new(1);
    for family in Family::ALL {
        for candidates in [3, 30] {
            let policy = family.policy(&mut random, Objective::Utility, candidates);
            for n in 0..500 {
                let request = Request::new(family.fields(&mut random, &policy, n)).expect("a valid request");
                assert_eq!(allocated(|| policy.decide(&request)), NOTHING, "{request:?}");
            }
        }
    }
}

#[test]
fn a_digest_allocates_nothing() {
    for (policy, requests) in policies() {
        assert_eq!(allocated(|| policy.digest()), NOTHING);
        for request in requests.iter().take(100) {
            let (quoted, decision) = (quoted(request), policy.decide(request));
            assert_eq!(allocated(|| request.digest()), NOTHING);
            assert_eq!(allocated(|| quoted.digest()), NOTHING);
            assert_eq!(allocated(|| decision.digest()), NOTHING);
        }
    }
}

/// Rows of requests, over and over.
fn rows(requests: &[Request], count: usize) -> Vec<u8> {
    let mut rows = Vec::new();
    for request in requests.iter().cycle().take(count) {
        request.fields().encode(&mut rows);
    }
    rows
}

/// Quotes for so many rows: few for every second, and for every candidate of every fifth.
fn quotes(policy: &Policy, count: usize) -> Quotes {
    let candidates = || policy.candidates().iter().map(|candidate| candidate.model_id);
    let each = (0..count as u64).flat_map(|row| {
        let few = candidates().take(usize::from(row % 2 == 0)).collect::<Vec<_>>();
        let quoted = if row % 5 == 0 { candidates().collect() } else { few };
        quoted.into_iter().map(move |model_id| (row, model_id, 100 + row))
    });
    Quotes::new(each, count).expect("quotes in ascending order")
}

/// What each part of a batch of so many rows allocates: decisions, digests, counts, gates and holds.
fn batch(policy: &Policy, requests: &[Request], count: usize, quotes: &Quotes, plan: Plan) -> [(u64, u64); 6] {
    let bytes = rows(requests, count);
    let rows = Rows::new(&bytes, 1).expect("valid rows");
    let mut out = vec![0; count * DECISION_ROW_BYTES];
    // The first call may look up what the machine has.
    batch::decide_rows(policy, rows, quotes, &mut out, plan).expect("room for the decisions");
    let decided = allocated(|| batch::decide_rows(policy, rows, quotes, &mut out, plan));
    let mut digests = vec![0; count * 32];
    let mut counts = vec![0; count * COUNTS_ROW_BYTES];
    let mut gates = vec![0; count * policy.candidates().len()];
    let mut holds = vec![0; count * HOLD_ROW_BYTES];
    [
        decided,
        allocated(|| batch::digest_requests(rows, quotes, &mut digests, plan)),
        allocated(|| batch::digest_decisions(&out, &mut digests, plan)),
        allocated(|| batch::count(policy, rows, quotes, &out, &mut counts, plan)),
        allocated(|| batch::gates(policy, rows, quotes, &mut gates, plan)),
        allocated(|| batch::holds(policy, rows, quotes, &out, &mut holds, plan)),
    ]
}

#[test]
fn a_batch_allocates_the_same_for_any_number_of_rows() {
    for (policy, requests) in policies() {
        for vectors in Vectors::available() {
            let plan = Plan {
                threads: 1,
                vectors: Some(vectors),
            };
            for with_quotes in [false, true] {
                let quotes_of = |count| {
                    if with_quotes {
                        quotes(&policy, count)
                    } else {
                        Quotes::default()
                    }
                };
                let few = batch(&policy, &requests, 40, &quotes_of(40), plan);
                let many = batch(&policy, &requests, 4_003, &quotes_of(4_003), plan);
                let of = vectors.label();
                let [decided, of_requests, of_decisions, counted, gates, held] = many;
                // A catalog is made ready for lanes once, whatever the rows.
                assert_eq!([decided, counted], [few[0], few[3]], "{of}");
                assert_eq!([of_requests, of_decisions, gates, held], [NOTHING; 4], "{of}");
            }
        }
    }
}

/// The threads' own allocations are not counted, but each of them does what a batch on one thread does.
#[test]
fn several_threads_allocate_the_same_few_times_for_any_number_of_rows() {
    let Workload { policy, requests, .. } = workload::realistic(22);
    let few = batch(&policy, &requests, 10_001, &quotes(&policy, 10_001), Plan::threads(2));
    let many = batch(&policy, &requests, 80_003, &quotes(&policy, 80_003), Plan::threads(2));
    for (count, _) in many.into_iter().chain(few) {
        // A job for the other thread, in each of two passes; none where another test's batch has it. Now and then the queue of the
        // threads takes room for the next jobs.
        assert!(count <= 3, "{count}");
    }
}

/// Once a stream has room for what it holds back, it allocates nothing more: not for text, not for what is held, noted or replaced.
#[test]
fn a_stream_allocates_nothing() {
    let rules = vec![
        Rule::literal("drop", "DROP TABLE"),
        Rule::regex("key", r"\bAKIA[A-Z0-9]{16}\b"),
        Rule::regex("ssn", r"\b\d{3}-\d{2}-\d{4}\b").with_action(Action::Redact),
        Rule::regex("word", r"[a-z]+ly\b").with_action(Action::Record),
    ];
    let texts = vec![Rule::literal("drop", "DROP TABLE"), Rule::literal("other", "truncate")];
    let read = vec![
        Rule::literal("drop", "DROP TABLE").with_reads(Reads::Folded),
        Rule::literal("other", "truncate").with_reads(Reads::Exact),
        Rule::regex("card", r"\b\d{3}-\d{2}-\d{4}\b")
            .with_action(Action::Redact)
            .with_check(Check::Luhn),
        Rule::regex("word", r"[a-z]+ly\b")
            .with_action(Action::Record)
            .with_reads(Reads::Folded),
    ];
    let piece = "Surely DR\u{200b}OP and AKIA0000 \u{430}re near 078-05-112, not 078-05-1125, truly\u{2026} trunc. \\ud83d\\ude00 \\\"".as_bytes();
    for (rules, json) in [&rules, &texts, &read]
        .into_iter()
        .flat_map(|rules| [(rules, false), (rules, true)])
    {
        let mut cursor = Cursor::new(Automaton::new(rules.clone()).expect("rules that can be used").into());
        if json {
            cursor = cursor.reading_json();
            cursor.push(b"\"", &mut Vec::new());
        }
        let mut out = Vec::with_capacity(1 << 20);
        let mut matches = 0;
        let mut stream = |turns: usize, matches: &mut usize| {
            for token in piece.chunks(3).cycle().take(turns) {
                cursor.push(token, &mut out);
                *matches += cursor.matches().count();
            }
        };
        stream(1_000, &mut matches);
        assert_eq!(allocated(|| stream(20_000, &mut matches)), NOTHING);
        assert!(matches == 0 || matches > 1_000);
        assert_eq!(cursor.stopped(), None);
    }
}

/// Nor do many streams that take turns, whatever rules each has.
#[test]
fn tokens_of_many_streams_allocate_nothing() {
    let texts = Automaton::new(vec![
        Rule::literal("drop", "DROP TABLE"),
        Rule::literal("other", "truncate"),
    ]);
    let mixed = Automaton::new(vec![
        Rule::literal("drop", "DROP TABLE"),
        Rule::regex("ssn", r"\b\d{3}-\d{2}-\d{4}\b").with_action(Action::Redact),
    ]);
    let automata = [texts, mixed].map(|automaton| Arc::new(automaton.expect("rules that can be used")));
    let mut cursors: Vec<_> = (0..20)
        .map(|stream| Cursor::new(Arc::clone(&automata[usize::from(stream % 5 == 0)])))
        .collect();
    let piece = "Surely DR\u{200b}OP and 078-05-1125, truly\u{2026} trunc. ".as_bytes();
    let mut out = Vec::with_capacity(1 << 12);
    let mut released = 0;
    let mut turns = |turns: usize| {
        for token in piece.chunks(3).cycle().take(turns) {
            out.clear();
            for cursor in &mut cursors {
                cursor.push(token, &mut out);
                cursor.matches().for_each(drop);
            }
            released += out.len();
        }
    };
    turns(1_000);
    assert_eq!(allocated(|| turns(10_000)), NOTHING);
    assert!(released > 600_000, "{released}");
    assert!(cursors.iter().all(|cursor| cursor.stopped().is_none()));
}

/// Nor does the audit of a generation, as long as its bytes are taken away; and asking how deep a stream is in its rules.
#[test]
fn a_monitored_token_allocates_nothing() {
    let rules = vec![
        Rule::literal("drop", "DROP TABLE"),
        Rule::regex("ssn", r"\b\d{3}-\d{2}-\d{4}\b").with_action(Action::Redact),
        Rule::regex("word", r"[a-z]+ly\b").with_action(Action::Record),
    ];
    let automaton = Automaton::new(rules).expect("rules that can be used");
    let head = Head {
        id: [1; 16],
        boot_id: None,
        created_ns: 0,
        rules: automaton.digest(),
        decision: None,
        model: "small".to_owned(),
    };
    let key = decidable_canon::Key::new(&[7; 32]).expect("a long key");
    let room = 4_096;
    let trail = Trail::new(&head, Some(key), room).expect("a short name");
    let mut monitor = Monitor::new(Cursor::new(automaton.into())).with_trail(trail, None);
    let mut out = Vec::with_capacity(1 << 20);
    let (mut written, mut pressed) = (0, 0);
    let mut generate = |turns: usize| {
        let piece = b"Surely DROP and AKIA0000 are near 078-05-112, not 078-05-1120, truly trunc. ";
        for (bytes, id) in piece.chunks(3).cycle().take(turns).zip(0..) {
            let entropy = Some(1.0);
            monitor.intervene(Event::Token { id, bytes, entropy }, 7, &mut out);
            pressed += monitor.cursor().pressure().filter(|each| each.matched > 1).count();
            monitor.matches().for_each(drop);
            let trail = monitor.trail().expect("it has an audit");
            if trail.bytes().len() > room {
                written += trail.bytes().len();
                trail.clear();
            }
        }
    };
    generate(1_000);
    assert_eq!(allocated(|| generate(10_000)), NOTHING);
    assert!(written > 11_000 * 53, "{written}");
    assert!(pressed > 1_000, "{pressed}");
    assert_eq!(monitor.cursor().stopped(), None);
}
