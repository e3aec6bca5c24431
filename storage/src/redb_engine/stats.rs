//! What the store counts, for metrics and for the curious.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::store::Store;
use crate::record::EpochSeconds;

/// Numbers of a running store at one moment. Counters start at 0 when the store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Digests in the files (folded ones; expired ones until they are swept).
    pub digests: u64,
    /// Digests in memory.
    pub hot_entries: u64,
    /// Digests that memory has room for.
    pub hot_capacity: u64,
    /// Changes that are acknowledged or waiting to be, and not yet folded into the files.
    pub unfolded_changes: u64,
    /// Most such changes; beyond, updates are refused.
    pub unfolded_limit: u64,
    /// Batches in the journal.
    pub journal_rows: u64,
    /// Batches committed.
    pub commits: u64,
    /// Commits that failed, so that their updates got 503.
    pub commit_failures: u64,
    /// Shards brought up to date.
    pub folds: u64,
    /// Shards that could not be brought up to date.
    pub fold_failures: u64,
    /// Expired records deleted.
    pub swept: u64,
    /// Entries that left memory for others.
    pub evicted: u64,
    /// Memory of the filter, in bits.
    pub filter_bits: u64,
    /// Times the filter was built anew.
    pub filter_rebuilds: u64,
    /// Lookups that had to ask the files.
    pub deferred_lookups: u64,
    /// Lookups that the files could not answer.
    pub failed_lookups: u64,
    /// Updates and deferred lookups refused because a bound was reached or a file had failed.
    pub unavailable: u64,
    /// Database files that are out of order now.
    pub failed_files: u64,
    /// Whether updates are refused now, because the journal has failed or the disk is full.
    pub refusing_updates: bool,
    /// The store's own time, by which records expire, in seconds.
    pub time: EpochSeconds,
}

/// Every number as `name=value`, in the order of the fields, with one blank between two and 0 or 1 for a truth. Scripts read
/// this out of the log: names stay, and new ones come last.
impl fmt::Display for StoreStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A field that is missing here does not compile.
        let Self {
            digests,
            hot_entries,
            hot_capacity,
            unfolded_changes,
            unfolded_limit,
            journal_rows,
            commits,
            commit_failures,
            folds,
            fold_failures,
            swept,
            evicted,
            filter_bits,
            filter_rebuilds,
            deferred_lookups,
            failed_lookups,
            unavailable,
            failed_files,
            refusing_updates,
            time,
        } = *self;
        let numbers = [
            ("digests", digests),
            ("hot_entries", hot_entries),
            ("hot_capacity", hot_capacity),
            ("unfolded_changes", unfolded_changes),
            ("unfolded_limit", unfolded_limit),
            ("journal_rows", journal_rows),
            ("commits", commits),
            ("commit_failures", commit_failures),
            ("folds", folds),
            ("fold_failures", fold_failures),
            ("swept", swept),
            ("evicted", evicted),
            ("filter_bits", filter_bits),
            ("filter_rebuilds", filter_rebuilds),
            ("deferred_lookups", deferred_lookups),
            ("failed_lookups", failed_lookups),
            ("unavailable", unavailable),
            ("failed_files", failed_files),
            ("refusing_updates", refusing_updates.into()),
            ("time", time.into()),
        ];
        for (index, (name, number)) in numbers.into_iter().enumerate() {
            let blank = if index > 0 { " " } else { "" };
            write!(f, "{blank}{name}={number}")?;
        }
        Ok(())
    }
}

/// Counters that no other part of the store keeps.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) journal_rows: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) commit_failures: AtomicU64,
    pub(super) folds: AtomicU64,
    pub(super) fold_failures: AtomicU64,
    /// Changes that had become durable when the folder last took what there was.
    pub(super) applied_at_fold: AtomicU64,
    pub(super) swept: AtomicU64,
    pub(super) filter_rebuilds: AtomicU64,
    pub(super) deferred_lookups: AtomicU64,
    pub(super) failed_lookups: AtomicU64,
    pub(super) unavailable: AtomicU64,
    pub(super) journal_failed: AtomicBool,
    pub(super) refusing_updates: AtomicBool,
}

/// Reads all numbers.
pub(super) fn read(store: &Store) -> StoreStats {
    let (counters, memory) = (&store.counters, &store.memory);
    let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let failed_shards = memory
        .shards
        .iter()
        .filter(|shard| shard.handle.is_failed());
    let journal_failed = counters.journal_failed.load(Ordering::Relaxed);
    StoreStats {
        digests: memory.digests(),
        hot_entries: memory.hot.entries() as u64,
        hot_capacity: memory.hot.capacity() as u64,
        unfolded_changes: store.pending.unfolded() as u64,
        unfolded_limit: store.pending.limit() as u64,
        journal_rows: value(&counters.journal_rows),
        commits: value(&counters.commits),
        commit_failures: value(&counters.commit_failures),
        folds: value(&counters.folds),
        fold_failures: value(&counters.fold_failures),
        swept: value(&counters.swept),
        evicted: memory.hot.evicted(),
        filter_bits: memory.filter_bits(),
        filter_rebuilds: value(&counters.filter_rebuilds),
        deferred_lookups: value(&counters.deferred_lookups),
        failed_lookups: value(&counters.failed_lookups),
        unavailable: value(&counters.unavailable),
        failed_files: failed_shards.count() as u64 + u64::from(journal_failed),
        refusing_updates: counters.refusing_updates.load(Ordering::Relaxed),
        time: store.time.now(),
    }
}

/// Adds one to a counter that nothing else depends on.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_words_that_scripts_can_split() {
        let stats = StoreStats {
            digests: 3,
            refusing_updates: true,
            ..StoreStats::default()
        };
        let text = stats.to_string();
        assert!(text.starts_with("digests=3 hot_entries=0 "), "{text}");
        assert!(text.ends_with(" refusing_updates=1 time=0"), "{text}");
    }
}
