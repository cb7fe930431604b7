//! The audited data of the exchange format (docs/spec/formats.md, "JSON-lines log"): reading, checking and writing.
//!
//! The chain that holds the lines together belongs to the log crate; here is what a line says.

use decidable_canon::{Canonical as _, Digest};
use decidable_kernel::{Action, Decision, NO_INDEX, Objective, Policy, Reason, Request, RequestFields};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{DecisionRecord, Error, ErrorKind, state::other_decision};

const SCHEMA: &str = "calybris.audit.v1";
const ALGORITHM: &str = "sha256";
const CREATED_BY: &str = "calybris";
const PROOF_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data<'a> {
    audit: Audit<'a>,
    #[serde(with = "Input")]
    input: RequestFields,
    decision: Decided<'a>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Audit<'a> {
    schema_version: &'a str,
    digest_algorithm: &'a str,
    proof_version: u32,
    policy_epoch: u64,
    catalog_epoch: u64,
    created_by: &'a str,
    policy_digest_hex: String,
    input_digest_hex: String,
    decision_digest_hex: String,
    replay_valid: bool,
}

/// The names that the format gives to the fields of a request.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RequestFields", deny_unknown_fields)]
struct Input {
    request_sequence: u64,
    requested_model_id: u32,
    input_tokens: u32,
    output_tokens: u32,
    business_value_microunits: i64,
    budget_limit_microunits: u64,
    risk_bps: u16,
    confidence_bps: u16,
    minimum_quality_bps: u16,
    max_p95_latency_ms: u32,
    required_capabilities: u64,
    allowed_provider_mask: u64,
    required_region_mask: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided<'a> {
    request_sequence: u64,
    action: &'a str,
    reason: &'a str,
    selected_model_id: u32,
    selected_model_index: u16,
    estimated_cost_microunits: u64,
    expected_utility_microunits: i64,
    counterfactual_model_id: u32,
    counterfactual_utility_microunits: i64,
    evaluated_models: u16,
    eligible_models: u16,
    policy_epoch: u64,
    catalog_epoch: u64,
}

/// What a line of the exchange format established.
#[derive(Clone, Debug)]
pub struct Audited {
    /// The request.
    pub request: Request,
    /// The decision as written.
    pub decision: Decision,
    /// The digest of the policy that decided, as written.
    pub policy_digest: Digest,
    /// Whether the decision was derived again: `false` where no policy of that digest was given.
    pub rederived: bool,
}

/// Checks the audited data of one line: its digests, and the decision itself if `policies` has the policy.
///
/// # Errors
/// `Unreadable` if the data are not of the format; `Disagrees`, naming what, if something does not follow.
pub fn verify(data: &[u8], policies: &[&Policy]) -> Result<Audited, Error> {
    let unreadable = |what: String| Error::new(ErrorKind::Unreadable, what);
    let Data {
        audit,
        input,
        decision: written,
        metadata: _,
    } = serde_json::from_slice(data).map_err(|error| unreadable(format!("audited data cannot be read: {error}")))?;
    expect("the schema", audit.schema_version, SCHEMA)?;
    expect("the digest algorithm", audit.digest_algorithm, ALGORITHM)?;
    expect("the proof version", audit.proof_version, PROOF_VERSION)?;
    expect("the maker", audit.created_by, CREATED_BY)?;
    expect("replay_valid", audit.replay_valid, true)?;
    let request = Request::new(input).map_err(|error| unreadable(format!("a request cannot be read: {error}")))?;
    let decision = decision_of(&written)?;
    expect("the policy epoch", audit.policy_epoch, decision.policy_epoch)?;
    expect("the catalog epoch", audit.catalog_epoch, decision.catalog_epoch)?;
    expect(
        "the input digest",
        audit.input_digest_hex.as_str(),
        request.shared_digest().to_string().as_str(),
    )?;
    expect(
        "the decision digest",
        audit.decision_digest_hex.as_str(),
        decision.digest().to_string().as_str(),
    )?;
    let policy_digest = Digest::from_hex(&audit.policy_digest_hex)
        .ok_or_else(|| unreadable("the policy digest is not 64 lowercase hex digits".to_owned()))?;
    // The shared digest says nothing of an objective, and the format knows one.
    let policy = policies
        .iter()
        .find(|policy| policy.limits().objective == Objective::Utility && policy.shared_digest() == policy_digest);
    if let Some(policy) = policy {
        let derived = policy.derive(&request);
        if derived != decision {
            return Err(other_decision(&decision, &derived));
        }
    }
    Ok(Audited {
        request,
        decision,
        policy_digest,
        rederived: policy.is_some(),
    })
}

/// Writes a decision as audited data, with `metadata` as a JSON text.
///
/// # Errors
/// `Unreadable` if the metadata are not JSON, or if the decision used an extension that the format cannot hold; the
/// message says which.
pub fn write(policy: &Policy, record: &DecisionRecord, metadata: &str) -> Result<String, Error> {
    let refused = |what: String| Error::new(ErrorKind::Unreadable, what);
    let number = record.request.fields().request_sequence;
    let objective = policy.limits().objective;
    if objective != Objective::Utility {
        let label = objective.label();
        return Err(refused(format!(
            "decision {number} used the objective {label}, which the exchange format does not have"
        )));
    }
    if !record.request.quotes().is_empty() {
        return Err(refused(format!(
            "decision {number} used quotes, which the exchange format does not have"
        )));
    }
    let metadata: &RawValue =
        serde_json::from_str(metadata).map_err(|error| refused(format!("the metadata are not JSON: {error}")))?;
    let data = Data {
        audit: Audit {
            schema_version: SCHEMA,
            digest_algorithm: ALGORITHM,
            proof_version: PROOF_VERSION,
            policy_epoch: record.decision.policy_epoch,
            catalog_epoch: record.decision.catalog_epoch,
            created_by: CREATED_BY,
            policy_digest_hex: policy.shared_digest().to_string(),
            input_digest_hex: record.request.shared_digest().to_string(),
            decision_digest_hex: record.decision.digest().to_string(),
            replay_valid: true,
        },
        input: *record.request.fields(),
        decision: decided_of(&record.decision),
        metadata,
    };
    serde_json::to_string(&data).map_err(|error| refused(format!("decision {number} cannot be written: {error}")))
}

/// `text` as a JSON value on one line: as it is where it is one that every reader follows, else as a JSON string.
///
/// Readers, the reference among them, stop at a depth, and at numbers and escapes that stand for nothing they can hold.
#[must_use]
pub fn json(text: &str) -> String {
    let is_value = || serde_json::from_str::<&RawValue>(text).is_ok();
    // The line, its data and their metadata stand around it.
    let is_followed = || serde_json::from_str::<serde_json::Value>(&format!("[[[{text}]]]")).is_ok();
    if !text.contains(['\n', '\r']) && is_value() && is_followed() {
        return text.trim().to_owned();
    }
    serde_json::to_string(text).unwrap_or_else(|_| "null".to_owned())
}

fn expect<T: PartialEq + core::fmt::Display>(what: &str, written: T, derived: T) -> Result<(), Error> {
    if written == derived {
        Ok(())
    } else {
        Err(Error::disagrees(what, written, derived))
    }
}

fn decision_of(written: &Decided<'_>) -> Result<Decision, Error> {
    let unknown = |what: &str, name: &str| Error::new(ErrorKind::Unreadable, format!("{what} {name:?} is not known"));
    let Decided {
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
    } = *written;
    if (selected_model_id == 0) != (selected_model_index == NO_INDEX) {
        return Err(Error::new(
            ErrorKind::Unreadable,
            format!(
                "selected_model_id {selected_model_id} and selected_model_index {selected_model_index} do not go together"
            ),
        ));
    }
    Ok(Decision {
        request_sequence,
        action: Action::ALL
            .into_iter()
            .find(|known| known.name() == action)
            .ok_or_else(|| unknown("the action", action))?,
        reason: Reason::ALL
            .into_iter()
            .find(|known| known.name() == reason)
            .ok_or_else(|| unknown("the reason", reason))?,
        selected_model_id: (selected_model_id != 0).then_some(selected_model_id),
        selected_model_index: (selected_model_index != NO_INDEX).then_some(selected_model_index),
        estimated_cost_microunits,
        expected_utility_microunits,
        counterfactual_model_id: (counterfactual_model_id != 0).then_some(counterfactual_model_id),
        counterfactual_utility_microunits,
        evaluated_models,
        eligible_models,
        policy_epoch,
        catalog_epoch,
    })
}

const fn decided_of(decision: &Decision) -> Decided<'static> {
    let Decision {
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
    } = *decision;
    const fn or(value: Option<u32>, none: u32) -> u32 {
        match value {
            Some(value) => value,
            None => none,
        }
    }
    Decided {
        request_sequence,
        action: action.name(),
        reason: reason.name(),
        selected_model_id: or(selected_model_id, 0),
        selected_model_index: match selected_model_index {
            Some(index) => index,
            None => NO_INDEX,
        },
        estimated_cost_microunits,
        expected_utility_microunits,
        counterfactual_model_id: or(counterfactual_model_id, 0),
        counterfactual_utility_microunits,
        evaluated_models,
        eligible_models,
        policy_epoch,
        catalog_epoch,
    }
}
