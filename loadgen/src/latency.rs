//! How long things took: distributions that can be merged, in memory and in a file.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    Deserializer, Serializer as _, V2DeflateSerializer, V2Serializer,
};
use serde::{Deserialize, Serialize};

/// Longest time that is told apart from longer ones; requests are given up long before.
const LONGEST_NS: u64 = 60_000_000_000;
/// Every value is exact to three digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A distribution of times. Takes 216 KiB, and a file some bytes for each different value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub(crate) struct Latencies {
    nanoseconds: Histogram<u64>,
}

/// Points of a distribution; all 0 without a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
    pub(crate) mean_us: f64,
}

/// A distribution in as many bytes as it has different values, about.
#[derive(Clone, PartialEq)]
pub(crate) struct Compact(Vec<u8>);

/// A distribution as it stands in a file: the points are for readers, the histogram is what counts.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    points: Percentiles,
    /// Of nanoseconds: `HdrHistogram`'s own V2 format, compressed, in base64.
    histogram: String,
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

    /// All of `parts` in one.
    pub(crate) fn sum<'l>(parts: impl IntoIterator<Item = &'l Self>) -> Self {
        let mut sum = Self::new();
        for part in parts {
            sum.add(part);
        }
        sum
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        if !self.nanoseconds.is_empty() {
            self.nanoseconds.reset();
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    /// The time that a share of `quantile` (0 to 1) does not exceed, in microseconds; 0 without a sample.
    pub(crate) fn at_quantile_us(&self, quantile: f64) -> f64 {
        microseconds(self.nanoseconds.value_at_quantile(quantile))
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        if self.nanoseconds.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: self.count(),
            p50_us: self.at_quantile_us(0.5),
            p90_us: self.at_quantile_us(0.9),
            p99_us: self.at_quantile_us(0.99),
            p99_9_us: self.at_quantile_us(0.999),
            max_us: microseconds(self.nanoseconds.max()),
            mean_us: self.nanoseconds.mean() / NS_PER_US,
        }
    }

    /// Reads either of HdrHistogram's formats.
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| wrong(&error))?;
        let mut latencies = Self::new();
        latencies
            .nanoseconds
            .add(&read)
            .map_err(|error| wrong(&error))?;
        Ok(latencies)
    }

    /// For tools of `HdrHistogram`.
    pub(crate) fn nanoseconds(&self) -> &Histogram<u64> {
        &self.nanoseconds
    }
}

impl Percentiles {
    /// Of all `parts` together.
    pub(crate) fn of<'l>(parts: impl IntoIterator<Item = &'l Latencies>) -> Self {
        let mut filled = parts.into_iter().filter(|part| part.count() > 0);
        let Some(first) = filled.next() else {
            return Self::default();
        };
        let Some(second) = filled.next() else {
            return first.percentiles();
        };
        Latencies::sum([first, second].into_iter().chain(filled)).percentiles()
    }
}

impl Compact {
    pub(crate) fn of(latencies: &Latencies) -> Self {
        let mut bytes = Vec::new();
        #[expect(clippy::expect_used, reason = "it is written to memory")]
        V2Serializer::new()
            .serialize(&latencies.nanoseconds, &mut bytes)
            .expect("a histogram of ours can be written");
        Self(bytes)
    }

    pub(crate) fn expand(&self) -> Result<Latencies, String> {
        Latencies::decode(&self.0)
    }
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compact({} bytes)", self.0.len())
    }
}

impl From<Latencies> for Stored {
    fn from(latencies: Latencies) -> Self {
        let mut bytes = Vec::new();
        #[expect(clippy::expect_used, reason = "it is written to memory")]
        V2DeflateSerializer::new()
            .serialize(&latencies.nanoseconds, &mut bytes)
            .expect("a histogram of ours can be written");
        Self {
            points: latencies.percentiles(),
            histogram: BASE64.encode(bytes),
        }
    }
}

impl TryFrom<Stored> for Latencies {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let bytes = BASE64
            .decode(stored.histogram)
            .map_err(|error| wrong(&error))?;
        Self::decode(&bytes)
    }
}

fn wrong(error: &dyn fmt::Display) -> String {
    format!("\"histogram\" must be a compressed HdrHistogram in base64: {error}")
}

const NS_PER_US: f64 = 1e3;

fn microseconds(nanoseconds: u64) -> f64 {
    const MICROSECONDS_PER_SECOND: f64 = 1e6;
    Duration::from_nanos(nanoseconds).as_secs_f64() * MICROSECONDS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to_ten_milliseconds() -> Latencies {
        let mut latencies = Latencies::new();
        for microseconds in 1..=10_000 {
            latencies.record(Duration::from_micros(microseconds));
        }
        latencies
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let latencies = up_to_ten_milliseconds();
        let found = latencies.percentiles();
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 2e-3;
        assert!(near(found.p50_us, 5_000.0), "{found:?}");
        assert!(near(found.p99_us, 9_900.0), "{found:?}");
        assert!(near(found.p99_9_us, 9_990.0), "{found:?}");
        assert!(near(found.max_us, 10_000.0), "{found:?}");
        assert!(near(found.mean_us, 5_000.5), "{found:?}");
        assert_eq!(found.count, 10_000);
    }

    #[test]
    fn nothing_recorded_is_nought_and_hours_are_a_minute() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), Percentiles::default());
        latencies.record(Duration::from_secs(10_000));
        assert!(latencies.percentiles().max_us >= 60e6);
        latencies.clear();
        assert_eq!(latencies, Latencies::new());
    }

    #[test]
    fn a_distribution_is_the_same_after_a_file() {
        let latencies = up_to_ten_milliseconds();
        let text = serde_json::to_string(&latencies).unwrap();
        let read: Latencies = serde_json::from_str(&text).unwrap();
        assert_eq!(read.percentiles(), latencies.percentiles());
        let twice = Latencies::sum([&read, &latencies]);
        assert_eq!(twice.count(), 20_000);
        assert_eq!(Compact::of(&twice).expand(), Ok(twice.clone()));
        assert!((twice.at_quantile_us(0.5) - read.at_quantile_us(0.5)).abs() < 1e-9);
    }

    #[test]
    fn a_damaged_histogram_is_refused() {
        let mut json = serde_json::to_value(up_to_ten_milliseconds()).unwrap();
        for damage in ["", "%", "AAAA", "HISTFAAAAB"] {
            json["histogram"] = damage.into();
            let error = serde_json::from_value::<Latencies>(json.clone()).unwrap_err();
            assert!(error.to_string().contains("HdrHistogram"), "{error}");
        }
    }
}
