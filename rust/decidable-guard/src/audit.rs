//! The audit of a generation: which rules, which model and which decision it belongs to, one frame for each token and each match, and how it
//! ended; each frame chained to the one before (docs/spec/audit.md).
//!
//! It never holds text. Where its bytes are kept is the owner's: a [`Trail`] makes them, and [`Audit::read`] checks them.

use core::fmt;

use decidable_canon::{Digest, Hasher, Key, ReadError, ReadErrorKind, Reader, Sink, cast, tag};

use crate::{Match, Stop};

/// Bytes of a model's name in an audit.
pub const LONGEST_MODEL_NAME_BYTES: usize = 256;

/// The kinds of frame. No single bit that changes makes one of another.
const TOKEN: u8 = 1;
const MATCH: u8 = 2;
const END: u8 = 4;

const SEALED: u8 = 1;
const DIGEST_BYTES: usize = 32;
const NO_TEXT: Digest = Digest::from_bytes([0; DIGEST_BYTES]);

/// The zeros at the end of a seal from which on it is taken for one that was never written where there is no key to check it: that a whole
/// one ends so has a chance of 2^-64.
const BLANK_SEAL_BYTES: usize = 8;

/// The end without its chain and seal.
const END_BYTES: usize = 42;

/// The largest frame with its chain and seal: the room that one more needs.
const FRAME_BYTES: usize = 128;

/// Which generation an audit is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// A number of its own, random.
    pub id: [u8; 16],
    /// Which start of the machine it was, where that is known.
    pub boot_id: Option<[u8; 16]>,
    /// When it began, nanoseconds since 1970-01-01 UTC, as the caller says.
    pub created_ns: i64,
    /// The digest of the rules.
    pub rules: Digest,
    /// The decision that it belongs to: its number in its log, and its identity.
    pub decision: Option<(u64, Digest)>,
    /// What the model is called.
    pub model: String,
}

impl Head {
    fn encode(&self, key: Option<&Key>, out: &mut Vec<u8>) -> Digest {
        let Self {
            id,
            boot_id,
            created_ns,
            rules,
            decision,
            model,
        } = self;
        let start = out.len();
        out.tag(tag::AUDIT);
        out.u8(if key.is_some() { SEALED } else { 0 });
        out.put(id);
        out.option(*boot_id, |out, id| out.put(&id));
        out.i64(*created_ns);
        out.digest(rules);
        out.option(*decision, |out, (number, identity)| {
            out.u64(number);
            out.digest(&identity);
        });
        out.str(model);
        let check = key.map_or([0; 16], |key| key_check(key, out.get(start..).unwrap_or_default()));
        out.put(&check);
        // `start` is where this began to write, here and in `link`.
        let chain = Digest::of(out.get(start..).unwrap_or_default());
        out.digest(&chain);
        chain
    }

    /// The head, whether it is sealed, how long it is without what its key gives, and that.
    fn decode(reader: &mut Reader<'_>) -> Result<(Self, bool, usize, [u8; 16]), ReadError> {
        reader.tag(tag::AUDIT)?;
        let range = reader.error(ReadErrorKind::OutOfRange);
        let sealed = match reader.u8()? {
            0 => false,
            SEALED => true,
            _ => return Err(range),
        };
        let id = sixteen(reader)?;
        let boot_id = reader.option(sixteen)?;
        let created_ns = reader.i64()?;
        let rules = reader.digest()?;
        let decision = reader.option(|reader| Ok((reader.u64()?, reader.digest()?)))?;
        let range = reader.error(ReadErrorKind::OutOfRange);
        let model = reader.str()?;
        if model.len() > LONGEST_MODEL_NAME_BYTES {
            return Err(range);
        }
        let head = Self {
            id,
            boot_id,
            created_ns,
            rules,
            decision,
            model: model.to_owned(),
        };
        let range = reader.error(ReadErrorKind::OutOfRange);
        let checked = reader.offset();
        let check = sixteen(reader)?;
        if !sealed && check != [0; 16] {
            return Err(range);
        }
        Ok((head, sealed, checked, check))
    }
}

fn sixteen(reader: &mut Reader<'_>) -> Result<[u8; 16], ReadError> {
    let short = reader.error(ReadErrorKind::Truncated);
    reader.take(16)?.try_into().map_err(|_| short)
}

/// What tells a wrong key from damage, and another head from the one that was written.
fn key_check(key: &Key, head: &[u8]) -> [u8; 16] {
    let mac = key.mac(&[tag::KEY_CHECK.bytes(), head]);
    let mut check = [0; 16];
    for (to, from) in check.iter_mut().zip(mac.bytes()) {
        *to = *from;
    }
    check
}

fn sealed(chain: &Digest, id: &[u8; 16], key: &Key) -> Digest {
    key.mac(&[tag::AUDIT_SEAL.bytes(), id, chain.bytes()])
}

fn chained(frame: &[u8], before: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.tag(tag::AUDIT_FRAME);
    hasher.put(frame);
    hasher.digest(before);
    hasher.finish()
}

/// The digest of a text that a rule matched. Without the salt nobody can try texts on it.
#[must_use]
pub fn matched_digest(salt: &[u8; 32], text: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.tag(tag::MATCHED);
    hasher.put(salt);
    hasher.put(text);
    hasher.finish()
}

/// How a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The text came to its end.
    Finished,
    /// A rule that stops matched.
    Matched,
    /// More would have had to be held back than is allowed.
    HeldTooMuch,
    /// More attempts would have had to be followed than is allowed.
    TooManyAttempts,
    /// Whoever feeds the stream could not go on.
    Failed,
    /// The model was less sure than is allowed.
    Uncertain,
}

impl Ending {
    /// Every ending, at the place of its number.
    pub const ALL: [Self; 6] = [
        Self::Finished,
        Self::Matched,
        Self::HeldTooMuch,
        Self::TooManyAttempts,
        Self::Failed,
        Self::Uncertain,
    ];

    /// That of a stream.
    #[must_use]
    pub const fn of(stop: Option<Stop>) -> Self {
        match stop {
            None => Self::Finished,
            Some(Stop::Matched(_)) => Self::Matched,
            Some(Stop::HeldTooMuch(_)) => Self::HeldTooMuch,
            Some(Stop::TooManyAttempts(_)) => Self::TooManyAttempts,
            Some(Stop::Failed(_)) => Self::Failed,
            Some(Stop::Uncertain(_)) => Self::Uncertain,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Matched => 1,
            Self::HeldTooMuch => 2,
            Self::TooManyAttempts => 3,
            Self::Failed => 4,
            Self::Uncertain => 5,
        }
    }

    /// Its name in lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Matched => "matched",
            Self::HeldTooMuch => "held_too_much",
            Self::TooManyAttempts => "too_many_attempts",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

/// The last frame: how a generation ended, and its totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub ending: Ending,
    /// When, nanoseconds since 1970-01-01 UTC, as the caller says.
    pub timestamp_ns: i64,
    /// Tokens.
    pub tokens: u64,
    /// Matches.
    pub matches: u64,
    /// Bytes that were taken.
    pub taken: u64,
    /// Bytes of them that came out, or were replaced. The rest never did.
    pub released: u64,
}

/// The bytes of an audit as a generation goes on. It allocates nothing as long as its owner takes them away.
#[derive(Clone, Debug)]
pub struct Trail {
    id: [u8; 16],
    key: Option<Key>,
    chain: Digest,
    tokens: u64,
    matches: u64,
    bytes: Vec<u8>,
    ended: bool,
}

impl Trail {
    /// Begins with the head; sealed, if there is a key. It keeps `room` bytes without allocating.
    ///
    /// # Errors
    /// With its length, if the model's name is longer than [`LONGEST_MODEL_NAME_BYTES`].
    pub fn new(head: &Head, key: Option<Key>, room: usize) -> Result<Self, usize> {
        if head.model.len() > LONGEST_MODEL_NAME_BYTES {
            return Err(head.model.len());
        }
        let mut bytes = Vec::with_capacity(room.saturating_add(FRAME_BYTES).max(1_024));
        let chain = head.encode(key.as_ref(), &mut bytes);
        Ok(Self {
            id: head.id,
            key,
            chain,
            tokens: 0,
            matches: 0,
            bytes,
            ended: false,
        })
    }

    /// What was not taken away yet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes were taken away.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The chain after the last frame: what to keep elsewhere.
    #[must_use]
    pub const fn chain(&self) -> Digest {
        self.chain
    }

    /// A token.
    pub fn token(&mut self, token_id: u32, timestamp_ns: i64) {
        if self.ended {
            return;
        }
        self.tokens = self.tokens.saturating_add(1);
        let start = self.bytes.len();
        self.bytes.u8(TOKEN);
        self.bytes.u64(self.tokens);
        self.bytes.u32(token_id);
        self.bytes.i64(timestamp_ns);
        self.link(start);
    }

    /// A match, with the salted digest of its text where one is wanted.
    pub fn matched(&mut self, found: &Match, text: Option<&Digest>) {
        if self.ended {
            return;
        }
        self.matches = self.matches.saturating_add(1);
        let Match { rule, start, end } = found;
        let begin = self.bytes.len();
        self.bytes.u8(MATCH);
        // A place among the rules is 16 bits wide.
        self.bytes.u32(cast::u32_from_usize(*rule).unwrap_or(u32::MAX));
        self.bytes.u64(*start);
        self.bytes.u64(*end);
        self.bytes.digest(text.unwrap_or(&NO_TEXT));
        self.link(begin);
    }

    /// How many bytes its end takes, with the seal if there is one.
    #[must_use]
    pub const fn end_bytes(&self) -> usize {
        END_BYTES + DIGEST_BYTES + if self.key.is_some() { DIGEST_BYTES } else { 0 }
    }

    /// The end; nothing comes after it.
    pub fn end(&mut self, ending: Ending, timestamp_ns: i64, taken: u64, released: u64) {
        if self.ended {
            return;
        }
        self.ended = true;
        let start = self.bytes.len();
        self.bytes.u8(END);
        self.bytes.u8(ending.code());
        self.bytes.i64(timestamp_ns);
        self.bytes.u64(self.tokens);
        self.bytes.u64(self.matches);
        self.bytes.u64(taken);
        self.bytes.u64(released);
        self.link(start);
        if let Some(key) = &self.key {
            let seal = sealed(&self.chain, &self.id, key);
            self.bytes.digest(&seal);
        }
    }

    fn link(&mut self, start: usize) {
        self.chain = chained(self.bytes.get(start..).unwrap_or_default(), &self.chain);
        self.bytes.digest(&self.chain);
    }
}

/// One token of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditFrame {
    /// The number of the token, from 1.
    pub step_seq: u64,
    /// The model's number of it.
    pub token_id: u32,
    /// When it came, nanoseconds since 1970-01-01 UTC, as the caller says.
    pub timestamp_ns: i64,
    /// The chain up to here.
    pub chain_hash: Digest,
}

/// One match of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Which rule, and where.
    pub found: Match,
    /// After how many tokens it was known.
    pub step_seq: u64,
    /// The salted digest of its text.
    pub text: Option<Digest>,
}

/// Bytes behind the last whole frame of an audit that was not ended: none, a part of a frame, or zeros that stand where one was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where they begin.
    pub offset: usize,
    /// How many.
    pub bytes: usize,
}

/// What is wrong with the bytes of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditErrorKind {
    /// They are not as they were written.
    Damaged,
    /// The seal is not that of the key.
    SealBroken,
    /// It is sealed under another key.
    WrongKey,
    /// A key was given, and it is not sealed.
    NotSealed,
}

/// An audit that does not hold: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditError {
    kind: AuditErrorKind,
    offset: usize,
    why: String,
}

impl AuditError {
    fn new(kind: AuditErrorKind, offset: usize, why: impl fmt::Display) -> Self {
        Self {
            kind,
            offset,
            why: why.to_string(),
        }
    }

    fn damaged(offset: usize, why: impl fmt::Display) -> Self {
        Self::new(AuditErrorKind::Damaged, offset, why)
    }

    /// The kind of fault.
    #[must_use]
    pub const fn kind(&self) -> AuditErrorKind {
        self.kind
    }

    /// The byte at which the part begins that does not hold.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The stable code of the kind.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.kind {
            AuditErrorKind::Damaged => "audit.damaged",
            AuditErrorKind::SealBroken => "audit.seal_broken",
            AuditErrorKind::WrongKey => "audit.wrong_key",
            AuditErrorKind::NotSealed => "audit.not_sealed",
        }
    }
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl core::error::Error for AuditError {}

/// An audit that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Which generation it is of.
    pub head: Head,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Its tokens.
    pub frames: Vec<AuditFrame>,
    /// Its matches.
    pub matches: Vec<Matched>,
    /// How it ended, if it did.
    pub end: Option<End>,
    /// The chain after the last frame.
    pub chain: Digest,
    /// What stands behind the last whole frame where it did not end.
    pub tail: Option<Tail>,
}

impl Audit {
    /// Reads an audit and checks every frame; the seal too, where there is a key. One that was not ended holds as far as it goes.
    ///
    /// # Errors
    /// At the first byte that no writer writes, and where the key is another.
    pub fn read(bytes: &[u8], key: Option<&Key>) -> Result<Self, AuditError> {
        let mut reader = Reader::new(bytes);
        let in_head = |error: ReadError| AuditError::damaged(error.offset(), format_args!("the head: {error}"));
        let (head, sealed, checked, check) = Head::decode(&mut reader).map_err(in_head)?;
        let hashed = reader.offset();
        let chain = Digest::of(bytes.get(..hashed).unwrap_or_default());
        if reader.digest().map_err(in_head)? != chain {
            return Err(AuditError::damaged(0, "the head, at byte 0, is not as it was written"));
        }
        match key {
            Some(_) if !sealed => {
                let why = "the audit is not sealed, and a key was given";
                return Err(AuditError::new(AuditErrorKind::NotSealed, 0, why));
            }
            Some(key) if check != key_check(key, bytes.get(..checked).unwrap_or_default()) => {
                let why = "the audit is sealed under another key";
                return Err(AuditError::new(AuditErrorKind::WrongKey, 0, why));
            }
            _ => {}
        }
        let mut this = Self {
            head,
            sealed,
            frames: Vec::new(),
            matches: Vec::new(),
            end: None,
            chain,
            tail: None,
        };
        this.follow(bytes, reader.offset(), key)?;
        Ok(this)
    }

    /// The frames from a byte on.
    fn follow(&mut self, bytes: &[u8], mut offset: usize, key: Option<&Key>) -> Result<(), AuditError> {
        // A file system may have made room that was never written: there zeros stand, up to the end.
        let written = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last.saturating_add(1));
        loop {
            let rest = bytes.get(offset..).unwrap_or_default();
            if self.end.is_some() {
                let why = format_args!("bytes follow the end, at byte {offset}");
                return if rest.is_empty() {
                    Ok(())
                } else {
                    Err(AuditError::damaged(offset, why))
                };
            }
            let tail = Tail {
                offset,
                bytes: rest.len(),
            };
            let Some(kind) = rest.first().copied().filter(|_| offset < written) else {
                self.tail = Some(tail);
                return Ok(());
            };
            let next = self.tokens().saturating_add(1);
            let damaged = |why| {
                let why = format_args!("behind token {}, at byte {offset}: {why}", next.saturating_sub(1));
                AuditError::damaged(offset, why)
            };
            let (hashed, seal) = match kind {
                TOKEN => (21, 0),
                MATCH => (53, 0),
                END => (END_BYTES, if self.sealed { DIGEST_BYTES } else { 0 }),
                _ => return Err(damaged("no kind of frame")),
            };
            let length = hashed + DIGEST_BYTES + seal;
            let Some((frame, _)) = rest.split_at_checked(length) else {
                self.tail = Some(tail);
                return Ok(());
            };
            let end = offset.saturating_add(length);
            let blank = end.saturating_sub(written);
            let (content, chain) = match self.whole(frame, hashed) {
                Ok(whole) => whole,
                // It was written in part.
                Err(_) if blank > 0 => {
                    self.tail = Some(tail);
                    return Ok(());
                }
                Err(why) => return Err(damaged(why)),
            };
            if seal > 0 {
                let seal = frame.last_chunk().map_or(NO_TEXT, |seal| Digest::from_bytes(*seal));
                let parts = [tag::AUDIT_SEAL.bytes(), &self.head.id, chain.bytes()];
                let holds = key.map(|key| key.verify(&parts, &seal));
                if holds.map_or(blank >= BLANK_SEAL_BYTES, |holds| !holds && blank > 0) {
                    self.tail = Some(tail);
                    return Ok(());
                }
                if holds == Some(false) {
                    let why = format_args!("the seal of the end, at byte {offset}, is not that of the key");
                    return Err(AuditError::new(AuditErrorKind::SealBroken, offset, why));
                }
            }
            self.chain = chain;
            match content {
                Content::Token(token_id, timestamp_ns) => self.frames.push(AuditFrame {
                    step_seq: next,
                    token_id,
                    timestamp_ns,
                    chain_hash: chain,
                }),
                Content::Match(found, text) => self.matches.push(Matched {
                    found,
                    step_seq: next.saturating_sub(1),
                    text,
                }),
                Content::End(end) => self.end = Some(end),
            }
            offset = end;
        }
    }

    /// What is in a frame that follows from the one before, and its chain; or why it does not.
    fn whole(&self, frame: &[u8], hashed: usize) -> Result<(Content, Digest), &'static str> {
        let mut reader = Reader::new(frame);
        let content = self
            .content(&mut reader)
            .map_err(|_| "the frame is not as it was written")?;
        let chain = chained(frame.get(..hashed).unwrap_or_default(), &self.chain);
        if reader.digest().ok() != Some(chain) {
            return Err("the frame does not follow from the one before");
        }
        Ok((content, chain))
    }

    fn tokens(&self) -> u64 {
        cast::u64_from_usize(self.frames.len())
    }

    /// What is in a frame, as only a writer writes it.
    fn content(&self, reader: &mut Reader<'_>) -> Result<Content, ReadError> {
        let range = reader.error(ReadErrorKind::OutOfRange);
        Ok(match reader.u8()? {
            TOKEN => {
                if reader.u64()? != self.tokens().saturating_add(1) {
                    return Err(range);
                }
                Content::Token(reader.u32()?, reader.i64()?)
            }
            MATCH => {
                let rule = cast::usize_from_u32(reader.u32()?);
                let (start, end) = (reader.u64()?, reader.u64()?);
                let text = reader.digest()?;
                if start >= end {
                    return Err(range);
                }
                Content::Match(Match { rule, start, end }, Some(text).filter(|text| *text != NO_TEXT))
            }
            _ => {
                let ending = *Ending::ALL.get(usize::from(reader.u8()?)).ok_or(range)?;
                let end = End {
                    ending,
                    timestamp_ns: reader.i64()?,
                    tokens: reader.u64()?,
                    matches: reader.u64()?,
                    taken: reader.u64()?,
                    released: reader.u64()?,
                };
                let counted = end.tokens == self.tokens() && end.matches == cast::u64_from_usize(self.matches.len());
                let whole = ending != Ending::Finished || end.released == end.taken;
                // The text ends with the match that stopped it, and nothing of that came out: what it shares with a redaction was replaced.
                let named = ending != Ending::Matched
                    || self.matches.split_last().is_some_and(|(last, before)| {
                        let replaced = before.iter().any(|matched| {
                            matched.found.start < end.released && matched.found.end.min(end.taken) == end.released
                        });
                        last.found.end == end.taken && (end.released <= last.found.start || replaced)
                    });
                // Where the next character was to say which match stops, rules that read otherwise saw what is behind it.
                let behind = ending == Ending::Matched;
                let taken = behind || self.matches.iter().all(|matched| matched.found.end <= end.taken);
                if !counted || !whole || !named || !taken || end.released > end.taken {
                    return Err(range);
                }
                Content::End(end)
            }
        })
    }
}

enum Content {
    Token(u32, i64),
    Match(Match, Option<Digest>),
    End(End),
}
