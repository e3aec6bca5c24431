//! Deletes records that are past their age.
//!
//! A record past its age reads as absent whether it has been deleted or not, so there is no hurry: the sweeper goes through
//! the shards a slice at a time with pauses, once an hour, and leaves records alone until [`SWEEP_GRACE_SECONDS`] after
//! their age. Age is counted in the store's own time (`time`), so that no clock that is wrong can empty a store.
//!
//! Deleting and memory: an entry of the hot set whose record is deleted has to go first, and must not be filled from what
//! somebody read before. So for as long as a slice is being deleted nobody remembers what is read from the shard. An entry
//! with an unfolded change stays, and so does its record (invariant 7). That holds for a change whose commit is under way,
//! and for one of which it is undecided whether it counts: its entry stays until a later batch has been folded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::database_handle::Failed;
use super::interleave::switch_point;
use super::schema::RECORDS;
use super::shard::Shard;
use super::store::Store;
use crate::record::{CleanupAge, EpochSeconds};
use pyzor_protocol::Digest;
use redb::{Database, ReadableTableMetadata};

/// How long a record is kept beyond its age, in seconds.
const SWEEP_GRACE_SECONDS: u32 = 3600;
/// Pause between the ends of two passes.
const PASS_PAUSE: Duration = Duration::from_secs(3600);
/// Pause between two slices.
const SLICE_PAUSE: Duration = Duration::from_millis(50);
/// Records looked at in a slice.
const RECORDS_A_SLICE: usize = 4096;

/// Deletes records that are past their age.
#[derive(Default)]
pub(super) struct Sweeper {
    shard: usize,
    after: Option<Digest>,
    /// When there is something to do next, as uptime.
    due: Duration,
}

impl Sweeper {
    /// Looks at another slice if it is time to. Returns how long there is nothing to do.
    pub(super) fn step(&mut self, store: &Store) -> Duration {
        let uptime = store.clock.uptime();
        if uptime < self.due {
            return self.due.saturating_sub(uptime);
        }
        let unfinished = store.memory.age.is_bounded() && self.slice(store);
        let pause = if unfinished { SLICE_PAUSE } else { PASS_PAUSE };
        self.due = uptime + pause;
        pause
    }

    /// Goes through all shards at once.
    pub(super) fn pass(&mut self, store: &Store) {
        (self.shard, self.after) = (0, None);
        while store.memory.age.is_bounded() && self.slice(store) {}
    }

    /// Looks at another slice. Returns whether there are more in this pass.
    fn slice(&mut self, store: &Store) -> bool {
        let Some(shard) = store.memory.shards.get(self.shard) else {
            (self.shard, self.after) = (0, None);
            return false;
        };
        // A shard that fails is left for the next pass.
        self.after = sweep_slice(store, shard, self.after).unwrap_or_default();
        if self.after.is_none() {
            self.shard += 1;
        }
        true
    }
}

fn sweep_slice(
    store: &Store,
    shard: &Shard,
    after: Option<Digest>,
) -> Result<Option<Digest>, Failed> {
    let age = store.memory.age.with_grace(SWEEP_GRACE_SECONDS);
    let (last, expired) = shard
        .handle
        .with(|database| expired(database, after, age, store.time.now()))?;
    if !expired.is_empty() {
        let swept = delete(store, shard, &expired)?;
        store.counters.swept.fetch_add(swept, Ordering::Relaxed);
    }
    Ok(last)
}

fn expired(
    database: &Database,
    after: Option<Digest>,
    age: CleanupAge,
    now: EpochSeconds,
) -> Result<(Option<Digest>, Vec<Digest>), redb::Error> {
    let mut expired = Vec::new();
    let last = Shard::visit(database, after, RECORDS_A_SLICE, |digest, record| {
        if record.is_expired(age, now) {
            expired.push(digest);
        }
    })?;
    Ok((last, expired))
}

fn delete(store: &Store, shard: &Shard, expired: &[Digest]) -> Result<u64, Failed> {
    let _deleting = shard.begin_deleting();
    switch_point();
    let watermark = shard.watermark();
    let forgotten = expired
        .iter()
        .filter(|digest| store.memory.hot.forget(digest, watermark));
    let (swept, digests) = shard.handle.with(|database| remove(database, forgotten))?;
    shard.set_digests(digests);
    Ok(swept)
}

fn remove<'a>(
    database: &Database,
    digests: impl Iterator<Item = &'a Digest>,
) -> Result<(u64, u64), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut removed = 0;
    let left = {
        let mut records = transaction.open_table(RECORDS)?;
        for digest in digests {
            switch_point();
            records.remove(digest.as_bytes())?;
            removed += 1;
        }
        records.len()?
    };
    transaction.commit()?;
    Ok((removed, left))
}
