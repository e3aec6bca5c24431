//! Records past their age, by a clock that the test sets: absent at once, gone from the files later, and never by mistake.

use std::sync::Arc;

use pyzor_storage::redb_engine::{Clock, RedbOptions};
use pyzor_storage::{ChangeKind, CleanupAge, Record};

use crate::simulation::{Driver, Fate, SimClock, SimDisk, digest, small_options};

const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;
/// Age of records in these tests, in seconds.
const AGE: u32 = 2 * DAY;
/// How long the store keeps records beyond their age, in seconds.
const GRACE: u32 = HOUR;

struct Store {
    disk: SimDisk,
    clock: Arc<SimClock>,
    driver: Driver,
    options: RedbOptions,
}

impl Store {
    fn new(age: u32) -> Self {
        let options = RedbOptions {
            cleanup_age: CleanupAge::from_seconds(age),
            ..small_options()
        };
        let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new()));
        let driver = Driver::open(&disk, options, &clock).unwrap();
        Self {
            disk,
            clock,
            driver,
            options,
        }
    }

    fn update(&mut self, kind: ChangeKind, number: u32) {
        assert_eq!(self.driver.update(kind, &[number]), Fate::Counts);
    }

    fn report(&mut self, number: u32) {
        self.update(ChangeKind::Report, number);
    }

    fn check(&mut self, number: u32) -> Record {
        self.driver.check(number).unwrap()
    }

    fn fold_and_evict(&mut self) {
        assert!(self.driver.steps.fold());
        self.driver.steps.evict(usize::MAX);
        self.driver.steps.evict(usize::MAX);
    }

    /// Sweeps, and says how many records there are then.
    fn swept(&mut self) -> u64 {
        // What is not committed stays in memory, and its record with it.
        self.driver.steps.commit();
        self.driver.steps.sweep();
        self.driver.engine.stats().digests
    }

    fn reopen(self) -> Self {
        drop(self.driver);
        Self {
            driver: Driver::open(&self.disk, self.options, &self.clock).unwrap(),
            ..self
        }
    }
}

#[test]
fn a_record_past_its_age_is_absent_at_once() {
    for on_disk in [false, true] {
        let mut store = Store::new(AGE);
        store.report(1);
        if on_disk {
            store.fold_and_evict();
        }
        store.clock.advance(AGE);
        assert_eq!(store.check(1).r_count, 1, "just in time");
        store.clock.advance(1);
        assert_eq!(store.check(1), Record::EMPTY);
        assert_eq!(store.driver.engine.stats().swept, 0);
    }
}

/// Invariant 7.
#[test]
fn a_report_on_a_record_past_its_age_starts_again_at_one() {
    for (on_disk, swept) in [(false, false), (true, false), (true, true)] {
        let mut store = Store::new(AGE);
        store.report(1);
        store.report(1);
        store.update(ChangeKind::Whitelist, 1);
        if on_disk {
            store.fold_and_evict();
        }
        store.clock.advance(AGE + GRACE + 1);
        if swept {
            assert_eq!(store.swept(), 0);
        }
        store.report(1);
        let now = store.clock.now();
        let again = Record {
            r_count: 1,
            r_entered: now,
            r_updated: now,
            ..Record::EMPTY
        };
        assert_eq!(store.check(1), again);
        store.fold_and_evict();
        assert_eq!(store.check(1), again);
    }
}

#[test]
fn the_later_of_report_and_whitelisting_counts() {
    let mut store = Store::new(AGE);
    store.report(1);
    store.update(ChangeKind::Whitelist, 2);
    store.clock.advance(AGE / 2 + HOUR);
    store.update(ChangeKind::Whitelist, 1);
    store.report(2);
    store.fold_and_evict();
    store.clock.advance(AGE / 2 + HOUR);
    assert_eq!(store.swept(), 2);
    for number in [1, 2] {
        let record = store.check(number);
        assert_eq!((record.r_count, record.wl_count), (1, 1));
    }
    store.clock.advance(AGE / 2 + HOUR);
    assert_eq!(store.check(1), Record::EMPTY);
    assert_eq!(store.check(2), Record::EMPTY);
    assert_eq!(store.swept(), 0);
}

#[test]
fn what_is_past_its_age_leaves_the_files_and_nothing_else_does() {
    let mut store = Store::new(AGE);
    for number in 0..1000 {
        store.report(number);
    }
    store.clock.advance(AGE);
    for number in 1000..1300 {
        store.report(number);
    }
    store.fold_and_evict();
    store.clock.advance(GRACE);
    assert_eq!(store.swept(), 1300, "not before the grace is over");
    store.clock.advance(1);
    assert_eq!(store.swept(), 300);
    assert_eq!(store.driver.engine.stats().swept, 1000);
    assert!((1000..1300).all(|number| store.check(number).r_count == 1));
    let mut store = store.reopen();
    assert_eq!(store.driver.engine.stats().digests, 300);
    assert!((0..1000).all(|number| store.check(number) == Record::EMPTY));
}

/// Invariant 7: the change decides, and it has not been folded.
#[test]
fn a_record_with_an_unfolded_change_is_not_swept() {
    let mut store = Store::new(AGE);
    store.report(1);
    store.report(2);
    store.fold_and_evict();
    store.clock.advance(AGE);
    store.report(1);
    store.clock.advance(GRACE + 1);
    assert_eq!(store.swept(), 1, "only the other one went");
    assert_eq!(store.check(1).r_count, 2);
    store.fold_and_evict();
    assert_eq!(store.swept(), 1);
    assert_eq!(store.check(1).r_count, 2);
    assert_eq!(store.check(2), Record::EMPTY);
}

#[test]
fn an_age_of_zero_keeps_everything() {
    let mut store = Store::new(0);
    store.report(1);
    store.fold_and_evict();
    store.clock.advance(10 * 365 * DAY);
    assert_eq!(store.swept(), 1);
    store.report(1);
    assert_eq!(store.check(1).r_count, 2);
}

/// Invariant 9. The clock is wrong by a year or more, either way, for a moment or for good, with reports and restarts at any
/// moment: nothing is lost, nothing starts again, and what is shown is the clock's time.
#[test]
fn a_clock_that_is_wrong_loses_nothing() {
    const YEAR: u32 = 365 * DAY;
    let right = SimClock::START;
    for wrong in [right + YEAR, right - YEAR, right - 40 * YEAR, 0] {
        for restarts in 0..8 {
            let restart_if = |bit: u32, store: Store| {
                if restarts & bit == bit {
                    store.reopen()
                } else {
                    store
                }
            };
            let mut store = Store::new(AGE);
            (0..5).for_each(|_| store.report(1));
            store.fold_and_evict();
            store.clock.set(wrong);
            store = restart_if(1, store);
            assert_eq!(store.check(1).r_count, 5);
            store.report(1);
            store.report(2);
            // A clock before 1970 shows nothing that could be told.
            let told = store.check(2).r_updated;
            assert!(told == wrong || wrong == 0, "the clock's time, not {told}");
            store.fold_and_evict();
            assert_eq!(store.swept(), 2);
            store = restart_if(2, store);
            store.clock.set(right + HOUR);
            store = restart_if(4, store);
            store.report(1);
            let record = store.check(1);
            assert_eq!((record.r_count, record.r_entered), (7, right));
            assert_eq!(record.r_updated, right + HOUR);
            assert_eq!(store.check(2).r_count, 1);
            assert_eq!(store.swept(), 2);
            store.fold_and_evict();
            store.clock.advance(AGE + GRACE + 100);
            assert_eq!(store.swept(), 0, "and records expire as they should");
        }
    }
}

/// While the server is down no record ages, by the clock or not.
#[test]
fn time_without_power_keeps_records_longer() {
    let mut store = Store::new(AGE);
    store.report(1);
    store.clock.advance(AGE - HOUR);
    store.driver.steps.maintain();
    store.driver.steps.commit();
    store.clock.set(store.clock.now() + 100 * DAY);
    let mut store = store.reopen();
    assert_eq!(store.check(1).r_count, 1);
    store.report(2);
    assert_eq!(store.check(2).r_entered, store.clock.now());
    assert_eq!(store.check(1).r_entered, SimClock::START);
    store.clock.advance(HOUR - 100);
    assert_eq!(store.check(1).r_count, 1);
    store.clock.advance(200);
    assert_eq!(store.check(1), Record::EMPTY, "the time before counts");
}

/// Nobody reports anything: the time that passes is saved all the same, at least every ten minutes.
#[test]
fn time_passes_without_reports_too() {
    let mut store = Store::new(AGE);
    store.report(1);
    for _ in 0..AGE / HOUR {
        store.clock.advance(HOUR);
        store.driver.steps.maintain();
        store.driver.steps.commit();
        let time = store.driver.time();
        store = store.reopen();
        assert!(store.driver.time() >= time);
    }
    assert_eq!(store.check(1), Record::EMPTY);
}

/// A store that 0.1 has written: its times are the wall clock's, and some may be from a clock that was wrong.
mod of_older_versions {
    use pyzor_storage::redb_engine::Disk;
    use redb::{Builder, Database, TableDefinition};

    use super::*;

    const META: TableDefinition<'_, &str, u128> = TableDefinition::new("meta");
    const CLOCK: TableDefinition<'_, u32, u32> = TableDefinition::new("clock");
    const RECORDS: TableDefinition<'_, &[u8; 20], &[u8; 32]> = TableDefinition::new("records");

    fn change(disk: &SimDisk, file: &str, change: impl FnOnce(&redb::WriteTransaction)) {
        let database: Database = disk.open(file, &Builder::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
    }

    /// A store as 0.1 left it, with one report each of these digests, made when the clock showed these times; opened when it
    /// shows `now`.
    fn open(reported: &[(u32, u32)], now: u32) -> Store {
        let mut store = Store::new(AGE);
        for &(number, _) in reported {
            store.report(number);
        }
        store.fold_and_evict();
        while store.driver.steps.commit() {}
        drop(store.driver);
        change(&store.disk, "journal.redb", |transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            assert!(meta.remove("time").unwrap().is_some());
            assert!(transaction.delete_table(CLOCK).unwrap());
        });
        for (shard, file) in [(0, "shard-000.redb"), (1, "shard-001.redb")] {
            change(&store.disk, file, |transaction| {
                let mut records = transaction.open_table(RECORDS).unwrap();
                for &(number, at) in reported {
                    let digest = digest(number);
                    if digest.as_bytes()[0] >> 7 == shard {
                        let mut record = [0; 32];
                        record[0] = 1;
                        record[16..20].copy_from_slice(&at.to_le_bytes());
                        record[20..24].copy_from_slice(&at.to_le_bytes());
                        let old = records.insert(digest.as_bytes(), &record).unwrap();
                        assert!(old.is_some());
                    }
                }
            });
        }
        store.clock.set(now);
        Store {
            driver: Driver::open(&store.disk, store.options, &store.clock).unwrap(),
            disk: store.disk,
            clock: store.clock,
            options: store.options,
        }
    }

    #[test]
    fn its_records_age_from_where_they_were() {
        let start = SimClock::START;
        let mut store = open(&[(1, start), (2, start + DAY)], start + DAY + HOUR);
        assert_eq!(store.check(1).r_entered, start);
        store.report(2);
        let record = store.check(2);
        assert_eq!((record.r_count, record.r_entered), (2, start + DAY));
        assert_eq!(record.r_updated, start + DAY + HOUR);
        store.clock.advance(AGE - DAY + 10);
        assert_eq!(store.check(1), Record::EMPTY);
        assert_eq!(store.check(2).r_count, 2);
    }

    #[test]
    fn one_report_of_a_clock_that_was_ahead_ages_no_other() {
        let start = SimClock::START;
        let mut store = open(
            &[(1, start), (2, start), (3, start + 400 * DAY)],
            start + HOUR,
        );
        assert_eq!(store.swept(), 3);
        assert!((1..=3).all(|number| store.check(number).r_count == 1));
        store.clock.advance(AGE + 2 * HOUR);
        assert_eq!(store.swept(), 1);
    }

    #[test]
    fn a_clock_that_is_behind_ages_nothing_and_stops_nothing() {
        let start = SimClock::START;
        let mut store = open(&[(1, start), (2, start), (3, start)], 1000);
        assert!((1..=3).all(|number| store.check(number).r_count == 1));
        store.report(1);
        assert_eq!(store.check(1).r_count, 2);
        store.fold_and_evict();
        store.clock.advance(AGE + 2 * HOUR);
        assert_eq!(store.swept(), 0);
    }
}

#[test]
fn the_folders_thread_sweeps_by_itself() {
    let mut store = Store::new(AGE);
    store.report(1);
    store.fold_and_evict();
    for _ in 0..100 {
        store.clock.advance(HOUR);
        store.driver.steps.commit();
        store.driver.steps.maintain();
    }
    assert_eq!(store.driver.engine.stats().digests, 0);
}
