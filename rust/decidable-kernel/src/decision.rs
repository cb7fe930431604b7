use decidable_canon::{
    Canonical, Digest, Message, ReadErrorKind, Reader, Sink,
    tag::{self, Tag},
};

use crate::Error;

/// Bytes of one decision: its thirteen fields without a tag.
pub const DECISION_ROW_BYTES: usize = 8 + 1 + 2 + 4 + 2 + 8 + 8 + 4 + 8 + 2 + 2 + 8 + 8;

pub(crate) type DecisionRow = [u8; DECISION_ROW_BYTES];

/// Bytes of one decision with its tag.
pub(crate) const TAGGED_BYTES: usize = 9 + DECISION_ROW_BYTES;

/// What a layout has in place of an index when nothing was selected.
pub const NO_INDEX: u16 = u16::MAX;

/// Who was selected, at what cost and utility, and who would be otherwise.
///
/// No two numbers stand side by side here that do so in a decision, so that they are copied one by one: a copy of two at once
/// waits until both are out of the store buffer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Selected {
    pub(crate) utility: i64,
    /// The second's number, if there is one, and its utility, or 0.
    pub(crate) second: Option<u32>,
    pub(crate) cost: u64,
    pub(crate) model_id: u32,
    pub(crate) second_utility: i64,
    /// Its place in the catalog.
    pub(crate) index: u16,
    /// How many passed.
    pub(crate) eligible: u16,
}

/// What a decision does. Exhaustive on purpose: the shared contract has these three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// The requested candidate serves.
    ExecuteRequested = 1,
    /// Another candidate serves.
    Substitute = 2,
    /// None serves.
    Reject = 3,
}

impl Action {
    /// Every action, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::ExecuteRequested, Self::Substitute, Self::Reject];

    /// The byte that stands for it.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ExecuteRequested => 1,
            Self::Substitute => 2,
            Self::Reject => 3,
        }
    }
    /// The action that a byte stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.code() == code)
    }
    /// Its name in the exchange format, such as `ExecuteRequested`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExecuteRequested => "ExecuteRequested",
            Self::Substitute => "Substitute",
            Self::Reject => "Reject",
        }
    }
    /// Its name in lower case, such as `execute_requested`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ExecuteRequested => "execute_requested",
            Self::Substitute => "substitute",
            Self::Reject => "reject",
        }
    }
}

/// Why a decision does it. Exhaustive on purpose: the shared contract has these thirteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Reason {
    /// The requested candidate came first.
    RequestedModelMaximizesUtility = 1,
    /// Another candidate came first.
    AlternativeMaximizesUtility = 2,
    /// The request's risk is at or above the policy's limit.
    RiskHardLimit = 100,
    /// The request's confidence is below the policy's floor.
    ConfidenceHardLimit = 101,
    /// Most candidates are switched off.
    NoEnabledModel = 102,
    /// Most candidates are below the request's quality.
    QualityConstraint = 103,
    /// Most candidates are slower than the request allows.
    LatencyConstraint = 104,
    /// Most candidates lack a required capability.
    CapabilityConstraint = 105,
    /// Most candidates come from a provider that the request does not allow.
    ProviderConstraint = 106,
    /// Most candidates are in none of the required regions.
    RegionConstraint = 107,
    /// Most candidates cost more than the budget.
    BudgetConstraint = 108,
    /// Most candidates have no positive utility.
    NonPositiveUtility = 109,
    /// Most candidates may not serve a request of this risk.
    RiskCeilingConstraint = 110,
}

impl Reason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 13] = [
        Self::RequestedModelMaximizesUtility,
        Self::AlternativeMaximizesUtility,
        Self::RiskHardLimit,
        Self::ConfidenceHardLimit,
        Self::NoEnabledModel,
        Self::QualityConstraint,
        Self::LatencyConstraint,
        Self::CapabilityConstraint,
        Self::ProviderConstraint,
        Self::RegionConstraint,
        Self::BudgetConstraint,
        Self::NonPositiveUtility,
        Self::RiskCeilingConstraint,
    ];

    /// The number that stands for it.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::RequestedModelMaximizesUtility => 1,
            Self::AlternativeMaximizesUtility => 2,
            Self::RiskHardLimit => 100,
            Self::ConfidenceHardLimit => 101,
            Self::NoEnabledModel => 102,
            Self::QualityConstraint => 103,
            Self::LatencyConstraint => 104,
            Self::CapabilityConstraint => 105,
            Self::ProviderConstraint => 106,
            Self::RegionConstraint => 107,
            Self::BudgetConstraint => 108,
            Self::NonPositiveUtility => 109,
            Self::RiskCeilingConstraint => 110,
        }
    }
    /// The reason that a number stands for.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
    /// Its name in the exchange format, such as `BudgetConstraint`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestedModelMaximizesUtility => "RequestedModelMaximizesUtility",
            Self::AlternativeMaximizesUtility => "AlternativeMaximizesUtility",
            Self::RiskHardLimit => "RiskHardLimit",
            Self::ConfidenceHardLimit => "ConfidenceHardLimit",
            Self::NoEnabledModel => "NoEnabledModel",
            Self::QualityConstraint => "QualityConstraint",
            Self::LatencyConstraint => "LatencyConstraint",
            Self::CapabilityConstraint => "CapabilityConstraint",
            Self::ProviderConstraint => "ProviderConstraint",
            Self::RegionConstraint => "RegionConstraint",
            Self::BudgetConstraint => "BudgetConstraint",
            Self::NonPositiveUtility => "NonPositiveUtility",
            Self::RiskCeilingConstraint => "RiskCeilingConstraint",
        }
    }
    /// Its name in lower case, such as `budget_constraint`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::RequestedModelMaximizesUtility => "requested_model_maximizes_utility",
            Self::AlternativeMaximizesUtility => "alternative_maximizes_utility",
            Self::RiskHardLimit => "risk_hard_limit",
            Self::ConfidenceHardLimit => "confidence_hard_limit",
            Self::NoEnabledModel => "no_enabled_model",
            Self::QualityConstraint => "quality_constraint",
            Self::LatencyConstraint => "latency_constraint",
            Self::CapabilityConstraint => "capability_constraint",
            Self::ProviderConstraint => "provider_constraint",
            Self::RegionConstraint => "region_constraint",
            Self::BudgetConstraint => "budget_constraint",
            Self::NonPositiveUtility => "non_positive_utility",
            Self::RiskCeilingConstraint => "risk_ceiling_constraint",
        }
    }
}

/// What the kernel answers. docs/spec/decisions.md; the layout is `calydcn1` of docs/spec/formats.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The number of the request.
    pub request_sequence: u64,
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The candidate that serves, if one does.
    pub selected_model_id: Option<u32>,
    /// Its place in the catalog, from 0, by ascending `model_id`.
    pub selected_model_index: Option<u16>,
    /// What it will cost at the expected use, in microunits; 0 if nothing was selected.
    pub estimated_cost_microunits: u64,
    /// Its utility, in microunits; 0 if nothing was selected.
    pub expected_utility_microunits: i64,
    /// The candidate that came second, if one did.
    pub counterfactual_model_id: Option<u32>,
    /// Its utility, in microunits; 0 if none came second.
    pub counterfactual_utility_microunits: i64,
    /// How many candidates were looked at.
    pub evaluated_models: u16,
    /// How many passed every gate.
    pub eligible_models: u16,
    /// The policy's number.
    pub policy_epoch: u64,
    /// The catalog's number.
    pub catalog_epoch: u64,
}

impl Decision {
    /// What the digest is the SHA-256 of.
    #[inline(always)]
    pub(crate) fn message(&self) -> Message<2> {
        Message::of::<TAGGED_BYTES, _>(self)
    }

    /// Reads the fields that follow the tag in `calydcn1`.
    ///
    /// # Errors
    /// `Unreadable` if the bytes end, or an action or reason has no such code; what was selected must have both an id
    /// and an index or neither.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let request_sequence = reader.u64()?;
        let unknown = reader.error(ReadErrorKind::OutOfRange);
        let action = Action::from_code(reader.u8()?).ok_or(unknown)?;
        let unknown = reader.error(ReadErrorKind::OutOfRange);
        let reason = Reason::from_code(reader.u16()?).ok_or(unknown)?;
        let mismatch = reader.error(ReadErrorKind::OutOfRange);
        let selected_model_id = present(reader.u32()?, 0);
        let selected_model_index = present(reader.u16()?, NO_INDEX);
        if selected_model_id.is_some() != selected_model_index.is_some() {
            return Err(mismatch.into());
        }
        Ok(Self {
            request_sequence,
            action,
            reason,
            selected_model_id,
            selected_model_index,
            estimated_cost_microunits: reader.u64()?,
            expected_utility_microunits: reader.i64()?,
            counterfactual_model_id: present(reader.u32()?, 0),
            counterfactual_utility_microunits: reader.i64()?,
            evaluated_models: reader.u16()?,
            eligible_models: reader.u16()?,
            policy_epoch: reader.u64()?,
            catalog_epoch: reader.u64()?,
        })
    }
}

/// The candidate that a row says was selected, and its place in the catalog, as they stand in it.
#[inline(always)]
pub(crate) fn selected_of(row: &DecisionRow) -> (u32, u16) {
    const SELECTED: usize = 8 + 1 + 2;
    match row.split_at_checked(SELECTED) {
        Some((_, [a, b, c, d, low, high, ..])) => {
            (u32::from_le_bytes([*a, *b, *c, *d]), u16::from_le_bytes([*low, *high]))
        }
        // A row has the length of its fields, so that this cannot be.
        _ => (0, NO_INDEX),
    }
}

/// What a row says of the request and the policy that it is of.
#[derive(Default)]
pub(crate) struct Origin {
    pub(crate) request_sequence: u64,
    pub(crate) evaluated_models: u16,
    pub(crate) eligible_models: u16,
    pub(crate) policy_epoch: u64,
    pub(crate) catalog_epoch: u64,
}

/// The origin of a row, whatever else is in it.
#[inline(always)]
pub(crate) fn origin_of(row: &DecisionRow) -> Origin {
    let parts = || {
        let (request_sequence, rest) = row.split_first_chunk()?;
        let (rest, catalog_epoch) = rest.split_last_chunk()?;
        let (rest, policy_epoch) = rest.split_last_chunk()?;
        let (rest, eligible) = rest.split_last_chunk()?;
        let (_, evaluated) = rest.split_last_chunk()?;
        Some(Origin {
            request_sequence: u64::from_le_bytes(*request_sequence),
            evaluated_models: u16::from_le_bytes(*evaluated),
            eligible_models: u16::from_le_bytes(*eligible),
            policy_epoch: u64::from_le_bytes(*policy_epoch),
            catalog_epoch: u64::from_le_bytes(*catalog_epoch),
        })
    };
    // A row has the length of its fields, so that this cannot fail.
    parts().unwrap_or_default()
}

/// Puts a reason into a row that was written without one.
pub(crate) fn write_reason(row: &mut DecisionRow, reason: Reason) {
    const REASON: usize = 8 + 1;
    if let Some((_, [low, high, ..])) = row.split_at_mut_checked(REASON) {
        [*low, *high] = reason.code().to_le_bytes();
    }
}

fn present<T: PartialEq>(value: T, none: T) -> Option<T> {
    (value != none).then_some(value)
}

impl Canonical for Decision {
    const TAG: Tag = tag::DECISION;

    fn digest(&self) -> Digest {
        self.message().digest()
    }

    #[inline(always)]
    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            request_sequence,
            action,
            reason,
            selected_model_id,
            selected_model_index,
            estimated_cost_microunits,
            expected_utility_microunits,
            counterfactual_model_id,
            counterfactual_utility_microunits,
            evaluated_models,
            eligible_models,
            policy_epoch,
            catalog_epoch,
        } = self;
        out.u64(*request_sequence);
        out.u8(action.code());
        out.u16(reason.code());
        out.u32(selected_model_id.unwrap_or(0));
        out.u16(selected_model_index.unwrap_or(NO_INDEX));
        out.u64(*estimated_cost_microunits);
        out.i64(*expected_utility_microunits);
        out.u32(counterfactual_model_id.unwrap_or(0));
        out.i64(*counterfactual_utility_microunits);
        out.u16(*evaluated_models);
        out.u16(*eligible_models);
        out.u64(*policy_epoch);
        out.u64(*catalog_epoch);
    }
}
