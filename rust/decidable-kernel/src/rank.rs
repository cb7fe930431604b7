use core::cmp::Ordering;

use crate::{Candidate, Objective};

/// What the order of an objective looks at.
#[derive(Clone, Copy)]
pub(crate) struct Contender<'a> {
    pub(crate) candidate: &'a Candidate,
    pub(crate) cost: u64,
    pub(crate) utility: i64,
}

impl Objective {
    /// The order of two contenders: a total one, because no two candidates have one `model_id`.
    pub(crate) fn order(self, a: &Contender<'_>, b: &Contender<'_>) -> Ordering {
        let utility = || b.utility.cmp(&a.utility);
        let cost = || a.cost.cmp(&b.cost);
        let quality = || b.candidate.quality_bps.cmp(&a.candidate.quality_bps);
        let latency = || a.candidate.p95_latency_ms.cmp(&b.candidate.p95_latency_ms);
        let model = || a.candidate.model_id.cmp(&b.candidate.model_id);
        match self {
            Self::Utility => utility().then_with(cost).then_with(quality).then_with(model),
            Self::Cheapest => cost().then_with(quality).then_with(latency).then_with(model),
            Self::Quality => quality().then_with(cost).then_with(latency).then_with(model),
            Self::Fastest => latency().then_with(cost).then_with(quality).then_with(model),
        }
    }

    /// The first thing that the order looks at, as a number of which more is better. It nearly always decides.
    #[inline(always)]
    pub(crate) fn lead(self, contender: &Contender<'_>) -> u64 {
        match self {
            // Positive, as gate 9 asks, so that it orders without its sign as with it.
            Self::Utility => contender.utility.cast_unsigned(),
            Self::Cheapest => !contender.cost,
            Self::Quality => contender.candidate.quality_bps.into(),
            Self::Fastest => !u64::from(contender.candidate.p95_latency_ms),
        }
    }
}

/// How many passed, and the places in the catalog of the first two.
#[derive(Clone, Copy, Default)]
pub(crate) struct Podium {
    passed: u32,
    first: Step,
    second: Step,
}

/// One step of the podium: who stands there, and their lead. It means nothing before enough have passed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Step {
    pub(crate) lead: u64,
    pub(crate) index: usize,
}

impl Podium {
    pub(crate) const fn passed(&self) -> u32 {
        self.passed
    }
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<Step> {
        (self.passed >= 1).then_some(self.first)
    }
    #[inline(always)]
    pub(crate) fn second(&self) -> Option<Step> {
        (self.passed >= 2).then_some(self.second)
    }

    /// Lets a candidate take its step. Leads decide; where they are equal, `precedes` asks for the whole order. An
    /// empty step has the lowest lead of all, so that only equal leads need ask whether it is empty.
    #[inline(always)]
    pub(crate) fn admit(&mut self, lead: u64, index: usize, precedes: impl Fn(usize, usize) -> bool) {
        let before = self.passed;
        let takes = |step: Step, others: u32| {
            lead > step.lead || (lead == step.lead && (before < others || precedes(index, step.index)))
        };
        if takes(self.first, 1) {
            self.second = self.first;
            self.first = Step { lead, index };
        } else if takes(self.second, 2) {
            self.second = Step { lead, index };
        }
        // At most 65,535 candidates.
        self.passed = before.wrapping_add(1);
    }
}
