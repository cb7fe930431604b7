use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use decidable_canon::cast;

use crate::storage::{Access, FileState, Lock, Locking, Storage, StoredFile};

/// A directory in memory that can fail on demand: the model of a disk that the fault tests run on.
///
/// It keeps what a power loss would leave apart from what the process sees. A write changes only what is seen and marks
/// its 512-byte sectors; a sync makes the marked sectors durable. A sync that fails unmarks them without making them
/// durable, as page caches do, so that a second sync would succeed and mean nothing. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

/// What happens instead of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails with an error of this kind and does nothing.
    Fail(io::ErrorKind),
    /// A write takes only this many bytes; any other operation fails.
    Short(usize),
    /// The process dies: a write still takes this many bytes, and from then on nothing has any effect.
    Die(usize),
}

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    /// Signalled when a stall ends.
    resumed: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    directories: BTreeSet<String>,
    durable_directories: BTreeSet<String>,
    locks: BTreeMap<String, String>,
    operations: u64,
    writes: u64,
    syncs: u64,
    faults: BTreeMap<u64, Fault>,
    capacity: Option<usize>,
    stalled: bool,
    reads_stalled: bool,
    waiting: usize,
    dead: bool,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    seen: Vec<u8>,
    durable: Vec<u8>,
    marked: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Made { directory: String },
    Linked { name: String, file: usize },
    Renamed { from: String, to: String },
}

impl Memory {
    /// An empty directory that does not exist yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with(disk: Disk) -> Self {
        Self {
            shared: Arc::new(Shared {
                disk: Mutex::new(disk),
                resumed: Condvar::new(),
            }),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations there have been, failed ones among them.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }
    /// How many writes there have been.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.disk().writes
    }
    /// How many syncs of contents there have been.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }
    /// Lets the operation of that number, counted from 1 over the life of the directory, go wrong.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.disk().faults.insert(operation, fault);
    }
    /// Limits the bytes of all files together: what does not fit is not taken, as on a full disk.
    pub fn limit(&self, bytes: Option<usize>) {
        self.disk().capacity = bytes;
    }
    /// Makes syncs wait until `stall(false)`.
    pub fn stall(&self, stalled: bool) {
        self.disk().stalled = stalled;
        self.shared.resumed.notify_all();
    }
    /// Makes reads wait until `stall_reads(false)`.
    pub fn stall_reads(&self, stalled: bool) {
        self.disk().reads_stalled = stalled;
        self.shared.resumed.notify_all();
    }
    /// How many operations wait for a stall to end.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.disk().waiting
    }

    /// Waits as long as `stalled` says so.
    fn resumed(&self, stalled: impl Fn(&Disk) -> bool) -> MutexGuard<'_, Disk> {
        let mut disk = self.disk();
        while stalled(&disk) {
            disk.waiting = disk.waiting.saturating_add(1);
            disk = self.shared.resumed.wait(disk).unwrap_or_else(PoisonError::into_inner);
            disk.waiting = disk.waiting.saturating_sub(1);
        }
        disk
    }

    /// The bytes of a file as the process sees them.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        let file = disk.names.get(name)?;
        Some(disk.files.get(*file)?.seen.clone())
    }
    /// Puts a durable file there, whatever there was before.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        let file = disk.files.len();
        disk.files.push(Contents {
            seen: bytes.to_vec(),
            durable: bytes.to_vec(),
            marked: BTreeSet::new(),
        });
        for directory in [String::new(), directory_of(name).to_owned()] {
            disk.directories.insert(directory.clone());
            disk.durable_directories.insert(directory);
        }
        disk.names.insert(name.to_owned(), file);
        disk.durable_names.insert(name.to_owned(), file);
    }

    /// What is left when the process dies now: everything written, nothing locked, no faults.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut disk = self.disk().clone();
        disk.reset();
        Self::with(disk)
    }

    /// One of the states that a power loss can leave now, by `seed`. Of the sectors that were not durable any subset
    /// survives. One that does not keeps its durable bytes, and beyond the durable length it holds zeros, 0xff or
    /// garbage. The length is the durable one, the seen one, or one in between. Changes of names that were not durable
    /// survive up to some point.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let mut disk = self.disk().clone();
        let mut random = Random(seed);
        for file in &mut disk.files {
            file.lose_power(&mut random);
        }
        let kept = random.below(disk.name_changes.len().saturating_add(1));
        let changes = std::mem::take(&mut disk.name_changes);
        for change in changes.into_iter().take(kept) {
            change.apply(&mut disk.durable_names, &mut disk.durable_directories);
        }
        let directories = disk.durable_directories.clone();
        disk.durable_names
            .retain(|name, _| directories.contains(directory_of(name)));
        disk.names = disk.durable_names.clone();
        disk.directories = directories;
        disk.reset();
        Self::with(disk)
    }
}

/// A small generator (splitmix64, public domain, Sebastiano Vigna) for the choice of a power loss's outcome.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, bound: usize) -> usize {
        let bound = cast::u64_from_usize(bound).max(1);
        cast::usize_from_u64(self.next() % bound).unwrap_or(0)
    }
}

impl Contents {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset.saturating_add(bytes.len());
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        if let Some(place) = self.seen.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        self.marked.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.marked) {
            Self::copy_sector(sector, &self.seen, &mut self.durable);
        }
    }

    fn copy_sector(sector: usize, from: &[u8], to: &mut [u8]) {
        let start = sector.saturating_mul(SECTOR_BYTES);
        let end = start.saturating_add(SECTOR_BYTES).min(from.len()).min(to.len());
        if let (Some(from), Some(to)) = (from.get(start..end), to.get_mut(start..end)) {
            to.copy_from_slice(from);
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        let (shorter, longer) = (
            self.durable.len().min(self.seen.len()),
            self.durable.len().max(self.seen.len()),
        );
        let length = match random.below(3) {
            0 => self.durable.len(),
            1 => self.seen.len(),
            _ => shorter.saturating_add(random.below(longer.saturating_sub(shorter).saturating_add(1))),
        };
        let durable_length = self.durable.len();
        let mut left = std::mem::take(&mut self.durable);
        left.resize(length, 0);
        let fill = random.below(4);
        for sector in std::mem::take(&mut self.marked) {
            if random.below(2) == 0 {
                Self::copy_sector(sector, &self.seen, &mut left);
                continue;
            }
            let start = sector.saturating_mul(SECTOR_BYTES);
            let end = start.saturating_add(SECTOR_BYTES).min(left.len());
            if let Some(lost) = left.get_mut(start.max(durable_length)..end) {
                for byte in lost {
                    *byte = match fill {
                        0 | 1 => 0,
                        2 => 0xff,
                        _ => random.next().to_le_bytes()[0],
                    };
                }
            }
        }
        self.seen.clone_from(&left);
        self.durable = left;
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>, directories: &mut BTreeSet<String>) {
        match self {
            Self::Made { directory } => {
                directories.insert(directory);
            }
            Self::Linked { name, file } => {
                names.insert(name, file);
            }
            Self::Renamed { from, to } => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
        }
    }
    fn directory(&self) -> &str {
        match self {
            Self::Made { .. } => "",
            Self::Linked { name, .. } | Self::Renamed { to: name, .. } => directory_of(name),
        }
    }
}

fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Disk {
    fn reset(&mut self) {
        self.locks.clear();
        self.faults.clear();
        self.name_changes.clear();
        self.operations = 0;
        self.writes = 0;
        self.syncs = 0;
        self.capacity = None;
        self.stalled = false;
        self.reads_stalled = false;
        self.waiting = 0;
        self.dead = false;
    }
    /// Counts an operation; a short write is the caller's to carry out.
    fn operate(&mut self) -> io::Result<Option<usize>> {
        if self.dead {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        self.operations = self.operations.saturating_add(1);
        match self.faults.get(&self.operations) {
            Some(Fault::Fail(kind)) => Err(io::Error::from(*kind)),
            Some(Fault::Short(taken)) => Ok(Some(*taken)),
            Some(Fault::Die(taken)) => {
                self.dead = true;
                Ok(Some(*taken))
            }
            None => Ok(None),
        }
    }
    /// Counts an operation that cannot be short.
    fn operate_whole(&mut self) -> io::Result<()> {
        match self.operate()? {
            Some(_) => Err(io::Error::from(io::ErrorKind::Other)),
            None => Ok(()),
        }
    }
    fn file(&mut self, file: usize) -> io::Result<&mut Contents> {
        self.files
            .get_mut(file)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

impl Storage for Memory {
    fn create(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate_whole()?;
        disk.directories.insert(String::new());
        disk.durable_directories.insert(String::new());
        Ok(())
    }
    fn create_directory(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate_whole()?;
        if disk.directories.insert(name.to_owned()) {
            disk.name_changes.push(NameChange::Made {
                directory: name.to_owned(),
            });
        }
        Ok(())
    }
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.operate_whole()?;
        Ok(disk
            .names
            .keys()
            .chain(disk.directories.iter().filter(|name| !name.is_empty()))
            .filter(|name| directory_of(name) == directory)
            .map(|name| name.rsplit_once('/').map_or(name.as_str(), |(_, last)| last).to_owned())
            .collect())
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StoredFile>> {
        let mut disk = self.disk();
        disk.operate_whole()?;
        let found = disk.names.get(name).copied();
        let file = match (found, access) {
            (Some(file), Access::Read | Access::Write) => file,
            (None, Access::Read | Access::Write) => return Err(io::Error::from(io::ErrorKind::NotFound)),
            (Some(file), Access::Create) => {
                disk.file(file)?.seen.clear();
                file
            }
            (None, Access::Create) => {
                if !disk.directories.contains(directory_of(name)) {
                    return Err(io::Error::from(io::ErrorKind::NotFound));
                }
                let file = disk.files.len();
                disk.files.push(Contents::default());
                disk.names.insert(name.to_owned(), file);
                disk.name_changes.push(NameChange::Linked {
                    name: name.to_owned(),
                    file,
                });
                file
            }
        };
        Ok(Arc::new(MemoryFile {
            memory: self.clone(),
            name: name.to_owned(),
            file,
        }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate_whole()?;
        if !disk.names.contains_key(from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let change = NameChange::Renamed {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let Disk { names, directories, .. } = &mut *disk;
        change.clone().apply(names, directories);
        disk.name_changes.push(change);
        Ok(())
    }
    fn sync_directory(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate_whole()?;
        let changes = std::mem::take(&mut disk.name_changes);
        for change in changes {
            if change.directory() == name {
                let Disk {
                    durable_names,
                    durable_directories,
                    ..
                } = &mut *disk;
                change.apply(durable_names, durable_directories);
            } else {
                disk.name_changes.push(change);
            }
        }
        Ok(())
    }
    fn lock(&self, name: &str, text: &str) -> io::Result<Locking> {
        let mut disk = self.disk();
        disk.operate_whole()?;
        if let Some(holder) = disk.locks.get(name) {
            return Ok(Locking::Busy(holder.clone()));
        }
        disk.locks.insert(name.to_owned(), text.to_owned());
        Ok(Locking::Held(Box::new(MemoryLock {
            memory: self.clone(),
            name: name.to_owned(),
        })))
    }
}

#[derive(Debug)]
struct MemoryLock {
    memory: Memory,
    name: String,
}

impl Lock for MemoryLock {
    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut disk = self.memory.disk();
        disk.operate_whole()?;
        disk.locks.insert(self.name.clone(), text.to_owned());
        Ok(())
    }
    fn release(self: Box<Self>) {}
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.memory.disk().locks.remove(&self.name);
    }
}

#[derive(Debug)]
struct MemoryFile {
    memory: Memory,
    name: String,
    file: usize,
}

impl StoredFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.memory.resumed(|disk| disk.reads_stalled);
        disk.operate_whole()?;
        let contents = disk.file(self.file)?;
        let start = cast::usize_from_u64(offset).unwrap_or(usize::MAX);
        let rest = contents.seen.get(start..).unwrap_or_default();
        let taken = rest.len().min(buffer.len());
        if let (Some(from), Some(to)) = (rest.get(..taken), buffer.get_mut(..taken)) {
            to.copy_from_slice(from);
        }
        Ok(taken)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.memory.disk();
        disk.writes = disk.writes.saturating_add(1);
        let mut taken = disk.operate()?.unwrap_or(usize::MAX).min(bytes.len());
        let start = cast::usize_from_u64(offset).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if let Some(capacity) = disk.capacity {
            let used = disk.files.iter().map(|file| file.seen.len()).sum::<usize>();
            let own = disk.file(self.file)?.seen.len();
            let room = own.saturating_add(capacity.saturating_sub(used));
            taken = taken.min(room.saturating_sub(start));
            if taken == 0 && !bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        disk.file(self.file)?.write(bytes.get(..taken).unwrap_or(bytes), start);
        Ok(taken)
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.memory.resumed(|disk| disk.stalled);
        disk.syncs = disk.syncs.saturating_add(1);
        let outcome = disk.operate_whole();
        let dead = disk.dead;
        let contents = disk.file(self.file)?;
        match outcome {
            Ok(()) => contents.sync(),
            Err(_) if dead => {}
            Err(_) => contents.marked.clear(),
        }
        outcome
    }
    fn state(&self) -> io::Result<FileState> {
        let mut disk = self.memory.disk();
        disk.operate_whole()?;
        let current = disk.names.get(&self.name) == Some(&self.file);
        Ok(FileState {
            length: cast::u64_from_usize(disk.file(self.file)?.seen.len()),
            current,
        })
    }
    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut disk = self.memory.disk();
        disk.operate_whole()?;
        let length = cast::usize_from_u64(length).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        disk.file(self.file)?.seen.resize(length, 0);
        Ok(())
    }
}
