use decidable_canon::{Reader, Sink, units::BPS_WHOLE};

use crate::Error;

/// The largest `risk_penalty_multiplier_bps`: five times the value at stake.
pub const HIGHEST_RISK_PENALTY_MULTIPLIER_BPS: u16 = 50_000;

/// What a policy prefers among the candidates that pass its gates. docs/spec/extensions.md, *Objective*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Objective {
    /// The highest utility, which must be positive: the shared contract.
    #[default]
    Utility,
    /// The lowest cost, then quality, latency, `model_id`.
    Cheapest,
    /// The highest quality, then cost, latency, `model_id`.
    Quality,
    /// The lowest latency, then cost, quality, `model_id`.
    Fastest,
}

impl Objective {
    /// Every objective, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Utility, Self::Cheapest, Self::Quality, Self::Fastest];

    /// The byte that stands for it in a layout.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Utility => 0,
            Self::Cheapest => 1,
            Self::Quality => 2,
            Self::Fastest => 3,
        }
    }
    /// The objective that a byte stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Utility),
            1 => Some(Self::Cheapest),
            2 => Some(Self::Quality),
            3 => Some(Self::Fastest),
            _ => None,
        }
    }
    /// The objective in lower case, such as `cheapest`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Utility => "utility",
            Self::Cheapest => "cheapest",
            Self::Quality => "quality",
            Self::Fastest => "fastest",
        }
    }
    /// The objective of this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|objective| objective.label() == label)
    }
}

/// What a policy holds against every request, whatever the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The caller's number of this policy.
    pub policy_epoch: u64,
    /// The caller's number of this catalog.
    pub catalog_epoch: u64,
    /// A request whose risk, in basis points, is at or above this is refused.
    pub hard_risk_limit_bps: u16,
    /// A request whose confidence, in basis points, is below this is refused.
    pub minimum_confidence_bps: u16,
    /// What a whole of risk costs, in basis points of the value at stake; at most 50,000.
    pub risk_penalty_multiplier_bps: u16,
    /// What a millisecond costs, in microunits.
    pub latency_penalty_microunits_per_ms: u64,
    /// What is preferred among the candidates that pass.
    pub objective: Objective,
}

impl Default for Limits {
    /// Epoch 1, no penalty, and no request refused for risk below the whole or for confidence.
    fn default() -> Self {
        Self {
            policy_epoch: 1,
            catalog_epoch: 1,
            hard_risk_limit_bps: BPS_WHOLE,
            minimum_confidence_bps: 0,
            risk_penalty_multiplier_bps: 0,
            latency_penalty_microunits_per_ms: 0,
            objective: Objective::Utility,
        }
    }
}

impl Limits {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        for (field, value, largest) in [
            ("hard_risk_limit_bps", self.hard_risk_limit_bps, BPS_WHOLE),
            ("minimum_confidence_bps", self.minimum_confidence_bps, BPS_WHOLE),
            (
                "risk_penalty_multiplier_bps",
                self.risk_penalty_multiplier_bps,
                HIGHEST_RISK_PENALTY_MULTIPLIER_BPS,
            ),
        ] {
            if value > largest {
                return Err(Error::out_of_range(field, value.into(), largest.into()));
            }
        }
        Ok(())
    }

    /// Writes the limits as the shared policy layout has them; the objective is not part of it.
    pub(crate) fn encode_shared<S: Sink>(&self, out: &mut S) {
        let Self {
            policy_epoch,
            catalog_epoch,
            hard_risk_limit_bps,
            minimum_confidence_bps,
            risk_penalty_multiplier_bps,
            latency_penalty_microunits_per_ms,
            objective: _,
        } = self;
        out.u64(*policy_epoch);
        out.u64(*catalog_epoch);
        out.u16(*hard_risk_limit_bps);
        out.u16(*minimum_confidence_bps);
        out.u16(*risk_penalty_multiplier_bps);
        out.u64(*latency_penalty_microunits_per_ms);
    }

    /// Reads the objective and then the limits.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let code = reader.u8()?;
        let objective = Objective::from_code(code).ok_or_else(|| Error::unknown_objective(code))?;
        Ok(Self {
            objective,
            policy_epoch: reader.u64()?,
            catalog_epoch: reader.u64()?,
            hard_risk_limit_bps: reader.u16()?,
            minimum_confidence_bps: reader.u16()?,
            risk_penalty_multiplier_bps: reader.u16()?,
            latency_penalty_microunits_per_ms: reader.u64()?,
        })
    }
}
