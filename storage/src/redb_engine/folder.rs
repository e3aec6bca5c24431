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
use super::committer::RESERVED_BYTES;
use super::faults::{PlantedBug, planted};
use super::interleave::switch_point;
use super::memory::is_unfolded;
use super::rebuild::Rebuild;
use super::schema::{RECORDS, Role, pack, unpack, write_watermark};
use super::shard::shard_of;
use super::stats::count;
use super::store::Store;
use super::sweeper::Sweeper;
use crate::record::Record;
use crate::trouble::Trouble;

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
    no_room: Trouble,
}

impl Folder {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            sweeper: Sweeper::default(),
            store,
            rebuild: None,
            fold_due: None,
            fold_not_before: Duration::ZERO,
            no_room: Trouble::default(),
        }
    }

    /// Does what is most pressing. Returns how long there is nothing more to do.
    pub(super) fn step(&mut self) -> Duration {
        self.reopen_failed();
        self.keep_time();
        if self.is_fold_due() {
            self.fold();
        }
        if self.rebuild_slice() {
            return SLICE_PAUSE;
        }
        let sweep_pause = self.sweeper.step(&self.store);
        sweep_pause.min(LONGEST_SLEEP)
    }

    /// Looks at the clock, and has the time saved when nobody reports anything for long.
    fn keep_time(&self) {
        if self.store.time.unsaved().is_some() {
            self.store.pending.poke();
        }
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

    /// Opens failed shards anew if it is time to. Also notices, and has the committer notice, when files are taken away.
    pub(super) fn reopen_failed(&mut self) {
        let uptime = self.store.clock.uptime();
        let disk = self.store.disk.as_ref();
        // When the whole store was taken away, the committer says so for all files.
        let is_gone = disk.check_in_place(&Role::Journal.file()).is_err();
        if is_gone {
            self.store.pending.poke();
        }
        for shard in &self.store.memory.shards {
            shard.handle.check_in_place(disk, !is_gone);
            let take_in = |database: &Database| shard.take_in(database);
            if shard.handle.reopen_if_due(disk, uptime, take_in) {
                self.fold_due = Some(uptime);
            }
        }
    }

    /// Brings every shard up to the latest batch. Returns whether all got there.
    pub(super) fn fold(&mut self) -> bool {
        let store = Arc::clone(&self.store);
        self.fold_due = None;
        let applied = store.memory.applied();
        let batches = store.memory.unfolded();
        if batches.is_empty() {
            return true;
        }
        debug!("folding {} batches", batches.len());
        let mut all = true;
        for (index, shard) in store.memory.shards.iter().enumerate() {
            let unfolded =
                batches.partition_point(|batch| !is_unfolded(batch.seq, shard.watermark()));
            all &= self.fold_shard(index, &batches[unfolded..]);
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
        } else if self.no_room.is_over() {
            warn!("the store's files are brought up to date again");
        }
        all
    }

    /// Folds batches into a shard: all at once, or, on a disk with little room, a few at a time. What one commit has
    /// replaced, the next one can use.
    fn fold_shard(&mut self, index: usize, mut batches: &[Arc<Batch>]) -> bool {
        while !batches.is_empty() {
            if self.store.memory.shards[index].handle.is_failed() {
                // Its changes, which grow in number, are not worth sorting.
                count(&self.store.counters.fold_failures);
                return false;
            }
            let (now, later) = batches.split_at(self.batches_with_room(index, batches));
            if !self.fold_batches(index, now) {
                return false;
            }
            batches = later;
        }
        true
    }

    fn fold_batches(&self, index: usize, batches: &[Arc<Batch>]) -> bool {
        let store = &self.store;
        let Some(last) = batches.last() else {
            count(&store.counters.fold_failures);
            return false;
        };
        let through = last.seq;
        let shard = &store.memory.shards[index];
        let changes = changes_of(index, store.memory.shards.len(), shard.watermark(), batches);
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
                self.store.memory.hot.teach(&digest, base);
                switch_point();
                records.insert(digest.as_bytes(), &pack(&self.folded(base, changes)))?;
            }
            records.len()?
        };
        if !planted(PlantedBug::WatermarkNotWritten) {
            write_watermark(&transaction, through)?;
        }
        transaction.commit()?;
        switch_point();
        Ok(Some(digests))
    }

    fn folded(&self, mut record: Record, changes: &[Change]) -> Record {
        for change in changes {
            record.apply(change.kind, change.time, self.store.memory.age);
        }
        record
    }

    /// How many of the batches can be folded into a shard with the room that the disk has.
    fn batches_with_room(&mut self, index: usize, batches: &[Arc<Batch>]) -> usize {
        let free = self.store.disk.free_bytes();
        let room = free.as_ref().map_or(0, |&free| free);
        let shards = &self.store.memory.shards;
        let records = shards[index].digests();
        let count = fitting(batches, index, shards.len(), records, room);
        if count == 0 && self.no_room.is_news() {
            let file = shards[index].handle.file();
            match free {
                Ok(free) => warn!(
                    "{file} cannot be brought up to date: the disk has only {} KiB left",
                    free >> 10
                ),
                Err(error) => warn!(
                    "{file} cannot be brought up to date: the disk does not say how much room it has: {error}"
                ),
            }
        }
        count
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

    /// Sweeps all shards once now.
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

/// How many of the batches to fold into shard `index`, which holds `records`, when the disk has `room` bytes.
///
/// Usually all. Else as many as surely fit. If not even one does, it is tried while the disk has its reserve: most likely
/// it takes much less, as a file has free pages; and should it fail, the file is opened anew.
fn fitting(batches: &[Arc<Batch>], index: usize, shards: usize, records: u64, room: u64) -> usize {
    let all = batches.iter().map(|batch| batch.len() as u64).sum();
    if room_needed(records, all) <= room {
        return batches.len();
    }
    let mut changes = 0;
    let fits = |batch: &&Arc<Batch>| {
        let of_shard = |change: &Change| shard_of(&change.digest, shards) == index;
        changes += batch.changes().filter(of_shard).count() as u64;
        room_needed(records, changes) <= room
    };
    let surely = batches.iter().take_while(fits).count();
    surely.max(usize::from(room >= RESERVED_BYTES))
}

fn by_digest(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    changes.chunk_by(|one, other| one.digest == other.digest)
}

/// Room that a fold may take on the disk, in bytes: it writes every page anew that it touches.
fn room_needed(records: u64, changes: u64) -> u64 {
    let pages = changes.min((records + changes) / RECORDS_A_PAGE + 1);
    BYTES_A_FOLD + pages * BYTES_A_PAGE
}

#[cfg(test)]
mod tests {
    use pyzor_protocol::Digest;

    use super::*;
    use crate::record::ChangeKind;

    fn batch(seq: u64, changes: usize) -> Arc<Batch> {
        let mut bytes = Vec::new();
        let change = Change {
            kind: ChangeKind::Report,
            time: 1,
            digest: Digest::from_bytes([0; Digest::BYTES]),
        };
        (0..changes).for_each(|_| change.encode(&mut bytes));
        Arc::new(Batch::decode(seq, &bytes).unwrap())
    }

    #[test]
    fn as_many_batches_are_folded_as_fit() {
        const RECORDS: u64 = 10_000_000;
        let batches = [batch(1, 1000), batch(2, 1000), batch(3, 10_000)];
        let fitting = |batches, room| fitting(batches, 0, 1, RECORDS, room);
        assert_eq!(fitting(&batches, 1 << 30), 3);
        assert_eq!(fitting(&batches, room_needed(RECORDS, 2000)), 2);
        assert_eq!(fitting(&batches, room_needed(RECORDS, 2000) - 1), 1);
        assert_eq!(fitting(&batches, BYTES_A_FOLD), 0);
        assert_eq!(fitting(&batches[2..], RESERVED_BYTES - 1), 0);
        assert_eq!(fitting(&batches[2..], RESERVED_BYTES), 1, "it is tried");
    }
}
