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
//! Numbers of pcap are little endian here.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::queue::{Arrival, mapped};

/// What every file begins with.
pub(super) const FILE_HEADER: [u8; 24] = file_header();

const NANOSECOND_MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
const LINKTYPE_RAW: u32 = 101;
const LONGEST_PACKET_BYTES: u32 = 65_535;

const PACKET_HEADER_BYTES: usize = 16;
const UDP_HEADER_BYTES: usize = 8;
const V6_HEADER_BYTES: usize = 40;

/// The most that a packet takes in the file besides its datagram.
pub(super) const MAX_OVERHEAD_BYTES: usize =
    PACKET_HEADER_BYTES + V6_HEADER_BYTES + UDP_HEADER_BYTES;

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
    let Arrival {
        sender, receiver, ..
    } = arrival;
    let packet = match (sender.ip(), receiver.ip()) {
        (IpAddr::V4(sender), IpAddr::V4(receiver)) => {
            PacketBuilder::ipv4(sender.octets(), receiver.octets(), HOPS)
        }
        (sender, receiver) => {
            PacketBuilder::ipv6(mapped(sender).octets(), mapped(receiver).octets(), HOPS)
        }
    };
    let packet = packet.udp(sender.port(), receiver.port());
    append_packet_header(out, arrival.at_ns, packet.size(datagram.len()));
    // Memory takes everything, and no datagram is too long for a packet's length.
    let _ = packet.write(out, datagram);
}

fn append_packet_header(out: &mut Vec<u8>, at_ns: u64, packet_bytes: usize) {
    // The format's seconds end in 2106.
    let seconds = u32::try_from(at_ns / NS_PER_S).unwrap_or(u32::MAX);
    let nanoseconds = u32::try_from(at_ns % NS_PER_S).unwrap_or_default();
    let length = u32::try_from(packet_bytes).unwrap_or(u32::MAX);
    for number in [seconds, nanoseconds, length, length] {
        out.extend_from_slice(&number.to_le_bytes());
    }
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

    /// Zero would say that there is no checksum.
    #[test]
    fn a_checksum_is_never_zero() {
        for (sender, receiver, checksum_at) in [
            ("10.0.0.1:5", "10.0.0.2:6", 42),
            ("[fd00::1]:5", "[fd00::2]:6", 62),
        ] {
            let mut are_ones = 0;
            for datagram in 0..=u16::MAX {
                let packet = packet(sender, receiver, &datagram.to_be_bytes());
                let checksum = &packet[checksum_at..][..2];
                assert_ne!(checksum, [0, 0], "{sender} {datagram}");
                are_ones += usize::from(checksum == [0xff, 0xff]);
            }
            // What would be zero, for the one datagram that makes it so.
            assert_eq!(are_ones, 1, "{sender}");
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
