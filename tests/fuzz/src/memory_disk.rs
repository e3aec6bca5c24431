//! A disk in memory that nothing goes wrong on: a store on it is made, copied and thrown away in no time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use pyzor_storage::redb_engine::Disk;
use redb::{Builder, Database, DatabaseError, StorageBackend};

/// A disk in memory.
#[derive(Default)]
pub struct MemoryDisk(Mutex<BTreeMap<String, MemoryFile>>);

/// A file of it; clones are the same file.
#[derive(Clone, Debug, Default)]
struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl MemoryDisk {
    /// Another disk with the same contents.
    #[must_use]
    pub fn copy(&self) -> Self {
        let files = self.files();
        let copies = files
            .iter()
            .map(|(name, file)| (name.clone(), file.copy()))
            .collect();
        Self(Mutex::new(copies))
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, MemoryFile>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl Disk for MemoryDisk {
    fn describe(&self) -> String {
        "the store in memory".to_owned()
    }

    fn create(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let new = MemoryFile::default();
        self.files().insert(file.to_owned(), new.clone());
        builder.create_with_backend(new)
    }

    fn open(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let known = self.files().get(file).cloned();
        let known = known.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        builder.create_with_backend(known)
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        let removed = self.files().remove(file).map(drop);
        removed.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn forget_cached(&self, _file: &str) -> io::Result<()> {
        Ok(())
    }

    fn check_in_place(&self, _file: &str) -> io::Result<()> {
        Ok(())
    }
}

impl MemoryFile {
    fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.bytes().clone())))
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl StorageBackend for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let part = bytes
            .get(offset as usize..)
            .and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let end = offset as usize + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(data);
        Ok(())
    }
}
