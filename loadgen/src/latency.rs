//! How long replies took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart from longer ones; requests are given up long before.
const LONGEST_NS: u64 = 60_000_000_000;
/// Every value is exact to three digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A distribution of latencies.
#[derive(Debug)]
pub(crate) struct Latencies {
    nanoseconds: Histogram<u64>,
}

/// Points of a distribution, in microseconds; all 0 without a sample.
#[expect(
    clippy::struct_field_names,
    reason = "names of numbers carry their unit, in the JSON too"
)]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants, and right")]
        let nanoseconds = Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS)
            .expect("three digits up to a minute is a histogram");
        Self { nanoseconds }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS);
        self.nanoseconds.saturating_record(nanoseconds);
    }

    /// Adds what `other` has recorded.
    pub(crate) fn add(&mut self, other: &Self) {
        #[expect(
            clippy::expect_used,
            reason = "the bounds of both are the same constants"
        )]
        self.nanoseconds
            .add(&other.nanoseconds)
            .expect("what fits in one histogram fits in the other");
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| microseconds(self.nanoseconds.value_at_quantile(quantile));
        Percentiles {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: microseconds(self.nanoseconds.max()),
        }
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    const MICROSECONDS_PER_SECOND: f64 = 1e6;
    Duration::from_nanos(nanoseconds).as_secs_f64() * MICROSECONDS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut latencies = Latencies::new();
        for microseconds in 1..=10_000 {
            latencies.record(Duration::from_micros(microseconds));
        }
        let found = latencies.percentiles();
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 2e-3;
        assert!(near(found.p50_us, 5_000.0), "{found:?}");
        assert!(near(found.p99_us, 9_900.0), "{found:?}");
        assert!(near(found.p99_9_us, 9_990.0), "{found:?}");
        assert!(near(found.max_us, 10_000.0), "{found:?}");
    }

    #[test]
    fn nothing_recorded_is_nought_and_hours_are_a_minute() {
        let mut latencies = Latencies::new();
        assert!(latencies.percentiles().max_us.abs() < f64::EPSILON);
        latencies.record(Duration::from_secs(10_000));
        assert!(latencies.percentiles().max_us >= 60e6);
    }
}
