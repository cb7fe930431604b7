//! Salts of private parts: the system's randomness, drawn for several at a time, because a call of the system takes as long as all
//! the rest of a short record.

use zeroize::Zeroize as _;

use crate::error::{Error, ErrorKind};

/// So many salts come of one call. They are in memory until they are used, and then no more.
const DRAWN: usize = 64;

type Salt = [u8; 32];

/// Random numbers, each given once. Nothing from which one that was given could be made again is kept.
#[derive(Default)]
pub(crate) struct Salts(Vec<Salt>);

impl Salts {
    /// One that nobody has had.
    pub(crate) fn take(&mut self) -> Result<Salt, Error> {
        if self.0.is_empty() {
            self.0.resize(DRAWN, [0; 32]);
            if let Err(error) = random(self.0.as_flattened_mut()) {
                self.0.clear();
                return Err(error);
            }
        }
        let Some(given) = self.0.last_mut() else {
            return Err(Error::new(ErrorKind::NoRandomness("none was drawn".to_owned())));
        };
        let salt = *given;
        given.zeroize();
        self.0.pop();
        Ok(salt)
    }
}

impl Drop for Salts {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Bytes of the system's randomness.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::new(ErrorKind::NoRandomness(error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_salt_is_another_and_what_was_given_is_wiped() {
        let mut salts = Salts::default();
        let given: HashSet<Salt> = (0..3 * DRAWN + 1).map(|_| salts.take().unwrap()).collect();
        assert_eq!(given.len(), 3 * DRAWN + 1);
        assert!(!given.contains(&[0; 32]));
        assert_eq!(salts.0.len(), DRAWN - 1);
        // What was given last stands in the room behind those that are left, wiped.
        salts.0.resize(DRAWN, [1; 32]);
        assert!(salts.0.iter().all(|salt| !given.contains(salt)));
    }
}
