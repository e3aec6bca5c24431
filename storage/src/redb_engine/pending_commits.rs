//! Updates that wait for the next commit.
//!
//! Workers put their changes into the open batch; the committer takes it and leaves an empty one. A worker learns the
//! number of the commit that its changes go with, and never waits for a commit.
//!
//! A change enters memory under the same lock under which it enters the batch, so that nobody is told of a state of the
//! store that leaves out an update before theirs; and so that a batch that is taken is in memory as a whole, and can be
//! taken back as a whole when its commit fails.
//!
//! Bounded: the open batch by [`MAX_BATCH_CHANGES`], and everything that has been accepted and is not folded yet by the
//! limit given at the start. At a bound an update is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pyzor_protocol::Digest;

use super::change::{Batch, CHANGE_BYTES, Change, changes_in};
use super::interleave::lock;
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
    /// The number that the journal will keep it at.
    seq: u64,
    changes: Vec<u8>,
    /// The batch before it, while that is being committed.
    in_flight: Option<Arc<Batch>>,
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
    /// Commit these changes, and say what came of it: [`PendingCommits::committed`] or [`PendingCommits::refuse`].
    Batch(Arc<Batch>),
    /// There are none.
    Nothing,
    /// There are none and there will be none.
    Stop,
}

const NEVER: usize = usize::MAX;

impl PendingCommits {
    /// The first batch will be number `next_seq`. `unfolded` changes are in the journal already.
    pub(super) fn new(limit: usize, next_seq: u64, unfolded: usize) -> Self {
        Self {
            open: Mutex::new(OpenBatch {
                seq: next_seq,
                changes: Vec::new(),
                in_flight: None,
                unfolded,
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
        lock(&self.open).unfolded
    }

    /// Adds one change for every digest, all or none, and says which commit they go with. `take_in` is shown each of them
    /// and the number of its batch.
    pub(super) fn append(
        &self,
        kind: ChangeKind,
        digests: &[Digest],
        time: EpochSeconds,
        take_in: impl Fn(&Change, u64),
    ) -> Option<CommitNumber> {
        let mut open = lock(&self.open);
        let batch_length = open.changes.len() + digests.len() * CHANGE_BYTES;
        let unfolded = open.unfolded + digests.len();
        if !open.accepting
            || batch_length > MAX_BATCH_CHANGES * CHANGE_BYTES
            || unfolded > self.limit
        {
            return None;
        }
        let seq = open.seq;
        for &digest in digests {
            let change = Change { kind, time, digest };
            change.encode(&mut open.changes);
            take_in(&change, seq);
        }
        open.unfolded = unfolded;
        if batch_length >= open.wake_at {
            open.wake_at = NEVER;
            drop(open);
            self.wake.notify_one();
        }
        Some(CommitNumber(seq))
    }

    /// Takes the open batch, if it has changes, leaving `empty` in its place.
    pub(super) fn take(&self, empty: &mut Vec<u8>) -> Taken {
        let mut open = lock(&self.open);
        open.poked = false;
        if !open.changes.is_empty() {
            let changes = std::mem::replace(&mut open.changes, std::mem::take(empty));
            let batch = Arc::new(Batch::of_encoded(open.close(), changes));
            open.in_flight = Some(Arc::clone(&batch));
            return Taken::Batch(batch);
        }
        if open.stopping {
            Taken::Stop
        } else {
            Taken::Nothing
        }
    }

    /// Accounts for the batch that was taken, which is durable now; `keep` puts it where durable batches are.
    pub(super) fn committed(&self, keep: impl FnOnce()) {
        let mut open = lock(&self.open);
        keep();
        open.in_flight = None;
    }

    /// Takes no updates until [`PendingCommits::accept`], and drops the batch that was taken and the open one, whose number
    /// is returned. `take_back` is shown each of their changes with the number of its batch, the later batch first.
    pub(super) fn refuse(&self, take_back: impl Fn(&Change, u64)) -> CommitNumber {
        let mut open = lock(&self.open);
        open.accepting = false;
        for change in changes_in(&open.changes) {
            take_back(&change, open.seq);
        }
        let mut dropped = open.changes.len() / CHANGE_BYTES;
        if let Some(batch) = open.in_flight.take() {
            for change in batch.changes() {
                take_back(&change, batch.seq);
            }
            dropped += batch.len();
        }
        open.unfolded -= dropped;
        open.changes.clear();
        CommitNumber(open.close())
    }

    pub(super) fn accept(&self) {
        let mut open = lock(&self.open);
        open.accepting = !open.stopping;
    }

    /// Does something with all changes that are in memory and not durable, in their order, while none is added, committed
    /// or dropped.
    pub(super) fn with_uncommitted<R>(
        &self,
        work: impl FnOnce(&mut dyn Iterator<Item = Change>) -> R,
    ) -> R {
        let open = lock(&self.open);
        work(&mut open.uncommitted())
    }

    /// Accounts for changes that have been folded.
    pub(super) fn release(&self, changes: usize) {
        lock(&self.open).unfolded -= changes;
    }

    /// Accounts for changes found in the journal, whether or not there is room. `keep` puts them where durable ones are.
    pub(super) fn admit(&self, changes: usize, keep: impl FnOnce()) {
        let mut open = lock(&self.open);
        keep();
        open.unfolded += changes;
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
        let mut open = lock(&self.open);
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
        lock(&self.open).poked = true;
        self.wake.notify_one();
    }

    /// Takes no updates from now on, for good.
    pub(super) fn stop(&self) {
        let mut open = lock(&self.open);
        open.stopping = true;
        open.accepting = false;
        drop(open);
        self.wake.notify_one();
    }
}

impl OpenBatch {
    fn close(&mut self) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        seq
    }

    fn uncommitted(&self) -> impl Iterator<Item = Change> {
        let in_flight = self.in_flight.iter().flat_map(|batch| batch.changes());
        in_flight.chain(changes_in(&self.changes))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread;

    use super::*;

    const DIGEST: Digest = Digest::from_bytes([7; Digest::BYTES]);

    fn pending(limit: usize) -> PendingCommits {
        PendingCommits::new(limit, 1, 0)
    }

    fn append(pending: &PendingCommits, count: usize) -> Option<CommitNumber> {
        pending.append(ChangeKind::Report, &vec![DIGEST; count], 1, |_, _| {})
    }

    fn uncommitted(pending: &PendingCommits) -> usize {
        pending.with_uncommitted(|changes| changes.count())
    }

    #[test]
    fn changes_go_with_the_batch_they_were_put_into() {
        let pending = pending(10);
        assert_eq!(append(&pending, 1), Some(CommitNumber(1)));
        assert_eq!(append(&pending, 2), Some(CommitNumber(1)));
        let Taken::Batch(batch) = pending.take(&mut Vec::new()) else {
            panic!("there is a batch");
        };
        assert_eq!((batch.seq, batch.len()), (1, 3));
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Nothing));
        assert_eq!(append(&pending, 1), Some(CommitNumber(2)));
    }

    #[test]
    fn all_or_none_up_to_the_limit() {
        let pending = pending(3);
        assert!(append(&pending, 4).is_none());
        assert!(append(&pending, 3).is_some());
        assert!(append(&pending, 1).is_none());
        pending.release(1);
        assert!(append(&pending, 1).is_some());
        assert_eq!(pending.unfolded(), 3);
    }

    #[test]
    fn a_batch_is_bounded() {
        let pending = pending(usize::MAX);
        for _ in 0..MAX_BATCH_CHANGES / 1024 {
            assert!(append(&pending, 1024).is_some());
        }
        assert!(append(&pending, 1).is_none());
    }

    #[test]
    fn what_was_taken_and_what_was_open_are_gone_when_updates_are_refused() {
        let pending = pending(10);
        append(&pending, 4);
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Batch(_)));
        append(&pending, 3);
        assert_eq!((uncommitted(&pending), pending.unfolded()), (7, 7));
        let taken_back = Cell::new(0);
        let last = pending.refuse(|_, _| taken_back.set(taken_back.get() + 1));
        assert_eq!((last, taken_back.get()), (CommitNumber(2), 7));
        assert!(append(&pending, 1).is_none());
        assert_eq!((uncommitted(&pending), pending.unfolded()), (0, 0));
        pending.accept();
        assert_eq!(append(&pending, 1), Some(CommitNumber(3)));
        pending.stop();
        pending.accept();
        assert!(append(&pending, 1).is_none(), "stopped for good");
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Batch(..)));
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Stop));
    }

    #[test]
    fn a_batch_is_uncommitted_until_it_is_where_durable_ones_are() {
        let pending = pending(10);
        append(&pending, 4);
        assert!(matches!(pending.take(&mut Vec::new()), Taken::Batch(_)));
        append(&pending, 3);
        pending.committed(|| {});
        assert_eq!((uncommitted(&pending), pending.unfolded()), (3, 7));
        pending.release(4);
        assert_eq!(pending.unfolded(), 3);
    }

    #[test]
    fn memory_for_the_next_batch_is_kept_until_there_is_one() {
        let pending = pending(10);
        let mut spare = Vec::with_capacity(1024);
        assert!(matches!(pending.take(&mut spare), Taken::Nothing));
        assert_eq!(spare.capacity(), 1024);
        append(&pending, 1);
        assert!(matches!(pending.take(&mut spare), Taken::Batch(..)));
        assert_eq!(spare.capacity(), 0);
    }

    #[test]
    fn a_sleeping_committer_is_woken() {
        let pending = Arc::new(pending(10));
        let waiting = thread::spawn({
            let pending = Arc::clone(&pending);
            move || pending.wait_for_work()
        });
        append(&pending, 1);
        waiting.join().unwrap();
    }
}
