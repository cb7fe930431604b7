//! Patterns as what the automata are built from. Classes and word boundaries know ASCII only, so that what a rule matches does not
//! depend on a table of Unicode's, and so that a boundary can be decided from the byte beside it.

use regex_syntax::{
    ast::{
        self, Ast, ClassAscii, ClassAsciiKind, ClassBracketed, ClassPerlKind, ClassSet, ClassSetItem,
        parse::ParserBuilder,
    },
    hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition, translate::TranslatorBuilder},
};

use crate::{Error, ErrorKind, Pattern, Rule};

/// How deep groups may be nested. What is written by a person is below ten.
const DEEPEST_NESTING: u32 = 64;

/// What a rule looks for.
pub(crate) fn parsed(rule: &Rule) -> Result<Hir, Error> {
    let hir = match &rule.pattern {
        Pattern::Literal { text, ignore_case } => literal(text, *ignore_case),
        Pattern::Regex(pattern) => regex(&rule.name, pattern)?,
    };
    let fault = |why| Err(Error::new(ErrorKind::Empty, &rule.name, why));
    match hir.properties().minimum_len() {
        None => fault("it can never match"),
        Some(0) => fault("it matches the empty text, which is everywhere"),
        Some(_) => Ok(hir),
    }
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
