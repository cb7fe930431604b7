//! Rules as bytes: their digest, and what they are read back from (docs/spec/audit.md). The tables are not written: they are made again, which
//! takes milliseconds for the rules that ship and has no bound (docs/limits.md), and tables that came from elsewhere would have to be believed.

use decidable_canon::{Canonical, Digest, Hasher, ReadError, ReadErrorKind, Reader, Sink, cast, tag};

use crate::{Action, Automaton, Check, Error, Pattern, Reads, Rule, Severity};

impl Canonical for Automaton {
    const TAG: tag::Tag = tag::RULES;

    /// The rules in their order, and nothing that is made from them.
    fn encode<S: Sink>(&self, out: &mut S) {
        let rules = self.rules();
        // A place in the list is 16 bits wide.
        out.u32(cast::u32_from_usize(rules.len()).unwrap_or(u32::MAX));
        for rule in rules {
            encode(rule, out);
        }
    }
}

impl Automaton {
    /// The rules as bytes, and their digest behind them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.tag(Self::TAG);
        self.encode(&mut out);
        let digest = Digest::of(&out);
        out.digest(&digest);
        out
    }

    /// Reads rules back and compiles them.
    ///
    /// # Errors
    /// If the bytes are not exactly what [`Self::to_bytes`] writes, with the place; and as [`Self::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read = || -> Result<Result<Vec<Rule>, usize>, ReadError> {
            let mut reader = Reader::new(bytes);
            reader.tag(Self::TAG)?;
            let count = reader.u32()?;
            // Grown as rules are read: no number that is read decides how much memory is taken.
            let mut rules = Vec::new();
            for _ in 0..count {
                rules.push(decode(&mut reader)?);
            }
            let place = reader.offset();
            let digest = reader.digest()?;
            reader.finish()?;
            let mut hasher = Hasher::new();
            hasher.put(bytes.get(..place).unwrap_or_default());
            Ok(if hasher.finish() == digest {
                Ok(rules)
            } else {
                Err(place)
            })
        };
        let rules = read().map_err(|error| Error::at(error.offset(), error))?;
        let rules = rules.map_err(|place| {
            let why = format_args!("the digest at byte {place} is not that of what stands before it");
            Error::at(place, why)
        })?;
        Self::new(rules)
    }
}

fn encode<S: Sink>(rule: &Rule, out: &mut S) {
    let Rule {
        name,
        pattern,
        action,
        replacement,
        severity,
        check,
        reads,
    } = rule;
    out.str(name);
    match pattern {
        Pattern::Literal { text, ignore_case } => {
            out.u8(0);
            out.str(text);
            out.bool(*ignore_case);
        }
        Pattern::Regex(pattern) => {
            out.u8(1);
            out.str(pattern);
        }
    }
    out.u8(match action {
        Action::Stop => 0,
        Action::Redact => 1,
        Action::Record => 2,
        Action::Ignore => 3,
    });
    out.str(replacement);
    out.u8(match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
    });
    out.u8(match check {
        None => 0,
        Some(Check::Luhn) => 1,
        Some(Check::Iban) => 2,
    });
    out.u8(match reads {
        Reads::Visible => 0,
        Reads::Exact => 1,
        Reads::Folded => 2,
    });
}

fn decode(reader: &mut Reader<'_>) -> Result<Rule, ReadError> {
    let name = reader.str()?.to_owned();
    let place = reader.error(ReadErrorKind::OutOfRange);
    let pattern = match reader.u8()? {
        0 => Pattern::Literal {
            text: reader.str()?.to_owned(),
            ignore_case: reader.bool()?,
        },
        1 => Pattern::Regex(reader.str()?.to_owned()),
        _ => return Err(place),
    };
    let place = reader.error(ReadErrorKind::OutOfRange);
    // `ALL` is in the order of the numbers above.
    let action = *Action::ALL.get(usize::from(reader.u8()?)).ok_or(place)?;
    let replacement = reader.str()?.to_owned();
    let place = reader.error(ReadErrorKind::OutOfRange);
    let severity = *Severity::ALL.get(usize::from(reader.u8()?)).ok_or(place)?;
    let place = reader.error(ReadErrorKind::OutOfRange);
    let check = match usize::from(reader.u8()?).checked_sub(1) {
        None => None,
        Some(number) => Some(*Check::ALL.get(number).ok_or(place)?),
    };
    let place = reader.error(ReadErrorKind::OutOfRange);
    let reads = *Reads::ALL.get(usize::from(reader.u8()?)).ok_or(place)?;
    Ok(Rule {
        name,
        pattern,
        action,
        replacement,
        severity,
        check,
        reads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Vec<Rule> {
        vec![
            Rule::literal("drop", "DROP TABLE").with_action(Action::Stop),
            Rule {
                replacement: "…".to_owned(),
                severity: Severity::Low,
                pattern: Pattern::Literal {
                    text: "café".to_owned(),
                    ignore_case: true,
                },
                ..Rule::literal("coffee", "").with_action(Action::Redact)
            },
            Rule::regex("ssn", r"\b\d{3}-\d{2}-\d{4}\b").with_action(Action::Record),
            Rule::regex("off", "x+").with_action(Action::Ignore),
        ]
    }

    #[test]
    fn rules_are_read_back_as_they_were_written() {
        let automaton = Automaton::new(rules()).unwrap();
        let bytes = automaton.to_bytes();
        let again = Automaton::from_bytes(&bytes).unwrap();
        assert_eq!(again.rules(), automaton.rules());
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.digest(), automaton.digest());
        assert!(bytes.ends_with(automaton.digest().bytes()));
    }

    #[test]
    fn every_field_and_the_order_are_in_the_digest() {
        let of = |rules| Automaton::new(rules).unwrap().digest();
        let one = || Rule::literal("a", "b");
        let two = || Rule::literal("c", "d");
        let mut digests = vec![
            of(vec![]),
            of(vec![one()]),
            of(vec![two()]),
            of(vec![one(), two()]),
            of(vec![two(), one()]),
            of(vec![Rule::literal("a", "c")]),
            of(vec![Rule::literal("b", "b")]),
            of(vec![Rule::regex("a", "b")]),
            of(vec![Rule::new(
                "a",
                Pattern::Literal {
                    text: "b".to_owned(),
                    ignore_case: true,
                },
            )]),
            of(vec![Rule {
                replacement: String::new(),
                ..one()
            }]),
            of(vec![Rule {
                severity: Severity::Low,
                ..one()
            }]),
            of(vec![Rule {
                severity: Severity::Medium,
                ..one()
            }]),
            of(vec![Rule {
                reads: Reads::Exact,
                ..one()
            }]),
            of(vec![Rule {
                reads: Reads::Folded,
                ..one()
            }]),
            of(vec![Rule {
                check: Some(Check::Luhn),
                ..Rule::regex("a", "b")
            }]),
            of(vec![Rule {
                check: Some(Check::Iban),
                ..Rule::regex("a", "b")
            }]),
        ];
        digests.extend(
            Action::ALL
                .iter()
                .skip(1)
                .map(|action| of(vec![one().with_action(*action)])),
        );
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    #[test]
    fn the_numbers_are_the_places_in_the_lists() {
        for (action, number) in Action::ALL.into_iter().zip(0..) {
            let mut bytes = Vec::new();
            encode(&Rule::regex("", "").with_action(action), &mut bytes);
            assert_eq!(bytes[9], number, "{action}");
        }
        for (severity, number) in Severity::ALL.into_iter().zip(0..) {
            let mut bytes = Vec::new();
            encode(
                &Rule {
                    severity,
                    ..Rule::regex("", "")
                },
                &mut bytes,
            );
            let [.., written, _, _] = bytes[..] else {
                panic!("{bytes:?}")
            };
            assert_eq!(written, number);
        }
        for (check, number) in [None].into_iter().chain(Check::ALL.map(Some)).zip(0..) {
            let mut bytes = Vec::new();
            encode(
                &Rule {
                    check,
                    ..Rule::regex("", "")
                },
                &mut bytes,
            );
            let [.., written, _] = bytes[..] else {
                panic!("{bytes:?}")
            };
            assert_eq!(written, number);
        }
        for (reads, number) in Reads::ALL.into_iter().zip(0..) {
            let mut bytes = Vec::new();
            encode(
                &Rule {
                    reads,
                    ..Rule::regex("", "")
                },
                &mut bytes,
            );
            assert_eq!(bytes.last(), Some(&number));
        }
    }

    #[test]
    fn every_cut_and_every_changed_bit_is_refused_with_its_place() {
        let bytes = Automaton::new(rules()).unwrap().to_bytes();
        let refused = |bytes: &[u8]| {
            let error = Automaton::from_bytes(bytes).unwrap_err();
            assert_eq!(error.code(), "guard.unreadable");
            assert!(error.offset().is_some_and(|offset| offset <= bytes.len()), "{error}");
            assert!(!error.to_string().contains('\n'));
        };
        for length in 0..bytes.len() {
            refused(&bytes[..length]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(&changed);
        }
        refused(&[bytes.as_slice(), &[0]].concat());
    }

    #[test]
    fn rules_that_are_whole_and_cannot_be_used_are_refused_as_such() {
        let mut bytes = Vec::new();
        bytes.tag(tag::RULES);
        bytes.u32(1);
        encode(&Rule::regex("look", "(?=a)b"), &mut bytes);
        let digest = Digest::of(&bytes);
        bytes.digest(&digest);
        let error = Automaton::from_bytes(&bytes).unwrap_err();
        assert_eq!((error.code(), error.rule()), ("guard.unsupported", Some("look")));
    }
}
