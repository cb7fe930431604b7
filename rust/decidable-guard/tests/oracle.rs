//! The cursor beside an oracle that has the whole text and looks everywhere: the same matches, not a byte of one released, and not a byte
//! held that could be.

#![allow(missing_docs, clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc};

use decidable_guard::{Action, Automaton, Cursor, Pattern, Rule, Stop};

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
}

fn is_word(text: &[char], at: usize) -> bool {
    text.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_')
}

impl Node {
    fn written(&self) -> String {
        match self {
            Self::Char(c) => c.to_string(),
            Self::Class(chars, negated) => {
                format!(
                    "[{}{}]",
                    if *negated { "^" } else { "" },
                    chars.iter().collect::<String>()
                )
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
        }
    }

    /// Where matches end that begin at a place.
    fn ends(&self, text: &[char], at: usize) -> BTreeSet<usize> {
        let one = |yes: bool| if yes { BTreeSet::from([at + 1]) } else { BTreeSet::new() };
        let here = |yes: bool| if yes { BTreeSet::from([at]) } else { BTreeSet::new() };
        match self {
            Self::Char(c) => one(text.get(at) == Some(c)),
            Self::Class(chars, negated) => one(text.get(at).is_some_and(|c| chars.contains(c) != *negated)),
            Self::Any => one(text.get(at).is_some_and(|c| *c != '\n')),
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
        }
    }

    /// How many characters may be missing, at most, from any state to the nearest match.
    fn reach(&self) -> usize {
        match self {
            Self::Char(_) | Self::Class(..) | Self::Any => 1,
            Self::Concat(nodes) => nodes.iter().map(Self::reach).sum(),
            Self::Either(nodes) => nodes.iter().map(Self::reach).max().unwrap_or(0),
            Self::Repeat(node, least, _) => node.reach() * (*least).max(1),
            Self::Boundary(_) | Self::Begin | Self::End => 0,
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
        }
        if self.one_in(4) {
            nodes.push(if self.one_in(3) {
                Node::End
            } else {
                Node::Boundary(self.one_in(2))
            });
        }
        Node::Concat(nodes)
    }
}

/// What became of a piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Out(char),
    Replaced(usize, usize, usize),
}

#[derive(Debug, PartialEq)]
struct Told {
    tokens: Vec<Token>,
    stop: Option<(usize, usize, usize)>,
    recorded: Vec<(usize, usize, usize)>,
}

struct Case {
    rules: Vec<(Node, Action)>,
}

impl Case {
    fn selected(&self, action: Action, text: &[char]) -> Vec<(usize, usize, usize)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let longest = self
                .rules
                .iter()
                .enumerate()
                .filter(|(_, (_, of))| *of == action)
                .filter_map(|(rule, (node, _))| Some((*node.ends(text, at).last()?, rule)))
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

    /// Whether the text is stopped at a place: because a match ends there whatever comes next, and then the text is over, or because
    /// what comes next shows that one has ended there.
    fn stopped_at(&self, text: &[char], end: usize) -> Option<(usize, usize, usize)> {
        let matched = |text: &[char]| -> BTreeSet<(usize, usize)> {
            let stopping = self
                .rules
                .iter()
                .enumerate()
                .filter(|(_, (_, action))| *action == Action::Stop);
            stopping
                .flat_map(|(rule, (node, _))| {
                    (0..end)
                        .filter(|start| node.ends(text, *start).contains(&end))
                        .map(move |start| (start, rule))
                })
                .collect()
        };
        let so_far = &text[..end];
        let ways = ['a', ' ', '\n', '\r'].map(|next| matched(&[so_far, &[next]].concat()));
        let over = matched(so_far);
        let certain = over.iter().any(|found| ways.iter().all(|way| way.contains(found)));
        let found = if certain { over } else { matched(text) };
        found.first().map(|(start, rule)| (*rule, *start, end))
    }

    /// What the rules make of a whole text.
    fn told(&self, text: &[char]) -> Told {
        let stop = (0..=text.len()).find_map(|end| self.stopped_at(text, end));
        let text = stop.map_or(text, |(_, _, end)| &text[..end]);
        let until = stop.map_or(text.len(), |(_, start, _)| start);
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
        Told {
            tokens,
            stop,
            recorded: self.selected(Action::Record, text),
        }
    }

    fn automaton(&self) -> Option<Arc<Automaton>> {
        let rules = self.rules.iter().enumerate().map(|(number, (node, action))| {
            let pattern = match node {
                Node::Concat(nodes) if nodes.iter().all(|node| matches!(node, Node::Char(_))) => Pattern::Literal {
                    text: node.written(),
                    ignore_case: false,
                },
                _ => Pattern::Regex(node.written()),
            };
            Rule {
                replacement: format!("<{number}>"),
                ..Rule::new(format!("rule {number}"), pattern).with_action(*action)
            }
        });
        // Patterns that can be empty, or can match nothing, are no rules.
        Automaton::new(rules.collect()).ok().map(Arc::new)
    }
}

fn rendered(tokens: &[Token]) -> String {
    let each = tokens.iter().map(|token| match token {
        Token::Out(c) => c.to_string(),
        Token::Replaced(rule, ..) => format!("<{rule}>"),
    });
    each.collect()
}

fn case(random: &mut Random, alphabet: &[char], depth: usize) -> Case {
    let actions = [Action::Stop, Action::Redact, Action::Redact, Action::Record];
    let rules = (0..1 + random.below(4)).map(|_| {
        let node = if random.one_in(3) {
            Node::Concat(
                (0..1 + random.below(3))
                    .map(|_| Node::Char(random.of(alphabet)))
                    .collect(),
            )
        } else {
            random.pattern(alphabet, depth)
        };
        (node, random.of(&actions))
    });
    Case { rules: rules.collect() }
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

#[test]
fn any_chunks_give_what_the_whole_text_gives() {
    let seed = seed();
    println!("DECIDABLE_SEED={seed}");
    let alphabet = ['a', 'b', 'c', ' ', '_', 'é', '😀', '\n'];
    let mut random = Random(seed);
    let mut done = 0;
    while done < cases(20_000) {
        let alphabet = &alphabet[..3 + random.below(alphabet.len() - 2)];
        let case = case(&mut random, alphabet, 2);
        let Some(automaton) = case.automaton() else { continue };
        for _ in 0..3 {
            done += 1;
            let text: Vec<char> = (0..random.below(14)).map(|_| random.of(alphabet)).collect();
            let told = case.told(&text);
            let bytes = text.iter().collect::<String>().into_bytes();
            let place = |chars: usize| text[..chars].iter().map(|c| c.len_utf8()).sum::<usize>() as u64;

            let mut cursor = Cursor::new(Arc::clone(&automaton));
            let mut out = Vec::new();
            let mut rest = bytes.as_slice();
            let mut matches = Vec::new();
            while !rest.is_empty() && cursor.stopped().is_none() {
                let (chunk, more) = rest.split_at(1 + random.below(rest.len()));
                cursor.push(chunk, &mut out);
                matches.extend(cursor.matches());
                rest = more;
            }
            cursor.finish(&mut out);
            matches.extend(cursor.matches());
            let shown = || {
                let rules: Vec<_> = case
                    .rules
                    .iter()
                    .map(|(node, action)| (node.written(), *action))
                    .collect();
                format!(
                    "DECIDABLE_SEED={seed} {rules:?} on {:?}",
                    text.iter().collect::<String>()
                )
            };
            assert_eq!(String::from_utf8(out).unwrap(), rendered(&told.tokens), "{}", shown());
            let stop = told.stop.map(|(rule, start, end)| (rule, place(start), place(end)));
            let found = match cursor.stopped() {
                Some(Stop::Matched(found)) => Some((found.rule, found.start, found.end)),
                other => {
                    assert_eq!(other, None);
                    None
                }
            };
            assert_eq!(found, stop, "{}", shown());
            let of = |action| {
                let of = matches
                    .iter()
                    .filter(|found| automaton.action_of(found) == Some(action));
                of.map(|found| (found.rule, found.start, found.end)).collect::<Vec<_>>()
            };
            let recorded = told
                .recorded
                .iter()
                .map(|(rule, start, end)| (*rule, place(*start), place(*end)));
            assert_eq!(of(Action::Record), recorded.collect::<Vec<_>>(), "{}", shown());
            let redacted = told.tokens.iter().filter_map(|token| match token {
                Token::Replaced(rule, start, end) => Some((*rule, place(*start), place(*end))),
                Token::Out(_) => None,
            });
            assert_eq!(of(Action::Redact), redacted.collect::<Vec<_>>(), "{}", shown());
        }
    }
}

/// After every byte, what has come out is exactly what comes out however the text goes on: for each rule that stops as if there were no
/// other, and for those that redact as if there were none that stops.
#[test]
fn nothing_is_held_that_could_be_released() {
    const REACH: usize = 4;
    let seed = seed();
    println!("DECIDABLE_SEED={seed}");
    let alphabet = ['a', 'b', ' '];
    let mut futures = vec![String::new()];
    let mut last = 0;
    for _ in 0..=REACH {
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
    let certain = |case: &Case, so_far: &str| {
        let whole = |future: &String| {
            case.told(&so_far.chars().chain(future.chars()).collect::<Vec<_>>())
                .tokens
        };
        let common = |a: Vec<Token>, b: Vec<Token>| {
            a.into_iter()
                .zip(b)
                .take_while(|(a, b)| a == b)
                .map(|(a, _)| a)
                .collect()
        };
        futures.iter().map(whole).reduce(common).unwrap()
    };
    let mut random = Random(seed);
    let mut done = 0;
    while done < cases(20_000) / 100 {
        let case = case(&mut random, &alphabet, 1);
        if case.rules.iter().any(|(node, _)| node.reach() > REACH) {
            continue;
        }
        let Some(automaton) = case.automaton() else { continue };
        done += 1;
        let without_stops = Case {
            rules: case
                .rules
                .iter()
                .map(|(node, action)| {
                    (
                        node.clone(),
                        if *action == Action::Stop {
                            Action::Ignore
                        } else {
                            *action
                        },
                    )
                })
                .collect(),
        };
        let stops = case.rules.iter().filter(|(_, action)| *action == Action::Stop);
        let each_stop: Vec<_> = stops
            .map(|rule| Case {
                rules: vec![rule.clone()],
            })
            .collect();
        let text: String = (0..8).map(|_| random.of(&alphabet)).collect();
        let mut cursor = Cursor::new(Arc::clone(&automaton));
        let mut out = Vec::new();
        for place in 1..=text.len() {
            cursor.push(&text.as_bytes()[place - 1..place], &mut out);
            if cursor.stopped().is_some() {
                break;
            }
            let so_far = &text[..place];
            let until = each_stop
                .iter()
                .map(|stop| certain(stop, so_far).len())
                .min()
                .unwrap_or(place);
            let mut at = 0;
            let mut expected = Vec::new();
            for token in certain(&without_stops, so_far) {
                if at >= until {
                    break;
                }
                at = match token {
                    Token::Out(_) => at + 1,
                    Token::Replaced(_, _, end) => end,
                };
                expected.push(token);
            }
            let rules: Vec<_> = case
                .rules
                .iter()
                .map(|(node, action)| (node.written(), *action))
                .collect();
            assert_eq!(
                String::from_utf8(out.clone()).unwrap(),
                rendered(&expected),
                "DECIDABLE_SEED={seed} {rules:?} after {so_far:?}",
            );
        }
    }
}
