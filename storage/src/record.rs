//! What the store knows of one digest, and how a change alters it.
//!
//! All rules that decide a count live here, so that the hot set, the fold, recovery and the import cannot disagree.

use std::num::NonZeroU32;

/// Seconds since the Unix epoch; 0 stands for "never".
pub type EpochSeconds = u32;

/// Counts saturate here: the reference's clients read them as signed 64-bit integers.
pub const MAX_COUNT: u64 = i64::MAX as u64;

/// What a change adds to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Somebody reported the digest as spam.
    Report,
    /// Somebody whitelisted the digest.
    Whitelist,
}

/// How long a record is kept after its latest report or whitelist (`CleanupAge`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupAge(Option<NonZeroU32>);

impl CleanupAge {
    /// The reference's default: 120 days.
    pub const DEFAULT: Self = Self::from_seconds(10_368_000);

    /// An age in seconds; 0 keeps every record for ever.
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(NonZeroU32::new(seconds))
    }

    /// Whether records ever expire.
    pub fn is_bounded(self) -> bool {
        self.0.is_some()
    }

    /// Whether a record last updated at `updated` is past its age at `now`.
    pub fn has_passed(self, updated: EpochSeconds, now: EpochSeconds) -> bool {
        self.0
            .is_some_and(|age| now.saturating_sub(updated) > age.get())
    }

    /// The same age, longer by `grace` seconds.
    #[must_use]
    pub fn with_grace(self, grace: u32) -> Self {
        Self(self.0.map(|age| age.saturating_add(grace)))
    }
}

/// Counts and times of one digest. The default is a digest nobody ever reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Times reported as spam.
    pub r_count: u64,
    /// Times whitelisted.
    pub wl_count: u64,
    /// First report.
    pub r_entered: EpochSeconds,
    /// Latest report.
    pub r_updated: EpochSeconds,
    /// First whitelisting.
    pub wl_entered: EpochSeconds,
    /// Latest whitelisting.
    pub wl_updated: EpochSeconds,
}

impl Record {
    /// A digest nobody ever reported.
    pub const EMPTY: Self = Self {
        r_count: 0,
        wl_count: 0,
        r_entered: 0,
        r_updated: 0,
        wl_entered: 0,
        wl_updated: 0,
    };

    /// The later of the latest report and the latest whitelisting.
    pub fn last_updated(&self) -> EpochSeconds {
        self.r_updated.max(self.wl_updated)
    }

    /// Whether the record is past its age at `now` and must read as absent.
    pub fn is_expired(&self, age: CleanupAge, now: EpochSeconds) -> bool {
        age.has_passed(self.last_updated(), now)
    }

    /// The record as a reader at `now` may see it: empty once past its age.
    #[must_use]
    pub fn visible_at(self, age: CleanupAge, now: EpochSeconds) -> Self {
        if self.is_expired(age, now) {
            Self::EMPTY
        } else {
            self
        }
    }

    /// Adds one report or whitelisting made at `time`; a record past its age starts again.
    pub fn apply(&mut self, kind: ChangeKind, time: EpochSeconds, age: CleanupAge) {
        *self = self.visible_at(age, time);
        let (count, entered, updated) = match kind {
            ChangeKind::Report => (&mut self.r_count, &mut self.r_entered, &mut self.r_updated),
            ChangeKind::Whitelist => (
                &mut self.wl_count,
                &mut self.wl_entered,
                &mut self.wl_updated,
            ),
        };
        *count = (*count + 1).min(MAX_COUNT);
        if *entered == 0 {
            *entered = time;
        }
        *updated = time;
    }
}
