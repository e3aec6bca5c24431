//! The store with its threads, under the load of several others: what is acknowledged is seen at once and counts once,
//! while folds, evictions and new lookups go on as they come.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyzor_protocol::Digest;
use pyzor_storage::redb_engine::{Durability, RedbEngine, RedbOptions, SystemClock};
use pyzor_storage::{
    ChangeKind, CommitNumber, Completions, Engine, Lookup, Record, Ticket, Update, Wanted,
};
use tempfile::TempDir;

use crate::simulation::{Random, digest, small_options};

/// Threads that ask.
const ASKERS: usize = 4;
/// Digests that every asker reports.
const SHARED_DIGESTS: usize = 64;
/// Rounds of each asker.
const ROUNDS: usize = 400;
/// Digests whose only purpose is to push others out of memory.
const CROWD: u32 = 30_000;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

const NOW: u32 = 1_800_000_000;

fn open(directory: &Path, options: RedbOptions) -> RedbEngine {
    RedbEngine::open(directory, options, Arc::new(SystemClock)).unwrap()
}

/// Somebody with a mailbox, as a worker is.
pub(crate) struct Asker<'a> {
    engine: &'a RedbEngine,
    completions: Completions,
    settled: CommitNumber,
    tickets: u64,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(engine: &'a RedbEngine) -> Self {
        let asker = thread::current();
        let completions = Completions::new(move || asker.unpark());
        engine.subscribe(completions.clone());
        Self {
            engine,
            completions,
            settled: CommitNumber(0),
            tickets: 0,
        }
    }

    /// Reports, and waits until it is acknowledged.
    fn report(&mut self, digests: &[Digest]) {
        let number = match self.engine.update(ChangeKind::Report, digests, NOW) {
            Update::AfterCommit(number) => number,
            other => panic!("{other:?}"),
        };
        let completions = self.completions.clone();
        while self.settled < number {
            let outcome = wait_for(|| completions.next_commit());
            assert!(outcome.durable);
            self.settled = outcome.through;
        }
    }

    pub(crate) fn check(&mut self, digest: &Digest) -> Record {
        match self.engine.lookup(digest, Wanted::Times, NOW) {
            Lookup::Found(record) => record,
            Lookup::Unavailable => panic!("unavailable"),
            Lookup::Deferred => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.engine
                    .lookup_deferred(digest, NOW, ticket, &self.completions)
                    .unwrap();
                let answer = wait_for(|| self.completions.next_answer());
                assert_eq!(answer.ticket, ticket);
                answer.record.unwrap()
            }
        }
    }
}

fn wait_for<T>(next: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = next() {
            return value;
        }
        assert!(Instant::now() < deadline, "no answer");
        thread::park_timeout(Duration::from_millis(100));
    }
}

/// Reports digests of its own and shared ones, and checks after each that nothing is missing.
fn ask(engine: &RedbEngine, seed: u64, acknowledged: &[AtomicU64]) {
    let mut asker = Asker::new(engine);
    let mut random = Random::new(seed);
    for _ in 0..ROUNDS {
        let index = random.below(acknowledged.len());
        let shared = digest(u32::try_from(index).unwrap());
        asker.report(&[shared]);
        let least = acknowledged[index].fetch_add(1, Ordering::SeqCst) + 1;
        let reports = asker.check(&shared).r_count;
        assert!(
            reports >= least,
            "digest {index}: {reports} of {least} reports"
        );
    }
}

/// Checks and reports digests without end, so that entries come and go and folds are worth while.
fn crowd(engine: &RedbEngine, is_over: &AtomicBool) {
    let mut asker = Asker::new(engine);
    let mut random = Random::new(99);
    while !is_over.load(Ordering::Relaxed) {
        let start = 1000 + u32::try_from(random.below(CROWD as usize)).unwrap();
        let digests: Vec<_> = (start..start + 100).map(digest).collect();
        asker.report(&digests);
        for digest in &digests {
            assert!(asker.check(digest).r_count > 0);
        }
    }
}

/// Invariants 1, 3, 5 and 6, as far as chance brings their cases about.
#[test]
fn what_is_acknowledged_is_seen_and_counts_once() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let engine = open(&path, small_options());
    let acknowledged: Vec<_> = (0..SHARED_DIGESTS).map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| crowd(&engine, &is_over));
        let askers: Vec<_> = (0..ASKERS)
            .map(|seed| {
                let (engine, acknowledged) = (&engine, &acknowledged);
                scope.spawn(move || ask(engine, seed as u64, acknowledged))
            })
            .collect();
        let results: Vec<_> = askers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    let stats = engine.stats();
    assert!(stats.folds > 0 && stats.evicted > 0, "{stats:?}");
    check_exactly(&engine, &acknowledged);
    engine.close();
    check_exactly(&open(&path, small_options()), &acknowledged);
}

fn check_exactly(engine: &RedbEngine, acknowledged: &[AtomicU64]) {
    let mut asker = Asker::new(engine);
    for (index, reports) in acknowledged.iter().enumerate() {
        let record = asker.check(&digest(u32::try_from(index).unwrap()));
        assert_eq!(
            record.r_count,
            reports.load(Ordering::SeqCst),
            "digest {index}"
        );
    }
}

#[test]
fn a_closed_store_has_committed_and_answered_everything() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let engine = open(&path, small_options());
    let completions = Completions::new(|| {});
    engine.subscribe(completions.clone());
    let mut last = CommitNumber(0);
    for number in 0..1000 {
        match engine.update(ChangeKind::Report, &[digest(number)], NOW) {
            Update::AfterCommit(number) => last = number,
            other => panic!("{other:?}"),
        }
    }
    engine.close();
    let mut settled = CommitNumber(0);
    while let Some(outcome) = completions.next_commit() {
        assert!(outcome.durable);
        settled = outcome.through;
    }
    assert_eq!(settled, last);
    let engine = open(&path, small_options());
    let mut asker = Asker::new(&engine);
    assert!((0..1000).all(|number| asker.check(&digest(number)).r_count == 1));
}

#[test]
fn relaxed_updates_are_done_at_once_and_seen_within_a_second() {
    let directory = TempDir::new().unwrap();
    let options = RedbOptions {
        durability: Durability::Relaxed,
        ..small_options()
    };
    let engine = open(&directory.path().join("store"), options);
    let mut asker = Asker::new(&engine);
    for round in 1..=3 {
        let update = engine.update(ChangeKind::Report, &[digest(1)], NOW);
        assert_eq!(update, Update::Done);
        let started = Instant::now();
        while asker.check(&digest(1)).r_count < round {
            assert!(started.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn one_store_serves_one_process() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path(), small_options());
    let second = RedbEngine::open(directory.path(), small_options(), Arc::new(SystemClock));
    let message = second.err().unwrap().to_string();
    assert!(message.contains("locked by another process"), "{message}");
    drop(engine);
    open(directory.path(), small_options());
}
