//! What the answers that one sender got say, compared at once with what is expected. Memory is bounded by the number of digests.

use std::collections::BTreeMap;

use pyzor_protocol::Digest;

use super::numbers::{DigestNumber, Numbers, Wanted};
use super::{AnswerResult, Difference, DigestCounts, MAX_LISTED};

/// Kept answers lie in pages of so many, so that a sender never stops to move all of them.
const PAGE: usize = 4096;

/// The answers of one sender.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    wanted: Wanted,
    checked: u64,
    differing: u64,
    unlisted: u64,
    /// By the digest's number: [`MAX_LISTED`] at most.
    differences: BTreeMap<u32, Differing>,
    /// The latest of each digest, by its number.
    latest: Vec<Vec<Option<Latest>>>,
}

#[derive(Clone, Copy, Debug)]
struct Differing {
    found: DigestCounts,
    answers: u64,
}

#[derive(Clone, Copy, Debug)]
struct Latest {
    /// Since the start of the run.
    at_ns: u64,
    counts: DigestCounts,
}

/// All that was learned in a run.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// `None` where nothing was expected.
    pub(crate) result: Option<AnswerResult>,
    /// The latest counts of each digest, in the digests' order; empty unless they were to be kept.
    pub(crate) latest: Vec<(Digest, DigestCounts)>,
}

impl Answers {
    pub(crate) fn new(wanted: &Wanted) -> Self {
        Self {
            wanted: wanted.clone(),
            ..Self::default()
        }
    }

    /// An answer with these counts came.
    pub(crate) fn note(&mut self, digest: DigestNumber, counts: DigestCounts, at_ns: u64) {
        if digest == DigestNumber::NONE {
            return;
        }
        let expected = self.wanted.expected.as_ref();
        match digest.get().and_then(|number| expected?.counts(number)) {
            Some(expected) => self.compare(digest, expected, counts),
            None => self.unlisted += 1,
        }
        if self.wanted.is_kept {
            self.keep(digest, Latest { at_ns, counts });
        }
    }

    fn compare(&mut self, digest: DigestNumber, expected: DigestCounts, found: DigestCounts) {
        self.checked += 1;
        if expected == found {
            return;
        }
        self.differing += 1;
        let has_room = self.differences.len() < MAX_LISTED;
        if let Some(number) = digest.get()
            && (has_room || self.differences.contains_key(&number))
        {
            let fresh = Differing { found, answers: 0 };
            self.differences.entry(number).or_insert(fresh).answers += 1;
        }
    }

    fn keep(&mut self, digest: DigestNumber, latest: Latest) {
        let Some(number) = digest.get().map(|number| number as usize) else {
            return;
        };
        let page = number / PAGE;
        if self.latest.len() <= page {
            self.latest.resize_with(page + 1, Vec::new);
        }
        if self.latest[page].is_empty() {
            self.latest[page].resize(PAGE, None);
        }
        let kept = &mut self.latest[page][number % PAGE];
        if kept.is_none_or(|kept| kept.at_ns <= latest.at_ns) {
            *kept = Some(latest);
        }
    }

    fn add(&mut self, other: &Self) {
        self.checked += other.checked;
        self.differing += other.differing;
        self.unlisted += other.unlisted;
        for (&number, &differing) in &other.differences {
            let fresh = Differing {
                answers: 0,
                ..differing
            };
            let entry = self.differences.entry(number).or_insert(fresh);
            entry.answers += differing.answers;
        }
        for (number, latest) in other.kept() {
            self.keep(DigestNumber::numbered(number), latest);
        }
    }

    /// The latest of each digest that has any, with its number.
    fn kept(&self) -> impl Iterator<Item = (u32, Latest)> {
        let places = self.latest.iter().enumerate().flat_map(|(page, latest)| {
            let first = page * PAGE;
            (first..).zip(latest)
        });
        places.filter_map(|(place, latest)| Some((u32::try_from(place).ok()?, (*latest)?)))
    }

    fn result(&self, digests: &[Digest]) -> Option<AnswerResult> {
        let expected = self.wanted.expected.as_ref()?;
        let listed = self.differences.iter().take(MAX_LISTED);
        let differences = listed.filter_map(|(&number, differing)| {
            Some(Difference {
                digest: digests.get(number as usize)?.to_string(),
                expected: expected.counts(number)?,
                found: differing.found,
                answers: differing.answers,
            })
        });
        Some(AnswerResult {
            checked: self.checked,
            differing: self.differing,
            unlisted: self.unlisted,
            differences: differences.collect(),
        })
    }
}

impl Learned {
    /// From all senders' answers.
    pub(crate) fn of(senders: Vec<Answers>, numbers: &Numbers) -> Self {
        let mut senders = senders.into_iter();
        let mut sum = senders.next().unwrap_or_default();
        senders.for_each(|each| sum.add(&each));
        let digests = numbers.digests();
        let latest = sum
            .kept()
            .filter_map(|(number, latest)| Some((*digests.get(number as usize)?, latest.counts)));
        let mut latest: Vec<(Digest, DigestCounts)> = latest.collect();
        latest.sort_unstable_by_key(|(digest, _)| *digest);
        Self {
            result: sum.result(&digests),
            latest,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::file::{self, Expected};
    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::from_bytes([number; Digest::BYTES])
    }

    fn counts(count: u64) -> DigestCounts {
        DigestCounts {
            count,
            whitelisted: 1,
        }
    }

    /// Expects of each digest its own number as count.
    fn wanted(digests: std::ops::Range<u8>, is_kept: bool) -> Wanted {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("expected");
        let lines: Vec<_> = digests
            .map(|number| (digest(number), counts(number.into())))
            .collect();
        file::write(&path, &lines).unwrap();
        Wanted {
            expected: Some(Arc::new(Expected::read(&path).unwrap())),
            is_kept,
        }
    }

    #[test]
    fn every_difference_counts_and_the_first_are_named() {
        let wanted = wanted(0..200, false);
        let mut numbers = Numbers::new(&wanted);
        let mut senders = [Answers::new(&wanted), Answers::new(&wanted)];
        for number in (0..200).chain(100..250) {
            let asked = numbers.of(Some(digest(number)));
            let sender = &mut senders[usize::from(number) % 2];
            sender.note(asked, counts(u64::from(number) + 1), 5);
        }
        senders[0].note(numbers.of(Some(digest(7))), counts(7), 6);
        senders[0].note(numbers.of(None), counts(7), 6);
        let learned = Learned::of(senders.into(), &numbers);
        let result = learned.result.unwrap();
        assert_eq!(
            (result.checked, result.differing, result.unlisted),
            (301, 300, 50)
        );
        assert_eq!(result.differences.len(), MAX_LISTED);
        let first = &result.differences[0];
        assert_eq!(first.digest, digest(0).to_string());
        assert_eq!((first.expected, first.found), (counts(0), counts(1)));
        let answers = |number: usize| result.differences[number].answers;
        assert_eq!([answers(0), answers(99)], [1, 1]);
        assert!(learned.latest.is_empty());
    }

    #[test]
    fn the_latest_answer_of_all_senders_is_kept() {
        let wanted = wanted(0..2, true);
        let mut numbers = Numbers::new(&wanted);
        let mut senders = [Answers::new(&wanted), Answers::new(&wanted)];
        for (sender, number, count, at_ns) in
            [(0, 9, 1, 10), (1, 9, 2, 20), (0, 9, 3, 15), (1, 1, 1, 30)]
        {
            let asked = numbers.of(Some(digest(number)));
            senders[sender].note(asked, counts(count), at_ns);
        }
        let learned = Learned::of(senders.into(), &numbers);
        let expected = [(digest(1), counts(1)), (digest(9), counts(2))];
        assert_eq!(learned.latest, expected);
        let result = learned.result.unwrap();
        assert_eq!(
            (result.checked, result.differing, result.unlisted),
            (1, 0, 3)
        );
    }
}
