//! A staircase of rates: latency and loss at each step.

use crate::error::Error;
use crate::knee::forecast::in_words;
use crate::load_flags::RampFlags;
use crate::report::assertion::Assertion;
use crate::report::terminal::{grouped_float, percent};
use crate::report::{Verdict, html, try_files};
use crate::result::{FORMAT, RunResult, Series};
use crate::stdio::{print, say};
use crate::trials::Trials;

/// A staircase of more steps is mistyped.
const MAX_STEPS: u32 = 1000;

/// Goes up the stairs, one line a step, and writes all results.
pub(crate) fn run(flags: &RampFlags) -> Result<Verdict, Error> {
    let rates = rates(flags.from, flags.to, flags.step)?;
    try_files(flags.outputs.files(), flags.load.inputs())?;
    let mut trials = Trials::new("ramp", &flags.load, &flags.trial)?;
    let step = flags.trial.warmup + flags.step_duration;
    let all = step * u32::try_from(rates.len()).unwrap_or(u32::MAX);
    let (steps, time) = (rates.len(), in_words(all));
    print(format!(
        "{steps} rates, about {time} in all\n{}\n",
        heading()
    ))?;
    let mut runs = Vec::new();
    let climbed = climb(flags, rates, &mut trials, &mut runs);
    let all_void = trials.warn(&runs);
    let series = Series {
        format: FORMAT,
        kind: "ramp".to_owned(),
        runs,
        knee: None,
    };
    let assertions = &flags.outputs.assertions;
    if !series.runs.is_empty() {
        let page = || html::series::ramp(&series, assertions);
        flags.outputs.write(&series, &[], page)?;
    }
    let verdict = flags.outputs.check(|assertion| missed(assertion, &series));
    let is_whole = climbed?;
    all_void?;
    if is_whole || assertions.is_empty() {
        Ok(verdict)
    } else {
        say("not met: stopped before the last rate");
        Ok(Verdict::Missed)
    }
}

/// Whether up to the last step. What was measured before one failed stays in `runs`.
fn climb(
    flags: &RampFlags,
    rates: Vec<f64>,
    trials: &mut Trials<'_>,
    runs: &mut Vec<RunResult>,
) -> Result<bool, Error> {
    let all = rates.len();
    for (number, rate_per_s) in (1..).zip(rates) {
        let which = format!("rate {number} of {all}");
        let run = match trials.run(rate_per_s, flags.step_duration, which) {
            Err(Error::Stopped) if !runs.is_empty() => return Ok(false),
            run => run?,
        };
        let remark = if run.void.is_some() { "   void" } else { "" };
        let line = format!("{}{remark}\n", line(&run));
        let is_over = run.ended_early;
        runs.push(run);
        print(line)?;
        if is_over {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is said where not every step meets `assertion`.
fn missed(assertion: &Assertion, series: &Series) -> Option<String> {
    let missed = |run: &RunResult| Some((run.intended_rate_per_s(), assertion.check(run).err()?));
    let mut missed = series.runs.iter().filter_map(missed);
    let (rate_per_s, why) = missed.next()?;
    let others = match missed.count() {
        0 => String::new(),
        count => format!(" (and at {count} other rates)"),
    };
    Some(format!(
        "at {} /s{others}: {why}",
        grouped_float(rate_per_s)
    ))
}

/// From the first to the last, which is reached even if adding up misses it by a rounding error.
fn rates(from: f64, to: f64, step: f64) -> Result<Vec<f64>, Error> {
    const ROUNDING: f64 = 1e-9;
    if from > to {
        return Err(Error::Steps(format!("--from {from} is above --to {to}")));
    }
    let steps = ((to - from) / step + ROUNDING).floor();
    if steps >= f64::from(MAX_STEPS) {
        return Err(Error::Steps(format!(
            "--step {step} makes more than {MAX_STEPS} steps"
        )));
    }
    Ok((0..MAX_STEPS)
        .map(f64::from)
        .take_while(|&number| number <= steps)
        .map(|number| from + number * step)
        .collect())
}

/// Of the columns, which are printed line by line: for 100 million requests a second, and for 100 s.
const WIDTHS: [usize; 8] = [11, 11, 9, 10, 10, 10, 10, 10];

pub(crate) fn heading() -> String {
    columns(
        &[
            "intended/s",
            "answered/s",
            "lost",
            "p50 us",
            "p99",
            "p99.9",
            "max",
            "late p99",
        ]
        .map(str::to_owned),
    )
}

/// Latencies are those from the intended time.
pub(crate) fn line(run: &RunResult) -> String {
    let latency = run
        .intended()
        .unwrap_or_else(|| run.service())
        .percentiles();
    let schedule = run.schedule.as_ref();
    let lag = schedule.map_or(0.0, |schedule| schedule.lag.percentiles().p99_us);
    let mut line = columns(&[
        grouped_float(run.intended_rate_per_s()),
        grouped_float(run.rate_per_s),
        percent_lost(run),
        grouped_float(latency.p50_us),
        grouped_float(latency.p99_us),
        grouped_float(latency.p99_9_us),
        grouped_float(latency.max_us),
        grouped_float(lag),
    ]);
    if run.ended_early {
        line += "   stopped";
    }
    line
}

/// Whatever is wider than its column still stands apart.
fn columns(cells: &[String; 8]) -> String {
    let cells = cells.iter().zip(WIDTHS);
    let cells: Vec<String> = cells
        .map(|(cell, width)| format!("{cell:>width$}"))
        .collect();
    cells.join(" ")
}

fn percent_lost(run: &RunResult) -> String {
    if run.losses.lost == 0 {
        return "0".to_owned();
    }
    percent(run.loss_share())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn stairs_begin_and_end_where_they_should() {
        let rates = |from, to, step| rates(from, to, step).unwrap();
        assert_eq!(rates(10.0, 30.0, 10.0), [10.0, 20.0, 30.0]);
        assert_eq!(rates(10.0, 29.0, 10.0), [10.0, 20.0]);
        assert_eq!(rates(0.1, 0.3, 0.1).len(), 3, "in spite of rounding");
        assert_eq!(rates(5.0, 5.0, 1.0), [5.0]);
    }

    #[test]
    fn stairs_that_are_none_are_refused() {
        assert!(rates(2.0, 1.0, 1.0).is_err());
        assert!(rates(1.0, 1e6, 1.0).is_err());
    }

    #[test]
    fn a_step_is_one_line_under_its_heading() {
        let line = line(&example(1.0));
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(line.len(), heading().len(), "{line}");
    }
}
