//! A database file that may fail and come back.
//!
//! redb latches: after one failed read, write or sync a database refuses everything until it is opened anew. So every
//! file of the store sits behind a handle. The first error takes it out of service, for everybody at once and without
//! touching the disk again; the thread that looks after the file closes it and opens it anew, again and again with
//! growing pauses, until that succeeds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redb::{Builder, Database};
use tracing::{info, warn};

use super::disk::Disk;
use super::schema::{Identity, Role, check_identity};
use crate::error::StoreError;
use crate::trouble::Trouble;

/// Pause before the first attempt to open a failed file anew.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The file is out of service.
#[derive(Debug)]
pub(super) struct Failed;

/// A database file that may fail and come back.
pub(super) struct DatabaseHandle {
    role: Role,
    file: String,
    identity: Identity,
    cache_bytes: usize,
    database: RwLock<Option<Database>>,
    failed: AtomicBool,
    retry: Mutex<Retry>,
    trouble: Mutex<Trouble>,
}

/// When to try again. Times are those of [`Clock::uptime`](super::Clock::uptime).
#[derive(Default)]
struct Retry {
    pause: Option<Duration>,
    due: Duration,
}

impl Retry {
    /// Whether the next attempt is due. The first one is not at once, and each time the pause to the next is longer.
    fn is_due(&mut self, uptime: Duration) -> bool {
        let first = self.pause.is_none();
        if !first && uptime < self.due {
            return false;
        }
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        self.due = uptime + pause;
        !first
    }
}

impl DatabaseHandle {
    /// Takes over a file of the store `identity` that has been created and is open.
    pub(super) fn new(
        identity: Identity,
        role: Role,
        cache_bytes: usize,
        database: Database,
    ) -> Self {
        let handle = Self::closed(identity, role, cache_bytes);
        *handle.database.write() = Some(database);
        handle
    }

    /// Opens a file of the store `identity`.
    pub(super) fn open(
        disk: &dyn Disk,
        identity: Identity,
        role: Role,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let handle = Self::closed(identity, role, cache_bytes);
        if role == Role::Journal {
            // A commit of the journal syncs once, data and header together. Should that sync have failed before this
            // process started, its pages must not be believed. A shard syncs its data before its header.
            disk.forget_cached(&handle.file)
                .map_err(StoreError::io(&handle.file))?;
        }
        *handle.database.write() = Some(handle.open_checked(disk)?);
        Ok(handle)
    }

    fn closed(identity: Identity, role: Role, cache_bytes: usize) -> Self {
        Self {
            role,
            file: role.file(),
            identity,
            cache_bytes,
            database: RwLock::new(None),
            failed: AtomicBool::new(false),
            retry: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Works with the database. An error takes the file out of service.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Failed> {
        if self.is_failed() {
            return Err(Failed);
        }
        let database = self.database.read();
        let database = database.as_ref().ok_or(Failed)?;
        work(database).map_err(|error| {
            if !self.failed.swap(true, Ordering::Relaxed) && self.trouble.lock().is_news() {
                warn!("{} failed and is out of service: {error}", self.file);
            }
            Failed
        })
    }

    /// Works with the database while nobody else does yet, and an error is the end of the matter.
    pub(super) fn while_opening<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database.read();
        let database = database.as_ref().ok_or_else(|| StoreError::Missing {
            file: self.file.clone(),
        })?;
        work(database)
    }

    /// Opens a failed file anew if it is time to, and lets `take_in` read what it holds before anybody else does.
    /// Returns whether it is in service again.
    ///
    /// Waits until nobody works with the old database, so it is for the thread that looks after the file.
    pub(super) fn reopen_if_due(
        &self,
        disk: &dyn Disk,
        uptime: Duration,
        take_in: impl FnOnce(&Database) -> Result<(), StoreError>,
    ) -> bool {
        if !self.is_failed() || !self.retry.lock().is_due(uptime) {
            return false;
        }
        match self.reopen(disk, take_in) {
            Ok(()) => {
                *self.retry.lock() = Retry::default();
                self.failed.store(false, Ordering::Relaxed);
                if self.trouble.lock().is_over() {
                    info!("{} is in service again", self.file);
                }
                true
            }
            Err(error) => {
                if self.trouble.lock().is_news() {
                    warn!("{} is still out of service: {error}", self.file);
                }
                false
            }
        }
    }

    fn reopen(
        &self,
        disk: &dyn Disk,
        take_in: impl FnOnce(&Database) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut database = self.database.write();
        // The old database has to be gone before the file is opened again.
        drop(database.take());
        disk.forget_cached(&self.file)
            .map_err(StoreError::io(&self.file))?;
        let opened = self.open_checked(disk)?;
        take_in(&opened)?;
        *database = Some(opened);
        Ok(())
    }

    fn open_checked(&self, disk: &dyn Disk) -> Result<Database, StoreError> {
        let database = disk
            .open(&self.file, &builder(self.cache_bytes))
            .map_err(StoreError::database(&self.file))?;
        check_identity(&database, self.identity, self.role)?;
        Ok(database)
    }
}

/// How every file of the store is opened.
pub(super) fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut retry = Retry::default();
        let mut uptime = Duration::from_secs(1000);
        assert!(!retry.is_due(uptime), "not at once");
        assert!(!retry.is_due(uptime + FIRST_PAUSE / 2));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = retry.due.saturating_sub(uptime);
            uptime = retry.due;
            assert!(retry.is_due(uptime));
            pauses.push(pause);
        }
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[7], LONGEST_PAUSE);
    }
}
