//! Check digits: what a match must pass besides its pattern, computed byte by byte as an attempt goes on.

use core::fmt;

/// What the characters of a match must pass. Spaces, hyphens, dots, underscores and what is not ASCII, such as other spaces and hyphens, are
/// left out; any other character that does not belong there fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// The digits of payment cards (ISO/IEC 7812-1, annex B): from the last to the first, every second one is doubled and its digits added;
    /// the sum ends in 0. At least two digits.
    Luhn,
    /// An IBAN (ISO 13616): two letters, two check digits from 02 to 98, and 1 to 30 letters and digits; with the first four at the end
    /// and letters as numbers from 10 on, the whole is 1 modulo 97 (ISO/IEC 7064). Letters in either case.
    Iban,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 2] = [Self::Luhn, Self::Iban];

    /// Its name in lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Luhn => "luhn",
            Self::Iban => "iban",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The most characters that an IBAN has.
const IBAN_CHARACTERS: u8 = 34;

/// Country and check digits of an IBAN.
const IBAN_HEAD: u8 = 4;

/// What has been computed of a match so far. Two that are equal go the same way from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum {
    failed: bool,
    /// Characters that count; of a payment card up to 2.
    count: u8,
    /// Luhn: the sum if the last digit is the last. IBAN: the first four characters modulo 97.
    first: u8,
    /// Luhn: the sum if one more digit comes. IBAN: the characters after those modulo 97.
    second: u8,
    /// IBAN: the check digits.
    digits: u8,
}

impl Sum {
    pub(crate) fn step(&mut self, check: Check, byte: u8) {
        if self.failed || matches!(byte, b' ' | b'-' | b'.' | b'_') || !byte.is_ascii() {
            return;
        }
        let value = char::from(byte).to_digit(36).and_then(|value| u8::try_from(value).ok());
        let done = value.and_then(|value| match check {
            Check::Luhn => self.digit(value),
            Check::Iban => self.character(value),
        });
        self.failed = done.is_none();
    }

    fn digit(&mut self, value: u8) -> Option<()> {
        let doubled = match value {
            0..=4 => value.saturating_mul(2),
            5..=9 => value.saturating_mul(2).saturating_sub(9),
            _ => return None,
        };
        let sum = |a: u8, b: u8| a.saturating_add(b) % 10;
        (self.first, self.second) = (sum(self.second, value), sum(self.first, doubled));
        self.count = self.count.saturating_add(1).min(2);
        Some(())
    }

    fn character(&mut self, value: u8) -> Option<()> {
        let is_letter = value >= 10;
        let fits = match self.count {
            0 | 1 => is_letter,
            2 | 3 => !is_letter,
            count => count < IBAN_CHARACTERS,
        };
        if !fits {
            return None;
        }
        if matches!(self.count, 2 | 3) {
            self.digits = self.digits.saturating_mul(10).saturating_add(value);
        }
        let part = if self.count < IBAN_HEAD {
            &mut self.first
        } else {
            &mut self.second
        };
        let shifted = u16::from(*part).saturating_mul(if is_letter { 100 } else { 10 });
        *part = modulo_97(shifted.saturating_add(value.into()).into());
        self.count = self.count.saturating_add(1);
        Some(())
    }

    /// Whether nothing that comes could make it pass.
    pub(crate) const fn failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn passes(&self, check: Check) -> bool {
        !self.failed
            && match check {
                Check::Luhn => self.count == 2 && self.first == 0,
                Check::Iban => {
                    // The first four are six digits: two for each letter.
                    let whole = u32::from(self.second).saturating_mul(1_000_000);
                    self.count > IBAN_HEAD
                        && (2..=98).contains(&self.digits)
                        && modulo_97(whole.saturating_add(self.first.into())) == 1
                }
            }
    }
}

fn modulo_97(value: u32) -> u8 {
    u8::try_from(value % 97).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(check: Check, text: &str) -> bool {
        let mut sum = Sum::default();
        for byte in text.bytes() {
            sum.step(check, byte);
        }
        sum.passes(check)
    }

    /// Numbers that payment processors publish for tests, and a tablet's example of an odd number of digits.
    const CARDS: [&str; 10] = [
        "4111111111111111",
        "4012888888881881",
        "4222222222222",
        "5555 5555 5555 4444",
        "5105-1051-0510-5100",
        "3782 822463 10005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "79927398713",
    ];

    /// The registry's examples.
    const IBANS: [&str; 10] = [
        "GB33BUKB20201555555555",
        "GB82 WEST 1234 5698 7654 32",
        "DE89 3704 0044 0532 0130 00",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
        "CH93-0076-2011-6238-5295-7",
        "nl91abna0417164300",
        "BE68539007547034",
        "ES9121000418450200051332",
    ];

    #[test]
    fn known_numbers_pass_and_no_digit_may_be_another() {
        for (check, numbers) in [(Check::Luhn, CARDS), (Check::Iban, IBANS)] {
            for number in numbers {
                assert!(passes(check, number), "{number}");
                for (place, _) in number.match_indices(|c: char| c.is_ascii_digit()) {
                    for digit in '0'..='9' {
                        let mut other = number.to_owned();
                        other.replace_range(place..=place, &digit.to_string());
                        assert_eq!(passes(check, &other), other == number, "{other}");
                    }
                }
                assert!(!passes(check, &format!("{number},")), "{number},");
                assert!(!passes(check, &format!("x{number}")), "x{number}");
            }
        }
    }

    #[test]
    fn what_stands_between_and_around_a_number_is_left_out() {
        for (check, number) in [
            (Check::Luhn, "4111 1111 1111 1111"),
            (Check::Iban, "DE89 3704 0044 0532 0130 00"),
        ] {
            for between in ["_", ".", "\u{a0}", "\u{202f}", "\u{2011}"] {
                assert!(passes(check, &number.replace(' ', between)), "{between:?}");
                assert!(passes(check, &format!("{between}{number}_")), "{between:?}");
            }
            for before in ["n", "\\", "\\n", "\n", ","] {
                assert!(!passes(check, &format!("{before}{number}")), "{before:?}");
            }
        }
    }

    #[test]
    fn too_little_and_too_much_fail() {
        for text in ["", "0", "-", "7"] {
            assert!(!passes(Check::Luhn, text), "{text:?}");
        }
        assert!(passes(Check::Luhn, "00"));
        for text in ["", "GB33", "3BUKB20201555555555", "GB01"] {
            assert!(!passes(Check::Iban, text), "{text:?}");
        }
        // 97 more or less is the same rest, and no check digits.
        let with = |digits: u32, rest: &str| passes(Check::Iban, &format!("AA{digits:02}{rest}"));
        for rest in (0..500).map(|rest| rest.to_string()) {
            let found: Vec<_> = (0..100).filter(|digits| with(*digits, &rest)).collect();
            assert_eq!(found.len(), 1, "{rest}");
            assert!((2..=98).contains(&found[0]), "{rest}");
        }
        let long = |length: usize| "0".repeat(length);
        let passing = |length: usize| (2..=98).any(|digits| with(digits, &long(length)));
        assert!(passing(30));
        assert!(!passing(31));
    }
}
