//! The plots of a run, each with a table of the same numbers.

use super::page::{Cell, Table};
use super::{Axis, Line, Plot, short, time};
use crate::latency::Latencies;
use crate::report::terminal::{grouped, grouped_float};
use crate::result::{IntervalResult, RunResult};

/// Points of a percentile line for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 8;
/// More parts than this are drawn and listed together, some at a time.
const MAX_PARTS: usize = 200;
/// Of the length of the part before it: what is shorter is drawn with that.
const SPLINTER: f64 = 0.1;
/// The generator's own doing, or its machine's: shown beside the latency, which it is a part of.
const LATE: &str = "sent late, 99 %";

/// Latency by percentile: for each operation from the actual time of sending, and dashed from the intended one.
pub(crate) fn percentiles(run: &RunResult) -> String {
    let mut lines = Vec::new();
    for (colour, operation) in run.operations.iter().enumerate() {
        let mut add = |clock: &str, is_dashed, latencies: &Latencies| {
            if latencies.count() > 0 {
                lines.push(Line {
                    name: format!("{}{clock}", operation.operation),
                    colour,
                    is_dashed,
                    points: percentile_points(latencies),
                });
            }
        };
        let intended = operation.intended();
        let clock = if intended.is_some() {
            ", from the actual sending"
        } else {
            ""
        };
        add(clock, false, &operation.service());
        if let Some(intended) = intended {
            add(", from the intended sending", true, &intended);
        }
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::percentiles(
        "share of answers that were faster",
        points().map(|point| point.0).fold(1.0, f64::max),
    );
    let y = Axis::logarithmic("latency", points().map(|point| point.1), time);
    let description = "Latency by percentile; the table above holds the same numbers";
    Plot::of_lines(description, x, y, lines).html()
}

/// From 1/(1-q) to microseconds.
fn percentile_points(latencies: &Latencies) -> Vec<(f64, f64)> {
    let last = whole(latencies.count());
    let steps = latencies
        .nanoseconds()
        .iter_quantiles(TICKS_PER_HALF_DISTANCE);
    steps
        .map(|step| {
            // The longest of n answers stands where one in n is as long.
            let inverse = 1.0 / (1.0 - step.quantile_iterated_to());
            let quantile = step.quantile_iterated_to();
            (
                inverse.min(last.max(1.0)),
                latencies.at_quantile_us(quantile),
            )
        })
        .collect()
}

/// A stretch of the timeline.
struct Part {
    ended_s: f64,
    length_s: f64,
    sent: u64,
    answered: u64,
    lost: u64,
    /// The median, the 99th percentile and the longest; of several parts the highest of each.
    points_us: [f64; 3],
    /// One in a hundred was sent later than this; open loop only, and likewise the highest.
    late_us: Option<f64>,
    cpu_ns: Option<f64>,
}

/// The timeline, with neighbours drawn together where there are too many.
fn parts(run: &RunResult) -> Vec<Part> {
    let all = &run.timeline[..];
    let count = all.len() - usize::from(ends_in_a_splinter(all));
    let together = count.div_ceil(MAX_PARTS).max(1);
    let mut ended_s = 0.0;
    (0..count)
        .step_by(together)
        .map(|first| {
            let end = first + together;
            let end = if end < count { end } else { all.len() };
            let part = part(&all[first..end], ended_s);
            ended_s = part.ended_s;
            part
        })
        .collect()
}

/// Whether the last part is so short, because the last requests were sent late, that its rate would mislead.
fn ends_in_a_splinter(timeline: &[IntervalResult]) -> bool {
    match timeline {
        [.., before, last] => last.length_s < before.length_s * SPLINTER,
        _ => false,
    }
}

fn part(intervals: &[IntervalResult], began_s: f64) -> Part {
    let length_s: f64 = intervals.iter().map(|each| each.length_s).sum();
    let total = |count: fn(&IntervalResult) -> u64| intervals.iter().map(count).sum();
    let highest = |point: fn(&crate::latency::Percentiles) -> f64| {
        let points = intervals
            .iter()
            .map(|each| each.intended.as_ref().unwrap_or(&each.service));
        points.map(point).fold(0.0, f64::max)
    };
    let late = intervals.iter().filter_map(|each| each.lag);
    let late = late.filter(|lag| lag.count > 0).map(|lag| lag.p99_us);
    let costs = intervals
        .iter()
        .filter_map(|each| each.server_cpu_ns_per_request);
    Part {
        ended_s: began_s + length_s,
        length_s,
        sent: total(|each| each.sent),
        answered: total(|each| each.answered),
        lost: total(|each| each.lost),
        points_us: [
            highest(|points| points.p50_us),
            highest(|points| points.p99_us),
            highest(|points| points.max_us),
        ],
        late_us: late.reduce(f64::max),
        cpu_ns: costs.filter(|cost| cost.is_finite()).reduce(f64::max),
    }
}

impl Part {
    /// The middle, where it is drawn.
    fn middle_s(&self) -> f64 {
        self.ended_s - self.length_s / 2.0
    }

    fn per_second(&self, count: u64) -> f64 {
        whole(count) / self.length_s
    }
}

/// Sent and answered requests over time, latency over time, and both in a table.
pub(crate) fn timeline(run: &RunResult) -> String {
    let parts = parts(run);
    if parts.is_empty() {
        return super::page::note("The run has no timeline.");
    }
    rates(&parts) + &latencies(&parts) + &table(&parts)
}

fn seconds_axis(parts: &[Part]) -> Axis {
    let end = parts.last().map_or(1.0, |part| part.ended_s);
    Axis::up_to("seconds since the start of the window", end, |s| {
        super::three_digits(s)
    })
}

fn rates(parts: &[Part]) -> String {
    let line = |name: &str, colour, is_dashed, count: fn(&Part) -> u64| Line {
        name: name.to_owned(),
        colour,
        is_dashed,
        points: parts
            .iter()
            .map(|part| (part.middle_s(), part.per_second(count(part))))
            .collect(),
    };
    let lines = vec![
        line("sent", 1, false, |part| part.sent),
        line("answered", 0, false, |part| part.answered),
    ];
    let highest = lines.iter().flat_map(|line| &line.points);
    let highest = highest.map(|point| point.1).fold(0.0, f64::max);
    let description =
        "Requests sent and answered a second over time; the table below holds the numbers";
    let y = Axis::from_zero("requests a second", highest, short);
    Plot::of_lines(description, seconds_axis(parts), y, lines).html()
}

fn latencies(parts: &[Part]) -> String {
    let line = |name: &str, colour, is_dashed, value: &dyn Fn(&Part) -> Option<f64>| Line {
        name: name.to_owned(),
        colour,
        is_dashed,
        points: parts
            .iter()
            .filter_map(|part| Some((part.middle_s(), value(part)?)))
            .collect(),
    };
    let point =
        |place: usize| move |part: &Part| (part.answered > 0).then_some(part.points_us[place]);
    let mut lines = vec![
        line("median", 2, false, &point(0)),
        line("99 %", 3, false, &point(1)),
        line("longest", 4, true, &point(2)),
        line(LATE, 5, true, &|part| part.late_us),
    ];
    lines.retain(|line| line.name != LATE || !line.points.is_empty());
    let values = lines.iter().flat_map(|line| &line.points);
    let y = Axis::logarithmic("latency", values.map(|point| point.1), time);
    let description = "Latency over time: median, 99th percentile and longest, beside how late requests with a \
        schedule were sent; the table below holds the numbers";
    Plot::of_lines(description, seconds_axis(parts), y, lines).html()
}

fn table(parts: &[Part]) -> String {
    let row = |part: &Part| {
        let mut cells = vec![
            Cell::number(format!("{:.1}", part.ended_s)),
            Cell::number(grouped_float(part.per_second(part.sent))),
            Cell::number(grouped_float(part.per_second(part.answered))),
            Cell::number(grouped(part.lost)),
        ];
        cells.extend(part.points_us.map(|us| Cell::number(time(us))));
        cells.extend([
            Cell::number(part.late_us.map_or("–".to_owned(), time)),
            Cell::number(part.cpu_ns.map_or("–".to_owned(), grouped_float)),
        ]);
        cells
    };
    Table {
        caption: "Where parts are listed together, times and costs are the highest of them.",
        heads: vec![
            "until s",
            "sent /s",
            "answered /s",
            "lost",
            "median",
            "99 %",
            "longest",
            LATE,
            "CPU ns an answer",
        ],
        rows: parts.iter().map(row).collect(),
    }
    .folded("The timeline as a table")
}

#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
fn whole(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn percentile_lines_end_at_the_longest_answer() {
        let points = percentile_points(&example(1.0).service());
        let (first, last) = (points[0], points[points.len() - 1]);
        assert!((first.0 - 1.0).abs() < 1e-9 && first.1 < 2.0, "{first:?}");
        assert!((last.0 - 20_000.0).abs() < 1e-6, "{last:?}");
        assert!((last.1 / 10_000.0 - 1.0).abs() < 1e-3, "{last:?}");
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }

    #[test]
    fn long_timelines_are_drawn_in_fewer_parts() {
        let mut run = example(1_700.0);
        let interval = run.timeline[0].clone();
        run.timeline = vec![interval; 1_001];
        let parts = parts(&run);
        assert_eq!(parts.len(), 167);
        assert!((parts[0].length_s - 6.0).abs() < 1e-9);
        assert!((parts[166].ended_s - 1_001.0).abs() < 1e-6);
        assert_eq!(
            parts.iter().map(|part| part.answered).sum::<u64>(),
            10_010_000
        );
        assert!((parts[3].per_second(parts[3].answered) - 10_000.0).abs() < 1e-6);
        let last = run.timeline.last_mut().unwrap();
        (last.length_s, last.answered) = (0.01, 7);
        let parts = super::parts(&run);
        assert_eq!((parts.len(), parts[199].answered), (200, 50_007));
        assert!((parts[199].length_s - 5.01).abs() < 1e-9);
    }

    #[test]
    fn lateness_is_drawn_where_there_is_a_schedule() {
        let mut run = example(1.0);
        let legend = format!("</svg>{LATE}</li>");
        assert!(!timeline(&run).contains(&legend));
        let lag = run.timeline[0].service;
        run.timeline[0].lag = Some(lag);
        let html = timeline(&run);
        assert!(html.contains(&legend), "{html}");
        assert!(html.contains(&format!("<td>{}</td>", time(lag.p99_us))));
    }

    #[test]
    fn a_run_without_parts_or_answers_has_a_page_all_the_same() {
        let mut run = example(1.0);
        run.timeline.clear();
        run.operations.clear();
        assert!(timeline(&run).contains("no timeline"));
        assert!(percentiles(&run).contains("<svg"));
    }
}
