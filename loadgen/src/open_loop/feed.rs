//! Makes ready what is to be sent, ahead of its time and on a thread of its own, so that no file, no signature and no new socket
//! delays a request.
//!
//! Requests go to their sender in chunks through a bounded channel, in the order of their times. All requests of one
//! socket go to one sender, so feed and sender count them alike, and the `Thread`s follow from the count.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use pyzor_protocol::Operation;

use super::Plan;
use super::clock::nanoseconds;
use super::outstanding::Outstanding;
use super::sender::Shared;
use crate::answers::numbers::{DigestNumber, Numbers};
use crate::error::Error;
use crate::patience::Patience;
use crate::playlist::Playlist;
use crate::schedule::Schedule;
use crate::socket;
use crate::sources::{Place, Sources};

/// Chunks that are ready for one sender, at most.
pub(super) const MAX_CHUNKS: usize = 256;
/// A chunk is handed over when it has so many requests,
const CHUNK_REQUESTS: usize = 256;
/// or so many bytes. Only its last request can make it longer.
const CHUNK_BYTES: usize = 64 << 10;

/// Sending begins when the requests of so much time are ready,
const READY_AHEAD: Duration = Duration::from_secs(2);
/// or when making them ready has taken so long.
pub(super) const READY_PATIENCE: Duration = Duration::from_secs(1);

/// Requests of one sender, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) requests: Vec<Prepared>,
    /// The datagrams, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Sockets that the requests need and earlier chunks did not, in the order of their numbers.
    pub(super) opened: Vec<UdpSocket>,
}

/// A request that is ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared {
    /// When to send it, since the start.
    pub(super) intended_ns: u64,
    /// The sender's number of its socket.
    pub(super) socket: u32,
    /// Where its datagram begins, and how long it is.
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) operation: Option<Operation>,
    /// Whether it carries the `Thread` of its number.
    pub(super) is_marked: bool,
    pub(super) digest: DigestNumber,
}

/// What one run sends.
pub(super) struct Feed<'r> {
    plan: &'r Plan,
    playlist: &'r mut Playlist,
    patience: &'r Patience,
    shared: &'r Shared,
    schedule: Schedule,
    sources: Sources,
    digests: Numbers,
    /// How many marked requests each socket was given.
    marked: Vec<u64>,
    outlets: Vec<Outlet>,
    /// Told once, when the senders have all they need to begin.
    ready: Option<SyncSender<()>>,
}

/// The way to one sender.
pub(super) struct Outlet {
    /// What it gets next.
    chunk: Chunk,
    chunks: SyncSender<Chunk>,
    /// Where it learns of replies.
    replies: Arc<Epoll>,
}

/// What a feed did.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) sockets: u32,
    /// Different source addresses.
    pub(super) addresses: u32,
    /// The end of the trace came before the end of the time.
    pub(super) is_exhausted: bool,
    /// Of the digests whose answers matter.
    pub(super) digests: Numbers,
    /// Why there was nothing more to send, if that is why.
    pub(super) failure: Option<Error>,
}

/// What ended a trace that was in order.
enum Cut {
    /// Its own end, or nobody's interest in more.
    Trace,
    /// The end of the time.
    Time,
}

/// Nobody wants any more requests.
struct Abandoned;

impl<'r> Feed<'r> {
    pub(super) fn new(
        plan: &'r Plan,
        playlist: &'r mut Playlist,
        patience: &'r Patience,
        shared: &'r Shared,
        outlets: Vec<Outlet>,
        ready: SyncSender<()>,
    ) -> Self {
        Self {
            plan,
            playlist,
            patience,
            shared,
            schedule: Schedule::new(plan.pace, plan.seed),
            sources: Sources::new(plan.max_sockets, plan.prefix),
            digests: Numbers::new(&plan.answers),
            marked: Vec::new(),
            outlets,
            ready: Some(ready),
        }
    }

    /// Prepares requests until the trace, the time or the interest in them ends, or the trace turns out to be damaged: what was
    /// prepared before is sent all the same.
    pub(super) fn run(mut self) -> Fed {
        let prepared = self.prepare_all();
        self.hand_over_all();
        let is_exhausted = !matches!(prepared, Ok(Cut::Time));
        // A trace that was not waited for any longer is in order.
        let failure = prepared.err().filter(|_| !self.patience.is_over());
        Fed {
            sockets: self.sources.sockets(),
            addresses: self.sources.addresses(),
            is_exhausted,
            digests: self.digests,
            failure,
        }
    }

    fn prepare_all(&mut self) -> Result<Cut, Error> {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let began = Instant::now();
        while let Some(event) = self.playlist.next()? {
            if event.begins_round {
                self.schedule.next_round();
            }
            let intended = self.schedule.next(event.event.at);
            if self.plan.length().is_some_and(|length| intended >= length) {
                return Ok(Cut::Time);
            }
            let socket = self.place(event.event.source)?;
            let time = started.saturating_add(intended).as_secs();
            let sender = self.prepare(socket, &event.event.datagram, intended, time);
            if self.outlets[sender].chunk.is_full() && self.hand_over(sender).is_err() {
                break;
            }
            let is_enough = intended >= READY_AHEAD || began.elapsed() >= READY_PATIENCE;
            if self.ready.is_some() && is_enough {
                self.hand_over_all();
            }
        }
        Ok(Cut::Trace)
    }

    /// The socket of `source`, numbered over all senders.
    fn place(&mut self, source: crate::trace::Source) -> Result<u32, Error> {
        match self.sources.place(source) {
            Place::Socket(socket) => Ok(socket),
            Place::NewSocket(socket, address) => {
                let opened = socket::connect_from(address, self.plan.target).map_err(|source| {
                    Error::Source {
                        address,
                        target: self.plan.target,
                        source,
                    }
                })?;
                socket::note_arrivals(&opened)?;
                self.marked.push(0);
                let (sender, number) = self.sender_of(socket);
                self.outlets[sender].open(opened, number)?;
                Ok(socket)
            }
        }
    }

    /// Whose it is, and its number there.
    fn sender_of(&self, socket: u32) -> (usize, u32) {
        let senders = as_u32(self.outlets.len());
        ((socket % senders) as usize, socket / senders)
    }

    /// Adds the request to its sender's chunk; which sender that is.
    fn prepare(&mut self, socket: u32, datagram: &[u8], at: Duration, time: u64) -> usize {
        let (sender, number_at_sender) = self.sender_of(socket);
        let chunk = &mut self.outlets[sender].chunk;
        let number = &mut self.marked[socket as usize];
        let thread = Outstanding::<()>::thread(*number);
        let start = chunk.bytes.len();
        let rewriter = self.playlist.rewriter();
        let rewritten = rewriter.append(&mut chunk.bytes, datagram, thread, time);
        *number += u64::from(rewritten.is_marked);
        chunk.requests.push(Prepared {
            intended_ns: nanoseconds(at),
            socket: number_at_sender,
            start: as_u32(start),
            length: as_u32(chunk.bytes.len() - start),
            operation: rewritten.operation,
            is_marked: rewritten.is_marked,
            digest: self.digests.of(rewritten.digest),
        });
        sender
    }

    /// Whatever is ready, so that sending can begin.
    fn hand_over_all(&mut self) {
        for sender in 0..self.outlets.len() {
            // Whoever has no interest any more ends the loop at the next full chunk.
            let _ = self.hand_over(sender);
        }
        self.tell_ready();
    }

    /// Waits until the sender has room, which it can only have once all were told to begin.
    fn hand_over(&mut self, sender: usize) -> Result<(), Abandoned> {
        let outlet = &mut self.outlets[sender];
        match outlet.chunks.try_send(std::mem::take(&mut outlet.chunk)) {
            Ok(()) => {
                self.shared.has_requests.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(TrySendError::Full(chunk)) => {
                self.tell_ready();
                // What others have to send must not wait here with it.
                for outlet in &mut self.outlets {
                    if !outlet.chunk.requests.is_empty() {
                        let chunk = std::mem::take(&mut outlet.chunk);
                        outlet.chunks.send(chunk).map_err(|_| Abandoned)?;
                    }
                }
                self.outlets[sender]
                    .chunks
                    .send(chunk)
                    .map_err(|_| Abandoned)
            }
            Err(TrySendError::Disconnected(_)) => Err(Abandoned),
        }
    }

    fn tell_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.try_send(());
        }
    }
}

impl Outlet {
    pub(super) fn new(chunks: SyncSender<Chunk>, replies: Arc<Epoll>) -> Self {
        Self {
            chunk: Chunk::default(),
            chunks,
            replies,
        }
    }

    /// Hands over a new socket, with the sender's number for it.
    fn open(&mut self, socket: UdpSocket, number: u32) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number.into());
        self.replies.add(&socket, event)?;
        self.chunk.opened.push(socket);
        Ok(())
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.requests.len() >= CHUNK_REQUESTS || self.bytes.len() >= CHUNK_BYTES
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "lengths within a chunk and numbers of senders are far below 2^32"
)]
fn as_u32(number: usize) -> u32 {
    number as u32
}
