//! Replies that cannot be sent yet: to updates until their commit is durable, to lookups until the disk was read.
//!
//! Both kinds are bounded in number and in bytes, because what a reply echoes is the sender's to choose. A worker asks
//! [`PendingReplies::may_wait`] before it lets a request in, so that what was let in always finds its place.

use std::collections::VecDeque;

use pyzor_protocol::{MAX_DATAGRAM_BYTES, Operation};
use pyzor_storage::{CommitNumber, CommitOutcome, MAX_DEFERRED_LOOKUPS, Ticket};

use crate::datapath::ReplyPath;
use crate::usage_log::UsageEntry;

/// Updates one worker holds until their commit: a second's worth at 100,000 a second, should a disk take that long.
const MAX_AWAITING_COMMIT: usize = 100_000;

/// Bytes of `Thread` values held for them; the usual value has 5.
const MAX_COMMIT_THREAD_BYTES: usize = 4 << 20;

/// Bytes of `Thread` values held for lookups.
const MAX_LOOKUP_THREAD_BYTES: usize = 4 << 20;

/// A request whose answer is still to come.
pub struct Waiting {
    /// Where the reply goes.
    pub path: ReplyPath,
    /// What was asked.
    pub operation: Operation,
    /// Its line in the usage log, if there is one.
    pub usage: Option<Box<UsageEntry>>,
}

/// All that one worker holds back.
#[derive(Default)]
pub struct PendingReplies {
    /// In the order of their commits.
    commits: VecDeque<(CommitNumber, ThreadLength, Waiting)>,
    /// The `Thread` values of `commits`, end to end: one buffer instead of an allocation for each.
    commit_threads: VecDeque<u8>,
    lookups: Vec<Option<(Box<[u8]>, Waiting)>>,
    free_lookups: Vec<usize>,
    lookup_thread_bytes: usize,
}

/// Bytes of a `Thread` value; a datagram bounds it.
type ThreadLength = u16;

impl PendingReplies {
    /// Whether one more request of any kind may be held back.
    pub fn may_wait(&self) -> bool {
        self.commits.len() < MAX_AWAITING_COMMIT
            && self.commit_threads.len() <= MAX_COMMIT_THREAD_BYTES - MAX_DATAGRAM_BYTES
            && self.lookups_waiting() < MAX_DEFERRED_LOOKUPS
            && self.lookup_thread_bytes <= MAX_LOOKUP_THREAD_BYTES - MAX_DATAGRAM_BYTES
    }

    /// Whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.lookups_waiting() == 0
    }

    /// Holds the reply to an update until `commit`, which is not before that of the previous call.
    pub fn await_commit(&mut self, commit: CommitNumber, thread: &[u8], waiting: Waiting) {
        debug_assert!(self.commits.back().is_none_or(|(last, ..)| *last <= commit));
        let thread = &thread[..thread.len().min(MAX_DATAGRAM_BYTES)];
        self.commit_threads.extend(thread);
        #[expect(clippy::cast_possible_truncation, reason = "cut to a datagram's 8192 bytes above")]
        let length = thread.len() as ThreadLength;
        self.commits.push_back((commit, length, waiting));
    }

    /// Takes the oldest update that `outcome` speaks for; its `Thread` value is left in `thread`.
    pub fn next_committed(&mut self, outcome: CommitOutcome, thread: &mut Vec<u8>) -> Option<Waiting> {
        if self.commits.front()?.0 > outcome.through {
            return None;
        }
        let (_, length, waiting) = self.commits.pop_front()?;
        thread.clear();
        thread.extend(self.commit_threads.drain(..usize::from(length)));
        Some(waiting)
    }

    /// Holds the reply to a lookup and names it.
    pub fn await_lookup(&mut self, thread: &[u8], waiting: Waiting) -> Ticket {
        self.lookup_thread_bytes += thread.len();
        let entry = Some((Box::from(thread), waiting));
        let slot = if let Some(slot) = self.free_lookups.pop() {
            self.lookups[slot] = entry;
            slot
        } else {
            self.lookups.push(entry);
            self.lookups.len() - 1
        };
        Ticket(slot as u64)
    }

    /// Takes the request that `ticket` names, with its `Thread` value.
    pub fn take_lookup(&mut self, ticket: Ticket) -> Option<(Box<[u8]>, Waiting)> {
        let slot = usize::try_from(ticket.0).ok()?;
        let taken = self.lookups.get_mut(slot)?.take()?;
        self.free_lookups.push(slot);
        self.lookup_thread_bytes -= taken.0.len();
        Some(taken)
    }

    fn lookups_waiting(&self) -> usize {
        self.lookups.len() - self.free_lookups.len()
    }
}
