//! The way from a worker to the thread that writes: a ring of bytes with one end each, which neither waits nor allocates.
//!
//! ```text
//! an arrival   0 at (ns since the epoch)   8 sender, 16 bytes   24 receiver, 16 bytes   40 sender's port   42 receiver's
//!             44 bytes of the datagram    46 the datagram
//! ```
//!
//! Numbers are in the machine's byte order: the ring never leaves the process. IPv4 addresses are mapped into IPv6.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use pyzor_protocol::MAX_DATAGRAM_BYTES;
use rtrb::{Consumer, Producer, RingBuffer};

/// Bytes that may wait in one worker's queue: some 30,000 ordinary requests, or 60 ms of a core's full load. The memory
/// is taken as it is first used.
pub(super) const QUEUE_BYTES: usize = 8 << 20;

const AT: Range<usize> = 0..8;
const SENDER: Range<usize> = 8..24;
const RECEIVER: Range<usize> = 24..40;
const SENDER_PORT: Range<usize> = 40..42;
const RECEIVER_PORT: Range<usize> = 42..44;
const LENGTH: Range<usize> = 44..46;
const HEADER_BYTES: usize = LENGTH.end;

/// One datagram's circumstances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// When the kernel received it, in nanoseconds since the epoch.
    pub(super) at_ns: u64,
    /// Who sent it.
    pub(super) sender: SocketAddr,
    /// Where it was sent to.
    pub(super) receiver: SocketAddr,
}

/// A queue for one worker.
pub(super) fn queue() -> (QueueIn, QueueOut) {
    let (bytes_in, bytes_out) = RingBuffer::new(QUEUE_BYTES);
    let queue_out = QueueOut {
        bytes: bytes_out,
        head: None,
    };
    (QueueIn(bytes_in), queue_out)
}

/// The worker's end.
pub(super) struct QueueIn(Producer<u8>);

impl QueueIn {
    /// Queues a datagram, of which [`MAX_DATAGRAM_BYTES`] are kept; `false` if it does not fit.
    pub(super) fn push(&mut self, arrival: &Arrival, datagram: &[u8]) -> bool {
        let datagram = &datagram[..datagram.len().min(MAX_DATAGRAM_BYTES)];
        // Only this end adds anything, so the room cannot vanish between the two.
        self.0.slots() >= HEADER_BYTES + datagram.len()
            && self
                .0
                .push_entire_slice(&encode(arrival, datagram.len()))
                .is_ok()
            && self.0.push_entire_slice(datagram).is_ok()
    }
}

/// The writing thread's end.
pub(super) struct QueueOut {
    bytes: Consumer<u8>,
    /// The next arrival and the length of its datagram, already taken out of the ring.
    head: Option<(Arrival, usize)>,
}

impl QueueOut {
    /// When the next datagram came, if there is one.
    pub(super) fn next_at_ns(&mut self) -> Option<u64> {
        if self.head.is_none() {
            let mut header = [0; HEADER_BYTES];
            self.bytes.pop_entire_slice(&mut header).ok()?;
            self.head = Some(decode(&header)?);
        }
        let (arrival, length) = self.head?;
        // The worker may still be copying the datagram.
        (self.bytes.slots() >= length).then_some(arrival.at_ns)
    }

    /// Takes the next datagram, written to the beginning of `buffer`; its length.
    pub(super) fn take(
        &mut self,
        buffer: &mut [u8; MAX_DATAGRAM_BYTES],
    ) -> Option<(Arrival, usize)> {
        self.next_at_ns()?;
        let (arrival, length) = self.head.take()?;
        self.bytes.pop_entire_slice(&mut buffer[..length]).ok()?;
        Some((arrival, length))
    }
}

fn encode(arrival: &Arrival, datagram_bytes: usize) -> [u8; HEADER_BYTES] {
    let Arrival {
        at_ns,
        sender,
        receiver,
    } = arrival;
    let mut header = [0; HEADER_BYTES];
    header[AT].copy_from_slice(&at_ns.to_ne_bytes());
    header[SENDER].copy_from_slice(&mapped(sender.ip()).octets());
    header[RECEIVER].copy_from_slice(&mapped(receiver.ip()).octets());
    header[SENDER_PORT].copy_from_slice(&sender.port().to_ne_bytes());
    header[RECEIVER_PORT].copy_from_slice(&receiver.port().to_ne_bytes());
    let length = u16::try_from(datagram_bytes).unwrap_or(u16::MAX);
    header[LENGTH].copy_from_slice(&length.to_ne_bytes());
    header
}

/// The arrival and the length of its datagram. There is always one: the header is as long as its fields.
fn decode(header: &[u8; HEADER_BYTES]) -> Option<(Arrival, usize)> {
    let address = |ip: Range<usize>, port: Range<usize>| {
        let ip = IpAddr::from(field::<16>(header, ip)?).to_canonical();
        Some(SocketAddr::new(
            ip,
            u16::from_ne_bytes(field(header, port)?),
        ))
    };
    let arrival = Arrival {
        at_ns: u64::from_ne_bytes(field(header, AT)?),
        sender: address(SENDER, SENDER_PORT)?,
        receiver: address(RECEIVER, RECEIVER_PORT)?,
    };
    let length = u16::from_ne_bytes(field(header, LENGTH)?);
    Some((arrival, usize::from(length)))
}

/// The address in IPv6's form.
pub(super) fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn field<const N: usize>(header: &[u8], at: Range<usize>) -> Option<[u8; N]> {
    header.get(at)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(sender: &str, receiver: &str, at_ns: u64) -> Arrival {
        Arrival {
            at_ns,
            sender: sender.parse().unwrap(),
            receiver: receiver.parse().unwrap(),
        }
    }

    #[test]
    fn what_is_pushed_comes_out_in_order() {
        let (mut queue_in, mut queue_out) = queue();
        let v4 = arrival("192.0.2.7:40000", "0.0.0.0:24441", u64::MAX);
        let v6 = arrival("[2001:db8::7]:1", "[::1]:65535", 0);
        let longest = [b'x'; MAX_DATAGRAM_BYTES + 1];
        for (arrival, datagram) in [(&v4, &longest[..]), (&v6, b"")] {
            assert!(queue_in.push(arrival, datagram));
        }
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        assert_eq!(queue_out.next_at_ns(), Some(u64::MAX));
        assert_eq!(queue_out.take(&mut buffer), Some((v4, MAX_DATAGRAM_BYTES)));
        assert_eq!(buffer, longest[..MAX_DATAGRAM_BYTES]);
        assert_eq!(queue_out.take(&mut buffer), Some((v6, 0)));
        assert_eq!(queue_out.next_at_ns(), None);
        assert_eq!(queue_out.take(&mut buffer), None);
    }

    #[test]
    fn a_full_queue_takes_nothing_more_until_something_was_taken() {
        let (mut queue_in, mut queue_out) = queue();
        let arrival = arrival("192.0.2.7:1", "192.0.2.8:2", 3);
        let datagram = [0; MAX_DATAGRAM_BYTES];
        let mut pushed = 0;
        while queue_in.push(&arrival, &datagram) {
            pushed += 1;
        }
        assert_eq!(pushed, QUEUE_BYTES / (HEADER_BYTES + MAX_DATAGRAM_BYTES));
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        assert!(queue_out.take(&mut buffer).is_some());
        assert!(queue_in.push(&arrival, &datagram));
        assert!(!queue_in.push(&arrival, &datagram));
    }
}
