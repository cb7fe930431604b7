//! What is refused, with its code, field and value. Every kind of error has a case.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use decidable_canon::{Canonical as _, Reader};
use decidable_kernel::{
    Action, Candidate, Decision, Error, ErrorKind, Limits, Names, Objective, Policy, Reason, Rejections, Request,
    RequestFields,
    batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, Plan, Quotes, REQUEST_ROW_BYTES, Rows},
};

fn candidate(model_id: u32) -> Candidate {
    Candidate {
        model_id,
        ..Candidate::default()
    }
}

fn policy_of(candidates: Vec<Candidate>) -> Result<Policy, Error> {
    Policy::new(Limits::default(), candidates, None)
}

fn named(entries: &[(u32, &str)]) -> BTreeMap<u32, String> {
    entries.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

fn names(models: &[(u32, &str)], regions: &[(u32, &str)]) -> Result<Names, Error> {
    Names::new(named(models), BTreeMap::new(), named(regions), BTreeMap::new())
}

fn request() -> Request {
    Request::new(RequestFields {
        output_tokens: 10,
        ..RequestFields::default()
    })
    .unwrap()
}

fn rows(fields: &[RequestFields]) -> Vec<u8> {
    let mut rows = Vec::new();
    for fields in fields {
        fields.encode(&mut rows);
    }
    rows
}

/// An error, its kind, the field and value that it names, and its line.
type Case = (Error, ErrorKind, Option<(&'static str, u64)>, &'static str);

fn cases() -> Vec<Case> {
    let long = "x".repeat(257);
    let many = (1..=65_536).map(|id| (id, format!("{id}"))).collect();
    let policy = policy_of(vec![candidate(1)]).unwrap();
    let refused = RequestFields {
        confidence_bps: 10_001,
        ..RequestFields::default()
    };
    let batch = |rows: &[u8], out: usize| batch::decide(&policy, rows, &mut vec![0; out], Plan::default()).unwrap_err();
    let two = rows(&[RequestFields::default(); 2]);
    let mut decisions = vec![0; 2 * DECISION_ROW_BYTES];
    batch::decide(&policy, &two, &mut decisions, Plan::default()).unwrap();
    decisions[2 * DECISION_ROW_BYTES - 16] = 5;
    let (two, no_quotes, mut counts) = (
        Rows::new(&two, 1).unwrap(),
        Quotes::default(),
        [0; 2 * COUNTS_ROW_BYTES],
    );
    let other = batch::count(&policy, two, &no_quotes, &decisions, &mut counts, Plan::default()).unwrap_err();
    vec![
        (
            policy_of(vec![Candidate {
                quality_bps: 10_001,
                ..candidate(7)
            }])
            .unwrap_err(),
            ErrorKind::OutOfRange,
            Some(("quality_bps", 10_001)),
            "candidate 7: quality_bps must be at most 10000, not 10001",
        ),
        (
            Policy::new(
                Limits {
                    risk_penalty_multiplier_bps: 50_001,
                    ..Limits::default()
                },
                vec![candidate(1)],
                None,
            )
            .unwrap_err(),
            ErrorKind::OutOfRange,
            Some(("risk_penalty_multiplier_bps", 50_001)),
            "risk_penalty_multiplier_bps must be at most 50000, not 50001",
        ),
        (
            Request::new(refused).unwrap_err(),
            ErrorKind::OutOfRange,
            Some(("confidence_bps", 10_001)),
            "confidence_bps must be at most 10000, not 10001",
        ),
        (
            policy_of(Vec::new()).unwrap_err(),
            ErrorKind::EmptyCatalog,
            Some(("candidates", 0)),
            "a policy needs at least one candidate",
        ),
        (
            policy_of((1..=65_536).map(candidate).collect()).unwrap_err(),
            ErrorKind::TooManyCandidates,
            Some(("candidates", 65_536)),
            "a policy has at most 65535 candidates, not 65536",
        ),
        (
            policy_of(vec![candidate(0)]).unwrap_err(),
            ErrorKind::ReservedModelId,
            Some(("model_id", 0)),
            "model_id 0 means that nothing was selected and cannot be the id of a candidate",
        ),
        (
            policy_of(vec![candidate(2), candidate(1), candidate(2)]).unwrap_err(),
            ErrorKind::DuplicateModelId,
            Some(("model_id", 2)),
            "two candidates have the model_id 2",
        ),
        (
            policy_of(vec![Candidate {
                enabled: false,
                ..candidate(1)
            }])
            .unwrap_err(),
            ErrorKind::NoEnabledCandidate,
            Some(("enabled", 0)),
            "the only candidate is not enabled",
        ),
        (
            names(&[(1, "")], &[]).unwrap_err(),
            ErrorKind::NameLength,
            Some(("model", 1)),
            "the name of model 1 must have 1 to 256 bytes, not 0",
        ),
        (
            names(&[], &[(5, &long)]).unwrap_err(),
            ErrorKind::NameLength,
            Some(("region", 5)),
            "the name of region 5 must have 1 to 256 bytes, not 257",
        ),
        (
            names(&[(1, "a"), (2, "a")], &[]).unwrap_err(),
            ErrorKind::DuplicateName,
            Some(("model", 2)),
            "model 1 and model 2 have the same name \"a\"",
        ),
        (
            Names::new(many, BTreeMap::new(), BTreeMap::new(), BTreeMap::new()).unwrap_err(),
            ErrorKind::TooManyNames,
            Some(("model", 65_536)),
            "there are at most 65535 names of one group, not 65536 names of a model",
        ),
        (
            names(&[], &[(64, "moon")]).unwrap_err(),
            ErrorKind::OutOfRange,
            Some(("region", 64)),
            "region must be at most 63, not 64",
        ),
        (
            names(&[(0, "none")], &[]).unwrap_err(),
            ErrorKind::ReservedModelId,
            Some(("model_id", 0)),
            "model_id 0 means that nothing was selected and cannot be the id of a model with a name",
        ),
        (
            request().with_quotes(vec![(2, 1), (2, 1)]).unwrap_err(),
            ErrorKind::QuotesNotAscending,
            Some(("quotes", 2)),
            "two quotes for model 2",
        ),
        (
            request().with_quotes(vec![(3, 1), (2, 1)]).unwrap_err(),
            ErrorKind::QuotesNotAscending,
            Some(("quotes", 2)),
            "quotes go in ascending order of model_id: 2 follows 3",
        ),
        (
            request()
                .with_quotes((1..=65_536).map(|id| (id, 1)).collect())
                .unwrap_err(),
            ErrorKind::OutOfRange,
            Some(("quotes", 65_536)),
            "a request has at most 65535 quotes, not 65536",
        ),
        (
            request().with_quotes(vec![(0, 1)]).unwrap_err(),
            ErrorKind::ReservedModelId,
            Some(("model_id", 0)),
            "model_id 0 means that nothing was selected and cannot be the id of a quote",
        ),
        (
            request().with_max_output_tokens(9).unwrap_err(),
            ErrorKind::MaximumBelowExpected,
            Some(("max_output_tokens", 9)),
            "max_output_tokens must be at least output_tokens, which is 10, not 9",
        ),
        (
            policy.what_would_win(&request(), 3).unwrap_err(),
            ErrorKind::UnknownModel,
            Some(("model_id", 3)),
            "no candidate has the model_id 3",
        ),
        (
            batch(&[0; 71], 65),
            ErrorKind::RowCount,
            Some(("rows", 71)),
            "rows has 71 bytes, where a multiple of 70 are needed",
        ),
        (
            batch(&rows(&[RequestFields::default(); 2]), 65),
            ErrorKind::RowCount,
            Some(("out", 65)),
            "out has 65 bytes, where 2 rows of 65 are needed",
        ),
        (
            batch(&rows(&[RequestFields::default(), refused]), 130),
            ErrorKind::OutOfRange,
            Some(("confidence_bps", 10_001)),
            "row 1: confidence_bps must be at most 10000, not 10001",
        ),
        (
            Policy::decode(&mut Reader::new(&[4])).unwrap_err(),
            ErrorKind::OutOfRange,
            Some(("objective", 4)),
            "objective must be the code of an objective (0 to 3), not 4",
        ),
        (
            other,
            ErrorKind::OtherDecision,
            Some(("policy_epoch", 5)),
            "row 1: the decision has policy_epoch 5, where 1 is needed",
        ),
        (
            // So many are asked for at once, and never taken.
            Quotes::new(iter::repeat_n((0, 1, 5), usize::MAX), 1).unwrap_err(),
            ErrorKind::NoMemory,
            None,
            "there is no memory for the quotes",
        ),
        (
            Request::decode(&mut Reader::new(&[0; 69])).unwrap_err(),
            ErrorKind::Unreadable,
            None,
            "the bytes end inside a value, at byte 62",
        ),
    ]
}

#[test]
fn every_refusal_names_its_field_and_value_in_one_line() {
    for (error, kind, named, message) in cases() {
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), kind, "{message}");
        assert_eq!(error.code(), kind.code(), "{message}");
        assert_eq!(error.field().zip(error.value()), named, "{message}");
    }
}

#[test]
fn every_kind_has_a_case_and_a_code_of_its_own() {
    let met: BTreeSet<_> = cases().iter().map(|(error, ..)| error.code()).collect();
    let all: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
    assert_eq!(met, all);
    assert_eq!(all.len(), ErrorKind::ALL.len());
    assert!(all.iter().all(|code| code.starts_with("kernel.")));
}

#[test]
fn a_refused_batch_says_which_row_and_writes_nothing() {
    let policy = policy_of(vec![candidate(1)]).unwrap();
    let mut fields = vec![RequestFields::default(); 9_000];
    fields[8_999].minimum_quality_bps = 65_535;
    fields[8_500].risk_bps = 10_001;
    let mut out = vec![7; 9_000 * DECISION_ROW_BYTES];
    let error = batch::decide(&policy, &rows(&fields), &mut out, Plan::threads(2)).unwrap_err();
    assert_eq!((error.row(), error.field()), (Some(8_500), Some("risk_bps")));
    assert!(out.iter().all(|byte| *byte == 7));
}

/// So many rows are looked at on several threads.
#[test]
fn of_many_refused_rows_the_first_is_named_on_any_number_of_threads() {
    const ROWS: usize = 100_000;
    let policy = policy_of(vec![candidate(1)]).unwrap();
    let mut fields = vec![RequestFields::default(); ROWS];
    for row in [40_000, 40_001, 77_777, ROWS - 1] {
        fields[row].confidence_bps = 10_001;
    }
    let mut out = vec![7; ROWS * DECISION_ROW_BYTES];
    for first in [40_000, 1_024, 1_023, 0] {
        fields[first].confidence_bps = 10_001;
        let bytes = rows(&fields);
        for threads in [1, 2, 3] {
            let error = batch::decide(&policy, &bytes, &mut out, Plan::threads(threads)).unwrap_err();
            assert_eq!((error.row(), error.field()), (Some(first), Some("confidence_bps")));
        }
    }
    assert!(out.iter().all(|byte| *byte == 7));
}

#[test]
fn an_empty_batch_is_a_batch() {
    let policy = policy_of(vec![candidate(1)]).unwrap();
    batch::decide(&policy, &[], &mut [], Plan::threads(4)).unwrap();
}

#[test]
fn a_row_is_the_layout_without_its_tag() {
    let bytes = rows(&[RequestFields::default()]);
    assert_eq!(bytes.len(), REQUEST_ROW_BYTES);
    assert_eq!((REQUEST_ROW_BYTES, DECISION_ROW_BYTES), (70, 65));
}

#[test]
fn a_policy_whose_candidates_are_out_of_order_is_not_read() {
    let mut bytes = Vec::new();
    policy_of(vec![candidate(1), candidate(2)]).unwrap().encode(&mut bytes);
    // objective 1, limits 30, count 4: the first candidate's model_id.
    bytes[35] = 3;
    let error = Policy::decode(&mut Reader::new(&bytes)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    bytes[35] = 2;
    let error = Policy::decode(&mut Reader::new(&bytes)).unwrap_err();
    assert_eq!((error.kind(), error.model_id()), (ErrorKind::DuplicateModelId, Some(2)));
}

#[test]
fn a_count_larger_than_the_bytes_is_refused_without_room_for_it() {
    let mut bytes = Vec::new();
    policy_of(vec![candidate(1)]).unwrap().encode(&mut bytes);
    bytes[31..35].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = Policy::decode(&mut Reader::new(&bytes)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    let mut bytes = Vec::new();
    request().encode(&mut bytes);
    bytes[74..78].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = Request::decode(&mut Reader::new(&bytes)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
}

#[test]
fn a_decision_is_read_strictly() {
    let policy = policy_of(vec![candidate(1)]).unwrap();
    let mut bytes = Vec::new();
    policy.decide(&request()).encode(&mut bytes);
    let kind = |place: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[place] = value;
        Decision::decode(&mut Reader::new(&bytes)).map_err(|error| error.kind())
    };
    assert!(kind(0, 9).is_ok());
    // An action, a reason, and an id without an index.
    assert_eq!(kind(8, 4), Err(ErrorKind::Unreadable));
    assert_eq!(kind(9, 99), Err(ErrorKind::Unreadable));
    assert_eq!(kind(11, 1), Err(ErrorKind::Unreadable));
}

#[test]
fn actions_and_reasons_have_codes_names_and_labels() {
    for action in Action::ALL {
        assert_eq!(Action::from_code(action.code()), Some(action));
        assert_eq!(snake(action.name()), action.label());
        assert_eq!(format!("{action:?}"), action.name());
    }
    for reason in Reason::ALL {
        assert_eq!(Reason::from_code(reason.code()), Some(reason));
        assert_eq!(snake(reason.name()), reason.label());
        assert_eq!(format!("{reason:?}"), reason.name());
    }
    assert_eq!(Action::from_code(0), None);
    assert_eq!(Reason::from_code(111), None);
    assert_eq!(Objective::default(), Objective::Utility);
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[test]
fn among_equal_counters_the_later_reason_of_the_contract_dominates() {
    let counted = |count: [u32; 9]| {
        let [
            capability,
            region,
            provider,
            quality,
            risk_ceiling,
            latency,
            budget,
            utility,
            disabled,
        ] = count;
        Rejections {
            disabled,
            quality,
            risk_ceiling,
            latency,
            capability,
            provider,
            region,
            budget,
            utility,
        }
        .dominant()
        .code()
    };
    let order = [105, 107, 106, 103, 110, 104, 108, 109, 102];
    for (place, code) in order.into_iter().enumerate() {
        let mut counts = [0; 9];
        counts[place] = 2;
        assert_eq!(counted(counts), code);
        // As many under every earlier one, fewer under every later one.
        counts[..place].fill(2);
        counts[place + 1..].fill(1);
        assert_eq!(counted(counts), code);
    }
    assert_eq!(counted([0; 9]), 102);
}
