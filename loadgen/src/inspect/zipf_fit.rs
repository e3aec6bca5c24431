//! How skewed frequencies are: the exponent of Zipf's law that fits them best.
//!
//! By maximum likelihood: given that a request is about one of the `n` most frequent keys, it is about the one of rank `r`
//! with a probability proportional to `r^-s`. The likelihood is greatest where the mean logarithm of the rank is what the
//! law expects, and its curvature there gives the standard error. Ranks of rare keys are chance: only keys that
//! occur often enough are fitted, when there are enough of those. Ranks come from the counts themselves, which
//! makes the exponent a little too large.

use serde::Serialize;

/// Keys that occur less often are not fitted, if at least [`MIN_RANKS`] occur as often.
const MIN_COUNT: u64 = 10;
/// Fewer ranks tell little of a law.
const MIN_RANKS: usize = 10;
const MAX_EXPONENT: f64 = 10.0;
/// Halvings of the range of exponents: to some 1e-9.
const STEPS: u32 = 34;

/// The law that fits best.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ZipfFit {
    pub(super) exponent: f64,
    pub(super) standard_error: f64,
    /// How many of the most frequent keys were fitted.
    pub(super) ranks: usize,
    /// Each of them occurs at least as often.
    pub(super) least_count: u64,
    /// The greatest difference between the shares of the first ranks and what the law says of them: 0 is a perfect fit.
    pub(super) distance: f64,
}

/// What the law says for one exponent.
struct Law {
    mean_log_rank: f64,
    variance: f64,
    normalisation: f64,
}

impl ZipfFit {
    /// Fits counts, the highest first; `None` when there are fewer than two that differ from nothing.
    pub(super) fn of(counts: &[u64]) -> Option<Self> {
        let frequent = counts.partition_point(|count| *count >= MIN_COUNT);
        let ranks = if frequent < MIN_RANKS {
            counts.len()
        } else {
            frequent
        };
        let counts = counts.get(..ranks).filter(|counts| counts.len() > 1)?;
        let total = as_float(counts.iter().sum());
        let logs: Vec<f64> = (1..=ranks as u64).map(|rank| as_float(rank).ln()).collect();
        let observed = counts.iter().zip(&logs);
        let observed = observed
            .map(|(count, log)| as_float(*count) * log)
            .sum::<f64>()
            / total;
        let exponent = exponent(&logs, observed);
        let law = Law::new(&logs, exponent);
        Some(Self {
            exponent,
            standard_error: (total * law.variance).sqrt().recip(),
            ranks,
            least_count: counts.last().copied().unwrap_or(0),
            distance: law.distance(&logs, exponent, counts, total),
        })
    }
}

/// The mean logarithm of the rank falls as the exponent grows, so the one that gives `observed` is found by halving.
fn exponent(logs: &[f64], observed: f64) -> f64 {
    let (mut low, mut high) = (0.0, MAX_EXPONENT);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if Law::new(logs, middle).mean_log_rank > observed {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

impl Law {
    fn new(logs: &[f64], exponent: f64) -> Self {
        let (mut sum, mut logs_sum, mut squares_sum) = (0.0, 0.0, 0.0);
        for log in logs {
            let weight = (-exponent * log).exp();
            sum += weight;
            logs_sum += weight * log;
            squares_sum += weight * log * log;
        }
        let mean_log_rank = logs_sum / sum;
        Self {
            mean_log_rank,
            variance: squares_sum / sum - mean_log_rank * mean_log_rank,
            normalisation: sum,
        }
    }

    /// Kolmogorov's and Smirnov's distance.
    fn distance(&self, logs: &[f64], exponent: f64, counts: &[u64], total: f64) -> f64 {
        let (mut seen, mut expected, mut greatest) = (0.0, 0.0, 0.0_f64);
        for (log, count) in logs.iter().zip(counts) {
            seen += as_float(*count) / total;
            expected += (-exponent * log).exp() / self.normalisation;
            greatest = greatest.max((seen - expected).abs());
        }
        greatest
    }
}

#[expect(clippy::cast_precision_loss, reason = "no trace holds 2^52 requests")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{SplitMix64, Zipf};

    #[test]
    fn the_exponent_of_drawn_keys_is_found_again() {
        const RANKS: u32 = 2000;
        for drawn in [0.6, 1.0, 1.5] {
            let zipf = Zipf::new(RANKS, drawn);
            let mut random = SplitMix64::new(3);
            let mut counts = vec![0; RANKS as usize];
            for _ in 0..200_000 {
                counts[zipf.draw(&mut random) as usize] += 1;
            }
            counts.retain(|count| *count > 0);
            counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
            let fit = ZipfFit::of(&counts).unwrap();
            let error = fit.exponent - drawn;
            assert!(error.abs() < 0.05, "{drawn}: {fit:?}");
            assert!(fit.standard_error < 0.01 && fit.distance < 0.02, "{fit:?}");
        }
    }

    #[test]
    fn exact_counts_give_the_exact_exponent() {
        // 10,000 / r, within rounding.
        let counts: Vec<u64> = (1..=100).map(|rank| (10_000 + rank / 2) / rank).collect();
        let fit = ZipfFit::of(&counts).unwrap();
        assert!((fit.exponent - 1.0).abs() < 0.001, "{fit:?}");
        assert!(fit.distance < 0.001);
        assert_eq!((fit.ranks, fit.least_count), (100, 100));
    }

    #[test]
    fn equal_counts_have_no_skew_and_too_few_no_fit() {
        let fit = ZipfFit::of(&[5; 50]).unwrap();
        assert!(fit.exponent < 1e-6, "{fit:?}");
        assert!(ZipfFit::of(&[]).is_none());
        assert!(ZipfFit::of(&[7]).is_none());
        // As skewed as can be: the exponent is at its end, and still a number.
        let fit = ZipfFit::of(&[u64::MAX / 2, 1]).unwrap();
        assert!(fit.exponent <= MAX_EXPONENT && fit.standard_error.is_finite());
    }
}
