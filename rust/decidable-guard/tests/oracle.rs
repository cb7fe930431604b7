//! The cursor beside an oracle that has the whole text and looks everywhere: the same matches, not a byte of one released, and not a byte
//! held that could be.

#![allow(missing_docs, clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, OnceLock},
};

use decidable_guard::{Action, Automaton, Check, Cursor, Match, Pattern, Reads, Rule, Stop};
use regex_syntax::hir::{Class, HirKind};

/// A pattern, which can be written and can be looked for.
#[derive(Clone, Debug)]
enum Node {
    Char(char),
    Class(Vec<char>, bool),
    Any,
    Concat(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
    Boundary(bool),
    Begin,
    End,
    /// What stands before.
    Behind(Box<Node>),
    /// None of these comes next.
    Ahead(Vec<char>),
}

fn is_word(text: &[char], at: usize) -> bool {
    text.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_')
}

fn escaped(c: char) -> String {
    if c.is_ascii_punctuation() && c != '_' {
        format!("\\{c}")
    } else {
        c.to_string()
    }
}

impl Node {
    fn written(&self) -> String {
        match self {
            Self::Char(c) => escaped(*c),
            Self::Class(chars, negated) => {
                let chars: String = chars.iter().map(|c| escaped(*c)).collect();
                format!("[{}{chars}]", if *negated { "^" } else { "" })
            }
            Self::Any => ".".to_owned(),
            Self::Concat(nodes) => nodes.iter().map(Self::written).collect(),
            Self::Either(nodes) => format!("(?:{})", nodes.iter().map(Self::written).collect::<Vec<_>>().join("|")),
            Self::Repeat(node, least, most) => {
                let most = most.map_or_else(String::new, |most| most.to_string());
                format!("(?:{}){{{least},{most}}}", node.written())
            }
            Self::Boundary(true) => r"\b".to_owned(),
            Self::Boundary(false) => r"\B".to_owned(),
            Self::Begin => "^".to_owned(),
            Self::End => "$".to_owned(),
            Self::Behind(node) => format!("(?<={})", node.written()),
            Self::Ahead(chars) => format!("(?![{}])", chars.iter().map(|c| escaped(*c)).collect::<String>()),
        }
    }

    /// Where matches end that begin at a place.
    fn ends(&self, text: &[char], at: usize) -> BTreeSet<usize> {
        let one = |yes: bool| if yes { BTreeSet::from([at + 1]) } else { BTreeSet::new() };
        let here = |yes: bool| if yes { BTreeSet::from([at]) } else { BTreeSet::new() };
        match self {
            Self::Char(c) => one(text.get(at) == Some(c)),
            Self::Class(chars, negated) => one(text
                .get(at)
                .is_some_and(|c| *c != PART && chars.contains(c) != *negated)),
            Self::Any => one(text.get(at).is_some_and(|c| *c != '\n' && *c != PART)),
            Self::Concat(nodes) => nodes.iter().fold(BTreeSet::from([at]), |ends, node| {
                ends.into_iter().flat_map(|at| node.ends(text, at)).collect()
            }),
            Self::Either(nodes) => nodes.iter().flat_map(|node| node.ends(text, at)).collect(),
            Self::Repeat(node, least, most) => {
                let mut found = BTreeSet::new();
                let mut ends = BTreeSet::from([at]);
                for times in 0..=most.unwrap_or(text.len() + least) {
                    if times >= *least {
                        found.extend(&ends);
                    }
                    let next = ends.iter().flat_map(|at| node.ends(text, *at)).collect();
                    if next == ends {
                        break;
                    }
                    ends = next;
                }
                found
            }
            Self::Boundary(wanted) => here((at > 0 && is_word(text, at - 1)) != is_word(text, at))
                .into_iter()
                .filter(|_| *wanted)
                .chain(
                    here((at > 0 && is_word(text, at - 1)) == is_word(text, at))
                        .into_iter()
                        .filter(|_| !wanted),
                )
                .collect(),
            Self::Begin => here(at == 0),
            Self::End => here(at == text.len()),
            Self::Behind(node) => here((0..=at).any(|start| node.ends(text, start).contains(&at))),
            Self::Ahead(chars) => here(text.get(at).is_none_or(|c| !chars.contains(c))),
        }
    }

    /// Whether it begins with what stands before it.
    fn looks_back(&self) -> bool {
        matches!(self, Self::Concat(nodes) if matches!(nodes.first(), Some(Self::Boundary(_) | Self::Begin | Self::Behind(_))))
    }

    /// Whether it takes characters which it does not name.
    fn takes_others(&self) -> bool {
        match self {
            Self::Any | Self::Class(_, true) => true,
            Self::Concat(nodes) | Self::Either(nodes) => nodes.iter().any(Self::takes_others),
            Self::Repeat(node, ..) => node.takes_others(),
            Self::Behind(node) => node.takes_others(),
            Self::Char(_) | Self::Class(_, false) | Self::Boundary(_) | Self::Begin | Self::End | Self::Ahead(_) => {
                false
            }
        }
    }

    /// The characters of which one that comes next decides whether it ends.
    fn ahead(&self) -> &[char] {
        match self {
            Self::Concat(nodes) => nodes.last().map_or(&[], Self::ahead),
            Self::Ahead(chars) => chars,
            _ => &[],
        }
    }

    /// How many characters may be missing, at most, from any state to the nearest match.
    fn reach(&self) -> usize {
        match self {
            Self::Char(_) | Self::Class(..) | Self::Any => 1,
            Self::Concat(nodes) => nodes.iter().map(Self::reach).sum(),
            Self::Either(nodes) => nodes.iter().map(Self::reach).max().unwrap_or(0),
            Self::Repeat(node, least, _) => node.reach() * (*least).max(1),
            Self::Boundary(_) | Self::Begin | Self::End | Self::Behind(_) | Self::Ahead(_) => 0,
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn node(&mut self, alphabet: &[char], depth: usize) -> Node {
        match self.below(if depth == 0 { 5 } else { 12 }) {
            0..=2 => Node::Char(self.of(alphabet)),
            3 => Node::Class(vec![self.of(alphabet), self.of(alphabet)], self.one_in(3)),
            4 if self.one_in(3) => Node::Any,
            4 => Node::Char(self.of(alphabet)),
            5 | 6 => Node::Concat((0..2 + self.below(2)).map(|_| self.node(alphabet, depth - 1)).collect()),
            7 | 8 => Node::Either((0..2).map(|_| self.node(alphabet, depth - 1)).collect()),
            9 | 10 => {
                let least = self.below(3);
                let most = if self.one_in(2) {
                    None
                } else {
                    Some(least + self.below(3))
                };
                Node::Repeat(Box::new(self.node(alphabet, depth - 1)), least, most)
            }
            _ => Node::Boundary(self.one_in(2)),
        }
    }

    fn pattern(&mut self, alphabet: &[char], depth: usize) -> Node {
        let mut nodes = vec![self.node(alphabet, depth)];
        if self.one_in(5) {
            nodes.insert(
                0,
                if self.one_in(3) {
                    Node::Begin
                } else {
                    Node::Boundary(true)
                },
            );
        } else if self.one_in(5) {
            let behind = self.node(alphabet, depth.min(1));
            nodes.insert(0, Node::Behind(Box::new(behind)));
        }
        if self.one_in(4) {
            nodes.push(if self.one_in(3) {
                Node::End
            } else {
                Node::Boundary(self.one_in(2))
            });
        } else if self.one_in(5) {
            let ascii: Vec<char> = alphabet.iter().copied().filter(char::is_ascii).collect();
            nodes.push(Node::Ahead((0..1 + self.below(2)).map(|_| self.of(&ascii)).collect()));
        }
        Node::Concat(nodes)
    }
}

/// Stands for a code point of which not all bytes have been read: something is there, and nothing matches it.
const PART: char = '\u{fffe}';

/// What an escape stands for that stands for nothing.
const NOTHING: char = '\u{fffd0}';

/// A code point as rules see it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    c: char,
    /// What it stands for in the stream.
    start: usize,
    end: usize,
    /// How many bytes of the stream must have come for its first byte to be seen, and for all of it.
    first: usize,
    whole: usize,
}

/// What the texts here have that is folded.
const FOLDED: [(char, &str); 5] = [('…', "..."), ('а', "a"), ('ｂ', "b"), ('²', "2"), ('’', "'")];

fn action_of(automaton: &Automaton, found: &Match) -> Option<Action> {
    automaton.rule_of(found).map(|rule| rule.action)
}

/// Format characters that are seen: signs that stand before a number and around it.
const SEEN: &str = r"[\u{600}-\u{605}\u{6dd}\u{70f}\u{890}\u{891}\u{8e2}\u{110bd}\u{110cd}]";

/// What nobody sees: control characters other than white space, and what Unicode gives no width.
fn is_unseen(c: char) -> bool {
    static UNSEEN: OnceLock<Vec<(char, char)>> = OnceLock::new();
    let unseen = UNSEEN.get_or_init(|| {
        let written = format!(r"[[\p{{Cc}}\p{{Cf}}\p{{Default_Ignorable_Code_Point}}]--{SEEN}--[\t-\r]]");
        let HirKind::Class(Class::Unicode(class)) = regex_syntax::parse(&written).unwrap().into_kind() else {
            return Vec::new();
        };
        class.iter().map(|range| (range.start(), range.end())).collect()
    });
    let place = unseen.partition_point(|(_, last)| *last < c);
    unseen.get(place).is_some_and(|(first, _)| *first <= c)
}

/// How many bytes it takes to know that a code point is none that nobody sees.
fn bytes_to_know(c: char) -> usize {
    static BEGINNINGS: OnceLock<HashSet<Vec<u8>>> = OnceLock::new();
    let beginnings = BEGINNINGS.get_or_init(|| {
        let unseen = (0x80..=0x10_ffff).filter_map(char::from_u32).filter(|c| is_unseen(*c));
        unseen
            .flat_map(|c| {
                let bytes = c.to_string().into_bytes();
                (1..bytes.len()).map(move |length| bytes[..length].to_vec())
            })
            .collect()
    });
    let bytes = c.to_string().into_bytes();
    (1..bytes.len())
        .find(|length| !beginnings.contains(&bytes[..*length]))
        .unwrap_or(bytes.len())
}

/// The code points of a document in JSON, and which are written as escapes.
fn unescaped(text: &str) -> Vec<(Seen, bool)> {
    let bytes = text.as_bytes();
    // How many bytes of a pattern are there from a place on: `u` is a hexadecimal digit.
    let follows = |at: usize, pattern: &str| {
        let fits = |(byte, wanted): (&u8, u8)| {
            if wanted == b'h' {
                byte.is_ascii_hexdigit()
            } else {
                *byte == wanted
            }
        };
        bytes[at.min(bytes.len())..]
            .iter()
            .zip(pattern.bytes())
            .take_while(|pair| fits(*pair))
            .count()
    };
    let number = |at: usize| u32::from_str_radix(&text[at + 2..at + 6], 16).unwrap();
    let mut found = Vec::new();
    let (mut at, mut known) = (0, 0);
    while at < bytes.len() {
        // The byte that shows that a pattern does not follow, or the end.
        let shown = |from: usize, pattern: &str| (from + follows(from, pattern) + 1).min(bytes.len() + 1);
        let mut seen = |c: char, length: usize, when: usize| {
            found.push((
                Seen {
                    c,
                    start: at,
                    end: at + length,
                    first: when,
                    whole: when,
                },
                true,
            ));
            length
        };
        let c = text[at..].chars().next().unwrap();
        if c != '\\' {
            found.push((
                Seen {
                    c,
                    start: at,
                    end: at + c.len_utf8(),
                    first: known.max(at + 1),
                    whole: known.max(at + c.len_utf8()),
                },
                false,
            ));
            at += c.len_utf8();
            continue;
        }
        let simple = [
            ('"', '"'),
            ('\\', '\\'),
            ('/', '/'),
            ('b', '\u{8}'),
            ('f', '\u{c}'),
            ('n', '\n'),
            ('r', '\r'),
            ('t', '\t'),
        ];
        let simple = simple.iter().find(|(written, _)| text[at + 1..].starts_with(*written));
        let length = if let Some((_, c)) = simple {
            seen(*c, 2, at + 2)
        } else if follows(at, "\\uhhhh") == 6 {
            match number(at) {
                high @ 0xd800..=0xdbff => {
                    let next = at + 6;
                    if follows(next, "\\uhhhh") == 6 && (0xdc00..=0xdfff).contains(&number(next)) {
                        let c = 0x1_0000 + ((high - 0xd800) << 10) + (number(next) - 0xdc00);
                        seen(char::from_u32(c).unwrap(), 12, at + 12)
                    } else if follows(next, "\\uhhhh") == 6 {
                        known = at + 12;
                        seen('\u{fffd}', 6, at + 12)
                    } else {
                        known = shown(next, "\\uhhhh");
                        seen('\u{fffd}', 6, known)
                    }
                }
                0xdc00..=0xdfff => seen('\u{fffd}', 6, at + 6),
                c => seen(char::from_u32(c).unwrap(), 6, at + 6),
            }
        } else if follows(at, "\\\n") == 2 {
            seen(NOTHING, 2, at + 2)
        } else if follows(at, "\\\r\n") == 3 {
            seen(NOTHING, 3, at + 3)
        } else if follows(at, "\\\r") == 2 {
            known = shown(at, "\\\r\n");
            seen(NOTHING, 2, known)
        } else {
            known = if bytes.get(at + 1) == Some(&b'u') {
                shown(at, "\\uhhhh")
            } else {
                (at + 2).min(bytes.len() + 1)
            };
            seen('\\', 1, known)
        };
        at += length;
    }
    found
}

/// A text as rules see it, and what they do not see.
fn seen(text: &str, json: bool, reads: Reads) -> (Vec<Seen>, Vec<Seen>) {
    let points = if json {
        unescaped(text)
    } else {
        let whole = |(start, c): (usize, char)| {
            let end = start + c.len_utf8();
            let seen = Seen {
                c,
                start,
                end,
                first: start + 1,
                whole: end,
            };
            (seen, false)
        };
        text.char_indices().map(whole).collect()
    };
    let (mut found, mut unseen) = (Vec::new(), Vec::new());
    for (point, escaped) in points {
        let late = |bytes: usize| {
            let first = if escaped {
                point.first
            } else {
                point.first.max(point.start + bytes)
            };
            Seen {
                first,
                whole: point.whole.max(first),
                ..point
            }
        };
        match reads {
            _ if point.c == NOTHING => unseen.push(point),
            Reads::Exact => found.push(point),
            _ if is_unseen(point.c) => unseen.push(late(point.c.len_utf8())),
            Reads::Visible => found.push(late(bytes_to_know(point.c))),
            Reads::Folded => {
                found.extend(folded(point.c).chars().map(|c| Seen {
                    c,
                    ..late(point.c.len_utf8())
                }));
            }
        }
    }
    (found, unseen)
}

/// Whether a stretch lies within one string of a document.
fn is_in_string(text: &str, start: usize, end: usize) -> bool {
    let quotes = unescaped(text)
        .into_iter()
        .filter(|(seen, escaped)| seen.c == '"' && !escaped)
        .map(|(seen, _)| seen.start)
        .collect::<Vec<_>>();
    quotes.iter().filter(|quote| **quote < start).count() % 2 == 1
        && !quotes.iter().any(|quote| (start..end).contains(quote))
}

/// What counts of a text that is checked.
fn counted(text: &[char]) -> impl Iterator<Item = char> {
    let counts = |c: &char| !matches!(c, ' ' | '-' | '.' | '_') && c.is_ascii();
    text.iter().copied().filter(counts)
}

/// Whether a text has something that no check lets pass, whatever comes after it.
fn failed(check: Check, text: &[char]) -> bool {
    match check {
        Check::Luhn => counted(text).any(|c| !c.is_ascii_digit()),
        Check::Iban => counted(text).enumerate().any(|(place, c)| match place {
            0 | 1 => !c.is_ascii_alphabetic(),
            2 | 3 => !c.is_ascii_digit(),
            _ => place > 33 || !c.is_ascii_alphanumeric(),
        }),
    }
}

fn passes(check: Check, text: &[char]) -> bool {
    let counted: Vec<char> = counted(text).collect();
    if failed(check, text) {
        return false;
    }
    match check {
        Check::Luhn => {
            let doubled = |(place, digit): (usize, &char)| match digit.to_digit(10).unwrap() * (1 + place as u32 % 2) {
                value @ 10.. => value - 9,
                value => value,
            };
            counted.len() > 1 && counted.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
        }
        Check::Iban => {
            let Some((head, rest)) = counted.split_at_checked(4) else {
                return false;
            };
            let digits: u32 = head[2..].iter().collect::<String>().parse().unwrap();
            // As one long number, a letter as two digits.
            let number = rest.iter().chain(head).map(|c| c.to_digit(36).unwrap().to_string());
            let modulo = number
                .collect::<String>()
                .chars()
                .fold(0, |modulo, digit| (modulo * 10 + digit.to_digit(10).unwrap()) % 97);
            !rest.is_empty() && (2..=98).contains(&digits) && modulo == 1
        }
    }
}

/// What became of a piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Out(char),
    Replaced(usize, usize, usize),
}

/// A rule, and where it matches: `(rule, start, end)`.
type Found = (usize, usize, usize);

/// What begins first comes first, and of that the longest.
fn order(found: &Found) -> (usize, std::cmp::Reverse<usize>, usize) {
    (found.1, std::cmp::Reverse(found.2), found.0)
}

#[derive(Clone, Debug)]
struct Spec {
    node: Node,
    /// As it is written, if it is no regular expression.
    literal: Option<String>,
    action: Action,
    /// Whether a text matches in either case.
    ignore_case: bool,
    reads: Reads,
    check: Option<Check>,
    /// From where on it is not computed what passes, and whether everything does that has not failed before.
    beyond: Option<(usize, bool)>,
}

impl Spec {
    fn ends(&self, text: &[char], start: usize) -> BTreeSet<usize> {
        let mut ends = self.node.ends(text, start);
        if let Some(check) = self.check {
            ends.retain(|end| match self.beyond {
                Some((place, passing)) if *end > place => passing && !failed(check, &text[start.min(place)..place]),
                _ => passes(check, &text[start..*end]),
            });
        }
        ends
    }
}

#[derive(Clone)]
struct Case {
    rules: Vec<Spec>,
}

/// A match that a text is stopped at.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    found: Found,
    /// Whether it is the one whatever comes next.
    decided: bool,
    /// The one that would be if nothing counted but what matches whatever comes next.
    certain: Option<Found>,
}

/// What rules make of a stream, in places of the stream.
#[derive(Debug)]
struct Told {
    out: String,
    stop: Option<Found>,
    redacted: Vec<Found>,
    recorded: Vec<Found>,
    /// Redactions that cannot be written, where it is a document.
    unwritable: Vec<Found>,
    /// What is redacted where it is not the rule that stops which ends the stream.
    selected: Vec<Found>,
    /// Whether it is certain before what comes next that the stream is stopped, and not at which match.
    waited: bool,
    /// How many bytes must have come for it to be certain that a rule stops it.
    sure: Option<usize>,
}

impl Case {
    fn read_as(&self, reads: Reads) -> Self {
        let rule = |rule: &Spec| Spec {
            action: if rule.reads == reads {
                rule.action
            } else {
                Action::Ignore
            },
            ..rule.clone()
        };
        Self {
            rules: self.rules.iter().map(rule).collect(),
        }
    }

    fn selected(&self, action: Action, text: &[char]) -> Vec<Found> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let longest = self
                .rules
                .iter()
                .enumerate()
                .filter(|(_, spec)| spec.action == action)
                .filter_map(|(rule, spec)| Some((*spec.ends(text, at).last()?, rule)))
                .max_by_key(|(end, rule)| (*end, std::cmp::Reverse(*rule)));
            match longest {
                Some((end, rule)) if end > at => {
                    found.push((rule, at, end));
                    at = end;
                }
                _ => at += 1,
            }
        }
        found
    }

    /// The match that the text is stopped at, if one ends at this place: of those that do the one that begins first, and of those the first
    /// rule's.
    fn stopped_at(&self, text: &[char], end: usize) -> Option<Stopped> {
        let matched = |text: &[char]| -> BTreeSet<(usize, usize)> {
            let stopping = self
                .rules
                .iter()
                .enumerate()
                .filter(|(_, spec)| spec.action == Action::Stop);
            stopping
                .flat_map(|(rule, spec)| {
                    (0..end)
                        .filter(|start| spec.ends(text, *start).contains(&end))
                        .map(move |start| (start, rule))
                })
                .collect()
        };
        let found = matched(text).first().copied()?;
        let so_far = &text[..end];
        let ahead = self.rules.iter().flat_map(|spec| spec.node.ahead()).copied();
        let next = [None, Some('a'), Some(' '), Some('\n'), Some('\r')].into_iter();
        let next = next.chain(ahead.map(Some));
        let ways: Vec<_> = next
            .map(|next| matched(&so_far.iter().copied().chain(next).collect::<Vec<_>>()))
            .collect();
        let certain = ways[0].iter().find(|found| ways.iter().all(|way| way.contains(found)));
        let of = |(start, rule): (usize, usize)| (rule, start, end);
        Some(Stopped {
            found: of(found),
            decided: ways.iter().all(|way| way.first() == Some(&found)),
            certain: certain.copied().map(of),
        })
    }

    /// What the rules make of a whole text that they all see as it is.
    fn tokens(&self, text: &[char]) -> Vec<Token> {
        let stop = (0..=text.len()).find_map(|end| self.stopped_at(text, end));
        let text = stop.map_or(text, |stop| &text[..stop.found.2]);
        let until = stop.map_or(text.len(), |stop| stop.found.1);
        let mut tokens = Vec::new();
        let mut at = 0;
        for (rule, start, end) in self.selected(Action::Redact, text) {
            if start >= until {
                break;
            }
            tokens.extend(text[at..start].iter().map(|c| Token::Out(*c)));
            tokens.push(Token::Replaced(rule, start, end));
            at = end;
        }
        if at < until {
            tokens.extend(text[at..until].iter().map(|c| Token::Out(*c)));
        }
        tokens
    }

    /// What the rules make of a whole stream.
    fn told(&self, text: &str, json: bool) -> Told {
        let lanes = Reads::ALL.map(|reads| (self.read_as(reads), seen(text, json, reads).0));
        let stops = lanes.iter().enumerate().filter_map(|(lane, (case, seen))| {
            let chars: Vec<char> = seen.iter().map(|seen| seen.c).collect();
            let stopped = (0..=chars.len()).find_map(|end| case.stopped_at(&chars, end))?;
            let end = stopped.found.2;
            let when = match seen.get(end) {
                _ if stopped.decided => seen[end - 1].whole,
                Some(next) => next.first,
                None => text.len() + 2,
            };
            Some((lane, seen, stopped, when))
        });
        let stops: Vec<_> = stops.collect();
        let when = stops.iter().map(|(.., when)| *when).min();
        // Where the next byte would have shown which of several it is, and other rules have stopped the text before, it is one that is certain.
        let known = stops.iter().filter_map(|(lane, seen, stopped, known)| {
            let certain = stopped.certain.filter(|found| seen[found.2 - 1].whole <= when.unwrap());
            let (rule, start, end) = if Some(*known) == when {
                Some(stopped.found)
            } else {
                certain
            }?;
            Some((when.unwrap(), seen[end - 1].end, seen[start].start, rule, *lane, end))
        });
        let stop = known.min();
        let waited = stops
            .iter()
            .any(|(_, _, stopped, _)| !stopped.decided && stopped.certain.is_some());
        let sure = stops.iter().map(|(_, seen, stopped, known)| match stopped.certain {
            Some((_, _, end)) => seen[end - 1].whole.min(*known),
            None => *known,
        });
        let sure = sure.min();
        let mut redacted = Vec::new();
        let mut recorded = Vec::new();
        for (lane, (case, seen)) in lanes.iter().enumerate() {
            let over = match stop {
                Some((_, _, _, _, of, end)) if of == lane => end,
                // What the others had read before it was known that the match ends there they have read.
                Some((when, raw_end, ..)) => {
                    let read = |seen: &&Seen| seen.end <= raw_end || seen.whole < when;
                    seen.iter().take_while(read).count()
                }
                None => seen.len(),
            };
            let mut chars: Vec<char> = seen[..over].iter().map(|seen| seen.c).collect();
            if let (Some((when, _, _, _, of, _)), Some(next)) = (stop, seen.get(over))
                && of != lane
                && next.first < when
            {
                chars.push(PART);
            }
            let raw = |(rule, start, end): Found| (rule, seen[start].start, seen[end - 1].end);
            redacted.extend(case.selected(Action::Redact, &chars).into_iter().map(raw));
            recorded.extend(case.selected(Action::Record, &chars).into_iter().map(raw));
        }
        redacted.sort_by_key(order);
        recorded.sort_by_key(order);
        let unwritable: Vec<Found> = redacted
            .iter()
            .filter(|(_, start, end)| json && !is_in_string(text, *start, *end))
            .copied()
            .collect();
        let stop = stop.map(|(_, end, start, rule, ..)| (rule, start, end));
        let selected = redacted;
        let (out, redacted) = rendered(text, &selected, stop.map_or(text.len(), |(_, start, _)| start));
        Told {
            out,
            stop,
            redacted,
            recorded,
            unwritable,
            selected,
            waited,
            sure,
        }
    }

    /// What is redacted and what is noted where the stream ends after so many bytes for a reason that is not in its rules' matches: every
    /// rule has read all that can be read by then, and takes that for the whole.
    fn selected_after(&self, text: &str, json: bool, taken: usize) -> [Vec<Found>; 2] {
        let lanes = Reads::ALL.map(|reads| (self.read_as(reads), seen(text, json, reads).0));
        [Action::Redact, Action::Record].map(|action| {
            let lanes = lanes.iter().flat_map(|(case, seen)| {
                let read = seen.iter().take_while(|seen| seen.whole <= taken);
                let mut chars: Vec<char> = read.map(|seen| seen.c).collect();
                if seen.get(chars.len()).is_some_and(|next| next.first <= taken) {
                    chars.push(PART);
                }
                let raw = |(rule, start, end): Found| (rule, seen[start].start, seen[end - 1].end);
                case.selected(action, &chars).into_iter().map(raw).collect::<Vec<_>>()
            });
            let mut found: Vec<_> = lanes.collect();
            found.sort_by_key(order);
            found
        })
    }

    fn automaton(&self) -> Option<Arc<Automaton>> {
        let rules = self.rules.iter().enumerate().map(|(number, spec)| Rule {
            name: format!("rule {number}"),
            pattern: match &spec.literal {
                Some(text) => Pattern::Literal {
                    text: text.clone(),
                    ignore_case: spec.ignore_case,
                },
                None => Pattern::Regex(spec.node.written()),
            },
            action: spec.action,
            replacement: format!("<{number}>"),
            check: spec.check,
            reads: spec.reads,
            severity: decidable_guard::Severity::High,
        });
        // Patterns that can be empty, or can match nothing, are no rules.
        Automaton::new(rules.collect()).ok().map(Arc::new)
    }

    fn shown(&self) -> String {
        let rules = self.rules.iter().map(|spec| {
            let check = spec.check.map_or_else(String::new, |check| format!(", {check}"));
            let case = if spec.ignore_case { ", in either case" } else { "" };
            let (node, literal) = (spec.node.written(), spec.literal.as_deref());
            format!(
                "{:?} {}, {}{case}{check}",
                literal.unwrap_or(&node),
                spec.action,
                spec.reads
            )
        });
        rules.collect::<Vec<_>>().join("; ")
    }
}

/// A text with what is redacted replaced, up to a place; what overlaps is replaced by the first, and how much was.
fn rendered(text: &str, redacted: &[Found], until: usize) -> (String, Vec<Found>) {
    let (mut out, mut at, mut done) = (String::new(), 0, Vec::new());
    for (rule, start, end) in redacted {
        if *start >= until.max(at) {
            break;
        }
        if *start >= at {
            out += &text[at..*start];
            out += &format!("<{rule}>");
        }
        at = at.max(*end);
        done.push((*rule, *start, *end));
    }
    if at < until {
        out += &text[at..until];
    }
    (out, done)
}

/// The shortest that pass, and parts of them.
const IBANS: [&str; 10] = [
    "ab451", "ab66b", "aB6611", "ba55a1", "aa3377", "ab224a1", "aa48 1", "AA-96a", "ab", "45",
];

/// What rules are drawn from.
struct Family {
    alphabet: &'static [char],
    /// What texts have besides.
    pieces: &'static [&'static str],
    reads: &'static [Reads],
    checks: &'static [Check],
    json: bool,
}

fn folded(c: char) -> String {
    let looks = FOLDED.iter().find(|(written, _)| *written == c);
    looks.map_or_else(|| c.to_string(), |(_, looks)| (*looks).to_owned())
}

/// As long as an IBAN is at least, of the letters and digits of an alphabet and what may stand between them.
fn as_long_as_an_iban(random: &mut Random, alphabet: &[char]) -> Node {
    let chars: Vec<char> = alphabet
        .iter()
        .copied()
        .filter(|c| c.is_ascii_alphanumeric() || *c == ' ')
        .collect();
    let least = 3 + random.below(4);
    let most = if random.one_in(2) {
        Some(least + random.below(4))
    } else {
        None
    };
    let mut nodes = vec![Node::Repeat(Box::new(Node::Class(chars, false)), least, most)];
    if random.one_in(2) {
        nodes.insert(0, Node::Boundary(true));
    }
    if random.one_in(2) {
        nodes.push(Node::Boundary(true));
    }
    Node::Concat(nodes)
}

fn case(random: &mut Random, alphabet: &[char], depth: usize, reads: &[Reads], checks: &[Check]) -> Case {
    let actions = [Action::Stop, Action::Redact, Action::Redact, Action::Record];
    let rules = (0..1 + random.below(4)).map(|_| {
        let reads = random.of(reads);
        let literal = random.one_in(3).then(|| {
            (0..1 + random.below(3))
                .map(|_| random.of(alphabet))
                .collect::<String>()
        });
        let ignore_case = literal.is_some() && random.one_in(2);
        let check = (!checks.is_empty() && random.one_in(2)).then(|| random.of(checks));
        let node = match &literal {
            // A text is looked for as its rule sees it.
            Some(text) => {
                let seen = |c: char| {
                    if reads == Reads::Folded {
                        folded(c)
                    } else {
                        c.to_string()
                    }
                };
                let chars: Vec<char> = text.chars().flat_map(|c| seen(c).chars().collect::<Vec<_>>()).collect();
                let in_either = |c: char| {
                    if ignore_case {
                        Node::Class(vec![c.to_ascii_lowercase(), c.to_ascii_uppercase()], false)
                    } else {
                        Node::Char(c)
                    }
                };
                Node::Concat(chars.into_iter().map(in_either).collect())
            }
            None if check == Some(Check::Iban) && random.one_in(2) => as_long_as_an_iban(random, alphabet),
            None => random.pattern(alphabet, depth),
        };
        Spec {
            node,
            literal,
            action: random.of(&actions),
            ignore_case,
            reads,
            check,
            beyond: None,
        }
    });
    let mut rules: Vec<_> = rules.collect();
    if random.one_in(4) {
        // A second that stops where one of them does, if what comes next says so.
        let place = random.below(rules.len());
        rules[place].action = Action::Stop;
        let ends = if random.one_in(4) {
            Node::End
        } else {
            Node::Boundary(random.one_in(2))
        };
        let mut nodes = vec![rules[place].node.clone(), ends];
        if !rules[place].node.looks_back() {
            let most = random.below(3);
            nodes.insert(0, Node::Repeat(Box::new(random.node(alphabet, 0)), 0, Some(most)));
        }
        let again = Spec {
            node: Node::Concat(nodes),
            literal: None,
            ignore_case: false,
            reads: if random.one_in(4) {
                random.of(reads)
            } else {
                rules[place].reads
            },
            ..rules[place].clone()
        };
        rules.insert(random.below(rules.len() + 1), again);
    }
    Case { rules }
}

fn seed() -> u64 {
    std::env::var("DECIDABLE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| {
            let since = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap();
            u64::try_from(since.as_nanos()).unwrap_or(1)
        })
}

fn cases(usual: usize) -> usize {
    std::env::var("DECIDABLE_GUARD_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(usual)
}

/// A stream in random chunks.
fn run(cursor: &mut Cursor, random: &mut Random, bytes: &[u8]) -> (String, Vec<Match>) {
    let mut out = Vec::new();
    let mut matches = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() && cursor.stopped().is_none() {
        let (chunk, more) = rest.split_at(1 + random.below(rest.len()));
        cursor.push(chunk, &mut out);
        matches.extend(cursor.matches());
        rest = more;
    }
    cursor.finish(&mut out);
    matches.extend(cursor.matches());
    (String::from_utf8(out).unwrap(), matches)
}

/// How many bytes of a document come until the stream is stopped. Its end is two more: what was no escape is read, and then it is over.
fn place_of_the_stop(mut cursor: Cursor, text: &str) -> usize {
    let mut stops = |byte: u8| cursor.push(&[byte], &mut Vec::new()).is_some();
    let at_the_end = if unescaped(text).iter().any(|(seen, _)| seen.whole > text.len()) {
        text.len() + 1
    } else {
        text.len() + 2
    };
    text.bytes().position(&mut stops).map_or(at_the_end, |place| place + 1)
}

fn chunks_give_what_the_whole_gives(family: &Family, usual: usize) {
    let seed = seed();
    println!("DECIDABLE_SEED={seed}");
    let mut random = Random(seed);
    let (mut done, mut stopped, mut replaced, mut waited, mut refused) = (0, 0, 0, 0, 0);
    while done < cases(usual) {
        let alphabet = &family.alphabet[..3 + random.below(family.alphabet.len() - 2)];
        let case = case(&mut random, alphabet, 2, family.reads, family.checks);
        let Some(automaton) = case.automaton() else { continue };
        for _ in 0..3 {
            done += 1;
            let piece = |random: &mut Random| {
                if !family.pieces.is_empty() && random.one_in(3) {
                    random.of(family.pieces).to_owned()
                } else {
                    random.of(alphabet).to_string()
                }
            };
            let text: String = (0..random.below(14)).map(|_| piece(&mut random)).collect();
            let told = case.told(&text, family.json);
            waited += usize::from(told.waited);
            let mut cursor = Cursor::new(Arc::clone(&automaton));
            if family.json {
                cursor = cursor.reading_json();
            }
            let fresh = cursor.clone();
            let (out, matches) = run(&mut cursor, &mut random, text.as_bytes());
            // Every way to cut it in two, also inside of an escape and of a code point.
            for (first, second) in (0..=text.len()).map(|place| text.as_bytes().split_at(place)) {
                let (mut cut, mut again) = (fresh.clone(), Vec::new());
                cut.push(first, &mut again);
                let mut found: Vec<_> = cut.matches().collect();
                cut.push(second, &mut again);
                found.extend(cut.matches());
                cut.finish(&mut again);
                found.extend(cut.matches());
                let sorted = |matches: &[Match]| {
                    let mut sorted = matches.to_vec();
                    sorted.sort_by_key(|found| (found.rule, found.start, found.end));
                    sorted
                };
                let same =
                    again == out.as_bytes() && cut.stopped() == cursor.stopped() && sorted(&found) == sorted(&matches);
                assert!(
                    same,
                    "DECIDABLE_SEED={seed} {} on {text:?} cut at {}",
                    case.shown(),
                    first.len()
                );
            }
            let shown = || format!("DECIDABLE_SEED={seed} {} on {text:?}", case.shown());
            let raw = |found: &Match| (found.rule, found.start as usize, found.end as usize);
            let found = match cursor.stopped() {
                Some(Stop::Matched(found)) => Some(raw(&found)),
                other => {
                    assert_eq!(other, None);
                    None
                }
            };
            let of = |action| {
                let of = matches
                    .iter()
                    .filter(|found| action_of(&automaton, found) == Some(action));
                // Those that have become one are told as they are found.
                let mut of: Vec<_> = of.map(raw).collect();
                of.sort_by_key(order);
                of
            };
            let (recorded, redacted) = (of(Action::Record), of(Action::Redact));
            // It is stopped, whether by a rule or at what cannot be written.
            assert!(told.unwritable.is_empty() || found.is_some(), "{}", shown());
            if let Some(found) = found.filter(|_| !told.unwritable.is_empty() && found != told.stop) {
                // It is stopped at a redaction that cannot be written, as soon as that one is certain whatever comes: after so many bytes,
                // or at the end. There the text ends for all rules, and nothing comes out of what cannot be written.
                let place = place_of_the_stop(fresh, &text);
                let unwritable = |found: &Found| !is_in_string(&text, found.1, found.2);
                for later in place..=text.len() + 2 {
                    let [redacted, _] = case.selected_after(&text, family.json, later);
                    let certain = redacted.contains(&found) && unwritable(&found);
                    assert!(certain, "{found:?} after {place}, not after {later}: {}", shown());
                }
                // A rule that stops, too, counts before it.
                assert!(told.sure.is_none_or(|sure| place < sure), "{place}: {}", shown());
                let [selected, noted] = case.selected_after(&text, family.json, place);
                let until = selected.iter().find(|found| unwritable(found)).unwrap().1;
                let (expected, replaced) = rendered(&text, &selected, until);
                assert_eq!(out, expected, "{found:?} after {place}: {}", shown());
                assert_eq!(redacted, replaced, "{found:?} after {place}: {}", shown());
                assert_eq!(recorded, noted, "{found:?} after {place}: {}", shown());
                refused += 1;
                continue;
            }
            if let (Some(stop), Some(first)) = (found, told.unwritable.first()) {
                // A rule stops it first, or at the same byte; what cannot be written does not come out, either.
                let (expected, replaced) = rendered(&text, &told.selected, stop.1.min(first.1));
                assert_eq!(out, expected, "{stop:?}: {}", shown());
                assert_eq!(redacted, replaced, "{stop:?}: {}", shown());
                assert_eq!(recorded, told.recorded, "{stop:?}: {}", shown());
                continue;
            }
            assert_eq!(out, told.out, "{}", shown());
            assert_eq!(found, told.stop, "{}", shown());
            assert_eq!(recorded, told.recorded, "{}", shown());
            assert_eq!(redacted, told.redacted, "{}", shown());
            stopped += usize::from(found.is_some());
            replaced += told.redacted.len();
        }
    }
    assert!(
        stopped > done / 50 && replaced > done / 50 && waited > done / 200,
        "{stopped}, {replaced} and {waited} of {done}"
    );
    assert!(!family.json || refused > done / 50, "{refused} of {done}");
}

#[test]
fn any_chunks_give_what_the_whole_text_gives() {
    let family = Family {
        alphabet: &['a', 'b', 'c', 'A', ' ', '_', 'é', 'अ', 'B', '😀', '\n'],
        pieces: &[],
        reads: &[Reads::Visible],
        checks: &[],
        json: false,
    };
    chunks_give_what_the_whole_gives(&family, 20_000);
}

#[test]
fn any_chunks_of_a_document_give_what_its_strings_give() {
    let family = Family {
        alphabet: &['a', 'b', '"', 'A', ' ', '\u{fffd}', '\\', 'u', '😀', '\n', ':'],
        pieces: &[
            "\"",
            "\"",
            "\"",
            "\"",
            r"\u0061",
            r"\u0062",
            r"\n",
            r#"\""#,
            r"\\",
            r"\ud83d\ude00",
            r"\ud83d",
            r"\ude00",
            r"\u00",
            r"\x",
            "\\",
            "0",
            "0",
        ],
        reads: &[Reads::Exact],
        checks: &[],
        json: true,
    };
    chunks_give_what_the_whole_gives(&family, 10_000);
}

#[test]
fn any_chunks_give_what_a_check_lets_pass() {
    let family = Family {
        alphabet: &['5', '9', '1', '_', '.', '\u{a0}', '0', '\\', '-', ' ', '2', 'n', 'b'],
        pieces: &[],
        reads: &[Reads::Visible],
        checks: &[Check::Luhn],
        json: false,
    };
    chunks_give_what_the_whole_gives(&family, 10_000);
}

#[test]
fn any_chunks_give_what_the_check_of_an_iban_lets_pass() {
    let family = Family {
        alphabet: &['a', '1', 'b', '4', ' ', 'A', '7', '-', '_', '.', '\u{a0}', '0'],
        pieces: &IBANS,
        reads: &[Reads::Visible],
        checks: &Check::ALL,
        json: false,
    };
    chunks_give_what_the_whole_gives(&family, 10_000);
}

#[test]
fn any_chunks_give_what_each_reading_gives() {
    let family = Family {
        alphabet: &['a', 'b', '.', ' ', '2', 'A', '…', 'é', '’', 'а', 'अ'],
        pieces: &[
            "\u{200b}",
            "\u{ad}",
            "\0",
            "\u{85}",
            "\u{fe0f}",
            "\u{e0041}",
            "ｂ",
            "²",
            "←",
        ],
        reads: &Reads::ALL,
        checks: &[],
        json: false,
    };
    chunks_give_what_the_whole_gives(&family, 10_000);
}

#[test]
fn any_chunks_of_a_document_give_what_each_reading_of_its_strings_gives() {
    let family = Family {
        alphabet: &['a', 'b', '"', '5', '.', '\\', '9', '’', '1'],
        pieces: &[
            "\"",
            "\"",
            "\"",
            r"\u0061",
            r"\u200B",
            r"\u00ad",
            "\u{200b}",
            r"\u0000",
            r"\b",
            r"\udb40\udc41",
            r"\u2026",
            "…",
            r"\u0430",
            "а",
            r"\ud83d",
            r"\ud",
            r"\n",
            "\\\n",
            "\\\r",
            "\n",
        ],
        reads: &Reads::ALL,
        checks: &[Check::Luhn],
        json: true,
    };
    chunks_give_what_the_whole_gives(&family, 10_000);
}

/// Kilobytes, in chunks of any size, so that what is looked for lies at the edges of whatever is read at once. Between the short texts stand
/// long runs of what no rule takes: that each is as if it were two characters long, the oracle knows.
#[test]
fn any_chunks_of_long_texts_give_what_short_ones_give() {
    const RUN: &str = "##";
    let seed = seed();
    println!("DECIDABLE_SEED={seed}");
    let mut random = Random(seed);
    let alphabet = ['a', 'b', ' ', 'A', 'c', 'é', '_'];
    let (mut done, mut stopped, mut replaced) = (0, 0, 0);
    while done < cases(2_000) {
        let alphabet = &alphabet[..3 + random.below(5)];
        let case = case(&mut random, alphabet, 2, &[Reads::Exact, Reads::Visible], &[]);
        if case.rules.iter().any(|spec| spec.node.takes_others()) {
            continue;
        }
        let Some(automaton) = case.automaton() else { continue };
        done += 1;
        let (mut short, mut runs) = (String::new(), Vec::new());
        for _ in 0..1 + random.below(4) {
            short.extend((0..random.below(5)).map(|_| random.of(alphabet)));
            short += RUN;
            let most = if random.one_in(2) { 4_096 } else { 100 };
            let length = 2 + random.below(most);
            runs.push(
                (0..length)
                    .map(|_| random.of(&['#', '-', ';', '+']))
                    .collect::<String>(),
            );
        }
        short.extend((0..random.below(5)).map(|_| random.of(alphabet)));
        // What comes out of the short text is a beginning of it but for what was replaced, and no match has a part of a run.
        let long = |short: &str| {
            let mut parts = short.split(RUN);
            let first = parts.next().unwrap().to_owned();
            parts.zip(&runs).fold(first, |long, (part, run)| long + run + part)
        };
        let place = |at: usize| long(&short[..at]).len();
        let placed = |(rule, start, end): Found| (rule, place(start), place(end));
        let told = case.told(&short, false);
        let text = long(&short);
        let mut cursor = Cursor::new(Arc::clone(&automaton));
        let (out, matches) = run(&mut cursor, &mut random, text.as_bytes());
        let shown = || format!("DECIDABLE_SEED={seed} {} on {text:?}", case.shown());
        assert_eq!(out, long(&told.out), "{}", shown());
        let raw = |found: &Match| (found.rule, found.start as usize, found.end as usize);
        let found = match cursor.stopped() {
            Some(Stop::Matched(found)) => Some(raw(&found)),
            other => {
                assert_eq!(other, None, "{}", shown());
                None
            }
        };
        assert_eq!(found, told.stop.map(placed), "{}", shown());
        for (action, expected) in [(Action::Record, &told.recorded), (Action::Redact, &told.redacted)] {
            let of_it = matches
                .iter()
                .filter(|found| action_of(&automaton, found) == Some(action));
            let mut of_it: Vec<_> = of_it.map(raw).collect();
            of_it.sort_by_key(order);
            let expected: Vec<_> = expected.iter().copied().map(placed).collect();
            assert_eq!(of_it, expected, "{}", shown());
        }
        stopped += usize::from(found.is_some());
        replaced += told.redacted.len();
    }
    assert!(
        stopped > done / 50 && replaced > done / 50,
        "{stopped} and {replaced} of {done}"
    );
}

/// Also where they are no text, where escapes and code points break off, and where more would be held than may be.
#[test]
fn any_bytes_give_the_same_however_they_are_cut() {
    const PIECES: [&[u8]; 26] = [
        b"a",
        b"b",
        b"A",
        b"ab451",
        b" ",
        b".",
        b"5",
        b"9",
        b"\"",
        b"\"",
        b"\\",
        b"\\u",
        b"0061",
        b"\\ud83d",
        b"\\ude00",
        b"\\n",
        b"\xe2",
        b"\x80",
        b"\x8b",
        b"\xa6",
        b"\xf3\xa0",
        b"\xc2",
        b"\xad",
        b"\xff",
        b"\0",
        "\u{430}".as_bytes(),
    ];
    let seed = seed();
    println!("DECIDABLE_SEED={seed}");
    let mut random = Random(seed);
    let (mut done, mut stopped, mut beyond, mut redacted) = (0, 0, 0, 0);
    while done < cases(20_000) {
        let case = case(
            &mut random,
            &['a', 'b', '5', ' ', '.', '9', '"', 'A'],
            2,
            &Reads::ALL,
            &Check::ALL,
        );
        let Some(automaton) = case.automaton() else { continue };
        for _ in 0..3 {
            done += 1;
            let bytes = (0..random.below(16))
                .map(|_| random.of(&PIECES))
                .collect::<Vec<_>>()
                .concat();
            let json = random.one_in(2);
            let max_hold = if random.one_in(3) { random.below(8) } else { 1_000 };
            let mut told = |size: usize| {
                let mut cursor = Cursor::new(Arc::clone(&automaton)).with_max_hold(max_hold);
                if json {
                    cursor = cursor.reading_json();
                }
                let (mut out, mut matches, mut rest) = (Vec::new(), Vec::new(), bytes.as_slice());
                while !rest.is_empty() {
                    let size = if size == 0 {
                        1 + random.below(rest.len())
                    } else {
                        size.min(rest.len())
                    };
                    let (chunk, more) = rest.split_at(size);
                    cursor.push(chunk, &mut out);
                    matches.extend(cursor.matches());
                    assert!(cursor.held() <= max_hold);
                    rest = more;
                }
                cursor.finish(&mut out);
                matches.extend(cursor.matches());
                matches.sort_by_key(|found| (action_of(&automaton, found), found.start, found.end, found.rule));
                (out, cursor.stopped(), matches)
            };
            let whole = told(bytes.len().max(1));
            match whole.1 {
                Some(Stop::Matched(_)) => stopped += 1,
                Some(_) => beyond += 1,
                None => {}
            }
            redacted += whole
                .2
                .iter()
                .filter(|found| action_of(&automaton, found) == Some(Action::Redact))
                .count();
            for size in [0, 1, 2] {
                assert_eq!(
                    told(size),
                    whole,
                    "DECIDABLE_SEED={seed} {} on {bytes:?}, json {json}, {max_hold}",
                    case.shown()
                );
            }
            if case.rules.iter().all(|spec| spec.action != Action::Redact) {
                assert!(bytes.starts_with(&whole.0));
                let all = whole.1.is_none();
                assert!(
                    !all || bytes == whole.0,
                    "DECIDABLE_SEED={seed} {} on {bytes:?}",
                    case.shown()
                );
            }
        }
    }
    assert!(
        stopped > done / 50 && beyond > done / 50 && redacted > done / 50,
        "{stopped}, {beyond} and {redacted} of {done}"
    );
}

/// What fails, and to which nothing more can come that would make it pass, is not held.
#[test]
fn what_a_check_has_failed_is_released() {
    for action in [Action::Stop, Action::Redact] {
        for (check, pattern, text, held) in [
            (Check::Luhn, r"\b\d{4}\b", "990", 3),
            (Check::Luhn, r"\b\d{4}\b", "9901", 0),
            (Check::Luhn, r"\b\d{4}\b", "0000", 4),
            (Check::Luhn, r"\b\d{4,5}\b", "9901", 4),
            (Check::Luhn, r"\b\d{2}[a-z]\d{2}", "12", 2),
            (Check::Luhn, r"\b\d{2}[a-z]\d{2}", "12a", 0),
            (Check::Iban, r"\b[a-z]{2}\d{2}\d\b", "ab45", 4),
            (Check::Iban, r"\b[a-z]{2}\d{2}\d\b", "ab451", 5),
            (Check::Iban, r"\b[a-z]{2}\d{2}\d\b", "ab452", 0),
            (Check::Iban, r"\b[a-z]{2}\d{2}\d{1,2}\b", "ab452", 5),
            (Check::Iban, r"\b[a-z]{2}\d{2}\b", "ab45", 0),
            (Check::Iban, r"\b[a-z0-9]{5,9}\b", "ab4", 3),
            (Check::Iban, r"\b[a-z0-9]{5,9}\b", "ab4c", 0),
            (Check::Iban, r"\b[a-z0-9]{5,9}\b", "4", 0),
        ] {
            let rule = Rule::regex("digits", pattern).with_check(check).with_action(action);
            let mut cursor = Cursor::new(Arc::new(Automaton::new(vec![rule]).unwrap()));
            cursor.push(text.as_bytes(), &mut Vec::new());
            assert_eq!(
                (cursor.held(), cursor.stopped()),
                (held, None),
                "{check} {pattern} {action} on {text}"
            );
        }
    }
}

/// After every byte, what has come out is exactly what comes out however the text goes on: for each rule that stops as if there were no
/// other, and for those that redact and read alike as if there were none that stops; and not what begins something that is not complete.
/// Of what comes everything may pass a check, or nothing, but for what has failed already.
fn nothing_is_held(alphabet: [char; 3], pieces: &[&str], reads: &[Reads], checks: &[Check], json: bool, usual: usize) {
    // With checks each way to go on is tried twice.
    let reach = if checks.is_empty() { 4 } else { 3 };
    let seed = seed();
    println!("DECIDABLE_SEED={seed}");
    let mut futures = vec![String::new()];
    let mut last = 0;
    for _ in 0..=reach {
        let next = futures.len();
        for place in last..next {
            futures.extend(
                alphabet
                    .iter()
                    .map(|c| format!("{}{c}", futures[place]))
                    .collect::<Vec<_>>(),
            );
        }
        last = next;
    }
    // What a class without letters of the alphabet takes may end where no word is, or within one.
    futures.extend(
        futures[..last]
            .iter()
            .flat_map(|future| [format!("{future}."), format!("{future}c")])
            .collect::<Vec<_>>(),
    );
    let certain = |case: &Case, so_far: &[char]| {
        let passing = |passing: bool| {
            let rule = |spec: &Spec| Spec {
                beyond: Some((so_far.len(), passing)),
                ..spec.clone()
            };
            Case {
                rules: case.rules.iter().map(rule).collect(),
            }
        };
        let checked = case.rules.iter().any(|spec| spec.check.is_some());
        let ways: Vec<Case> = [true, false]
            .into_iter()
            .take(1 + usize::from(checked))
            .map(passing)
            .collect();
        let whole = |future: &String| {
            let text: Vec<char> = so_far.iter().copied().chain(future.chars()).collect();
            ways.iter().map(move |case| case.tokens(&text)).collect::<Vec<_>>()
        };
        let common = |a: Vec<Token>, b: Vec<Token>| {
            a.into_iter()
                .zip(b)
                .take_while(|(a, b)| a == b)
                .map(|(a, _)| a)
                .collect()
        };
        futures.iter().flat_map(whole).reduce(common).unwrap()
    };
    let ends = |tokens: &[Token]| {
        tokens.iter().fold(0, |at, token| match token {
            Token::Out(_) => at + 1,
            Token::Replaced(_, _, end) => *end,
        })
    };
    let mut random = Random(seed);
    let (mut done, mut several, mut compared, mut refused) = (0, 0, 0, 0);
    while done < cases(usual) {
        let one = [random.of(reads)];
        let reads = if random.one_in(4) { &one } else { reads };
        let case = case(&mut random, &alphabet, 1, reads, checks);
        if case.rules.iter().any(|spec| spec.node.reach() > reach) {
            continue;
        }
        let Some(automaton) = case.automaton() else { continue };
        done += 1;
        let text: String = (0..8)
            .map(|_| {
                if !pieces.is_empty() && random.one_in(3) {
                    random.of(pieces).to_owned()
                } else {
                    random.of(&alphabet).to_string()
                }
            })
            .collect();
        let readings: Vec<_> = Reads::ALL
            .into_iter()
            .filter(|reads| case.rules.iter().any(|spec| spec.reads == *reads))
            .map(|reads| Reading::new(&case, reads, &text, json))
            .collect();
        several += usize::from(readings.len() > 1);
        let mut cursor = Cursor::new(Arc::clone(&automaton));
        if json {
            cursor = cursor.reading_json();
        }
        let mut out = Vec::new();
        for place in 1..=text.len() {
            cursor.push(&text.as_bytes()[place - 1..place], &mut out);
            let shown = || {
                format!(
                    "DECIDABLE_SEED={seed} {} after {:?} of {text:?}",
                    case.shown(),
                    String::from_utf8_lossy(&text.as_bytes()[..place])
                )
            };
            if cursor.stopped().is_some() {
                refused += usize::from(case.rules.iter().all(|spec| spec.action != Action::Stop));
                break;
            }
            // Bytes of a code point that is being seen may come out one by one.
            let being_seen = |seen: &Seen| seen.first <= place && place < seen.whole;
            if readings.iter().any(|reading| reading.seen.iter().any(being_seen)) {
                continue;
            }
            let (mut redacted, mut until, mut waits) = (Vec::new(), place, false);
            for reading in &readings {
                let so_far: Vec<char> = reading
                    .seen
                    .iter()
                    .take_while(|seen| seen.first <= place)
                    .map(|seen| seen.c)
                    .collect();
                let begun = reading
                    .seen
                    .iter()
                    .chain(&reading.unseen)
                    .filter(|seen| seen.start < place && place < seen.first);
                let begun = begun.map(|seen| seen.start).min().unwrap_or(place);
                let raw = |seen_place: usize| {
                    let open = reading.seen[..so_far.len()].get(seen_place);
                    open.map_or(begun, |seen| seen.start)
                };
                let stopped = reading.case.stopped_at(&so_far, so_far.len());
                waits |= stopped.is_some_and(|stopped| stopped.certain.is_some());
                let tokens = certain(&reading.without_stops, &so_far);
                until = reading
                    .each_stop
                    .iter()
                    .map(|stop| raw(certain(stop, &so_far).len()))
                    .chain([raw(ends(&tokens)), begun])
                    .fold(until, usize::min);
                redacted.extend(tokens.iter().filter_map(|token| match token {
                    Token::Replaced(rule, start, end) => {
                        Some((*rule, reading.seen[*start].start, reading.seen[*end - 1].end))
                    }
                    Token::Out(_) => None,
                }));
            }
            redacted.sort_by_key(order);
            // One that cannot be written waits where the next byte is to say which rule has stopped the stream, and only there.
            let unwritable = redacted
                .iter()
                .filter(|(_, start, end)| json && !is_in_string(&text, *start, *end))
                .map(|(_, start, _)| *start)
                .min();
            assert!(unwritable.is_none() || waits, "{}", shown());
            let until = unwritable.map_or(until, |start| start.min(until));
            let expected = rendered(&text, &redacted, until).0;
            assert_eq!(String::from_utf8_lossy(&out), expected, "{}", shown());
            compared += 1;
        }
    }
    let enough = compared > done && (reads.len() == 1 || several > done / 5) && (!json || refused > done / 50);
    assert!(enough, "{several}, {compared} and {refused} of {done}");
}

/// What the rules that read alike make of a text.
struct Reading {
    seen: Vec<Seen>,
    unseen: Vec<Seen>,
    case: Case,
    /// Those that redact, and each that stops.
    without_stops: Case,
    each_stop: Vec<Case>,
}

impl Reading {
    fn new(case: &Case, reads: Reads, text: &str, json: bool) -> Self {
        let case = case.read_as(reads);
        let (seen, unseen) = seen(text, json, reads);
        let stops = case.rules.iter().filter(|spec| spec.action == Action::Stop);
        let each_stop = stops.map(|spec| Case {
            rules: vec![spec.clone()],
        });
        let each_stop = each_stop.collect();
        let without = |spec: &Spec| Spec {
            action: if spec.action == Action::Stop {
                Action::Ignore
            } else {
                spec.action
            },
            ..spec.clone()
        };
        let without_stops = Case {
            rules: case.rules.iter().map(without).collect(),
        };
        Self {
            seen,
            unseen,
            case,
            without_stops,
            each_stop,
        }
    }
}

const LETTERS: [char; 3] = ['a', 'b', ' '];

#[test]
fn nothing_is_held_that_could_be_released() {
    nothing_is_held(LETTERS, &["A", "B"], &[Reads::Exact], &[], false, 200);
}

#[test]
fn nothing_is_held_that_no_check_could_let_pass() {
    nothing_is_held(
        ['0', '7', 'a'],
        &["5", " "],
        &[Reads::Exact],
        &[Check::Luhn],
        false,
        100,
    );
    nothing_is_held(['a', '1', ' '], &IBANS, &[Reads::Exact], &[Check::Iban], false, 40);
}

#[test]
fn nothing_is_held_that_could_be_released_however_it_is_read() {
    let pieces = ["\u{200b}", "\u{ad}", "\0", "\u{e0041}", "а", "…", "’", "←", "é", "A"];
    nothing_is_held(LETTERS, &pieces, &[Reads::Visible, Reads::Folded], &[], false, 100);
    nothing_is_held(
        ['a', '1', ' '],
        &pieces,
        &[Reads::Visible, Reads::Folded],
        &Check::ALL,
        false,
        100,
    );
}

#[test]
fn nothing_is_held_of_a_document_that_could_be_released() {
    let pieces = [
        "\"",
        "\"",
        r"\u0061",
        r"\n",
        r"\u200b",
        "\u{200b}",
        r"\ud83d\ude00",
        r"\ud83d",
        r"\u00 ",
        r"\u0430",
        "\\",
    ];
    nothing_is_held(LETTERS, &pieces, &Reads::ALL, &[], true, 50);
    nothing_is_held(['a', '1', ' '], &pieces, &Reads::ALL, &Check::ALL, true, 100);
}
