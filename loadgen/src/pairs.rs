//! The table of a run folder: what the interleaved pairs of runs say.
//!
//! A folder holds `SCENARIO.base.N.json` and `SCENARIO.subject.N.json`, N from 1. The two runs of a pair were made one after
//! the other, so that their ratio is free of the drift of the machine's speed that all absolute numbers share. So the ratio
//! is the column that claims rest on, and the one that has a confidence interval.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::flags::PairsFlags;
use crate::median::{Estimate, median};
use crate::result::RunResult;
use crate::stdio::print;

/// Prints the table of a folder.
pub(crate) fn run(flags: &PairsFlags) -> Result<(), Error> {
    let scenarios = read_folder(&flags.folder)?;
    if scenarios.is_empty() {
        let folder = flags.folder.display();
        return Err(Error::Pairs(format!("{folder} holds no pair of runs")));
    }
    print(table(&scenarios))
}

/// Pairs by scenario.
type Scenarios = BTreeMap<String, Vec<Pair>>;

#[derive(Clone, Copy, Debug)]
struct Pair {
    base: Run,
    subject: Run,
}

/// What the table needs of a result.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Of the server for each answer; not a number without a measured server, which shows in the table.
    cpu_ns: f64,
    rate_per_s: f64,
    /// The worst of all operations.
    p99_us: f64,
    lost: u64,
}

impl Run {
    fn of(result: &RunResult) -> Self {
        let server = result.server.as_ref();
        let p99s_us = result.operations.iter().map(|each| each.service.p99_us);
        Self {
            cpu_ns: server.map_or(f64::NAN, |server| server.cpu_ns_per_request),
            rate_per_s: result.rate_per_s,
            p99_us: p99s_us.fold(f64::NAN, f64::max),
            lost: result.losses.lost,
        }
    }
}

fn read_folder(folder: &Path) -> Result<Scenarios, Error> {
    let unreadable = |source| Error::Read(folder.to_owned(), source);
    let mut scenarios = Scenarios::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if let Some((scenario, number)) = name.to_str().and_then(subject_name) {
            let base = folder.join(format!("{scenario}.base.{number}.json"));
            scenarios
                .entry(scenario.to_owned())
                .or_default()
                .push(Pair {
                    base: Run::of(&RunResult::read(&base)?),
                    subject: Run::of(&RunResult::read(&folder.join(&name))?),
                });
        }
    }
    Ok(scenarios)
}

/// Scenario and number of a subject's file.
fn subject_name(file: &str) -> Option<(&str, u32)> {
    let (scenario, rest) = file.split_once(".subject.")?;
    Some((scenario, rest.strip_suffix(".json")?.parse().ok()?))
}

/// Says under the table what its cells are.
const LEGEND: &str = "
\"ns\" is the CPU time of all threads of the server for each answer. The ratio is the subject's over the base's, taken pair by
pair: its median, and in brackets an interval that covers the true median with at least 95 % confidence, exactly (sign test: two
order statistics, by the binomial distribution; fewer than 6 pairs have none). Other cells: median (lowest to highest).
\"answers/s\" and \"p99\" are the subject's, \"lost\" is their sum.
";

fn table(scenarios: &Scenarios) -> String {
    let mut text = String::from(
        "| scenario | pairs | base ns | subject ns | ratio [95 %] | answers/s | p99 us | lost |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (scenario, pairs) in scenarios {
        let row = Row::of(pairs);
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {scenario} | {} | {row} |", pairs.len());
    }
    text + LEGEND
}

/// One scenario's numbers; "ns" is the server's CPU time an answer.
struct Row {
    base_ns: Spread,
    subject_ns: Spread,
    ratio: Estimate,
    rate_per_s: Spread,
    p99_us: Spread,
    lost: u64,
}

impl Row {
    fn of(pairs: &[Pair]) -> Self {
        let values = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect();
        let spread = |value| Spread::of(values(value));
        Self {
            base_ns: spread(|pair| pair.base.cpu_ns),
            subject_ns: spread(|pair| pair.subject.cpu_ns),
            ratio: Estimate::of(values(|pair| pair.subject.cpu_ns / pair.base.cpu_ns)),
            rate_per_s: spread(|pair| pair.subject.rate_per_s),
            p99_us: spread(|pair| pair.subject.p99_us),
            lost: pairs.iter().map(|pair| pair.subject.lost).sum(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} | {:.0} | {:.3} | ",
            self.base_ns, self.subject_ns, self.ratio
        )?;
        write!(
            f,
            "{:.0} | {:.0} | {}",
            self.rate_per_s, self.p99_us, self.lost
        )
    }
}

/// Median and range of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    /// Of at least one number.
    fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        Self {
            low: numbers[0],
            median: median(&numbers),
            high: numbers[numbers.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    /// With the digits after the point that the format asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let Self { low, median, high } = self;
        write!(f, "{median:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn medians_lie_in_the_middle() {
        let spread = |numbers: &[f64]| Spread::of(numbers.to_vec()).to_string();
        assert_eq!(spread(&[3.0]), "3 (3 to 3)");
        assert_eq!(spread(&[3.0, 1.0, 9.0]), "3 (1 to 9)");
        assert_eq!(spread(&[4.0, 1.0, 9.0, 2.0]), "3 (1 to 9)");
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let pair = |base, subject| Pair {
            base: Run::of(&example(base)),
            subject: Run::of(&example(subject)),
        };
        // The machine was twice as slow during the second pair.
        let pairs = vec![
            pair(1000.0, 1100.0),
            pair(2000.0, 2200.0),
            pair(1000.0, 1200.0),
        ];
        let table = table(&Scenarios::from([("hot-check".to_owned(), pairs)]));
        let row = table.lines().nth(2).unwrap();
        assert_eq!(
            row,
            "| hot-check | 3 | 1000 (1000 to 2000) | 1200 (1100 to 2200) | 1.100 [none] | \
             10000 (10000 to 10000) | 9904 (9904 to 9904) | 3 |"
        );
    }

    #[test]
    fn only_subjects_name_a_pair() {
        assert_eq!(subject_name("a-b.subject.12.json"), Some(("a-b", 12)));
        for other in [
            "a.base.1.json",
            "a.subject.x.json",
            "README.md",
            "a.subject.1.txt",
        ] {
            assert_eq!(subject_name(other), None);
        }
    }
}
