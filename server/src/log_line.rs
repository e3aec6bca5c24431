//! How a log line begins: `2026-11-21 10:00:00,123 (PID) LEVEL `, in local time, as the reference's logs do.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How much a line matters. The names are Python's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for somebody who looks for a mistake.
    Debug,
    /// What an operator may want to know.
    Info,
    /// Something is not as it should be.
    Warning,
    /// Something did not work, or a request was refused.
    Error,
}

impl Level {
    /// As written in a line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// Writes the beginnings of lines. Remembers the last second, because finding the local time takes a while.
#[derive(Debug)]
pub struct LineStart {
    second: u64,
    /// `second` in local time.
    text: String,
    pid: u32,
}

impl LineStart {
    /// For lines of this process.
    pub fn new() -> Self {
        Self {
            second: 0,
            text: local_time(0),
            pid: std::process::id(),
        }
    }

    /// Appends the beginning of a line to `out`; the message and a newline are the caller's.
    pub fn write(&mut self, out: &mut Vec<u8>, at: SystemTime, level: Level) {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since_epoch.as_secs() != self.second {
            self.second = since_epoch.as_secs();
            self.text = local_time(self.second);
        }
        let (milliseconds, pid) = (since_epoch.subsec_millis(), self.pid);
        // Writing to a vector cannot fail.
        let _ = write!(
            out,
            "{},{milliseconds:03} ({pid}) {} ",
            self.text,
            level.name()
        );
    }
}

impl Default for LineStart {
    fn default() -> Self {
        Self::new()
    }
}

/// The second in the time zone that `TZ` or the system names.
fn local_time(second: u64) -> String {
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
    let local = timestamp.to_zoned(TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(start: &mut LineStart, at: SystemTime, level: Level) -> String {
        let mut out = Vec::new();
        start.write(&mut out, at, level);
        String::from_utf8(out).unwrap()
    }

    /// Seconds of local time are those of UTC on every clock in use, so the date and hour are left to the zone.
    #[test]
    fn a_line_begins_as_pythons_do() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_261_432_007);
        let text = line(&mut LineStart::new(), at, Level::Warning);
        let pattern = "dddd-dd-dd dd:dd:dd,007";
        let (time, rest) = text.split_at(pattern.len());
        let shape: String = time[..20]
            .chars()
            .map(|c| if c.is_ascii_digit() { 'd' } else { c })
            .collect();
        assert_eq!(format!("{shape}{}", &time[20..]), pattern);
        assert_eq!(&time[17..19], "52");
        assert_eq!(rest, format!(" ({}) WARNING ", std::process::id()));
    }

    #[test]
    fn the_second_is_kept_up_to_date() {
        let mut start = LineStart::new();
        let at = UNIX_EPOCH + Duration::from_millis(1_795_261_432_999);
        let first = line(&mut start, at, Level::Info);
        let second = line(&mut start, at + Duration::from_millis(1), Level::Info);
        let back = line(&mut start, at, Level::Info);
        assert_ne!(first, second);
        assert_eq!(first, back);
        assert!(second.contains(",000 "));
    }
}
