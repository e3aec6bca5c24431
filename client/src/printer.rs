//! Standard output, and on a terminal a line that says how far a large input is.
//!
//! The line is on standard error, only if that is a terminal, and gone before anything else is written.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use crate::error::Error;

/// How long nothing is said about progress: most runs are over by then.
const QUIET_TIME: Duration = Duration::from_millis(500);

/// How long a line about progress stays as it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Back to the beginning of the terminal's line, and away with it.
const ERASE_LINE: &str = "\r\x1b[K";

/// Where commands print.
pub(crate) struct Printer {
    out: BufWriter<Stdout>,
    progress: Option<Progress>,
}

/// What a terminal shows.
struct Progress {
    digests: u64,
    next_at: Instant,
    is_shown: bool,
}

impl Printer {
    /// For standard output.
    pub(crate) fn new() -> Self {
        let progress = io::stderr().is_terminal().then(|| Progress {
            digests: 0,
            next_at: Instant::now() + QUIET_TIME,
            is_shown: false,
        });
        Self {
            out: BufWriter::new(io::stdout()),
            progress,
        }
    }

    /// Prints, sooner or later.
    pub(crate) fn print(&mut self, text: &[u8]) -> Result<(), Error> {
        if !text.is_empty() {
            self.hide_progress();
        }
        self.out.write_all(text).map_err(Error::output)
    }

    /// Prints what has not been printed yet.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.hide_progress();
        self.out.flush().map_err(Error::output)
    }

    /// One more digest is done.
    pub(crate) fn advance(&mut self) {
        let Some(progress) = &mut self.progress else {
            return;
        };
        progress.digests += 1;
        let now = Instant::now();
        if now >= progress.next_at {
            progress.next_at = now + PROGRESS_INTERVAL;
            progress.is_shown = true;
            // Who closed the terminal does not miss it.
            let _ = write!(io::stderr(), "{ERASE_LINE}{} done", progress.digests);
        }
    }

    /// Clears the line for something else.
    pub(crate) fn hide_progress(&mut self) {
        if let Some(progress) = &mut self.progress
            && std::mem::take(&mut progress.is_shown)
        {
            let _ = write!(io::stderr(), "{ERASE_LINE}");
        }
    }
}
