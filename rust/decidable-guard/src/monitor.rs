//! Control of a generation, event by event.

use decidable_canon::{Digest, cast};

use crate::{
    Cursor, Match, Stop,
    audit::{Ending, Trail, matched_digest},
    matcher::Dropped,
};

/// What happens in a generation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// The model chose a token.
    Token {
        /// The model's number of it.
        id: u32,
        /// What it adds to the text.
        bytes: &'a [u8],
        /// The entropy of the step, in nats, where it is known.
        entropy: Option<f64>,
    },
    /// Text that is of no token.
    Text(&'a [u8]),
    /// The generation is over.
    End,
    /// Something that whoever runs the model does not know, or a fault of his.
    Unknown,
}

/// What becomes of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intervention {
    /// It may go on.
    Continue,
    /// It is stopped, and stays so.
    Stop(Stop),
}

/// How unsure of its tokens a model may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MostEntropy {
    /// A step has at most so much entropy, in nats,
    pub nats: f64,
    /// but for fewer steps in a row than this.
    pub steps: u32,
}

/// One generation under the rules of a cursor, with its audit. Once it is stopped it stays so, and whatever is no event stops it.
///
/// ```
/// use std::sync::Arc;
/// use decidable_guard::{Automaton, Cursor, Event, Intervention, Monitor, Rule};
///
/// let automaton = Automaton::new(vec![Rule::literal("drop", "DROP TABLE")])?;
/// let mut monitor = Monitor::new(Cursor::new(Arc::new(automaton)));
/// let mut out = Vec::new();
/// let mut token = |id, bytes| monitor.intervene(Event::Token { id, bytes, entropy: None }, 0, &mut out);
/// assert_eq!(token(17, b"so: DROP"), Intervention::Continue);
/// assert!(matches!(token(4, b" TABLE users"), Intervention::Stop(_)));
/// assert!(matches!(token(2, b"never mind"), Intervention::Stop(_)));
/// assert_eq!(out, b"so: ");
/// # Ok::<(), decidable_guard::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Monitor {
    cursor: Cursor,
    most: Option<MostEntropy>,
    /// Steps in a row that were above.
    above: u32,
    trail: Option<Trail>,
    /// The salt and all of the text, where digests of matches are wanted.
    salted: Option<([u8; 32], Vec<u8>)>,
    found: Vec<Match>,
    /// How many were not kept there.
    dropped: Dropped,
    over: bool,
}

impl Monitor {
    /// A generation from its beginning on.
    #[must_use]
    pub fn new(mut cursor: Cursor) -> Self {
        // They are taken after each event: the audit has all.
        cursor.keep_all_matches();
        Self {
            cursor,
            most: None,
            above: 0,
            trail: None,
            salted: None,
            found: Vec::new(),
            dropped: Dropped::default(),
            over: false,
        }
    }

    /// The same, stopped where the model is less sure. A step whose entropy is not known counts as one that is above.
    #[must_use]
    pub fn with_most_entropy(self, most: MostEntropy) -> Self {
        Self {
            most: Some(most),
            ..self
        }
    }

    /// The same, with an audit. With a salt it has the digests of the matched texts, for which all of the text is kept meanwhile.
    #[must_use]
    pub fn with_trail(self, trail: Trail, salt: Option<[u8; 32]>) -> Self {
        Self {
            trail: Some(trail),
            salted: salt.map(|salt| (salt, Vec::new())),
            ..self
        }
    }

    /// The stream.
    #[must_use]
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The audit, whose bytes are for the caller to take away.
    pub const fn trail(&mut self) -> Option<&mut Trail> {
        self.trail.as_mut()
    }

    /// How many matches were not kept, because nobody took those before them: see [`MOST_MATCHES`](crate::MOST_MATCHES). An audit has them all.
    #[must_use]
    pub const fn matches_dropped(&self) -> u64 {
        self.dropped.0
    }

    /// Takes the matches that were noted or replaced since the last call.
    pub fn matches(&mut self) -> impl Iterator<Item = Match> {
        self.found.drain(..)
    }

    /// What becomes of the generation after an event. What may come out is added to `out`. `time_ns` is the caller's clock.
    pub fn intervene(&mut self, event: Event<'_>, time_ns: i64, out: &mut Vec<u8>) -> Intervention {
        if self.over {
            return self.intervention(matches!(event, Event::End));
        }
        match event {
            Event::Token { id, bytes, entropy } => {
                if let Some(trail) = &mut self.trail {
                    trail.token(id, time_ns);
                }
                if self.too_unsure(entropy) {
                    self.cursor.stop_for(Stop::Uncertain);
                } else {
                    self.push(bytes, out);
                }
            }
            Event::Text(text) => self.push(text, out),
            Event::End => {
                self.cursor.finish(out);
                self.over = true;
            }
            Event::Unknown => {
                self.cursor.fail();
            }
        }
        self.note();
        self.over |= self.cursor.stopped().is_some();
        if let (true, Some(trail)) = (self.over, &mut self.trail) {
            let ending = Ending::of(self.cursor.stopped());
            // What is replaced may reach beyond the match that stops, where the text ends.
            let taken = self.cursor.taken();
            trail.end(ending, time_ns, taken, self.cursor.released().min(taken));
        }
        self.intervention(true)
    }

    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Some((_, text)) = &mut self.salted {
            text.extend_from_slice(bytes);
        }
        // A token is chosen before the next one shows which match counts: where it is certain that one stops, none is asked for.
        if self.cursor.push(bytes, out).is_none() {
            self.cursor.stop_undecided(out);
        }
    }

    /// A generation that is over does not go on: what comes after its end stops it.
    fn intervention(&mut self, may_go_on: bool) -> Intervention {
        match self.cursor.stopped() {
            Some(stop) => Intervention::Stop(stop),
            None if may_go_on => Intervention::Continue,
            None => Intervention::Stop(self.cursor.fail()),
        }
    }

    fn too_unsure(&mut self, entropy: Option<f64>) -> bool {
        let Some(most) = self.most else { return false };
        // No number is at most another if it is none.
        let sure = entropy.is_some_and(|entropy| entropy <= most.nats);
        self.above = if sure { 0 } else { self.above.saturating_add(1) };
        self.above >= most.steps && !sure
    }

    /// Notes what matched, the match that stopped last.
    fn note(&mut self) {
        self.note_in_audit();
        self.found.truncate(self.dropped.kept_of(self.found.len()));
    }

    fn note_in_audit(&mut self) {
        let from = self.found.len();
        self.found.extend(self.cursor.matches());
        if let Some(new) = self.found.get_mut(from..) {
            new.sort_unstable_by_key(Match::order);
        }
        let Some(trail) = &mut self.trail else { return };
        let stopped = match self.cursor.stopped() {
            Some(Stop::Matched(found)) => Some(found),
            _ => None,
        };
        let salted = self.salted.as_ref();
        let digest = |found: &Match| -> Option<Digest> {
            let (start, end) = (cast::usize_from_u64(found.start)?, cast::usize_from_u64(found.end)?);
            let (salt, text) = salted?;
            Some(matched_digest(salt, text.get(start..end)?))
        };
        let new = self.found.get(from..).unwrap_or_default();
        for found in new.iter().chain(&stopped) {
            trail.matched(found, digest(found).as_ref());
        }
    }
}
