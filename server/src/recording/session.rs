//! What is recorded between switching on and off: one file after the other.

use std::fmt;
use std::time::{Duration, Instant};

use super::file::RecordingFile;
use super::queue::Arrival;
use crate::config::RecordConfig;
use crate::error::Error;
use crate::metrics::{Counter, Metrics};

/// How long a packet may wait to be written.
const WRITE_AFTER: Duration = Duration::from_secs(1);

/// A recording that is on.
pub(super) struct Session {
    config: RecordConfig,
    metrics: Metrics,
    file: RecordingFile,
    last_write: Instant,
    /// The counters when it began.
    recorded_before: u64,
    missed_before: u64,
}

impl Session {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(super) fn begin(config: &RecordConfig, metrics: &Metrics) -> Result<Self, Error> {
        let file = RecordingFile::begin(&config.file, config.max_bytes)?;
        let counters = metrics.snapshot();
        let now = Instant::now();
        Ok(Self {
            config: config.clone(),
            metrics: metrics.clone(),
            file,
            // The file's header is due at once.
            last_write: now.checked_sub(WRITE_AFTER).unwrap_or(now),
            recorded_before: counters.counter(Counter::Recorded),
            missed_before: counters.counter(Counter::RecordMissed),
        })
    }

    /// Records a datagram, in the next file if this one is full.
    ///
    /// # Errors
    /// When the disk fails, as all that follow.
    pub(super) fn record(&mut self, arrival: &Arrival, datagram: &[u8]) -> Result<(), Error> {
        if self.file.is_full_for(datagram.len()) {
            let next = self.next_file();
            // This one is in no file's buffer yet.
            next.inspect_err(|_| self.metrics.recorder().add(Counter::RecordMissed, 1))?;
        }
        if self.file.append(arrival, datagram) {
            self.write()?;
        }
        Ok(())
    }

    /// Writes what has waited for long enough.
    pub(super) fn write_if_due(&mut self) -> Result<(), Error> {
        if self.last_write.elapsed() >= WRITE_AFTER {
            self.write()?;
        }
        Ok(())
    }

    /// Writes what waits, and counts it.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        let packets = self.file.buffered_packets();
        let written = self.file.write();
        self.last_write = Instant::now();
        let counter = match written {
            Ok(()) => Counter::Recorded,
            Err(_) => Counter::RecordMissed,
        };
        self.metrics.recorder().add(counter, packets);
        written
    }

    /// Whether somebody moved the file away.
    pub(super) fn was_moved(&self) -> bool {
        self.file.was_moved()
    }

    /// Goes on in a new file.
    pub(super) fn next_file(&mut self) -> Result<(), Error> {
        self.write()?;
        self.file = RecordingFile::begin(&self.config.file, self.config.max_bytes)?;
        let file = self.config.file.display();
        tracing::info!("recording goes on in a new {file} ({self})");
        Ok(())
    }
}

/// The numbers since it began.
impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = self.metrics.snapshot();
        let recorded = counters.counter(Counter::Recorded) - self.recorded_before;
        let missed = counters.counter(Counter::RecordMissed) - self.missed_before;
        write!(f, "{recorded} datagrams recorded, {missed} missing")
    }
}
