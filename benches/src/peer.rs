//! The reference implementation's types, from ours and back.

use calybris_core::kernel::{KernelDecision, KernelInput, KernelModel, PolicySnapshot, RejectionHistogram};
use decidable_kernel::{Action, Decision, Policy, Reason, Rejections, RequestFields};

/// Our policy as the reference's. Its objective and names have no counterpart there.
#[must_use]
pub fn policy(policy: &Policy) -> PolicySnapshot {
    let limits = policy.limits();
    let models = policy
        .candidates()
        .iter()
        .map(|candidate| KernelModel {
            model_id: candidate.model_id,
            provider_id: candidate.provider_id,
            quality_bps: candidate.quality_bps,
            risk_ceiling_bps: candidate.risk_ceiling_bps,
            enabled: candidate.enabled.into(),
            p95_latency_ms: candidate.p95_latency_ms,
            capabilities: candidate.capabilities,
            region_mask: candidate.region_mask,
            input_cost_microunits_per_million_tokens: candidate.input_cost_microunits_per_million_tokens,
            output_cost_microunits_per_million_tokens: candidate.output_cost_microunits_per_million_tokens,
        })
        .collect();
    PolicySnapshot::try_new_trusted(
        limits.policy_epoch,
        limits.catalog_epoch,
        limits.hard_risk_limit_bps,
        limits.minimum_confidence_bps,
        limits.risk_penalty_multiplier_bps,
        limits.latency_penalty_microunits_per_ms,
        models,
    )
    .expect("a policy that we accept is one that the reference accepts")
}

/// Our request as the reference's.
#[must_use]
pub const fn input(fields: &RequestFields) -> KernelInput {
    KernelInput {
        request_sequence: fields.request_sequence,
        requested_model_id: fields.requested_model_id,
        input_tokens: fields.input_tokens,
        output_tokens: fields.output_tokens,
        business_value_microunits: fields.business_value_microunits,
        budget_limit_microunits: fields.budget_limit_microunits,
        risk_bps: fields.risk_bps,
        confidence_bps: fields.confidence_bps,
        minimum_quality_bps: fields.minimum_quality_bps,
        max_p95_latency_ms: fields.max_p95_latency_ms,
        required_capabilities: fields.required_capabilities,
        allowed_provider_mask: fields.allowed_provider_mask,
        required_region_mask: fields.required_region_mask,
    }
}

/// The reference's decision as ours.
#[must_use]
pub fn decision(decision: &KernelDecision) -> Decision {
    Decision {
        request_sequence: decision.request_sequence,
        action: Action::from_code(decision.action as u8).expect("both have the same actions"),
        reason: Reason::from_code(decision.reason as u16).expect("both have the same reasons"),
        selected_model_id: (decision.selected_model_id != 0).then_some(decision.selected_model_id),
        selected_model_index: (decision.selected_model_index != u16::MAX).then_some(decision.selected_model_index),
        estimated_cost_microunits: decision.estimated_cost_microunits,
        expected_utility_microunits: decision.expected_utility_microunits,
        counterfactual_model_id: (decision.counterfactual_model_id != 0).then_some(decision.counterfactual_model_id),
        counterfactual_utility_microunits: decision.counterfactual_utility_microunits,
        evaluated_models: decision.evaluated_models,
        eligible_models: decision.eligible_models,
        policy_epoch: decision.policy_epoch,
        catalog_epoch: decision.catalog_epoch,
    }
}

/// The reference's rejection counts as ours.
#[must_use]
pub fn rejections(histogram: &RejectionHistogram) -> Rejections {
    Rejections {
        disabled: histogram.disabled.into(),
        quality: histogram.quality.into(),
        risk_ceiling: histogram.risk_ceiling.into(),
        latency: histogram.latency.into(),
        capability: histogram.capability.into(),
        provider: histogram.provider.into(),
        region: histogram.region.into(),
        budget: histogram.budget.into(),
        utility: histogram.utility.into(),
    }
}
