//! Moves changes from the journal into the shards.
//!
//! One thread does everything that changes a shard: folding, sweeping (`sweeper`), opening failed files anew; and it
//! builds new filters (`rebuild`). So none of them has to fear another (invariant 7).
//!
//! A fold brings every shard up to the latest batch: all changes of a shard are sorted by digest, applied to their
//! records in the order in which they were made, and committed together with the watermark that says how far the shard is
//! (invariant 4). Large folds are much cheaper a change than small ones, so a fold waits until half of the room for
//! unfolded changes is used, or [`FOLD_INTERVAL`] has passed.
//!
//! A shard that fails stays behind, and its changes stay in the journal and in memory, while the others go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::yield_now;
use std::time::Duration;

use redb::{Database, ReadableTable, ReadableTableMetadata};
use tracing::{debug, warn};

use super::change::{Batch, Change};
use super::faults::{PlantedBug, planted};
use super::memory::is_unfolded;
use super::rebuild::Rebuild;
use super::schema::{RECORDS, pack, unpack, write_watermark};
use super::shard::{Shard, shard_of};
use super::stats::count;
use super::store::Store;
use super::sweeper::Sweeper;
use crate::record::Record;

/// Longest time that a change stays unfolded while all is well.
const FOLD_INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a fold that did not get everywhere.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest sleep of the folder.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Pause between two slices of background work.
const SLICE_PAUSE: Duration = Duration::from_millis(20);
/// Digests after which a fold offers the processor to others.
const DIGESTS_A_SLICE: usize = 256;

/// Room that a fold may need for each page it touches, in bytes: the page itself, and its part of the pages above it.
const BYTES_A_PAGE: u64 = 2 * 4096;
/// Fewest records in a page.
const RECORDS_A_PAGE: u64 = 32;
/// Room that any fold may need, in bytes.
const BYTES_A_FOLD: u64 = 1 << 20;

/// Whether enough changes have come together: half of what there is room for.
pub(super) fn is_fold_worthwhile(new: u64, unfolded: u64, limit: u64) -> bool {
    let held_by_failed_shards = unfolded.saturating_sub(new);
    let room = limit.saturating_sub(held_by_failed_shards);
    new > 0 && new * 2 >= room
}

/// Moves changes from the journal into the shards, and does everything else that changes them.
pub(super) struct Folder {
    store: Arc<Store>,
    sweeper: Sweeper,
    rebuild: Option<Rebuild>,
    /// When the oldest change is to be folded, as uptime.
    fold_due: Option<Duration>,
    /// No fold before this uptime.
    fold_not_before: Duration,
}

impl Folder {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            sweeper: Sweeper::new(&store),
            store,
            rebuild: None,
            fold_due: None,
            fold_not_before: Duration::ZERO,
        }
    }

    /// Does what is most pressing. Returns how long there is nothing more to do.
    pub(super) fn step(&mut self) -> Duration {
        self.reopen_failed();
        if self.is_fold_due() {
            self.fold();
        }
        if self.rebuild_slice() {
            return SLICE_PAUSE;
        }
        let sweep_pause = self.sweeper.step(&self.store);
        sweep_pause.min(LONGEST_SLEEP)
    }

    fn is_fold_due(&mut self) -> bool {
        if !self.is_behind() {
            self.fold_due = None;
            return false;
        }
        let uptime = self.store.clock.uptime();
        let due = *self.fold_due.get_or_insert(uptime + FOLD_INTERVAL);
        uptime >= self.fold_not_before && (uptime >= due || self.store.is_fold_worthwhile())
    }

    /// Whether a shard in service lacks a batch.
    fn is_behind(&self) -> bool {
        let Some(latest) = self.store.memory.latest_unfolded() else {
            return false;
        };
        let shards = self.store.memory.shards.iter();
        shards
            .filter(|shard| !shard.handle.is_failed())
            .any(|shard| shard.watermark() < latest)
    }

    /// Opens failed shards anew if it is time to.
    pub(super) fn reopen_failed(&mut self) {
        let uptime = self.store.clock.uptime();
        for shard in &self.store.memory.shards {
            let disk = self.store.disk.as_ref();
            let take_in = |database: &Database| shard.take_in(database);
            if shard.handle.reopen_if_due(disk, uptime, take_in) {
                self.fold_due = Some(uptime);
            }
        }
    }

    /// Brings every shard up to the latest batch. Returns whether all got there.
    pub(super) fn fold(&mut self) -> bool {
        let store = &self.store;
        self.fold_due = None;
        let applied = store.memory.applied();
        let batches = store.memory.unfolded();
        let Some(last) = batches.last() else {
            return true;
        };
        debug!("folding {} batches", batches.len());
        let mut all = true;
        for (index, shard) in store.memory.shards.iter().enumerate() {
            all &= shard.watermark() >= last.seq || self.fold_shard(index, &batches, last.seq);
        }
        store
            .counters
            .applied_at_fold
            .store(applied, Ordering::Relaxed);
        store.pending.release(store.memory.drop_folded());
        store.pending.poke();
        store.wake_evictor_if_due();
        if !all {
            self.fold_not_before = store.clock.uptime() + RETRY_PAUSE;
            self.fold_due = Some(self.fold_not_before);
        }
        all
    }

    fn fold_shard(&self, index: usize, batches: &[Arc<Batch>], through: u64) -> bool {
        let store = &self.store;
        let shard = &store.memory.shards[index];
        let changes = changes_of(index, store.memory.shards.len(), shard.watermark(), batches);
        if !self.has_room(shard, changes.len() as u64) {
            count(&store.counters.fold_failures);
            return false;
        }
        let folded = shard
            .handle
            .with(|database| self.write(database, &changes, through));
        match folded {
            Ok(Some(digests)) => {
                shard.set_digests(digests);
                shard.publish(through);
                count(&store.counters.folds);
                debug!("{} changes are in {}", changes.len(), shard.handle.file());
                true
            }
            Ok(None) => false,
            Err(_) => {
                count(&store.counters.fold_failures);
                false
            }
        }
    }

    /// Writes the changed records and the watermark. Returns how many records the shard holds then, or `None` when there
    /// is no time left.
    fn write(
        &self,
        database: &Database,
        changes: &[Change],
        through: u64,
    ) -> Result<Option<u64>, redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let digests = {
            let mut records = transaction.open_table(RECORDS)?;
            for (position, changes) in by_digest(changes).enumerate() {
                if position % DIGESTS_A_SLICE == 0 {
                    if self.store.is_stopping() {
                        return Ok(None);
                    }
                    yield_now();
                }
                let digest = changes[0].digest;
                let stored = records.get(digest.as_bytes())?;
                let base = stored.map_or(Record::EMPTY, |record| unpack(record.value()));
                self.store.memory.teach(&digest, base);
                records.insert(digest.as_bytes(), &pack(&self.folded(base, changes)))?;
            }
            records.len()?
        };
        if !planted(PlantedBug::WatermarkNotWritten) {
            write_watermark(&transaction, through)?;
        }
        transaction.commit()?;
        Ok(Some(digests))
    }

    fn folded(&self, mut record: Record, changes: &[Change]) -> Record {
        for change in changes {
            record.apply(change.kind, change.time, self.store.memory.age);
        }
        record
    }

    /// Whether the disk has room for the fold, so that it need not be tried in vain.
    fn has_room(&self, shard: &Shard, changes: u64) -> bool {
        let free = self.store.disk.free_bytes();
        let needed = room_needed(shard.digests(), changes);
        let has_room = free.as_ref().is_ok_and(|&free| free >= needed);
        if !has_room {
            let file = shard.handle.file();
            warn!(
                "{file} cannot be brought up to date: it may take {needed} bytes, the disk has {free:?}"
            );
        }
        has_room
    }

    /// Goes on building a filter, if one is due. Returns whether there is more to do.
    fn rebuild_slice(&mut self) -> bool {
        let shards = &self.store.memory.shards;
        let complete = !shards.iter().any(|shard| shard.handle.is_failed());
        if self.rebuild.is_none() && complete && self.store.memory.is_filter_due() {
            self.rebuild = Rebuild::begin(&self.store);
        }
        let Some(rebuild) = &mut self.rebuild else {
            return false;
        };
        let unfinished = rebuild.step(&self.store);
        if !unfinished {
            self.rebuild = None;
        }
        unfinished
    }

    /// Builds a new filter now.
    pub(super) fn rebuild(&mut self) {
        self.rebuild = Rebuild::begin(&self.store);
        while self.rebuild_slice() {}
    }

    /// Sweeps all shards once now, as far as the clock can be trusted.
    pub(super) fn sweep(&mut self) {
        self.sweeper.pass(&self.store);
    }
}

/// The changes of one shard that it has not folded, by digest, those of one digest in the order they were made.
fn changes_of(index: usize, shards: usize, watermark: u64, batches: &[Arc<Batch>]) -> Vec<Change> {
    let mut changes: Vec<_> = batches
        .iter()
        .filter(|batch| is_unfolded(batch.seq, watermark))
        .flat_map(|batch| batch.changes())
        .filter(|change| shard_of(&change.digest, shards) == index)
        .collect();
    changes.sort_by_key(|change| change.digest);
    changes
}

fn by_digest(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    changes.chunk_by(|one, other| one.digest == other.digest)
}

/// Room that a fold may take on the disk, in bytes: it writes every page anew that it touches.
fn room_needed(records: u64, changes: u64) -> u64 {
    let pages = changes.min((records + changes) / RECORDS_A_PAGE + 1);
    BYTES_A_FOLD + pages * BYTES_A_PAGE
}
