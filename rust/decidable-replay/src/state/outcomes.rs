//! What was observed of a ticket: which outcomes can be, their revisions and digests; and that what was generated for it
//! was audited.
//!
//! It moves no money and ends no ticket.

use decidable_canon::{Canonical as _, Digest, units::BPS_WHOLE};

use super::{State, Status, Ticket, tickets::unknown_ticket, too_many};
use crate::{Disposition, Error, ErrorKind, Outcome, OutcomeRecord, Record, Selection, Strategy};

impl State {
    /// Several may be of one ticket, which may have had several answers.
    pub(super) fn audit(&self, ticket: u64, hash: Digest) -> Result<Record, Error> {
        match self.known_ticket(ticket)? {
            Ticket::Decided {
                status: Status::Open(_) | Status::Settled { .. },
                ..
            } => Ok(Record::Audit { ticket, hash }),
            _ => Err(Error::new(
                ErrorKind::NothingSelected,
                format!("ticket {ticket} was refused or cancelled, so nothing was generated for it"),
            )),
        }
    }

    pub(super) fn observe(&mut self, seen: OutcomeRecord) -> Result<Record, Error> {
        let number = seen.ticket;
        let nothing_selected = || {
            Error::new(
                ErrorKind::NothingSelected,
                format!("ticket {number} selected nothing, so it has no outcome"),
            )
        };
        let Some(Ticket::Decided {
            record,
            status,
            revisions,
            ..
        }) = self.tickets.change(number)
        else {
            return Err(if self.tickets.get(number).is_some() {
                nothing_selected()
            } else {
                unknown_ticket(number)
            });
        };
        let measured =
            seen.realized_cost_microunits.is_some() || seen.realized_latency_ms.is_some() || seen.succeeded.is_some();
        if seen.disposition != Disposition::Abandoned && !matches!(status, Status::Open(_) | Status::Settled { .. }) {
            return Err(Error::new(
                ErrorKind::NothingSelected,
                format!("ticket {number} was refused or cancelled, so it can only have been abandoned"),
            ));
        }
        let consistent = match seen.disposition {
            Disposition::Applied => measured,
            Disposition::Abandoned => !measured,
            Disposition::InFlight => seen.succeeded.is_none(),
        };
        if !consistent {
            return Err(Error::new(
                ErrorKind::BadOutcome,
                "an applied outcome needs a measurement, an abandoned one carries none, one in flight cannot have succeeded"
                    .to_owned(),
            ));
        }
        let revision = revisions
            .checked_add(1)
            .ok_or_else(|| too_many("outcomes of one ticket"))?;
        let selection = Selection {
            strategy: Strategy::MaximizeUtility,
            acted_model_id: record.decision.selected_model_id,
            propensity_bps: Some(BPS_WHOLE),
        };
        let digest = Outcome {
            identity: record.identity,
            observed_at_micros: seen.observed_at_micros,
            revision,
            selection: selection.digest(),
            disposition: seen.disposition,
            realized_cost_microunits: seen.realized_cost_microunits,
            realized_latency_ms: seen.realized_latency_ms,
            succeeded: seen.succeeded,
        }
        .digest();
        *revisions = revision;
        Ok(Record::Outcome(OutcomeRecord {
            revision,
            digest,
            ..seen
        }))
    }
}
