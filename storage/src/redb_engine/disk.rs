//! Where the store's files come from.
//!
//! The engine touches files through [`Disk`] alone, so that tests can put a disk below it that loses power, tears
//! writes, or fails.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError};
use rustix::fs::{Advice, fadvise, fstatvfs};

use crate::error::StoreError;

/// The files of one store.
pub trait Disk: Send + Sync {
    /// What to call the place in messages.
    fn describe(&self) -> String;

    /// Creates an empty database, which must not exist yet.
    fn create(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Opens a database that exists.
    fn open(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Removes a file.
    fn remove(&self, file: &str) -> io::Result<()>;

    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes sure that created and removed files stay so after a loss of power.
    fn sync_directory(&self) -> io::Result<()>;

    /// Room left for the store, in bytes.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Drops what the system remembers of a file that is not open, except what it still has to write.
    ///
    /// After a sync has failed, the system may take pages for written that never were: they read well until the power
    /// goes. A store that is built on such pages is lost, so what cannot be read back from the disk must not be read.
    fn forget_cached(&self, file: &str) -> io::Result<()>;

    /// Fails when the file that was opened under this name last is no longer there: what is written to it would be lost.
    fn check_in_place(&self, file: &str) -> io::Result<()>;
}

pub(crate) const LOCK_FILE: &str = "lock";
/// Only the owner may look into a store.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A store's directory, locked against other processes for as long as this lives.
pub(super) struct DirectoryDisk {
    path: PathBuf,
    directory: File,
    /// Device and inode of each file when it was opened.
    opened: Mutex<HashMap<String, (u64, u64)>>,
    _lock: File,
}

impl DirectoryDisk {
    /// Locks the directory, creating it when missing.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let directory = create_directory(path).map_err(StoreError::io(&shown))?;
        let lock_file = path.join(LOCK_FILE).display().to_string();
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(path.join(LOCK_FILE))
            .map_err(StoreError::io(&lock_file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                directory,
                opened: Mutex::default(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(StoreError::io(lock_file)(error)),
        }
    }

    /// What stands under this name now.
    fn identity(&self, file: &str) -> io::Result<(u64, u64)> {
        let found = fs::metadata(self.path.join(file))?;
        Ok((found.dev(), found.ino()))
    }

    fn note_opened(&self, file: &str) -> io::Result<()> {
        let identity = self.identity(file)?;
        self.opened.lock().insert(file.to_owned(), identity);
        Ok(())
    }
}

fn create_directory(path: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => sync_parent(path)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Somebody has made it, or a start that was cut off before it synced: this store depends on it.
            if fs::read_dir(path)?.next().is_none() {
                sync_parent(path)?;
            }
        }
        Err(error) => return Err(error),
    }
    File::open(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

impl Disk for DirectoryDisk {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn create(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let created = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .mode(FILE_MODE)
            .open(self.path.join(file))?;
        self.note_opened(file)?;
        builder.create_with_backend(FileBackend::new(created)?)
    }

    fn open(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let opened = builder.open(self.path.join(file))?;
        self.note_opened(file)?;
        Ok(opened)
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = fstatvfs(&self.directory)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn forget_cached(&self, file: &str) -> io::Result<()> {
        let file = File::open(self.path.join(file))?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    }

    fn check_in_place(&self, file: &str) -> io::Result<()> {
        let opened = self.opened.lock().get(file).copied();
        match self.identity(file) {
            Ok(found) if Some(found) == opened => Ok(()),
            Ok(_) => Err(io::Error::other(
                "another file was put in its place while it was in use",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::new(
                error.kind(),
                "it was removed or moved away while it was in use: put it back, or stop the server and restore the store",
            )),
            Err(error) => Err(error),
        }
    }
}
