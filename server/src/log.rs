//! The server's log: what `tracing` is told, in the reference's line format, to a file and to standard error.
//!
//! The log takes information and worse, debugging details too with `-d`. It may be standard error, which journald reads.
//! Without a log, warnings and worse go to standard error: nobody would see them elsewhere. With `-d` everything goes there.
//!
//! A thread writes. What logs only queues a line, and when the disk is slow enough to fill the queue, lines are
//! counted instead: nothing that logs ever waits for a disk.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use pyzor_storage::Trouble;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::error::Error;
use crate::log_line::{Level, LineStart};
use crate::pipes;

/// Lines that wait to be written.
const MAX_QUEUED_LINES: usize = 1024;

/// Bytes of a message; the rest is cut off.
const MAX_MESSAGE_BYTES: usize = 4096;

/// How long the end of the process waits for the last lines of a log.
pub(crate) const FINISH_AT_MOST: Duration = Duration::from_secs(2);

/// The crates whose events are ours to log begin like this.
const TARGET_PREFIX: &str = "pyzor";

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// The running log.
pub struct Log(Sender<Order>);

/// What the thread is asked to do.
enum Order {
    Write(Line),
    /// To standard error, as it is.
    Print(String),
    Reopen,
    /// End, and say so.
    Finish(Sender<()>),
}

/// An event, ready to be written.
struct Line {
    at: SystemTime,
    level: Level,
    message: String,
}

impl Log {
    /// Opens `target`, if there is to be one, and logs every event of the process from now on.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread cannot be started.
    pub fn start(target: Option<&LogTarget>, debug: bool) -> Result<Self, Error> {
        let (orders, received) = bounded(MAX_QUEUED_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let (file, on_stderr) = match target {
            Some(LogTarget::File(path)) => (Some(LogFile::open(path)?), None),
            Some(LogTarget::Stderr) => (None, Some(Level::Info)),
            None => (None, Some(Level::Warning)),
        };
        let writer = Writer {
            file,
            on_stderr: if debug { Some(Level::Debug) } else { on_stderr },
            lost: Arc::clone(&lost),
            start: LineStart::new(),
            buffer: Vec::new(),
            trouble: Trouble::default(),
        };
        let max_level = match (target, debug) {
            (_, true) => LevelFilter::DEBUG,
            (Some(_), false) => LevelFilter::INFO,
            (None, false) => LevelFilter::WARN,
        };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(Error::Thread)?;
        // Only a second log of the same process could be refused, and there is none.
        let _ = tracing::subscriber::set_global_default(Events {
            orders: orders.clone(),
            max_level,
            lost,
        });
        Ok(Self(orders))
    }

    /// Prints to standard error, behind the lines that were logged before.
    pub fn print(&self, text: String) {
        let _ = self.0.send_timeout(Order::Print(text), FINISH_AT_MOST);
    }

    /// Closes the file and opens it again by its name, for rotation.
    pub fn reopen(&self) {
        let _ = self.0.send_timeout(Order::Reopen, FINISH_AT_MOST);
    }

    /// Writes what is queued, unless that takes too long.
    pub fn finish(self) {
        let (done, finished) = bounded(1);
        let _ = self.0.send_timeout(Order::Finish(done), FINISH_AT_MOST);
        let _ = finished.recv_timeout(FINISH_AT_MOST);
    }
}

/// Added to the nice level of threads that write logs: a worker that answers comes first.
const WRITER_NICE: i32 = 5;

/// Lowers the priority of the calling thread below that of the workers.
pub(crate) fn yield_to_workers() {
    // A thread may always be nicer; if not, it writes at a worker's priority.
    let _ = rustix::process::nice(WRITER_NICE);
}

/// What the lines of a log are written to.
pub(crate) enum LogOutput {
    Stderr,
    File(LogFile),
}

impl LogOutput {
    pub(crate) fn open(target: &LogTarget) -> Result<Self, Error> {
        match target {
            LogTarget::Stderr => Ok(Self::Stderr),
            LogTarget::File(path) => LogFile::open(path).map(Self::File),
        }
    }

    /// Opens a file by its name again; if that fails the old one goes on. Standard error stays what it is.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        match self {
            Self::Stderr => Ok(()),
            Self::File(file) => file.reopen(),
        }
    }

    pub(crate) fn write(&mut self, lines: &[u8]) -> Result<(), Error> {
        match self {
            Self::Stderr => std::io::stderr()
                .write_all(lines)
                .map_err(Error::system("write to standard error")),
            Self::File(file) => file.write(lines),
        }
    }
}

/// A file that grows at its end, and can be opened again after somebody moved it away.
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            file: pipes::open_to_append(path).map_err(Error::file("open", path))?,
        })
    }

    /// Opens the file by its name again; if that fails the old one goes on.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    pub(crate) fn write(&mut self, lines: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(lines);
        written.map_err(Error::file("write", &self.path))
    }
}

/// The thread's side.
struct Writer {
    file: Option<LogFile>,
    /// What goes to standard error: this and worse.
    on_stderr: Option<Level>,
    lost: Arc<AtomicU64>,
    start: LineStart,
    buffer: Vec<u8>,
    /// A file that takes no lines.
    trouble: Trouble,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        yield_to_workers();
        while let Ok(order) = orders.recv() {
            match order {
                Order::Write(line) => self.write(&line),
                Order::Print(text) => {
                    let _ = std::io::stderr().write_all(text.as_bytes());
                }
                Order::Reopen => self.reopen(),
                Order::Finish(done) => {
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn write(&mut self, line: &Line) {
        self.buffer.clear();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.start.write(&mut self.buffer, line.at, Level::Warning);
            let _ = writeln!(
                self.buffer,
                "{lost} lines before this one are missing: the log was not written fast enough"
            );
        }
        self.start.write(&mut self.buffer, line.at, line.level);
        self.buffer.extend_from_slice(line.message.as_bytes());
        self.buffer.push(b'\n');
        if self.on_stderr.is_some_and(|least| line.level >= least) {
            // Who closed standard error does not miss it.
            let _ = std::io::stderr().write_all(&self.buffer);
        }
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write(&self.buffer)) {
            // The first line that can be written again says how many are missing.
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
            if self.trouble.is_news() {
                let _ = writeln!(std::io::stderr(), "pyzord: the log lacks lines: {error}");
            }
        }
    }

    fn reopen(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(LogFile::reopen) {
            self.write(&Line {
                at: SystemTime::now(),
                level: Level::Error,
                message: format!("the log goes on in the old file: {error}"),
            });
        }
    }
}

/// Takes events from `tracing` and queues them as lines. Spans are not used.
struct Events {
    orders: Sender<Order>,
    max_level: LevelFilter,
    lost: Arc<AtomicU64>,
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= self.max_level
            && metadata.target().starts_with(TARGET_PREFIX)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        let line = Line {
            at: SystemTime::now(),
            level: level(*event.metadata().level()),
            message: one_line(&message.0),
        };
        if self.orders.try_send(Order::Write(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

/// An event's text: its message, then its other fields as `name=value`.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

/// The text without line breaks and other control characters, so that nothing in it can look like another line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if line.len() >= MAX_MESSAGE_BYTES {
            line.push('…');
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(file: &Path) -> Writer {
        Writer {
            file: Some(LogFile::open(file).unwrap()),
            on_stderr: None,
            lost: Arc::default(),
            start: LineStart::new(),
            buffer: Vec::new(),
            trouble: Trouble::default(),
        }
    }

    fn line(message: &str) -> Line {
        Line {
            at: SystemTime::now(),
            level: Level::Info,
            message: message.to_owned(),
        }
    }

    /// What follows the level in each line.
    fn messages(file: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap();
        let message = |line: &str| line.splitn(4, ' ').nth(3).unwrap().to_owned();
        text.lines().map(message).collect()
    }

    #[test]
    fn a_rotated_log_goes_on_in_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (log, old) = (directory.path().join("log"), directory.path().join("log.1"));
        let mut writer = writer(&log);
        writer.write(&line("one"));
        std::fs::rename(&log, &old).unwrap();
        writer.write(&line("two"));
        writer.reopen();
        writer.write(&line("three"));
        assert_eq!(messages(&old), ["INFO one", "INFO two"]);
        assert_eq!(messages(&log), ["INFO three"]);
    }

    #[test]
    fn a_log_that_cannot_be_reopened_goes_on_in_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let (sub, moved) = (directory.path().join("sub"), directory.path().join("moved"));
        std::fs::create_dir(&sub).unwrap();
        let mut writer = writer(&sub.join("log"));
        std::fs::rename(&sub, &moved).unwrap();
        writer.reopen();
        writer.write(&line("still here"));
        let written = messages(&moved.join("log"));
        assert!(written[0].starts_with("ERROR the log goes on in the old file: cannot open "));
        assert_eq!(written[1], "INFO still here");
    }

    #[test]
    fn lost_lines_are_counted_in_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut writer = writer(&log);
        writer.lost.store(7, Ordering::Relaxed);
        writer.write(&line("after"));
        let written = messages(&log);
        assert!(written[0].starts_with("WARNING 7 lines before"));
        assert_eq!(written[1], "INFO after");
    }

    #[test]
    fn a_full_queue_is_counted_and_nobody_waits() {
        let (orders, received) = bounded(1);
        let lost = Arc::new(AtomicU64::new(0));
        let events = Events {
            orders,
            max_level: LevelFilter::INFO,
            lost: Arc::clone(&lost),
        };
        tracing::subscriber::with_default(events, || {
            for number in 0..3 {
                tracing::info!(target: "pyzord", number, "event");
            }
            tracing::debug!(target: "pyzord", "not logged");
            tracing::error!(target: "tokio", "not ours");
        });
        let Ok(Order::Write(line)) = received.try_recv() else {
            panic!("no line was queued");
        };
        assert_eq!(line.message, "event number=0");
        assert_eq!(lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_message_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[31mc\td"), "a\\nb\\u{1b}[31mc\\td");
        let long = one_line(&"x".repeat(2 * MAX_MESSAGE_BYTES));
        assert_eq!(long.len(), MAX_MESSAGE_BYTES + '…'.len_utf8());
    }
}
