use sha2::{Digest as _, Sha256};

use crate::{Digest, Sink, tag::Tag};

/// How many bytes a [`Hasher`] gathers before it hands them to SHA-256: the largest fixed layout fits, so that hashing
/// one is a single call.
const GATHER_BYTES: usize = 256;

/// Hashes a layout as it is written, without a vector in between.
#[derive(Clone)]
pub struct Hasher {
    sha: Sha256,
    gathered: [u8; GATHER_BYTES],
    used: usize,
}

impl Hasher {
    /// A hasher of nothing yet.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self {
            sha: Sha256::new(),
            gathered: [0; GATHER_BYTES],
            used: 0,
        }
    }
    /// The digest of all that was written.
    #[inline]
    #[must_use]
    pub fn finish(mut self) -> Digest {
        self.flush();
        Digest::from_bytes(self.sha.finalize().into())
    }
    #[inline]
    fn flush(&mut self) {
        if let Some(gathered) = self.gathered.get(..self.used) {
            self.sha.update(gathered);
        }
        self.used = 0;
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Hasher {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > GATHER_BYTES.saturating_sub(self.used) {
            self.flush();
            if bytes.len() > GATHER_BYTES {
                self.sha.update(bytes);
                return;
            }
        }
        let end = self.used.saturating_add(bytes.len());
        if let Some(room) = self.gathered.get_mut(self.used..end) {
            room.copy_from_slice(bytes);
            self.used = end;
        }
    }
}

/// A value with one layout, and so with one digest.
///
/// Implement it in the file that defines the type and take the value apart exhaustively (`let Self { a, b } = self;`),
/// so that a new field without a place in the layout does not compile.
pub trait Canonical {
    /// The tag that begins the layout.
    const TAG: Tag;

    /// Writes the fields that follow the tag.
    fn encode<S: Sink>(&self, out: &mut S);

    /// The SHA-256 of the tag and the fields.
    #[must_use]
    fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.tag(Self::TAG);
        self.encode(&mut hasher);
        hasher.finish()
    }
}
