//! Recording: the requests that arrive, written to a pcap file that tcpdump, Wireshark and the load generator read.
//!
//! A worker copies each datagram into a queue of its own, so that recording costs it a copy: no lock, no system call, no
//! allocation; what does not fit is counted and missing. A thread writes. When the disk fails the thread pauses the
//! recording and says so, and nothing else happens. While recording is off a datagram costs the workers one branch.
//!
//! What a packet says:
//! - its time is when the kernel received it, however long it waited for a worker. Packets are in the order of time, unless a
//!   worker let them wait for longer than others, or for less on another of its sockets;
//! - its addresses and ports are those of the sender, unless replaced (`pseudonyms` says by what, and what stays), and those
//!   that were asked; the rest of its headers is made up;
//! - its data are the first [`MAX_DATAGRAM_BYTES`](pyzor_protocol::MAX_DATAGRAM_BYTES) of the datagram.
//!
//! Datagrams that are never answered are recorded, too; those discarded unread because the worker was away are not.
//!
//! | file | job |
//! | --- | --- |
//! | `tap` | a worker's end, and which sources are recorded |
//! | `queue` | the way to the thread |
//! | `order` | all queues in the order of time |
//! | `writer` | the thread: switching on and off, failures |
//! | `session` | what is recorded between the two |
//! | `pseudonyms` | sources and users replaced |
//! | `packet` | a packet as the file has it |
//! | `file` | the file: its size, its predecessors, room on the disk |

mod file;
mod order;
mod packet;
mod pseudonyms;
mod queue;
mod session;
mod tap;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

pub use tap::RecordTap;

use crate::config::RecordConfig;
use crate::error::Error;
use crate::metrics::{Counter, Metrics};
use order::Queues;
use pseudonyms::HashKey;
use tap::Sample;
use writer::Writer;

/// How long the end of the process waits for a disk that takes nothing of what was recorded.
const NO_PROGRESS_AT_MOST: Duration = Duration::from_secs(2);

/// The thread that records, whether it is switched on or off.
pub struct Recorder {
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended; nothing is ever sent.
    ended: Receiver<()>,
    metrics: Metrics,
}

/// What the thread is asked to do besides recording.
#[derive(Default)]
struct Orders {
    is_wanted: AtomicBool,
    reopen: AtomicBool,
    finish: AtomicBool,
}

impl Recorder {
    /// Starts the thread, and the recording if it is to start on; the second part are the workers' ends, in their
    /// order. `listeners` are the addresses of each worker's sockets.
    ///
    /// # Errors
    /// When the file cannot be created, or the thread cannot be started.
    pub fn start(
        config: &RecordConfig,
        listeners: &[SocketAddr],
        metrics: &Metrics,
    ) -> Result<(Self, Vec<RecordTap>), Error> {
        let is_on = Arc::new(AtomicBool::new(false));
        let sample = Sample::new(HashKey::draw()?, config.share);
        let listeners: Arc<[SocketAddr]> = listeners.into();
        let ends = metrics.workers().map(|metrics| {
            let (queue_in, queue_out) = queue::queue();
            let tap = RecordTap {
                queue: queue_in,
                is_on: Arc::clone(&is_on),
                sample: sample.clone(),
                listeners: Arc::clone(&listeners),
                metrics,
            };
            (tap, queue_out)
        });
        let (taps, queues) = ends.unzip();
        let orders = Arc::new(Orders::default());
        let queues = Queues::new(queues);
        let mut writer = Writer::new(config, metrics, Arc::clone(&orders), is_on, queues)?;
        if config.starts_on {
            writer.switch_on()?;
            orders.is_wanted.store(true, Ordering::Release);
        }
        let recorder = Self::run(writer, orders, metrics.clone())?;
        Ok((recorder, taps))
    }

    /// Switches recording on, or off.
    pub fn toggle(&self) {
        self.orders.is_wanted.fetch_not(Ordering::AcqRel);
        self.thread.thread().unpark();
    }

    /// Goes on in a new file if the current one was moved away, for rotation from outside; tries again if a failure has
    /// paused the recording.
    pub fn reopen(&self) {
        self.order(&self.orders.reopen);
    }

    /// Writes what the workers have queued, and ends. A slow disk is waited for, and one that blocks is not.
    pub fn finish(self) {
        self.order(&self.orders.finish);
        let mut recorded = self.recorded();
        while let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(NO_PROGRESS_AT_MOST) {
            let recorded_before = std::mem::replace(&mut recorded, self.recorded());
            if recorded == recorded_before {
                tracing::warn!("the recording lacks its end: the disk does not take it");
                return;
            }
        }
    }

    fn recorded(&self) -> u64 {
        self.metrics.snapshot().counter(Counter::Recorded)
    }

    fn run(writer: Writer, orders: Arc<Orders>, metrics: Metrics) -> Result<Self, Error> {
        let (end, ended) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || {
                writer.run();
                drop::<crossbeam_channel::Sender<()>>(end);
            })
            .map_err(Error::Thread)?;
        Ok(Self {
            orders,
            thread,
            ended,
            metrics,
        })
    }

    fn order(&self, order: &AtomicBool) {
        order.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}
