//! The digest store behind `pyzord`.
//!
//! # The promise
//!
//! A report or whitelisting that was acknowledged survives a crash of the process and a loss of power, and is counted
//! exactly once. What was refused with 503 may count or not; what was refused with 4xx never does.
//!
//! # Map
//!
//! | file | job |
//! | --- | --- |
//! | `engine` | the face every store shows to the server |
//! | `record` | what is known of a digest, and how a change alters it |
//! | `redb_engine` | the embedded store, where the promise is kept |
//! | `gdbm`, `reference_record` | the Python server's files and values, to import from |
//! | `error`, `trouble` | every way a store can fail; how often the log is told |

mod engine;
mod error;
pub mod gdbm;
mod record;
pub mod redb_engine;
pub mod reference_record;
mod trouble;

pub use engine::{
    CommitNumber, CommitOutcome, Completions, Engine, Lookup, LookupAnswer, MAX_DEFERRED_LOOKUPS,
    Ticket, Unavailable, Update, Wanted,
};
pub use error::StoreError;
pub use record::{ChangeKind, CleanupAge, EpochSeconds, MAX_COUNT, Record};
pub use trouble::Trouble;
