//! A database file that may fail and come back.
//!
//! redb panics when what it finds in a page makes no sense. That is taken for what it is, damage to the file, and treated as
//! an error of the disk is ([`guarded`]).
//!
//! redb latches: after one failed read, write or sync a database refuses everything until it is opened anew. So every
//! file of the store sits behind a handle. The first error takes it out of service, for everybody at once and without
//! touching the disk again; the thread that looks after the file closes it and opens it anew, again and again with
//! growing pauses, until that succeeds. A file that was found damaged is read from end to end before it is trusted again.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redb::{Builder, Database, ReadableDatabase, ReadableTable};
use tracing::{error, warn};

use super::disk::Disk;
use super::schema::{BATCHES, Identity, RECORDS, Role, check_identity};
use crate::error::StoreError;
use crate::trouble::Trouble;

/// Pause before the first attempt to open a failed file anew.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same for a file that was found damaged: each attempt reads all of it, and most likely in vain.
const LONGEST_PAUSE_DAMAGED: Duration = Duration::from_secs(300);

/// The file is out of service.
#[derive(Debug)]
pub(super) struct Failed;

/// A database file that may fail and come back.
pub(super) struct DatabaseHandle {
    role: Role,
    file: String,
    /// The file's name for people.
    path: String,
    identity: Identity,
    cache_bytes: usize,
    database: RwLock<Option<Database>>,
    failed: AtomicBool,
    damaged: AtomicBool,
    retry: Mutex<Retry>,
    trouble: Mutex<Trouble>,
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be taken for damage to a file, and be told of as such.
pub fn takes_panics_for_damage() -> bool {
    GUARDED.get()
}

/// Works with databases. Where redb panics, the file is damaged: returns what it said.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    // Nothing of ours is left half done: what a panic leaves behind is redb's, and is closed before it is used again.
    let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message_of(panic.as_ref()));
    GUARDED.set(outer);
    done
}

/// What a panic said.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().map(ToString::to_string);
    message
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "redb panicked".to_owned())
}

/// The same for work that may fail in other ways.
pub(super) fn guarded_file<T>(
    file: &str,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    guarded(work).unwrap_or_else(|detail| {
        Err(StoreError::Damaged {
            file: file.to_owned(),
            detail,
        })
    })
}

/// When to try again. Times are those of [`Clock::uptime`](super::Clock::uptime).
#[derive(Default)]
struct Retry {
    pause: Option<Duration>,
    due: Duration,
}

impl Retry {
    /// Whether the next attempt is due. The first one is not at once, and each time the pause to the next is longer.
    fn is_due(&mut self, uptime: Duration, longest: Duration) -> bool {
        let first = self.pause.is_none();
        if !first && uptime < self.due {
            return false;
        }
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |pause| (pause * 2).min(longest));
        self.pause = Some(pause);
        self.due = uptime + pause;
        !first
    }
}

impl DatabaseHandle {
    /// Takes over a file of the store `identity` that has been created and is open.
    pub(super) fn new(
        disk: &dyn Disk,
        identity: Identity,
        role: Role,
        cache_bytes: usize,
        database: Database,
    ) -> Self {
        let handle = Self::closed(disk, identity, role, cache_bytes);
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
        let handle = Self::closed(disk, identity, role, cache_bytes);
        if role == Role::Journal {
            // A commit of the journal syncs once, data and header together. Should that sync have failed before this
            // process started, its pages must not be believed. A shard syncs its data before its header.
            disk.forget_cached(&handle.file)
                .map_err(StoreError::io(&handle.file))?;
        }
        *handle.database.write() = Some(handle.open_checked(disk)?);
        Ok(handle)
    }

    fn closed(disk: &dyn Disk, identity: Identity, role: Role, cache_bytes: usize) -> Self {
        let file = role.file();
        Self {
            role,
            path: format!("{}/{file}", disk.describe()),
            file,
            identity,
            cache_bytes,
            database: RwLock::new(None),
            failed: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
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
        match guarded(|| work(database)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(redb::Error::Corrupted(detail))) | Err(detail) => {
                self.note_damage(&detail);
                Err(Failed)
            }
            Ok(Err(error)) => {
                self.fail(&error);
                Err(Failed)
            }
        }
    }

    /// Takes the file out of service.
    pub(super) fn fail(&self, reason: &dyn Display) {
        if !self.failed.swap(true, Ordering::Relaxed) && self.trouble.lock().is_news() {
            warn!("{} failed and is out of service: {reason}", self.path);
        }
    }

    fn note_damage(&self, detail: &str) {
        self.damaged.store(true, Ordering::Relaxed);
        if !self.failed.swap(true, Ordering::Relaxed) && self.trouble.lock().is_news() {
            error!(
                "{} is damaged and out of service: stop the server and restore the store from a backup ({detail})",
                self.path
            );
        }
    }

    /// Takes the file out of service if it is no longer where it was opened, and says so if nobody else does.
    pub(super) fn check_in_place(&self, disk: &dyn Disk, says_so: bool) {
        if self.is_failed() {
            return;
        }
        match disk.check_in_place(&self.file) {
            Err(error) if says_so => self.fail(&error),
            Err(_) => self.failed.store(true, Ordering::Relaxed),
            Ok(()) => {}
        }
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
        guarded_file(&self.file, || work(database))
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
        let longest = if self.damaged.load(Ordering::Relaxed) {
            LONGEST_PAUSE_DAMAGED
        } else {
            LONGEST_PAUSE
        };
        if !self.is_failed() || !self.retry.lock().is_due(uptime, longest) {
            return false;
        }
        match guarded_file(&self.file, || self.reopen(disk, take_in)) {
            Ok(()) => {
                *self.retry.lock() = Retry::default();
                self.damaged.store(false, Ordering::Relaxed);
                self.failed.store(false, Ordering::Relaxed);
                if self.trouble.lock().is_over() {
                    warn!("{} is in service again", self.path);
                }
                true
            }
            Err(error) => {
                if matches!(error, StoreError::Damaged { .. }) {
                    self.damaged.store(true, Ordering::Relaxed);
                }
                let is_gone = disk.check_in_place(&self.file).is_err();
                let says_so = !is_gone || self.role == Role::Journal;
                if says_so && self.trouble.lock().is_news() {
                    let error = error.within(&disk.describe());
                    warn!("{} is still out of service: {error}", self.path);
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
        let old = database.take();
        if guarded(|| drop(old)).is_err() {
            self.damaged.store(true, Ordering::Relaxed);
        }
        disk.forget_cached(&self.file)
            .map_err(StoreError::io(&self.file))?;
        let opened = self.open_checked(disk)?;
        if self.damaged.load(Ordering::Relaxed) {
            read_everything(&opened, self.role).map_err(StoreError::database(&self.file))?;
        }
        take_in(&opened)?;
        *database = Some(opened);
        Ok(())
    }

    fn open_checked(&self, disk: &dyn Disk) -> Result<Database, StoreError> {
        guarded_file(&self.file, || {
            let database = disk
                .open(&self.file, &builder(self.cache_bytes))
                .map_err(StoreError::database(&self.file))?;
            check_identity(&database, self.identity, self.role)?;
            Ok(database)
        })
    }
}

impl Drop for DatabaseHandle {
    /// Closing a database writes to it, and so may find it damaged.
    fn drop(&mut self) {
        let database = self.database.get_mut().take();
        if let Err(detail) = guarded(|| drop(database)) {
            self.note_damage(&detail);
        }
    }
}

/// Reads all that the file holds, to see whether that can be done.
fn read_everything(database: &Database, role: Role) -> Result<(), redb::Error> {
    let transaction = database.begin_read()?;
    match role {
        Role::Journal => {
            for row in transaction.open_table(BATCHES)?.iter()? {
                row?;
            }
        }
        Role::Shard(_) => {
            for record in transaction.open_table(RECORDS)?.iter()? {
                record?;
            }
        }
    }
    Ok(())
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
        let longest = LONGEST_PAUSE;
        assert!(!retry.is_due(uptime, longest), "not at once");
        assert!(!retry.is_due(uptime + FIRST_PAUSE / 2, longest));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = retry.due.saturating_sub(uptime);
            uptime = retry.due;
            assert!(retry.is_due(uptime, longest));
            pauses.push(pause);
        }
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[7], LONGEST_PAUSE);
    }
}
