//! Socket addresses as the kernel reads and writes them (`sockaddr_in` and `sockaddr_in6`), byte by byte, so that
//! nothing has to be cast.
//!
//! ```text
//! sockaddr_in    0 family (host order)  2 port (big endian)  4 address, 4 bytes   8 zero, 8 bytes
//! sockaddr_in6   0 family (host order)  2 port (big endian)  4 flow information   8 address, 16 bytes  24 scope
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;

/// Bytes of a `sockaddr_in`.
pub(super) const V4_NAME_BYTES: usize = size_of::<libc::sockaddr_in>();

/// Bytes of a `sockaddr_in6`.
pub(super) const V6_NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

const FAMILY: Range<usize> = 0..2;
const PORT: Range<usize> = 2..4;
const V4_ADDRESS: Range<usize> = 4..8;
const V6_ADDRESS: Range<usize> = 8..24;
const V6_SCOPE: Range<usize> = 24..28;

/// An address in the kernel's form.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub(super) struct SocketName {
    bytes: [u8; V6_NAME_BYTES],
    length: u32,
}

impl SocketName {
    /// Room for any address.
    pub(super) const EMPTY: Self = Self {
        bytes: [0; V6_NAME_BYTES],
        length: 0,
    };

    /// Sets the address. Bytes past its length keep what they held.
    pub(super) fn set(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                self.set_family(libc::AF_INET, V4_NAME_BYTES);
                self.bytes[V4_ADDRESS].copy_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                self.set_family(libc::AF_INET6, V6_NAME_BYTES);
                self.bytes[V6_ADDRESS].copy_from_slice(&v6.ip().octets());
                self.bytes[V6_SCOPE].copy_from_slice(&v6.scope_id().to_ne_bytes());
            }
        }
        self.bytes[PORT].copy_from_slice(&address.port().to_be_bytes());
    }

    /// Where the kernel reads it.
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// Its length in bytes.
    pub(super) fn length(&self) -> libc::socklen_t {
        self.length
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "address families and lengths are small constants"
    )]
    fn set_family(&mut self, family: libc::c_int, length: usize) {
        self.bytes[FAMILY].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
        self.length = length as u32;
    }
}

/// Reads an address the kernel wrote; `None` for one that is neither IPv4 nor IPv6. What a socket of both families calls
/// `::ffff:192.0.2.7` is the IPv4 address: the kernel takes replies to that on such a socket, too.
pub(super) fn read(name: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(field(name, PORT)?);
    match libc::c_int::from(u16::from_ne_bytes(field(name, FAMILY)?)) {
        libc::AF_INET => {
            let address = Ipv4Addr::from(field::<4>(name, V4_ADDRESS)?);
            Some((address, port).into())
        }
        libc::AF_INET6 => {
            let address = Ipv6Addr::from(field::<16>(name, V6_ADDRESS)?);
            if let Some(mapped) = address.to_ipv4_mapped() {
                return Some((mapped, port).into());
            }
            let scope = u32::from_ne_bytes(field(name, V6_SCOPE)?);
            Some(SocketAddrV6::new(address, port, 0, scope).into())
        }
        _ => None,
    }
}

fn field<const N: usize>(name: &[u8], at: Range<usize>) -> Option<[u8; N]> {
    name.get(at)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let mut name = SocketName::EMPTY;
        name.set(address);
        assert_eq!(read(&name.bytes[..name.length as usize]), Some(address));
    }

    #[test]
    fn what_is_written_reads_back() {
        round_trip("192.0.2.7:24441");
        round_trip("[2001:db8::7]:24441");
        round_trip("[fe80::1%3]:65535");
    }

    #[test]
    fn a_mapped_address_is_one_of_ipv4() {
        let mut name = SocketName::EMPTY;
        name.set("[::ffff:192.0.2.7]:24441".parse().unwrap());
        let unmapped = Some("192.0.2.7:24441".parse().unwrap());
        assert_eq!(read(&name.bytes[..name.length as usize]), unmapped);
    }

    #[test]
    fn a_short_or_foreign_name_is_no_address() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0; V6_NAME_BYTES]), None);
        let mut name = SocketName::EMPTY;
        name.set("[::1]:1".parse().unwrap());
        assert_eq!(read(&name.bytes[..V4_NAME_BYTES]), None);
    }
}
