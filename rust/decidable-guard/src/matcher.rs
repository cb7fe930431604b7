//! What rules that read a text alike find in one stream.

use std::collections::VecDeque;

use decidable_canon::cast;

use crate::{
    attempts::{Attempts, Place, Selection, Span},
    automaton::Tables,
    before::{Before, Beginning},
    patterns::RuleId,
    reading::Unit,
    steps,
};

/// Matches that a stream keeps until they are taken, of those that are replaced and of those that are noted by each way to read: some
/// megabytes. Of more the first are kept, and the others counted.
pub const MOST_MATCHES: usize = 65_536;

/// How many matches were not kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dropped(pub(crate) u64);

impl Dropped {
    /// How many of so many are kept, the first [`MOST_MATCHES`]; the others are counted.
    #[inline]
    pub(crate) fn kept_of(&mut self, found: usize) -> usize {
        let more = found.saturating_sub(MOST_MATCHES);
        self.0 = self.0.saturating_add(cast::u64_from_usize(more));
        found.min(MOST_MATCHES)
    }
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

/// A unit that is not one byte for one byte.
#[derive(Clone, Copy, Debug)]
struct Odd {
    start: u64,
    end: u64,
    raw_start: u64,
}

/// How far a text was read.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    /// How many bytes the rules have seen.
    at: u64,
    /// Where the last of them ends in the stream.
    raw_end: u64,
    last: Option<u8>,
}

impl Read {
    fn place(&self, unit: &Unit<'_>) -> Place {
        Place {
            at: self.at,
            raw_before: self.raw_end,
            raw_start: unit.start,
            raw_end: unit.end,
        }
    }

    /// The place of the byte that comes next.
    #[inline]
    fn beginning<'a>(&self, before: &'a Before, tables: &'a Tables) -> Beginning<'a> {
        Beginning {
            last: self.last,
            before,
            tables: &tables.before,
        }
    }

    fn step(&mut self, byte: u8, unit: &Unit<'_>) {
        self.at = self.at.saturating_add(1);
        self.raw_end = unit.end;
        self.last = Some(byte);
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Matcher {
    read: Read,
    literal: u32,
    attempts: Attempts,
    /// A match that stops and ends here for certain, while the next byte may show that another does which counts before it.
    deferred: Option<Span>,
    /// Units that a live beginning of a text to stop at may have.
    odd: VecDeque<Odd>,
    /// Where the whole of what was taken ends, seen or not.
    taken: u64,
    /// How far it was searched for what is redacted and noted.
    selected: Read,
    /// Where it is in what must stand before a match, up to where it was read and searched.
    before: Before,
    selected_before: Before,
    pub(crate) redact: Selection,
    pub(crate) record: Selection,
    /// Whether every match is kept that is noted, until it is taken; else how many were not.
    pub(crate) keeps_all: bool,
    pub(crate) dropped: Dropped,
}

impl Matcher {
    /// Looks for a match that stops. The unit is not yet searched for others: [`Self::select`].
    #[inline]
    pub(crate) fn look(&mut self, tables: &Tables, unit: &Unit<'_>) -> Option<Span> {
        self.taken = unit.end;
        let length = cast::u64_from_usize(unit.bytes.len());
        // Behind such a unit, those without a byte say nothing more of where the bytes before them are.
        let is_known = || length == 0 && self.odd.back().is_some_and(|odd| odd.end == self.read.at);
        if (unit.end.saturating_sub(unit.start) != length || length > 1) && !is_known() {
            self.odd.push_back(Odd {
                start: self.read.at,
                end: self.read.at.saturating_add(length),
                raw_start: unit.start,
            });
        }
        for byte in unit.bytes {
            let place = self.read.place(unit);
            if !self.attempts.is_empty() {
                let ended = self.ended_before(tables, Some(*byte));
                if ended.is_some() {
                    self.deferred = None;
                    return ended;
                }
            }
            self.literal = tables.literals.next(self.literal, *byte);
            let here = self.read.beginning(&self.before, tables);
            // One table is asked itself as quickly.
            let here = match tables.stop.as_slice() {
                [] => None,
                [_] => Some(here),
                _ => here.if_one_of(&tables.stop_begins, *byte),
            };
            self.attempts.step(&tables.stop, here, *byte, place);
            self.before.step(&tables.before, *byte);
            self.read.step(*byte, unit);
            if self.attempts.is_empty() && !tables.literals.matches(self.literal) {
                continue;
            }
            let of_literals = self.literal_match(tables);
            let certain = match self.attempts.ended(self.read.at) {
                Some(ended) => Some(ended.or_left_of(of_literals)),
                None => of_literals,
            };
            if let Some(span) = &certain
                && !self.attempts.may_end_left_of(&tables.stop, span)
            {
                return certain;
            }
            self.deferred = certain;
        }
        self.forget(tables);
        None
    }

    /// How deep the text is in which rules, in bytes as they see it, and in the texts to stop at with this state:
    /// [`Cursor::pressure`](crate::Cursor::pressure).
    pub(crate) fn pressure(&self, tables: &Tables, literal: u32) -> impl Iterator<Item = Pressure> {
        let pressure = |matched: u64, rule: RuleId, remaining: u32| Pressure {
            rule: rule.into(),
            matched,
            remaining,
        };
        let about = tables.literals.about(literal).filter(|about| about.depth > 0);
        let literal = about.map(|about| pressure(about.depth.into(), about.nearest, about.missing));
        let (read, selected) = (self.read.at, self.selected.at);
        let since = move |at: u64| {
            move |(start, rule, remaining): (u64, RuleId, u16)| {
                pressure(at.saturating_sub(start), rule, remaining.into())
            }
        };
        literal
            .into_iter()
            .chain(self.attempts.under_way(&tables.stop).map(since(read)))
            .chain(self.redact.under_way(&tables.redact).map(since(selected)))
            .chain(self.record.under_way(&tables.record).map(since(selected)))
    }

    /// The match that stops at the end of the text, if it ends here.
    pub(crate) fn ended(&self, tables: &Tables) -> Option<Span> {
        self.ended_before(tables, None)
    }

    /// The match that stops and ends here, if what comes next, or the end, shows one.
    #[inline]
    fn ended_before(&self, tables: &Tables, next: Option<u8>) -> Option<Span> {
        let Read { at, raw_end, .. } = self.read;
        match self.attempts.ended_before(&tables.stop, next, at, raw_end) {
            Some(ended) => Some(ended.or_left_of(self.deferred)),
            None => self.deferred,
        }
    }

    /// A match that stops and ends here for certain, though another may count before it.
    #[inline]
    pub(crate) const fn deferred(&self) -> Option<Span> {
        self.deferred
    }

    /// Searches a unit for what is redacted and noted; if the text ends with a match, up to there.
    #[inline]
    pub(crate) fn select(&mut self, tables: &Tables, unit: &Unit<'_>, until: Option<Until>) {
        if tables.redact.is_empty() && tables.record.is_empty() {
            return;
        }
        for byte in unit.bytes {
            let over = match until {
                None => false,
                Some(Until::Seen(end)) => self.selected.at >= end,
                Some(Until::Raw(end)) => unit.end > end,
            };
            if over {
                return;
            }
            let place = self.selected.place(unit);
            let here = self.selected.beginning(&self.selected_before, tables);
            let here = here.if_one_of(&tables.others_begin, *byte);
            self.redact.step(&tables.redact, here, *byte, place);
            self.record.step(&tables.record, here, *byte, place);
            self.drop_more();
            self.selected_before.step(&tables.before, *byte);
            self.selected.step(*byte, unit);
        }
    }

    /// Of what was noted and not taken the first is kept.
    #[inline]
    fn drop_more(&mut self) {
        if !self.keeps_all {
            let kept = self.dropped.kept_of(self.record.spans.len());
            self.record.spans.truncate(kept);
        }
    }

    /// The text ends here.
    pub(crate) fn end_selections(&mut self, tables: &Tables) {
        let Read { at, raw_end, .. } = self.selected;
        self.redact.end(&tables.redact, at, raw_end);
        self.record.end(&tables.record, at, raw_end);
        self.drop_more();
    }

    /// The state of the texts to stop at.
    pub(crate) const fn literal(&self) -> u32 {
        self.literal
    }

    /// Everything up to here was taken, each byte for itself, where there are texts to stop at and nothing else.
    pub(crate) fn catch_up(&mut self, literal: u32, taken: u64) {
        self.literal = literal;
        self.read.at = self.read.at.saturating_add(taken.saturating_sub(self.taken));
        self.read.raw_end = taken;
        self.taken = taken;
    }

    /// Takes bytes that stand for themselves, with which nothing is found and no more than one attempt is under way, where there is
    /// nothing but what stops: how many. The first that is not so ends it.
    #[inline]
    pub(crate) fn skim(&mut self, tables: &Tables, json: bool, bytes: &[u8]) -> usize {
        if tables.before.is_empty() {
            self.skim_bytes::<false>(tables, json, bytes)
        } else {
            self.skim_bytes::<true>(tables, json, bytes)
        }
    }

    #[inline(always)]
    fn skim_bytes<const LOOKS_BACK: bool>(&mut self, tables: &Tables, json: bool, bytes: &[u8]) -> usize {
        let [table] = tables.stop.as_slice() else { return 0 };
        let (mut state, mut last) = (self.literal, self.read.last);
        let (mut at, mut raw) = (self.read.at, self.taken);
        let mut taken = 0_usize;
        for byte in bytes {
            let Some(next) = tables.literals.pass(state, *byte, json) else {
                break;
            };
            let begins = if LOOKS_BACK {
                let here = Read { at, raw_end: raw, last }.beginning(&self.before, tables);
                here.state(table, *byte)
            } else {
                table.next(table.start(last), table.column(Some(*byte)))
            };
            if !self.attempts.step_alone(table, begins, *byte, at, raw) {
                break;
            }
            if LOOKS_BACK {
                self.before.step(&tables.before, *byte);
            }
            (state, last) = (next, Some(*byte));
            (at, raw, taken) = (at.wrapping_add(1), raw.wrapping_add(1), taken.wrapping_add(1));
        }
        if taken > 0 {
            self.literal = state;
            self.taken = raw;
            self.read = Read { at, raw_end: raw, last };
        }
        taken
    }

    /// Takes bytes that stand for themselves, with which no match that stops begins: how many, and whether the last of them may be more
    /// than is allowed, because what is open may go back before `limit` bytes or is too much.
    #[inline]
    pub(crate) fn quiet(&mut self, tables: &Tables, json: bool, bytes: &[u8], limit: u64) -> (usize, bool) {
        let mut taken = 0_usize;
        let mut asks = false;
        if !self.attempts.is_empty() {
            return (taken, asks);
        }
        for byte in bytes {
            let Some(state) = tables.literals.pass(self.literal, *byte, json) else {
                break;
            };
            let here = self.read.beginning(&self.before, tables);
            if here.is_one_of(&tables.stop_begins, *byte) {
                break;
            }
            let here = here.if_one_of(&tables.others_begin, *byte);
            let idle = self.redact.is_idle() && self.record.is_idle() && here.is_none();
            // Whether what is redacted can be written into a document is asked elsewhere.
            if !idle && json {
                break;
            }
            let place = Place {
                at: self.read.at,
                raw_before: self.read.raw_end,
                raw_start: self.taken,
                raw_end: self.taken.saturating_add(1),
            };
            if !idle {
                self.redact.step(&tables.redact, here, *byte, place);
                self.record.step(&tables.record, here, *byte, place);
                self.drop_more();
            }
            self.before.step(&tables.before, *byte);
            self.literal = state;
            self.taken = place.raw_end;
            self.read = Read {
                at: place.at.saturating_add(1),
                raw_end: place.raw_end,
                last: Some(*byte),
            };
            taken = taken.wrapping_add(1);
            if !idle && (place.raw_end > limit || self.too_many()) {
                asks = true;
                break;
            }
        }
        if taken > 0 {
            self.selected = self.read;
            self.selected_before.clone_from(&self.before);
        }
        (taken, asks)
    }

    /// Searches bytes that stand for themselves, where there are texts to stop at and nothing else: how many were taken, and what was
    /// found with them. The first that does not stand for itself ends it.
    #[inline]
    pub(crate) fn scan(&mut self, tables: &Tables, json: bool, bytes: &[u8]) -> (usize, Option<Span>) {
        let (taken, state) = tables.literals.scan(self.literal, bytes, json);
        self.literal = state;
        let length = cast::u64_from_usize(taken);
        self.read.at = self.read.at.saturating_add(length);
        self.taken = self.taken.saturating_add(length);
        self.read.raw_end = self.taken;
        (taken, self.literal_match(tables))
    }

    /// How many of the last bytes may begin a match that stops, where each stands for itself.
    #[inline]
    pub(crate) fn live(&self, tables: &Tables) -> usize {
        let literal = cast::usize_from_u32(tables.literals.depth(self.literal));
        let attempted = self
            .attempts
            .open_from()
            .map_or(0, |start| self.taken.saturating_sub(start));
        literal.max(cast::usize_from_u64(attempted).unwrap_or(usize::MAX))
    }

    /// Whether what is seen of a live beginning is what is in the stream, and the next byte decides no match by what it is.
    pub(crate) fn is_even(&self) -> bool {
        self.odd.is_empty() && self.deferred.is_none()
    }

    /// The match that ends here, of the texts to stop at.
    fn literal_match(&self, tables: &Tables) -> Option<Span> {
        if !tables.literals.matches(self.literal) {
            return None;
        }
        let about = tables.literals.about(self.literal)?;
        let start = self.read.at.saturating_sub(about.length.into());
        Some(Span {
            start,
            end: self.read.at,
            raw_start: self.raw_start(start),
            raw_end: self.read.raw_end,
            rule: about.rule,
        })
    }

    /// Where the byte that was seen at a place begins in the stream.
    fn raw_start(&self, place: u64) -> u64 {
        let before = self.odd.partition_point(|odd| {
            steps::count();
            odd.end <= place
        });
        // Up to the next unit that is not so, each byte is one.
        match self.odd.get(before) {
            Some(odd) => odd.raw_start.saturating_sub(odd.start.saturating_sub(place)),
            None => self.taken.saturating_sub(self.read.at.saturating_sub(place)),
        }
    }

    fn forget(&mut self, tables: &Tables) {
        if self.odd.is_empty() {
            return;
        }
        let live = self.read.at.saturating_sub(tables.literals.depth(self.literal).into());
        while self.odd.front().is_some_and(|odd| odd.end <= live) {
            self.odd.pop_front();
        }
    }

    /// The first place of the stream from which a match that stops or redacts may come.
    #[inline]
    pub(crate) fn open_from(&self, tables: &Tables) -> Option<u64> {
        let depth = u64::from(tables.literals.depth(self.literal));
        let literal = (depth > 0).then(|| self.raw_start(self.read.at.saturating_sub(depth)));
        // What is deferred begins no earlier than an attempt because of which it is.
        let starts = [literal, self.attempts.open_from(), self.redact.open_from()];
        starts.into_iter().flatten().min()
    }

    pub(crate) fn too_many(&self) -> bool {
        self.attempts.too_many() || self.redact.too_many() || self.record.too_many()
    }

    /// The stream was stopped: nothing that was held will be asked for.
    pub(crate) fn cut(&mut self) {
        self.attempts = Attempts::default();
        self.deferred = None;
        self.redact = Selection::default();
        self.odd = VecDeque::new();
    }
}

/// Where the text ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After so many bytes as these rules see them.
    Seen(u64),
    /// At this place of the stream.
    Raw(u64),
}
