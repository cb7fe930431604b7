//! Keys of candidates for lanes: what an objective compares before the cost as a class, and the places, in an order in which the
//! later of two that are equal in everything before comes first.

use core::cmp::Reverse;

use decidable_canon::cast;

use crate::{Candidate, Objective};

/// Bits of a place among the candidates, below what is compared in a key. Places begin at 1, so that no key is 0.
pub(crate) const PLACE_BITS: u32 = 16;
pub(crate) const PLACES: u64 = (1 << PLACE_BITS) - 1;

/// The candidates that are switched on, each with its place in the catalog, in the order of their places in keys.
pub(crate) struct Places<'a> {
    pub(crate) order: Vec<(u16, &'a Candidate)>,
    objective: Objective,
    /// What is compared before the cost, ascending.
    compared: Vec<u64>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(objective: Objective, candidates: &'a [Candidate]) -> Self {
        let mut order: Vec<(u16, &Candidate)> = candidates
            .iter()
            .zip(0..)
            .filter(|(candidate, _)| candidate.enabled)
            .map(|(candidate, index)| (index, candidate))
            .collect();
        // Of two that are equal in what a key compares, the later has the larger place and comes first. Where utilities are
        // compared the cost decides between equal ones, and the place only after that.
        let quality = |candidate: &Candidate| candidate.quality_bps;
        let latency = |candidate: &Candidate| Reverse(candidate.p95_latency_ms);
        match objective {
            Objective::Utility => order.sort_by_key(|(index, c)| (quality(c), Reverse(*index))),
            Objective::Cheapest => order.sort_by_key(|(index, c)| (quality(c), latency(c), Reverse(*index))),
            Objective::Quality => order.sort_by_key(|(index, c)| (latency(c), Reverse(*index))),
            Objective::Fastest => order.sort_by_key(|(index, c)| (quality(c), Reverse(*index))),
        }
        let mut compared: Vec<u64> = order
            .iter()
            .filter_map(|(_, candidate)| compared(objective, candidate))
            .collect();
        compared.sort_unstable();
        compared.dedup();
        Self {
            order,
            objective,
            compared,
        }
    }

    /// How many classes there are; none where nothing is compared before the cost.
    pub(crate) const fn classes(&self) -> usize {
        self.compared.len()
    }

    /// The class of a candidate: the larger the better.
    pub(crate) fn class(&self, candidate: &Candidate) -> u64 {
        compared(self.objective, candidate).map_or(0, |own| {
            cast::u64_from_usize(self.compared.partition_point(|other| *other < own))
        })
    }
}

/// What an objective compares before the cost, of which more is better.
fn compared(objective: Objective, candidate: &Candidate) -> Option<u64> {
    match objective {
        Objective::Utility | Objective::Cheapest => None,
        Objective::Quality => Some(candidate.quality_bps.into()),
        Objective::Fastest => Some((!candidate.p95_latency_ms).into()),
    }
}
