//! Many datagrams in one system call: the only file of this crate with `unsafe` code.
//!
//! A [`Batch`] owns what `recvmmsg` and `sendmmsg` need. Invariants, on which every `unsafe` block below rests:
//!
//! 1. `bytes`, `names`, `controls` and `vectors` never grow or shrink after [`Batch::new`], so pointers into them stay valid
//!    as long as the batch lives, wherever it is moved.
//! 2. `headers[i]` points to `vectors[i]`, to `names[i]` (or to no name) and to `controls[i]` (or to no control data), and
//!    `vectors[i]` to the `i`th buffer, whose length is never above `buffer_bytes`; the padding between buffers is never
//!    handed to the kernel.
#![allow(
    unsafe_code,
    reason = "neither the standard library nor nix offers these calls without an allocation a batch"
)]

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};
use socket2::{Domain, Protocol, Socket, Type};

/// The most datagrams one system call moves.
pub(crate) const MAX_BATCH: usize = BATCH_LIMIT as usize;
const BATCH_LIMIT: libc::c_uint = 64;
/// What sockets ask the kernel to queue, in bytes; it grants what `net.core.rmem_max` allows.
const RECEIVE_QUEUE_BYTES: usize = 4 << 20;
/// Buffers start on cache lines of their own.
const CACHE_LINE_BYTES: usize = 64;

/// Whether a receive blocks until there is a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Blocks for the first datagram, then takes what else has arrived.
    ForOne,
    /// Takes what has arrived.
    Never,
}

impl Wait {
    fn flags(self) -> libc::c_int {
        match self {
            Self::ForOne => libc::MSG_WAITFORONE,
            Self::Never => libc::MSG_DONTWAIT,
        }
    }
}

/// A bound socket with a large receive queue.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_recv_buffer_size(RECEIVE_QUEUE_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket with a source port of its own that talks to `target` only.
pub(crate) fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    connect_from(None, target)
}

/// The same with a source address, which must be this machine's.
pub(crate) fn connect_from(source: Option<IpAddr>, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_recv_buffer_size(RECEIVE_QUEUE_BYTES)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// Asks the kernel to note when it receives each datagram of `socket`, for [`Batch::received_at`].
pub(crate) fn note_arrivals(socket: &UdpSocket) -> io::Result<()> {
    setsockopt(socket, ReceiveTimestampns, &true).map_err(io::Error::from)
}

/// How many datagrams the kernel has dropped because `socket` had no room for them, since it was opened. The same counter that
/// `SO_RXQ_OVFL` attaches to datagrams, but it also tells of drops after the last one that came.
pub(crate) fn dropped(socket: &UdpSocket) -> io::Result<u32> {
    let mut values = [0_u32; MEMORY_VALUES];
    #[expect(clippy::cast_possible_truncation, reason = "some dozen bytes")]
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: `values` is live and has the length that `length` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(values[MEMORY_VALUE_DROPS])
}

/// What `SO_MEMINFO` fills: `linux/sock_diag.h`.
const MEMORY_VALUES: usize = 9;
const MEMORY_VALUE_DROPS: usize = 8;

/// Room for what the kernel tells of a datagram beside its bytes: one time.
///
/// ```text
/// 0   length of all of it    8 bytes
/// 8   level: SOL_SOCKET      4
/// 12  type: SCM_TIMESTAMPNS  4
/// 16  seconds                8
/// 24  nanoseconds            8
/// ```
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

const CONTROL_BYTES: usize = 32;

impl Control {
    /// The time in it, if the kernel wrote one into the first `length` bytes.
    fn time(&self, length: usize) -> Option<Duration> {
        let is_time = length >= CONTROL_BYTES
            && self.number::<4>(8).map(i32::from_ne_bytes)? == libc::SOL_SOCKET
            && self.number::<4>(12).map(i32::from_ne_bytes)? == libc::SCM_TIMESTAMPNS;
        if !is_time {
            return None;
        }
        let seconds = self.number::<8>(16).map(i64::from_ne_bytes)?;
        let nanoseconds = self.number::<8>(24).map(i64::from_ne_bytes)?;
        Some(Duration::new(
            u64::try_from(seconds).ok()?,
            u32::try_from(nanoseconds).ok()?,
        ))
    }

    fn number<const BYTES: usize>(&self, at: usize) -> Option<[u8; BYTES]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}

/// Buffers for up to [`MAX_BATCH`] datagrams and the tables that describe them to the kernel.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    buffer_bytes: usize,
    stride: usize,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// Empty in a batch for connected sockets.
    names: Vec<libc::sockaddr_storage>,
    /// Empty unless times of arrival are asked for.
    controls: Vec<Control>,
    /// How many buffers may have another length than their full one.
    used: usize,
}

impl Batch {
    /// For connected sockets; longer datagrams are cut at `buffer_bytes`.
    pub(crate) fn connected(buffer_bytes: usize) -> Self {
        Self::new(buffer_bytes, 0, 0)
    }

    /// For connected sockets that [`note_arrivals`].
    pub(crate) fn with_times(buffer_bytes: usize) -> Self {
        Self::new(buffer_bytes, 0, MAX_BATCH)
    }

    /// Remembers where each datagram came from, so that [`Self::send_back`] can answer it.
    pub(crate) fn with_addresses(buffer_bytes: usize) -> Self {
        Self::new(buffer_bytes, MAX_BATCH, 0)
    }

    fn new(buffer_bytes: usize, names: usize, controls: usize) -> Self {
        let stride = stride(buffer_bytes);
        // SAFETY: an all-zero sockaddr_storage is a valid one of no family.
        let no_name: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let mut batch = Self {
            bytes: vec![0; stride * MAX_BATCH],
            buffer_bytes,
            stride,
            vectors: Vec::with_capacity(MAX_BATCH),
            headers: Vec::with_capacity(MAX_BATCH),
            names: vec![no_name; names],
            controls: vec![Control([0; CONTROL_BYTES]); controls],
            used: 0,
        };
        batch.link();
        batch
    }

    /// Builds the tables: invariant 2. Every pointer comes from `Vec::as_mut_ptr`, which stays good while the slices
    /// are borrowed and given back.
    fn link(&mut self) {
        let bytes = self.bytes.as_mut_ptr();
        self.vectors.extend((0..MAX_BATCH).map(|index| libc::iovec {
            iov_base: bytes.wrapping_add(index * self.stride).cast(),
            iov_len: self.buffer_bytes,
        }));
        let (vectors, names) = (self.vectors.as_mut_ptr(), self.names.as_mut_ptr());
        let controls = self.controls.as_mut_ptr();
        for index in 0..MAX_BATCH {
            // SAFETY: an all-zero mmsghdr is a valid one that names no buffers.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_iov = vectors.wrapping_add(index);
            header.msg_hdr.msg_iovlen = 1;
            if index < self.names.len() {
                header.msg_hdr.msg_name = names.wrapping_add(index).cast();
                header.msg_hdr.msg_namelen = SOCKADDR_BYTES;
            }
            if index < self.controls.len() {
                header.msg_hdr.msg_control = controls.wrapping_add(index).cast();
                header.msg_hdr.msg_controllen = CONTROL_BYTES;
            }
            self.headers.push(header);
        }
    }

    /// Gives the buffers that the last calls used their full lengths back.
    fn reset(&mut self) {
        for index in 0..mem::take(&mut self.used) {
            self.vectors[index].iov_len = self.buffer_bytes;
            if !self.names.is_empty() {
                self.headers[index].msg_hdr.msg_namelen = SOCKADDR_BYTES;
            }
            if !self.controls.is_empty() {
                self.headers[index].msg_hdr.msg_controllen = CONTROL_BYTES;
            }
        }
    }

    /// Receives up to [`MAX_BATCH`] datagrams; how many.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        self.receive_up_to(BATCH_LIMIT, socket, wait)
    }

    /// The same, but no more than `most`.
    pub(crate) fn receive_up_to(
        &mut self,
        most: u32,
        socket: &UdpSocket,
        wait: Wait,
    ) -> io::Result<usize> {
        self.reset();
        // SAFETY: invariants 1 and 2: `headers` holds MAX_BATCH headers, and no more are asked for, whose buffers and names are
        // ours and live.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                most.min(BATCH_LIMIT),
                wait.flags(),
                ptr::null_mut(),
            )
        };
        self.used = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.used)
    }

    /// The `index`th datagram of the last [`Self::receive`].
    pub(crate) fn received(&self, index: usize) -> &[u8] {
        let length = self.headers[index].msg_len as usize;
        &self.bytes[index * self.stride..][..length.min(self.buffer_bytes)]
    }

    /// When the kernel received the `index`th datagram of the last [`Self::receive`], by the clock on the wall, since 1970.
    pub(crate) fn received_at(&self, index: usize) -> Option<Duration> {
        let length = self.headers[index].msg_hdr.msg_controllen;
        self.controls.get(index)?.time(length)
    }

    /// The buffer of the `index`th datagram to send; [`Self::set_length`] says how much of it.
    pub(crate) fn buffer(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index * self.stride..][..self.buffer_bytes]
    }

    /// Sets how long the `index`th datagram to send is.
    pub(crate) fn set_length(&mut self, index: usize, length: usize) {
        self.vectors[index].iov_len = length.min(self.buffer_bytes);
        self.used = self.used.max(index + 1);
    }

    /// Sends the first `length` bytes of the first `count` buffers back to where each came from; how many could be.
    pub(crate) fn send_back(&mut self, socket: &UdpSocket, count: usize, length: usize) -> usize {
        for index in 0..count {
            self.set_length(index, length);
        }
        let (mut next, mut refused) = (0, 0);
        while next < count {
            if let Ok(sent) = self.send(socket, next, count) {
                next += sent;
            } else {
                // The error is the first datagram's; the others can still be sent.
                next += 1;
                refused += 1;
            }
        }
        count - refused
    }

    /// Sends the buffers from `first` up to `end`, not included; how many the kernel took.
    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        first: usize,
        end: usize,
    ) -> io::Result<usize> {
        let headers = &mut self.headers[first..end];
        let count = libc::c_uint::try_from(headers.len()).unwrap_or(BATCH_LIMIT);
        // SAFETY: invariants 1 and 2: the pointer and the count come from one slice of at most MAX_BATCH headers.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "128 bytes")]
const SOCKADDR_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// An odd number of cache lines, so that the buffers' first lines spread over all sets of a cache instead of pushing
/// each other out of two of them.
fn stride(buffer_bytes: usize) -> usize {
    (buffer_bytes.div_ceil(CACHE_LINE_BYTES) | 1) * CACHE_LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:0";

    #[test]
    fn buffers_start_on_odd_numbers_of_cache_lines() {
        assert_eq!(stride(1), 64);
        assert_eq!(stride(65), 192);
        assert_eq!(stride(2048), 2112);
    }

    #[test]
    fn a_batch_travels_there_and_back() {
        let server = bind(LOCAL.parse().unwrap()).unwrap();
        let client = connect(server.local_addr().unwrap()).unwrap();
        let mut requests = Batch::connected(100);
        for index in 0..3 {
            requests.buffer(index)[..2].copy_from_slice(&[b'a', u8::try_from(index).unwrap()]);
            requests.set_length(index, 2);
        }
        assert_eq!(requests.send(&client, 0, 3).unwrap(), 3);

        let mut echoed = Batch::with_addresses(100);
        assert_eq!(echoed.receive(&server, Wait::ForOne).unwrap(), 3);
        assert_eq!(echoed.received(2), &[b'a', 2]);
        assert_eq!(echoed.send_back(&server, 3, 84), 3);

        let mut replies = Batch::connected(10);
        assert_eq!(replies.receive(&client, Wait::ForOne).unwrap(), 3);
        assert_eq!(replies.received(1).len(), 10, "cut at the buffer's length");
        assert_eq!(replies.received(1)[..2], [b'a', 1]);
        let nothing = replies.receive(&client, Wait::Never).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn times_of_arrival_are_the_kernels() {
        const ATTEMPTS: u32 = 500;
        let server = bind(LOCAL.parse().unwrap()).unwrap();
        let client = connect(server.local_addr().unwrap()).unwrap();
        note_arrivals(&client).unwrap();
        let address = client.local_addr().unwrap();
        let now = || {
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .expect("after 1970")
        };
        let mut replies = Batch::with_times(100);
        let mut is_noted_at_arrival = || {
            let before = now();
            server.send_to(b"one", address).unwrap();
            server.send_to(b"two", address).unwrap();
            let after = now();
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(replies.receive(&client, Wait::ForOne).unwrap(), 2);
            (0..2).all(|index| {
                let at = replies.received_at(index).expect("a time");
                assert!(before <= at && at <= now());
                at <= after
            })
        };
        // The first socket on a machine that asks for times waits for its kernel to begin with it.
        assert!((0..ATTEMPTS).any(|_| is_noted_at_arrival()));
        let mut without = Batch::connected(100);
        server.send_to(b"three", address).unwrap();
        assert_eq!(without.receive(&client, Wait::ForOne).unwrap(), 1);
        assert_eq!(without.received_at(0), None);
    }

    #[test]
    fn what_does_not_fit_into_a_queue_is_dropped_and_counted() {
        const SENT: u32 = 200;
        let server = bind(LOCAL.parse().unwrap()).unwrap();
        let small = socket2::SockRef::from(&server);
        small.set_recv_buffer_size(1).unwrap();
        let client = connect(server.local_addr().unwrap()).unwrap();
        assert_eq!(dropped(&server).unwrap(), 0);
        for _ in 0..SENT {
            client.send(&[0; 500]).unwrap();
        }
        let mut batch = Batch::connected(500);
        let mut received = 0;
        while let Ok(count) = batch.receive(&server, Wait::Never) {
            received += u32::try_from(count).unwrap();
        }
        assert!(received < SENT);
        assert_eq!(dropped(&server).unwrap(), SENT - received);
    }

    #[test]
    fn a_moved_batch_still_works() {
        let server = bind(LOCAL.parse().unwrap()).unwrap();
        let client = connect(server.local_addr().unwrap()).unwrap();
        let batches = vec![Batch::with_addresses(50)];
        let mut moved = Box::new(batches.into_iter().next().unwrap());
        client.send(b"hello").unwrap();
        assert_eq!(moved.receive(&server, Wait::ForOne).unwrap(), 1);
        assert_eq!(moved.received(0), b"hello");
    }
}
