//! What the store holds in memory, and how a durable batch gets there.
//!
//! Three things must tell the same story: the hot set, the filter, and the list of batches that are not folded yet. A
//! batch enters all of them in one step, under one lock. Workers do not take it: a reader of the hot set sees a batch
//! change by change, which is fine, because nobody is told of the batch before the step is done.
//!
//! Order of a batch's life (invariant 3): durable in the journal, then here, then its replies leave and the folder may
//! take it from the list.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use pyzor_protocol::Digest;

use super::change::Batch;
use super::faults::{PlantedBug, planted};
use super::hot_set::{Completed, Hot, HotSet, Remember};
use super::interleave::{lock, switch_point};
use super::seen_filter::{Filter, SeenFilter};
use super::shard::{Shard, shard_of};
use crate::record::{CleanupAge, EpochSeconds, Record};

/// What the store holds in memory.
pub(super) struct Memory {
    pub(super) hot: HotSet,
    pub(super) shards: Box<[Shard]>,
    pub(super) age: CleanupAge,
    seen: SeenFilter,
    unfolded: Mutex<Unfolded>,
    /// Changes that have entered since the store was opened.
    applied: AtomicU64,
    /// The latest time that any record or change carries.
    latest_time: AtomicU32,
}

#[derive(Default)]
struct Unfolded {
    /// Batches that some shard has not folded, oldest first.
    batches: VecDeque<Arc<Batch>>,
    /// The filter that is being built to replace the one in use.
    next_filter: Option<Arc<Filter>>,
}

/// Whether a shard with this watermark still lacks the batch.
pub(super) fn is_unfolded(seq: u64, watermark: u64) -> bool {
    seq > watermark || planted(PlantedBug::FoldReplayed)
}

impl Memory {
    pub(super) fn new(
        hot: HotSet,
        filter: Filter,
        shards: Box<[Shard]>,
        age: CleanupAge,
        latest_time: EpochSeconds,
    ) -> Self {
        Self {
            hot,
            shards,
            age,
            seen: SeenFilter::new(filter),
            unfolded: Mutex::default(),
            applied: AtomicU64::new(0),
            latest_time: AtomicU32::new(latest_time),
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

    /// Takes a durable batch in.
    pub(super) fn apply(&self, batch: Batch) {
        let mut unfolded = lock(&self.unfolded);
        let mut latest_time = 0;
        for change in batch.changes() {
            latest_time = latest_time.max(change.time);
            if !is_unfolded(batch.seq, self.shard(&change.digest).watermark()) {
                continue;
            }
            let stored = self.seen.contains(&change.digest);
            switch_point();
            self.hot.apply(&change, batch.seq, stored);
            switch_point();
            self.seen.insert(&change.digest);
            if let Some(next) = &unfolded.next_filter {
                next.insert(&change.digest);
            }
        }
        self.note_time(latest_time);
        self.applied
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        unfolded.batches.push_back(Arc::new(batch));
    }

    /// Puts together what the shard said of `digest` and what memory says; see [`HotSet::complete`].
    pub(super) fn complete(
        &self,
        digest: &Digest,
        base: Record,
        remember: Remember,
        current: impl Fn() -> bool,
    ) -> Completed {
        match self.hot.complete(digest, base, remember, &current) {
            Completed::Replay => {
                self.replay(digest, base, &current);
                self.hot.complete(digest, base, Remember::No, &current)
            }
            completed => completed,
        }
    }

    /// Lets the hot set know what `base` the shard holds of `digest`. For the folder, before it replaces it.
    pub(super) fn teach(&self, digest: &Digest, base: Record) {
        if self.hot.teach(digest, base) {
            self.replay(digest, base, || true);
        }
    }

    /// Makes the record of an entry from `base` and its changes, one by one.
    ///
    /// Most of them are gone through while more may come; the rest under the lock, when nobody changes the entry.
    fn replay(&self, digest: &Digest, base: Record, current: impl FnOnce() -> bool) {
        let watermark = self.shard(digest).watermark();
        let mut record = base;
        let mut apply = |batch: &Arc<Batch>| {
            if is_unfolded(batch.seq, watermark) {
                batch
                    .changes()
                    .filter(|change| change.digest == *digest)
                    .for_each(|change| record.apply(change.kind, change.time, self.age));
            }
        };
        let batches = self.unfolded();
        batches.iter().for_each(&mut apply);
        let last = batches.last().map_or(0, |batch| batch.seq);
        let unfolded = lock(&self.unfolded);
        let seen = unfolded.batches.partition_point(|batch| batch.seq <= last);
        unfolded.batches.range(seen..).for_each(&mut apply);
        if current() {
            self.hot.resolve(digest, record);
        }
    }

    /// The batches that some shard has not folded, oldest first.
    pub(super) fn unfolded(&self) -> Vec<Arc<Batch>> {
        lock(&self.unfolded).batches.iter().cloned().collect()
    }

    /// Number of the latest batch in that list.
    pub(super) fn latest_unfolded(&self) -> Option<u64> {
        lock(&self.unfolded).batches.back().map(|batch| batch.seq)
    }

    /// Drops batches that every shard has folded. Returns how many changes they had.
    pub(super) fn drop_folded(&self) -> usize {
        let watermark = self.lowest_watermark();
        // Their memory is given back when the lock is, as the committer waits for that.
        let folded: Vec<_> = {
            let mut unfolded = lock(&self.unfolded);
            let batches = &mut unfolded.batches;
            let folded = batches.partition_point(|batch| batch.seq <= watermark);
            batches.drain(..folded).collect()
        };
        folded.iter().map(|batch| batch.len()).sum()
    }

    /// Lets everything that enters from now on go into `filter` too, together with what is not folded yet.
    pub(super) fn begin_filter(&self, filter: &Arc<Filter>) {
        let batches: Vec<_> = {
            let mut unfolded = lock(&self.unfolded);
            unfolded.next_filter = Some(Arc::clone(filter));
            unfolded.batches.iter().cloned().collect()
        };
        for change in batches.iter().flat_map(|batch| batch.changes()) {
            filter.insert(&change.digest);
        }
    }

    /// Puts the new filter in place, which now knows every stored digest, or gives it up.
    pub(super) fn end_filter(&self, complete: bool) {
        let mut unfolded = lock(&self.unfolded);
        if let Some(filter) = unfolded.next_filter.take()
            && complete
        {
            self.seen.replace(filter);
        }
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

    pub(super) fn latest_time(&self) -> EpochSeconds {
        self.latest_time.load(Ordering::Relaxed)
    }

    fn note_time(&self, time: EpochSeconds) {
        self.latest_time.fetch_max(time, Ordering::Relaxed);
    }
}
