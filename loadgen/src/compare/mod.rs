//! Whether a build is better or worse than another, and how sure that is.
//!
//! A machine's speed drifts by several per cent from minute to minute, more than what is to be found. So runs are made in
//! pairs, one of each side directly after the other, many short ones rather than few long ones; drift hits both of a pair
//! alike and falls out of their ratio. Each run gives one number for a quantity, the median over the parts of its
//! timeline; Wilcoxon's signed-rank test says whether the ratios of the pairs could be chance. Several quantities are
//! judged, so each must be surer than all together (Bonferroni). What is sure but smaller than the tolerance is no
//! difference anybody needs to care for.
//!
//! With fewer than [`MIN_PAIRS`] pairs nothing is known of the drift between runs. Then the parts of the runs are
//! compared, and only what is larger than [`ASSUMED_DRIFT`] counts.
//!
//! - `quantity`: what is compared;
//! - `rank`: the tests.

mod quantity;
mod rank;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::flags::CompareFlags;
use crate::report::Verdict;
use crate::report::columns::{Row as TableRow, table};
use crate::report::terminal::grouped_float;
use crate::result::{RunResult, ScheduleKind};
use crate::stdio::print;
use quantity::Quantity;
use rank::Finding;

/// With fewer pairs, chance alone gives all of them one sign more often than [`CHANCE`] over the quantities allows.
const MIN_PAIRS: usize = 8;
/// How often two sides without a difference may be told apart, over all quantities.
const CHANCE: f64 = 0.05;
/// What a machine may drift from one run to the next, relatively.
const ASSUMED_DRIFT: f64 = 0.10;
/// The smallest difference of loss that counts, as a share of requests: one in ten thousand.
const LOSS_TOLERANCE: f64 = 0.0001;

/// Compares, and prints the table. Missed is what is worse.
pub(crate) fn run(flags: &CompareFlags) -> Result<Verdict, Error> {
    let (before, after) = sides(flags)?;
    let before = read(before)?;
    let after = read(after)?;
    let comparison = Comparison::of(&before, &after, flags.tolerance);
    if !comparison.can_tell {
        return Err(Error::Compare(format!(
            "too little was measured to tell any difference: it takes {MIN_PAIRS} runs of each side in turn, or longer runs \
             whose timelines have {MIN_PAIRS} parts"
        )));
    }
    print(&comparison)?;
    Ok(match comparison.overall() {
        Outcome::Worse => Verdict::Missed,
        Outcome::Better | Outcome::Same => Verdict::Met,
    })
}

/// The files of each side.
fn sides(flags: &CompareFlags) -> Result<(&[PathBuf], &[PathBuf]), Error> {
    let (before, after) = match (&flags.before[..], &flags.against[..]) {
        ([_, _], []) => flags.before.split_at(1),
        (before, after) => (before, after),
    };
    if after.is_empty() {
        return Err(Error::Compare(
            "expected two results, or several before --against and as many after it".to_owned(),
        ));
    }
    if before.len() != after.len() {
        return Err(Error::Compare(format!(
            "expected as many results on each side, run in pairs: there are {} and {}",
            before.len(),
            after.len()
        )));
    }
    Ok((before, after))
}

/// In the order in which they were made.
fn read(paths: &[PathBuf]) -> Result<Vec<RunResult>, Error> {
    let mut runs = Vec::with_capacity(paths.len());
    for path in paths {
        let run = RunResult::read(path)?;
        if let Some(reason) = &run.void {
            let why = format!("is void, {reason}: run it again");
            return Err(Error::WrongResult(path.clone(), why));
        }
        runs.push(run);
    }
    let started = |run: &RunResult| run.environment.started_epoch_s;
    runs.sort_by(|a, b| started(a).total_cmp(&started(b)));
    Ok(runs)
}

/// What became of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Better,
    Same,
    Worse,
}

struct Comparison {
    pairs: usize,
    /// Whether a difference could be found at all, however large.
    can_tell: bool,
    rows: Vec<Row>,
    /// What differs between the sides beside the build.
    differences: Vec<String>,
}

struct Row {
    quantity: Quantity,
    before: f64,
    after: f64,
    /// After over before, less 1; for a quantity that is not relative the difference.
    change: f64,
    chance: f64,
    outcome: Outcome,
}

impl Comparison {
    /// Of as many runs on each side, at least one.
    fn of(before: &[RunResult], after: &[RunResult], tolerance: f64) -> Self {
        let samples: Vec<(Quantity, Samples)> = Quantity::ALL
            .into_iter()
            .filter_map(|quantity| Some((quantity, Samples::of(quantity, before, after)?)))
            .collect();
        let judge = Judge {
            is_paired: before.len() >= MIN_PAIRS,
            tolerance,
            chance: CHANCE / f64::from(u32::try_from(samples.len().max(1)).unwrap_or(1)),
        };
        Self {
            pairs: before.len(),
            can_tell: judge.is_paired || samples.iter().any(|(_, each)| each.has_blocks()),
            rows: samples
                .iter()
                .map(|(quantity, samples)| judge.row(*quantity, samples))
                .collect(),
            differences: all_differences(before, after),
        }
    }

    /// Worse, if anything is; better, if something is.
    fn overall(&self) -> Outcome {
        let any = |outcome| self.rows.iter().any(|row| row.outcome == outcome);
        if any(Outcome::Worse) {
            Outcome::Worse
        } else if any(Outcome::Better) {
            Outcome::Better
        } else {
            Outcome::Same
        }
    }
}

/// A quantity's numbers: a run's each, and where there are few runs a block's each.
struct Samples {
    before: Vec<f64>,
    after: Vec<f64>,
    blocks_before: Vec<f64>,
    blocks_after: Vec<f64>,
}

impl Samples {
    /// `None` where a run has not measured it.
    fn of(quantity: Quantity, before: &[RunResult], after: &[RunResult]) -> Option<Self> {
        let numbers = |runs: &[RunResult]| {
            let numbers = runs.iter().map(|run| quantity.of_run(run));
            numbers.collect::<Option<Vec<f64>>>()
        };
        let blocks = |runs: &[RunResult]| {
            runs.iter()
                .flat_map(|run| quantity.of_blocks(run))
                .collect()
        };
        Some(Self {
            before: numbers(before)?,
            after: numbers(after)?,
            blocks_before: blocks(before),
            blocks_after: blocks(after),
        })
    }

    /// Enough to be told apart.
    fn has_blocks(&self) -> bool {
        self.blocks_before.len().min(self.blocks_after.len()) >= MIN_PAIRS
    }
}

/// What it takes to be a difference.
struct Judge {
    is_paired: bool,
    /// Relative.
    tolerance: f64,
    /// For one quantity.
    chance: f64,
}

impl Judge {
    fn row(&self, quantity: Quantity, samples: &Samples) -> Row {
        let Finding { chance, shift } = self.find(quantity, samples);
        let change = if quantity.is_relative() {
            shift.exp_m1()
        } else {
            shift
        };
        Row {
            quantity,
            before: rank::median(samples.before.clone()),
            after: rank::median(samples.after.clone()),
            change,
            chance,
            outcome: self.outcome(quantity, change, chance),
        }
    }

    fn find(&self, quantity: Quantity, samples: &Samples) -> Finding {
        let scale = |value: &f64| {
            if quantity.is_relative() {
                value.ln()
            } else {
                *value
            }
        };
        let scaled = |values: &[f64]| values.iter().map(scale).collect::<Vec<f64>>();
        let (before, after) = (scaled(&samples.before), scaled(&samples.after));
        if !self.is_paired && samples.has_blocks() {
            return rank::unpaired(
                &scaled(&samples.blocks_before),
                &scaled(&samples.blocks_after),
            );
        }
        let differences: Vec<f64> = before.iter().zip(&after).map(|(a, b)| b - a).collect();
        rank::paired(&differences)
    }

    fn outcome(&self, quantity: Quantity, change: f64, luck: f64) -> Outcome {
        let least = match (quantity.is_relative(), self.is_paired) {
            (false, _) => LOSS_TOLERANCE,
            (true, true) => self.tolerance,
            (true, false) => self.tolerance.max(ASSUMED_DRIFT),
        };
        if luck > self.chance || change.abs() < least {
            Outcome::Same
        } else if (change > 0.0) == quantity.is_better_when_higher() {
            Outcome::Better
        } else {
            Outcome::Worse
        }
    }
}

/// What makes the sides hard to compare, each difference once.
fn all_differences(before: &[RunResult], after: &[RunResult]) -> Vec<String> {
    let pairs = before.iter().zip(after);
    let mut all: Vec<String> = pairs.flat_map(|(a, b)| differences(a, b)).collect();
    let mut seen = BTreeSet::new();
    all.retain(|difference| seen.insert(difference.clone()));
    all
}

/// What makes two runs hard to compare.
fn differences(before: &RunResult, after: &RunResult) -> Vec<String> {
    let differing =
        |name: &str, a: String, b: String| (a != b).then(|| format!("{name}: {a}, then {b}"));
    let operations = |run: &RunResult| {
        let names: Vec<&str> = run
            .operations
            .iter()
            .map(|each| &each.operation[..])
            .collect();
        names.join(" ")
    };
    let or_none =
        |number: Option<u32>| number.map_or("none".to_owned(), |number| number.to_string());
    [
        differing("command", before.command.clone(), after.command.clone()),
        differing(
            "host",
            before.environment.host.clone(),
            after.environment.host.clone(),
        ),
        differing(
            "CPU",
            before.environment.cpu_model.clone(),
            after.environment.cpu_model.clone(),
        ),
        differing("operations", operations(before), operations(after)),
        differing(
            "in flight",
            or_none(before.in_flight),
            or_none(after.in_flight),
        ),
        differing("schedule", schedule(before), schedule(after)),
        differing("seed", before.seed.to_string(), after.seed.to_string()),
        differing(
            "sockets",
            before.sockets.to_string(),
            after.sockets.to_string(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// When requests were to be sent.
fn schedule(run: &RunResult) -> String {
    let Some(schedule) = &run.schedule else {
        return "as answers come".to_owned();
    };
    let rate = grouped_float(schedule.intended_rate_per_s);
    match schedule.kind {
        ScheduleKind::Recorded { speed } => format!("as recorded, times {speed}"),
        ScheduleKind::Constant => format!("{rate} /s"),
        ScheduleKind::Poisson => format!("{rate} /s at random"),
    }
}

/// Usual widths of the columns.
const WIDTHS: [usize; 5] = [22, 14, 14, 11, 9];

impl Row {
    fn shown(&self) -> TableRow {
        let cells = [
            self.quantity.name().to_owned(),
            self.quantity.shown(self.before),
            self.quantity.shown(self.after),
            format!("{:+.2} %", self.change * 100.0),
            format!("{:.4}", self.chance),
        ];
        TableRow::new(cells, format!("   {}", self.outcome))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "note: the sides differ in {difference}")?;
        }
        let heads = ["", "before", "after", "change", "chance"].map(str::to_owned);
        let heads = std::iter::once(TableRow::new(heads, "   verdict"));
        let rows: Vec<TableRow> = heads.chain(self.rows.iter().map(Row::shown)).collect();
        write!(f, "{}", table(&rows, &WIDTHS))?;
        writeln!(f, "\noverall: {} ({} pairs)", self.overall(), self.pairs)?;
        if self.pairs < MIN_PAIRS {
            writeln!(
                f,
                "Fewer than {MIN_PAIRS} pairs: only what exceeds {:.0} % is told from the machine's drift. \
                 Run both sides in turn, {MIN_PAIRS} times or more, to find less.",
                ASSUMED_DRIFT * 100.0
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Same => "no difference",
            Self::Worse => "worse",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::SplitMix64;
    use crate::result::ServerResult;
    use crate::result::tests::example;

    /// Uniform, within so much of 1.
    fn noise(random: &mut SplitMix64, within: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let unit = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        1.0 + within * (2.0 * unit - 1.0)
    }

    /// Pairs of runs on a machine that drifts by 10 % from pair to pair and by 4 % from run to run.
    fn pairs(
        quiet: &RunResult,
        random: &mut SplitMix64,
        count: usize,
        slower: f64,
    ) -> (Vec<RunResult>, Vec<RunResult>) {
        let mut run = |drift: f64| {
            let speed = drift * noise(random, 0.04);
            let mut run = quiet.clone();
            run.rate_per_s /= speed;
            run.server = Some(ServerResult {
                pid: 1,
                cpu_ns_per_request: 1_000.0 * speed,
                cores: 1.0,
                user_share: 0.5,
            });
            run
        };
        let mut drifts = SplitMix64::new(count as u64);
        (0..count)
            .map(|_| {
                let drift = noise(&mut drifts, 0.10);
                (run(drift), run(drift * slower))
            })
            .unzip()
    }

    #[test]
    fn the_same_build_seldom_differs_and_a_slower_one_nearly_always() {
        let mut random = SplitMix64::new(11);
        let mut quiet = example(1_000.0);
        quiet.operations.clear();
        quiet.timeline.clear();
        let mut verdicts = |slower| {
            (0..200)
                .map(|_| {
                    let (before, after) = pairs(&quiet, &mut random, 10, slower);
                    Comparison::of(&before, &after, 0.03).overall()
                })
                .collect::<Vec<_>>()
        };
        let times = |verdicts: &[Outcome], outcome| {
            verdicts.iter().filter(|each| **each == outcome).count()
        };
        assert!(times(&verdicts(1.0), Outcome::Same) >= 190);
        assert!(times(&verdicts(1.1), Outcome::Worse) >= 190);
        assert!(times(&verdicts(0.9), Outcome::Better) >= 190);
    }

    #[test]
    fn one_pair_tells_only_what_exceeds_the_drift() {
        let side = |speed: f64| {
            let mut run = example(1_000.0 * speed);
            let mut interval = run.timeline[0].clone();
            interval.answered = 10_000;
            run.timeline = vec![interval; 20];
            for (index, interval) in run.timeline.iter_mut().enumerate() {
                let wobble = 1.0 + 0.001 * f64::from(u32::try_from(index).unwrap());
                interval.server_cpu_ns_per_request = Some(1_000.0 * speed * wobble);
            }
            vec![run]
        };
        let overall = |speed| Comparison::of(&side(1.0), &side(speed), 0.03).overall();
        assert_eq!(overall(1.08), Outcome::Same);
        assert_eq!(overall(1.30), Outcome::Worse);
        assert_eq!(overall(0.70), Outcome::Better);
        let text = Comparison::of(&side(1.0), &side(1.3), 0.03).to_string();
        assert!(text.contains("Fewer than 8 pairs"), "{text}");
        assert!(text.contains("overall: worse (1 pairs)"), "{text}");
    }

    #[test]
    fn small_certain_changes_are_tolerated() {
        let side = |speed: f64| vec![example(1_000.0 * speed); 10];
        assert_eq!(
            Comparison::of(&side(1.0), &side(1.02), 0.03).overall(),
            Outcome::Same
        );
        assert_eq!(
            Comparison::of(&side(1.0), &side(1.02), 0.01).overall(),
            Outcome::Worse
        );
    }

    #[test]
    fn what_differs_beside_the_build_is_said() {
        let mut after = example(1.0);
        after.in_flight = None;
        let text = Comparison::of(&[example(1.0)], &[after], 0.03).to_string();
        assert!(
            text.starts_with("note: the sides differ in in flight: 256, then none\n"),
            "{text}"
        );
    }
}
