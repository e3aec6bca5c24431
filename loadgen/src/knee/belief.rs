//! What is believed of the knee: how likely it is at each rate of a grid.
//!
//! Every run says on which side of its rate the knee is, and may be mistaken; Bayes' rule weighs them all.

/// How likely the knee is an octave outside of where it was first seen, to what it is inside.
const AN_OCTAVE_OUTSIDE: f64 = 0.25;
/// How far outside it may be: what first looked like the knee may have been anything.
const MAX_FACTOR_OUTSIDE: f64 = 1024.0;
/// Rates of the grid in what the resolution asks for.
const RATES_A_RESOLUTION: f64 = 8.0;

/// A likelihood for each of some rates, which add up to 1.
#[derive(Clone, Debug)]
pub(super) struct Belief {
    /// From the lowest to the highest.
    rates: Vec<f64>,
    likelihoods: Vec<f64>,
}

impl Belief {
    /// The knee was seen between `low` and `high`. It is not below `lowest`, nor above `highest`.
    pub(super) fn between(
        (low, high): (f64, f64),
        (lowest, highest): (f64, f64),
        resolution: f64,
    ) -> Self {
        let step = 1.0 + resolution / RATES_A_RESOLUTION;
        let last = (high * MAX_FACTOR_OUTSIDE).min(highest);
        let first = (low / MAX_FACTOR_OUTSIDE).max(lowest);
        let rates: Vec<f64> = std::iter::successors(Some(first), |rate| Some(rate * step))
            .take_while(|&rate| rate < last)
            .chain([last])
            .collect();
        let octaves_outside = |rate: f64| (low / rate).log2().max((rate / high).log2()).max(0.0);
        let first_guess = |&rate: &f64| AN_OCTAVE_OUTSIDE.powf(octaves_outside(rate));
        let mut belief = Self {
            likelihoods: rates.iter().map(first_guess).collect(),
            rates,
        };
        belief.normalise();
        belief
    }

    /// A run at `rate` met the objectives, or did not; it says so by mistake in this share of all cases.
    pub(super) fn note(&mut self, rate: f64, is_met: bool, mistaken: f64) {
        for (&knee, likelihood) in self.rates.iter().zip(&mut self.likelihoods) {
            let is_expected = (knee >= rate) == is_met;
            *likelihood *= if is_expected {
                1.0 - mistaken
            } else {
                mistaken
            };
        }
        self.normalise();
    }

    /// The rate that the knee is as likely below as not, or nearly: a run there tells most. That is not always the median: where
    /// half of all likelihood is at one rate, its two sides must be told from it.
    pub(super) fn most_telling(&self) -> f64 {
        let mut below = 0.0;
        let imbalance = self.likelihoods.iter().map(|likelihood| {
            let imbalance = f64::abs(below - 0.5);
            below += likelihood;
            imbalance
        });
        let least = imbalance.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        self.rates[least.map_or(0, |(index, _)| index)]
    }

    /// The rate below which the knee is believed to be with this likelihood.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let mut below = 0.0;
        let reached = self.likelihoods.iter().position(|likelihood| {
            below += likelihood;
            below >= share
        });
        self.rates[reached.unwrap_or(self.rates.len() - 1)]
    }

    fn normalise(&mut self) {
        let sum: f64 = self.likelihoods.iter().sum();
        for likelihood in &mut self.likelihoods {
            *likelihood /= sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_guess_is_where_the_knee_was_seen() {
        let belief = Belief::between((1000.0, 2000.0), (1.0, 1e9), 0.02);
        let middle = belief.quantile(0.5);
        assert!((1300.0..1500.0).contains(&middle), "{middle}");
        assert!((100.0..1000.0).contains(&belief.quantile(0.1)));
        assert!((2000.0..20_000.0).contains(&belief.quantile(0.9)));
        let limited = Belief::between((1000.0, 2000.0), (900.0, 2000.0), 0.02);
        assert!((limited.quantile(1.0) - 2000.0).abs() < 1e-9);
        assert!((limited.quantile(0.0) - 900.0).abs() < 1e-9);
    }

    #[test]
    fn what_runs_say_moves_it_and_a_mistake_is_outvoted() {
        let mut belief = Belief::between((1000.0, 2000.0), (1.0, 1e9), 0.02);
        let before = belief.quantile(0.5);
        belief.note(before, true, 0.2);
        let after = belief.quantile(0.5);
        assert!(after > before * 1.05, "{before} {after}");
        // The bracket itself was a mistake.
        for _ in 0..10 {
            belief.note(4000.0, true, 0.2);
        }
        assert!(belief.quantile(0.05) >= 4000.0);
    }

    #[test]
    fn a_rate_that_has_most_of_the_likelihood_is_told_from_its_neighbours() {
        let belief = Belief {
            rates: vec![1.0, 2.0, 3.0],
            likelihoods: vec![0.0, 0.55, 0.45],
        };
        assert!((belief.quantile(0.5) - 2.0).abs() < 1e-9);
        assert!((belief.most_telling() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn weak_evidence_moves_it_less() {
        let moved = |mistaken| {
            let mut belief = Belief::between((1000.0, 2000.0), (1.0, 1e9), 0.02);
            belief.note(1400.0, false, mistaken);
            belief.quantile(0.5)
        };
        assert!(moved(0.15) < moved(0.4) && moved(0.4) < moved(0.5));
    }
}
