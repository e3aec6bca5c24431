//! Deliberate defects, so that the test suite can prove that it would notice them.
//!
//! Without the cargo feature `planted-bugs` every check is `false` at compile time.

/// A defect that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PlantedBug {
    /// A commit is acknowledged without having been synced.
    SyncSkipped = 1,
    /// A fold does not say how far it went.
    WatermarkNotWritten,
    /// A change that has been folded counts again.
    FoldReplayed,
    /// An entry leaves memory before its changes are in the files.
    UnfoldedEvicted,
    /// An update is acknowledged before its commit.
    ReplyBeforeCommit,
    /// A record read before a fold is remembered after it.
    StaleBaseCached,
    /// An update is not shown before its commit.
    UncommittedHidden,
    /// An update whose commit failed goes on being shown.
    FailedShown,
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::PlantedBug;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a defect in every store of this process, or heals it with `None`.
    pub fn plant(bug: Option<PlantedBug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as u8), Ordering::SeqCst);
    }

    pub(in crate::redb_engine) fn planted(bug: PlantedBug) -> bool {
        PLANTED.load(Ordering::SeqCst) == bug as u8
    }

    /// Plants what the environment variable `PYZOR_PLANTED_BUG` names, for a store inside another program.
    pub(in crate::redb_engine) fn plant_from_environment() {
        let Ok(name) = std::env::var("PYZOR_PLANTED_BUG") else {
            return;
        };
        let mut known = PlantedBug::ALL.into_iter();
        let bug = known.find(|bug| format!("{bug:?}") == name);
        if bug.is_none() {
            tracing::warn!("PYZOR_PLANTED_BUG names no known defect: {name}");
        }
        plant(bug);
    }

    impl PlantedBug {
        /// Every defect there is.
        pub const ALL: [Self; 8] = [
            Self::SyncSkipped,
            Self::WatermarkNotWritten,
            Self::FoldReplayed,
            Self::UnfoldedEvicted,
            Self::ReplyBeforeCommit,
            Self::StaleBaseCached,
            Self::UncommittedHidden,
            Self::FailedShown,
        ];
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::plant;
#[cfg(feature = "planted-bugs")]
pub(super) use switch::{plant_from_environment, planted};

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn planted(_: PlantedBug) -> bool {
    false
}

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn plant_from_environment() {}
