//! The file's format: a pcap of nanosecond resolution whose packets begin at the IP header (link type "raw IP").
//!
//! The server never sees the headers of what it receives, so they are made up from the two addresses, with lengths and
//! checksums that are right for them.
//!
//! ```text
//! file header    0 magic   4 version 2.4   8 zero, 8 bytes   16 longest packet   20 link type
//! packet header  0 seconds   4 nanoseconds   8 bytes kept   12 bytes there were; then IP, UDP and the datagram
//! ```
//!
//! Numbers of pcap are little endian here, those of IP and UDP big endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::queue::Arrival;

/// What every file begins with.
pub(super) const FILE_HEADER: [u8; 24] = file_header();

const NANOSECOND_MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
const LINKTYPE_RAW: u32 = 101;
const LONGEST_PACKET_BYTES: u32 = 65_535;

const PACKET_HEADER_BYTES: usize = 16;
const UDP_HEADER_BYTES: usize = 8;
const V4_HEADER_BYTES: usize = 20;
const V6_HEADER_BYTES: usize = 40;

/// The most that a packet takes in the file besides its datagram.
pub(super) const MAX_OVERHEAD_BYTES: usize =
    PACKET_HEADER_BYTES + V6_HEADER_BYTES + UDP_HEADER_BYTES;

const V4_VERSION_AND_HEADER_WORDS: u8 = 0x45;
const V4_DO_NOT_FRAGMENT: u16 = 0x4000;
const V6_VERSION: u32 = 6 << 28;
const UDP: u8 = 17;
/// Hops a packet may still make: any number would do.
const HOPS: u8 = 64;
const NS_PER_S: u64 = 1_000_000_000;

const fn file_header() -> [u8; 24] {
    let magic = NANOSECOND_MAGIC.to_le_bytes();
    let [major, minor] = [VERSION[0].to_le_bytes(), VERSION[1].to_le_bytes()];
    let longest = LONGEST_PACKET_BYTES.to_le_bytes();
    let link = LINKTYPE_RAW.to_le_bytes();
    [
        magic[0], magic[1], magic[2], magic[3], major[0], major[1], minor[0], minor[1], 0, 0, 0, 0,
        0, 0, 0, 0, longest[0], longest[1], longest[2], longest[3], link[0], link[1], link[2],
        link[3],
    ]
}

/// Appends one packet. `datagram` is far shorter than the 64 KiB that a packet may have.
pub(super) fn append(out: &mut Vec<u8>, arrival: &Arrival, datagram: &[u8]) {
    let ends = Ends::new(arrival.sender.ip(), arrival.receiver.ip());
    let udp_bytes = UDP_HEADER_BYTES + datagram.len();
    append_packet_header(out, arrival.at_ns, ends.header_bytes() + udp_bytes);
    let udp = UdpHeader {
        ports: [arrival.sender.port(), arrival.receiver.port()],
        length: length(udp_bytes),
    };
    match ends {
        Ends::V4(ends) => append_v4_header(out, ends, udp.length),
        Ends::V6(ends) => append_v6_header(out, ends, udp.length),
    }
    udp.append(out, ends, datagram);
}

/// The sender's and the receiver's address.
#[derive(Clone, Copy)]
enum Ends {
    V4([Ipv4Addr; 2]),
    V6([Ipv6Addr; 2]),
}

impl Ends {
    fn new(sender: IpAddr, receiver: IpAddr) -> Self {
        match (sender, receiver) {
            (IpAddr::V4(sender), IpAddr::V4(receiver)) => Self::V4([sender, receiver]),
            (sender, receiver) => Self::V6([sender, receiver].map(|ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            })),
        }
    }

    fn header_bytes(&self) -> usize {
        match self {
            Self::V4(_) => V4_HEADER_BYTES,
            Self::V6(_) => V6_HEADER_BYTES,
        }
    }
}

fn append_packet_header(out: &mut Vec<u8>, at_ns: u64, packet_bytes: usize) {
    // The format's seconds end in 2106.
    let seconds = u32::try_from(at_ns / NS_PER_S).unwrap_or(u32::MAX);
    let nanoseconds = u32::try_from(at_ns % NS_PER_S).unwrap_or_default();
    let length = u32::from(length(packet_bytes));
    for number in [seconds, nanoseconds, length, length] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn append_v4_header(out: &mut Vec<u8>, ends: [Ipv4Addr; 2], udp_bytes: u16) {
    let [sender, receiver] = ends.map(|ip| ip.octets());
    let total = udp_bytes
        .saturating_add(length(V4_HEADER_BYTES))
        .to_be_bytes();
    let flags = V4_DO_NOT_FRAGMENT.to_be_bytes();
    let (version, identification, service) = (V4_VERSION_AND_HEADER_WORDS, 0, 0);
    let mut header = [0; V4_HEADER_BYTES];
    header[..12].copy_from_slice(&[
        version,
        service,
        total[0],
        total[1],
        identification,
        identification,
        flags[0],
        flags[1],
        HOPS,
        UDP,
        0,
        0,
    ]);
    header[12..16].copy_from_slice(&sender);
    header[16..].copy_from_slice(&receiver);
    let mut checksum = Checksum::default();
    checksum.add(&header);
    header[10..12].copy_from_slice(&checksum.finish().to_be_bytes());
    out.extend_from_slice(&header);
}

fn append_v6_header(out: &mut Vec<u8>, ends: [Ipv6Addr; 2], udp_bytes: u16) {
    out.extend_from_slice(&V6_VERSION.to_be_bytes());
    out.extend_from_slice(&udp_bytes.to_be_bytes());
    out.extend_from_slice(&[UDP, HOPS]);
    for ip in ends {
        out.extend_from_slice(&ip.octets());
    }
}

struct UdpHeader {
    ports: [u16; 2],
    length: u16,
}

impl UdpHeader {
    fn append(&self, out: &mut Vec<u8>, ends: Ends, datagram: &[u8]) {
        let [sender, receiver] = self.ports;
        for number in [sender, receiver, self.length, self.checksum(ends, datagram)] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(datagram);
    }

    /// Over the addresses, the protocol, the length (again), this header and the datagram.
    fn checksum(&self, ends: Ends, datagram: &[u8]) -> u16 {
        let mut sum = Checksum::default();
        match ends {
            Ends::V4(ends) => ends.iter().for_each(|ip| sum.add(&ip.octets())),
            Ends::V6(ends) => ends.iter().for_each(|ip| sum.add(&ip.octets())),
        }
        let [sender, receiver] = self.ports;
        for number in [u16::from(UDP), self.length, sender, receiver, self.length] {
            sum.add(&number.to_be_bytes());
        }
        sum.add(datagram);
        match sum.finish() {
            // Zero would say that there is no checksum.
            0 => u16::MAX,
            checksum => checksum,
        }
    }
}

/// The sum of IP and UDP: in ones' complement, over big-endian pairs of bytes. Only the last part may have an odd length.
#[derive(Default)]
struct Checksum(u64);

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let pairs = bytes.chunks_exact(2);
        if let [last] = pairs.remainder() {
            self.0 += u64::from(u16::from_be_bytes([*last, 0]));
        }
        self.0 += pairs
            .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum::<u64>();
    }

    fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > u64::from(u16::MAX) {
            sum = (sum & u64::from(u16::MAX)) + (sum >> u16::BITS);
        }
        !u16::try_from(sum).unwrap_or_default()
    }
}

/// A length in bytes as a header holds it; no packet comes near the limit.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sender: &str, receiver: &str, datagram: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let arrival = Arrival {
            at_ns: 1_795_261_432_000_000_007,
            sender: sender.parse().unwrap(),
            receiver: receiver.parse().unwrap(),
        };
        append(&mut out, &arrival, datagram);
        out
    }

    /// The same, byte by byte, with checksums worked out by hand.
    #[test]
    fn an_ipv4_packet_is_what_it_should_be() {
        let expected = [
            &[0xf8, 0x83, 0x01, 0x6b, 7, 0, 0, 0, 31, 0, 0, 0, 31, 0, 0, 0][..],
            &[0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xca],
            &[192, 0, 2, 1, 192, 0, 2, 2],
            &[0x00, 0x01, 0x5f, 0x79, 0, 11, 0x57, 0xf7],
            b"abc",
        ];
        assert_eq!(
            packet("192.0.2.1:1", "192.0.2.2:24441", b"abc"),
            expected.concat()
        );
    }

    #[test]
    fn a_receiver_of_correct_packets_sums_up_to_zero() {
        for (sender, receiver, udp_at) in [
            ("10.0.0.1:5", "10.0.0.2:6", 36),
            ("[fd00::1]:5", "[fd00::2]:6", 56),
        ] {
            for datagram in [&b""[..], b"a", b"ab", &[0xff; 8192]] {
                let packet = packet(sender, receiver, datagram);
                let addresses = &packet[udp_at - 8..udp_at];
                let addresses = if udp_at == 56 {
                    &packet[24..56]
                } else {
                    addresses
                };
                let udp = &packet[udp_at..];
                let mut sum = Checksum::default();
                sum.add(addresses);
                sum.add(&[0, UDP]);
                sum.add(&length(udp.len()).to_be_bytes());
                sum.add(udp);
                assert_eq!(sum.finish(), 0, "{sender} {}", datagram.len());
            }
        }
    }

    #[test]
    fn the_overhead_is_no_larger_than_promised() {
        for (sender, receiver) in [
            ("10.0.0.1:5", "10.0.0.2:6"),
            ("[fd00::1]:5", "[fd00::2]:6"),
            ("10.0.0.1:5", "[::]:6"),
        ] {
            assert!(packet(sender, receiver, b"").len() <= MAX_OVERHEAD_BYTES);
        }
    }
}
