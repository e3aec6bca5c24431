//! A filter that knows every digest that may be stored: "no" is certain, "yes" is not.
//!
//! Most digests that are checked were never reported, and the filter answers for them without touching a file.
//!
//! It cannot forget and does not grow. When too much has been added, or much has been deleted, the folder builds another
//! one beside it ([`Rebuild`](super::rebuild::Rebuild)); both take what is added meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use fastbloom::AtomicBloomFilter;
use pyzor_protocol::Digest;

use super::keyed_hash::{KeyedHash, keyed_hash};

/// Wrong "yes" answers of a filter that holds as many digests as it was made for. Each costs a read, once.
const FALSE_POSITIVE_RATE: f64 = 0.01;
/// A filter is made for this many times the digests there are.
const GROWTH: u64 = 2;
/// Least number of digests a filter is made for.
const MIN_DIGESTS: u64 = 1 << 20;

/// One set of bits.
pub(super) struct Filter {
    bits: AtomicBloomFilter<KeyedHash>,
    made_for: u64,
    added: AtomicU64,
}

impl Filter {
    /// An empty filter with room for twice `digests`.
    pub(super) fn for_digests(digests: u64) -> io::Result<Self> {
        let made_for = digests.saturating_mul(GROWTH).max(MIN_DIGESTS);
        Ok(Self {
            bits: AtomicBloomFilter::with_false_pos(FALSE_POSITIVE_RATE)
                .hasher(keyed_hash()?)
                .expected_items(usize::try_from(made_for).unwrap_or(usize::MAX)),
            made_for,
            added: AtomicU64::new(0),
        })
    }

    pub(super) fn insert(&self, digest: &Digest) {
        if !self.bits.insert(digest) {
            self.added.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn contains(&self, digest: &Digest) -> bool {
        self.bits.contains(digest)
    }
}

/// The filter in use.
pub(super) struct SeenFilter {
    current: ArcSwap<Filter>,
}

impl SeenFilter {
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            current: ArcSwap::from_pointee(filter),
        }
    }

    /// `false` when no shard holds the digest and no durable change speaks of it.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.current.load().contains(digest)
    }

    pub(super) fn insert(&self, digest: &Digest) {
        self.current.load().insert(digest);
    }

    /// Puts another filter in place; it must hold everything that [`SeenFilter::contains`] has to know.
    pub(super) fn replace(&self, filter: Arc<Filter>) {
        self.current.store(filter);
    }

    /// Memory taken, in bits.
    pub(super) fn bits(&self) -> u64 {
        self.current.load().bits.num_bits() as u64
    }

    /// Whether another filter would serve better, with `stored` digests in the shards.
    pub(super) fn is_due(&self, stored: u64) -> bool {
        let filter = self.current.load();
        let added = filter.added.load(Ordering::Relaxed);
        let overfull = added > filter.made_for;
        // Digests that were deleted still take up bits.
        let mostly_gone = added > MIN_DIGESTS && added / GROWTH > stored;
        overfull || mostly_gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        let mut bytes = [0; Digest::BYTES];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Digest::from_bytes(bytes)
    }

    #[test]
    fn what_was_added_is_known_and_most_else_is_not() {
        let filter = SeenFilter::new(Filter::for_digests(0).unwrap());
        (0..50_000).for_each(|number| filter.insert(&digest(number)));
        assert!((0..50_000).all(|number| filter.contains(&digest(number))));
        let wrong = (50_000..150_000)
            .filter(|&number| filter.contains(&digest(number)))
            .count();
        assert!(wrong < 2_000, "{wrong} wrong answers");
    }

    #[test]
    fn a_filter_that_is_too_small_or_mostly_stale_is_due() {
        let filter = SeenFilter::new(Filter::for_digests(0).unwrap());
        assert!(!filter.is_due(0));
        let current = filter.current.load();
        current.added.store(MIN_DIGESTS + 1, Ordering::Relaxed);
        assert!(filter.is_due(MIN_DIGESTS), "overfull");
        filter.replace(Arc::new(Filter::for_digests(4 * MIN_DIGESTS).unwrap()));
        let current = filter.current.load();
        current.added.store(4 * MIN_DIGESTS, Ordering::Relaxed);
        assert!(!filter.is_due(3 * MIN_DIGESTS));
        assert!(filter.is_due(MIN_DIGESTS), "mostly deleted");
    }
}
