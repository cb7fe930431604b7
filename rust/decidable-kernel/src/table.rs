use core::fmt;

use crate::{Explanation, Finding, Group, Verdict};

const HEADINGS: [&str; 8] = [
    "model", "verdict", "measured", "limit", "quality", "risk", "latency", "utility",
];

impl Explanation {
    /// The name of a candidate, its control characters escaped, and its number.
    fn shown(&self, model_id: u32) -> String {
        match self.names().and_then(|names| names.name(Group::Model, model_id)) {
            Some(name) => format!("{} ({model_id})", name.escape_debug()),
            None => model_id.to_string(),
        }
    }

    fn row(&self, verdict: &Verdict) -> [String; 8] {
        let model = self.shown(verdict.model_id);
        let marked = if self.decision.selected_model_id == Some(verdict.model_id) {
            "selected"
        } else if self.decision.counterfactual_model_id == Some(verdict.model_id) {
            "second"
        } else {
            "eligible"
        };
        let none = String::new;
        match verdict.finding {
            Finding::Refused { gate, measured, limit } => [
                model,
                gate.name().to_owned(),
                measured.to_string(),
                limit.to_string(),
                none(),
                none(),
                none(),
                none(),
            ],
            Finding::OverBudget {
                cost_microunits,
                limit_microunits,
            } => [
                model,
                "OverBudget".to_owned(),
                cost_microunits.to_string(),
                limit_microunits.to_string(),
                none(),
                none(),
                none(),
                none(),
            ],
            Finding::NonPositiveUtility(terms) | Finding::Eligible(terms) => [
                model,
                if matches!(verdict.finding, Finding::Eligible(_)) {
                    marked
                } else {
                    "NonPositiveUtility"
                }
                .to_owned(),
                terms.cost_microunits.to_string(),
                none(),
                terms.quality_adjusted.to_string(),
                terms.risk_penalty.to_string(),
                terms.latency_penalty.to_string(),
                terms.utility.to_string(),
            ],
        }
    }
}

/// A table with one line a candidate. Under `measured` stands what the gate compared, or the cost; money is in
/// microunits.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = &self.decision;
        write!(f, "request {}: {}", decision.request_sequence, decision.action.label())?;
        if let Some(model_id) = decision.selected_model_id {
            write!(f, " {}", self.shown(model_id))?;
        }
        writeln!(f, ", {}", decision.reason.label())?;
        if self.verdicts.is_empty() {
            return f.write_str("refused before any candidate was looked at");
        }
        let rows: Vec<[String; 8]> = core::iter::once(HEADINGS.map(str::to_owned))
            .chain(self.verdicts.iter().map(|verdict| self.row(verdict)))
            .collect();
        let mut widths = [0; 8];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (place, row) in rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                line.push_str(&if column < 2 {
                    format!("{gap}{cell:<width$}")
                } else {
                    format!("{gap}{cell:>width$}")
                });
            }
            if place > 0 {
                writeln!(f)?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}
