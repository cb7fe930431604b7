use crate::{
    Candidate, Limits, Objective, RequestFields,
    gate::Gates,
    price::{Price, Rates},
    rank::Contender,
};

/// One request against one policy's limits and price list: what every candidate meets, in this order.
pub(crate) struct Trial<'a, P> {
    pub(crate) gates: Gates,
    pub(crate) price: &'a P,
    pub(crate) budget_limit_microunits: u64,
    objective: Objective,
}

impl<'a, P: Price> Trial<'a, P> {
    #[inline]
    pub(crate) const fn new(limits: &Limits, request: &RequestFields, price: &'a P) -> Self {
        Self {
            gates: Gates::new(request),
            price,
            budget_limit_microunits: request.budget_limit_microunits,
            objective: limits.objective,
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

    /// The candidate as it goes into the order, if it passes every gate.
    #[inline(always)]
    pub(crate) fn contender(&self, index: usize, candidate: &Candidate, rates: &Rates) -> Option<Contender> {
        if !self.gates.admit(candidate) {
            return None;
        }
        let cost = self.price.cost(candidate, rates);
        if !self.affords(cost) {
            return None;
        }
        let utility = self.price.utility(candidate, rates, cost);
        self.accepts(utility)
            .then(|| Contender::new(index, candidate, cost, utility))
    }
}
