//! Whether a server answers what is expected: the counts of each digest, from a file or from another run.
//!
//! - `file`: counts by digest as they stand in a file, which one run writes and another reads;
//! - `numbers`: digests as numbers, so that a sender need not look any up;
//! - `check`: what a sender's answers say.
//!
//! Only an answer to a check or an info about a single digest says what that digest's counts are, and only if its code is
//! 200. What a file expects is one pair of counts for each digest: it is meant for digests that nobody reports meanwhile.

pub(crate) mod check;
pub(crate) mod file;
pub(crate) mod numbers;

use serde::{Deserialize, Serialize};

/// Digests of one run whose answers are expected or kept, at most. One takes some 100 bytes here.
pub(crate) const MAX_DIGESTS: usize = 10_000_000;
/// Digests that are named with what was expected of them and what was found; others are counted.
pub(crate) const MAX_LISTED: usize = 100;

/// What is known of one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DigestCounts {
    /// How often it was reported.
    pub(crate) count: u64,
    /// How often it was whitelisted.
    pub(crate) whitelisted: u64,
}

/// What became of the expectations of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnswerResult {
    /// Answers that were compared with what was expected.
    pub(crate) checked: u64,
    /// Of those: answers with other counts.
    pub(crate) differing: u64,
    /// Answers about digests of which nothing was expected.
    pub(crate) unlisted: u64,
    /// The digests of differing answers, [`MAX_LISTED`] at most, those first that were expected first.
    pub(crate) differences: Vec<Difference>,
}

/// A digest that had other counts than it should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Difference {
    pub(crate) digest: String,
    pub(crate) expected: DigestCounts,
    /// In the first answer that differed.
    pub(crate) found: DigestCounts,
    /// Answers about it that differed.
    pub(crate) answers: u64,
}
