//! What the store counts, for metrics and for the curious.

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
    /// Whether the sweeper waits because the clock looks wrong.
    pub sweep_waiting: bool,
}
