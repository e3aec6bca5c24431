//! Digests as numbers: the feed numbers them, a sender remembers the number of each request, and whoever reports turns the
//! numbers into digests again.

use std::collections::HashMap;
use std::sync::Arc;

use pyzor_protocol::Digest;

use super::MAX_DIGESTS;
use super::file::Expected;

/// What is to be known of the answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) expected: Option<Arc<Expected>>,
    /// Whether every digest's latest counts are kept.
    pub(crate) is_kept: bool,
}

/// The digest of a request, as far as its answer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DigestNumber(u32);

/// Numbers of the digests of one run: first those of which something is expected, then others as they come.
#[derive(Debug)]
pub(crate) struct Numbers {
    wanted: Wanted,
    fresh: HashMap<Digest, u32>,
}

impl Wanted {
    /// Whether answers matter at all.
    fn is_any(&self) -> bool {
        self.expected.is_some() || self.is_kept
    }

    pub(super) fn expected_len(&self) -> usize {
        self.expected.as_ref().map_or(0, |expected| expected.len())
    }
}

impl DigestNumber {
    /// The answer says nothing of a digest's counts.
    pub(crate) const NONE: Self = Self(u32::MAX);
    /// The answer is about a digest that has no number.
    pub(crate) const UNLISTED: Self = Self(u32::MAX - 1);

    /// That of a digest that has one.
    pub(super) const fn numbered(number: u32) -> Self {
        Self(number)
    }

    pub(super) fn get(self) -> Option<u32> {
        (self.0 < Self::UNLISTED.0).then_some(self.0)
    }
}

impl Numbers {
    pub(crate) fn new(wanted: &Wanted) -> Self {
        Self {
            wanted: wanted.clone(),
            fresh: HashMap::new(),
        }
    }

    /// The number of a request's digest; `None` where its answer says nothing of one.
    pub(crate) fn of(&mut self, digest: Option<Digest>) -> DigestNumber {
        let Some(digest) = digest.filter(|_| self.wanted.is_any()) else {
            return DigestNumber::NONE;
        };
        let expected = self.wanted.expected.as_ref();
        let known = expected.and_then(|expected| expected.number(&digest));
        let number = known.or_else(|| self.fresh(digest));
        number.map_or(DigestNumber::UNLISTED, DigestNumber)
    }

    fn fresh(&mut self, digest: Digest) -> Option<u32> {
        if !self.wanted.is_kept {
            return None;
        }
        if let Some(number) = self.fresh.get(&digest) {
            return Some(*number);
        }
        let next = self.wanted.expected_len() + self.fresh.len();
        let number = u32::try_from(next).ok().filter(|_| next < MAX_DIGESTS)?;
        self.fresh.insert(digest, number);
        Some(number)
    }

    /// The digests by their numbers.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let expected = self.wanted.expected.as_deref();
        let expected = expected.into_iter().flat_map(Expected::digests);
        let fresh = self.fresh.iter().map(|(digest, number)| (digest, *number));
        let mut numbered: Vec<(u32, Digest)> = expected
            .chain(fresh)
            .map(|(digest, number)| (number, *digest))
            .collect();
        numbered.sort_unstable();
        numbered.into_iter().map(|(_, digest)| digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_numbered_once_and_only_where_they_matter() {
        let digest = |byte| Some(Digest::from_bytes([byte; Digest::BYTES]));
        let mut none = Numbers::new(&Wanted::default());
        assert_eq!(none.of(digest(1)), DigestNumber::NONE);
        let mut all = Numbers::new(&Wanted {
            expected: None,
            is_kept: true,
        });
        let numbers = [1, 2, 1].map(|byte| all.of(digest(byte)).get());
        assert_eq!(numbers, [Some(0), Some(1), Some(0)]);
        assert_eq!(all.of(None), DigestNumber::NONE);
        assert_eq!(all.digests(), [digest(1).unwrap(), digest(2).unwrap()]);
    }
}
