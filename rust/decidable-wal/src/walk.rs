use decidable_canon::cast;

use crate::{
    batch::{self, Expected, Frame, Outline, Reached, Wanting},
    error::{Error, ErrorKind},
    frame::{Chain, DIGEST_BYTES, HEADER_BYTES},
    record::{PrivatePart, Record},
    segment::{SEGMENT_HEAD_BYTES, SegmentHead},
    source::Source,
};

/// Follows a segment batch by batch, by the headers alone. What is hashed is the scan's business.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) expected: Expected,
    /// Where the next batch begins.
    pub(crate) at: u64,
    /// The frames of the batch that was outlined last.
    pub(crate) frames: Vec<Frame>,
    joined: Vec<u8>,
}

impl<'a> Walk<'a> {
    /// Starts behind the segment's head.
    pub(crate) fn new(source: Source<'a>, head: &SegmentHead) -> Self {
        Self {
            source,
            expected: Expected {
                chain: Chain {
                    log_id: head.log_id,
                    salt: head.salt,
                    hash: head.genesis(),
                },
                keyed: head.is_keyed(),
                next_seq: head.first_seq,
                last_time_ns: i64::MIN,
            },
            at: cast::u64_from_usize(SEGMENT_HEAD_BYTES),
            frames: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// Another walk from where this one is, through `source` and after `chain`.
    pub(crate) const fn onward<'b>(&self, source: Source<'b>, chain: Chain) -> Walk<'b> {
        Walk {
            source,
            expected: Expected { chain, ..self.expected },
            at: self.at,
            frames: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// Whether there are bytes behind the last batch.
    #[inline]
    pub(crate) const fn has_more(&self) -> bool {
        self.at < self.source.length()
    }

    /// Outlines the next batch, loading what it takes.
    #[inline]
    pub(crate) fn outline(&mut self) -> Result<Outline, Error> {
        let mut wanted = HEADER_BYTES;
        let mut reached = Reached::nothing(&self.expected);
        self.frames.clear();
        loop {
            self.source.load(self.at, wanted)?;
            let bytes = self.source.from(self.at);
            let end = self.at.saturating_add(cast::u64_from_usize(bytes.len()));
            let is_all = end >= self.source.length();
            match batch::outline(bytes, is_all, &self.expected, &mut reached, &mut self.frames) {
                Ok(outline) => return Ok(outline),
                Err(Wanting(more)) => wanted = more,
            }
        }
    }

    /// Steps over the batch that was outlined, which takes `bytes`.
    #[inline]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(cast::u64_from_usize(bytes));
        if let Some(last) = self.frames.last() {
            self.expected.next_seq = last.header.seq.saturating_add(1);
            self.expected.last_time_ns = last.header.time_ns;
        }
    }

    /// Outlines a batch that is known to be whole and hands its frames to `each`, with the place of the batch; false
    /// at the end.
    pub(crate) fn follow(&mut self, each: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<bool, Error> {
        if !self.has_more() {
            return Ok(false);
        }
        match self.outline()? {
            Outline::Whole(bytes) => {
                each(self)?;
                self.advance(bytes);
                Ok(true)
            }
            Outline::Ends(_) | Outline::Broken(_) => {
                Err(Error::new(ErrorKind::FrameDamaged, "the log was changed while it was read").at_offset(self.at))
            }
        }
    }

    /// Hands the records of the outlined batch to `each`, in order. `is_erased` says whether a frame's private part is gone.
    #[inline]
    pub(crate) fn each_record(
        &mut self,
        is_erased: impl Fn(&Frame) -> bool,
        mut each: impl FnMut(&Record<'_>, &Frame) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let bytes = self.source.from(self.at);
        self.joined.clear();
        for frame in &self.frames {
            let header = &frame.header;
            // They were read to follow the frame. Less would be another record.
            let part = |from: usize, to: usize| {
                bytes
                    .get(frame.at..)
                    .and_then(|whole| whole.get(from..to))
                    .ok_or_else(|| Error::new(ErrorKind::Io, "the bytes of a record were not read").at_seq(header.seq))
            };
            let payload = part(HEADER_BYTES, frame.layout.payload_end)?;
            if header.continues() || !self.joined.is_empty() {
                self.joined.extend_from_slice(payload);
            }
            if header.continues() {
                continue;
            }
            let private = if !header.has_private() {
                PrivatePart::None
            } else if is_erased(frame) {
                PrivatePart::Erased
            } else {
                let start = frame.layout.private.saturating_add(DIGEST_BYTES);
                PrivatePart::Present(part(start, frame.layout.private_end)?)
            };
            let record = Record {
                seq: header.seq,
                kind: header.kind,
                time_ns: header.time_ns,
                payload: if self.joined.is_empty() { payload } else { &self.joined },
                private,
                hash: frame.hash,
                batch_first: header.batch_first,
                batch_count: header.batch_count,
            };
            each(&record, frame)?;
            self.joined.clear();
        }
        Ok(())
    }
}
