//! How far the migration is: a line every 100,000 records, as the reference prints it, or on a terminal one line that is
//! redrawn with count, share and rate.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const RECORDS_A_LINE: u64 = 100_000;
/// The clock is read only this often.
const RECORDS_A_LOOK: u64 = 1000;
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// Back to the line's start, and clear what it holds.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Counts the records transferred and shows how far that is.
#[derive(Debug)]
pub(crate) struct Progress {
    count: u64,
    started: Instant,
    /// When the live line was drawn last; `None` when stdout is no terminal.
    drawn: Option<Instant>,
}

impl Progress {
    /// Starts at nothing, now.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            count: 0,
            started: now,
            drawn: io::stdout().is_terminal().then_some(now),
        }
    }

    /// How many records were transferred.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Counts one record; `permille` of the source has been read.
    pub(crate) fn transferred(&mut self, permille: usize) {
        self.count += 1;
        match self.drawn {
            None if self.count.is_multiple_of(RECORDS_A_LINE) => {
                say(&format!("{} records transferred...", self.count));
            }
            Some(drawn) if self.count.is_multiple_of(RECORDS_A_LOOK) => {
                let now = Instant::now();
                if now - drawn >= REDRAW_INTERVAL {
                    self.drawn = Some(now);
                    draw(&live_line(self.count, permille, now - self.started));
                }
            }
            _ => {}
        }
    }

    /// Clears the live line, if there is one.
    pub(crate) fn end(&self) {
        if self.drawn.is_some() {
            draw("");
        }
    }
}

/// Prints a line. Nobody reading it is no reason to stop the migration.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The same for what is wrong.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "pyzor-migrate: {line}");
}

fn live_line(count: u64, permille: usize, elapsed: Duration) -> String {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let rate = count.saturating_mul(1000) / elapsed_ms.max(1);
    let (percent, tenth) = (permille / 10, permille % 10);
    format!("{count} records transferred, {percent}.{tenth} %, {rate} records/s")
}

fn draw(line: &str) {
    let mut stdout = io::stdout();
    let _ = write!(stdout, "{CLEAR_LINE}{line}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_shows_count_share_and_rate() {
        let line = live_line(250_000, 125, Duration::from_millis(500));
        assert_eq!(line, "250000 records transferred, 12.5 %, 500000 records/s");
        assert!(live_line(1, 0, Duration::ZERO).contains("1000 records/s"));
    }
}
