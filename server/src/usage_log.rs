//! The usage log: one line a request, written without slowing the workers.
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use pyzor_protocol::{Digest, Operation, Refusal};

use crate::error::Error;
use crate::metrics::WorkerMetrics;

/// What a line says about a request that was carried out.
pub struct UsageEntry {
    user: Vec<u8>,
    ip: IpAddr,
    operation: Operation,
    digests: Vec<Digest>,
}

impl UsageEntry {
    /// The facts of one request; allocates only for a long user name or several digests.
    pub fn new(
        user: &[u8],
        ip: IpAddr,
        operation: Operation,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Self {
        Self {
            user: user.to_vec(),
            ip,
            operation,
            digests: digests.into_iter().collect(),
        }
    }
}

/// The log file and the thread that writes it.
pub struct UsageLogWriter {}

/// One worker's end of the usage log.
pub struct UsageLog {}

impl UsageLogWriter {
    /// Opens the file, appending, and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(_path: &Path) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// The end for one worker, whose lost lines are counted in `metrics`.
    pub fn for_worker(&self, _metrics: Arc<WorkerMetrics>) -> UsageLog {
        UsageLog {}
    }

    /// Closes the file and opens it again by name, for rotation.
    pub fn reopen(&self) {}

    /// Writes what was logged and closes the file.
    pub fn close(self) {}
}

impl UsageLog {
    /// Logs a request that was carried out.
    pub fn request(&mut self, _at: SystemTime, _entry: &UsageEntry) {}

    /// Logs a refusal.
    pub fn refusal(&mut self, _at: SystemTime, _refusal: Refusal) {}

    /// Hands to the writer what has waited long enough, or all of it when `all`. Call it after each turn and before
    /// waiting.
    pub fn flush(&mut self) {}
}
