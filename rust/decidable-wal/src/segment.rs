use decidable_canon::{Digest, Key, Sink as _, cast, tag};

use crate::error::{Error, ErrorKind};

/// The file of the first, and so far only, segment: the number of its first record.
pub const SEGMENT_NAME: &str = "00000000000000000001.seg";

/// Every segment's file ends in this.
pub(crate) const SEGMENT_SUFFIX: &str = ".seg";

/// The head of a segment has this many bytes.
pub(crate) const SEGMENT_HEAD_BYTES: usize = cast::usize_from_u32(HEAD_BYTES);

/// The same as the head itself says it.
const HEAD_BYTES: u32 = 128;

/// The bytes that the checksum covers: all but itself.
const CHECKED_BYTES: usize = 124;

/// The version of the layout, in the head beside the tag.
const VERSION: u16 = 0;

/// The flag of a log whose batches are sealed under a key.
const KEYED: u16 = 1;

/// What a segment begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) log_id: [u8; 16],
    pub(crate) segment: u64,
    pub(crate) first_seq: u64,
    /// The chain before the first record: zeros in the first segment.
    pub(crate) previous: [u8; 32],
    pub(crate) created_ns: i64,
    /// Which start of the machine it was; zeros where that was not known.
    pub(crate) boot_id: Option<[u8; 16]>,
    pub(crate) salt: u32,
    /// Present in a sealed log: what tells its key from another one.
    pub(crate) key_check: Option<[u8; 16]>,
}

/// The first half of HMAC(key, tag KEY_CHECK ‖ log id).
fn key_check(key: &Key, log_id: &[u8; 16]) -> [u8; 16] {
    let mac = key.mac(&[tag::KEY_CHECK.bytes(), log_id]);
    let [half, _] = halves(mac.bytes());
    half
}

fn halves(bytes: &[u8; 32]) -> [[u8; 16]; 2] {
    match bytes.as_chunks::<16>() {
        ([first, second], []) => [*first, *second],
        // 32 bytes are two halves.
        _ => [[0; 16]; 2],
    }
}

impl SegmentHead {
    /// The head of a new log's first segment.
    pub(crate) fn first(log_id: [u8; 16], created_ns: i64, boot_id: Option<[u8; 16]>, key: Option<&Key>) -> Self {
        let mut seed = Vec::from(log_id);
        seed.i64(created_ns);
        let salt = Digest::of(&seed)
            .bytes()
            .first_chunk()
            .map_or(0, |salt| u32::from_le_bytes(*salt));
        Self {
            log_id,
            segment: 1,
            first_seq: 1,
            previous: [0; 32],
            created_ns,
            boot_id: boot_id.filter(|id| *id != [0; 16]),
            salt,
            key_check: key.map(|key| key_check(key, &log_id)),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEAD_BYTES);
        out.tag(tag::SEGMENT);
        out.u16(VERSION);
        out.u16(if self.key_check.is_some() { KEYED } else { 0 });
        out.u32(HEAD_BYTES);
        out.put(&self.log_id);
        out.u64(self.segment);
        out.u64(self.first_seq);
        out.put(&self.previous);
        out.i64(self.created_ns);
        out.put(&self.boot_id.unwrap_or_default());
        out.u32(self.salt);
        out.put(&self.key_check.unwrap_or_default());
        let checksum = crc32c::crc32c(&out);
        out.u32(checksum);
        out
    }

    /// Reads the head from the first bytes of a segment.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |detail: &str| Error::new(ErrorKind::HeaderDamaged, detail).at_offset(0);
        let known = bytes.get(..tag::SEGMENT.bytes().len()) == Some(tag::SEGMENT.bytes());
        let (checked, checksum) = bytes
            .get(..SEGMENT_HEAD_BYTES)
            .and_then(|head| head.split_at_checked(CHECKED_BYTES))
            .ok_or_else(|| damaged("the segment is shorter than what it begins with"))?;
        if checksum != crc32c::crc32c(checked).to_le_bytes() {
            return Err(if known {
                damaged("what the segment begins with is damaged")
            } else {
                Error::new(ErrorKind::UnknownFormat, "these bytes are not a log of a known format").at_offset(0)
            });
        }
        Self::decode_fields(checked).ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownFormat,
                "the log has a layout that this version does not know",
            )
            .at_offset(0)
        })
    }

    fn decode_fields(checked: &[u8]) -> Option<Self> {
        let mut reader = decidable_canon::Reader::new(checked);
        reader.tag(tag::SEGMENT).ok()?;
        let (version, flags, length) = (reader.u16().ok()?, reader.u16().ok()?, reader.u32().ok()?);
        if version != VERSION || flags & !KEYED != 0 || length != HEAD_BYTES {
            return None;
        }
        let head = Self {
            log_id: reader.take(16).ok()?.try_into().ok()?,
            segment: reader.u64().ok()?,
            first_seq: reader.u64().ok()?,
            previous: *reader.digest().ok()?.bytes(),
            created_ns: reader.i64().ok()?,
            boot_id: Some(reader.take(16).ok()?.try_into().ok()?).filter(|id| *id != [0; 16]),
            salt: reader.u32().ok()?,
            key_check: {
                let check: [u8; 16] = reader.take(16).ok()?.try_into().ok()?;
                (flags & KEYED != 0).then_some(check)
            },
        };
        let only = head.segment == 1 && head.first_seq == 1 && head.previous == [0; 32];
        only.then_some(head)
    }

    /// The chain before the first record: the SHA-256 of the whole head, so that a head kept elsewhere covers it too.
    pub(crate) fn genesis(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Whether the batches are sealed.
    pub(crate) const fn is_keyed(&self) -> bool {
        self.key_check.is_some()
    }

    /// Refuses a key that is not this log's.
    pub(crate) fn accept_key(&self, key: Option<&Key>) -> Result<(), Error> {
        match (&self.key_check, key) {
            (None, None) | (Some(_), None) => Ok(()),
            (None, Some(_)) => Err(Error::new(
                ErrorKind::NotKeyed,
                "a key was given, and the log was created without one",
            )),
            (Some(check), Some(key)) if *check == key_check(key, &self.log_id) => Ok(()),
            (Some(_), Some(_)) => Err(Error::new(ErrorKind::WrongKey, "the log is sealed under another key")),
        }
    }
}
