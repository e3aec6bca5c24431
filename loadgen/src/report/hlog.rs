//! The timeline as HdrHistogram's interval log: a compressed histogram for each part of the window, of nanoseconds, tagged
//! `service` or `intended`.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};

use crate::latency::Compact;
use crate::result::{IntervalHistograms, IntervalResult, RunResult};

/// The log shows each part's longest time in milliseconds beside the histogram.
const NS_PER_MS: f64 = 1e6;

type Log<'l, W> = IntervalLogWriter<'l, 'l, W, V2DeflateSerializer>;

/// Writes the parts whose histograms were kept.
pub(crate) fn write<W: Write>(run: &RunResult, out: &mut W) -> io::Result<()> {
    let started = run.timeline.first().map_or(Duration::ZERO, started_at);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("loadgen {}", run.environment.version))
        .with_start_time(UNIX_EPOCH + started)
        .with_base_time(UNIX_EPOCH + started)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(out, &mut serializer)?;
    for interval in &run.timeline {
        if let Some(kept) = &interval.histograms {
            let at = started_at(interval).saturating_sub(started);
            write_interval(&mut log, interval, kept, at)?;
        }
    }
    Ok(())
}

fn write_interval<W: Write>(
    log: &mut Log<'_, W>,
    interval: &IntervalResult,
    kept: &IntervalHistograms,
    at: Duration,
) -> io::Result<()> {
    let length = seconds(interval.length_s);
    let mut write = |name, compact: &Compact| {
        let latencies = compact.expand();
        log.write_histogram(latencies.nanoseconds(), at, length, Tag::new(name))
            .map_err(|error| io::Error::other(error.to_string()))
    };
    write("service", &kept.service)?;
    kept.intended
        .as_ref()
        .map_or(Ok(()), |intended| write("intended", intended))
}

/// Since 1970.
fn started_at(interval: &IntervalResult) -> Duration {
    seconds(interval.ended_epoch_s - interval.length_s)
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::result::tests::example;

    #[test]
    fn the_log_reads_back() {
        let run = example(1.0);
        let mut text = Vec::new();
        write(&run, &mut text).unwrap();
        let mut counts = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let tag = interval.tag().map(|tag| tag.as_str().to_owned());
                assert_eq!(tag.as_deref(), Some("service"));
                assert_eq!(interval.duration(), Duration::from_secs(1));
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(interval.encoded_histogram())
                    .unwrap();
                let read: Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                counts.push(read.len());
            }
        }
        assert_eq!(counts, [10_000, 10_000]);
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("#[BaseTime: 1799999999.000 (seconds since epoch)]"),
            "{text}"
        );
        assert!(
            text.contains("Tag=service,0.000,1.000,10.002,HIST"),
            "{text}"
        );
    }
}
