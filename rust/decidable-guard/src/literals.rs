//! Texts to stop at, all at once: the automaton of Aho and Corasick (Communications of the ACM 18(6), 1975) as one flat table, with a
//! column for each class of bytes. A state that matches is marked, and so is where bytes lead that may not stand for themselves: a marked
//! state lies outside of the table, so that the look that comes after it fails, and it costs nothing to notice.
//!
//! A byte waits for the one before it. Which state a text leads to depends on no more of its last bytes than the longest text has, so that
//! a long stretch is searched at several places side by side.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use decidable_canon::cast;

use crate::{
    patterns::{NO_RULE, RuleId},
    sieve::Sieve,
    steps,
};

/// A text, the place of its rule, and whether the letters A to Z match in either case.
pub(crate) struct Literal {
    pub(crate) rule: RuleId,
    pub(crate) text: Vec<u8>,
    pub(crate) ignore_case: bool,
}

/// Marks a state that matches. The table has far fewer places.
const MARK: u32 = 1 << 31;

/// Where bytes lead that may not stand for themselves: no row, and far enough below the largest number to add a column.
const TRAP: u32 = MARK | 1 << 30;

/// At how many places a long stretch is searched side by side: this and the next three by
/// `cargo bench -p decidable-benches --bench guard -- "chunks of"`.
const LANES: usize = 8;

/// Where that is worth it: from so many bytes on, and if each place has at most one of so many parts of them.
const LEAST: usize = 64;
const WORTH: usize = 3;

/// The sieve is worth it from so many bytes on.
const LEAST_SIEVED: usize = 256;

/// The automaton. A state is the place of its row in the table, and its mark.
#[derive(Debug)]
pub(crate) struct Literals {
    classes: [u8; 256],
    /// The same where bytes that may not stand for themselves are in the last column: in a text, and in a document in JSON.
    watched: [[u8; 256]; 2],
    /// Columns of a row. Behind them is how many of the last bytes may begin a match.
    columns: usize,
    table: Vec<u32>,
    about: Vec<About>,
    longest: usize,
    /// Where the texts are few.
    sieve: Option<Sieve>,
}

/// What is known of a state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// How many of the last bytes may begin a match.
    pub(crate) depth: u32,
    /// The longest text that ends here, and the first rule that has it.
    pub(crate) length: u32,
    pub(crate) rule: RuleId,
    /// The rule that the fewest bytes are missing to, and how many.
    pub(crate) nearest: RuleId,
    pub(crate) missing: u32,
}

/// The texts of one way to compare, as a tree.
#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
}

struct Node {
    children: BTreeMap<u8, usize>,
    fail: usize,
    about: About,
}

impl Node {
    const fn new(depth: u32) -> Self {
        Self {
            children: BTreeMap::new(),
            fail: 0,
            about: About {
                depth,
                length: 0,
                rule: NO_RULE,
                nearest: NO_RULE,
                missing: u32::MAX,
            },
        }
    }
}

impl Tree {
    /// `None` as soon as there are more nodes than that.
    fn of<'a>(texts: impl Iterator<Item = (RuleId, Vec<u8>)> + 'a, most: usize) -> Option<Self> {
        let mut nodes = vec![Node::new(0)];
        for (rule, text) in texts {
            let length = cast::u32_from_usize(text.len()).unwrap_or(u32::MAX);
            let mut at = 0;
            for (byte, depth) in text.into_iter().zip(1..) {
                let fresh = nodes.len();
                let Some(node) = nodes.get_mut(at) else { break };
                at = *node.children.entry(byte).or_insert(fresh);
                if at == fresh {
                    if fresh >= most {
                        return None;
                    }
                    steps::count();
                    nodes.push(Node::new(depth));
                }
                if let Some(node) = nodes.get_mut(at)
                    && length.saturating_sub(depth) < node.about.missing
                {
                    node.about.missing = length.saturating_sub(depth);
                    node.about.nearest = rule;
                }
            }
            if let Some(node) = nodes.get_mut(at) {
                node.about.length = length;
                node.about.rule = node.about.rule.min(rule);
            }
        }
        let mut this = Self { nodes };
        this.link();
        Some(this)
    }

    /// Finds for each node the longest other one that the text ends with, and inherits what ends there.
    fn link(&mut self) {
        let mut order = vec![0];
        let mut next = 0;
        while let Some(parent) = order.get(next).copied() {
            next = next.saturating_add(1);
            let children: Vec<_> = self.nodes.get(parent).map_or_else(Vec::new, |node| {
                node.children.iter().map(|(byte, child)| (*byte, *child)).collect()
            });
            let fail_of_parent = self.nodes.get(parent).map_or(0, |node| node.fail);
            for (byte, child) in children {
                order.push(child);
                let fail = if parent == 0 {
                    0
                } else {
                    self.step(fail_of_parent, byte)
                };
                let inherited = self.nodes.get(fail).map(|node| node.about);
                if let (Some(node), Some(inherited)) = (self.nodes.get_mut(child), inherited) {
                    node.fail = fail;
                    if node.about.length == 0 {
                        node.about.length = inherited.length;
                        node.about.rule = inherited.rule;
                    }
                }
            }
        }
    }

    fn step(&self, mut at: usize, byte: u8) -> usize {
        loop {
            let Some(node) = self.nodes.get(at) else { return 0 };
            match node.children.get(&byte) {
                Some(child) => return *child,
                None if at == 0 => return 0,
                None => at = node.fail,
            }
        }
    }

    fn about(&self, at: usize) -> About {
        self.nodes.get(at).map_or(Node::new(0).about, |node| node.about)
    }
}

impl Literals {
    /// Takes for a text, and for a document in JSON, which bytes stand for themselves. `None` if the table would take more bytes than that.
    pub(crate) fn new(literals: &[Literal], plain: &[[bool; 256]; 2], bytes_max: usize) -> Option<Self> {
        let texts: Vec<_> = literals
            .iter()
            .map(|literal| (literal.text.as_slice(), literal.ignore_case))
            .collect();
        let used = |ignore_case: bool| {
            let mut used = [false; 256];
            for literal in literals.iter().filter(|literal| literal.ignore_case == ignore_case) {
                for byte in &literal.text {
                    let byte = if ignore_case { byte.to_ascii_lowercase() } else { *byte };
                    if let Some(used) = used.get_mut(usize::from(byte)) {
                        *used = true;
                    }
                }
            }
            used
        };
        let (in_cased, in_caseless) = (used(false), used(true));
        // Bytes that no text has, or that are compared alike everywhere, share a column.
        let mut columns: HashMap<(Option<u8>, Option<u8>), u8> = HashMap::from([((None, None), 0)]);
        let mut examples = vec![None];
        let mut classes = [0; 256];
        for (byte, class) in (0..=u8::MAX).zip(&mut classes) {
            let has =
                |used: &[bool; 256], byte: u8| used.get(usize::from(byte)).is_some_and(|used| *used).then_some(byte);
            let alike = (has(&in_cased, byte), has(&in_caseless, byte.to_ascii_lowercase()));
            // At most 256 columns, and if there are so many no byte is in none: then the first stays unused.
            let fresh = u8::try_from(examples.len()).unwrap_or(0);
            *class = *columns.entry(alike).or_insert_with(|| {
                examples.push(Some(byte));
                fresh
            });
        }
        // Not every byte is in a text of UTF-8, so that there is room for one more column.
        let last = u8::try_from(examples.len()).ok()?;
        let watched = plain.each_ref().map(|plain| {
            let mut watched = classes;
            for (class, _) in watched.iter_mut().zip(plain).filter(|(_, plain)| !**plain) {
                *class = last;
            }
            watched
        });
        let columns = examples.len().saturating_add(1);
        let stride = columns.saturating_add(1);
        // Each node of a tree is in a state of its own, so that trees which do not fit are not finished.
        let state_bytes = stride.saturating_mul(4).saturating_add(size_of::<About>());
        let most = bytes_max.checked_div(state_bytes).unwrap_or(0);
        let of = |ignore_case: bool| {
            let chosen = literals
                .iter()
                .filter(move |literal| literal.ignore_case == ignore_case);
            let texts = chosen.map(move |literal| {
                let text = if ignore_case {
                    literal.text.to_ascii_lowercase()
                } else {
                    literal.text.clone()
                };
                (literal.rule, text)
            });
            Tree::of(texts, most)
        };
        let (cased, caseless) = (of(false)?, of(true)?);

        let mut numbers: HashMap<(usize, usize), usize> = HashMap::from([((0, 0), 0)]);
        let mut states = vec![(0, 0)];
        let mut rows: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some((cased_at, caseless_at)) = states.get(at).copied() {
            at = at.saturating_add(1);
            if at > most {
                return None;
            }
            for example in &examples {
                let next = example.map_or((0, 0), |byte| {
                    (
                        cased.step(cased_at, byte),
                        caseless.step(caseless_at, byte.to_ascii_lowercase()),
                    )
                });
                let fresh = states.len();
                rows.push(*numbers.entry(next).or_insert_with(|| {
                    states.push(next);
                    fresh
                }));
            }
        }
        let known: Vec<About> = states
            .iter()
            .map(|(cased_at, caseless_at)| either(cased.about(*cased_at), caseless.about(*caseless_at)))
            .collect();
        let place_of = |state: &usize| {
            let matches = known.get(*state).is_some_and(|about| about.length > 0);
            let place = cast::u32_from_usize(state.saturating_mul(stride)).filter(|place| *place < TRAP ^ MARK)?;
            Some(place | if matches { MARK } else { 0 })
        };
        let mut table = Vec::with_capacity(states.len().saturating_mul(stride));
        // States stay in the order in which they were found: the shallow, where a text mostly is, lie together.
        for (row, about) in rows.chunks(examples.len()).zip(&known) {
            for next in row {
                table.push(place_of(next)?);
            }
            table.extend([TRAP, about.depth]);
        }
        Some(Self {
            classes,
            watched,
            columns,
            table,
            about: known,
            longest: literals.iter().map(|literal| literal.text.len()).max().unwrap_or(0),
            sieve: Sieve::new(&texts, plain),
        })
    }

    /// The state after a byte; `None` after a marked one.
    #[inline(always)]
    fn step(&self, classes: &[u8; 256], state: u32, byte: u8) -> Option<u32> {
        let class = classes.get(usize::from(byte)).copied().unwrap_or(0);
        let place = cast::usize_from_u32(state).wrapping_add(usize::from(class));
        self.table.get(place).copied()
    }

    #[inline]
    pub(crate) fn next(&self, state: u32, byte: u8) -> u32 {
        self.step(&self.classes, state & !MARK, byte).unwrap_or(0)
    }

    /// The state after a byte, if it stands for itself and ends no match.
    #[inline(always)]
    pub(crate) fn pass(&self, state: u32, byte: u8, json: bool) -> Option<u32> {
        let [text, document] = &self.watched;
        let next = self.step(if json { document } else { text }, state, byte)?;
        (next < MARK).then_some(next)
    }

    /// The state after some bytes of a text, if every one of them stands for itself and none ends a match.
    #[inline(always)]
    pub(crate) fn walk(&self, mut state: u32, bytes: &[u8]) -> Option<u32> {
        let [text, _] = &self.watched;
        let (mut four, mut rest) = (bytes.first_chunk::<4>(), bytes);
        // Most tokens have so many, and then nobody need count them.
        while let Some([a, b, c, d]) = four {
            state = self.step(text, state, *a)?;
            state = self.step(text, state, *b)?;
            state = self.step(text, state, *c)?;
            state = self.step(text, state, *d)?;
            rest = rest.get(4..)?;
            four = rest.first_chunk::<4>();
        }
        for byte in rest {
            state = self.step(text, state, *byte)?;
        }
        (state < MARK).then_some(state)
    }

    /// Steps through bytes until a state matches, or before one that may not stand for itself: how many were taken, and the state
    /// after them.
    #[inline]
    pub(crate) fn scan(&self, state: u32, bytes: &[u8], json: bool) -> (usize, u32) {
        let [text, document] = &self.watched;
        let classes = if json { document } else { text };
        let (passed, state) = self.scan_sieved(classes, state, bytes, json);
        let rest = bytes.get(passed..).unwrap_or_default();
        let (done, mut state) = self.scan_side_by_side(classes, state, rest);
        let done = passed.wrapping_add(done);
        for (place, byte) in bytes.iter().enumerate().skip(done) {
            let next = self.step(classes, state, *byte).unwrap_or(0);
            if next >= MARK {
                return if next == TRAP {
                    (place, state)
                } else {
                    (place.wrapping_add(1), next)
                };
            }
            state = next;
        }
        (bytes.len(), state)
    }

    /// The same for a beginning of them that the sieve lets pass: the state is that of the last bytes of it, as many as the longest
    /// text has. Texts that began before are looked for first.
    #[inline(always)]
    fn scan_sieved(&self, classes: &[u8; 256], state: u32, bytes: &[u8], json: bool) -> (usize, u32) {
        let Some(sieve) = self.sieve.as_ref().filter(|_| bytes.len() >= LEAST_SIEVED) else {
            return (0, state);
        };
        let passed = sieve.pass(bytes, json);
        let Some(before) = passed.checked_sub(self.longest).filter(|_| passed >= LEAST_SIEVED) else {
            return (0, state);
        };
        let walk = |state: u32, bytes: &[u8]| {
            let step = |state, byte: &u8| self.step(classes, state, *byte).filter(|next| *next < MARK);
            bytes.iter().try_fold(state, step)
        };
        let begun = if state == 0 {
            Some(0)
        } else {
            walk(state, bytes.get(..self.longest).unwrap_or_default())
        };
        let end = begun.and_then(|_| walk(0, bytes.get(before..passed).unwrap_or_default()));
        end.map_or((0, state), |end| (passed, end))
    }

    /// The same for a beginning of them, as far as no state is marked: several stretches, each but the first begun as many bytes early
    /// as the longest text has, so that it knows as much as the one before it. At the first mark only what the first stretch has done counts.
    #[inline(always)]
    fn scan_side_by_side(&self, classes: &[u8; 256], state: u32, bytes: &[u8]) -> (usize, u32) {
        let overlaps = self.longest.saturating_mul(LANES - 1);
        let length = bytes.len().saturating_add(overlaps) / LANES;
        if length.saturating_mul(WORTH) > bytes.len() || bytes.len() < LEAST {
            return (0, state);
        }
        let every = length.saturating_sub(self.longest);
        let mut stretches = [bytes; LANES];
        for (lane, stretch) in stretches.iter_mut().enumerate() {
            let start = lane.saturating_mul(every);
            *stretch = bytes.get(start..start.saturating_add(length)).unwrap_or_default();
        }
        let mut states = [0; LANES];
        if let Some(first) = states.first_mut() {
            *first = state;
        }
        for place in 0..length {
            let mut nexts = [0; LANES];
            let mut marks = 0;
            for ((next, state), stretch) in nexts.iter_mut().zip(&states).zip(&stretches) {
                let Some(byte) = stretch.get(place) else {
                    return (place, states[0]);
                };
                *next = self.step(classes, *state, *byte).unwrap_or(TRAP);
                marks |= *next;
            }
            if marks >= MARK {
                return (place, states[0]);
            }
            states = nexts;
        }
        let [.., last] = states;
        (every.saturating_mul(LANES - 1).saturating_add(length), last)
    }

    #[inline]
    pub(crate) fn matches(&self, state: u32) -> bool {
        state >= MARK
    }

    #[inline]
    pub(crate) fn about(&self, state: u32) -> Option<&About> {
        let stride = self.columns.saturating_add(1);
        let number = cast::usize_from_u32(state & !MARK).checked_div(stride)?;
        self.about.get(number)
    }

    /// The length of the longest text.
    pub(crate) const fn longest(&self) -> usize {
        self.longest
    }

    /// How many of the last bytes may begin a match.
    #[inline]
    pub(crate) fn depth(&self, state: u32) -> u32 {
        let place = cast::usize_from_u32(state & !MARK).wrapping_add(self.columns);
        self.table.get(place).copied().unwrap_or(0)
    }

    /// How many bytes the tables take.
    pub(crate) const fn bytes(&self) -> usize {
        self.table.len() * 4 + self.about.len() * size_of::<About>()
    }

    /// How many states there are.
    pub(crate) const fn states(&self) -> usize {
        self.about.len()
    }
}

/// What two ways to compare know of one place in a text.
fn either(a: About, b: About) -> About {
    // Of what begins at one place the nearest, and of that the first, as within one tree.
    let near = |of: &About| (of.depth, Reverse(of.missing), Reverse(of.nearest));
    let deeper = if near(&a) >= near(&b) { a } else { b };
    let longer = if (a.length, Reverse(a.rule)) >= (b.length, Reverse(b.rule)) {
        a
    } else {
        b
    };
    About {
        length: longer.length,
        rule: longer.rule,
        ..deeper
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(texts: &[&str]) -> Literals {
        let literal = |(text, rule): (&&str, RuleId)| Literal {
            rule,
            text: text.as_bytes().to_vec(),
            ignore_case: false,
        };
        let literals: Vec<_> = texts.iter().zip(0..).map(literal).collect();
        Literals::new(&literals, &[[true; 256]; 2], usize::MAX).unwrap()
    }

    /// Texts of which no two share more than a beginning take as many nodes as bytes, and each node more than its row in the table.
    #[test]
    fn what_cannot_fit_is_not_made_first() {
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + u8::try_from(seed >> 28).unwrap()
        };
        for ignore_case in [false, true] {
            let literals: Vec<_> = (0..100)
                .map(|rule| Literal {
                    rule,
                    text: (0..2_000).map(|_| next()).collect(),
                    ignore_case,
                })
                .collect();
            let made = |bytes_max| {
                let before = steps::counted();
                let made = Literals::new(&literals, &[[true; 256]; 2], bytes_max);
                (made, steps::counted() - before)
            };
            let (whole, nodes) = made(usize::MAX);
            let whole = whole.unwrap();
            let bytes = whole.bytes();
            assert!(nodes > 190_000, "{nodes}");
            assert!(made(bytes).0.is_some());
            assert!(made(bytes - 1).0.is_none());
            let (none, nodes) = made(1 << 20);
            assert!(none.is_none());
            // The root is made in any case.
            assert!(nodes < (1 << 20) / (bytes / whole.states()), "{nodes}");
        }
    }

    /// Wherever a match, or its beginning, lies between the places that are searched side by side.
    #[test]
    fn a_match_is_found_at_every_place_of_a_stretch() {
        let literals = of(&["abcdefghijk", "xy", "fgh#"]);
        for length in [64, 65, 127, 200, 333] {
            let plain = vec![b'.'; length];
            for place in 0..length {
                for text in ["abcdefghijk", "fgh#", "xy"] {
                    let mut bytes = plain.clone();
                    let end = length.min(place + text.len());
                    bytes[place..end].copy_from_slice(&text.as_bytes()[..end - place]);
                    let mut state = 0;
                    let mut taken = 0;
                    for byte in &bytes {
                        state = literals.next(state, *byte);
                        taken += 1;
                        if literals.matches(state) {
                            break;
                        }
                    }
                    assert_eq!(
                        literals.scan(0, &bytes, false),
                        (taken, state),
                        "{text} at {place} of {length}"
                    );
                    let (done, at) = literals.scan_side_by_side(&literals.classes, 0, &bytes);
                    let before = bytes[..done].iter().fold(0, |state, byte| literals.next(state, *byte));
                    assert_eq!(at, before, "{text} at {place} of {length}");
                }
            }
            assert!(literals.scan_side_by_side(&literals.classes, 0, &plain).0 > length - LANES || length < 127);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Also where a text began in an earlier chunk, ends in a later one, or is nowhere: as byte after byte.
        #[test]
        fn a_long_chunk_is_scanned_as_its_bytes_are(
            texts in proptest::collection::vec("[a-c]{1,6}|needle[a-c]{0,20}", 1..20),
            ignore_case in any::<bool>(),
            (cut, ended) in (any::<prop::sample::Index>(), any::<bool>()),
            pieces in proptest::collection::vec((250..600_usize, "[a-c]{0,3}|nee|needle|NEEDLEa|\\x01"), 0..8),
            json in any::<bool>(),
        ) {
            let literal = |(text, rule): (&String, RuleId)| Literal {
                rule,
                text: text.clone().into_bytes(),
                ignore_case,
            };
            let literals: Vec<_> = texts.iter().zip(0..).map(literal).collect();
            let mut plain = [[true; 256]; 2];
            plain[1][1] = false;
            let literals = Literals::new(&literals, &plain, usize::MAX).unwrap();
            // A text that begins before the chunk, and goes on in it or nearly so.
            let (before, after) = texts[0].split_at(cut.index(texts[0].len()));
            let after = if ended { after } else { &after[..after.len() - 1] };
            let begun = before.bytes().try_fold(0, |state, byte| literals.pass(state, byte, false)).unwrap_or(0);
            let bytes = pieces.iter().map(|(clean, piece)| ".".repeat(*clean) + piece).collect::<String>();
            let bytes = (after.to_owned() + &bytes).into_bytes();
            let mut expected = (bytes.len(), begun);
            for (place, byte) in bytes.iter().enumerate() {
                let next = literals.next(expected.1, *byte);
                if json && *byte == 1 {
                    expected.0 = place;
                    break;
                }
                expected.1 = next;
                if literals.matches(next) {
                    expected.0 = place + 1;
                    break;
                }
            }
            prop_assert_eq!(literals.scan(begun, &bytes, json), expected);
        }
    }
}
