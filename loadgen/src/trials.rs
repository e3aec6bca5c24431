//! Run after run of the same requests at one rate after another: what ramp and knee are made of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::environment::Environment;
use crate::error::Error;
use crate::load_flags::{LoadFlags, TrialFlags};
use crate::open_loop::{self, Plan};
use crate::patience::Patience;
use crate::playlist::Playlist;
use crate::replay;
use crate::report::assertion::Assertion;
use crate::report::progress::Progress;
use crate::result::RunResult;
use crate::signals::StopSignal;
use crate::stdio::say;

/// Can run at any rate. The trace goes on from one run to the next, and starts again when it ends.
pub(crate) struct Trials<'f> {
    command: &'static str,
    flags: &'f TrialFlags,
    plan: Plan,
    playlist: Playlist,
    patience: Arc<Patience>,
}

impl<'f> Trials<'f> {
    /// Opens the trace and finds the target.
    pub(crate) fn new(
        command: &'static str,
        load: &LoadFlags,
        flags: &'f TrialFlags,
    ) -> Result<Self, Error> {
        let patience = Patience::until(StopSignal::take_over()?);
        let playlist = replay::playlist(load, true, &patience)?;
        let anything = flags.pace(1.0);
        let plan = Plan {
            warmup: flags.warmup,
            ..replay::plan(load, anything)?
        };
        Ok(Self {
            command,
            flags,
            plan,
            playlist,
            patience,
        })
    }

    /// Runs at `rate_per_s` for `duration` after the warm-up. `which` of all runs it is stands on the terminal meanwhile.
    pub(crate) fn run(
        &mut self,
        rate_per_s: f64,
        duration: Duration,
        which: String,
    ) -> Result<RunResult, Error> {
        self.plan.pace = self.flags.pace(rate_per_s);
        self.plan.duration = Some(duration);
        let environment = Environment::now();
        let mut progress = Progress::of_trial(which, duration);
        let measured = open_loop::run(
            &self.plan,
            &mut self.playlist,
            &self.patience,
            &mut progress,
        );
        progress.finish();
        // The trace starts again when it ends.
        let nothing_sent = |error| match error {
            Error::NothingSent(_) => Error::NothingSentAt { rate_per_s },
            other => other,
        };
        let mut measured = measured.map_err(nothing_sent)?;
        // Part of a run at this rate says nothing of the rate; the runs before do.
        if let Some(failure) = measured.take_failure() {
            return Err(failure);
        }
        Ok(measured.result(&self.plan, self.command, environment))
    }

    /// Says what could not be rewritten in all `runs`, and why the latest of those that are void is.
    ///
    /// # Errors
    /// When all are.
    pub(crate) fn warn(&mut self, runs: &[RunResult]) -> Result<(), Error> {
        replay::warn(&mut self.playlist);
        let mut reasons = runs.iter().filter_map(|run| run.void.as_ref());
        let Some(reason) = reasons.next_back() else {
            return Ok(());
        };
        let (count, all) = (reasons.count() + 1, runs.len());
        if count == all {
            let reason = reason.clone();
            return Err(Error::AllVoid { runs: all, reason });
        }
        say(format_args!(
            "{count} of {all} runs are void, the last one because {reason}"
        ));
        Ok(())
    }
}

/// What a run says about its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Met,
    Missed,
    /// The generator did not keep up.
    Void,
    /// Somebody wants no more.
    Stopped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Void => "void",
            Self::Stopped => "stopped",
        })
    }
}

/// What a run says of `objectives`. One that is void and misses one says nothing of the server, unless it misses it by more than
/// the generator was late.
pub(crate) fn outcome(run: &RunResult, objectives: &[Assertion]) -> Outcome {
    let hold = objectives
        .iter()
        .all(|each| each.check_numbers(run).is_ok());
    if run.ended_early {
        Outcome::Stopped
    } else if hold && (run.void.is_none() || run.is_only_late()) {
        Outcome::Met
    } else if run.void.is_some() && !is_servers_fault(run, objectives) {
        Outcome::Void
    } else {
        Outcome::Missed
    }
}

fn is_servers_fault(run: &RunResult, objectives: &[Assertion]) -> bool {
    run.longest_lag_us().is_some_and(|lag_us| {
        objectives
            .iter()
            .any(|each| each.is_missed_by_more_than(lag_us, run))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{example, scheduled};

    #[test]
    fn lateness_does_not_void_what_is_met_in_spite_of_it() {
        let objectives = |text| Assertion::list(text).unwrap();
        let mut run = scheduled(example(1.0), 10_000.0);
        let (met, missed) = (objectives("rate>1"), objectives("rate<1"));
        assert_eq!(outcome(&run, &met), Outcome::Met);
        assert_eq!(outcome(&run, &missed), Outcome::Missed);
        run.void = Some("the generator fell behind".to_owned());
        assert_eq!(outcome(&run, &met), Outcome::Met);
        assert_eq!(outcome(&run, &missed), Outcome::Void);
        let worse: [fn(&mut RunResult); 3] = [
            |run| run.losses.unsent = 1,
            |run| run.rate_per_s *= 0.9,
            |run| {
                run.schedule
                    .iter_mut()
                    .for_each(|each| each.clock_steps = 1);
            },
        ];
        for worsen in worse {
            let mut run = run.clone();
            worsen(&mut run);
            assert_eq!(outcome(&run, &met), Outcome::Void);
        }
    }

    #[test]
    fn what_is_missed_by_more_than_the_lateness_is_the_servers_fault() {
        let objectives = |text| Assertion::list(text).unwrap();
        let late_by = |us: f64| {
            let mut run = scheduled(example(1.0), 10_000.0);
            run.schedule
                .iter_mut()
                .for_each(|each| each.longest_lag_us = Some(us));
            run.void = Some("the generator fell behind".to_owned());
            run
        };
        // Half of the answers of the example come within 5 ms.
        let slow = objectives("p50<3ms");
        assert_eq!(outcome(&late_by(1_000.0), &slow), Outcome::Missed);
        assert_eq!(outcome(&late_by(3_000.0), &slow), Outcome::Void);
        let unsent = |mut run: RunResult| {
            run.losses.unsent = 1;
            run
        };
        assert_eq!(outcome(&unsent(late_by(1_000.0)), &slow), Outcome::Void);
        let lossy = objectives("loss=0");
        assert_eq!(outcome(&late_by(1_000.0), &lossy), Outcome::Void);
    }
}
