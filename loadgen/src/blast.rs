//! The closed loop as a command: ask once whether anybody is there, preload, warm up, measure, drain, report.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pyzor_protocol::{Digest, Operation};

use crate::closed_loop::{ClosedLoop, Counts, End, Work};
use crate::cpu::{self, CpuReading, CpuUse, ProcessClock};
use crate::environment::{Environment, command_line, has_room_for};
use crate::error::Error;
use crate::flags::BlastFlags;
use crate::in_flight::REPLY_LIMIT;
use crate::mix::{KNOWN_BYTES, Mix};
use crate::preload::Preload;
use crate::replay::resolve;
use crate::reply::Reply;
use crate::report::progress::Progress;
use crate::report::{Verdict, try_files};
use crate::request::{Template, Thread};
use crate::result::{FORMAT, IntervalResult, RunResult, ServerResult, per_second};
use crate::signals::StopSignal;
use crate::socket;
use crate::tally::Tally;

/// Pings sent to see whether anybody is there; each waits as long as a reply may take.
const FIRST_PINGS: u32 = 3;
/// A preload that gets no acknowledgement for so long has failed.
const PRELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// Blasts, prints the result, and writes it.
pub(crate) fn run(flags: &BlastFlags) -> Result<Verdict, Error> {
    let stop = StopSignal::take_over()?;
    try_files(flags.outputs.files(), [])?;
    has_room_for(flags.traffic.known, KNOWN_BYTES)?;
    let environment = Environment::now();
    let target = resolve(&flags.closed.target)?;
    let server = flags.server_pid.map(ProcessClock::of).transpose()?;
    if let Some(core) = flags.closed.core {
        cpu::pin(core).map_err(|source| Error::Pin(core, source))?;
    }
    probe(target)?;
    if flags.preload {
        preload(flags, target, &stop)?;
    }
    let measured = measure(flags, target, server, &stop)?;
    let result = measured.result(flags, target, environment);
    let verdict = flags.outputs.write(&result)?;
    measured.server_gone.map_or(Ok(verdict), Err)
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
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
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
    ClosedLoop::connect(target, flags.closed.sockets, flags.closed.in_flight, work)
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
        if self.phase == Phase::Draining {
            return None;
        }
        let (operation, length) = self.mix.next(thread, datagram);
        if self.phase == Phase::Measuring {
            self.tally.sent(Some(operation));
        }
        Some((operation, length))
    }

    fn answered(&mut self, operation: Operation, latency: Duration, reply: &Reply) {
        if self.phase == Phase::Measuring {
            self.tally.count(Some(operation), reply, latency, None);
        }
    }

    fn lost(&mut self, operation: Operation) {
        if self.phase != Phase::WarmUp {
            self.tally.lost(Some(operation));
        }
    }
}

/// What came out of the window.
struct Measured {
    window: Duration,
    tally: Tally,
    timeline: Vec<IntervalResult>,
    counts: Counts,
    idle: Duration,
    server: Option<CpuUse>,
    /// Why it could not be measured to the end.
    server_gone: Option<Error>,
    end: End,
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
    if sender.run(&mut work, Instant::now() + flags.closed.warmup, stop)? == End::Stopped {
        return Err(Error::Stopped);
    }
    work.phase = Phase::Measuring;
    (sender.counts, sender.idle) = Default::default();
    let mut window = Window::open(flags, server)?;
    let end = window.measure(flags, &mut sender, &mut work, stop)?;
    let (length, idle) = (window.length, sender.idle);
    work.phase = Phase::Draining;
    // What is outstanding now is either answered or lost by then.
    sender.run(&mut work, Instant::now() + 2 * REPLY_LIMIT, stop)?;
    window.total.add(&work.tally);
    if window.total.answered() == 0 {
        return Err(Error::Silent(target, length.as_secs_f64()));
    }
    Ok(Measured {
        window: length,
        server: window.server_use(),
        server_gone: window.server_gone,
        tally: window.total,
        timeline: window.timeline,
        counts: sender.counts,
        idle,
        end,
    })
}

/// The measured time, part by part.
struct Window {
    start: Instant,
    /// The sum of its parts.
    length: Duration,
    server: Option<ProcessClock>,
    /// When the window was opened, and at its latest part's end.
    readings: Option<(CpuReading, CpuReading)>,
    server_gone: Option<Error>,
    total: Tally,
    timeline: Vec<IntervalResult>,
    keeps_histograms: bool,
    progress: Progress,
}

impl Window {
    fn open(flags: &BlastFlags, server: Option<ProcessClock>) -> Result<Self, Error> {
        let reading = server.map(ProcessClock::read).transpose()?;
        Ok(Self {
            start: Instant::now(),
            length: Duration::ZERO,
            server,
            readings: reading.map(|reading| (reading, reading)),
            server_gone: None,
            total: Tally::new(),
            timeline: Vec::new(),
            keeps_histograms: flags.outputs.keeps_histograms(),
            progress: Progress::new(flags.outputs.quiet, flags.closed.duration),
        })
    }

    /// Keeps the window open for its duration.
    fn measure(
        &mut self,
        flags: &BlastFlags,
        sender: &mut ClosedLoop<Blast>,
        work: &mut Blast,
        stop: &StopSignal,
    ) -> Result<End, Error> {
        let end = self.start + flags.closed.duration;
        let interval = flags.interval();
        let (mut began, mut until) = (self.start, self.start);
        while until < end {
            until = end.min(until + interval);
            let ended = sender.run(work, until, stop)?;
            let now = Instant::now();
            self.end_interval(&mut work.tally, now - began);
            began = now;
            if ended == End::Stopped {
                self.progress.finish();
                return Ok(ended);
            }
        }
        self.progress.finish();
        Ok(End::Deadline)
    }

    /// Moves what was counted in a part of the window into the result.
    fn end_interval(&mut self, tally: &mut Tally, length: Duration) {
        self.length += length;
        let used = self.advance_clock();
        let interval = IntervalResult {
            server_cpu_ns_per_request: used.map(|used| used.ns_each(tally.answered())),
            ..tally.interval(length, self.keeps_histograms)
        };
        self.progress.interval(&interval);
        self.timeline.push(interval);
        self.total.add(tally);
        tally.clear();
    }

    /// What the server used since the last part's end, if it is still there: the rest of the result stands without.
    fn advance_clock(&mut self) -> Option<CpuUse> {
        let (server, (first, last)) = self.server.zip(self.readings)?;
        match server.read() {
            Ok(now) => {
                self.readings = Some((first, now));
                Some(now.since(last))
            }
            Err(gone) => {
                (self.server, self.readings) = (None, None);
                self.server_gone = Some(gone);
                None
            }
        }
    }

    /// What the server used in all parts.
    fn server_use(&self) -> Option<CpuUse> {
        self.readings.map(|(first, last)| last.since(first))
    }
}

impl Measured {
    fn result(
        &self,
        flags: &BlastFlags,
        target: SocketAddr,
        environment: Environment,
    ) -> RunResult {
        let answered = self.tally.answered();
        RunResult {
            format: FORMAT,
            command: "blast".to_owned(),
            command_line: command_line(),
            environment,
            target,
            seed: flags.seed,
            // A socket without a request of its own is not opened.
            sockets: u32::from(flags.closed.sockets).min(flags.closed.in_flight),
            sources: 1,
            in_flight: Some(flags.closed.in_flight),
            warmup_s: flags.closed.warmup.as_secs_f64(),
            window_s: self.window.as_secs_f64(),
            schedule: None,
            sent: self.tally.all_sent(),
            answered,
            rate_per_s: per_second(answered, self.window),
            bytes_sent: self.counts.bytes_sent,
            bytes_received: self.counts.bytes_received,
            losses: self.counts.losses.attributed(None),
            generator_idle_share: self.idle.as_secs_f64() / self.window.as_secs_f64(),
            void: None,
            ended_early: self.end == End::Stopped,
            server: self.server_result(flags.server_pid),
            operations: self.tally.operations(),
            answers: None,
            timeline: self.timeline.clone(),
        }
    }

    fn server_result(&self, pid: Option<u32>) -> Option<ServerResult> {
        let (pid, used) = pid.zip(self.server)?;
        Some(ServerResult {
            pid,
            cpu_ns_per_request: used.ns_each(self.tally.answered()),
            cores: used.total.as_secs_f64() / self.window.as_secs_f64(),
            user_share: used.user_share,
        })
    }
}
