//! How long a search will take.

use std::fmt;
use std::time::Duration;

/// Runs of a search on a quiet machine.
const USUAL_RUNS: u32 = 28;
/// Looking at the machine before a run, and waiting for the last replies after it, on a quiet machine.
const AROUND_A_RUN: Duration = Duration::from_millis(300);

/// What is known of the runs to come, from those that were made.
pub(super) struct Forecast {
    searches: u32,
    /// The search that is under way, from 1.
    number: u32,
    /// How many runs it may take at most.
    most_runs: u32,
    /// Made in it.
    runs_of_search: u32,
    runs: u32,
    /// By all of them.
    taken: Duration,
    /// As long as a run is planned to be.
    planned: Duration,
}

impl Forecast {
    pub(super) fn new(searches: u32, run: Duration) -> Self {
        Self {
            searches,
            number: 0,
            most_runs: 0,
            runs_of_search: 0,
            runs: 0,
            taken: Duration::ZERO,
            planned: run + AROUND_A_RUN,
        }
    }

    /// Another search begins.
    pub(super) fn begin_search(&mut self, most_runs: u32) {
        self.number += 1;
        self.most_runs = most_runs;
        self.runs_of_search = 0;
    }

    /// A run is over, which took so long.
    pub(super) fn count_run(&mut self, taken: Duration) {
        self.taken += taken;
        self.runs_of_search += 1;
        self.runs += 1;
    }

    /// What a line shows while a run is made.
    pub(super) fn of_run(&self) -> String {
        format!("{self}, run {}", self.runs_of_search + 1)
    }

    /// How long all runs to come take, if each takes as long as those before, and at most.
    fn left(&self) -> (Duration, Duration) {
        let run = match self.runs {
            0 => self.planned,
            runs => self.taken / runs,
        };
        let later = self.searches.saturating_sub(self.number);
        let finished = self.number.saturating_sub(1);
        let usual = (self.runs - self.runs_of_search)
            .checked_div(finished)
            .unwrap_or(USUAL_RUNS);
        let left_of = |runs: u32| runs.saturating_sub(self.runs_of_search).max(1) + later * runs;
        (
            run * left_of(usual),
            run * left_of(self.most_runs.max(usual)),
        )
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, searches) = (self.number, self.searches);
        let (usual, most) = self.left();
        write!(
            f,
            "search {number} of {searches}, about {} left, {} at most",
            in_words(usual),
            in_words(most)
        )
    }
}

/// To the second where it is short, and to the minute.
pub(crate) fn in_words(time: Duration) -> String {
    const SHORT_S: u64 = 100;
    const S_PER_MIN: u64 = 60;
    let seconds = time.as_millis().div_ceil(1000);
    match u64::try_from(seconds).unwrap_or(u64::MAX) {
        short if short < SHORT_S => format!("{short} s"),
        long => format!("{} min", long.div_ceil(S_PER_MIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_from_the_plan_and_then_from_what_was_made() {
        let mut forecast = Forecast::new(5, Duration::from_millis(2_200));
        forecast.begin_search(120);
        // 5 searches of 28 runs of 2.5 s, and of 120.
        let first = "search 1 of 5, about 6 min left, 25 min at most";
        assert_eq!(forecast.to_string(), first);
        (0..10).for_each(|_| forecast.count_run(Duration::from_secs(3)));
        forecast.begin_search(60);
        // 4 searches of 10 runs of 3 s, and of 60.
        let second = "search 2 of 5, about 2 min left, 12 min at most, run 1";
        assert_eq!(forecast.of_run(), second);
        (0..200).for_each(|_| forecast.count_run(Duration::from_secs(3)));
        let third = "search 2 of 5, about 93 s left, 10 min at most";
        assert_eq!(forecast.to_string(), third);
    }

    #[test]
    fn times_are_in_words() {
        let words =
            [0, 1, 99_001, 100_000, 3_000_000].map(|ms| in_words(Duration::from_millis(ms)));
        assert_eq!(words, ["0 s", "1 s", "2 min", "2 min", "50 min"]);
    }
}
