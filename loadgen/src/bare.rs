//! The floor for a load generator: the least a client can do with a datagram, as `echo` is the least for a server.
//!
//! The same loop as `closed_loop`, without anything that makes it useful: one request, written once, is sent again for every
//! datagram that comes back, whatever it is. Nothing is read, matched or timed.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use pyzor_protocol::{Digest, Operation};

use crate::cpu;
use crate::error::Error;
use crate::flags::ClosedFlags;
use crate::replay::resolve;
use crate::request::{Template, Thread};
use crate::signals::StopSignal;
use crate::socket::{self, Batch, MAX_BATCH, Wait};
use crate::stdio::print;

/// Replies are cut here, as those of the closed loop are.
const REPLY_BUFFER_BYTES: usize = 512;
/// How often the clock and the stop signal are looked at.
const TICK: Duration = Duration::from_millis(10);
/// What has not come back for so long was lost, and is sent again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Sends and receives for the duration; prints what each datagram cost.
pub(crate) fn run(flags: &ClosedFlags) -> Result<(), Error> {
    let stop = StopSignal::take_over()?;
    let target = resolve(&flags.target)?;
    if let Some(core) = flags.core {
        cpu::pin(core).map_err(|source| Error::Pin(core, source))?;
    }
    let share = (flags.in_flight as usize / usize::from(flags.sockets)).clamp(1, MAX_BATCH);
    let connect = |_| {
        let socket = socket::connect(target)?;
        Ok(Connection {
            socket,
            free: share,
        })
    };
    let connections: io::Result<Vec<Connection>> = (0..flags.sockets).map(connect).collect();
    let mut bare = Bare::new(connections?, share);
    bare.run(flags.warmup, &stop)?;
    (bare.answered, bare.idle) = (0, Duration::ZERO);
    let window = bare.run(flags.duration, &stop)?;
    if bare.answered == 0 {
        return Err(Error::Silent(target, window.as_secs_f64()));
    }
    print(bare.report(window) + "\n")
}

struct Bare {
    connections: Vec<Connection>,
    /// Requests each socket keeps outstanding.
    share: usize,
    requests: Batch,
    replies: Batch,
    answered: u64,
    idle: Duration,
}

struct Connection {
    socket: UdpSocket,
    /// Requests that may be sent.
    free: usize,
}

impl Bare {
    fn new(connections: Vec<Connection>, share: usize) -> Self {
        let template = Template::new(Operation::Check, 1);
        let mut requests = Batch::connected(template.bytes());
        for index in 0..MAX_BATCH {
            let digest = || [b'0'; Digest::HEX_DIGITS];
            let length = template.write(requests.buffer(index), Thread::FIRST, digest);
            requests.set_length(index, length);
        }
        Self {
            connections,
            share,
            requests,
            replies: Batch::connected(REPLY_BUFFER_BYTES),
            answered: 0,
            idle: Duration::ZERO,
        }
    }

    /// How long it really took.
    fn run(&mut self, duration: Duration, stop: &StopSignal) -> io::Result<Duration> {
        let start = Instant::now();
        let (mut now, mut next_tick, mut moved_at) = (start, start, start);
        while now.saturating_duration_since(start) < duration {
            let before = now;
            let has_moved = self.turn()?;
            now = Instant::now();
            if has_moved {
                moved_at = now;
            } else {
                self.idle += now.saturating_duration_since(before);
            }
            if now >= next_tick {
                next_tick = now + TICK;
                if now.saturating_duration_since(moved_at) > PATIENCE {
                    self.connections
                        .iter_mut()
                        .for_each(|each| each.free = self.share);
                }
                if stop.has_come()? {
                    break;
                }
            }
        }
        Ok(start.elapsed())
    }

    fn turn(&mut self) -> io::Result<bool> {
        let mut has_moved = false;
        for connection in &mut self.connections {
            let received = tolerate(self.replies.receive(&connection.socket, Wait::Never))?;
            self.answered += received as u64;
            connection.free = self.share.min(connection.free + received);
            if connection.free > 0 {
                let sent = self.requests.send(&connection.socket, 0, connection.free);
                connection.free -= tolerate(sent)?;
                has_moved = true;
            }
        }
        Ok(has_moved)
    }

    #[expect(clippy::cast_precision_loss, reason = "no run answers 2^52 requests")]
    fn report(&self, window: Duration) -> String {
        let busy = window.saturating_sub(self.idle);
        format!(
            "answered {}, window_s {:.3}, idle_share {:.4}, busy_ns_per_request {:.1}",
            self.answered,
            window.as_secs_f64(),
            self.idle.as_secs_f64() / window.as_secs_f64(),
            busy.as_secs_f64() * 1e9 / self.answered as f64,
        )
    }
}

/// What says something of the target only counts as nothing moved.
fn tolerate(moved: io::Result<usize>) -> io::Result<usize> {
    match moved {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(0)
        }
        other => other,
    }
}
