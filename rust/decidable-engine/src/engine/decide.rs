//! From a request to an answer: what is decided outside of the state, and what a caller's key answers again.
//!
//! It does not know how a decision is made: that is the kernel's, and whatever else proposes one is compared with it.

use std::time::Instant;

use decidable_kernel::{Decision, Policy, Request};
use decidable_replay::{Derived, caller_key};

use super::room::decision_room;
use super::{Engine, Step, TicketView};
use crate::book::{SHOWN_CHARS, is_name};
use crate::{Error, ErrorKind};

/// How a decision is made. The kernel is the definition; whatever else is used here is replayed by the kernel before
/// its decision is written, and a decision that does not replay is refused.
pub trait Decide: Send + Sync {
    /// The decision of `policy` on `request`.
    fn decide(&self, policy: &Policy, request: &Request) -> Decision;
}

/// The kernel itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kernel;

impl Decide for Kernel {
    fn decide(&self, policy: &Policy, request: &Request) -> Decision {
        policy.decide(request)
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The ticket.
    pub view: TicketView,
    /// Its record.
    pub step: Step,
    /// Whether the caller's key had been used for the same request before: then this is the earlier ticket.
    pub replayed: bool,
}

impl Engine {
    /// Decides a request, holds its largest cost on `account`, and hands the record to the log. The answer must not be
    /// acted on before [`Engine::wait`] has returned for its step.
    ///
    /// With a `key` that was used before for the same request and account the earlier ticket is returned, a refusal
    /// among them: repeating a request never turns its answer. The metadata of the first stay.
    ///
    /// # Errors
    /// If the account is unknown, the key was used for another request, the decision does not replay, or the log cannot
    /// take the record. A refusal is not an error.
    pub fn decide(
        &self,
        request: &Request,
        account: Option<&str>,
        key: Option<&str>,
        metadata: Option<&str>,
    ) -> Result<Answer, Error> {
        // What takes long with a large catalog is done before the state is held, so that nobody waits for it.
        let derived = self.derive(request);
        let mut core = self.core()?;
        let payer = account.map(|name| core.account(name)).transpose()?;
        let caller_key = key
            .map(|key| keyed(key).map(|key| caller_key(&core.log_id, key)))
            .transpose()?;
        if let (Some(digest), Some(key)) = (&caller_key, key)
            && let Some(ticket) = core.book.state().ticket_of_key(digest)
        {
            let number = ticket.request().fields().request_sequence;
            if ticket.account() != payer || *ticket.request() != request.numbered(number) {
                return Err(Error::new(ErrorKind::KeyConflict(key.to_owned())));
            }
            let step = Step {
                seq: ticket.seq(),
                started: Instant::now(),
            };
            if core.standing(number).is_some() {
                let times = core.answered_again.entry(number).or_default();
                *times = times.saturating_add(1);
            }
            return Ok(Answer {
                view: core.view(number)?,
                step,
                replayed: true,
            });
        }
        let derived = derived?;
        let private = metadata.map(|text| core.private(text)).transpose()?;
        let bytes = decision_room(request, metadata)?;
        let number = core.book.state().next_request();
        let policy = core.policy;
        let (_, step) = self.write(&mut core, bytes, false, private, |state, seq| {
            state.decide(seq, policy, payer, &derived, caller_key)
        })?;
        Ok(Answer {
            view: core.view(number)?,
            step,
            replayed: false,
        })
    }

    /// Decides a request and derives the decision again by the definition, which is what will be written.
    fn derive(&self, request: &Request) -> Result<Derived, Error> {
        let derived = Derived::new(&self.policy, request);
        derived
            .expect(|| self.decide.decide(&self.policy, request))
            .map_err(|error| Error::new(ErrorKind::DoesNotReplay(error.to_string())))?;
        Ok(derived)
    }

    /// How many candidates and quotes deciding a request looks at: whoever must not wait long asks before.
    #[must_use]
    pub fn work(&self, request: &Request) -> usize {
        self.policy.candidates().len().saturating_add(request.quotes().len())
    }
}

/// The caller's key, which is held to what a name is held to.
fn keyed(key: &str) -> Result<&str, Error> {
    if is_name(key) {
        Ok(key)
    } else {
        Err(Error::new(ErrorKind::BadKey(key.chars().take(SHOWN_CHARS).collect())))
    }
}
