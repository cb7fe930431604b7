use decidable_canon::{
    Canonical, Digest, Sink,
    tag::{self, Tag},
};

use crate::{Decision, Policy, Request, row};

/// Bytes of an identity with its tag: three digests and the number.
const TAGGED_BYTES: usize = 9 + 3 * 32 + 8;

/// Which policy, request and decision a decision was: the digest (`calyidn1`) that outcomes refer to.
#[must_use]
pub fn identity(policy: &Policy, request: &Request, decision: &Decision) -> Digest {
    Identity {
        policy: policy.digest(),
        request: request.digest(),
        decision: decision.digest(),
        request_sequence: decision.request_sequence,
    }
    .digest()
}

struct Identity {
    policy: Digest,
    request: Digest,
    decision: Digest,
    request_sequence: u64,
}

impl Canonical for Identity {
    const TAG: Tag = tag::IDENTITY;

    fn digest(&self) -> Digest {
        row::digest::<TAGGED_BYTES, _>(self)
    }

    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            policy,
            request,
            decision,
            request_sequence,
        } = self;
        out.digest(policy);
        out.digest(request);
        out.digest(decision);
        out.u64(*request_sequence);
    }
}
