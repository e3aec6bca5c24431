//! The daemon's command: reads the flags, runs the server, and says why if it cannot.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use pyzord::flags::Flags;
use pyzord::startup;

fn main() -> ExitCode {
    match startup::run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who closed standard error does not miss it.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
