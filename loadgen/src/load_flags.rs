//! What was typed after the commands of the open loop: replay, ramp and knee.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, value_parser};

use crate::flags::{MIN_RATE_PER_S, TraceFlags, interval, number_within, seconds, window};
use crate::report::Outputs;
use crate::report::series::SeriesOutputs;
use crate::schedule::Pace;
use crate::sources::Prefix;

/// Requests a second; more than any socket takes.
const MAX_RATE_PER_S: f64 = 1e8;
const MAX_SPEED: f64 = 1e6;
const MAX_SOCKETS: i64 = 65_535;
const MAX_THREADS: i64 = 256;
/// The protocol's clients wait for 5 s. A socket has 55,536 Threads to tell requests apart that wait so long.
const MAX_TIMEOUT_S: f64 = 10.0;
const MIN_TIMEOUT_S: f64 = 0.001;

/// Whom to load, and from where.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadFlags {
    /// The server
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) trace: TraceFlags,
    /// Sign the requests of named users again; a client's accounts file: `host : port : user : salt,key` on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) accounts: Option<PathBuf>,
    /// Give each recorded address one of these as its own, like 127.1.0.0/16: they must be this machine's
    #[arg(long, value_name = "ADDRESS/BITS")]
    pub(crate) sources: Option<Prefix>,
    /// Sockets at most: each recorded address and port gets its own until there are so many, later ones share them
    #[arg(long, value_name = "N", default_value = "4096", value_parser = value_parser!(u32).range(1..=MAX_SOCKETS))]
    pub(crate) sockets: u32,
    /// A request without a reply for so long is lost. Clients wait for 5 s; a server that needs half a second is in trouble
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = timeout)]
    pub(crate) timeout: Duration,
    /// Threads that send and receive
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u32).range(1..=MAX_THREADS))]
    pub(crate) threads: u32,
    /// Send and receive on these cores only, by one thread each: like 1 or 2,3. Best are those that take no interrupts of disks and
    /// network cards (/proc/interrupts): these make requests late
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "threads"
    )]
    pub(crate) core: Vec<usize>,
    /// Length of the timeline's parts
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Decides every random choice
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// The server's process, to measure its CPU time for each answer and what its kernel drops
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayFlags {
    #[command(flatten)]
    pub(crate) load: LoadFlags,
    /// Send so many times as fast as recorded
    #[arg(long, value_name = "X", default_value = "1", value_parser = speed)]
    pub(crate) speed: f64,
    /// Send so many requests a second instead of as recorded
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "speed")]
    pub(crate) rate: Option<f64>,
    /// At random times, as many independent clients would
    #[arg(long, requires = "rate")]
    pub(crate) poisson: bool,
    /// Start again when the trace ends
    #[arg(long = "loop")]
    pub(crate) is_endless: bool,
    /// Send for this time; without it, until the trace ends
    #[arg(long, value_name = "SECONDS", value_parser = window)]
    pub(crate) duration: Option<Duration>,
    /// What is sent in this time before does not count
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(crate) warmup: Duration,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
    /// Compare what is answered about digests with this file, which has a line `DIGEST COUNT WL-COUNT` for each; to be used
    /// where nobody reports these digests meanwhile. Differences are counted and named; --assert 'differences=0' makes them fail
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) expect: Option<PathBuf>,
    /// Write what was answered last about each digest here, for --expect of another run
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) answers: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RampFlags {
    #[command(flatten)]
    pub(crate) load: LoadFlags,
    /// The first rate, in requests a second
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) from: f64,
    /// The last rate, at most
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) to: f64,
    /// From one rate to the next
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) step: f64,
    /// Measure each rate for this time
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = window)]
    pub(crate) step_duration: Duration,
    #[command(flatten)]
    pub(crate) trial: TrialFlags,
    #[command(flatten)]
    pub(crate) outputs: SeriesOutputs,
}

#[derive(Debug, Args)]
pub(crate) struct KneeFlags {
    #[command(flatten)]
    pub(crate) load: LoadFlags,
    /// What must hold, like p99<5ms,loss<0.01%
    #[arg(long, value_name = "OBJECTIVES")]
    pub(crate) slo: String,
    /// The first rate that is tried, in requests a second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    pub(crate) from: f64,
    /// No higher rate is tried
    #[arg(long, value_name = "N", default_value = "10000000", value_parser = rate)]
    pub(crate) to: f64,
    /// How long each run takes
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = interval)]
    pub(crate) trial_duration: Duration,
    /// Search until the knee is known so well, in percent up and down
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = resolution)]
    pub(crate) resolution: f64,
    /// Search so many times
    #[arg(long, value_name = "N", default_value = "5", value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) repeats: u32,
    #[command(flatten)]
    pub(crate) trial: TrialFlags,
    #[command(flatten)]
    pub(crate) outputs: SeriesOutputs,
}

/// What all runs of a series have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct TrialFlags {
    /// At random times, as many independent clients would
    #[arg(long)]
    pub(crate) poisson: bool,
    /// What is sent in this time before each run does not count
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub(crate) warmup: Duration,
}

impl LoadFlags {
    /// Files that are read.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.trace.file.as_path()).chain(self.accounts.as_deref())
    }
}

impl ReplayFlags {
    /// The law that send times follow.
    pub(crate) fn pace(&self) -> Pace {
        match self.rate {
            Some(rate_per_s) => pace(rate_per_s, self.poisson),
            None => Pace::Recorded { speed: self.speed },
        }
    }
}

impl TrialFlags {
    pub(crate) fn pace(&self, rate_per_s: f64) -> Pace {
        pace(rate_per_s, self.poisson)
    }
}

fn pace(rate_per_s: f64, is_poisson: bool) -> Pace {
    if is_poisson {
        Pace::Poisson { rate_per_s }
    } else {
        Pace::Constant { rate_per_s }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    number_within(text, MIN_RATE_PER_S, MAX_RATE_PER_S)
}

fn speed(text: &str) -> Result<f64, String> {
    number_within(text, 1.0 / MAX_SPEED, MAX_SPEED)
}

fn timeout(text: &str) -> Result<Duration, String> {
    number_within(text, MIN_TIMEOUT_S, MAX_TIMEOUT_S).map(Duration::from_secs_f64)
}

fn resolution(text: &str) -> Result<f64, String> {
    const MIN_PERCENT: f64 = 0.1;
    const MAX_PERCENT: f64 = 50.0;
    number_within(text, MIN_PERCENT, MAX_PERCENT)
}
