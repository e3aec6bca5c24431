//! What ramp and knee say of all their runs together, in every form that is asked for.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::assertion::Assertion;
use super::{Verdict, write_file};
use crate::error::Error;
use crate::result::{RunResult, Series};
use crate::stdio::say;
use crate::trials::outcome;

/// Where the results of many runs go, and what they are held to.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct SeriesOutputs {
    /// Write all results here, for plan
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a line for each run here as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write a page here that shows everything in a browser, in one file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Fail (status 1) unless this holds; may be given several times. ramp: at every rate, like 'p99<2ms' or 'loss=0', as for
    /// replay. knee: of the rate that is found, like 'rate>50000'
    #[arg(long = "assert", value_name = "REQUIREMENT")]
    pub(crate) assertions: Vec<Assertion>,
}

impl SeriesOutputs {
    /// All there may be, for [`try_files`](super::try_files).
    pub(crate) fn files(&self) -> [&Option<PathBuf>; 3] {
        [&self.json, &self.csv, &self.html]
    }

    /// Writes what is asked for; `objectives` are those of a search, `page` makes its page.
    pub(crate) fn write(
        &self,
        series: &Series,
        objectives: &[Assertion],
        page: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if let Some(path) = &self.json {
            series.write(path)?;
        }
        if let Some(path) = &self.csv {
            write_file(path, |out| write_csv(series, objectives, out))?;
        }
        if let Some(path) = &self.html {
            write_file(path, |out| out.write_all(page().as_bytes()))?;
        }
        Ok(())
    }

    /// Whether `check` complains of none; what was missed is said on standard error, a line each.
    pub(crate) fn check(&self, check: impl Fn(&Assertion) -> Option<String>) -> Verdict {
        let missed: Vec<String> = self.assertions.iter().filter_map(check).collect();
        for line in &missed {
            say(format_args!("not met: {line}"));
        }
        if missed.is_empty() {
            Verdict::Met
        } else {
            Verdict::Missed
        }
    }
}

/// Times are in microseconds, as the names say; empty cells are what was not measured.
const HEADER: &str = "intended_per_s,answered_per_s,sent,answered,lost,loss_share,\
    p50_us,p90_us,p99_us,p99_9_us,max_us,late_p99_us,server_cpu_ns_per_request,void,outcome";

fn write_csv(series: &Series, objectives: &[Assertion], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    let mut runs = series.runs.iter();
    runs.try_for_each(|run| write_run(run, objectives, out))
}

fn write_run(run: &RunResult, objectives: &[Assertion], out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "{:.1},{:.1},{},{},{},{:.6}",
        run.intended_rate_per_s(),
        run.rate_per_s,
        run.sent,
        run.answered,
        run.losses.lost,
        run.loss_share()
    )?;
    let points = run
        .intended()
        .unwrap_or_else(|| run.service())
        .percentiles();
    let times = [
        points.p50_us,
        points.p90_us,
        points.p99_us,
        points.p99_9_us,
        points.max_us,
    ];
    let answered = |us: f64| (points.count > 0).then_some(us);
    let late = run.schedule.as_ref();
    let late = late.map(|schedule| schedule.lag.percentiles().p99_us);
    let cpu = run.server.as_ref().map(|server| server.cpu_ns_per_request);
    for cell in times.map(answered).into_iter().chain([late, cpu]) {
        match cell {
            Some(number) => write!(out, ",{number:.3}")?,
            None => write!(out, ",")?,
        }
    }
    let is_void = u8::from(run.void.is_some());
    writeln!(out, ",{is_void},{}", outcome(run, objectives))
}

#[cfg(test)]
mod tests {
    use super::super::try_files;
    use super::*;
    use crate::result::FORMAT;
    use crate::result::tests::{example, scheduled};

    fn series() -> Series {
        Series {
            format: FORMAT,
            kind: "ramp".to_owned(),
            runs: vec![scheduled(example(1_700.0), 10_000.0)],
            knee: None,
        }
    }

    #[test]
    fn a_run_is_a_line_with_a_cell_for_every_name() {
        let mut text = Vec::new();
        let objectives = Assertion::list("loss=0").unwrap();
        write_csv(&series(), &objectives, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let cells = |line: &str| line.split(',').count();
        assert_eq!((lines.len(), cells(lines[1])), (2, cells(HEADER)), "{text}");
        assert!(lines[1].starts_with("10000.0,10000.4,20001,20000,1,0.000050,50"));
        assert!(lines[1].ends_with(",1700.000,0,missed"), "{text}");
    }

    #[test]
    fn files_are_tried_before_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        let mut outputs = SeriesOutputs {
            json: path("a.json"),
            csv: path("a.csv"),
            html: path("a.html"),
            assertions: Vec::new(),
        };
        try_files(outputs.files(), []).unwrap();
        outputs.write(&series(), &[], || "page".to_owned()).unwrap();
        for name in ["a.json", "a.csv", "a.html"] {
            assert!(folder.path().join(name).metadata().unwrap().len() > 3);
        }
        outputs.html = path("missing/a.html");
        assert!(matches!(
            try_files(outputs.files(), []),
            Err(Error::Write(..))
        ));
    }
}
