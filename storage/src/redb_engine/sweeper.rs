//! Deletes records that are past their age.
//!
//! A record past its age reads as absent whether it has been deleted or not, so there is no hurry: the sweeper goes through
//! the shards a slice at a time with pauses, once an hour, and leaves records alone until [`SWEEP_GRACE_SECONDS`] after
//! their age, so that no change that is still on its way can find its record fresh. A commit may take longer than that, or
//! stay undecided: meanwhile records are judged by the time of its oldest change.
//!
//! Deleting and memory: an entry of the hot set whose record is deleted has to go first, and must not be filled from what
//! somebody read before. So for as long as a slice is being deleted nobody remembers what is read from the shard. An entry
//! with an unfolded change stays, and so does its record (invariant 7).
//!
//! A clock that is wrong by months would empty the store. When the time looks wrong ([`ClockCheck`]) sweeping waits for a
//! day, which gives somebody the chance to notice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyzor_protocol::Digest;
use redb::{Database, ReadableTableMetadata};
use tracing::{info, warn};

use super::database_handle::Failed;
use super::interleave::switch_point;
use super::schema::RECORDS;
use super::shard::Shard;
use super::store::Store;
use crate::record::{CleanupAge, EpochSeconds};

/// How long a record is kept beyond its age, in seconds.
const SWEEP_GRACE_SECONDS: u32 = 3600;
/// Pause between the ends of two passes.
const PASS_PAUSE: Duration = Duration::from_secs(3600);
/// Pause between two slices.
const SLICE_PAUSE: Duration = Duration::from_millis(50);
/// Records looked at in a slice.
const RECORDS_A_SLICE: usize = 4096;

/// A clock that is ahead of everything the store has ever seen by more than this looks wrong, in seconds.
const LEAP_SECONDS: u32 = 7 * 24 * 3600;
/// How long sweeping waits when the clock looks wrong.
const LEAP_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Deletes records that are past their age.
pub(super) struct Sweeper {
    clock: ClockCheck,
    shard: usize,
    after: Option<Digest>,
    /// When there is something to do next, as uptime.
    due: Duration,
}

impl Sweeper {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            clock: ClockCheck::new(store.clock.now(), store.clock.uptime()),
            shard: 0,
            after: None,
            due: Duration::ZERO,
        }
    }

    /// Looks at another slice if it is time to. Returns how long there is nothing to do.
    pub(super) fn step(&mut self, store: &Store) -> Duration {
        let uptime = store.clock.uptime();
        if uptime < self.due {
            return self.due.saturating_sub(uptime);
        }
        let unfinished = self.may_sweep(store) && self.slice(store);
        let pause = if unfinished { SLICE_PAUSE } else { PASS_PAUSE };
        self.due = uptime + pause;
        pause
    }

    /// Goes through all shards at once.
    pub(super) fn pass(&mut self, store: &Store) {
        (self.shard, self.after) = (0, None);
        while self.may_sweep(store) && self.slice(store) {}
    }

    fn may_sweep(&mut self, store: &Store) -> bool {
        if !store.memory.age.is_bounded() {
            return false;
        }
        let may = self.clock.is_trusted(
            store.clock.now(),
            store.clock.uptime(),
            store.memory.latest_time(),
        );
        store.counters.sweep_waiting.store(!may, Ordering::Relaxed);
        may
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
        .with(|database| expired(database, after, age, store.sweep_time()))?;
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

/// Tells a clock that can be trusted from one that has been put forward.
#[derive(Debug)]
struct ClockCheck {
    /// Time and uptime when the clock was last looked at.
    seen: (EpochSeconds, Duration),
    /// Uptime from which the clock is trusted again.
    trusted_from: Option<Duration>,
    /// The clock was far ahead of the store, and sweeping has waited for that.
    waited: bool,
}

impl ClockCheck {
    fn new(now: EpochSeconds, uptime: Duration) -> Self {
        Self {
            seen: (now, uptime),
            trusted_from: None,
            waited: false,
        }
    }

    /// Whether records may be judged by `now`; `latest` is the latest time that the store has seen.
    fn is_trusted(&mut self, now: EpochSeconds, uptime: Duration, latest: EpochSeconds) -> bool {
        let ahead = now.saturating_sub(latest) > LEAP_SECONDS && latest > 0;
        self.waited &= ahead;
        if self.leapt(now, uptime) {
            warn!("nothing is swept for a day: the clock was put forward to {now}");
            self.wait(uptime);
        } else if ahead && !self.waited {
            warn!(
                "nothing is swept for a day: the clock says {now}, the store has seen nothing after {latest}"
            );
            self.wait(uptime);
            self.waited = true;
        }
        match self.trusted_from {
            Some(from) if uptime < from => false,
            Some(_) => {
                info!("sweeping goes on");
                self.trusted_from = None;
                true
            }
            None => true,
        }
    }

    fn wait(&mut self, uptime: Duration) {
        self.trusted_from = Some(uptime + LEAP_PAUSE);
    }

    /// Whether the clock has run much faster than time since it was last looked at.
    fn leapt(&mut self, now: EpochSeconds, uptime: Duration) -> bool {
        let (seen_now, seen_uptime) = std::mem::replace(&mut self.seen, (now, uptime));
        let advance = u64::from(now.saturating_sub(seen_now));
        let passed = uptime.saturating_sub(seen_uptime).as_secs();
        advance.saturating_sub(passed) > u64::from(LEAP_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: EpochSeconds = 1_800_000_000;
    const START: Duration = Duration::from_secs(1000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_clock_near_what_the_store_has_seen_is_trusted() {
        let mut clock = ClockCheck::new(NOW, START);
        assert!(clock.is_trusted(NOW, START, NOW - 3600));
        assert!(
            clock.is_trusted(NOW, START, 0),
            "an empty store says nothing"
        );
        assert!(clock.is_trusted(NOW, START, NOW + 3600), "a clock put back");
    }

    #[test]
    fn a_clock_far_ahead_of_the_store_is_trusted_after_a_day() {
        let mut clock = ClockCheck::new(NOW, START);
        let latest = NOW - 2 * LEAP_SECONDS;
        assert!(!clock.is_trusted(NOW, START, latest));
        assert!(!clock.is_trusted(NOW, START + DAY / 2, latest));
        assert!(clock.is_trusted(NOW, START + DAY, latest));
        assert!(clock.is_trusted(NOW, START + DAY, latest), "and stays so");
    }

    #[test]
    fn a_clock_put_forward_while_running_is_trusted_after_a_day() {
        let mut clock = ClockCheck::new(NOW, START);
        let leapt = NOW + 2 * LEAP_SECONDS;
        assert!(!clock.is_trusted(leapt, START, NOW));
        // Reports bring the new time into the store.
        assert!(!clock.is_trusted(leapt, START + DAY / 2, leapt));
        assert!(clock.is_trusted(leapt, START + DAY, leapt));
    }

    #[test]
    fn time_that_passes_is_no_leap() {
        let mut clock = ClockCheck::new(NOW, START);
        let month = 30 * DAY;
        let later = NOW + u32::try_from(month.as_secs()).unwrap();
        assert!(clock.is_trusted(later, START + month, later - 60));
    }
}
