//! Puts together what the senders counted, and says whether it can be trusted.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use pyzor_protocol::Digest;

use super::machine::{self, SenderGaps, Stolen};
use super::sender::{Ended, Shared};
use super::server_drops::ServerDrops;
use super::{Fed, Part, Plan, WATCH_EVERY};
use crate::answers::DigestCounts;
use crate::answers::check::Learned;
use crate::cpu::{CpuReading, CpuUse, ProcessClock};
use crate::environment::{Environment, command_line};
use crate::error::Error;
use crate::latency::{Compact, Latencies};
use crate::losses::Losses;
use crate::report::progress::Progress;
use crate::result::{
    FORMAT, IntervalResult, MachineGaps, RunResult, ScheduleKind, ScheduleResult, ServerResult,
    per_second,
};
use crate::schedule::Pace;
use crate::tally::Tally;

/// One in a hundred requests may be sent later than this.
const MAX_LAG_P99: Duration = Duration::from_millis(1);
/// No request may be sent later than this: something has stopped the generator.
const MAX_LAG: Duration = Duration::from_millis(100);
/// Requests that could not be sent, of all that were due.
const MAX_UNSENT_SHARE: f64 = 0.001;

/// What came out of a run.
#[derive(Debug)]
pub(crate) struct Measured {
    tally: Tally,
    lag: Latencies,
    losses: Losses,
    bytes_sent: u64,
    bytes_received: u64,
    timeline: Vec<IntervalResult>,
    window: Duration,
    intended: u64,
    idle_share: f64,
    server: Option<CpuUse>,
    sockets: u32,
    addresses: u32,
    ended_early: bool,
    void: Option<String>,
    longest_lag: Duration,
    clock_steps: u32,
    answers: Learned,
    failure: Option<Error>,
    machine: MachineGaps,
}

/// Collects the senders' parts while they run.
pub(super) struct Collector<'r> {
    plan: &'r Plan,
    progress: &'r mut Progress,
    start: Instant,
    /// Where each sender takes parts to use again from.
    pub(super) spares: Vec<SyncSender<Part>>,
    /// How many parts each sender has ended; [`ENDED`] when it has ended itself.
    reached: Vec<u32>,
    /// Parts that not all senders have ended, the oldest first.
    open: VecDeque<Part>,
    /// How many parts are complete.
    complete: u32,
    sum: Part,
    timeline: Vec<IntervalResult>,
    server: Option<Server>,
    /// Why it is not measured any more.
    server_gone: Option<Error>,
    stolen_before: Option<Stolen>,
    /// Before the last replies are waited for, when the machine does little.
    stolen_after: Option<Stolen>,
    pub(super) ended_early: bool,
}

/// More parts than there will ever be.
const ENDED: u32 = u32::MAX;

impl<'r> Collector<'r> {
    pub(super) fn new(plan: &'r Plan, progress: &'r mut Progress) -> Result<Self, Error> {
        let server = plan.server_pid.map(|pid| Server::new(pid, plan.target));
        Ok(Self {
            plan,
            progress,
            start: Instant::now(),
            spares: Vec::new(),
            reached: vec![0; plan.cores.len()],
            open: VecDeque::new(),
            complete: 0,
            sum: Part::new(0, 0),
            timeline: Vec::new(),
            server: server.transpose()?,
            server_gone: None,
            stolen_before: None,
            stolen_after: None,
            ended_early: false,
        })
    }

    pub(super) fn begin(&mut self, start: Instant) {
        self.start = start;
        self.stolen_before = Stolen::now(&self.plan.cores);
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long to wait for a part: no longer than until the window opens, when the server's clock is read.
    pub(super) fn next_look(&self) -> Duration {
        match self.plan.warmup.saturating_sub(self.elapsed()) {
            Duration::ZERO => WATCH_EVERY,
            until_open => until_open.min(WATCH_EVERY),
        }
    }

    /// Reads the server's clock when the window opens and when it closes, and then what was stolen.
    pub(super) fn read_clocks(&mut self, shared: &Shared) {
        let is_open = self.elapsed() >= self.plan.warmup;
        let is_over = shared.finished.load(Ordering::Relaxed) >= self.plan.cores.len();
        if is_over && self.stolen_after.is_none() {
            self.stolen_after = Stolen::now(&self.plan.cores);
        }
        if let Some(server) = &mut self.server {
            let read = server.read(is_open, is_over);
            self.note_server(read);
        }
    }

    /// What is measured of the server, while it is there: the rest of the result stands without.
    fn note_server<T>(&mut self, read: Result<T, Error>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(gone) => {
                self.server = None;
                self.server_gone = Some(gone);
                None
            }
        }
    }

    /// A sender has ended a part.
    pub(super) fn take(&mut self, mut part: Part) {
        self.reached[part.sender] = if part.is_last { ENDED } else { part.number + 1 };
        let place = (part.number - self.complete) as usize;
        while self.open.len() <= place {
            self.open.push_back(Part::new(0, 0));
        }
        self.open[place].add(&part);
        part.clear();
        let _ = self.spares[part.sender].try_send(part);
        let reached = self.reached.iter().min().copied().unwrap_or(ENDED);
        while self.complete < reached
            && let Some(part) = self.open.pop_front()
        {
            self.complete += 1;
            self.close(&part);
        }
    }

    /// A part of the window is complete.
    fn close(&mut self, part: &Part) {
        let used = self.server.as_mut().map(Server::used_since_last_part);
        let used = used.and_then(|used| self.note_server(used));
        let answered = part.tally.answered();
        let length = Duration::from_nanos(part.length_ns);
        let interval = IntervalResult {
            server_cpu_ns_per_request: used.map(|used| used.ns_each(answered)),
            lag: Some(part.lag.percentiles()),
            ..part.tally.interval(length, self.plan.keeps_histograms)
        };
        self.progress.interval(&interval);
        self.timeline.push(interval);
        self.sum.add(part);
    }

    /// All senders have ended.
    pub(super) fn finish(mut self, ended: Vec<Ended>, fed: Fed) -> Measured {
        let losses = ended
            .iter()
            .fold(Losses::default(), |sum, each| sum.plus(&each.losses));
        let sending_ended = ended.iter().map(|each| each.sending).max();
        let sending_ended = sending_ended.unwrap_or_default();
        let idle: Duration = ended.iter().map(|each| each.idle).sum();
        let steps = ended
            .iter()
            .map(|each| each.clock_steps)
            .max()
            .unwrap_or_default();
        // The last requests of a constant rate are due before the end of the time.
        let sending = match self.plan.length() {
            Some(length) if !fed.is_exhausted && !self.ended_early => length.max(sending_ended),
            _ => sending_ended,
        };
        let window = sending.saturating_sub(self.plan.warmup);
        let gaps: Vec<SenderGaps> = ended.iter().map(|each| each.gaps).collect();
        let stolen_after = self.stolen_after.or_else(|| Stolen::now(&self.plan.cores));
        let stolen = self.stolen_before.zip(stolen_after);
        let longest_lag = ended.iter().map(|each| each.longest_lag).max();
        let intended = self.sum.tally.all_sent() + losses.unsent;
        let server = self.server.take().map(Server::finish);
        let server = server.and_then(|server| self.note_server(server));
        let (server, dropped) = server.map_or((None, None), |(used, drops)| (used, Some(drops)));
        Measured {
            void: void(&self.sum.lag, losses.unsent, intended, steps),
            losses: losses.attributed(dropped),
            tally: self.sum.tally,
            lag: self.sum.lag,
            longest_lag: longest_lag.unwrap_or_default(),
            clock_steps: steps,
            bytes_sent: self.sum.bytes_sent,
            bytes_received: self.sum.bytes_received,
            timeline: self.timeline,
            window,
            intended,
            // Who waited for a trace that did not come did so for longer than that.
            idle_share: ratio(idle, sending * as_u32(ended.len())).min(1.0),
            server,
            sockets: fed.sockets,
            addresses: fed.addresses,
            ended_early: self.ended_early || fed.failure.is_some(),
            failure: fed.failure.or(self.server_gone),
            machine: machine::gaps(&gaps, stolen),
            answers: Learned::of(
                ended.into_iter().map(|each| each.answers).collect(),
                &fed.digests,
            ),
        }
    }
}

/// Why a run says nothing about the server, if so.
fn void(lag: &Latencies, unsent: u64, intended: u64, clock_steps: u32) -> Option<String> {
    let points = lag.percentiles();
    if points.p99_us > microseconds(MAX_LAG_P99) {
        Some(format!(
            "the generator fell behind: 1 % of the requests were sent more than {:.0} us late (at most {:.0} are allowed); \
             give it a core of its own, or more of them",
            points.p99_us,
            microseconds(MAX_LAG_P99),
        ))
    } else if points.max_us > microseconds(MAX_LAG) {
        Some(format!(
            "the generator was stopped: a request was sent {:.0} ms late (at most {} are allowed)",
            points.max_us / 1e3,
            MAX_LAG.as_millis(),
        ))
    } else if crate::cpu::share(unsent, intended) > MAX_UNSENT_SHARE {
        Some(format!(
            "{unsent} requests could not be sent: older ones with the same Thread still waited, or our kernel had \
             no room; use more --sockets or a shorter --timeout"
        ))
    } else if clock_steps > 0 {
        Some(format!(
            "the machine's clock was set {clock_steps} times during the run"
        ))
    } else {
        None
    }
}

impl Measured {
    /// Itself, if any request that counts was to be sent.
    pub(super) fn or_nothing(self, warmup: Duration) -> Result<Self, Error> {
        if self.intended > 0 {
            Ok(self)
        } else if let Some(failure) = self.failure {
            Err(failure)
        } else if self.ended_early {
            Err(Error::Stopped)
        } else {
            Err(Error::NothingSent(warmup.as_secs_f64()))
        }
    }

    /// The latest counts of each digest that was asked about, in the digests' order, where they were to be kept.
    pub(crate) fn latest_answers(&self) -> &[(Digest, DigestCounts)] {
        &self.answers.latest
    }

    /// Why not all was sent, if something was wrong with what was to be sent. To be told after the result.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// As it is written into files.
    pub(crate) fn result(self, plan: &Plan, command: &str, environment: Environment) -> RunResult {
        let answered = self.tally.answered();
        RunResult {
            format: FORMAT,
            command: command.to_owned(),
            command_line: command_line(),
            environment,
            target: plan.target,
            seed: plan.seed,
            sockets: self.sockets,
            sources: self.addresses,
            in_flight: None,
            warmup_s: plan.warmup.as_secs_f64(),
            window_s: self.window.as_secs_f64(),
            schedule: Some(self.schedule(plan)),
            sent: self.tally.all_sent(),
            answered,
            rate_per_s: per_second(answered, self.window),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            losses: self.losses,
            generator_idle_share: self.idle_share,
            ended_early: self.ended_early,
            server: plan
                .server_pid
                .zip(self.server)
                .map(|(pid, used)| ServerResult {
                    pid,
                    cpu_ns_per_request: used.ns_each(answered),
                    cores: ratio(used.total, self.window),
                    user_share: used.user_share,
                }),
            operations: self.tally.operations(),
            answers: self.answers.result,
            timeline: self.timeline,
            void: self.void,
        }
    }

    fn schedule(&self, plan: &Plan) -> ScheduleResult {
        let (kind, rate_per_s) = match plan.pace {
            Pace::Recorded { speed } => (ScheduleKind::Recorded { speed }, None),
            Pace::Constant { rate_per_s } => (ScheduleKind::Constant, Some(rate_per_s)),
            Pace::Poisson { rate_per_s } => (ScheduleKind::Poisson, Some(rate_per_s)),
        };
        ScheduleResult {
            kind,
            intended: self.intended,
            intended_rate_per_s: rate_per_s
                .unwrap_or_else(|| per_second(self.intended, self.window)),
            lag: Compact::of(&self.lag),
            longest_lag_us: Some(microseconds(self.longest_lag)),
            clock_steps: self.clock_steps,
            machine: Some(self.machine),
        }
    }
}

/// The server's process.
struct Server {
    clock: ProcessClock,
    drops: ServerDrops,
    /// At the end of the warm-up, of the latest part, and of the window.
    first: Option<CpuReading>,
    latest: Option<CpuReading>,
    last: Option<CpuReading>,
}

impl Server {
    fn new(pid: u32, target: std::net::SocketAddr) -> Result<Self, Error> {
        Ok(Self {
            clock: ProcessClock::of(pid)?,
            drops: ServerDrops::begin(pid, target)?,
            first: None,
            latest: None,
            last: None,
        })
    }

    fn read(&mut self, is_open: bool, is_over: bool) -> Result<(), Error> {
        if is_open && self.first.is_none() {
            self.first = Some(self.clock.read()?);
            self.latest = self.first;
        }
        if is_over && self.last.is_none() {
            self.last = Some(self.clock.read()?);
        }
        Ok(())
    }

    fn used_since_last_part(&mut self) -> Result<CpuUse, Error> {
        let now = match self.last {
            Some(last) => last,
            None => self.clock.read()?,
        };
        let before = self.latest.replace(now).unwrap_or(now);
        Ok(now.since(before))
    }

    /// What it used in the window, and how many datagrams its kernel dropped in the run.
    fn finish(self) -> Result<(Option<CpuUse>, u64), Error> {
        let used = self
            .last
            .zip(self.first)
            .map(|(last, first)| last.since(first));
        Ok((used, self.drops.end()?))
    }
}

impl Part {
    fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.lag.add(&other.lag);
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.length_ns = self.length_ns.max(other.length_ns);
    }
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// 0 of nothing.
fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        0.0
    } else {
        part.as_secs_f64() / whole.as_secs_f64()
    }
}

fn as_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lags(late: u64, by: Duration) -> Latencies {
        let mut lag = Latencies::new();
        for number in 0..1000 {
            lag.record(if number < late {
                by
            } else {
                Duration::from_micros(20)
            });
        }
        lag
    }

    #[test]
    fn a_run_whose_generator_was_late_is_void() {
        let millisecond = Duration::from_millis(1);
        assert_eq!(void(&lags(9, 50 * millisecond), 0, 1000, 0), None);
        let behind = void(&lags(11, 2 * millisecond), 0, 1000, 0).unwrap();
        assert!(behind.contains("fell behind"), "{behind}");
        let stopped = void(&lags(1, 200 * millisecond), 0, 1000, 0).unwrap();
        assert!(stopped.contains("stopped"), "{stopped}");
    }

    #[test]
    fn a_run_that_did_not_send_what_was_due_is_void() {
        let lag = lags(0, Duration::ZERO);
        assert_eq!(void(&lag, 1, 1000, 0), None);
        let unsent = void(&lag, 2, 1000, 0).unwrap();
        assert!(unsent.contains("--sockets"), "{unsent}");
        assert!(void(&lag, 0, 1000, 1).unwrap().contains("clock"));
        assert_eq!(void(&Latencies::new(), 0, 0, 0), None);
    }
}
