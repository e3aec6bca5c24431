//! The `io_uring` datapath: one ring for each worker, a multishot receive into provided buffers for each socket, and
//! sends that complete while they are submitted. Under load a turn is one system call.
//!
//! The ring belongs to the worker's thread alone, beside the one that `tokio_uring` runs on, whose runtime waits for it
//! through an eventfd. `tokio_uring` appears in this module only; its own UDP socket has neither multishot receives
//! nor buffer rings.
//!
//! | file | job |
//! | --- | --- |
//! | `ring` | setting it up, entering the kernel |
//! | `receive`, `receive_buffers` | datagrams in |
//! | `send` | replies out |
//! | `completion_tag` | which of them a completion is about |
//! | `wakeup` | how the runtime learns of completions |
//! | `trial`, `refusal` | whether it all works here, and why not |

#![allow(
    unsafe_code,
    reason = "the kernel reads and writes memory that ring entries point to"
)]

mod completion_tag;
mod receive;
mod receive_buffers;
mod refusal;
mod ring;
mod send;
mod trial;
mod wakeup;

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{cqueue, squeue};
use nix::errno::Errno;
use pyzor_protocol::MAX_REPLY_BYTES;

use self::completion_tag::CompletionTag;
use self::receive::Receive;
use self::receive_buffers::{ReceiveBuffers, Taken};
use self::refusal::refused;
use self::ring::{Ring, has_ended, queue_full};
use self::send::SendQueue;
use self::wakeup::{WakerWatch, Wakeup};
use super::{Counters, Datapath, Handler, Received, ReplyPath, Serve, Waker};
use crate::socket::WorkerSockets;

pub(super) use self::trial::try_out;

/// How long an idle worker waits on its ring before it gives its thread back to the runtime, as long as datagrams keep
/// coming that close to each other. Waking from the ring itself is several microseconds cheaper than through eventfd,
/// epoll and the runtime; the bound is how late the runtime's own timers may get.
const RING_WAIT: Duration = Duration::from_millis(1);

/// How often a turn looks for datagrams before it says that there are none.
const ROUNDS_WITHOUT_DATAGRAMS: usize = 2;

/// The datapath on a `tokio_uring` runtime of its own.
pub(super) struct Hosted<'a> {
    // Dropped in this order: the runtime watches the ring.
    datapath: Uring<'a>,
    runtime: tokio_uring::Runtime,
}

impl<'a> Hosted<'a> {
    /// Starts the runtime on this thread and has a ring receive from `sockets`.
    pub(super) fn open(sockets: &'a WorkerSockets, waker: Waker) -> io::Result<Self> {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())
            .map_err(refused("start a runtime on a ring"))?;
        let datapath = runtime.block_on(async { Uring::open(sockets, waker) })?;
        Ok(Self { datapath, runtime })
    }

    pub(super) fn serve<S: Serve>(self, serve: S) -> S::Output {
        self.runtime.block_on(serve.serve(self.datapath))
    }
}

/// A worker's ring inside its runtime.
struct Uring<'a> {
    lines: Lines<'a>,
    wakeup: Wakeup,
    /// Whether the ring announces its completions; only while nobody looks for them.
    is_announcing: bool,
    /// Whether the last wait was short, so that the next one is spent on the ring.
    is_brisk: bool,
}

impl Datapath for Uring<'_> {
    fn turn(&mut self, handler: &mut impl Handler) -> io::Result<usize> {
        self.fall_silent();
        self.lines.turn(handler)
    }

    fn send_later(&mut self, path: &ReplyPath, reply: &[u8]) -> io::Result<()> {
        self.lines.send_later(path, reply)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }

    async fn arrived(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.lines.has_news() {
            return Ok(());
        }
        if self.is_brisk {
            self.is_brisk = self.lines.ring.wait(RING_WAIT)?;
            if self.is_brisk {
                return Ok(());
            }
        }
        let parked = Instant::now();
        self.is_announcing = true;
        self.lines.ring.announce();
        while !self.lines.has_news() {
            self.wakeup.announced().await?;
        }
        self.fall_silent();
        self.is_brisk = parked.elapsed() < RING_WAIT;
        Ok(())
    }

    fn kernel_drops(&self) -> io::Result<u64> {
        self.lines
            .sockets
            .iter()
            .map(|s| s.kernel_drops().map(u64::from))
            .sum()
    }

    fn counters(&self) -> Counters {
        self.lines.exchange.counters
    }
}

impl<'a> Uring<'a> {
    fn open(sockets: &'a WorkerSockets, waker: Waker) -> io::Result<Self> {
        let mut lines = Lines::open(sockets, waker)?;
        let wakeup =
            Wakeup::register(&mut lines.ring).map_err(refused("have a ring announce datagrams"))?;
        Ok(Self {
            lines,
            wakeup,
            is_announcing: false,
            is_brisk: false,
        })
    }

    fn fall_silent(&mut self) {
        if self.is_announcing {
            self.lines.ring.keep_silent();
            self.is_announcing = false;
        }
    }
}

/// The ring with all that its entries point to: everything but the waiting.
struct Lines<'a> {
    // Dropped in this order: the ring lets go of what its entries point to before that goes.
    ring: Ring,
    exchange: Exchange,
    sockets: &'a WorkerSockets,
    waker_watch: WakerWatch,
}

/// What comes in and what goes out.
struct Exchange {
    buffers: ReceiveBuffers,
    receives: Vec<Receive>,
    sends: SendQueue,
    counters: Counters,
}

impl<'a> Lines<'a> {
    fn open(sockets: &'a WorkerSockets, waker: Waker) -> io::Result<Self> {
        let files: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let ring = Ring::new(&files)?;
        let buffers = ReceiveBuffers::register(ring.uring())
            .map_err(refused("register a ring of receive buffers"))?;
        let receives = (0..)
            .zip(sockets)
            .map(|(i, s)| Receive::new(i, s))
            .collect();
        let exchange = Exchange {
            buffers,
            receives,
            sends: SendQueue::new(),
            counters: Counters::default(),
        };
        let mut lines = Self {
            ring,
            exchange,
            sockets,
            waker_watch: WakerWatch::new(waker),
        };
        lines.rearm()?;
        lines.submit().map_err(refused("start receiving"))?;
        Ok(lines)
    }

    fn has_news(&mut self) -> bool {
        self.waker_watch.waker().has_rung() || self.ring.has_news()
    }

    fn turn(&mut self, handler: &mut impl Handler) -> io::Result<usize> {
        self.waker_watch.waker().hear();
        // Completions of other kinds, or of receives that had to be rearmed, may stand before the datagrams.
        for _ in 0..ROUNDS_WITHOUT_DATAGRAMS {
            let taken = self.round(handler)?;
            if taken > 0 {
                return Ok(taken);
            }
        }
        Ok(0)
    }

    fn round(&mut self, handler: &mut impl Handler) -> io::Result<usize> {
        if !self.ring.has_completions() && self.ring.has_news() {
            self.submit()?;
        }
        let taken = self.take_completions(handler)?;
        self.rearm()?;
        self.flush()?;
        Ok(taken)
    }

    /// Takes all completions there are, unless their replies fill the batch; how many datagrams were among them.
    fn take_completions(&mut self, handler: &mut impl Handler) -> io::Result<usize> {
        let (mut submissions, mut completions) = self.ring.queues();
        if !completions.is_empty() {
            handler.begin_batch();
        }
        let mut taken = 0;
        while self.exchange.sends.has_room() {
            let Some(completion) = completions.next() else {
                break;
            };
            match CompletionTag::decode(completion.user_data()) {
                Some(CompletionTag::Receive { listener }) => {
                    taken += usize::from(Taken::is_in(&completion));
                    if let Some(reply) = self.exchange.answer(listener, &completion, handler) {
                        // SAFETY: the send queue keeps what the entry points to until the batch is submitted.
                        unsafe { submissions.push(&reply) }.map_err(|_| queue_full())?;
                    }
                }
                Some(CompletionTag::Send) => {
                    let error = Errno::from_raw(-completion.result());
                    self.exchange.counters.count_send_errors(1, Some(error));
                }
                Some(CompletionTag::Wake) => self.waker_watch.is_ended = true,
                None => {}
            }
        }
        self.exchange.buffers.publish();
        Ok(taken)
    }

    /// Queues every receive that has ended again.
    fn rearm(&mut self) -> io::Result<()> {
        let receives = self.exchange.receives.iter_mut();
        for receive in receives.filter(|receive| receive.is_ended) {
            // SAFETY: the entry points to the receive's boxed layout, which the kernel reads when it takes the entry.
            // Both live as long as the ring.
            unsafe { self.ring.push(&receive.entry()) }?;
            receive.is_ended = false;
        }
        if self.waker_watch.is_ended {
            // SAFETY: the entry points to the watch's boxed room, which nobody else touches and which lives as long as
            // the ring.
            unsafe { self.ring.push(&self.waker_watch.entry()) }?;
            self.waker_watch.is_ended = false;
        }
        Ok(())
    }

    fn send_later(&mut self, path: &ReplyPath, reply: &[u8]) -> io::Result<()> {
        let sends = &mut self.exchange.sends;
        if let Some(room) = sends.room() {
            let length = reply.len().min(MAX_REPLY_BYTES);
            room[..length].copy_from_slice(&reply[..length]);
            let entry = sends.entry(path, length);
            // SAFETY: the send queue keeps what the entry points to until the batch is submitted.
            unsafe { self.ring.push(&entry) }?;
        }
        if self.exchange.sends.has_room() {
            Ok(())
        } else {
            self.submit()
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.ring.has_entries() {
            self.submit()
        } else {
            Ok(())
        }
    }

    /// Enters the kernel; afterwards the batch of replies is sent and its memory free.
    fn submit(&mut self) -> io::Result<()> {
        self.ring.enter()?;
        self.exchange.sends.clear();
        Ok(())
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        // The ring would cancel its receives only some time after it is closed, and the buffers go right after it.
        if let Err(error) = self.ring.cancel_all() {
            tracing::warn!("cannot end the receives of an io_uring: {error}");
        }
    }
}

impl Exchange {
    /// Has the datagram of one completion answered, if it brings one; the entry that sends the answer.
    fn answer(
        &mut self,
        listener: u8,
        completion: &cqueue::Entry,
        handler: &mut impl Handler,
    ) -> Option<squeue::Entry> {
        let receive = &mut self.receives[usize::from(listener)];
        receive.is_ended |= has_ended(completion);
        let Some(buffer) = Taken::from_completion(completion) else {
            self.counters.count_failed_receive(completion);
            return None;
        };
        let reply = if let Some(datagram) = receive.parse(self.buffers.filled(&buffer)) {
            self.counters.datagrams_cut += u64::from(datagram.is_cut);
            reply_to(datagram.received, handler, &mut self.sends)
        } else {
            self.counters.receive_errors += 1;
            None
        };
        self.buffers.give_back(buffer);
        reply
    }
}

fn reply_to(
    datagram: Received<'_>,
    handler: &mut impl Handler,
    sends: &mut SendQueue,
) -> Option<squeue::Entry> {
    let length = handler.datagram(datagram, sends.room()?)?;
    Some(sends.entry(&datagram.path, length))
}

impl Counters {
    fn count_failed_receive(&mut self, completion: &cqueue::Entry) {
        if completion.result() == -libc::ENOBUFS {
            self.buffers_exhausted += 1;
        } else {
            self.count_receive_error(Errno::from_raw(-completion.result()));
        }
    }
}
