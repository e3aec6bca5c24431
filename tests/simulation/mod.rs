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

pub(crate) use crate::harness::random::Random;
