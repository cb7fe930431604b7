use decidable_canon::{
    Canonical, Digest, Message, ReadError, Reader, Sink, cast,
    tag::{self, Tag},
    units::BPS_WHOLE,
};

use crate::Error;

/// A request has at most this many quotes: one for each candidate of the largest catalog.
const MOST_QUOTES: usize = 65_535;

/// Bytes of one request: its thirteen fields without a tag.
pub const REQUEST_ROW_BYTES: usize = 8 + 4 + 4 + 4 + 8 + 8 + 2 + 2 + 2 + 4 + 8 + 8 + 8;

pub(crate) type RequestRow = [u8; REQUEST_ROW_BYTES];

/// Bytes of one request with its tag.
pub(crate) const TAGGED_BYTES: usize = 9 + REQUEST_ROW_BYTES;

/// The thirteen fields of a request that the shared contract has, with their types and their values for "none".
/// docs/spec/decisions.md; the layout is `calyinp1` of docs/spec/formats.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestFields {
    /// The number of the request.
    pub request_sequence: u64,
    /// The candidate that was asked for; 0 or an id that the catalog lacks is legal.
    pub requested_model_id: u32,
    /// Tokens of input.
    pub input_tokens: u32,
    /// Tokens of output that are expected.
    pub output_tokens: u32,
    /// What the answer is worth, in microunits; below 0 counts as 0.
    pub business_value_microunits: i64,
    /// The largest cost, in microunits.
    pub budget_limit_microunits: u64,
    /// How risky the request is, in basis points.
    pub risk_bps: u16,
    /// How sure the caller is of the value, in basis points.
    pub confidence_bps: u16,
    /// The lowest quality that will do, in basis points.
    pub minimum_quality_bps: u16,
    /// The largest 95th percentile of latency, in milliseconds; 0 for no limit.
    pub max_p95_latency_ms: u32,
    /// Capabilities that the candidate must have, one bit each.
    pub required_capabilities: u64,
    /// Providers that may serve, one bit each; all ones for any.
    pub allowed_provider_mask: u64,
    /// Regions of which the candidate must be in one, one bit each; 0 for anywhere.
    pub required_region_mask: u64,
}

impl Default for RequestFields {
    /// Nothing asked for and nothing limited: full confidence, no risk, any provider, any budget.
    fn default() -> Self {
        Self {
            request_sequence: 0,
            requested_model_id: 0,
            input_tokens: 0,
            output_tokens: 0,
            business_value_microunits: 0,
            budget_limit_microunits: u64::MAX,
            risk_bps: 0,
            confidence_bps: BPS_WHOLE,
            minimum_quality_bps: 0,
            max_p95_latency_ms: 0,
            required_capabilities: 0,
            allowed_provider_mask: u64::MAX,
            required_region_mask: 0,
        }
    }
}

impl RequestFields {
    /// What the digest is the SHA-256 of.
    #[inline(always)]
    pub(crate) fn message(&self) -> Message<2> {
        Message::of::<TAGGED_BYTES, _>(self)
    }

    #[inline(always)]
    pub(crate) fn validate(&self) -> Result<(), Error> {
        for (field, value) in [
            ("risk_bps", self.risk_bps),
            ("confidence_bps", self.confidence_bps),
            ("minimum_quality_bps", self.minimum_quality_bps),
        ] {
            if value > BPS_WHOLE {
                return Err(Error::out_of_range(field, value.into(), BPS_WHOLE.into()));
            }
        }
        Ok(())
    }

    /// The fields of a row, which has the length of the layout, so that it can be read.
    #[inline(always)]
    pub(crate) fn from_row(row: &RequestRow) -> Self {
        // A row has the length of its fields, so that this cannot fail; if it ever did, no policy would admit the request.
        Self::decode(&mut Reader::new(row)).unwrap_or(Self::INADMISSIBLE)
    }

    /// Riskier than any limit.
    const INADMISSIBLE: Self = Self {
        request_sequence: 0,
        requested_model_id: 0,
        input_tokens: 0,
        output_tokens: 0,
        business_value_microunits: 0,
        budget_limit_microunits: 0,
        risk_bps: u16::MAX,
        confidence_bps: 0,
        minimum_quality_bps: u16::MAX,
        max_p95_latency_ms: 0,
        required_capabilities: u64::MAX,
        allowed_provider_mask: 0,
        required_region_mask: u64::MAX,
    };

    #[inline(always)]
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(Self {
            request_sequence: reader.u64()?,
            requested_model_id: reader.u32()?,
            input_tokens: reader.u32()?,
            output_tokens: reader.u32()?,
            business_value_microunits: reader.i64()?,
            budget_limit_microunits: reader.u64()?,
            risk_bps: reader.u16()?,
            confidence_bps: reader.u16()?,
            minimum_quality_bps: reader.u16()?,
            max_p95_latency_ms: reader.u32()?,
            required_capabilities: reader.u64()?,
            allowed_provider_mask: reader.u64()?,
            required_region_mask: reader.u64()?,
        })
    }
}

impl Canonical for RequestFields {
    const TAG: Tag = tag::REQUEST;

    fn digest(&self) -> Digest {
        self.message().digest()
    }

    #[inline(always)]
    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            request_sequence,
            requested_model_id,
            input_tokens,
            output_tokens,
            business_value_microunits,
            budget_limit_microunits,
            risk_bps,
            confidence_bps,
            minimum_quality_bps,
            max_p95_latency_ms,
            required_capabilities,
            allowed_provider_mask,
            required_region_mask,
        } = self;
        out.u64(*request_sequence);
        out.u32(*requested_model_id);
        out.u32(*input_tokens);
        out.u32(*output_tokens);
        out.i64(*business_value_microunits);
        out.u64(*budget_limit_microunits);
        out.u16(*risk_bps);
        out.u16(*confidence_bps);
        out.u16(*minimum_quality_bps);
        out.u32(*max_p95_latency_ms);
        out.u64(*required_capabilities);
        out.u64(*allowed_provider_mask);
        out.u64(*required_region_mask);
    }
}

/// A request whose values were checked, with the quotes and the largest use of docs/spec/extensions.md.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    fields: RequestFields,
    max_output_tokens: u32,
    quotes: Vec<(u32, u64)>,
}

impl Request {
    /// Checks the fields. There are no quotes, and the largest use is the expected one.
    ///
    /// # Errors
    /// `OutOfRange` if a proportion is above 10,000.
    pub fn new(fields: RequestFields) -> Result<Self, Error> {
        fields.validate()?;
        Ok(Self {
            fields,
            max_output_tokens: fields.output_tokens,
            quotes: Vec::new(),
        })
    }

    /// Replaces the cost of some candidates, each a `model_id` and a cost in microunits, in ascending order.
    ///
    /// A quote takes the place of the cost from rates in the budget's gate, in the utility and in the order. A quote
    /// for a candidate that the catalog lacks changes nothing but the digest. An empty list is no quotes.
    ///
    /// # Errors
    /// `QuotesNotAscending`, `ReservedModelId` for a quote for 0, or `OutOfRange` for more than 65,535.
    pub fn with_quotes(mut self, quotes: Vec<(u32, u64)>) -> Result<Self, Error> {
        quotes_error(&quotes)?;
        self.quotes = quotes;
        Ok(self)
    }

    /// Sets how many tokens of output there can be at most; the hold is sized by it.
    ///
    /// # Errors
    /// `MaximumBelowExpected` if that is below `output_tokens`.
    pub fn with_max_output_tokens(mut self, tokens: u32) -> Result<Self, Error> {
        if tokens < self.fields.output_tokens {
            return Err(Error::maximum_below_expected(tokens, self.fields.output_tokens));
        }
        self.max_output_tokens = tokens;
        Ok(self)
    }

    /// The same request under another number.
    #[must_use]
    pub fn numbered(&self, request_sequence: u64) -> Self {
        Self {
            fields: RequestFields {
                request_sequence,
                ..self.fields
            },
            ..self.clone()
        }
    }

    /// The thirteen fields of the shared contract.
    #[inline]
    #[must_use]
    pub const fn fields(&self) -> &RequestFields {
        &self.fields
    }
    /// The costs that replace those from rates: `model_id` and microunits, ascending.
    #[inline]
    #[must_use]
    pub fn quotes(&self) -> &[(u32, u64)] {
        &self.quotes
    }
    /// Tokens of output that there can be at most.
    #[inline]
    #[must_use]
    pub const fn max_output_tokens(&self) -> u32 {
        self.max_output_tokens
    }
    /// Whether it carries quotes, which the shared contract lacks. The largest use changes no decision and is in no
    /// digest, so it does not count.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        !self.quotes.is_empty()
    }

    /// The digest: the shared one without quotes, `dcdreq1` with them.
    #[must_use]
    pub fn digest(&self) -> Digest {
        if self.is_extended() {
            quoted_digest(&self.shared_digest(), &self.quotes)
        } else {
            self.shared_digest()
        }
    }
    /// The digest of the shared contract (`calyinp1`), which sees the thirteen fields only.
    #[must_use]
    pub fn shared_digest(&self) -> Digest {
        self.fields.digest()
    }

    /// Writes the whole request: the thirteen fields as in `calyinp1`, `max_output_tokens` u32, a count u32 and each
    /// quote as `model_id` u32 and cost u64.
    pub fn encode(&self, out: &mut impl Sink) {
        let Self {
            fields,
            max_output_tokens,
            quotes,
        } = self;
        fields.encode(out);
        out.u32(*max_output_tokens);
        encode_quotes(quotes, out);
    }

    /// Reads what [`encode`](Self::encode) wrote, and checks it as the constructors do.
    ///
    /// # Errors
    /// `Unreadable`, or an error of the constructors.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let fields = RequestFields::decode(reader)?;
        let max_output_tokens = reader.u32()?;
        let count = reader.u32()?;
        let mut quotes = Vec::new();
        for _ in 0..count {
            quotes.push((reader.u32()?, reader.u64()?));
        }
        Self::new(fields)?
            .with_max_output_tokens(max_output_tokens)?
            .with_quotes(quotes)
    }
}

/// What is wrong with quotes, if anything is.
pub(crate) fn quotes_error(quotes: &[(u32, u64)]) -> Result<(), Error> {
    if quotes.len() > MOST_QUOTES {
        return Err(Error::too_many_quotes(
            cast::u64_from_usize(quotes.len()),
            cast::u64_from_usize(MOST_QUOTES),
        ));
    }
    let mut before = 0;
    for (model_id, _) in quotes {
        if *model_id == 0 {
            return Err(Error::reserved_model_id("quote"));
        }
        if *model_id <= before {
            return Err(Error::quotes_not_ascending(before, *model_id));
        }
        before = *model_id;
    }
    Ok(())
}

fn encode_quotes<S: Sink>(quotes: &[(u32, u64)], out: &mut S) {
    // At most MOST_QUOTES, as the constructor checked.
    out.u32(cast::u32_from_usize(quotes.len()).unwrap_or(u32::MAX));
    for (model_id, cost) in quotes {
        out.u32(*model_id);
        out.u64(*cost);
    }
}

/// The digest of a request with quotes (`dcdreq1`), from the shared one.
pub(crate) fn quoted_digest(shared: &Digest, quotes: &[(u32, u64)]) -> Digest {
    Extended { shared, quotes }.digest()
}

/// The extended digest of a request: the shared one and the quotes.
struct Extended<'a> {
    shared: &'a Digest,
    quotes: &'a [(u32, u64)],
}

impl Canonical for Extended<'_> {
    const TAG: Tag = tag::EXTENDED_REQUEST;

    fn encode<S: Sink>(&self, out: &mut S) {
        let Self { shared, quotes } = self;
        out.digest(shared);
        encode_quotes(quotes, out);
    }
}
