//! The embedded store.
//!
//! # Map
//!
//! A check: [`lookup`](RedbEngine::lookup) asks `memory`: first the `seen_filter`, then the `hot_set`. Rarely both leave it
//! open; then [`lookup_deferred`](RedbEngine::lookup_deferred) queues it for a reader thread (`lookup`), which reads the
//! digest's `shard`.
//!
//! A report: [`update`](RedbEngine::update) puts its changes (`change`) into the open batch of `pending_commits` and into
//! `memory`, where checks see them from then on. The `committer` writes the batch to the `journal` and tells the workers.
//! Later the `folder` moves it into the shards.
//!
//! | file | job |
//! | --- | --- |
//! | `schema` | what is in the files, byte by byte |
//! | `recovery` | creating and opening a store |
//! | `bulk_load` | filling a new store from another one |
//! | `disk` | where files come from |
//! | `database_handle` | a database file that fails and comes back |
//! | `pending_commits` `committer` `journal` `change` | making updates durable |
//! | `memory` `hot_set` `seen_filter` `keyed_hash` | what is known without a file |
//! | `lookup` `sleepers` `shard` | what is known from a file |
//! | `folder` | from the journal into the shards |
//! | `sweeper` `evict` `rebuild` | what leaves: old records, cold entries, full filters |
//! | `store` `threads` `steps` | what the threads share, their loops, and the same work step by step |
//! | `time` `clock` | the store's own time, and the machine's |
//! | `options` `stats` | choices, numbers |
//! | `faults` `interleave` `interleavings` | where tests plant defects, and switch threads; every order of these |
//!
//! # Invariants
//!
//! 1. A reply to an update leaves only when its batch is durable. What a worker takes up after an update was taken up sees
//!    it, durable or not: an update is in memory before [`update`](RedbEngine::update) returns. Nobody is lied to: what is
//!    shown and then lost was acknowledged to nobody; and no check waits for a disk. (`committer`, `pending_commits`)
//! 2. A failed commit is undecided: its updates get 503 and are invisible from then until the journal is in service again;
//!    then they count once if the batch is there. (`committer`)
//! 3. A batch is in memory as a whole before it is committed, and in the list of durable batches before the folder may fold
//!    it and before its replies leave. (`memory`)
//! 4. Each journalled change reaches its shard exactly once, whatever crashes between fold and truncation. (`folder`,
//!    `recovery`)
//! 5. A miss in the hot set means that the shard alone knows. An entry leaves only without unfolded changes; a record that
//!    was read is remembered only if its shard has not changed since. (`hot_set`, `lookup`)
//! 6. Whoever puts base and unfolded changes together sees both at one moment: one entry, one lock. (`hot_set`)
//! 7. One thread folds and sweeps, and never sweeps a record that has an unfolded change, or may get one by a commit that
//!    is under way or undecided. (`folder`, `sweeper`)
//! 8. Everything that grows is bounded: the open batch, unfolded changes and with them the journal and the hot set, the
//!    readers' queue. At the bound the answer is "unavailable". (`pending_commits`, `hot_set`, `lookup`)
//! 9. Records age by the store's own time, which passes only while the store is open, never stands before a time that a
//!    durable change carries, and is moved by no clock. (`time`)

mod bulk_load;
mod change;
mod clock;
mod committer;
mod database_handle;
mod disk;
mod evict;
mod faults;
mod folder;
mod hot_set;
mod interleave;
#[cfg(test)]
mod interleavings;
mod journal;
mod keyed_hash;
mod lookup;
mod memory;
mod options;
mod pending_commits;
mod rebuild;
mod recovery;
mod schema;
mod seen_filter;
mod shard;
mod sleepers;
mod stats;
mod steps;
mod store;
mod sweeper;
#[cfg(test)]
mod tests;
mod threads;
mod time;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use pyzor_protocol::Digest;
use tracing::error;

use crate::engine::{Completions, Engine, Lookup, Ticket, Unavailable, Update, Wanted};
use crate::error::StoreError;
use crate::record::{ChangeKind, EpochSeconds};
use change::Change;
use committer::Committer;
use disk::DirectoryDisk;
use faults::planted;
use folder::Folder;
use hot_set::Hot;
use lookup::Reader;
use pending_commits::PendingCommits;
use schema::Role;
use sleepers::Sleepers;
use stats::{Counters, count};
use store::{Signal, Store};
use threads::{NICE_BACKGROUND, NICE_SERVING, spawn};

pub use bulk_load::BulkLoad;
pub use clock::{Clock, SystemClock};
pub use disk::Disk;
pub use faults::PlantedBug;
#[cfg(feature = "planted-bugs")]
pub use faults::plant;
pub use options::{Durability, MAX_READER_THREADS, MAX_SHARDS, MIN_HOT_SET_BYTES, RedbOptions};
pub use stats::StoreStats;
pub use steps::{HalfLookup, Steps};

/// The embedded store. Dropping it is [closing](RedbEngine::close) it.
pub struct RedbEngine {
    store: Arc<Store>,
    threads: Vec<JoinHandle<()>>,
}

impl RedbEngine {
    /// Opens the store in `directory`, creating it when missing, recovers, and starts its threads.
    ///
    /// # Errors
    /// When another process has it, when its files are not what they should be, or cannot be read.
    pub fn open(
        directory: &Path,
        options: RedbOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        options.check()?;
        let disk = DirectoryDisk::lock(directory)?;
        Self::open_on(Arc::new(disk), options, clock)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// When its files are not what they should be, or cannot be read.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: RedbOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let Parts {
            mut engine,
            committer,
            folder,
            reader,
        } = build(disk, &options, clock)?;
        let store = &engine.store;
        let spawned = &mut engine.threads;
        let reader = Arc::new(reader);
        for number in 0..options.reader_threads {
            let reader = Arc::clone(&reader);
            let reading = move || reader.run(number);
            spawned.push(spawn("store-reader", NICE_SERVING, reading)?);
        }
        let of_evictor = Arc::clone(store);
        let evictor = move || threads::evict(&of_evictor);
        spawned.push(spawn("store-evictor", NICE_BACKGROUND, evictor)?);
        let of_folder = Arc::clone(store);
        let folding = move || threads::fold(folder, &of_folder);
        spawned.push(spawn("store-folder", NICE_BACKGROUND, folding)?);
        let of_committer = Arc::clone(store);
        let committing = move || threads::commit(committer, &of_committer);
        spawned.push(spawn("store-committer", NICE_SERVING, committing)?);
        Ok(engine)
    }

    /// The same without threads: what they would do is done by calling [`Steps`]. For simulations.
    ///
    /// # Errors
    /// When its files are not what they should be, or cannot be read.
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        options: RedbOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Steps), StoreError> {
        let parts = build(disk, &options, clock)?;
        let steps = Steps::new(
            Arc::clone(&parts.engine.store),
            parts.committer,
            parts.folder,
            parts.reader,
        );
        Ok((parts.engine, steps))
    }

    /// Takes no more updates, commits what is pending, answers it, and waits for the store's threads.
    pub fn close(self) {}

    /// Numbers of this moment.
    pub fn stats(&self) -> StoreStats {
        stats::read(&self.store)
    }

    /// Whether `directory` holds a store, finished or not.
    ///
    /// Shards are made only once the journal says what for: a journal alone is what an import or a creation left that
    /// was cut off before it had begun.
    pub fn exists(directory: &Path) -> bool {
        directory.join(Role::Shard(0).file()).exists()
    }

    fn stop(&mut self) {
        self.store.pending.stop();
        self.store.stopping.store(true, Ordering::Relaxed);
        self.store.folder_wake.set();
        self.store.evictor_wake.set();
        self.store.sleepers.wake_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread of the store has panicked: its message is on standard error");
            }
        }
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Engine for RedbEngine {
    fn lookup(&self, digest: &Digest, wanted: Wanted, now: EpochSeconds) -> Lookup {
        let Store { memory, time, .. } = &*self.store;
        match memory.look_up(digest) {
            Hot::Known(record) => {
                let record = record.visible_at(memory.age, time.at(now));
                Lookup::Found(match wanted {
                    Wanted::Counts => record,
                    Wanted::Times => time.shown(record),
                })
            }
            Hot::BaseNeeded | Hot::Absent => Lookup::Deferred,
        }
    }

    fn lookup_deferred(
        &self,
        digest: &Digest,
        now: EpochSeconds,
        ticket: Ticket,
        to: &Completions,
    ) -> Result<(), Unavailable> {
        lookup::enqueue(&self.store, digest, now, ticket, to)
    }

    fn update(&self, kind: ChangeKind, digests: &[Digest], now: EpochSeconds) -> Update {
        if digests.is_empty() {
            return Update::Done;
        }
        let Store {
            pending,
            memory,
            time,
            ..
        } = &*self.store;
        let take_in = |change: &Change, seq| {
            if !planted(PlantedBug::UncommittedHidden) {
                memory.take_in(change, seq);
            }
        };
        let appended = pending.append(kind, digests, time.at(now), take_in);
        match (appended, self.store.durability) {
            (Some(number), Durability::Group) => Update::AfterCommit(number),
            (Some(_), Durability::Relaxed) => Update::Done,
            (None, _) => {
                count(&self.store.counters.unavailable);
                Update::Unavailable
            }
        }
    }

    fn subscribe(&self, to: Completions) {
        self.store.subscribers.lock().push(to);
    }
}

struct Parts {
    engine: RedbEngine,
    committer: Committer,
    folder: Folder,
    reader: Reader,
}

fn build(
    disk: Arc<dyn Disk>,
    options: &RedbOptions,
    clock: Arc<dyn Clock>,
) -> Result<Parts, StoreError> {
    options.check()?;
    faults::plant_from_environment();
    let recovered = recovery::recover(disk.as_ref(), options, &clock)?;
    let pending = PendingCommits::new(
        recovered.memory.hot.unfolded_limit(),
        recovered.next_seq,
        recovered.unfolded,
    );
    let (lookups, questions) = lookup::queue();
    let store = Arc::new(Store {
        disk,
        clock,
        time: recovered.time,
        durability: options.durability,
        pending,
        memory: recovered.memory,
        lookups,
        sleepers: Sleepers::new(options.reader_threads),
        subscribers: Mutex::default(),
        counters: Counters::default(),
        folder_wake: Signal::default(),
        evictor_wake: Signal::default(),
        stopping: AtomicBool::new(false),
    });
    let mut folder = Folder::new(Arc::clone(&store));
    if recovered.unfolded > store.pending.limit() {
        // The hot set was larger when these changes were taken.
        folder.fold();
        evict::evict_surplus(&store);
    }
    Ok(Parts {
        committer: Committer::new(
            Arc::clone(&store),
            recovered.journal,
            recovered.oldest_row,
            recovered.last_row,
        ),
        folder,
        reader: Reader::new(Arc::clone(&store), questions),
        engine: RedbEngine {
            store,
            threads: Vec::new(),
        },
    })
}
