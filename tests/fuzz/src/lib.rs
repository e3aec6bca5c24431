//! What the fuzz targets share: a clock that stands still, accounts that the seeds are signed for, a store in memory,
//! a disk in memory for the real one, a file that each run of a target overwrites, and the comparison of digests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a target fails by panicking"
)]

pub mod digest;
mod memory_disk;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pyzor_protocol::{AccessList, Accounts, Digest};
use pyzor_storage::{
    ChangeKind, CleanupAge, Completions, Engine, EpochSeconds, Lookup, Record, Ticket, Unavailable,
    Update, Wanted,
};
use pyzord::access_files::Access;
use tempfile::TempDir;

pub use memory_disk::MemoryDisk;

/// The server's clock. The seeds are signed for it.
pub const NOW: EpochSeconds = 1_700_000_000;

const PASSWD: &[u8] = include_bytes!("../../golden/accounts.passwd");
const ACCESS: &[u8] = include_bytes!("../../golden/accounts.access");

/// Nobody but the anonymous user, and what that one may by default; and the accounts and rules of the golden cases.
pub fn both_accesses() -> [Access; 2] {
    let (accounts, _) = Accounts::parse(PASSWD);
    let (list, _) = AccessList::parse(ACCESS, &accounts);
    [Access::default(), Access { accounts, list }]
}

/// A store in memory that answers at once.
#[derive(Default)]
pub struct MemoryEngine {
    records: Mutex<HashMap<Digest, Record>>,
    updates: AtomicU64,
}

impl MemoryEngine {
    /// Updates taken so far.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }
}

impl Engine for MemoryEngine {
    fn lookup(&self, digest: &Digest, _: Wanted, now: EpochSeconds) -> Lookup {
        let records = self.records.lock().unwrap();
        let record = records.get(digest).copied().unwrap_or_default();
        Lookup::Found(record.visible_at(CleanupAge::DEFAULT, now))
    }

    fn lookup_deferred(
        &self,
        _digest: &Digest,
        _now: EpochSeconds,
        _ticket: Ticket,
        _to: &Completions,
    ) -> Result<(), Unavailable> {
        Err(Unavailable)
    }

    fn update(&self, kind: ChangeKind, digests: &[Digest], now: EpochSeconds) -> Update {
        self.updates.fetch_add(1, Ordering::Relaxed);
        let mut records = self.records.lock().unwrap();
        for digest in digests {
            let record = records.entry(*digest).or_default();
            record.apply(kind, now, CleanupAge::DEFAULT);
        }
        // Digests are the fuzzer's, and it has all the time in the world.
        if records.len() > 100_000 {
            records.clear();
        }
        Update::Done
    }

    fn subscribe(&self, _to: Completions) {}
}

/// A file in a directory of its own, for what is read from a file and from nothing else.
pub struct Scratch(TempDir);

impl Scratch {
    /// An empty directory, in memory where the system has such a file system.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            TempDir::new_in(memory)
        } else {
            TempDir::new()
        };
        Self(directory.expect("a temporary directory"))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// Writes the file and returns its path.
    pub fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).expect("the file can be written");
        path
    }
}
