//! The datapath alone: answers every datagram with its own first 84 bytes, through the same code as the server's
//! workers. Compare with `loadgen echo`, the floor, and with `tokio_uring_echo`.
//!
//! `hosted_ring_echo [ADDRESS:PORT [uring|mmsg]]` prints where it listens and runs on one thread until it is killed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "ops/bench.sh reads what it prints"
)]

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use pyzor_protocol::MAX_REPLY_BYTES;
use pyzord::config::IoChoice;
use pyzord::datapath::{self, Datapath, Handler, Received, Serve, Waker};
use pyzord::{error::Error, socket};

/// Length of every reply, in bytes: about that of a Pyzor reply.
const REPLY_BYTES: usize = 84;

/// As the server's workers do, so that what that costs is in the measurement.
const YIELD_EVERY: Duration = Duration::from_millis(1);

fn main() -> Result<(), Error> {
    let (listen, choice) = arguments();
    let mut listening = socket::bind(&[listen], NonZeroUsize::MIN)?;
    let io = datapath::choose(choice)?;
    println!("listening on {} ({})", listening.addresses[0], io.name());
    let sockets = listening.workers.swap_remove(0);
    datapath::open(io, &sockets, Waker::new()?)?.serve(Echo)
}

fn arguments() -> (SocketAddr, IoChoice) {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let choice = match arguments.next().as_deref() {
        None | Some("uring") => IoChoice::Uring,
        Some("mmsg") => IoChoice::Mmsg,
        Some(_) => usage(),
    };
    (listen.parse().unwrap_or_else(|_| usage()), choice)
}

fn usage() -> ! {
    eprintln!("usage: hosted_ring_echo [ADDRESS:PORT [uring|mmsg]]");
    std::process::exit(2)
}

struct Echo;

impl Handler for Echo {
    fn datagram(
        &mut self,
        datagram: Received<'_>,
        reply: &mut [u8; MAX_REPLY_BYTES],
    ) -> Option<usize> {
        let length = datagram.bytes.len().min(REPLY_BYTES);
        reply[..length].copy_from_slice(&datagram.bytes[..length]);
        Some(REPLY_BYTES)
    }
}

impl Serve for Echo {
    type Output = Result<(), Error>;

    async fn serve(mut self, mut datapath: impl Datapath) -> Self::Output {
        let mut last_yield = Instant::now();
        loop {
            if datapath.turn(&mut self)? == 0 {
                datapath.arrived().await?;
            } else if last_yield.elapsed() >= YIELD_EVERY {
                tokio::task::yield_now().await;
                last_yield = Instant::now();
            }
        }
    }
}
