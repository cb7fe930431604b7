//! Every way to decide gives what [`Policy::derive`] defines.

use decidable_canon::{
    Canonical as _, cast,
    units::{BPS_WHOLE, TOKENS_PER_RATE},
};

use super::Lanes;
use crate::{
    Candidate, Decision, Limits, Objective, Policy, Request, RequestFields, Vectors,
    batch::{DECISION_ROW_BYTES, REQUEST_ROW_BYTES},
};

#[path = "../../tests/machine/mod.rs"]
mod machine;

/// Says that this machine lacks the widest vectors; a failure where they are asked for.
pub(crate) fn has_no_widest() {
    let has: Vec<_> = Vectors::available().map(Vectors::label).collect();
    machine::has_what_is_asked_for(&has);
    println!("NOTICE: this machine has no AVX-512; nothing was compared.");
}

#[test]
fn widths_that_are_asked_for_are_there() {
    let has: Vec<_> = Vectors::available().map(Vectors::label).collect();
    machine::has_what_is_asked_for(&has);
    assert_eq!(
        machine::lacking("avx512, plain,,abacus", &["plain", "avx2"]),
        ["avx512", "abacus"]
    );
    assert!(machine::lacking("", &["plain"]).is_empty());
    assert!(machine::lacking("plain", &has).is_empty());
}

/// Near these numbers the ways end that are not the definition.
const DEAREST: u64 = TOKENS_PER_RATE << 15;
const DEAREST_VALUE: u64 = 1 << 35;
const TOKEN_BITS: u32 = 24;
const TOKEN_BITS_BELOW_A_CLASS: u32 = 18;

/// A stream of numbers that a seed determines: SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn to(&mut self, highest: u64) -> u64 {
        let number = self.next();
        highest.checked_add(1).map_or(number, |width| number % width)
    }
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.to(cast::u64_from_usize(choices.len()) - 1)).unwrap()]
    }
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.to(n - 1) == 0
    }
    /// A number at or next to an edge, or any up to twice it.
    fn around(&mut self, edge: u64) -> u64 {
        match self.to(7) {
            0 => edge,
            1 => edge.saturating_sub(1),
            2 => edge.saturating_add(1),
            3 => 0,
            4 => self.to(edge.saturating_mul(2)),
            _ => self.to(edge),
        }
    }
    pub(crate) fn bps(&mut self) -> u16 {
        match self.to(9) {
            0 => 0,
            1 => BPS_WHOLE,
            _ => u16::try_from(self.to(BPS_WHOLE.into())).unwrap(),
        }
    }
    fn mask(&mut self) -> u64 {
        match self.to(4) {
            0 => 0,
            1 => 1 << self.to(63),
            2 => self.next() | self.next(),
            _ => u64::MAX,
        }
    }
    fn u32(&mut self, highest: u64) -> u32 {
        u32::try_from(self.to(highest)).unwrap()
    }
}

/// What a run of policies and requests is made of.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Prices and values as they occur.
    Ordinary,
    /// Few different numbers, so that utilities are often equal.
    Equal,
    /// Numbers at the bounds of what the lanes take, and beyond.
    Edges,
}

fn candidate(random: &mut Random, kind: Kind, model_id: u32) -> Candidate {
    let (rate, latency) = match kind {
        Kind::Ordinary => (10_u64.pow(u32::try_from(random.to(9)).unwrap()), random.u32(5_000)),
        Kind::Equal => (1_000_000, random.pick(&[100, 100, 200])),
        Kind::Edges => (
            if random.one_in(200) {
                DEAREST - 1 + random.to(1)
            } else {
                random.to(DEAREST - 1)
            },
            random.u32(u32::MAX.into()),
        ),
    };
    let equal = matches!(kind, Kind::Equal);
    Candidate {
        model_id,
        provider_id: u16::try_from(random.to(63)).unwrap(),
        quality_bps: if equal {
            random.pick(&[8_000, 8_000, 9_000, 7_000])
        } else {
            random.bps()
        },
        risk_ceiling_bps: if random.one_in(2) { BPS_WHOLE } else { random.bps() },
        enabled: !random.one_in(10),
        p95_latency_ms: latency,
        capabilities: random.mask(),
        region_mask: random.mask(),
        input_cost_microunits_per_million_tokens: if equal { rate } else { random.to(rate) },
        output_cost_microunits_per_million_tokens: if equal { rate * random.to(2) } else { random.to(rate) },
    }
}

pub(crate) fn policy(random: &mut Random, kind: Kind, candidates: u32) -> Policy {
    let mut catalog: Vec<_> = (0..candidates).map(|n| candidate(random, kind, n * 3 + 1)).collect();
    catalog[0].enabled = true;
    let limits = Limits {
        hard_risk_limit_bps: if random.one_in(4) { random.bps() } else { BPS_WHOLE },
        minimum_confidence_bps: if random.one_in(4) { random.bps() } else { 0 },
        risk_penalty_multiplier_bps: if random.one_in(8) {
            50_000
        } else {
            u16::try_from(random.to(5_000)).unwrap()
        },
        latency_penalty_microunits_per_ms: match kind {
            Kind::Edges => random.pick(&[0, 1, 1_000_000, 1 << 28]),
            _ => random.to(20),
        },
        objective: if random.one_in(2) {
            Objective::Utility
        } else {
            random.pick(&[Objective::Cheapest, Objective::Quality, Objective::Fastest])
        },
        policy_epoch: random.next(),
        catalog_epoch: random.next(),
    };
    Policy::new(limits, catalog, None).unwrap()
}

pub(crate) fn request(random: &mut Random, kind: Kind, policy: &Policy) -> RequestFields {
    let candidates = policy.candidates();
    let free = random.one_in(2);
    let mut request = RequestFields {
        request_sequence: random.next(),
        requested_model_id: random.pick(candidates).model_id + random.u32(1),
        input_tokens: random.u32(100_000),
        output_tokens: random.u32(10_000),
        business_value_microunits: i64::try_from(random.to(50_000_000)).unwrap(),
        budget_limit_microunits: if free { u64::MAX } else { random.to(5_000_000) },
        risk_bps: random.bps() / if free { 8 } else { 1 },
        confidence_bps: BPS_WHOLE - random.bps() / 4,
        minimum_quality_bps: if free { 0 } else { random.bps() },
        ..RequestFields::default()
    };
    if !free {
        request.max_p95_latency_ms = random.u32(5_000);
        request.required_capabilities = random.mask() & random.mask();
        request.allowed_provider_mask = random.mask();
        request.required_region_mask = random.mask();
    }
    match kind {
        Kind::Ordinary => {}
        Kind::Equal => {
            request.input_tokens = random.u32(3);
            request.output_tokens = random.u32(3);
            request.business_value_microunits = i64::try_from(random.to(6)).unwrap() * 10_000;
        }
        Kind::Edges => {
            let bits = random.pick(&[TOKEN_BITS, TOKEN_BITS_BELOW_A_CLASS]);
            request.input_tokens = u32::try_from(random.around(1 << bits)).unwrap();
            request.output_tokens = u32::try_from(random.around(1 << bits)).unwrap();
            request.business_value_microunits = match random.to(15) {
                0 => i64::MIN,
                1 => i64::MAX,
                2 => -1,
                _ => i64::try_from(random.around(DEAREST_VALUE)).unwrap(),
            };
            request.budget_limit_microunits = match random.to(5) {
                0 => u64::MAX,
                1 => 1 << 63,
                2 => (1 << 63) - 1,
                3 => random.next(),
                _ => random.around(1 << 41),
            };
            request.max_p95_latency_ms = u32::try_from(random.around(1 << 31)).unwrap();
        }
    }
    if random.one_in(3) {
        meet(random, &mut request, policy);
    }
    request
}

/// Sets limits to what one candidate has, or to one more or less.
fn meet(random: &mut Random, request: &mut RequestFields, policy: &Policy) {
    let candidate = random.pick(policy.candidates());
    let cost = policy.cost(candidate.model_id, request.input_tokens, request.output_tokens);
    request.budget_limit_microunits = match random.to(3) {
        0 => cost.unwrap().saturating_sub(1),
        1 => u64::MAX,
        _ => cost.unwrap(),
    };
    request.minimum_quality_bps = (candidate.quality_bps + u16::from(random.one_in(8))).min(BPS_WHOLE);
    request.max_p95_latency_ms = candidate.p95_latency_ms.saturating_sub(u32::from(random.one_in(8)));
    request.risk_bps = (candidate.risk_ceiling_bps + u16::from(random.one_in(8))).min(BPS_WHOLE)
        / if random.one_in(2) { 1 } else { 2 };
}

fn derived(policy: &Policy, fields: &RequestFields) -> Decision {
    policy.derive(&Request::new(*fields).unwrap())
}

pub(crate) fn rows(requests: &[RequestFields]) -> Vec<[u8; REQUEST_ROW_BYTES]> {
    let mut bytes = Vec::new();
    for request in requests {
        request.encode(&mut bytes);
    }
    bytes.as_chunks().0.to_vec()
}

/// Holds every way to the definition; how many requests one at a time did not need it, and how many were not refused.
fn hold(policy: &Policy, requests: &[RequestFields]) -> (usize, usize) {
    let expected: Vec<_> = requests.iter().map(|fields| derived(policy, fields)).collect();
    let mut bytes = Vec::new();
    for decision in &expected {
        decision.encode(&mut bytes);
    }
    let expected_rows = bytes.as_chunks::<DECISION_ROW_BYTES>().0;
    let rows = rows(requests);
    for vectors in Vectors::available() {
        let Some(lanes) = Lanes::new(policy, vectors, true) else {
            continue;
        };
        let mut found = vec![[0xaa; DECISION_ROW_BYTES]; rows.len()];
        lanes.decide(&rows, &mut found);
        for ((request, found), expected) in requests.iter().zip(&found).zip(expected_rows) {
            assert_eq!(found, expected, "{} {request:?} {policy:?}", vectors.label());
        }
    }
    for (request, expected) in requests.iter().zip(&expected) {
        assert_eq!(policy.decide_fields(request, &[]), *expected, "{request:?} {policy:?}");
        assert_eq!(policy.decide_plainly(request, &[]), *expected, "{request:?} {policy:?}");
    }
    alone(policy, requests, &expected)
}

#[cfg(target_arch = "x86_64")]
fn alone(policy: &Policy, requests: &[RequestFields], expected: &[Decision]) -> (usize, usize) {
    let (mut own, mut looked) = (0, 0);
    for (request, expected) in requests.iter().zip(expected) {
        if let Some(table) = policy.table()
            && expected.evaluated_models > 0
        {
            let found = policy
                .decide_fields_at_once(table, request)
                .or_else(|| policy.settled(table, request));
            assert!(
                found.is_none_or(|found| found == *expected),
                "{found:?} {request:?} {policy:?}"
            );
            own += usize::from(found.is_some());
            looked += 1;
        }
    }
    (own, looked)
}

#[cfg(not(target_arch = "x86_64"))]
fn alone(_: &Policy, _: &[RequestFields], _: &[Decision]) -> (usize, usize) {
    (0, 0)
}

/// How many policies of each size are tried.
const POLICIES: u32 = 16;

fn run(kind: Kind, sizes: &[u32], requests: usize) -> (usize, usize) {
    let mut random = Random(7);
    let (mut own, mut looked) = (0, 0);
    for &size in sizes {
        for _ in 0..POLICIES {
            let policy = policy(&mut random, kind, size);
            let requests: Vec<_> = (0..requests).map(|_| request(&mut random, kind, &policy)).collect();
            let (here, all) = hold(&policy, &requests);
            own += here;
            looked += all;
        }
    }
    (own, looked)
}

#[test]
fn ordinary_requests_are_decided_by_the_definition() {
    run(Kind::Ordinary, &[1, 2, 3, 4, 7, 8, 9, 16, 22, 63, 64, 65, 300], 203);
}

#[test]
fn equal_utilities_are_decided_by_the_definition() {
    let (own, looked) = run(Kind::Equal, &[1, 2, 3, 4, 8, 22, 64, 65, 300], 201);
    // Their order is found side by side, too.
    assert_eq!(own, looked);
}

#[test]
fn numbers_at_the_bounds_are_decided_by_the_definition() {
    run(Kind::Edges, &[1, 2, 3, 4, 8, 22, 63, 64, 65], 207);
}

/// The least utility that will do, and the next, with every part that a utility has.
#[test]
fn utilities_about_zero_are_decided_by_the_definition() {
    let mut random = Random(17);
    for _ in 0..50 {
        let limits = Limits {
            risk_penalty_multiplier_bps: u16::try_from(random.to(50_000)).unwrap(),
            latency_penalty_microunits_per_ms: random.to(3),
            hard_risk_limit_bps: BPS_WHOLE,
            ..Limits::default()
        };
        // Worth all of the value to those who are sure of it, so that a microunit more is one of utility.
        let whole = Candidate {
            quality_bps: BPS_WHOLE,
            ..candidate(&mut random, Kind::Ordinary, 1)
        };
        let candidates = [0, 1, 2].map(|more| Candidate {
            model_id: more + 1,
            enabled: true,
            risk_ceiling_bps: BPS_WHOLE,
            p95_latency_ms: whole.p95_latency_ms + more,
            ..whole
        });
        let policy = Policy::new(limits, candidates.to_vec(), None).unwrap();
        let mut requests = Vec::new();
        for _ in 0..16 {
            let tokens = [random.u32(100_000), random.u32(10_000)];
            let cost = policy.cost(1, tokens[0], tokens[1]).unwrap();
            let penalty = u64::from(whole.p95_latency_ms) * limits.latency_penalty_microunits_per_ms;
            for more in 0..5 {
                requests.push(RequestFields {
                    input_tokens: tokens[0],
                    output_tokens: tokens[1],
                    business_value_microunits: i64::try_from(cost + penalty + more).unwrap() - 1,
                    ..RequestFields::default()
                });
            }
        }
        let (least, more) = (&requests[2], &requests[3]);
        assert_eq!(derived(&policy, &requests[1]).selected_model_id, None);
        assert_eq!(derived(&policy, least).expected_utility_microunits, 1);
        assert_eq!(derived(&policy, more).expected_utility_microunits, 2);
        hold(&policy, &requests);
    }
}

/// What an objective compares first stands above the cost in a key: no cost, however large, reaches it.
#[test]
fn the_largest_costs_do_not_reach_what_is_compared_before_them() {
    for objective in [Objective::Quality, Objective::Fastest] {
        for rate in [TOKENS_PER_RATE, TOKENS_PER_RATE << 8, DEAREST - 1] {
            let best = Candidate {
                model_id: 1,
                enabled: true,
                quality_bps: BPS_WHOLE,
                risk_ceiling_bps: BPS_WHOLE,
                p95_latency_ms: 1,
                input_cost_microunits_per_million_tokens: rate,
                output_cost_microunits_per_million_tokens: rate,
                ..Candidate::default()
            };
            let free = Candidate {
                model_id: 2,
                quality_bps: BPS_WHOLE - 1,
                p95_latency_ms: 2,
                input_cost_microunits_per_million_tokens: 0,
                output_cost_microunits_per_million_tokens: 0,
                ..best
            };
            let limits = Limits {
                hard_risk_limit_bps: BPS_WHOLE,
                objective,
                ..Limits::default()
            };
            let policy = Policy::new(limits, vec![best, free], None).unwrap();
            let mut requests = Vec::new();
            for bits in 8..26 {
                let edge = 1_u32 << bits;
                for tokens in [edge - 1, edge, edge + 1, edge + edge / 2, 2 * edge - 1] {
                    requests.extend([[tokens, tokens], [tokens, 0], [0, tokens]].map(
                        |[input_tokens, output_tokens]| RequestFields {
                            input_tokens,
                            output_tokens,
                            ..RequestFields::default()
                        },
                    ));
                }
            }
            assert!(
                requests
                    .iter()
                    .all(|each| derived(&policy, each).selected_model_id == Some(1))
            );
            hold(&policy, &requests);
        }
    }
}

/// A class for each candidate: as many as a key has room for, one more, and many more.
#[test]
fn many_classes_are_decided_by_the_definition() {
    let mut random = Random(8_192);
    for size in [8_191, 8_192, 8_193, 16_383, 16_384, 16_385, 20_000, 65_535] {
        let catalog: Vec<_> = (1..=size)
            .map(|n| Candidate {
                enabled: true,
                risk_ceiling_bps: BPS_WHOLE,
                p95_latency_ms: n,
                ..candidate(&mut random, Kind::Ordinary, n)
            })
            .collect();
        let limits = Limits {
            hard_risk_limit_bps: BPS_WHOLE,
            objective: Objective::Fastest,
            ..Limits::default()
        };
        let policy = Policy::new(limits, catalog, None).unwrap();
        let free = RequestFields {
            input_tokens: 1_000,
            output_tokens: 100,
            ..RequestFields::default()
        };
        let mut requests: Vec<_> = (0..7).map(|_| request(&mut random, Kind::Ordinary, &policy)).collect();
        requests.push(free);
        assert_eq!(derived(&policy, &free).selected_model_id, Some(1));
        hold(&policy, &requests);
    }
}

#[test]
fn the_largest_catalog_is_decided_by_the_definition() {
    let mut random = Random(65_535);
    let policy = policy(&mut random, Kind::Ordinary, 65_535);
    let requests: Vec<_> = (0..16).map(|_| request(&mut random, Kind::Ordinary, &policy)).collect();
    hold(&policy, &requests);
}

#[test]
fn batches_of_every_length_are_decided_by_the_definition() {
    let mut random = Random(11);
    let policy = policy(&mut random, Kind::Ordinary, 30);
    for length in 0..200 {
        let requests: Vec<_> = (0..length)
            .map(|_| request(&mut random, Kind::Ordinary, &policy))
            .collect();
        hold(&policy, &requests);
    }
}

/// Otherwise the comparisons above would compare the definition with itself.
#[cfg(target_arch = "x86_64")]
#[test]
fn most_requests_do_not_need_the_definition() {
    let mut random = Random(3);
    let (mut own, mut looked) = (0, 0);
    for _ in 0..40 {
        let policy = policy(&mut random, Kind::Ordinary, 22);
        let requests: Vec<_> = (0..400)
            .map(|_| request(&mut random, Kind::Ordinary, &policy))
            .collect();
        let (more, of) = hold(&policy, &requests);
        (own, looked) = (own + more, looked + of);
    }
    let narrower = Vectors::Bits512.level().is_none();
    if narrower {
        has_no_widest();
    }
    assert!(
        narrower || (looked > 5_000 && own * 100 >= looked * 90),
        "{own} of {looked}"
    );
}
