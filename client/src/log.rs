//! The log file, and what goes to standard error: nothing in a normal run, because SpamAssassin reads it together with the
//! answers.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;

use crate::error::Error;
use crate::local_time::log_time;

/// How much a line matters. The names are Python's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for somebody who looks for a mistake.
    Debug,
    /// What a process that stays did.
    Info,
    /// Something is not as it should be.
    Warning,
    /// A server did not answer, or refused.
    Error,
    /// What the user has to know at once: goes to standard error, too.
    Critical,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Where lines go. May be used by several threads: each line is one write to the end of the file.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    /// What matters less does not go to standard error.
    least_for_stderr: Level,
}

impl Log {
    /// A log that appends to `path`, if one is given; with `is_debugging`, everything goes to standard error as well.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: Option<&Path>, is_debugging: bool) -> Result<Self, Error> {
        let least_for_stderr = if is_debugging {
            Level::Debug
        } else {
            Level::Critical
        };
        Ok(Self {
            file: path.map(open).transpose()?,
            least_for_stderr,
        })
    }

    /// The log of a process that stays: the same, but without a file everything worth knowing goes to standard error, which is
    /// the journal under systemd.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open_for_service(path: Option<&Path>, is_debugging: bool) -> Result<Self, Error> {
        let mut log = Self::open(path, is_debugging)?;
        if log.file.is_none() {
            log.least_for_stderr = log.least_for_stderr.min(Level::Info);
        }
        Ok(log)
    }

    /// Details, put together only if somebody wants them.
    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.least_for_stderr == Level::Debug {
            self.line(Level::Debug, &message());
        }
    }

    /// What a process that stays did.
    pub fn info(&self, message: &str) {
        self.line(Level::Info, message);
    }

    /// Something is not as it should be.
    pub fn warning(&self, message: &str) {
        self.line(Level::Warning, message);
    }

    /// A server did not answer, or refused.
    pub fn error(&self, message: &str) {
        self.line(Level::Error, message);
    }

    /// What the user has to know at once.
    pub fn critical(&self, message: &str) {
        self.line(Level::Critical, message);
    }

    fn line(&self, level: Level, message: &str) {
        let is_for_stderr = level >= self.least_for_stderr;
        if self.file.is_none() && !is_for_stderr {
            return;
        }
        let line = line(level, message, SystemTime::now());
        // A log that cannot be written is no reason to leave a mail unchecked.
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.write_all(line.as_bytes());
        }
        if is_for_stderr {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    // A pipe that nobody reads is refused, and what one that is full does not take is lost: the mail comes first.
    options.custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.create(true).append(true).open(path);
    file.map_err(Error::file("open", path))
}

/// As in the reference's logs: `2026-11-21 10:00:00,123 (PID) LEVEL message`.
fn line(level: Level, message: &str, at: SystemTime) -> String {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let time = log_time(second).unwrap_or_default();
    let milliseconds = since_epoch.subsec_millis();
    let (pid, level) = (std::process::id(), level.name());
    format!("{time},{milliseconds:03} ({pid}) {level} {message}\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_begins_as_pythons_do() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_261_432_007);
        let text = line(Level::Error, "x", at);
        let rest = format!(":52,007 ({}) ERROR x\n", std::process::id());
        assert!(text.ends_with(&rest), "{text}");
    }

    #[test]
    fn details_are_left_out_unless_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::open(Some(&path), false).unwrap();
        log.debug(|| "detail".to_owned());
        log.warning("first");
        Log::open(Some(&path), false).unwrap().error("second");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_once(") ")).collect();
        let lines: Vec<_> = lines.iter().flatten().map(|(_, rest)| *rest).collect();
        assert_eq!(lines, ["WARNING first", "ERROR second"]);
        assert!(Log::open(Some(directory.path()), false).is_err());
    }
}
