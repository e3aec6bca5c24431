//! How much the scan socket takes on: what was asked for, and what follows from it.
//!
//! The bound on memory is [`Limits::max_memory_bytes`]: each connection may hold a short message, and what remains is for
//! long ones, each of which may grow to the largest. So however slow the peers, what they sent fits, and one that has
//! begun a long message can always finish it. Digesting comes on top: one short message for each core, and as many long
//! ones as [`Limits::long_digesters`], each with about twice its own size besides itself.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::error::Error;

/// A message up to this size needs no seat for long ones: most mail without attachments.
pub(super) const SHORT_MESSAGE_BYTES: usize = 64 * 1024;

/// Messages that are digested at a time, at most, however many cores there are.
const MAX_DIGESTERS: usize = 8;

/// The limits of a scan socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the longest message that is digested.
    pub max_message_bytes: usize,
    /// Bytes that all messages being received may take together.
    pub max_memory_bytes: usize,
    /// Connections at a time.
    pub max_connections: NonZeroUsize,
    /// Messages for which servers are asked at a time, each by a thread.
    pub max_lookups: NonZeroUsize,
    /// How long a peer may take to send its message.
    pub max_receive_time: Duration,
}

impl Limits {
    /// How many messages longer than [`SHORT_MESSAGE_BYTES`] may be received at a time.
    ///
    /// # Errors
    /// When the memory does not suffice for one.
    pub(super) fn long_messages(&self) -> Result<NonZeroUsize, Error> {
        let short_bytes = self
            .max_connections
            .get()
            .saturating_mul(SHORT_MESSAGE_BYTES);
        let long_bytes = self.max_memory_bytes.saturating_sub(short_bytes);
        NonZeroUsize::new(long_bytes / self.max_message_bytes.max(1)).ok_or_else(|| {
            Error::TooLittleMemory {
                needed_bytes: short_bytes.saturating_add(self.max_message_bytes),
            }
        })
    }

    /// How many short messages are digested at a time on a machine with `cores`.
    pub(super) fn short_digesters(cores: NonZeroUsize) -> usize {
        cores.get().min(MAX_DIGESTERS)
    }

    /// How many long messages are digested at a time: never so many that short ones find every core busy.
    pub(super) fn long_digesters(cores: NonZeroUsize) -> usize {
        (Self::short_digesters(cores) / 2).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn limits(max_memory_bytes: usize) -> Limits {
        Limits {
            max_message_bytes: 32 * MIB,
            max_memory_bytes,
            max_connections: NonZeroUsize::new(2048).unwrap(),
            max_lookups: NonZeroUsize::MIN,
            max_receive_time: Duration::from_secs(30),
        }
    }

    #[test]
    fn what_short_messages_leave_is_for_long_ones() {
        assert_eq!(limits(256 * MIB).long_messages().unwrap().get(), 4);
        assert_eq!(limits(160 * MIB).long_messages().unwrap().get(), 1);
    }

    #[test]
    fn too_little_memory_is_told_with_what_it_takes() {
        for max_memory_bytes in [0, 160 * MIB - 1] {
            let refused = limits(max_memory_bytes).long_messages();
            let needed_bytes = 160 * MIB;
            assert!(
                matches!(refused, Err(Error::TooLittleMemory { needed_bytes: told }) if told == needed_bytes)
            );
        }
    }

    #[test]
    fn long_messages_leave_a_core_to_short_ones() {
        for cores in [2, 3, 4, 64] {
            let cores = NonZeroUsize::new(cores).unwrap();
            assert!(Limits::long_digesters(cores) < Limits::short_digesters(cores));
        }
        assert_eq!(Limits::long_digesters(NonZeroUsize::MIN), 1);
    }
}
