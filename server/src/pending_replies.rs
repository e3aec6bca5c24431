//! Replies that cannot be sent yet: to updates until their commit is durable, to lookups until the disk was read.
//!
//! Both kinds are bounded in number and in bytes, because what a reply echoes is the sender's to choose. A worker asks
//! [`PendingReplies::may_wait`] before it lets a request in, so that what was let in always finds its place.

use std::collections::VecDeque;

use pyzor_protocol::{MAX_DATAGRAM_BYTES, MAX_DIGESTS, Operation};
use pyzor_storage::{CommitNumber, CommitOutcome, MAX_DEFERRED_LOOKUPS, Ticket};

use crate::datapath::ReplyPath;
use crate::usage_log::UsageEntry;

/// Updates one worker holds until their commit: a second's worth at 100,000 a second, should a disk take that long.
const MAX_AWAITING_COMMIT: usize = 100_000;

/// Bytes of `Thread` values held for them; the usual value has 5.
const MAX_COMMIT_THREAD_BYTES: usize = 4 << 20;

/// Bytes of `Thread` values held for lookups.
const MAX_LOOKUP_THREAD_BYTES: usize = 4 << 20;

/// Digests held for usage log lines, beyond the first of each line.
const MAX_USAGE_DIGESTS: usize = 1 << 18;

/// A request whose answer is still to come.
pub struct Waiting {
    /// Where the reply goes.
    pub path: ReplyPath,
    /// What was asked.
    pub operation: Operation,
    /// Its line in the usage log, if there is one.
    pub usage: Option<Box<UsageEntry>>,
}

impl Waiting {
    fn usage_digests(&self) -> usize {
        self.usage
            .as_ref()
            .map_or(0, |entry| entry.further_digests())
    }
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
    usage_digests: usize,
}

/// Bytes of a `Thread` value; a datagram bounds it.
type ThreadLength = u16;

impl PendingReplies {
    /// Whether one more request of any kind may be held back.
    pub fn may_wait(&self) -> bool {
        self.commits.len() < MAX_AWAITING_COMMIT
            && self.commit_threads.len() <= MAX_COMMIT_THREAD_BYTES - MAX_DATAGRAM_BYTES
            && self.usage_digests <= MAX_USAGE_DIGESTS - MAX_DIGESTS
            && self.lookups_waiting() < MAX_DEFERRED_LOOKUPS
            && self.lookup_thread_bytes <= MAX_LOOKUP_THREAD_BYTES - MAX_DATAGRAM_BYTES
    }

    /// Whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.lookups_waiting() == 0
    }

    /// Whether an update's reply is held back.
    pub fn awaits_commit(&self) -> bool {
        !self.commits.is_empty()
    }

    /// Holds the reply to an update until `commit`, which is not before that of the previous call.
    pub fn await_commit(&mut self, commit: CommitNumber, thread: &[u8], waiting: Waiting) {
        debug_assert!(self.commits.back().is_none_or(|(last, ..)| *last <= commit));
        let thread = &thread[..thread.len().min(MAX_DATAGRAM_BYTES)];
        self.commit_threads.extend(thread);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "cut to a datagram's 8192 bytes above"
        )]
        let length = thread.len() as ThreadLength;
        self.usage_digests += waiting.usage_digests();
        self.commits.push_back((commit, length, waiting));
    }

    /// Takes the oldest update that `outcome` speaks for; its `Thread` value is left in `thread`.
    pub fn next_committed(
        &mut self,
        outcome: CommitOutcome,
        thread: &mut Vec<u8>,
    ) -> Option<Waiting> {
        if self.commits.front()?.0 > outcome.through {
            return None;
        }
        let (_, length, waiting) = self.commits.pop_front()?;
        self.usage_digests -= waiting.usage_digests();
        thread.clear();
        thread.extend(self.commit_threads.drain(..usize::from(length)));
        Some(waiting)
    }

    /// Holds the reply to a lookup and names it.
    pub fn await_lookup(&mut self, thread: &[u8], waiting: Waiting) -> Ticket {
        self.lookup_thread_bytes += thread.len();
        self.usage_digests += waiting.usage_digests();
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
        self.usage_digests -= taken.1.usage_digests();
        Some(taken)
    }

    fn lookups_waiting(&self) -> usize {
        self.lookups.len() - self.free_lookups.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use pyzor_protocol::{Digest, User};

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn waiting(further_digests: usize) -> Waiting {
        let digests = vec![Digest::from_bytes([7; Digest::BYTES]); 1 + further_digests];
        Waiting {
            path: ReplyPath::for_tests(),
            operation: Operation::Report,
            usage: Some(Box::new(UsageEntry::new(
                User::Anonymous,
                LOCALHOST,
                Operation::Report,
                digests,
            ))),
        }
    }

    fn through(commit: u64) -> CommitOutcome {
        CommitOutcome {
            through: CommitNumber(commit),
            durable: true,
        }
    }

    #[test]
    fn an_outcome_releases_what_waited_for_it_and_no_more() {
        let mut pending = PendingReplies::default();
        for (commit, thread) in [(1, "1024"), (2, ""), (2, "65535"), (3, "7")] {
            pending.await_commit(CommitNumber(commit), thread.as_bytes(), waiting(0));
        }
        let mut thread = Vec::new();
        let mut released = Vec::new();
        while pending.next_committed(through(2), &mut thread).is_some() {
            released.push(String::from_utf8(thread.clone()).unwrap());
        }
        assert_eq!(released, ["1024", "", "65535"]);
        assert!(!pending.is_empty());
        assert!(pending.next_committed(through(3), &mut thread).is_some());
        assert!(pending.is_empty());
    }

    #[test]
    fn a_ticket_names_one_lookup_once() {
        let mut pending = PendingReplies::default();
        let first = pending.await_lookup(b"1", waiting(0));
        let second = pending.await_lookup(b"2", waiting(0));
        assert_eq!(&*pending.take_lookup(second).unwrap().0, b"2");
        assert!(pending.take_lookup(second).is_none());
        let third = pending.await_lookup(b"3", waiting(0));
        assert_eq!(&*pending.take_lookup(third).unwrap().0, b"3");
        assert_eq!(&*pending.take_lookup(first).unwrap().0, b"1");
        assert!(pending.is_empty());
    }

    #[test]
    fn bytes_are_bounded_whatever_the_requests_hold() {
        let thread = vec![b'7'; MAX_DATAGRAM_BYTES];
        let mut held = 0;
        let mut pending = PendingReplies::default();
        while pending.may_wait() {
            pending.await_commit(CommitNumber(1), &thread, waiting(0));
            held += thread.len();
        }
        assert!(held <= MAX_COMMIT_THREAD_BYTES);

        let mut pending = PendingReplies::default();
        let mut held = 0;
        while pending.may_wait() {
            pending.await_lookup(b"", waiting(MAX_DIGESTS - 1));
            held += MAX_DIGESTS - 1;
        }
        assert!(held <= MAX_USAGE_DIGESTS);
    }
}
