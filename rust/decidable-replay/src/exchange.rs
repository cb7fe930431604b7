//! The audited data of the exchange format (docs/spec/formats.md, "JSON-lines log"): reading, checking and writing.
//!
//! The chain that holds the lines together belongs to the log crate; here is what a line says.

use decidable_canon::{Canonical as _, Digest};
use decidable_kernel::{Action, Decision, NO_INDEX, Objective, Policy, Reason, Request, RequestFields};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
};
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
    #[serde(with = "Output")]
    decision: Decision,
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

/// The names that it gives to the fields of a decision.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Decision", deny_unknown_fields)]
struct Output {
    request_sequence: u64,
    #[serde(with = "Spelled")]
    action: Action,
    #[serde(with = "Spelled")]
    reason: Reason,
    #[serde(with = "Spelled")]
    selected_model_id: Option<u32>,
    #[serde(with = "Spelled")]
    selected_model_index: Option<u16>,
    estimated_cost_microunits: u64,
    expected_utility_microunits: i64,
    #[serde(with = "Spelled")]
    counterfactual_model_id: Option<u32>,
    counterfactual_utility_microunits: i64,
    evaluated_models: u16,
    eligible_models: u16,
    policy_epoch: u64,
    catalog_epoch: u64,
}

/// A part of a decision that the format writes in its own way: an action or reason by its name, absence as a sentinel.
trait Spelling: Copy {
    const WHAT: &'static str;
    type Written: Serialize + DeserializeOwned + core::fmt::Debug;
    fn written(self) -> Self::Written;
    fn read(written: &Self::Written) -> Option<Self>;
}

struct Spelled;

impl Spelled {
    fn serialize<T: Spelling, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.written().serialize(to)
    }
    fn deserialize<'de, T: Spelling, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let written = T::Written::deserialize(from)?;
        T::read(&written).ok_or_else(|| D::Error::custom(format_args!("the {} {written:?} is not known", T::WHAT)))
    }
}

impl Spelling for Action {
    const WHAT: &'static str = "action";
    type Written = String;
    fn written(self) -> String {
        self.name().to_owned()
    }
    fn read(written: &String) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == written)
    }
}

impl Spelling for Reason {
    const WHAT: &'static str = "reason";
    type Written = String;
    fn written(self) -> String {
        self.name().to_owned()
    }
    fn read(written: &String) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == written)
    }
}

/// The id of a candidate.
impl Spelling for Option<u32> {
    const WHAT: &'static str = "id";
    type Written = u32;
    fn written(self) -> u32 {
        self.unwrap_or(0)
    }
    fn read(written: &u32) -> Option<Self> {
        Some((*written != 0).then_some(*written))
    }
}

/// The index of a candidate.
impl Spelling for Option<u16> {
    const WHAT: &'static str = "index";
    type Written = u16;
    fn written(self) -> u16 {
        self.unwrap_or(NO_INDEX)
    }
    fn read(written: &u16) -> Option<Self> {
        Some((*written != NO_INDEX).then_some(*written))
    }
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
        decision,
        metadata: _,
    } = serde_json::from_slice(data).map_err(|error| unreadable(format!("audited data cannot be read: {error}")))?;
    expect("the schema", audit.schema_version, SCHEMA)?;
    expect("the digest algorithm", audit.digest_algorithm, ALGORITHM)?;
    expect("the proof version", audit.proof_version, PROOF_VERSION)?;
    expect("the maker", audit.created_by, CREATED_BY)?;
    expect("replay_valid", audit.replay_valid, true)?;
    let request = Request::new(input).map_err(|error| unreadable(format!("a request cannot be read: {error}")))?;
    if decision.selected_model_id.is_some() != decision.selected_model_index.is_some() {
        return Err(unreadable(format!(
            "selected_model_id {} and selected_model_index {} do not go together",
            decision.selected_model_id.written(),
            decision.selected_model_index.written()
        )));
    }
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
        decision: record.decision,
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
