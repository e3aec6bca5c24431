//! The way back to who sent a datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The way back to who sent a datagram: small, because replies that wait for the store each keep one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyPath {
    ends: Ends,
    port: u16,
    local_port: u16,
    listener: u8,
}

const _: () = assert!(size_of::<ReplyPath>() <= 48);

/// One of a worker's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// Counted from 0 in the order of the listen addresses.
    pub(super) index: u8,
    /// Where it listens.
    pub(super) port: u16,
}

/// Both ends' addresses. `local` is the one that was asked, where a socket listens on many; else unspecified, and the
/// kernel fills in the one the socket is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    V4 {
        peer: Ipv4Addr,
        local: Ipv4Addr,
    },
    V6 {
        peer: Ipv6Addr,
        scope: u32,
        local: Ipv6Addr,
    },
}

impl ReplyPath {
    /// A way back to `peer` through `listener`, from `asked` or the socket's only address.
    pub(super) fn new(listener: Listener, peer: SocketAddr, asked: Option<IpAddr>) -> Self {
        Self {
            ends: Ends::new(peer, asked),
            port: peer.port(),
            local_port: listener.port,
            listener: listener.index,
        }
    }

    /// The way back to some sender, for tests that only hold it.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let peer = (Ipv4Addr::LOCALHOST, 1024).into();
        Self::new(Listener { index: 0, port: 1 }, peer, None)
    }

    /// Who sent the datagram.
    pub fn peer(&self) -> SocketAddr {
        match self.ends {
            Ends::V4 { peer, .. } => (peer, self.port).into(),
            Ends::V6 { peer, scope, .. } => SocketAddrV6::new(peer, self.port, 0, scope).into(),
        }
    }

    /// The sender's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port the datagram was sent to.
    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    /// Which of the worker's sockets it came through, counted from 0 in the order of the listen addresses.
    pub fn listener(&self) -> usize {
        usize::from(self.listener)
    }

    /// The address the reply has to leave from, where the socket has more than one.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        match self.ends {
            Ends::V4 { local, .. } => (!local.is_unspecified()).then_some(local.into()),
            Ends::V6 { local, .. } => (!local.is_unspecified()).then_some(local.into()),
        }
    }
}

impl Ends {
    fn new(peer: SocketAddr, asked: Option<IpAddr>) -> Self {
        match (peer, asked) {
            (SocketAddr::V4(peer), Some(IpAddr::V4(local))) => Self::v4(*peer.ip(), local),
            (SocketAddr::V4(peer), _) => Self::v4(*peer.ip(), Ipv4Addr::UNSPECIFIED),
            (SocketAddr::V6(peer), Some(IpAddr::V6(local))) => Self::v6(peer, local),
            (SocketAddr::V6(peer), _) => Self::v6(peer, Ipv6Addr::UNSPECIFIED),
        }
    }

    fn v4(peer: Ipv4Addr, local: Ipv4Addr) -> Self {
        Self::V4 { peer, local }
    }

    fn v6(peer: SocketAddrV6, local: Ipv6Addr) -> Self {
        Self::V6 {
            peer: *peer.ip(),
            scope: peer.scope_id(),
            local,
        }
    }
}
