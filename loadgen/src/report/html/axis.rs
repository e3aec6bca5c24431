//! Scales and their ticks: round values only, and never so many that their labels meet.

/// How values become places along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Values must be above 0.
    Logarithmic,
}

/// A value that is named along an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

/// One direction of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) title: String,
    pub(crate) scale: Scale,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<Tick>,
}

/// Steps of a linear axis, about.
const STEPS: f64 = 5.0;

impl Axis {
    /// From 0 to a round value at or above `highest`.
    pub(crate) fn from_zero(title: &str, highest: f64, label: fn(f64) -> String) -> Self {
        let step = round_step(highest / STEPS);
        let steps = (highest / step).ceil().max(1.0);
        Self {
            title: title.to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: step * steps,
            ticks: multiples(step, step * steps, label),
        }
    }

    /// From 0 to exactly `end`, which need not be round.
    pub(crate) fn up_to(title: &str, end: f64, label: fn(f64) -> String) -> Self {
        let step = round_step(end / STEPS);
        Self {
            title: title.to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: if end > 0.0 { end } else { 1.0 },
            ticks: multiples(step, end, label),
        }
    }

    /// Around all of `values`, each above 0; others are left out.
    pub(crate) fn logarithmic(
        title: &str,
        values: impl Iterator<Item = f64> + Clone,
        label: fn(f64) -> String,
    ) -> Self {
        let values = values.filter(|value| *value > 0.0);
        let lowest = values.clone().fold(f64::INFINITY, f64::min);
        let highest = values.fold(0.0, f64::max);
        let (lowest, highest) = if highest > 0.0 {
            (lowest, highest)
        } else {
            (1.0, 10.0)
        };
        let ticks = log_ticks(lowest, highest);
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        let ticks = ticks.into_iter();
        Self {
            title: title.to_owned(),
            scale: Scale::Logarithmic,
            low,
            high,
            ticks: ticks
                .map(|value| Tick {
                    value,
                    label: label(value),
                })
                .collect(),
        }
    }

    /// Of 1/(1-q): 0, 90, 99, 99.9 … per cent are equally far from each other. `most` is the largest 1/(1-q).
    pub(crate) fn percentiles(title: &str, most: f64) -> Self {
        let high = most.max(10.0);
        let mut ticks = vec![Tick {
            value: 1.0,
            label: "0 %".to_owned(),
        }];
        let mut value = 10.0;
        let mut digits = 0;
        // As many nines as the distribution has.
        while value <= high {
            let percent = 100.0 - 100.0 / value;
            ticks.push(Tick {
                value,
                label: format!("{percent:.digits$} %"),
            });
            digits = if value < 50.0 { 0 } else { digits + 1 };
            value *= 10.0;
        }
        Self {
            title: title.to_owned(),
            scale: Scale::Logarithmic,
            low: 1.0,
            high,
            ticks,
        }
    }

    /// Where a value lies, from 0 at the low end to 1 at the high one; what lies outside is moved to the nearer end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => {
                (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
            }
        };
        place.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, at or above `least`.
fn round_step(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|multiple| multiple * power);
    // A little less is the same: 10^log10(x) is not exactly x.
    let fits = |step: &&f64| **step >= least * (1.0 - 1e-9);
    steps.iter().find(fits).copied().unwrap_or(10.0 * power)
}

/// 0, `step`, … up to `end`.
fn multiples(step: f64, end: f64, label: fn(f64) -> String) -> Vec<Tick> {
    const MOST: u32 = 100;
    (0..MOST)
        .map(|number| f64::from(number) * step)
        .take_while(|value| *value <= end * (1.0 + 1e-9))
        .map(|value| Tick {
            value,
            label: label(value),
        })
        .collect()
}

/// From at or below `lowest` to at or above `highest`: powers of ten, with 2 and 5 between them on short axes.
fn log_ticks(lowest: f64, highest: f64) -> Vec<f64> {
    const SHORT_DECADES: f64 = 2.5;
    let multiples: &[f64] = if (highest / lowest).log10() <= SHORT_DECADES {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let mut power = 10f64.powf(lowest.log10().floor());
    let mut ticks: Vec<f64> = Vec::new();
    loop {
        for multiple in multiples {
            let value = multiple * power;
            if value <= lowest * (1.0 + 1e-9) {
                ticks.clear();
            }
            ticks.push(value);
            if value >= highest * (1.0 - 1e-9) && ticks.len() > 1 {
                return ticks;
            }
        }
        power *= 10.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        format!("{value}")
    }

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| &tick.label[..]).collect()
    }

    #[test]
    fn linear_axes_have_round_ticks() {
        let axis = Axis::from_zero("", 47_000.0, plain);
        assert_eq!(
            labels(&axis),
            ["0", "10000", "20000", "30000", "40000", "50000"]
        );
        assert!((axis.place(25_000.0) - 0.5).abs() < 1e-12);
        let axis = Axis::up_to("", 7.3, plain);
        assert_eq!(labels(&axis), ["0", "2", "4", "6"]);
        assert!((axis.place(7.3) - 1.0).abs() < 1e-12);
        for empty in [0.0, f64::NAN] {
            assert!(Axis::from_zero("", empty, plain).high.is_finite());
        }
    }

    #[test]
    fn logarithmic_axes_hold_their_values_between_round_ticks() {
        let axis = |values: &[f64]| Axis::logarithmic("", values.iter().copied(), plain);
        assert_eq!(
            labels(&axis(&[12.0, 180.0])),
            ["10", "20", "50", "100", "200"]
        );
        assert_eq!(
            labels(&axis(&[12.0, 90_000.0])),
            ["10", "100", "1000", "10000", "100000"]
        );
        assert_eq!(labels(&axis(&[10.0])), ["10", "20"]);
        assert_eq!(labels(&axis(&[0.0])), ["1", "2", "5", "10"]);
        let axis = axis(&[1.0, 10_000.0]);
        assert!((axis.place(100.0) - 0.5).abs() < 1e-12);
        assert!(axis.place(0.0).abs() < 1e-12 && axis.place(1e9) <= 1.0);
    }

    #[test]
    fn percentiles_are_named_by_their_nines() {
        let axis = Axis::percentiles("", 20_000.0);
        assert_eq!(labels(&axis), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
