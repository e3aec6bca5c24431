//! Counts by digest in a file: a line `DIGEST COUNT WL-COUNT` each, in the order of the digests where this program wrote it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use pyzor_protocol::Digest;

use super::{DigestCounts, MAX_DIGESTS};
use crate::error::Error;
use crate::report::write_file;
use crate::trace::{Input, words};

/// What a file expects.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The place of each digest in `counts`.
    numbers: HashMap<Digest, u32>,
    counts: Vec<DigestCounts>,
}

impl Expected {
    /// Reads a file, compressed or not.
    ///
    /// # Errors
    /// When it cannot be read, has a line that is none, names a digest twice, or names none or more than [`MAX_DIGESTS`].
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        Self::from_input(Input::open(path, None)?, path)
    }

    fn from_input(mut input: Input, path: &Path) -> Result<Self, Error> {
        let mut expected = Self {
            numbers: HashMap::new(),
            counts: Vec::new(),
        };
        let mut number = 0;
        while let Some(line) = input.line()? {
            number += 1;
            let added = match read(&line) {
                Line::Counts(digest, counts) => expected.add(digest, counts),
                Line::Empty => Ok(()),
                Line::Foreign => Err(
                    "a digest of 40 lower-case hexadecimal digits, its count and its whitelist count",
                ),
            };
            added.map_err(|expected| Error::TraceLine {
                path: path.to_owned(),
                line: number,
                expected,
            })?;
        }
        if expected.counts.is_empty() {
            return Err(Error::NothingExpected(path.to_owned()));
        }
        Ok(expected)
    }

    fn add(&mut self, digest: Digest, counts: DigestCounts) -> Result<(), &'static str> {
        let number = u32::try_from(self.counts.len()).unwrap_or(u32::MAX);
        if self.counts.len() >= MAX_DIGESTS {
            return Err("at most 10 million digests");
        }
        if self.numbers.insert(digest, number).is_some() {
            return Err("each digest once");
        }
        self.counts.push(counts);
        Ok(())
    }

    /// The place of `digest` among those of which something is expected.
    pub(super) fn number(&self, digest: &Digest) -> Option<u32> {
        self.numbers.get(digest).copied()
    }

    /// What is expected at a place.
    pub(super) fn counts(&self, number: u32) -> Option<DigestCounts> {
        self.counts.get(number as usize).copied()
    }

    /// How many digests there are.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// All digests with their places, in any order.
    pub(super) fn digests(&self) -> impl Iterator<Item = (&Digest, u32)> {
        self.numbers
            .iter()
            .map(|(digest, number)| (digest, *number))
    }
}

/// Writes counts so that they can be expected of another run.
pub(crate) fn write(path: &Path, answers: &[(Digest, DigestCounts)]) -> Result<(), Error> {
    write_file(path, |out: &mut BufWriter<File>| {
        writeln!(out, "# digest count wl-count")?;
        answers.iter().try_for_each(|(digest, counts)| {
            writeln!(out, "{digest} {} {}", counts.count, counts.whitelisted)
        })
    })
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Counts(Digest, DigestCounts),
    /// Empty, or a comment.
    Empty,
    Foreign,
}

fn read(line: &[u8]) -> Line {
    let Some(mut words) = words(line) else {
        return Line::Empty;
    };
    let first = words.next().unwrap_or_default();
    let mut number = || str::from_utf8(words.next()?).ok()?.parse().ok();
    match (Digest::from_hex(first), number(), number(), words.next()) {
        (Ok(digest), Some(count), Some(whitelisted), None) => {
            Line::Counts(digest, DigestCounts { count, whitelisted })
        }
        _ => Line::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "b2c27325a034c581df0c9ef37e4a0d63208a3e7e";

    fn parse(text: &'static str) -> Result<Expected, String> {
        let input = Input::new(Path::new("test"), Box::new(text.as_bytes()));
        Expected::from_input(input, Path::new("test")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_is_a_digest_and_two_counts() {
        let digest = Digest::from_hex(HEX.as_bytes()).unwrap();
        let counts = DigestCounts {
            count: 7,
            whitelisted: 0,
        };
        for rest in [" 7 0", ",7,0\r", "\t7; 0 "] {
            let line = format!("{HEX}{rest}");
            assert_eq!(read(line.as_bytes()), Line::Counts(digest, counts));
        }
        for rest in ["", " 7", " 7 0 0", " -1 0", " x 0", "0 7 0"] {
            assert_eq!(read(format!("{HEX}{rest}").as_bytes()), Line::Foreign);
        }
    }

    #[test]
    fn what_is_no_expectation_is_named_with_its_line() {
        let error = parse("# none\n\n").unwrap_err();
        assert!(error.starts_with("test lists no digest"), "{error}");
        let error = parse("# a comment\nhello 1 2\n").unwrap_err();
        assert!(
            error.starts_with("test, line 2: expected a digest"),
            "{error}"
        );
        let error = parse(concat!(
            "b2c27325a034c581df0c9ef37e4a0d63208a3e7e 1 0\n",
            "b2c27325a034c581df0c9ef37e4a0d63208a3e7e 2 0\n"
        ))
        .unwrap_err();
        assert_eq!(error, "test, line 2: expected each digest once");
    }

    #[test]
    fn what_is_written_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        let counts = DigestCounts {
            count: u64::MAX,
            whitelisted: 3,
        };
        let digest = Digest::from_bytes([7; Digest::BYTES]);
        write(&path, &[(digest, counts)]).unwrap();
        let expected = Expected::read(&path).unwrap();
        assert_eq!(expected.number(&digest), Some(0));
        assert_eq!(
            (expected.counts(0), expected.counts(1)),
            (Some(counts), None)
        );
        let other = Digest::from_bytes([8; Digest::BYTES]);
        assert_eq!(expected.number(&other), None);
    }
}
