//! A filter that knows every digest that may be stored: "no" is certain, "yes" is not.
//!
//! Most digests that are checked were never reported, and the filter answers for them without touching a file.
//!
//! It cannot forget and does not grow. When too much has been added, or much has been deleted, the folder builds another
//! one beside it ([`Rebuild`](super::rebuild::Rebuild)); both take what is added meanwhile.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use pyzor_protocol::Digest;

use super::keyed_hash::{KeyedHash, keyed_hash};

/// Bits for each digest that a filter is made for: full, it says "yes" wrongly to 1 in 100, and each costs a read, once.
const BITS_PER_DIGEST: u64 = 12;
/// A filter is made for this many times the digests there are.
const GROWTH: u64 = 2;
/// Least number of digests a filter is made for.
const MIN_DIGESTS: u64 = 1 << 20;

/// Blocks that are fetched at a time: more than a core can have under way, and fewer than its nearest cache holds.
const FETCHED_AHEAD: usize = 64;

/// Words of a block, and bits that a digest sets in it: one in each word.
const WORDS: usize = 8;
/// Bits it takes to choose one of a word's 64.
const CHOICE_BITS: usize = 6;
/// An odd number whose product with a hash has new bits where the choices are taken from: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One set of bits.
///
/// A digest's bits lie in one block, which is one cache line, so that asking costs one line and one page of memory where
/// the usual layout costs one for each bit. Most checks are answered by this alone.
pub(super) struct Filter {
    blocks: Box<[Block]>,
    hash: KeyedHash,
    made_for: u64,
    added: AtomicU64,
}

#[repr(align(64))]
#[derive(Default)]
struct Block([AtomicU64; WORDS]);

impl Filter {
    /// An empty filter with room for twice `digests`.
    pub(super) fn for_digests(digests: u64) -> io::Result<Self> {
        let made_for = digests.saturating_mul(GROWTH).max(MIN_DIGESTS);
        let bits = made_for.saturating_mul(BITS_PER_DIGEST);
        let blocks = bits.div_ceil(u64::from(u64::BITS) * WORDS as u64);
        Ok(Self {
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            hash: keyed_hash()?,
            made_for,
            added: AtomicU64::new(0),
        })
    }

    pub(super) fn insert(&self, digest: &Digest) {
        let hash = self.hash.hash_one(digest);
        if self.block(hash).set(bits(hash)) {
            self.added.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Inserts many at once, which is several times as fast: their blocks, which lie anywhere in memory, are fetched at the
    /// same time.
    pub(super) fn insert_all(&self, digests: &[Digest]) {
        let mut hashes = [0; FETCHED_AHEAD];
        for digests in digests.chunks(FETCHED_AHEAD) {
            let hashes = &mut hashes[..digests.len()];
            for (hash, digest) in hashes.iter_mut().zip(digests) {
                *hash = self.hash.hash_one(digest);
            }
            for &hash in &*hashes {
                black_box(self.block(hash).0[0].load(Ordering::Relaxed));
            }
            let new = hashes
                .iter()
                .filter(|&&hash| self.block(hash).set(bits(hash)));
            self.added.fetch_add(new.count() as u64, Ordering::Relaxed);
        }
    }

    fn contains(&self, digest: &Digest) -> bool {
        let hash = self.hash.hash_one(digest);
        self.block(hash).has(bits(hash))
    }

    fn block(&self, hash: u64) -> &Block {
        &self.blocks[scaled(hash, self.blocks.len())]
    }

    fn bits(&self) -> u64 {
        (self.blocks.len() * size_of::<Block>()) as u64 * 8
    }
}

impl Block {
    /// Sets bits. Returns whether one was missing.
    fn set(&self, bits: [u64; WORDS]) -> bool {
        let mut is_new = false;
        for (word, bit) in self.0.iter().zip(bits) {
            // Reads first: most of what is inserted is known, and a line that is not written stays shared.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
                is_new = true;
            }
        }
        is_new
    }

    fn has(&self, bits: [u64; WORDS]) -> bool {
        let words = self.0.iter().zip(bits);
        let missing = words.fold(0, |missing, (word, bit)| {
            missing | (!word.load(Ordering::Relaxed) & bit)
        });
        missing == 0
    }
}

/// The bit in each word of a block that stands for the digest of this hash.
fn bits(hash: u64) -> [u64; WORDS] {
    let choices = hash.wrapping_mul(SPREAD) >> (u64::BITS as usize - WORDS * CHOICE_BITS);
    std::array::from_fn(|word| {
        let choice = (choices >> (word * CHOICE_BITS)) % u64::from(u64::BITS);
        1 << choice
    })
}

/// `hash` as a number below `length`, by its high bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is below `length`, which is a usize"
)]
fn scaled(hash: u64, length: usize) -> usize {
    ((u128::from(hash) * length as u128) >> u64::BITS) as usize
}

/// The filter in use, and the one that is being built to replace it. What is inserted goes into both.
pub(super) struct SeenFilter {
    current: ArcSwap<Filter>,
    next: ArcSwapOption<Filter>,
}

impl SeenFilter {
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            current: ArcSwap::from_pointee(filter),
            next: ArcSwapOption::empty(),
        }
    }

    /// `false` when no shard holds the digest and no change speaks of it.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.current.load().contains(digest)
    }

    pub(super) fn insert(&self, digest: &Digest) {
        self.current.load().insert(digest);
        if let Some(next) = &*self.next.load() {
            next.insert(digest);
        }
    }

    /// Lets everything that is inserted from now on go into `next` too.
    pub(super) fn begin(&self, next: Arc<Filter>) {
        self.next.store(Some(next));
    }

    /// Puts the next filter in place, which must hold everything that [`SeenFilter::contains`] has to know, or gives it up.
    /// Returns the one that is of no more use.
    pub(super) fn end(&self, complete: bool) -> Option<Arc<Filter>> {
        match self.next.swap(None) {
            Some(next) if complete => Some(self.current.swap(next)),
            given_up => given_up,
        }
    }

    /// Memory taken, in bits.
    pub(super) fn bits(&self) -> u64 {
        self.current.load().bits()
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
        let full = MIN_DIGESTS;
        (0..full).for_each(|number| filter.insert(&digest(number)));
        assert!((0..full).all(|number| filter.contains(&digest(number))));
        let wrong = (full..full + 100_000)
            .filter(|&number| filter.contains(&digest(number)))
            .count();
        assert!(wrong < 1_500, "{wrong} wrong answers");
    }

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let filter = SeenFilter::new(Filter::for_digests(0).unwrap());
        let digests: Vec<_> = (0..1000).map(digest).collect();
        let current = filter.current.load();
        current.insert_all(&digests[..500]);
        current.insert_all(&digests);
        assert!(digests.iter().all(|digest| filter.contains(digest)));
        let added = current.added.load(Ordering::Relaxed);
        assert!((995..=1000).contains(&added), "{added} are new");
    }

    #[test]
    fn a_filter_that_is_too_small_or_mostly_stale_is_due() {
        let filter = SeenFilter::new(Filter::for_digests(0).unwrap());
        assert!(!filter.is_due(0));
        let current = filter.current.load();
        current.added.store(MIN_DIGESTS + 1, Ordering::Relaxed);
        assert!(filter.is_due(MIN_DIGESTS), "overfull");
        filter.begin(Arc::new(Filter::for_digests(4 * MIN_DIGESTS).unwrap()));
        filter.insert(&digest(1));
        filter.end(true);
        assert!(filter.contains(&digest(1)));
        let current = filter.current.load();
        current.added.store(4 * MIN_DIGESTS, Ordering::Relaxed);
        assert!(!filter.is_due(3 * MIN_DIGESTS));
        assert!(filter.is_due(MIN_DIGESTS), "mostly deleted");
    }
}
