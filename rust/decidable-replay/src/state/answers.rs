//! From a request to an answer: the safety ceiling, the policy's decision, the hold.
//!
//! It does not decide, which is the kernel's to do, and knows nothing of what comes after the answer.

use std::sync::Arc;

use decidable_canon::{Digest, cast};
use decidable_kernel::{Decision, Policy, Request, identity};
use decidable_ledger::{AccountId, HoldId, Reserve};

use super::{Derived, State, Status, Ticket, accounts::unknown_account, too_many};
use crate::{DecisionRecord, Error, ErrorKind, Holding, Record, RefusalRecord, SAFETY_CEILING_BPS};

impl State {
    /// As [`Command::Decide`](crate::Command::Decide), with the decision derived before.
    ///
    /// # Errors
    /// As [`State::perform`].
    pub fn decide(
        &mut self,
        seq: u64,
        policy: u32,
        account: Option<u32>,
        derived: &Derived,
        caller_key: Option<Digest>,
    ) -> Result<Record, Error> {
        self.answer(
            seq,
            policy,
            account,
            derived.request(),
            caller_key,
            |policy, request| Ok(derived.under(policy, request)),
        )
    }

    pub(super) fn answer(
        &mut self,
        seq: u64,
        policy_number: u32,
        account: Option<u32>,
        request: &Request,
        caller_key: Option<Digest>,
        derive: impl FnOnce(&Policy, &Request) -> Result<Decision, Error>,
    ) -> Result<Record, Error> {
        let payer = account.map(|account| self.account(account)).transpose()?;
        if let Some(key) = caller_key
            && self.keys.contains_key(&key)
        {
            return Err(Error::new(
                ErrorKind::KeyConflict,
                "the caller's key was used before".to_owned(),
            ));
        }
        let number = self.next_request;
        let next = number.checked_add(1).ok_or_else(|| too_many("requests"))?;
        let request = request.numbered(number);
        if request.fields().risk_bps >= SAFETY_CEILING_BPS {
            let record = Arc::new(RefusalRecord {
                account,
                request,
                caller_key,
            });
            self.next_request = next;
            self.keep(
                number,
                Ticket::Refused {
                    record: Arc::clone(&record),
                    seq,
                },
            );
            return Ok(Record::Refusal(record));
        }
        let policy = self.policies.get(cast::usize_from_u32(policy_number)).ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownPolicy,
                format!("no policy of number {policy_number} is installed"),
            )
        })?;
        let last = self.policies.len().saturating_sub(1);
        if cast::usize_from_u32(policy_number) != last {
            return Err(Error::disagrees("the policy's number", policy_number, last));
        }
        let decision = derive(policy, &request)?;
        let identity = identity(policy, &request, &decision);
        let (holding, status) = match (policy.hold(&request, &decision), payer) {
            (None, _) => (Holding::Rejected, Status::Closed),
            (Some(_), None) => (Holding::Unheld, Status::Open(None)),
            (Some(amount), Some(payer)) => self.hold(payer, HoldId(number), amount)?,
        };
        let record = Arc::new(DecisionRecord {
            policy: policy_number,
            account,
            request,
            decision,
            identity,
            holding,
            caller_key,
        });
        self.next_request = next;
        self.keep(
            number,
            Ticket::Decided {
                record: Arc::clone(&record),
                seq,
                status,
                revisions: 0,
            },
        );
        Ok(Record::Decision(record))
    }

    fn hold(&self, payer: AccountId, hold: HoldId, amount: u64) -> Result<(Holding, Status), Error> {
        let Some(wanted) = cast::i64_from_u64(amount) else {
            let balance = self.ledger.balance(payer).ok_or_else(|| unknown_account(payer.0))?;
            let holding = Holding::Denied {
                amount,
                denial: decidable_ledger::Denial::Overflow,
                balance,
            };
            return Ok((holding, Status::Closed));
        };
        Ok(
            match self
                .ledger
                .reserve(payer, hold, wanted)
                .map_err(|error| Error::ledger(&error))?
            {
                Reserve::Held { hold, balance } => (
                    Holding::Held {
                        amount: wanted,
                        balance,
                    },
                    Status::Open(Some(hold)),
                ),
                Reserve::Denied { reason, balance } => (
                    Holding::Denied {
                        amount,
                        denial: reason,
                        balance,
                    },
                    Status::Closed,
                ),
            },
        )
    }
}
