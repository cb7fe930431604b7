//! Many candidates or requests side by side, which is what makes deciding fast.
//!
//! [`Policy::derive`] is the definition. The lanes find the first two in an objective's order for ordinary numbers; what
//! they cannot decide, they leave to it: numbers beyond their bounds, and equal utilities where that matters. Integers
//! only, as everywhere.

use core::iter;

use decidable_canon::{Canonical as _, Row, cast};
use fearless_simd::Level;

use crate::{
    Decision, Policy, RequestFields, Vectors,
    batch::{DecisionRow, RequestRow, read},
    decision::write_reason,
    rank::Contender,
    trial::Verdicts,
};

#[cfg(target_arch = "x86_64")]
mod ifma;
mod wide;

#[cfg(target_arch = "x86_64")]
pub(crate) use ifma::Table;

/// With fewer candidates one request is decided as fast one after the other.
pub(crate) const FEWEST_FOR_ONE: usize = 8;

/// A catalog, made ready for requests side by side.
pub(crate) struct Lanes<'a> {
    policy: &'a Policy,
    way: Way<'a>,
}

enum Way<'a> {
    #[cfg(target_arch = "x86_64")]
    Ifma(fearless_simd::Avx512, &'a Table),
    Wide(wide::Wide<'a>),
}

impl<'a> Lanes<'a> {
    /// `None` where one request at a time is faster, or where the definition is needed.
    pub(crate) fn new(policy: &'a Policy, vectors: Vectors) -> Option<Self> {
        let level = vectors.level()?;
        #[cfg(target_arch = "x86_64")]
        if let (Some(token), Some(table)) = (level.as_avx512(), policy.table()) {
            return Some(Self {
                policy,
                way: Way::Ifma(token, table),
            });
        }
        Some(Self {
            policy,
            way: Way::Wide(wide::Wide::new(policy, level)?),
        })
    }

    /// Decides rows that were checked.
    pub(crate) fn decide(&self, requests: &[RequestRow], decisions: &mut [DecisionRow]) {
        match &self.way {
            #[cfg(target_arch = "x86_64")]
            Way::Ifma(token, table) => {
                for (requests, decisions) in requests.chunks(ifma::PIECE).zip(decisions.chunks_mut(ifma::PIECE)) {
                    let left = ifma::decide_rows(*token, table, requests, decisions);
                    for row in ones(left.beyond) {
                        if let (Some(request), Some(decision)) = (requests.get(row), decisions.get_mut(row)) {
                            self.policy
                                .decide_plainly(&read(request), &[])
                                .encode(&mut Row::new(decision));
                        }
                    }
                    let mut rejected = ones(left.rejected).peekable();
                    while let Some(first) = rejected.peek().and_then(|row| requests.get(*row)) {
                        let mut places = [None; ifma::LANES];
                        let mut rows = [(first, 0); ifma::LANES];
                        for (place, row) in places.iter_mut().zip(&mut rows) {
                            *place = rejected.next();
                            if let Some(request) = place.and_then(|place| requests.get(place)) {
                                row.0 = request;
                            }
                        }
                        let counted = ifma::count_rows(*token, table, rows);
                        for (place, counts) in places.into_iter().zip(counted) {
                            if let Some(decision) = place.and_then(|place| decisions.get_mut(place)) {
                                write_reason(decision, counts.dominant());
                            }
                        }
                    }
                }
            }
            Way::Wide(wide) => wide.decide(requests, decisions),
        }
    }
}

/// The places of the ones, ascending.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let place = (bits != 0).then(|| cast::usize_from_u32(bits.trailing_zeros()));
        bits &= bits.wrapping_sub(1);
        place
    })
}

/// Decides one request that is not refused, where that is faster side by side; `None` where the definition is needed.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn decide_one(policy: &Policy, table: &Table, request: &RequestFields) -> Option<Decision> {
    let selected = match ifma::decide_one(Level::new().as_avx512()?, table, request)? {
        ifma::Met::Selected(selected) => selected,
        ifma::Met::Rejected(rejections) => return Some(policy.rejection_for(request, &rejections)),
    };
    let contender = |index: u16, cost, utility| {
        Some(Contender {
            candidate: policy.candidates().get(cast::usize_from_u16(index))?,
            cost,
            utility,
        })
    };
    let first = contender(selected.first, selected.cost, selected.utility)?;
    let verdicts = Verdicts {
        first: Some((cast::usize_from_u16(selected.first), first)),
        second: match selected.second {
            Some(index) => Some(contender(index, 0, selected.second_utility)?),
            None => None,
        },
        eligible: selected.eligible.into(),
        over_budget: 0,
        worthless: 0,
    };
    Some(policy.conclusion(request, &verdicts))
}

#[cfg(test)]
mod tests;
