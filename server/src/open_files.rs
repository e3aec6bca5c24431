//! How many files the server may have open: sockets and rings are files, and a usual soft limit of 1024 is too low for
//! machines with many cores.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;
use crate::datapath::Io;
use crate::error::Error;

/// Files of the store, the logs, the recording and the start, with room to spare.
const OTHER_FILES: u64 = 96;

/// Files of one worker besides its sockets: both ends of its waker, and what its runtime waits with.
const PER_WORKER: u64 = 6;

/// What a ring adds: itself, the runtime's, and what announces completions.
const PER_RING: u64 = 3;

/// Raises the soft limit to what the configured workers need with `io`.
///
/// # Errors
/// When the hard limit is lower.
pub(crate) fn allow(config: &Config, io: Io) -> Result<(), Error> {
    let workers = config.workers.get();
    let needed = needed(workers as u64, config.listen.len() as u64, io);
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    let (soft, hard) = limits.map_err(Error::system("read the limit of open files"))?;
    if needed > hard {
        return Err(Error::OpenFiles {
            workers,
            io: io.name(),
            needed,
            limit: hard,
        });
    }
    if needed > soft {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard)
            .map_err(Error::system("raise the limit of open files"))?;
    }
    Ok(())
}

fn needed(workers: u64, addresses: u64, io: Io) -> u64 {
    let per_worker = match io {
        Io::Uring => PER_WORKER + PER_RING,
        Io::Mmsg => PER_WORKER,
    };
    OTHER_FILES + workers * (addresses + per_worker)
}
