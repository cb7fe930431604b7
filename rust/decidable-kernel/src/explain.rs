use std::sync::Arc;

use crate::{
    Candidate, Decision, Gate, Names, Objective, Policy, Request, Terms,
    gate::{Gates, refusal},
    price::{Exact, Price as _},
    trial::Trial,
};

/// What became of every candidate, and the decision that follows. Printed, it is a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// What the policy prefers among those that passed.
    pub objective: Objective,
    /// One verdict per candidate, in catalog order; none if the request was refused before any was looked at.
    pub verdicts: Vec<Verdict>,
    names: Option<Arc<Names>>,
}

/// What became of one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// The candidate.
    pub model_id: u32,
    /// Its quality, by which objectives order.
    pub quality_bps: u16,
    /// Its latency, by which objectives order.
    pub p95_latency_ms: u32,
    /// What was found.
    pub finding: Finding,
}

/// What was found of a candidate. Exhaustive on purpose: the shared contract has these four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It failed a gate, and these are the two numbers that were compared.
    Refused {
        /// The first gate that it failed.
        gate: Gate,
        /// What was measured.
        measured: u64,
        /// What it was held against.
        limit: u64,
    },
    /// It costs more than the budget.
    OverBudget {
        /// Its cost, in microunits.
        cost_microunits: u64,
        /// The budget, in microunits.
        limit_microunits: u64,
    },
    /// Its utility is not positive, and the objective asks for that.
    NonPositiveUtility(Terms),
    /// It passed.
    Eligible(Terms),
}

impl Explanation {
    /// An explanation of these parts; [`Policy::explain`] finds them.
    #[must_use]
    pub const fn new(
        decision: Decision,
        objective: Objective,
        verdicts: Vec<Verdict>,
        names: Option<Arc<Names>>,
    ) -> Self {
        Self {
            decision,
            objective,
            verdicts,
            names,
        }
    }

    /// The names that travel with the policy.
    #[must_use]
    pub fn names(&self) -> Option<&Names> {
        self.names.as_deref()
    }
}

impl Policy {
    /// Says what became of every candidate, with the gates and the arithmetic of [`decide`](Self::decide).
    #[must_use]
    pub fn explain(&self, request: &Request) -> Explanation {
        let mut verdicts = Vec::new();
        self.each_finding(request, |_, candidate, finding| {
            verdicts.push(Verdict {
                model_id: candidate.model_id,
                quality_bps: candidate.quality_bps,
                p95_latency_ms: candidate.p95_latency_ms,
                finding,
            });
        });
        Explanation {
            decision: self.decide(request),
            objective: self.limits().objective,
            verdicts,
            names: self.shared_names().cloned(),
        }
    }
}

impl Policy {
    /// Finds what became of every candidate, in catalog order; of none if the request is refused before.
    #[inline(always)]
    pub(crate) fn each_finding<'a>(&'a self, request: &Request, mut found: impl FnMut(usize, &'a Candidate, Finding)) {
        let fields = request.fields();
        if refusal(self.limits(), fields).is_some() {
            return;
        }
        let price = Exact::new(self.limits(), fields, request.quotes());
        let trial = Trial::new(self.limits().objective, self.candidates(), fields, &price);
        let gates = Gates::new(fields);
        for (place, candidate) in self.candidates().iter().enumerate() {
            found(place, candidate, trial.finding(&gates, candidate));
        }
    }
}

impl Trial<'_, '_, Exact<'_>> {
    #[inline(always)]
    fn finding(&self, gates: &Gates, candidate: &Candidate) -> Finding {
        if let Some(gate) = gates.first_refusal(candidate) {
            let (measured, limit) = gates.numbers(gate, candidate);
            return Finding::Refused { gate, measured, limit };
        }
        let cost_microunits = self.price.cost(candidate);
        if !self.affords(cost_microunits) {
            return Finding::OverBudget {
                cost_microunits,
                limit_microunits: self.budget_limit_microunits,
            };
        }
        let terms = self.price.terms(candidate, cost_microunits);
        if self.accepts(terms.utility) {
            Finding::Eligible(terms)
        } else {
            Finding::NonPositiveUtility(terms)
        }
    }
}
