//! An explanation says what became of every candidate, and prints as a table.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use decidable_kernel::{Candidate, Limits, Names, Objective, Policy, Request, RequestFields, visible};

fn named(entries: &[(u32, &str)]) -> BTreeMap<u32, String> {
    entries.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

fn catalog() -> Vec<Candidate> {
    let sound = Candidate {
        quality_bps: 8_000,
        p95_latency_ms: 400,
        capabilities: 0b11,
        region_mask: 0b01,
        input_cost_microunits_per_million_tokens: 1_000_000,
        output_cost_microunits_per_million_tokens: 2_000_000,
        ..Candidate::default()
    };
    vec![
        Candidate { model_id: 1, ..sound },
        Candidate {
            model_id: 2,
            quality_bps: 9_000,
            ..sound
        },
        Candidate {
            model_id: 3,
            quality_bps: 7_999,
            ..sound
        },
        Candidate {
            model_id: 4,
            enabled: false,
            ..sound
        },
        Candidate {
            model_id: 5,
            quality_bps: 1_000,
            ..sound
        },
        Candidate {
            model_id: 6,
            p95_latency_ms: 501,
            ..sound
        },
        Candidate {
            model_id: 7,
            capabilities: 0b01,
            ..sound
        },
        Candidate {
            model_id: 8,
            provider_id: 2,
            ..sound
        },
        Candidate {
            model_id: 9,
            region_mask: 0b10,
            ..sound
        },
        Candidate {
            model_id: 10,
            risk_ceiling_bps: 99,
            ..sound
        },
        Candidate {
            model_id: 11,
            input_cost_microunits_per_million_tokens: 90_000_000,
            ..sound
        },
        Candidate {
            model_id: 12,
            output_cost_microunits_per_million_tokens: 5_000_000,
            p95_latency_ms: 500,
            ..sound
        },
    ]
}

fn request() -> Request {
    Request::new(RequestFields {
        request_sequence: 7,
        requested_model_id: 1,
        input_tokens: 1_000,
        output_tokens: 1_000,
        business_value_microunits: 10_000,
        budget_limit_microunits: 6_000,
        risk_bps: 100,
        minimum_quality_bps: 5_000,
        max_p95_latency_ms: 500,
        required_capabilities: 0b10,
        allowed_provider_mask: 0b1,
        required_region_mask: 0b01,
        ..RequestFields::default()
    })
    .unwrap()
}

fn limits() -> Limits {
    Limits {
        hard_risk_limit_bps: 9_000,
        risk_penalty_multiplier_bps: 10_000,
        latency_penalty_microunits_per_ms: 5,
        ..Limits::default()
    }
}

#[test]
fn a_table_names_every_candidate_and_what_was_compared() {
    let names = Names::new(
        named(&[(1, "small"), (2, "large\u{1b}[31m\u{202e}"), (7, "blind")]),
        named(&[(2, "acme")]),
        named(&[(0, "eu"), (1, "us")]),
        named(&[(1, "vision")]),
    )
    .unwrap();
    let policy = Policy::new(limits(), catalog(), Some(names)).unwrap();
    let explanation = policy.explain(&request());
    assert_eq!(
        explanation.to_string(),
        "\
request 7, objective utility: substitute, alternative_maximizes_utility: 2 large\\x1b[31m\\u202e, cost 3000, utility 3900
candidate              verdict                        cost  quality  risk  latency  utility
1 small                second                         3000     8000   100     2000     2900
2 large\\x1b[31m\\u202e  selected                       3000     9000   100     2000     3900
3                      eligible                       3000     7999   100     2000     2899
4                      disabled
5                      quality: 1000 < 5000 bps
6                      latency: 501 > 500 ms
7 blind                capability: lacks vision
8                      provider: acme is not allowed
9                      region: in us, not in eu
10                     risk ceiling: 100 > 99 bps
11                     over budget: 92000 > 6000
12                     utility not positive           6000     8000   100     2500     -600"
    );
}

#[test]
fn without_names_numbers_and_bits_stand_for_themselves() {
    let policy = Policy::new(limits(), catalog(), None).unwrap();
    let text = policy.explain(&request()).to_string();
    assert!(text.contains("\n7          capability: lacks bit 1\n"), "{text}");
    assert!(text.contains("\n8          provider: 2 is not allowed\n"), "{text}");
    assert!(text.contains("\n9          region: in bit 1, not in bit 0\n"), "{text}");
}

#[test]
fn a_request_refused_before_the_catalog_has_one_line() {
    let policy = Policy::new(limits(), catalog(), None).unwrap();
    let request = Request::new(RequestFields {
        risk_bps: 9_000,
        ..*request().fields()
    })
    .unwrap();
    let explanation = policy.explain(&request);
    assert!(explanation.verdicts.is_empty());
    assert_eq!(
        explanation.to_string(),
        "request 7, objective utility: reject, risk_hard_limit"
    );
}

/// The head line and the columns of each objective, with the selected candidate's row.
#[test]
fn a_table_shows_what_its_objective_compares() {
    for (objective, first, columns, selected) in [
        (
            Objective::Cheapest,
            ": 2, cost 3000",
            "cost  quality bps  latency ms",
            "3000         9000         400",
        ),
        (
            Objective::Quality,
            ": 2, quality 9000 bps, cost 3000",
            "quality bps  cost  latency ms",
            "9000  3000         400",
        ),
        (
            Objective::Fastest,
            ": 2, latency 400 ms, cost 3000",
            "latency ms  cost  quality bps",
            "400  3000         9000",
        ),
    ] {
        let limits = Limits { objective, ..limits() };
        let text = Policy::new(limits, catalog(), None)
            .unwrap()
            .explain(&request())
            .to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with(&format!("request 7, objective {}: ", objective.label())),
            "{text}"
        );
        assert!(lines[0].ends_with(first), "{text}");
        assert!(lines[1].ends_with(columns), "{text}");
        assert!(lines[3].ends_with(selected), "{text}");
        assert!(!text.contains("utility "), "{text}");
    }
}

#[test]
fn what_does_not_show_itself_is_shown_by_its_number() {
    assert_eq!(
        visible("é e\u{301} 模型 \"a\" 'b' \\ नि"),
        "é e\u{301} 模型 \"a\" 'b' \\ नि"
    );
    assert_eq!(visible("\u{a0}\u{3000}"), "\u{a0}\u{3000}");
    assert_eq!(visible("\0\n\t\u{7f}\u{85}\u{ad}"), r"\x00\x0a\x09\x7f\x85\xad");
    assert_eq!(
        visible("\u{200b}\u{2028}\u{202e}\u{2066}\u{feff}\u{e000}"),
        r"\u200b\u2028\u202e\u2066\ufeff\ue000"
    );
    assert_eq!(visible("\u{e0001}\u{10ffff}"), r"\U000e0001\U0010ffff");
}
