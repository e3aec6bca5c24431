//! What a run says while it runs, on standard error: one line that is written over on a terminal, a line every few
//! seconds elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::report::terminal::{grouped, grouped_float};
use crate::result::IntervalResult;

/// Between two lines where they are kept.
const PLAIN_LINES_EVERY: Duration = Duration::from_secs(5);
/// Goes to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[2K";

/// Shows how a run gets on.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    /// What it is the progress of, if there are several.
    which: String,
    /// Of the whole window.
    duration: Duration,
    passed: Duration,
    lost: u64,
    since_line: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Quiet,
    Terminal,
    Plain,
}

impl Progress {
    /// For a window of this length; of none, where that is not known.
    pub(crate) fn new(quiet: bool, duration: Duration) -> Self {
        let style = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Terminal,
            (false, false) => Style::Plain,
        };
        Self {
            style,
            which: String::new(),
            duration,
            passed: Duration::ZERO,
            lost: 0,
            since_line: Duration::ZERO,
        }
    }

    /// For one of several runs, each of which is told about when it is over: meanwhile a terminal shows `which` it is.
    pub(crate) fn of_trial(which: String, duration: Duration) -> Self {
        let mut progress = Self::new(!io::stderr().is_terminal(), duration);
        progress.which = which + "; ";
        if progress.style == Style::Terminal {
            print(&format!("{CLEAR_LINE}{}", progress.which));
        }
        progress
    }

    /// A part of the window is over.
    pub(crate) fn interval(&mut self, interval: &IntervalResult) {
        let length = Duration::try_from_secs_f64(interval.length_s).unwrap_or_default();
        self.passed += length;
        self.since_line += length;
        self.lost += interval.lost;
        match self.style {
            Style::Terminal => print(&format!("{CLEAR_LINE}{}", self.line(interval))),
            Style::Plain if self.since_line >= PLAIN_LINES_EVERY => {
                self.since_line = Duration::ZERO;
                print(&format!("{}\n", self.line(interval)));
            }
            Style::Plain | Style::Quiet => {}
        }
    }

    /// The window is over: leaves the terminal as it was.
    pub(crate) fn finish(&mut self) {
        if self.style == Style::Terminal {
            print(CLEAR_LINE);
        }
    }

    fn line(&self, interval: &IntervalResult) -> String {
        let latency = interval.intended.unwrap_or(interval.service);
        let left = match self.duration {
            Duration::ZERO => String::new(),
            duration => {
                let left = duration.saturating_sub(self.passed);
                format!(", {:.0} s left", left.as_secs_f64())
            }
        };
        format!(
            "{}{:.0} s: {} answers/s, p50 {} us, p99 {} us, lost {}{left}",
            self.which,
            self.passed.as_secs_f64(),
            grouped_float(interval.rate_per_s()),
            grouped_float(latency.p50_us),
            grouped_float(latency.p99_us),
            grouped(self.lost),
        )
    }
}

/// Nobody need read it: a closed standard error does not end a run.
fn print(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn a_line_tells_rate_latency_losses_and_what_is_left() {
        let mut progress = Progress::new(true, Duration::from_secs(10));
        let interval = IntervalResult {
            lost: 2,
            ..example(1.0).timeline.remove(0)
        };
        progress.interval(&interval);
        progress.interval(&interval);
        assert_eq!(
            progress.line(&interval),
            "2 s: 10,000 answers/s, p50 5,001 us, p99 9,904 us, lost 4, 8 s left"
        );
        let endless = Progress::new(true, Duration::ZERO);
        assert!(endless.line(&interval).ends_with(", lost 0"));
    }
}
