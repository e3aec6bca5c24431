//! Why a command ends with a non-zero status.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What requests can be read from.
const TRACES: &str = "a pcap or pcapng, a usage log of pyzord, or a list of digests, compressed by gzip or zstd or not";

/// One line for the terminal; says what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    #[error("cannot run on core {0}: {1}")]
    Pin(usize, #[source] io::Error),
    #[error("cannot find the target {0}: {1}")]
    Resolve(String, #[source] io::Error),
    #[error("{0} refuses: nothing listens there")]
    Refused(SocketAddr),
    #[error("{0} did not answer a single request in {1:.1} s: is it a Pyzor server?")]
    Silent(SocketAddr, f64),
    #[error("the server refuses to be preloaded: it answers {0} to reports")]
    PreloadRefused(u16),
    #[error(
        "the preload does not get on: {left} reports are not acknowledged, \
         {unavailable} were answered 503, the others not at all"
    )]
    PreloadStuck { left: u32, unavailable: u64 },
    #[error("stopped before anything was measured")]
    Stopped,
    #[error("cannot read the CPU time of process {0}: {1}")]
    ServerCpu(u32, #[source] io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, #[source] io::Error),
    #[error("{0} would be written over: it is read by this command, or another of its outputs")]
    Overwrites(PathBuf),
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot read {path} after {offset} bytes: {source}")]
    ReadAt {
        path: PathBuf,
        offset: u64,
        source: io::Error,
    },
    #[error("{0} is empty: expected {TRACES}")]
    EmptyTrace(PathBuf),
    #[error("{0} is of no known kind: expected {TRACES}")]
    UnknownTrace(PathBuf),
    #[error(
        "{known} known digests take {needed_mib} MiB of memory, and {available_mib} MiB are free: ask for fewer (--known, or known= \
         of a synthetic mix)"
    )]
    Memory {
        known: u32,
        needed_mib: u64,
        available_mib: u64,
    },
    #[error("synthetic mix: {part}: {problem}")]
    Mix { part: String, problem: String },
    #[error("{0} can be read only once: --loop, ramp and knee need the trace in a file")]
    ReadOnce(String),
    #[error(
        "nothing was sent: the trace ends before the warm-up of {0} s does, or there was no time after it"
    )]
    NothingSent(f64),
    #[error(
        "at {rate_per_s} requests a second nothing was sent in the time of a run: it is too short for that rate, or this machine too \
         busy to send"
    )]
    NothingSentAt { rate_per_s: f64 },
    #[error("stopped before the knee was known")]
    StoppedSearch,
    #[error("{0} never ends: say how long with requests=N")]
    Endless(PathBuf),
    #[error(
        "{0} lists no digest: expected lines `DIGEST COUNT WL-COUNT`, as --answers writes them"
    )]
    NothingExpected(PathBuf),
    #[error("{path}, line {line}: expected {expected}")]
    TraceLine {
        path: PathBuf,
        line: u64,
        expected: &'static str,
    },
    #[error("{path} is damaged at byte {offset}: expected {expected}")]
    DamagedTrace {
        path: PathBuf,
        offset: u64,
        expected: &'static str,
    },
    #[error(
        "{path} is cut short: the last {left} bytes, from byte {offset} on, are not a whole packet; `head -c {offset}` gives what is whole"
    )]
    CutTrace {
        path: PathBuf,
        offset: u64,
        left: usize,
    },
    #[error(
        "{path} is cut short: its last line, from byte {offset} on, is no whole one; `head -c {offset}` gives what is whole"
    )]
    CutLine { path: PathBuf, offset: u64 },
    #[error("{path} holds no {wanted}; passed over: {skipped}{hint}")]
    NoRequests {
        path: PathBuf,
        wanted: String,
        skipped: String,
        hint: String,
    },
    #[error("{0} is not a result of this program: {1}")]
    Result(PathBuf, #[source] serde_json::Error),
    #[error("{0} {1}")]
    WrongResult(PathBuf, String),
    #[error("{0}")]
    Compare(String),
    #[error("{0}")]
    Plan(String),
    #[error("{0}")]
    Pairs(String),
    #[error("{0}")]
    Steps(String),
    #[error("--slo: {0}")]
    Objectives(String),
    #[error(
        "--assert {0}: of a knee only the rate can be asserted, like 'rate>50000'; the rest belongs into --slo"
    )]
    KneeAssertion(String),
    #[error(
        "{} at {lowest_per_s:.0} requests a second: {}",
        if *.generator { "the generator falls behind" } else { "the objectives are not met even" },
        if *.generator { "give it a core of its own" } else { "begin lower, with --from, or ask for less" }
    )]
    NoKnee { lowest_per_s: f64, generator: bool },
    #[error(
        "this machine cannot generate load now: down to {lowest_per_s:.0} requests a second every run was late, and a lower \
         rate would not help; stop what else runs here, or give the generator a core of its own (--core)"
    )]
    BusyMachine { lowest_per_s: f64 },
    #[error(
        "all {runs} runs are void, so nothing is known of the server; the last one, because {reason}; stop what else runs here, give \
         the generator a core of its own (--core), or begin with a lower rate (--from)"
    )]
    AllVoid { runs: usize, reason: String },
    #[error("cannot send to {0}: {1}")]
    Send(SocketAddr, #[source] io::Error),
    #[error("cannot send from {} to {target}: {source}", source_address(*.address))]
    Source {
        address: Option<IpAddr>,
        target: SocketAddr,
        source: io::Error,
    },
    #[error("--sources must be addresses like the target's, {0}: IPv4 or IPv6")]
    SourceFamily(SocketAddr),
    #[error("{0}, line {1}: expected `host : port : user : salt,key`")]
    AccountsLine(PathBuf, usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn source_address(address: Option<IpAddr>) -> String {
    address.map_or("this machine".to_owned(), |address| address.to_string())
}
