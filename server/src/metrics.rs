//! What happened, counted: each worker writes counters of its own, readers sum them up.
//!
//! A counter has one writer, its worker, so counting needs neither a lock nor an atomic read-modify-write: a relaxed
//! load and store compile to a plain addition in memory. Readers may be a moment behind and never see a torn number.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyzor_protocol::{Operation, Refusal};

/// What is counted besides answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Datagrams received.
    Datagrams,
    /// Their bytes, cut at the largest datagram size.
    BytesReceived,
    /// Bytes of replies handed to the kernel.
    BytesSent,
    /// Datagrams longer than the protocol allows, cut.
    Truncated,
    /// Datagrams never answered because they are replies themselves.
    SilentReplies,
    /// Datagrams never answered because they come from port 0.
    SilentPortZero,
    /// Datagrams never answered because they come from a server's port.
    SilentOwnPort,
    /// Datagrams thrown away because they queued while the worker was away for longer than clients wait.
    StaleDiscarded,
    /// Checks that had to read the disk.
    DeferredLookups,
    /// Replies the kernel did not take.
    SendErrors,
    /// Failures of a socket that brought no datagram.
    ReceiveErrors,
    /// Times more datagrams came in at once than there are buffers.
    BuffersExhausted,
    /// Datagrams the kernel dropped because a socket's queue was full.
    KernelDrops,
    /// Requests missing in the usage log because its writer was behind.
    UsageLinesLost,
    /// Datagrams written to the recording.
    Recorded,
    /// Datagrams missing in the recording because its writer was behind or failed, or could not hide their user.
    RecordMissed,
    /// Failures that paused the recording.
    RecordErrors,
}

impl Counter {
    /// Every counter, in the order of their discriminants.
    pub const ALL: [Self; 17] = [
        Self::Datagrams,
        Self::BytesReceived,
        Self::BytesSent,
        Self::Truncated,
        Self::SilentReplies,
        Self::SilentPortZero,
        Self::SilentOwnPort,
        Self::StaleDiscarded,
        Self::DeferredLookups,
        Self::SendErrors,
        Self::ReceiveErrors,
        Self::BuffersExhausted,
        Self::KernelDrops,
        Self::UsageLinesLost,
        Self::Recorded,
        Self::RecordMissed,
        Self::RecordErrors,
    ];

    /// The name in the log, for good.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::BytesReceived => "bytes_received",
            Self::BytesSent => "bytes_sent",
            Self::Truncated => "truncated",
            Self::SilentReplies => "silent_replies",
            Self::SilentPortZero => "silent_port_zero",
            Self::SilentOwnPort => "silent_own_port",
            Self::StaleDiscarded => "stale_discarded",
            Self::DeferredLookups => "deferred_lookups",
            Self::SendErrors => "send_errors",
            Self::ReceiveErrors => "receive_errors",
            Self::BuffersExhausted => "buffers_exhausted",
            Self::KernelDrops => "kernel_drops",
            Self::UsageLinesLost => "usage_lines_lost",
            Self::Recorded => "recorded",
            Self::RecordMissed => "record_missed",
            Self::RecordErrors => "record_errors",
        }
    }
}

/// Rows of the table of answers: one an operation, and one for requests refused before theirs was known.
const OPERATION_ROWS: usize = Operation::ALL.len() + 1;

/// Columns of the table of answers: 200, and one a refusal.
const STATUS_COLUMNS: usize = Refusal::ALL.len() + 1;

/// One worker's counters, on cache lines that no other worker writes.
#[repr(align(128))]
#[derive(Default)]
pub struct WorkerMetrics {
    answers: [[AtomicU64; STATUS_COLUMNS]; OPERATION_ROWS],
    counters: [AtomicU64; Counter::ALL.len()],
}

impl WorkerMetrics {
    /// Counts one reply. `operation` is what was asked, if that got as far as being known.
    pub fn answered(&self, operation: Option<Operation>, status: Result<(), Refusal>) {
        increase(&self.answers[row(operation)][column(status)], 1);
    }

    /// Adds to a counter. Only the owning worker may call this.
    pub fn add(&self, counter: Counter, number: u64) {
        increase(&self.counters[counter as usize], number);
    }

    /// Overwrites a counter that the kernel keeps for us. Only the owning worker may call this.
    pub fn set(&self, counter: Counter, number: u64) {
        self.counters[counter as usize].store(number, Ordering::Relaxed);
    }
}

fn increase(counter: &AtomicU64, by: u64) {
    let number = counter.load(Ordering::Relaxed);
    counter.store(number.wrapping_add(by), Ordering::Relaxed);
}

fn row(operation: Option<Operation>) -> usize {
    operation.map_or(Operation::ALL.len(), |operation| operation as usize)
}

fn column(status: Result<(), Refusal>) -> usize {
    status.map_or_else(|refusal| refusal as usize + 1, |()| 0)
}

/// The counters of all workers, and of the thread that records.
#[derive(Clone)]
pub struct Metrics {
    workers: Vec<Arc<WorkerMetrics>>,
    recorder: Arc<WorkerMetrics>,
}

impl Metrics {
    /// Counters for so many workers, all zero.
    pub fn new(workers: usize) -> Self {
        Self::of((0..workers).map(|_| Arc::default()).collect())
    }

    /// The counters of these workers.
    pub fn of(workers: Vec<Arc<WorkerMetrics>>) -> Self {
        Self {
            workers,
            recorder: Arc::default(),
        }
    }

    /// The counters of each worker, in their order.
    pub fn workers(&self) -> impl Iterator<Item = Arc<WorkerMetrics>> + '_ {
        self.workers.iter().map(Arc::clone)
    }

    /// The counters of one worker, counted from 0.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        Arc::clone(&self.workers[index])
    }

    /// The counters of the thread that records, which owns them.
    pub fn recorder(&self) -> &WorkerMetrics {
        &self.recorder
    }

    /// The sums over all threads as of about now.
    pub fn snapshot(&self) -> Snapshot {
        let mut sums = Snapshot::default();
        for worker in self.workers.iter().chain([&self.recorder]) {
            sums.add(worker);
        }
        sums
    }
}

/// Sums of all counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    answers: [[u64; STATUS_COLUMNS]; OPERATION_ROWS],
    counters: [u64; Counter::ALL.len()],
}

impl Snapshot {
    /// Replies of one kind.
    pub fn answered(&self, operation: Option<Operation>, status: Result<(), Refusal>) -> u64 {
        self.answers[row(operation)][column(status)]
    }

    /// A counter's sum.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    fn add(&mut self, worker: &WorkerMetrics) {
        let answers = worker.answers.iter().flatten();
        for (sum, number) in self.answers.iter_mut().flatten().zip(answers) {
            *sum += number.load(Ordering::Relaxed);
        }
        for (sum, number) in self.counters.iter_mut().zip(&worker.counters) {
            *sum += number.load(Ordering::Relaxed);
        }
    }
}

/// Every counter as `name=value`, with one blank between two, then `OPERATION_CODE=value` for each kind of reply that was sent;
/// `refused_CODE` counts requests that were refused before their operation was known. Scripts read this out of the log:
/// names stay, and what is missing is 0.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for counter in Counter::ALL {
            write!(f, "{separator}{}={}", counter.name(), self.counter(counter))?;
            separator = " ";
        }
        for (operation, code, number) in self.answers_by_code() {
            write!(f, "{separator}{operation}_{code}={number}")?;
        }
        Ok(())
    }
}

impl Snapshot {
    /// Operation, status code and number of replies, where there were any; refusals of the same code added up.
    fn answers_by_code(&self) -> impl Iterator<Item = (&'static str, u16, u64)> + '_ {
        let operations = Operation::ALL.into_iter().map(Some).chain([None]);
        operations.flat_map(|operation| {
            let row = &self.answers[row(operation)];
            let mut by_code = std::collections::BTreeMap::from([(OK, row[0])]);
            for (refusal, number) in Refusal::ALL.into_iter().zip(&row[1..]) {
                *by_code.entry(refusal.code()).or_default() += number;
            }
            by_code
                .into_iter()
                .filter(|&(_, number)| number > 0)
                .map(move |(code, number)| {
                    (operation.map_or("refused", Operation::name), code, number)
                })
        })
    }
}

/// The status code of a request that was carried out.
const OK: u16 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let metrics = Metrics::new(2);
        for (index, number) in [(0, 3), (1, 4)] {
            metrics.worker(index).add(Counter::Datagrams, number);
            metrics
                .worker(index)
                .answered(Some(Operation::Check), Ok(()));
            metrics.worker(index).set(Counter::KernelDrops, number);
        }
        let sums = metrics.snapshot();
        assert_eq!(sums.counter(Counter::Datagrams), 7);
        assert_eq!(sums.counter(Counter::KernelDrops), 7);
        assert_eq!(sums.answered(Some(Operation::Check), Ok(())), 2);
        assert_eq!(sums.answered(Some(Operation::Info), Ok(())), 0);
    }

    #[test]
    fn the_log_line_is_names_and_values() {
        let metrics = Metrics::new(1);
        let worker = metrics.worker(0);
        worker.add(Counter::Datagrams, 4);
        worker.answered(Some(Operation::Ping), Ok(()));
        worker.answered(None, Err(Refusal::UnknownUser));
        worker.answered(None, Err(Refusal::StaleTime));
        worker.answered(Some(Operation::Report), Err(Refusal::Unavailable));
        let text = metrics.snapshot().to_string();
        assert!(text.starts_with("datagrams=4 bytes_received=0 "), "{text}");
        assert!(
            text.ends_with(" record_errors=0 ping_200=1 report_503=1 refused_401=2"),
            "{text}"
        );
    }

    #[test]
    fn every_counter_and_status_has_a_place_of_its_own() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(column(Err(refusal)), index + 1);
        }
    }
}
