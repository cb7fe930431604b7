//! Attempts: each tries all patterns from one place on. Those in one state go the same way from here, so that one of them is enough.

use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::{
    before::Beginning,
    check::Sum,
    patterns::{DEAD, NO_RULE, Patterns, RuleId},
    steps,
};

/// Attempts that are under way at once, beyond which a stream is stopped. Patterns of ordinary length keep fewer than fifty.
pub const MOST_ATTEMPTS: usize = 1_024;

/// A stretch of the text that a rule matches: the places as the rule reads the text, and those in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) raw_start: u64,
    pub(crate) raw_end: u64,
    pub(crate) rule: RuleId,
}

impl Span {
    /// Which is redacted first: the one that begins first, of those the longest, of those the first rule's.
    pub(crate) const fn redact_order(&self) -> (u64, Reverse<u64>, RuleId) {
        (self.raw_start, Reverse(self.raw_end), self.rule)
    }

    /// Which stops: the one that ends first, of those the one that begins first, of those the first rule's.
    pub(crate) const fn stop_order(&self) -> (u64, u64, RuleId) {
        (self.raw_end, self.raw_start, self.rule)
    }

    /// Which stops of those that end at one byte as the rules read the text.
    const fn left_order(&self) -> (u64, RuleId) {
        (self.start, self.rule)
    }

    /// The other, unless this one begins before it, or at its place and has an earlier rule.
    pub(crate) fn or_left_of(self, other: Option<Self>) -> Self {
        other
            .filter(|other| other.left_order() <= self.left_order())
            .unwrap_or(self)
    }
}

/// Where a byte stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// How many bytes the rules have read before it.
    pub(crate) at: u64,
    /// Where what they have read before it ends in the stream.
    pub(crate) raw_before: u64,
    /// What it stands for in the stream.
    pub(crate) raw_start: u64,
    pub(crate) raw_end: u64,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    start: u64,
    raw_start: u64,
    table: usize,
    /// [`DEAD`] if nothing more can come of it, but what it has found may count.
    state: u32,
    /// The longest match so far: where it ends, and its rule.
    end: u64,
    raw_end: u64,
    rule: RuleId,
    /// What was computed for the rule's check, if it has one.
    sum: Sum,
}

impl Attempt {
    /// One that begins at a place, in a table, and has taken nothing.
    fn at(start: u64, raw_start: u64, table: usize) -> Self {
        Self {
            start,
            raw_start,
            table,
            state: DEAD,
            end: 0,
            raw_end: 0,
            rule: NO_RULE,
            sum: Sum::default(),
        }
    }

    /// The rule that a table says matches, if its check passes.
    #[inline]
    fn passing(&self, table: &Patterns, rule: RuleId) -> RuleId {
        match table.check() {
            Some(check) if !self.sum.passes(check) => NO_RULE,
            _ => rule,
        }
    }

    /// Takes a byte that leads to a state; nothing more can come of it in the dead one.
    #[inline]
    fn enter(&mut self, table: &Patterns, byte: u8, state: u32, place: Place) {
        let mut lives = table.lives(state);
        if let Some(check) = table.check() {
            self.sum.step(check, byte);
            // What fails now may pass where more comes, and only there.
            lives &= self.sum.passes(check) || (!self.sum.failed() && table.grows(state));
        }
        self.find(
            place.at.saturating_add(1),
            place.raw_end,
            self.passing(table, table.sure(state)),
        );
        self.state = if lives { state } else { DEAD };
    }

    const fn found(&self) -> bool {
        self.rule != NO_RULE
    }

    fn find(&mut self, end: u64, raw_end: u64, rule: RuleId) {
        if rule != NO_RULE && (!self.found() || end > self.end || (end == self.end && rule < self.rule)) {
            self.end = end;
            self.raw_end = raw_end;
            self.rule = rule;
        }
    }

    const fn span(&self) -> Span {
        Span {
            start: self.start,
            end: self.end,
            raw_start: self.raw_start,
            raw_end: self.raw_end,
            rule: self.rule,
        }
    }
}

/// Attempts in the order of their starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    list: Vec<Attempt>,
    /// Places in the list, while those in one state are looked for, and of those that end.
    order: Vec<usize>,
    ended: Vec<usize>,
    /// Of each in the list, for that: from which start on one may be kept that it would cover, and the ends that are sought for it.
    parted: Vec<u64>,
    ends: BinaryHeap<Reverse<u64>>,
}

impl Attempts {
    /// The first place of the stream that may be in a match.
    #[inline]
    pub(crate) fn open_from(&self) -> Option<u64> {
        self.list.first().map(|attempt| attempt.raw_start)
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[inline]
    pub(crate) const fn too_many(&self) -> bool {
        self.list.len() > MOST_ATTEMPTS
    }

    /// Of each attempt under way where it began, the rule that it is nearest to, and how many more bytes that needs at least.
    pub(crate) fn under_way(&self, tables: &[Patterns]) -> impl Iterator<Item = (u64, RuleId, u16)> {
        self.list.iter().filter_map(|attempt| {
            let table = tables.get(attempt.table).filter(|_| attempt.state != DEAD)?;
            let remaining = table.remaining(attempt.state)?;
            Some((attempt.start, table.nearest(attempt.state), remaining))
        })
    }

    /// The leftmost match that the byte at `at`, or the end of the text, shows to have ended before it, `raw_end` in the stream.
    #[inline]
    pub(crate) fn ended_before(&self, tables: &[Patterns], byte: Option<u8>, at: u64, raw_end: u64) -> Option<Span> {
        let mut leftmost = None;
        for attempt in &self.list {
            let Some(table) = tables.get(attempt.table) else {
                continue;
            };
            let rule = attempt.passing(table, table.delayed(attempt.state, table.column(byte)));
            if rule != NO_RULE {
                let span = Span {
                    start: attempt.start,
                    end: at,
                    raw_start: attempt.raw_start,
                    raw_end,
                    rule,
                };
                leftmost = Some(span.or_left_of(leftmost));
            }
        }
        leftmost
    }

    /// The leftmost match that ends at `end`.
    pub(crate) fn ended(&self, end: u64) -> Option<Span> {
        let mut leftmost = None;
        for attempt in &self.list {
            if attempt.found() && attempt.end == end {
                leftmost = Some(attempt.span().or_left_of(leftmost));
            }
        }
        leftmost
    }

    /// Whether the next byte, or the end of the text, may show that a match ends here which begins before one that does for certain, or at its
    /// place and has an earlier rule.
    pub(crate) fn may_end_left_of(&self, tables: &[Patterns], certain: &Span) -> bool {
        self.list.iter().any(|attempt| {
            let table = tables.get(attempt.table).filter(|_| attempt.state != DEAD);
            let pending = table.map_or(NO_RULE, |table| attempt.passing(table, table.pending(attempt.state)));
            pending != NO_RULE && (attempt.start, pending) < certain.left_order()
        })
    }

    /// Takes the byte at a place and begins attempts there, if any may.
    pub(crate) fn step(&mut self, tables: &[Patterns], here: Option<Beginning<'_>>, byte: u8, place: Place) {
        if !self.list.is_empty() {
            self.list.retain_mut(|attempt| {
                let Some(table) = tables.get(attempt.table).filter(|_| attempt.state != DEAD) else {
                    return attempt.found();
                };
                let column = table.column(Some(byte));
                let delayed = attempt.passing(table, table.delayed(attempt.state, column));
                attempt.find(place.at, place.raw_before, delayed);
                attempt.enter(table, byte, table.next(attempt.state, column), place);
                attempt.state != DEAD || attempt.found()
            });
        }
        if let Some(here) = here {
            for (table, number) in tables.iter().zip(0..) {
                let state = here.state(table, byte);
                if state != DEAD {
                    let mut attempt = Attempt::at(place.at, place.raw_start, number);
                    attempt.enter(table, byte, state, place);
                    // Its check may have failed with the first byte.
                    if attempt.state != DEAD || attempt.found() {
                        self.list.push(attempt);
                    }
                }
            }
        }
        if self.list.len() > 1 {
            self.merge();
        }
    }

    /// Takes a byte that stands for itself, in the stream at `raw`, if it ends no match and leaves no more than one attempt under
    /// way; whether it was so. Else nothing has changed.
    #[inline(always)]
    pub(crate) fn step_alone(&mut self, table: &Patterns, begins: u32, byte: u8, at: u64, raw: u64) -> bool {
        if table.check().is_some() {
            return false;
        }
        let column = table.column(Some(byte));
        match self.list.as_mut_slice() {
            [] if begins == DEAD => true,
            [] if table.sure(begins) == NO_RULE => {
                self.list.push(Attempt {
                    state: begins,
                    ..Attempt::at(at, raw, 0)
                });
                true
            }
            [attempt] if !attempt.found() => {
                let next = table.next(attempt.state, column);
                // One that begins here and is where the other is ends at once, as in `merge`.
                let alone = begins == DEAD || begins == next;
                if !alone || table.delayed(attempt.state, column) != NO_RULE || table.sure(next) != NO_RULE {
                    return false;
                }
                attempt.state = next;
                if next == DEAD {
                    self.list.clear();
                }
                true
            }
            _ => false,
        }
    }

    /// The text ends here.
    fn end(&mut self, tables: &[Patterns], at: u64, raw_end: u64) {
        self.list.retain_mut(|attempt| {
            if let Some(table) = tables.get(attempt.table) {
                let delayed = attempt.passing(table, table.delayed(attempt.state, table.column(None)));
                attempt.find(at, raw_end, delayed);
            }
            attempt.state = DEAD;
            attempt.found()
        });
    }

    /// Of two attempts in one state, and with one sum, the later ends, because the earlier finds whatever it would find. Only where a match that was found
    /// may yet take the earlier away and leave the later is it kept.
    fn merge(&mut self) {
        let mut seen = 0_u64;
        let mut perhaps = false;
        for attempt in self.list.iter().filter(|attempt| attempt.state != DEAD) {
            let bit = 1_u64.wrapping_shl(attempt.state.wrapping_add(low(attempt.table)));
            perhaps |= seen & bit != 0;
            seen |= bit;
        }
        if !perhaps {
            return;
        }
        let of = |list: &[Attempt], place: &usize| {
            list.get(*place)
                .map(|attempt| (attempt.table, attempt.state, attempt.sum, attempt.start))
        };
        let list = self.list.as_slice();
        self.order.clear();
        self.order
            .extend((0..list.len()).filter(|place| list.get(*place).is_some_and(|attempt| attempt.state != DEAD)));
        self.order.sort_unstable_by_key(|place| of(list, place));
        let alike = |a: &usize, b: &usize| {
            let state = |place| of(list, place).map(|(table, state, sum, _)| (table, state, sum));
            state(a) == state(b)
        };
        let parted = &mut self.parted;
        parted_at(list, &mut self.ends, parted);
        self.ended.clear();
        for group in self.order.chunk_by(alike).filter(|group| group.len() > 1) {
            // Up to where one that is kept finds whatever a later one would.
            let mut covered = 0;
            for place in group {
                steps::count();
                let start = list.get(*place).map_or(0, |attempt| attempt.start);
                if covered > start {
                    self.ended.push(*place);
                } else {
                    covered = covered.max(parted.get(*place).copied().unwrap_or(0));
                }
            }
        }
        for place in &self.ended {
            if let Some(attempt) = self.list.get_mut(*place) {
                attempt.state = DEAD;
            }
        }
        if !self.ended.is_empty() {
            self.list.retain(|attempt| attempt.state != DEAD || attempt.found());
        }
    }

    /// The leftmost-longest matches that are certain where `at` bytes were taken, in their order.
    fn settle(&mut self, tables: &[Patterns], at: u64, spans: &mut VecDeque<Span>) {
        while let Some(start) = self.list.first().map(|attempt| attempt.start) {
            let first = self.list.iter().take_while(|attempt| attempt.start == start);
            let longest = first
                .clone()
                .filter(|attempt| attempt.found())
                .map(Attempt::span)
                .max_by_key(|span| (span.end, Reverse(span.rule)));
            let Some(longest) = longest else { return };
            let here = if longest.end == at { longest.rule } else { NO_RULE };
            let open = first.clone().any(|attempt| {
                let table = tables.get(attempt.table).filter(|_| attempt.state != DEAD);
                table.is_some_and(|table| {
                    table.grows(attempt.state) || attempt.passing(table, table.pending(attempt.state)) < here
                })
            });
            // The leftmost will match at least so far: whatever begins within it is nothing.
            self.list
                .retain(|attempt| attempt.start == start || attempt.start >= longest.end);
            if open {
                return;
            }
            self.list.retain(|attempt| attempt.start != start);
            spans.push_back(longest);
        }
    }
}

/// Of each attempt, in the order of their starts: where the first match ends that was found, begins before it and may take it away. What
/// begins there or later would be left.
fn parted_at(list: &[Attempt], ends: &mut BinaryHeap<Reverse<u64>>, parted: &mut Vec<u64>) {
    ends.clear();
    parted.clear();
    for alike in list.chunk_by(|a, b| a.start == b.start) {
        let start = alike.first().map_or(0, |attempt| attempt.start);
        while ends.peek().is_some_and(|Reverse(end)| *end <= start) {
            steps::count();
            ends.pop();
        }
        let end = ends.peek().map_or(u64::MAX, |Reverse(end)| *end);
        for attempt in alike {
            steps::count();
            parted.push(end);
            if attempt.found() {
                ends.push(Reverse(attempt.end));
            }
        }
    }
}

/// The leftmost-longest matches of some rules, in their order, none within another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    attempts: Attempts,
    /// Those that are certain and were not taken yet.
    pub(crate) spans: VecDeque<Span>,
    /// How many of them, from the first on, are as they were when [`Self::news`] was asked.
    known: usize,
}

impl Selection {
    #[inline]
    pub(crate) fn step(&mut self, tables: &[Patterns], here: Option<Beginning<'_>>, byte: u8, place: Place) {
        if tables.is_empty() {
            return;
        }
        self.attempts.step(tables, here, byte, place);
        self.settle(tables, place.at.saturating_add(1));
    }

    /// The text ends here.
    pub(crate) fn end(&mut self, tables: &[Patterns], at: u64, raw_end: u64) {
        self.attempts.end(tables, at, raw_end);
        self.settle(tables, at);
    }

    fn settle(&mut self, tables: &[Patterns], at: u64) {
        let known = self.spans.len();
        self.attempts.settle(tables, at, &mut self.spans);
        // Of those that begin at one place of the stream, though not as it is read, the longest comes first.
        for mut place in known..self.spans.len() {
            while let Some(before) = place.checked_sub(1) {
                if self.order(before) <= self.order(place) {
                    break;
                }
                self.spans.swap(before, place);
                place = before;
            }
            self.known = self.known.min(place);
        }
    }

    /// Those among which are all that became certain since the last call: few, whatever was not taken.
    pub(crate) fn news(&mut self) -> impl Iterator<Item = &Span> {
        let known = self.known.min(self.spans.len());
        self.known = self.spans.len();
        self.spans.range(known..)
    }

    /// Takes the first of them.
    pub(crate) fn take_first(&mut self) -> Option<Span> {
        self.known = self.known.saturating_sub(1);
        self.spans.pop_front()
    }

    /// Where the matches end that begin before a place of the stream and were not taken yet, at the latest.
    pub(crate) fn end_of_those_before(&self, place: u64) -> Option<u64> {
        let count = self.spans.partition_point(|span| span.raw_start < place);
        let last = self.spans.get(count.checked_sub(1)?)?.raw_start;
        let alike = self.spans.range(..count).rev();
        alike
            .take_while(|span| span.raw_start == last)
            .map(|span| span.raw_end)
            .max()
    }

    fn order(&self, place: usize) -> Option<(u64, Reverse<u64>, RuleId)> {
        self.spans.get(place).map(Span::redact_order)
    }

    /// The first place of the stream of which it is not certain whether it is in a match.
    pub(crate) fn open_from(&self) -> Option<u64> {
        self.attempts.open_from()
    }

    pub(crate) fn under_way(&self, tables: &[Patterns]) -> impl Iterator<Item = (u64, RuleId, u16)> {
        self.attempts.under_way(tables)
    }

    pub(crate) const fn too_many(&self) -> bool {
        self.attempts.too_many()
    }

    /// Whether no match is under way.
    #[inline]
    pub(crate) const fn is_idle(&self) -> bool {
        self.attempts.is_empty()
    }
}

/// The low bits of a place in a list.
fn low(place: usize) -> u32 {
    decidable_canon::cast::u32_from_usize(place & 63).unwrap_or(0)
}
