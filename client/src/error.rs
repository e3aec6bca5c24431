//! Every way this crate can fail. Each is one line on standard error, and ends the program.

use std::io;
use std::path::{Path, PathBuf};

use pyzor_protocol::configparser::Origin;

/// Why the program cannot do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting whose value means nothing.
    #[error("{}: expected {expected}", origin.with_value(value))]
    Setting {
        /// Where it was written.
        origin: Origin,
        /// What was written.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A line of a file that cannot be read.
    #[error("{path}:{line}: {message}", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A servers file that holds something, but no server.
    #[error(
        "{path}:{line}: expected HOST:PORT; no line of this file names a server: correct it, or remove it to ask the public one",
        path = .path.display()
    )]
    NoServer {
        /// The file.
        path: PathBuf,
        /// Its first line that names none, counted from 1.
        line: usize,
    },
    /// A servers file with more servers than anybody asks.
    #[error("{path}: expected at most {most} servers", path = .path.display())]
    TooManyServers {
        /// The file.
        path: PathBuf,
        /// How many there may be.
        most: usize,
    },
    /// A file or directory cannot be used as intended.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// What was tried, as a verb: "read", "create", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// The message is longer than any mail.
    #[error("the message is too large: expected at most {most_bytes} bytes")]
    MessageTooLarge {
        /// How long it may be.
        most_bytes: usize,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// Whoever read standard output has gone. Nobody is told.
    #[error("standard output is closed")]
    OutputClosed,
    /// The passphrase cannot be asked for.
    #[error("cannot ask for a passphrase: {0}")]
    Passphrase(io::Error),
    /// There is no file for the local whitelist.
    #[error("LocalWhitelist is empty: name a file to keep it in")]
    NoWhitelist,
    /// The two passphrases that were typed are not the same.
    #[error("the passphrases differ: no key was made")]
    PassphrasesDiffer,
    /// A scan socket cannot listen where it should.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A socket that systemd passed on cannot be used.
    #[error("cannot listen on socket {number} of those passed on: {source}")]
    PassedSocket {
        /// Which, counted from 1.
        number: usize,
        /// What the system said, or what is wrong with it.
        source: io::Error,
    },
    /// The limits of a scan socket contradict each other.
    #[error(
        "--max-memory is too small for --max-connections and --max-message: expected at least {needed_bytes} bytes"
    )]
    TooLittleMemory {
        /// What they take together.
        needed_bytes: usize,
    },
    /// The process may not open as many descriptors as the limits of a scan socket take.
    #[error(
        "{needed} descriptors may be needed and {allowed} are allowed: raise that limit (LimitNOFILE, ulimit -Hn), or lower \
         --max-connections"
    )]
    TooFewDescriptors {
        /// What the limits take together.
        needed: u64,
        /// The process's hard limit.
        allowed: u64,
    },
    /// More than can be kept for every command.
    #[error(
        "standard input is too large for several commands: expected at most {most_bytes} bytes; run one command at a time"
    )]
    InputTooLarge {
        /// How large it may be.
        most_bytes: usize,
    },
    /// Nothing was typed to do.
    #[error("expected a command, such as check; see pyzor --help")]
    NoCommand,
    /// `serve` stands beside other commands.
    #[error("serve goes with no other command")]
    ServeWithOthers,
    /// A system call of the process as a whole failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb: "set the nice level", …
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on what was tried with `path`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err` on a system call that concerns the whole process.
    pub fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            action,
            source: source.into(),
        }
    }

    /// From a failure to write to standard output.
    pub fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Output(source)
        }
    }

    /// The exit status that it ends the program with: 2 for what was typed, as the reference's.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Setting {
                origin: Origin::Flag(_),
                ..
            }
            | Self::TooLittleMemory { .. }
            | Self::NoCommand
            | Self::ServeWithOthers => 2,
            _ => 1,
        }
    }
}
