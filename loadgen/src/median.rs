//! The median of some numbers, and how sure one can be of it.
//!
//! Nothing is assumed of the numbers but that they are independent and of one distribution, whatever its form: each lies
//! below the true median as likely as above it, which is all that the interval rests on.

use std::fmt;

/// A median, and what covers the true one with at least 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    /// `None` when there are too few numbers for any.
    pub(crate) interval: Option<(f64, f64)>,
}

impl Estimate {
    /// Of at least one number.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let last = numbers.len() - 1;
        let cut = cut_off(numbers.len(), CONFIDENCE);
        Self {
            median: median(&numbers),
            interval: cut.map(|cut| (numbers[cut], numbers[last - cut])),
        }
    }
}

impl fmt::Display for Estimate {
    /// With the digits after the point that the format asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        write!(f, "{:.digits$} ", self.median)?;
        match self.interval {
            Some((low, high)) => write!(f, "[{low:.digits$} to {high:.digits$}]"),
            None => write!(f, "[none]"),
        }
    }
}

/// Of at least one number.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let last = sorted.len() - 1;
    f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)])
}

/// What an [`Estimate`]'s interval covers the true median with, at least.
const CONFIDENCE: f64 = 0.95;

/// How many of `count` sorted numbers may be left out on each side so that the rest still spans the true median with this
/// confidence at least; `None` if even all of them do not.
pub(crate) fn cut_off(count: usize, least_confidence: f64) -> Option<usize> {
    let cuts = 0..count.div_ceil(2);
    let is_enough = |&cut: &usize| confidence(count, cut) >= least_confidence;
    cuts.take_while(is_enough).last()
}

/// With what confidence `count` sorted numbers span the true median when `cut` are left out on each side.
///
/// How many lie below it is binomial; they miss it on a side when no more than `cut` numbers do. 0 where nothing is left.
pub(crate) fn confidence(count: usize, cut: usize) -> f64 {
    let missed_on_a_side: f64 = coin_flips(count).iter().take(cut + 1).sum();
    (1.0 - 2.0 * missed_on_a_side).max(0.0)
}

/// The chances of 0, 1, … `count` heads in so many tosses of a coin.
fn coin_flips(count: usize) -> Vec<f64> {
    let mut chances = vec![1.0];
    for _ in 0..count {
        let one_more = chances.iter().copied().chain([0.0]);
        let as_many = [0.0].into_iter().chain(chances.iter().copied());
        chances = one_more
            .zip(as_many)
            .map(|(a, b)| f64::midpoint(a, b))
            .collect();
    }
    chances
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_sign_test() {
        // From published tables: the interval spans the numbers from 1 + cut to count - cut.
        let published = [
            (1, None),
            (5, None),
            (6, Some(0)),
            (7, Some(0)),
            (9, Some(1)),
            (12, Some(2)),
            (21, Some(5)),
            (25, Some(7)),
            (50, Some(17)),
            (100, Some(39)),
        ];
        for (count, cut) in published {
            assert_eq!(cut_off(count, 0.95), cut, "{count} numbers");
        }
    }

    #[test]
    fn confidence_follows_from_the_binomial_law() {
        for (count, cut, expected) in [
            (1, 0, 0.0),
            (5, 0, 0.9375),
            (8, 1, 0.9297),
            (11, 2, 0.9346),
            (2, 1, 0.0),
        ] {
            let found = confidence(count, cut);
            assert!((found - expected).abs() < 1e-4, "{count} numbers: {found}");
        }
    }

    #[test]
    fn an_interval_is_shown_where_there_is_one() {
        let estimate = |numbers: &[f64]| format!("{:.1}", Estimate::of(numbers.to_vec()));
        assert_eq!(estimate(&[2.0, 1.0, 3.0]), "2.0 [none]");
        let nine = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        assert_eq!(estimate(&nine), "5.0 [2.0 to 8.0]");
        assert_eq!(estimate(&nine[..6]), "6.5 [4.0 to 9.0]");
    }
}
