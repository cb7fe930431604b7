use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::OnceLock;

use pyo3::prelude::*;
use zeroize::Zeroizing;

use crate::errors::{Class, plain, raise};
use crate::source::Source;
use crate::values::{bytes, reason, wrong_type, wrong_type_untold};

/// A key file has at most this many bytes; one that is larger is something else, such as a device without an end.
const KEY_FILE_BYTES_MAX: u64 = 65_536;

/// What the hashes of keys begin with in this process: nobody outside it can compare a hash with a guess.
static HASHED_FIRST: OnceLock<[u8; 8]> = OnceLock::new();

/// A secret of at least 32 bytes for sealing a log. It is never shown and cannot be pickled. Two of the same bytes are equal,
/// which is found in a time that does not depend on them.
#[pyclass(frozen, eq, module = "decidable")]
#[derive(PartialEq, Eq)]
pub(crate) struct Key(pub(crate) decidable_canon::Key);

#[pymethods]
impl Key {
    #[new]
    fn new(raw: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = raw.py();
        decidable_canon::Key::new(bytes("raw", raw)?)
            .map(Self)
            .map_err(|error| plain(py, Class::InvalidInput, "key.too_short", &error.to_string()))
    }
    /// Reads the raw bytes of a key from a file.
    #[staticmethod]
    fn from_file(path: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = path.py();
        let path: PathBuf = path.extract().map_err(|_| wrong_type("path", "a path", path))?;
        let shown = path.display().to_string();
        let mut interrupted = None;
        let read = || {
            let mut raw = Zeroizing::new(Vec::with_capacity(1_024));
            let mut source = Source::open(&path)?;
            let read = (&mut source)
                .take(KEY_FILE_BYTES_MAX.saturating_add(1))
                .read_to_end(&mut raw);
            interrupted = source.interrupted.take();
            read?;
            if decidable_canon::cast::u64_from_usize(raw.len()) > KEY_FILE_BYTES_MAX {
                return Err(io::Error::other(format!("it has more than {KEY_FILE_BYTES_MAX} bytes")));
            }
            io::Result::Ok(raw)
        };
        let raw = py.detach(read);
        if let Some(interrupted) = interrupted {
            return Err(interrupted);
        }
        let raw = raw.map_err(|error| {
            raise(
                py,
                Class::InvalidInput,
                "key.unreadable",
                &format!("the key file {shown} cannot be read: {}", reason(&error)),
                |details| details.set_item("path", path.as_os_str()),
            )
        })?;
        decidable_canon::Key::new(&raw).map(Self).map_err(|error| {
            raise(
                py,
                Class::InvalidInput,
                "key.too_short",
                &format!("the key file {shown} holds no key: {error}"),
                |details| details.set_item("path", path.as_os_str()),
            )
        })
    }
    /// An HMAC under the key, so that it says no more of the bytes than a seal does.
    fn __hash__(&self) -> u64 {
        let first = HASHED_FIRST.get_or_init(|| RandomState::new().hash_one(()).to_le_bytes());
        let mac = self.0.mac(&[b"dcdhash\0", first]);
        u64::from_le_bytes(*mac.bytes().first_chunk().unwrap_or(first))
    }
    const fn __repr__(&self) -> &'static str {
        "Key(…)"
    }
}

/// The key that is given, if one is.
pub(crate) fn keyed(key: Option<&Bound<'_, PyAny>>) -> PyResult<Option<decidable_canon::Key>> {
    key.map(|key| {
        key.cast::<Key>()
            .map(|key| key.get().0.clone())
            .map_err(|_| wrong_type_untold("key", "a Key", key))
    })
    .transpose()
}
