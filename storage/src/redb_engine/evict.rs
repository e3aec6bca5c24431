//! Makes room in the hot set.

use super::store::Store;

/// Times the evictor goes round. The first time may only take the second chances away.
const ROUNDS: usize = 2;

/// Evicts what is too many. Returns whether that worked; if not, it may after the next fold.
pub(super) fn evict_surplus(store: &Store) -> bool {
    for _ in 0..ROUNDS {
        let surplus = store.memory.hot.surplus();
        if surplus == 0 {
            return true;
        }
        evict(store, surplus);
    }
    store.memory.hot.surplus() == 0
}

/// Evicts up to `count` entries that have no unfolded change and were not looked up lately.
pub(super) fn evict(store: &Store, count: usize) -> usize {
    let memory = &store.memory;
    let watermark = |digest: &_| memory.shard(digest).watermark();
    memory.hot.evict(count, watermark)
}
