//! The open loop: requests are sent when their time has come, whether or not earlier ones were answered, so that a server
//! that stalls cannot slow down those who ask it.
//!
//! | file | job |
//! | --- | --- |
//! | `feed` | makes requests ready ahead of their time, on a thread of its own |
//! | `queue` | what the feed has made ready for one sender |
//! | `sender` | sends and receives: one thread, or one a core |
//! | `outstanding` | which request a reply belongs to |
//! | `clock` | one clock for what is sent and what the kernel has received |
//! | `machine` | what the machine takes away from a sender |
//! | `server_drops` | what the server's kernel had no room for |
//! | `collect` | what the senders counted, put together |
//!
//! Here the threads are started, watched and ended.
//!
//! A sender without a core of its own is left to the kernel, which moves it away from a busy core: a default would be the same
//! one for two generators on a machine, and might be the server's. Datagrams go by `sendmmsg`: segmentation in the kernel
//! (`UDP_SEGMENT`) takes only datagrams of one length to one address from one socket, and requests that are due together
//! seldom are.

mod clock;
mod collect;
mod feed;
mod machine;
mod outstanding;
mod queue;
mod sender;
mod server_drops;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags};

use crate::answers::numbers::Wanted;
use crate::cpu;
use crate::error::Error;
use crate::latency::Latencies;
use crate::patience::Patience;
use crate::playlist::Playlist;
use crate::report::progress::Progress;
use crate::schedule::Pace;
use crate::signals::StopSignal;
use crate::sources::Prefix;
use crate::tally::Tally;
use collect::Collector;
pub(crate) use collect::Measured;
use feed::{Fed, Feed, MAX_CHUNKS, Outlet};
use machine::Pauses;
use sender::{Channels, Ended, Sender, Shared};

/// From the moment when everything is ready to the first request: senders wake up, and the kernel begins to note arrivals.
const HEAD_START: Duration = Duration::from_millis(20);
/// How often the stop signal, the server's clock and a silent target are looked at, at least.
const WATCH_EVERY: Duration = Duration::from_millis(20);
/// Parts that wait to be put together: some seconds of them.
const MAX_PARTS: usize = 64;
/// Parts that each sender has at first beside the one that it fills: more are made only when putting them together takes longer
/// than a part does.
const SPARE_PARTS: usize = 2;
/// A target that refuses and never answered is given up after this time,
const REFUSED_PATIENCE: Duration = Duration::from_millis(500);
/// and one that is silent after this one, or when a reply's time is over twice.
const SILENT_PATIENCE: Duration = Duration::from_secs(3);

/// The feed waits no longer for more to be ready, so it is the trace that does not come.
const STALLED: Duration = feed::READY_PATIENCE.saturating_mul(2);

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) pace: Pace,
    /// Decides the times of a Poisson process.
    pub(crate) seed: u64,
    /// What is due before does not count.
    pub(crate) warmup: Duration,
    /// How long to send after the warm-up; without it, until the trace ends.
    pub(crate) duration: Option<Duration>,
    /// A request without a reply for so long is lost.
    pub(crate) timeout: Duration,
    /// The length of the timeline's parts.
    pub(crate) interval: Duration,
    /// Whether the timeline's parts keep theirs.
    pub(crate) keeps_histograms: bool,
    pub(crate) max_sockets: u32,
    /// Where sources send from.
    pub(crate) prefix: Option<Prefix>,
    /// The core of each sender; `None` leaves it to the kernel. At least one.
    pub(crate) cores: Vec<Option<usize>>,
    pub(crate) server_pid: Option<u32>,
    /// What is to be learned of the answers.
    pub(crate) answers: Wanted,
}

impl Plan {
    /// From the start to the end of sending, unless the trace ends before.
    fn length(&self) -> Option<Duration> {
        Some(self.warmup + self.duration?)
    }
}

/// What one sender counted in a part of the window.
#[derive(Debug)]
struct Part {
    /// The sender's number.
    sender: usize,
    /// Its place in the window.
    number: u32,
    tally: Tally,
    /// From the intended to the actual time of sending.
    lag: Latencies,
    bytes_sent: u64,
    bytes_received: u64,
    length_ns: u64,
    /// The sender has ended.
    is_last: bool,
}

impl Part {
    fn new(sender: usize, number: u32) -> Self {
        Self {
            sender,
            number,
            tally: Tally::new(),
            lag: Latencies::new(),
            bytes_sent: 0,
            bytes_received: 0,
            length_ns: 0,
            is_last: false,
        }
    }

    /// With the memory that a part usually takes, so that counting does not wait for it.
    fn touched(sender: usize) -> Self {
        Self {
            tally: Tally::touched(),
            lag: Latencies::touched(),
            ..Self::new(sender, 0)
        }
    }

    fn clear(&mut self) {
        self.tally.clear();
        self.lag.clear();
        (self.bytes_sent, self.bytes_received, self.length_ns) = (0, 0, 0);
    }
}

/// Sends what `playlist` says, until the end of the time, the playlist, or the user's patience.
pub(crate) fn run(
    plan: &Plan,
    playlist: &mut Playlist,
    patience: &Patience,
    progress: &mut Progress,
) -> Result<Measured, Error> {
    patience.set_over(false);
    // The senders' cores are theirs alone, as far as it depends on this process.
    cpu::avoid(plan.cores.iter().flatten().copied())?;
    let mut collector = Collector::new(plan, progress)?;
    let shared = Shared::default();
    let (ready, is_ready) = mpsc::sync_channel(1);
    let (part_sender, parts) = mpsc::sync_channel(MAX_PARTS);
    let (calibrated, is_calibrated) = mpsc::sync_channel(plan.cores.len());
    thread::scope(|scope| {
        let mut outlets = Vec::new();
        let mut senders = Vec::new();
        for (number, &core) in plan.cores.iter().enumerate() {
            let (chunk_sender, chunks) = mpsc::sync_channel(MAX_CHUNKS);
            let (spare_sender, spares) = mpsc::sync_channel(MAX_PARTS);
            for _ in 0..SPARE_PARTS {
                let _ = spare_sender.try_send(Part::touched(number));
            }
            let replies = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
            let replies = Arc::new(replies);
            let (start, is_started) = mpsc::sync_channel(1);
            let gate = Gate {
                calibrated: calibrated.clone(),
                is_started,
            };
            let channels = Channels {
                chunks,
                parts: part_sender.clone(),
                part: Part::touched(number),
                spares,
                replies: Arc::clone(&replies),
            };
            let shared = &shared;
            let run = move || send(plan, core, shared, channels, gate);
            outlets.push(Outlet::new(chunk_sender, replies));
            collector.spares.push(spare_sender);
            senders.push((start, scope.spawn(run)));
        }
        drop((part_sender, calibrated));
        let feed = Feed::new(plan, playlist, patience, &shared, outlets, ready);
        let feed = scope.spawn(|| feed.run());
        let started = begin(&is_ready, &is_calibrated, &mut senders, patience, &shared);
        let watched = started.map(|start| {
            collector.begin(start);
            watch(plan, &shared, patience.stop(), &parts, &mut collector)
        });
        shared.stop.store(true, Ordering::Relaxed);
        let senders: Vec<_> = senders.into_iter().map(|(_, sender)| sender).collect();
        // Nobody may wait for a place in a channel that is no longer read.
        drop(parts);
        let ended: Result<Vec<Ended>, Error> = senders.into_iter().map(join).collect();
        // Nor for a trace that does not come.
        patience.set_over(true);
        let sent = join(feed);
        watched.transpose()?;
        let ended = ended?;
        if !shared.has_answer.load(Ordering::Relaxed) {
            let why = if patience.stop().has_come()? {
                Error::Stopped
            } else {
                nobody(plan, &shared, collector.elapsed())
            };
            return Err(sent.failure.unwrap_or(why));
        }
        let measured = collector.finish(ended, sent);
        measured.or_nothing(plan.warmup)
    })
}

type Senders<'scope> = Vec<(
    SyncSender<Instant>,
    ScopedJoinHandle<'scope, Result<Ended, Error>>,
)>;

/// Starts all senders at one moment, when there is something to send; `None` if there will never be, or nobody waits for it.
fn begin(
    is_ready: &Receiver<()>,
    is_calibrated: &Receiver<()>,
    senders: &mut Senders<'_>,
    patience: &Patience,
    shared: &Shared,
) -> Option<Instant> {
    let began = Instant::now();
    while let Err(none) = is_ready.recv_timeout(WATCH_EVERY) {
        if none == RecvTimeoutError::Disconnected || patience.is_over() {
            return None;
        }
        // A trace may stop coming before there is as much as is wanted.
        if began.elapsed() > STALLED && shared.has_requests.load(Ordering::Relaxed) {
            break;
        }
    }
    // One that cannot is gone, and says why when it is joined.
    is_calibrated.iter().for_each(drop);
    let start = Instant::now() + HEAD_START;
    for (sender, _) in senders {
        let _ = sender.send(start);
    }
    Some(start)
}

/// Where a sender waits for the others.
struct Gate {
    /// Dropped when it has looked at its core.
    calibrated: SyncSender<()>,
    is_started: Receiver<Instant>,
}

/// One sender's thread.
fn send(
    plan: &Plan,
    core: Option<usize>,
    shared: &Shared,
    channels: Channels,
    gate: Gate,
) -> Result<Ended, Error> {
    if let Some(core) = core {
        cpu::pin(core).map_err(|source| Error::Pin(core, source))?;
    }
    let pauses = Pauses::look();
    drop(gate.calibrated);
    let sender = Sender::new(plan, shared, channels);
    match gate.is_started.recv() {
        Ok(start) => sender
            .run(start, pauses)
            .map_err(|source| Error::Send(plan.target, source)),
        Err(_) => Ok(Ended::default()),
    }
}

/// Puts the senders' parts together until all have ended.
fn watch(
    plan: &Plan,
    shared: &Shared,
    stop: &StopSignal,
    parts: &Receiver<Part>,
    collector: &mut Collector<'_>,
) -> Result<(), Error> {
    loop {
        match parts.recv_timeout(collector.next_look()) {
            Ok(part) => collector.take(part),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        collector.read_clocks(shared);
        if stop.has_come()? {
            collector.ended_early = true;
            shared.stop.store(true, Ordering::Relaxed);
        }
        give_up(plan, shared, collector.elapsed())?;
    }
}

/// Fails when nobody is there.
fn give_up(plan: &Plan, shared: &Shared, elapsed: Duration) -> Result<(), Error> {
    let is_refused = shared.is_refused.load(Ordering::Relaxed);
    let patience = if is_refused {
        REFUSED_PATIENCE
    } else {
        SILENT_PATIENCE.max(2 * plan.timeout)
    };
    if elapsed > patience && !shared.has_answer.load(Ordering::Relaxed) {
        return Err(nobody(plan, shared, elapsed));
    }
    Ok(())
}

fn nobody(plan: &Plan, shared: &Shared, elapsed: Duration) -> Error {
    if shared.is_refused.load(Ordering::Relaxed) {
        Error::Refused(plan.target)
    } else {
        Error::Silent(plan.target, elapsed.as_secs_f64())
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
