use decidable_canon::{
    Canonical, Digest, Message, Sink,
    tag::{self, Tag},
};

use crate::{Decision, Policy, Request};

/// Bytes of an identity with its tag: three digests and the number.
const TAGGED_BYTES: usize = 9 + 3 * 32 + 8;

/// Which policy, request and decision a decision was: the digest (`calyidn1`) that outcomes refer to.
#[must_use]
pub fn identity(policy: &Policy, request: &Request, decision: &Decision) -> Digest {
    let (request, decision_digest) = if request.is_extended() {
        (request.digest(), decision.digest())
    } else {
        let [request, decision] = Message::digests([&request.fields().message(), &decision.message()]);
        (request, decision)
    };
    Identity {
        policy: policy.digest(),
        request,
        decision: decision_digest,
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
        Message::<2>::of::<TAGGED_BYTES, _>(self).digest()
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
