use decidable_canon::cast;

use crate::{
    Candidate, Limits, Objective, RequestFields,
    price::Price,
    rank::{Contender, Order, Podium},
    screen::{Row, Screen},
};

/// One request against one policy's limits and price list: what every candidate meets, in this order.
pub(crate) struct Trial<'a, P> {
    screen: Screen,
    pub(crate) price: &'a P,
    pub(crate) budget_limit_microunits: u64,
    objective: Objective,
}

/// What came of a trial.
#[derive(Clone, Copy, Default)]
pub(crate) struct Verdicts {
    /// The first two of those that passed, and how many did.
    pub(crate) podium: Podium,
    /// How many passed the seven gates and cost more than the budget.
    pub(crate) over_budget: usize,
    /// How many were within it and had no positive utility.
    pub(crate) worthless: usize,
}

impl<'a, P: Price> Trial<'a, P> {
    #[inline]
    pub(crate) fn new(limits: &Limits, request: &RequestFields, price: &'a P) -> Self {
        Self {
            screen: Screen::new(request),
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

    /// Puts every candidate through the gates and those that pass into order. First the seven gates of up to 64
    /// candidates, which branch nowhere, then prices and order for those that passed.
    #[inline(always)]
    pub(crate) fn run(&self, candidates: &[Candidate], rows: &[Row]) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let order = Order {
            objective: self.objective,
            candidates,
        };
        let mut start = 0_usize;
        for (block, rows) in candidates.chunks(64).zip(rows.chunks(64)) {
            let mut admitted = self.screen.admitted(rows);
            while admitted != 0 {
                let place = cast::usize_from_u32(admitted.trailing_zeros());
                admitted &= admitted.wrapping_sub(1);
                if let Some(candidate) = block.get(place) {
                    self.weigh(&mut verdicts, order, start.wrapping_add(place), candidate);
                }
            }
            start = start.wrapping_add(64);
        }
        verdicts
    }

    /// Puts one candidate that passed the seven gates through the other two and into order. No count and no index
    /// can wrap: there are at most 65,535 candidates.
    #[inline(always)]
    fn weigh(&self, verdicts: &mut Verdicts, order: Order<'_>, index: usize, candidate: &Candidate) {
        let cost = self.price.cost(candidate);
        if !self.affords(cost) {
            verdicts.over_budget = verdicts.over_budget.wrapping_add(1);
            return;
        }
        let utility = self.price.utility(candidate, cost);
        if !self.accepts(utility) {
            verdicts.worthless = verdicts.worthless.wrapping_add(1);
            return;
        }
        verdicts.podium.admit(order, Contender { index, cost, utility });
    }
}
