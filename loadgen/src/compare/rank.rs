//! Rank tests: they ask only which of two values is larger, so that one stalled run cannot decide anything.

/// How likely chance alone makes a difference at least as large as the one found, and how large that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Finding {
    /// 0 to 1, two-sided.
    pub(crate) chance: f64,
    /// Median of the differences, after less before.
    pub(crate) shift: f64,
}

/// More pairs are judged in the same time by the normal approximation.
const MAX_EXACT_PAIRS: usize = 60;

/// Wilcoxon's signed-rank test of the differences of pairs, at least one; ties share their ranks. The shift is the
/// Hodges-Lehmann estimate: the median of all means of two differences.
pub(crate) fn paired(differences: &[f64]) -> Finding {
    let mut walsh = Vec::new();
    for (index, first) in differences.iter().enumerate() {
        walsh.extend(
            differences[index..]
                .iter()
                .map(|second| f64::midpoint(*first, *second)),
        );
    }
    let signed: Vec<f64> = differences
        .iter()
        .copied()
        .filter(|each| *each != 0.0)
        .collect();
    let sizes: Vec<f64> = signed.iter().map(|each| each.abs()).collect();
    let ranks = doubled_ranks(&sizes);
    let positive = ranks.iter().zip(&signed).filter(|(_, each)| **each > 0.0);
    let positive: usize = positive.map(|(rank, _)| rank).sum();
    let chance = if signed.len() <= MAX_EXACT_PAIRS {
        exact_chance(&ranks, positive)
    } else {
        approximate_chance(&ranks, positive)
    };
    Finding {
        chance,
        shift: median(walsh),
    }
}

/// The rank-sum test of Mann and Whitney, approximated by the normal distribution: for eight values or more a side. The
/// shift is the median of all differences between one value of each side.
pub(crate) fn unpaired(before: &[f64], after: &[f64]) -> Finding {
    let (few, many) = (count(before.len()), count(after.len()));
    let mut differences = Vec::with_capacity(before.len() * after.len());
    for first in before {
        differences.extend(after.iter().map(|second| second - first));
    }
    let above = differences.iter().map(|each| match each {
        each if *each > 0.0 => 1.0,
        each if *each < 0.0 => 0.0,
        _ => 0.5,
    });
    let deviation = (few * many * (few + many + 1.0) / 12.0).sqrt();
    let distance = (above.sum::<f64>() - few * many / 2.0).abs();
    Finding {
        chance: two_sided(distance / deviation),
        shift: median(differences),
    }
}

/// Of at least one number.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    crate::median::median(&numbers)
}

/// Twice the rank of each value among all, from 2 on: ties get the mean of their ranks, which twice is whole.
fn doubled_ranks(values: &[f64]) -> Vec<usize> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values
            .iter()
            .filter(|other| other.total_cmp(value).is_eq())
            .count();
        2 * below + equal + 1
    };
    values.iter().map(rank).collect()
}

/// Over all ways to give signs to the ranks, the share whose sum of positive ones is at least as far from the middle.
fn exact_chance(ranks: &[usize], positive: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // The chance of each sum, one rank after the other.
    let mut chances = vec![0.0; total + 1];
    chances[0] = 1.0;
    for rank in ranks {
        for sum in (0..=total).rev() {
            let with = sum.checked_sub(*rank).map_or(0.0, |rest| chances[rest]);
            chances[sum] = f64::midpoint(chances[sum], with);
        }
    }
    let far = positive.abs_diff(total - positive);
    let as_far = |sum: &usize| sum.abs_diff(total - sum) >= far;
    (0..=total)
        .filter(as_far)
        .map(|sum| chances[sum])
        .sum::<f64>()
        .min(1.0)
}

fn approximate_chance(ranks: &[usize], positive: usize) -> f64 {
    let total = count(ranks.iter().sum());
    let squares: f64 = ranks.iter().map(|rank| count(*rank).powi(2)).sum();
    two_sided((count(positive) - total / 2.0).abs() / (squares / 4.0).sqrt())
}

/// The chance that a normal variable is at least so many deviations from its mean (Abramowitz and Stegun 7.1.26, whose
/// error is below 2e-7).
fn two_sided(deviations: f64) -> f64 {
    if !deviations.is_finite() {
        return 1.0;
    }
    let x = deviations / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let polynomial = series.iter().fold(0.0, |sum, factor| sum * t + factor) * t;
    polynomial * (-x * x).exp()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "there are far fewer than 2^52 runs"
)]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::SplitMix64;

    #[test]
    fn the_signed_rank_test_agrees_with_its_tables() {
        // All of one sign: 2 of 2^n ways.
        let all = |n: u32| paired(&(1..=n).map(f64::from).collect::<Vec<_>>()).chance;
        assert!((all(8) - 2.0 / 256.0).abs() < 1e-12);
        // The critical value of n = 10 at 0.01 is a sum of 3 for the rarer sign: P = 0.0098.
        let mut ten: Vec<f64> = (1..=10).map(f64::from).collect();
        ten[2] = -3.0;
        assert!(
            (paired(&ten).chance - 0.009_765_625).abs() < 1e-9,
            "{:?}",
            paired(&ten)
        );
        let even = paired(&[1.0, -1.0, 2.0, -2.0]);
        assert!((even.chance - 1.0).abs() < 1e-12 && even.shift.abs() < 1e-12);
        assert!((paired(&[0.0, 0.0]).chance - 1.0).abs() < 1e-12);
        let many: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!(paired(&many).chance < 1e-9);
    }

    #[test]
    fn the_rank_sum_test_finds_a_shift() {
        let before: Vec<f64> = (0..10).map(f64::from).collect();
        let after: Vec<f64> = before.iter().map(|each| each + 100.0).collect();
        let found = unpaired(&before, &after);
        assert!(
            found.chance < 0.001 && (found.shift - 100.0).abs() < 1e-9,
            "{found:?}"
        );
        let same = unpaired(&before, &before);
        assert!(
            (same.chance - 1.0).abs() < 1e-6 && same.shift.abs() < 1e-9,
            "{same:?}"
        );
        assert!((two_sided(1.959_964) - 0.05).abs() < 1e-5);
    }

    #[test]
    fn chance_alone_seldom_looks_like_a_difference() {
        let mut random = SplitMix64::new(7);
        let mut noise = || f64::from(u32::try_from(random.next() >> 40).unwrap()) - 8_388_608.0;
        let trials = 2_000;
        let alarms = (0..trials)
            .filter(|_| paired(&[(); 10].map(|()| noise())).chance < 0.05)
            .count();
        assert!((40..=130).contains(&alarms), "{alarms} of {trials}");
    }
}
