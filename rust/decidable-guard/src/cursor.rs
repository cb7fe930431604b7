use std::{collections::VecDeque, sync::Arc};

use decidable_canon::cast;

use crate::{
    Action, Automaton, Rule,
    attempts::{Attempts, Selection, Span},
};

/// Bytes that a stream holds back at most, unless its owner says otherwise: some pages of text.
pub const MAX_HOLD_BYTES: usize = 65_536;

/// A match of a rule. Places are bytes from the beginning of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    /// The place of the rule in the automaton's list.
    pub rule: usize,
    /// Where it begins.
    pub start: u64,
    /// Where it ends: the place after its last byte.
    pub end: u64,
}

/// How deep a stream is in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pressure {
    /// The place of the rule in the automaton's list.
    pub rule: usize,
    /// How many of the last bytes may begin a match of it.
    pub matched: u64,
    /// How many more bytes a match, or a longer one, needs at least. 0 where the next byte, or the end, may decide it.
    pub remaining: u32,
}

/// Why a stream was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// A rule that stops matched.
    Matched(Match),
    /// More would have to be held back than is allowed. It begins at this place.
    HeldTooMuch(u64),
    /// More attempts would have to be followed than is allowed.
    TooManyAttempts(u64),
    /// Whoever feeds the stream could not go on, and said so.
    Failed(u64),
    /// The model was less sure of its tokens than is allowed.
    Uncertain(u64),
}

/// What is more than allowed.
enum Beyond {
    Attempts,
    Hold,
}

/// One stream of text under the rules of an automaton.
///
/// What is pushed comes out again as soon as it can no longer be part of a match that stops or redacts, and not before. At a match that
/// stops everything before it comes out and nothing else ever; a match that is redacted comes out as its replacement.
///
/// - *Stop*: the earliest end of any match counts, and of the matches that end there the leftmost, and of those the first rule's.
/// - *Redact* and *record*: of matches that overlap the leftmost counts, of those the longest, of those the first rule's. The two
///   kinds do not see each other, nor what is put in a match's place. Where a stream is stopped, its text ends with the match.
///
/// A pattern that ends in `\b` or `$` matches when the byte after it, or the end, has come.
///
/// ```
/// use std::sync::Arc;
/// use decidable_guard::{Action, Automaton, Cursor, Rule, Stop};
///
/// let automaton = Automaton::new(vec![
///     Rule::literal("drop", "DROP TABLE"),
///     Rule::regex("ssn", r"\b\d{3}-\d{2}-\d{4}\b").with_action(Action::Redact),
/// ])?;
/// let mut cursor = Cursor::new(Arc::new(automaton));
/// let mut out = Vec::new();
/// assert_eq!(cursor.push(b"SSN 078-05-11", &mut out), None);
/// assert_eq!(out, b"SSN ");
/// assert_eq!(cursor.push(b"20. DROP", &mut out), None);
/// assert_eq!(out, b"SSN [redacted]. ");
/// assert!(matches!(cursor.push(b" TABLE users", &mut out), Some(Stop::Matched(_))));
/// assert_eq!(out, b"SSN [redacted]. ");
/// # Ok::<(), decidable_guard::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cursor {
    automaton: Arc<Automaton>,
    max_hold: usize,
    /// How many bytes were taken.
    at: u64,
    /// How many of them came out, or were replaced.
    released: u64,
    /// Those between the two.
    held: Vec<u8>,
    before: Option<u8>,
    literal: u32,
    attempts: Attempts,
    redact: Selection,
    record: Selection,
    redacted: VecDeque<Match>,
    stop: Option<Stop>,
    ended: bool,
}

impl Cursor {
    /// A stream from its beginning on.
    #[must_use]
    pub fn new(automaton: Arc<Automaton>) -> Self {
        Self {
            automaton,
            max_hold: MAX_HOLD_BYTES,
            at: 0,
            released: 0,
            held: Vec::new(),
            before: None,
            literal: 0,
            attempts: Attempts::default(),
            redact: Selection::default(),
            record: Selection::default(),
            redacted: VecDeque::new(),
            stop: None,
            ended: false,
        }
    }

    /// The same, holding back at most so many bytes: where more would have to be held, the stream is stopped.
    #[must_use]
    pub fn with_max_hold(self, max_hold: usize) -> Self {
        Self { max_hold, ..self }
    }

    /// The rules.
    #[must_use]
    pub const fn automaton(&self) -> &Arc<Automaton> {
        &self.automaton
    }

    /// Why it was stopped, if it was.
    #[must_use]
    pub const fn stopped(&self) -> Option<Stop> {
        self.stop
    }

    /// How many bytes are held back.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held.len()
    }

    /// How many bytes were taken.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.at
    }

    /// How many bytes came out, or were replaced.
    #[must_use]
    pub const fn released(&self) -> u64 {
        self.released
    }

    /// How deep the stream is in which rules: of the texts to stop at the one that the longest end of the stream begins, and of patterns each
    /// attempt that is under way, with the rule that it is nearest to.
    pub fn pressure(&self) -> impl Iterator<Item = Pressure> {
        let automaton = &self.automaton;
        let about = automaton.literals.about(self.literal).filter(|about| about.depth > 0);
        let literal = about.map(|about| (self.at.saturating_sub(about.depth.into()), about.nearest, about.missing));
        let patterns = (self.attempts.under_way(&automaton.stop))
            .chain(self.redact.under_way(&automaton.redact))
            .chain(self.record.under_way(&automaton.record))
            .map(|(start, rule, remaining)| (start, rule, u32::from(remaining)));
        let none = self.stop.is_some() || self.ended;
        let all = literal.into_iter().chain(patterns).filter(move |_| !none);
        all.map(|(start, rule, remaining)| Pressure {
            rule: rule.into(),
            matched: self.at.saturating_sub(start),
            remaining,
        })
    }

    /// Takes the matches that were noted or replaced since the last call: each of the two by where they begin.
    pub fn matches(&mut self) -> impl Iterator<Item = Match> {
        self.redacted.drain(..).chain(self.record.spans.drain(..).map(public))
    }

    /// Takes the next bytes; what may come out is added to `out`. Once it is stopped it stays so, and takes nothing more.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Stop> {
        if self.stop.is_some() || self.ended {
            return self.stop;
        }
        if self.automaton.has_literals_only() && self.automaton.literals.longest() <= self.max_hold {
            self.push_to_literals(bytes, out);
        } else {
            self.push_to_all(bytes, out);
        }
        self.stop
    }

    /// The text ends here: what is pending is decided, and the rest comes out.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Option<Stop> {
        if self.stop.is_some() || self.ended {
            return self.stop;
        }
        self.ended = true;
        match self.attempts.ended_before(&self.automaton.stop, None, self.at) {
            Some(span) => self.stop_at(span, out),
            None => {
                self.end_selections();
                self.release(self.at, out);
            }
        }
        self.stop
    }

    /// Stops the stream because its source cannot be followed any more: nothing that is held comes out.
    pub fn fail(&mut self) -> Stop {
        self.stop_for(Stop::Failed)
    }

    /// Stops the stream, if it was not, for a reason that is not in its text.
    pub(crate) fn stop_for(&mut self, why: impl FnOnce(u64) -> Stop) -> Stop {
        match self.stop {
            Some(stop) => stop,
            None => {
                let stop = why(self.released);
                self.cut(stop);
                stop
            }
        }
    }

    fn push_to_all(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let begin = self.at;
        for (byte, taken) in bytes.iter().zip(1..) {
            let matched = self.take(*byte);
            let beyond = if matched.is_some() { None } else { self.beyond() };
            if matched.is_none() && beyond.is_none() {
                continue;
            }
            // The text ends with the match, or here.
            let kept = matched.map_or(Some(taken), |span| cast::usize_from_u64(span.end.saturating_sub(begin)));
            self.held
                .extend_from_slice(bytes.get(..kept.unwrap_or(0)).unwrap_or_default());
            if let Some(span) = matched {
                return self.stop_at(span, out);
            }
            self.release(self.safe(), out);
            return self.cut(match beyond {
                Some(Beyond::Attempts) => Stop::TooManyAttempts(self.released),
                _ => Stop::HeldTooMuch(self.released),
            });
        }
        self.held.extend_from_slice(bytes);
        self.release(self.safe(), out);
    }

    /// What is more than allowed after the byte that was taken: asked after each, so that it does not depend on how a text is cut.
    fn beyond(&self) -> Option<Beyond> {
        if self.attempts.too_many() || self.redact.too_many() || self.record.too_many() {
            return Some(Beyond::Attempts);
        }
        let held = self.at.saturating_sub(self.safe());
        (held > cast::u64_from_usize(self.max_hold)).then_some(Beyond::Hold)
    }

    fn push_to_literals(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let literals = &self.automaton.literals;
        let (taken, state) = literals.scan(self.literal, bytes);
        self.literal = state;
        self.at = self.at.saturating_add(cast::u64_from_usize(taken));
        if literals.matches(state) {
            self.held.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            if let Some(span) = self.literal_match() {
                self.stop_at(span, out);
            }
            return;
        }
        let depth = literals.depth(state);
        self.released = self.at.saturating_sub(depth.into());
        let depth = cast::usize_from_u32(depth);
        // Most pieces pass as they are: what may come out at once need not be held first.
        let now = bytes.len().checked_sub(depth).filter(|_| self.held.is_empty());
        if let Some((released, held)) = now.and_then(|now| bytes.split_at_checked(now)) {
            out.extend_from_slice(released);
            self.held.extend_from_slice(held);
            return;
        }
        self.held.extend_from_slice(bytes);
        let now = self.held.len().saturating_sub(depth);
        out.extend_from_slice(self.held.get(..now).unwrap_or_default());
        self.held.copy_within(now.., 0);
        self.held.truncate(depth);
    }

    /// The match that ends here, of the texts to stop at.
    fn literal_match(&self) -> Option<Span> {
        let literals = &self.automaton.literals;
        let about = literals
            .about(self.literal)
            .filter(|_| literals.matches(self.literal))?;
        Some(Span {
            start: self.at.saturating_sub(about.length.into()),
            end: self.at,
            rule: about.rule,
        })
    }

    /// Takes a byte; the match that stops, if one does.
    fn take(&mut self, byte: u8) -> Option<Span> {
        let automaton = &self.automaton;
        let ended = self.attempts.ended_before(&automaton.stop, Some(byte), self.at);
        if ended.is_some() {
            return ended;
        }
        self.literal = automaton.literals.next(self.literal, byte);
        self.attempts.step(&automaton.stop, self.before, byte, self.at);
        self.redact.step(&automaton.redact, self.before, byte, self.at);
        self.record.step(&automaton.record, self.before, byte, self.at);
        self.at = self.at.saturating_add(1);
        self.before = Some(byte);
        let matched = self.literal_match().into_iter().chain(self.attempts.ended(self.at));
        let first = |span: &Span| (span.start, span.rule);
        let certain = matched.min_by_key(first)?;
        // The text ends here, which may decide what else ends here.
        let by_end = self.attempts.ended_before(&automaton.stop, None, self.at);
        [Some(certain), by_end].into_iter().flatten().min_by_key(first)
    }

    /// Up to where no match that stops or redacts can begin any more.
    fn safe(&self) -> u64 {
        let depth = self.automaton.literals.depth(self.literal);
        let starts = [self.attempts.first_start(), self.redact.open_from()];
        starts
            .into_iter()
            .flatten()
            .fold(self.at.saturating_sub(depth.into()), u64::min)
    }

    fn end_selections(&mut self) {
        let end = self.at;
        self.redact.end(&self.automaton.redact, end);
        self.record.end(&self.automaton.record, end);
    }

    fn stop_at(&mut self, span: Span, out: &mut Vec<u8>) {
        self.at = span.end;
        self.end_selections();
        self.release(span.start, out);
        self.cut(Stop::Matched(public(span)));
    }

    fn cut(&mut self, stop: Stop) {
        self.stop = Some(stop);
        self.held = Vec::new();
        self.attempts = Attempts::default();
        self.redact = Selection::default();
    }

    /// Lets everything before a place come out, redacted.
    fn release(&mut self, to: u64, out: &mut Vec<u8>) {
        let mut done = 0_usize;
        while self.released < to {
            let span = self.redact.spans.front().copied().filter(|span| span.start < to);
            let until = span.map_or(to, |span| span.start);
            let raw = cast::usize_from_u64(until.saturating_sub(self.released)).unwrap_or(0);
            out.extend_from_slice(self.held.get(done..done.saturating_add(raw)).unwrap_or_default());
            done = done.saturating_add(raw);
            self.released = until;
            if let Some(span) = span {
                let replacement = self
                    .automaton
                    .rule(span.rule)
                    .map_or("", |rule| rule.replacement.as_str());
                out.extend_from_slice(replacement.as_bytes());
                done = done.saturating_add(cast::usize_from_u64(span.end.saturating_sub(span.start)).unwrap_or(0));
                self.released = span.end;
                self.redact.spans.pop_front();
                self.redacted.push_back(public(span));
            }
        }
        self.held.drain(..done.min(self.held.len()));
    }
}

fn public(span: Span) -> Match {
    Match {
        rule: span.rule.into(),
        start: span.start,
        end: span.end,
    }
}

impl Automaton {
    /// The rule of a match.
    #[must_use]
    pub fn rule_of(&self, found: &Match) -> Option<&Rule> {
        self.rules().get(found.rule)
    }

    /// What the rule of a match does.
    #[must_use]
    pub fn action_of(&self, found: &Match) -> Option<Action> {
        self.rule_of(found).map(|rule| rule.action)
    }
}
