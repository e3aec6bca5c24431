//! The usage log: one line a request, in the reference's format, written without slowing the workers.
//!
//! Each worker has a bounded queue of its own to one writing thread, so a line costs it a copy into memory: no lock, no
//! system call, and no allocation for an anonymous user with one digest. The thread looks into the queues every
//! [`POLL`] instead of being woken. A request whose lines do not fit any more is counted and missing, whole.
//!
//! Lines of one worker are in order; lines of different workers may be out of order by as much as a poll.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pyzor_protocol::{ANONYMOUS_USER, Digest, Operation, Refusal, User};
use pyzor_storage::Trouble;

use crate::error::Error;
use crate::log::{FINISH_AT_MOST, LogOutput, LogTarget, yield_to_workers};
use crate::log_line::{Level, LineStart};
use crate::metrics::{Counter, Metrics, WorkerMetrics};

/// Items that may wait in one worker's queue, some 100 bytes each: about 60 ms of a core's full load.
const MAX_QUEUED_ITEMS: usize = 32_768;

/// How often the thread looks into the queues.
const POLL: Duration = Duration::from_millis(10);

/// Bytes of lines collected before they are written.
const WRITE_BYTES: usize = 64 * 1024;

/// Digests in one continuation item, as many as make it no larger than the others.
const DIGESTS_PER_ITEM: usize = 4;

/// What a line says about a request that was carried out.
#[derive(Clone, Debug)]
pub struct UsageEntry {
    /// `None` is the anonymous user.
    user: Option<Box<[u8]>>,
    ip: IpAddr,
    operation: Operation,
    first: Option<Digest>,
    rest: Vec<Digest>,
}

impl UsageEntry {
    /// The facts of one request.
    pub fn new(
        user: User<'_>,
        ip: IpAddr,
        operation: Operation,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Self {
        let mut digests = digests.into_iter();
        Self {
            user: match user {
                User::Anonymous => None,
                User::Named(name) => Some(name.into()),
            },
            ip,
            operation,
            first: digests.next(),
            rest: digests.collect(),
        }
    }

    /// Digests it holds besides the first.
    pub fn further_digests(&self) -> usize {
        self.rest.len()
    }
}

/// The thread that writes the usage log.
pub struct UsageLogWriter {
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

/// What the thread is asked to do besides writing.
#[derive(Default)]
struct Orders {
    reopen: AtomicBool,
    finish: AtomicBool,
}

impl UsageLogWriter {
    /// Opens the log and starts the thread; the second part are the workers' ends, in their order.
    ///
    /// # Errors
    /// When a file cannot be opened, or the thread cannot be started.
    pub fn open(target: &LogTarget, metrics: &Metrics) -> Result<(Self, Vec<UsageLog>), Error> {
        let output = LogOutput::open(target)?;
        let (workers, queues) = metrics.workers().map(UsageLog::new).unzip();
        let orders = Arc::new(Orders::default());
        let (at_end, ended) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("usage-log".to_owned())
            .spawn({
                let orders = Arc::clone(&orders);
                move || {
                    Writer::new(output, queues).run(&orders);
                    drop(at_end);
                }
            });
        let thread = thread.map_err(Error::Thread)?;
        let writer = Self {
            orders,
            thread,
            ended,
        };
        Ok((writer, workers))
    }

    /// Closes the file and opens it again by its name, for rotation.
    pub fn reopen(&self) {
        self.order(&self.orders.reopen);
    }

    /// Writes what the workers have logged, and ends: at the latest after [`FINISH_AT_MOST`], as a pipe may take nothing.
    pub fn finish(self) {
        self.order(&self.orders.finish);
        let never: Result<(), _> = self.ended.recv_timeout(FINISH_AT_MOST);
        if never == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the end of the usage log is missing: what it goes to takes nothing");
        }
    }

    fn order(&self, order: &AtomicBool) {
        order.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

/// One worker's end of the usage log.
pub struct UsageLog {
    queue: Sender<Item>,
    metrics: Arc<WorkerMetrics>,
}

/// What travels to the thread: a request is one item, and others for the digests it has no room for.
#[derive(Debug)]
enum Item {
    Request {
        at: SystemTime,
        user: Option<Box<[u8]>>,
        ip: IpAddr,
        operation: Operation,
        first: Option<Digest>,
        /// Digests that follow in items of their own.
        more: usize,
    },
    Digests([Digest; DIGESTS_PER_ITEM]),
    Refusal {
        at: SystemTime,
        refusal: Refusal,
    },
}

impl UsageLog {
    fn new(metrics: Arc<WorkerMetrics>) -> (Self, Receiver<Item>) {
        let (queue, items) = bounded(MAX_QUEUED_ITEMS);
        (Self { queue, metrics }, items)
    }

    /// Logs a request that was carried out.
    pub fn request(&mut self, at: SystemTime, entry: &UsageEntry) {
        let continued = entry.rest.chunks(DIGESTS_PER_ITEM);
        if continued.len() > 0 && self.room() < 1 + continued.len() {
            self.count_loss();
            return;
        }
        self.push(Item::Request {
            at,
            user: entry.user.clone(),
            ip: entry.ip,
            operation: entry.operation,
            first: entry.first,
            more: entry.rest.len(),
        });
        for digests in continued {
            let mut item = [digests[0]; DIGESTS_PER_ITEM];
            item[..digests.len()].copy_from_slice(digests);
            self.push(Item::Digests(item));
        }
    }

    /// Logs a refusal.
    pub fn refusal(&mut self, at: SystemTime, refusal: Refusal) {
        self.push(Item::Refusal { at, refusal });
    }

    /// Items that fit. Only this end adds any, so the room cannot vanish.
    fn room(&self) -> usize {
        MAX_QUEUED_ITEMS - self.queue.len()
    }

    fn push(&self, item: Item) {
        if self.queue.try_send(item).is_err() {
            self.count_loss();
        }
    }

    fn count_loss(&self) {
        self.metrics.add(Counter::UsageLinesLost, 1);
    }
}

/// The thread's side.
struct Writer {
    output: LogOutput,
    queues: Vec<Receiver<Item>>,
    start: LineStart,
    lines: Vec<u8>,
    /// Writes that fail.
    trouble: Trouble,
}

impl Writer {
    fn new(output: LogOutput, queues: Vec<Receiver<Item>>) -> Self {
        Self {
            output,
            queues,
            start: LineStart::new(),
            lines: Vec::with_capacity(WRITE_BYTES),
            trouble: Trouble::default(),
        }
    }

    fn run(mut self, orders: &Orders) {
        yield_to_workers();
        loop {
            // Read before the queues, so that what was logged before the order is written.
            let finish = orders.finish.load(Ordering::Acquire);
            if orders.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            self.write_queued();
            if finish {
                return;
            }
            std::thread::park_timeout(POLL);
        }
    }

    fn write_queued(&mut self) {
        for index in 0..self.queues.len() {
            // Bounded, so that one busy worker does not keep the others waiting for ever.
            for _ in 0..MAX_QUEUED_ITEMS {
                let Ok(item) = self.queues[index].try_recv() else {
                    break;
                };
                self.render(index, item);
                if self.lines.len() >= WRITE_BYTES {
                    self.write();
                }
            }
        }
        self.write();
    }

    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let written = self.output.write(&self.lines);
        self.lines.clear();
        match written {
            Err(error) if self.trouble.is_news() => {
                tracing::error!("requests are missing in the usage log: {error}");
            }
            Ok(()) if self.trouble.is_over() => tracing::warn!("the usage log is written again"),
            _ => {}
        }
    }

    fn reopen(&mut self) {
        if let Err(error) = self.output.reopen() {
            tracing::error!("the usage log goes on in the old file: {error}");
        }
    }

    fn render(&mut self, queue: usize, item: Item) {
        match item {
            Item::Request {
                at,
                user,
                ip,
                operation,
                first,
                more,
            } => {
                self.start.write(&mut self.lines, at, Level::Info);
                self.lines
                    .extend_from_slice(user.as_deref().unwrap_or(ANONYMOUS_USER));
                // Writing to a vector cannot fail.
                let _ = write!(self.lines, ",{ip},{},", operation.name());
                self.render_digests(queue, first, more);
                self.lines.extend_from_slice(b",200\n");
            }
            Item::Refusal { at, refusal } => {
                self.start.write(&mut self.lines, at, Level::Error);
                let _ = writeln!(self.lines, "{refusal}");
            }
            // Belongs to the request before it, which has taken it.
            Item::Digests(_) => {}
        }
    }

    /// Renders a list as Python prints it, taking what the first item had no room for from the queue.
    fn render_digests(&mut self, queue: usize, first: Option<Digest>, mut more: usize) {
        let Some(first) = first else {
            self.lines.extend_from_slice(b"None");
            return;
        };
        self.lines.extend_from_slice(b"['");
        self.lines.extend_from_slice(&first.to_hex());
        while more > 0 {
            // The worker may still be pushing the rest of this request; it does nothing else meanwhile.
            let Ok(Item::Digests(digests)) = self.queues[queue].recv() else {
                break;
            };
            for digest in digests.iter().take(more) {
                self.lines.extend_from_slice(b"', '");
                self.lines.extend_from_slice(&digest.to_hex());
            }
            more = more.saturating_sub(DIGESTS_PER_ITEM);
        }
        self.lines.extend_from_slice(b"']");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; Digest::BYTES])
    }

    fn target(path: &Path) -> LogTarget {
        LogTarget::File(path.to_owned())
    }

    /// A writer for one worker that nobody runs; what it writes is read with [`written`].
    fn log(path: &Path) -> (UsageLog, Writer, Arc<WorkerMetrics>) {
        let metrics = Arc::new(WorkerMetrics::default());
        let (log, queue) = UsageLog::new(Arc::clone(&metrics));
        let writer = Writer::new(LogOutput::open(&target(path)).unwrap(), vec![queue]);
        (log, writer, metrics)
    }

    /// What follows the process id in each line.
    fn written(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let message = |line: &str| line.splitn(4, ' ').nth(3).unwrap().to_owned();
        text.lines().map(message).collect()
    }

    fn lost(metrics: Arc<WorkerMetrics>) -> u64 {
        Metrics::of(vec![metrics])
            .snapshot()
            .counter(Counter::UsageLinesLost)
    }

    #[test]
    fn lines_are_the_references() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("usage");
        let (mut log, mut writer, _) = log(&path);
        let now = SystemTime::now();
        let six: Vec<_> = (1..=6).map(digest).collect();
        let entries = [
            UsageEntry::new(User::Anonymous, IP, Operation::Ping, []),
            UsageEntry::new(
                User::Named(b"alice"),
                "::1".parse().unwrap(),
                Operation::Check,
                [digest(0xab)],
            ),
            UsageEntry::new(User::Named(b"alice"), IP, Operation::Report, six.clone()),
        ];
        log.request(now, &entries[0]);
        log.request(now, &entries[1]);
        log.refusal(now, Refusal::Forbidden);
        log.request(now, &entries[2]);
        writer.write_queued();
        let list: Vec<_> = six.iter().map(|digest| format!("'{digest}'")).collect();
        assert_eq!(
            written(&path),
            [
                "INFO anonymous,192.0.2.7,ping,None,200".to_owned(),
                format!("INFO alice,::1,check,['{}'],200", "ab".repeat(20)),
                "ERROR 403: Forbidden: User is not authorized to request the operation.".to_owned(),
                format!("INFO alice,192.0.2.7,report,[{}],200", list.join(", ")),
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_counted_and_missing_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("usage");
        let (mut log, mut writer, metrics) = log(&path);
        let now = SystemTime::now();
        for _ in 0..MAX_QUEUED_ITEMS - 2 {
            log.refusal(now, Refusal::Forbidden);
        }
        // Three items: one too many.
        let many = UsageEntry::new(User::Anonymous, IP, Operation::Report, (0..6).map(digest));
        log.request(now, &many);
        assert_eq!(lost(Arc::clone(&metrics)), 1);
        // Two items fit, and then nothing does.
        let few = UsageEntry::new(User::Anonymous, IP, Operation::Report, (0..5).map(digest));
        log.request(now, &few);
        log.refusal(now, Refusal::Unavailable);
        assert_eq!(lost(metrics), 2);
        writer.write_queued();
        let lines = written(&path);
        assert_eq!(lines.len(), MAX_QUEUED_ITEMS - 1);
        assert!(lines[MAX_QUEUED_ITEMS - 2].starts_with("INFO anonymous,192.0.2.7,report,['0000"));
    }

    #[test]
    fn what_was_logged_is_written_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("usage");
        let metrics = Metrics::new(2);
        let (writer, mut workers) = UsageLogWriter::open(&target(&path), &metrics).unwrap();
        for worker in &mut workers {
            worker.refusal(SystemTime::now(), Refusal::Forbidden);
        }
        writer.finish();
        assert_eq!(written(&path).len(), 2);
    }

    #[test]
    fn an_item_stays_small() {
        assert!(size_of::<Item>() <= 88, "{}", size_of::<Item>());
    }
}
