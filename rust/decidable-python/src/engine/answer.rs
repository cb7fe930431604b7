//! A ticket as it was answered: what was decided and held, and when its record was durable. Where the ticket stands now is
//! asked of the engine.

use std::sync::atomic::{AtomicU64, Ordering};

use decidable_engine::{Standing, Step};
use decidable_replay::{Holding, Status, Ticket};
use pyo3::prelude::*;

use crate::decision::Decision;
use crate::policy::Policy;
use crate::request::Request;

/// A number that no duration has: not measured yet.
const NOT_MEASURED: u64 = u64::MAX;

/// The answer to a request. Private: `decidable.Ticket` is the public class.
#[pyclass(frozen, module = "decidable._native")]
pub(crate) struct Answer {
    view: decidable_engine::TicketView,
    account: Option<String>,
    step: Step,
    #[pyo3(get)]
    replayed: bool,
    durable_ns: AtomicU64,
}

impl Answer {
    /// The answer to a request that was just asked.
    pub(super) fn new(answer: decidable_engine::Answer, account: Option<String>) -> Self {
        Self {
            view: answer.view,
            account,
            step: answer.step,
            replayed: answer.replayed,
            durable_ns: AtomicU64::new(NOT_MEASURED),
        }
    }

    /// A ticket as it stands, asked for by its number.
    pub(super) fn of(
        engine: &decidable_engine::Engine,
        view: decidable_engine::TicketView,
    ) -> Result<Self, decidable_engine::Error> {
        let payer = view.ticket.account();
        let account = payer.map(|account| engine.account_name(account)).transpose()?;
        let step = Step {
            seq: view.ticket.seq(),
            started: std::time::Instant::now(),
        };
        Ok(Self {
            view,
            account,
            step,
            replayed: false,
            durable_ns: AtomicU64::new(NOT_MEASURED),
        })
    }
}

#[pymethods]
impl Answer {
    #[getter]
    const fn number(&self) -> u64 {
        self.view.number
    }
    #[getter]
    const fn seq(&self) -> u64 {
        self.step.seq
    }
    #[getter]
    fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }
    #[getter]
    fn request(&self) -> Request {
        Request(self.view.ticket.request().clone())
    }
    /// The decision; `None` where the safety ceiling refused before any policy was read.
    #[getter]
    fn decision(&self) -> Option<Decision> {
        match &self.view.ticket {
            Ticket::Refused { .. } => None,
            Ticket::Decided { record, .. } => Some(Decision(record.decision)),
        }
    }
    /// The policy that decided; `None` as for the decision.
    #[getter]
    fn policy(&self) -> Option<Policy> {
        self.view.policy.clone().map(Policy)
    }
    #[getter]
    fn hold_microunits(&self) -> Option<i64> {
        self.view.ticket.held()
    }
    #[getter]
    fn refusal(&self) -> Option<&'static str> {
        match &self.view.ticket {
            Ticket::Refused { .. } => Some("safety_ceiling"),
            Ticket::Decided { record, .. } => match record.holding {
                Holding::Rejected => Some(record.decision.reason.label()),
                Holding::Denied { denial, .. } => Some(denial.label()),
                Holding::Unheld | Holding::Held { .. } => None,
            },
        }
    }
    #[getter]
    fn selected_model_id(&self) -> Option<u32> {
        match &self.view.ticket {
            Ticket::Refused { .. } => None,
            Ticket::Decided { record, .. } => record.decision.selected_model_id,
        }
    }
    /// The name of the selected candidate, or its number as text where the policy has no name for it.
    #[getter]
    fn selected_name(&self) -> Option<String> {
        let model_id = self.selected_model_id()?;
        let name = self
            .view
            .policy
            .as_ref()
            .and_then(|policy| policy.names())
            .and_then(|names| names.name(decidable_kernel::Group::Model, model_id));
        Some(name.map_or_else(|| model_id.to_string(), str::to_owned))
    }
    /// How long the record took to become durable, in nanoseconds.
    #[getter]
    fn durable_ns(&self) -> Option<u64> {
        match self.durable_ns.load(Ordering::Acquire) {
            NOT_MEASURED => None,
            measured => Some(measured),
        }
    }
    /// Says that the record is durable now. The first time counts, and an earlier ticket is not measured.
    fn mark_durable(&self) {
        if self.replayed {
            return;
        }
        let elapsed = u64::try_from(self.step.started.elapsed().as_nanos()).unwrap_or(NOT_MEASURED);
        let _ = self
            .durable_ns
            .compare_exchange(NOT_MEASURED, elapsed, Ordering::AcqRel, Ordering::Acquire);
    }
}

pub(super) const fn state_of(view: &decidable_engine::TicketView) -> &'static str {
    match &view.ticket {
        Ticket::Refused { .. } => "refused",
        Ticket::Decided { status, .. } => match status {
            Status::Closed => "refused",
            Status::Settled { .. } => "settled",
            Status::Cancelled { .. } => "cancelled",
            Status::Open(_) => match view.standing {
                Some(Standing::Held) => "held",
                Some(Standing::Dispatched) => "dispatched",
                Some(Standing::InDoubt) | None => "in_doubt",
            },
        },
    }
}
