//! What was observed after a decision: the layouts `calysel1` and `calyout1` (docs/spec/formats.md).

use decidable_canon::{Canonical, Digest, Sink, tag};

/// How the action was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The kernel's winner was acted on.
    MaximizeUtility,
    /// A member of the exploration set was acted on, with a known propensity.
    Explore,
    /// A person chose; such a choice has no propensity.
    Human,
}

impl Strategy {
    const fn code(self) -> u8 {
        match self {
            Self::MaximizeUtility => 0,
            Self::Explore => 1,
            Self::Human => 2,
        }
    }
}

/// Which candidate was acted on, how it was selected and with what probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// How the action was selected.
    pub strategy: Strategy,
    /// The candidate that was acted on, if any.
    pub acted_model_id: Option<u32>,
    /// The probability of the action in basis points.
    pub propensity_bps: Option<u16>,
}

impl Canonical for Selection {
    const TAG: tag::Tag = tag::SELECTION;
    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            strategy,
            acted_model_id,
            propensity_bps,
        } = self;
        out.u8(strategy.code());
        out.u32(acted_model_id.unwrap_or(0));
        out.option(*propensity_bps, S::u16);
    }
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It was carried out and measured.
    Applied,
    /// It was not carried out.
    Abandoned,
    /// It is still running.
    InFlight,
}

impl Disposition {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Applied => 0,
            Self::Abandoned => 1,
            Self::InFlight => 2,
        }
    }
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Applied),
            1 => Some(Self::Abandoned),
            2 => Some(Self::InFlight),
            _ => None,
        }
    }
    /// The name in documents and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Abandoned => "abandoned",
            Self::InFlight => "in_flight",
        }
    }
}

/// One observation of an outcome. A later revision supersedes an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The decision it belongs to: the digest of its identity.
    pub identity: Digest,
    /// When it was observed, microseconds since 1970-01-01 UTC.
    pub observed_at_micros: u64,
    /// Which observation of this decision it is, from 1.
    pub revision: u32,
    /// The digest of the selection.
    pub selection: Digest,
    /// What became of the action.
    pub disposition: Disposition,
    /// What it cost, in microunits.
    pub realized_cost_microunits: Option<u64>,
    /// How long it took, in milliseconds.
    pub realized_latency_ms: Option<u32>,
    /// Whether it did what it was for.
    pub succeeded: Option<bool>,
}

impl Canonical for Outcome {
    const TAG: tag::Tag = tag::OUTCOME;
    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            identity,
            observed_at_micros,
            revision,
            selection,
            disposition,
            realized_cost_microunits,
            realized_latency_ms,
            succeeded,
        } = self;
        out.digest(identity);
        out.u64(*observed_at_micros);
        out.u32(*revision);
        out.digest(selection);
        out.u8(disposition.code());
        out.option(*realized_cost_microunits, S::u64);
        out.option(*realized_latency_ms, S::u32);
        out.option(*succeeded, S::bool);
    }
}
