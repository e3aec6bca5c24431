//! The load generator's command; all it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadgen::run(std::env::args_os())
}
