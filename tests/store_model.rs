//! The store does what an obvious model does, under any sequence of updates, lookups, folds, evictions, sweeps, new
//! filters, clock changes and restarts.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use pyzor_storage::redb_engine::{Clock, HalfLookup, RedbOptions};
use pyzor_storage::{ChangeKind, CleanupAge, EpochSeconds, Record};

use crate::simulation::{Driver, Fate, SimClock, SimDisk, small_options};

/// Age of records in these tests, in seconds: short, so that the clock passes it often.
const AGE: u32 = 1000;
/// How long the store keeps records beyond their age before it deletes them, in seconds.
const GRACE: u32 = 3600;

/// What can happen to a store.
#[derive(Clone, Debug)]
enum Event {
    Update(bool, Vec<u32>),
    /// Sent, and committed with whatever comes next.
    Send(bool, u32),
    Check(u32),
    BeginLookup(u32),
    FinishLookup,
    Fold,
    Sweep,
    Evict,
    NewFilter,
    Advance(u32),
    /// Sets the clock, though no time passes.
    PutClock(i32),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let number = || 0..6_u32;
    prop_oneof![
        6 => (any::<bool>(), proptest::collection::vec(number(), 1..4))
            .prop_map(|(report, numbers)| Event::Update(report, numbers)),
        2 => (any::<bool>(), number()).prop_map(|(report, number)| Event::Send(report, number)),
        4 => number().prop_map(Event::Check),
        2 => number().prop_map(Event::BeginLookup),
        2 => Just(Event::FinishLookup),
        3 => Just(Event::Fold),
        1 => Just(Event::Sweep),
        3 => Just(Event::Evict),
        1 => Just(Event::NewFilter),
        3 => prop_oneof![1..100_u32, 900..1100_u32, Just(GRACE + AGE + 1)].prop_map(Event::Advance),
        1 => prop_oneof![2..100_i32, 900..5000_i32, Just(400 * 24 * 3600)].prop_map(Event::PutClock),
        1 => prop_oneof![2..100_i32, 900..5000_i32].prop_map(|back| Event::PutClock(-back)),
        1 => Just(Event::Restart),
    ]
}

/// What the store should know: every record as the obvious code makes it, and the store's time when it was last changed.
#[derive(Default)]
struct Model {
    records: HashMap<u32, (Record, EpochSeconds)>,
}

impl Model {
    fn update(&mut self, kind: ChangeKind, number: u32, now: EpochSeconds, time: EpochSeconds) {
        let (record, changed) = self.records.entry(number).or_default();
        if is_past_age(*changed, time, AGE) {
            *record = Record::EMPTY;
        }
        *changed = time;
        let (count, first, latest) = match kind {
            ChangeKind::Report => (
                &mut record.r_count,
                &mut record.r_entered,
                &mut record.r_updated,
            ),
            ChangeKind::Whitelist => (
                &mut record.wl_count,
                &mut record.wl_entered,
                &mut record.wl_updated,
            ),
        };
        *first = if *count == 0 { now } else { *first };
        *count += 1;
        *latest = now;
    }

    fn check(&self, number: u32, time: EpochSeconds) -> Record {
        match self.records.get(&number) {
            Some((record, changed)) if !is_past_age(*changed, time, AGE) => *record,
            _ => Record::EMPTY,
        }
    }

    /// When the latest change was made, in the store's time.
    fn latest_change(&self) -> EpochSeconds {
        let changes = self.records.values().map(|(_, changed)| *changed);
        changes.max().unwrap_or(0)
    }
}

fn is_past_age(changed: EpochSeconds, time: EpochSeconds, age: u32) -> bool {
    time.saturating_sub(changed) > age
}

/// The store, the model, and what is under way.
struct Run {
    disk: SimDisk,
    clock: Arc<SimClock>,
    driver: Driver,
    model: Model,
    half: Option<(u32, HalfLookup)>,
    /// What the store's time should be at least, and at most: it may go on by a second when the clock is set.
    time: RangeInclusive<EpochSeconds>,
}

fn options() -> RedbOptions {
    RedbOptions {
        cleanup_age: CleanupAge::from_seconds(AGE),
        ..small_options()
    }
}

impl Run {
    fn new() -> Self {
        let disk = SimDisk::new(1);
        let clock = Arc::new(SimClock::new());
        let driver = Driver::open(&disk, options(), &clock).unwrap();
        Self {
            time: driver.time()..=driver.time(),
            driver,
            disk,
            clock,
            model: Model::default(),
            half: None,
        }
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Update(report, numbers) => self.update(*report, numbers)?,
            Event::Send(report, number) => self.send(*report, *number)?,
            Event::Check(number) => self.check(*number)?,
            Event::BeginLookup(number) => self.begin_lookup(*number),
            Event::FinishLookup => self.finish_lookup()?,
            Event::Fold => {
                self.driver.steps.commit();
                ensure(self.driver.steps.fold(), "a fold failed")?;
            }
            Event::Sweep => {
                self.driver.steps.commit();
                self.driver.steps.fold();
                self.driver.steps.sweep();
            }
            Event::Evict => {
                self.driver.steps.evict(usize::MAX);
                self.driver.steps.evict(usize::MAX);
            }
            Event::NewFilter => self.driver.steps.rebuild_filter(),
            Event::Advance(seconds) => {
                self.clock.advance(*seconds);
                self.time = self.time.start() + seconds..=self.time.end() + seconds;
            }
            Event::PutClock(seconds) => {
                self.clock.set(self.now().saturating_add_signed(*seconds));
                self.time = *self.time.start()..=self.time.end() + 1;
            }
            Event::Restart => self.restart()?,
        }
        ensure(
            self.time.contains(&self.time()),
            &format!(
                "the store's time is {} and not in {:?}",
                self.time(),
                self.time
            ),
        )
    }

    fn time(&self) -> EpochSeconds {
        self.driver.time()
    }

    fn now(&self) -> EpochSeconds {
        self.clock.now()
    }

    fn update(&mut self, report: bool, numbers: &[u32]) -> Result<(), String> {
        let kind = kind(report);
        let fate = self.driver.update(kind, numbers);
        ensure(fate == Fate::Counts, "an update was refused")?;
        for &number in numbers {
            self.note(kind, number);
        }
        numbers.iter().try_for_each(|&number| self.check(number))
    }

    /// Two updates in one commit.
    fn send(&mut self, report: bool, number: u32) -> Result<(), String> {
        let kind = kind(report);
        let first = self.driver.send(kind, &[number]);
        self.note(kind, number);
        self.check(number)?;
        let fate = self.driver.update(kind, &[number]);
        self.note(kind, number);
        ensure(fate == Fate::Counts, "an update was refused")?;
        ensure(
            self.driver.fate(first) == Fate::Counts,
            "an update was refused",
        )
    }

    fn note(&mut self, kind: ChangeKind, number: u32) {
        let (now, time) = (self.now(), self.time());
        self.model.update(kind, number, now, time);
    }

    fn check(&mut self, number: u32) -> Result<(), String> {
        let expected = self.model.check(number, self.time());
        match self.driver.check(number) {
            Ok(record) if record == expected => Ok(()),
            other => Err(format!(
                "digest {number}: {other:?} instead of {expected:?}"
            )),
        }
    }

    fn begin_lookup(&mut self, number: u32) {
        if self.half.is_none() && !self.driver.is_in_memory(number) {
            self.driver.defer(number).unwrap();
            let half = self.driver.steps.begin_lookup().unwrap();
            self.half = Some((number, half));
        }
    }

    /// What was read a while ago must not spoil what is known now. Its own answer may be from either time.
    fn finish_lookup(&mut self) -> Result<(), String> {
        let Some((number, half)) = self.half.take() else {
            return Ok(());
        };
        self.driver.steps.finish_lookup(&half);
        let answer = self.driver.answer();
        ensure(
            matches!(answer, Some(Ok(_))),
            &format!("no answer but {answer:?}"),
        )?;
        self.check(number)
    }

    /// The power goes and comes back. The store's time goes on where it was at the latest change, or later.
    fn restart(&mut self) -> Result<(), String> {
        self.half = None;
        let (disk, clock) = (self.disk.clone(), Arc::clone(&self.clock));
        // The old store has to be gone before the disk is opened again.
        let fresh = SimDisk::new(0);
        let idle = Driver::open(&fresh, options(), &clock).map_err(|error| error.to_string())?;
        drop(std::mem::replace(&mut self.driver, idle));
        self.driver = Driver::open(&disk, options(), &clock).map_err(|error| error.to_string())?;
        let time = self.time();
        self.time = match self.model.latest_change() {
            // A store that nobody has used may begin its time anew.
            0 => time..=time,
            latest => latest..=self.time.end() + 2,
        };
        ensure(
            self.time.contains(&time),
            &format!("the store's time is {time} and not in {:?}", self.time),
        )?;
        self.time = time..=time;
        self.check_all()
    }

    fn check_all(&mut self) -> Result<(), String> {
        (0..6).try_for_each(|number| self.check(number))
    }
}

fn kind(report: bool) -> ChangeKind {
    if report {
        ChangeKind::Report
    } else {
        ChangeKind::Whitelist
    }
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

fn run(events: &[Event]) -> Result<(), String> {
    let mut run = Run::new();
    for event in events {
        run.apply(event)?;
    }
    run.check_all()?;
    run.restart()
}

#[test]
fn the_store_does_what_the_model_does() {
    let config = Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&proptest::collection::vec(event(), 1..60), |events| {
            run(&events).map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Invariant 4: what a fold has put into a shard is not applied again by a restart, though it is in the journal still.
#[test]
fn a_fold_is_not_replayed_by_a_restart() {
    let report = || Event::Update(true, vec![1]);
    run(&[report(), report(), Event::Fold, Event::Restart]).unwrap();
}

/// Invariant 5: an entry whose changes are in no shard yet stays in memory.
#[test]
fn an_unfolded_entry_is_not_evicted() {
    run(&[Event::Update(true, vec![1]), Event::Evict, Event::Check(1)]).unwrap();
}

/// Invariant 5: what was read before a fold is not remembered after it.
#[test]
fn a_record_read_before_a_fold_is_not_remembered_after_it() {
    run(&[
        Event::Update(true, vec![1]),
        Event::Fold,
        Event::Evict,
        Event::BeginLookup(1),
        Event::Update(true, vec![1]),
        Event::Fold,
        Event::Evict,
        Event::FinishLookup,
    ])
    .unwrap();
}

/// Invariant 6: a change to a record that memory does not hold is seen together with the record.
#[test]
fn a_change_and_the_stored_record_are_seen_as_one() {
    run(&[
        Event::Update(true, vec![1]),
        Event::Fold,
        Event::Evict,
        Event::Update(false, vec![1]),
        Event::Check(1),
        Event::Fold,
        Event::Check(1),
    ])
    .unwrap();
}

/// Invariant 6, where the changes lie further apart than records live: they are applied one by one.
#[test]
fn changes_that_lie_far_apart_are_replayed() {
    run(&[
        Event::Update(true, vec![1]),
        Event::Fold,
        Event::Evict,
        Event::Send(true, 1),
        Event::Advance(AGE + 1),
        Event::Send(false, 1),
        Event::Check(1),
        Event::PutClock(-2000),
        Event::Check(1),
        Event::Fold,
        Event::Check(1),
    ])
    .unwrap();
}
