//! Control data, byte by byte as the kernel reads and writes them: which of a machine's addresses was asked, and which one
//! is to answer (`IP_PKTINFO` and `IPV6_PKTINFO`), and when a datagram arrived (`SCM_TIMESTAMPNS`).
//!
//! ```text
//! cmsghdr       0 length, header included (usize)   8 level (c_int)   12 type (c_int)
//! in_pktinfo   16 interface (c_int)   20 local address, 4 bytes   24 destination of the datagram, 4 bytes
//! in6_pktinfo  16 address, 16 bytes   32 interface (c_int)
//! timespec     16 seconds since the epoch (i64)   24 nanoseconds (i64)
//! ```
//!
//! A datagram by IPv4 comes with an `in6_pktinfo` on a socket of both families, its address mapped (`::ffff:192.0.2.1`); read
//! is the IPv4 address. The kernel takes an `in_pktinfo` on such a socket, too.
//!
//! Replies name the address only and leave the interface to the routing table, as if the socket were bound to it.

use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of control data that come with a datagram on an IPv4 wildcard socket.
pub(super) const V4_CONTROL_BYTES: usize = space(size_of::<libc::in_pktinfo>());

/// Bytes of control data that come with a datagram on an IPv6 wildcard socket.
pub(super) const V6_CONTROL_BYTES: usize = space(size_of::<libc::in6_pktinfo>());

/// Bytes of control data that come with a datagram on a socket that notes arrivals.
pub(super) const TIME_CONTROL_BYTES: usize = space(size_of::<libc::timespec>());

/// The most bytes of control data that come with a datagram.
pub(super) const MAX_CONTROL_BYTES: usize = V6_CONTROL_BYTES + TIME_CONTROL_BYTES;

const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const LENGTH: Range<usize> = 0..size_of::<usize>();
const LEVEL: Range<usize> = LENGTH.end..LENGTH.end + 4;
const TYPE: Range<usize> = LEVEL.end..HEADER_BYTES;
const V4_LOCAL: Range<usize> = HEADER_BYTES + 4..HEADER_BYTES + 8;
const V6_LOCAL: Range<usize> = HEADER_BYTES..HEADER_BYTES + 16;
const SECONDS: Range<usize> = HEADER_BYTES..HEADER_BYTES + 8;
const NANOSECONDS: Range<usize> = SECONDS.end..SECONDS.end + 8;

/// What `CMSG_SPACE` gives: one message, padded so that another could follow.
const fn space(data_bytes: usize) -> usize {
    HEADER_BYTES + data_bytes.next_multiple_of(size_of::<usize>())
}

/// Control data for one reply.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct PacketInfo {
    bytes: [u8; V6_CONTROL_BYTES],
    length: usize,
}

impl PacketInfo {
    /// No control data.
    pub(super) const EMPTY: Self = Self {
        bytes: [0; V6_CONTROL_BYTES],
        length: 0,
    };

    /// Makes the reply leave from `local`.
    pub(super) fn set(&mut self, local: IpAddr) {
        self.bytes = [0; V6_CONTROL_BYTES];
        match local {
            IpAddr::V4(address) => {
                self.set_header(
                    libc::IPPROTO_IP,
                    libc::IP_PKTINFO,
                    size_of::<libc::in_pktinfo>(),
                );
                self.bytes[V4_LOCAL].copy_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                let data_bytes = size_of::<libc::in6_pktinfo>();
                self.set_header(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data_bytes);
                self.bytes[V6_LOCAL].copy_from_slice(&address.octets());
            }
        }
    }

    /// Where the kernel reads it.
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// Its length in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    fn set_header(&mut self, level: libc::c_int, kind: libc::c_int, data_bytes: usize) {
        self.bytes[LENGTH].copy_from_slice(&(HEADER_BYTES + data_bytes).to_ne_bytes());
        self.bytes[LEVEL].copy_from_slice(&level.to_ne_bytes());
        self.bytes[TYPE].copy_from_slice(&kind.to_ne_bytes());
        self.length = space(data_bytes);
    }
}

/// What came with a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ControlData {
    /// The address that was asked.
    pub(super) asked: Option<IpAddr>,
    /// When the kernel received the datagram.
    pub(super) arrived: Option<SystemTime>,
}

/// Reads what came with a datagram, one message after the other. What our sockets do not ask for is passed over.
pub(super) fn read(mut control: &[u8]) -> ControlData {
    let mut found = ControlData::default();
    while let Some(message) = first_message(control) {
        found.note(message);
        let next = message.len().next_multiple_of(size_of::<usize>());
        control = control.get(next..).unwrap_or_default();
    }
    found
}

fn first_message(control: &[u8]) -> Option<&[u8]> {
    let length = usize::from_ne_bytes(field(control, LENGTH)?);
    control.get(..length).filter(|_| length >= HEADER_BYTES)
}

impl ControlData {
    fn note(&mut self, message: &[u8]) {
        let number = |at| field(message, at).map(libc::c_int::from_ne_bytes);
        match (number(LEVEL), number(TYPE)) {
            (Some(libc::IPPROTO_IP), Some(libc::IP_PKTINFO)) => {
                self.asked = field(message, V4_LOCAL).map(|octets: [u8; 4]| octets.into());
            }
            (Some(libc::IPPROTO_IPV6), Some(libc::IPV6_PKTINFO)) => {
                let asked = field(message, V6_LOCAL).map(|octets: [u8; 16]| IpAddr::from(octets));
                self.asked = asked.map(|address| address.to_canonical());
            }
            (Some(libc::SOL_SOCKET), Some(libc::SCM_TIMESTAMPNS)) => self.arrived = time(message),
            _ => {}
        }
    }
}

fn time(message: &[u8]) -> Option<SystemTime> {
    let seconds = u64::try_from(i64::from_ne_bytes(field(message, SECONDS)?)).ok()?;
    let nanoseconds = u64::try_from(i64::from_ne_bytes(field(message, NANOSECONDS)?)).ok()?;
    let since = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanoseconds))?;
    UNIX_EPOCH.checked_add(since)
}

fn field<const N: usize>(control: &[u8], at: Range<usize>) -> Option<[u8; N]> {
    control.get(at)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let mut info = PacketInfo::EMPTY;
        info.set(address);
        let read_back = read(&info.bytes[..info.length]);
        assert_eq!(read_back.asked, Some(address));
        assert_eq!(read_back.arrived, None);
    }

    #[test]
    fn what_is_written_reads_back() {
        round_trip("127.0.0.2");
        round_trip("2001:db8::7");
    }

    #[test]
    fn a_mapped_address_is_one_of_ipv4() {
        let mut info = PacketInfo::EMPTY;
        info.set("::ffff:192.0.2.1".parse().unwrap());
        let read_back = read(&info.bytes[..info.length]);
        assert_eq!(read_back.asked, Some("192.0.2.1".parse().unwrap()));
    }

    /// A message as the kernel pads it.
    fn message(level: libc::c_int, kind: libc::c_int, data: &[u8]) -> Vec<u8> {
        let length = HEADER_BYTES + data.len();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(level.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(data);
        message.resize(length.next_multiple_of(8), 0);
        message
    }

    fn time_message(seconds: i64, nanoseconds: i64) -> Vec<u8> {
        let data = [seconds.to_ne_bytes(), nanoseconds.to_ne_bytes()].concat();
        message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &data)
    }

    #[test]
    fn all_messages_are_read_and_unknown_ones_passed_over() {
        let mut info = PacketInfo::EMPTY;
        info.set("192.0.2.1".parse().unwrap());
        let unknown = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &[7; 4]);
        let control = [&time_message(5, 6), &unknown, &info.bytes[..info.length]].concat();
        let expected = ControlData {
            asked: Some("192.0.2.1".parse().unwrap()),
            arrived: Some(UNIX_EPOCH + Duration::new(5, 6)),
        };
        assert_eq!(read(&control), expected);
        for length in 0..TIME_CONTROL_BYTES {
            assert_eq!(read(&control[..length]), ControlData::default(), "{length}");
        }
    }

    #[test]
    fn no_control_data_says_nothing() {
        assert_eq!(read(&[]), ControlData::default());
        assert_eq!(read(&[0; MAX_CONTROL_BYTES]), ControlData::default());
        assert_eq!(read(&time_message(-1, 0)), ControlData::default());
        assert_eq!(read(&[0xff; MAX_CONTROL_BYTES]), ControlData::default());
    }

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(std::mem::offset_of!(libc::cmsghdr, cmsg_level), LEVEL.start);
        assert_eq!(std::mem::offset_of!(libc::cmsghdr, cmsg_type), TYPE.start);
        let local = HEADER_BYTES + std::mem::offset_of!(libc::in_pktinfo, ipi_spec_dst);
        assert_eq!(local, V4_LOCAL.start);
    }
}
