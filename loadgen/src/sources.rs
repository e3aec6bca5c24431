//! Which socket each recorded source sends from, so that every source stays a flow of its own.
//!
//! A new source gets a socket of its own until there are as many as allowed; later ones share those, each always the same one.
//! With a prefix, each recorded address becomes one of the prefix's addresses, and its ports become ports of that address.
//! Memory is bounded by the number of sockets, whatever the number of sources.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::trace::Source;

/// A range of source addresses, like `127.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    network: IpAddr,
    /// How many bits of an address count within the prefix.
    host_bits: u32,
}

impl Prefix {
    /// The `number`th of its addresses, round and round; leaves out the first and the last where there are more than two.
    fn address(self, number: u32) -> IpAddr {
        let number = u128::from(number);
        let host = match self.host_bits {
            0 => 0,
            1 => number % 2,
            bits => 1 + number % (u128::MAX >> (u128::BITS - bits)).saturating_sub(1),
        };
        match self.network {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "below 2^host_bits, at most 2^32"
            )]
            IpAddr::V4(network) => Ipv4Addr::from_bits(network.to_bits() | host as u32).into(),
            IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() | host).into(),
        }
    }

    /// Whether its addresses are IPv4.
    pub(crate) fn is_ipv4(self) -> bool {
        self.network.is_ipv4()
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected ADDRESS/BITS like 127.1.0.0/16, not {text}");
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits: u32 = bits.parse().map_err(|_| wrong())?;
        let (length, value) = match address {
            IpAddr::V4(address) => (u32::BITS, u128::from(address.to_bits())),
            IpAddr::V6(address) => (u128::BITS, address.to_bits()),
        };
        let host_bits = length.checked_sub(bits).ok_or_else(wrong)?;
        let host_mask = u128::MAX.checked_shr(u128::BITS - host_bits).unwrap_or(0);
        if value & host_mask != 0 {
            return Err(format!("{text} has bits set behind its first {bits}"));
        }
        Ok(Self {
            network: address,
            host_bits,
        })
    }
}

/// Sources and their sockets.
#[derive(Debug)]
pub(crate) struct Sources {
    limit: u32,
    prefix: Option<Prefix>,
    sockets: HashMap<Source, u32>,
    addresses: HashMap<IpAddr, u32>,
}

/// Where a source sends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// From this socket.
    Socket(u32),
    /// From a new socket, whose number this is, bound to this address if there is one.
    NewSocket(u32, Option<IpAddr>),
}

impl Sources {
    /// At most `limit` sockets, at least one.
    pub(crate) fn new(limit: u32, prefix: Option<Prefix>) -> Self {
        Self {
            limit: limit.max(1),
            prefix,
            sockets: HashMap::new(),
            addresses: HashMap::new(),
        }
    }

    /// How many sockets there are.
    #[expect(clippy::cast_possible_truncation, reason = "at most `limit`")]
    pub(crate) fn sockets(&self) -> u32 {
        self.sockets.len() as u32
    }

    /// How many addresses they send from.
    #[expect(clippy::cast_possible_truncation, reason = "at most `limit`")]
    pub(crate) fn addresses(&self) -> u32 {
        match self.prefix {
            Some(_) => self.addresses.len() as u32,
            None => 1,
        }
    }

    /// The socket of `source`. A new one counts as opened.
    pub(crate) fn place(&mut self, source: Source) -> Place {
        if let Some(&socket) = self.sockets.get(&source) {
            return Place::Socket(socket);
        }
        let opened = self.sockets();
        if opened == self.limit {
            return Place::Socket(self.shared(source));
        }
        self.sockets.insert(source, opened);
        Place::NewSocket(opened, self.address(source.0.ip()))
    }

    fn address(&mut self, recorded: IpAddr) -> Option<IpAddr> {
        let prefix = self.prefix?;
        #[expect(clippy::cast_possible_truncation, reason = "at most `limit`")]
        let next = self.addresses.len() as u32;
        let number = *self.addresses.entry(recorded).or_insert(next);
        Some(prefix.address(number))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is a u32")]
    fn shared(&self, source: Source) -> u32 {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        (hasher.finish() % u64::from(self.limit)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source(text.parse().unwrap())
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_a_prefix_come_round() {
        let addresses = |text, numbers: &[u32]| {
            let address = |&number| prefix(text).address(number).to_string();
            numbers.iter().map(address).collect::<Vec<_>>()
        };
        let wide = addresses("127.1.0.0/16", &[0, 1, 254, 255, 65533, 65534]);
        let expected = [
            "127.1.0.1",
            "127.1.0.2",
            "127.1.0.255",
            "127.1.1.0",
            "127.1.255.254",
            "127.1.0.1",
        ];
        assert_eq!(wide, expected);
        assert_eq!(addresses("10.0.0.7/32", &[0, 5]), ["10.0.0.7", "10.0.0.7"]);
        assert_eq!(addresses("10.0.0.6/31", &[0, 1]), ["10.0.0.6", "10.0.0.7"]);
        assert_eq!(
            addresses("10.0.0.4/30", &[0, 1, 2]),
            ["10.0.0.5", "10.0.0.6", "10.0.0.5"]
        );
        assert_eq!(
            addresses("fd00::/64", &[0, 65535]),
            ["fd00::1", "fd00::1:0"]
        );
        assert_eq!(addresses("::/0", &[0]), ["::1"]);
        assert_eq!(addresses("0.0.0.0/0", &[0]), ["0.0.0.1"]);
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "127.0.0.1",
            "127.0.0.0/33",
            "127.0.0.1/8",
            "::1/0",
            "x/8",
            "1.2.3.0/-1",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_source_has_its_socket_until_there_are_too_many() {
        let mut sources = Sources::new(2, None);
        let (a, b) = (source("1.1.1.1:1"), source("1.1.1.1:2"));
        assert_eq!(sources.place(a), Place::NewSocket(0, None));
        assert_eq!(sources.place(b), Place::NewSocket(1, None));
        assert_eq!(sources.place(a), Place::Socket(0));
        for port in 3..100 {
            let late = source(&format!("1.1.1.1:{port}"));
            let place = sources.place(late);
            assert!(matches!(place, Place::Socket(0 | 1)));
            assert_eq!(sources.place(late), place, "always the same");
        }
        assert_eq!(sources.sockets(), 2);
    }

    #[test]
    fn one_recorded_address_is_one_of_the_prefix() {
        let mut sources = Sources::new(10, Some(prefix("127.1.0.0/16")));
        let mut place = |text| sources.place(source(text));
        let at = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(place("9.9.9.9:1"), Place::NewSocket(0, at("127.1.0.1")));
        assert_eq!(place("8.8.8.8:1"), Place::NewSocket(1, at("127.1.0.2")));
        assert_eq!(place("9.9.9.9:2"), Place::NewSocket(2, at("127.1.0.1")));
    }
}
