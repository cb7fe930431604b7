use decidable_canon::{Reader, Row, Sink, units::BPS_WHOLE};

use crate::Error;

/// The largest `provider_id`: a request allows providers by one bit each of a 64-bit mask.
pub const HIGHEST_PROVIDER_ID: u16 = 63;

/// Bytes of one candidate.
const CANDIDATE_BYTES: usize = 4 + 2 + 2 + 2 + 1 + 4 + 8 + 8 + 8 + 8;

/// One thing that can be chosen: a model, a venue, a supplier, a carrier. Its digests and documents say *model*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Its number, not 0 and unique in the catalog.
    pub model_id: u32,
    /// Who provides it, 0 to 63.
    pub provider_id: u16,
    /// How good its results are, in basis points.
    pub quality_bps: u16,
    /// The largest risk, in basis points, of a request that it may serve.
    pub risk_ceiling_bps: u16,
    /// Whether it may be chosen at all.
    pub enabled: bool,
    /// The 95th percentile of its latency, in milliseconds.
    pub p95_latency_ms: u32,
    /// What it can do, one bit each.
    pub capabilities: u64,
    /// Where it runs, one bit each.
    pub region_mask: u64,
    /// Price of input: microunits per million tokens.
    pub input_cost_microunits_per_million_tokens: u64,
    /// Price of output: microunits per million tokens.
    pub output_cost_microunits_per_million_tokens: u64,
}

impl Default for Candidate {
    /// An enabled candidate without number, price or capabilities, in every region and for every risk.
    fn default() -> Self {
        Self {
            model_id: 0,
            provider_id: 0,
            quality_bps: 0,
            risk_ceiling_bps: BPS_WHOLE,
            enabled: true,
            p95_latency_ms: 0,
            capabilities: 0,
            region_mask: u64::MAX,
            input_cost_microunits_per_million_tokens: 0,
            output_cost_microunits_per_million_tokens: 0,
        }
    }
}

impl Candidate {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.model_id == 0 {
            return Err(Error::reserved_model_id("candidate"));
        }
        for (field, value, largest) in [
            ("provider_id", self.provider_id, HIGHEST_PROVIDER_ID),
            ("quality_bps", self.quality_bps, BPS_WHOLE),
            ("risk_ceiling_bps", self.risk_ceiling_bps, BPS_WHOLE),
        ] {
            if value > largest {
                return Err(Error::out_of_range(field, value.into(), largest.into()).of_candidate(self.model_id));
            }
        }
        Ok(())
    }

    /// Writes the candidate as every policy layout has it (docs/spec/formats.md, `calypol1`).
    pub(crate) fn encode<S: Sink>(&self, out: &mut S) {
        let mut bytes = [0; CANDIDATE_BYTES];
        self.fill(&mut Row::new(&mut bytes));
        out.put(&bytes);
    }

    #[inline(always)]
    fn fill(&self, out: &mut Row<'_>) {
        let Self {
            model_id,
            provider_id,
            quality_bps,
            risk_ceiling_bps,
            enabled,
            p95_latency_ms,
            capabilities,
            region_mask,
            input_cost_microunits_per_million_tokens,
            output_cost_microunits_per_million_tokens,
        } = self;
        out.u32(*model_id);
        out.u16(*provider_id);
        out.u16(*quality_bps);
        out.u16(*risk_ceiling_bps);
        out.bool(*enabled);
        out.u32(*p95_latency_ms);
        out.u64(*capabilities);
        out.u64(*region_mask);
        out.u64(*input_cost_microunits_per_million_tokens);
        out.u64(*output_cost_microunits_per_million_tokens);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let model_id = reader.u32()?;
        let provider_id = reader.u16()?;
        let quality_bps = reader.u16()?;
        let risk_ceiling_bps = reader.u16()?;
        let enabled = match reader.u8()? {
            0 => false,
            1 => true,
            other => return Err(Error::out_of_range("enabled", other.into(), 1).of_candidate(model_id)),
        };
        Ok(Self {
            model_id,
            provider_id,
            quality_bps,
            risk_ceiling_bps,
            enabled,
            p95_latency_ms: reader.u32()?,
            capabilities: reader.u64()?,
            region_mask: reader.u64()?,
            input_cost_microunits_per_million_tokens: reader.u64()?,
            output_cost_microunits_per_million_tokens: reader.u64()?,
        })
    }
}
