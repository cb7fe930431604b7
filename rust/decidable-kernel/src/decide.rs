use decidable_canon::cast;

use crate::{
    Action, Decision, Policy, Reason, Rejections, Request, RequestFields,
    gate::refusal,
    price::{self, Exact, Narrow, Price, Quoted},
    rank::{Contender, Podium},
    trial::Trial,
};

impl Policy {
    /// Decides a request.
    #[must_use]
    pub fn decide(&self, request: &Request) -> Decision {
        self.decide_fields(request.fields(), request.quotes())
    }

    /// Decides a request and counts, for every gate, the candidates that failed it first.
    #[must_use]
    pub fn decide_counted(&self, request: &Request) -> (Decision, Rejections) {
        let (fields, quotes) = (request.fields(), request.quotes());
        let rejections = match refusal(self.limits(), fields) {
            Some(_) => Rejections::default(),
            None => self.priced(fields, quotes, Count),
        };
        (self.decide_fields(fields, quotes), rejections)
    }

    /// Decides fields that were checked, with quotes in ascending order.
    pub(crate) fn decide_fields(&self, request: &RequestFields, quotes: &[(u32, u64)]) -> Decision {
        match refusal(self.limits(), request) {
            Some(reason) => self.rejection(request, reason, 0),
            None => self.priced(request, quotes, Decide),
        }
    }

    /// Runs `work` with the price list that fits: 64 bits wide where the numbers provably fit, else exact.
    #[inline]
    fn priced<W: Work>(&self, request: &RequestFields, quotes: &[(u32, u64)], work: W) -> W::Output {
        let narrow = if self.rates_are_narrow() {
            Narrow::new(self.limits(), request)
        } else {
            None
        };
        match narrow {
            Some(narrow) if quotes.is_empty() => work.run(self, request, &narrow),
            Some(rest) if quotes.iter().all(|(_, cost)| *cost <= Narrow::LARGEST_QUOTE) => {
                work.run(self, request, &Quoted { rest, quotes })
            }
            _ => work.run(self, request, &Exact::new(self.limits(), request, quotes)),
        }
    }

    /// The first two among the candidates that pass every gate.
    #[inline]
    fn contest<P: Price>(&self, request: &RequestFields, price: &P) -> Podium {
        let trial = Trial::new(self.limits(), request, price);
        let objective = self.limits().objective;
        let mut podium = Podium::default();
        for (index, (candidate, rates)) in self.candidates().iter().zip(self.rates()).enumerate() {
            if let Some(contender) = trial.contender(index, candidate, rates) {
                podium.admit(objective, contender);
            }
        }
        podium
    }

    /// How many candidates failed each gate first.
    fn count<P: Price>(&self, request: &RequestFields, price: &P) -> Rejections {
        let trial = Trial::new(self.limits(), request, price);
        let mut rejections = Rejections::default();
        for (candidate, rates) in self.candidates().iter().zip(self.rates()) {
            let counter = if let Some(gate) = trial.gates.first_refusal(candidate) {
                rejections.counter(gate)
            } else {
                let cost = price.cost(candidate, rates);
                if !trial.affords(cost) {
                    &mut rejections.budget
                } else if !trial.accepts(price.utility(candidate, rates, cost)) {
                    &mut rejections.utility
                } else {
                    continue;
                }
            };
            *counter += 1;
        }
        rejections
    }

    /// How many candidates there are, as the layouts count them.
    fn evaluated(&self) -> u16 {
        // At most 65,535, as the constructor checked.
        cast::u16_from_usize(self.candidates().len()).unwrap_or(u16::MAX)
    }

    #[inline]
    fn selection(&self, request: &RequestFields, first: &Contender, podium: &Podium) -> Decision {
        let (action, reason) = if first.model_id == request.requested_model_id {
            (Action::ExecuteRequested, Reason::RequestedModelMaximizesUtility)
        } else {
            (Action::Substitute, Reason::AlternativeMaximizesUtility)
        };
        Decision {
            request_sequence: request.request_sequence,
            action,
            reason,
            selected_model_id: Some(first.model_id),
            selected_model_index: cast::u16_from_usize(first.index),
            estimated_cost_microunits: first.cost,
            expected_utility_microunits: first.utility,
            counterfactual_model_id: podium.second.map(|second| second.model_id),
            counterfactual_utility_microunits: podium.second.map_or(0, |second| second.utility),
            evaluated_models: self.evaluated(),
            eligible_models: cast::u16_from_usize(podium.count).unwrap_or(u16::MAX),
            policy_epoch: self.limits().policy_epoch,
            catalog_epoch: self.limits().catalog_epoch,
        }
    }

    const fn rejection(&self, request: &RequestFields, reason: Reason, evaluated_models: u16) -> Decision {
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
        let (index, candidate) = self.find(model_id)?;
        let price = Exact::new(self.limits(), fields, request.quotes());
        Trial::new(self.limits(), fields, &price)
            .contender(index, candidate, self.rates().get(index)?)
            .map(|contender| contender.utility)
    }

    /// The largest cost of the candidate that a decision selected, in microunits: what to hold for it.
    ///
    /// With a quote it is the quote and what the rates add between the expected and the largest use. Capped at the
    /// largest `u64`. `None` if nothing was selected, or not from this catalog.
    #[must_use]
    pub fn hold(&self, request: &Request, decision: &Decision) -> Option<u64> {
        let (_, candidate) = self.find(decision.selected_model_id?)?;
        let fields = request.fields();
        let at = |output_tokens| price::cost_from_rates(candidate, fields.input_tokens, output_tokens);
        let largest = at(request.max_output_tokens());
        Some(match price::quote(request.quotes(), candidate.model_id) {
            None => largest,
            Some(quote) => quote.saturating_add(largest.saturating_sub(at(fields.output_tokens))),
        })
    }

    /// What an amount of use costs from a candidate's rates, in microunits, capped at the largest `u64`: the price of
    /// real usage. `None` for a candidate that is not in the catalog.
    #[must_use]
    pub fn cost(&self, model_id: u32, input_tokens: u32, output_tokens: u32) -> Option<u64> {
        let (_, candidate) = self.find(model_id)?;
        Some(price::cost_from_rates(candidate, input_tokens, output_tokens))
    }
}

/// Something to do with a price list, whichever it is.
trait Work {
    type Output;
    fn run<P: Price>(self, policy: &Policy, request: &RequestFields, price: &P) -> Self::Output;
}

struct Decide;

impl Work for Decide {
    type Output = Decision;
    #[inline]
    fn run<P: Price>(self, policy: &Policy, request: &RequestFields, price: &P) -> Decision {
        let podium = policy.contest(request, price);
        match &podium.first {
            Some(first) => policy.selection(request, first, &podium),
            None => {
                let reason = policy.count(request, price).dominant();
                policy.rejection(request, reason, policy.evaluated())
            }
        }
    }
}

struct Count;

impl Work for Count {
    type Output = Rejections;
    fn run<P: Price>(self, policy: &Policy, request: &RequestFields, price: &P) -> Rejections {
        policy.count(request, price)
    }
}
