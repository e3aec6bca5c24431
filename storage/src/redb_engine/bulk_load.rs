//! Filling a new store from another one.
//!
//! Records are collected, and written shard by shard in the order of their digests, which is many times cheaper than one
//! by one. The journal says that an import is going on until everything has been written.

use std::path::Path;

use pyzor_protocol::Digest;
use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use super::disk::{DirectoryDisk, Disk};
use super::options::RedbOptions;
use super::recovery::{Found, complete, create_files, find};
use super::schema::{PackedRecord, RECORDS, Role, State, pack};
use super::shard::shard_of;
use crate::error::StoreError;
use crate::record::Record;

/// Records collected before they are written: 50 MiB.
const COLLECTED_RECORDS: usize = 1 << 20;

/// A store that is being filled. Until [`BulkLoad::finish`] has returned, nobody can open it.
pub struct BulkLoad {
    disk: DirectoryDisk,
    journal: Database,
    shards: Vec<Database>,
    collected: Vec<(Digest, PackedRecord)>,
}

impl BulkLoad {
    /// Starts a new store in `directory`, which is created when missing.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is a store already, [`StoreError::Unfinished`] when there is what an earlier
    /// import has left, and whatever keeps files from being created.
    pub fn create(directory: &Path, options: &RedbOptions) -> Result<Self, StoreError> {
        options.check()?;
        let disk = DirectoryDisk::lock(directory)?;
        let store = disk.describe();
        match find(&disk)? {
            Found::Nothing => {}
            Found::Store(_) => return Err(StoreError::Exists { store }),
            Found::Unfinished => return Err(StoreError::Unfinished { store }),
        }
        let cache_bytes = options.cache_bytes / options.shards;
        let created = create_files(&disk, options.shards, cache_bytes, State::Loading)?;
        Ok(Self {
            disk,
            journal: created.journal,
            shards: created.shards,
            collected: Vec::new(),
        })
    }

    /// Adds a record; the later one of the same digest wins. Writes when enough have come together.
    ///
    /// # Errors
    /// When they cannot be written. The import has failed then.
    pub fn push(&mut self, digest: Digest, record: Record) -> Result<(), StoreError> {
        self.collected.push((digest, pack(&record)));
        if self.collected.len() < COLLECTED_RECORDS {
            return Ok(());
        }
        self.write()
    }

    /// Writes what is left and makes the store one that can be opened. Returns how many different digests it holds.
    ///
    /// # Errors
    /// When that cannot be written. The import has failed then.
    pub fn finish(mut self) -> Result<u64, StoreError> {
        self.write()?;
        let mut digests = 0;
        for (index, shard) in self.shards.iter().enumerate() {
            digests += count(shard).map_err(StoreError::database(&Role::Shard(index).file()))?;
        }
        self.disk
            .sync_directory()
            .map_err(StoreError::io(self.disk.describe()))?;
        complete(&self.journal)?;
        Ok(digests)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        // A stable sort: of one digest the later record stays the later one, and is what remains.
        self.collected.sort_by_key(|(digest, _)| *digest);
        let count = self.shards.len();
        let index_of = |entry: &(Digest, PackedRecord)| shard_of(&entry.0, count);
        for records in self
            .collected
            .chunk_by(|one, other| index_of(one) == index_of(other))
        {
            let index = index_of(&records[0]);
            insert(&self.shards[index], records)
                .map_err(StoreError::database(&Role::Shard(index).file()))?;
        }
        self.collected.clear();
        Ok(())
    }
}

fn insert(shard: &Database, records: &[(Digest, PackedRecord)]) -> Result<(), redb::Error> {
    let mut transaction = shard.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (digest, record) in records {
            table.insert(digest.as_bytes(), record)?;
        }
    }
    Ok(transaction.commit()?)
}

fn count(shard: &Database) -> Result<u64, redb::Error> {
    Ok(shard.begin_read()?.open_table(RECORDS)?.len()?)
}
