//! Where the store's threads take the time from.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::record::EpochSeconds;

/// The time, for what the store does by itself: its own time, back-off, pacing. Requests bring their own time along.
pub trait Clock: Send + Sync {
    /// Seconds since the epoch, as an operator may set and reset them.
    fn now(&self) -> EpochSeconds;

    /// Time that only runs forward, from an arbitrary start.
    fn uptime(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> EpochSeconds {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        since_epoch.map_or(0, |time| {
            EpochSeconds::try_from(time.as_secs()).unwrap_or(EpochSeconds::MAX)
        })
    }

    fn uptime(&self) -> Duration {
        START.elapsed()
    }
}
