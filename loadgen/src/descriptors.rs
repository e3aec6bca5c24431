//! How many sockets this process may have open.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::stdio::say;

/// For files, signals, the terminal and the like.
const OTHER_DESCRIPTORS: u64 = 32;

/// Raises the limit of open files as far as it goes without privileges; how many of `wanted` sockets fit below it.
pub(crate) fn sockets(wanted: u32) -> io::Result<u32> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = u64::from(wanted) + OTHER_DESCRIPTORS;
    if soft < needed && soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let fitting = fitting(wanted, soft.max(hard));
    if fitting < wanted {
        say(format_args!(
            "at most {fitting} sockets instead of {wanted}: the limit of open files (ulimit -n) is {hard}"
        ));
    }
    Ok(fitting)
}

fn fitting(wanted: u32, limit: u64) -> u32 {
    let room = limit.saturating_sub(OTHER_DESCRIPTORS).max(1);
    wanted.min(u32::try_from(room).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_stay_below_the_limit() {
        assert_eq!(fitting(4096, 20_000), 4096);
        assert_eq!(fitting(4096, 1024), 992);
        assert_eq!(fitting(4096, 10), 1);
        assert_eq!(fitting(4096, u64::MAX), 4096);
        assert!(sockets(16).unwrap() >= 1);
    }
}
