//! The tags that begin every layout: ASCII characters and one NUL byte, so that no tag is the beginning of another.
//!
//! A reader refuses a tag that it does not know. Tags that begin with `caly` are shared with the reference
//! implementation (docs/spec/formats.md); those that begin with `dcd` are ours (docs/spec/extensions.md, docs/spec/log.md, docs/spec/audit.md).
//! A test compares this table with the documents.

/// The bytes that begin a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(&'static [u8]);

impl Tag {
    /// The bytes as written, the final NUL among them.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        self.0
    }
}

/// A policy of the shared contract.
pub const POLICY: Tag = Tag(b"calypol1\0");
/// A request of the shared contract.
pub const REQUEST: Tag = Tag(b"calyinp1\0");
/// A decision.
pub const DECISION: Tag = Tag(b"calydcn1\0");
/// A ledger snapshot.
pub const LEDGER: Tag = Tag(b"calyldg1\0");
/// A caller's state.
pub const STATE: Tag = Tag(b"calystt1\0");
/// The identity of a decision: which policy, request and decision it was.
pub const IDENTITY: Tag = Tag(b"calyidn1\0");
/// How an action was selected.
pub const SELECTION: Tag = Tag(b"calysel1\0");
/// An observed outcome.
pub const OUTCOME: Tag = Tag(b"calyout1\0");
/// The names of models, providers, regions and capabilities.
pub const NAMES: Tag = Tag(b"dcdnam1\0");
/// A policy that uses our extensions.
pub const EXTENDED_POLICY: Tag = Tag(b"dcdpol1\0");
/// A request that uses our extensions.
pub const EXTENDED_REQUEST: Tag = Tag(b"dcdreq1\0");
/// The head of a log segment.
pub const SEGMENT: Tag = Tag(b"dcdseg0\0");
/// One frame of a log, chained to the frame before it.
pub const FRAME: Tag = Tag(b"dcdrec0\0");
/// The salted commitment to a record's private part.
pub const PRIVATE: Tag = Tag(b"dcdprv0\0");
/// The seal of a batch under a key.
pub const SEAL: Tag = Tag(b"dcdsea0\0");
/// The check value that tells a wrong key from a damaged log.
pub const KEY_CHECK: Tag = Tag(b"dcdkey0\0");
/// A caller's idempotency key as the log keeps it.
pub const CALLER_KEY: Tag = Tag(b"dcdidk0\0");
/// The rules of a guard.
pub const RULES: Tag = Tag(b"dcdrul0\0");
/// The head of an audit: which generation it is of.
pub const AUDIT: Tag = Tag(b"dcdaud0\0");
/// One frame of an audit, chained to the frame before it.
pub const AUDIT_FRAME: Tag = Tag(b"dcdafr0\0");
/// The seal of an audit under a key.
pub const AUDIT_SEAL: Tag = Tag(b"dcdase0\0");
/// The salted digest of a text that a rule matched.
pub const MATCHED: Tag = Tag(b"dcdamt0\0");

/// Every tag with the word that names it, for the test that compares this table with the documents.
pub const ALL: [(&str, Tag); 22] = [
    ("policy", POLICY),
    ("request", REQUEST),
    ("decision", DECISION),
    ("ledger snapshot", LEDGER),
    ("state", STATE),
    ("decision identity", IDENTITY),
    ("selection", SELECTION),
    ("outcome", OUTCOME),
    ("names", NAMES),
    ("extended policy", EXTENDED_POLICY),
    ("extended request", EXTENDED_REQUEST),
    ("segment", SEGMENT),
    ("frame", FRAME),
    ("private part", PRIVATE),
    ("seal", SEAL),
    ("key check", KEY_CHECK),
    ("caller key", CALLER_KEY),
    ("rules", RULES),
    ("audit", AUDIT),
    ("audit frame", AUDIT_FRAME),
    ("audit seal", AUDIT_SEAL),
    ("matched text", MATCHED),
];
