//! What is made of the counts, as it stands in JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::rate::RateOverTime;
use super::survey::share;
use super::zipf_fit::ZipfFit;
use crate::trace::Skipped;

/// What is in a trace. Shares are between 0 and 1.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) trace: String,
    pub(super) kind: String,
    pub(super) requests: u64,
    /// Of all datagrams, without headers.
    pub(super) bytes: u64,
    /// From the first request to the last.
    pub(super) duration_s: f64,
    pub(super) rate: RateSummary,
    /// Requests by operation; `other` for what is none.
    pub(super) operations: BTreeMap<&'static str, u64>,
    pub(super) users: UserSummary,
    pub(super) digests: DigestSummary,
    /// How many requests are about so many digests.
    pub(super) digests_a_request: BTreeMap<usize, u64>,
    pub(super) sources: SourceSummary,
    /// Requests from the same address and port with the same `Thread`, operation and digest as one before; nothing where
    /// a trace does not tell.
    pub(super) duplicates: Option<u64>,
    /// Requests that any server refuses whoever sends them.
    pub(super) malformed: u64,
    pub(super) skipped: Skipped,
    /// What must be known to read the numbers rightly.
    pub(super) notes: Vec<String>,
}

/// Requests over time.
#[derive(Debug, Serialize)]
pub(super) struct RateSummary {
    /// Nothing for a single moment.
    pub(super) mean_per_s: Option<f64>,
    /// In the busiest interval.
    pub(super) peak_per_s: f64,
    pub(super) interval_s: f64,
    /// In each interval.
    pub(super) requests: Vec<u64>,
}

/// A name and how often it occurs.
#[derive(Debug, Serialize)]
pub(super) struct Count {
    pub(super) name: String,
    pub(super) requests: u64,
}

/// Who asked.
#[derive(Debug, Serialize)]
pub(super) struct UserSummary {
    pub(super) distinct: u64,
    pub(super) top: Vec<Count>,
}

/// What was asked about.
#[derive(Debug, Serialize)]
pub(super) struct DigestSummary {
    /// All of them, with repetitions.
    pub(super) asked: u64,
    pub(super) distinct: u64,
    /// Of so many distinct digests one was counted: 1 unless there are millions. What follows is of that sample.
    pub(super) sampled_one_in: u64,
    /// Share of distinct digests that occur once.
    pub(super) once_share: f64,
    pub(super) top_shares: TopShares,
    pub(super) zipf: Option<ZipfFit>,
}

/// Where requests came from.
#[derive(Debug, Serialize)]
pub(super) struct SourceSummary {
    pub(super) addresses: u64,
    /// Addresses with ports.
    pub(super) flows: u64,
    /// Of so many addresses one was counted: 1 unless there are millions. What follows is of that sample.
    pub(super) sampled_one_in: u64,
    pub(super) top_shares: TopShares,
    /// Of the address in the middle.
    pub(super) median_requests: u64,
    /// One address in a hundred sent at least as many.
    pub(super) p99_requests: u64,
    pub(super) top: Vec<Count>,
}

/// The share of the most frequent one, ten, and hundred.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct TopShares {
    pub(super) one: f64,
    pub(super) ten: f64,
    pub(super) hundred: f64,
}

impl RateSummary {
    pub(super) fn new(requests: u64, length: Duration, over_time: &RateOverTime) -> Self {
        let interval_s = over_time.length().as_secs_f64();
        let busiest = over_time.counts().iter().copied().max().unwrap_or(0);
        // Between the first and the last request are one fewer distances than requests.
        let distances = requests.saturating_sub(1);
        let mean = (length > Duration::ZERO).then(|| per_s(distances, length.as_secs_f64()));
        Self {
            mean_per_s: mean,
            peak_per_s: per_s(busiest, interval_s),
            interval_s,
            requests: over_time.counts().to_vec(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no trace holds 2^52 requests")]
fn per_s(requests: u64, seconds: f64) -> f64 {
    requests as f64 / seconds
}

impl Count {
    pub(super) fn new(name: String, requests: u64) -> Self {
        Self { name, requests }
    }
}

impl TopShares {
    /// Of counts, the highest first.
    pub(super) fn of(ranked: &[u64]) -> Self {
        let total = ranked.iter().sum();
        let of_top = |ranks: usize| share(ranked.iter().take(ranks).sum(), total);
        Self {
            one: of_top(1),
            ten: of_top(10),
            hundred: of_top(100),
        }
    }
}
