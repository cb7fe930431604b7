//! The JSON-lines log that other implementations read and write (docs/spec/formats.md, "JSON-lines log").
//!
//! One entry a line, its members in one order and without spaces. The hash of an entry covers the text of the hash before
//! it and the exact bytes of its data; with a key it is an HMAC. Data is handed over as those bytes: what they mean is for
//! others to read. The known gaps of the format are those of the format: the hash binds neither the sequence nor a time,
//! and only an anchor kept elsewhere dates the end.
//!
//! ```
//! use decidable_wal::exchange::{self, ReadOptions, Writer};
//! let mut writer = Writer::new(Vec::new(), None);
//! writer.append(br#"{"audit":null}"#)?;
//! let anchor = writer.anchor();
//! let lines = writer.into_inner();
//! let read = exchange::read(&*lines, &ReadOptions { key: None, anchor }, |entry| {
//!     assert_eq!((entry.sequence, entry.data), (1, br#"{"audit":null}"#.as_slice()));
//!     Ok(())
//! })?;
//! assert_eq!((read.entries, read.anchor_found), (1, true));
//! # Ok::<(), decidable_wal::Error>(())
//! ```

mod json;
mod anchor;
mod line;

use std::io::{BufRead, Read as _, Write};

use decidable_canon::{Digest, Hasher, Key, Sink as _, cast, hex};

use crate::error::{Error, ErrorKind};

pub use anchor::Anchor;

/// A line has at most this many bytes, without the line feed that ends it.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// What stands for the hash before the first entry's.
const GENESIS: &str = "genesis";

/// What a reader is given besides the lines.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The key of a keyed log. Unlike our own log, a keyed one cannot be checked at all without it.
    pub key: Option<Key>,
    /// A place that the log must contain.
    pub anchor: Option<Anchor>,
}

/// One entry of an exchange log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number, which is its line's, from 1.
    pub sequence: u64,
    /// Where its line begins.
    pub offset: u64,
    /// The hash of the entry before it; absent for the first.
    pub previous: Option<Digest>,
    /// Its hash.
    pub hash: Digest,
    /// The exact bytes of its data, one JSON value.
    pub data: &'a [u8],
}

/// What reading an exchange log established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// How many entries there are.
    pub entries: u64,
    /// The hash of the last one.
    pub last: Option<Digest>,
    /// How many bytes they take.
    pub bytes: u64,
    /// Whether the hashes were checked under a key.
    pub keyed: bool,
    /// Whether the given anchor was found.
    pub anchor_found: bool,
    /// A last line that is not ended.
    pub tail: Option<LineTail>,
}

/// A last line without the line feed that ends every entry: a writer was stopped, or is at work. It is no entry, even
/// where it looks like one, because what is appended next would go on in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTail {
    /// Its line, from 1.
    pub line: u64,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

/// The hash of an entry: SHA-256, or HMAC-SHA256 under a key, of the text of the hash before it and the bytes of its data.
#[must_use]
pub fn entry_hash(previous: Option<&Digest>, data: &[u8], key: Option<&Key>) -> Digest {
    let mut text = String::new();
    chain_text(previous, &mut text);
    match key {
        Some(key) => key.mac(&[text.as_bytes(), data]),
        None => {
            let mut hasher = Hasher::new();
            hasher.put(text.as_bytes());
            hasher.put(data);
            hasher.finish()
        }
    }
}

fn chain_text(hash: Option<&Digest>, out: &mut String) {
    match hash {
        Some(hash) => hex::encode_into(hash.bytes(), out),
        None => out.push_str(GENESIS),
    }
}

/// Reads and verifies an exchange log, and hands every entry to `visit` once it and all before it are verified. What was
/// visited counts only when the reading returns without an error.
///
/// # Errors
/// With the line, the sequence number and the byte: `LineMalformed`, `SequenceBroken`, `ChainBroken`, `TooLarge`, `Visit`.
/// `HeadMismatch` and `ShorterThanHead` when the anchor is not met; `KeyMissing` and `NotKeyed` when the anchor says that
/// the log is keyed and there is no key, or the reverse; `Io`.
pub fn read(
    source: impl BufRead,
    options: &ReadOptions,
    mut visit: impl FnMut(&Entry<'_>) -> Result<(), String>,
) -> Result<Read, Error> {
    let mut source = source;
    let wanted = options.anchor.as_ref();
    accept_key(options)?;
    let mut read = Read {
        entries: 0,
        last: None,
        bytes: 0,
        keyed: options.key.is_some(),
        anchor_found: false,
        tail: None,
    };
    let mut buffer = Vec::new();
    loop {
        let sequence = read.entries.saturating_add(1);
        let place = |error: Error| error.at_line(sequence).at_seq(sequence).at_offset(read.bytes);
        buffer.clear();
        let limit = cast::u64_from_usize(LINE_BYTES_MAX).saturating_add(1);
        source
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut buffer)
            .map_err(|error| place(Error::io("cannot read the log", &error)))?;
        let taken = cast::u64_from_usize(buffer.len());
        let Some((b'\n', text)) = buffer.split_last() else {
            if taken == limit {
                return Err(place(Error::new(
                    ErrorKind::TooLarge,
                    format!("the line has more than {LINE_BYTES_MAX} bytes"),
                )));
            }
            read.tail = (taken > 0).then_some(LineTail {
                line: sequence,
                offset: read.bytes,
                bytes: taken,
            });
            break;
        };
        let entry = verify(text, &read, options.key.as_ref()).map_err(place)?;
        visit(&entry).map_err(|message| place(Error::new(ErrorKind::Visit, message)))?;
        if let Some(wanted) = wanted
            && wanted.sequence == sequence
        {
            if wanted.last_hash != entry.hash {
                return Err(place(Error::new(
                    ErrorKind::HeadMismatch,
                    "the log does not contain the anchor that was given: this entry has another hash",
                )));
            }
            read.anchor_found = true;
        }
        read.last = Some(entry.hash);
        read.entries = sequence;
        read.bytes = read.bytes.saturating_add(taken);
    }
    match wanted {
        Some(wanted) if !read.anchor_found => Err(Error::new(
            ErrorKind::ShorterThanHead,
            format!(
                "the log ends at entry {}, before the anchor that was given: entries up to {} existed",
                read.entries, wanted.sequence
            ),
        )
        .at_seq(wanted.sequence)
        .at_offset(read.bytes)),
        _ => Ok(read),
    }
}

/// Refuses a key, or the lack of one, that the anchor contradicts.
fn accept_key(options: &ReadOptions) -> Result<(), Error> {
    match (&options.anchor, &options.key) {
        (Some(anchor), None) if anchor.keyed => Err(Error::new(
            ErrorKind::KeyMissing,
            "the anchor is of a keyed log, and no key was given",
        )),
        (Some(anchor), Some(_)) if !anchor.keyed => Err(Error::new(
            ErrorKind::NotKeyed,
            "a key was given, and the anchor is of a log without one",
        )),
        _ => Ok(()),
    }
}

/// Takes a line apart and checks it against what came before.
fn verify<'a>(text: &'a [u8], before: &Read, key: Option<&Key>) -> Result<Entry<'a>, Error> {
    let line = line::parse(text).map_err(|why| Error::new(ErrorKind::LineMalformed, why))?;
    let expected = before.entries.saturating_add(1);
    if line.sequence != expected {
        return Err(Error::new(
            ErrorKind::SequenceBroken,
            format!(
                "the entry says that it is number {}, and it is number {expected}",
                line.sequence
            ),
        ));
    }
    if line.previous != before.last {
        return Err(Error::new(
            ErrorKind::ChainBroken,
            "the entry does not name the hash of the one before it",
        ));
    }
    let right = match key {
        None => entry_hash(line.previous.as_ref(), line.data, None) == line.hash,
        Some(key) => {
            let mut text = String::new();
            chain_text(line.previous.as_ref(), &mut text);
            key.verify(&[text.as_bytes(), line.data], &line.hash)
        }
    };
    if !right {
        return Err(Error::new(
            ErrorKind::ChainBroken,
            match key {
                None => "the hash of the entry does not fit its data, or the log is keyed and no key was given",
                Some(_) => "the hash of the entry does not fit its data, or the key is another one",
            },
        ));
    }
    Ok(Entry {
        sequence: line.sequence,
        offset: before.bytes,
        previous: line.previous,
        hash: line.hash,
        data: line.data,
    })
}

/// Writes an exchange log from its first entry on.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    key: Option<Key>,
    entries: u64,
    last: Option<Digest>,
    line: String,
}

impl<W: Write> Writer<W> {
    /// A writer of a new log, keyed if there is a key.
    pub const fn new(out: W, key: Option<Key>) -> Self {
        Self {
            out,
            key,
            entries: 0,
            last: None,
            line: String::new(),
        }
    }

    /// Appends one entry with exactly these bytes as its data, in one write, and returns its hash.
    ///
    /// # Errors
    /// `LineMalformed` if the bytes are not one JSON value without space around it and on one line; `TooLarge`; `Io`.
    pub fn append(&mut self, data: &[u8]) -> Result<Digest, Error> {
        let sequence = self.entries.saturating_add(1);
        let refused = |kind, why: &str| Error::new(kind, why).at_line(sequence).at_seq(sequence);
        let text = json::value_text(data).map_err(|why| refused(ErrorKind::LineMalformed, why))?;
        let hash = entry_hash(self.last.as_ref(), data, self.key.as_ref());
        line::format(sequence, self.last.as_ref(), &hash, text, &mut self.line);
        if self.line.len() > LINE_BYTES_MAX.saturating_add(1) {
            return Err(refused(
                ErrorKind::TooLarge,
                "the entry would be longer than a line may be",
            ));
        }
        self.out.write_all(self.line.as_bytes()).map_err(|error| {
            Error::io("cannot write the entry", &error)
                .at_line(sequence)
                .at_seq(sequence)
        })?;
        self.entries = sequence;
        self.last = Some(hash);
        Ok(hash)
    }

    /// The anchor of what was written; absent before the first entry.
    #[must_use]
    pub fn anchor(&self) -> Option<Anchor> {
        self.last.map(|last_hash| Anchor {
            sequence: self.entries,
            last_hash,
            keyed: self.key.is_some(),
        })
    }

    /// What was written to.
    #[must_use]
    pub fn into_inner(self) -> W {
        self.out
    }
}
