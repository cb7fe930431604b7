use decidable_canon::{Digest, Key, Row, Sink as _, cast, tag};

use crate::{
    join,
    record::{Entry, commitment},
};

/// A frame's payload has at most this many bytes; a longer record spans frames of one batch. With the header it stays
/// below 65,535 bytes, the largest entry of a transparency log (C2SP tlog-tiles), and it is a multiple of eight.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 65_480;

pub(crate) const HEADER_BYTES: usize = 48;
/// The header without its checksum: the part that is chained.
pub(crate) const CHAINED_HEADER_BYTES: usize = 44;
pub(crate) const DIGEST_BYTES: usize = 32;

/// Every frame begins with these bytes.
pub(crate) const MAGIC: [u8; 4] = *b"DCF0";

/// A private part follows the frame.
pub(crate) const PRIVATE: u16 = 1;
/// The record goes on in the next frame.
pub(crate) const CONTINUES: u16 = 2;

const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX.is_multiple_of(8) && FRAME_PAYLOAD_BYTES_MAX + HEADER_BYTES <= 65_535);

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) payload_bytes: u32,
    pub(crate) seq: u64,
    pub(crate) batch_first: u64,
    pub(crate) batch_count: u32,
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) time_ns: i64,
    pub(crate) private_bytes: u32,
}

impl Header {
    /// The header without its checksum. The fields fill the row, as a test holds.
    fn chained(&self) -> [u8; CHAINED_HEADER_BYTES] {
        let mut bytes = [0; CHAINED_HEADER_BYTES];
        let mut out = Row::new(&mut bytes);
        out.put(&MAGIC);
        out.u32(self.payload_bytes);
        out.u64(self.seq);
        out.u64(self.batch_first);
        out.u32(self.batch_count);
        out.u16(self.kind);
        out.u16(self.flags);
        out.i64(self.time_ns);
        out.u32(self.private_bytes);
        bytes
    }

    /// Reads a header whose magic and checksum are right.
    #[inline]
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], salt: u32) -> Option<Self> {
        let (
            [
                magic,
                payload_bytes,
                s0,
                s1,
                f0,
                f1,
                batch_count,
                kind,
                t0,
                t1,
                private_bytes,
                checksum,
            ],
            [],
        ) = bytes.as_chunks::<4>()
        else {
            return None;
        };
        let chained = bytes.first_chunk::<CHAINED_HEADER_BYTES>()?;
        if *magic != MAGIC || crc32c::crc32c(chained) ^ salt != u32::from_le_bytes(*checksum) {
            return None;
        }
        let wide = |low: [u8; 4], high: [u8; 4]| {
            u64::from(u32::from_le_bytes(low)) | u64::from(u32::from_le_bytes(high)) << 32
        };
        let [k0, k1, g0, g1] = *kind;
        Some(Self {
            payload_bytes: u32::from_le_bytes(*payload_bytes),
            seq: wide(*s0, *s1),
            batch_first: wide(*f0, *f1),
            batch_count: u32::from_le_bytes(*batch_count),
            kind: u16::from_le_bytes([k0, k1]),
            flags: u16::from_le_bytes([g0, g1]),
            time_ns: i64::from_le_bytes(wide(*t0, *t1).to_le_bytes()),
            private_bytes: u32::from_le_bytes(*private_bytes),
        })
    }

    pub(crate) const fn has_private(&self) -> bool {
        self.flags & PRIVATE != 0
    }
    pub(crate) const fn continues(&self) -> bool {
        self.flags & CONTINUES != 0
    }
    /// The number of the last record of the batch, if there is such a number.
    pub(crate) fn batch_last(&self) -> Option<u64> {
        self.batch_first
            .checked_add(u64::from(self.batch_count).checked_sub(1)?)
    }
    /// Whether the frame is the last one of its batch.
    pub(crate) fn ends_batch(&self) -> bool {
        !self.continues() && Some(self.seq) == self.batch_last()
    }

    /// Where the parts of the frame lie, counted from its first byte.
    pub(crate) fn layout(&self, keyed: bool) -> Layout {
        let payload_end = HEADER_BYTES.saturating_add(cast::usize_from_u32(self.payload_bytes));
        let commitment = padded(payload_end);
        let chain = if self.has_private() {
            commitment.saturating_add(DIGEST_BYTES)
        } else {
            commitment
        };
        let private = chain.saturating_add(DIGEST_BYTES);
        let private_end = if self.has_private() {
            private
                .saturating_add(DIGEST_BYTES)
                .saturating_add(cast::usize_from_u32(self.private_bytes))
        } else {
            private
        };
        let seal = padded(private_end);
        let end = if keyed && self.ends_batch() {
            seal.saturating_add(DIGEST_BYTES)
        } else {
            seal
        };
        Layout {
            payload_end,
            commitment,
            chain,
            private,
            private_end,
            seal,
            end,
        }
    }
}

/// Where the parts of a frame lie, counted from its first byte.
///
/// header | payload | zeros to 8 | commitment if private | chain | salt and private bytes if private | zeros to 8 | seal
/// if it ends a sealed batch
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) payload_end: usize,
    pub(crate) commitment: usize,
    pub(crate) chain: usize,
    pub(crate) private: usize,
    pub(crate) private_end: usize,
    pub(crate) seal: usize,
    pub(crate) end: usize,
}

/// The next multiple of eight.
pub(crate) const fn padded(length: usize) -> usize {
    length.saturating_add(7) & !7
}

/// How many bytes of the log a record of these sizes takes, without the seal of its batch.
///
/// ```
/// assert_eq!(decidable_wal::frame_bytes(300, None), 48 + 304 + 32);
/// ```
#[must_use]
pub const fn frame_bytes(payload_bytes: usize, private_bytes: Option<usize>) -> usize {
    let frames = if payload_bytes == 0 {
        1
    } else {
        payload_bytes.div_ceil(FRAME_PAYLOAD_BYTES_MAX)
    };
    let public = frames
        .saturating_mul(HEADER_BYTES + DIGEST_BYTES)
        .saturating_add(padded(payload_bytes));
    match private_bytes {
        Some(private_bytes) => public
            .saturating_add(2 * DIGEST_BYTES)
            .saturating_add(padded(private_bytes)),
        None => public,
    }
}

/// The state of a chain while frames are appended or checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) log_id: [u8; 16],
    pub(crate) salt: u32,
    /// The chain up to here.
    pub(crate) hash: Digest,
}

impl Chain {
    /// The chain after a frame: SHA-256(tag FRAME ‖ header without checksum ‖ payload ‖ commitment ‖ previous). The log's
    /// id is in the chain from its beginning on. What is chained comes last, so that a processor can hash the beginning
    /// of a frame before it has finished the frame before.
    #[inline]
    pub(crate) fn next(&self, chained_header: &[u8], payload: &[u8], commitment: &[u8]) -> Digest {
        join::digest(&[
            tag::FRAME.bytes(),
            chained_header,
            payload,
            commitment,
            self.hash.bytes(),
        ])
    }

    /// The parts that a batch's seal is the HMAC of, handed to `with`.
    pub(crate) fn sealed<T>(&self, first: u64, count: u32, with: impl FnOnce(&[&[u8]]) -> T) -> T {
        with(&[
            tag::SEAL.bytes(),
            &self.log_id,
            &first.to_le_bytes(),
            &count.to_le_bytes(),
            self.hash.bytes(),
        ])
    }

    /// Appends a record as the frames that it takes, and advances. The payload is copied once, here. `None` if a part of it
    /// is longer than a header can say, which no entry that was accepted is.
    #[must_use]
    pub(crate) fn append(
        &mut self,
        seq: u64,
        batch: Batch,
        entry: &Entry<'_>,
        key: Option<&Key>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let mut rest = &*entry.payload;
        loop {
            // Not longer than one frame's: all of it.
            let (payload, after) = rest.split_at_checked(FRAME_PAYLOAD_BYTES_MAX).unwrap_or((rest, &[]));
            let last = after.is_empty();
            let private = entry.private.as_ref().filter(|_| last);
            let header = Header {
                payload_bytes: cast::u32_from_usize(payload.len())?,
                seq,
                batch_first: batch.first,
                batch_count: batch.count,
                kind: entry.kind,
                flags: if private.is_some() { PRIVATE } else { 0 } | if last { 0 } else { CONTINUES },
                time_ns: entry.time_ns,
                private_bytes: match private {
                    Some(private) => cast::u32_from_usize(private.bytes.len())?,
                    None => 0,
                },
            };
            let chained = header.chained();
            out.put(&chained);
            out.u32(crc32c::crc32c(&chained) ^ self.salt);
            out.put(payload);
            pad(out);
            let committed = private.map(|private| commitment(&private.salt, &private.bytes));
            self.hash = self.next(
                &chained,
                payload,
                committed.as_ref().map_or(&[], |digest| digest.bytes().as_slice()),
            );
            if let Some(committed) = &committed {
                out.digest(committed);
            }
            out.digest(&self.hash);
            if let Some(private) = private {
                out.put(&private.salt);
                out.put(&private.bytes);
                pad(out);
            }
            if let (Some(key), true) = (key, header.ends_batch()) {
                let seal = self.sealed(batch.first, batch.count, |parts| key.mac(parts));
                out.digest(&seal);
            }
            if last {
                return Some(());
            }
            rest = after;
        }
    }
}

/// The batch that a record is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) count: u32,
}

/// Zeros up to a multiple of eight. What came before began at one.
fn pad(out: &mut Vec<u8>) {
    out.resize(padded(out.len()), 0);
}
