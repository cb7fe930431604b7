use std::collections::BTreeMap;

use crate::{
    Action, Error, ErrorKind, Pattern, Reads, Rule,
    before::Beginnings,
    json::Json,
    literals::{Literal, Literals},
    patterns::{MOST_NFA_BYTES, Patterns, Refused, RuleId},
    syntax::{self, Parsed},
};

/// Rules of one automaton. A place in the list is 16 bits wide, and the largest stands for none.
pub const MOST_RULES: usize = 65_535;

/// Bytes of a pattern. Longer ones are data rather than rules.
pub const LONGEST_PATTERN_BYTES: usize = 16_384;

/// Bytes of all tables of an automaton: what a process can hold beside a model.
pub const MOST_TABLE_BYTES: usize = 64 << 20;

/// Bytes of the tables of patterns that are tried together. What does not fit is tried apart: where patterns share nothing, their
/// common table grows with the product of theirs. What compiling costs is `benches/python/guard.py compiled`.
const TOGETHER_BYTES: usize = 1 << 20;

/// Bytes of the tables of one pattern.
const ALONE_BYTES: usize = 16 << 20;

/// Rules, compiled. It is read only: any number of cursors share one.
#[derive(Debug)]
pub struct Automaton {
    rules: Vec<Rule>,
    /// One for each way to read a text that a rule has.
    pub(crate) tables: Vec<Tables>,
    /// Whether a byte stands for itself however it is read: in a text, and in a document in JSON.
    plain: [[bool; 256]; 2],
}

/// The tables of rules that read a text alike.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) reads: Reads,
    /// Texts to stop at.
    pub(crate) literals: Literals,
    /// Patterns to stop at.
    pub(crate) stop: Vec<Patterns>,
    pub(crate) redact: Vec<Patterns>,
    pub(crate) record: Vec<Patterns>,
    /// What must stand before a match of some pattern, each once.
    pub(crate) before: Vec<Patterns>,
    /// Where patterns to stop at begin, and where others do.
    pub(crate) stop_begins: Beginnings,
    pub(crate) others_begin: Beginnings,
}

impl Automaton {
    /// Compiles rules.
    ///
    /// # Errors
    /// With the name of the rule: a name that is missing or another's, a pattern that cannot be read, that never matches, that matches
    /// the empty text, that has a back-reference or look-around that is not taken, or whose tables are too large. See [`MOST_RULES`],
    /// [`LONGEST_PATTERN_BYTES`] and [`MOST_TABLE_BYTES`].
    pub fn new(rules: Vec<Rule>) -> Result<Self, Error> {
        if rules.len() > MOST_RULES.saturating_sub(1) {
            let why = format_args!("{} rules are more than {}", rules.len(), MOST_RULES.saturating_sub(1));
            return Err(Error::of_all(ErrorKind::TooLarge, why));
        }
        let mut names = std::collections::HashSet::new();
        for rule in &rules {
            let (Pattern::Literal { text, .. } | Pattern::Regex(text)) = &rule.pattern;
            // Before the name, which is often made of it.
            if text.is_empty() {
                let why = "its pattern is empty, and the empty text is everywhere";
                return Err(Error::new(ErrorKind::Empty, &rule.name, why));
            }
            if rule.name.is_empty() {
                return Err(Error::new(ErrorKind::Name, &rule.name, "a rule needs a name"));
            }
            if !names.insert(rule.name.as_str()) {
                return Err(Error::new(ErrorKind::Name, &rule.name, "two rules have this name"));
            }
            if text.len() > LONGEST_PATTERN_BYTES {
                let why = format_args!(
                    "a pattern of {} bytes is longer than {LONGEST_PATTERN_BYTES}",
                    text.len()
                );
                return Err(Error::new(ErrorKind::TooLarge, &rule.name, why));
            }
        }
        // One at least: also where there is nothing to look for, something passes.
        let read = |reads: &Reads| rules.iter().any(|rule| rule.reads == *reads);
        let read: Vec<_> = Reads::ALL.into_iter().filter(read).collect();
        let read = if read.is_empty() { vec![Reads::Exact] } else { read };
        let (mut tables, mut room) = (Vec::new(), MOST_TABLE_BYTES);
        for reads in &read {
            tables.push(Tables::new(&rules, *reads, &mut room)?);
        }
        let plain = plain(&read);
        Ok(Self { rules, tables, plain })
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule at a place.
    pub(crate) fn rule(&self, place: RuleId) -> Option<&Rule> {
        self.rules.get(usize::from(place))
    }

    /// How many bytes the tables take.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        let literals = self.tables.iter().map(|tables| tables.literals.bytes());
        let patterns = self.patterns().map(Patterns::bytes);
        literals.chain(patterns).fold(0, usize::saturating_add)
    }

    /// How many states there are.
    #[must_use]
    pub fn states(&self) -> usize {
        let literals = self.tables.iter().map(|tables| tables.literals.states());
        let patterns = self.patterns().map(Patterns::states);
        literals.chain(patterns).fold(0, usize::saturating_add)
    }

    fn patterns(&self) -> impl Iterator<Item = &Patterns> {
        self.tables.iter().flat_map(Tables::patterns)
    }

    /// Whether every rule sees a byte as it is written.
    #[inline]
    pub(crate) fn is_plain(&self, byte: u8, json: bool) -> bool {
        let [text, document] = &self.plain;
        let plain = if json { document } else { text };
        plain.get(usize::from(byte)).copied().unwrap_or(false)
    }

    /// The tables, if there is nothing but what stops, all of which reads alike.
    #[inline]
    pub(crate) fn stops_only(&self) -> Option<&Tables> {
        match self.tables.as_slice() {
            [tables] if tables.redact.is_empty() && tables.record.is_empty() => Some(tables),
            _ => None,
        }
    }
}

/// Which bytes stand for themselves in each of these ways to read: in a text, and in a document in JSON.
fn plain(read: &[Reads]) -> [[bool; 256]; 2] {
    [false, true].map(|json| {
        let mut plain = [true; 256];
        for (byte, plain) in (0..=u8::MAX).zip(&mut plain) {
            *plain = read.iter().all(|reads| reads.is_plain(byte)) && (!json || Json::is_plain(byte));
        }
        plain
    })
}

fn too_large() -> Error {
    Error::of_all(
        ErrorKind::TooLarge,
        format_args!("the tables take more than {MOST_TABLE_BYTES} bytes"),
    )
}

impl Tables {
    fn patterns(&self) -> impl Iterator<Item = &Patterns> {
        self.stop
            .iter()
            .chain(&self.redact)
            .chain(&self.record)
            .chain(&self.before)
    }

    /// Takes how many bytes the tables may still take, and leaves how many are left: nothing is made beyond it.
    fn new(rules: &[Rule], reads: Reads, room: &mut usize) -> Result<Self, Error> {
        let mut literals = Vec::new();
        let (mut stop, mut redact, mut record) = (Vec::new(), Vec::new(), Vec::new());
        for (rule, number) in rules.iter().zip(0..).filter(|(rule, _)| rule.reads == reads) {
            let parsed = syntax::parsed(rule)?;
            match (rule.action, &rule.pattern) {
                (Action::Ignore, _) => {}
                (Action::Stop, Pattern::Literal { text, ignore_case }) if rule.check.is_none() => {
                    literals.push(Literal {
                        rule: number,
                        text: syntax::seen(rule, text).into_owned().into_bytes(),
                        ignore_case: *ignore_case,
                    })
                }
                (Action::Stop, _) => stop.push((number, parsed)),
                (Action::Redact, _) => redact.push((number, parsed)),
                (Action::Record, _) => record.push((number, parsed)),
            }
        }
        let literals = Literals::new(&literals, &plain(&[reads]), *room)
            .filter(|literals| literals.bytes() <= *room)
            .ok_or_else(too_large)?;
        *room = room.saturating_sub(literals.bytes());
        let mut compiler = Compiler {
            rules,
            room,
            known: BTreeMap::new(),
            before: Vec::new(),
        };
        let (stop, redact) = (compiler.tables(&stop)?, compiler.tables(&redact)?);
        let record = compiler.tables(&record)?;
        let before = compiler.before;
        Ok(Self {
            reads,
            literals,
            stop_begins: Beginnings::new(stop.iter()),
            others_begin: Beginnings::new(redact.iter().chain(&record)),
            stop,
            redact,
            record,
            before,
        })
    }
}

/// Makes tables of patterns, and one of each thing that must stand before some.
struct Compiler<'a> {
    rules: &'a [Rule],
    room: &'a mut usize,
    /// By how each is written.
    known: BTreeMap<String, usize>,
    before: Vec<Patterns>,
}

impl Compiler<'_> {
    fn tables(&mut self, patterns: &[(RuleId, Parsed)]) -> Result<Vec<Patterns>, Error> {
        let rules = self.rules;
        let check = |rule: RuleId| rules.get(usize::from(rule)).and_then(|rule| rule.check);
        // What begins behind the same begins at the same places.
        let mut alike: BTreeMap<Option<usize>, Vec<_>> = BTreeMap::new();
        let mut checked = Vec::new();
        for (rule, parsed) in patterns {
            let before = parsed.before.as_deref();
            let before = before.map(|before| self.which(*rule, before)).transpose()?;
            if check(*rule).is_some() {
                // Whether a match passes depends on where it begins: it has a table of its own.
                checked.push((before, vec![(*rule, parsed)]));
            } else {
                alike.entry(before).or_default().push((*rule, parsed));
            }
        }
        let mut tables = Vec::new();
        for (before, patterns) in alike.into_iter().chain(checked) {
            let check = patterns.first().and_then(|(rule, _)| check(*rule));
            let mut own = Vec::new();
            together(rules, &patterns, self.room, &mut own)?;
            tables.extend(own.into_iter().map(|table| table.with_before(before).with_check(check)));
        }
        Ok(tables)
    }

    /// Which of what must stand before some pattern this is.
    fn which(&mut self, rule: RuleId, before: &Parsed) -> Result<usize, Error> {
        let written = before.hir.to_string();
        if let Some(which) = self.known.get(&written) {
            return Ok(*which);
        }
        together(self.rules, &[(rule, before)], self.room, &mut self.before)?;
        let which = self.known.len();
        self.known.insert(written, which);
        Ok(which)
    }
}

fn never(rules: &[Rule], rule: RuleId) -> Error {
    let name = rules.get(usize::from(rule)).map_or("", |rule| &rule.name);
    Error::new(ErrorKind::Empty, name, syntax::NEVER_MATCHES)
}

/// One table for all patterns, before which the same must stand; where that is too large, one for each half.
fn together(
    rules: &[Rule],
    patterns: &[(RuleId, &Parsed)],
    room: &mut usize,
    tables: &mut Vec<Patterns>,
) -> Result<(), Error> {
    let alone = match patterns {
        [] => return Ok(()),
        [(rule, _)] => rules.get(usize::from(*rule)),
        _ => None,
    };
    let most = if alone.is_some() { ALONE_BYTES } else { TOGETHER_BYTES };
    match (Patterns::new(patterns, most, *room), alone) {
        (Err(Refused::Never(rule)), _) => Err(never(rules, rule)),
        (Ok(table), _) => {
            *room = room.saturating_sub(table.bytes());
            tables.push(table);
            Ok(())
        }
        (Err(Refused::Nfa), Some(rule)) => {
            let why = format_args!(
                "what its table is made from takes more than {MOST_NFA_BYTES} bytes: repetitions with large counts multiply states"
            );
            Err(Error::new(ErrorKind::TooLarge, &rule.name, why))
        }
        (Err(Refused::Alone), Some(rule)) => {
            let why = format_args!(
                "its table takes more than {ALONE_BYTES} bytes: repetitions with large counts multiply states"
            );
            Err(Error::new(ErrorKind::TooLarge, &rule.name, why))
        }
        (Err(Refused::Table), Some(rule)) => {
            let why = format_args!("with its table all of them take more than {MOST_TABLE_BYTES} bytes");
            Err(Error::new(ErrorKind::TooLarge, &rule.name, why))
        }
        (Err(_), None) => {
            let (first, second) = patterns.split_at(patterns.len().div_ceil(2));
            together(rules, first, room, tables)?;
            together(rules, second, room, tables)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each table takes of what those before it left.
    #[test]
    fn literals_and_patterns_share_the_room() {
        let rules = [
            Rule::literal("text", "0123456789".repeat(100)),
            Rule::regex("pattern", "[ab]*a[ab]{6}"),
        ];
        let made = |rules: &[Rule], mut room: usize| Tables::new(rules, Reads::Visible, &mut room).map(|_| room);
        let all = 1 << 20;
        let taken = |rules: &[Rule]| all - made(rules, all).unwrap();
        let [text, pattern] = &rules;
        let (alone, both) = (taken(core::slice::from_ref(text)), taken(&rules));
        assert!(alone > 10_000 && both > alone + 1_000, "{alone} {both}");
        // Without a text there is a state as well, with which nothing was read.
        assert_eq!(both + taken(&[]), alone + taken(core::slice::from_ref(pattern)));
        assert_eq!(made(&rules, both).unwrap(), 0);
        // As soon as the texts fit it is the pattern for which there is no room.
        for (room, rule) in [(both - 1, Some("pattern")), (alone, Some("pattern")), (alone - 1, None)] {
            let error = made(&rules, room).unwrap_err();
            assert_eq!((error.kind(), error.rule()), (ErrorKind::TooLarge, rule), "{room}");
        }
    }
}
