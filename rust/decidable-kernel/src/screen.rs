//! The seven gates of a whole catalog at once, in few instructions and without a branch. [`Gates`](crate::gate::Gates)
//! is the definition; a property test holds this to it.

use core::slice::Chunks;

use decidable_canon::cast;

use crate::{Candidate, RequestFields};

/// How many candidates are screened at a time: one bit each.
const BLOCK: usize = 64;

/// A candidate's side of the gates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    /// Slack of latency, quality, risk ceiling and whether it is enabled, each below a guard bit.
    pub(crate) standing: u64,
    pub(crate) capabilities: u64,
    /// The bit of its provider.
    pub(crate) provider: u64,
    pub(crate) region_mask: u64,
}

/// A request's side of the gates.
#[derive(Clone, Copy)]
pub(crate) struct Screen {
    /// The least standing that will do, in the same places.
    pub(crate) demanded: u64,
    pub(crate) required_capabilities: u64,
    pub(crate) refused_providers: u64,
    pub(crate) required_region_mask: u64,
    /// All ones if any region will do.
    pub(crate) any_region: u64,
}

// Where the parts of a standing begin, and the guard bit above each. A subtraction of what is demanded clears a part's
// guard exactly if the part is smaller, and because the guard pays for the borrow, it reaches no other part.
const LATENCY: u32 = 0;
pub(crate) const QUALITY: u32 = 33;
pub(crate) const RISK: u32 = 48;
pub(crate) const GUARDS: u64 = LATENCY_GUARD | QUALITY_GUARD | RISK_GUARD | ENABLED;
pub(crate) const LATENCY_GUARD: u64 = 1 << 32;
pub(crate) const QUALITY_GUARD: u64 = 1 << 47;
pub(crate) const RISK_GUARD: u64 = 1 << 62;
pub(crate) const ENABLED: u64 = 1 << 63;

impl Side {
    pub(crate) fn new(candidate: &Candidate) -> Self {
        let enabled = if candidate.enabled { GUARDS } else { GUARDS & !ENABLED };
        let standing = parts(
            candidate.p95_latency_ms,
            candidate.quality_bps,
            candidate.risk_ceiling_bps,
        );
        Self {
            standing: standing | enabled,
            capabilities: candidate.capabilities,
            // A provider_id is at most 63, as the policy checked.
            provider: 1_u64.wrapping_shl(candidate.provider_id.into()),
            region_mask: candidate.region_mask,
        }
    }
}

/// Latency (the less the better, so its complement), quality and risk side by side: 32, 14 and 14 bits, for proportions
/// of at most 10,000 < 2^14.
fn parts(latency_ms: u32, quality_bps: u16, risk_bps: u16) -> u64 {
    u64::from(!latency_ms) << LATENCY | u64::from(quality_bps) << QUALITY | u64::from(risk_bps) << RISK
}

impl Screen {
    #[inline(always)]
    pub(crate) fn new(request: &RequestFields) -> Self {
        let longest_latency_ms = match request.max_p95_latency_ms {
            0 => u32::MAX,
            limit => limit,
        };
        Self {
            demanded: parts(longest_latency_ms, request.minimum_quality_bps, request.risk_bps),
            required_capabilities: request.required_capabilities,
            refused_providers: !request.allowed_provider_mask,
            required_region_mask: request.required_region_mask,
            any_region: if request.required_region_mask == 0 { u64::MAX } else { 0 },
        }
    }

    #[inline(always)]
    const fn admits(&self, side: &Side) -> bool {
        let below = !side.standing.wrapping_sub(self.demanded) & GUARDS;
        let missing = self.required_capabilities & !side.capabilities;
        let refused = self.refused_providers & side.provider;
        let within = self.required_region_mask & side.region_mask | self.any_region;
        (below | missing | refused == 0) & (within != 0)
    }

    /// Those of at most 64 candidates that pass all gates, one bit each from the lowest.
    #[inline(always)]
    fn admitted(&self, sides: &[Side]) -> u64 {
        let mut admitted = 0;
        for side in sides.iter().rev() {
            admitted = admitted << 1 | u64::from(self.admits(side));
        }
        admitted
    }
}

/// The places of the candidates that pass all gates, in ascending order: 64 are screened at a time.
pub(crate) struct Passing<'a> {
    request: &'a RequestFields,
    /// The blocks that come after the current one.
    blocks: Chunks<'a, Side>,
    /// Where the current block begins.
    start: usize,
    /// Those of it that pass.
    admitted: u64,
}

impl<'a> Passing<'a> {
    #[inline(always)]
    pub(crate) fn new(request: &'a RequestFields, sides: &'a [Side]) -> Self {
        let mut blocks = sides.chunks(BLOCK);
        let mut passing = Self {
            request,
            admitted: blocks.next().map_or(0, |block| Screen::new(request).admitted(block)),
            blocks,
            start: 0,
        };
        passing.seek();
        passing
    }

    /// Whether nobody passes.
    #[inline(always)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.admitted == 0
    }

    /// Screens on until somebody passes.
    #[inline(always)]
    fn seek(&mut self) {
        while self.admitted == 0
            && let Some(block) = self.blocks.next()
        {
            // At most 65,535 candidates.
            self.start = self.start.wrapping_add(BLOCK);
            self.admitted = Screen::new(self.request).admitted(block);
        }
    }

    /// Visits the places in ascending order.
    #[inline(always)]
    pub(crate) fn each(mut self, mut visit: impl FnMut(usize)) {
        while !self.is_empty() {
            while self.admitted != 0 {
                let place = cast::usize_from_u32(self.admitted.trailing_zeros());
                self.admitted &= self.admitted.wrapping_sub(1);
                visit(self.start.wrapping_add(place));
            }
            self.seek();
        }
    }
}

#[cfg(test)]
mod tests;
