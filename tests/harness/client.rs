//! A UDP socket that asks one server, with time-outs.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{Reply, Request};

/// How long a reply may take before a test calls the request unanswered. The reference's clients wait 5 s.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// Larger than any UDP datagram.
const RECEIVE_BUFFER_BYTES: usize = 65_536;

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    /// A client of `server`, on a port of its own.
    pub(crate) fn new(server: SocketAddr) -> Self {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).expect("a free port");
        Self { socket, server }
    }

    /// Sends `request` and returns the reply to it; the test fails when none comes within [`REPLY_LIMIT`].
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        self.try_ask(request, REPLY_LIMIT)
            .unwrap_or_else(|| panic!("no reply to {request:?}"))
    }

    /// Sends `request` and waits up to `limit` for the reply that carries its thread; others are dropped.
    pub(crate) fn try_ask(&self, request: &Request, limit: Duration) -> Option<Reply> {
        let deadline = Instant::now() + limit;
        self.send(&request.to_bytes());
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let reply = Reply(self.receive(left)?);
            if reply.header("Thread") == Some(request.thread()) {
                return Some(reply);
            }
        }
    }

    /// Sends one datagram.
    pub(crate) fn send(&self, datagram: &[u8]) {
        // A refused connection is an earlier datagram's fate, not this one's.
        let _ = self.socket.send_to(datagram, self.server);
    }

    /// The next datagram from the server's address, if one comes within `limit`.
    pub(crate) fn receive(&self, limit: Duration) -> Option<Vec<u8>> {
        self.receive_from_anywhere(limit).map(|(datagram, from)| {
            assert_eq!(from, self.server, "the reply comes from the address asked");
            datagram
        })
    }

    /// The next datagram and where it came from, if one comes within `limit`.
    pub(crate) fn receive_from_anywhere(&self, limit: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; RECEIVE_BUFFER_BYTES];
        let limit = limit.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(limit)).unwrap();
        match receive_from(&self.socket, &mut buffer) {
            Ok((length, from)) => {
                buffer.truncate(length);
                Some((buffer, from))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("receiving failed: {error}"),
        }
    }
}

/// Receives a datagram. A process that was stopped for a moment, as a debugger or a machine that goes to sleep does, finds its
/// wait ended if that has a limit: it waits anew.
pub(crate) fn receive_from(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}
