//! Who sent what, without saying who: pseudonyms that keep which requests came from the same source or user.
//!
//! A pseudonym is a keyed hash (`SipHash`-2-4). The keys are drawn when the server starts and are kept in memory only, so
//! nobody can tell later which address has which pseudonym, and another start gives others.
//!
//! - An IPv4 address becomes one of 240.0.0.0/4, which nobody uses. That is 2^28: in one recording of five, two of 10,000
//!   sources share a pseudonym; of 100,000 sources some 19 pairs do. An IPv6 address becomes one of `fd00::/64`. Ports
//!   stay, for they tell flows apart.
//! - A named user becomes `user-` and 16 hexadecimal digits, and the request's signature becomes zeros: it would let
//!   somebody who guesses name and key see that the guess is right. Anonymous requests stay byte for byte; what signs
//!   them is no secret.
//! - Everything else stays: digests, times, and whatever a malformed request holds.
//!
//! A source recognises its own requests, and whoever saw the same traffic elsewhere can match times, ports and digests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pyzor_protocol::{MAX_DATAGRAM_BYTES, Request, Scratch, User};
use rustix::rand::{GetRandomFlags, getrandom};
use siphasher::sip::SipHasher24;

use super::packet::MAX_OVERHEAD_BYTES;
use crate::error::Error;

/// Where the pseudonyms of IPv4 addresses are.
const V4_RANGE: u32 = 0xf000_0000;
const V4_PSEUDONYM_BITS: u32 = 28;

/// Where those of IPv6 addresses are.
const V6_RANGE: u128 = 0xfd00 << 112;

/// The longest datagram without its user: nothing but the shortest `User` header over and over.
const MAX_HIDDEN_BYTES: usize =
    (MAX_DATAGRAM_BYTES / SHORTEST_USER_LINE_BYTES + 1) * (SHORTEST_USER_LINE_BYTES + USER_BYTES);
const SHORTEST_USER_LINE_BYTES: usize = b"User:\n".len();

// A packet's length is a number of 16 bits.
const _: () = assert!(MAX_HIDDEN_BYTES + MAX_OVERHEAD_BYTES <= u16::MAX as usize);

const USER_BYTES: usize = USER_PREFIX.len() + USER_HEX_DIGITS;
const USER_PREFIX: &[u8] = b"user-";
const USER_HEX_DIGITS: usize = 16;

/// A secret that pseudonyms, or the choice of sources, depend on.
#[derive(Clone)]
pub(super) struct HashKey([u8; 16]);

impl HashKey {
    /// A random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(super) fn draw() -> Result<Self, Error> {
        let mut key = [0; 16];
        // The kernel fills so few bytes at once.
        getrandom(&mut key, GetRandomFlags::empty()).map_err(Error::system("draw a random key"))?;
        Ok(Self(key))
    }

    /// The address's hash; an IPv4 address counts as the IPv6 address it maps to.
    pub(super) fn hash_address(&self, ip: IpAddr) -> u64 {
        match ip {
            IpAddr::V4(ip) => self.hash(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => self.hash(&ip.octets()),
        }
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher24::new_with_key(&self.0).hash(bytes)
    }
}

/// The pseudonyms of one run of the server.
pub(super) struct Pseudonyms {
    addresses: HashKey,
    users: HashKey,
    scratch: Scratch,
}

impl Pseudonyms {
    /// Pseudonyms nobody can foresee.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(super) fn draw() -> Result<Self, Error> {
        Ok(Self {
            addresses: HashKey::draw()?,
            users: HashKey::draw()?,
            scratch: Scratch::new(),
        })
    }

    /// The pseudonym of a source, in the family of its address.
    pub(super) fn of_source(&self, ip: IpAddr) -> IpAddr {
        let hash = self.addresses.hash_address(ip);
        match ip {
            IpAddr::V4(_) => {
                let bits = hash >> (u64::BITS - V4_PSEUDONYM_BITS);
                Ipv4Addr::from(V4_RANGE | u32::try_from(bits).unwrap_or_default()).into()
            }
            IpAddr::V6(_) => Ipv6Addr::from(V6_RANGE | u128::from(hash)).into(),
        }
    }

    /// Writes the datagram of a named user to `out` without their name and signature.
    pub(super) fn hide_user(&mut self, datagram: &[u8], out: &mut Vec<u8>) -> Hiding {
        let User::Named(name) = Request::parse(datagram, &mut self.scratch).user() else {
            return Hiding::Needless;
        };
        let pseudonym = format_user(self.users.hash(name));
        out.clear();
        let mut field = Field::Other;
        for line in datagram.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let line = Line::new(line);
            // An empty line in the middle of a request does not count, so a folded one after it goes on with what was before.
            if line.is_empty() {
                line.append(out);
                continue;
            }
            if !line.is_folded {
                field = Field::named(line.before_value);
            }
            match field {
                Field::User if line.is_folded => return Hiding::Impossible,
                Field::User => line.append_with(&pseudonym, out),
                Field::Signature => line.append_with_zeros(out),
                Field::Other => line.append(out),
            }
        }
        Hiding::Done
    }
}

/// What came of hiding the user of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hiding {
    /// Nobody is named: it can stay as it is.
    Needless,
    /// Name and signature are gone.
    Done,
    /// The name goes over several lines, which no client sends. Without all of them, what is left could ask for something else.
    Impossible,
}

fn format_user(hash: u64) -> [u8; USER_BYTES] {
    let mut name = [0; USER_BYTES];
    let (prefix, digits) = name.split_at_mut(USER_PREFIX.len());
    prefix.copy_from_slice(USER_PREFIX);
    // Two digits a byte: it fits.
    let _ = hex::encode_to_slice(hash.to_be_bytes(), digits);
    name
}

/// What a header line says.
#[derive(Clone, Copy)]
enum Field {
    User,
    Signature,
    Other,
}

impl Field {
    fn named(name_and_colon: &[u8]) -> Self {
        match name_and_colon.split(|&byte| byte == b':').next() {
            Some(name) if name.eq_ignore_ascii_case(b"User") => Self::User,
            Some(name) if name.eq_ignore_ascii_case(b"Sig") => Self::Signature,
            _ => Self::Other,
        }
    }
}

/// One line of a datagram, in three parts.
struct Line<'d> {
    /// Whether it goes on with the header before it.
    is_folded: bool,
    /// The header's name, the colon, blanks.
    before_value: &'d [u8],
    value: &'d [u8],
    end: &'d [u8],
}

impl<'d> Line<'d> {
    fn new(line: &'d [u8]) -> Self {
        let is_folded = matches!(line.first(), Some(b' ' | b'\t'));
        let end_bytes = usize::from(matches!(line.last(), Some(b'\n' | b'\r')));
        let (content, end) = line.split_at(line.len() - end_bytes);
        let colon = content
            .iter()
            .position(|&byte| byte == b':')
            .filter(|_| !is_folded);
        let after_name = colon.map_or(0, |colon| colon + 1);
        let value = content[after_name..].trim_ascii_start();
        let (before_value, value) = content.split_at(content.len() - value.len());
        Self {
            is_folded,
            before_value,
            value,
            end,
        }
    }

    fn is_empty(&self) -> bool {
        self.before_value.is_empty() && self.value.is_empty()
    }

    fn append(&self, out: &mut Vec<u8>) {
        self.append_with(self.value, out);
    }

    fn append_with(&self, value: &[u8], out: &mut Vec<u8>) {
        for part in [self.before_value, value, self.end] {
            out.extend_from_slice(part);
        }
    }

    fn append_with_zeros(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before_value);
        out.extend(self.value.iter().map(|_| b'0'));
        out.extend_from_slice(self.end);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn hidden(pseudonyms: &mut Pseudonyms, datagram: &str) -> Option<String> {
        let mut out = b"left over".to_vec();
        let hiding = pseudonyms.hide_user(datagram.as_bytes(), &mut out);
        (hiding == Hiding::Done).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_source_has_one_pseudonym_in_its_family() {
        let pseudonyms = Pseudonyms::draw().unwrap();
        let of = |ip: &str| pseudonyms.of_source(ip.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::1"));
        let sources = (0..1000).map(Ipv4Addr::from);
        let pseudonyms_v4: HashSet<_> = sources.map(|ip| of(&ip.to_string())).collect();
        assert!(pseudonyms_v4.len() >= 999, "{}", pseudonyms_v4.len());
        assert!(
            pseudonyms_v4
                .iter()
                .all(|ip| matches!(ip, IpAddr::V4(ip) if ip.octets()[0] >= 240))
        );
        let v6 = of("2001:db8::1").to_string();
        assert!(v6.starts_with("fd00:"), "{v6}");
        let others = Pseudonyms::draw().unwrap();
        assert_ne!(
            of("2001:db8::1"),
            others.of_source("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn a_named_users_request_loses_name_and_signature_and_nothing_else() {
        let mut pseudonyms = Pseudonyms::draw().unwrap();
        let name = |pseudonyms: &Pseudonyms, user: &[u8]| {
            String::from_utf8(format_user(pseudonyms.users.hash(user)).to_vec()).unwrap()
        };
        let (alice, bob) = (name(&pseudonyms, b"alice"), name(&pseudonyms, b"bob"));
        assert_ne!(alice, bob);
        for (sent, kept) in [
            (
                "Op: ping\nThread: 2000\nPV: 2.1\nUser: alice\nTime: 7\nSig: 0badcafe\n\n",
                format!(
                    "Op: ping\nThread: 2000\nPV: 2.1\nUser: {alice}\nTime: 7\nSig: 00000000\n\n"
                ),
            ),
            (
                "USER:bob\r\nsig:ab\r\n cd\r\nOp: ping",
                format!("USER:{bob}\r\nsig:00\r\n 00\r\nOp: ping"),
            ),
            (
                "Op: ping\n\nUser: bob\n\n",
                format!("Op: ping\n\nUser: {bob}\n\n"),
            ),
        ] {
            assert_eq!(hidden(&mut pseudonyms, sent), Some(kept), "{sent}");
        }
    }

    #[test]
    fn a_folded_name_does_not_come_through() {
        let mut pseudonyms = Pseudonyms::draw().unwrap();
        for sent in [
            "Op: ping\nUser: al\n ice\nPV: 2.1\n",
            "User:\n\talice\nSig: 1\n",
            "User: a\n\n lice\n",
        ] {
            let hiding = pseudonyms.hide_user(sent.as_bytes(), &mut Vec::new());
            assert_eq!(hiding, Hiding::Impossible, "{sent}");
        }
    }

    #[test]
    fn whoever_gives_no_name_stays_as_they_are() {
        let mut pseudonyms = Pseudonyms::draw().unwrap();
        for sent in [
            "",
            "Op: ping\nUser: anonymous\nSig: 1\n\n",
            "Op: ping\nSig: 1\n\n",
            "User: \n",
            "no request",
        ] {
            assert_eq!(hidden(&mut pseudonyms, sent), None, "{sent}");
        }
    }

    #[test]
    fn no_datagram_grows_out_of_bounds() {
        let datagram = format!("User:a\n{}", "User:\n".repeat(MAX_DATAGRAM_BYTES / 6));
        let kept = hidden(&mut Pseudonyms::draw().unwrap(), &datagram).unwrap();
        assert!(kept.len() <= MAX_HIDDEN_BYTES, "{}", kept.len());
    }

    /// Pieces of requests, put together in any order.
    fn datagrams() -> impl Strategy<Value = Vec<u8>> {
        let pieces = [
            "User",
            "user",
            "Sig",
            "Op",
            "Thread",
            "PV",
            ": ",
            ":",
            "\n",
            "\n\n",
            "\r\n",
            "\r",
            " ",
            "\t",
            "alice",
            "bob",
            "anonymous",
            "ping",
            "Op: check\n",
            "User: alice\n",
            "User: anonymous\n",
            "Sig: ab12\n",
            "\u{b}",
            "From ",
            "Op-Digest: b2c27325a034c581df0c9ef37e4a0d63208a3e7e\n",
            "\0",
            "é",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..20)
            .prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn a_hidden_request_asks_the_same_by_another_user(datagram in datagrams()) {
            let mut pseudonyms = Pseudonyms::draw().unwrap();
            let mut hidden = Vec::new();
            let (mut before, mut after) = (Scratch::new(), Scratch::new());
            let sent = Request::parse(&datagram, &mut before);
            let User::Named(name) = sent.user() else {
                prop_assert_eq!(pseudonyms.hide_user(&datagram, &mut hidden), Hiding::Needless);
                return Ok(());
            };
            if pseudonyms.hide_user(&datagram, &mut hidden) == Hiding::Impossible {
                return Ok(());
            }
            let recorded = Request::parse(&hidden, &mut after);
            let pseudonym = format_user(pseudonyms.users.hash(name));
            prop_assert_eq!(recorded.user(), User::Named(&pseudonym));
            prop_assert_eq!(recorded.op(), sent.op());
            prop_assert_eq!(recorded.thread(), sent.thread());
            prop_assert_eq!(recorded.is_reply(), sent.is_reply());
            prop_assert!(recorded.digests().eq(sent.digests()));
        }
    }
}
