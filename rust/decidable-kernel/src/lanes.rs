//! Many candidates or requests side by side, which is what makes deciding fast.
//!
//! [`Policy::derive`] is the definition. The lanes find the first two in an objective's order for ordinary numbers; what
//! they cannot decide is decided one after the other: numbers beyond their bounds, and equal utilities where that matters. Integers
//! only, as everywhere.

#[cfg(target_arch = "x86_64")]
use crate::ifma;
use crate::{Policy, Vectors, decision::DecisionRow, request::RequestRow};

#[cfg(target_arch = "x86_64")]
mod rows;
mod wide;

/// A catalog, made ready for requests side by side.
pub(crate) enum Lanes<'a> {
    #[cfg(target_arch = "x86_64")]
    Ifma(&'a Policy, &'a ifma::Table),
    Wide(wide::Wide<'a>),
}

impl<'a> Lanes<'a> {
    /// `None` where one after the other is needed.
    pub(crate) fn new(policy: &'a Policy, vectors: Vectors) -> Option<Self> {
        let level = vectors.level()?;
        #[cfg(target_arch = "x86_64")]
        if let (Some(_), Some(table)) = (level.as_avx512(), policy.table()) {
            return Some(Self::Ifma(policy, table));
        }
        wide::Wide::new(policy, level).map(Self::Wide)
    }

    /// Decides rows that were checked.
    pub(crate) fn decide(&self, requests: &[RequestRow], decisions: &mut [DecisionRow]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(policy, table) => rows::decide(policy, table, requests, decisions),
            Self::Wide(wide) => wide.decide(requests, decisions),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
