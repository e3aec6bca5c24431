//! Descriptors: each connection takes one, and each server asked another.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::limits::Limits;
use crate::error::Error;

/// What we open besides connections and sockets for servers: logs, listening sockets, the runtime's own, files read.
const OTHER_DESCRIPTORS: u64 = 64;

/// Makes sure that the process may open what `limits` allow, with `servers` to ask, raising its own limit if need be.
///
/// # Errors
/// When the limit cannot be raised that far.
pub(super) fn allow(limits: &Limits, servers: usize) -> Result<(), Error> {
    let needed = needed(limits, servers);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(Error::system("ask how many descriptors there may be"))?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(Error::TooFewDescriptors {
            needed,
            allowed: hard,
        });
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard)
        .map_err(Error::system("raise how many descriptors there may be"))
}

fn needed(limits: &Limits, servers: usize) -> u64 {
    let lookups = limits.max_lookups.get().saturating_mul(servers);
    let sockets = limits.max_connections.get().saturating_add(lookups);
    u64::try_from(sockets)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_DESCRIPTORS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    fn limits(max_connections: usize, max_lookups: usize) -> Limits {
        Limits {
            max_message_bytes: 1,
            max_memory_bytes: 1,
            max_connections: NonZeroUsize::new(max_connections).unwrap(),
            max_lookups: NonZeroUsize::new(max_lookups).unwrap(),
            max_receive_time: Duration::from_secs(1),
        }
    }

    #[test]
    fn connections_lookups_and_the_rest_are_added_up() {
        assert_eq!(needed(&limits(2048, 64), 2), 2048 + 128 + OTHER_DESCRIPTORS);
        assert_eq!(needed(&limits(usize::MAX, 2), usize::MAX), u64::MAX);
    }

    #[test]
    fn what_is_allowed_already_needs_nothing() {
        allow(&limits(1, 1), 1).unwrap();
    }

    #[test]
    fn too_many_are_refused() {
        let refused = allow(&limits(usize::MAX, 1), 1);
        assert!(matches!(refused, Err(Error::TooFewDescriptors { .. })));
    }
}
