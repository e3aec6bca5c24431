//! Where a batch of replies is written: one after the other, so that many small ones stay close together in the cache
//! while any single one may be as long as replies get.

use pyzor_protocol::MAX_REPLY_BYTES;

/// Room for the replies of one batch, in bytes. A usual reply takes 128 of them.
const ARENA_BYTES: usize = 4 * MAX_REPLY_BYTES;

/// Replies start on cache lines, so that writing one never touches the line the kernel reads another from.
const REPLY_ALIGNMENT_BYTES: usize = 64;

/// The replies of one batch. It never moves or shrinks, so pointers into it stay valid as long as it lives.
#[derive(Debug)]
pub(super) struct ReplyArena {
    bytes: Box<[u8]>,
    used: usize,
}

impl ReplyArena {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; ARENA_BYTES].into(),
            used: 0,
        }
    }

    /// Room for the next reply, whatever its length; `None` until [`clear`](Self::clear) when the batch is full.
    pub(super) fn next(&mut self) -> Option<&mut [u8; MAX_REPLY_BYTES]> {
        self.bytes.get_mut(self.used..)?.first_chunk_mut()
    }

    /// Whether [`next`](Self::next) has room.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() >= self.used + MAX_REPLY_BYTES
    }

    /// Keeps the first `length` bytes of the room that [`next`](Self::next) gave.
    pub(super) fn keep(&mut self, length: usize) -> &[u8] {
        let start = self.used;
        let end = start + length.min(MAX_REPLY_BYTES);
        self.used = end.next_multiple_of(REPLY_ALIGNMENT_BYTES);
        &self.bytes[start..end]
    }

    /// Starts the next batch in the same place.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_replies_are_dense_and_large_ones_fit() {
        let mut arena = ReplyArena::new();
        let mut small = 0;
        while arena.next().is_some() {
            assert!(arena.has_room());
            arena.keep(84);
            small += 1;
        }
        assert!(!arena.has_room());
        assert!(small >= 192, "{small}");
        arena.clear();
        let mut large = 0;
        while arena.next().is_some() {
            assert_eq!(arena.keep(MAX_REPLY_BYTES).len(), MAX_REPLY_BYTES);
            large += 1;
        }
        assert!(large >= 3, "{large}");
    }

    #[test]
    fn a_length_beyond_the_room_is_cut() {
        let mut arena = ReplyArena::new();
        assert_eq!(arena.keep(usize::from(u16::MAX)).len(), MAX_REPLY_BYTES);
    }
}
