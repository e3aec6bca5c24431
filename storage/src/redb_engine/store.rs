//! What the threads of one store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use super::clock::Clock;
use super::disk::Disk;
use super::folder::is_fold_worthwhile;
use super::lookup::Question;
use super::memory::Memory;
use super::options::Durability;
use super::pending_commits::PendingCommits;
use super::sleepers::Sleepers;
use super::stats::Counters;
use super::time::StoreTime;
use crate::engine::Completions;

/// What the threads of one store share.
pub(super) struct Store {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) time: StoreTime,
    pub(super) durability: Durability,
    pub(super) pending: PendingCommits,
    pub(super) memory: Memory,
    pub(super) lookups: Sender<Question>,
    pub(super) sleepers: Sleepers,
    pub(super) subscribers: Mutex<Vec<Completions>>,
    pub(super) counters: Counters,
    pub(super) folder_wake: Signal,
    pub(super) evictor_wake: Signal,
    pub(super) stopping: AtomicBool,
    /// Last, because it goes last: with it goes the lock that keeps others from files that are open here.
    pub(super) disk: Arc<dyn Disk>,
}

impl Store {
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Changes that have come since the folder last took what there was.
    pub(super) fn changes_since_fold(&self) -> u64 {
        let folded = self.counters.applied_at_fold.load(Ordering::Relaxed);
        self.memory.applied().saturating_sub(folded)
    }

    /// Whether enough changes have come together for a fold.
    pub(super) fn is_fold_worthwhile(&self) -> bool {
        is_fold_worthwhile(
            self.changes_since_fold(),
            self.pending.unfolded() as u64,
            self.pending.limit() as u64,
        )
    }

    pub(super) fn wake_folder_if_due(&self) {
        if self.is_fold_worthwhile() {
            self.folder_wake.set();
        }
    }

    pub(super) fn wake_evictor_if_due(&self) {
        if self.memory.hot.surplus() > 0 {
            self.evictor_wake.set();
        }
    }
}

/// Something to wait for. Setting it twice is setting it once.
#[derive(Default)]
pub(super) struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn set(&self) {
        let was_set = std::mem::replace(&mut *self.is_set.lock(), true);
        if !was_set {
            self.changed.notify_one();
        }
    }

    /// Waits until the signal is set, and clears it, or for `limit`.
    pub(super) fn wait(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut is_set = self.is_set.lock();
        while !*is_set && !self.changed.wait_until(&mut is_set, deadline).timed_out() {}
        *is_set = false;
    }
}
