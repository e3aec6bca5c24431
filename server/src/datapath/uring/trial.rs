//! Trying `io_uring` out: kernels and containers differ in what they allow, and only doing it tells.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use pyzor_protocol::MAX_REPLY_BYTES;

use super::Lines;
use crate::datapath::{Handler, Received, Waker};
use crate::socket;

/// How long a datagram may take over the loopback interface.
const TRIAL_TIME: Duration = Duration::from_secs(1);

const TRIAL_DATAGRAM: &[u8] = b"io_uring on trial";

/// Sends one datagram through a ring and back, with the very operations that workers use.
///
/// # Errors
/// The operation that does not work, and what that may mean.
pub(in crate::datapath) fn try_out() -> io::Result<()> {
    let address = loopback()?;
    let mut listening = socket::bind(&[address], NonZeroUsize::MIN).map_err(io::Error::other)?;
    let sockets = listening.workers.swap_remove(0);
    let client = UdpSocket::bind((address.ip(), 0))?;
    client.set_read_timeout(Some(TRIAL_TIME))?;
    client.connect(listening.addresses[0])?;
    let mut lines = Lines::open(&sockets, Waker::new()?)?;
    client.send(TRIAL_DATAGRAM)?;
    echo_one(&mut lines)?;
    let mut reply = [0; TRIAL_DATAGRAM.len()];
    client.recv(&mut reply)?;
    if reply == TRIAL_DATAGRAM {
        Ok(())
    } else {
        Err(io::Error::other("a datagram came back garbled"))
    }
}

/// A loopback address that exists: containers may have only one kind.
fn loopback() -> io::Result<SocketAddr> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    UdpSocket::bind(v4)
        .map(|_| v4)
        .or_else(|_| UdpSocket::bind(v6).map(|_| v6))
}

fn echo_one(lines: &mut Lines<'_>) -> io::Result<()> {
    let deadline = Instant::now() + TRIAL_TIME;
    while lines.turn(&mut Echo)? == 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(unanswered(lines));
        }
        lines.ring.wait(left)?;
    }
    Ok(())
}

fn unanswered(lines: &Lines<'_>) -> io::Error {
    let counters = lines.exchange.counters;
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "a multishot receive with provided buffers brings no datagram, and {} errors",
            counters.receive_errors
        ),
    )
}

struct Echo;

impl Handler for Echo {
    fn datagram(
        &mut self,
        datagram: Received<'_>,
        reply: &mut [u8; MAX_REPLY_BYTES],
    ) -> Option<usize> {
        let length = datagram.bytes.len();
        reply[..length].copy_from_slice(datagram.bytes);
        Some(length)
    }
}
