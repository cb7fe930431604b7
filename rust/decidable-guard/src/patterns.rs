//! Patterns that are tried from one place on: a table of states that says, after every byte, which rules match up to here and whether
//! any still could. It is made from a DFA of the crate regex-automata.

use std::collections::{BTreeSet, HashMap};

use crate::{check::Check, syntax::Parsed};
use decidable_canon::cast;
use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton as _, StartKind, dense},
    nfa::thompson::{self, NFA, WhichCaptures},
    util::{primitives::StateID, start},
};

/// The place of a rule in the list, or [`NO_RULE`].
pub(crate) type RuleId = u16;

/// No rule.
pub(crate) const NO_RULE: RuleId = RuleId::MAX;

/// The state of an attempt that cannot match any more.
pub(crate) const DEAD: u32 = 0;

/// What stands before an attempt, as far as `^` and `\b` look back.
const LOOKED_BACK_AT: [Option<u8>; KINDS] = [None, Some(b' '), Some(b'a'), Some(b'\n'), Some(b'\r')];

/// How many kinds of that there are.
pub(crate) const KINDS: usize = 5;

/// Of which of them a byte is.
#[inline]
pub(crate) const fn kind_of(before: Option<u8>) -> usize {
    match before {
        None => 0,
        Some(b'\n') => 3,
        Some(b'\r') => 4,
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_') => 2,
        Some(_) => 1,
    }
}

/// States by place, each with a row of what comes next by class of byte.
#[derive(Debug)]
pub(crate) struct Patterns {
    classes: [u8; 256],
    /// Columns of a row: the classes of bytes, and the end of the text.
    stride: usize,
    next: Vec<u32>,
    /// The rule that matches up to before the next byte, if this is the next: only where the byte decides it.
    delayed: Vec<RuleId>,
    /// The rule that matches up to here, whatever comes next.
    sure: Vec<RuleId>,
    /// How many more bytes a match, or a longer one, needs at least; [`FAR`] if none can come.
    remaining: Vec<u16>,
    /// The first of the rules that those bytes may bring.
    nearest: Vec<RuleId>,
    /// The first rule that the next byte may show to match up to here.
    pending: Vec<RuleId>,
    /// Whether a match may come that ends later.
    grows: Vec<bool>,
    /// The first states, by what stands before.
    starts: [u32; LOOKED_BACK_AT.len()],
    check: Option<Check>,
    /// Which of what may have to stand before an attempt does.
    before: Option<usize>,
}

/// No match can come any more.
const FAR: u16 = u16::MAX;

/// Bytes of the states that the table of one pattern is made from: a step of making it may go through all of them, however small it
/// becomes. Of the patterns that ship, of gitleaks' and of LiteLLM's the largest takes 88 KB, and `"[^"]{0,4000}"` 1.2 MB; one of 12 KB took
/// 6.7 MB and 2.3 s.
pub const MOST_NFA_BYTES: usize = 2 << 20;

/// Why there is no table of some patterns.
#[derive(Debug)]
pub(crate) enum Refused {
    /// What the table is made from is larger than its limit.
    Nfa,
    /// The table is, or what is known of it while it is made.
    Alone,
    /// The table is, beside the others.
    Table,
    /// The pattern of a rule matches nothing: no text leads to it, such as to `a\bb`.
    Never(RuleId),
}

impl Patterns {
    /// Takes patterns, each with the place of its rule, in ascending order; how large what the table is made from may be, and how large
    /// the table. What must stand before them is not looked at: [`Self::with_before`].
    pub(crate) fn new(patterns: &[(RuleId, &Parsed)], bytes_max: usize, room: usize) -> Result<Self, Refused> {
        let hirs: Vec<_> = patterns.iter().map(|(_, parsed)| &parsed.hir).collect();
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(bytes_max.min(MOST_NFA_BYTES))),
            )
            .build_many_from_hir(&hirs)
            .map_err(|_| Refused::Nfa)?;
        let dfa = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .match_kind(MatchKind::All)
                    .accelerate(false)
                    .dfa_size_limit(Some(bytes_max))
                    .determinize_size_limit(Some(bytes_max)),
            )
            .build_from_nfa(&nfa)
            .map_err(|_| Refused::Alone)?;
        Self::of(&nfa, &dfa, patterns, room)
    }

    fn of(nfa: &NFA, dfa: &dense::DFA<Vec<u32>>, patterns: &[(RuleId, &Parsed)], room: usize) -> Result<Self, Refused> {
        let (classes, bytes) = classes(nfa, patterns);
        let stride = bytes.len().saturating_add(1);

        let mut walk = Walk {
            dfa,
            numbers: HashMap::new(),
            found: Vec::new(),
        };
        let mut starts = [DEAD; LOOKED_BACK_AT.len()];
        let dead = walk.number(None);
        debug_assert_eq!(dead, DEAD);
        for (start, before) in starts.iter_mut().zip(LOOKED_BACK_AT) {
            let config = start::Config::new().anchored(Anchored::Yes).look_behind(before);
            // An anchored automaton that gives up at no byte has every start; without one it would see nothing.
            *start = walk.number(Some(dfa.start_state(&config).map_err(|_| Refused::Alone)?));
        }
        let mut this = Self {
            classes,
            stride,
            next: vec![DEAD; stride],
            delayed: vec![NO_RULE; stride],
            sure: vec![NO_RULE],
            remaining: vec![FAR],
            nearest: vec![NO_RULE],
            pending: Vec::new(),
            grows: Vec::new(),
            starts,
            check: None,
            before: None,
        };
        let (mut state, mut can_match) = (1, BTreeSet::new());
        while let Some(Some(from)) = walk.found.get(state).copied() {
            let end = dfa.next_eoi_state(from);
            let after: Vec<_> = bytes
                .iter()
                .map(|byte| dfa.next_state(from, *byte))
                .chain([end])
                .collect();
            // A match is known one byte after its end: what all that may come agree on needs no byte.
            let next = bytes.iter().copied().map(Some).chain([None]);
            let matched = after
                .iter()
                .zip(next)
                .map(|(state, next)| matches(dfa, *state, next, patterns));
            let matched: Vec<Vec<RuleId>> = matched.collect();
            can_match.extend(matched.iter().flatten().copied());
            let sure: Vec<RuleId> = matched.split_first().map_or_else(Vec::new, |(first, rest)| {
                first
                    .iter()
                    .copied()
                    .filter(|rule| rest.iter().all(|other| other.contains(rule)))
                    .collect()
            });
            this.sure.push(sure.iter().copied().min().unwrap_or(NO_RULE));
            for (after, matched) in after.iter().zip(&matched) {
                let delayed = matched.iter().copied().filter(|rule| !sure.contains(rule)).min();
                this.delayed.push(delayed.unwrap_or(NO_RULE));
                let next = walk.number((!dfa.is_dead_state(*after)).then_some(*after));
                this.next.push(next);
            }
            // Nothing comes after the end.
            if let Some(last) = this.next.last_mut() {
                *last = DEAD;
            }
            this.remaining.push(FAR);
            this.nearest.push(NO_RULE);
            if this.bytes() > room {
                return Err(Refused::Table);
            }
            state = state.saturating_add(1);
        }
        if let Some((rule, _)) = patterns.iter().find(|(rule, _)| !can_match.contains(rule)) {
            return Err(Refused::Never(*rule));
        }
        this.measure();
        this.without_hopeless();
        this.look_ahead();
        Ok(this)
    }

    /// What each state may still bring.
    fn look_ahead(&mut self) {
        let states = (0..self.sure.len()).filter_map(cast::u32_from_usize);
        let pending = |state| self.row(&self.delayed, state).iter().copied().min().unwrap_or(NO_RULE);
        // What is hopeless has become the dead one.
        let grows = |state| self.row(&self.next, state).iter().any(|next| *next != DEAD);
        (self.pending, self.grows) = states.map(|state| (pending(state), grows(state))).unzip();
    }

    /// How far each state is from a match, and of which rule: those one byte farther are found from those at a distance.
    fn measure(&mut self) {
        let mut before: Vec<Vec<u32>> = vec![Vec::new(); self.sure.len()];
        let (mut here, mut next_ones) = (Vec::new(), Vec::new());
        for state in (0..self.sure.len()).filter_map(cast::u32_from_usize) {
            let next = self.row(&self.next, state);
            let delayed = self.row(&self.delayed, state).iter().copied().min();
            let sure = next.iter().map(|next| self.sure(*next)).min();
            for next in next {
                if let Some(before) = before.get_mut(cast::usize_from_u32(*next)) {
                    before.push(state);
                }
            }
            here.extend(delayed.filter(|rule| *rule != NO_RULE).map(|rule| (rule, state)));
            next_ones.extend(sure.filter(|rule| *rule != NO_RULE).map(|rule| (rule, state)));
        }
        let mut distance = 0_u16;
        while !here.is_empty() || !next_ones.is_empty() {
            here.sort_unstable();
            for (rule, state) in here.drain(..) {
                let place = cast::usize_from_u32(state);
                let (Some(remaining), Some(nearest)) = (self.remaining.get_mut(place), self.nearest.get_mut(place))
                else {
                    continue;
                };
                if *remaining != FAR {
                    continue;
                }
                (*remaining, *nearest) = (distance, rule);
                let known = &self.remaining;
                let open = |earlier: &u32| known.get(cast::usize_from_u32(*earlier)) == Some(&FAR);
                let earlier = before.get(place).into_iter().flatten().copied();
                next_ones.extend(earlier.filter(open).map(|earlier| (rule, earlier)));
            }
            core::mem::swap(&mut here, &mut next_ones);
            distance = distance.saturating_add(1).min(FAR - 1);
        }
    }

    /// States from which nothing can come any more, and which match nothing, become the dead one.
    fn without_hopeless(&mut self) {
        let hopeless = |this: &Self, state: u32| this.sure(state) == NO_RULE && !this.lives(state);
        for place in 0..self.next.len() {
            if let Some(next) = self.next.get(place).copied()
                && hopeless(self, next)
                && let Some(next) = self.next.get_mut(place)
            {
                *next = DEAD;
            }
        }
        self.starts = self
            .starts
            .map(|start| if hopeless(self, start) { DEAD } else { start });
    }

    fn row<'a, T>(&self, table: &'a [T], state: u32) -> &'a [T] {
        let start = cast::usize_from_u32(state).saturating_mul(self.stride);
        table.get(start..start.saturating_add(self.stride)).unwrap_or_default()
    }

    #[inline]
    fn place(&self, state: u32, column: usize) -> usize {
        cast::usize_from_u32(state)
            .wrapping_mul(self.stride)
            .wrapping_add(column)
    }

    /// The column of a byte, or of the end of the text.
    #[inline]
    pub(crate) fn column(&self, byte: Option<u8>) -> usize {
        match byte {
            Some(byte) => self.classes.get(usize::from(byte)).copied().unwrap_or(0).into(),
            None => self.stride.wrapping_sub(1),
        }
    }

    /// The first state of an attempt, by the byte before it.
    #[inline]
    pub(crate) fn start(&self, before: Option<u8>) -> u32 {
        self.start_of(kind_of(before))
    }

    /// The same, by the kind of that byte.
    #[inline]
    pub(crate) fn start_of(&self, kind: usize) -> u32 {
        self.starts.get(kind).copied().unwrap_or(DEAD)
    }

    #[inline]
    pub(crate) fn next(&self, state: u32, column: usize) -> u32 {
        self.next.get(self.place(state, column)).copied().unwrap_or(DEAD)
    }

    /// The rule that matches up to before the byte of a column, where that byte decides it.
    #[inline]
    pub(crate) fn delayed(&self, state: u32, column: usize) -> RuleId {
        self.delayed.get(self.place(state, column)).copied().unwrap_or(NO_RULE)
    }

    /// The rule that matches up to here.
    #[inline]
    pub(crate) fn sure(&self, state: u32) -> RuleId {
        self.sure.get(cast::usize_from_u32(state)).copied().unwrap_or(NO_RULE)
    }

    /// Whether a match, or a longer one, may still come.
    #[inline]
    pub(crate) fn lives(&self, state: u32) -> bool {
        self.remaining(state).is_some()
    }

    /// Whether a match may come that ends later.
    #[inline]
    pub(crate) fn grows(&self, state: u32) -> bool {
        self.grows.get(cast::usize_from_u32(state)).copied().unwrap_or(false)
    }

    /// The first rule that the next byte may show to match up to here.
    pub(crate) fn pending(&self, state: u32) -> RuleId {
        self.pending
            .get(cast::usize_from_u32(state))
            .copied()
            .unwrap_or(NO_RULE)
    }

    /// What matches must pass besides: then there is one pattern alone.
    #[inline]
    pub(crate) const fn check(&self) -> Option<Check> {
        self.check
    }

    /// The same with a check.
    pub(crate) fn with_check(self, check: Option<Check>) -> Self {
        Self { check, ..self }
    }

    /// The same with what must stand before.
    pub(crate) fn with_before(self, before: Option<usize>) -> Self {
        Self { before, ..self }
    }

    /// Which of what may have to stand before an attempt does.
    #[inline]
    pub(crate) const fn before(&self) -> Option<usize> {
        self.before
    }

    /// How many more bytes a match, or a longer one, needs at least.
    #[inline]
    pub(crate) fn remaining(&self, state: u32) -> Option<u16> {
        self.remaining
            .get(cast::usize_from_u32(state))
            .copied()
            .filter(|remaining| *remaining != FAR)
    }

    /// The first of the rules that those bytes may bring.
    pub(crate) fn nearest(&self, state: u32) -> RuleId {
        self.nearest
            .get(cast::usize_from_u32(state))
            .copied()
            .unwrap_or(NO_RULE)
    }

    /// How many bytes the tables take.
    pub(crate) const fn bytes(&self) -> usize {
        self.next.len() * 4 + self.delayed.len() * 2 + self.sure.len() * 9
    }

    /// How many states there are.
    pub(crate) const fn states(&self) -> usize {
        self.sure.len()
    }
}

/// The states of a DFA that can be reached, numbered as they are found.
struct Walk<'a> {
    dfa: &'a dense::DFA<Vec<u32>>,
    numbers: HashMap<StateID, u32>,
    found: Vec<Option<StateID>>,
}

impl Walk<'_> {
    fn number(&mut self, state: Option<StateID>) -> u32 {
        let Some(state) = state.filter(|state| !self.dfa.is_dead_state(*state)) else {
            if self.found.is_empty() {
                self.found.push(None);
            }
            return DEAD;
        };
        // The limit on bytes keeps the states far below 2^32.
        let fresh = cast::u32_from_usize(self.found.len()).unwrap_or(DEAD);
        let found = &mut self.found;
        *self.numbers.entry(state).or_insert_with(|| {
            found.push(Some(state));
            fresh
        })
    }
}

/// The class of each byte, and one byte of each class: bytes of one class lead from every state to the same, and end the same matches.
fn classes(nfa: &NFA, patterns: &[(RuleId, &Parsed)]) -> ([u8; 256], Vec<u8>) {
    let barred: BTreeSet<&[u8]> = patterns.iter().map(|(_, parsed)| parsed.barred.as_slice()).collect();
    let byte_classes = nfa.byte_classes();
    let (mut classes, mut bytes) = ([0; 256], Vec::new());
    let mut numbers = HashMap::new();
    for (byte, class) in (0..=u8::MAX).zip(&mut classes) {
        let bars: Vec<bool> = barred.iter().map(|barred| barred.contains(&byte)).collect();
        *class = *numbers.entry((byte_classes.get(byte), bars)).or_insert_with(|| {
            bytes.push(byte);
            // There are no more classes than bytes.
            u8::try_from(bytes.len().saturating_sub(1)).unwrap_or(u8::MAX)
        });
    }
    (classes, bytes)
}

/// The rules that match up to before the byte that led to a state, or the end.
fn matches(
    dfa: &dense::DFA<Vec<u32>>,
    state: StateID,
    next: Option<u8>,
    patterns: &[(RuleId, &Parsed)],
) -> Vec<RuleId> {
    if !dfa.is_match_state(state) {
        return Vec::new();
    }
    (0..dfa.match_len(state))
        .filter_map(|index| patterns.get(dfa.match_pattern(state, index).as_usize()))
        .filter(|(_, parsed)| next.is_none_or(|next| !parsed.barred.contains(&next)))
        .map(|(rule, _)| *rule)
        .collect()
}
