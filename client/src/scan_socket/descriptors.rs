//! File descriptors: each connection takes one, each server asked another or two, and each name that is looked up one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::limits::Limits;
use crate::error::Error;
use crate::session::Session;

/// What we open besides connections and sockets for servers: logs, listening sockets, the runtime's own, files read.
const OTHER_DESCRIPTORS: u64 = 64;

/// Sessions that may be held at a time besides those of lookups: the present one, and the next.
const SESSIONS: usize = 2;

/// Makes sure that the process may open what `limits` allow when asking as `session` says, raising its own limit if need be.
///
/// # Errors
/// When the limit cannot be raised that far.
pub(super) fn allow(limits: &Limits, session: &Session) -> Result<(), Error> {
    allow_number(needed(
        limits,
        session.servers.len(),
        session.sockets_per_question(),
    ))
}

fn allow_number(needed: u64) -> Result<(), Error> {
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

fn needed(limits: &Limits, servers: usize, sockets_per_question: usize) -> u64 {
    let lookups = limits
        .max_lookups
        .get()
        .saturating_mul(sockets_per_question);
    let names = servers.saturating_mul(SESSIONS);
    let all = [limits.max_connections.get(), lookups, names];
    let all = all.into_iter().fold(0_usize, usize::saturating_add);
    u64::try_from(all)
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
        let added_up = needed(&limits(2048, 64), 2, 3);
        assert_eq!(added_up, 2048 + 192 + 4 + OTHER_DESCRIPTORS);
        assert_eq!(needed(&limits(usize::MAX, 2), 1, usize::MAX), u64::MAX);
    }

    #[test]
    fn what_is_allowed_already_needs_nothing() {
        allow_number(1).unwrap();
    }

    #[test]
    fn too_many_are_refused() {
        let refused = allow_number(u64::MAX);
        assert!(matches!(refused, Err(Error::TooFewDescriptors { .. })));
    }
}
