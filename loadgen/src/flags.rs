//! What was typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use pyzor_protocol::DEFAULT_PORT;

use crate::load_flags::{KneeFlags, RampFlags, ReplayFlags};
use crate::plan;
use crate::report::Outputs;
use crate::trace::TraceOptions;

/// Known digests of one run; `mix` says what each takes.
pub(crate) const MAX_KNOWN: i64 = 100_000_000;
/// A report of so many digests still fits into a datagram.
const MAX_DIGESTS_A_REPORT: usize = 100;
const MAX_SOCKETS: i64 = 4096;
/// A week: longer runs are mistyped.
const MAX_SECONDS: f64 = 604_800.0;
/// The deadlines of shorter ones would be missed: see `closed_loop`.
const SHORTEST_INTERVAL_S: f64 = 0.1;
const SHORTEST_WINDOW_S: f64 = 0.001;
/// Less than one request a day is mistyped.
pub(crate) const MIN_RATE_PER_S: f64 = 1e-5;
/// A timeline of more parts would not be looked at; each takes about a kilobyte.
const MAX_INTERVALS: u32 = 20_000;

/// Load for Pyzor servers.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer every datagram with 84 bytes as cheaply as a socket allows: the floor to compare a server with
    Echo(EchoFlags),
    /// Keep a number of datagrams outstanding as cheaply as a socket allows: the floor to compare blast with
    #[command(hide = true)]
    Bare(ClosedFlags),
    /// Keep a number of requests outstanding and measure the answers
    Blast(Box<BlastFlags>),
    /// Send a trace at its own times or at a rate, whatever is answered, and measure the answers
    ///
    /// Exit status: 0; 1 for an error, when an --assert is not met, and without any when the run is void. Of a trace that is cut short or
    /// damaged, what comes before is sent and measured, and the status is 1.
    Replay(Box<ReplayFlags>),
    /// Search the highest rate at which objectives are met
    ///
    /// Doubles the rate until it fails, or halves it until it does not; then makes each run at the rate that the knee is as likely
    /// above as below, until it is known to --resolution, or 60 runs were made. Later runs outvote one that went wrong; where the
    /// machine is so noisy that a rate is met now, and now not, what is found is met every other time. Runs in which a hypervisor
    /// took over 1 % of all cores' time count less; those that miss because the generator fell behind name it as the limit.
    ///
    /// The likely interval of one search holds for the minutes it took: machines drift, and only --repeats shows by how much.
    ///
    /// Exit status: 0; 1 for an error, when an --assert is not met, when every run is void, and when the machine makes requests late at
    /// any rate: the search is given up then.
    Knee(Box<KneeFlags>),
    /// Send at one rate after another and measure the answers at each
    ///
    /// Exit status: 0; 1 for an error, when an --assert is not met, and when every run is void.
    Ramp(Box<RampFlags>),
    /// Say what is in a trace: rates, operations, digests, sources
    ///
    /// Exit status: 0; 1 for an error. Of a trace that is cut short or damaged it says what comes before, and why the rest could not be
    /// read: the status is 1.
    Inspect(InspectFlags),
    /// Say whether one build's results are better or worse than another's
    ///
    /// Exit status: 0 for better or no difference, 1 for worse, 2 for an error.
    ///
    /// Machines drift: make many short runs of both sides in turn (A B B A A B …, 8 of each or more, 10 are good, each with
    /// --server-pid), and give all of one side, then --against and all of the other. ops/compare-experiment.sh does so.
    Compare(CompareFlags),
    /// Turn results into a capacity plan: cores, hosts, latency, memory, disk, and when the next host is due
    Plan(PlanFlags),
    /// Print what the pairs of runs say in a folder that ops/bench.sh wrote, as a Markdown table: medians and their confidence
    Pairs(PairsFlags),
}

#[derive(Debug, Args)]
pub(crate) struct EchoFlags {
    /// Spend so many microseconds of CPU time on each datagram: an artificially slower server
    #[arg(long, value_name = "MICROSECONDS", default_value = "0", value_parser = microseconds)]
    pub(crate) delay_us: Duration,
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Run on this core only
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
    /// Stop after this time; without it, TERM or INT ends it
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
}

/// A number of datagrams outstanding, for some time.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClosedFlags {
    /// The server
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) target: String,
    /// Sockets, each with a source port of its own
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u16).range(1..=MAX_SOCKETS))]
    pub(crate) sockets: u16,
    /// Requests outstanding, over all sockets (at most 1024 on each; 64 in bare)
    #[arg(long, value_name = "N", default_value = "256", value_parser = value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Measure for this time
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = window)]
    pub(crate) duration: Duration,
    /// Run for this time before measuring
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Run on this core only
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct BlastFlags {
    #[command(flatten)]
    pub(crate) closed: ClosedFlags,
    /// Measure each part of so many seconds by itself, too; without it, a part is between 0.25 and 1 second long
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    pub(crate) interval: Option<Duration>,
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    /// Report every known digest once before the run
    #[arg(long)]
    pub(crate) preload: bool,
    /// Decides every random choice; the known digests, too
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// The server's process, to measure its CPU time for each answer
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

/// What is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct Traffic {
    /// The operation asked for; mix: checks and reports
    #[arg(long, value_enum, default_value = "check")]
    pub(crate) op: Asked,
    /// How many digests are known: the first ones of the seed's sequence, at most 100 million. Each takes 48 bytes of memory
    #[arg(long, value_name = "K", default_value = "10000", value_parser = value_parser!(u32).range(1..=MAX_KNOWN))]
    pub(crate) known: u32,
    /// Share of checks that ask about a digest nobody ever reported, 0 to 1
    #[arg(long, value_name = "F", default_value = "0", value_parser = share)]
    pub(crate) unknown_share: f64,
    /// How much more popular low known digests are than high ones: 0 makes all equal
    #[arg(long, value_name = "S", default_value = "1", value_parser = exponent)]
    pub(crate) zipf: f64,
    /// Digests in each report
    #[arg(long, value_name = "N", default_value = "1", value_parser = digests_a_report)]
    pub(crate) digests: usize,
    /// Share of reports in a mix, 0 to 1
    #[arg(long, value_name = "F", default_value = "0.1", value_parser = share)]
    pub(crate) report_share: f64,
    /// Report digests that nobody reported before instead of known ones
    #[arg(long)]
    pub(crate) distinct: bool,
}

/// The operation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Asked {
    Check,
    Ping,
    Report,
    Mix,
}

#[derive(Debug, Args)]
pub(crate) struct InspectFlags {
    #[command(flatten)]
    pub(crate) trace: TraceFlags,
    /// Decides what a synthetic mix makes up
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// Also write what is found here, with all numbers
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Which requests.
#[derive(Clone, Debug, Args)]
pub(crate) struct TraceFlags {
    /// A pcap, a pcapng, a usage log or a list of digests, or `synthetic:KEY=VALUE,…`, made up of: check=, report=, … (how
    /// often each operation is asked for), known= (digests), known-share=, zipf=, batch= (digests), batch-share=, burst=
    /// (reports), malformed= (share), sources=, source-zipf=, rate= (a second), requests=
    #[arg(value_name = "TRACE")]
    pub(crate) file: PathBuf,
    /// The server's UDP port in a capture
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT, value_parser = value_parser!(u16).range(1..))]
    pub(crate) port: u16,
}

impl TraceFlags {
    /// How to read it, for `trace::open`.
    pub(crate) fn options(&self, seed: u64) -> TraceOptions {
        TraceOptions {
            port: self.port,
            seed,
            patience: None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PairsFlags {
    /// The folder; its files are called SCENARIO.base.N.json and SCENARIO.subject.N.json
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompareFlags {
    /// Results before the change; or one before and one after it
    #[arg(required = true, value_name = "RESULT")]
    pub(crate) before: Vec<PathBuf>,
    /// Results after the change: what is judged
    #[arg(long, value_name = "RESULT", num_args = 1..)]
    pub(crate) against: Vec<PathBuf>,
    /// The smallest change that counts, relatively
    #[arg(long, value_name = "SHARE", default_value = "3%", value_parser = percentage)]
    pub(crate) tolerance: f64,
}

#[derive(Debug, Args)]
pub(crate) struct PlanFlags {
    /// Results of knee, ramp, replay or blast
    #[arg(required = true, value_name = "RESULT")]
    pub(crate) results: Vec<PathBuf>,
    /// Requests a second to be answered
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub(crate) target_rate: f64,
    /// Share of each host's capacity to keep free
    #[arg(long, value_name = "SHARE", default_value = "30%", value_parser = headroom)]
    pub(crate) headroom: f64,
    /// How fast the rate grows: 5%/month or 60%/year
    #[arg(long, value_name = "GROWTH", default_value = "0%/month", value_parser = plan::growth)]
    pub(crate) growth: f64,
    /// Cores of a host; without it, as many as the machine of the first result
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(crate) cores: Option<u32>,
    /// Digests stored at a time; without it, as if every report named a new one
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) digests: Option<f64>,
    /// The server's CleanupAge: 120d, 4months, or seconds
    #[arg(long, value_name = "AGE", default_value = "120d", value_parser = plan::age_days)]
    pub(crate) cleanup_age: f64,
    /// Disk that a digest takes; without it, as measured with 10 million digests
    #[arg(long, value_name = "BYTES", value_parser = positive)]
    pub(crate) disk_bytes_a_digest: Option<f64>,
    /// The server's memory for digests in use (--hot-set-memory), like 256M, its default
    #[arg(long, value_name = "BYTES", value_parser = plan::size)]
    pub(crate) hot_set_memory: Option<f64>,
    /// The server's memory for pages of its files (--store-cache), like 256M, its default
    #[arg(long, value_name = "BYTES", value_parser = plan::size)]
    pub(crate) store_cache: Option<f64>,
    /// What the server's process takes beside hot set, cache and filter; without it, as measured with 10 million digests
    #[arg(long, value_name = "BYTES", value_parser = plan::size)]
    pub(crate) other_memory: Option<f64>,
    /// Write the plan here as a page for a browser
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

impl BlastFlags {
    /// How long a part of the window is.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
            .unwrap_or_else(|| interval_of(self.closed.duration))
            .max(self.closed.duration / MAX_INTERVALS)
    }
}

impl ClosedFlags {
    /// What does not fit together, if anything, where a socket has room for so many requests.
    pub(crate) fn contradiction(&self, room: u32) -> Option<String> {
        let needed = self.in_flight.div_ceil(room);
        (needed > u32::from(self.sockets)).then(|| {
            let in_flight = self.in_flight;
            format!("--in-flight {in_flight} needs at least --sockets {needed}")
        })
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    number_within(text, 0.0, MAX_SECONDS).map(Duration::from_secs_f64)
}

/// Of time in which something can be measured.
pub(crate) fn window(text: &str) -> Result<Duration, String> {
    number_within(text, SHORTEST_WINDOW_S, MAX_SECONDS).map(Duration::from_secs_f64)
}

/// A twentieth of a short window, a second of a long one.
pub(crate) fn interval_of(window: Duration) -> Duration {
    const TYPICAL: u32 = 20;
    const SHORTEST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(1);
    (window / TYPICAL)
        .clamp(SHORTEST, LONGEST)
        .max(window / MAX_INTERVALS)
}

/// At most a second each.
fn microseconds(text: &str) -> Result<Duration, String> {
    number_within(text, 0.0, 1e6).map(|us| Duration::from_secs_f64(us / 1e6))
}

pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    number_within(text, SHORTEST_INTERVAL_S, MAX_SECONDS).map(Duration::from_secs_f64)
}

fn share(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 1.0)
}

/// A share as "3%" or "0.03".
pub(crate) fn percentage(text: &str) -> Result<f64, String> {
    let expected = |_| "expected a percentage such as 3%, or a share such as 0.03".to_owned();
    match text.trim().strip_suffix('%') {
        Some(percent) => number_within(percent.trim(), 0.0, 1e4)
            .map(|percent| percent / 100.0)
            .map_err(expected),
        None => share(text).map_err(expected),
    }
}

/// All of a host's capacity cannot be kept free.
fn headroom(text: &str) -> Result<f64, String> {
    const MOST: f64 = 0.95;
    percentage(text).and_then(|share| {
        let fits = share <= MOST;
        fits.then_some(share)
            .ok_or("expected at most 95%".to_owned())
    })
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    const LEAST: f64 = 1e-3;
    const MOST: f64 = 1e15;
    number_within(text, LEAST, MOST)
}

fn exponent(text: &str) -> Result<f64, String> {
    const MAX_EXPONENT: f64 = 10.0;
    number_within(text, 0.0, MAX_EXPONENT)
}

fn digests_a_report(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=MAX_DIGESTS_A_REPORT).contains(&number) => Ok(number),
        _ => Err(format!(
            "expected a whole number from 1 to {MAX_DIGESTS_A_REPORT}"
        )),
    }
}

pub(crate) fn number_within(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!(
            "expected a number from {} to {}",
            plain(low),
            plain(high)
        )),
    }
}

/// With few digits.
pub(crate) fn plain(number: f64) -> String {
    const LONG: f64 = 1e9;
    if number == 0.0 || (1.0 / LONG..=LONG).contains(&number.abs()) {
        number.to_string()
    } else {
        format!("{number:e}")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn blast(arguments: &[&str]) -> Result<BlastFlags, clap::Error> {
        let fixed = ["loadgen", "blast", "--target", "localhost:1"];
        let flags = Flags::try_parse_from(fixed.iter().chain(arguments))?;
        match flags.command {
            Command::Blast(blast) => Ok(*blast),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for wrong in [
            ["--duration", "-1"],
            ["--duration", "nan"],
            ["--unknown-share", "1.1"],
            ["--interval", "0"],
            ["--digests", "0"],
            ["--digests", "101"],
            ["--known", "0"],
            ["--sockets", "0"],
            ["--in-flight", "0"],
        ] {
            assert!(blast(&wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            blast(&["--duration", "0.25"]).unwrap().closed.duration,
            Duration::from_millis(250)
        );
    }

    #[test]
    fn parts_of_the_window_are_neither_too_short_nor_too_many() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(interval_of(seconds(1.0)), seconds(0.25));
        assert_eq!(interval_of(seconds(10.0)), seconds(0.5));
        assert_eq!(interval_of(seconds(600.0)), seconds(1.0));
        assert_eq!(interval_of(seconds(40_000.0)), seconds(2.0));
        let typed = blast(&["--duration", "8000", "--interval", "0.1"]).unwrap();
        assert_eq!(typed.interval(), seconds(0.4));
    }

    #[test]
    fn more_in_flight_than_the_sockets_hold_is_a_contradiction() {
        let fits = blast(&["--sockets", "2", "--in-flight", "2048"]).unwrap();
        assert_eq!(fits.closed.contradiction(1024), None);
        let too_many = blast(&["--sockets", "2", "--in-flight", "2049"]).unwrap();
        assert_eq!(
            too_many.closed.contradiction(1024).as_deref(),
            Some("--in-flight 2049 needs at least --sockets 3")
        );
    }
}
