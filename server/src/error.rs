//! Every way this crate can fail. All of them end the process or are logged; none is sent to a client.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::Problems;

/// Why the server cannot start, or must end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used; every problem of it, one a line.
    #[error("{0}")]
    Config(Problems),
    /// A file or directory cannot be used as intended.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// What was tried, as a verb: "read", "open", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What `--check-config` found, one a line.
    #[error("{}", .0.join("\n"))]
    Check(Vec<String>),
    /// Somebody else is bound to an address we should listen on.
    #[error("{0} is in use: is another pyzord running?")]
    AddressInUse(SocketAddr),
    /// A socket cannot be made ready.
    #[error("cannot {action} {address}: {source}")]
    Socket {
        /// What was tried, as a verb: "bind", "set the receive buffer of", …
        action: &'static str,
        /// For which listen address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A way to the kernel does not work here.
    #[error("--io {io} does not work on this system: {source}")]
    IoRefused {
        /// The way, as `--io` spells it.
        io: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A worker cannot begin to receive.
    #[error("worker {index} cannot receive with --io {io}: {source}")]
    WorkerStart {
        /// Which worker, counted from 0.
        index: usize,
        /// Its way to the kernel, as `--io` spells it.
        io: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The process may not have as many files open as its sockets and rings are.
    #[error(
        "{workers} workers need {needed} open files with --io {io}, and {limit} are allowed: raise the hard limit (ulimit -Hn, \
         or LimitNOFILE= under systemd) or lower Workers"
    )]
    OpenFiles {
        /// Workers to be started.
        workers: usize,
        /// Their way to the kernel, as `--io` spells it.
        io: &'static str,
        /// Files that may be open at a time.
        needed: u64,
        /// How many the system allows.
        limit: u64,
    },
    /// A worker's sockets stopped working.
    #[error("a worker's sockets failed: {0}")]
    Datapath(#[from] io::Error),
    /// A passwd or access file that somebody named is not there.
    #[error(
        "{named}: there is no {path}: create it, or remove the setting to do without", path = .path.display()
    )]
    Missing {
        /// The setting, and where it was written.
        named: String,
        /// The file.
        path: PathBuf,
    },
    /// A passwd or access file has lines, and none of them says anything.
    #[error("{path}:{line}: {problem}; and no other line can be read", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Its first line that cannot be read.
        line: usize,
        /// What is wrong with it.
        problem: pyzor_protocol::Problem,
    },
    /// The store cannot be opened.
    #[error("the store {directory} cannot be opened: {source}", directory = .directory.display())]
    Store {
        /// Its directory.
        directory: PathBuf,
        /// Why not.
        source: pyzor_storage::StoreError,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A thread of the store ended by a panic; its message is in the log.
    #[error("a thread of the store panicked")]
    StorePanicked,
    /// A worker ended by a panic; its message is in the log.
    #[error("a worker thread panicked")]
    WorkerPanicked,
    /// A system call of the process as a whole failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb: "set the nice level", …
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The detached process could not start; the text is what it reported.
    #[error("{0}")]
    Detached(String),
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
}
