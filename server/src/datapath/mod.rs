//! Between the sockets and the worker: datagrams in, replies out, in batches.
//!
//! Two ways to the kernel show the same face, [`Datapath`]: `uring`, a multishot receive on a ring of the worker's
//! own, and `mmsg`, `recvmmsg` and `sendmmsg`, for systems that refuse `io_uring`. [`choose`] decides by trying, and
//! [`open`] starts the runtime that belongs to the choice.
//!
//! Invariants:
//! - a datapath belongs to one thread, which creates, uses and drops it;
//! - no datagram is taken that a turn does not hand to the handler, and every buffer goes back to the kernel;
//! - nothing here allocates after the start, and a turn costs at most a system call or two a batch.
//!
//! | file | job |
//! | --- | --- |
//! | `uring`, `mmsg` | the two ways to the kernel |
//! | `reply_path` | where a reply goes, kept as long as it waits |
//! | `waker` | how other threads end a worker's wait |
//! | `reply_arena` | where a batch of replies is written |
//! | `socket_name`, `control_data` | addresses and control data as the kernel lays them out |

mod control_data;
mod mmsg;
mod reply_arena;
mod reply_path;
mod socket_name;
#[cfg(test)]
mod tests;
mod uring;
mod waker;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::SystemTime;

use nix::errno::Errno;
use pyzor_protocol::MAX_REPLY_BYTES;

pub use reply_path::ReplyPath;
pub use waker::Waker;

use crate::config::IoChoice;
use crate::error::Error;
use crate::socket::WorkerSockets;

/// What answers datagrams: implemented by the worker.
pub trait Handler {
    /// Some datagrams have just been taken from the kernel, and follow one by one: what is the same for all of them, like
    /// the time, is looked at here.
    fn begin_batch(&mut self) {}

    /// Answers one datagram: `Some(n)` sends `reply[..n]` back to where it came from, at the end of the turn.
    ///
    /// What `reply` holds before is arbitrary: parts of earlier replies.
    fn datagram(
        &mut self,
        datagram: Received<'_>,
        reply: &mut [u8; MAX_REPLY_BYTES],
    ) -> Option<usize>;
}

/// A datagram as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its first [`MAX_DATAGRAM_BYTES`](pyzor_protocol::MAX_DATAGRAM_BYTES).
    pub bytes: &'a [u8],
    /// Who sent it, and the way back.
    pub path: ReplyPath,
    /// When the kernel received it, on sockets that note that; see [`Listening::note_arrivals`](crate::socket::Listening).
    pub arrived: Option<SystemTime>,
}

/// Datagrams the kernel dropped at one socket; see [`ListenSocket::kernel_drops`](crate::socket::ListenSocket).
pub(crate) fn dropped_at(socket: BorrowedFd<'_>) -> io::Result<u32> {
    mmsg::dropped(socket)
}

/// What happened to a datapath that its handler does not see. All count up from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams longer than is read of them.
    pub datagrams_cut: u64,
    /// Replies the kernel refused to send.
    pub send_errors: u64,
    /// Receives that failed, and datagrams without a usable sender address.
    pub receive_errors: u64,
    /// Times more datagrams came in at once than there are buffers; they wait in the socket then.
    pub buffers_exhausted: u64,
    /// What the kernel said when it last refused to send a reply.
    pub last_send_error: Option<Errno>,
    /// What it said when a receive last failed.
    pub last_receive_error: Option<Errno>,
}

impl Counters {
    fn count_send_errors(&mut self, refused: u64, error: Option<Errno>) {
        self.send_errors += refused;
        self.last_send_error = error.or(self.last_send_error);
    }

    fn count_receive_error(&mut self, error: Errno) {
        self.receive_errors += 1;
        self.last_receive_error = Some(error);
    }
}

/// One worker's way to its sockets.
///
/// The worker loops over: [`turn`](Self::turn), what [`send_later`](Self::send_later) has to send, and, when the turn
/// brought nothing, [`arrived`](Self::arrived). It looks at what its [`Waker`] announces after a turn and before it
/// waits, never between the two the other way round.
pub trait Datapath {
    /// Takes what has arrived, up to a bound, has it answered and sends the answers; how many datagrams it took.
    ///
    /// Returns 0 only when nothing had arrived. Never waits.
    ///
    /// # Errors
    /// When the kernel no longer serves the sockets; no single datagram or reply causes one.
    fn turn(&mut self, handler: &mut impl Handler) -> io::Result<usize>;

    /// Queues a reply that came late; it leaves with the next turn, flush or wait. Replies longer than
    /// [`MAX_REPLY_BYTES`] are cut.
    ///
    /// # Errors
    /// As [`turn`](Self::turn): a full queue is sent at once.
    fn send_later(&mut self, path: &ReplyPath, reply: &[u8]) -> io::Result<()>;

    /// Sends what [`send_later`](Self::send_later) queued.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    fn flush(&mut self) -> io::Result<()>;

    /// Waits until a turn may find something or the worker's [`Waker`] has been called. May be dropped at any point.
    ///
    /// It may keep the thread from its runtime for a millisecond, and may return without having given way to it.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    fn arrived(&mut self) -> impl Future<Output = io::Result<()>>;

    /// Discards what has queued up in the sockets; how many datagrams that was.
    ///
    /// Under a load that outruns even this it stops after [`MAX_DRAINED_DATAGRAMS`].
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    fn drain(&mut self) -> io::Result<u64> {
        let mut drained = 0;
        while drained < MAX_DRAINED_DATAGRAMS {
            match self.turn(&mut Discard)? {
                0 => break,
                taken => drained += taken as u64,
            }
        }
        Ok(drained)
    }

    /// Datagrams the kernel dropped because a socket's receive buffer was full, since the start. Costs a system call a
    /// socket.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn kernel_drops(&self) -> io::Result<u64>;

    /// What has happened so far.
    fn counters(&self) -> Counters;
}

/// The most datagrams [`Datapath::drain`] discards: more than the receive buffers of a worker's sockets hold, so that
/// all that queued while a worker was away is among them.
pub const MAX_DRAINED_DATAGRAMS: u64 = 1 << 17;

struct Discard;

impl Handler for Discard {
    fn datagram(&mut self, _: Received<'_>, _: &mut [u8; MAX_REPLY_BYTES]) -> Option<usize> {
        None
    }
}

/// A way to the kernel that works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// `io_uring`.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

impl Io {
    /// As the `--io` option spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// Decides how workers talk to the kernel, by trying every operation that they need for it.
///
/// # Errors
/// When what was asked for does not work here. That `io_uring` does not is one warning with [`IoChoice::Auto`].
pub fn choose(choice: IoChoice) -> Result<Io, Error> {
    match choice {
        IoChoice::Mmsg => try_out(Io::Mmsg),
        IoChoice::Uring => try_out(Io::Uring),
        IoChoice::Auto => try_out(Io::Uring).or_else(|reason| {
            tracing::warn!("using recvmmsg and sendmmsg: {reason}");
            try_out(Io::Mmsg)
        }),
    }
}

fn try_out(io: Io) -> Result<Io, Error> {
    let tried = match io {
        Io::Uring => uring::try_out(),
        Io::Mmsg => mmsg::try_out(),
    };
    tried.map(|()| io).map_err(|source| Error::IoRefused {
        io: io.name(),
        source,
    })
}

/// What a worker does with its datapath: a closure that is generic over it.
pub trait Serve {
    /// What it ends with.
    type Output;

    /// Serves until it is time to stop.
    fn serve(self, datapath: impl Datapath) -> impl Future<Output = Self::Output>;
}

/// A worker's datapath that receives, on the runtime it needs.
pub struct Opened<'a>(Hosted<'a>);

enum Hosted<'a> {
    Uring(uring::Hosted<'a>),
    Mmsg(mmsg::Hosted<'a>),
}

/// Starts the runtime that `io` needs on this thread, and begins to receive from `sockets`.
///
/// Any thread may call `waker` to end the worker's waits.
///
/// # Errors
/// When the runtime or the datapath cannot be set up.
pub fn open(io: Io, sockets: &WorkerSockets, waker: Waker) -> io::Result<Opened<'_>> {
    Ok(Opened(match io {
        Io::Uring => Hosted::Uring(uring::Hosted::open(sockets, waker)?),
        Io::Mmsg => Hosted::Mmsg(mmsg::Hosted::open(sockets, waker)?),
    }))
}

impl Opened<'_> {
    /// Serves until `serve` ends.
    pub fn serve<S: Serve>(self, serve: S) -> S::Output {
        match self.0 {
            Hosted::Uring(hosted) => hosted.serve(serve),
            Hosted::Mmsg(hosted) => hosted.serve(serve),
        }
    }
}
