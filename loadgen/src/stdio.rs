//! Standard output, for results, and standard error, for what is said beside them.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use crate::error::Error;

/// Prints whole lines; a reader that has read enough is no failure.
pub(crate) fn print(lines: impl Display) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let lines = harmless(&lines);
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Says a line. Nobody need read it: a closed standard error ends nothing.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "loadgen: {}", harmless(&line));
}

/// Traces and results of others may hold names that would command a terminal.
fn harmless(text: &impl Display) -> String {
    let text = text.to_string();
    let commands = |letter: char| letter.is_control() && letter != '\n';
    text.replace(commands, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_commands() {
        assert_eq!(
            harmless(&"a\x1b[2J\u{9b}µ\n\t"),
            "a\u{fffd}[2J\u{fffd}µ\n\u{fffd}"
        );
    }
}
