//! Patterns as what the automata are built from. Classes and word boundaries know ASCII only, so that what a rule matches does not
//! depend on a table of Unicode's, and so that a boundary can be decided from the byte beside it.

use std::borrow::Cow;

use regex_syntax::{
    ast::{
        self, Ast, ClassAscii, ClassAsciiKind, ClassBracketed, ClassPerl, ClassPerlKind, ClassSet,
        ClassSetBinaryOpKind, ClassSetItem, ClassSetRange, ClassSetUnion, Flag, Flags, FlagsItem, FlagsItemKind, Group,
        GroupKind, Span, parse::ParserBuilder,
    },
    hir::{Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, HirKind, Look, Repetition, translate::TranslatorBuilder},
};

use crate::{Error, ErrorKind, Pattern, Reads, Rule, folding::folded};

/// How deep groups may be nested. What is written by a person is below ten.
const DEEPEST_NESTING: u32 = 64;

/// What a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) hir: Hir,
    /// What must stand before it and is no part of it: a pattern for the whole of the text before.
    pub(crate) before: Option<Box<Self>>,
    /// The bytes of which none may come next.
    pub(crate) barred: Vec<u8>,
}

impl From<Hir> for Parsed {
    fn from(hir: Hir) -> Self {
        Self {
            hir,
            before: None,
            barred: Vec::new(),
        }
    }
}

/// Why a pattern guards nothing.
pub(crate) const NEVER_MATCHES: &str = "it can never match";

/// What a rule looks for.
pub(crate) fn parsed(rule: &Rule) -> Result<Parsed, Error> {
    let parsed = match &rule.pattern {
        Pattern::Literal { text, ignore_case } => literal(&seen(rule, text), *ignore_case).into(),
        Pattern::Regex(pattern) => regex(&rule.name, pattern)?,
    };
    let fault = |why: &str| Err(Error::new(ErrorKind::Empty, &rule.name, why));
    for hir in [&parsed]
        .into_iter()
        .chain(parsed.before.as_deref())
        .map(|part| &part.hir)
    {
        if let Some(hidden) = hidden(rule.reads, hir) {
            return fault(&hidden);
        }
        if hir.properties().minimum_len().is_none() {
            return fault(NEVER_MATCHES);
        }
    }
    match parsed.hir.properties().minimum_len() {
        Some(0) => fault("it matches the empty text, which is everywhere"),
        _ => Ok(parsed),
    }
}

/// A text to look for as its rule sees it, but that what is invisible stays, to be refused.
pub(crate) fn seen<'a>(rule: &Rule, text: &'a str) -> Cow<'a, str> {
    match rule.reads {
        Reads::Folded => folded(text).into(),
        Reads::Visible | Reads::Exact => text.into(),
    }
}

/// Why a pattern can never match, or not as it is written: it needs a code point that its rule does not see.
fn hidden(reads: Reads, hir: &Hir) -> Option<String> {
    let hides = |code_point: char| reads.hides(code_point).map(|seen| (code_point, seen));
    let found = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => None,
        HirKind::Literal(literal) => core::str::from_utf8(&literal.0).ok()?.chars().find_map(hides),
        HirKind::Class(class) => {
            let ranges: Vec<(char, char)> = match class {
                Class::Unicode(class) => class.iter().map(|range| (range.start(), range.end())).collect(),
                Class::Bytes(class) => class
                    .iter()
                    .map(|range| (range.start().into(), range.end().into()))
                    .collect(),
            };
            // Most classes have something that is seen near their beginning.
            let mut members = ranges.into_iter().flat_map(|(first, last)| first..=last);
            let first = members.next().and_then(hides);
            first.filter(|_| members.all(|code_point| reads.hides(code_point).is_some()))
        }
        HirKind::Repetition(repetition) if repetition.max == Some(0) => None,
        HirKind::Repetition(repetition) => return hidden(reads, &repetition.sub),
        HirKind::Capture(capture) => return hidden(reads, &capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            return parts.iter().find_map(|part| hidden(reads, part));
        }
    };
    found.map(|(code_point, seen)| {
        let code_point = u32::from(code_point);
        if seen.is_empty() {
            format!("it looks for U+{code_point:04X}, which is invisible to it unless it reads \"exact\"")
        } else {
            format!("it looks for U+{code_point:04X}, which it sees as {seen:?}")
        }
    })
}

fn literal(text: &str, ignore_case: bool) -> Hir {
    if !ignore_case {
        return Hir::literal(text.as_bytes());
    }
    let either = |letter: char| {
        let cases = [letter.to_ascii_lowercase(), letter.to_ascii_uppercase()];
        Hir::class(Class::Unicode(ClassUnicode::new(
            cases.map(|case| ClassUnicodeRange::new(case, case)),
        )))
    };
    Hir::concat(text.chars().map(either).collect())
}

/// How look-around is written that is taken: `(?<=…)` as the beginning of a pattern, and `(?!…)` as its end.
const BEHIND: &str = "(?<=";
const AHEAD: &str = "(?!";

/// The groups without look-around as which they are read: as long, so that a fault is where it is written.
const BEHIND_GROUP: &str = "(?u:";
const AHEAD_GROUP: &str = "(?:";

fn regex(name: &str, pattern: &str) -> Result<Parsed, Error> {
    let unsupported = |what: &str, at: usize| {
        Error::new(
            ErrorKind::Unsupported,
            name,
            format_args!("{what} at byte {at} is not supported"),
        )
        .in_pattern(at)
    };
    let syntax = |what: &dyn std::fmt::Display, at: usize| {
        Error::new(ErrorKind::Syntax, name, format_args!("{what}, at byte {at}")).in_pattern(at)
    };
    let look_around = |at: usize| unsupported("look-around", at);
    let mut written = pattern.to_owned();
    let (mut behind, mut ahead) = (None, None);
    let mut ast = loop {
        let error = match ParserBuilder::new().nest_limit(DEEPEST_NESTING).build().parse(&written) {
            Ok(ast) => break ast,
            Err(error) => error,
        };
        let at = error.span().start.offset;
        match error.kind() {
            ast::ErrorKind::UnsupportedLookAround => {
                let rest = written.get(at..).unwrap_or_default();
                let (place, group) = if rest.starts_with(BEHIND) && behind.is_none() {
                    (&mut behind, BEHIND_GROUP)
                } else if rest.starts_with(AHEAD) && ahead.is_none() {
                    (&mut ahead, AHEAD_GROUP)
                } else {
                    return Err(look_around(at));
                };
                *place = Some(at);
                written.replace_range(at..at.saturating_add(group.len()), group);
            }
            ast::ErrorKind::UnsupportedBackreference => return Err(unsupported("a back-reference", at)),
            kind => {
                return Err(syntax(&kind, at));
            }
        }
    };
    Ascii {
        written: &written,
        folds: false,
        unicode: true,
    }
    .put(&mut ast);
    let translated = |ast: &Ast| {
        let translated = TranslatorBuilder::new()
            .unicode(true)
            .utf8(true)
            .build()
            .translate(&written, ast);
        let fault = |error: regex_syntax::hir::Error| syntax(&error.kind(), error.span().start.offset);
        translated.map(with_ascii_boundaries).map_err(fault)
    };
    if behind.is_none() && ahead.is_none() {
        return Ok(translated(&ast)?.into());
    }
    // A group is what was written as look-around if it begins there and is neither repeated nor an alternative.
    let is_at = |ast: Option<&Ast>, at: usize| matches!(ast, Some(Ast::Group(group)) if group.span.start.offset == at);
    let Ast::Concat(parts) = &mut ast else {
        return Err(look_around(behind.or(ahead).unwrap_or(0)));
    };
    let mut barred = Vec::new();
    if let Some(at) = ahead {
        let last = parts.asts.pop();
        let last = last
            .filter(|last| is_at(Some(last), at))
            .ok_or_else(|| look_around(at))?;
        // Which letters are meant may have been said before.
        let mut asts: Vec<_> = parts
            .asts
            .iter()
            .filter(|ast| matches!(ast, Ast::Flags(_)))
            .cloned()
            .collect();
        asts.push(last);
        let next = translated(&Ast::concat(ast::Concat { span: parts.span, asts }))?;
        barred = ascii_of(&next).ok_or_else(|| look_around(at))?;
    }
    let behind = match behind {
        Some(at) => {
            // Before it nothing stands but how letters are read.
            let first = parts.asts.iter().position(|ast| !matches!(ast, Ast::Flags(_)));
            let first = first.filter(|first| is_at(parts.asts.get(*first), at));
            let first = first.ok_or_else(|| look_around(at))?;
            let mut asts: Vec<_> = parts.asts.iter().take(first).cloned().collect();
            asts.push(parts.asts.remove(first));
            Some(translated(&Ast::concat(ast::Concat { span: parts.span, asts }))?)
        }
        None => None,
    };
    Ok(Parsed {
        hir: translated(&ast)?,
        before: behind.map(|behind| Box::new(Hir::concat(vec![anything(), behind]).into())),
        barred,
    })
}

/// Any bytes.
fn anything() -> Hir {
    Hir::repetition(Repetition {
        min: 0,
        max: None,
        greedy: true,
        sub: Box::new(Hir::dot(Dot::AnyByte)),
    })
}

/// The letters that have a third form beyond ASCII: it, and both others.
const THIRD_FORMS: [(char, [u8; 2]); 2] = [('\u{17f}', [b's', b'S']), ('\u{212a}', [b'k', b'K'])];

/// The characters of a class, or the one character, if all are ASCII: then the next byte decides. The third form of a letter may come next
/// where the class has both others, which is what `(?i)` makes of one; alone it is refused.
fn ascii_of(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Literal(literal) => match *literal.0 {
            [byte] if byte.is_ascii() => Some(vec![byte]),
            _ => None,
        },
        HirKind::Class(class) => {
            let Class::Unicode(class) = class else { return None };
            let (mut bytes, mut beyond) = (Vec::new(), Vec::new());
            for range in class.ranges() {
                match (u8::try_from(range.start()), u8::try_from(range.end())) {
                    (Ok(start), Ok(end)) if end.is_ascii() => bytes.extend(start..=end),
                    _ if range.start() == range.end() => beyond.push(range.start()),
                    _ => return None,
                }
            }
            let is_third = |form: &char| {
                let mut letters = THIRD_FORMS.iter().filter(|(third, _)| third == form);
                letters.any(|(_, cases)| cases.iter().all(|case| bytes.contains(case)))
            };
            beyond.iter().all(is_third).then_some(bytes)
        }
        _ => None,
    }
}

/// Puts the classes `\d`, `\s` and `\w` into ASCII, so that they stay there without case, too.
struct Ascii<'a> {
    written: &'a str,
    /// Whether case makes no difference where it is, and whether characters are code points.
    folds: bool,
    unicode: bool,
}

impl Ascii<'_> {
    fn put(&mut self, ast: &mut Ast) {
        match ast {
            Ast::Flags(set) => self.set(&set.flags),
            Ast::ClassPerl(class) => {
                let class = ClassBracketed {
                    span: class.span,
                    negated: false,
                    kind: ClassSet::Item(ClassSetItem::Perl((**class).clone())),
                };
                *ast = Ast::class_bracketed(class);
                self.put(ast);
            }
            Ast::ClassBracketed(class) if has_perl(&class.kind) => {
                // Without case a class of Unicode's is folded as a whole, which takes two letters of `\w` beyond ASCII.
                match (self.folds && self.unicode).then(|| self.bracketed(class)).flatten() {
                    Some(folded) => *ast = as_it_is(class.span, &folded),
                    None => put_set_in_ascii(&mut class.kind),
                }
            }
            Ast::Repetition(repetition) => self.put(&mut repetition.ast),
            Ast::Group(group) => {
                let (folds, unicode) = (self.folds, self.unicode);
                if let Some(flags) = group.flags() {
                    self.set(flags);
                }
                self.put(&mut group.ast);
                (self.folds, self.unicode) = (folds, unicode);
            }
            // Flags hold up to the end of their group, also in other alternatives.
            Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(|ast| self.put(ast)),
            Ast::Concat(concat) => concat.asts.iter_mut().for_each(|ast| self.put(ast)),
            _ => {}
        }
    }

    fn set(&mut self, flags: &Flags) {
        self.folds = flags.flag_state(Flag::CaseInsensitive).unwrap_or(self.folds);
        self.unicode = flags.flag_state(Flag::Unicode).unwrap_or(self.unicode);
    }

    /// What a class takes without case, but that `\d`, `\s` and `\w` in it take what they do with it. `None` where it cannot be read.
    fn bracketed(&self, class: &ClassBracketed) -> Option<ClassUnicode> {
        let mut found = self.set_of(&class.kind)?;
        if class.negated {
            found.negate();
        }
        Some(found)
    }

    fn set_of(&self, set: &ClassSet) -> Option<ClassUnicode> {
        match set {
            ClassSet::Item(item) => self.item(item),
            ClassSet::BinaryOp(both) => {
                let (mut found, other) = (self.set_of(&both.lhs)?, self.set_of(&both.rhs)?);
                match both.kind {
                    ClassSetBinaryOpKind::Intersection => found.intersect(&other),
                    ClassSetBinaryOpKind::Difference => found.difference(&other),
                    ClassSetBinaryOpKind::SymmetricDifference => found.symmetric_difference(&other),
                }
                Some(found)
            }
        }
    }

    fn item(&self, item: &ClassSetItem) -> Option<ClassUnicode> {
        match item {
            ClassSetItem::Perl(class) => self.translated(ClassSetItem::Ascii(ascii_of_perl(class)), false),
            ClassSetItem::Bracketed(class) => self.bracketed(class),
            ClassSetItem::Union(union) => {
                let mut found = ClassUnicode::empty();
                for item in &union.items {
                    found.union(&self.item(item)?);
                }
                Some(found)
            }
            item => self.translated(item.clone(), true),
        }
    }

    fn translated(&self, item: ClassSetItem, folds: bool) -> Option<ClassUnicode> {
        let class = ClassBracketed {
            span: *item.span(),
            negated: false,
            kind: ClassSet::Item(item),
        };
        let mut translator = TranslatorBuilder::new().case_insensitive(folds).build();
        match translator
            .translate(self.written, &Ast::class_bracketed(class))
            .ok()?
            .into_kind()
        {
            HirKind::Class(Class::Unicode(class)) => Some(class),
            // Of one member it is that, and of none it has no code points.
            HirKind::Literal(literal) => {
                let members = core::str::from_utf8(&literal.0).ok()?.chars();
                Some(ClassUnicode::new(
                    members.map(|member| ClassUnicodeRange::new(member, member)),
                ))
            }
            HirKind::Class(Class::Bytes(class)) => class.to_unicode_class(),
            _ => None,
        }
    }
}

/// A class that takes these and nothing else, whatever flags hold around it.
fn as_it_is(span: Span, class: &ClassUnicode) -> Ast {
    let literal = |c: char| ast::Literal {
        span,
        kind: ast::LiteralKind::Verbatim,
        c,
    };
    let range = |range: &ClassUnicodeRange| {
        ClassSetItem::Range(ClassSetRange {
            span,
            start: literal(range.start()),
            end: literal(range.end()),
        })
    };
    let items = class.iter().map(range).collect();
    let flags = [FlagsItemKind::Negation, FlagsItemKind::Flag(Flag::CaseInsensitive)];
    Ast::group(Group {
        span,
        kind: GroupKind::NonCapturing(Flags {
            span,
            items: flags.map(|kind| FlagsItem { span, kind }).to_vec(),
        }),
        ast: Box::new(Ast::class_bracketed(ClassBracketed {
            span,
            negated: false,
            kind: ClassSet::Item(ClassSetItem::Union(ClassSetUnion { span, items })),
        })),
    })
}

fn has_perl(set: &ClassSet) -> bool {
    match set {
        ClassSet::Item(item) => item_has_perl(item),
        ClassSet::BinaryOp(both) => has_perl(&both.lhs) || has_perl(&both.rhs),
    }
}

fn item_has_perl(item: &ClassSetItem) -> bool {
    match item {
        ClassSetItem::Perl(_) => true,
        ClassSetItem::Bracketed(class) => has_perl(&class.kind),
        ClassSetItem::Union(union) => union.items.iter().any(item_has_perl),
        _ => false,
    }
}

fn ascii_of_perl(class: &ClassPerl) -> ClassAscii {
    ClassAscii {
        span: class.span,
        kind: match class.kind {
            ClassPerlKind::Digit => ClassAsciiKind::Digit,
            ClassPerlKind::Space => ClassAsciiKind::Space,
            ClassPerlKind::Word => ClassAsciiKind::Word,
        },
        negated: class.negated,
    }
}

fn put_set_in_ascii(set: &mut ClassSet) {
    match set {
        ClassSet::Item(item) => put_item_in_ascii(item),
        ClassSet::BinaryOp(both) => {
            put_set_in_ascii(&mut both.lhs);
            put_set_in_ascii(&mut both.rhs);
        }
    }
}

fn put_item_in_ascii(item: &mut ClassSetItem) {
    match item {
        ClassSetItem::Perl(class) => *item = ClassSetItem::Ascii(ascii_of_perl(class)),
        ClassSetItem::Bracketed(class) => put_set_in_ascii(&mut class.kind),
        ClassSetItem::Union(union) => union.items.iter_mut().for_each(put_item_in_ascii),
        _ => {}
    }
}

fn with_ascii_boundaries(hir: Hir) -> Hir {
    let each = |hirs: Vec<Hir>| hirs.into_iter().map(with_ascii_boundaries).collect();
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::WordStartUnicode => Look::WordStartAscii,
            Look::WordEndUnicode => Look::WordEndAscii,
            Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
            Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
            other => other,
        }),
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            sub: Box::new(with_ascii_boundaries(*repetition.sub)),
            ..repetition
        }),
        // Nobody asks for groups.
        HirKind::Capture(capture) => with_ascii_boundaries(*capture.sub),
        HirKind::Concat(hirs) => Hir::concat(each(hirs)),
        HirKind::Alternation(hirs) => Hir::alternation(each(hirs)),
    }
}
