//! An explanation as a table for people. Names come from outside, so what does not show itself in them is shown by its number.

use core::fmt;

use crate::{
    Gate, Group, Objective, Terms,
    explain::{Explanation, Finding, Verdict},
    visible::visible,
};

impl fmt::Display for Explanation {
    /// One line for the decision and one for each candidate: what became of it, and what the objective's order compares
    /// (of a utility, the parts) or the two numbers of the gate that it failed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = &self.decision;
        write!(
            f,
            "request {}, objective {}: {}, {}",
            decision.request_sequence,
            self.objective.label(),
            decision.action.label(),
            decision.reason.label()
        )?;
        let selected = decision.selected_model_id;
        if let Some(verdict) = self.verdicts.iter().find(|verdict| Some(verdict.model_id) == selected) {
            write!(f, ": {}, {}", self.label(verdict.model_id), self.lead(verdict))?;
        }
        if self.verdicts.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = self.verdicts.iter().map(|verdict| self.row(verdict)).collect();
        let heads: Vec<_> = ["candidate", "verdict"]
            .iter()
            .chain(heads(self.objective))
            .map(|head| (*head).to_owned())
            .collect();
        let mut widths: Vec<_> = heads.iter().map(String::len).collect();
        for row in &rows {
            // What was compared is the last text of its line and needs no column.
            for (width, text) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        line(f, &heads, &widths)?;
        rows.iter().try_for_each(|row| line(f, row, &widths))
    }
}

/// The heads of [`figures`].
const fn heads(objective: Objective) -> &'static [&'static str] {
    match objective {
        Objective::Utility => &["cost", "quality", "risk", "latency", "utility"],
        Objective::Cheapest => &["cost", "quality bps", "latency ms"],
        Objective::Quality => &["quality bps", "cost", "latency ms"],
        Objective::Fastest => &["latency ms", "cost", "quality bps"],
    }
}

/// What an objective's order compares, in that order; of a utility, the parts.
fn figures(objective: Objective, verdict: &Verdict, terms: &Terms) -> Vec<String> {
    let cost = terms.cost_microunits.to_string();
    let (quality, latency) = (verdict.quality_bps.to_string(), verdict.p95_latency_ms.to_string());
    match objective {
        Objective::Utility => vec![
            cost,
            terms.quality_adjusted.to_string(),
            terms.risk_penalty.to_string(),
            terms.latency_penalty.to_string(),
            terms.utility.to_string(),
        ],
        Objective::Cheapest => vec![cost, quality, latency],
        Objective::Quality => vec![quality, cost, latency],
        Objective::Fastest => vec![latency, cost, quality],
    }
}

/// Words to the left of their column, numbers to the right.
fn line(f: &mut fmt::Formatter<'_>, cells: &[String], widths: &[usize]) -> fmt::Result {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        text += &match column {
            0 => format!("{cell:<width$}"),
            1 => format!("  {cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        };
    }
    write!(f, "\n{}", text.trim_end())
}

impl Explanation {
    fn row(&self, verdict: &Verdict) -> Vec<String> {
        let selected = self.decision.selected_model_id == Some(verdict.model_id);
        let second = self.decision.counterfactual_model_id == Some(verdict.model_id);
        let (what, terms) = match verdict.finding {
            Finding::Refused { gate, measured, limit } => (self.compared(gate, measured, limit), None),
            Finding::OverBudget {
                cost_microunits,
                limit_microunits,
            } => (format!("over budget: {cost_microunits} > {limit_microunits}"), None),
            Finding::NonPositiveUtility(terms) => ("utility not positive".to_owned(), Some(terms)),
            Finding::Eligible(terms) if selected => ("selected".to_owned(), Some(terms)),
            Finding::Eligible(terms) if second => ("second".to_owned(), Some(terms)),
            Finding::Eligible(terms) => ("eligible".to_owned(), Some(terms)),
        };
        let mut row = vec![self.label(verdict.model_id), what];
        row.extend(terms.iter().flat_map(|terms| figures(self.objective, verdict, terms)));
        row
    }

    /// The cost of the selected candidate, and what the objective prefers it for.
    fn lead(&self, verdict: &Verdict) -> String {
        let cost = self.decision.estimated_cost_microunits;
        match self.objective {
            Objective::Utility => format!("cost {cost}, utility {}", self.decision.expected_utility_microunits),
            Objective::Cheapest => format!("cost {cost}"),
            Objective::Quality => format!("quality {} bps, cost {cost}", verdict.quality_bps),
            Objective::Fastest => format!("latency {} ms, cost {cost}", verdict.p95_latency_ms),
        }
    }

    /// What a gate compared, in words.
    fn compared(&self, gate: Gate, measured: u64, limit: u64) -> String {
        match gate {
            Gate::Disabled => "disabled".to_owned(),
            Gate::Quality => format!("quality: {measured} < {limit} bps"),
            Gate::Latency => format!("latency: {measured} > {limit} ms"),
            Gate::Capability => format!("capability: lacks {}", self.bits(Group::Capability, limit & !measured)),
            Gate::Provider => format!("provider: {} is not allowed", self.name(Group::Provider, measured, "")),
            Gate::Region => format!(
                "region: in {}, not in {}",
                self.bits(Group::Region, measured),
                self.bits(Group::Region, limit)
            ),
            Gate::RiskCeiling => format!("risk ceiling: {measured} > {limit} bps"),
        }
    }

    /// A candidate's number, and its name if it has one.
    fn label(&self, model_id: u32) -> String {
        match self.named(Group::Model, model_id) {
            Some(name) => format!("{model_id} {name}"),
            None => model_id.to_string(),
        }
    }

    fn named(&self, group: Group, id: u32) -> Option<String> {
        self.names().and_then(|names| names.name(group, id)).map(visible)
    }

    /// The name of an id or bit, or its number after what it is.
    fn name(&self, group: Group, id: u64, what: &str) -> String {
        u32::try_from(id)
            .ok()
            .and_then(|id| self.named(group, id))
            .unwrap_or_else(|| format!("{what}{id}"))
    }

    /// The bits of a mask, by name where they have one.
    fn bits(&self, group: Group, mask: u64) -> String {
        let names: Vec<_> = (0..64)
            .filter(|bit| mask >> bit & 1 == 1)
            .map(|bit| self.name(group, bit, "bit "))
            .collect();
        match (mask, names.is_empty()) {
            (u64::MAX, _) => "all".to_owned(),
            (_, true) => "none".to_owned(),
            (_, false) => names.join(", "),
        }
    }
}
