//! The timeline as comma-separated values: for each part of the window a line for all operations together and one for
//! each.

use std::io::{self, Write};
use std::time::Duration;

use crate::latency::Percentiles;
use crate::result::{IntervalResult, RunResult, per_second};

/// Times are in microseconds, as the names say; empty cells are what was not measured.
const HEADER: &str = "ended_epoch_s,length_s,operation,sent,answered,lost,rate_per_s,\
    service_p50_us,service_p90_us,service_p99_us,service_p99_9_us,service_max_us,service_mean_us,\
    intended_p50_us,intended_p90_us,intended_p99_us,intended_p99_9_us,intended_max_us,intended_mean_us,\
    late_p50_us,late_p90_us,late_p99_us,late_p99_9_us,late_max_us,late_mean_us,\
    server_cpu_ns_per_request";

pub(crate) fn write(run: &RunResult, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    run.timeline
        .iter()
        .try_for_each(|interval| write_interval(interval, out))
}

/// What one line tells.
struct Row<'i> {
    operation: &'i str,
    counts: [u64; 3],
    service: &'i Percentiles,
    intended: Option<&'i Percentiles>,
    lag: Option<&'i Percentiles>,
    server_cpu_ns_per_request: Option<f64>,
}

fn write_interval(interval: &IntervalResult, out: &mut impl Write) -> io::Result<()> {
    let all = Row {
        operation: "all",
        counts: [interval.sent, interval.answered, interval.lost],
        service: &interval.service,
        intended: interval.intended.as_ref(),
        lag: interval.lag.as_ref(),
        server_cpu_ns_per_request: interval.server_cpu_ns_per_request,
    };
    let each = interval.operations.iter().map(|each| Row {
        operation: &each.operation,
        counts: [each.sent, each.answered, each.lost],
        service: &each.service,
        intended: each.intended.as_ref(),
        lag: None,
        server_cpu_ns_per_request: None,
    });
    std::iter::once(all)
        .chain(each)
        .try_for_each(|row| row.write(interval, out))
}

impl Row<'_> {
    fn write(&self, interval: &IntervalResult, out: &mut impl Write) -> io::Result<()> {
        let [sent, answered, lost] = self.counts;
        let length = Duration::from_secs_f64(interval.length_s);
        let rate_per_s = per_second(answered, length);
        write!(
            out,
            "{:.3},{:.6},{},{sent},{answered},{lost},{rate_per_s:.1}",
            interval.ended_epoch_s, interval.length_s, self.operation
        )?;
        write_points(Some(self.service), out)?;
        write_points(self.intended, out)?;
        write_points(self.lag, out)?;
        match self.server_cpu_ns_per_request {
            Some(cpu_ns) if cpu_ns.is_finite() => writeln!(out, ",{cpu_ns:.1}"),
            _ => writeln!(out, ","),
        }
    }
}

fn write_points(points: Option<&Percentiles>, out: &mut impl Write) -> io::Result<()> {
    let Some(points) = points.filter(|points| points.count > 0) else {
        return write!(out, ",,,,,,");
    };
    [
        points.p50_us,
        points.p90_us,
        points.p99_us,
        points.p99_9_us,
        points.max_us,
        points.mean_us,
    ]
    .iter()
    .try_for_each(|point| write!(out, ",{point:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn every_line_has_a_cell_for_every_name() {
        let mut run = example(1_700.0);
        run.timeline[1].operations[0].service = Percentiles::default();
        run.timeline[1].lag = Some(run.timeline[1].service);
        let mut text = Vec::new();
        write(&run, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        let cells = |line: &&str| line.split(',').count();
        assert!(
            lines.iter().all(|line| cells(line) == cells(&HEADER)),
            "{text}"
        );
        assert!(lines[1].starts_with("1800000000.000,1.000000,all,10000,10000,0,10000.0,"));
        // Neither intended latency nor lateness; then the latter.
        assert!(lines[1].ends_with(",,,,,,,,,,,,,1700.0"), "{text}");
        let points = lines[3].split(',').skip(7).collect::<Vec<_>>();
        assert_eq!(points[12..18], points[..6], "{text}");
        assert!(
            lines[4].ends_with(",check,10000,10000,0,10000.0,,,,,,,,,,,,,,,,,,,"),
            "{text}"
        );
    }
}
