//! Disks that are full or fail: updates get 503, checks that memory can answer go on, and when the disk is well again so
//! is the store, by itself, with everything that was acknowledged.

use std::io::ErrorKind;
use std::sync::Arc;

use pyzor_storage::ChangeKind;
use pyzor_storage::redb_engine::StoreStats;

use crate::simulation::{
    Driver, Fate, Fault, FaultyOperation, Oracle, Random, SimClock, SimDisk, digest, new_store,
    play, small_options,
};

const FOR_EVER: u64 = u64::MAX;

/// Everything of these files fails, until the fault is taken away.
fn broken(file: &'static str) -> Fault {
    Fault {
        operation: FaultyOperation::Any,
        file,
        after: 0,
        times: FOR_EVER,
        error: ErrorKind::Other,
    }
}

/// The next sync of these files fails.
fn failing_sync(file: &'static str) -> Fault {
    Fault {
        operation: FaultyOperation::Sync,
        file,
        after: 0,
        times: 1,
        error: ErrorKind::Other,
    }
}

struct Store {
    disk: SimDisk,
    clock: Arc<SimClock>,
    driver: Driver,
}

impl Store {
    fn new() -> Self {
        let (disk, clock) = new_store();
        let driver = Driver::open(&disk, small_options(), &clock).unwrap();
        Self {
            disk,
            clock,
            driver,
        }
    }

    /// A store with one report each of digests 0 to 9 in its files, and none in memory.
    fn with_cold_digests() -> Self {
        let mut store = Self::new();
        for number in 0..10 {
            assert_eq!(store.driver.report(&[number]), Fate::Counts);
        }
        store.driver.steps.fold();
        store.driver.steps.evict(usize::MAX);
        store.driver.steps.evict(usize::MAX);
        assert!((0..10).all(|number| !store.driver.is_in_memory(number)));
        store
    }

    fn stats(&self) -> StoreStats {
        self.driver.engine.stats()
    }

    fn reports_of(&mut self, number: u32) -> Option<u64> {
        self.driver.check(number).ok().map(|record| record.r_count)
    }
}

/// The first digest from `first` on that belongs to shard `shard` of the two that small stores have.
fn digest_in_shard(shard: u8, first: u32) -> u32 {
    (first..u32::MAX)
        .find(|&number| digest(number).as_bytes()[0] >> 7 == shard)
        .unwrap()
}

/// Runs script `seed` while operations fail, lets the store recover, and takes its power away.
/// Returns whether anything failed.
fn fail_operations(
    (disk, clock): &(SimDisk, Arc<SimClock>),
    seed: u64,
    fault: Fault,
) -> Result<bool, String> {
    let disk = disk.duplicate(seed);
    let times = fault.times;
    let open = || Driver::open(&disk, small_options(), clock).map_err(|error| error.to_string());
    let mut random = Random::new(seed);
    let mut oracle = Oracle::default();
    let mut driver = open()?;
    disk.set_fault(fault);
    play(&mut driver, &mut oracle, &mut random, || false)?;
    let struck = disk.fault_has_struck(times);
    disk.clear_fault();
    if !driver.recover() {
        return Err(format!("no recovery: {:?}", driver.engine.stats()));
    }
    oracle.check_all(&mut driver)?;

    // What is acknowledged after a recovery must not rest on anything that never got to the disk.
    for number in 0..4 {
        let fate = driver.report(&[number]);
        if fate != Fate::Counts {
            return Err(format!("{fate:?} after the recovery"));
        }
        oracle.note(&[number], fate);
    }
    disk.fail_power();
    drop(driver);
    oracle.settle(&mut open()?)?;
    Ok(struck)
}

fn fail_each(operation: FaultyOperation, times: u64, error: ErrorKind) {
    let created = new_store();
    let mut failures = 0;
    for seed in 1..=2 {
        for after in 0.. {
            let fault = Fault {
                operation,
                file: "",
                after,
                times,
                error,
            };
            let struck = fail_operations(&created, seed, fault)
                .unwrap_or_else(|message| panic!("seed {seed}, {operation:?} {after}: {message}"));
            if !struck {
                break;
            }
            failures += 1;
        }
    }
    assert!(failures > 10, "only {failures} operations failed");
}

#[test]
fn any_sync_may_fail() {
    fail_each(FaultyOperation::Sync, 1, ErrorKind::Other);
    fail_each(FaultyOperation::Sync, 3, ErrorKind::Other);
}

#[test]
fn any_write_may_find_the_disk_full() {
    fail_each(FaultyOperation::Write, 1, ErrorKind::StorageFull);
}

#[test]
fn any_growth_may_find_the_disk_full() {
    let created = new_store();
    for seed in 1..=10 {
        let fault = Fault {
            operation: FaultyOperation::SetLength,
            file: "",
            after: 0,
            times: 2,
            error: ErrorKind::StorageFull,
        };
        fail_operations(&created, seed, fault).unwrap();
    }
}

#[test]
fn any_read_may_fail() {
    let mut store = Store::with_cold_digests();
    for after in 0..10 {
        store.disk.set_fault(Fault {
            operation: FaultyOperation::Read,
            file: "shard",
            after,
            times: 1,
            error: ErrorKind::Other,
        });
        for number in 0..10 {
            let reports = store.reports_of(number);
            assert!(matches!(reports, None | Some(1)), "{reports:?}");
        }
        store.disk.clear_fault();
        assert!(store.driver.recover());
        assert!((0..10).all(|number| store.reports_of(number) == Some(1)));
        store.driver.steps.evict(usize::MAX);
        store.driver.steps.evict(usize::MAX);
    }
}

/// Invariant 2.
#[test]
fn a_broken_journal_refuses_updates_and_nothing_else() {
    let mut store = Store::with_cold_digests();
    store.disk.set_fault(broken("journal"));
    assert_eq!(store.driver.report(&[0, 20]), Fate::Unknown);
    assert_eq!(
        store.driver.report(&[0]),
        Fate::DoesNot,
        "at once, from now on"
    );
    assert!(store.stats().refusing_updates);
    assert_eq!(store.stats().failed_files, 1);
    assert_eq!(store.reports_of(0), Some(1), "a cold digest");
    assert_eq!(store.reports_of(20), Some(0), "what got 503 is invisible");

    store.disk.clear_fault();
    assert!(store.driver.recover());
    assert_eq!(store.driver.report(&[20]), Fate::Counts);
    let now = store.reports_of(20).unwrap();
    assert!(
        (1..=2).contains(&now),
        "the undecided report counts once or not"
    );
    let Store {
        disk,
        clock,
        driver,
    } = store;
    drop(driver);
    let mut driver = Driver::open(&disk, small_options(), &clock).unwrap();
    assert_eq!(driver.check(20).unwrap().r_count, now, "and stays so");
}

/// Invariant 2: the batch got to the disk although its sync failed. It counts once, when the journal is open again.
#[test]
fn an_undecided_batch_that_is_in_the_journal_counts_once() {
    let mut found = 0;
    for seed in 0..20 {
        let mut store = Store::new();
        store.disk = store.disk.duplicate(seed);
        store.driver = Driver::open(&store.disk, small_options(), &store.clock).unwrap();
        // The first commit makes the file longer, which takes a sync of its own.
        assert_eq!(store.driver.report(&[0]), Fate::Counts);
        store.disk.set_fault(failing_sync("journal"));
        assert_eq!(store.driver.report(&[1]), Fate::Unknown);
        assert_eq!(store.reports_of(1), Some(0));
        assert!(store.driver.recover());
        let counted = store.reports_of(1).unwrap();
        found += counted;
        assert_eq!(store.driver.report(&[1]), Fate::Counts);
        store.driver.steps.fold();
        assert_eq!(store.reports_of(1), Some(counted + 1));
        drop(store.driver);
        let mut driver = Driver::open(&store.disk, small_options(), &store.clock).unwrap();
        assert_eq!(driver.check(1).unwrap().r_count, counted + 1);
    }
    assert!((1..20).contains(&found), "{found} of 20 were found");
}

/// After a failed sync the system takes pages for written that are not on the disk. They read well until the power goes;
/// what is committed later must not rest on them.
#[test]
fn pages_that_a_failed_sync_left_in_the_cache_are_not_built_upon() {
    let full = (0..60).collect::<Vec<_>>();
    for seed in 0..30 {
        let mut store = Store::new();
        store.disk = store.disk.duplicate(seed);
        store.driver = Driver::open(&store.disk, small_options(), &store.clock).unwrap();
        let mut oracle = Oracle::default();
        // Enough for a tree of many pages, most of which stay as they are from one commit to the next.
        for _ in 0..20 {
            oracle.note(&full, store.driver.report(&full));
        }
        store.disk.set_fault(Fault {
            after: seed % 5,
            ..failing_sync("journal")
        });
        while !store.stats().refusing_updates {
            oracle.note(&full, store.driver.report(&full));
        }
        // Without a fold: it would empty the journal, and leave nothing to build upon.
        while store.stats().refusing_updates {
            store.clock.advance(1);
            store.driver.steps.commit();
        }
        for _ in 0..8 {
            let fate = store.driver.report(&full);
            assert_eq!(fate, Fate::Counts);
            oracle.note(&full, fate);
        }
        store.disk.fail_power();
        drop(store.driver);
        let mut driver = Driver::open(&store.disk, small_options(), &store.clock)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        oracle
            .check_all(&mut driver)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_broken_shard_has_no_answer_and_everybody_else_has() {
    let mut store = Store::with_cold_digests();
    let (broken_one, well_one) = (digest_in_shard(0, 0), digest_in_shard(1, 0));
    store.disk.set_fault(broken("shard-000"));
    // The page that the record is on may be in the database's cache: a report of it gets to the disk in any case.
    assert_eq!(store.driver.report(&[broken_one]), Fate::Counts);
    assert!(!store.driver.steps.fold());
    store.driver.steps.evict(usize::MAX);
    let unread = digest_in_shard(0, broken_one + 1);
    assert_eq!(store.reports_of(unread), None, "no zeros");
    assert_eq!(store.reports_of(well_one), Some(1));
    assert_eq!(store.reports_of(999), Some(0), "the filter knows");
    let new = digest_in_shard(0, 100);
    assert_eq!(store.driver.report(&[new]), Fate::Counts);
    assert_eq!(store.reports_of(new), Some(1));

    store.disk.clear_fault();
    assert!(store.driver.recover());
    assert_eq!(store.reports_of(broken_one), Some(2));
    assert_eq!(store.reports_of(unread), Some(1));
}

/// Invariant 8.
#[test]
fn changes_that_cannot_be_folded_are_bounded() {
    let mut store = Store::new();
    store.disk.set_fault(broken("shard-001"));
    let limit = store.stats().unfolded_limit;
    let mut reports = 0;
    for number in 0.. {
        if number % 64 == 0 {
            store.driver.steps.commit();
        }
        if store.driver.send(ChangeKind::Report, &[number]).is_none() {
            break;
        }
        reports += 1;
    }
    store.driver.steps.commit();
    assert!(!store.driver.steps.fold());
    assert_eq!(store.driver.report(&[1]), Fate::DoesNot, "at the bound");
    let stats = store.stats();
    assert_eq!((reports, stats.unfolded_changes), (limit, limit));
    assert!(stats.hot_entries <= stats.hot_capacity);

    store.disk.clear_fault();
    assert!(store.driver.recover());
    assert!(store.driver.steps.fold());
    assert_eq!(store.stats().unfolded_changes, 0);
    while store.driver.steps.commit() {}
    assert_eq!(store.stats().journal_rows, 0);
    assert_eq!(store.driver.report(&[1]), Fate::Counts);
    assert_eq!(store.reports_of(1), Some(2));
}

#[test]
fn a_nearly_full_disk_refuses_updates_before_anything_fails() {
    let mut store = Store::with_cold_digests();
    assert_eq!(store.driver.report(&[1]), Fate::Counts);
    store.disk.set_free_bytes(1 << 20);
    assert_eq!(store.driver.report(&[1]), Fate::Unknown);
    assert_eq!(store.driver.report(&[1]), Fate::DoesNot);
    assert!(!store.driver.steps.fold(), "a fold needs room");
    assert_eq!(store.stats().failed_files, 0);
    assert_eq!(store.reports_of(1), Some(2));
    assert_eq!(store.reports_of(3), Some(1), "a cold digest");

    store.disk.set_free_bytes(1 << 30);
    assert!(store.driver.recover());
    assert_eq!(store.driver.report(&[1]), Fate::Counts);
    assert_eq!(store.reports_of(1), Some(3));
    assert!(store.driver.steps.fold());
}
