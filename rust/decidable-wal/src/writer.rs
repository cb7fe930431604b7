use std::{fmt, io, sync::Arc};

use decidable_canon::{Key, cast};

use crate::{
    error::{Error, ErrorKind},
    frame::{Batch, Chain},
    gathered::{Gathered, Zone},
    note::{Durability, Note},
    record::{Entry, Head},
    storage::StoredFile,
};

/// A note of the log about itself as an entry.
pub(crate) fn note_entry(note: &Note, time_ns: i64) -> Entry<'static> {
    Entry {
        kind: note.kind().code(),
        time_ns,
        payload: note.encode().into(),
        private: None,
    }
}

/// The end of a segment, where batches are appended: it alone writes to the file.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) file: Arc<dyn StoredFile>,
    /// The length that the file has as long as nobody else writes to it.
    pub(crate) length: u64,
    pub(crate) chain: Chain,
    pub(crate) key: Option<Key>,
    pub(crate) sync: Durability,
    /// The batch being built; kept for its room.
    pub(crate) buffer: Vec<u8>,
}

/// The first operation that failed. Nothing is written after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    os_code: Option<i32>,
}

impl Failure {
    fn io(action: &str, cause: &io::Error) -> Self {
        Self {
            what: format!("{action}: {cause}"),
            os_code: cause.raw_os_error(),
        }
    }
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            os_code: None,
        }
    }
    /// The failure as an error of `kind`, after the words `so`.
    pub(crate) fn error(&self, kind: ErrorKind, so: &str) -> Error {
        Error::new(kind, format!("{so}: {self}")).with_os_code(self.os_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A buffer that grew beyond this for one large group is given back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

impl Writer {
    /// Writes what was gathered as one batch, with one write and, unless the log does not sync, one sync. Returns the new
    /// head.
    pub(crate) fn append(&mut self, gathered: &Gathered) -> Result<Head, Failure> {
        let first = gathered.first();
        let (false, Some(count)) = (gathered.is_empty(), cast::u32_from_usize(gathered.records())) else {
            return Err(Failure::new("a batch has no records or too many"));
        };
        let batch = Batch { first, count };
        let mut seq = first;
        self.buffer.clear();
        for entry in gathered.entries() {
            self.chain
                .append(seq, batch, &entry, self.key.as_ref(), &mut self.buffer)
                .ok_or_else(|| Failure::new("a record is too large for a frame"))?;
            seq = seq.saturating_add(1);
        }
        self.fence()?;
        write_whole(&*self.file, &self.buffer, self.length)?;
        self.length = self.length.saturating_add(cast::u64_from_usize(self.buffer.len()));
        if self.sync == Durability::Group {
            self.sync()?;
        }
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(self.head(seq.saturating_sub(1)))
    }

    /// The head when the last record has that number.
    pub(crate) const fn head(&self, seq: u64) -> Head {
        Head {
            log_id: self.chain.log_id,
            seq,
            hash: self.chain.hash,
        }
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        self.file
            .sync_data()
            .map_err(|error| Failure::io("the sync of the log failed", &error))
    }

    /// Zeroes private parts, durably.
    pub(crate) fn zero(&self, zones: &[Zone]) -> Result<(), Failure> {
        self.fence()?;
        let mut zeros = Vec::new();
        for zone in zones {
            zeros.resize(zone.bytes, 0);
            write_whole(&*self.file, &zeros, zone.offset)?;
        }
        self.sync()
    }

    /// Refuses to write when somebody else has written, cut or replaced the file: a lock only stops those who ask.
    fn fence(&self) -> Result<(), Failure> {
        let state = self
            .file
            .state()
            .map_err(|error| Failure::io("the log cannot be looked at", &error))?;
        if !state.current {
            return Err(Failure::new("the log was removed or replaced while it was open"));
        }
        if state.length != self.length {
            return Err(Failure::new(format!(
                "somebody else changed the log: it has {} bytes instead of {}",
                state.length, self.length
            )));
        }
        Ok(())
    }
}

/// Writes all of `bytes` with one write. One that takes less is a failure, whatever comes of the next byte: that one is
/// offered because the system says why it takes no more (the disk is full, the file may not grow) only where it takes
/// nothing.
pub(crate) fn write_whole(file: &dyn StoredFile, bytes: &[u8], offset: u64) -> Result<(), Failure> {
    let taken = write_some(file, bytes, offset).map_err(|error| Failure::io("a write to the log failed", &error))?;
    if taken == bytes.len() {
        return Ok(());
    }
    let short = format!("a write to the log took {taken} of {} bytes", bytes.len());
    let next = bytes.get(taken..).unwrap_or_default().first_chunk::<1>();
    let after = offset.saturating_add(cast::u64_from_usize(taken));
    match next.map(|byte| write_some(file, byte, after)) {
        Some(Err(error)) => Err(Failure::io(&short, &error)),
        Some(Ok(_)) | None => Err(Failure::new(short)),
    }
}

fn write_some(file: &dyn StoredFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.write_at(bytes, offset) {
            // Nothing was taken, so it is the same write again and not a second attempt at a failed one.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            taken => return taken,
        }
    }
}

/// Reads the bytes from `offset` up to `end`, all of them.
pub(crate) fn read_whole(file: &dyn StoredFile, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let bytes = cast::usize_from_u64(end.saturating_sub(offset)).ok_or(io::ErrorKind::OutOfMemory)?;
    let mut read = vec![0; bytes];
    let mut filled = 0_usize;
    while filled < bytes {
        let at = offset.saturating_add(cast::u64_from_usize(filled));
        match file.read_at(read.get_mut(filled..).unwrap_or_default(), at) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(more) => filled = filled.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
