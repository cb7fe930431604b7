use std::sync::Arc;

use decidable_canon::{
    Canonical, Digest, ReadErrorKind, Reader, Sink, cast,
    tag::{self, Tag},
};

#[cfg(target_arch = "x86_64")]
use fearless_simd::Level;

#[cfg(target_arch = "x86_64")]
use crate::ifma::Table;
use crate::{Candidate, Error, Limits, Names, Objective, price::Ceilings, screen::Side};

/// A catalog has at most this many candidates, so that every index fits 16 bits beside the value for "none".
pub const MOST_CANDIDATES: usize = 65_535;

/// Limits and a catalog of candidates, checked once and never changed.
#[derive(Clone, Debug)]
pub struct Policy {
    limits: Limits,
    candidates: Vec<Candidate>,
    names: Option<Arc<Names>>,
    sides: Vec<Side>,
    ceilings: Option<Ceilings>,
    #[cfg(target_arch = "x86_64")]
    table: Option<Arc<Table>>,
    shared_digest: Digest,
    digest: Digest,
}

impl Policy {
    /// Checks the limits and the candidates and sorts the candidates by `model_id`.
    ///
    /// # Errors
    /// `OutOfRange` for a proportion above 10,000, a multiplier above 50,000 or a `provider_id` above 63;
    /// `EmptyCatalog`, `TooManyCandidates`, `ReservedModelId`, `DuplicateModelId`, `NoEnabledCandidate`. Each names the
    /// field and the value.
    pub fn new(limits: Limits, mut candidates: Vec<Candidate>, names: Option<Names>) -> Result<Self, Error> {
        limits.validate()?;
        let count = cast::u64_from_usize(candidates.len());
        if candidates.is_empty() {
            return Err(Error::empty_catalog());
        }
        if candidates.len() > MOST_CANDIDATES {
            return Err(Error::too_many_candidates(count, cast::u64_from_usize(MOST_CANDIDATES)));
        }
        candidates.sort_by_key(|candidate| candidate.model_id);
        for candidate in &candidates {
            candidate.validate()?;
        }
        for pair in candidates.windows(2) {
            if let [a, b] = pair
                && a.model_id == b.model_id
            {
                return Err(Error::duplicate_model_id(a.model_id));
            }
        }
        if !candidates.iter().any(|candidate| candidate.enabled) {
            return Err(Error::no_enabled_candidate(count));
        }
        let names = names.map(Arc::new);
        let shared_digest = Shared {
            limits: &limits,
            candidates: &candidates,
        }
        .digest();
        let digest = if limits.objective == Objective::Utility && names.is_none() {
            shared_digest
        } else {
            Extended {
                shared: shared_digest,
                objective: limits.objective,
                names: names.as_deref(),
            }
            .digest()
        };
        Ok(Self {
            limits,
            sides: candidates.iter().map(Side::new).collect(),
            ceilings: Ceilings::new(&limits, &candidates),
            #[cfg(target_arch = "x86_64")]
            table: Level::new()
                .as_avx512()
                .and_then(|token| Table::new(token, &limits, &candidates))
                .map(Arc::new),
            candidates,
            names,
            shared_digest,
            digest,
        })
    }

    /// What it holds against every request.
    #[inline]
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }
    /// The catalog, by ascending `model_id`.
    #[inline]
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
    /// The names that travel with it.
    #[must_use]
    pub fn names(&self) -> Option<&Names> {
        self.names.as_deref()
    }
    pub(crate) const fn shared_names(&self) -> Option<&Arc<Names>> {
        self.names.as_ref()
    }
    /// The candidate of this number.
    #[must_use]
    pub fn candidate(&self, model_id: u32) -> Option<&Candidate> {
        self.candidate_at(model_id).map(|(_, candidate)| candidate)
    }
    /// The same, with its place in the catalog.
    pub(crate) fn candidate_at(&self, model_id: u32) -> Option<(usize, &Candidate)> {
        let place = self
            .candidates
            .binary_search_by_key(&model_id, |candidate| candidate.model_id)
            .ok()?;
        Some((place, self.candidates.get(place)?))
    }
    /// The candidates' sides of the gates, in catalog order.
    #[inline]
    pub(crate) fn sides(&self) -> &[Side] {
        &self.sides
    }
    /// The catalog as the lanes have it, where this machine and the catalog are made for them.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn table(&self) -> Option<&Table> {
        self.table.as_deref()
    }
    /// The largest rates and latency of the catalog.
    #[inline]
    pub(crate) const fn ceilings(&self) -> Option<&Ceilings> {
        self.ceilings.as_ref()
    }

    /// The digest: `dcdpol1` with names or an objective other than utility, the shared one without. Computed once.
    #[inline]
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
    /// The digest of the shared contract (`calypol1`), which sees neither names nor objective. Computed once.
    #[inline]
    #[must_use]
    pub const fn shared_digest(&self) -> Digest {
        self.shared_digest
    }
    /// Whether it has names or an objective that the shared contract lacks.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.limits.objective != Objective::Utility || self.names.is_some()
    }

    /// Writes the whole policy: objective u8, the limits as in `calypol1`, a count u32, the candidates as in
    /// `calypol1`, a presence byte and the names as in `dcdnam1`.
    pub fn encode(&self, out: &mut impl Sink) {
        out.u8(self.limits.objective.code());
        self.limits.encode_shared(out);
        // At most MOST_CANDIDATES, as the constructor checked.
        out.u32(cast::u32_from_usize(self.candidates.len()).unwrap_or(u32::MAX));
        for candidate in &self.candidates {
            candidate.encode(out);
        }
        out.option(self.names(), |out, names| names.encode(out));
    }

    /// Reads what [`encode`](Self::encode) wrote, and checks it as [`new`](Self::new) does.
    ///
    /// # Errors
    /// `Unreadable`, also for candidates that are not in ascending order, or an error of [`new`](Self::new).
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let limits = Limits::decode(reader)?;
        let count = reader.u32()?;
        let mut candidates: Vec<Candidate> = Vec::new();
        for _ in 0..count {
            let out_of_order = reader.error(ReadErrorKind::OutOfRange);
            let candidate = Candidate::decode(reader)?;
            if candidates.last().is_some_and(|last| last.model_id > candidate.model_id) {
                return Err(out_of_order.into());
            }
            candidates.push(candidate);
        }
        let names = if reader.bool()? {
            Some(Names::decode(reader)?)
        } else {
            None
        };
        Self::new(limits, candidates, names)
    }
}

impl PartialEq for Policy {
    /// Two policies are the same if their digests are, which cover every field.
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Policy {}

/// The policy layout of the shared contract.
struct Shared<'a> {
    limits: &'a Limits,
    candidates: &'a [Candidate],
}

impl Canonical for Shared<'_> {
    const TAG: Tag = tag::POLICY;

    fn encode<S: Sink>(&self, out: &mut S) {
        let Self { limits, candidates } = self;
        limits.encode_shared(out);
        for candidate in *candidates {
            candidate.encode(out);
        }
    }
}

/// The extended layout, which wraps the shared digest.
struct Extended<'a> {
    shared: Digest,
    objective: Objective,
    names: Option<&'a Names>,
}

impl Canonical for Extended<'_> {
    const TAG: Tag = tag::EXTENDED_POLICY;

    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            shared,
            objective,
            names,
        } = self;
        out.digest(shared);
        out.u8(objective.code());
        out.option(*names, |out, names| out.digest(&names.digest()));
    }
}
