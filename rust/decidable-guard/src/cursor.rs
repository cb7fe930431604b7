use std::{collections::VecDeque, sync::Arc};

use decidable_canon::cast;

use crate::{
    Automaton, Rule,
    attempts::Span,
    automaton::Tables,
    held::{Held, Token},
    json::{self, Json},
    matcher::{Dropped, Matcher, Pressure, Until},
    reading::{Piece, Reader, Unit, Units},
    steps,
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

impl Match {
    /// In which order matches are told: by where they begin, and of those by their rules.
    #[must_use]
    pub const fn order(&self) -> (u64, usize) {
        (self.start, self.rule)
    }
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
    /// Whoever feeds the stream could not go on, and said so, or went on after its end.
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
/// A pattern that ends in `\b` or `$` matches when the byte after it, or the end, has come. So where a match that stops
/// has ended, and another that counts before it may have ended there too, nothing of the two comes out until that is decided.
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
// What a token needs comes first, so that it lies together: many streams have to stay near.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Cursor {
    /// Bytes that were taken and did not come out.
    held: Held,
    /// How many bytes were taken.
    at: u64,
    /// How many of them came out, or were replaced.
    released: u64,
    automaton: Arc<Automaton>,
    /// Whether there are texts to stop at and nothing else, and every byte stands for itself as far as that matters. Then a token of a few
    /// bytes is taken with the state of the texts alone, and the lane catches up when more is asked of it.
    even: bool,
    literal: u32,
    max_hold: usize,
    json: Option<Json>,
    pieces: Vec<Piece>,
    /// One for each of the automaton's tables.
    lanes: Vec<Lane>,
    redacted: VecDeque<Match>,
    stop: Option<Stop>,
    ended: bool,
    /// The first redaction that cannot be written into the document.
    unwritable: Option<Span>,
    /// Up to where everything comes out or is replaced, as far as is known.
    reached: u64,
    /// As of a matcher.
    keeps_all: bool,
    dropped: Dropped,
}

/// Bytes that are tried without a lane.
const PIECE_BYTES: usize = 64;

/// The stream as some of the rules read it.
#[derive(Clone, Debug, Default)]
struct Lane {
    reader: Reader,
    units: Units,
    matcher: Matcher,
}

impl Cursor {
    /// A stream from its beginning on.
    #[must_use]
    pub fn new(automaton: Arc<Automaton>) -> Self {
        Self {
            lanes: automaton.tables.iter().map(Lane::new).collect(),
            automaton,
            max_hold: MAX_HOLD_BYTES,
            at: 0,
            released: 0,
            held: Held::default(),
            even: false,
            literal: 0,
            json: None,
            pieces: Vec::new(),
            redacted: VecDeque::new(),
            stop: None,
            ended: false,
            unwritable: None,
            reached: 0,
            keeps_all: false,
            dropped: Dropped::default(),
        }
    }

    /// The same, holding back at most so many bytes: where more would have to be held, the stream is stopped.
    #[must_use]
    pub fn with_max_hold(mut self, max_hold: usize) -> Self {
        self.catch_up();
        Self { max_hold, ..self }
    }

    /// The same for a document in JSON, such as the arguments of a tool's call. Rules see its strings as what they stand for, and
    /// everything else as it is written; places are those of what is written, and so is what comes out. An escape that is not complete
    /// is held; what is none is seen as it is written, and half of a code point without the other as U+FFFD.
    ///
    /// A replacement is written with escapes. A redaction that does not lie within one string cannot be replaced by what keeps the
    /// document one: the stream is stopped at it as soon as it is certain.
    #[must_use]
    pub fn reading_json(mut self) -> Self {
        self.catch_up();
        Self {
            json: Some(Json::default()),
            ..self
        }
    }

    /// The same, keeping every match until it is taken, however many there are: for whoever takes them all the while, or has a text
    /// whose length bounds them.
    #[must_use]
    pub fn keeping_all_matches(mut self) -> Self {
        self.keep_all_matches();
        self
    }

    pub(crate) fn keep_all_matches(&mut self) {
        self.keeps_all = true;
        for lane in &mut self.lanes {
            lane.matcher.keeps_all = true;
        }
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

    /// Whether something was pushed after the end, and nothing but that stopped it.
    #[must_use]
    pub const fn is_swallowed(&self) -> bool {
        self.ended && matches!(self.stop, Some(Stop::Failed(_)))
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
    pub fn pressure(&self) -> impl Iterator<Item = Pressure> + '_ {
        let over = self.stop.is_some() || self.ended;
        let lanes = self.lanes.iter().zip(&self.automaton.tables).filter(move |_| !over);
        lanes.flat_map(|(lane, tables)| {
            let literal = if self.even {
                self.literal
            } else {
                lane.matcher.literal()
            };
            lane.matcher.pressure(tables, literal)
        })
    }

    /// How many matches were not kept, because nobody took those before them: see [`MOST_MATCHES`](crate::MOST_MATCHES).
    #[must_use]
    pub fn matches_dropped(&self) -> u64 {
        let lanes = self.lanes.iter().map(|lane| lane.matcher.dropped.0);
        lanes.fold(self.dropped.0, u64::saturating_add)
    }

    /// Takes the matches that were noted or replaced since the last call: of rules that read alike, each of the two by where they begin.
    pub fn matches(&mut self) -> impl Iterator<Item = Match> {
        let recorded = self
            .lanes
            .iter_mut()
            .flat_map(|lane| lane.matcher.record.spans.drain(..));
        self.redacted.drain(..).chain(recorded.map(public))
    }

    /// Takes the next bytes; what may come out is added to `out`. Once it is stopped it stays so, and takes nothing more. What comes
    /// after the end stops it as failed: it would be swallowed.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Stop> {
        if self.push_token(bytes, out).is_some() {
            return None;
        }
        self.push_bytes(bytes, out)
    }

    /// Takes a few bytes if every one stands for itself and none ends a match of a text.
    #[inline(always)]
    fn push_token(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        if !self.even {
            return None;
        }
        let literals = &self.automaton.tables.first()?.literals;
        let token = Token::of(bytes)?;
        let state = literals.walk(self.literal, bytes)?;
        let stay = literals.depth(state);
        self.read_even(state, bytes.len(), stay);
        if let Some(held) = self.held.room() {
            let passed = self.held.pass(held, token, stay);
            let end = out.len().saturating_add(passed.count);
            out.extend_from_slice(&passed.first);
            out.extend_from_slice(&passed.second);
            out.truncate(end);
        } else {
            self.held.pass_bytes(bytes, cast::usize_from_u32(stay), out);
        }
        Some(())
    }

    /// The same for more bytes. Where there are many, it does not matter that the lane catches up.
    fn push_piece(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let piece = self.even && bytes.len() <= PIECE_BYTES;
        let literals = &self.automaton.tables.first().filter(|_| piece)?.literals;
        let (taken, state) = literals.scan(self.literal, bytes, false);
        if taken < bytes.len() || literals.matches(state) {
            return None;
        }
        let stay = literals.depth(state);
        self.read_even(state, taken, stay);
        self.held.pass_bytes(bytes, cast::usize_from_u32(stay), out);
        Some(())
    }

    /// So many bytes were read that lead to a state of the texts, with which so many stay.
    #[inline(always)]
    fn read_even(&mut self, state: u32, length: usize, stay: u32) {
        self.literal = state;
        self.at = self.at.wrapping_add(cast::u64_from_usize(length));
        self.released = self.at.wrapping_sub(stay.into());
    }

    #[inline(never)]
    fn push_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Stop> {
        if self.ended && !bytes.is_empty() {
            return Some(self.stop_for(Stop::Failed));
        }
        if self.stop.is_some() || self.ended || self.push_piece(bytes, out).is_some() {
            return self.stop;
        }
        match self.automaton.stops_only() {
            Some(tables) => {
                let literals_only = tables.stop.is_empty() && tables.literals.longest() <= self.max_hold;
                self.catch_up();
                self.push_to_stops(literals_only, bytes, out);
                if let ([lane], true, None, None) = (self.lanes.as_slice(), literals_only, &self.json, self.stop)
                    && lane.is_even()
                {
                    self.even = true;
                    self.literal = lane.matcher.literal();
                }
            }
            None => self.push_to_all(bytes, out),
        }
        self.stop
    }

    /// Matchers are told what [`Self::push_token`] took.
    fn catch_up(&mut self) {
        if core::mem::take(&mut self.even) {
            for lane in &mut self.lanes {
                lane.matcher.catch_up(self.literal, self.at);
            }
        }
    }

    /// The text ends here: what is pending is decided, and the rest comes out.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Option<Stop> {
        if self.stop.is_some() || self.ended {
            return self.stop;
        }
        self.ended = true;
        self.catch_up();
        let automaton = Arc::clone(&self.automaton);
        self.pieces.clear();
        if let Some(json) = &mut self.json {
            json.end(&mut self.pieces);
        }
        let mut matched = self.read(true);
        if matched.is_none() {
            let ended = self.lanes.iter().zip(&automaton.tables);
            matched = ended
                .filter_map(|(lane, tables)| lane.matcher.ended(tables))
                .min_by_key(Span::stop_order);
        }
        if matched.is_none() {
            self.end_selections();
            matched = self.find_unwritable();
        }
        match matched {
            Some(span) => self.stop_at(span, out),
            None => self.release(self.at, out),
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
        let mut done = 0;
        while done < bytes.len() {
            let (taken, asks) = self.quiet(bytes.get(done..).unwrap_or_default());
            done = done.saturating_add(taken);
            if asks {
                if self.halt(None, bytes.get(..done), out) {
                    return;
                }
                continue;
            }
            let Some(byte) = bytes.get(done) else { break };
            done = done.saturating_add(1);
            if self.step(*byte, bytes.get(..done), out) {
                return;
            }
        }
        self.held.extend(bytes);
        self.release(self.safe(), out);
    }

    /// Takes bytes with which little happens, where there is one lane: how many, and whether what is allowed is to be asked.
    #[inline]
    fn quiet(&mut self, bytes: &[u8]) -> (usize, bool) {
        let even = self.is_outside_escape() && self.unwritable.is_none();
        let ([lane], [tables]) = (self.lanes.as_mut_slice(), self.automaton.tables.as_slice()) else {
            return (0, false);
        };
        if !even || !lane.is_even() || tables.literals.longest() > self.max_hold {
            return (0, false);
        }
        let limit = self.released.saturating_add(cast::u64_from_usize(self.max_hold));
        let (taken, asks) = lane.matcher.quiet(tables, self.json.is_some(), bytes, limit);
        self.at = self.at.saturating_add(cast::u64_from_usize(taken));
        (taken, asks)
    }

    /// Takes a byte, the last of those given; whether the stream is stopped there.
    #[inline]
    fn step(&mut self, byte: u8, taken: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        let matched = self.take(byte);
        self.halt(matched, taken, out)
    }

    /// Stops the stream after the last of the bytes that were taken, if there is a match that does or more than is allowed.
    #[inline]
    fn halt(&mut self, matched: Option<Span>, taken: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        let beyond = if matched.is_some() { None } else { self.beyond() };
        if matched.is_none() && beyond.is_none() {
            return false;
        }
        self.held.extend(taken.unwrap_or_default());
        match (matched, beyond) {
            (Some(span), _) => self.stop_at(span, out),
            // What stops for certain does not become a stop without a match.
            (None, _) if self.stop_undecided(out).is_some() => {}
            (None, beyond) => {
                self.release(self.safe(), out);
                self.cut(match beyond {
                    Some(Beyond::Attempts) => Stop::TooManyAttempts(self.released),
                    _ => Stop::HeldTooMuch(self.released),
                });
            }
        }
        true
    }

    /// What is more than allowed after the byte that was taken: asked after each, so that it does not depend on how a text is cut.
    fn beyond(&mut self) -> Option<Beyond> {
        if self.lanes.iter().any(|lane| lane.matcher.too_many()) {
            return Some(Beyond::Attempts);
        }
        let most = cast::u64_from_usize(self.max_hold);
        let at = self.at;
        let held = |from: u64| at.saturating_sub(from) > most;
        // No more is held than what has not come out, which is quickly known.
        let beyond = held(self.released) && held(self.safe()) && held(self.comes_out());
        beyond.then_some(Beyond::Hold)
    }

    /// Up to where everything comes out or is replaced: a match that is redacted and begins before what is safe is replaced whole.
    fn comes_out(&mut self) -> u64 {
        // What came out or was replaced does so later on, too, and need not be walked again; what cannot be written begins no earlier than
        // what was safe before.
        let mut end = self.safe().max(self.released).max(self.reached);
        loop {
            steps::count();
            let reach = |lane: &Lane| lane.matcher.redact.end_of_those_before(end);
            let farther = self.lanes.iter().filter_map(reach).fold(end, u64::max);
            if farther == end {
                self.reached = end;
                return end;
            }
            end = farther;
        }
    }

    /// Where there is one lane with nothing but what stops, bytes that stand for themselves need no step of their own: all of them
    /// where there are only texts, and no longer ones than may be held; else those with which little happens.
    fn push_to_stops(&mut self, literals_only: bool, bytes: &[u8], out: &mut Vec<u8>) {
        let (mut passed, mut done) = (0, 0);
        while done < bytes.len() {
            let even = self.is_outside_escape();
            let (Some(lane), Some(tables)) = (self.lanes.first_mut(), self.automaton.tables.first()) else {
                return;
            };
            let rest = bytes.get(done..).unwrap_or_default();
            // What is held after each of so many bytes is no more than is allowed. What may come out does so at the end of the push, and
            // is not held.
            let room = if literals_only {
                usize::MAX
            } else {
                let held = lane.matcher.live(tables);
                self.max_hold.saturating_sub(held)
            };
            let rest = rest.get(..room).unwrap_or(rest);
            if even && lane.is_even() && room > 0 {
                let (taken, matched) = if literals_only {
                    lane.matcher.scan(tables, self.json.is_some(), rest)
                } else {
                    let json = self.json.is_some();
                    let taken = match tables.stop.as_slice() {
                        [_] => lane.matcher.skim(tables, json, rest),
                        _ => lane.matcher.quiet(tables, json, rest, u64::MAX).0,
                    };
                    (taken, None)
                };
                self.at = self.at.saturating_add(cast::u64_from_usize(taken));
                done = done.wrapping_add(taken);
                if let Some(span) = matched {
                    self.held.extend(bytes.get(passed..done).unwrap_or_default());
                    return self.stop_at(span, out);
                }
                if taken == rest.len() {
                    let held = lane.matcher.live(tables);
                    self.pass(bytes.get(passed..done).unwrap_or_default(), held, out);
                    passed = done;
                    continue;
                }
            }
            let Some(byte) = bytes.get(done) else { break };
            done = done.saturating_add(1);
            if self.step(*byte, bytes.get(passed..done), out) {
                return;
            }
        }
        if passed < done {
            let held = cast::usize_from_u64(self.at.saturating_sub(self.safe())).unwrap_or(usize::MAX);
            self.pass(bytes.get(passed..).unwrap_or_default(), held, out);
        }
    }

    /// Lets everything but so many bytes come out as it is.
    #[inline]
    fn pass(&mut self, bytes: &[u8], held: usize, out: &mut Vec<u8>) {
        self.released = self.at.saturating_sub(cast::u64_from_usize(held));
        if let Some(json) = &mut self.json {
            json.release(self.released);
        }
        self.held.pass_bytes(bytes, held, out);
    }

    /// Takes a byte; the match that stops, if one does.
    fn take(&mut self, byte: u8) -> Option<Span> {
        let at = self.at;
        self.at = at.saturating_add(1);
        let is_plain = self.automaton.is_plain(byte, self.json.is_some());
        if is_plain && self.lanes.iter().all(|lane| lane.reader.pending().is_none()) && self.is_outside_escape() {
            return self.read_plain(byte, at);
        }
        self.pieces.clear();
        match &mut self.json {
            Some(json) => json.take(byte, at, &mut self.pieces),
            None => self.pieces.push(Piece::byte(byte, at)),
        }
        self.read(false)
    }

    /// Reads a byte that every rule sees as it is.
    fn read_plain(&mut self, byte: u8, at: u64) -> Option<Span> {
        let unit = Unit {
            bytes: &[byte],
            start: at,
            end: at.saturating_add(1),
        };
        let mut matched: Option<(usize, Span)> = None;
        for (number, (lane, tables)) in self.lanes.iter_mut().zip(&self.automaton.tables).enumerate() {
            matched = earlier(matched, lane.matcher.look(tables, &unit).map(|span| (number, span)));
        }
        matched = self.or_deferred(matched);
        for (number, (lane, tables)) in self.lanes.iter_mut().zip(&self.automaton.tables).enumerate() {
            lane.matcher.select(tables, &unit, until(matched, number));
        }
        matched
            .map(|(_, span)| span)
            .or_else(|| self.find_unwritable().filter(|_| !self.is_deferred()))
    }

    /// Reads the pieces that have come, each lane as its rules do; the match that stops, if one does.
    fn read(&mut self, over: bool) -> Option<Span> {
        let mut matched: Option<(usize, Span)> = None;
        for (number, (lane, tables)) in self.lanes.iter_mut().zip(&self.automaton.tables).enumerate() {
            let Lane { reader, units, matcher } = lane;
            units.clear();
            for piece in &self.pieces {
                reader.take(piece, units);
            }
            if over {
                reader.end(units);
            }
            let found = units.iter().find_map(|unit| matcher.look(tables, &unit));
            matched = earlier(matched, found.map(|span| (number, span)));
        }
        matched = self.or_deferred(matched);
        for (number, (lane, tables)) in self.lanes.iter_mut().zip(&self.automaton.tables).enumerate() {
            for unit in lane.units.iter() {
                lane.matcher.select(tables, &unit, until(matched, number));
            }
        }
        matched
            .map(|(_, span)| span)
            .or_else(|| self.find_unwritable().filter(|_| !self.is_deferred()))
    }

    /// Of a match that stops and those that are deferred the one that ends first: the text ends now, so that nothing shows any more which
    /// others do.
    #[inline]
    fn or_deferred(&self, matched: Option<(usize, Span)>) -> Option<(usize, Span)> {
        matched.as_ref()?;
        let deferred = self.lanes.iter().map(|lane| lane.matcher.deferred()).enumerate();
        deferred.fold(matched, |matched, (number, span)| {
            earlier(matched, span.map(|span| (number, span)))
        })
    }

    /// Whether the stream is stopped where it is, and the next byte says at which match.
    #[inline]
    fn is_deferred(&self) -> bool {
        self.lanes.iter().any(|lane| lane.matcher.deferred().is_some())
    }

    /// Whether there is no escape that is not complete.
    #[inline]
    fn is_outside_escape(&self) -> bool {
        self.json.as_ref().is_none_or(|json| json.pending().is_none())
    }

    /// Where something begins of which it is not known yet how it is read.
    fn pending(&self) -> Option<u64> {
        let json = self.json.as_ref().and_then(Json::pending);
        let lanes = self.lanes.iter().filter_map(|lane| lane.reader.pending());
        lanes.chain(json).min()
    }

    /// Up to where no match that stops or redacts can begin any more.
    fn safe(&self) -> u64 {
        let lanes = self.lanes.iter().zip(&self.automaton.tables);
        let open = lanes.filter_map(|(lane, tables)| lane.matcher.open_from(tables));
        let safe = open.chain(self.pending()).fold(self.at, u64::min);
        // What cannot be written waits while the next byte is to say which match stops.
        self.unwritable.map_or(safe, |span| span.raw_start.min(safe))
    }

    /// The first redaction that cannot be written into the document. Those that became certain since the last call are looked at: one that
    /// can be written stays so, and at one that cannot the stream is stopped.
    fn find_unwritable(&mut self) -> Option<Span> {
        let json = self.json.as_ref()?;
        let spans = self.lanes.iter_mut().flat_map(|lane| lane.matcher.redact.news());
        let fits = |span: &&Span| {
            steps::count();
            json.is_in_string(span.raw_start, span.raw_end)
        };
        let news = spans.filter(|span| !fits(span)).copied();
        self.unwritable = news.chain(self.unwritable).min_by_key(Span::redact_order);
        self.unwritable
    }

    fn end_selections(&mut self) {
        for (lane, tables) in self.lanes.iter_mut().zip(&self.automaton.tables) {
            lane.matcher.end_selections(tables);
        }
    }

    fn stop_at(&mut self, span: Span, out: &mut Vec<u8>) {
        self.stop_before(span.raw_start, span, out);
    }

    /// Stops at the match that ended for certain, if there is one, though the next byte was to say whether another counts before it: nothing
    /// of the two comes out.
    pub(crate) fn stop_undecided(&mut self, out: &mut Vec<u8>) -> Option<Stop> {
        let deferred = self.lanes.iter().filter_map(|lane| lane.matcher.deferred());
        let span = deferred.min_by_key(Span::stop_order)?;
        self.stop_before(self.safe().min(span.raw_start), span, out);
        self.stop
    }

    /// Stops at a match, with everything before a place come out.
    fn stop_before(&mut self, place: u64, span: Span, out: &mut Vec<u8>) {
        self.at = span.raw_end;
        self.end_selections();
        let unwritable = self.find_unwritable().map_or(u64::MAX, |span| span.raw_start);
        self.release(place.min(unwritable), out);
        self.cut(Stop::Matched(public(span)));
    }

    fn cut(&mut self, stop: Stop) {
        self.stop = Some(stop);
        self.even = false;
        self.held.clear();
        for lane in &mut self.lanes {
            lane.matcher.cut();
        }
    }

    /// Lets everything before a place come out, redacted. Redactions of rules that read differently may overlap: those that do become
    /// one, with what the first of them is replaced by.
    fn release(&mut self, to: u64, out: &mut Vec<u8>) {
        let mut done = 0_usize;
        loop {
            let fronts = self.lanes.iter().enumerate();
            let next = fronts
                .filter_map(|(lane, of)| Some((lane, *of.matcher.redact.spans.front()?)))
                .min_by_key(|(_, span)| span.redact_order())
                .filter(|(_, span)| span.raw_start < to.max(self.released));
            let until = next.map_or(to, |(_, span)| span.raw_start).max(self.released);
            // What is held is in memory, so that its length fits; and what is released is no more than that.
            let raw = cast::usize_from_u64(until.saturating_sub(self.released)).unwrap_or(0);
            out.extend_from_slice(
                self.held
                    .bytes()
                    .get(done..done.saturating_add(raw))
                    .unwrap_or_default(),
            );
            done = done.saturating_add(raw);
            let Some((lane, span)) = next else {
                self.released = until;
                break;
            };
            if span.raw_start >= self.released {
                let replacement = self
                    .automaton
                    .rule(span.rule)
                    .map_or("", |rule| rule.replacement.as_str());
                match self.json {
                    Some(_) => json::escape(replacement, out),
                    None => out.extend_from_slice(replacement.as_bytes()),
                }
            }
            self.released = until.max(span.raw_end);
            done = done.saturating_add(cast::usize_from_u64(self.released.saturating_sub(until)).unwrap_or(0));
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.matcher.redact.take_first();
            }
            self.redacted.push_back(public(span));
            if !self.keeps_all {
                self.redacted.truncate(self.dropped.kept_of(self.redacted.len()));
            }
        }
        self.held.advance(done);
        if let Some(json) = &mut self.json {
            json.release(self.released);
        }
    }
}

impl Lane {
    /// Whether the next byte is read by itself, and what may be in a match is seen as it is in the stream.
    #[inline]
    fn is_even(&self) -> bool {
        self.matcher.is_even() && self.reader.pending().is_none()
    }

    fn new(tables: &Tables) -> Self {
        Self {
            reader: Reader::new(tables.reads),
            ..Self::default()
        }
    }
}

/// The match that stops, with the lane that found it.
#[inline]
fn earlier(a: Option<(usize, Span)>, b: Option<(usize, Span)>) -> Option<(usize, Span)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.1.stop_order() < a.1.stop_order() { b } else { a }),
        (one, None) | (None, one) => one,
    }
}

/// Where the text ends for a lane, if it ends with a match.
fn until(matched: Option<(usize, Span)>, lane: usize) -> Option<Until> {
    matched.map(|(of, span)| {
        if of == lane {
            Until::Seen(span.end)
        } else {
            Until::Raw(span.raw_end)
        }
    })
}

fn public(span: Span) -> Match {
    Match {
        rule: span.rule.into(),
        start: span.raw_start,
        end: span.raw_end,
    }
}

impl Automaton {
    /// The rule of a match.
    #[must_use]
    pub fn rule_of(&self, found: &Match) -> Option<&Rule> {
        self.rules().get(found.rule)
    }
}
