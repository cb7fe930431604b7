//! What ends a ticket: settling and cancelling, and what a settlement charges.
//!
//! It knows nothing of how the ticket came to be, but for the record of its decision.

use std::sync::Arc;

use decidable_canon::cast;

use super::{State, Status};
use crate::{DecisionRecord, Error, ErrorKind, Record, SettlementRecord, Use};

impl State {
    pub(super) fn settle(&mut self, seq: u64, ticket: u64, used: Use) -> Result<Record, Error> {
        let (record, hold) = self.open_record(ticket)?;
        let charged = self.charge(&record, &used)?;
        let (returned, debt, balance) = match hold {
            None => (0, 0, None),
            Some(hold) => {
                let commit = self
                    .ledger
                    .commit(hold, charged)
                    .map_err(|error| Error::ledger(&error))?;
                (commit.returned, commit.debt, Some(commit.balance))
            }
        };
        let settlement = SettlementRecord {
            ticket,
            used,
            charged,
            returned,
            debt,
            balance,
        };
        self.set_status(
            ticket,
            Status::Settled {
                record: Arc::new(settlement),
                seq,
            },
        );
        Ok(Record::Settlement(settlement))
    }

    /// What a settlement charges: the cost that was told, or the policy's price of the tokens that were used.
    fn charge(&self, record: &DecisionRecord, used: &Use) -> Result<i64, Error> {
        let cost = match (used.cost_microunits, used.input_tokens, used.output_tokens) {
            (Some(cost), _, _) => cost,
            (None, Some(input), Some(output)) => {
                let selected = record.decision.selected_model_id.unwrap_or(0);
                if record.request.quotes().iter().any(|(model, _)| *model == selected) {
                    return Err(Error::new(
                        ErrorKind::NoCost,
                        format!(
                            "model {selected} was quoted for this request, so its settlement needs cost_microunits"
                        ),
                    ));
                }
                let policy = self.policies.get(cast::usize_from_u32(record.policy)).ok_or_else(|| {
                    Error::new(
                        ErrorKind::UnknownPolicy,
                        format!("no policy of number {} is installed", record.policy),
                    )
                })?;
                policy.cost(selected, input, output).ok_or_else(|| {
                    Error::new(
                        ErrorKind::NothingSelected,
                        format!("model {selected} is not in the policy"),
                    )
                })?
            }
            (None, _, _) => {
                return Err(Error::new(
                    ErrorKind::NoCost,
                    "a settlement needs cost_microunits, or input_tokens and output_tokens".to_owned(),
                ));
            }
        };
        cast::i64_from_u64(cost).ok_or_else(|| {
            Error::new(
                ErrorKind::AmountOutOfRange,
                format!("a cost of {cost} microunits is beyond the ledger's range"),
            )
        })
    }

    pub(super) fn cancel(&mut self, seq: u64, ticket: u64) -> Result<Record, Error> {
        let (record, hold) = self.open_record(ticket)?;
        let balance = match hold {
            None => None,
            Some(hold) => Some(self.ledger.release(hold).map_err(|error| Error::ledger(&error))?),
        };
        self.set_status(ticket, Status::Cancelled { seq });
        // Nothing was done under the caller's key, so whoever tries again with it is decided anew.
        self.free_key(record.caller_key, ticket);
        Ok(Record::Cancellation { ticket, balance })
    }
}
