//! Binding: one `SO_REUSEPORT` socket for each worker and listen address.
//!
//! The wildcard address of IPv6, `::`, takes IPv4 as well unless an IPv4 address stands beside it: one socket answers both
//! families, with one port, and whoever holds that port for either of them is noticed. IPv4 addresses appear as such then,
//! because the datapath unmaps them (`::ffff:192.0.2.1`).
//!
//! `SO_REUSEPORT` would let a second daemon take half of the datagrams silently, so every address is first bound
//! without it, as a probe that only one of the two can win.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::datapath;
use crate::error::Error;

/// What is asked of the kernel as receive buffer of each socket, in bytes: some 10,000 small datagrams, or about 20
/// milliseconds of a core's full load. Without privileges the kernel grants `net.core.rmem_max` at most.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// The same for replies: it has to hold one batch even when the network card is slow to take it.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// How long an address may still be bound although nobody uses it any more: the kernel takes a ring of `io_uring` down,
/// and lets go of its sockets, only after its process is gone. That took 35 milliseconds when measured; a server that
/// is started again at once has to wait that long.
const RELEASE_WAIT: Duration = Duration::from_secs(1);

const RELEASE_POLL: Duration = Duration::from_millis(10);

/// Listen addresses a server can have.
pub const MAX_LISTEN_ADDRESSES: usize = 64;

/// All sockets of the server.
#[derive(Debug)]
pub struct Listening {
    /// The sockets of each worker.
    pub workers: Vec<WorkerSockets>,
    /// Where they listen, in the order asked for; ports the kernel chose are filled in.
    pub addresses: Vec<SocketAddr>,
    /// The smallest receive buffer among them, in bytes, as the kernel accounts it.
    pub receive_buffer_bytes: usize,
}

/// The sockets of one worker: one for each listen address, in their order.
#[derive(Debug)]
pub struct WorkerSockets(Vec<ListenSocket>);

/// One worker's socket on one listen address.
#[derive(Debug)]
pub struct ListenSocket {
    socket: Socket,
    address: SocketAddr,
    notes_arrivals: bool,
}

/// Binds `listen` for `workers` workers. With port 0 the kernel chooses one port that all workers share.
///
/// # Errors
/// When somebody else listens on one of the addresses, or the system refuses one; the error names the address.
pub fn bind(listen: &[SocketAddr], workers: NonZeroUsize) -> Result<Listening, Error> {
    if let Some(extra) = listen.get(MAX_LISTEN_ADDRESSES) {
        let limit = format!("{MAX_LISTEN_ADDRESSES} listen addresses are possible");
        return Err(failure("add", *extra)(io::Error::other(limit)));
    }
    let families = Families::of(listen);
    let addresses = listen
        .iter()
        .map(|address| probe(*address, families))
        .collect::<Result<Vec<_>, _>>()?;
    let workers = (0..workers.get())
        .map(|_| WorkerSockets::bind(&addresses, families))
        .collect::<Result<Vec<_>, _>>()?;
    let receive_buffer_bytes = smallest_receive_buffer(&workers)?;
    Ok(Listening {
        workers,
        addresses,
        receive_buffer_bytes,
    })
}

/// What sockets on `::` take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    Both,
    OnlyV6,
}

impl Families {
    fn of(listen: &[SocketAddr]) -> Self {
        if listen.iter().any(SocketAddr::is_ipv4) {
            Self::OnlyV6
        } else {
            Self::Both
        }
    }
}

impl Listening {
    /// Has the kernel note from now on when each datagram arrives. That costs it a look at the clock for each.
    ///
    /// # Errors
    /// When the system refuses; the error names the address.
    pub fn note_arrivals(&mut self) -> Result<(), Error> {
        for listener in self.workers.iter_mut().flat_map(|sockets| &mut sockets.0) {
            setsockopt(&listener.socket, sockopt::ReceiveTimestampns, &true)
                .map_err(io::Error::from)
                .map_err(failure("note arrivals at", listener.address))?;
            listener.notes_arrivals = true;
        }
        Ok(())
    }
}

impl WorkerSockets {
    /// The sockets.
    pub fn iter(&self) -> std::slice::Iter<'_, ListenSocket> {
        self.0.iter()
    }

    fn bind(addresses: &[SocketAddr], families: Families) -> Result<Self, Error> {
        addresses
            .iter()
            .map(|a| ListenSocket::bind(*a, families))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl<'a> IntoIterator for &'a WorkerSockets {
    type Item = &'a ListenSocket;
    type IntoIter = std::slice::Iter<'a, ListenSocket>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl ListenSocket {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it listens on every address of the machine, so that a reply must say which one it comes from.
    pub fn is_wildcard(&self) -> bool {
        self.address.ip().is_unspecified()
    }

    /// Whether each datagram comes with the time when it arrived.
    pub fn notes_arrivals(&self) -> bool {
        self.notes_arrivals
    }

    /// Datagrams the kernel dropped because the receive buffer was full, since the socket was bound; wraps around at
    /// 2^32.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn kernel_drops(&self) -> io::Result<u32> {
        datapath::dropped_at(self.as_fd())
    }

    fn bind(address: SocketAddr, families: Families) -> Result<Self, Error> {
        let socket = open(address, families)?;
        set_up(&socket, address)?;
        bind_to(&socket, address)?;
        Ok(Self {
            socket,
            address,
            notes_arrivals: false,
        })
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ListenSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Binds `address` alone and lets go of it again; the address with its port.
fn probe(address: SocketAddr, families: Families) -> Result<SocketAddr, Error> {
    let give_up_at = Instant::now() + RELEASE_WAIT;
    loop {
        match probe_once(address, families) {
            Err(Error::AddressInUse(_)) if Instant::now() < give_up_at => {
                std::thread::sleep(RELEASE_POLL);
            }
            decided => return decided,
        }
    }
}

fn probe_once(address: SocketAddr, families: Families) -> Result<SocketAddr, Error> {
    let socket = open(address, families)?;
    bind_to(&socket, address)?;
    socket
        .local_addr()
        .map(|bound| bound.as_socket().unwrap_or(address))
        .map_err(failure("find the port of", address))
}

fn open(address: SocketAddr, families: Families) -> Result<Socket, Error> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))
        .map_err(failure("open a socket for", address))?;
    if address.is_ipv6() {
        // The system's default varies (net.ipv6.bindv6only).
        let is_both = families == Families::Both && address.ip().is_unspecified();
        socket
            .set_only_v6(!is_both)
            .map_err(failure("choose the families of", address))?;
    }
    Ok(socket)
}

fn bind_to(socket: &Socket, address: SocketAddr) -> Result<(), Error> {
    socket
        .bind(&address.into())
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::AddressInUse(address),
            _ => failure("bind", address)(source),
        })
}

fn set_up(socket: &Socket, address: SocketAddr) -> Result<(), Error> {
    socket
        .set_reuse_port(true)
        .map_err(failure("share", address))?;
    enlarge_buffers(socket).map_err(failure("set the buffers of", address))?;
    if address.ip().is_unspecified() {
        learn_asked_address(socket, address)
            .map_err(failure("learn which address is asked of", address))?;
    }
    Ok(())
}

/// Makes the buffers as large as allowed: beyond the system's limit where we may, else up to it.
fn enlarge_buffers(socket: &Socket) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    if setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    }
    Ok(())
}

fn learn_asked_address(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

fn smallest_receive_buffer(workers: &[WorkerSockets]) -> Result<usize, Error> {
    let mut smallest = usize::MAX;
    for listener in workers.iter().flatten() {
        let bytes = listener
            .socket
            .recv_buffer_size()
            .map_err(failure("read the receive buffer of", listener.address))?;
        smallest = smallest.min(bytes);
    }
    Ok(smallest)
}

fn failure(action: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Socket {
        action,
        address,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn workers(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    fn localhost(port: u16) -> SocketAddr {
        (std::net::Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn all_workers_share_a_port_the_kernel_chose() {
        let listening = bind(&[localhost(0)], workers(3)).unwrap();
        let address = listening.addresses[0];
        assert_ne!(address.port(), 0);
        let sockets: Vec<_> = listening.workers.iter().flatten().collect();
        assert_eq!(sockets.len(), 3);
        for listener in sockets {
            let bound = listener.socket.local_addr().unwrap().as_socket();
            assert_eq!(bound, Some(address));
            assert_eq!(listener.address(), address);
        }
    }

    #[test]
    fn a_second_server_is_refused_by_the_name_of_the_address() {
        let first = bind(&[localhost(0)], workers(2)).unwrap();
        let address = first.addresses[0];
        let error = bind(&[localhost(0), address], workers(2)).unwrap_err();
        assert!(matches!(&error, Error::AddressInUse(in_use) if *in_use == address));
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        drop(first);
        bind(&[address], workers(2)).unwrap();
    }

    #[test]
    fn too_many_addresses_are_refused() {
        let listen = [localhost(0); MAX_LISTEN_ADDRESSES + 1];
        bind(&listen[1..], workers(1)).unwrap();
        let error = bind(&listen, workers(1)).unwrap_err();
        assert!(error.to_string().contains("64"), "{error}");
    }

    #[test]
    fn the_wildcard_of_ipv6_takes_both_families_unless_ipv4_stands_beside_it() {
        let v6 = "[::]:0".parse().unwrap();
        let both = bind(&[v6], workers(1)).unwrap();
        let port = both.addresses[0].port();
        let v4 = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port));
        for taken in [v4, localhost(port)] {
            let error = bind(&[taken], workers(1)).unwrap_err();
            assert!(matches!(&error, Error::AddressInUse(in_use) if *in_use == taken));
        }
        drop(both);
        let apart = bind(
            &[v4, (std::net::Ipv6Addr::UNSPECIFIED, port).into()],
            workers(1),
        )
        .unwrap();
        assert!(apart.workers[0].iter().all(ListenSocket::is_wildcard));
        assert!(!bind(&[localhost(0)], workers(1)).unwrap().workers[0].0[0].is_wildcard());
    }

    #[test]
    fn drops_are_counted() {
        let listening = bind(&[localhost(0)], workers(1)).unwrap();
        let listener = &listening.workers[0].0[0];
        assert_eq!(listener.kernel_drops().unwrap(), 0);
        let client = UdpSocket::bind(localhost(0)).unwrap();
        let large = [0; 8192];
        // The kernel accounts at least what a datagram holds, so this many cannot all fit.
        let sent = listening.receive_buffer_bytes / large.len() + 1;
        for _ in 0..sent {
            client.send_to(&large, listening.addresses[0]).unwrap();
        }
        let drops = listener.kernel_drops().unwrap() as usize;
        assert!(drops > 0 && drops < sent, "{drops} of {sent}");
    }
}
