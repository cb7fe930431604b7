//! Layouts of a fixed length, written into their place at once: the offsets are known when the program is built.

use decidable_canon::{Canonical, Digest, Sink};

/// Writes a layout into the room of one row, which is as long as the layout.
pub(crate) struct Row<'a>(pub(crate) &'a mut [u8]);

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

/// The digest of a layout that has `BYTES` with its tag: the same as [`Canonical::digest`] gives, in one piece.
#[inline(always)]
pub(crate) fn digest<const BYTES: usize, T: Canonical>(value: &T) -> Digest {
    let mut bytes = [0; BYTES];
    let mut row = Row(&mut bytes);
    row.tag(T::TAG);
    value.encode(&mut row);
    debug_assert!(row.0.is_empty(), "the layout fills its row");
    Digest::of(&bytes)
}
