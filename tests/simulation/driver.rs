//! Asks a store and does its threads' work, one thing after the other.

use std::sync::Arc;

use pyzor_protocol::Digest;
use pyzor_storage::redb_engine::{Clock, Disk, RedbEngine, RedbOptions, Steps};
use pyzor_storage::{
    ChangeKind, CleanupAge, CommitNumber, Completions, Engine, EpochSeconds, Lookup, Record,
    StoreError, Ticket, Update, Wanted,
};

use super::{SimClock, SimDisk};

/// The digest that a test calls by a number; neighbours are in different shards.
pub(crate) fn digest(number: u32) -> Digest {
    let mut bytes = [0; Digest::BYTES];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    Digest::from_bytes(bytes)
}

/// A store as small as it can be.
pub(crate) fn small_options() -> RedbOptions {
    RedbOptions {
        cleanup_age: CleanupAge::from_seconds(30 * 24 * 3600),
        hot_set_bytes: 1 << 20,
        cache_bytes: 4 << 20,
        shards: 2,
        reader_threads: 1,
        ..RedbOptions::default()
    }
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged: it counts.
    Counts,
    /// Refused with nothing done: it does not count.
    DoesNot,
    /// Refused, or never answered: it may count, once.
    Unknown,
}

/// What a check was told.
pub(crate) type Answer = Result<Record, pyzor_storage::Unavailable>;

/// A store, its threads' work, and somebody who waits for its answers.
pub(crate) struct Driver {
    pub(crate) engine: RedbEngine,
    pub(crate) steps: Steps,
    pub(crate) clock: Arc<SimClock>,
    completions: Completions,
    settled: (CommitNumber, bool),
    tickets: u64,
}

impl Driver {
    pub(crate) fn open(
        disk: &SimDisk,
        options: RedbOptions,
        clock: &Arc<SimClock>,
    ) -> Result<Self, StoreError> {
        let as_disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let as_clock: Arc<dyn Clock> = Arc::<SimClock>::clone(clock);
        let (engine, steps) = RedbEngine::open_stepped(as_disk, options, as_clock)?;
        let completions = Completions::new(|| {});
        engine.subscribe(completions.clone());
        Ok(Self {
            engine,
            steps,
            clock: Arc::clone(clock),
            completions,
            settled: (CommitNumber(0), true),
            tickets: 0,
        })
    }

    /// Sends an update without waiting for its commit.
    pub(crate) fn send(&self, kind: ChangeKind, numbers: &[u32]) -> Option<CommitNumber> {
        let digests: Vec<_> = numbers.iter().map(|&number| digest(number)).collect();
        match self.engine.update(kind, &digests, self.clock.now()) {
            Update::AfterCommit(number) => Some(number),
            Update::Unavailable => None,
            Update::Done => panic!("the store promises durable updates"),
        }
    }

    /// What became of an update that was sent, after the commits so far.
    pub(crate) fn fate(&mut self, sent: Option<CommitNumber>) -> Fate {
        let Some(number) = sent else {
            return Fate::DoesNot;
        };
        while self.settled.0 < number {
            match self.completions.next_commit() {
                Some(outcome) => self.settled = (outcome.through, outcome.durable),
                None => return Fate::Unknown,
            }
        }
        if self.settled.1 {
            Fate::Counts
        } else {
            Fate::Unknown
        }
    }

    /// Sends one update and commits.
    pub(crate) fn update(&mut self, kind: ChangeKind, numbers: &[u32]) -> Fate {
        let sent = self.send(kind, numbers);
        self.steps.commit();
        self.fate(sent)
    }

    pub(crate) fn report(&mut self, numbers: &[u32]) -> Fate {
        self.update(ChangeKind::Report, numbers)
    }

    /// Checks a digest, waiting for the files if it has to.
    pub(crate) fn check(&mut self, number: u32) -> Answer {
        match self.look_up(number) {
            Lookup::Found(record) => Ok(record),
            Lookup::Unavailable => Err(pyzor_storage::Unavailable),
            Lookup::Deferred => {
                self.defer(number)?;
                self.steps.answer_lookups();
                self.answer().expect("a deferred lookup is answered")
            }
        }
    }

    /// Whether memory alone can answer a check.
    pub(crate) fn is_in_memory(&self, number: u32) -> bool {
        matches!(self.look_up(number), Lookup::Found(_))
    }

    fn look_up(&self, number: u32) -> Lookup {
        let now = self.clock.now();
        self.engine.lookup(&digest(number), Wanted::Times, now)
    }

    /// The store's own time.
    pub(crate) fn time(&self) -> EpochSeconds {
        self.engine.stats().time
    }

    /// Asks the files for a digest without waiting for the answer.
    pub(crate) fn defer(&mut self, number: u32) -> Result<(), pyzor_storage::Unavailable> {
        self.tickets += 1;
        self.engine.lookup_deferred(
            &digest(number),
            self.clock.now(),
            Ticket(self.tickets),
            &self.completions,
        )
    }

    /// The next answer that came.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.completions.next_answer().map(|answer| answer.record)
    }

    /// Lets time pass and the store's threads work until nothing is out of order, or a minute is over.
    pub(crate) fn recover(&mut self) -> bool {
        for _ in 0..60 {
            self.steps.commit();
            self.steps.fold();
            let stats = self.engine.stats();
            if stats.failed_files == 0 && !stats.refusing_updates {
                return true;
            }
            self.clock.advance(1);
        }
        false
    }
}
