//! The lanes decide exactly as [`Policy::decide`] does, at every level that this machine has.

use decidable_canon::{
    cast,
    units::{BPS_WHOLE, BPS_WHOLE_SQUARED, TOKENS_PER_RATE},
};
use fearless_simd::Level;

use super::super::LANES;
use super::{HALF, LARGEST_VALUE, RATES, Rate, SURE_BITS, Sure, TOKEN_BITS, Wide};
use crate::{Candidate, Decision, Limits, Objective, Policy, RequestFields};

/// A stream of numbers that a seed determines: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn to(&mut self, highest: u64) -> u64 {
        let number = self.next();
        highest.checked_add(1).map_or(number, |width| number % width)
    }
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.to(cast::u64_from_usize(choices.len()) - 1)).unwrap()]
    }
    fn one_in(&mut self, n: u64) -> bool {
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
    fn bps(&mut self) -> u16 {
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
enum Kind {
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
        Kind::Equal => (1_000_000, 100),
        Kind::Edges => (
            if random.one_in(200) {
                RATES - 1 + random.to(1)
            } else {
                random.to(RATES - 1)
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

fn policy(random: &mut Random, kind: Kind, candidates: u32) -> Policy {
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
        ..Limits::default()
    };
    Policy::new(limits, catalog, None).unwrap()
}

fn request(random: &mut Random, kind: Kind, policy: &Policy) -> RequestFields {
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
            request.input_tokens = u32::try_from(random.around(1 << TOKEN_BITS)).unwrap();
            request.output_tokens = u32::try_from(random.around(1 << TOKEN_BITS)).unwrap();
            request.business_value_microunits = match random.to(15) {
                0 => i64::MIN,
                1 => i64::MAX,
                2 => -1,
                _ => i64::try_from(random.around(LARGEST_VALUE)).unwrap(),
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

/// Every level that this machine has.
fn levels() -> Vec<Level> {
    let best = Level::new();
    let mut levels = vec![best];
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        levels.extend(best.as_avx2().map(Level::Avx2));
        levels.extend(best.as_sse4_2().map(Level::Sse4_2));
    }
    levels.push(Level::baseline());
    levels
}

fn decided(lanes: &Wide<'_>, requests: &[RequestFields]) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for requests in requests.chunks(LANES) {
        lanes.decide(requests, |decision| decisions.push(*decision));
    }
    decisions
}

/// How many policies of each size are tried.
const POLICIES: u32 = 12;

fn run(kind: Kind, sizes: &[u32], requests: usize) {
    let mut random = Random(7);
    for &size in sizes {
        let mut taken = 0;
        while taken < POLICIES {
            let policy = policy(&mut random, kind, size);
            let requests: Vec<_> = (0..requests).map(|_| request(&mut random, kind, &policy)).collect();
            let expected: Vec<_> = requests
                .iter()
                .map(|fields| policy.decide_fields(fields, &[]))
                .collect();
            if Wide::new(&policy, Level::new()).is_none() {
                continue;
            }
            taken += 1;
            for level in levels() {
                let lanes = Wide::new(&policy, level).unwrap();
                let found = decided(&lanes, &requests);
                for ((request, expected), found) in requests.iter().zip(&expected).zip(&found) {
                    assert_eq!(found, expected, "{level:?} {request:?} {policy:?}");
                }
                assert_eq!(found.len(), expected.len());
            }
        }
    }
}

#[test]
fn ordinary_requests_are_decided_as_one_by_one() {
    run(Kind::Ordinary, &[1, 2, 3, 4, 7, 8, 9, 22, 63, 64, 65, 300], 203);
}

#[test]
fn equal_utilities_are_decided_as_one_by_one() {
    run(Kind::Equal, &[1, 2, 3, 4, 22, 64, 65, 300], 201);
}

#[test]
fn numbers_at_the_bounds_are_decided_as_one_by_one() {
    run(Kind::Edges, &[1, 2, 3, 4, 22, 63, 64, 65], 207);
}

#[test]
fn the_largest_catalog_is_decided_as_one_by_one() {
    let mut random = Random(65_535);
    let policy = policy(&mut random, Kind::Ordinary, 65_535);
    let requests: Vec<_> = (0..16).map(|_| request(&mut random, Kind::Ordinary, &policy)).collect();
    let lanes = Wide::new(&policy, Level::new()).unwrap();
    for (request, found) in requests.iter().zip(decided(&lanes, &requests)) {
        assert_eq!(found, policy.decide_fields(request, &[]));
    }
}

#[test]
fn most_selections_are_the_lanes_own() {
    let mut random = Random(3);
    let policy = policy(&mut random, Kind::Ordinary, 22);
    let lanes = Wide::new(&policy, Level::new()).unwrap();
    let requests: Vec<_> = (0..LANES * 500)
        .map(|_| request(&mut random, Kind::Ordinary, &policy))
        .collect();
    let (mut own, mut selected) = (0, 0);
    for requests in requests.chunks(LANES) {
        let mut asked = super::Asked::default();
        for (lane, request) in requests.iter().enumerate() {
            lanes.ask(&mut asked, lane, request);
        }
        let found = lanes.sweep(&asked);
        for (lane, request) in requests.iter().enumerate() {
            own += u32::from(lanes.verdicts(&found, &asked, lane, request).is_some());
            selected += u32::from(policy.decide_fields(request, &[]).selected_model_id.is_some());
        }
    }
    assert!(selected > 1_000 && own * 100 >= selected * 98, "{own} of {selected}");
}

#[test]
fn what_the_lanes_cannot_decide_they_do_not_take() {
    let candidate = Candidate {
        model_id: 1,
        ..Candidate::default()
    };
    let taken = |limits, candidate| {
        let policy = Policy::new(
            limits,
            vec![
                candidate,
                Candidate {
                    model_id: 2,
                    ..Candidate::default()
                },
            ],
            None,
        );
        Wide::new(&policy.unwrap(), Level::new()).is_some()
    };
    assert!(taken(Limits::default(), candidate));
    for objective in [Objective::Cheapest, Objective::Quality, Objective::Fastest] {
        assert!(!taken(
            Limits {
                objective,
                ..Limits::default()
            },
            candidate
        ));
    }
    let dear = Candidate {
        input_cost_microunits_per_million_tokens: RATES,
        ..candidate
    };
    assert!(!taken(Limits::default(), dear));
    assert!(taken(Limits::default(), Candidate { enabled: false, ..dear }));
    let slow = Candidate {
        p95_latency_ms: u32::MAX,
        ..candidate
    };
    let limits = Limits {
        latency_penalty_microunits_per_ms: 1 << 30,
        ..Limits::default()
    };
    assert!(!taken(limits, slow));
}

/// The number whose product with `number`, which 2 and 5 do not divide, is 1 modulo a power of ten.
fn inverse(number: u64, modulus: u64) -> u64 {
    // Euler: the units modulo 10^n are 4 × 10^(n − 1).
    let (mut exponent, mut base, mut result) = (modulus / 10 * 4 - 1, u128::from(number), 1_u128);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = result * base % u128::from(modulus);
        }
        base = base * base % u128::from(modulus);
        exponent /= 2;
    }
    u64::try_from(result).unwrap()
}

fn is_unit(number: u64) -> bool {
    !number.is_multiple_of(2) && !number.is_multiple_of(5)
}

fn assert_cost(tokens: u64, rate: u64) {
    let exact = (u128::from(tokens) * u128::from(rate)).div_ceil(TOKENS_PER_RATE.into());
    assert_eq!(
        u128::from(Rate::new(rate).unwrap().cost(tokens)),
        exact,
        "{tokens} × {rate}"
    );
}

#[test]
fn a_cost_in_fixed_point_is_the_exact_cost() {
    let mut random = Random(11);
    let most = (1 << TOKEN_BITS) - 1;
    for _ in 0..100_000 {
        assert_cost(random.to(most), random.to(RATES - 1));
        // A millionth above a whole microunit, which rounds up to the next, with as many tokens as there can be.
        let tokens = most - random.to(2_000);
        if is_unit(tokens) {
            let rate = inverse(tokens, TOKENS_PER_RATE) + random.to((1 << 16) - 1) * TOKENS_PER_RATE;
            assert_eq!(u128::from(tokens) * u128::from(rate) % 1_000_000, 1);
            assert_cost(tokens, rate);
        }
    }
    assert_cost(most, RATES - 1);
    assert!(Rate::new(RATES).is_none());
}

fn assert_value(value: u64, confidence: u16, quality: u16) {
    let sure = Sure::new(value, confidence);
    let (whole, part) = (u64::from(quality) * sure.high, u64::from(quality) * sure.low);
    let exact = u128::from(value) * u128::from(confidence) * u128::from(quality) / u128::from(BPS_WHOLE_SQUARED);
    assert_eq!(
        u128::from((whole + (part >> HALF)) >> (SURE_BITS - HALF)),
        exact,
        "{value} × {confidence} × {quality}"
    );
}

#[test]
fn a_quality_adjusted_value_in_fixed_point_is_the_exact_value() {
    let mut random = Random(13);
    for _ in 0..100_000 {
        assert_value(random.to(LARGEST_VALUE), random.bps(), random.bps());
        // A hundred-millionth below a whole microunit, which rounds down to the one before, with the largest numbers.
        let [confidence, quality] = [(); 2].map(|()| BPS_WHOLE - u16::try_from(random.to(100)).unwrap());
        let factor = u64::from(confidence) * u64::from(quality);
        if is_unit(factor) {
            let below = BPS_WHOLE_SQUARED - inverse(factor, BPS_WHOLE_SQUARED);
            let value = below + random.to((LARGEST_VALUE - below) / BPS_WHOLE_SQUARED) * BPS_WHOLE_SQUARED;
            assert_eq!(u128::from(value) * u128::from(factor) % 100_000_000, 99_999_999);
            assert_value(value, confidence, quality);
        }
    }
    assert_value(LARGEST_VALUE, BPS_WHOLE, BPS_WHOLE);
}
