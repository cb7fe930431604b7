use std::{fmt, io, sync::Arc};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; created, or emptied if it exists.
    Create,
}

/// What a handle's file looks like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Its length in bytes.
    pub length: u64,
    /// Whether its name still leads to this file. Where the platform cannot tell, true.
    pub current: bool,
}

/// One directory of files: everything that the log does to a disk goes through here, so that the code that runs in
/// earnest is the code that the fault tests run.
///
/// A name is a file's name within the directory, or `quarantine/` and a name. The empty name is the directory itself.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Makes the directory if there is none, readable by its owner only, and makes that durable.
    ///
    /// # Errors
    /// Those of the platform.
    fn create(&self) -> io::Result<()>;
    /// Makes a directory inside, if there is none.
    ///
    /// # Errors
    /// Those of the platform.
    fn create_directory(&self, name: &str) -> io::Result<()>;
    /// The names in a directory, of files and of whatever else; none if there is no such directory.
    ///
    /// # Errors
    /// Those of the platform.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Opens a file.
    ///
    /// # Errors
    /// Those of the platform; `NotFound` if there is none.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StoredFile>>;
    /// Renames a file over whatever has the new name.
    ///
    /// # Errors
    /// Those of the platform.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Those of the platform.
    fn sync_directory(&self, name: &str) -> io::Result<()>;
    /// Takes the exclusive lock of that name and writes `text` into its file, where it stays after the release; or says who
    /// holds it. Does not wait.
    ///
    /// # Errors
    /// Those of the platform.
    fn lock(&self, name: &str, text: &str) -> io::Result<Locking>;
}

/// An open file. Dropping it closes it.
pub trait StoredFile: Send + Sync + fmt::Debug {
    /// Reads at an offset; 0 bytes at the end.
    ///
    /// # Errors
    /// Those of the platform.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset and says how many of the bytes were taken.
    ///
    /// # Errors
    /// Those of the platform.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the contents, and the length, durable.
    ///
    /// # Errors
    /// Those of the platform. After one, what was written before may be lost although a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;
    /// Length, and whether the name still leads here.
    ///
    /// # Errors
    /// Those of the platform.
    fn state(&self) -> io::Result<FileState>;
    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// Those of the platform.
    fn set_length(&self, length: u64) -> io::Result<()>;
}

/// What came of taking a lock.
#[derive(Debug)]
pub enum Locking {
    /// It is ours until released.
    Held(Box<dyn Lock>),
    /// Someone holds it; the text is what they wrote.
    Busy(String),
}

/// A held lock. Dropping it closes the file without unlocking: in a forked child the parent's lock stays.
pub trait Lock: Send + fmt::Debug {
    /// Writes another text into its file.
    ///
    /// # Errors
    /// Those of the platform.
    fn write(&mut self, text: &str) -> io::Result<()>;
    /// Unlocks, also for processes that were forked from this one.
    fn release(self: Box<Self>);
}
