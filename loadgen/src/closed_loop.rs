//! Keeps a number of requests outstanding: every reply, and every loss, makes room for the next request.
//!
//! One thread goes round its sockets without waiting: a waiting receiver would have to be woken by the server, in the server's
//! time. Only after [`IDLE_SPIN`] without a reply it sleeps until one arrives.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::in_flight::{InFlight, MAX_SLOTS, Verdict};
use crate::losses::Losses;
use crate::reply::Reply;
use crate::request::Thread;
use crate::signals::{StopSignal, wait_readable};
use crate::socket::{self, Batch, MAX_BATCH, Wait};

/// Longer replies are cut; what is read of them comes before.
const REPLY_BUFFER_BYTES: usize = 512;
/// How long a loop that gets no replies keeps looking for them before it sleeps.
const IDLE_SPIN: Duration = Duration::from_micros(200);
/// How often losses, the stop signal and the deadline are looked at, at least.
const TICK: Duration = Duration::from_millis(10);

/// Where requests come from, and what becomes of them.
pub(crate) trait Work {
    /// The caller's own name for a request.
    type Tag: Copy;

    /// The longest request, in bytes.
    fn longest_request(&self) -> usize;

    /// Writes the next request under `thread`; its tag and its length, or `None` if there is nothing to send now.
    fn next(&mut self, thread: Thread, datagram: &mut [u8]) -> Option<(Self::Tag, usize)>;

    /// The request was answered.
    fn answered(&mut self, tag: Self::Tag, latency: Duration, reply: &Reply);

    /// The request was given up.
    fn lost(&mut self, tag: Self::Tag);
}

/// What passes through the sockets, beside what the work itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) losses: Losses,
    /// Of UDP payload.
    pub(crate) bytes_sent: u64,
    /// Of UDP payload, as far as it is read.
    pub(crate) bytes_received: u64,
}

/// Sockets with outstanding requests, all to one target.
pub(crate) struct ClosedLoop<W: Work> {
    connections: Vec<Connection<W::Tag>>,
    replies: Batch,
    requests: Batch,
    pub(crate) counts: Counts,
    /// Time spent without anything to do: none left means that this loop, not the server, is the limit.
    pub(crate) idle: Duration,
}

struct Connection<Tag> {
    socket: UdpSocket,
    in_flight: InFlight<Tag>,
}

/// Why [`ClosedLoop::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The deadline has passed.
    Deadline,
    /// Nothing is outstanding and the work has nothing more to send.
    Drained,
    /// TERM or INT came.
    Stopped,
}

impl<W: Work> ClosedLoop<W> {
    /// Opens up to `sockets` sockets that share `in_flight` requests evenly; none without a request of its own.
    pub(crate) fn connect(
        target: SocketAddr,
        sockets: u16,
        in_flight: u32,
        work: &W,
    ) -> io::Result<Self> {
        let connection = |slots| {
            Ok(Connection {
                socket: socket::connect(target)?,
                in_flight: InFlight::new(slots),
            })
        };
        Ok(Self {
            connections: slots(sockets, in_flight)
                .map(connection)
                .collect::<io::Result<_>>()?,
            replies: Batch::connected(REPLY_BUFFER_BYTES),
            requests: Batch::connected(work.longest_request()),
            counts: Counts::default(),
            idle: Duration::ZERO,
        })
    }

    /// Runs `work` until `deadline`, a stop signal, or its end; each is noticed within a [`TICK`].
    pub(crate) fn run(
        &mut self,
        work: &mut W,
        deadline: Instant,
        stop: &StopSignal,
    ) -> io::Result<End> {
        let mut now = Instant::now();
        let (mut next_tick, mut busy_at) = (now, now);
        loop {
            let start = now;
            let moved = self.turn(work)?;
            if !moved && start - busy_at > IDLE_SPIN {
                self.sleep()?;
            }
            now = Instant::now();
            if moved {
                busy_at = now;
            } else {
                self.idle += now - start;
            }
            if now >= next_tick {
                next_tick = now + TICK;
                if let Some(end) = self.tick(work, now, deadline, stop)? {
                    return Ok(end);
                }
            }
        }
    }

    /// What need not be done at every turn.
    fn tick(
        &mut self,
        work: &mut W,
        now: Instant,
        deadline: Instant,
        stop: &StopSignal,
    ) -> io::Result<Option<End>> {
        // Before losses make room again: what is free now, the last turn had nothing to send for.
        let is_drained = self.waiting() == 0;
        self.expire(work, now);
        Ok(if stop.has_come()? {
            Some(End::Stopped)
        } else if now >= deadline {
            Some(End::Deadline)
        } else if is_drained {
            Some(End::Drained)
        } else {
            None
        })
    }

    /// Goes round the sockets once; whether anything was received or sent.
    fn turn(&mut self, work: &mut W) -> io::Result<bool> {
        let mut moved = false;
        for connection in &mut self.connections {
            let counts = &mut self.counts;
            moved |= connection.receive(&mut self.replies, work, counts)?;
            moved |= connection.send(&mut self.requests, work, counts)?;
        }
        Ok(moved)
    }

    fn expire(&mut self, work: &mut W, now: Instant) {
        for connection in &mut self.connections {
            connection.in_flight.expire(now, |tag| {
                self.counts.losses.lost += 1;
                work.lost(tag);
            });
        }
    }

    fn waiting(&self) -> usize {
        let waiting = |connection: &Connection<W::Tag>| connection.in_flight.waiting();
        self.connections.iter().map(waiting).sum()
    }

    fn sleep(&self) -> io::Result<()> {
        let sockets = self.connections.iter().map(|each| each.socket.as_fd());
        wait_readable(sockets, TICK).map(drop)
    }
}

/// How many requests each socket may have outstanding. The remainder goes to the first ones, one each.
fn slots(sockets: u16, in_flight: u32) -> impl Iterator<Item = u16> {
    let (share, rest) = (
        in_flight / u32::from(sockets),
        in_flight % u32::from(sockets),
    );
    let slots = move |index| share + u32::from(u32::from(index) < rest);
    (0..sockets)
        .map(move |index| u16::try_from(slots(index)).unwrap_or(MAX_SLOTS))
        .filter(|&slots| slots > 0)
}

impl<Tag: Copy> Connection<Tag> {
    fn receive(
        &mut self,
        replies: &mut Batch,
        work: &mut impl Work<Tag = Tag>,
        counts: &mut Counts,
    ) -> io::Result<bool> {
        let received = match replies.receive(&self.socket, Wait::Never) {
            Ok(received) => received,
            Err(error) => return counts.losses.excuse(error).map(|()| false),
        };
        let now = Instant::now();
        for index in 0..received {
            let datagram = replies.received(index);
            counts.bytes_received += datagram.len() as u64;
            self.settle(&Reply::read(datagram), now, work, &mut counts.losses);
        }
        Ok(received > 0)
    }

    fn settle(
        &mut self,
        reply: &Reply,
        now: Instant,
        work: &mut impl Work<Tag = Tag>,
        losses: &mut Losses,
    ) {
        let verdict = reply
            .thread
            .map_or(Verdict::Stray, |thread| self.in_flight.close(thread, now));
        match verdict {
            Verdict::Answer(tag, latency) => work.answered(tag, latency, reply),
            Verdict::Late => losses.late += 1,
            Verdict::Duplicate => losses.duplicate += 1,
            Verdict::Stray => losses.stray += 1,
        }
    }

    /// Fills the free slots, a batch of them at most.
    fn send(
        &mut self,
        requests: &mut Batch,
        work: &mut impl Work<Tag = Tag>,
        counts: &mut Counts,
    ) -> io::Result<bool> {
        if self.in_flight.next_thread().is_none() {
            return Ok(false);
        }
        let now = Instant::now();
        let mut count = 0;
        while count < MAX_BATCH
            && let Some(thread) = self.in_flight.next_thread()
            && let Some((tag, length)) = work.next(thread, requests.buffer(count))
        {
            requests.set_length(count, length);
            counts.bytes_sent += length as u64;
            self.in_flight.open(tag, now);
            count += 1;
        }
        self.transmit(requests, count, &mut counts.losses)?;
        Ok(count > 0)
    }

    /// Sends `count` requests. One that our kernel has no room for is given up when its time is over, like any other.
    fn transmit(&self, requests: &mut Batch, count: usize, losses: &mut Losses) -> io::Result<()> {
        let mut next = 0;
        while next < count {
            match requests.send(&self.socket, next, count) {
                Ok(sent) => next += sent,
                Err(error) if is_out_of_buffers(&error) => {
                    losses.unsent += 1;
                    next += 1;
                }
                // What is excused was an earlier datagram's: this one has not been tried yet.
                Err(error) => losses.excuse(error)?,
            }
        }
        Ok(())
    }
}

fn is_out_of_buffers(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyzor_protocol::Operation;

    use crate::request::Template;

    /// Pings, a bounded number of them.
    struct Pings {
        template: Template,
        left: u32,
        answered: Vec<Reply>,
        lost: u32,
        /// How many lost ones are sent again.
        retries: u32,
    }

    impl Work for Pings {
        type Tag = ();

        fn longest_request(&self) -> usize {
            self.template.bytes()
        }

        fn next(&mut self, thread: Thread, datagram: &mut [u8]) -> Option<((), usize)> {
            self.left = self.left.checked_sub(1)?;
            Some(((), self.template.write(datagram, thread, || [0; 40])))
        }

        fn answered(&mut self, (): (), _: Duration, reply: &Reply) {
            self.answered.push(*reply);
        }

        fn lost(&mut self, (): ()) {
            self.lost += 1;
            let again = self.retries.min(1);
            self.retries -= again;
            self.left += again;
        }
    }

    fn pings(left: u32) -> Pings {
        Pings {
            template: Template::new(Operation::Ping, 0),
            left,
            answered: Vec::new(),
            lost: 0,
            retries: 0,
        }
    }

    const FIRST_ROUND: u32 = 100;
    const SECOND_ROUND: u32 = 10;
    const LATE: Duration = Duration::from_millis(1100);

    /// Echoes, but for a few requests of the first round.
    fn serve(socket: &UdpSocket) {
        let mut buffer = [0; 1000];
        let mut late = None;
        for number in 0..FIRST_ROUND + SECOND_ROUND {
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            let send = |bytes: &[u8]| {
                socket.send_to(bytes, client).unwrap();
            };
            let echo = &buffer[..length];
            match number {
                3 => {}
                4 => late = Some((echo.to_vec(), client)),
                5 => {
                    send(echo);
                    send(echo);
                }
                6 => {
                    send(b"nonsense");
                    send(echo);
                }
                _ => send(echo),
            }
            if number == FIRST_ROUND - 1 {
                std::thread::sleep(LATE);
                let (echo, client) = late.take().unwrap();
                socket.send_to(&echo, client).unwrap();
            }
        }
    }

    #[test]
    fn requests_are_shared_evenly() {
        let shares = |sockets, in_flight| slots(sockets, in_flight).collect::<Vec<_>>();
        assert_eq!(shares(3, 8), [3, 3, 2]);
        assert_eq!(shares(4, 2), [1, 1]);
        assert_eq!(shares(2, 2048), [MAX_SLOTS, MAX_SLOTS]);
    }

    #[test]
    fn losses_duplicates_late_and_stray_replies_are_told_apart() {
        let socket = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let target = socket.local_addr().unwrap();
        let server = std::thread::spawn(move || serve(&socket));
        let stop = StopSignal::take_over().unwrap();
        let mut work = pings(FIRST_ROUND);
        let mut closed_loop = ClosedLoop::connect(target, 2, 5, &work).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);

        let end = closed_loop.run(&mut work, deadline, &stop).unwrap();
        assert_eq!(end, End::Drained);
        std::thread::sleep(LATE);
        work.left = SECOND_ROUND;
        closed_loop.run(&mut work, deadline, &stop).unwrap();

        server.join().unwrap();
        assert_eq!(work.lost, 2);
        assert_eq!(work.answered.len(), 108);
        assert!(work.answered.iter().all(|reply| reply.code.is_none()));
        let expected = Losses {
            lost: 2,
            late: 1,
            duplicate: 1,
            stray: 1,
            ..Losses::default()
        };
        assert_eq!(closed_loop.counts.losses, expected);
    }

    #[test]
    fn a_closed_port_is_noticed_and_does_not_end_the_run() {
        let closed = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let target = closed.local_addr().unwrap();
        drop(closed);
        let stop = StopSignal::take_over().unwrap();
        let mut work = pings(4);
        work.retries = 2;
        let mut closed_loop = ClosedLoop::connect(target, 1, 4, &work).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let end = closed_loop.run(&mut work, deadline, &stop).unwrap();
        assert_eq!(end, End::Drained);
        assert_eq!(
            closed_loop.counts.losses.lost, 6,
            "lost ones are sent again"
        );
        assert!(closed_loop.counts.losses.refused > 0);
    }
}
