//! The fallback datapath: `recvmmsg` and `sendmmsg` on a plain tokio runtime, where `io_uring` is refused.
//!
//! A datagram's way: `receive_batch`, the worker, `send_batch`. `socket_memory` asks a socket what it dropped.

#![allow(
    unsafe_code,
    reason = "recvmmsg and sendmmsg have no wrapper that reuses its buffers"
)]

mod receive_batch;
mod send_batch;
mod socket_memory;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::task::{Context, Poll};

use nix::errno::Errno;
use pyzor_protocol::MAX_REPLY_BYTES;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};

use self::receive_batch::ReceiveBatch;
use self::send_batch::SendBatch;
pub(super) use self::socket_memory::dropped;
use super::reply_path::Listener;
use super::waker::RING_BYTES;
use super::{Counters, Datapath, Handler, ReplyPath, Serve, Waker};
use crate::socket::{ListenSocket, WorkerSockets};

/// The datapath on a tokio runtime of its own.
pub(super) struct Hosted<'a> {
    // Dropped in this order: the runtime watches the sockets.
    datapath: Mmsg<'a>,
    runtime: Runtime,
}

impl<'a> Hosted<'a> {
    /// Starts the runtime on this thread and has it watch `sockets`.
    pub(super) fn open(sockets: &'a WorkerSockets, waker: Waker) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let datapath = runtime.block_on(async { Mmsg::open(sockets, waker) })?;
        Ok(Self { datapath, runtime })
    }

    pub(super) fn serve<S: Serve>(self, serve: S) -> S::Output {
        self.runtime.block_on(serve.serve(self.datapath))
    }
}

/// Makes both system calls with nothing to do, on a socket that nobody knows: an error is the system's refusal.
///
/// # Errors
/// The call that is refused, and what the system said.
pub(super) fn try_out() -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let refused = |call: &'static str| {
        move |error: io::Error| io::Error::new(error.kind(), format!("{call} is refused: {error}"))
    };
    match ReceiveBatch::new().receive(socket.as_fd()) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        other => return other.map(drop).map_err(refused("recvmmsg")),
    }
    send_batch::send_from(socket.as_fd(), &mut [])
        .map(drop)
        .map_err(refused("sendmmsg"))
}

/// A worker's sockets and one batch in each direction.
struct Mmsg<'a> {
    sockets: Vec<AsyncFd<BorrowedFd<'a>>>,
    listeners: Vec<Listener>,
    bell: AsyncFd<Waker>,
    received: ReceiveBatch,
    replies: SendBatch,
    counters: Counters,
}

impl<'a> Mmsg<'a> {
    fn open(sockets: &'a WorkerSockets, waker: Waker) -> io::Result<Self> {
        waker.sound().set_nonblocking(true)?;
        Ok(Self {
            listeners: (0..).zip(sockets).map(listener).collect(),
            sockets: sockets
                .iter()
                .map(|socket| readable(socket.as_fd()))
                .collect::<io::Result<_>>()?,
            bell: readable(waker)?,
            received: ReceiveBatch::new(),
            replies: SendBatch::new(),
            counters: Counters::default(),
        })
    }
}

fn listener((index, socket): (u8, &ListenSocket)) -> Listener {
    Listener {
        index,
        port: socket.address().port(),
    }
}

fn readable<T: NamesFile>(file: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: what `file` names stays open and the same for as long as it lives.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.map_err(io::Error::from)
}

/// What names one open file all its life.
trait NamesFile: AsRawFd {}

impl NamesFile for BorrowedFd<'_> {}
impl NamesFile for Waker {}

impl Datapath for Mmsg<'_> {
    fn turn(&mut self, handler: &mut impl Handler) -> io::Result<usize> {
        self.bell.get_ref().hear();
        self.flush()?;
        let mut taken = 0;
        for listener in 0..self.sockets.len() {
            taken += self.serve_socket(listener, handler)?;
        }
        Ok(taken)
    }

    fn send_later(&mut self, path: &ReplyPath, reply: &[u8]) -> io::Result<()> {
        if self.replies.is_for_other_than(path.listener()) {
            self.flush()?;
        }
        if let Some(room) = self.replies.room() {
            let length = reply.len().min(MAX_REPLY_BYTES);
            room[..length].copy_from_slice(&reply[..length]);
            self.replies.keep(path, length);
        }
        if self.replies.has_room() {
            Ok(())
        } else {
            self.flush()
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(listener) = self.replies.listener() {
            let socket = *self.sockets[listener].get_ref();
            let (refused, error) = self.replies.send(socket);
            self.counters.count_send_errors(refused, error);
        }
        Ok(())
    }

    async fn arrived(&mut self) -> io::Result<()> {
        self.flush()?;
        std::future::poll_fn(|context| self.poll_arrived(context)).await
    }

    fn kernel_drops(&self) -> io::Result<u64> {
        let drops = |socket: &AsyncFd<BorrowedFd<'_>>| dropped(*socket.get_ref());
        self.sockets.iter().map(|s| drops(s).map(u64::from)).sum()
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

impl Mmsg<'_> {
    /// Takes one batch from one socket and answers it.
    fn serve_socket(&mut self, listener: usize, handler: &mut impl Handler) -> io::Result<usize> {
        let taken = match self.receive(listener) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => {
                // Most are an earlier datagram's, and the socket goes on. The worker sees to those that stay.
                let error = error.raw_os_error().unwrap_or_default();
                self.counters.count_receive_error(Errno::from_raw(error));
                return Ok(0);
            }
            Ok(taken) => taken,
        };
        handler.begin_batch();
        for index in 0..taken {
            self.answer(listener, index, handler)?;
        }
        self.flush()?;
        Ok(taken)
    }

    fn receive(&mut self, listener: usize) -> io::Result<usize> {
        let socket = &self.sockets[listener];
        let mut is_tried = false;
        let received = socket.try_io(Interest::READABLE, |socket| {
            is_tried = true;
            self.received.receive(*socket)
        });
        if is_tried {
            return received;
        }
        // The runtime has not heard of anything here, but it may not have listened for a while.
        self.received.receive(*socket.get_ref())
    }

    fn answer(
        &mut self,
        listener: usize,
        index: usize,
        handler: &mut impl Handler,
    ) -> io::Result<()> {
        let listener = self.listeners[listener];
        let Some((datagram, is_cut)) = self.received.datagram(listener, index) else {
            self.counters.receive_errors += 1;
            return Ok(());
        };
        self.counters.datagrams_cut += u64::from(is_cut);
        let Some(room) = self.replies.room() else {
            return Ok(());
        };
        if let Some(length) = handler.datagram(datagram, room) {
            self.replies.keep(&datagram.path, length);
        }
        if self.replies.has_room() {
            Ok(())
        } else {
            self.flush()
        }
    }

    fn poll_arrived(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Poll::Ready(ring) = self.bell.poll_read_ready(context) {
            let mut room = [0; RING_BYTES as usize];
            let _ = ring?.try_io(|bell| bell.get_ref().sound().recv(&mut room));
        }
        if self.bell.get_ref().has_rung() {
            return Poll::Ready(Ok(()));
        }
        for socket in &self.sockets {
            if let Poll::Ready(readable) = socket.poll_read_ready(context) {
                return Poll::Ready(readable.map(drop));
            }
        }
        Poll::Pending
    }
}
