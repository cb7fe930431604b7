//! Many candidates or requests side by side, which is what makes deciding fast.
//!
//! [`Policy::derive`] is the definition. The lanes find the first two in an objective's order for ordinary numbers; what they cannot
//! decide, numbers beyond their bounds, is decided one after the other. Integers only, as everywhere.

#[cfg(target_arch = "x86_64")]
use crate::ifma;
use crate::{Policy, Rejections, Vectors, decision::DecisionRow, request::RequestRow};

mod rows;
mod wide;

/// How many requests are counted side by side at most.
pub(crate) const COUNTED_TOGETHER: usize = 8;

/// A catalog, made ready for requests side by side.
pub(crate) enum Lanes<'a> {
    #[cfg(target_arch = "x86_64")]
    Ifma(&'a Policy, &'a ifma::Table),
    Wide(&'a Policy, wide::Wide),
}

impl<'a> Lanes<'a> {
    /// `None` where one after the other is needed, or where a catalog would have to be made ready and is not `worth` it.
    pub(crate) fn new(policy: &'a Policy, vectors: Vectors, worth: bool) -> Option<Self> {
        let level = vectors.level()?;
        // What is beyond the bounds of a table is beyond those of narrower vectors, too.
        #[cfg(target_arch = "x86_64")]
        if level.as_avx512().is_some() {
            return policy.table().map(|table| Self::Ifma(policy, table));
        }
        worth.then(|| wide::Wide::new(policy, level).map(|wide| Self::Wide(policy, wide)))?
    }

    /// How many candidates up to eight requests lost at each gate, given how many are eligible; `None` where one after the other
    /// is needed.
    pub(crate) fn count(
        &self,
        rows: &[Option<(&RequestRow, u16)>; COUNTED_TOGETHER],
    ) -> Option<[Rejections; COUNTED_TOGETHER]> {
        let first = rows.iter().flatten().next()?;
        let rows = rows.map(|row| row.unwrap_or(*first));
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(_, table) => ifma::count_rows(table, rows),
            Self::Wide(_, wide) => {
                let [a, b, c, d, e, f, g, h] = rows;
                let ([a, b, c, d], [e, f, g, h]) = (wide.count_rows([a, b, c, d])?, wide.count_rows([e, f, g, h])?);
                Some([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// Decides rows that were checked.
    pub(crate) fn decide(&self, requests: &[RequestRow], decisions: &mut [DecisionRow]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(policy, table) => rows::decide(
                policy,
                requests,
                decisions,
                |requests, decisions| ifma::decide_rows(table, requests, decisions),
                |rows| Some(ifma::reasons(table, rows)),
            ),
            Self::Wide(policy, wide) => rows::decide(
                policy,
                requests,
                decisions,
                |requests, decisions| wide.decide_rows(requests, decisions),
                |rows| {
                    let counts = wide.count_rows(rows.map(|row| (row, 0)))?;
                    Some(counts.map(|counts| counts.dominant()))
                },
            ),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
