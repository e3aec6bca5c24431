//! How long things took: distributions that can be merged, in memory and in a file.

use std::fmt;
use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Longest time that is told apart from longer ones; requests are given up long before.
const LONGEST_NS: u64 = 60_000_000_000;
/// Every value is exact to three digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Encoded and not compressed, no distribution is longer: a header, and nine bytes at most for each value told apart.
const MAX_ENCODED_BYTES: usize = 256 << 10;

/// A distribution of times that can be added to. Takes 216 KiB.
#[derive(Clone, Debug, PartialEq)]
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

/// A distribution that is over: compressed, in less bytes than it has different values, so that results of many runs fit into
/// memory, and what a file holds takes no more than the file.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub(crate) struct Compact {
    points: Percentiles,
    /// `HdrHistogram`'s own V2 format, compressed; [`decode`] reads it.
    bytes: Vec<u8>,
}

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

    /// The same, in memory that has been written to: the kernel gives new memory page by page when it is, which takes it some
    /// microseconds each time.
    pub(crate) fn touched() -> Self {
        let mut touched = Self::new();
        touched.nanoseconds.reset();
        touched
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
        V2DeflateSerializer::new()
            .serialize(&latencies.nanoseconds, &mut bytes)
            .expect("a histogram of ours can be written");
        Self {
            points: latencies.percentiles(),
            bytes,
        }
    }

    pub(crate) fn expand(&self) -> Latencies {
        #[expect(
            clippy::expect_used,
            reason = "the bytes are those of one of ours, or were decoded when they were read"
        )]
        decode(&self.bytes).expect("a compact distribution can be expanded")
    }

    /// All of `parts` in one.
    pub(crate) fn sum<'c>(parts: impl IntoIterator<Item = &'c Self>) -> Latencies {
        let mut sum = Latencies::new();
        for part in parts {
            sum.add(&part.expand());
        }
        sum
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        self.points
    }
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compact({} bytes, {:?})", self.bytes.len(), self.points)
    }
}

impl From<Compact> for Stored {
    fn from(compact: Compact) -> Self {
        Self {
            points: compact.points,
            histogram: BASE64.encode(compact.bytes),
        }
    }
}

impl TryFrom<Stored> for Compact {
    type Error = String;

    /// The points are those of the histogram, whatever a file says they are.
    fn try_from(stored: Stored) -> Result<Self, String> {
        let bytes = BASE64
            .decode(stored.histogram)
            .map_err(|error| wrong(&error))?;
        let points = decode(&bytes)?.percentiles();
        Ok(Self { points, bytes })
    }
}

/// Reads what [`Compact::of`] writes, and refuses everything else: whoever wrote it must not decide how much memory it takes.
fn decode(bytes: &[u8]) -> Result<Latencies, String> {
    let encoded = inflate(bytes)?;
    if !has_our_header(&encoded) || has_huge_number(&encoded[HEADER_BYTES..]) {
        return Err(wrong(
            &"it is not one of times up to a minute in three digits",
        ));
    }
    let nanoseconds = Deserializer::new()
        .deserialize(&mut &encoded[..])
        .map_err(|error| wrong(&error))?;
    Ok(Latencies { nanoseconds })
}

/// The compressed form: a cookie, the length of what follows, and a zlib stream.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    const PREFIX_BYTES: usize = 8;
    let Some((prefix, compressed)) = bytes.split_at_checked(PREFIX_BYTES) else {
        return Err(wrong(&"it is cut short"));
    };
    let length = u32::try_from(compressed.len()).unwrap_or(u32::MAX);
    if prefix[..4] != DEFLATE_COOKIE || prefix[4..] != length.to_be_bytes() {
        return Err(wrong(&"it begins otherwise, or is cut short"));
    }
    let mut encoded = Vec::new();
    ZlibDecoder::new(compressed)
        .take(MAX_ENCODED_BYTES as u64 + 1)
        .read_to_end(&mut encoded)
        .map_err(|error| wrong(&error))?;
    if encoded.len() > MAX_ENCODED_BYTES {
        return Err(wrong(&"it is too long"));
    }
    Ok(encoded)
}

/// Cookies of HdrHistogram's second format, compressed and not.
const DEFLATE_COOKIE: [u8; 4] = [0x1c, 0x84, 0x93, 0x14];
const COOKIE: [u8; 4] = [0x1c, 0x84, 0x93, 0x13];
/// Cookie, length of what follows the header, offset, digits, lowest and highest value, ratio.
const HEADER_BYTES: usize = 40;

/// The header that says what [`Latencies::new`] says.
fn has_our_header(encoded: &[u8]) -> bool {
    let Some(payload_bytes) = encoded.len().checked_sub(HEADER_BYTES) else {
        return false;
    };
    let header = [
        &COOKIE[..],
        &u32::try_from(payload_bytes)
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
        &0_u32.to_be_bytes(),
        &u32::from(SIGNIFICANT_DIGITS).to_be_bytes(),
        &1_u64.to_be_bytes(),
        &LONGEST_NS.to_be_bytes(),
        &1_f64.to_be_bytes(),
    ];
    header.concat() == encoded[..HEADER_BYTES]
}

/// Whether a number takes nine bytes: no count of ours does, and the decoder is not made for the least of them.
fn has_huge_number(payload: &[u8]) -> bool {
    const CONTINUES: u8 = 0x80;
    const MOST_CONTINUED: u32 = 7;
    let mut continued = 0;
    payload.iter().any(|byte| {
        continued = if byte & CONTINUES == 0 {
            0
        } else {
            continued + 1
        };
        continued > MOST_CONTINUED
    })
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
        let text = serde_json::to_string(&Compact::of(&latencies)).unwrap();
        let read: Compact = serde_json::from_str(&text).unwrap();
        assert_eq!(read.percentiles(), latencies.percentiles());
        assert_eq!(read.expand(), latencies);
        let twice = Compact::sum([&read, &read]);
        assert_eq!(twice.count(), 20_000);
        assert!((twice.at_quantile_us(0.5) - latencies.at_quantile_us(0.5)).abs() < 1e-9);
        assert_eq!(Compact::of(&Latencies::new()).expand(), Latencies::new());
    }

    #[test]
    fn a_damaged_histogram_is_refused() {
        let mut json = serde_json::to_value(Compact::of(&up_to_ten_milliseconds())).unwrap();
        for damage in ["", "%", "AAAA", "HISTFAAAAB", "HISTFAAAAAA="] {
            json["histogram"] = damage.into();
            let error = serde_json::from_value::<Compact>(json.clone()).unwrap_err();
            assert!(error.to_string().contains("HdrHistogram"), "{error}");
        }
    }

    /// Compressed as `HdrHistogram` does it.
    fn compressed(encoded: &[u8]) -> Vec<u8> {
        let mut stream = flate2::read::ZlibEncoder::new(encoded, flate2::Compression::fast());
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&DEFLATE_COOKIE[..], &length, &bytes].concat()
    }

    fn encoded(payload: &[u8], longest_ns: u64) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        let header = [
            &COOKIE[..],
            &length.to_be_bytes(),
            &[0, 0, 0, 0, 0, 0, 0, 3],
            &1_u64.to_be_bytes(),
            &longest_ns.to_be_bytes(),
            &1_f64.to_be_bytes(),
        ];
        [&header.concat(), payload].concat()
    }

    #[test]
    fn a_histogram_cannot_ask_for_memory() {
        let one = compressed(&encoded(&[2], LONGEST_NS));
        assert_eq!(decode(&one).unwrap().count(), 1);
        let wide = compressed(&encoded(&[2], u64::MAX));
        assert!(decode(&wide).unwrap_err().contains("up to a minute"));
        let bomb = compressed(&encoded(&vec![0; 64 << 20], LONGEST_NS));
        assert!(bomb.len() < 1 << 20 && decode(&bomb).unwrap_err().contains("too long"));
        // The least of all numbers, which cannot be negated.
        let huge = compressed(&encoded(&[0xff; 9], LONGEST_NS));
        assert!(decode(&huge).is_err());
        let beyond = compressed(&encoded(&[0xfd, 0xff, 0xff, 0xff, 0x7f, 2], LONGEST_NS));
        assert!(decode(&beyond).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_payload_is_read_or_refused(payload in proptest::collection::vec(0_u8.., 0..200)) {
            if let Ok(latencies) = decode(&compressed(&encoded(&payload, LONGEST_NS))) {
                Latencies::sum([&latencies, &latencies]).percentiles();
                assert_eq!(Compact::of(&latencies).expand(), latencies);
            }
        }
    }
}
