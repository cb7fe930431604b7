use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use decidable_canon::{cast::u64_from_usize, hex};

use crate::storage::{Access, FileState, Lock, Locking, Storage, StoredFile};

/// A real directory: mode 0700, its files 0600.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// The directory at `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.root.clone()
        } else {
            self.root.join(name)
        }
    }
}

/// Which start of the machine this is, where the platform says: on Linux, `/proc/sys/kernel/random/boot_id`.
#[must_use]
pub fn boot_id() -> Option<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    hex::decode(&text.trim().replace('-', ""))?.try_into().ok()
}

impl Storage for Files {
    fn create(&self) -> io::Result<()> {
        create_durably(&self.root)
    }
    fn create_directory(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        // A link is not followed: what is written inside must stay inside.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                "something else than a directory is in its place",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => directory_builder().create(path),
            Err(error) => Err(error),
        }
    }
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StoredFile>> {
        let path = self.path(name);
        let mut options = file_options();
        options.read(true).write(access != Access::Read);
        if access == Access::Create {
            options.create(true).truncate(true);
        }
        let file = open_regular(&options, &path)?;
        let identity = Identity::of(&file.metadata()?);
        Ok(Arc::new(OpenFile { file, path, identity }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }
    fn sync_directory(&self, name: &str) -> io::Result<()> {
        sync_directory(&self.path(name))
    }
    fn lock(&self, name: &str, text: &str) -> io::Result<Locking> {
        let mut options = file_options();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_regular(&options, &self.path(name))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What the holder wrote is only informational; a platform may not even let us read it.
                let _ = file.take(LOCK_TEXT_BYTES_MAX).read_to_string(&mut holder);
                return Ok(Locking::Busy(holder.trim_end().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut lock = HeldLock { file };
        lock.write(text)?;
        Ok(Locking::Held(Box::new(lock)))
    }
}

/// Makes a directory and those above it, each durable in the one above.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    create_durably(parent)?;
    match directory_builder().create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent),
    }
}

/// More of a lock file than this is not read.
const LOCK_TEXT_BYTES_MAX: u64 = 512;

/// A link could lead the log out of its directory, and a pipe or device is no place for one.
fn open_regular(options: &OpenOptions, path: &Path) -> io::Result<File> {
    // Before opening, because that can wait at a pipe and do something to a device.
    refuse_irregular(path)?;
    open_checked(options, path)
}

/// Whatever took the name since it was looked at: a link is not followed where the platform can refuse that
/// ([`restrict_file`]), nothing is made or cut behind it, and what was opened is looked at again.
fn open_checked(options: &OpenOptions, path: &Path) -> io::Result<File> {
    // Platforms have different errors for a link.
    let file = options
        .open(path)
        .map_err(|error| refuse_irregular(path).err().unwrap_or(error))?;
    if file.metadata()?.is_file() {
        above_standard(file)
    } else {
        Err(irregular(path))
    }
}

fn refuse_irregular(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(irregular(path)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn irregular(path: &Path) -> io::Error {
    let mut text = OsString::from("not a regular file: ");
    text.push(path);
    io::Error::new(io::ErrorKind::InvalidInput, text.to_string_lossy())
}

#[derive(Debug)]
struct HeldLock {
    file: File,
}

impl Lock for HeldLock {
    fn write(&mut self, text: &str) -> io::Result<()> {
        // What was there is written over before it is cut off: whoever is stopped in between leaves a text, not nothing.
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(u64_from_usize(text.len()))
    }
    fn release(self: Box<Self>) {
        // Closing releases it as well unless a forked child shares it, so a failure leaves nothing to do.
        let _ = self.file.unlock();
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    identity: Identity,
}

impl StoredFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_at(&self.file, buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        write_at(&self.file, bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn state(&self) -> io::Result<FileState> {
        let current = match fs::symlink_metadata(&self.path) {
            Ok(named) => Identity::of(&named) == self.identity,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(FileState {
            length: self.file.metadata()?.len(),
            current,
        })
    }
    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

#[cfg(unix)]
mod platform {
    use std::{
        fs::{DirBuilder, File, Metadata, OpenOptions},
        io,
        os::{
            fd::{AsRawFd as _, RawFd},
            unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
        },
        path::Path,
    };

    /// What tells a file from another one that took its name.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Identity {
        device: u64,
        inode: u64,
    }

    impl Identity {
        pub(super) fn of(metadata: &Metadata) -> Self {
            Self {
                device: metadata.dev(),
                inode: metadata.ino(),
            }
        }
    }

    pub(super) fn restrict_directory(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }
    pub(super) fn restrict_file(options: &mut OpenOptions) {
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    }
    /// Where standard input, output or error are closed, a file that is opened takes the place of one, and whatever else
    /// writes there would write into it. This is the same file elsewhere, with its lock.
    pub fn above_standard(file: File) -> io::Result<File> {
        if file.as_raw_fd() > STANDARD_ERROR {
            return Ok(file);
        }
        // A clone avoids the places of the standard ones.
        let clone = file.try_clone()?;
        if clone.as_raw_fd() > STANDARD_ERROR {
            Ok(clone)
        } else {
            Err(io::Error::other(
                "it would stand in the place of standard output or error",
            ))
        }
    }
    /// The last of the three descriptors that every program takes for its own.
    const STANDARD_ERROR: RawFd = 2;

    pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
    pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }
    pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }
}

#[cfg(windows)]
mod platform {
    use std::{
        fs::{DirBuilder, File, Metadata, OpenOptions},
        io,
        os::windows::fs::FileExt as _,
        path::Path,
    };

    /// The platform's standard metadata does not tell a file from another one that took its name; Windows does not let
    /// an open file be replaced either.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Identity;

    impl Identity {
        pub(super) fn of(_: &Metadata) -> Self {
            Self
        }
    }

    pub(super) fn restrict_directory(_: &mut DirBuilder) {}
    pub(super) fn restrict_file(_: &mut OpenOptions) {}
    /// Handles have no places that every program takes for its own.
    pub fn above_standard(file: File) -> io::Result<File> {
        Ok(file)
    }
    /// Names are journaled by the file system; a directory cannot be opened for syncing.
    pub(super) fn sync_directory(_: &Path) -> io::Result<()> {
        Ok(())
    }
    pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buffer, offset)
    }
    pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.seek_write(bytes, offset)
    }
}

pub use platform::above_standard;
use platform::{Identity, read_at, restrict_directory, restrict_file, sync_directory, write_at};

fn directory_builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    restrict_directory(&mut builder);
    builder
}

fn file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    restrict_file(&mut options);
    options
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
