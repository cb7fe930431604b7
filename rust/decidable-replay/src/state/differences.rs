//! A record as it was written beside the one that follows: the command to perform again, and the first thing in which
//! the two differ, by name.
//!
//! It knows no state.

use std::sync::Arc;

use decidable_kernel::Decision;

use super::Command;
use crate::{Error, Record};

/// The command that a record answers.
pub(super) fn command_of(record: &Record) -> Command {
    match record {
        Record::Policy {
            policy,
            provenance,
            number: _,
        } => Command::InstallPolicy {
            policy: Arc::clone(policy),
            provenance: provenance.clone(),
        },
        Record::Account { balance, account: _ } => Command::OpenAccount {
            initial: balance.initial,
        },
        Record::TopUp {
            account,
            amount,
            balance: _,
        } => Command::TopUp {
            account: *account,
            amount: *amount,
        },
        Record::Cap { account, balance } => Command::SetCap {
            account: *account,
            cap: balance.cap,
        },
        Record::Decision(record) => Command::Decide {
            policy: record.policy,
            account: record.account,
            request: record.request.clone(),
            caller_key: record.caller_key,
            proposed: Some(record.decision),
        },
        Record::Refusal(record) => Command::Decide {
            policy: 0,
            account: record.account,
            request: record.request.clone(),
            caller_key: record.caller_key,
            proposed: None,
        },
        Record::Settlement(record) => Command::Settle {
            ticket: record.ticket,
            used: record.used,
        },
        Record::Cancellation { ticket, balance: _ } => Command::Cancel { ticket: *ticket },
        Record::Outcome(record) => Command::Observe {
            ticket: record.ticket,
            observed_at_micros: record.observed_at_micros,
            disposition: record.disposition,
            realized_cost_microunits: record.realized_cost_microunits,
            realized_latency_ms: record.realized_latency_ms,
            succeeded: record.succeeded,
        },
        Record::Audit { ticket, hash } => Command::Audit {
            ticket: *ticket,
            hash: *hash,
        },
    }
}

/// An error that names the first of the fields in which two values differ.
macro_rules! differs {
    ($what:literal, $written:expr, $derived:expr, [$($field:ident),+]) => {{
        let (written, derived) = ($written, $derived);
        $(if written.$field != derived.$field {
            return Error::disagrees(
                concat!($what, "'s ", stringify!($field)),
                format_args!("{:?}", written.$field),
                format_args!("{:?}", derived.$field),
            );
        })+
        Error::disagrees($what, format_args!("{written:?}"), format_args!("{derived:?}"))
    }};
}

pub(crate) fn other_decision(written: &Decision, derived: &Decision) -> Error {
    differs!(
        "a decision",
        written,
        derived,
        [
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
            request_sequence
        ]
    )
}

/// Names the first thing in which two records of the same command differ.
pub(super) fn difference(written: &Record, derived: &Record) -> Error {
    match (written, derived) {
        (Record::Decision(written), Record::Decision(derived)) => {
            differs!(
                "a decision",
                written,
                derived,
                [identity, holding, caller_key, account, policy]
            )
        }
        (Record::Settlement(written), Record::Settlement(derived)) => {
            differs!("a settlement", written, derived, [charged, returned, debt, balance])
        }
        (Record::Outcome(written), Record::Outcome(derived)) => {
            differs!("an outcome", written, derived, [revision, digest])
        }
        (Record::Policy { number: written, .. }, Record::Policy { number: derived, .. }) => {
            Error::disagrees("a policy's number", written, derived)
        }
        (Record::Account { account: written, .. }, Record::Account { account: derived, .. }) if written != derived => {
            Error::disagrees("an account's number", written, derived)
        }
        // What is left of these kinds is the balance after.
        (
            Record::Account { balance: written, .. }
            | Record::TopUp { balance: written, .. }
            | Record::Cap { balance: written, .. },
            Record::Account { balance: derived, .. }
            | Record::TopUp { balance: derived, .. }
            | Record::Cap { balance: derived, .. },
        ) => Error::disagrees(
            "an account's balance",
            format_args!("{written:?}"),
            format_args!("{derived:?}"),
        ),
        (Record::Cancellation { balance: written, .. }, Record::Cancellation { balance: derived, .. }) => {
            Error::disagrees(
                "a cancellation's balance",
                format_args!("{written:?}"),
                format_args!("{derived:?}"),
            )
        }
        _ => Error::disagrees(
            "what became of a request",
            written.kind().label(),
            derived.kind().label(),
        ),
    }
}
