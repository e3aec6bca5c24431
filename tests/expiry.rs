//! Records past their age, by a clock that the test sets: absent at once, gone from the files later, and never by mistake.

use std::sync::Arc;

use pyzor_storage::redb_engine::{Clock, RedbOptions};
use pyzor_storage::{ChangeKind, CleanupAge, Record};

use crate::simulation::{Driver, Fate, SimClock, SimDisk, small_options};

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
        // With nothing left to commit, no change is on its way that could find an old record fresh.
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

#[test]
fn nothing_is_swept_for_a_day_when_the_clock_leaps() {
    let mut store = Store::new(AGE);
    store.report(1);
    store.fold_and_evict();
    let before = store.clock.now();
    store.clock.set(before + 400 * DAY);
    assert_eq!(store.check(1), Record::EMPTY);
    assert_eq!(store.swept(), 1, "it looks wrong");
    assert!(store.driver.engine.stats().sweep_waiting);

    // The mistake was noticed in time.
    store.clock.set(before + HOUR);
    assert_eq!(store.check(1).r_count, 1);

    // Or it was none.
    store.clock.set(before + 400 * DAY);
    store.clock.advance(DAY - HOUR);
    assert_eq!(store.swept(), 1);
    store.clock.advance(2 * DAY);
    assert_eq!(store.swept(), 0);
    assert!(!store.driver.engine.stats().sweep_waiting);
}

#[test]
fn nothing_is_swept_for_a_day_after_a_start_with_a_clock_far_ahead() {
    let mut store = Store::new(AGE);
    store.report(1);
    store.fold_and_evict();
    store.clock.set(store.clock.now() + 30 * DAY);
    let mut store = store.reopen();
    assert_eq!(store.swept(), 1, "it looks wrong");
    store.clock.advance(DAY + 1);
    assert_eq!(store.swept(), 0);
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
