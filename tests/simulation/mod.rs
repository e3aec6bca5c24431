//! A store on a disk and a clock that the test rules, driven step by step by one thread.

mod clock;
mod disk;
mod driver;
mod oracle;
mod script;

pub(crate) use clock::SimClock;
pub(crate) use disk::{Fault, FaultyOperation, SimDisk};
pub(crate) use driver::{Driver, Fate, digest, small_options};
pub(crate) use oracle::Oracle;
pub(crate) use script::{new_store, play};

/// Random numbers that a seed repeats: a multiplication and a shift (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
