//! What one candidate's properties would have to be for it to be selected, and how far the selected one's may move.
//!
//! Each lever moves one property of one candidate and nothing else. In every objective's order and through every gate,
//! more quality, a higher risk ceiling, less latency and a lower price never harm a candidate, so along a lever the
//! candidate is selected from some value on, and that value is found by bisection. The rivals do not move: the first
//! of them is found once.

use decidable_canon::{cast, units::BPS_WHOLE};

use crate::{
    Candidate, Error, Policy, Reason, Request,
    gate::refusal,
    price::{Exact, Price as _},
    screen::{Passing, Side},
    trial::Trial,
};

/// Today's price in the price lever's unit: parts per million.
const PRICE_WHOLE_PPM: u64 = 1_000_000;

/// The highest price that a margin looks at: a thousand times today's.
const HIGHEST_PRICE_PPM: u64 = 1_000 * PRICE_WHOLE_PPM;

/// One property of a candidate that can be moved alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeverKind {
    /// Its quality, in basis points.
    QualityBps,
    /// Its 95th percentile of latency, in milliseconds.
    LatencyMs,
    /// Both its rates, in parts per million of today's, each rounded down; its quote, if the request has one.
    PricePpm,
    /// Its risk ceiling, in basis points.
    RiskCeilingBps,
    /// Whether it is switched on: 0 or 1.
    Enabled,
}

impl LeverKind {
    /// Every lever, in the order in which they are tried.
    pub const ALL: [Self; 5] = [
        Self::QualityBps,
        Self::LatencyMs,
        Self::PricePpm,
        Self::RiskCeilingBps,
        Self::Enabled,
    ];

    /// Its name in the vectors, such as `PriceScalePpm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QualityBps => "QualityBps",
            Self::LatencyMs => "P95LatencyMs",
            Self::PricePpm => "PriceScalePpm",
            Self::RiskCeilingBps => "RiskCeilingBps",
            Self::Enabled => "Enabled",
        }
    }

    /// Its name in lower case, such as `price_ppm`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::QualityBps => "quality_bps",
            Self::LatencyMs => "latency_ms",
            Self::PricePpm => "price_ppm",
            Self::RiskCeilingBps => "risk_ceiling_bps",
            Self::Enabled => "enabled",
        }
    }

    /// Where a candidate stands today.
    fn current(self, candidate: &Candidate) -> u64 {
        match self {
            Self::QualityBps => candidate.quality_bps.into(),
            Self::LatencyMs => candidate.p95_latency_ms.into(),
            Self::PricePpm => PRICE_WHOLE_PPM,
            Self::RiskCeilingBps => candidate.risk_ceiling_bps.into(),
            Self::Enabled => candidate.enabled.into(),
        }
    }

    /// The value at which a candidate is worth most.
    fn best(self) -> u64 {
        match self {
            Self::QualityBps | Self::RiskCeilingBps => BPS_WHOLE.into(),
            Self::LatencyMs | Self::PricePpm => 0,
            Self::Enabled => 1,
        }
    }

    /// The value at which a candidate is worth least.
    fn worst(self) -> u64 {
        match self {
            Self::QualityBps | Self::RiskCeilingBps | Self::Enabled => 0,
            Self::LatencyMs => u32::MAX.into(),
            Self::PricePpm => HIGHEST_PRICE_PPM,
        }
    }
}

/// How far one property moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lever {
    /// Which property.
    pub kind: LeverKind,
    /// Its value today.
    pub current: u64,
    /// For what would win, the nearest value at which the candidate is selected; for a margin, the farthest.
    pub boundary: u64,
    /// For the price, the candidate's cost there, in microunits.
    pub cost_at_boundary_microunits: Option<u64>,
}

/// What would make the kernel select a candidate, one property at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhatWouldWin {
    /// The candidate.
    pub model_id: u32,
    /// Why the request is refused whatever the catalog, if it is; then there are no levers.
    pub blocked_by_request: Option<Reason>,
    /// The properties that can do it alone; none for the candidate that is selected already.
    pub levers: Vec<Lever>,
}

/// How far each property of the selected candidate may move while it stays selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Margin {
    /// The selected candidate.
    pub model_id: u32,
    /// The properties that can end its selection alone.
    pub levers: Vec<Lever>,
}

impl Policy {
    /// What would make the kernel select a candidate: for each property the value nearest to today's at which it does,
    /// everything else unchanged. A disabled candidate can only be enabled.
    ///
    /// # Errors
    /// `UnknownModel` for a candidate that is not in the catalog.
    pub fn what_would_win(&self, request: &Request, model_id: u32) -> Result<WhatWouldWin, Error> {
        let candidate = self.candidate(model_id).ok_or_else(|| Error::unknown_model(model_id))?;
        let blocked_by_request = refusal(self.limits(), request.fields());
        let challenge = Challenge::new(self, request, candidate);
        let levers = if blocked_by_request.is_some() || challenge.wins(LeverKind::Enabled, candidate.enabled.into()) {
            Vec::new()
        } else {
            let kinds = LeverKind::ALL.into_iter();
            kinds
                .filter(|kind| (*kind == LeverKind::Enabled) != candidate.enabled)
                .filter_map(|kind| challenge.nearest(kind))
                .collect()
        };
        Ok(WhatWouldWin {
            model_id,
            blocked_by_request,
            levers,
        })
    }

    /// How far the selected candidate's properties may move, one at a time, while it stays selected: for each the value
    /// farthest from today's. `None` if the request is rejected.
    #[must_use]
    pub fn margin(&self, request: &Request) -> Option<Margin> {
        let model_id = self.decide(request).selected_model_id?;
        let candidate = self.candidate(model_id)?;
        let challenge = Challenge::new(self, request, candidate);
        let kinds = LeverKind::ALL.into_iter();
        Some(Margin {
            model_id,
            levers: kinds
                .filter(|kind| *kind != LeverKind::Enabled)
                .filter_map(|kind| challenge.farthest(kind))
                .collect(),
        })
    }
}

/// One candidate against the first of the others, who stay as they are.
struct Challenge<'a> {
    policy: &'a Policy,
    request: &'a Request,
    candidate: &'a Candidate,
    rival: Option<&'a Candidate>,
}

impl<'a> Challenge<'a> {
    fn new(policy: &'a Policy, request: &'a Request, candidate: &'a Candidate) -> Self {
        let price = Exact::new(policy.limits(), request.fields(), request.quotes());
        let trial = Trial::new(policy.limits().objective, policy.candidates(), request.fields(), &price);
        let verdicts = trial.run(Passing::new(request.fields(), policy.sides()));
        // The first of the others is the second of all if the candidate is the first.
        let rival = [verdicts.first.map(|(_, first)| first), verdicts.second]
            .into_iter()
            .flatten()
            .map(|contender| contender.candidate)
            .find(|other| other.model_id != candidate.model_id);
        Self {
            policy,
            request,
            candidate,
            rival,
        }
    }

    /// The candidate and the request's quotes with one lever at `value`.
    fn moved(&self, kind: LeverKind, value: u64) -> (Candidate, Vec<(u32, u64)>) {
        let mut candidate = *self.candidate;
        let mut quotes = self.request.quotes().to_vec();
        // No value leaves the range between a lever's worst and best, so none is cut by these conversions.
        match kind {
            LeverKind::QualityBps => candidate.quality_bps = u16::try_from(value).unwrap_or(u16::MAX),
            LeverKind::LatencyMs => candidate.p95_latency_ms = u32::try_from(value).unwrap_or(u32::MAX),
            LeverKind::RiskCeilingBps => candidate.risk_ceiling_bps = u16::try_from(value).unwrap_or(u16::MAX),
            LeverKind::Enabled => candidate.enabled = value != 0,
            LeverKind::PricePpm => {
                for rate in [
                    &mut candidate.input_cost_microunits_per_million_tokens,
                    &mut candidate.output_cost_microunits_per_million_tokens,
                ] {
                    *rate = scaled(*rate, value);
                }
                for (model_id, cost) in &mut quotes {
                    if *model_id == candidate.model_id {
                        *cost = scaled(*cost, value);
                    }
                }
            }
        }
        (candidate, quotes)
    }

    /// Whether the kernel selects the candidate with one lever at `value`: from the two of them, as a catalog.
    fn wins(&self, kind: LeverKind, value: u64) -> bool {
        let (candidate, quotes) = self.moved(kind, value);
        let mut catalog = vec![candidate];
        catalog.extend(self.rival);
        catalog.sort_by_key(|candidate| candidate.model_id);
        let limits = self.policy.limits();
        let sides: Vec<_> = catalog.iter().map(Side::new).collect();
        let fields = self.request.fields();
        let price = Exact::new(limits, fields, &quotes);
        let verdicts = Trial::new(limits.objective, &catalog, fields, &price).run(Passing::new(fields, &sides));
        verdicts
            .first
            .is_some_and(|(_, first)| first.candidate.model_id == candidate.model_id)
    }

    /// For a candidate that loses today: the value nearest to today's at which it wins.
    fn nearest(&self, kind: LeverKind) -> Option<Lever> {
        let current = kind.current(self.candidate);
        self.wins(kind, kind.best())
            .then(|| self.lever(kind, self.edge(kind, kind.best(), current)))
    }

    /// For a candidate that wins today: the value farthest from today's at which it still does.
    fn farthest(&self, kind: LeverKind) -> Option<Lever> {
        let current = kind.current(self.candidate);
        (!self.wins(kind, kind.worst())).then(|| self.lever(kind, self.edge(kind, current, kind.worst())))
    }

    /// Between a value that wins and one that loses: the winning one whose neighbour loses.
    fn edge(&self, kind: LeverKind, mut winning: u64, mut losing: u64) -> u64 {
        while winning.abs_diff(losing) > 1 {
            let middle = winning.midpoint(losing);
            if self.wins(kind, middle) {
                winning = middle;
            } else {
                losing = middle;
            }
        }
        winning
    }

    fn lever(&self, kind: LeverKind, boundary: u64) -> Lever {
        let cost_at_boundary_microunits = (kind == LeverKind::PricePpm).then(|| {
            let (candidate, quotes) = self.moved(kind, boundary);
            let limits = self.policy.limits();
            Exact::new(limits, self.request.fields(), &quotes).cost(&candidate)
        });
        Lever {
            kind,
            current: kind.current(self.candidate),
            boundary,
            cost_at_boundary_microunits,
        }
    }
}

/// `floor(price × ppm / 10^6)`, capped at the largest `u64`.
fn scaled(price: u64, ppm: u64) -> u64 {
    // Below 2^64 × 10^9 < 2^94.
    cast::u64_saturating_from_u128(u128::from(price) * u128::from(ppm) / u128::from(PRICE_WHOLE_PPM))
}
