//! The closed loop as a command: ask once whether anybody is there, preload, warm up, measure, drain, report.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use pyzor_protocol::{Digest, Operation};

use crate::closed_loop::{ClosedLoop, End, Losses, Work};
use crate::cpu::{self, CpuUse, ProcessClock};
use crate::error::Error;
use crate::flags::BlastFlags;
use crate::in_flight::REPLY_LIMIT;
use crate::mix::Mix;
use crate::preload::Preload;
use crate::reply::Reply;
use crate::report::{FORMAT, IntervalReport, Report, ServerReport};
use crate::request::{Template, Thread};
use crate::signals::StopSignal;
use crate::socket;
use crate::tally::Tally;

/// Pings sent to see whether anybody is there; each waits as long as a reply may take.
const FIRST_PINGS: u32 = 3;
/// A preload that gets no acknowledgement for so long has failed.
const PRELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// Blasts, prints the result, and writes it.
pub(crate) fn run(flags: &BlastFlags) -> Result<(), Error> {
    let stop = StopSignal::take_over()?;
    let target = resolve(&flags.target)?;
    let server = flags.server_pid.map(ProcessClock::of).transpose()?;
    if let Some(core) = flags.core {
        cpu::pin(core).map_err(|source| Error::Pin(core, source))?;
    }
    probe(target)?;
    if flags.preload {
        preload(flags, target, &stop)?;
    }
    let measured = measure(flags, target, server, &stop)?;
    let report = measured.report(flags, target);
    print!("{report}");
    if let Some(path) = &flags.json {
        report.write(path)?;
    }
    Ok(())
}

fn resolve(target: &str) -> Result<SocketAddr, Error> {
    let failed = |source| Error::Resolve(target.to_owned(), source);
    let mut addresses = target.to_socket_addrs().map_err(failed)?;
    let none = || failed(io::Error::from(ErrorKind::NotFound));
    addresses.next().ok_or_else(none)
}

/// Whether anything at `target` answers a ping.
fn probe(target: SocketAddr) -> Result<(), Error> {
    let socket = socket::connect(target)?;
    socket.set_read_timeout(Some(REPLY_LIMIT))?;
    for _ in 0..FIRST_PINGS {
        match ping(&socket) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Err(Error::Refused(target));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Silent(
        target,
        (REPLY_LIMIT * FIRST_PINGS).as_secs_f64(),
    ))
}

fn ping(socket: &UdpSocket) -> io::Result<usize> {
    let template = Template::new(Operation::Ping, 0);
    let mut datagram = vec![0; template.bytes()];
    template.write(&mut datagram, Thread::FIRST, || [b'0'; Digest::HEX_DIGITS]);
    socket.send(&datagram)?;
    socket.recv(&mut datagram)
}

fn preload(flags: &BlastFlags, target: SocketAddr, stop: &StopSignal) -> Result<(), Error> {
    let mut work = Preload::new(flags.seed, flags.traffic.known);
    let mut sender = connect(flags, target, &work)?;
    while work.unacknowledged() > 0 {
        let before = work.unacknowledged();
        let end = sender.run(&mut work, Instant::now() + PRELOAD_PATIENCE, stop)?;
        if end == End::Stopped {
            return Err(Error::Stopped);
        }
        if let Some(code) = work.refused() {
            return Err(Error::PreloadRefused(code));
        }
        if work.unacknowledged() == before {
            return Err(Error::PreloadStuck {
                left: before,
                unavailable: work.unavailable(),
            });
        }
    }
    Ok(())
}

fn connect<W: Work>(flags: &BlastFlags, target: SocketAddr, work: &W) -> io::Result<ClosedLoop<W>> {
    ClosedLoop::connect(target, flags.sockets, flags.in_flight, work)
}

/// Endless work from a mix.
struct Blast {
    mix: Mix,
    phase: Phase,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Send; answers do not count.
    WarmUp,
    /// Send; answers count.
    Measuring,
    /// Send nothing more; answers do not count.
    Draining,
}

impl Work for Blast {
    type Tag = Operation;

    fn longest_request(&self) -> usize {
        self.mix.longest_request()
    }

    fn next(&mut self, thread: Thread, datagram: &mut [u8]) -> Option<(Operation, usize)> {
        (self.phase != Phase::Draining).then(|| self.mix.next(thread, datagram))
    }

    fn answered(&mut self, operation: Operation, latency: Duration, reply: &Reply) {
        if self.phase == Phase::Measuring {
            self.tally.count(operation, latency, reply);
        }
    }

    fn lost(&mut self, _: Operation) {}
}

/// What came out of the window.
struct Measured {
    window: Duration,
    tally: Tally,
    intervals: Vec<IntervalReport>,
    losses: Losses,
    idle: Duration,
    server: Option<CpuUse>,
}

fn measure(
    flags: &BlastFlags,
    target: SocketAddr,
    server: Option<ProcessClock>,
    stop: &StopSignal,
) -> Result<Measured, Error> {
    let mut work = Blast {
        mix: Mix::new(&flags.traffic, flags.seed),
        phase: Phase::WarmUp,
        tally: Tally::new(),
    };
    let mut sender = connect(flags, target, &work)?;
    if sender.run(&mut work, Instant::now() + flags.warmup, stop)? == End::Stopped {
        return Err(Error::Stopped);
    }
    work.phase = Phase::Measuring;
    (sender.losses, sender.idle) = Default::default();
    let before = server.map(ProcessClock::read).transpose()?;
    let start = Instant::now();
    let intervals = measure_intervals(flags, &mut sender, &mut work, start, stop)?;
    let after = server.map(ProcessClock::read).transpose()?;
    let (window, idle) = (start.elapsed(), sender.idle);
    work.phase = Phase::Draining;
    // What is outstanding now is either answered or lost by then.
    sender.run(&mut work, Instant::now() + 2 * REPLY_LIMIT, stop)?;
    if work.tally.answered() == 0 {
        return Err(Error::Silent(target, window.as_secs_f64()));
    }
    Ok(Measured {
        window,
        tally: work.tally,
        intervals,
        losses: sender.losses,
        idle,
        server: after.zip(before).map(|(after, before)| after.since(before)),
    })
}

/// Keeps the window open, and leaves all that was counted in `work`. Without an interval, the window is the only one.
fn measure_intervals(
    flags: &BlastFlags,
    sender: &mut ClosedLoop<Blast>,
    work: &mut Blast,
    start: Instant,
    stop: &StopSignal,
) -> io::Result<Vec<IntervalReport>> {
    let end = start + flags.duration;
    let Some(interval) = flags.interval else {
        sender.run(work, end, stop)?;
        return Ok(Vec::new());
    };
    let mut total = Tally::new();
    let mut reports = Vec::new();
    let (mut began, mut until) = (start, start);
    while until < end {
        until = end.min(until + interval);
        let ended = sender.run(work, until, stop)?;
        let now = Instant::now();
        reports.push(work.tally.interval(now - began));
        total.add(&std::mem::replace(&mut work.tally, Tally::new()));
        began = now;
        if ended == End::Stopped {
            break;
        }
    }
    work.tally = total;
    Ok(reports)
}

impl Measured {
    fn report(&self, flags: &BlastFlags, target: SocketAddr) -> Report {
        let answered = self.tally.answered();
        Report {
            format: FORMAT,
            command_line: std::env::args().collect(),
            target,
            // A socket without a request of its own is not opened.
            sockets: u32::from(flags.sockets).min(flags.in_flight),
            in_flight: flags.in_flight,
            seed: flags.seed,
            warmup_s: flags.warmup.as_secs_f64(),
            window_s: self.window.as_secs_f64(),
            answered,
            rate_per_s: as_float(answered) / self.window.as_secs_f64(),
            losses: self.losses,
            generator_idle_share: self.idle.as_secs_f64() / self.window.as_secs_f64(),
            server: self.server_report(flags.server_pid),
            operations: self.tally.reports(),
            intervals: self.intervals.clone(),
        }
    }

    fn server_report(&self, pid: Option<u32>) -> Option<ServerReport> {
        let (pid, used) = pid.zip(self.server)?;
        let seconds = used.total.as_secs_f64();
        Some(ServerReport {
            pid,
            cpu_ns_per_request: seconds * NS_PER_S / as_float(self.tally.answered()),
            cores: seconds / self.window.as_secs_f64(),
            user_share: used.user_share,
        })
    }
}

const NS_PER_S: f64 = 1e9;

#[expect(clippy::cast_precision_loss, reason = "no run answers 2^52 requests")]
fn as_float(count: u64) -> f64 {
    count as f64
}
