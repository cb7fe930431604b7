use core::cmp::Ordering;

use crate::{
    Candidate, Objective, RequestFields, gate,
    price::Price,
    rank::{Contender, Podium, Step},
    screen::Passing,
};

/// One request against a catalog under limits and a price list: what every candidate meets, in this order.
pub(crate) struct Trial<'c, 'p, P> {
    candidates: &'c [Candidate],
    pub(crate) price: &'p P,
    pub(crate) budget_limit_microunits: u64,
    objective: Objective,
}

/// What came of a trial.
pub(crate) struct Verdicts<'a> {
    /// The first of those that passed, and its place in the catalog.
    pub(crate) first: Option<(usize, Contender<'a>)>,
    /// The second.
    pub(crate) second: Option<Contender<'a>>,
    /// How many passed.
    pub(crate) eligible: u32,
    /// How many passed the seven gates and cost more than the budget.
    pub(crate) over_budget: u32,
    /// How many were within it and had no positive utility.
    pub(crate) worthless: u32,
}

impl<'c, 'p, P: Price> Trial<'c, 'p, P> {
    #[inline(always)]
    pub(crate) const fn new(
        objective: Objective,
        candidates: &'c [Candidate],
        request: &RequestFields,
        price: &'p P,
    ) -> Self {
        Self {
            candidates,
            price,
            budget_limit_microunits: request.budget_limit_microunits,
            objective,
        }
    }

    /// Gate 8: whether a cost is within the budget.
    #[inline(always)]
    pub(crate) const fn affords(&self, cost: u64) -> bool {
        cost <= self.budget_limit_microunits
    }

    /// Gate 9: whether a utility will do. Only the shared contract's objective asks for a positive one.
    #[inline(always)]
    pub(crate) const fn accepts(&self, utility: i64) -> bool {
        !matches!(self.objective, Objective::Utility) || utility > 0
    }

    /// The code of the gate, 8 or 9, at which a candidate loses that passed the seven before.
    #[inline(always)]
    pub(crate) fn lost(&self, candidate: &Candidate) -> u8 {
        let cost = self.price.cost(candidate);
        if !self.affords(cost) {
            gate::BUDGET
        } else if !self.accepts(self.price.utility(candidate, cost)) {
            gate::UTILITY
        } else {
            gate::PASSED
        }
    }

    /// Prices the candidates that passed the seven gates, given by their places, and puts them into order.
    ///
    /// Nothing here wraps: there are at most 65,535 candidates.
    #[inline(always)]
    pub(crate) fn run(&self, passing: Passing<'_>) -> Verdicts<'c> {
        let mut podium = Podium::default();
        let (mut over_budget, mut worthless) = (0_u32, 0_u32);
        passing.each(|index| {
            let Some(candidate) = self.candidates.get(index) else {
                return;
            };
            let cost = self.price.cost(candidate);
            if !self.affords(cost) {
                over_budget = over_budget.wrapping_add(1);
                return;
            }
            let utility = self.price.utility(candidate, cost);
            if !self.accepts(utility) {
                worthless = worthless.wrapping_add(1);
                return;
            }
            let lead = self.objective.lead(&Contender {
                candidate,
                cost,
                utility,
            });
            podium.admit(lead, index, |a, b| self.precedes(a, b));
        });
        Verdicts {
            first: podium.first().and_then(|step| Some((step.index, self.standing(step)?))),
            second: podium.second().and_then(|step| self.standing(step)),
            eligible: podium.passed(),
            over_budget,
            worthless,
        }
    }

    /// Who stands on a step of the podium.
    #[inline(always)]
    fn standing(&self, step: Step) -> Option<Contender<'c>> {
        match self.objective {
            // The lead is the utility: only the cost is found again.
            Objective::Utility => {
                let candidate = self.candidates.get(step.index)?;
                Some(Contender {
                    candidate,
                    cost: self.price.cost(candidate),
                    utility: step.lead.cast_signed(),
                })
            }
            _ => self.contender(step.index),
        }
    }

    /// The candidate at a place, priced. The podium keeps places only, because pricing two again costs less than
    /// carrying their numbers along.
    #[inline(always)]
    pub(crate) fn contender(&self, index: usize) -> Option<Contender<'c>> {
        let candidate = self.candidates.get(index)?;
        let cost = self.price.cost(candidate);
        Some(Contender {
            candidate,
            cost,
            utility: self.price.utility(candidate, cost),
        })
    }

    /// Whether the candidate at place `a` comes before that at `b`, by the whole order.
    #[cold]
    #[inline(never)]
    fn precedes(&self, a: usize, b: usize) -> bool {
        match (self.contender(a), self.contender(b)) {
            (Some(a), Some(b)) => self.objective.order(&a, &b) == Ordering::Less,
            _ => false,
        }
    }
}
