use core::cmp::Reverse;

use crate::{Candidate, Objective};

/// A candidate that passed every gate, with what the order looks at.
#[derive(Clone, Copy)]
pub(crate) struct Contender {
    pub(crate) index: usize,
    pub(crate) model_id: u32,
    pub(crate) quality_bps: u16,
    pub(crate) p95_latency_ms: u32,
    pub(crate) cost: u64,
    pub(crate) utility: i64,
}

impl Contender {
    #[inline(always)]
    pub(crate) const fn new(index: usize, candidate: &Candidate, cost: u64, utility: i64) -> Self {
        Self {
            index,
            model_id: candidate.model_id,
            quality_bps: candidate.quality_bps,
            p95_latency_ms: candidate.p95_latency_ms,
            cost,
            utility,
        }
    }
}

impl Objective {
    /// Whether `a` comes before `b`: a total order, because no two candidates have one `model_id`.
    #[inline(always)]
    pub(crate) fn prefers(self, a: &Contender, b: &Contender) -> bool {
        match self {
            Self::Utility => {
                let key = |c: &Contender| (Reverse(c.utility), c.cost, Reverse(c.quality_bps), c.model_id);
                key(a) < key(b)
            }
            Self::Cheapest => {
                let key = |c: &Contender| (c.cost, Reverse(c.quality_bps), c.p95_latency_ms, c.model_id);
                key(a) < key(b)
            }
            Self::Quality => {
                let key = |c: &Contender| (Reverse(c.quality_bps), c.cost, c.p95_latency_ms, c.model_id);
                key(a) < key(b)
            }
            Self::Fastest => {
                let key = |c: &Contender| (c.p95_latency_ms, c.cost, Reverse(c.quality_bps), c.model_id);
                key(a) < key(b)
            }
        }
    }
}

/// The first two of those that passed, and how many did.
#[derive(Clone, Copy, Default)]
pub(crate) struct Podium {
    pub(crate) first: Option<Contender>,
    pub(crate) second: Option<Contender>,
    pub(crate) count: usize,
}

impl Podium {
    #[inline(always)]
    pub(crate) fn admit(&mut self, objective: Objective, contender: Contender) {
        self.count = self.count.wrapping_add(1);
        if self.first.is_none_or(|first| objective.prefers(&contender, &first)) {
            self.second = self.first;
            self.first = Some(contender);
        } else if self.second.is_none_or(|second| objective.prefers(&contender, &second)) {
            self.second = Some(contender);
        }
    }
}
