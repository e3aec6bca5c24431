//! Lists of digests: one a line, and what is asked about it if that is not `check`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use pyzor_protocol::{Digest, Operation};

use super::input::Input;
use super::rebuild::Rebuilder;
use super::skipped::Skipped;
use super::{Reader, Recorded, Source};
use crate::error::Error;

/// From one request to the next: a list knows no times.
const DISTANCE_NS: u64 = 1_000_000;
/// A list knows no sources either.
const SOURCE: Source = Source(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));

/// Whether a line is one of a list.
pub(super) fn is_line(line: &[u8]) -> bool {
    matches!(read(line), Line::Request(..))
}

/// A list of digests.
pub(super) struct Digests {
    input: Input,
    path: PathBuf,
    /// Read so far.
    lines: u64,
    requests: u64,
    rebuilder: Rebuilder,
}

impl Digests {
    pub(super) fn new(input: Input, path: &Path) -> Self {
        Self {
            input,
            path: path.to_owned(),
            lines: 0,
            requests: 0,
            rebuilder: Rebuilder::default(),
        }
    }
}

impl Reader for Digests {
    fn next(&mut self, _: &mut Skipped) -> Result<Option<Recorded>, Error> {
        while let Some(line) = self.input.line()? {
            self.lines += 1;
            match read(&line) {
                Line::Request(digest, operation) => {
                    let at_ns = self.requests.saturating_mul(DISTANCE_NS);
                    self.requests += 1;
                    return Ok(Some(Recorded {
                        at_ns,
                        source: SOURCE,
                        datagram: self.rebuilder.anonymous(operation, &[digest]),
                    }));
                }
                Line::Empty => {}
                Line::Foreign => {
                    return Err(Error::TraceLine {
                        path: self.path.clone(),
                        line: self.lines,
                        expected: "a digest of 40 lower-case hexadecimal digits, and then an operation or nothing",
                    });
                }
            }
        }
        Ok(None)
    }
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Request(Digest, Operation),
    /// Empty, or a comment.
    Empty,
    Foreign,
}

/// The words of a line, whatever separates them; `None` for one that says nothing: it is empty, or a comment.
pub(crate) fn words(line: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut words = line
        .split(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b';'))
        .filter(|word| !word.is_empty())
        .peekable();
    let says_something = words.peek().is_some_and(|first| !first.starts_with(b"#"));
    says_something.then_some(words)
}

fn read(line: &[u8]) -> Line {
    let Some(mut words) = words(line) else {
        return Line::Empty;
    };
    let digest = words.next().unwrap_or_default();
    let operation = words
        .next()
        .map_or(Some(Operation::Check), Operation::from_name);
    match (Digest::from_hex(digest), operation, words.next()) {
        (Ok(digest), Some(operation), None) => Line::Request(digest, operation),
        _ => Line::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "b2c27325a034c581df0c9ef37e4a0d63208a3e7e";

    #[test]
    fn a_line_is_a_digest_and_an_operation() {
        let digest = Digest::from_hex(HEX.as_bytes()).unwrap();
        let line = |rest: &str| read(format!("{HEX}{rest}").as_bytes());
        for (rest, operation) in [
            ("", Operation::Check),
            ("\r", Operation::Check),
            (" report", Operation::Report),
            ("\tinfo ", Operation::Info),
            (",whitelist", Operation::Whitelist),
        ] {
            assert_eq!(line(rest), Line::Request(digest, operation), "{rest:?}");
        }
        for rest in ["0", " dance", " check check"] {
            assert_eq!(line(rest), Line::Foreign, "{rest:?}");
        }
        assert_eq!(read(b"# a comment"), Line::Empty);
        assert_eq!(read(b" "), Line::Empty);
        assert_eq!(read(b"hello"), Line::Foreign);
    }
}
