//! Asking for a passphrase on the terminal without showing it, or reading it from standard input where there is no terminal.
//!
//! Whatever happens while the terminal is silent, its echo comes back: signals that would end or stop the program wait until
//! it has.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::error::Error;

/// The terminal that the user sits at, wherever standard input comes from.
const TERMINAL: &str = "/dev/tty";

/// Bytes of a passphrase that are read at most.
const MAX_BYTES: u64 = 1024;

/// What would leave the terminal silent.
const SIGNALS: [Signal; 5] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGTSTP,
];

/// Shows `prompt` and reads a line, which is returned without its end.
pub(crate) fn ask(prompt: &str) -> Result<Vec<u8>, Error> {
    let answer = match File::options().read(true).write(true).open(TERMINAL) {
        Ok(terminal) => ask_terminal(&terminal, prompt),
        Err(_) => ask_input(prompt),
    };
    answer.map_err(Error::Passphrase)
}

fn ask_input(prompt: &str) -> io::Result<Vec<u8>> {
    write!(io::stderr(), "{prompt}")?;
    let line = read_line(io::stdin().lock());
    writeln!(io::stderr())?;
    line
}

fn ask_terminal(mut terminal: &File, prompt: &str) -> io::Result<Vec<u8>> {
    loop {
        let signals = SignalsHeld::new()?;
        let silence = Silence::begin(terminal)?;
        terminal.write_all(prompt.as_bytes())?;
        let was_signalled = signals.wait_for(terminal)?;
        let line = (!was_signalled).then(|| read_line(BufReader::new(terminal)));
        drop(silence);
        terminal.write_all(b"\n")?;
        // A signal that waited is delivered here. Who goes on after it is asked again.
        drop(signals);
        if let Some(line) = line {
            return line;
        }
    }
}

fn read_line(input: impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(MAX_BYTES).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        Some(_) | None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silence<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Silence<'t> {
    fn begin(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that has gone.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// The signals of [`SIGNALS`], which are not delivered until this is dropped.
struct SignalsHeld {
    before: SigSet,
    arrived: SignalFd,
}

impl SignalsHeld {
    fn new() -> io::Result<Self> {
        let signals: SigSet = SIGNALS.into_iter().collect();
        let before = SigSet::thread_get_mask()?;
        signals.thread_block()?;
        Ok(Self {
            before,
            arrived: SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?,
        })
    }

    /// Whether a signal came before there was something to read.
    fn wait_for(&self, terminal: &File) -> io::Result<bool> {
        let mut both = [
            PollFd::new(self.arrived.as_fd(), PollFlags::POLLIN),
            PollFd::new(terminal.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut both, PollTimeout::NONE)?;
        // It is not read here, so that it waits on.
        Ok(both[0].any().unwrap_or_default())
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // Setting a mask that was in force cannot fail.
        let _ = self.before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_a_whole_line() {
        assert_eq!(read_line(&b"a b \nc"[..]).unwrap(), b"a b ");
        assert_eq!(read_line(&b"\n"[..]).unwrap(), b"");
        assert!(read_line(&b"abc"[..]).is_err());
        assert!(read_line(&b""[..]).is_err());
    }
}
