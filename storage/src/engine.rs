//! The face every store shows to the server: an answer at once from memory, or a deferred one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use pyzor_protocol::Digest;

use crate::record::{ChangeKind, EpochSeconds, Record};

/// Names a group commit; later commits have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitNumber(pub u64);

/// The caller's own name for a deferred lookup, handed back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The store cannot take or answer this now: the request gets a 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is unavailable")]
pub struct Unavailable;

/// An answer to [`Engine::lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The record as of now; [`Record::EMPTY`] for an unknown or expired digest.
    Found(Record),
    /// Memory does not know: ask again with [`Engine::lookup_deferred`].
    Deferred,
    /// The store cannot answer now.
    Unavailable,
}

/// An answer to [`Engine::update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The update counts and may be acknowledged at once.
    Done,
    /// The update may be acknowledged when this commit has succeeded.
    AfterCommit(CommitNumber),
    /// The store does not take updates now; nothing was counted.
    Unavailable,
}

/// What of a record the caller will read. It may take an engine less to tell only a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The counts; the record's times may be anything.
    Counts,
    /// The counts, and the times as the wall clock showed them.
    Times,
}

/// A digest store. Neither `lookup` nor `update` ever waits for a disk or a network.
pub trait Engine: Send + Sync {
    /// The record of `digest` at `now`, if memory knows it. Every update that was taken before is in it, durable or not.
    fn lookup(&self, digest: &Digest, wanted: Wanted, now: EpochSeconds) -> Lookup;

    /// Looks `digest` up where it may take long; the answer, times and all, arrives in `to` under `ticket`.
    ///
    /// # Errors
    /// [`Unavailable`] when too many lookups are waiting already; no answer will come then.
    fn lookup_deferred(
        &self,
        digest: &Digest,
        now: EpochSeconds,
        ticket: Ticket,
        to: &Completions,
    ) -> Result<(), Unavailable>;

    /// Counts one report or whitelisting of every digest in `digests` (all or none). Lookups see it from then on.
    fn update(&self, kind: ChangeKind, digests: &[Digest], now: EpochSeconds) -> Update;

    /// Outcomes of commits are pushed into `to` from now on.
    fn subscribe(&self, to: Completions);
}

/// Deferred lookups one worker may have waiting for an answer.
pub const MAX_DEFERRED_LOOKUPS: usize = 4096;

/// What a worker learns from the store after the fact: outcomes of commits, and answers to deferred lookups.
///
/// Cheap to clone; every clone is the same mailbox. `wake` is called after each delivery that the owner waits for, from
/// the store's threads, and must not block.
#[derive(Clone)]
pub struct Completions {
    shared: Arc<Mailbox>,
}

struct Mailbox {
    /// Outcomes not taken yet, in order; runs of the same outcome are merged, so it stays as short as the
    /// store's health is stable.
    commits: Mutex<VecDeque<CommitOutcome>>,
    /// Whether the owner waits for a commit now; if not, its outcome is no reason to wake it.
    awaits_commit: AtomicBool,
    answers: (Sender<LookupAnswer>, Receiver<LookupAnswer>),
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Every commit up to and including `through`, from the previous outcome's on, ended the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitOutcome {
    /// The last commit this speaks for.
    pub through: CommitNumber,
    /// Whether the commits are durable; if not, it is unknown whether their updates will count.
    pub durable: bool,
}

/// The answer to one deferred lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupAnswer {
    /// The caller's name for it.
    pub ticket: Ticket,
    /// The record, or why there is none.
    pub record: Result<Record, Unavailable>,
}

impl Completions {
    /// A mailbox whose owner is woken by `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Mailbox {
                commits: Mutex::new(VecDeque::new()),
                awaits_commit: AtomicBool::new(false),
                answers: bounded(MAX_DEFERRED_LOOKUPS),
                wake: Box::new(wake),
            }),
        }
    }

    /// Reports the outcome of every commit up to `outcome.through`. For the store's side.
    pub fn push_commit(&self, outcome: CommitOutcome) {
        {
            let mut commits = self.shared.commits.lock();
            match commits.back_mut() {
                Some(last) if last.durable == outcome.durable => last.through = outcome.through,
                _ => commits.push_back(outcome),
            }
        }
        if self.shared.awaits_commit.load(Ordering::Relaxed) {
            (self.shared.wake)();
        }
    }

    /// Answers a deferred lookup. For the store's side.
    ///
    /// Owners keep at most [`MAX_DEFERRED_LOOKUPS`] lookups open, so there is always room; an answer that finds none
    /// is dropped and its client times out.
    pub fn push_answer(&self, answer: LookupAnswer) {
        let _ = self.shared.answers.0.try_send(answer);
        (self.shared.wake)();
    }

    /// Says whether the owner is to be woken for commits. Whoever begins to wait says so first and looks for outcomes
    /// then: what came before is found, and for what comes later the lock around the outcomes has made this known.
    pub fn await_commits(&self, awaits: bool) {
        self.shared.awaits_commit.store(awaits, Ordering::Relaxed);
    }

    /// The next commit outcome, oldest first.
    pub fn next_commit(&self) -> Option<CommitOutcome> {
        self.shared.commits.lock().pop_front()
    }

    /// The next lookup answer.
    pub fn next_answer(&self) -> Option<LookupAnswer> {
        self.shared.answers.1.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn outcome(through: u64, durable: bool) -> CommitOutcome {
        CommitOutcome {
            through: CommitNumber(through),
            durable,
        }
    }

    #[test]
    fn outcomes_of_the_same_kind_are_merged_in_order() {
        let completions = Completions::new(|| {});
        for (through, durable) in [(1, true), (2, true), (3, false), (4, false), (5, true)] {
            completions.push_commit(outcome(through, durable));
        }
        let outcomes: Vec<_> = std::iter::from_fn(|| completions.next_commit()).collect();
        assert_eq!(
            outcomes,
            [outcome(2, true), outcome(4, false), outcome(5, true)]
        );
    }

    #[test]
    fn a_commit_wakes_only_who_waits_for_one() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let completions = Completions::new({
            let wakes = Arc::clone(&wakes);
            move || {
                wakes.fetch_add(1, Ordering::Relaxed);
            }
        });
        completions.push_commit(outcome(1, true));
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        completions.await_commits(true);
        completions.push_commit(outcome(2, true));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        completions.await_commits(false);
        completions.push_answer(LookupAnswer {
            ticket: Ticket(1),
            record: Err(Unavailable),
        });
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }
}
