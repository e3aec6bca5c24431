//! Updates that wait for the next commit.
//!
//! Workers put their changes into the open batch; the committer takes it and leaves an empty one. A worker learns the
//! number of the commit that its changes go with, and never waits: the lock is held for a copy of a few bytes.
//!
//! Bounded: the open batch by [`MAX_BATCH_CHANGES`], and everything that has been accepted and is not folded yet by the
//! limit given at the start. At a bound an update is refused.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pyzor_protocol::Digest;

use super::change::{CHANGE_BYTES, Change};
use crate::engine::CommitNumber;
use crate::record::{ChangeKind, EpochSeconds};

/// Most changes in one commit.
pub(super) const MAX_BATCH_CHANGES: usize = 65_536;

/// Updates that wait for the next commit.
pub(super) struct PendingCommits {
    open: Mutex<OpenBatch>,
    wake: Condvar,
    /// Most changes that are accepted and not folded.
    limit: usize,
}

struct OpenBatch {
    number: u64,
    changes: Vec<u8>,
    /// Changes accepted and not folded, in this batch or before.
    unfolded: usize,
    /// Whether updates are taken now.
    accepting: bool,
    /// Length of the batch at which the committer wants to be woken, in bytes. Nobody is woken who is not asleep.
    wake_at: usize,
    /// The committer has something else to do.
    poked: bool,
    stopping: bool,
}

/// What the committer shall do.
pub(super) enum Taken {
    /// Commit these changes.
    Batch(CommitNumber, Vec<u8>),
    /// There are none.
    Nothing,
    /// There are none and there will be none.
    Stop,
}

const NEVER: usize = usize::MAX;

impl PendingCommits {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            open: Mutex::new(OpenBatch {
                number: 1,
                changes: Vec::new(),
                unfolded: 0,
                accepting: true,
                wake_at: NEVER,
                poked: false,
                stopping: false,
            }),
            wake: Condvar::new(),
            limit,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn unfolded(&self) -> usize {
        self.open.lock().unfolded
    }

    /// Adds one change for every digest, all or none, and says which commit they go with.
    pub(super) fn append(
        &self,
        kind: ChangeKind,
        digests: &[Digest],
        time: EpochSeconds,
    ) -> Option<CommitNumber> {
        let mut open = self.open.lock();
        let batch_length = open.changes.len() + digests.len() * CHANGE_BYTES;
        let unfolded = open.unfolded + digests.len();
        if !open.accepting
            || batch_length > MAX_BATCH_CHANGES * CHANGE_BYTES
            || unfolded > self.limit
        {
            return None;
        }
        for &digest in digests {
            Change { kind, time, digest }.encode(&mut open.changes);
        }
        open.unfolded = unfolded;
        let number = CommitNumber(open.number);
        if batch_length >= open.wake_at {
            open.wake_at = NEVER;
            drop(open);
            self.wake.notify_one();
        }
        Some(number)
    }

    /// Takes the open batch, if it has changes, leaving `empty` in its place.
    pub(super) fn take(&self, empty: &mut Vec<u8>) -> Taken {
        let mut open = self.open.lock();
        open.poked = false;
        if !open.changes.is_empty() {
            let changes = std::mem::replace(&mut open.changes, std::mem::take(empty));
            return Taken::Batch(open.close(), changes);
        }
        if open.stopping {
            Taken::Stop
        } else {
            Taken::Nothing
        }
    }

    /// Takes no updates until [`PendingCommits::accept`], and drops the open batch: returns its number.
    pub(super) fn refuse(&self) -> CommitNumber {
        let mut open = self.open.lock();
        open.accepting = false;
        open.unfolded -= open.changes.len() / CHANGE_BYTES;
        open.changes.clear();
        open.close()
    }

    pub(super) fn accept(&self) {
        let mut open = self.open.lock();
        open.accepting = !open.stopping;
    }

    /// Accounts for changes that have been folded, or that are gone.
    pub(super) fn release(&self, changes: usize) {
        self.open.lock().unfolded -= changes;
    }

    /// Accounts for changes found in the journal, whether or not there is room.
    pub(super) fn admit(&self, changes: usize) {
        self.open.lock().unfolded += changes;
    }

    /// Waits until there is a batch, or something else to do.
    pub(super) fn wait_for_work(&self) {
        self.wait(1, None);
    }

    /// Waits for `pause`, or until the batch is half full.
    pub(super) fn wait_until_urgent(&self, pause: Duration) {
        self.wait(MAX_BATCH_CHANGES / 2 * CHANGE_BYTES, Some(pause));
    }

    fn wait(&self, length: usize, pause: Option<Duration>) {
        let deadline = pause.map(|pause| Instant::now() + pause);
        let mut open = self.open.lock();
        while open.changes.len() < length && !open.stopping && !(open.poked && pause.is_none()) {
            open.wake_at = length;
            match deadline {
                None => self.wake.wait(&mut open),
                Some(deadline) => {
                    if self.wake.wait_until(&mut open, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        open.wake_at = NEVER;
    }

    /// Tells the committer that there is something to do besides committing.
    pub(super) fn poke(&self) {
        self.open.lock().poked = true;
        self.wake.notify_one();
    }

    /// Takes no updates from now on, for good.
    pub(super) fn stop(&self) {
        let mut open = self.open.lock();
        open.stopping = true;
        open.accepting = false;
        drop(open);
        self.wake.notify_one();
    }
}

impl OpenBatch {
    fn close(&mut self) -> CommitNumber {
        let number = CommitNumber(self.number);
        self.number += 1;
        number
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    const DIGEST: Digest = Digest::from_bytes([7; Digest::BYTES]);

    fn append(pending: &PendingCommits, count: usize) -> Option<CommitNumber> {
        pending.append(ChangeKind::Report, &vec![DIGEST; count], 1)
    }

    #[test]
    fn changes_go_with_the_batch_they_were_put_into() {
        let pending = PendingCommits::new(10);
        assert_eq!(append(&pending, 1), Some(CommitNumber(1)));
        assert_eq!(append(&pending, 2), Some(CommitNumber(1)));
        let Taken::Batch(number, changes) = pending.take(&mut Vec::new()) else {
            panic!("there is a batch");
        };
        assert_eq!((number, changes.len()), (CommitNumber(1), 3 * CHANGE_BYTES));
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Nothing));
        assert_eq!(append(&pending, 1), Some(CommitNumber(2)));
    }

    #[test]
    fn all_or_none_up_to_the_limit() {
        let pending = PendingCommits::new(3);
        assert!(append(&pending, 4).is_none());
        assert!(append(&pending, 3).is_some());
        assert!(append(&pending, 1).is_none());
        pending.release(1);
        assert!(append(&pending, 1).is_some());
        assert_eq!(pending.unfolded(), 3);
    }

    #[test]
    fn a_batch_is_bounded() {
        let pending = PendingCommits::new(usize::MAX);
        for _ in 0..MAX_BATCH_CHANGES / 1024 {
            assert!(append(&pending, 1024).is_some());
        }
        assert!(append(&pending, 1).is_none());
    }

    #[test]
    fn what_was_open_when_updates_are_refused_is_gone() {
        let pending = PendingCommits::new(10);
        append(&pending, 4);
        assert_eq!(pending.refuse(), CommitNumber(1));
        assert!(append(&pending, 1).is_none());
        assert_eq!(pending.unfolded(), 0);
        pending.accept();
        assert_eq!(append(&pending, 1), Some(CommitNumber(2)));
        pending.stop();
        pending.accept();
        assert!(append(&pending, 1).is_none(), "stopped for good");
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Batch(..)));
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Stop));
    }

    #[test]
    fn memory_for_the_next_batch_is_kept_until_there_is_one() {
        let pending = PendingCommits::new(10);
        let mut spare = Vec::with_capacity(1024);
        assert!(matches!(pending.take(&mut spare), Taken::Nothing));
        assert_eq!(spare.capacity(), 1024);
        append(&pending, 1);
        assert!(matches!(pending.take(&mut spare), Taken::Batch(..)));
        assert_eq!(spare.capacity(), 0);
    }

    #[test]
    fn a_sleeping_committer_is_woken() {
        let pending = Arc::new(PendingCommits::new(10));
        let waiting = thread::spawn({
            let pending = Arc::clone(&pending);
            move || pending.wait_for_work()
        });
        append(&pending, 1);
        waiting.join().unwrap();
    }
}
