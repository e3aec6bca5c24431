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

#[cfg(test)]
mod tests {
    use etherparse::{
        IpFragOffset, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header,
        Ipv6RawExtHeader, PacketBuilder, VlanId,
    };
    use proptest::prelude::*;

    use super::*;

    const PORT: u16 = 24441;
    const CLIENT: u16 = 40_000;
    const PING: &[u8] = b"Op: ping\n\n";
    const LINKS: [Link; 6] = [
        Link::Ethernet,
        Link::Cooked,
        Link::Cooked2,
        Link::Loopback,
        Link::Ip,
        Link::Foreign,
    ];

    fn whole(link: Link, packet: &[u8]) -> Result<Request, Reason> {
        read(link, packet, false, PORT)
    }

    #[track_caller]
    fn assert_ping(link: Link, packet: &[u8], source: &str) {
        let (Source(found), datagram) = whole(link, packet).unwrap();
        assert_eq!(found.to_string(), source);
        assert_eq!(&datagram[..], PING);
    }

    fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(UdpHeader::LEN + payload.len()).unwrap();
        let header = UdpHeader {
            source_port: from,
            destination_port: to,
            length,
            checksum: 0,
        };
        [&header.to_bytes()[..], payload].concat()
    }

    fn ipv4(protocol: IpNumber, payload: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap();
        let mut header =
            Ipv4Header::new(length, 64, protocol, [192, 0, 2, 1], [192, 0, 2, 2]).unwrap();
        change(&mut header);
        [&header.to_bytes()[..], payload].concat()
    }

    fn ipv6(extensions: Ipv6Extensions, payload: &[u8]) -> Vec<u8> {
        let mut extensions = extensions;
        let next_header = extensions.set_next_headers(IpNumber::UDP);
        let length = extensions.header_len() + payload.len();
        let header = Ipv6Header {
            next_header,
            payload_length: u16::try_from(length).unwrap(),
            hop_limit: 64,
            source: "2001:db8::1"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
            ..Ipv6Header::default()
        };
        let mut packet = header.to_bytes().to_vec();
        extensions.write(&mut packet, next_header).unwrap();
        packet.extend(payload);
        packet
    }

    fn ping4() -> Vec<u8> {
        ipv4(IpNumber::UDP, &udp(CLIENT, PORT, PING), |_| ())
    }

    fn ping6() -> Vec<u8> {
        ipv6(Ipv6Extensions::default(), &udp(CLIENT, PORT, PING))
    }

    /// What stands before an IPv4 packet on each link.
    fn header(link: Link) -> Vec<u8> {
        match link {
            Link::Ethernet => [&[0; 12][..], &[8, 0]].concat(),
            Link::Cooked => [&[0, 0, 0, 1, 0, 6][..], &[0; 8], &[8, 0]].concat(),
            Link::Cooked2 => [&[8, 0][..], &[0; 18]].concat(),
            Link::Loopback => vec![2, 0, 0, 0],
            Link::Ip | Link::Foreign => Vec::new(),
        }
    }

    #[test]
    fn requests_are_found_on_every_link() {
        for link in LINKS {
            let packet = [header(link), ping4()].concat();
            if link == Link::Foreign {
                assert_eq!(whole(link, &packet), Err(Reason::ForeignLink));
            } else {
                assert_ping(link, &packet, "192.0.2.1:40000");
            }
        }
        assert_ping(Link::Ip, &ping6(), "[2001:db8::1]:40000");
        let big_endian_af_inet6 = [&[0, 0, 0, 30][..], &ping6()].concat();
        assert_ping(Link::Loopback, &big_endian_af_inet6, "[2001:db8::1]:40000");
    }

    #[test]
    fn link_types_have_their_numbers() {
        let of = |number| Link::of(Linktype(number));
        assert_eq!(of(1), Link::Ethernet);
        assert_eq!([0, 108].map(of), [Link::Loopback; 2]);
        assert_eq!([113, 276].map(of), [Link::Cooked, Link::Cooked2]);
        assert_eq!([12, 14, 101, 228, 229].map(of), [Link::Ip; 5]);
        assert_eq!([105, 147, -1].map(of), [Link::Foreign; 3]);
    }

    #[test]
    fn vlan_tags_are_passed_over() {
        let id = |id| VlanId::try_new(id).unwrap();
        let ethernet = || PacketBuilder::ethernet2([0; 6], [1; 6]);
        let addresses = ([192, 0, 2, 1], [192, 0, 2, 2], 64);
        let (from, to, ttl) = addresses;
        let mut tagged = Vec::new();
        let builder = ethernet().single_vlan(id(5)).ipv4(from, to, ttl);
        builder.udp(CLIENT, PORT).write(&mut tagged, PING).unwrap();
        assert_ping(Link::Ethernet, &tagged, "192.0.2.1:40000");
        let mut twice = Vec::new();
        let builder = ethernet().double_vlan(id(5), id(6)).ipv4(from, to, ttl);
        builder.udp(CLIENT, PORT).write(&mut twice, PING).unwrap();
        assert_eq!(twice[12..14], [0x88, 0xa8], "as a provider tags");
        assert_ping(Link::Ethernet, &twice, "192.0.2.1:40000");
    }

    #[test]
    fn options_and_extension_headers_are_passed_over() {
        let options = ipv4(IpNumber::UDP, &udp(CLIENT, PORT, PING), |header| {
            header.options = [1; 8].into();
            header.total_len += 8;
        });
        assert_ping(Link::Ip, &options, "192.0.2.1:40000");
        let raw =
            |length: usize| Ipv6RawExtHeader::new_raw(IpNumber::UDP, &vec![0; length]).unwrap();
        let extensions = Ipv6Extensions {
            hop_by_hop_options: Some(raw(6)),
            destination_options: Some(raw(14)),
            ..Ipv6Extensions::default()
        };
        let extended = ipv6(extensions, &udp(CLIENT, PORT, PING));
        assert_ping(Link::Ip, &extended, "[2001:db8::1]:40000");
        // A fragment header on what is whole.
        let atomic = Ipv6Extensions {
            fragment: Some(Ipv6FragmentHeader::new(
                IpNumber::UDP,
                IpFragOffset::ZERO,
                false,
                7,
            )),
            ..Ipv6Extensions::default()
        };
        let atomic = ipv6(atomic, &udp(CLIENT, PORT, PING));
        assert_ping(Link::Ip, &atomic, "[2001:db8::1]:40000");
        // And padding to the shortest frame, or a checksum, behind the packet.
        let padded = [header(Link::Ethernet), ping4(), vec![0; 20]].concat();
        assert_ping(Link::Ethernet, &padded, "192.0.2.1:40000");
    }

    #[test]
    fn fragments_are_none() {
        let datagram = udp(CLIENT, PORT, PING);
        let first = ipv4(IpNumber::UDP, &datagram, |header| {
            header.more_fragments = true;
        });
        let last = ipv4(IpNumber::UDP, &datagram, |header| {
            header.fragment_offset = IpFragOffset::try_new(185).unwrap();
        });
        let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, IpFragOffset::ZERO, true, 7);
        let sixth = Ipv6Extensions {
            fragment: Some(fragment),
            ..Ipv6Extensions::default()
        };
        for packet in [first, last, ipv6(sixth, &datagram)] {
            assert_eq!(whole(Link::Ip, &packet), Err(Reason::Fragment));
        }
    }

    #[test]
    fn foreign_packets_and_replies_are_none() {
        let packet = |from, to| ipv4(IpNumber::UDP, &udp(from, to, PING), |_| ());
        assert_eq!(whole(Link::Ip, &packet(PORT, CLIENT)), Err(Reason::Reply));
        assert_eq!(whole(Link::Ip, &packet(PORT, PORT)), Err(Reason::Reply));
        assert_eq!(
            whole(Link::Ip, &packet(CLIENT, 53)),
            Err(Reason::OtherPort(53))
        );
        let tcp = ipv4(IpNumber::TCP, &[0x50; 20], |_| ());
        let icmp = ipv4(IpNumber::ICMP, &[0; 8], |_| ());
        let arp = [&[0; 12][..], &[8, 6], &[0, 1, 8, 0, 6, 4, 0, 1], &[0; 20]].concat();
        assert_eq!(whole(Link::Ip, &tcp), Err(Reason::NotUdp));
        assert_eq!(whole(Link::Ip, &icmp), Err(Reason::NotUdp));
        assert_eq!(whole(Link::Ethernet, &arp), Err(Reason::NotUdp));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_damage() {
        let mut long = udp(CLIENT, PORT, PING);
        long[5] += 1;
        let long = ipv4(IpNumber::UDP, &long, |_| ());
        assert_eq!(whole(Link::Ip, &long), Err(Reason::Damaged));
        for packet in [&[][..], &[0x45; 10], &[0x75; 40]] {
            assert_eq!(whole(Link::Ip, packet), Err(Reason::Damaged));
        }
        let mut short = udp(CLIENT, PORT, PING);
        short[5] = 3;
        let short = ipv4(IpNumber::UDP, &short, |_| ());
        assert!(whole(Link::Ip, &short).is_err());
    }

    #[test]
    fn whatever_is_cut_off_is_missed() {
        for link in LINKS.into_iter().filter(|link| *link != Link::Foreign) {
            let packet = [header(link), ping4()].concat();
            for length in 0..packet.len() {
                let cut = read(link, &packet[..length], true, PORT);
                assert_eq!(cut, Err(Reason::Truncated), "{link:?}, {length} bytes");
            }
            assert!(read(link, &packet, true, PORT).is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_packet_makes_trouble(
            packet in proptest::collection::vec(any::<u8>(), 0..200),
            link in proptest::sample::select(&LINKS[..]),
            is_cut: bool,
        ) {
            if let Ok((_, datagram)) = read(link, &packet, is_cut, PORT) {
                prop_assert!(datagram.len() <= packet.len());
            }
        }

        #[test]
        fn no_damage_makes_trouble(
            at in 0..60_usize,
            byte: u8,
            link in proptest::sample::select(&LINKS[..]),
            is_cut: bool,
        ) {
            for packet in [ping4(), ping6()] {
                let mut packet = [header(link), packet].concat();
                let at = at % packet.len();
                packet[at] = byte;
                let _ = read(link, &packet, is_cut, PORT);
            }
        }
    }
}
