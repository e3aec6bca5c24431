//! What the store holds in memory, and how a durable batch gets there.
//!
//! A change enters the hot set and the filter at once, when a worker takes it up, under the lock of the open batch
//! (`pending_commits`): whoever asks afterwards sees it, durable or not (invariant 1). When its commit fails, the hot set is
//! told to distrust what it says of the digest.
//!
//! Order of a batch's life (invariant 3): in memory, then durable in the journal, then in the list of batches that are not
//! folded yet; then its replies leave, and the folder may take it from the list.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pyzor_protocol::Digest;

use super::change::{Batch, Change};
use super::faults::{PlantedBug, planted};
use super::hot_set::{Completed, Hot, HotSet, Remember};
use super::interleave::{lock, switch_point};
use super::pending_commits::PendingCommits;
use super::seen_filter::{Filter, SeenFilter};
use super::shard::{Shard, shard_of};
use crate::record::{CleanupAge, Record};

/// What the store holds in memory.
pub(super) struct Memory {
    pub(super) hot: HotSet,
    pub(super) shards: Box<[Shard]>,
    pub(super) age: CleanupAge,
    seen: SeenFilter,
    /// Durable batches that some shard has not folded, oldest first. Whoever also needs the lock of the open batch takes
    /// that one first.
    unfolded: Mutex<VecDeque<Arc<Batch>>>,
    /// Changes that have become durable since the store was opened.
    applied: AtomicU64,
}

/// Whether a shard with this watermark still lacks the batch.
pub(super) fn is_unfolded(seq: u64, watermark: u64) -> bool {
    seq > watermark || planted(PlantedBug::FoldReplayed)
}

impl Memory {
    pub(super) fn new(hot: HotSet, filter: Filter, shards: Box<[Shard]>, age: CleanupAge) -> Self {
        Self {
            hot,
            shards,
            age,
            seen: SeenFilter::new(filter),
            unfolded: Mutex::default(),
            applied: AtomicU64::new(0),
        }
    }

    /// What memory knows of `digest`. The filter comes first: it has every digest that the hot set has with a record, most
    /// checks are of digests it does not have, and its no costs one line of memory.
    pub(super) fn look_up(&self, digest: &Digest) -> Hot {
        if !self.seen.contains(digest) {
            return Hot::Known(Record::EMPTY);
        }
        self.hot.get(digest)
    }

    /// Takes in a change of batch `seq`. Whoever calls sees to it that this is done for one change at a time.
    pub(super) fn take_in(&self, change: &Change, seq: u64) {
        let stored = self.seen.contains(&change.digest);
        switch_point();
        self.hot.apply(change, seq, stored);
        switch_point();
        self.seen.insert(&change.digest);
    }

    /// Takes back a change that does not count. Changes up to batch `kept` of the same digest still do.
    pub(super) fn take_back(&self, change: &Change, kept: u64) {
        if !planted(PlantedBug::FailedShown) {
            self.hot.distrust(&change.digest, kept);
        }
    }

    /// Keeps a batch that is durable, and whose changes have been taken in, until it is folded.
    pub(super) fn keep(&self, batch: Batch) {
        self.applied
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        lock(&self.unfolded).push_back(Arc::new(batch));
    }

    /// Takes in and keeps a batch that was found in the journal.
    pub(super) fn recover(&self, batch: Batch) {
        for change in batch.changes() {
            if is_unfolded(batch.seq, self.shard(&change.digest).watermark()) {
                self.take_in(&change, batch.seq);
            }
        }
        self.keep(batch);
    }

    /// Puts together what the shard said of `digest`, with the last batch that is in that, and what memory says; see
    /// [`HotSet::complete`].
    pub(super) fn complete(
        &self,
        digest: &Digest,
        (base, watermark): (Record, u64),
        remember: Remember,
        pending: &PendingCommits,
        current: impl Fn() -> bool,
    ) -> Completed {
        match self.hot.complete(digest, base, remember, &current) {
            Completed::Replay => {
                self.replay(digest, (base, watermark), pending, &current);
                self.hot.complete(digest, base, Remember::No, &current)
            }
            completed => completed,
        }
    }

    /// Makes the record of an entry from `base` and its changes, one by one.
    ///
    /// Most of them are gone through while more may come; the rest under the locks, when nobody changes the entry.
    fn replay(
        &self,
        digest: &Digest,
        (base, watermark): (Record, u64),
        pending: &PendingCommits,
        current: impl FnOnce() -> bool,
    ) {
        let mut record = base;
        let apply = |record: &mut Record, changes: &mut dyn Iterator<Item = Change>| {
            changes
                .filter(|change| change.digest == *digest)
                .for_each(|change| record.apply(change.kind, change.time, self.age));
        };
        let is_unfolded = |batch: &&Arc<Batch>| is_unfolded(batch.seq, watermark);
        let batches = self.unfolded();
        for batch in batches.iter().filter(is_unfolded) {
            apply(&mut record, &mut batch.changes());
        }
        let last = batches.last().map_or(0, |batch| batch.seq);
        pending.with_uncommitted(|uncommitted| {
            let unfolded = lock(&self.unfolded);
            let seen = unfolded.partition_point(|batch| batch.seq <= last);
            for batch in unfolded.range(seen..).filter(is_unfolded) {
                apply(&mut record, &mut batch.changes());
            }
            apply(&mut record, uncommitted);
            if current() {
                self.hot.resolve(digest, record);
            }
        });
    }

    /// The durable batches that some shard has not folded, oldest first.
    pub(super) fn unfolded(&self) -> Vec<Arc<Batch>> {
        lock(&self.unfolded).iter().cloned().collect()
    }

    /// Number of the latest batch in that list.
    pub(super) fn latest_unfolded(&self) -> Option<u64> {
        lock(&self.unfolded).back().map(|batch| batch.seq)
    }

    /// Drops batches that every shard has folded. Returns how many changes they had.
    pub(super) fn drop_folded(&self) -> usize {
        let watermark = self.lowest_watermark();
        // Their memory is given back when the lock is, as the committer waits for that.
        let folded: Vec<_> = {
            let mut batches = lock(&self.unfolded);
            let folded = batches.partition_point(|batch| batch.seq <= watermark);
            batches.drain(..folded).collect()
        };
        folded.iter().map(|batch| batch.len()).sum()
    }

    /// Lets everything that enters from now on go into `filter` too, together with what is not folded yet.
    pub(super) fn begin_filter(&self, filter: &Arc<Filter>, pending: &PendingCommits) {
        let (uncommitted, batches) = pending.with_uncommitted(|uncommitted| {
            self.seen.begin(Arc::clone(filter));
            (uncommitted.collect::<Vec<_>>(), self.unfolded())
        });
        let durable = batches.iter().flat_map(|batch| batch.changes());
        for change in durable.chain(uncommitted) {
            filter.insert(&change.digest);
        }
    }

    /// Puts the new filter in place, which now knows every stored digest, or gives it up.
    pub(super) fn end_filter(&self, complete: bool, pending: &PendingCommits) {
        // No change is half way into the filters then. The memory of the old one is given back when the lock is.
        let old = pending.with_uncommitted(|_| self.seen.end(complete));
        drop(old);
    }

    pub(super) fn filter_bits(&self) -> u64 {
        self.seen.bits()
    }

    pub(super) fn is_filter_due(&self) -> bool {
        self.seen.is_due(self.digests())
    }

    pub(super) fn shard(&self, digest: &Digest) -> &Shard {
        &self.shards[shard_of(digest, self.shards.len())]
    }

    /// The last batch that every shard has folded.
    pub(super) fn lowest_watermark(&self) -> u64 {
        self.shards.iter().map(Shard::watermark).min().unwrap_or(0)
    }

    /// Records in all shards.
    pub(super) fn digests(&self) -> u64 {
        self.shards.iter().map(Shard::digests).sum()
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }
}
