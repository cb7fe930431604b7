use core::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::Digest;

/// A key has at least this many bytes: the width of the HMAC's output, below which a key is the weakest part
/// (RFC 2104, section 3).
pub const MINIMUM_KEY_BYTES: usize = 32;

/// A secret for HMAC-SHA256 (RFC 2104). Its bytes and hash states are wiped when dropped
/// (docs/threat-model.md says what is not); it is never shown.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<Vec<u8>>,
    state: Hmac<Sha256>,
}

/// A key that is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// How many bytes were given.
    pub given: usize,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key needs at least {MINIMUM_KEY_BYTES} bytes, not {}", self.given)
    }
}

impl core::error::Error for KeyError {}

impl Key {
    /// Takes the raw bytes of a key.
    ///
    /// # Errors
    /// If there are fewer than [`MINIMUM_KEY_BYTES`].
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        let refused = KeyError { given: bytes.len() };
        if bytes.len() < MINIMUM_KEY_BYTES {
            return Err(refused);
        }
        let state = Hmac::<Sha256>::new_from_slice(bytes).map_err(|_| refused)?;
        Ok(Self {
            bytes: Zeroizing::new(bytes.to_vec()),
            state,
        })
    }

    /// HMAC-SHA256 over the concatenation of `parts`.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> Digest {
        let mut mac = self.state.clone();
        for part in parts {
            mac.update(part);
        }
        Digest::from_bytes(mac.finalize().into_bytes().into())
    }

    /// Whether `expected` is the HMAC of `parts`, compared in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], expected: &Digest) -> bool {
        self.mac(parts).bytes().ct_eq(expected.bytes()).into()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes.ct_eq(&other.bytes).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}
