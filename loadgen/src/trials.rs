//! Run after run of the same requests at one rate after another: what ramp and knee are made of.

use std::time::Duration;

use crate::environment::Environment;
use crate::error::Error;
use crate::load_flags::{LoadFlags, TrialFlags};
use crate::open_loop::{self, Plan};
use crate::playlist::Playlist;
use crate::replay;
use crate::report::progress::Progress;
use crate::result::RunResult;
use crate::signals::StopSignal;

/// Can run at any rate. The trace goes on from one run to the next, and starts again when it ends.
pub(crate) struct Trials<'f> {
    command: &'static str,
    flags: &'f TrialFlags,
    plan: Plan,
    playlist: Playlist,
    stop: StopSignal,
}

impl<'f> Trials<'f> {
    /// Opens the trace and finds the target.
    pub(crate) fn new(
        command: &'static str,
        load: &LoadFlags,
        flags: &'f TrialFlags,
    ) -> Result<Self, Error> {
        let stop = StopSignal::take_over()?;
        let playlist = replay::playlist(load, true)?;
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
            stop,
        })
    }

    /// Runs at `rate_per_s` for `duration` after the warm-up.
    pub(crate) fn run(&mut self, rate_per_s: f64, duration: Duration) -> Result<RunResult, Error> {
        self.plan.pace = self.flags.pace(rate_per_s);
        self.plan.duration = Some(duration);
        let environment = Environment::now();
        let mut progress = Progress::new(true, duration);
        let measured = open_loop::run(&self.plan, &mut self.playlist, &self.stop, &mut progress)?;
        Ok(measured.result(&self.plan, self.command, environment))
    }

    /// Says what could not be rewritten in all runs.
    pub(crate) fn warn(&mut self) {
        replay::warn(&mut self.playlist);
    }
}
