use core::slice;

use decidable_canon::cast;

#[cfg(target_arch = "x86_64")]
use crate::ifma::{self, Met};
use crate::{
    Action, Decision, Gate, Objective, Policy, Reason, Rejections, Request, RequestFields,
    decision::{NO_INDEX, Selected},
    gate::{self, Gates, refusal},
    price::{self, Exact, Narrow, Price, Quoted},
    rank::Contender,
    screen::{Passing, Side},
    slower::count,
    trial::{Trial, Verdicts},
};

/// With fewer candidates a request is decided as fast one after the other.
#[cfg(target_arch = "x86_64")]
const FEWEST_AT_ONCE: usize = 8;

impl Selected {
    /// From the first two and how many passed.
    #[inline(always)]
    pub(crate) fn of((index, first): (usize, Contender<'_>), second: Option<Contender<'_>>, eligible: u32) -> Self {
        Self {
            model_id: first.candidate.model_id,
            // At most 65,535 candidates, as the constructor checked.
            index: cast::u16_from_usize(index).unwrap_or(NO_INDEX),
            eligible: u16::try_from(eligible).unwrap_or(u16::MAX),
            cost: first.cost,
            utility: first.utility,
            second: second.map(|second| second.candidate.model_id),
            second_utility: second.map_or(0, |second| second.utility),
        }
    }
}

/// Quotes are few where at most one of so many candidates has one.
const FEW_OF: usize = 4;

impl Policy {
    /// Decides a request: the first candidate in the objective's order among those that pass every gate, or a rejection
    /// with the reason of most candidates. It allocates nothing.
    #[must_use]
    pub fn decide(&self, request: &Request) -> Decision {
        self.decide_fields(request.fields(), request.quotes())
    }

    /// The decision of a request without quotes where it is found by looking at all candidates side by side; `None` where
    /// that leaves it [open](Self::decide_left_open). [`decide`](Self::decide) is both. It is compiled into the caller, which so gets
    /// the decision in registers: to copy one from memory waits for the numbers that were just written there.
    #[inline(always)]
    #[must_use]
    pub fn decide_at_once(&self, request: &Request) -> Option<Decision> {
        #[cfg(target_arch = "x86_64")]
        if request.quotes().is_empty()
            && let Some(table) = self.table_for_one()
        {
            return self.decide_fields_at_once(table, request.fields());
        }
        None
    }

    /// The decision of a request that [`decide_at_once`](Self::decide_at_once) left open.
    #[must_use]
    pub fn decide_left_open(&self, request: &Request) -> Decision {
        #[cfg(target_arch = "x86_64")]
        if request.quotes().is_empty()
            && refusal(self.limits(), request.fields()).is_none()
            && let Some(table) = self.table_for_one()
        {
            return self.decide_open(table, request.fields());
        }
        self.decide(request)
    }

    /// Decides a request and counts, for every gate, the candidates that failed it first.
    #[must_use]
    pub fn decide_counted(&self, request: &Request) -> (Decision, Rejections) {
        self.decide_and_count(request.fields(), request.quotes())
    }

    /// The same, for fields that were checked and quotes in ascending order: in 64 bits where the numbers fit.
    #[inline]
    fn decide_and_count(&self, fields: &RequestFields, quotes: &[(u32, u64)]) -> (Decision, Rejections) {
        if let Some(reason) = refusal(self.limits(), fields) {
            return (self.rejection(fields, reason, 0), Rejections::default());
        }
        count(|slower| &mut slower.one_by_one);
        let passing = Passing::new(fields, self.sides());
        let verdicts = match self.narrow(fields).and_then(|narrow| Quoted::new(narrow, quotes)) {
            Some(quoted) => self.tried(fields, &quoted, passing),
            None => {
                count(|slower| &mut slower.exact);
                self.tried(fields, &Exact::new(self.limits(), fields, quotes), passing)
            }
        };
        let rejections = self.rejections(fields, verdicts.over_budget, verdicts.worthless);
        let decision = match verdicts.first {
            Some(first) => self.selection(fields, &Selected::of(first, verdicts.second, verdicts.eligible)),
            None => self.rejection_for(fields, &rejections),
        };
        (decision, rejections)
    }

    /// The counts alone.
    pub(crate) fn count_fields(&self, fields: &RequestFields, quotes: &[(u32, u64)]) -> Rejections {
        self.decide_and_count(fields, quotes).1
    }

    /// Where each candidate loses, in catalog order, likewise: what [`explain`](Self::explain) finds, as the codes of
    /// [`gate`].
    pub(crate) fn lose(&self, fields: &RequestFields, quotes: &[(u32, u64)], lost: &mut [u8]) {
        if refusal(self.limits(), fields).is_some() {
            return lost.fill(gate::NOT_LOOKED_AT);
        }
        match self.narrow(fields).and_then(|narrow| Quoted::new(narrow, quotes)) {
            Some(quoted) => self.lose_at(fields, &quoted, lost),
            None => self.lose_at(fields, &Exact::new(self.limits(), fields, quotes), lost),
        }
    }

    #[inline(always)]
    fn lose_at<P: Price>(&self, fields: &RequestFields, price: &P, lost: &mut [u8]) {
        let trial = Trial::new(self.limits().objective, self.candidates(), fields, price);
        let gates = Gates::new(fields);
        for (candidate, lost) in self.candidates().iter().zip(lost) {
            *lost = gates
                .first_refusal(candidate)
                .map_or_else(|| trial.lost(candidate), Gate::code);
        }
    }

    /// Decides fields that were checked, with quotes in ascending order.
    #[inline]
    pub(crate) fn decide_fields(&self, request: &RequestFields, quotes: &[(u32, u64)]) -> Decision {
        #[cfg(target_arch = "x86_64")]
        if let Some(table) = self.table_for_one() {
            return self.decide_by(table, request, quotes);
        }
        self.decide_plainly(request, quotes)
    }

    /// What one request meets all candidates in.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn table_for_one(&self) -> Option<&ifma::Table> {
        self.table().filter(|_| self.candidates().len() >= FEWEST_AT_ONCE)
    }

    /// Decides with a table.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    fn decide_by(&self, table: &ifma::Table, request: &RequestFields, quotes: &[(u32, u64)]) -> Decision {
        if !quotes.is_empty() {
            return self.decide_quoted(table, request, quotes);
        }
        match self.decide_fields_at_once(table, request) {
            Some(decision) => decision,
            None => self.decide_open(table, request),
        }
    }

    /// Decides a request that is not refused, has no quotes and was left open: where utilities are equal, or numbers beyond the bounds.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    fn decide_open(&self, table: &ifma::Table, request: &RequestFields) -> Decision {
        match self.settled(table, request) {
            Some(decision) => decision,
            None => self.decide_admitted(request, &[]),
        }
    }

    /// The decision also where utilities are equal, as [`decide_fields_at_once`](Self::decide_fields_at_once).
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn settled(&self, table: &ifma::Table, request: &RequestFields) -> Option<Decision> {
        Some(self.decision_of(request, ifma::settle_one(table, request)?))
    }

    /// What came of a request that met all candidates, as a decision.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn decision_of(&self, request: &RequestFields, met: Met) -> Decision {
        match met {
            Met::Selected(selected) => self.selection(request, &selected),
            Met::Rejected(rejections) => self.rejection_for(request, &rejections),
        }
    }

    /// `None` where a request that is not refused is left open.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn decide_fields_at_once(&self, table: &ifma::Table, request: &RequestFields) -> Option<Decision> {
        if let Some(reason) = refusal(self.limits(), request) {
            return Some(self.rejection(request, reason, 0));
        }
        Some(self.decision_of(request, ifma::decide_one(table, request)?))
    }

    /// From the decision without quotes, where they are few.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    fn decide_quoted(&self, table: &ifma::Table, request: &RequestFields, quotes: &[(u32, u64)]) -> Decision {
        if self.are_few(quotes)
            && let Some(unquoted) = self.decide_fields_at_once(table, request)
            && let Some(requoted) = self.requote(&unquoted, request, quotes)
        {
            return requoted;
        }
        self.decide_plainly(request, quotes)
    }

    /// Whether pricing those that have quotes again costs less than pricing all once.
    fn are_few(&self, quotes: &[(u32, u64)]) -> bool {
        quotes.len() <= self.candidates().len() / FEW_OF
    }

    /// The decision of a request with quotes, from its decision without: the first two of those that have none are known, and
    /// only those that have one are priced. `None` where everyone must be looked at: where nobody was selected, where one of the first
    /// two has a quote, or where numbers may not fit 64 bits.
    pub(crate) fn requote(
        &self,
        unquoted: &Decision,
        request: &RequestFields,
        quotes: &[(u32, u64)],
    ) -> Option<Decision> {
        if !self.are_few(quotes) {
            return None;
        }
        let rates = self.narrow(request)?;
        let quoted = Quoted::new(rates, quotes)?;
        let by_rates = Trial::new(self.limits().objective, self.candidates(), request, &rates);
        let unchanged = |model_id: u32| match price::quote(quotes, model_id) {
            Some(_) => None,
            None => by_rates.contender(self.candidate_at(model_id)?.0),
        };
        let index = unquoted.selected_model_index?.into();
        let mut first = (index, unchanged(unquoted.selected_model_id?)?);
        let mut second = match unquoted.counterfactual_model_id {
            Some(model_id) => Some(unchanged(model_id)?),
            None => None,
        };
        let mut eligible = u32::from(unquoted.eligible_models);
        let by_quotes = Trial::new(self.limits().objective, self.candidates(), request, &quoted);
        let gates = Gates::new(request);
        for (model_id, _) in quotes {
            let Some((index, candidate)) = self.candidate_at(*model_id) else {
                continue;
            };
            if gates.first_refusal(candidate).is_some() {
                continue;
            }
            // Each is counted once, and was before if it passed.
            eligible = eligible.wrapping_sub(u32::from(by_rates.lost(candidate) == gate::PASSED));
            if by_quotes.lost(candidate) != gate::PASSED {
                continue;
            }
            eligible = eligible.wrapping_add(1);
            let contender = by_quotes.contender(index)?;
            let precedes = |other: &Contender<'_>| self.limits().objective.order(&contender, other).is_lt();
            if precedes(&first.1) {
                second = Some(first.1);
                first = (index, contender);
            } else if second.as_ref().is_none_or(precedes) {
                second = Some(contender);
            }
        }
        Some(self.selection(request, &Selected::of(first, second, eligible)))
    }

    /// Decides fields one candidate after the other.
    #[inline]
    pub(crate) fn decide_plainly(&self, request: &RequestFields, quotes: &[(u32, u64)]) -> Decision {
        match refusal(self.limits(), request) {
            Some(reason) => self.rejection(request, reason, 0),
            None => self.decide_admitted(request, quotes),
        }
    }

    /// Decides a request that is not refused, in 64 bits where the numbers provably fit.
    #[inline(never)]
    fn decide_admitted(&self, request: &RequestFields, quotes: &[(u32, u64)]) -> Decision {
        count(|slower| &mut slower.one_by_one);
        let passing = Passing::new(request, self.sides());
        if passing.is_empty() {
            return self.rejection_by(request, 0, 0);
        }
        if self.limits().objective == Objective::Utility && quotes.is_empty() {
            return self.decide_by_utility(request, passing);
        }
        self.decide_otherwise(request, quotes)
    }

    /// Without quotes, and with the objective as a constant: the loop over the candidates does not ask for it.
    #[inline(always)]
    fn decide_by_utility(&self, request: &RequestFields, passing: Passing<'_>) -> Decision {
        match self.narrow(request) {
            Some(narrow) => {
                let trial = Trial::new(Objective::Utility, self.candidates(), request, &narrow);
                self.conclusion(request, &trial.run(passing))
            }
            None => self.decide_otherwise(request, &[]),
        }
    }

    #[inline(always)]
    fn narrow(&self, request: &RequestFields) -> Option<Narrow> {
        Narrow::new(self.ceilings()?, self.limits(), request)
    }

    /// With another objective, with quotes, or with numbers that may not fit 64 bits.
    #[inline(never)]
    fn decide_otherwise(&self, request: &RequestFields, quotes: &[(u32, u64)]) -> Decision {
        let passing = Passing::new(request, self.sides());
        match self.narrow(request).and_then(|narrow| Quoted::new(narrow, quotes)) {
            Some(quoted) => self.conclusion(request, &self.tried(request, &quoted, passing)),
            None => {
                count(|slower| &mut slower.exact);
                let exact = Exact::new(self.limits(), request, quotes);
                self.conclusion(request, &self.tried(request, &exact, passing))
            }
        }
    }

    #[inline(always)]
    fn tried<'a, P: Price>(&'a self, request: &RequestFields, price: &P, passing: Passing<'_>) -> Verdicts<'a> {
        Trial::new(self.limits().objective, self.candidates(), request, price).run(passing)
    }

    /// The decision that a trial leads to.
    #[inline(always)]
    pub(crate) fn conclusion(&self, request: &RequestFields, verdicts: &Verdicts<'_>) -> Decision {
        match verdicts.first {
            Some(first) => self.selection(request, &Selected::of(first, verdicts.second, verdicts.eligible)),
            None => self.rejection_by(request, verdicts.over_budget, verdicts.worthless),
        }
    }

    /// The rejection of a request for which no candidate passes every gate.
    #[inline(never)]
    fn rejection_by(&self, request: &RequestFields, over_budget: u32, worthless: u32) -> Decision {
        self.rejection_for(request, &self.rejections(request, over_budget, worthless))
    }

    /// The rejection for the reason of most candidates.
    #[inline]
    pub(crate) fn rejection_for(&self, request: &RequestFields, rejections: &Rejections) -> Decision {
        self.rejection(request, rejections.dominant(), self.evaluated())
    }

    /// How many candidates failed each gate first.
    #[inline(always)]
    fn rejections(&self, request: &RequestFields, over_budget: u32, worthless: u32) -> Rejections {
        Gates::new(request).count(self.candidates(), over_budget, worthless)
    }

    /// How many candidates there are, as the layouts count them.
    fn evaluated(&self) -> u16 {
        // At most 65,535, as the constructor checked.
        cast::u16_from_usize(self.candidates().len()).unwrap_or(u16::MAX)
    }

    /// The decision that selects.
    #[inline(always)]
    pub(crate) fn selection(&self, request: &RequestFields, selected: &Selected) -> Decision {
        let selected_model_id = selected.model_id;
        let (action, reason) = if selected_model_id == request.requested_model_id {
            (Action::ExecuteRequested, Reason::RequestedModelMaximizesUtility)
        } else {
            (Action::Substitute, Reason::AlternativeMaximizesUtility)
        };
        Decision {
            request_sequence: request.request_sequence,
            action,
            reason,
            selected_model_id: Some(selected_model_id),
            selected_model_index: Some(selected.index),
            estimated_cost_microunits: selected.cost,
            expected_utility_microunits: selected.utility,
            counterfactual_model_id: selected.second,
            counterfactual_utility_microunits: selected.second_utility,
            evaluated_models: self.evaluated(),
            eligible_models: selected.eligible,
            policy_epoch: self.limits().policy_epoch,
            catalog_epoch: self.limits().catalog_epoch,
        }
    }

    pub(crate) const fn rejection(&self, request: &RequestFields, reason: Reason, evaluated_models: u16) -> Decision {
        Decision {
            request_sequence: request.request_sequence,
            action: Action::Reject,
            reason,
            selected_model_id: None,
            selected_model_index: None,
            estimated_cost_microunits: 0,
            expected_utility_microunits: 0,
            counterfactual_model_id: None,
            counterfactual_utility_microunits: 0,
            evaluated_models,
            eligible_models: 0,
            policy_epoch: self.limits().policy_epoch,
            catalog_epoch: self.limits().catalog_epoch,
        }
    }

    /// The utility of one candidate for a request, in microunits.
    ///
    /// `None` if the request is refused, the candidate is not in the catalog, fails a gate or costs more than the
    /// budget, or if its utility is not positive and the policy's objective asks for that.
    #[must_use]
    pub fn utility(&self, request: &Request, model_id: u32) -> Option<i64> {
        let fields = request.fields();
        if refusal(self.limits(), fields).is_some() {
            return None;
        }
        let candidate = self.candidate(model_id)?;
        let price = Exact::new(self.limits(), fields, request.quotes());
        let verdicts = Trial::new(self.limits().objective, slice::from_ref(candidate), fields, &price)
            .run(Passing::new(fields, &[Side::new(candidate)]));
        verdicts.first.map(|(_, first)| first.utility)
    }

    /// The largest cost of the candidate that a decision selected, in microunits: what to hold for it.
    ///
    /// With a quote it is the quote and what the rates add between the expected and the largest use. Capped at the
    /// largest `u64`. `None` if nothing was selected, or not from this catalog.
    #[must_use]
    pub fn hold(&self, request: &Request, decision: &Decision) -> Option<u64> {
        let most = request.max_output_tokens();
        self.hold_fields(request.fields(), request.quotes(), most, decision.selected_model_id?)
    }

    /// The same, for fields that were checked, quotes in ascending order, a largest use and a candidate's number.
    pub(crate) fn hold_fields(
        &self,
        fields: &RequestFields,
        quotes: &[(u32, u64)],
        max_output_tokens: u32,
        model_id: u32,
    ) -> Option<u64> {
        let candidate = self.candidate(model_id)?;
        let at = |output_tokens| price::cost_from_rates(candidate, fields.input_tokens, output_tokens);
        let largest = at(max_output_tokens);
        Some(match price::quote(quotes, candidate.model_id) {
            None => largest,
            Some(quote) => quote.saturating_add(largest.saturating_sub(at(fields.output_tokens))),
        })
    }

    /// What an amount of use costs from a candidate's rates, in microunits, capped at the largest `u64`: the price of
    /// real usage. `None` for a candidate that is not in the catalog.
    #[must_use]
    pub fn cost(&self, model_id: u32, input_tokens: u32, output_tokens: u32) -> Option<u64> {
        let candidate = self.candidate(model_id)?;
        Some(price::cost_from_rates(candidate, input_tokens, output_tokens))
    }
}
