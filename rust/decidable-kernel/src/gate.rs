use decidable_canon::Sink;

use crate::{Candidate, Limits, Reason, RequestFields};

/// What a candidate must pass before it is priced, in this order. Exhaustive on purpose: these are gates 1 to 7 of
/// docs/spec/decisions.md; the budget and the utility come after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// It is switched on.
    Disabled,
    /// Its quality reaches the request's minimum.
    Quality,
    /// Its latency is within the request's limit.
    Latency,
    /// It has every required capability.
    Capability,
    /// Its provider is allowed.
    Provider,
    /// It is in one of the required regions.
    Region,
    /// Its risk ceiling reaches the request's risk.
    RiskCeiling,
}

impl Gate {
    /// Every gate, in the order in which a candidate meets them.
    pub const ALL: [Self; 7] = [
        Self::Disabled,
        Self::Quality,
        Self::Latency,
        Self::Capability,
        Self::Provider,
        Self::Region,
        Self::RiskCeiling,
    ];

    /// Its name in docs/spec/decisions.md and in the vectors, such as `ProviderNotAllowed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "Disabled",
            Self::Quality => "Quality",
            Self::Latency => "Latency",
            Self::Capability => "Capability",
            Self::Provider => "ProviderNotAllowed",
            Self::Region => "Region",
            Self::RiskCeiling => "RiskCeiling",
        }
    }

    /// Its number in docs/spec/decisions.md.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Disabled => 1,
            Self::Quality => 2,
            Self::Latency => 3,
            Self::Capability => 4,
            Self::Provider => 5,
            Self::Region => 6,
            Self::RiskCeiling => 7,
        }
    }
}

/// In place of a gate's number: the candidate passed.
pub const PASSED: u8 = 0;
/// The number of the budget in docs/spec/decisions.md.
pub const BUDGET: u8 = 8;
/// The number of the utility in docs/spec/decisions.md.
pub const UTILITY: u8 = 9;
/// In place of a gate's number: the request was refused before any candidate was looked at.
pub const NOT_LOOKED_AT: u8 = u8::MAX;

/// How many candidates failed each gate, each counted under the first that it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rejections {
    /// Switched off.
    pub disabled: u32,
    /// Below the minimum quality.
    pub quality: u32,
    /// Above the request's risk ceiling.
    pub risk_ceiling: u32,
    /// Slower than the limit.
    pub latency: u32,
    /// Without a required capability.
    pub capability: u32,
    /// From a provider that is not allowed.
    pub provider: u32,
    /// In none of the required regions.
    pub region: u32,
    /// Dearer than the budget.
    pub budget: u32,
    /// Without positive utility.
    pub utility: u32,
}

impl Rejections {
    /// The names of the nine counts, in the order of the fields.
    pub const NAMES: [&str; 9] = [
        "disabled",
        "quality",
        "risk_ceiling",
        "latency",
        "capability",
        "provider",
        "region",
        "budget",
        "utility",
    ];

    /// The nine counts in the order of the fields, in which batches write them.
    #[must_use]
    pub const fn counts(&self) -> [u32; 9] {
        let Self {
            disabled,
            quality,
            risk_ceiling,
            latency,
            capability,
            provider,
            region,
            budget,
            utility,
        } = *self;
        [
            disabled,
            quality,
            risk_ceiling,
            latency,
            capability,
            provider,
            region,
            budget,
            utility,
        ]
    }

    /// Writes the nine counts, a `u32` each.
    pub(crate) fn encode(&self, out: &mut impl Sink) {
        for count in self.counts() {
            out.u32(count);
        }
    }

    /// From counts of those that are switched on and failed a gate before the utility: quality, latency, capability, provider,
    /// region, risk ceiling and budget. Those that are left of all, but for the eligible, had no positive utility.
    #[inline(always)]
    pub(crate) fn of(candidates: u32, disabled: u32, counts: [u32; 7], eligible: u16) -> Self {
        let [quality, latency, capability, provider, region, risk_ceiling, budget] = counts;
        let counted = Self {
            disabled,
            quality,
            risk_ceiling,
            latency,
            capability,
            provider,
            region,
            budget,
            utility: 0,
        };
        counted.leaving(candidates, eligible)
    }

    /// The same counts, but for the utility: it has those that are left of all candidates, but for the eligible.
    #[inline(always)]
    pub(crate) fn leaving(self, candidates: u32, eligible: u16) -> Self {
        let counted = Self { utility: 0, ..self };
        let left = candidates.wrapping_sub(counted.sum());
        Self {
            // Of a decision that is none of these candidates' there may be more eligible than are left.
            utility: left.saturating_sub(eligible.into()),
            ..counted
        }
    }

    /// All of them together.
    fn sum(&self) -> u32 {
        // Each candidate is counted once, and there are at most 65,535.
        self.counts().into_iter().fold(0, u32::wrapping_add)
    }

    /// The reason of the largest counter; among equal ones the later in the order of the shared contract, which begins with the
    /// capabilities and ends with being switched off.
    #[must_use]
    pub fn dominant(&self) -> Reason {
        let mut dominant = (0, Reason::NoEnabledModel);
        for (count, reason) in by_dominance(self.counts()).into_iter().zip(DOMINANCE) {
            if count >= dominant.0 {
                dominant = (count, reason);
            }
        }
        dominant.1
    }
}

/// Among reasons of equally many candidates the later dominates.
pub(crate) const DOMINANCE: [Reason; 9] = [
    Reason::CapabilityConstraint,
    Reason::RegionConstraint,
    Reason::ProviderConstraint,
    Reason::QualityConstraint,
    Reason::RiskCeilingConstraint,
    Reason::LatencyConstraint,
    Reason::BudgetConstraint,
    Reason::NonPositiveUtility,
    Reason::NoEnabledModel,
];

/// Counts in the order of [`Rejections`]' fields, in that of [`DOMINANCE`].
#[inline(always)]
pub(crate) fn by_dominance<T>(counts: [T; 9]) -> [T; 9] {
    let [
        disabled,
        quality,
        risk_ceiling,
        latency,
        capability,
        provider,
        region,
        budget,
        utility,
    ] = counts;
    [
        capability,
        region,
        provider,
        quality,
        risk_ceiling,
        latency,
        budget,
        utility,
        disabled,
    ]
}

/// Counts of 16 bits side by side, four and three.
#[inline(always)]
pub(crate) fn unpacked(counts: [u64; 2]) -> [u32; 7] {
    let [low, high] = counts.map(|counts| [0, 16, 32, 48].map(|at| u32::try_from(counts >> at & 0xffff).unwrap_or(0)));
    let ([a, b, c, d], [e, f, g, _]) = (low, high);
    [a, b, c, d, e, f, g]
}

/// Why a request is refused before any candidate is looked at, if it is. Nothing that a caller sends overrides this.
#[inline]
pub(crate) const fn refusal(limits: &Limits, request: &RequestFields) -> Option<Reason> {
    if request.risk_bps >= limits.hard_risk_limit_bps {
        Some(Reason::RiskHardLimit)
    } else if request.confidence_bps < limits.minimum_confidence_bps {
        Some(Reason::ConfidenceHardLimit)
    } else {
        None
    }
}

/// A request's side of the gates.
#[derive(Clone, Copy)]
pub(crate) struct Gates {
    minimum_quality_bps: u16,
    longest_latency_ms: u32,
    required_capabilities: u64,
    allowed_provider_mask: u64,
    required_region_mask: u64,
    risk_bps: u16,
}

impl Gates {
    #[inline]
    pub(crate) const fn new(request: &RequestFields) -> Self {
        Self {
            minimum_quality_bps: request.minimum_quality_bps,
            longest_latency_ms: match request.max_p95_latency_ms {
                0 => u32::MAX,
                limit => limit,
            },
            required_capabilities: request.required_capabilities,
            allowed_provider_mask: request.allowed_provider_mask,
            required_region_mask: request.required_region_mask,
            risk_bps: request.risk_bps,
        }
    }

    /// Whether a candidate fails one gate: the only definition of the seven.
    #[inline(always)]
    fn refuses(&self, gate: Gate, candidate: &Candidate) -> bool {
        match gate {
            Gate::Disabled => !candidate.enabled,
            Gate::Quality => candidate.quality_bps < self.minimum_quality_bps,
            Gate::Latency => candidate.p95_latency_ms > self.longest_latency_ms,
            Gate::Capability => self.required_capabilities & !candidate.capabilities != 0,
            // A provider_id is at most 63, as the policy checked, so the shift wraps around nothing.
            Gate::Provider => self.allowed_provider_mask.wrapping_shr(candidate.provider_id.into()) & 1 == 0,
            Gate::Region => (self.required_region_mask != 0) & (self.required_region_mask & candidate.region_mask == 0),
            Gate::RiskCeiling => self.risk_bps > candidate.risk_ceiling_bps,
        }
    }

    /// The first gate that a candidate fails.
    #[inline(always)]
    pub(crate) fn first_refusal(&self, candidate: &Candidate) -> Option<Gate> {
        Gate::ALL.into_iter().find(|gate| self.refuses(*gate, candidate))
    }

    /// Counts the candidates under the first gate that each fails; those that failed the budget or the utility were
    /// counted on the way.
    #[inline(always)]
    pub(crate) fn count(&self, candidates: &[Candidate], budget: u32, utility: u32) -> Rejections {
        let mut counts = [0_u32; Gate::ALL.len()];
        for candidate in candidates {
            for (gate, count) in Gate::ALL.into_iter().zip(&mut counts) {
                if self.refuses(gate, candidate) {
                    *count = count.wrapping_add(1);
                    break;
                }
            }
        }
        let [disabled, quality, latency, capability, provider, region, risk_ceiling] = counts;
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
    }

    /// The two numbers that a gate compares: measured, then limit.
    pub(crate) fn numbers(&self, gate: Gate, candidate: &Candidate) -> (u64, u64) {
        match gate {
            Gate::Disabled => (candidate.enabled.into(), 1),
            Gate::Quality => (candidate.quality_bps.into(), self.minimum_quality_bps.into()),
            Gate::Latency => (candidate.p95_latency_ms.into(), self.longest_latency_ms.into()),
            Gate::Capability => (candidate.capabilities, self.required_capabilities),
            Gate::Provider => (candidate.provider_id.into(), self.allowed_provider_mask),
            Gate::Region => (candidate.region_mask, self.required_region_mask),
            Gate::RiskCeiling => (self.risk_bps.into(), candidate.risk_ceiling_bps.into()),
        }
    }
}
