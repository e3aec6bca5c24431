//! From the command line to the exit status: what ends the program says so in one line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};

use crate::commands::{self, Command};
use crate::config::Config;
use crate::error::Error;
use crate::flags::Flags;
use crate::generate;
use crate::log::Log;
use crate::scan_socket;

/// The exit status when the command line cannot be used, as the reference's.
const UNUSABLE: u8 = 2;

/// Runs the program.
pub fn run(typed: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(typed) {
        Ok(flags) => flags,
        Err(error) => return not_parsed(&error),
    };
    match act(&flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if !matches!(error, Error::OutputClosed) {
                say(&error.to_string());
            }
            error.exit_status().into()
        }
    }
}

/// Whether every command succeeded.
fn act(flags: &Flags) -> Result<bool, Error> {
    // A file at the limit of sizes (`ulimit -f`) fails like one on a full disk then, and does not kill us.
    SigSet::from(Signal::SIGXFSZ)
        .thread_block()
        .map_err(Error::system("block a signal"))?;
    let mut out = io::stdout().lock();
    if let Some(document) = flags.generate {
        generate::write(document, &mut out).map_err(Error::output)?;
        return Ok(true);
    }
    drop(out);
    run_commands(flags)
}

fn run_commands(flags: &Flags) -> Result<bool, Error> {
    // Keys, logs and whitelists are nobody else's business.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let commands = flags.commands.iter().copied();
    let commands: Vec<_> = commands
        .filter(|command| *command != Command::StandardInput)
        .collect();
    match commands[..] {
        [] => return Err(Error::NoCommand),
        [Command::Serve] => {
            scan_socket::serve(flags)?;
            return Ok(true);
        }
        _ if commands.contains(&Command::Serve) => return Err(Error::ServeWithOthers),
        _ => {}
    }
    let config = Config::load(flags)?;
    if config.nice != 0 {
        rustix::process::nice(config.nice).map_err(Error::system("set the nice level"))?;
    }
    let log = Log::open(config.log_file.as_deref(), config.debug)?;
    let log = Arc::new(log);
    // Without a word, others than were meant are asked.
    for warning in &config.warnings {
        log.critical(warning);
    }
    commands::run(&commands, &config, &log)
}

/// Help and version are no errors, and an error is one line.
fn not_parsed(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody misses what nobody reads.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let reason = first.strip_prefix("error: ").unwrap_or(first);
    say(&format!("{reason}; see pyzor --help"));
    UNUSABLE.into()
}

fn say(message: &str) {
    // A closed standard error is no reason to panic.
    let _ = writeln!(io::stderr(), "pyzor: {message}");
}
