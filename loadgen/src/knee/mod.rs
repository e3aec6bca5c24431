//! The highest rate that meets the objectives, searched for several times.
//!
//! | file | job |
//! | --- | --- |
//! | `search` | one search: which rate to run next |
//! | `forecast` | how long all searches will take |
//! | `belief` | what the runs so far say of the knee, each of which may be mistaken |
//!
//! Here the searches are made, printed, and put together. A run that is void and misses an objective says nothing of the
//! server, unless it misses by more than the generator was late: then the generator is the limit.

mod belief;
pub(crate) mod forecast;
mod search;

use std::time::Instant;

use crate::error::Error;
use crate::load_flags::KneeFlags;
use crate::median::{confidence, cut_off, median};
use crate::ramp::{heading, line};
use crate::report::assertion::Assertion;
use crate::report::terminal::{grouped_float, percent};
use crate::report::{Verdict, html, try_files};
use crate::result::{FORMAT, Knee, KneeLimit, RunResult, Series};
use crate::stdio::{print, say};
use crate::trials::{Outcome, Trials, outcome};
use forecast::Forecast;
use search::{Attempt, Found, Search, most_common};

/// A run that misses says little if a hypervisor took more of all cores' time.
const MAX_STOLEN_SHARE: f64 = 0.01;
/// A later search begins at this share of what the first one found.
const LATER_START: f64 = 0.5;
/// The generator had next to nothing to do in a run of which it waited for this share.
const MOSTLY_IDLE: f64 = 0.9;
/// A machine is too busy that takes such a share of the time before a run, in pauses so long that a request in one is too late.
const MUCH_PAUSED: f64 = 0.1;
const LONG_PAUSE_US: f64 = 1000.0;
/// The least confidence of the interval, where there are searches enough for it.
const CONFIDENCE: f64 = 0.9;

/// Searches, prints what is found, and writes all results.
pub(crate) fn run(flags: &KneeFlags) -> Result<Verdict, Error> {
    let objectives = Assertion::list(&flags.slo).map_err(Error::Objectives)?;
    if let Some(why) = objectives
        .iter()
        .find_map(|each| each.unmeasurable(flags.load.server_pid.is_some()))
    {
        return Err(Error::Objectives(why));
    }
    if flags.from > flags.to {
        let (from, to) = (flags.from, flags.to);
        return Err(Error::Steps(format!("--from {from} is above --to {to}")));
    }
    let about_rate = |each: &&Assertion| !each.is_about_rate();
    if let Some(other) = flags.outputs.assertions.iter().find(about_rate) {
        return Err(Error::KneeAssertion(other.to_string()));
    }
    try_files(flags.outputs.files(), flags.load.inputs())?;
    let mut trials = Trials::new("knee", &flags.load, &flags.trial)?;
    let mut runs = Vec::new();
    print(heading() + "\n")?;
    let (found, failure) = search_all(flags, &objectives, &mut trials, &mut runs);
    let all_void = trials.warn(&runs);
    let series = Series {
        format: FORMAT,
        kind: "knee".to_owned(),
        runs,
        knee: summary(&flags.slo, &found),
    };
    let knee = series.knee.as_ref();
    let printed = knee.map_or(Ok(()), |knee| print(knee_lines(knee) + "\n"));
    if !series.runs.is_empty() {
        flags.outputs.write(&series, &objectives, || {
            html::series::knee(&series, &objectives)
        })?;
    }
    if let (Some(Error::NoKnee { .. }), Some(last)) = (&failure, series.runs.last()) {
        let why = objectives
            .iter()
            .filter_map(|each| each.check_numbers(last).err());
        why.for_each(|why| say(format_args!("not met: {why}")));
    }
    let last = series.runs.last().and_then(|run| run.schedule.as_ref());
    if let (Some(Error::BusyMachine { .. }), Some(gaps)) =
        (&failure, last.and_then(|schedule| schedule.machine))
    {
        say(format_args!(
            "before the last run, when nothing was to be done, pauses took {} of the time, and the longest {} us",
            percent(gaps.paused_share),
            grouped_float(gaps.longest_pause_us)
        ));
    }
    match (failure.map_or(printed, Err).and(all_void), &series.knee) {
        (Err(failure), _) => Err(failure),
        (Ok(()), None) if series.runs.is_empty() => Err(Error::Stopped),
        (Ok(()), None) => Err(Error::StoppedSearch),
        (Ok(()), Some(knee)) => Ok(flags
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
    let run_time = flags.trial.warmup + flags.trial_duration;
    let mut forecast = Forecast::new(flags.repeats, run_time);
    for _ in 0..flags.repeats {
        let search = Search {
            from_per_s,
            to_per_s: flags.to,
            resolution: flags.resolution / 100.0,
        };
        forecast.begin_search(search.most_runs());
        if let Err(error) = print(format!("{forecast}\n")) {
            return (found, Some(error));
        }
        let mut attempt = |rate_per_s| {
            let began = Instant::now();
            let run = trials.run(rate_per_s, flags.trial_duration, forecast.of_run())?;
            forecast.count_run(began.elapsed());
            let outcome = outcome(&run, objectives);
            let is_disturbed = run.stolen_share() > MAX_STOLEN_SHARE;
            let is_machines_fault = is_machines_fault(&run);
            let line = format!("{}   {outcome}{}\n", line(&run), remark(&run, outcome));
            runs.push(run);
            print(line)?;
            Ok(Attempt {
                outcome,
                is_disturbed,
                is_machines_fault,
            })
        };
        match search.run(&mut attempt) {
            Ok(Some(knee)) => {
                let line = found_line(&knee) + "\n";
                from_per_s = knee.rate_per_s * LATER_START;
                found.push(knee);
                if let Err(error) = print(line) {
                    return (found, Some(error));
                }
            }
            Ok(None) | Err(Error::Stopped) => break,
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}

/// Whether requests were late though the generator waited for their time for most of the run, or on a machine that had taken much
/// time from it before, when it had nothing to do: a lower rate does not help.
fn is_machines_fault(run: &RunResult) -> bool {
    let is_lateness_all = run.void.is_some() && run.longest_lag_us().is_some();
    let gaps = run.schedule.as_ref().and_then(|schedule| schedule.machine);
    let is_taken = gaps.is_some_and(|gaps| {
        gaps.paused_share >= MUCH_PAUSED && gaps.longest_pause_us >= LONG_PAUSE_US
    });
    is_lateness_all && (is_taken || run.generator_idle_share >= MOSTLY_IDLE)
}

/// What must be known to understand an outcome.
fn remark(run: &RunResult, outcome: Outcome) -> String {
    match outcome {
        Outcome::Met if run.void.is_some() => ", though sent late".to_owned(),
        Outcome::Missed | Outcome::Void if run.stolen_share() > MAX_STOLEN_SHARE => {
            format!(", {} stolen", percent(run.stolen_share()))
        }
        _ => String::new(),
    }
}

/// The median of all searches and an interval for it; `None` without any.
fn summary(objectives: &str, found: &[Found]) -> Option<Knee> {
    let searches_per_s: Vec<f64> = found.iter().map(|each| each.rate_per_s).collect();
    let mut sorted = searches_per_s.clone();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let skipped = cut_off(sorted.len(), CONFIDENCE).unwrap_or(0);
    let limits: Vec<KneeLimit> = found.iter().map(|each| each.limit).collect();
    Some(Knee {
        objectives: objectives.to_owned(),
        rate_per_s: median(&sorted),
        searches_per_s,
        low_per_s: sorted[skipped],
        high_per_s: sorted[last - skipped],
        confidence: confidence(sorted.len(), skipped),
        limit: most_common(&limits)?,
    })
}

fn found_line(found: &Found) -> String {
    let at = grouped_float;
    let (low, high) = found.likely_per_s;
    let unknown = if found.is_known {
        ""
    } else {
        ", not known better after so many runs"
    };
    format!(
        "{}; likely {} to {} /s{unknown}",
        limit_line(found.rate_per_s, found.limit),
        at(low),
        at(high)
    )
}

fn limit_line(rate_per_s: f64, limit: KneeLimit) -> String {
    let rate = grouped_float(rate_per_s);
    match limit {
        KneeLimit::Server => format!("knee: {rate} /s"),
        KneeLimit::Generator => format!("at least {rate} /s: beyond, the generator is the limit"),
        KneeLimit::Asked => format!("at least {rate} /s: no higher rate was to be tried (--to)"),
    }
}

fn knee_lines(knee: &Knee) -> String {
    let found = limit_line(knee.rate_per_s, knee.limit);
    let searches = knee.searches_per_s.len();
    let repeated = if searches == 1 {
        "one search; --repeats 5 tells how well it can be repeated".to_owned()
    } else {
        let (least, most) = knee.range_per_s();
        format!(
            "median of {searches} searches; {} to {} /s with {:.1} % confidence; spread {:.1} %",
            grouped_float(knee.low_per_s),
            grouped_float(knee.high_per_s),
            knee.confidence * 100.0,
            (most / least - 1.0) * 100.0,
        )
    };
    format!("\n{found} for {}\n{repeated}", knee.objectives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::MachineGaps;
    use crate::result::tests::{example, scheduled};

    #[test]
    fn a_summary_names_median_interval_and_spread() {
        let found = [90.0, 100.0, 95.0, 110.0, 105.0].map(|rate_per_s| Found {
            rate_per_s,
            likely_per_s: (rate_per_s, rate_per_s),
            is_known: true,
            limit: KneeLimit::Server,
        });
        let knee = summary("loss=0", &found).unwrap();
        assert!((knee.rate_per_s - 100.0).abs() < 1e-9);
        assert_eq!(
            knee_lines(&knee),
            "\nknee: 100 /s for loss=0\n\
             median of 5 searches; 90 to 110 /s with 93.8 % confidence; spread 22.2 %"
        );
        assert_eq!(
            knee_lines(&summary("loss=0", &found[..1]).unwrap()),
            "\nknee: 90 /s for loss=0\none search; --repeats 5 tells how well it can be repeated"
        );
        assert_eq!(summary("", &[]), None);
    }

    #[test]
    fn most_searches_say_what_the_limit_is() {
        let limit = |limits: &[KneeLimit]| {
            let found = limits.iter().map(|&limit| Found {
                rate_per_s: 1.0,
                likely_per_s: (1.0, 1.0),
                is_known: true,
                limit,
            });
            summary("loss=0", &found.collect::<Vec<_>>()).map(|knee| knee.limit)
        };
        let (server, generator) = (KneeLimit::Server, KneeLimit::Generator);
        assert_eq!(limit(&[generator, server, server]), Some(server));
        assert_eq!(limit(&[generator, server]), Some(generator));
        assert_eq!(limit(&[KneeLimit::Asked, server]), Some(KneeLimit::Asked));
    }

    #[test]
    fn a_busy_machine_is_told_from_a_slow_generator() {
        let is_machines_fault = |paused_share, longest_pause_us, idle_share, void: bool| {
            let mut run = scheduled(example(1.0), 10_000.0);
            run.generator_idle_share = idle_share;
            run.void = void.then(|| "late".to_owned());
            if let Some(schedule) = &mut run.schedule {
                schedule.longest_lag_us = Some(5_000.0);
                schedule.machine = Some(MachineGaps {
                    longest_pause_us,
                    paused_share,
                    ..MachineGaps::default()
                });
            }
            is_machines_fault(&run)
        };
        assert!(is_machines_fault(0.6, 8_234.0, 0.5, true));
        assert!(is_machines_fault(0.0, 0.0, 0.95, true));
        assert!(!is_machines_fault(0.6, 900.0, 0.5, true));
        assert!(!is_machines_fault(0.05, 8_234.0, 0.1, true));
        assert!(!is_machines_fault(0.6, 8_234.0, 0.95, false));
    }

    #[test]
    fn what_the_hypervisor_took_is_told_of_failures_only() {
        let mut run = scheduled(example(1.0), 10_000.0);
        let gaps = |share| MachineGaps {
            all_stolen_share: Some(share),
            ..MachineGaps::default()
        };
        let mut remark = |share, outcome| {
            run.schedule
                .iter_mut()
                .for_each(|each| each.machine = Some(gaps(share)));
            remark(&run, outcome)
        };
        assert_eq!(remark(0.02, Outcome::Missed), ", 2.0 % stolen");
        assert_eq!(remark(0.02, Outcome::Met), "");
        assert_eq!(remark(0.01, Outcome::Void), "");
    }
}
