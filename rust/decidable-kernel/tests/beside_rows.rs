//! What a batch can say beside its decisions, and what can stand beside its rows: counts, gates, digests and quotes are
//! those of single calls, with every width of vectors.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod cases;

use decidable_canon::Canonical as _;
use decidable_kernel::{
    Candidate, ErrorKind, Finding, Gate, Limits, Objective, Policy, Rejections, Request, RequestFields, Vectors,
    batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, HOLD_ROW_BYTES, Plan, Quotes, Rows},
};
use proptest::prelude::*;

fn bytes(requests: &[Request]) -> Vec<u8> {
    let mut rows = Vec::new();
    for request in requests {
        request.fields().encode(&mut rows);
    }
    rows
}

fn quotes(requests: &[Request]) -> Quotes {
    let each = (0..).zip(requests).flat_map(|(row, request)| {
        let costs = request.quotes().iter();
        costs.map(move |(model_id, cost)| (row, *model_id, *cost))
    });
    Quotes::new(each, requests.len()).unwrap()
}

fn counted(counts: &Rejections) -> Vec<u8> {
    counts.counts().iter().flat_map(|count| count.to_le_bytes()).collect()
}

/// What to hold for a candidate: its cost at the largest use, as docs/spec has it.
fn hold(policy: &Policy, request: &Request, model_id: u32) -> u64 {
    let candidate = policy.candidate(model_id).unwrap();
    let side = |tokens: u32, rate: u64| (u128::from(tokens) * u128::from(rate)).div_ceil(1_000_000);
    let fields = request.fields();
    let at = |output_tokens| {
        let cost = side(fields.input_tokens, candidate.input_cost_microunits_per_million_tokens)
            + side(output_tokens, candidate.output_cost_microunits_per_million_tokens);
        cost.min(u64::MAX.into())
    };
    let (expected, largest) = (at(fields.output_tokens), at(request.max_output_tokens()));
    let quote = request.quotes().iter().find(|(quoted, _)| *quoted == model_id);
    let cost = quote.map_or(largest, |(_, quote)| u128::from(*quote) + (largest - expected));
    u64::try_from(cost).unwrap_or(u64::MAX)
}

/// What to hold for a request; nothing where nothing was selected.
fn held(policy: &Policy, request: &Request) -> u64 {
    let selected = policy.derive(request).selected_model_id;
    selected.map_or(0, |model_id| hold(policy, request, model_id))
}

fn gates(policy: &Policy, request: &Request) -> Vec<u8> {
    let found = policy.explain(request).verdicts;
    if found.is_empty() {
        return vec![255; policy.candidates().len()];
    }
    let code = |finding| match finding {
        Finding::Eligible(_) => 0,
        Finding::Refused { gate, .. } => Gate::ALL.iter().position(|other| *other == gate).unwrap() + 1,
        Finding::OverBudget { .. } => 8,
        Finding::NonPositiveUtility(_) => 9,
    };
    found
        .iter()
        .map(|verdict| u8::try_from(code(verdict.finding)).unwrap())
        .collect()
}

proptest! {
    #[test]
    fn everything_beside_a_batch_is_what_single_calls_say(
        policy in cases::policy(80, &Objective::ALL),
        requests in prop::collection::vec(cases::request(), 0..60),
    ) {
        let rows = bytes(&requests);
        let rows = Rows::new(&rows, 1).unwrap();
        let quotes = quotes(&requests);
        let mut expected = (Vec::new(), Vec::new(), Vec::new());
        for request in &requests {
            let (decision, counts) = policy.derive_counted(request);
            decision.encode(&mut expected.0);
            expected.1.extend(counted(&counts));
            expected.2.extend(gates(&policy, request));
        }
        let most: Vec<_> = requests.iter().map(Request::max_output_tokens).collect();
        let rows = rows.with_max_output_tokens(&most).unwrap();
        let holds: Vec<_> = requests
            .iter()
            .flat_map(|request| held(&policy, request).to_le_bytes())
            .collect();
        for request in &requests {
            let single = policy.hold(request, &policy.derive(request));
            prop_assert_eq!(single.unwrap_or(0), held(&policy, request));
        }
        for vectors in Vectors::available() {
            let plan = Plan { threads: 1, vectors: Some(vectors) };
            let mut decisions = vec![0; requests.len() * DECISION_ROW_BYTES];
            batch::decide_rows(&policy, rows, &quotes, &mut decisions, plan).unwrap();
            prop_assert!(decisions == expected.0, "{}", vectors.label());
            let mut counts = vec![0; requests.len() * COUNTS_ROW_BYTES];
            batch::count(&policy, rows, &quotes, &decisions, &mut counts, plan).unwrap();
            prop_assert!(counts == expected.1, "{}", vectors.label());
            let mut found = vec![7; requests.len() * HOLD_ROW_BYTES];
            batch::holds(&policy, rows, &quotes, &decisions, &mut found, plan).unwrap();
            prop_assert!(found == holds);
        }
        let mut found = vec![7; requests.len() * policy.candidates().len()];
        batch::gates(&policy, rows, &quotes, &mut found, Plan::default()).unwrap();
        prop_assert_eq!(found, expected.2);
    }

    #[test]
    fn digests_of_rows_are_those_of_single_values(
        policy in cases::policy(5, &[Objective::Utility]),
        requests in prop::collection::vec(cases::request(), 0..9),
        times in prop::sample::select(vec![1_usize, 2_000]),
    ) {
        let requests: Vec<_> = std::iter::repeat_n(requests, times).flatten().collect();
        let rows = bytes(&requests);
        let (mut of_requests, mut decisions, mut of_decisions) = (Vec::new(), Vec::new(), Vec::new());
        for request in &requests {
            let decision = policy.decide(request);
            of_requests.extend(request.shared_digest().bytes());
            of_decisions.extend(decision.digest().bytes());
            decision.encode(&mut decisions);
        }
        let mut found = vec![0; requests.len() * 32];
        let rows = Rows::new(&rows, 1).unwrap();
        batch::digest_requests(rows, &Quotes::default(), &mut found, Plan::threads(2)).unwrap();
        prop_assert!(found == of_requests);
        batch::digest_requests(rows, &quotes(&requests), &mut found, Plan::threads(2)).unwrap();
        let extended: Vec<_> = requests.iter().flat_map(|request| *request.digest().bytes()).collect();
        prop_assert!(found == extended);
        batch::digest_decisions(&decisions, &mut found, Plan::threads(2)).unwrap();
        prop_assert!(found == of_decisions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Threads take pieces of the rows, each with what stands beside them.
    #[test]
    fn everything_beside_many_rows_is_the_same_on_every_number_of_threads(
        policy in cases::policy(20, &Objective::ALL),
        requests in prop::collection::vec(cases::request(), 1..60),
    ) {
        const ROWS: usize = 3 * 4_096 + 13;
        let each: Vec<_> = requests
            .iter()
            .map(|request| {
                let (decision, counts) = policy.derive_counted(request);
                let mut decided = Vec::new();
                decision.encode(&mut decided);
                let hold = held(&policy, request).to_le_bytes();
                [decided, counted(&counts), gates(&policy, request), hold.to_vec()]
            })
            .collect();
        let expected = [0, 1, 2, 3].map(|part| -> Vec<u8> {
            each.iter().cycle().take(ROWS).flat_map(|each| each[part].iter().copied()).collect()
        });
        let requests: Vec<_> = requests.iter().cycle().take(ROWS).cloned().collect();
        let (rows, quotes) = (bytes(&requests), quotes(&requests));
        let most: Vec<_> = requests.iter().map(Request::max_output_tokens).collect();
        let rows = Rows::new(&rows, 1).unwrap().with_max_output_tokens(&most).unwrap();
        for threads in 1..=3 {
            let plan = Plan::threads(threads);
            let mut found = expected.each_ref().map(|expected| vec![7; expected.len()]);
            let [decisions, counts, lost, holds] = &mut found;
            batch::decide_rows(&policy, rows, &quotes, decisions, plan).unwrap();
            batch::count(&policy, rows, &quotes, decisions, counts, plan).unwrap();
            batch::gates(&policy, rows, &quotes, lost, plan).unwrap();
            batch::holds(&policy, rows, &quotes, decisions, holds, plan).unwrap();
            for ((found, expected), what) in found.iter().zip(&expected).zip(["decisions", "counts", "gates", "holds"]) {
                prop_assert!(found == expected, "{} on {} threads", what, threads);
            }
        }
    }
}

#[test]
fn quotes_that_cannot_be_are_refused_with_their_row() {
    let refused = |quotes: &[(u64, u32, u64)], rows| Quotes::new(quotes.iter().copied(), rows).unwrap_err();
    let error = refused(&[(0, 1, 5), (2, 1, 5)], 2);
    assert_eq!((error.kind(), error.row()), (ErrorKind::OutOfRange, None));
    assert_eq!(refused(&[(0, 1, 5)], 0).kind(), ErrorKind::OutOfRange);
    let error = refused(&[(1, 1, 5), (0, 1, 5)], 2);
    assert_eq!((error.kind(), error.row()), (ErrorKind::QuotesNotAscending, Some(0)));
    assert_eq!(
        error.to_string(),
        "row 0: quotes go in ascending order of their rows: 0 follows 1"
    );
    let error = refused(&[(0, 4, 5), (1, 3, 5), (1, 3, 6)], 2);
    assert_eq!((error.kind(), error.row()), (ErrorKind::QuotesNotAscending, Some(1)));
    assert_eq!(error.to_string(), "row 1: two quotes for model 3");
    let error = refused(&[(1, 0, 5)], 2);
    assert_eq!((error.kind(), error.row()), (ErrorKind::ReservedModelId, Some(1)));
}

#[test]
fn room_that_does_not_fit_is_refused_and_left_as_it_is() {
    let policy = Policy::new(
        decidable_kernel::Limits::default(),
        vec![decidable_kernel::Candidate {
            model_id: 1,
            ..decidable_kernel::Candidate::default()
        }],
        None,
    )
    .unwrap();
    let rows = bytes(&vec![
        Request::new(decidable_kernel::RequestFields::default()).unwrap();
        3
    ]);
    let (rows, none, plan) = (Rows::new(&rows, 1).unwrap(), Quotes::default(), Plan::default());
    let mut decisions = vec![0; 3 * DECISION_ROW_BYTES];
    batch::decide_rows(&policy, rows, &none, &mut decisions, plan).unwrap();
    for length in [0, 107, 109, 144] {
        let mut room = vec![9; length];
        let refused = [
            batch::count(&policy, rows, &none, &decisions, &mut room, plan),
            batch::gates(&policy, rows, &none, &mut room, plan),
            batch::holds(&policy, rows, &none, &decisions, &mut room, plan),
            batch::digest_requests(rows, &none, &mut room, plan),
            batch::digest_decisions(&decisions, &mut room, plan),
            batch::decide_rows(&policy, rows, &none, &mut room, plan),
        ];
        for answer in refused {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::RowCount);
        }
        assert!(room.iter().all(|byte| *byte == 9));
    }
    let mut room = vec![9; 3 * COUNTS_ROW_BYTES];
    let short = &decisions[DECISION_ROW_BYTES..];
    assert!(batch::count(&policy, rows, &none, short, &mut room, plan).is_err());
    assert!(batch::holds(&policy, rows, &none, short, &mut room[..3 * HOLD_ROW_BYTES], plan).is_err());
    assert!(batch::digest_decisions(&decisions[1..], &mut room, plan).is_err());
}

#[test]
fn decisions_of_others_are_refused_by_their_row_and_never_counted_as_these() {
    let limits = |policy_epoch, catalog_epoch| Limits {
        policy_epoch,
        catalog_epoch,
        ..Limits::default()
    };
    let policy = |limits, models| {
        let candidate = |model_id| Candidate {
            model_id,
            quality_bps: 10_000,
            ..Candidate::default()
        };
        Policy::new(limits, (1..=models).map(candidate).collect(), None).unwrap()
    };
    let ours = policy(limits(1, 2), 5);
    let request = |request_sequence| {
        Request::new(RequestFields {
            request_sequence,
            business_value_microunits: 1_000,
            ..RequestFields::default()
        })
        .unwrap()
    };
    let decisions = |policy: &Policy, requests: &[Request]| {
        let mut decisions = Vec::new();
        for request in requests {
            policy.decide(request).encode(&mut decisions);
        }
        decisions
    };
    let requests: Vec<_> = (0..40_000).map(request).collect();
    let rows = bytes(&requests);
    let rows = Rows::new(&rows, 1).unwrap();
    let good = decisions(&ours, &requests);
    let (mut counts, mut holds) = (vec![9; 40_000 * COUNTS_ROW_BYTES], vec![9; 40_000 * HOLD_ROW_BYTES]);
    let mut refused = |decisions: &[u8]| {
        for vectors in Vectors::available() {
            for threads in 1..=2 {
                let plan = Plan {
                    threads,
                    vectors: Some(vectors),
                };
                let counted = batch::count(&ours, rows, &Quotes::default(), decisions, &mut counts, plan);
                let held = batch::holds(&ours, rows, &Quotes::default(), decisions, &mut holds, plan);
                assert_eq!(counted, held);
                let error = counted.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::OtherDecision);
                assert!(counts.iter().chain(&holds).all(|byte| *byte == 9));
                if vectors == Vectors::best() && threads == 2 {
                    return (error.row().unwrap(), error.field().unwrap());
                }
            }
        }
        unreachable!("the best vectors are there");
    };
    let mut swapped = requests.clone();
    swapped.swap(39_998, 39_999);
    assert_eq!(refused(&decisions(&ours, &swapped)), (39_998, "request_sequence"));
    for (other, field) in [
        (policy(limits(3, 2), 5), "policy_epoch"),
        (policy(limits(1, 3), 5), "catalog_epoch"),
        (policy(limits(1, 2), 6), "evaluated_models"),
    ] {
        assert_eq!(refused(&decisions(&other, &requests)), (0, field));
    }
    // Each of the fields that are looked at, and only those, alone in one row.
    let set = |at: usize, to: &[u8]| {
        let mut changed = good.clone();
        let at = 36_000 * DECISION_ROW_BYTES + at;
        changed[at..at + to.len()].copy_from_slice(to);
        changed
    };
    let zeros = [0; 4];
    for (at, to, field) in [
        (DECISION_ROW_BYTES - 20, &zeros[..2], "evaluated_models"),
        (DECISION_ROW_BYTES - 20, &zeros[..4], "evaluated_models"),
        (DECISION_ROW_BYTES - 18, &[6, 0][..], "eligible_models"),
        // Nobody is eligible, and one is selected.
        (DECISION_ROW_BYTES - 18, &zeros[..2], "selected_model_index"),
        (15, &[5, 0][..], "selected_model_index"),
        (15, &[255, 255][..], "selected_model_index"),
        (15, &[1, 0][..], "selected_model_id"),
        (11, &zeros[..4], "selected_model_id"),
        (11, &[2, 0, 0, 0][..], "selected_model_id"),
        // Of no catalog.
        (11, &[99, 0, 0, 0][..], "selected_model_id"),
        (11, &[255, 255, 255, 255, 255, 255][..], "selected_model_index"),
    ] {
        assert_eq!(refused(&set(at, to)), (36_000, field), "{at}: {to:?}");
    }
    // Of a request that the policy refuses at once, none was looked at.
    let strict = Limits {
        minimum_confidence_bps: 10_000,
        ..limits(1, 2)
    };
    let strict = policy(strict, 5);
    let unsure = RequestFields {
        confidence_bps: 0,
        ..*requests[0].fields()
    };
    let unsure = vec![Request::new(unsure).unwrap(); 40];
    let rows = bytes(&unsure);
    let rows = Rows::new(&rows, 1).unwrap();
    let admitted = decisions(&ours, &unsure);
    for vectors in Vectors::available() {
        let plan = Plan {
            threads: 1,
            vectors: Some(vectors),
        };
        let mut room = vec![9; 40 * COUNTS_ROW_BYTES];
        let error = batch::count(&strict, rows, &Quotes::default(), &admitted, &mut room, plan).unwrap_err();
        assert_eq!((error.row(), error.field()), (Some(0), Some("evaluated_models")));
        let mut refusals = decisions(&strict, &unsure);
        let error = batch::count(&ours, rows, &Quotes::default(), &refusals, &mut room, plan).unwrap_err();
        assert_eq!((error.row(), error.field()), (Some(0), Some("evaluated_models")));
        assert!(room.iter().all(|byte| *byte == 9));
        refusals[39 * DECISION_ROW_BYTES + 11] = 1;
        let error = batch::count(&strict, rows, &Quotes::default(), &refusals, &mut room, plan).unwrap_err();
        assert_eq!((error.row(), error.field()), (Some(39), Some("selected_model_id")));
    }
}

/// A state of random numbers.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0.to_le_bytes()[7]
    }
}

/// Another policy's decisions may have the numbers, the epochs and the candidates of this one. What is promised of them is not that
/// they are refused, but that no way to decide counts them otherwise than another.
#[test]
fn decisions_that_cannot_be_told_from_these_are_counted_alike_by_every_way() {
    const ROWS: usize = 3 * 4_096 + 13;
    let mut random = Random(1);
    for objective in Objective::ALL {
        let limits = Limits {
            objective,
            hard_risk_limit_bps: 9_000,
            ..Limits::default()
        };
        let catalog = (1..=9_u16).map(|number| Candidate {
            model_id: u32::from(number) * 3,
            quality_bps: number * 1_000,
            enabled: number != 4,
            p95_latency_ms: u32::from(number) * 100,
            input_cost_microunits_per_million_tokens: u64::from(number) * 1_000_000,
            ..Candidate::default()
        });
        let ours = Policy::new(limits, catalog.collect(), None).unwrap();
        let requests: Vec<_> = (0..ROWS)
            .map(|row| {
                let fields = RequestFields {
                    request_sequence: u64::try_from(row).unwrap(),
                    input_tokens: u32::from(random.byte()),
                    // With so many tokens the lanes leave a row to the exact way.
                    output_tokens: if random.byte() == 0 { u32::MAX } else { 0 },
                    business_value_microunits: i64::from(random.byte()) * 8,
                    budget_limit_microunits: u64::from(random.byte()) * 8,
                    minimum_quality_bps: u16::from(random.byte()) * 16,
                    max_p95_latency_ms: u32::from(random.byte()) * 8,
                    risk_bps: if random.byte() == 0 { 9_500 } else { 0 },
                    ..RequestFields::default()
                };
                let quotes = if random.byte() < 16 { vec![(6, 3)] } else { Vec::new() };
                Request::new(fields).unwrap().with_quotes(quotes).unwrap()
            })
            .collect();
        let (rows, quotes) = (bytes(&requests), quotes(&requests));
        let rows = Rows::new(&rows, 1).unwrap();
        let (mut decisions, mut counts, mut holds) = (Vec::new(), Vec::new(), Vec::new());
        for request in &requests {
            let (mut decision, mut rejections) = ours.derive_counted(request);
            decision.action = decidable_kernel::Action::ALL[usize::from(random.byte() % 3)];
            decision.estimated_cost_microunits = random.byte().into();
            decision.counterfactual_model_id = Some(random.byte().into());
            if decision.evaluated_models > 0 {
                decision.eligible_models = u16::from(random.byte() % 10);
                let index = u16::from(random.byte() % 9);
                let selected = (decision.eligible_models > 0).then_some(index);
                decision.selected_model_index = selected;
                decision.selected_model_id = selected.map(|index| (u32::from(index) + 1) * 3);
                rejections.utility = 0;
                let left = 9 - rejections.counts().iter().sum::<u32>();
                rejections.utility = left.saturating_sub(decision.eligible_models.into());
            }
            decision.encode(&mut decisions);
            counts.extend(counted(&rejections));
            let hold = decision
                .selected_model_id
                .map(|model_id| hold(&ours, request, model_id));
            holds.extend(hold.unwrap_or(0).to_le_bytes());
        }
        for vectors in Vectors::available() {
            for threads in 1..=2 {
                let plan = Plan {
                    threads,
                    vectors: Some(vectors),
                };
                let mut found = (vec![9; counts.len()], vec![9; holds.len()]);
                batch::count(&ours, rows, &quotes, &decisions, &mut found.0, plan).unwrap();
                batch::holds(&ours, rows, &quotes, &decisions, &mut found.1, plan).unwrap();
                assert!(found.0 == counts, "{objective:?}, {}, {threads}", vectors.label());
                assert!(found.1 == holds, "{objective:?}, {}, {threads}", vectors.label());
            }
        }
    }
}

/// With any bytes in it that a row of a decision may have, it is refused unless it selects a candidate of the catalog.
#[test]
fn rows_of_any_bytes_are_refused_by_every_way_and_nothing_is_written() {
    let candidate = |model_id| Candidate {
        model_id,
        quality_bps: 10_000,
        ..Candidate::default()
    };
    let ours = Policy::new(Limits::default(), (1..=5).map(candidate).collect(), None).unwrap();
    let request = |row: i64| {
        let fields = RequestFields {
            // Of every other one nobody is eligible.
            business_value_microunits: row % 2 * 1_000,
            ..RequestFields::default()
        };
        Request::new(fields).unwrap()
    };
    let requests: Vec<_> = (0..64).map(request).collect();
    let rows = bytes(&requests);
    let rows = Rows::new(&rows, 1).unwrap();
    let mut random = Random(7);
    let mut good = Vec::new();
    for request in &requests {
        ours.decide(request).encode(&mut good);
    }
    let mut holds = vec![9; 64 * HOLD_ROW_BYTES];
    let mut counts = vec![9; 64 * COUNTS_ROW_BYTES];
    for row in 0..64 {
        let mut decisions = good.clone();
        for byte in &mut decisions[row * DECISION_ROW_BYTES + 8..][..DECISION_ROW_BYTES - 28] {
            *byte = random.byte();
        }
        for vectors in Vectors::available() {
            for threads in 1..=2 {
                let plan = Plan {
                    threads,
                    vectors: Some(vectors),
                };
                for answer in [
                    batch::count(&ours, rows, &Quotes::default(), &decisions, &mut counts, plan),
                    batch::holds(&ours, rows, &Quotes::default(), &decisions, &mut holds, plan),
                ] {
                    let error = answer.unwrap_err();
                    assert_eq!((error.kind(), error.row()), (ErrorKind::OtherDecision, Some(row)));
                }
            }
        }
    }
    assert!(counts.iter().chain(&holds).all(|byte| *byte == 9));
}

/// Those of rows that are not there would be lost without a word.
#[test]
fn quotes_of_another_number_of_rows_are_refused_everywhere_and_nothing_is_written() {
    let candidate = Candidate {
        model_id: 1,
        ..Candidate::default()
    };
    let policy = Policy::new(Limits::default(), vec![candidate], None).unwrap();
    let rows = bytes(&vec![Request::new(RequestFields::default()).unwrap(); 40]);
    let rows = Rows::new(&rows, 1).unwrap();
    let mut decisions = vec![0; 40 * DECISION_ROW_BYTES];
    batch::decide_rows(&policy, rows, &Quotes::default(), &mut decisions, Plan::default()).unwrap();
    for (quotes, has) in [
        (Quotes::new([(39, 1, 5), (60, 1, 5)], 100), 100),
        (Quotes::new([(39, 1, 5)], 41), 41),
        (Quotes::new([(38, 1, 5)], 39), 39),
        (Quotes::new([], 39), 39),
    ] {
        let quotes = quotes.unwrap();
        for vectors in Vectors::available() {
            for threads in 1..=2 {
                let plan = Plan {
                    threads,
                    vectors: Some(vectors),
                };
                let mut room =
                    [DECISION_ROW_BYTES, COUNTS_ROW_BYTES, 1, HOLD_ROW_BYTES, 32].map(|size| vec![9; 40 * size]);
                let [decided, counts, lost, holds, digests] = &mut room;
                for answer in [
                    batch::decide_rows(&policy, rows, &quotes, decided, plan),
                    batch::count(&policy, rows, &quotes, &decisions, counts, plan),
                    batch::gates(&policy, rows, &quotes, lost, plan),
                    batch::holds(&policy, rows, &quotes, &decisions, holds, plan),
                    batch::digest_requests(rows, &quotes, digests, plan),
                ] {
                    let error = answer.unwrap_err();
                    assert_eq!((error.kind(), error.row()), (ErrorKind::RowCount, None));
                    assert_eq!((error.field(), error.value()), (Some("quotes"), Some(has)));
                    assert_eq!(
                        error.to_string(),
                        format!("the quotes are those of {has} rows, where 40 are needed")
                    );
                }
                assert!(room.iter().flatten().all(|byte| *byte == 9));
            }
        }
    }
}

#[test]
fn a_largest_use_is_there_for_each_row_and_reaches_the_expected_one() {
    let request = Request::new(decidable_kernel::RequestFields {
        output_tokens: 5,
        ..decidable_kernel::RequestFields::default()
    })
    .unwrap();
    let rows = bytes(&vec![request; 3]);
    let rows = Rows::new(&rows, 1).unwrap();
    assert_eq!(
        rows.with_max_output_tokens(&[5, 6]).unwrap_err().kind(),
        ErrorKind::RowCount
    );
    let error = rows.with_max_output_tokens(&[5, 6, 4]).unwrap_err();
    assert_eq!((error.kind(), error.row()), (ErrorKind::MaximumBelowExpected, Some(2)));
    assert!(rows.with_max_output_tokens(&[5, 6, u32::MAX]).is_ok());
}

#[test]
fn a_quote_can_make_the_second_of_a_request_that_had_one_candidate() {
    let candidate = |model_id| Candidate {
        model_id,
        quality_bps: 9_000,
        input_cost_microunits_per_million_tokens: if model_id == 1 { 1_000_000 } else { 50_000_000 },
        ..Candidate::default()
    };
    for objective in Objective::ALL {
        let limits = Limits {
            objective,
            ..Limits::default()
        };
        let policy = Policy::new(limits, (1..=12).map(candidate).collect(), None).unwrap();
        let fields = RequestFields {
            input_tokens: 100,
            business_value_microunits: 1_000_000,
            budget_limit_microunits: 1_000,
            ..RequestFields::default()
        };
        // Only the first is within the budget; quoted, the fifth is too, behind it.
        let alone = policy.decide(&Request::new(fields).unwrap());
        assert_eq!(
            (alone.selected_model_id, alone.counterfactual_model_id),
            (Some(1), None)
        );
        let request = Request::new(fields).unwrap().with_quotes(vec![(5, 900)]).unwrap();
        let expected = policy.derive(&request);
        assert_eq!(
            (expected.selected_model_id, expected.counterfactual_model_id),
            (Some(1), Some(5))
        );
        assert_eq!(policy.decide(&request), expected, "{objective:?}");
        let requests = vec![request; 40];
        let rows = bytes(&requests);
        for vectors in Vectors::available() {
            let plan = Plan {
                threads: 1,
                vectors: Some(vectors),
            };
            let mut decisions = vec![0; requests.len() * DECISION_ROW_BYTES];
            batch::decide_rows(
                &policy,
                Rows::new(&rows, 1).unwrap(),
                &quotes(&requests),
                &mut decisions,
                plan,
            )
            .unwrap();
            let mut one = Vec::new();
            expected.encode(&mut one);
            assert!(
                decisions == one.repeat(requests.len()),
                "{objective:?}, {}",
                vectors.label()
            );
        }
    }
}
