//! Patterns as what the automata are built from. Classes and word boundaries know ASCII only, so that what a rule matches does not
//! depend on a table of Unicode's, and so that a boundary can be decided from the byte beside it.

use std::borrow::Cow;

use regex_syntax::{
    ast::{
        self, Ast, ClassAscii, ClassAsciiKind, ClassBracketed, ClassPerlKind, ClassSet, ClassSetItem,
        parse::ParserBuilder,
    },
    hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition, translate::TranslatorBuilder},
};

use crate::{Error, ErrorKind, Pattern, Reads, Rule, folding::folded};

/// How deep groups may be nested. What is written by a person is below ten.
const DEEPEST_NESTING: u32 = 64;

/// What a rule looks for.
pub(crate) fn parsed(rule: &Rule) -> Result<Hir, Error> {
    let hir = match &rule.pattern {
        Pattern::Literal { text, ignore_case } => literal(&seen(rule, text), *ignore_case),
        Pattern::Regex(pattern) => regex(&rule.name, pattern)?,
    };
    if let Some(hidden) = hidden(rule.reads, &hir) {
        return Err(Error::new(ErrorKind::Empty, &rule.name, hidden));
    }
    let fault = |why| Err(Error::new(ErrorKind::Empty, &rule.name, why));
    match hir.properties().minimum_len() {
        None => fault("it can never match"),
        Some(0) => fault("it matches the empty text, which is everywhere"),
        Some(_) => Ok(hir),
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

fn regex(name: &str, pattern: &str) -> Result<Hir, Error> {
    let mut ast = ParserBuilder::new()
        .nest_limit(DEEPEST_NESTING)
        .build()
        .parse(pattern)
        .map_err(|error| {
            let (kind, what) = match error.kind() {
                ast::ErrorKind::UnsupportedLookAround => (ErrorKind::Unsupported, "look-around".to_owned()),
                ast::ErrorKind::UnsupportedBackreference => (ErrorKind::Unsupported, "a back-reference".to_owned()),
                kind => (ErrorKind::Syntax, kind.to_string()),
            };
            let at = error.span().start.offset;
            match kind {
                ErrorKind::Unsupported => Error::new(kind, name, format_args!("{what} at byte {at} is not supported")),
                _ => Error::new(kind, name, format_args!("{what}, at byte {at}")),
            }
        })?;
    put_in_ascii(&mut ast);
    let hir = TranslatorBuilder::new()
        .unicode(true)
        .utf8(true)
        .build()
        .translate(pattern, &ast)
        .map_err(|error| {
            let at = error.span().start.offset;
            Error::new(ErrorKind::Syntax, name, format_args!("{}, at byte {at}", error.kind()))
        })?;
    Ok(with_ascii_boundaries(hir))
}

/// Puts the classes `\d`, `\s` and `\w` into ASCII.
fn put_in_ascii(ast: &mut Ast) {
    match ast {
        Ast::ClassPerl(class) => {
            let mut item = ClassSetItem::Perl((**class).clone());
            put_item_in_ascii(&mut item);
            *ast = Ast::ClassBracketed(Box::new(ClassBracketed {
                span: class.span,
                negated: false,
                kind: ClassSet::Item(item),
            }));
        }
        Ast::ClassBracketed(class) => put_set_in_ascii(&mut class.kind),
        Ast::Repetition(repetition) => put_in_ascii(&mut repetition.ast),
        Ast::Group(group) => put_in_ascii(&mut group.ast),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(put_in_ascii),
        Ast::Concat(concat) => concat.asts.iter_mut().for_each(put_in_ascii),
        _ => {}
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
        ClassSetItem::Perl(class) => {
            *item = ClassSetItem::Ascii(ClassAscii {
                span: class.span,
                kind: match class.kind {
                    ClassPerlKind::Digit => ClassAsciiKind::Digit,
                    ClassPerlKind::Space => ClassAsciiKind::Space,
                    ClassPerlKind::Word => ClassAsciiKind::Word,
                },
                negated: class.negated,
            });
        }
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
