//! How often each of many keys occurs, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};

/// The same in each run, so that a sample is.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// Counts keys: all of them up to a limit, and beyond it a sample of them, each counted from its first occurrence on.
///
/// The sample is of distinct keys: those whose hash ends in `level` zero bits. It is halved whenever it is full.
#[derive(Debug)]
pub(super) struct Frequencies<K> {
    counts: HashMap<K, u64, Hasher>,
    max_keys: usize,
    level: u32,
    total: u64,
}

impl<K: Hash + Eq> Frequencies<K> {
    /// Keeps up to `max_keys` keys.
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            counts: HashMap::default(),
            max_keys,
            level: 0,
            total: 0,
        }
    }

    pub(super) fn count(&mut self, key: K) {
        self.total += 1;
        if is_in_sample(&key, self.level) {
            *self.counts.entry(key).or_default() += 1;
            while self.counts.len() > self.max_keys {
                self.level += 1;
                self.counts.retain(|key, _| is_in_sample(key, self.level));
            }
        }
    }

    /// Occurrences of all keys, those outside the sample too.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Of so many distinct keys one is in the sample; 1 when all are.
    pub(super) fn sampled_one_in(&self) -> u64 {
        1 << self.level
    }

    /// Distinct keys; an estimate if there is a sample.
    pub(super) fn distinct(&self) -> u64 {
        self.counts.len() as u64 * self.sampled_one_in()
    }

    /// The counts of the sample, the highest first.
    pub(super) fn ranked(&self) -> Vec<u64> {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
        counts
    }

    /// The most frequent keys of the sample; of equally frequent ones, the lowest.
    pub(super) fn top(&self, keys: usize) -> Vec<(&K, u64)>
    where
        K: Ord,
    {
        let mut ranked: Vec<(&K, u64)> = self.counts.iter().map(|(key, n)| (key, *n)).collect();
        ranked.sort_unstable_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
        ranked.truncate(keys);
        ranked
    }
}

fn is_in_sample(key: &impl Hash, level: u32) -> bool {
    Hasher::default().hash_one(key).trailing_zeros() >= level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_are_counted_exactly() {
        let mut frequencies = Frequencies::new(3);
        for key in ["b", "a", "c", "b", "c"] {
            frequencies.count(key);
        }
        assert_eq!((frequencies.total(), frequencies.distinct()), (5, 3));
        assert_eq!(frequencies.sampled_one_in(), 1);
        assert_eq!(frequencies.ranked(), [2, 2, 1]);
        assert_eq!(frequencies.top(2), [(&"b", 2), (&"c", 2)]);
    }

    #[test]
    fn many_keys_are_sampled_and_those_counted_whole() {
        let mut frequencies = Frequencies::new(1000);
        for _ in 0..3 {
            for key in 0..100_000 {
                frequencies.count(key);
            }
        }
        let kept = frequencies.ranked();
        assert!((250..=1000).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().all(|count| *count == 3));
        // The estimate's standard deviation is some 4 %.
        let distinct = frequencies.distinct();
        assert!(distinct.abs_diff(100_000) < 20_000, "{distinct}");
        assert_eq!(frequencies.total(), 300_000);
    }
}
