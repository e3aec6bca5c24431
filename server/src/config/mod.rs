//! What was typed and what the configuration file says, merged into one validated [`Config`].

mod problems;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use pyzor_storage::CleanupAge;

pub use problems::{Origin, Problem, Problems};

/// Everything the server is started with. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Config {
    /// The home directory.
    pub home: PathBuf,
    /// Where to listen, ports included; no address twice.
    pub listen: Vec<SocketAddr>,
    /// The directory of the store.
    pub digest_db: PathBuf,
    /// How long a record is kept.
    pub cleanup_age: CleanupAge,
    /// Accounts and their keys.
    pub passwd_file: PathBuf,
    /// Who may do what.
    pub access_file: PathBuf,
    /// The log; none by default.
    pub log_file: Option<PathBuf>,
    /// One line a request; none by default.
    pub usage_log_file: Option<PathBuf>,
    /// Holds the process id while a detached server runs.
    pub pid_file: PathBuf,
    /// Whether to log debugging details, on stderr too.
    pub debug: bool,
    /// Added to the process's nice level.
    pub nice: i32,
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// How workers talk to the kernel.
    pub io: IoChoice,
    /// When an update is acknowledged.
    pub durability: Durability,
    /// Memory budget of the store's hot set, in bytes.
    pub hot_set_bytes: usize,
    /// Memory budget of the store's page caches together, in bytes.
    pub store_cache_bytes: usize,
    /// Where a detached server's output goes.
    pub detach: Option<PathBuf>,
    /// What deserves a warning in the log, once there is one.
    pub warnings: Vec<String>,
}

/// How workers talk to the kernel (`Io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// `io_uring` where it works, else `recvmmsg`.
    Auto,
    /// `io_uring`, or refuse to start.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

/// When an update is acknowledged (`Durability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is durable.
    Group,
    /// At once; it is durable within a second.
    Relaxed,
}
