//! Captures, written without the crates under test.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// The link type of packets without a link.
const RAW_IP: u32 = 101;

/// A capture of raw IPv4 packets to the usual port: seconds and nanoseconds, sender, datagram.
pub(crate) fn write_capture(path: &Path, packets: &[(Duration, SocketAddr, Vec<u8>)]) {
    let mut file = Vec::new();
    let half = |number: u16| number.to_be_bytes();
    file.extend(0xa1b2_3c4d_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(65_535_u32.to_le_bytes());
    file.extend(RAW_IP.to_le_bytes());
    for (at, source, datagram) in packets {
        let IpAddr::V4(address) = source.ip() else {
            panic!("{source} is not IPv4");
        };
        let udp_length = u16::try_from(8 + datagram.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(half(20 + udp_length));
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(address.octets());
        packet.extend([192, 0, 2, 1]);
        packet.extend([half(source.port()), half(24441), half(udp_length), [0, 0]].concat());
        packet.extend(datagram);
        let length = u32::try_from(packet.len()).unwrap();
        let seconds = 1_000_000_000 + u32::try_from(at.as_secs()).unwrap();
        for part in [seconds, at.subsec_nanos(), length, length] {
            file.extend(part.to_le_bytes());
        }
        file.extend(packet);
    }
    std::fs::write(path, file).unwrap();
}
