//! The loop itself: sends each request when it is due, whatever was answered, and takes the replies in between.
//!
//! One thread. What is due goes before what has come: replies wait in their sockets until nothing is due, or until they may be
//! too many; the kernel notes when they come. It looks at the clock all the time when something is due soon; a thread that sleeps wakes
//! too late.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use pyzor_protocol::Operation;

use super::clock::{Clock, nanoseconds};
use super::feed::{Chunk, Prepared};
use super::machine::{Pauses, SenderGaps, ThreadAccount};
use super::outstanding::{Outstanding, Sent, Verdict};
use super::queue::Queue;
use super::{Part, Plan};
use crate::answers::check::Answers;
use crate::answers::numbers::DigestNumber;
use crate::losses::Losses;
use crate::reply::Reply;
use crate::socket::{self, Batch, Wait};
use crate::trace::LONGEST_DATAGRAM_BYTES;

/// Requests that are sent before replies are looked at again, at most: they take the kernel some 30 us.
const MAX_BURST: usize = 16;
/// Replies that are taken from a socket before requests are looked at again, at most.
const MAX_REPLIES: u32 = 16;
/// So many requests go before replies that may have come: with the kernel's default, a socket holds some 250.
const MAX_UNLOOKED: usize = 128;
/// Longer replies are cut; what is read of them comes before.
const REPLY_BUFFER_BYTES: usize = 512;
/// Sockets with replies that are told of at a time.
const READY_SOCKETS: usize = 64;
/// Sockets whose oldest requests are looked at in one turn.
const EXPIRED_SOCKETS: usize = 16;
/// How often the stop flag, the clocks and the interval's end are looked at.
const TICK_NS: u64 = 5_000_000;
/// Never sleeps longer: new chunks, and the stop flag, do not wake it.
const LONGEST_SLEEP_NS: u64 = 5_000_000;
/// Wakes from a sleep so long before a request is due, because sleeps end late.
const WAKE_EARLY_NS: u64 = 500_000;
const NS_PER_MS: u64 = 1_000_000;
/// A trace that does not come is waited for so long after the end of the time, when nothing of it can be due any more.
const STARVED_PATIENCE: Duration = Duration::from_secs(1);

/// What all senders of a run share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Send nothing more.
    pub(super) stop: AtomicBool,
    /// Something is ready to be sent.
    pub(super) has_requests: AtomicBool,
    /// Something was received.
    pub(super) has_answer: AtomicBool,
    /// Some request met a closed port.
    pub(super) is_refused: AtomicBool,
    /// Senders that send nothing more.
    pub(super) finished: AtomicUsize,
}

/// One sender's ends of the channels.
pub(super) struct Channels {
    pub(super) chunks: Receiver<Chunk>,
    pub(super) parts: SyncSender<Part>,
    /// The first part.
    pub(super) part: Part,
    /// Parts that can be used after it: new ones, and those that were read.
    pub(super) spares: Receiver<Part>,
    /// Where replies announce themselves, by the number of their socket.
    pub(super) replies: Arc<Epoll>,
}

/// One thread's part of a run.
pub(super) struct Sender<'r> {
    plan: &'r Plan,
    shared: &'r Shared,
    clock: Clock,
    queue: Queue,
    parts: SyncSender<Part>,
    spares: Receiver<Part>,
    part: Part,
    connections: Vec<Connection>,
    epoll: Arc<Epoll>,
    ready: Ready,
    requests: Batch,
    replies: Batch,
    unlooked: Unlooked,
    /// The warm-up's among them.
    longest_lag_ns: u64,
    losses: Losses,
    answers: Answers,
    /// The socket whose requests expire next.
    expires_next: usize,
    idle_ns: u64,
    /// Of that: the feed had nothing ready.
    starved_ns: u64,
}

/// What is left to say when a sender has ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) losses: Losses,
    /// Time without anything to do while there was something left to send.
    pub(super) idle: Duration,
    /// From the start until it had sent all, or was stopped.
    pub(super) sending: Duration,
    /// Of all requests, the warm-up's among them.
    pub(super) longest_lag: Duration,
    pub(super) clock_steps: u32,
    pub(super) answers: Answers,
    pub(super) gaps: SenderGaps,
}

struct Connection {
    socket: UdpSocket,
    outstanding: Outstanding<Tag>,
    /// What the socket had dropped before its first request that counts: unknown from its first that does not until then.
    dropped_before: Option<u32>,
}

/// What is remembered of a request.
#[derive(Clone, Copy, Debug)]
struct Tag {
    operation: Option<Operation>,
    /// Whether it was due after the warm-up.
    counts: bool,
    digest: DigestNumber,
}

impl<'r> Sender<'r> {
    pub(super) fn new(plan: &'r Plan, shared: &'r Shared, channels: Channels) -> Self {
        Self {
            plan,
            shared,
            clock: Clock::new(Instant::now()),
            queue: Queue::new(channels.chunks),
            parts: channels.parts,
            spares: channels.spares,
            part: channels.part,
            connections: Vec::new(),
            epoll: channels.replies,
            ready: Ready::new(),
            requests: Batch::connected(LONGEST_DATAGRAM_BYTES),
            replies: Batch::with_times(REPLY_BUFFER_BYTES),
            unlooked: Unlooked(0),
            longest_lag_ns: 0,
            losses: Losses::default(),
            answers: Answers::new(&plan.answers),
            expires_next: 0,
            idle_ns: 0,
            starved_ns: 0,
        }
    }

    /// Sends all there is to send from `start` on, and waits for the replies.
    /// `pauses` are those that were found before.
    pub(super) fn run(mut self, start: Instant, pauses: Pauses) -> io::Result<Ended> {
        let account = ThreadAccount::now();
        wait_until(start);
        self.clock = Clock::new(start);
        let sending_ended_ns = self.send_and_receive()?;
        let in_run = ThreadAccount::now().since(account);
        self.shared.finished.fetch_add(1, Ordering::Relaxed);
        self.drain()?;
        self.part.length_ns = sending_ended_ns.saturating_sub(self.part_began_ns());
        self.part.is_last = true;
        self.losses.own_socket = self.dropped()?;
        let _ = self.parts.send(self.part);
        Ok(Ended {
            losses: self.losses,
            idle: Duration::from_nanos(self.idle_ns),
            sending: Duration::from_nanos(sending_ended_ns),
            longest_lag: Duration::from_nanos(self.longest_lag_ns),
            clock_steps: self.clock.steps(),
            answers: self.answers,
            gaps: SenderGaps {
                pauses,
                in_run,
                starved: Duration::from_nanos(self.starved_ns),
            },
        })
    }

    /// Until when, since the start.
    fn send_and_receive(&mut self) -> io::Result<u64> {
        let mut now_ns = self.clock.now_ns();
        let mut next_tick_ns = now_ns;
        while !self.queue.has_ended() {
            let began_ns = now_ns;
            let has_sent = self.send_due(now_ns)?;
            let can_wait = has_sent && self.unlooked.may_grow();
            let has_received = !can_wait && self.receive()?;
            let is_idle = !has_sent && !has_received;
            if is_idle {
                self.expire(EXPIRED_SOCKETS);
                self.rest()?;
            }
            now_ns = self.clock.now_ns();
            if is_idle {
                self.idle_ns += now_ns - began_ns;
                if self.queue.next_ns().is_none() && !self.queue.has_ended() {
                    self.starved_ns += now_ns - began_ns;
                    if let Some(end_ns) = self.overdue_since_ns(now_ns) {
                        return Ok(end_ns);
                    }
                }
            }
            if now_ns >= next_tick_ns {
                next_tick_ns = now_ns + TICK_NS;
                if self.shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                self.tick(now_ns);
            }
        }
        Ok(self.clock.now_ns())
    }

    /// The end of the time, if that is so long over that nothing need be waited for.
    fn overdue_since_ns(&self, now_ns: u64) -> Option<u64> {
        let length_ns = nanoseconds(self.plan.length()?);
        let patience_ns = nanoseconds(STARVED_PATIENCE);
        (now_ns > length_ns + patience_ns).then_some(length_ns)
    }

    /// Takes replies until none is missing, or the limit is over for all.
    fn drain(&mut self) -> io::Result<()> {
        while self.waiting() > 0 {
            if !self.receive()? {
                self.expire(usize::MAX);
                self.sleep(NS_PER_MS)?;
            }
            self.clock.adjust();
        }
        // Late, second and foreign replies that have come by now.
        while self.receive()? {}
        Ok(())
    }

    fn tick(&mut self, now_ns: u64) {
        self.clock.adjust();
        // Busy turns do not expire anything.
        self.expire(EXPIRED_SOCKETS);
        let interval_ns = nanoseconds(self.plan.interval);
        if now_ns.saturating_sub(self.part_began_ns()) >= interval_ns {
            self.part.length_ns = interval_ns;
            let (sender, number) = (self.part.sender, self.part.number + 1);
            let mut next = self
                .spares
                .try_recv()
                .unwrap_or_else(|_| Part::new(sender, 0));
            next.number = number;
            let _ = self.parts.send(std::mem::replace(&mut self.part, next));
        }
    }

    fn part_began_ns(&self) -> u64 {
        let began = self.plan.interval.saturating_mul(self.part.number);
        nanoseconds(self.plan.warmup + began)
    }

    /// Sends requests that are due, all from one socket and at most [`MAX_BURST`]; whether any was due.
    fn send_due(&mut self, now_ns: u64) -> io::Result<bool> {
        let Some(first) = self.queue.due(now_ns) else {
            return Ok(false);
        };
        self.open_sockets();
        let mut count = 0;
        let mut due = Some(first);
        while let Some(request) = due.filter(|next| next.socket == first.socket) {
            if self.note_sent(&request, now_ns)? {
                let datagram = self.queue.datagram(&request);
                self.requests.buffer(count)[..datagram.len()].copy_from_slice(datagram);
                self.requests.set_length(count, datagram.len());
                count += 1;
            }
            self.queue.advance();
            due = self.queue.due(now_ns).filter(|_| count < MAX_BURST);
        }
        self.unlooked.sent(count);
        self.transmit(first.socket as usize, count)?;
        Ok(true)
    }

    /// Remembers a request that is about to be sent; false if it must not be, because its reply could not be told from another.
    fn note_sent(&mut self, request: &Prepared, now_ns: u64) -> io::Result<bool> {
        let Self {
            connections,
            part,
            losses,
            ..
        } = self;
        let connection = &mut connections[request.socket as usize];
        let sent = Sent {
            tag: Tag {
                operation: request.operation,
                counts: request.intended_ns >= nanoseconds(self.plan.warmup),
                digest: request.digest,
            },
            intended_ns: request.intended_ns,
            at_ns: now_ns,
        };
        connection.note_drops(sent.tag.counts)?;
        let outstanding = &mut connection.outstanding;
        if request.is_marked && !outstanding.has_room() {
            losses.unsent += u64::from(sent.tag.counts);
            outstanding.skip(sent, |lost| note_lost(part, losses, &lost));
            return Ok(false);
        }
        if sent.tag.counts {
            part.note_sent(request, now_ns);
        }
        if request.is_marked {
            outstanding.open(sent, |lost| note_lost(part, losses, &lost));
        } else if !outstanding.open_unmarked(sent) {
            note_lost(part, losses, &sent);
        }
        let lag_ns = now_ns.saturating_sub(request.intended_ns);
        self.longest_lag_ns = self.longest_lag_ns.max(lag_ns);
        Ok(true)
    }

    /// Sends the first `count` datagrams of the batch. One that our kernel has no room for is given up when its time is
    /// over, like any other.
    fn transmit(&mut self, socket: usize, count: usize) -> io::Result<()> {
        let socket = &self.connections[socket].socket;
        let mut next = 0;
        while next < count {
            match self.requests.send(socket, next, count) {
                Ok(sent) => next += sent,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => next += 1,
                // What is excused was an earlier datagram's: this one has not been tried yet.
                Err(error) => excuse(&mut self.losses, self.shared, error)?,
            }
        }
        Ok(())
    }

    fn open_sockets(&mut self) {
        for socket in self.queue.take_opened() {
            self.connections.push(Connection {
                socket,
                outstanding: Outstanding::new(nanoseconds(self.plan.timeout)),
                dropped_before: Some(0),
            });
        }
    }

    /// Takes what has come, one batch a socket, until something is due that may be sent; whether any had come.
    ///
    /// The kernel goes through all sockets it names each time it is asked, so it is asked again only when all it has named
    /// before are done with.
    fn receive(&mut self) -> io::Result<bool> {
        if self.ready.is_empty() {
            self.ready.wait(&self.epoll, EpollTimeout::ZERO)?;
        }
        let mut has_received = false;
        while let Some(socket) = self.ready.next() {
            if socket >= self.connections.len() {
                // Opened for requests to come, and got what was meant for an earlier socket on its port.
                continue;
            }
            let received = self.receive_from(socket)?;
            has_received = true;
            self.unlooked.received(received);
            if self.unlooked.may_grow() && self.queue.due(self.clock.now_ns()).is_some() {
                break;
            }
        }
        if !has_received {
            self.unlooked = Unlooked(0);
        }
        Ok(has_received)
    }

    /// How many there were.
    fn receive_from(&mut self, socket: usize) -> io::Result<usize> {
        let socket_of_replies = &self.connections[socket].socket;
        let received = match self
            .replies
            .receive_up_to(MAX_REPLIES, socket_of_replies, Wait::Never)
        {
            Ok(received) => received,
            Err(error) => return excuse(&mut self.losses, self.shared, error).map(|()| 0),
        };
        let now_ns = self.clock.now_ns();
        self.shared.has_answer.store(true, Ordering::Relaxed);
        for index in 0..received {
            let datagram = self.replies.received(index);
            let length = datagram.len() as u64;
            let reply = Reply::read(datagram);
            let arrival_ns = self
                .clock
                .arrival_ns(self.replies.received_at(index), now_ns);
            if self.settle(socket, &reply, arrival_ns, now_ns) {
                self.part.bytes_received += length;
            }
        }
        Ok(received)
    }

    /// Whether the reply is counted: it belongs to a request that is, or, where it belongs to none, came after the warm-up.
    fn settle(&mut self, socket: usize, reply: &Reply, arrival_ns: u64, now_ns: u64) -> bool {
        let outstanding = &mut self.connections[socket].outstanding;
        let is_after_warmup = arrival_ns >= nanoseconds(self.plan.warmup);
        let count = u64::from(is_after_warmup);
        match outstanding.close(reply.thread, arrival_ns) {
            Verdict::Answer(sent) => {
                if sent.tag.counts {
                    // Nothing is answered before it is sent: the wall clock was set.
                    let is_possible = arrival_ns >= sent.at_ns;
                    let answered_ns = if is_possible { arrival_ns } else { now_ns };
                    self.note_answer(&sent, reply, answered_ns);
                }
                return sent.tag.counts;
            }
            Verdict::Overdue(sent) => {
                note_lost(&mut self.part, &mut self.losses, &sent);
                self.losses.late += u64::from(sent.tag.counts);
                return sent.tag.counts;
            }
            Verdict::Late => self.losses.late += count,
            Verdict::Duplicate => self.losses.duplicate += count,
            Verdict::Stray => self.losses.stray += count,
        }
        is_after_warmup
    }

    fn note_answer(&mut self, sent: &Sent<Tag>, reply: &Reply, answered_ns: u64) {
        self.part.note_answer(sent, reply, answered_ns);
        if let Some(counts) = reply.counts() {
            self.answers.note(sent.tag.digest, counts, answered_ns);
        }
    }

    /// Gives up what is too old on the next `sockets` sockets.
    fn expire(&mut self, sockets: usize) {
        let now_ns = self.clock.now_ns();
        let Self {
            connections,
            part,
            losses,
            ..
        } = self;
        for _ in 0..sockets.min(connections.len()) {
            self.expires_next = (self.expires_next + 1) % connections.len();
            let outstanding = &mut connections[self.expires_next].outstanding;
            outstanding.expire(now_ns, |sent| note_lost(part, losses, &sent));
        }
    }

    fn waiting(&self) -> usize {
        let waiting = |connection: &Connection| connection.outstanding.waiting();
        self.connections.iter().map(waiting).sum()
    }

    /// Sleeps while nothing is due soon.
    fn rest(&mut self) -> io::Result<()> {
        let due_in_ns = match self.queue.next_ns() {
            Some(due_ns) => due_ns.saturating_sub(self.clock.now_ns()),
            // The feed is behind: look again at once.
            None => 0,
        };
        let sleep_ns = due_in_ns
            .saturating_sub(WAKE_EARLY_NS)
            .min(LONGEST_SLEEP_NS);
        if sleep_ns >= NS_PER_MS {
            self.sleep(sleep_ns)
        } else {
            std::hint::spin_loop();
            Ok(())
        }
    }

    /// Sleeps for whole milliseconds, or until something has come.
    fn sleep(&mut self, nanoseconds: u64) -> io::Result<()> {
        let milliseconds = u16::try_from(nanoseconds / NS_PER_MS).unwrap_or(u16::MAX);
        self.ready.wait(&self.epoll, milliseconds.into())
    }

    /// What our own sockets have dropped since the warm-up.
    fn dropped(&self) -> io::Result<u64> {
        self.connections.iter().map(Connection::dropped).sum()
    }
}

impl Connection {
    /// To be called before each request. Each socket is asked when its time comes: asking thousands at once would take as long
    /// as sending hundreds of requests.
    fn note_drops(&mut self, counts: bool) -> io::Result<()> {
        if !counts {
            self.dropped_before = None;
        } else if self.dropped_before.is_none() {
            self.dropped_before = Some(socket::dropped(&self.socket)?);
        }
        Ok(())
    }

    /// Since its first request that counts.
    fn dropped(&self) -> io::Result<u64> {
        let Some(before) = self.dropped_before else {
            return Ok(0);
        };
        let dropped = socket::dropped(&self.socket)?;
        Ok(dropped.wrapping_sub(before).into())
    }
}

/// Sleeps at first, and then looks at the clock until the moment has come.
fn wait_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    thread::sleep(left.saturating_sub(Duration::from_nanos(WAKE_EARLY_NS)));
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

/// Requests whose replies may have come: what was sent, less what was received, since nothing was there to receive.
struct Unlooked(usize);

impl Unlooked {
    fn may_grow(&self) -> bool {
        self.0 < MAX_UNLOOKED
    }

    fn sent(&mut self, count: usize) {
        self.0 += count;
    }

    fn received(&mut self, count: usize) {
        self.0 = self.0.saturating_sub(count);
    }
}

/// Sockets that have something to receive.
struct Ready {
    events: Vec<EpollEvent>,
    count: usize,
    next: usize,
}

impl Ready {
    fn new() -> Self {
        Self {
            events: vec![EpollEvent::empty(); READY_SOCKETS],
            count: 0,
            next: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.next == self.count
    }

    /// Asks for new ones; forgets those it had.
    fn wait(&mut self, epoll: &Epoll, timeout: EpollTimeout) -> io::Result<()> {
        self.next = 0;
        self.count = match epoll.wait(&mut self.events, timeout) {
            // So it ends for a process that is stopped and continued.
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        Ok(())
    }

    /// The next one's number.
    fn next(&mut self) -> Option<usize> {
        let event = self.events[..self.count].get(self.next)?;
        self.next += 1;
        usize::try_from(event.data()).ok()
    }
}

fn excuse(losses: &mut Losses, shared: &Shared, error: io::Error) -> io::Result<()> {
    let refused = losses.refused;
    losses.excuse(error)?;
    if losses.refused > refused {
        shared.is_refused.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn note_lost(part: &mut Part, losses: &mut Losses, sent: &Sent<Tag>) {
    if sent.tag.counts {
        losses.lost += 1;
        part.tally.lost(sent.tag.operation);
    }
}

impl Part {
    fn note_sent(&mut self, request: &Prepared, now_ns: u64) {
        self.tally.sent(request.operation);
        self.bytes_sent += u64::from(request.length);
        let lag_ns = now_ns.saturating_sub(request.intended_ns);
        self.lag.record(Duration::from_nanos(lag_ns));
    }

    fn note_answer(&mut self, sent: &Sent<Tag>, reply: &Reply, answered_ns: u64) {
        let since = |moment_ns| Duration::from_nanos(answered_ns.saturating_sub(moment_ns));
        let (service, intended) = (since(sent.at_ns), since(sent.intended_ns));
        self.tally
            .count(sent.tag.operation, reply, service, Some(intended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_wait_are_never_too_many() {
        // Always late, one socket, and every request is answered at once.
        let (mut unlooked, mut queued, mut most) = (Unlooked(0), 0, 0);
        for _ in 0..10_000 {
            unlooked.sent(MAX_BURST);
            queued += MAX_BURST;
            most = most.max(queued);
            if !unlooked.may_grow() {
                let received = queued.min(MAX_REPLIES as usize);
                unlooked.received(received);
                queued -= received;
            }
        }
        assert!((MAX_UNLOOKED..2 * MAX_UNLOOKED).contains(&most), "{most}");
    }
}
