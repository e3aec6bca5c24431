//! The digest store behind `pyzord`.
//!
//! # The promise
//!
//! A report or whitelisting that was acknowledged survives a crash of the process and a loss of power, and is counted
//! exactly once. What was refused with 503 may count or not; what was refused with 4xx never does.

mod engine;
mod error;
pub mod gdbm;
mod record;
pub mod redb_engine;
pub mod reference_record;

pub use engine::{
    CommitNumber, CommitOutcome, Completions, Engine, Lookup, LookupAnswer, MAX_DEFERRED_LOOKUPS,
    Ticket, Unavailable, Update,
};
pub use error::StoreError;
pub use record::{ChangeKind, CleanupAge, EpochSeconds, MAX_COUNT, Record};
