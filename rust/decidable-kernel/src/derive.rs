//! The definition of a decision: docs/spec/decisions.md and docs/spec/extensions.md, one candidate after the other and one gate
//! after the other, priced in 128 bits and put into the whole order of the objective.
//!
//! Every faster way is held to it, and whoever checks a decision uses it, so it shares with them the gates, the prices and the
//! order, which have one definition each, and nothing of how they screen, price or rank.

use core::cmp::Ordering;

use crate::{Decision, Finding, Gate, Policy, Rejections, Request, decision::Selected, gate::refusal, rank::Contender};

impl Policy {
    /// Derives the decision of a request by the definition. [`decide`](Self::decide) finds the same faster; whoever checks a
    /// decision derives it.
    #[must_use]
    pub fn derive(&self, request: &Request) -> Decision {
        self.derive_counted(request).0
    }

    /// [`Derives`](Self::derive) the decision of a request and counts, for every gate, the candidates that failed it first:
    /// what [`decide_counted`](Self::decide_counted) finds faster.
    #[must_use]
    pub fn derive_counted(&self, request: &Request) -> (Decision, Rejections) {
        let fields = request.fields();
        if let Some(reason) = refusal(self.limits(), fields) {
            return (self.rejection(fields, reason, 0), Rejections::default());
        }
        let mut counts = Rejections::default();
        let mut eligible = 0_u32;
        let mut first: Option<(usize, Contender<'_>)> = None;
        let mut second: Option<(usize, Contender<'_>)> = None;
        self.each_finding(request, |index, candidate, finding| {
            let count = match finding {
                Finding::Refused { gate, .. } => match gate {
                    Gate::Disabled => &mut counts.disabled,
                    Gate::Quality => &mut counts.quality,
                    Gate::Latency => &mut counts.latency,
                    Gate::Capability => &mut counts.capability,
                    Gate::Provider => &mut counts.provider,
                    Gate::Region => &mut counts.region,
                    Gate::RiskCeiling => &mut counts.risk_ceiling,
                },
                Finding::OverBudget { .. } => &mut counts.budget,
                Finding::NonPositiveUtility(_) => &mut counts.utility,
                Finding::Eligible(terms) => {
                    let contender = Contender {
                        candidate,
                        cost: terms.cost_microunits,
                        utility: terms.utility,
                    };
                    let precedes = |other: &Option<(usize, Contender<'_>)>| {
                        other
                            .as_ref()
                            .is_none_or(|(_, other)| self.limits().objective.order(&contender, other) == Ordering::Less)
                    };
                    if precedes(&first) {
                        second = first.replace((index, contender));
                    } else if precedes(&second) {
                        second = Some((index, contender));
                    }
                    &mut eligible
                }
            };
            // At most 65,535 candidates.
            *count = count.saturating_add(1);
        });
        let decision = match first {
            Some(first) => self.selection(fields, &Selected::of(first, second.map(|(_, second)| second), eligible)),
            None => self.rejection_for(fields, &counts),
        };
        (decision, counts)
    }
}
