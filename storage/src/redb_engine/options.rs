//! What an operator decides about a store, and what follows from it.

use crate::StoreError;
use crate::record::CleanupAge;

/// When an update is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk, together with everything else that arrived in the same millisecond.
    Group,
    /// At once; it is on disk within a second, and lost if the machine or process dies before.
    Relaxed,
}

/// What an operator decides about a store.
///
/// A process takes more memory than the two budgets below: the filter (3 bytes a digest), changes that are not folded, and
/// what the allocator of glibc does not give back, because pages are allocated by one thread and freed by another. With 3 M
/// digests stored, half a million changes folded three times and 200,000 digests read, a process had 583 MiB, and 431 MiB
/// with `MALLOC_ARENA_MAX=2` in its environment; with mimalloc 506 MiB, with jemalloc 542 MiB.
#[derive(Clone, Copy, Debug)]
pub struct RedbOptions {
    /// How long a record lives after its latest report or whitelisting.
    pub cleanup_age: CleanupAge,
    /// When an update is acknowledged.
    pub durability: Durability,
    /// Memory for digests that are answered without touching a file, in bytes.
    pub hot_set_bytes: usize,
    /// Memory for database pages, divided among the store's files, in bytes.
    pub cache_bytes: usize,
    /// Files that digests are spread over: a power of two from 1 to [`MAX_SHARDS`]. Read only when the store is
    /// created; a store keeps the number it was created with.
    pub shards: usize,
    /// Threads that look up in the files what memory does not know.
    pub reader_threads: usize,
}

/// Most files a store spreads its digests over.
pub const MAX_SHARDS: usize = 256;
/// Most reader threads.
pub const MAX_READER_THREADS: usize = 64;
/// Least memory for the hot set, in bytes.
pub const MIN_HOT_SET_BYTES: usize = 1 << 20;

/// Whether digests can be spread over so many files.
pub(super) fn is_number_of_shards(shards: usize) -> bool {
    shards.is_power_of_two() && shards <= MAX_SHARDS
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cleanup_age: CleanupAge::DEFAULT,
            durability: Durability::Group,
            hot_set_bytes: 256 << 20,
            cache_bytes: 256 << 20,
            shards: 8,
            reader_threads: 2,
        }
    }
}

impl RedbOptions {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !is_number_of_shards(self.shards) {
            return Err(StoreError::Option {
                option: "shards",
                found: self.shards,
                expected: "a power of two from 1 to 256",
            });
        }
        if !(1..=MAX_READER_THREADS).contains(&self.reader_threads) {
            return Err(StoreError::Option {
                option: "reader_threads",
                found: self.reader_threads,
                expected: "from 1 to 64",
            });
        }
        if self.hot_set_bytes < MIN_HOT_SET_BYTES {
            return Err(StoreError::Option {
                option: "hot_set_bytes",
                found: self.hot_set_bytes,
                expected: "at least 1 MiB",
            });
        }
        Ok(())
    }
}
