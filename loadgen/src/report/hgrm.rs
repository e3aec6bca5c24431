//! The percentile distribution as text, in the form that HdrHistogram's own tools print and its plotter reads.

use std::io::{self, Write};

use crate::latency::Latencies;
use crate::result::RunResult;

/// Lines for every halving of the distance to 100 %: what the Java tools print.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NS_PER_US: f64 = 1e3;

/// Microseconds, over all operations; from the intended time where there is one.
pub(crate) fn write(run: &RunResult, out: &mut impl Write) -> io::Result<()> {
    let latencies = run.intended().unwrap_or_else(|| run.service());
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    write_lines(&latencies, out)?;
    write_footer(&latencies, out)
}

fn write_lines(latencies: &Latencies, out: &mut impl Write) -> io::Result<()> {
    let mut count = 0;
    for step in latencies
        .nanoseconds()
        .iter_quantiles(TICKS_PER_HALF_DISTANCE)
    {
        count += step.count_since_last_iteration();
        let value_us = microseconds(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        write!(out, "{value_us:>12.3} {quantile:>14.12} {count:>10}")?;
        if quantile < 1.0 {
            writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out)?;
        }
    }
    Ok(())
}

fn write_footer(latencies: &Latencies, out: &mut impl Write) -> io::Result<()> {
    let histogram = latencies.nanoseconds();
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        histogram.mean() / NS_PER_US,
        histogram.stdev() / NS_PER_US
    )?;
    writeln!(
        out,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        microseconds(histogram.max()),
        histogram.len()
    )
}

#[expect(clippy::cast_precision_loss, reason = "at most a minute")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / NS_PER_US
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn the_distribution_ends_with_every_answer() {
        let mut text = Vec::new();
        write(&example(1.0), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        assert!(lines[1].is_empty());
        assert_eq!(lines[2], ["1.000", "0.000000000000", "2", "1.00"]);
        let half = lines
            .iter()
            .find(|line| line.get(1) == Some(&"0.500000000000"))
            .unwrap();
        assert_eq!((half[2], half[3]), ("10002", "2.00"));
        let last = &lines[lines.len() - 3];
        assert_eq!(last[1..], ["1.000000000000", "20000"]);
        assert!(text.ends_with("Total count    =        20000]\n"), "{text}");
    }

    #[test]
    fn nothing_answered_is_an_empty_distribution() {
        let mut run = example(1.0);
        run.operations.clear();
        let mut text = Vec::new();
        write(&run, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("Total count    =            0]"), "{text}");
    }
}
