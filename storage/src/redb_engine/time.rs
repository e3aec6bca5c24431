//! The store's own time, by which records expire.
//!
//! The wall clock may be wrong: it leaps when somebody sets it, and starts in 1970 where no battery keeps it. So the times
//! in the store are its own: seconds that pass only while the server runs, go on where they stopped, and that neither
//! a clock that is set nor a client can move. While the server is down they stand still, which keeps records longer.
//!
//! People want to be told the wall clock's times. So the store notes what the wall clock showed ([`Reading`]), at its
//! start and whenever the clock has been set: between two readings both clocks run alike, and [`StoreTime::shown`]
//! translates. Readings are in the journal no later than the first change that came after them.
//!
//! A store from before it had a time of its own has the wall clock's times in it; its own time begins where these end
//! ([`reached_by`]), and they are shown as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::warn;

use super::clock::Clock;
use crate::record::{EpochSeconds, Record};

/// Seconds by which two looks at the clocks may differ though nobody has set one: each is cut to whole seconds.
const TOLERANCE_SECONDS: i64 = 1;
/// A request may have looked at the clock so many seconds ago.
const REQUEST_SECONDS: i64 = 2;
/// The time that has passed is written to the journal at least so often, in seconds, if only with the next commit. No
/// change is later than the time written before it by more.
const SAVE_SECONDS: u32 = 600;
/// Readings that are kept; beyond, the oldest goes, and what it spoke of is shown by the next one. A server that is started
/// every day fills them in eleven years.
const MAX_READINGS: usize = 4096;
/// A clock that was moved by more than this while the server was down may well be wrong, in seconds.
const LONG_AWAY_SECONDS: i64 = 7 * 24 * 3600;

/// What the wall clock showed at a moment of the store's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) time: EpochSeconds,
    pub(super) wall: EpochSeconds,
}

/// What the journal holds of the store's time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// How far the time had come.
    pub(super) time: EpochSeconds,
    /// In the order of time.
    pub(super) readings: Vec<Reading>,
}

/// What has to be written to the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsaved {
    pub(super) time: EpochSeconds,
    /// New ones.
    pub(super) readings: Vec<Reading>,
    /// Readings from before this are kept no longer.
    pub(super) first: EpochSeconds,
}

/// The times of the records in a store that has no time of its own yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WallTimes {
    pub(super) latest: EpochSeconds,
    pub(super) records: u64,
    /// Of these, records from after what the clock shows now.
    pub(super) from_the_future: u64,
}

impl WallTimes {
    /// Takes a record in, by its last update and the clock as it is now.
    pub(super) fn note(&mut self, updated: EpochSeconds, now: EpochSeconds) {
        self.latest = self.latest.max(updated);
        self.records += 1;
        self.from_the_future += u64::from(updated > now);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.latest = self.latest.max(other.latest);
        self.records += other.records;
        self.from_the_future += other.from_the_future;
    }
}

/// How far the time has come of a store that has records of the wall clock's time.
///
/// To the latest of them: nothing has passed since, as far as the store knows. But a few records from the future were made
/// while the clock was wrong, and would make all others old. If most are from the future, it is wrong now.
fn reached_by(records: WallTimes, now: EpochSeconds) -> EpochSeconds {
    let clock_is_behind = records.from_the_future > records.records / 2;
    match records.latest {
        0 => now.saturating_sub(1),
        latest if clock_is_behind => latest,
        latest => latest.min(now),
    }
}

/// The store's own time.
pub(super) struct StoreTime {
    clock: Arc<dyn Clock>,
    /// A second of the wall clock and the store's at that moment, in one word: the answer most of the time.
    latest: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// The store's time at a moment of uptime.
    since: (Duration, EpochSeconds),
    /// The latest time that anybody was told.
    told: EpochSeconds,
    readings: Vec<Reading>,
    /// Readings at the end of the list that the journal lacks.
    new_readings: usize,
    saved: EpochSeconds,
}

impl StoreTime {
    /// Goes on from what was `saved`, or from the latest change in the journal.
    pub(super) fn resume(clock: Arc<dyn Clock>, saved: Saved, latest_change: EpochSeconds) -> Self {
        // A later one was not made by this program.
        let plausible = latest_change <= saved.time.saturating_add(SAVE_SECONDS + 2);
        let reached = if plausible {
            saved.time.max(latest_change)
        } else {
            saved.time
        };
        Self::start(clock, reached, saved.readings, saved.time)
    }

    /// Begins to count, after the times of the records that are there.
    pub(super) fn begin(clock: Arc<dyn Clock>, records: WallTimes) -> Self {
        let reached = reached_by(records, clock.now());
        if records.from_the_future > 0 {
            warn!(
                "{} of {} records are from after the clock's time: see that the clock is right",
                records.from_the_future, records.records
            );
        }
        // Until then, the times in the store are what the clock showed.
        let identity = Reading { time: 0, wall: 0 };
        let mut time = Self::start(clock, reached, vec![identity], 0);
        time.state.get_mut().new_readings += 1;
        time
    }

    fn start(
        clock: Arc<dyn Clock>,
        reached: EpochSeconds,
        readings: Vec<Reading>,
        saved: EpochSeconds,
    ) -> Self {
        let (wall, uptime) = (clock.now(), clock.uptime());
        let mut state = State {
            since: (uptime, reached),
            told: reached,
            readings,
            new_readings: 0,
            saved,
        };
        let away = state.moved_by(wall, reached);
        if away < -TOLERANCE_SECONDS && saved > 0 {
            warn!(
                "the clock has gone back by {} since the store was last in use: records expire by the time that has passed",
                span(away)
            );
        } else if away > LONG_AWAY_SECONDS && saved > 0 {
            warn!(
                "by the clock, the store was last in use {} ago: records are kept for so much longer",
                span(away)
            );
        }
        let time = state.begin(wall, uptime);
        Self {
            clock,
            latest: AtomicU64::new(pack(wall, time)),
            state: Mutex::new(state),
        }
    }

    /// The store's time now.
    pub(super) fn now(&self) -> EpochSeconds {
        self.at(self.clock.now())
    }

    /// The store's time at which a request is made that saw the wall clock at `wall` a moment ago.
    pub(super) fn at(&self, wall: EpochSeconds) -> EpochSeconds {
        match unpack(self.latest.load(Ordering::Relaxed)) {
            (latest, time) if latest == wall && !is_at_an_end(wall) => time,
            _ => self.look(wall),
        }
    }

    /// Looks at the clocks.
    fn look(&self, asked: EpochSeconds) -> EpochSeconds {
        let mut state = self.state.lock();
        let (wall, uptime) = (self.clock.now(), self.clock.uptime());
        let time = state.advance(wall, uptime);
        self.latest.store(pack(wall, time), Ordering::Relaxed);
        let ago = i64::from(wall) - i64::from(asked);
        if (0..=REQUEST_SECONDS).contains(&ago) {
            seconds(i64::from(time) - ago)
        } else {
            time
        }
    }

    /// The record with its times as the wall clock showed them.
    pub(super) fn shown(&self, record: Record) -> Record {
        let state = self.state.lock();
        Record {
            r_entered: state.shown(record.r_entered),
            r_updated: state.shown(record.r_updated),
            wl_entered: state.shown(record.wl_entered),
            wl_updated: state.shown(record.wl_updated),
            ..record
        }
    }

    /// What has to go into the journal with the next commit, if anything.
    pub(super) fn unsaved(&self) -> Option<Unsaved> {
        self.unsaved_for(SAVE_SECONDS)
    }

    /// The same, if time has passed at all: for when the journal will hold no change that tells how late it is.
    pub(super) fn unsaved_at_all(&self) -> Option<Unsaved> {
        self.unsaved_for(1)
    }

    fn unsaved_for(&self, seconds: u32) -> Option<Unsaved> {
        self.now();
        let state = self.state.lock();
        // No reading is later.
        let time = state.told;
        let is_due = state.new_readings > 0 || time >= state.saved.saturating_add(seconds);
        is_due.then(|| state.unsaved(time))
    }

    /// Takes note that the journal has it now.
    pub(super) fn saved(&self, saved: &Unsaved) {
        let mut state = self.state.lock();
        state.saved = saved.time;
        state.new_readings = state.new_readings.saturating_sub(saved.readings.len());
    }
}

impl State {
    /// How far the wall clock is from where it would be at `time` had nobody set it, in seconds.
    fn moved_by(&self, wall: EpochSeconds, time: EpochSeconds) -> i64 {
        i64::from(wall) - i64::from(self.shown(time))
    }

    /// The time now, by the clocks. Notes when the wall clock has been set.
    fn advance(&mut self, wall: EpochSeconds, uptime: Duration) -> EpochSeconds {
        let (since, time) = self.since;
        let passed = uptime.saturating_sub(since).as_secs();
        let time = seconds(i64::from(time) + i64::try_from(passed).unwrap_or(i64::MAX));
        if is_at_an_end(wall) {
            self.told = self.told.max(time);
            return self.told;
        }
        let moved = self.moved_by(wall, time);
        if moved.abs() <= TOLERANCE_SECONDS {
            // Seconds begin when the wall clock's do, so that what is shown is what it showed.
            self.told = self.told.max(seconds(i64::from(time) + moved));
            return self.told;
        }
        warn!(
            "the clock was put {} by {}: records expire by the time that has passed, new reports carry the clock's",
            if moved > 0 { "forward" } else { "back" },
            span(moved)
        );
        self.told = self.told.max(time);
        self.begin(wall, uptime)
    }

    /// Lets a second begin that nobody was told of before, and notes what the wall clock shows in it.
    fn begin(&mut self, wall: EpochSeconds, uptime: Duration) -> EpochSeconds {
        let time = self.told.saturating_add(1);
        self.since = (uptime, time);
        self.told = time;
        if self.moved_by(wall, time) == 0 {
            return time;
        }
        if self.readings.len() == MAX_READINGS {
            self.readings.remove(0);
        }
        self.readings.push(Reading { time, wall });
        self.new_readings = (self.new_readings + 1).min(self.readings.len());
        time
    }

    fn shown(&self, time: EpochSeconds) -> EpochSeconds {
        const NEVER: EpochSeconds = 0;
        let begun = |reading: &Reading| reading.time <= time;
        let next = self.readings.partition_point(begun);
        match self.readings.get(next.saturating_sub(1)) {
            Some(reading) if time != NEVER => {
                let ahead = i64::from(reading.wall) - i64::from(reading.time);
                seconds(i64::from(time) + ahead).max(1)
            }
            _ => time,
        }
    }

    fn unsaved(&self, time: EpochSeconds) -> Unsaved {
        let known = self.readings.len().saturating_sub(self.new_readings);
        Unsaved {
            time,
            readings: self.readings[known..].to_vec(),
            first: self.readings.first().map_or(0, |reading| reading.time),
        }
    }
}

fn pack(wall: EpochSeconds, time: EpochSeconds) -> u64 {
    u64::from(wall) << EpochSeconds::BITS | u64::from(time)
}

fn unpack(packed: u64) -> (EpochSeconds, EpochSeconds) {
    let half = |bits: u64| EpochSeconds::try_from(bits).unwrap_or(EpochSeconds::MAX);
    (
        half(packed >> EpochSeconds::BITS),
        half(packed & u64::from(EpochSeconds::MAX)),
    )
}

/// Whether the wall clock shows a time before 1970 or after 2106, for which it stands still here.
fn is_at_an_end(wall: EpochSeconds) -> bool {
    matches!(wall, EpochSeconds::MIN | EpochSeconds::MAX)
}

fn seconds(seconds: i64) -> EpochSeconds {
    let seconds = seconds.max(0);
    EpochSeconds::try_from(seconds).unwrap_or(EpochSeconds::MAX)
}

/// So many seconds, either way, in the unit that tells most.
fn span(seconds: i64) -> String {
    let seconds = seconds.unsigned_abs();
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    const START: EpochSeconds = 1_800_000_000;

    /// Clocks that show what they are told.
    struct Clocks {
        wall: AtomicU32,
        uptime: AtomicU32,
    }

    impl Clocks {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                wall: AtomicU32::new(START),
                uptime: AtomicU32::new(7),
            })
        }

        fn pass(&self, seconds: u32) {
            self.wall.fetch_add(seconds, Ordering::SeqCst);
            self.uptime.fetch_add(seconds, Ordering::SeqCst);
        }

        fn set(&self, wall: EpochSeconds) {
            self.wall.store(wall, Ordering::SeqCst);
        }
    }

    impl Clock for Clocks {
        fn now(&self) -> EpochSeconds {
            self.wall.load(Ordering::SeqCst)
        }

        fn uptime(&self) -> Duration {
            Duration::from_secs(self.uptime.load(Ordering::SeqCst).into())
        }
    }

    fn begin(clocks: &Arc<Clocks>) -> StoreTime {
        StoreTime::begin(Arc::<Clocks>::clone(clocks), WallTimes::default())
    }

    fn shown(time: &StoreTime, at: EpochSeconds) -> EpochSeconds {
        let record = Record {
            r_entered: at,
            ..Record::EMPTY
        };
        time.shown(record).r_entered
    }

    #[test]
    fn time_passes_as_the_clock_does_until_that_is_set() {
        let clocks = Clocks::new();
        let time = begin(&clocks);
        clocks.pass(100);
        assert_eq!(time.now(), START + 100);
        clocks.set(START + 1_000_000);
        let leapt = time.now();
        assert!((START + 100..=START + 101).contains(&leapt));
        assert_eq!(shown(&time, leapt), START + 1_000_000);
        assert_eq!(shown(&time, START + 100), START + 100);
        assert_eq!(shown(&time, 0), 0, "never stays never");
        clocks.pass(10);
        clocks.set(5);
        assert!((leapt + 10..=leapt + 11).contains(&time.now()));
        assert_eq!(shown(&time, time.now()), 5);
    }

    #[test]
    fn time_passes_where_the_clock_stands_still() {
        let clocks = Clocks::new();
        let time = begin(&clocks);
        for end in [EpochSeconds::MIN, EpochSeconds::MAX] {
            clocks.set(end);
            let before = time.now();
            clocks.pass(100);
            clocks.set(end);
            assert_eq!(time.now(), before + 100);
        }
    }

    #[test]
    fn a_request_that_saw_another_second_moves_nothing() {
        let clocks = Clocks::new();
        let time = begin(&clocks);
        clocks.pass(100);
        assert_eq!(time.at(START + 100), START + 100);
        assert_eq!(time.at(START + 99), START + 99, "a moment ago");
        assert_eq!(time.at(START + 10), START + 100, "held up since then");
        assert_eq!(time.at(START + 5000), START + 100);
        assert_eq!(time.now(), START + 100);
    }

    #[test]
    fn a_clock_that_is_set_for_ever_takes_no_more_room() {
        let clocks = Clocks::new();
        let time = begin(&clocks);
        for _ in 0..=MAX_READINGS {
            clocks.pass(5);
            clocks.set(clocks.now() + 100);
            time.now();
        }
        let unsaved = time.unsaved().unwrap();
        assert_eq!(unsaved.readings.len(), MAX_READINGS);
        assert_eq!(unsaved.first, unsaved.readings[0].time);
        assert_eq!(shown(&time, time.now()), clocks.now());
    }

    #[test]
    fn what_was_saved_is_where_it_goes_on() {
        let clocks = Clocks::new();
        let time = begin(&clocks);
        let mut saved = Saved::default();
        for seconds in [0, 1, SAVE_SECONDS, 10] {
            clocks.pass(seconds);
            if let Some(unsaved) = time.unsaved() {
                time.saved(&unsaved);
                saved.time = unsaved.time;
                saved.readings.extend(unsaved.readings);
            }
        }
        assert_eq!(saved.time, START + SAVE_SECONDS + 1);
        assert_eq!(time.unsaved(), None);
        assert_eq!(time.unsaved_at_all().unwrap().time, saved.time + 10);

        let resume = |latest_change| {
            let clock = Arc::<Clocks>::clone(&clocks);
            StoreTime::resume(clock, saved.clone(), latest_change).now()
        };
        assert_eq!(resume(0), saved.time + 1);
        assert_eq!(resume(saved.time + 10), saved.time + 11);
        let year = 365 * 24 * 3600;
        assert_eq!(resume(saved.time + year), saved.time + 1, "not by us");
    }
}
