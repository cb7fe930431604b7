//! A decision that is derived before anyone knows the number of its request.

use decidable_canon::Digest;
use decidable_kernel::{Decision, Policy, Request};

use super::other_decision;
use crate::{Error, SAFETY_CEILING_BPS};

/// A request and what follows from it under a policy, by the definition ([`Policy::derive`]). Nothing of it depends on a
/// state, so whoever shares one derives first and holds the state only while it moves ([`State::decide`]).
///
/// [`State::decide`]: super::State::decide
#[derive(Clone, Debug)]
pub struct Derived {
    request: Request,
    /// The policy's digest and the decision; absent at the safety ceiling, where no policy is read.
    decided: Option<(Digest, Decision)>,
}

impl Derived {
    /// Derives the decision of `policy` on `request`, unless the safety ceiling refuses it.
    #[must_use]
    pub fn new(policy: &Policy, request: &Request) -> Self {
        let refused = request.fields().risk_bps >= SAFETY_CEILING_BPS;
        Self {
            request: request.clone(),
            decided: (!refused).then(|| (policy.digest(), policy.derive(request))),
        }
    }

    /// The request, under the number that it came with.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Compares what someone says the decision is. At the safety ceiling nobody is asked.
    ///
    /// # Errors
    /// `Disagrees`, naming the first field, if another decision follows.
    pub fn expect(&self, propose: impl FnOnce() -> Decision) -> Result<(), Error> {
        let Some((_, derived)) = &self.decided else {
            return Ok(());
        };
        let proposed = propose();
        if proposed == *derived {
            Ok(())
        } else {
            Err(other_decision(&proposed, derived))
        }
    }

    /// The decision of this policy on the request under another number, which is all that a number changes in it. Under
    /// another policy than it was derived with, the decision is derived again.
    pub(crate) fn under(&self, policy: &Policy, request: &Request) -> Decision {
        match &self.decided {
            Some((digest, decision)) if *digest == policy.digest() => Decision {
                request_sequence: request.fields().request_sequence,
                ..*decision
            },
            _ => policy.derive(request),
        }
    }
}
