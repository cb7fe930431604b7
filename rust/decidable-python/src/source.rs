//! A file to read that may keep one waiting: a pipe or a device. Whoever waits for it hears the interpreter's signals.
//!
//! It knows nothing of what is read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;

use pyo3::prelude::*;
use zeroize::Zeroizing;

use crate::signals::SIGNAL_CHECK;

/// So many bytes are read at a time of what may keep one waiting.
const PIECE_BYTES: usize = 65_536;

/// A piece that was read, wiped when it is dropped: it may be of a key.
type Piece = Zeroizing<Vec<u8>>;

/// The bytes of a file.
pub(crate) struct Source {
    from: From,
    /// What the interpreter's handlers raised while it was waited for; reading then ends with an error.
    pub(crate) interrupted: Option<PyErr>,
}

enum From {
    File(File),
    /// Opening and reading may wait for ever, so a thread does both, and is left to itself where nobody waits any more.
    Thread {
        pieces: Receiver<io::Result<Piece>>,
        piece: Piece,
        taken: usize,
    },
}

impl Source {
    /// Opens a file. Of a pipe or a device the first piece tells whether it can be.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let from = if !may_wait(path)? {
            From::File(File::open(path)?)
        } else {
            let (sender, pieces) = sync_channel(1);
            let path = path.to_owned();
            thread::Builder::new()
                .name("decidable-read".to_owned())
                .spawn(move || read_all(path, &sender))?;
            From::Thread {
                pieces,
                piece: Piece::default(),
                taken: 0,
            }
        };
        Ok(Self {
            from,
            interrupted: None,
        })
    }
}

/// Whether opening or reading may take for ever: of a pipe or a terminal.
#[cfg(unix)]
fn may_wait(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt as _;

    let found = fs::metadata(path)?.file_type();
    Ok(found.is_fifo() || found.is_char_device())
}

#[cfg(not(unix))]
fn may_wait(path: &Path) -> io::Result<bool> {
    Ok(!fs::metadata(path)?.is_file())
}

/// Reads until the end, an error, or nobody wants more.
fn read_all(path: PathBuf, sender: &SyncSender<io::Result<Piece>>) {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return drop(sender.send(Err(error))),
    };
    loop {
        let mut piece = Piece::new(vec![0; PIECE_BYTES]);
        let read = loop {
            match file.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let piece = read.map(|read| {
            piece.truncate(read);
            piece
        });
        let is_last = piece.as_ref().map_or(true, |piece| piece.is_empty());
        if sender.send(piece).is_err() || is_last {
            return;
        }
    }
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let (pieces, piece, taken) = match &mut self.from {
            From::File(file) => return file.read(room),
            From::Thread { pieces, piece, taken } => (pieces, piece, taken),
        };
        while *taken == piece.len() {
            match pieces.recv_timeout(SIGNAL_CHECK) {
                Ok(next) => {
                    (*piece, *taken) = (next?, 0);
                    if piece.is_empty() {
                        return Ok(0);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(raised) = Python::attach(|py| py.check_signals()) {
                        self.interrupted = Some(raised);
                        return Err(io::Error::other("interrupted"));
                    }
                }
                // It has said that it is at the end.
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let rest = piece.get(*taken..).unwrap_or_default();
        let length = rest.len().min(room.len());
        for (room, byte) in room.iter_mut().zip(rest) {
            *room = *byte;
        }
        *taken = taken.saturating_add(length);
        Ok(length)
    }
}
