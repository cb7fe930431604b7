use std::{io, sync::Arc};

use decidable_canon::cast;

use crate::{
    error::{Error, ErrorKind},
    storage::StoredFile,
};

/// A segment's bytes, from memory or read from a file piece by piece, going forward.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    origin: Origin<'a>,
    /// How many bytes there are; a file that grows meanwhile is read up to here.
    length: u64,
}

#[derive(Debug)]
enum Origin<'a> {
    Bytes(&'a [u8]),
    File(Piece),
}

/// The part of a file that is in memory.
#[derive(Debug)]
struct Piece {
    file: Arc<dyn StoredFile>,
    start: u64,
    bytes: Vec<u8>,
    filled: usize,
}

/// A file is read in pieces of this size: large enough that the call does not matter, small enough to stay in the
/// second-level cache while it is hashed.
const PIECE_BYTES: usize = 256 << 10;

impl<'a> Source<'a> {
    pub(crate) const fn of_bytes(bytes: &'a [u8]) -> Self {
        Self {
            length: cast::u64_from_usize(bytes.len()),
            origin: Origin::Bytes(bytes),
        }
    }

    /// The first `length` bytes of a file.
    pub(crate) const fn of_file(file: Arc<dyn StoredFile>, length: u64) -> Self {
        Self {
            length,
            origin: Origin::File(Piece {
                file,
                start: 0,
                bytes: Vec::new(),
                filled: 0,
            }),
        }
    }

    /// The same file up to its present end, if it has become longer.
    pub(crate) fn grown(&self) -> Result<Option<Source<'static>>, Error> {
        let Origin::File(piece) = &self.origin else {
            return Ok(None);
        };
        let state = piece
            .file
            .state()
            .map_err(|error| Error::io("cannot read the log", &error))?;
        let grown = state.length > self.length;
        Ok(grown.then(|| Source::of_file(piece.file.clone(), state.length)))
    }

    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Makes `wanted` bytes from `at` on, or all up to the end, available to [`Source::from`].
    #[inline]
    pub(crate) fn load(&mut self, at: u64, wanted: usize) -> Result<(), Error> {
        match &mut self.origin {
            Origin::Bytes(_) => Ok(()),
            Origin::File(piece) => {
                // What does not fit a length is more than is ever wanted.
                let left = cast::usize_from_u64(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
                let wanted = wanted.min(left);
                if piece.covers(at, wanted) {
                    return Ok(());
                }
                piece.read(at, wanted.saturating_add(PIECE_BYTES).min(left))
            }
        }
    }

    /// The bytes from `at` on that are available; none where there are none, so that whoever needs some looks how many
    /// there are. A place that does not fit a length lies behind all bytes in memory.
    #[inline]
    pub(crate) fn from(&self, at: u64) -> &[u8] {
        match &self.origin {
            Origin::Bytes(bytes) => cast::usize_from_u64(at)
                .and_then(|at| bytes.get(at..))
                .unwrap_or_default(),
            Origin::File(piece) => piece.from(at),
        }
    }
}

impl Piece {
    #[inline]
    fn from(&self, at: u64) -> &[u8] {
        at.checked_sub(self.start)
            .and_then(cast::usize_from_u64)
            .and_then(|start| self.bytes.get(start..self.filled))
            .unwrap_or_default()
    }

    #[inline]
    fn covers(&self, at: u64, wanted: usize) -> bool {
        wanted == 0 || self.from(at).len() >= wanted
    }

    fn read(&mut self, at: u64, wanted: usize) -> Result<(), Error> {
        let kept = self.from(at).len();
        if kept > 0 {
            self.bytes.copy_within(self.filled.saturating_sub(kept)..self.filled, 0);
        }
        self.start = at;
        self.filled = kept;
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        while self.filled < wanted {
            let room = self.bytes.get_mut(self.filled..wanted).unwrap_or_default();
            let offset = at.saturating_add(cast::u64_from_usize(self.filled));
            match self.file.read_at(room, offset) {
                Ok(0) => {
                    return Err(Error::new(ErrorKind::Io, "the log became shorter while it was read").at_offset(offset));
                }
                Ok(read) => self.filled = self.filled.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("cannot read the log", &error).at_offset(offset)),
            }
        }
        Ok(())
    }
}
