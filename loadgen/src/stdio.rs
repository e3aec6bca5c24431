//! Standard output, for results, and standard error, for what is said beside them.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use crate::error::Error;

/// Prints whole lines; a reader that has read enough is no failure.
pub(crate) fn print(lines: impl Display) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match write!(out, "{lines}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Says a line. Nobody need read it: a closed standard error ends nothing.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "loadgen: {line}");
}
