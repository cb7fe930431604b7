//! Policies and requests that hold implementations to each other: random ones, realistic ones, and ones that aim at the
//! places where fast arithmetic could differ from exact arithmetic.

use decidable_kernel::{Candidate, Limits, Objective, Policy, RequestFields};

use crate::{random::Random, workload};

/// What a rate is for.
const TOKENS_PER_RATE: u64 = 1_000_000;
/// Two proportions, multiplied, of the whole.
const BPS_WHOLE_SQUARED: u64 = 100_000_000;
const BPS_WHOLE: u16 = 10_000;

/// What a policy and its requests are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Numbers of every ordinary magnitude.
    Ordinary,
    /// The shape of [`workload::synthetic`].
    Synthetic,
    /// The shape of [`workload::realistic`].
    Realistic,
    /// Few values for everything, so that many candidates tie.
    Tied,
    /// Next to no prices.
    Free,
    /// Products a little above and below whole numbers, where a cost or a value is rounded wrongly first.
    Rounded,
    /// One number or two at an edge of some number of bits, the others ordinary.
    Bounds,
    /// Every field at any magnitude: costs saturate, utilities are clamped.
    Extreme,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 8] = [
        Self::Ordinary,
        Self::Synthetic,
        Self::Realistic,
        Self::Tied,
        Self::Free,
        Self::Rounded,
        Self::Bounds,
        Self::Extreme,
    ];

    /// A policy with so many candidates, of which at least one is enabled.
    #[must_use]
    pub fn policy(self, random: &mut Random, objective: Objective, candidates: u32) -> Policy {
        let limits = Limits {
            objective,
            ..self.limits(random)
        };
        let mut catalog = match self {
            Self::Synthetic => workload::synthetic_catalog(candidates),
            Self::Realistic => workload::realistic_catalog(random, candidates),
            _ => self.catalog(random, &limits, candidates),
        };
        let enabled = random.below(catalog.len() as u64) as usize;
        catalog[enabled].enabled = true;
        Policy::new(limits, catalog, None).expect("a random policy is valid")
    }

    fn limits(self, random: &mut Random) -> Limits {
        if matches!(self, Self::Synthetic | Self::Realistic) {
            return workload::limits(random.below(5));
        }
        Limits {
            policy_epoch: random.next(),
            catalog_epoch: random.next(),
            hard_risk_limit_bps: if random.one_in(4) { bps(random) } else { BPS_WHOLE },
            minimum_confidence_bps: if random.one_in(4) { bps(random) } else { 0 },
            risk_penalty_multiplier_bps: match self {
                Self::Rounded => coprime(random.below(5_000)) as u16,
                _ => random.pick(&[0, 1, 3_500, 10_000, 50_000]),
            },
            latency_penalty_microunits_per_ms: match self {
                Self::Extreme => magnitude(random),
                Self::Bounds if random.one_in(2) => random.pick(&[1, 1 << 13, 1 << 29]),
                Self::Free => 0,
                _ => random.below(5),
            },
            objective: Objective::Utility,
        }
    }

    fn catalog(self, random: &mut Random, limits: &Limits, candidates: u32) -> Vec<Candidate> {
        let spread = if candidates > 1_000 {
            1
        } else {
            random.between(1, 30) as u32
        };
        // One candidate in so many is switched off, and one in so many is like its neighbour but for its number.
        let off = random.pick(&[2, 12, 12, 1_000]);
        let twins = random.pick(&[3, 50]);
        let ranges = self.ranges(random, limits);
        let mut catalog: Vec<Candidate> = Vec::new();
        for place in 0..candidates {
            let model_id = 1 + place * spread;
            let candidate = match catalog.last() {
                Some(last) if random.one_in(twins) => Candidate { model_id, ..*last },
                _ => Candidate {
                    model_id,
                    enabled: !random.one_in(off),
                    ..self.candidate(random, ranges)
                },
            };
            catalog.push(candidate);
        }
        if let Some(last) = catalog.last_mut()
            && random.one_in(5)
        {
            last.model_id = u32::MAX;
        }
        catalog
    }

    /// The largest rate and latency of a catalog.
    fn ranges(self, random: &mut Random, limits: &Limits) -> (u64, u64) {
        // Mostly just within an edge: what is beyond it may cost the whole catalog its lanes.
        let beyond = random.pick(&[0, 0, 0, 1, 2]);
        match self {
            Self::Rounded => (10_u64.pow(random.between(3, 10) as u32), 5_000),
            Self::Bounds => (
                match random.below(4) {
                    // The largest rate that leaves so many bits behind the point of 51.
                    0 => ((TOKENS_PER_RATE << 51) >> random.between(32, 52)) - 1 + beyond,
                    1 | 2 => (TOKENS_PER_RATE << random.pick(&[15, 15, 16])) - 1 + beyond,
                    _ => 10_000_000,
                },
                match limits.latency_penalty_microunits_per_ms {
                    penalty @ 32.. if random.one_in(4) => (1_u64 << random.between(46, 60)) / penalty,
                    penalty @ 32.. => (1_u64 << 45) / penalty - 1 + beyond,
                    _ => 5_000,
                },
            ),
            _ => (10_u64.pow(random.below(10) as u32), random.pick(&[5_000, 60_000])),
        }
    }

    fn candidate(self, random: &mut Random, (highest_rate, highest_latency): (u64, u64)) -> Candidate {
        // One that is as dear as can be on both sides.
        let dear = self == Self::Bounds && random.one_in(8);
        let rate = |random: &mut Random| match self {
            _ if dear => highest_rate,
            Self::Tied => random.pick(&[0, 1, 1_000_000]),
            Self::Free => random.pick(&[0, 0, 0, 1]),
            Self::Rounded => coprime(random.between(1, highest_rate)),
            Self::Bounds if random.one_in(20) => highest_rate,
            Self::Bounds => random.between(0, highest_rate) >> random.below(40),
            Self::Extreme => magnitude(random),
            _ => random.between(0, highest_rate),
        };
        Candidate {
            provider_id: if random.one_in(8) { 63 } else { random.below(64) as u16 },
            quality_bps: match self {
                Self::Tied | Self::Free => random.pick(&[6_000, 7_000, 7_001]),
                Self::Rounded => coprime(random.between(1, 9_997)) as u16,
                _ => bps(random),
            },
            risk_ceiling_bps: if random.one_in(3) { bps(random) } else { BPS_WHOLE },
            p95_latency_ms: match self {
                Self::Tied | Self::Free => random.pick(&[0, 1]),
                Self::Bounds if random.one_in(20) => highest_latency.min(u32::MAX.into()) as u32,
                Self::Bounds => (random.between(0, highest_latency) >> random.below(32)).min(u32::MAX.into()) as u32,
                Self::Extreme => magnitude(random) as u32,
                _ => random.between(0, highest_latency) as u32,
            },
            capabilities: mask(random),
            region_mask: mask(random),
            input_cost_microunits_per_million_tokens: rate(random),
            output_cost_microunits_per_million_tokens: rate(random),
            ..Candidate::default()
        }
    }

    /// The fields of request `n`, for a policy of this family.
    #[must_use]
    pub fn fields(self, random: &mut Random, policy: &Policy, n: u64) -> RequestFields {
        let candidates = policy.candidates();
        let mut fields = match self {
            Self::Synthetic => workload::synthetic_fields(n),
            Self::Realistic => workload::realistic_fields(random, n, candidates.len() as u32),
            _ => {
                let mut fields = RequestFields {
                    request_sequence: random.next(),
                    input_tokens: random.below(100_000) as u32,
                    output_tokens: random.below(10_000) as u32,
                    business_value_microunits: random.below(100_000_000) as i64,
                    budget_limit_microunits: random.pick(&[u64::MAX, u64::MAX, 0, 1_000_000, 100_000_000]),
                    risk_bps: random.below(1_000) as u16,
                    confidence_bps: bps(random),
                    ..RequestFields::default()
                };
                if random.one_in(2) {
                    constrain(random, &mut fields);
                }
                fields
            }
        };
        let some = random.pick(candidates);
        if !matches!(self, Self::Synthetic | Self::Realistic) {
            fields.requested_model_id = random.pick(&[0, some.model_id, some.model_id.wrapping_add(1)]);
        }
        match self {
            Self::Tied | Self::Free => {
                fields.input_tokens = random.pick(&[0, 1, 1_000_000]);
                fields.output_tokens = random.pick(&[0, 1, 3]);
                fields.business_value_microunits = random.pick(&[0, 1, 2, 20_000, 10_000_000]);
                fields.confidence_bps = random.pick(&[BPS_WHOLE, 5_000, 1]);
            }
            Self::Rounded => rounded(random, &mut fields, policy, &some),
            Self::Bounds => {
                fields.business_value_microunits = random.below(1 << 35) as i64;
                for _ in 0..random.between(1, 2) {
                    edge(random, &mut fields, policy);
                }
            }
            Self::Extreme if random.one_in(2) => {
                fields.input_tokens = magnitude(random) as u32;
                fields.output_tokens = magnitude(random) as u32;
                fields.business_value_microunits = match random.below(6) {
                    0 => i64::MAX,
                    1 => i64::MIN,
                    _ => random.next() as i64 >> random.below(64),
                };
                let any = random.next();
                fields.budget_limit_microunits = random.pick(&[u64::MAX, u64::MAX - 1, any]);
            }
            _ => {}
        }
        if random.one_in(4) {
            meet(random, &mut fields, policy, &some);
        }
        fields
    }
}

/// A number of any magnitude, often at the edge of one.
fn magnitude(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next() >> random.below(64),
        1 => (1 << random.below(64)) - 1,
        2 => 1 << random.below(64),
        _ => random.below(1_000_000_000),
    }
}

fn bps(random: &mut Random) -> u16 {
    match random.below(6) {
        0 => random.pick(&[0, 1, 4_999, 5_000, 9_999, 10_000]),
        _ => random.between(0, BPS_WHOLE.into()) as u16,
    }
}

fn mask(random: &mut Random) -> u64 {
    match random.below(5) {
        0 => random.pick(&[0, 1, 1 << 63, !(1 << 63)]),
        1 => random.next(),
        2 => random.next() | random.next(),
        _ => u64::MAX,
    }
}

/// Some of the gates.
fn constrain(random: &mut Random, fields: &mut RequestFields) {
    if random.one_in(2) {
        fields.minimum_quality_bps = bps(random);
    }
    if random.one_in(2) {
        fields.risk_bps = bps(random);
    }
    if random.one_in(3) {
        fields.max_p95_latency_ms = random.below(8_000) as u32;
    }
    if random.one_in(3) {
        fields.required_capabilities = 1 << random.below(64);
    }
    if random.one_in(3) {
        fields.allowed_provider_mask = mask(random);
    }
    if random.one_in(3) {
        fields.required_region_mask = mask(random);
    }
}

/// Limits of exactly what one candidate has, or one less or more.
fn meet(random: &mut Random, fields: &mut RequestFields, policy: &Policy, candidate: &Candidate) {
    let cost = policy.cost(candidate.model_id, fields.input_tokens, fields.output_tokens);
    match random.below(5) {
        0 => fields.minimum_quality_bps = (candidate.quality_bps + random.below(2) as u16).min(BPS_WHOLE),
        1 => fields.risk_bps = (candidate.risk_ceiling_bps + random.below(2) as u16).min(BPS_WHOLE),
        2 => fields.max_p95_latency_ms = candidate.p95_latency_ms.saturating_sub(random.below(2) as u32),
        _ => fields.budget_limit_microunits = cost.unwrap_or(0).saturating_sub(random.below(2)),
    }
}

/// Puts one number at an edge.
fn edge(random: &mut Random, fields: &mut RequestFields, policy: &Policy) {
    let bits = if random.one_in(2) {
        random.between(30, 46)
    } else {
        random.between(20, 64)
    };
    let power = 1_u64.checked_shl(bits as u32).unwrap_or(u64::MAX);
    let at = |random: &mut Random, edge: u64| edge.saturating_add(random.below(3)).saturating_sub(1);
    match random.below(7) {
        side @ 0..3 => {
            let edge = random.pick(&[
                1 << 24,
                1 << 31,
                u32::MAX.into(),
                power,
                power / TOKENS_PER_RATE,
                most_tokens(policy),
                most_tokens(policy),
            ]);
            let tokens = at(random, edge).min(u32::MAX.into()) as u32;
            if side != 0 {
                fields.input_tokens = tokens;
            }
            if side != 1 {
                fields.output_tokens = tokens;
            }
        }
        3 | 4 => {
            if random.one_in(2) {
                (fields.risk_bps, fields.confidence_bps) = (BPS_WHOLE - 1, BPS_WHOLE);
            }
            let multiplier = u64::from(policy.limits().risk_penalty_multiplier_bps);
            let factor = (u64::from(fields.risk_bps) * multiplier).max(1);
            let edge = random.pick(&[
                1 << 35,
                1 << 44,
                power,
                power,
                (1 << 60) / factor,
                u64::MAX / factor,
                i64::MAX as u64,
            ]);
            fields.business_value_microunits = match random.below(8) {
                0 => random.pick(&[i64::MIN, -1, 0, 1]),
                _ => at(random, edge).min(i64::MAX as u64) as i64,
            };
        }
        5 => {
            let edge = random.pick(&[0, 1 << 41, 1 << 62, 1 << 63, u64::MAX, power]);
            fields.budget_limit_microunits = at(random, edge);
        }
        _ => {
            let edge = random.pick(&[1, 1 << 31, u32::MAX.into()]);
            fields.max_p95_latency_ms = at(random, edge).min(u32::MAX.into()) as u32;
        }
    }
}

/// For how many tokens the largest rate of a catalog, cut to 51 bits, is still as good as exact.
fn most_tokens(policy: &Policy) -> u64 {
    let rates = policy.candidates().iter().flat_map(|candidate| {
        [
            candidate.input_cost_microunits_per_million_tokens,
            candidate.output_cost_microunits_per_million_tokens,
        ]
    });
    let largest = u128::from(rates.max().unwrap_or(0));
    let fits = |bits: &u32| (largest << bits) / u128::from(TOKENS_PER_RATE) < 1 << 51;
    (0..=50)
        .rev()
        .find(fits)
        .map_or(0, |bits| (1 << bits) / TOKENS_PER_RATE)
}

/// Tokens and a value whose exact products with the numbers of one candidate lie next to a whole.
fn rounded(random: &mut Random, fields: &mut RequestFields, policy: &Policy, candidate: &Candidate) {
    let most = most_tokens(policy).min(1 << random.between(20, 32));
    let tokens = |random: &mut Random, rate: u64| {
        let rest = random.pick(&[0, 1, 1, TOKENS_PER_RATE - 1]);
        let tokens = meeting(rest, rate, TOKENS_PER_RATE);
        let more = most.saturating_sub(tokens) / TOKENS_PER_RATE;
        let some = random.between(0, more);
        let times = random.pick(&[0, some, more]);
        tokens.saturating_add(times * TOKENS_PER_RATE).min(u32::MAX.into()) as u32
    };
    fields.input_tokens = tokens(random, candidate.input_cost_microunits_per_million_tokens);
    fields.output_tokens = tokens(random, candidate.output_cost_microunits_per_million_tokens);
    fields.confidence_bps = coprime(random.between(1, 9_997)) as u16;
    fields.risk_bps = coprime(random.below(2_000)) as u16;
    let factor = if random.one_in(3) {
        u64::from(fields.risk_bps) * u64::from(policy.limits().risk_penalty_multiplier_bps)
    } else {
        u64::from(fields.confidence_bps) * u64::from(candidate.quality_bps)
    };
    let rest = random.pick(&[0, 1, BPS_WHOLE_SQUARED - 1, BPS_WHOLE_SQUARED - 1]);
    let some = random.between(0, 342);
    let times = random.pick(&[0, some, 342]);
    fields.business_value_microunits = (meeting(rest, factor, BPS_WHOLE_SQUARED) + times * BPS_WHOLE_SQUARED) as i64;
    if random.one_in(2) {
        fields.budget_limit_microunits = u64::MAX;
    }
}

/// The number below a power of ten whose product with a factor leaves `rest`; the factor has no divisor in common with it.
fn meeting(rest: u64, factor: u64, modulus: u64) -> u64 {
    let (mut old, mut new) = ((modulus as i64, 0), ((factor % modulus) as i64, 1));
    while new.0 != 0 {
        let times = old.0 / new.0;
        (old, new) = (new, (old.0 - times * new.0, old.1 - times * new.1));
    }
    let inverse = old.1.rem_euclid(modulus as i64) as u64;
    (u128::from(inverse) * u128::from(rest) % u128::from(modulus)) as u64
}

/// A number near this one that has no divisor in common with 10.
const fn coprime(number: u64) -> u64 {
    let odd = number | 1;
    if odd.is_multiple_of(5) { odd + 2 } else { odd }
}
