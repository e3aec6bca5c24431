//! The control data that says which of a machine's addresses was asked, and which one is to answer: `IP_PKTINFO` and
//! `IPV6_PKTINFO`, byte by byte as the kernel reads and writes them.
//!
//! ```text
//! cmsghdr       0 length, header included (usize)   8 level (c_int)   12 type (c_int)
//! in_pktinfo   16 interface (c_int)   20 local address, 4 bytes   24 destination of the datagram, 4 bytes
//! in6_pktinfo  16 address, 16 bytes   32 interface (c_int)
//! ```
//!
//! Replies name the address only and leave the interface to the routing table, as if the socket were bound to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Bytes of control data that come with a datagram on an IPv4 wildcard socket.
pub(super) const V4_CONTROL_BYTES: usize = space(size_of::<libc::in_pktinfo>());

/// Bytes of control data that come with a datagram on an IPv6 wildcard socket.
pub(super) const V6_CONTROL_BYTES: usize = space(size_of::<libc::in6_pktinfo>());

const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const LENGTH: Range<usize> = 0..size_of::<usize>();
const LEVEL: Range<usize> = LENGTH.end..LENGTH.end + 4;
const TYPE: Range<usize> = LEVEL.end..HEADER_BYTES;
const V4_LOCAL: Range<usize> = HEADER_BYTES + 4..HEADER_BYTES + 8;
const V6_LOCAL: Range<usize> = HEADER_BYTES..HEADER_BYTES + 16;

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

/// The address that was asked, from a datagram's control data. It is the only kind of control data our sockets ask
/// for, so it comes first or not at all.
pub(super) fn asked_address(control: &[u8]) -> Option<IpAddr> {
    let level = libc::c_int::from_ne_bytes(field(control, LEVEL)?);
    let kind = libc::c_int::from_ne_bytes(field(control, TYPE)?);
    match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            Some(Ipv4Addr::from(field::<4>(control, V4_LOCAL)?).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            Some(Ipv6Addr::from(field::<16>(control, V6_LOCAL)?).into())
        }
        _ => None,
    }
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
        assert_eq!(asked_address(&info.bytes[..info.length]), Some(address));
    }

    #[test]
    fn what_is_written_reads_back() {
        round_trip("127.0.0.2");
        round_trip("2001:db8::7");
    }

    #[test]
    fn other_or_no_control_data_names_no_address() {
        assert_eq!(asked_address(&[]), None);
        assert_eq!(asked_address(&[0; V6_CONTROL_BYTES]), None);
    }

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(std::mem::offset_of!(libc::cmsghdr, cmsg_level), LEVEL.start);
        assert_eq!(std::mem::offset_of!(libc::cmsghdr, cmsg_type), TYPE.start);
        let local = HEADER_BYTES + std::mem::offset_of!(libc::in_pktinfo, ipi_spec_dst);
        assert_eq!(local, V4_LOCAL.start);
    }
}
