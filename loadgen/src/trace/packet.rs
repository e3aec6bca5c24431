//! From a captured packet to the request in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, LaxIpPayloadSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice, UdpHeader, UdpSlice,
};
use pcap_parser::Linktype;

use super::Source;
use super::skipped::Reason;

/// What packets of a capture begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Ethernet, with VLAN tags or without.
    Ethernet,
    /// What Linux writes instead of a link's own header when it captures on several.
    Cooked,
    /// Its second version.
    Cooked2,
    /// The loopback of BSDs: four bytes for the kind of address.
    Loopback,
    /// Nothing before IP.
    Ip,
    /// Anything else.
    Foreign,
}

/// [`Link::Cooked`]: type of packet, of device, length and bytes of an address, `EtherType` at the end.
const COOKED_BYTES: usize = 16;
/// [`Link::Cooked2`]: `EtherType` first, then reserved bytes, the interface, and what the first version has.
const COOKED2_BYTES: usize = 20;
const LOOPBACK_BYTES: usize = 4;

impl Link {
    pub(super) fn of(link: Linktype) -> Self {
        match link {
            Linktype::ETHERNET => Self::Ethernet,
            Linktype::LINUX_SLL => Self::Cooked,
            Linktype::LINUX_SLL2 => Self::Cooked2,
            Linktype::NULL | Linktype::LOOP => Self::Loopback,
            // 12 and 14 are what some systems call raw IP.
            Linktype(12 | 14) | Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => Self::Ip,
            _ => Self::Foreign,
        }
    }
}

/// Who sent a request, and its datagram.
pub(super) type Request = (Source, Box<[u8]>);

/// The request to the server's `port` in a packet that was captured whole, or else `is_cut`; or why there is none.
pub(super) fn read(link: Link, packet: &[u8], is_cut: bool, port: u16) -> Result<Request, Reason> {
    // A header that does not fit was cut off, or its packet is not what it should be.
    let broken = if is_cut {
        Reason::Truncated
    } else {
        Reason::Damaged
    };
    let sliced = slice(link, packet).map_err(|reason| reason.unwrap_or(broken))?;
    let Some((address, payload)) = sliced.net.as_ref().and_then(sender) else {
        return Err(if sliced.stop_err.is_some() {
            broken
        } else {
            Reason::NotUdp
        });
    };
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => {
            let source = Source(SocketAddr::new(address, udp.source_port()));
            request(udp, payload.incomplete, port).map(|datagram| (source, datagram))
        }
        None if payload.fragmented => Err(Reason::Fragment),
        None if sliced.stop_err.is_some() => Err(broken),
        Some(_) | None => Err(Reason::NotUdp),
    }
}

/// Finds the headers; `Err(None)` when not even the first one is whole.
fn slice(link: Link, packet: &[u8]) -> Result<LaxSlicedPacket<'_>, Option<Reason>> {
    match link {
        Link::Ethernet => LaxSlicedPacket::from_ethernet(packet).map_err(|_| None),
        Link::Ip => LaxSlicedPacket::from_ip(packet).map_err(|_| None),
        Link::Loopback => {
            let (_, rest) = packet.split_at_checked(LOOPBACK_BYTES).ok_or(None)?;
            LaxSlicedPacket::from_ip(rest).map_err(|_| None)
        }
        Link::Cooked => {
            let (header, rest) = packet.split_at_checked(COOKED_BYTES).ok_or(None)?;
            let [.., high, low] = header else {
                return Err(None);
            };
            Ok(after_ether_type([*high, *low], rest))
        }
        Link::Cooked2 => {
            let (header, rest) = packet.split_at_checked(COOKED2_BYTES).ok_or(None)?;
            let [high, low, ..] = header else {
                return Err(None);
            };
            Ok(after_ether_type([*high, *low], rest))
        }
        Link::Foreign => Err(Some(Reason::ForeignLink)),
    }
}

fn after_ether_type(ether_type: [u8; 2], rest: &[u8]) -> LaxSlicedPacket<'_> {
    LaxSlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(ether_type)), rest)
}

fn sender<'s, 'p>(net: &'s LaxNetSlice<'p>) -> Option<(IpAddr, &'s LaxIpPayloadSlice<'p>)> {
    match net {
        LaxNetSlice::Ipv4(ip) => Some((ip.header().source_addr().into(), ip.payload())),
        LaxNetSlice::Ipv6(ip) => Some((ip.header().source_addr().into(), ip.payload())),
        LaxNetSlice::Arp(_) => None,
    }
}

fn request(udp: &UdpSlice<'_>, is_cut: bool, port: u16) -> Result<Box<[u8]>, Reason> {
    if udp.source_port() == port {
        // A server's own port asks nothing: what claims to would be answered by nobody.
        return Err(Reason::Reply);
    }
    if udp.destination_port() != port {
        return Err(Reason::OtherPort(udp.destination_port()));
    }
    if is_cut {
        return Err(Reason::Truncated);
    }
    let length = usize::from(udp.length());
    if length != 0 && length != UdpHeader::LEN + udp.payload().len() {
        return Err(Reason::Damaged);
    }
    Ok(udp.payload().into())
}
