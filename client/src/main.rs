//! The client's command: reads the flags, runs the commands, and says why if it cannot.

use std::process::ExitCode;

fn main() -> ExitCode {
    pyzor::startup::run(std::env::args_os())
}
