//! One pinned thread a core: takes datagrams from its datapath, has them answered, and delivers what the store
//! finishes later.
//!
//! The loop never blocks on anything but its sockets, and gives way to its runtime every [`YIELD_EVERY`], so that a
//! stop, a reload, a timer or a deferred answer is served within milliseconds even under a saturating load.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use pyzor_protocol::{MAX_REPLY_BYTES, Operation, Refusal, Request, Scratch};
use pyzor_storage::{CommitOutcome, Completions, Engine, EpochSeconds, LookupAnswer, Unavailable};

use crate::access_files::{Access, AccessFiles};
use crate::datapath::{self, Datapath, Handler, Io, Received, ReplyPath, Serve, Waker};
use crate::error::Error;
use crate::error_watch::ErrorWatch;
use crate::metrics::{Counter, WorkerMetrics};
use crate::pending_replies::{PendingReplies, Waiting};
use crate::recording::RecordTap;
use crate::request::{self, Context, Handled, Outcome, Ports, Silence};
use crate::socket::WorkerSockets;
use crate::usage_log::{UsageEntry, UsageLog};

/// How long a worker under load may keep its runtime waiting.
const YIELD_EVERY: Duration = Duration::from_millis(1);

/// How often a worker does what no datagram asks for; also the longest it waits for one.
const TICK: Duration = Duration::from_secs(1);

/// Clients give up after this long, so what queued while a worker was away for longer is answered in vain.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// How long a stopping worker goes on answering what has already arrived.
const DRAIN_AT_MOST: Duration = Duration::from_millis(200);

/// How long a stopping worker waits for commits and lookups under way.
const FINISH_AT_MOST: Duration = Duration::from_secs(5);

/// How long a worker pauses between two attempts while an error stays: long enough to cost nothing, short enough that
/// nobody's request has timed out when it is over.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What a worker is made of.
pub struct WorkerSetup {
    /// Counts the workers from 0.
    pub index: usize,
    /// The core to run on.
    pub core: usize,
    /// The datapath, decided at start for all workers.
    pub io: Io,
    /// What to use where that cannot be had after all; nothing means to end.
    pub fallback: Option<Io>,
    /// This worker's sockets, one a listen address.
    pub sockets: WorkerSockets,
    /// Accounts and permissions, reloaded while running.
    pub access: Arc<AccessFiles>,
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// This worker's counters.
    pub metrics: Arc<WorkerMetrics>,
    /// The usage log, if one is kept.
    pub usage_log: Option<UsageLog>,
    /// The recording, if there may be one.
    pub record_tap: Option<RecordTap>,
}

/// A running worker.
pub struct WorkerHandle {
    thread: JoinHandle<Result<(), Error>>,
    started: Receiver<Started>,
    stop: Arc<AtomicBool>,
    waker: Waker,
}

/// A worker that receives.
pub struct Started {
    /// Why it does so with its fallback.
    pub fell_back: Option<Error>,
}

impl WorkerHandle {
    /// Waits until the worker receives; nothing if it has ended instead, and [`join`](Self::join) says why.
    pub fn wait_until_it_receives(&self) -> Option<Started> {
        self.started.recv().ok()
    }

    /// Asks the worker to answer what has arrived and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the worker has ended, asked or not.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the worker's end.
    ///
    /// # Errors
    /// What made the worker end before it was asked to.
    pub fn join(self) -> Result<(), Error> {
        self.thread.join().unwrap_or(Err(Error::WorkerPanicked))
    }
}

/// Starts a worker on a thread of its own.
///
/// # Errors
/// When the thread or its means of being woken cannot be created.
pub fn spawn(setup: WorkerSetup) -> Result<WorkerHandle, Error> {
    let waker = Waker::new().map_err(cannot_start(setup.index, setup.io))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (report, started) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("worker-{}", setup.index))
        .spawn({
            let (waker, stop) = (waker.clone(), Arc::clone(&stop));
            move || run(setup, waker, stop, &report)
        })
        .map_err(Error::Thread)?;
    Ok(WorkerHandle {
        thread,
        started,
        stop,
        waker,
    })
}

fn cannot_start(index: usize, io: Io) -> impl FnOnce(io::Error) -> Error {
    let io = io.name();
    move |source| Error::WorkerStart { index, io, source }
}

fn run(
    setup: WorkerSetup,
    waker: Waker,
    stop: Arc<AtomicBool>,
    report: &SyncSender<Started>,
) -> Result<(), Error> {
    pin_to(setup.core);
    let open = |io| {
        datapath::open(io, &setup.sockets, waker.clone()).map_err(cannot_start(setup.index, io))
    };
    let (datapath, fell_back) = match (open(setup.io), setup.fallback) {
        (Err(refusal), Some(io)) => (open(io)?, Some(refusal)),
        (opened, _) => (opened?, None),
    };
    let ledger = Ledger {
        metrics: setup.metrics,
        usage_log: setup.usage_log,
        record_tap: setup.record_tap,
        now: SystemTime::now(),
    };
    let worker = Worker::new(waker, setup.access, setup.engine, ledger);
    // Nobody listens any more where the start was given up.
    let _ = report.send(Started { fell_back });
    datapath.serve(Service { worker, stop })
}

/// Keeps the thread on its core. Where that is not allowed it runs anywhere, a little slower.
fn pin_to(core: usize) {
    let mut cores = CpuSet::new();
    let this_thread = Pid::from_raw(0);
    let pinned = cores
        .set(core)
        .and_then(|()| sched_setaffinity(this_thread, &cores));
    if let Err(error) = pinned {
        tracing::warn!("cannot pin a worker to core {core}: {error}");
    }
}

struct Service {
    worker: Worker,
    stop: Arc<AtomicBool>,
}

impl Serve for Service {
    type Output = Result<(), Error>;

    async fn serve(mut self, mut datapath: impl Datapath) -> Self::Output {
        let mut last_yield = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            if self.worker.turn(&mut datapath)? == 0 {
                self.worker.wait(&mut datapath, TICK).await?;
            } else if self.worker.looked_at.duration_since(last_yield) >= YIELD_EVERY {
                last_yield = self.worker.looked_at;
                tokio::task::yield_now().await;
            }
        }
        finish(self.worker, datapath).await
    }
}

/// Answers what has arrived and what the store still owes, both within bounds.
async fn finish(mut worker: Worker, mut datapath: impl Datapath) -> Result<(), Error> {
    let drained_by = Instant::now() + DRAIN_AT_MOST;
    while worker.turn(&mut datapath)? > 0 && worker.looked_at < drained_by {}
    let finished_by = Instant::now() + FINISH_AT_MOST;
    while !worker.pending.is_empty() && Instant::now() < finished_by {
        let at_most = finished_by.duration_since(Instant::now());
        worker.wait(&mut datapath, at_most).await?;
        worker.deliver(&mut datapath)?;
        datapath.flush()?;
    }
    worker.tick(&datapath)
}

/// What a worker keeps from one datagram to the next.
struct Worker {
    access: Arc<AccessFiles>,
    /// The accounts and permissions of this batch.
    snapshot: Arc<Access>,
    engine: Arc<dyn Engine>,
    completions: Completions,
    pending: PendingReplies,
    ledger: Ledger,
    scratch: Scratch,
    /// For replies that are written between turns.
    late_reply: Box<[u8; MAX_REPLY_BYTES]>,
    late_thread: Vec<u8>,
    errors: ErrorWatch,
    /// When the clock was last looked at: once a batch, and at least once a turn.
    looked_at: Instant,
    /// Nobody waits any more for what queued up before that.
    was_away: bool,
    last_tick: Instant,
}

impl Worker {
    fn new(
        waker: Waker,
        access: Arc<AccessFiles>,
        engine: Arc<dyn Engine>,
        ledger: Ledger,
    ) -> Self {
        let completions = Completions::new(move || waker.wake());
        engine.subscribe(completions.clone());
        let now = Instant::now();
        Self {
            snapshot: Arc::clone(&access.current()),
            access,
            engine,
            completions,
            pending: PendingReplies::default(),
            ledger,
            scratch: Scratch::new(),
            late_reply: Box::new([0; MAX_REPLY_BYTES]),
            late_thread: Vec::new(),
            looked_at: now,
            was_away: false,
            last_tick: now,
            errors: ErrorWatch::default(),
        }
    }

    /// Answers what has arrived, up to a bound, and what the store has finished; the number of datagrams.
    fn turn(&mut self, datapath: &mut impl Datapath) -> Result<usize, Error> {
        let received = datapath.turn(self)?;
        if received == 0 {
            self.look();
        }
        self.errors.after_turn(received, &datapath.counters());
        if std::mem::take(&mut self.was_away) {
            let discarded = datapath.drain()?;
            self.ledger.metrics.add(Counter::StaleDiscarded, discarded);
        }
        if self.looked_at.duration_since(self.last_tick) >= TICK {
            self.last_tick = self.looked_at;
            self.tick(datapath)?;
        }
        self.deliver(datapath)?;
        Ok(received)
    }

    /// Waits until there may be something to do. While receives go on failing that is after a pause: the kernel would
    /// announce the next failure at once.
    async fn wait(&self, datapath: &mut impl Datapath, at_most: Duration) -> Result<(), Error> {
        if self.errors.is_receive_failing() {
            tokio::time::sleep(ERROR_PAUSE.min(at_most)).await;
            return Ok(());
        }
        match tokio::time::timeout(at_most, datapath.arrived()).await {
            Ok(arrived) => Ok(arrived?),
            Err(_elapsed) => Ok(()),
        }
    }

    /// Looks at the clock, and whether this thread did not run for longer than clients wait. It never waits for longer
    /// than [`TICK`] itself, so then somebody stopped it. The look comes after a batch has been received: before, it might
    /// be stopped between the two.
    fn look(&mut self) {
        let now = Instant::now();
        self.was_away |= now.duration_since(self.looked_at) > STALE_AFTER;
        self.looked_at = now;
        self.ledger.now = SystemTime::now();
        let current = self.access.current();
        if !Arc::ptr_eq(&current, &self.snapshot) {
            self.snapshot = Arc::clone(&current);
        }
    }

    /// Takes over what the kernel and the datapath count.
    fn tick(&mut self, datapath: &impl Datapath) -> Result<(), Error> {
        let counters = datapath.counters();
        let metrics = &self.ledger.metrics;
        metrics.set(Counter::Truncated, counters.datagrams_cut);
        metrics.set(Counter::SendErrors, counters.send_errors);
        metrics.set(Counter::ReceiveErrors, counters.receive_errors);
        metrics.set(Counter::BuffersExhausted, counters.buffers_exhausted);
        metrics.set(Counter::KernelDrops, datapath.kernel_drops()?);
        self.errors.tick(&counters);
        Ok(())
    }

    fn epoch_seconds(&self) -> EpochSeconds {
        let since = self
            .ledger
            .now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        EpochSeconds::try_from(since.as_secs()).unwrap_or(EpochSeconds::MAX)
    }
}

impl Handler for Worker {
    fn begin_batch(&mut self) {
        self.look();
    }

    fn datagram(
        &mut self,
        datagram: Received<'_>,
        reply: &mut [u8; MAX_REPLY_BYTES],
    ) -> Option<usize> {
        if self.was_away {
            self.ledger.metrics.add(Counter::StaleDiscarded, 1);
            return None;
        }
        let path = datagram.path;
        self.ledger.received(&datagram);
        let now = self.epoch_seconds();
        let context = Context {
            access: &self.snapshot,
            engine: &*self.engine,
            now,
            may_wait: self.pending.may_wait(),
        };
        let ports = Ports {
            peer: path.port(),
            local: path.local_port(),
        };
        let Handled { request, outcome } =
            request::handle(context, ports, datagram.bytes, &mut self.scratch, reply);
        match outcome {
            Outcome::Reply { status, length } => {
                self.ledger.answered_now(&request, &path, status, length);
                Some(length)
            }
            Outcome::AfterCommit(operation, commit) => {
                let waiting = self.ledger.waiting(operation, &request, path);
                self.pending.await_commit(commit, request.thread(), waiting);
                None
            }
            Outcome::AfterLookup(operation, digest) => {
                self.ledger.metrics.add(Counter::DeferredLookups, 1);
                let waiting = self.ledger.waiting(operation, &request, path);
                let ticket = self.pending.await_lookup(request.thread(), waiting);
                let asked = self
                    .engine
                    .lookup_deferred(&digest, now, ticket, &self.completions);
                let record = Err(asked.err()?);
                let answer = LookupAnswer { ticket, record };
                let (_path, length) =
                    answer_lookup(&mut self.pending, &mut self.ledger, answer, reply)?;
                Some(length)
            }
            Outcome::Silent(silence) => {
                self.ledger.kept_silent(silence);
                None
            }
        }
    }
}

/// What the store finished after its datagram's turn.
impl Worker {
    /// Sends the replies whose commit has ended or whose record was read.
    fn deliver(&mut self, datapath: &mut impl Datapath) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.completions.await_commits(true);
        while let Some(outcome) = self.completions.next_commit() {
            self.deliver_commit(outcome, datapath)?;
        }
        self.completions.await_commits(self.pending.awaits_commit());
        while let Some(answer) = self.completions.next_answer() {
            self.deliver_lookup(answer, datapath)?;
        }
        Ok(())
    }

    fn deliver_commit(
        &mut self,
        outcome: CommitOutcome,
        datapath: &mut impl Datapath,
    ) -> Result<(), Error> {
        let status = if outcome.durable {
            Ok(())
        } else {
            Err(Refusal::Unavailable)
        };
        while let Some(waiting) = self.pending.next_committed(outcome, &mut self.late_thread) {
            let length =
                request::respond_to_commit(status, &self.late_thread, &mut self.late_reply);
            self.ledger.answered_late(&waiting, status, length);
            datapath.send_later(&waiting.path, &self.late_reply[..length])?;
        }
        Ok(())
    }

    fn deliver_lookup(
        &mut self,
        answer: LookupAnswer,
        datapath: &mut impl Datapath,
    ) -> Result<(), Error> {
        let reply = &mut self.late_reply;
        if let Some((path, length)) =
            answer_lookup(&mut self.pending, &mut self.ledger, answer, reply)
        {
            datapath.send_later(&path, &reply[..length])?;
        }
        Ok(())
    }
}

/// Writes the reply to a lookup that was held back; where it goes, and its length.
fn answer_lookup(
    pending: &mut PendingReplies,
    ledger: &mut Ledger,
    answer: LookupAnswer,
    reply: &mut [u8; MAX_REPLY_BYTES],
) -> Option<(ReplyPath, usize)> {
    let (thread, waiting) = pending.take_lookup(answer.ticket)?;
    let status = answer
        .record
        .map(drop)
        .map_err(|Unavailable| Refusal::Unavailable);
    let length = request::respond_to_lookup(waiting.operation, answer.record, &thread, reply);
    ledger.answered_late(&waiting, status, length);
    Some((waiting.path, length))
}

/// Where a worker writes down what it did: its counters and, if they are kept, the usage log and the recording.
struct Ledger {
    metrics: Arc<WorkerMetrics>,
    usage_log: Option<UsageLog>,
    record_tap: Option<RecordTap>,
    /// The wall clock when this batch had been received.
    now: SystemTime,
}

impl Ledger {
    fn received(&mut self, datagram: &Received<'_>) {
        self.metrics.add(Counter::Datagrams, 1);
        let bytes = datagram.bytes.len() as u64;
        self.metrics.add(Counter::BytesReceived, bytes);
        if let Some(tap) = &mut self.record_tap {
            let at = datagram.arrived.unwrap_or(self.now);
            tap.datagram(at, &datagram.path, datagram.bytes);
        }
    }

    fn kept_silent(&self, silence: Silence) {
        let counter = match silence {
            Silence::IsReply => Counter::SilentReplies,
            Silence::FromPortZero => Counter::SilentPortZero,
            Silence::FromOwnPort => Counter::SilentOwnPort,
        };
        self.metrics.add(counter, 1);
    }

    fn answered_now(
        &mut self,
        request: &Request<'_>,
        path: &ReplyPath,
        status: Result<(), Refusal>,
        length: usize,
    ) {
        let operation = request.operation();
        self.count_answer(operation, status, length);
        let Some(log) = &mut self.usage_log else {
            return;
        };
        match (operation, status) {
            (Some(operation), Ok(())) => {
                log.request(self.now, &usage_entry(operation, request, path));
            }
            (_, Err(refusal)) => log.refusal(self.now, refusal),
            // Only known operations are carried out.
            (None, Ok(())) => {}
        }
    }

    /// The facts of a request that is answered later.
    fn waiting(&self, operation: Operation, request: &Request<'_>, path: ReplyPath) -> Waiting {
        let logged = self.usage_log.is_some();
        Waiting {
            path,
            operation,
            usage: logged.then(|| Box::new(usage_entry(operation, request, &path))),
        }
    }

    fn answered_late(&mut self, waiting: &Waiting, status: Result<(), Refusal>, length: usize) {
        self.count_answer(Some(waiting.operation), status, length);
        if let (Some(log), Some(entry)) = (&mut self.usage_log, &waiting.usage) {
            match status {
                Ok(()) => log.request(self.now, entry),
                Err(refusal) => log.refusal(self.now, refusal),
            }
        }
    }

    fn count_answer(
        &self,
        operation: Option<Operation>,
        status: Result<(), Refusal>,
        length: usize,
    ) {
        self.metrics.answered(operation, status);
        self.metrics.add(Counter::BytesSent, length as u64);
    }
}

fn usage_entry(operation: Operation, request: &Request<'_>, path: &ReplyPath) -> UsageEntry {
    let digests = request.digests().filter_map(Result::ok);
    UsageEntry::new(request.user(), path.peer().ip(), operation, digests)
}
