//! What two sides are compared by, each as one number a run, or several for its parts.

use crate::latency::Percentiles;
use crate::report::html::{short, time};
use crate::result::{IntervalResult, RunResult};

use super::rank::median;

/// With fewer parts in its timeline, a run's own number is taken instead of the median over parts.
const FEW_PARTS: usize = 4;
/// Parts of a run that are judged by themselves where there are too few runs: neighbours are taken together into so
/// many, because what disturbs a part disturbs the next one, too.
const BLOCKS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    Rate,
    Median,
    P99,
    Cpu,
    LossShare,
}

impl Quantity {
    pub(crate) const ALL: [Self; 5] = [
        Self::Rate,
        Self::Median,
        Self::P99,
        Self::Cpu,
        Self::LossShare,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "answers a second",
            Self::Median => "median latency",
            Self::P99 => "99 % latency",
            Self::Cpu => "server CPU an answer",
            Self::LossShare => "loss",
        }
    }

    pub(crate) fn is_better_when_higher(self) -> bool {
        self == Self::Rate
    }

    /// Whether differences are ratios; loss may be nought, and is compared by the difference of shares.
    pub(crate) fn is_relative(self) -> bool {
        self != Self::LossShare
    }

    pub(crate) fn shown(self, value: f64) -> String {
        match self {
            Self::Rate => short(value),
            Self::Median | Self::P99 => time(value),
            Self::Cpu => format!("{value:.0} ns"),
            Self::LossShare => format!("{:.4} %", value * 100.0),
        }
    }

    /// The run's number: the median over its parts, so that a short disturbance does not count. `None` where it was not
    /// measured.
    pub(crate) fn of_run(self, run: &RunResult) -> Option<f64> {
        let parts = self.of_parts(&run.timeline);
        if parts.len() < FEW_PARTS || self == Self::LossShare {
            self.of_whole(run)
        } else {
            Some(median(parts))
        }
    }

    /// The run's number in each of its blocks.
    pub(crate) fn of_blocks(self, run: &RunResult) -> Vec<f64> {
        let size = run.timeline.len().div_ceil(BLOCKS).max(1);
        let blocks = run.timeline.chunks(size).map(|block| self.of_parts(block));
        blocks
            .filter(|parts| !parts.is_empty())
            .map(median)
            .collect()
    }

    fn of_parts(self, parts: &[IntervalResult]) -> Vec<f64> {
        let values = parts.iter().filter_map(|part| self.of_part(part));
        // Ratios need numbers above 0.
        values
            .filter(|value| value.is_finite() && (!self.is_relative() || *value > 0.0))
            .collect()
    }

    fn of_part(self, part: &IntervalResult) -> Option<f64> {
        let latency = part.intended.as_ref().unwrap_or(&part.service);
        match self {
            Self::Rate => Some(part.rate_per_s()),
            Self::Median => Some(latency.p50_us),
            Self::P99 => Some(latency.p99_us),
            Self::Cpu => part.server_cpu_ns_per_request,
            Self::LossShare => Some(crate::cpu::share(part.lost, part.answered + part.lost)),
        }
    }

    fn of_whole(self, run: &RunResult) -> Option<f64> {
        let latency = || -> Percentiles {
            run.intended()
                .unwrap_or_else(|| run.service())
                .percentiles()
        };
        let value = match self {
            Self::Rate => run.rate_per_s,
            Self::Median => latency().p50_us,
            Self::P99 => latency().p99_us,
            Self::Cpu => run.server.as_ref()?.cpu_ns_per_request,
            Self::LossShare => run.loss_share(),
        };
        (value.is_finite() && (!self.is_relative() || value > 0.0)).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn a_disturbed_part_does_not_count() {
        let mut run = example(1_000.0);
        let interval = run.timeline[0].clone();
        run.timeline = vec![interval; 9];
        run.timeline[3].server_cpu_ns_per_request = Some(9e9);
        run.timeline[4].server_cpu_ns_per_request = Some(f64::INFINITY);
        assert_eq!(Quantity::Cpu.of_run(&run), Some(1_000.0));
        assert_eq!(Quantity::Rate.of_run(&run), Some(10_000.0));
        assert_eq!(Quantity::Cpu.of_blocks(&run).len(), 8);
    }

    #[test]
    fn a_run_with_few_parts_is_taken_as_a_whole() {
        let mut run = example(1_000.0);
        assert_eq!(Quantity::Rate.of_run(&run), Some(10_000.4));
        run.server = None;
        assert_eq!(Quantity::Cpu.of_run(&run), None);
        assert_eq!(Quantity::LossShare.of_run(&run), Some(1.0 / 20_001.0));
    }
}
