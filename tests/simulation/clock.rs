//! Time that stands still until the test moves it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use pyzor_storage::EpochSeconds;
use pyzor_storage::redb_engine::Clock;

/// Time that stands still until the test moves it.
pub(crate) struct SimClock {
    now: AtomicU32,
    uptime_ms: AtomicU64,
}

impl SimClock {
    /// What the clock shows at the beginning.
    pub(crate) const START: EpochSeconds = 1_800_000_000;

    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU32::new(Self::START),
            uptime_ms: AtomicU64::new(0),
        }
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, seconds: u32) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
        self.uptime_ms
            .fetch_add(u64::from(seconds) * 1000, Ordering::SeqCst);
    }

    /// Sets the clock, though no time has passed.
    pub(crate) fn set(&self, now: EpochSeconds) {
        self.now.store(now, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> EpochSeconds {
        self.now.load(Ordering::SeqCst)
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.uptime_ms.load(Ordering::SeqCst))
    }
}
