//! Builds a new filter beside the one in use.
//!
//! From the start, whatever enters memory goes into both (and what is not folded yet is put in). Then all shards are read,
//! slice by slice, between folds. A digest that is stored was either there when its slice was read, or has been folded
//! since, and then it has entered memory after the start or was not folded at the start. So in the end the new filter
//! knows every stored digest, and every one with an unfolded change.

use std::sync::Arc;

use pyzor_protocol::Digest;
use tracing::{info, warn};

use super::seen_filter::Filter;
use super::shard::Shard;
use super::stats::count;
use super::store::Store;

/// Records read at a time.
const RECORDS_A_SLICE: usize = 16_384;

/// A filter being built.
pub(super) struct Rebuild {
    filter: Arc<Filter>,
    shard: usize,
    after: Option<Digest>,
}

impl Rebuild {
    /// Starts a filter for the digests there are now.
    pub(super) fn begin(store: &Store) -> Option<Self> {
        let digests = store.memory.digests() + store.pending.unfolded() as u64;
        let filter = Filter::for_digests(digests)
            .inspect_err(|error| warn!("no filter can be built: {error}"))
            .ok()?;
        let filter = Arc::new(filter);
        store.memory.begin_filter(&filter, &store.pending);
        info!("building a filter for {digests} digests");
        Some(Self {
            filter,
            shard: 0,
            after: None,
        })
    }

    /// Reads another slice. Returns whether there is more to do.
    pub(super) fn step(&mut self, store: &Store) -> bool {
        let Some(shard) = store.memory.shards.get(self.shard) else {
            store.memory.end_filter(true, &store.pending);
            count(&store.counters.filter_rebuilds);
            info!("the new filter is in use");
            return false;
        };
        let mut digests = Vec::with_capacity(RECORDS_A_SLICE);
        let slice = shard.handle.with(|database| {
            Shard::visit(database, self.after, RECORDS_A_SLICE, |digest, _| {
                digests.push(digest);
            })
        });
        self.filter.insert_all(&digests);
        match slice {
            Ok(Some(last)) => self.after = Some(last),
            Ok(None) => {
                self.shard += 1;
                self.after = None;
            }
            Err(_) => {
                store.memory.end_filter(false, &store.pending);
                return false;
            }
        }
        true
    }
}
