use core::cmp::Ordering;

use crate::{Candidate, Objective};

/// A candidate that passed every gate: its place in the catalog, its cost and its utility.
#[derive(Clone, Copy, Default)]
pub(crate) struct Contender {
    pub(crate) index: usize,
    pub(crate) cost: u64,
    pub(crate) utility: i64,
}

/// The order of an objective over a catalog.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) objective: Objective,
    pub(crate) candidates: &'a [Candidate],
}

impl Order<'_> {
    /// Whether `a` comes before `b`. Utilities that differ decide at once; everything else is compared in full.
    #[inline(always)]
    fn prefers(self, a: &Contender, b: &Contender) -> bool {
        match self.objective {
            Objective::Utility if a.utility != b.utility => a.utility > b.utility,
            _ => self.compare(a, b) == Ordering::Less,
        }
    }

    /// A total order, because no two candidates have one `model_id`. The catalog is in ascending order of `model_id`,
    /// so places compare as those do.
    #[inline(never)]
    fn compare(self, a: &Contender, b: &Contender) -> Ordering {
        let (Some(of_a), Some(of_b)) = (self.candidates.get(a.index), self.candidates.get(b.index)) else {
            return a.index.cmp(&b.index);
        };
        let utility = || b.utility.cmp(&a.utility);
        let cost = || a.cost.cmp(&b.cost);
        let quality = || of_b.quality_bps.cmp(&of_a.quality_bps);
        let latency = || of_a.p95_latency_ms.cmp(&of_b.p95_latency_ms);
        let place = || a.index.cmp(&b.index);
        match self.objective {
            Objective::Utility => utility().then_with(cost).then_with(quality).then_with(place),
            Objective::Cheapest => cost().then_with(quality).then_with(latency).then_with(place),
            Objective::Quality => quality().then_with(cost).then_with(latency).then_with(place),
            Objective::Fastest => latency().then_with(cost).then_with(quality).then_with(place),
        }
    }
}

/// The first two of those that passed, and how many did.
#[derive(Clone, Copy, Default)]
pub(crate) struct Podium {
    passed: usize,
    first: Contender,
    second: Contender,
}

impl Podium {
    /// How many passed.
    pub(crate) const fn passed(&self) -> usize {
        self.passed
    }
    /// The first, if one passed.
    #[inline]
    pub(crate) fn first(&self) -> Option<Contender> {
        (self.passed >= 1).then_some(self.first)
    }
    /// The second, if two passed.
    #[inline]
    pub(crate) fn second(&self) -> Option<Contender> {
        (self.passed >= 2).then_some(self.second)
    }

    #[inline(always)]
    pub(crate) fn admit(&mut self, order: Order<'_>, contender: Contender) {
        if self.passed == 0 || order.prefers(&contender, &self.first) {
            self.second = self.first;
            self.first = contender;
        } else if self.passed == 1 || order.prefers(&contender, &self.second) {
            self.second = contender;
        }
        // At most 65,535 candidates.
        self.passed = self.passed.wrapping_add(1);
    }
}
