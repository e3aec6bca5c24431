//! The highest rate that meets the objectives: bracketed by doubling, narrowed by halving, confirmed by a longer run, and all of
//! it several times.
//!
//! Machines are noisy: a rate fails when it has failed twice. What such mercy lets through, the confirmation finds. A run
//! that is void and misses an objective says nothing of the server: then the generator is the limit.

use crate::error::Error;
use crate::load_flags::KneeFlags;
use crate::median::{confidence, cut_off, median};
use crate::ramp::{heading, line};
use crate::report::assertion::Assertion;
use crate::report::terminal::grouped_float;
use crate::report::{Verdict, html};
use crate::result::{FORMAT, Knee, KneeLimit, RunResult, Series};
use crate::trials::{Outcome, Trials, outcome};

/// Runs of one rate before it fails.
const ATTEMPTS: u32 = 2;
/// Rates that are tried for one knee, at most: from the lowest to the highest, and then some.
const MAX_RATES: u32 = 100;
/// Below this rate nothing is looked for, in requests a second.
const LOWEST_RATE_PER_S: f64 = 1.0;
/// A later search begins at this share of what the first one found.
const LATER_START: f64 = 0.5;
/// The least confidence of the interval, where there are searches enough for it.
const CONFIDENCE: f64 = 0.9;

/// Searches, prints what is found, and writes all results.
pub(crate) fn run(flags: &KneeFlags) -> Result<Verdict, Error> {
    let objectives = Assertion::list(&flags.slo).map_err(Error::Objectives)?;
    let about_rate = |each: &&Assertion| !each.is_about_rate();
    if let Some(other) = flags.outputs.assertions.iter().find(about_rate) {
        return Err(Error::KneeAssertion(other.to_string()));
    }
    flags.outputs.try_files()?;
    let mut trials = Trials::new("knee", &flags.load, &flags.trial)?;
    let mut runs = Vec::new();
    println!("{}", heading());
    let (found, failure) = search_all(flags, &objectives, &mut trials, &mut runs);
    trials.warn(&runs);
    let series = Series {
        format: FORMAT,
        kind: "knee".to_owned(),
        runs,
        knee: summary(&flags.slo, &found),
    };
    if let Some(knee) = &series.knee {
        println!("{}", knee_lines(knee));
    }
    if !series.runs.is_empty() {
        flags.outputs.write(&series, &objectives, || {
            html::series::knee(&series, &objectives)
        })?;
    }
    match (failure, &series.knee) {
        (Some(failure), _) => Err(failure),
        (None, None) => Err(Error::Stopped),
        (None, Some(knee)) => Ok(flags
            .outputs
            .check(|assertion| assertion.check_rate(knee.rate_per_s).err())),
    }
}

/// Searches as often as is wanted. What was found before a search failed still holds.
fn search_all(
    flags: &KneeFlags,
    objectives: &[Assertion],
    trials: &mut Trials<'_>,
    runs: &mut Vec<RunResult>,
) -> (Vec<Found>, Option<Error>) {
    let mut found = Vec::new();
    let mut from_per_s = flags.from;
    for _ in 0..flags.repeats {
        let mut attempt = |rate_per_s, is_final| {
            let factor = if is_final { 2 } else { 1 };
            let run = trials.run(rate_per_s, flags.trial_duration * factor)?;
            let outcome = outcome(&run, objectives);
            let late = if outcome == Outcome::Met && run.void.is_some() {
                ", though sent late"
            } else {
                ""
            };
            println!("{}   {outcome}{late}", line(&run));
            runs.push(run);
            Ok(outcome)
        };
        let search = Search {
            from_per_s,
            to_per_s: flags.to,
            resolution: flags.resolution / 100.0,
        };
        match search.run(&mut attempt) {
            Ok(Some(knee)) => {
                println!("{}", found_line(knee));
                from_per_s = knee.rate_per_s * LATER_START;
                found.push(knee);
            }
            Ok(None) => break,
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}

/// What one search found.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    rate_per_s: f64,
    limit: KneeLimit,
}

/// How to search.
struct Search {
    from_per_s: f64,
    to_per_s: f64,
    /// How close the lowest rate that fails must be to the highest that does not, as a share of it.
    resolution: f64,
}

impl Search {
    /// `attempt` runs a rate, the final time for longer. `None` if it was stopped.
    fn run(
        &self,
        attempt: &mut impl FnMut(f64, bool) -> Result<Outcome, Error>,
    ) -> Result<Option<Found>, Error> {
        // The highest rate that met the objectives, and the lowest that did not, with the reason.
        let (mut low, mut high) = (None::<f64>, None::<(f64, KneeLimit)>);
        for _ in 0..MAX_RATES {
            let Some((rate_per_s, is_final)) = self.next(low, high) else {
                break;
            };
            match repeated(rate_per_s, is_final, attempt)? {
                Outcome::Stopped => return Ok(None),
                Outcome::Met if is_final => {
                    let limit = high.map_or(KneeLimit::Asked, |(_, limit)| limit);
                    return Ok(Some(Found { rate_per_s, limit }));
                }
                Outcome::Met => low = Some(rate_per_s),
                missed => {
                    let limit = match missed {
                        Outcome::Void => KneeLimit::Generator,
                        _ => KneeLimit::Server,
                    };
                    high = Some((rate_per_s, limit));
                    if is_final {
                        low = Some(rate_per_s * (1.0 - 2.0 * self.resolution));
                    }
                }
            }
        }
        let limit = high.map_or(KneeLimit::Server, |(_, limit)| limit);
        Err(Error::NoKnee {
            lowest_per_s: low.or(high.map(|(rate, _)| rate)).unwrap_or_default(),
            generator: limit == KneeLimit::Generator,
        })
    }

    /// The rate to try next, and whether it is the one that was looked for; `None` if there is none.
    fn next(&self, low: Option<f64>, high: Option<(f64, KneeLimit)>) -> Option<(f64, bool)> {
        match (low, high) {
            (None, None) => Some((self.from_per_s.min(self.to_per_s), false)),
            (None, Some((high, _))) => {
                let lower = (high / 2.0).max(LOWEST_RATE_PER_S);
                (lower < high).then_some((lower, false))
            }
            (Some(low), None) if low >= self.to_per_s => Some((low, true)),
            (Some(low), None) => Some(((low * 2.0).min(self.to_per_s), false)),
            (Some(low), Some((high, _))) if high <= low * (1.0 + self.resolution) => {
                (low >= LOWEST_RATE_PER_S).then_some((low, true))
            }
            (Some(low), Some((high, _))) => Some(((low * high).sqrt(), false)),
        }
    }
}

/// Runs a rate until it meets the objectives, [`ATTEMPTS`] times at most.
fn repeated(
    rate_per_s: f64,
    is_final: bool,
    attempt: &mut impl FnMut(f64, bool) -> Result<Outcome, Error>,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome::Void;
    for _ in 0..ATTEMPTS {
        outcome = attempt(rate_per_s, is_final)?;
        if matches!(outcome, Outcome::Met | Outcome::Stopped) {
            break;
        }
    }
    Ok(outcome)
}

/// The median of all searches and an interval for it; `None` without any.
fn summary(objectives: &str, found: &[Found]) -> Option<Knee> {
    let searches_per_s: Vec<f64> = found.iter().map(|each| each.rate_per_s).collect();
    let mut sorted = searches_per_s.clone();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let skipped = cut_off(sorted.len(), CONFIDENCE).unwrap_or(0);
    let limits = [KneeLimit::Generator, KneeLimit::Asked, KneeLimit::Server];
    let is_any = |limit: &KneeLimit| found.iter().any(|each| each.limit == *limit);
    Some(Knee {
        objectives: objectives.to_owned(),
        rate_per_s: median(&sorted),
        searches_per_s,
        low_per_s: sorted[skipped],
        high_per_s: sorted[last - skipped],
        confidence: confidence(sorted.len(), skipped),
        limit: limits.into_iter().find(is_any)?,
    })
}

fn found_line(found: Found) -> String {
    let rate = grouped_float(found.rate_per_s);
    match found.limit {
        KneeLimit::Server => format!("knee: {rate} /s"),
        KneeLimit::Generator => format!("at least {rate} /s: beyond, the generator is the limit"),
        KneeLimit::Asked => format!("at least {rate} /s: no higher rate was to be tried (--to)"),
    }
}

fn knee_lines(knee: &Knee) -> String {
    let at = grouped_float;
    let found = found_line(Found {
        rate_per_s: knee.rate_per_s,
        limit: knee.limit,
    });
    let (least, most) = knee.range_per_s();
    format!(
        "\n{found} for {}\nmedian of {} searches; {} to {} /s with {:.1} % confidence; spread {:.1} %",
        knee.objectives,
        knee.searches_per_s.len(),
        at(knee.low_per_s),
        at(knee.high_per_s),
        knee.confidence * 100.0,
        (most / least - 1.0) * 100.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search {
        from_per_s: 1000.0,
        to_per_s: 1e6,
        resolution: 0.02,
    };

    /// A server that meets the objectives up to `knee`, and a generator that keeps up to `generator`.
    fn found(search: &Search, knee: f64, generator: f64) -> Result<Option<Found>, Error> {
        let mut rates = 0;
        let found = search.run(&mut |rate, _| {
            rates += 1;
            Ok(if rate > generator {
                Outcome::Void
            } else if rate <= knee {
                Outcome::Met
            } else {
                Outcome::Missed
            })
        });
        assert!(rates <= 40, "{rates}");
        found
    }

    #[test]
    fn the_knee_is_found_to_the_resolution_from_either_side() {
        for knee in [1.5, 30.0, 999.0, 1000.0, 1001.0, 77_777.0, 654_321.0] {
            let found = found(&SEARCH, knee, 1e9).unwrap().unwrap();
            assert!(found.rate_per_s <= knee, "{found:?}");
            assert!(found.rate_per_s * 1.02 >= knee, "{found:?} for {knee}");
            assert_eq!(found.limit, KneeLimit::Server);
        }
    }

    #[test]
    fn other_limits_than_the_servers_are_told() {
        let generator = found(&SEARCH, 1e9, 5e4).unwrap().unwrap();
        assert_eq!(generator.limit, KneeLimit::Generator);
        let asked = found(&SEARCH, 1e9, 1e9).unwrap().unwrap();
        assert_eq!((asked.rate_per_s, asked.limit), (1e6, KneeLimit::Asked));
        assert!(matches!(
            found(&SEARCH, 0.0, 1e9),
            Err(Error::NoKnee {
                generator: false,
                ..
            })
        ));
        assert!(matches!(
            found(&SEARCH, 0.0, 0.0),
            Err(Error::NoKnee {
                generator: true,
                ..
            })
        ));
    }

    #[test]
    fn a_single_failure_is_forgiven_but_not_what_the_confirmation_finds() {
        let mut tries = 0;
        let unlucky = SEARCH.run(&mut |rate, _| {
            tries += 1;
            let is_bad_luck = tries % 2 == 1;
            Ok(if rate <= 5000.0 && !is_bad_luck {
                Outcome::Met
            } else {
                Outcome::Missed
            })
        });
        assert!(unlucky.unwrap().unwrap().rate_per_s > 4900.0);
        let confirmed = SEARCH.run(&mut |rate, is_final| {
            let knee = if is_final { 4000.0 } else { 4200.0 };
            Ok(if rate <= knee {
                Outcome::Met
            } else {
                Outcome::Missed
            })
        });
        let rate = confirmed.unwrap().unwrap().rate_per_s;
        assert!((3800.0..=4000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_stopped_search_finds_nothing() {
        assert_eq!(SEARCH.run(&mut |_, _| Ok(Outcome::Stopped)).unwrap(), None);
    }

    #[test]
    fn a_summary_names_median_interval_and_spread() {
        let found = [90.0, 100.0, 95.0, 110.0, 105.0].map(|rate_per_s| Found {
            rate_per_s,
            limit: KneeLimit::Server,
        });
        let knee = summary("loss=0", &found).unwrap();
        assert!((knee.rate_per_s - 100.0).abs() < 1e-9);
        assert_eq!(
            knee_lines(&knee),
            "\nknee: 100 /s for loss=0\n\
             median of 5 searches; 90 to 110 /s with 93.8 % confidence; spread 22.2 %"
        );
        assert_eq!(summary("", &[]), None);
    }
}
