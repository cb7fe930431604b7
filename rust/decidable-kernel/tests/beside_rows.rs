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
            .flat_map(|request| policy.hold(request, &policy.derive(request)).unwrap_or(0).to_le_bytes())
            .collect();
        for vectors in Vectors::available() {
            let plan = Plan { threads: 1, vectors: Some(vectors) };
            let mut decisions = vec![0; requests.len() * DECISION_ROW_BYTES];
            batch::decide_rows(&policy, rows, &quotes, &mut decisions, plan).unwrap();
            prop_assert!(decisions == expected.0, "{}", vectors.label());
            let mut counts = vec![0; requests.len() * COUNTS_ROW_BYTES];
            batch::count(&policy, rows, &quotes, &decisions, &mut counts, plan).unwrap();
            prop_assert!(counts == expected.1, "{}", vectors.label());
            let mut held = vec![0; requests.len() * HOLD_ROW_BYTES];
            batch::holds(&policy, rows, &quotes, &decisions, &mut held, plan).unwrap();
            prop_assert!(held == holds);
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
                let hold = policy.hold(request, &decision).unwrap_or(0).to_le_bytes();
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
    let eligible = 36_000 * DECISION_ROW_BYTES + DECISION_ROW_BYTES - 18;
    let mut changed = good.clone();
    changed[eligible..eligible + 2].copy_from_slice(&6_u16.to_le_bytes());
    assert_eq!(refused(&changed), (36_000, "eligible_models"));
    // Whatever else is in it, a row is read as far as it is needed, and no count is more than there are models.
    let mut state = 1_u64;
    for row in changed.chunks_exact_mut(DECISION_ROW_BYTES) {
        for byte in &mut row[8..DECISION_ROW_BYTES - 20] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_le_bytes()[7];
        }
        row[DECISION_ROW_BYTES - 18] = state.to_le_bytes()[6] % 6;
        row[DECISION_ROW_BYTES - 17] = 0;
    }
    for vectors in Vectors::available() {
        let plan = Plan {
            threads: 1,
            vectors: Some(vectors),
        };
        batch::count(&ours, rows, &Quotes::default(), &changed, &mut counts, plan).unwrap();
        assert!(counts.as_chunks().0.iter().all(|count| u32::from_le_bytes(*count) <= 5));
        batch::holds(&ours, rows, &Quotes::default(), &changed, &mut holds, plan).unwrap();
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
