use core::slice;

use sha2::block_api::compress256;

use crate::{Canonical, Digest, Sink, tag::Tag};

/// Room of a fixed length, filled from its beginning: for layouts whose offsets are known when the program is built.
/// What does not fit is left out, so give it the length of the layout.
pub struct Row<'a>(&'a mut [u8]);

impl<'a> Row<'a> {
    /// Room to be filled.
    #[inline(always)]
    pub const fn new(room: &'a mut [u8]) -> Self {
        Self(room)
    }
}

impl Sink for Row<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let room = core::mem::take(&mut self.0);
        if let Some((field, rest)) = room.split_at_mut_checked(bytes.len()) {
            field.copy_from_slice(bytes);
            self.0 = rest;
        }
    }
}

const BLOCK_BYTES: usize = 64;
const LENGTH_BYTES: usize = 8;

/// The hash value that SHA-256 begins with: FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A layout of a fixed length as SHA-256 takes it (FIPS 180-4, section 5.1.1): its tag, its fields, one bit, zeros and its
/// length.
#[derive(Clone)]
pub struct Message<const BLOCKS: usize>([[u8; BLOCK_BYTES]; BLOCKS]);

impl<const BLOCKS: usize> Message<BLOCKS> {
    /// The message of a value whose layout has `BYTES` bytes with its tag.
    #[inline(always)]
    pub fn of<const BYTES: usize, T: Canonical>(value: &T) -> Self {
        Self::written::<BYTES>(|row| {
            row.tag(T::TAG);
            value.encode(row);
        })
    }

    /// The message of a layout that is there already, but for its tag: `BYTES` with it.
    #[inline(always)]
    pub fn of_row<const BYTES: usize>(tag: Tag, fields: &[u8]) -> Self {
        Self::written::<BYTES>(|row| {
            row.tag(tag);
            row.put(fields);
        })
    }

    #[inline(always)]
    fn written<const BYTES: usize>(write: impl FnOnce(&mut Row<'_>)) -> Self {
        const { assert!(BYTES + 1 + LENGTH_BYTES <= BLOCKS * BLOCK_BYTES) }
        let mut blocks = [[0; BLOCK_BYTES]; BLOCKS];
        let (layout, padding) = blocks.as_flattened_mut().split_at_mut(BYTES);
        let mut row = Row(layout);
        write(&mut row);
        debug_assert!(row.0.is_empty(), "the layout fills its row");
        if let Some(bit) = padding.first_mut() {
            *bit = 0x80;
        }
        if let Some(length) = padding.last_chunk_mut::<LENGTH_BYTES>() {
            *length = const { crate::cast::u64_from_usize(BYTES * 8) }.to_be_bytes();
        }
        Self(blocks)
    }

    /// The SHA-256 of the message.
    #[inline(always)]
    #[must_use]
    pub fn digest(&self) -> Digest {
        let [digest] = Self::digests([self]);
        digest
    }

    /// The SHA-256 of several messages. They are hashed in turn, block by block, so that a processor works on one while it
    /// waits for another.
    #[inline(always)]
    #[must_use]
    pub fn digests<const N: usize>(messages: [&Self; N]) -> [Digest; N] {
        let mut states = [INITIAL; N];
        for place in 0..BLOCKS {
            for (state, message) in states.iter_mut().zip(messages) {
                if let Some(block) = message.0.get(place) {
                    compress256(state, slice::from_ref(block));
                }
            }
        }
        states.map(|state| {
            let mut bytes = [0; 32];
            for (room, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
                *room = word.to_be_bytes();
            }
            Digest::from_bytes(bytes)
        })
    }
}
