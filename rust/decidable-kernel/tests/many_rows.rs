//! A batch that is large enough for requests side by side, and for several threads, decides as the definition does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod cases;

use decidable_canon::Canonical as _;
use decidable_kernel::{
    Objective, Policy, Request, RequestFields,
    batch::{self, DECISION_ROW_BYTES},
};
use proptest::prelude::*;

fn rows(fields: &[RequestFields]) -> Vec<u8> {
    let mut rows = Vec::new();
    for fields in fields {
        fields.encode(&mut rows);
    }
    rows
}

fn derived(policy: &Policy, fields: &[RequestFields]) -> Vec<u8> {
    let mut decisions = Vec::new();
    for fields in fields {
        policy.derive(&Request::new(*fields).unwrap()).encode(&mut decisions);
    }
    decisions
}

fn at_once(policy: &Policy, rows: &[u8], count: usize, threads: usize) -> Vec<u8> {
    let mut decisions = vec![0; count * DECISION_ROW_BYTES];
    batch::decide(policy, rows, &mut decisions, batch::Plan::threads(threads)).unwrap();
    decisions
}

proptest! {
    #[test]
    fn every_row_is_decided_as_the_definition_does(
        policy in cases::policy(80, &Objective::ALL),
        requests in prop::collection::vec(cases::request(), 25..100),
    ) {
        // A row has no quotes.
        let fields: Vec<_> = requests.iter().map(|request| *request.fields()).collect();
        prop_assert_eq!(at_once(&policy, &rows(&fields), fields.len(), 1), derived(&policy, &fields));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn threads_change_nothing(
        policy in cases::policy(30, &[Objective::Utility]),
        fields in prop::collection::vec(cases::fields(), 50),
        count in 12_288_usize..13_000,
    ) {
        let many: Vec<_> = fields.iter().copied().cycle().take(count).collect();
        let expected = derived(&policy, &many);
        for threads in [1, 2, 3] {
            prop_assert!(at_once(&policy, &rows(&many), count, threads) == expected);
        }
    }
}
