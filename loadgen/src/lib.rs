//! The load generator: the program's parts, as a library, so that the fuzzers run what users run.
//!
//! # Where things are
//!
//! - `flags`: what was typed.
//! - `echo`: the floor, a server that does nothing but echo.
//! - `bare`: the floor for a client, a closed loop that looks at nothing.
//! - `blast`: the closed loop as a command, which goes through
//!   - `preload`: reports every known digest once;
//!   - `closed_loop`: sockets with a number of requests outstanding, whatever the work;
//!   - `mix`: which operation about which digest comes next;
//!   - `request` and `reply`: what is written and what is read;
//!   - `in_flight`: which request a reply belongs to;
//!   - `tally` and `latency`: what is counted while the window is open;
//!   - `losses`: what went wrong with datagrams.
//! - `replay`: a trace sent again, by the open loop, which goes through
//!   - `load_flags`: what was typed after the commands of the open loop;
//!   - `playlist`: the requests, once or again and again;
//!   - `schedule`: when each is to be sent;
//!   - `sources`: from which socket, as far as there are `descriptors`;
//!   - `rewrite`: what makes old requests acceptable, with the keys of `accounts`;
//!   - `open_loop`: sends and receives;
//!   - `answers`: whether what is answered is what was expected.
//! - `ramp` and `knee`: a staircase of rates, and the highest that meets objectives, by `trials` of the same loop.
//! - `result`: what was measured, as it stands in files, with the `environment` it was measured in.
//! - `report`: what a run says of itself, while it runs and at its end.
//! - `inspect`: what is in a trace.
//! - `trace`: requests that were recorded or made up, from whatever they are kept in, read with `patience`.
//! - `compare`: whether one side's results are better or worse than another's.
//! - `plan`: from results to cores, hosts, memory and disk.
//! - `pairs`: the table of a folder of results; `median`: how sure one can be of a median.
//! - `socket`: many datagrams a system call; the only file with `unsafe` code.
//! - `cpu`, `signals`: cores and CPU time; TERM and INT.
//! - `stdio`, `error`: what is printed; why a command fails.

mod accounts;
mod answers;
mod bare;
mod blast;
mod closed_loop;
mod compare;
mod cpu;
mod descriptors;
mod echo;
mod environment;
mod error;
mod flags;
mod in_flight;
mod inspect;
mod knee;
mod latency;
mod load_flags;
mod losses;
mod median;
mod mix;
mod open_loop;
mod pairs;
mod patience;
mod plan;
mod playlist;
mod preload;
mod ramp;
mod replay;
mod reply;
mod report;
mod request;
mod result;
mod rewrite;
mod schedule;
mod signals;
mod socket;
mod sources;
mod stdio;
mod tally;
mod trace;
mod trials;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use error::Error;
use flags::{ClosedFlags, Command, Flags};
use in_flight::MAX_SLOTS;
use report::Verdict;
use socket::MAX_BATCH;

/// Runs the command that `arguments` name, the program's own name first. Errors are one line on standard error; bad
/// arguments and requests for help end the process.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let flags = Flags::parse_from(arguments);
    match execute(&flags.command) {
        Ok(Verdict::Met) => ExitCode::SUCCESS,
        Ok(Verdict::Missed) => ExitCode::FAILURE,
        Err(error) => {
            stdio::say(&error);
            failure(&flags.command)
        }
    }
}

/// The status of an error: for a comparison, 1 says that one side is worse.
fn failure(command: &Command) -> ExitCode {
    const UNABLE_TO_COMPARE: u8 = 2;
    match command {
        Command::Compare(_) => ExitCode::from(UNABLE_TO_COMPARE),
        _ => ExitCode::FAILURE,
    }
}

fn execute(command: &Command) -> Result<Verdict, Error> {
    signals::make_size_limits_errors()?;
    match command {
        Command::Echo(flags) => echo::run(flags).map(|()| Verdict::Met),
        Command::Bare(flags) => {
            refuse_contradictions(flags, u32::try_from(MAX_BATCH).unwrap_or(u32::MAX));
            bare::run(flags).map(|()| Verdict::Met)
        }
        Command::Blast(flags) => {
            refuse_contradictions(&flags.closed, u32::from(MAX_SLOTS));
            blast::run(flags)
        }
        Command::Replay(flags) => replay::run(flags),
        Command::Knee(flags) => knee::run(flags),
        Command::Ramp(flags) => ramp::run(flags),
        Command::Inspect(flags) => inspect::run(flags).map(|()| Verdict::Met),
        Command::Compare(flags) => compare::run(flags),
        Command::Plan(flags) => plan::run(flags).map(|()| Verdict::Met),
        Command::Pairs(flags) => pairs::run(flags).map(|()| Verdict::Met),
    }
}

/// Ends the program with clap's own kind of message.
fn refuse_contradictions(flags: &ClosedFlags, room_of_a_socket: u32) {
    if let Some(contradiction) = flags.contradiction(room_of_a_socket) {
        Flags::command()
            .error(ErrorKind::ArgumentConflict, contradiction)
            .exit();
    }
}
