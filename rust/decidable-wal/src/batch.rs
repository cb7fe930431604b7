use decidable_canon::{Digest, Key, cast};

use crate::{
    error::ErrorKind,
    frame::{
        CHAINED_HEADER_BYTES, CONTINUES, Chain, DIGEST_BYTES, FRAME_PAYLOAD_BYTES_MAX, HEADER_BYTES, Header, Layout,
        MAGIC, PRIVATE,
    },
    record::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX, PRIVATE_BYTES_MAX, RECORD_BYTES_MAX, commitment},
};

/// A batch has at most the bytes of the largest group and a seal; a reader takes memory for no more.
const BATCH_BYTES_READ_MAX: usize = GROUP_BYTES_MAX + DIGEST_BYTES;

/// What the next batch of a log must look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) chain: Chain,
    pub(crate) keyed: bool,
    pub(crate) next_seq: u64,
    pub(crate) last_time_ns: i64,
}

/// A frame whose header is right and whose bytes are all there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Where it begins, counted from its batch.
    pub(crate) at: usize,
    pub(crate) header: Header,
    pub(crate) layout: Layout,
    /// The chain as stored.
    pub(crate) hash: Digest,
    pub(crate) private: PrivateState,
}

/// What the bytes of a private part are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrivateState {
    /// There is none, or nobody looked.
    None,
    /// Those that were committed to.
    Intact,
    /// All zero, as after an erasure.
    Zero,
    /// Neither: damage, or an erasure that was interrupted.
    Other,
}

/// What is wrong with a batch, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) kind: ErrorKind,
    pub(crate) what: &'static str,
    pub(crate) seq: u64,
    /// Counted from the batch.
    pub(crate) at: usize,
}

/// How far the headers of a batch can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outline {
    /// To its end: so many bytes.
    Whole(usize),
    /// The bytes end before the batch does, and the headers so far are right.
    Ends(Damage),
    /// There is something that no writer wrote here.
    Broken(Damage),
}

/// More bytes must be loaded to follow a batch: so many from its beginning on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanting(pub(crate) usize);

/// How far into a batch its headers were followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    at: usize,
    seq: u64,
    before: Option<Header>,
    /// The payload so far of a record that goes on in the next frame.
    record_bytes: usize,
}

impl Reached {
    /// The beginning of the next batch.
    #[inline]
    pub(crate) const fn nothing(expected: &Expected) -> Self {
        Self {
            at: 0,
            seq: expected.next_seq,
            before: None,
            record_bytes: 0,
        }
    }
}

/// Follows the headers of the batch that begins `bytes` on from where they were followed before, without hashing, and
/// adds its frames. `is_all` says that nothing can be loaded beyond.
#[inline]
pub(crate) fn outline(
    bytes: &[u8],
    is_all: bool,
    expected: &Expected,
    reached: &mut Reached,
    frames: &mut Vec<Frame>,
) -> Result<Outline, Wanting> {
    loop {
        let Reached { at, seq, before, .. } = *reached;
        let damage = |what| Damage {
            kind: ErrorKind::FrameDamaged,
            what,
            seq,
            at,
        };
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(head) = rest.first_chunk::<HEADER_BYTES>() else {
            if !is_all {
                return Err(Wanting(at.saturating_add(HEADER_BYTES)));
            }
            let begins = begins_header(rest, seq, expected.next_seq, before.as_ref());
            return Ok(if begins {
                Outline::Ends(damage("the log ends inside a batch"))
            } else {
                Outline::Broken(damage("the last bytes of the log do not begin a frame"))
            });
        };
        let Some(header) = Header::decode(head, expected.chain.salt) else {
            return Ok(Outline::Broken(damage("the header of a frame is damaged")));
        };
        if !follows(&header, seq, expected, before.as_ref()) {
            return Ok(Outline::Broken(damage("a frame is not the one that belongs here")));
        }
        let record_bytes = reached
            .record_bytes
            .saturating_add(cast::usize_from_u32(header.payload_bytes));
        if record_bytes > RECORD_BYTES_MAX {
            return Ok(Outline::Broken(damage("a record is larger than any that is written")));
        }
        let layout = header.layout(expected.keyed);
        let end = at.saturating_add(layout.end);
        if end > BATCH_BYTES_READ_MAX {
            return Ok(Outline::Broken(damage("a batch is larger than any that is written")));
        }
        let Some(stored) = rest.get(..layout.end).and_then(|frame| frame.get(layout.chain..)) else {
            return if is_all {
                Ok(Outline::Ends(damage("the log ends inside a batch")))
            } else {
                Err(Wanting(end))
            };
        };
        frames.push(Frame {
            at,
            header,
            layout,
            hash: stored
                .first_chunk()
                .map_or(expected.chain.hash, |hash| Digest::from_bytes(*hash)),
            private: PrivateState::None,
        });
        if header.ends_batch() {
            return Ok(Outline::Whole(end));
        }
        *reached = Reached {
            at: end,
            seq: if header.continues() { seq } else { seq.saturating_add(1) },
            before: Some(header),
            record_bytes: if header.continues() { record_bytes } else { 0 },
        };
    }
}

/// Whether fewer bytes than a header can be the beginning of the one that belongs here, as far as that is known.
fn begins_header(bytes: &[u8], seq: u64, batch_first: u64, before: Option<&Header>) -> bool {
    let mut known: [Option<u8>; HEADER_BYTES] = [None; HEADER_BYTES];
    let mut know = |at: usize, value: &[u8]| {
        for (place, byte) in known.iter_mut().skip(at).zip(value) {
            *place = Some(*byte);
        }
    };
    know(0, &MAGIC);
    know(8, &seq.to_le_bytes());
    know(16, &batch_first.to_le_bytes());
    if let Some(before) = before {
        know(24, &before.batch_count.to_le_bytes());
    }
    bytes
        .iter()
        .zip(known)
        .all(|(byte, known)| known.is_none_or(|known| known == *byte))
}

/// Whether a header is the one that a writer would write here.
#[inline]
fn follows(header: &Header, seq: u64, expected: &Expected, before: Option<&Header>) -> bool {
    let in_batch = cast::usize_from_u32(header.batch_count) <= GROUP_RECORDS_MAX
        && header.seq == seq
        && header.batch_first == expected.next_seq
        && header.batch_last() >= Some(seq);
    let last_time_ns = before.map_or(expected.last_time_ns, |before| before.time_ns);
    let after = match before {
        None => true,
        Some(before) => {
            header.batch_count == before.batch_count
                && (!before.continues() || (header.kind == before.kind && header.time_ns == before.time_ns))
        }
    };
    let payload_bytes = cast::usize_from_u32(header.payload_bytes);
    let sized = if header.continues() {
        payload_bytes == FRAME_PAYLOAD_BYTES_MAX
    } else {
        payload_bytes <= FRAME_PAYLOAD_BYTES_MAX && (payload_bytes > 0 || !before.is_some_and(Header::continues))
    };
    let private = if header.has_private() {
        !header.continues() && cast::usize_from_u32(header.private_bytes) <= PRIVATE_BYTES_MAX
    } else {
        header.private_bytes == 0
    };
    in_batch
        && after
        && sized
        && private
        && header.flags & !(PRIVATE | CONTINUES) == 0
        && header.time_ns >= last_time_ns
}

/// Checks the hashes of outlined frames and, with a key, the seal. Advances the chain over the frames that are right and
/// notes the state of every private part.
#[inline]
pub(crate) fn check(
    bytes: &[u8],
    frames: &mut [Frame],
    expected: &mut Expected,
    key: Option<&Key>,
) -> Result<(), Damage> {
    let Expected { chain, keyed, .. } = expected;
    for frame in frames {
        let Frame { at, header, layout, .. } = *frame;
        let damage = |kind, what| Damage {
            kind,
            what,
            seq: header.seq,
            at,
        };
        let end = at.saturating_add(layout.end);
        // What is not there is empty, and then the hash does not fit.
        let part = |from: usize, to: usize| bytes.get(at..end).and_then(|all| all.get(from..to)).unwrap_or_default();
        let committed = part(layout.commitment, layout.chain);
        let computed = chain.next(
            part(0, CHAINED_HEADER_BYTES),
            part(HEADER_BYTES, layout.payload_end),
            committed,
        );
        if computed != frame.hash {
            return Err(damage(
                ErrorKind::ChainBroken,
                "the record does not follow from the one before it",
            ));
        }
        // The stored hash, which is the computed one: so the next frame's need not wait for this one's.
        chain.hash = frame.hash;
        if !is_zero(part(layout.payload_end, layout.commitment)) || !is_zero(part(layout.private_end, layout.seal)) {
            return Err(damage(ErrorKind::FrameDamaged, "the padding of a frame is not zero"));
        }
        if header.has_private() {
            frame.private = private_state(part(layout.private, layout.private_end), committed);
        }
        if *keyed
            && header.ends_batch()
            && let Some(key) = key
        {
            let seal = part(layout.seal, layout.end)
                .first_chunk()
                .map(|seal| Digest::from_bytes(*seal));
            let right = chain.sealed(header.batch_first, header.batch_count, |parts| {
                seal.is_some_and(|seal| key.verify(parts, &seal))
            });
            if !right {
                return Err(damage(ErrorKind::SealBroken, "the seal of the batch does not fit"));
            }
        }
    }
    Ok(())
}

/// Checks the private parts of a batch that nothing follows: no later record can have erased one, but for those of which
/// `is_erased` says so. With `holes`, when a power loss may have left them, zeros are damage too.
pub(crate) fn check_last_private(frames: &[Frame], holes: bool, is_erased: impl Fn(u64) -> bool) -> Result<(), Damage> {
    let damaged = |frame: &&Frame| match frame.private {
        PrivateState::Other => !is_erased(frame.header.seq),
        PrivateState::Zero => holes && !is_erased(frame.header.seq),
        PrivateState::None | PrivateState::Intact => false,
    };
    match frames.iter().find(damaged) {
        Some(frame) => Err(Damage {
            kind: ErrorKind::PrivateDamaged,
            what: "the private part of a record is neither what was committed to nor erased",
            seq: frame.header.seq,
            at: frame.at,
        }),
        None => Ok(()),
    }
}

fn private_state(salted: &[u8], committed: &[u8]) -> PrivateState {
    let Some((salt, bytes)) = salted.split_first_chunk::<DIGEST_BYTES>() else {
        return PrivateState::Other;
    };
    if is_zero(salted) {
        PrivateState::Zero
    } else if commitment(salt, bytes).bytes() == committed {
        PrivateState::Intact
    } else {
        PrivateState::Other
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
