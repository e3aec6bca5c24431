//! When each request is to be sent, since the start of a run. Pure and seeded: it knows neither clocks nor sockets.
//!
//! Invariant: times never decrease, and none depends on what was answered.

use std::time::Duration;

use crate::mix::SplitMix64;

/// The law that send times follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As recorded, so many times as fast.
    Recorded {
        /// Above 0.
        speed: f64,
    },
    /// The same time between any two requests.
    Constant {
        /// Above 0.
        rate_per_s: f64,
    },
    /// Exponentially distributed times between requests, as of many independent senders.
    Poisson {
        /// Above 0.
        rate_per_s: f64,
    },
}

/// Gives the send times of one run, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    random: SplitMix64,
    /// How many times were given.
    given: u64,
    /// Of them, those of earlier rounds through the trace.
    given_before_round: u64,
    /// When this round through the trace began.
    round_start_s: f64,
    latest_s: f64,
}

impl Schedule {
    pub(crate) fn new(pace: Pace, seed: u64) -> Self {
        Self {
            pace,
            random: SplitMix64::new(seed),
            given: 0,
            given_before_round: 0,
            round_start_s: 0.0,
            latest_s: 0.0,
        }
    }

    /// The time of the next request, which was `recorded` so long after the first one.
    pub(crate) fn next(&mut self, recorded: Duration) -> Duration {
        let at_s = match self.pace {
            Pace::Recorded { speed } => self.round_start_s + recorded.as_secs_f64() / speed,
            Pace::Constant { rate_per_s } => as_float(self.given) / rate_per_s,
            Pace::Poisson { rate_per_s } => self.latest_s + self.exponential() / rate_per_s,
        };
        self.given += 1;
        // Recordings of several queues are not quite in order.
        self.latest_s = self.latest_s.max(at_s);
        // A speed can make a time longer than any duration.
        Duration::try_from_secs_f64(self.latest_s).unwrap_or(Duration::MAX)
    }

    /// The trace starts again: its first request follows its last one after the mean time between requests.
    pub(crate) fn next_round(&mut self) {
        let requests = self.given - self.given_before_round;
        let gaps = as_float(requests.saturating_sub(1));
        let length_s = self.latest_s - self.round_start_s;
        let mean_gap_s = if gaps > 0.0 && length_s > 0.0 {
            length_s / gaps
        } else {
            LONE_MOMENT_GAP_S
        };
        self.round_start_s = self.latest_s + mean_gap_s;
        self.given_before_round = self.given;
    }

    /// Exponentially distributed with mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.random.unit()).ln()
    }
}

/// A trace of a single request, or of a single moment, has no time between requests.
const LONE_MOMENT_GAP_S: f64 = 1.0;

#[expect(clippy::cast_precision_loss, reason = "no run sends 2^52 requests")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &mut Schedule, recorded_ms: &[u64]) -> Vec<u128> {
        let next = |&ms| schedule.next(Duration::from_millis(ms)).as_millis();
        recorded_ms.iter().map(next).collect()
    }

    #[test]
    fn recorded_times_are_scaled_and_never_decrease() {
        let mut slow = Schedule::new(Pace::Recorded { speed: 0.5 }, 1);
        assert_eq!(times(&mut slow, &[0, 10, 8, 20]), [0, 20, 20, 40]);
        let mut fast = Schedule::new(Pace::Recorded { speed: 10.0 }, 1);
        assert_eq!(times(&mut fast, &[0, 10, 100]), [0, 1, 10]);
    }

    #[test]
    fn rounds_follow_each_other_after_the_mean_gap() {
        let mut schedule = Schedule::new(Pace::Recorded { speed: 1.0 }, 1);
        assert_eq!(times(&mut schedule, &[0, 10, 40]), [0, 10, 40]);
        schedule.next_round();
        assert_eq!(times(&mut schedule, &[0, 10, 40]), [60, 70, 100]);
        schedule.next_round();
        assert_eq!(times(&mut schedule, &[0]), [120]);
        schedule.next_round();
        assert_eq!(times(&mut schedule, &[0]), [1120], "a lone request");
        schedule.next_round();
        assert_eq!(times(&mut schedule, &[0, 0]), [2120, 2120]);
        schedule.next_round();
        assert_eq!(times(&mut schedule, &[0]), [3120], "a lone moment");
    }

    #[test]
    fn a_constant_rate_does_not_drift() {
        let mut schedule = Schedule::new(Pace::Constant { rate_per_s: 3.0 }, 1);
        let mut last = Duration::ZERO;
        for _ in 0..=300_000 {
            last = schedule.next(Duration::from_secs(77));
        }
        assert_eq!(last, Duration::from_secs(100_000));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_variance_of_their_law() {
        const REQUESTS: u32 = 100_000;
        const RATE: f64 = 1000.0;
        let mut schedule = Schedule::new(Pace::Poisson { rate_per_s: RATE }, 7);
        let mut last = Duration::ZERO;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..REQUESTS {
            let now = schedule.next(Duration::ZERO);
            let gap = now.saturating_sub(last).as_secs_f64() * RATE;
            last = now;
            sum += gap;
            squares += gap * gap;
        }
        let mean = sum / f64::from(REQUESTS);
        let variance = squares / f64::from(REQUESTS) - mean * mean;
        // Five standard deviations: 5 / sqrt(REQUESTS), and sqrt(8) times that.
        assert!((mean - 1.0).abs() < 0.016, "{mean}");
        assert!((variance - 1.0).abs() < 0.045, "{variance}");
        let mut again = Schedule::new(Pace::Poisson { rate_per_s: RATE }, 7);
        let mut other = Schedule::new(Pace::Poisson { rate_per_s: RATE }, 8);
        let first = again.next(Duration::ZERO);
        assert_ne!(first, other.next(Duration::ZERO));
        for _ in 1..REQUESTS {
            again.next(Duration::ZERO);
        }
        assert_eq!(again.latest_s.to_bits(), schedule.latest_s.to_bits());
    }

    #[test]
    fn times_beyond_all_durations_are_the_longest_one() {
        let mut schedule = Schedule::new(Pace::Recorded { speed: 1e-300 }, 1);
        assert_eq!(schedule.next(Duration::from_secs(1)), Duration::MAX);
    }
}
