//! What happens when threads come between each other's steps: shuttle tries thousands of orders of the places marked by
//! `interleave::switch_point`, on the engine's own code (invariants 1, 3, 5, 6 and 7).

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, FailurePersistence, Runner};

use super::interleave::switch::simulate;
use super::interleave::switch_point;
use super::*;
use crate::engine::Wanted;
use crate::record::CleanupAge;

/// Orders that are tried of each scenario, by chance and by shuttle's search for rare ones.
const ORDERS: usize = 300;
/// Changes of the order that the search makes at unlikely places.
const RARE_SWITCHES: usize = 4;
/// Stack of a coroutine, in bytes: redb needs more than shuttle gives.
const STACK_BYTES: usize = 1 << 20;

const AGE_SECONDS: u32 = 1000;
const LONG_AGO: EpochSeconds = 1_000_000;
const NOW: EpochSeconds = LONG_AGO + AGE_SECONDS + 7200;

const DIGEST: Digest = Digest::from_bytes([7; Digest::BYTES]);

/// Files in memory.
#[derive(Default)]
struct MemoryDisk {
    files: Mutex<HashMap<String, MemoryFile>>,
    is_full: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
struct MemoryFile(Arc<InMemoryBackend>);

impl StorageBackend for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

impl Disk for MemoryDisk {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let created = MemoryFile(Arc::new(InMemoryBackend::new()));
        self.files.lock().insert(file.to_owned(), created.clone());
        builder.create_with_backend(created)
    }

    fn open(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = self.files.lock().get(file).cloned();
        builder.create_with_backend(
            file.ok_or(io::ErrorKind::NotFound)
                .map_err(io::Error::from)?,
        )
    }

    fn remove(&self, _file: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let is_full = self.is_full.load(Ordering::SeqCst);
        Ok(if is_full { 0 } else { u64::MAX })
    }

    fn forget_cached(&self, _file: &str) -> io::Result<()> {
        Ok(())
    }

    fn check_in_place(&self, _file: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A clock that stands still until it is moved.
struct StoppedClock(AtomicU32);

impl Clock for StoppedClock {
    fn now(&self) -> EpochSeconds {
        self.0.load(Ordering::SeqCst)
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(self.now().into())
    }
}

/// A store whose threads' work is done by coroutines, and somebody who reports and checks at one time.
struct Simulated {
    engine: RedbEngine,
    completions: Completions,
    /// Reports that have been taken up.
    taken: AtomicU64,
    disk_is_full: Arc<AtomicBool>,
}

fn options() -> RedbOptions {
    RedbOptions {
        cleanup_age: CleanupAge::from_seconds(AGE_SECONDS),
        hot_set_bytes: 1 << 20,
        cache_bytes: 4 << 20,
        shards: 1,
        ..RedbOptions::default()
    }
}

/// A store that holds one report of [`DIGEST`], made at `entered`, in its file and not in memory.
fn with_cold_digest(entered: EpochSeconds) -> (Arc<Simulated>, Committer, Folder, Arc<Reader>) {
    let disk = Arc::new(MemoryDisk::default());
    let disk_is_full = Arc::clone(&disk.is_full);
    let clock = Arc::new(StoppedClock(AtomicU32::new(entered)));
    let Parts {
        engine,
        mut committer,
        mut folder,
        reader,
    } = build(disk, &options(), Arc::<StoppedClock>::clone(&clock)).unwrap();
    let completions = Completions::new(|| {});
    engine.subscribe(completions.clone());
    let store = Simulated {
        engine,
        completions,
        taken: AtomicU64::new(0),
        disk_is_full,
    };
    store.send();
    committer.step();
    store.wait_for_commit();
    folder.fold();
    store.evict();
    committer.step();
    clock.0.store(NOW, Ordering::SeqCst);
    // An older record may be swept, and then nothing is missing.
    let fresh = u64::from(entered == NOW);
    store.taken.store(fresh, Ordering::SeqCst);
    (Arc::new(store), committer, folder, Arc::new(reader))
}

impl Simulated {
    fn now(&self) -> EpochSeconds {
        self.engine.store.clock.now()
    }

    fn send(&self) {
        let update = self
            .engine
            .update(ChangeKind::Report, &[DIGEST], self.now());
        assert!(matches!(update, Update::AfterCommit(_)));
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    fn wait_for_commit(&self) {
        loop {
            if let Some(outcome) = self.completions.next_commit() {
                assert!(outcome.durable);
                return;
            }
            switch_point();
        }
    }

    /// Reports [`DIGEST`] `count` times, and checks it when the report is taken up and when it is acknowledged.
    fn report(&self, reader: &Reader, count: usize) {
        for _ in 0..count {
            self.send();
            self.check_taken(reader);
            self.wait_for_commit();
            self.check_taken(reader);
        }
    }

    /// Checks [`DIGEST`] as a worker and a reader do together. Returns how many reports there are.
    fn check(&self, reader: &Reader) -> u64 {
        switch_point();
        let now = self.now();
        if let Lookup::Found(record) = self.engine.lookup(&DIGEST, Wanted::Counts, now) {
            return record.r_count;
        }
        switch_point();
        let record = reader.look_up(&DIGEST).unwrap();
        let time = self.engine.store.time.at(now);
        record.visible_at(options().cleanup_age, time).r_count
    }

    /// Checks that nothing is missing of what was taken up before.
    fn check_taken(&self, reader: &Reader) {
        let least = self.taken.load(Ordering::SeqCst);
        let reports = self.check(reader);
        assert!(reports >= least, "{reports} of {least} reports");
    }

    /// Evicts what may leave: the first round only takes the second chance away.
    fn evict(&self) {
        switch_point();
        evict::evict(&self.engine.store, usize::MAX);
        evict::evict(&self.engine.store, usize::MAX);
    }

    /// Checks that memory and file agree in the end. Returns on how many reports.
    fn settle(&self, folder: &mut Folder, reader: &Reader) -> u64 {
        let reports = self.check(reader);
        folder.fold();
        assert_eq!(self.check(reader), reports, "after the last fold");
        self.evict();
        assert_eq!(self.check(reader), reports, "in the file");
        reports
    }
}

/// Starts a coroutine that commits until `commits` more have been made.
fn commit(store: &Arc<Simulated>, mut committer: Committer, commits: u64) -> JoinHandle<()> {
    let store = Arc::clone(store);
    let made = move || store.engine.stats().commits;
    let enough = made() + commits;
    thread::spawn(move || {
        while made() < enough {
            switch_point();
            committer.step();
        }
    })
}

/// Starts a coroutine that does something with the store.
fn start(
    store: &Arc<Simulated>,
    reader: &Arc<Reader>,
    work: impl FnOnce(&Simulated, &Reader) + Send + 'static,
) -> JoinHandle<()> {
    let (store, reader) = (Arc::clone(store), Arc::clone(reader));
    thread::spawn(move || work(&store, &reader))
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Tries a scenario in many orders.
fn in_many_orders(scenario: fn()) {
    let config = || {
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        config.failure_persistence = FailurePersistence::None;
        config
    };
    simulate(|| {
        Runner::new(RandomScheduler::new(ORDERS), config()).run(scenario);
        Runner::new(PctScheduler::new(RARE_SWITCHES, ORDERS), config()).run(scenario);
    });
}

#[test]
fn commits_and_checks_in_any_order() {
    in_many_orders(|| {
        let (store, committer, mut folder, reader) = with_cold_digest(NOW);
        let threads = [
            commit(&store, committer, 2),
            start(&store, &reader, |store, reader| store.report(reader, 2)),
        ];
        join(threads);
        assert_eq!(store.settle(&mut folder, &reader), 3);
    });
}

/// Asks readers that have nothing else to do. Who asks waits for ever if a wake-up is lost: shuttle gives up then.
fn wake_readers(readers: usize) {
    const LOOKUPS: u64 = 3;
    let (store, _, _, reader) = with_cold_digest(NOW);
    let reading: Vec<_> = (0..readers)
        .map(|number| start(&store, &reader, move |_, reader| reader.run(number)))
        .collect();
    for ticket in 1..=LOOKUPS {
        let (engine, to) = (&store.engine, &store.completions);
        let queued = engine.lookup_deferred(&DIGEST, NOW, Ticket(ticket), to);
        assert!(queued.is_ok());
        while to.next_answer().is_none() {
            switch_point();
        }
    }
    let shared = &store.engine.store;
    shared.stopping.store(true, Ordering::Relaxed);
    shared.sleepers.wake_all();
    join(reading);
}

#[test]
fn readers_that_fall_asleep_are_woken_in_any_order() {
    in_many_orders(|| wake_readers(1));
    in_many_orders(|| wake_readers(2));
}

#[test]
fn folds_evictions_and_checks_in_any_order() {
    in_many_orders(|| {
        let (store, mut committer, mut folder, reader) = with_cold_digest(NOW);
        let threads = [
            start(&store, &reader, move |store, reader| {
                for _ in 0..2 {
                    store.send();
                    store.check_taken(reader);
                    while store.completions.next_commit().is_none() {
                        committer.step();
                    }
                    store.check_taken(reader);
                }
            }),
            start(&store, &reader, |store, reader| {
                (0..4).for_each(|_| store.check_taken(reader));
            }),
            start(&store, &reader, |store, _| {
                (0..4).for_each(|_| store.evict());
            }),
        ];
        for _ in 0..2 {
            switch_point();
            folder.fold();
        }
        join(threads);
        assert_eq!(store.settle(&mut folder, &reader), 3);
    });
}

/// A sweep and two checks, a report and folds of an old record.
#[test]
fn sweeps_reports_and_checks_of_an_old_record_in_any_order() {
    in_many_orders(|| {
        let (store, committer, mut folder, reader) = with_cold_digest(LONG_AGO);
        let threads = [
            commit(&store, committer, 1),
            start(&store, &reader, |store, reader| store.report(reader, 1)),
            start(&store, &reader, |store, reader| {
                (0..2).for_each(|_| store.check_taken(reader));
            }),
        ];
        for _ in 0..2 {
            switch_point();
            folder.sweep();
            switch_point();
            folder.fold();
        }
        join(threads);
        assert_eq!(store.settle(&mut folder, &reader), 1);
    });
}

/// Two workers report and check while a new filter is built and the record leaves memory.
#[test]
fn reports_are_seen_at_once_by_every_worker_in_any_order() {
    in_many_orders(|| {
        let (store, committer, mut folder, reader) = with_cold_digest(NOW);
        let worker = |store: &Simulated, reader: &Reader| {
            for _ in 0..2 {
                store.send();
                store.check_taken(reader);
            }
        };
        let threads = [
            commit(&store, committer, 1),
            start(&store, &reader, worker),
            start(&store, &reader, worker),
            start(&store, &reader, |store, reader| {
                store.evict();
                store.check_taken(reader);
            }),
        ];
        folder.rebuild();
        switch_point();
        folder.fold();
        join(threads);
        assert_eq!(store.check(&reader), 5);
    });
}

/// A commit fails while others report: what got 503 is not shown afterwards, and what comes then is.
#[test]
fn a_failed_commit_is_taken_back_in_any_order() {
    in_many_orders(|| {
        let (store, mut committer, mut folder, reader) = with_cold_digest(NOW);
        store.send();
        let thread = start(&store, &reader, |store, reader| {
            for _ in 0..3 {
                let _ = store.check(reader);
                store.evict();
            }
        });
        switch_point();
        store.disk_is_full.store(true, Ordering::SeqCst);
        committer.step();
        assert_eq!(store.check(&reader), 1, "what failed is not shown");
        switch_point();
        store.disk_is_full.store(false, Ordering::SeqCst);
        committer.step();
        store.send();
        assert_eq!(store.check(&reader), 2);
        committer.step();
        folder.fold();
        join([thread]);
        assert_eq!(store.settle(&mut folder, &reader), 2);
    });
}

/// A commit fails while an earlier change to the same digest is folded: what is made anew then counts no change twice.
#[test]
fn a_commit_that_fails_during_a_fold_counts_nothing_twice_in_any_order() {
    in_many_orders(|| {
        let (store, mut committer, mut folder, reader) = with_cold_digest(NOW);
        store.send();
        committer.step();
        store.wait_for_commit();
        let failing = start(&store, &reader, move |store, _| {
            store.send();
            switch_point();
            store.disk_is_full.store(true, Ordering::SeqCst);
            committer.step();
            store.disk_is_full.store(false, Ordering::SeqCst);
        });
        let checking = start(&store, &reader, |store, reader| {
            for _ in 0..6 {
                let reports = store.check(reader);
                assert!((2..=3).contains(&reports), "{reports} reports");
            }
        });
        switch_point();
        folder.fold();
        join([failing, checking]);
        folder.fold();
        assert_eq!(store.check(&reader), 2);
    });
}
