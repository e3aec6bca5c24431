//! What a run says of itself, in every form that is asked for.
//!
//! - `progress`: while it runs;
//! - `terminal`: the summary at its end; `columns`: its tables, and those of other commands;
//! - `html`: a page of its own;
//! - `csv`, `hgrm`, `hlog`: the timeline, the percentiles and the timeline's histograms, for other programs;
//! - `series`: what many runs say together;
//! - `files`: where all that goes;
//! - `assertion`: what the run is held to.

pub(crate) mod assertion;
pub(crate) mod columns;
mod csv;
mod files;
mod hgrm;
mod hlog;
pub(crate) mod html;
pub(crate) mod progress;
pub(crate) mod series;
pub(crate) mod terminal;

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::result::RunResult;
use crate::stdio::{print, say};
use assertion::Assertion;
pub(crate) use files::{try_files, write_file};
use terminal::Summary;

/// Where results go, and what they are held to; the same for every command that makes some.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct Outputs {
    /// Write the result here, for compare and plan
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the timeline here as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write the percentile distribution here, in microseconds, for HdrHistogram's plotter
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write a histogram of each part of the window here, for HdrHistogram's log tools
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write a page here that shows everything in a browser, in one file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Fail (status 1) unless this holds: 'p99<2ms', 'check.p99.9<=5ms', 'loss=0', 'loss<0.01%', 'rate>50000', 'errors=0',
    /// 'cpu<9us' (with --server-pid), of replay 'lag.p99<1ms' and 'differences=0' (with --expect); may be given several times.
    /// Latency counts from the intended time of sending where there is one; 'p99.service' and 'p99.intended' name one
    #[arg(long = "assert", value_name = "REQUIREMENT")]
    pub(crate) assertions: Vec<Assertion>,
    /// Print neither progress nor a summary
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Whether everything that was asserted holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
}

impl Outputs {
    /// All there may be, for [`try_files`].
    pub(crate) fn files(&self) -> [&Option<PathBuf>; 5] {
        [&self.json, &self.csv, &self.hgrm, &self.hlog, &self.html]
    }

    /// Whether the histograms of the timeline are needed.
    pub(crate) fn keeps_histograms(&self) -> bool {
        self.hlog.is_some()
    }

    /// Gives out what is asked for of a run that is over. What was missed is said on standard error, a line each.
    pub(crate) fn write(&self, run: &RunResult) -> Result<Verdict, Error> {
        // What cannot be printed is in the files all the same.
        let printed = if self.quiet {
            Ok(())
        } else {
            print(Summary(run))
        };
        if let Some(path) = &self.json {
            run.write(path)?;
        }
        if let Some(path) = &self.csv {
            write_file(path, |out| csv::write(run, out))?;
        }
        if let Some(path) = &self.hgrm {
            write_file(path, |out| hgrm::write(run, out))?;
        }
        if let Some(path) = &self.hlog {
            write_file(path, |out| hlog::write(run, out))?;
        }
        if let Some(path) = &self.html {
            write_file(path, |out| html::write(run, &self.assertions, out))?;
        }
        printed?;
        Ok(self.check(run))
    }

    /// Without an assertion a run that is void fails: whoever does not read the summary must not take it for a good one. With some,
    /// each says whether it can be made.
    fn check(&self, run: &RunResult) -> Verdict {
        if let Some(reason) = &run.void
            && self.assertions.is_empty()
        {
            say(format_args!("the run is void: {reason}"));
            return Verdict::Missed;
        }
        let outcomes = self.assertions.iter().map(|assertion| assertion.check(run));
        let missed: Vec<String> = outcomes.filter_map(Result::err).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn every_output_is_written_and_assertions_decide() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        let mut outputs = Outputs {
            json: path("a.json"),
            csv: path("a.csv"),
            hgrm: path("a.hgrm"),
            hlog: path("a.hlog"),
            html: path("a.html"),
            assertions: vec!["p50<1s".parse().unwrap()],
            quiet: true,
        };
        assert!(outputs.keeps_histograms());
        try_files(outputs.files(), []).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        assert_eq!(outputs.write(&example(1.0)).unwrap(), Verdict::Met);
        for name in ["a.json", "a.csv", "a.hgrm", "a.hlog", "a.html"] {
            let length = folder.path().join(name).metadata().unwrap().len();
            assert!(length > 500, "{name} has {length} bytes");
        }
        try_files(outputs.files(), []).unwrap();
        assert!(folder.path().join("a.json").metadata().unwrap().len() > 500);
        outputs.assertions.push("loss=0".parse().unwrap());
        assert_eq!(outputs.write(&example(1.0)).unwrap(), Verdict::Missed);
        outputs.csv = path("missing/a.csv");
        assert!(matches!(
            try_files(outputs.files(), []),
            Err(Error::Write(..))
        ));
    }
}
