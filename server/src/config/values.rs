//! What the text of each kind of setting means. A value that means nothing gives what was expected instead.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use pyzor_storage::CleanupAge;
use pyzor_storage::redb_engine::{Durability, MIN_HOT_SET_BYTES};

use super::{Engine, IoChoice};
use crate::socket::MAX_LISTEN_ADDRESSES;

/// A value, or what was expected.
pub(super) type Parsed<T> = Result<T, String>;

/// What no host name holds, but a mistaken address: nobody needs to be asked about it.
const NOT_IN_HOST_NAMES: [char; 4] = [':', '[', ']', '/'];

/// Workers a server may be told to start.
const MAX_WORKERS: i64 = 1024;

pub(super) fn port(text: &str) -> Parsed<u16> {
    integer(text, 0..=i64::from(u16::MAX))
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| "a port number up to 65535".to_owned())
}

pub(super) fn nice(text: &str) -> Parsed<i32> {
    integer(text, -20..=19)
        .and_then(|level| i32::try_from(level).ok())
        .ok_or_else(|| "a nice level from -20 to 19".to_owned())
}

pub(super) fn workers(text: &str) -> Parsed<NonZeroUsize> {
    integer(text, 1..=MAX_WORKERS)
        .and_then(|workers| NonZeroUsize::new(usize::try_from(workers).ok()?))
        .ok_or_else(|| format!("a number of threads from 1 to {MAX_WORKERS}"))
}

pub(super) fn cleanup_age(text: &str) -> Parsed<CleanupAge> {
    integer(text, 0..=i64::from(u32::MAX))
        .and_then(|seconds| u32::try_from(seconds).ok())
        .map(CleanupAge::from_seconds)
        .ok_or_else(|| "a number of seconds, 0 for never".to_owned())
}

pub(super) fn engine(text: &str) -> Parsed<Engine> {
    word(
        text,
        &[
            ("redb", Engine::Redb),
            ("gdbm", Engine::Gdbm),
            ("mysql", Engine::Mysql),
            ("redis", Engine::Redis),
        ],
    )
}

pub(super) fn io(text: &str) -> Parsed<IoChoice> {
    word(
        text,
        &[
            ("auto", IoChoice::Auto),
            ("uring", IoChoice::Uring),
            ("mmsg", IoChoice::Mmsg),
        ],
    )
}

pub(super) fn durability(text: &str) -> Parsed<Durability> {
    word(
        text,
        &[
            ("group", Durability::Group),
            ("relaxed", Durability::Relaxed),
        ],
    )
}

/// The smallest recording that may be asked for, in bytes: several times the largest packet.
const MIN_RECORD_BYTES: u64 = 1 << 20;

/// Bytes of one recording.
pub(super) fn record_bytes(text: &str) -> Parsed<u64> {
    memory_bytes(text)
        .filter(|&bytes| bytes >= MIN_RECORD_BYTES)
        .ok_or_else(|| "a file size of at least 1M, such as 512M or 4G".to_owned())
}

/// A share of something, as a fraction.
pub(super) fn share(text: &str) -> Parsed<f64> {
    let number = text.trim().parse::<f64>().ok();
    number
        .filter(|&share| share > 0.0 && share <= 1.0)
        .ok_or_else(|| "a share above 0 and up to 1, such as 0.1".to_owned())
}

/// A yes or no, in Python's words.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    word(
        text,
        &[
            ("yes", true),
            ("no", false),
            ("true", true),
            ("false", false),
            ("on", true),
            ("off", false),
            ("1", true),
            ("0", false),
        ],
    )
}

/// A size of memory, of which there are `available` bytes: bytes, or with K, M or G a multiple of 1024 bytes.
pub(super) fn memory(text: &str, available: usize) -> Parsed<usize> {
    let bytes = memory_bytes(text)
        .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
        .filter(|&bytes| bytes >= MIN_HOT_SET_BYTES)
        .ok_or_else(|| "a memory size of at least 1M, such as 512M or 4G".to_owned())?;
    if bytes > available {
        return Err(format!("no more than there is here, {}M", available >> 20));
    }
    Ok(bytes)
}

fn memory_bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        _ => (text, 0),
    };
    let number = u64::try_from(integer(number, 0..=i64::MAX)?).ok()?;
    Some(number.saturating_mul(1 << shift))
}

/// Addresses and host names, separated by commas or blanks; an empty list is every address.
pub(super) fn listen(text: &str, port: u16) -> Parsed<Vec<SocketAddr>> {
    let names = text.split(|c: char| c == ',' || c.is_whitespace());
    let mut addresses = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        for address in resolve(name, port)? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    if addresses.is_empty() {
        addresses.push(every_address(port));
    }
    if addresses.len() > MAX_LISTEN_ADDRESSES {
        return Err(format!("at most {MAX_LISTEN_ADDRESSES} addresses"));
    }
    Ok(addresses)
}

fn resolve(name: &str, port: u16) -> Parsed<Vec<SocketAddr>> {
    if name == "*" {
        return Ok(vec![every_address(port)]);
    }
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address.to_canonical(), port)]);
    }
    let expected = "IP addresses or host names (without a port)";
    if bare.contains(NOT_IN_HOST_NAMES) {
        return Err(format!("{expected}; \"{name}\" is neither"));
    }
    resolve_host(bare, port).map_err(|error| {
        format!("{expected}; \"{name}\" is no address and is not resolved: {error}")
    })
}

/// Every address of both families, as far as there are two: the kernel may lack IPv6, or this process may not use it.
fn every_address(port: u16) -> SocketAddr {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).map_or_else(
        |_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        |_| both,
    )
}

/// A host's IPv4 addresses, like the reference; its IPv6 addresses if it has no others.
fn resolve_host(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = (name, port).to_socket_addrs()?;
    let (v4, v6): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv4);
    Ok(if v4.is_empty() { v6 } else { v4 })
}

/// One of a few words, in any case.
fn word<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Parsed<T> {
    let found = words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|&(_, value)| value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|&(word, _)| word).collect();
        format!("one of {}", words.join(", "))
    })
}

/// An integer as Python's `int` reads it: a sign, and underscores between digits.
fn integer(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let groups_are_digits = digits
        .split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    let number = text.replace('_', "").parse().ok()?;
    (groups_are_digits && range.contains(&number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_python_reads_them() {
        for (text, number) in [
            ("0", 0),
            (" 12\n", 12),
            ("+7", 7),
            ("-7", -7),
            ("1_000", 1000),
            ("007", 7),
        ] {
            assert_eq!(integer(text, i64::MIN..=i64::MAX), Some(number), "{text:?}");
        }
        for text in [
            "",
            "+",
            "_1",
            "1_",
            "1__0",
            "0x10",
            "1.0",
            "--1",
            "1 2",
            "٣",
            "99999999999999999999",
        ] {
            assert_eq!(integer(text, i64::MIN..=i64::MAX), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_have_ranges() {
        assert_eq!(port("24441"), Ok(24441));
        assert_eq!(nice("-20"), Ok(-20));
        assert_eq!(workers("2"), Ok(NonZeroUsize::new(2).unwrap()));
        assert_eq!(cleanup_age("0"), Ok(CleanupAge::from_seconds(0)));
        assert!(["", "65536", "-1"].map(port).iter().all(Result::is_err));
        assert!(["-21", "20"].map(nice).iter().all(Result::is_err));
        assert!(["0", "1025"].map(workers).iter().all(Result::is_err));
        assert!(
            ["-1", "4294967296"]
                .map(cleanup_age)
                .iter()
                .all(Result::is_err)
        );
    }

    #[test]
    fn memory_sizes_have_suffixes() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("2048K", 2 << 20),
            ("3m", 3 << 20),
            ("4G", 4 << 30),
        ] {
            assert_eq!(memory(text, 4 << 30), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1K", "-5M", "1T", "1.5G"] {
            assert!(memory(text, usize::MAX).is_err(), "{text}");
        }
        for text in ["4097M", "20000G", "99999999999G"] {
            let expected = Err("no more than there is here, 4096M".to_owned());
            assert_eq!(memory(text, 4 << 30), expected, "{text}");
        }
    }

    #[test]
    fn recordings_have_sizes_and_shares() {
        assert_eq!(record_bytes("1M"), Ok(1 << 20));
        assert_eq!(record_bytes("2G"), Ok(2 << 30));
        assert!(
            ["", "1K", "-1M"]
                .map(record_bytes)
                .iter()
                .all(Result::is_err)
        );
        assert_eq!(share("0.25"), Ok(0.25));
        assert_eq!(share("1"), Ok(1.0));
        for text in ["", "0", "1.1", "-0.1", "nan", "inf", "10%"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!((boolean("Yes"), boolean("0")), (Ok(true), Ok(false)));
        assert!(boolean("maybe").is_err());
    }

    #[test]
    fn words_are_taken_in_any_case() {
        assert_eq!(io("Uring"), Ok(IoChoice::Uring));
        assert_eq!(durability("RELAXED"), Ok(Durability::Relaxed));
        assert_eq!(io("epoll"), Err("one of auto, uring, mmsg".to_owned()));
    }

    #[test]
    fn addresses_come_in_lists() {
        let listen = |text| {
            let addresses = listen(text, 24441)?;
            Ok::<_, String>(
                addresses
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
            )
        };
        let everywhere = every_address(24441).to_string();
        assert_eq!(listen("").unwrap(), std::slice::from_ref(&everywhere));
        assert_eq!(listen("*").unwrap(), [everywhere]);
        assert_eq!(listen("::ffff:192.0.2.1").unwrap(), ["192.0.2.1:24441"]);
        assert_eq!(listen("127.0.0.1").unwrap(), ["127.0.0.1:24441"]);
        assert_eq!(
            listen("127.0.0.1, ::1 [::2],127.0.0.1").unwrap(),
            ["127.0.0.1:24441", "[::1]:24441", "[::2]:24441"]
        );
        assert_eq!(listen("::").unwrap(), ["[::]:24441"]);
        assert_eq!(listen("localhost").unwrap(), ["127.0.0.1:24441"]);
        for wrong in ["127.0.0.1:24441", "256.0.0.1", "[::1", "[]", "bad..name"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
        let many: Vec<_> = (0..=MAX_LISTEN_ADDRESSES)
            .map(|n| format!("127.0.0.{n}"))
            .collect();
        assert!(listen(&many.join(" ")).is_err());
    }
}
