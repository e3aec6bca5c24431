//! The times of a recording, put in order.

use std::time::Duration;

/// Requests of several interfaces or threads may be recorded out of order by less than this; a clock that goes back
/// by more was set.
const MAX_DISORDER_NS: u64 = 1_000_000_000;

/// Turns times of a clock that may jump into times since the first one that never decrease.
///
/// A small step back counts as no time; after a large one, time goes on from where it was.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    last: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    /// The latest that the clock showed since it was last set.
    clock_ns: u64,
    /// What that counted as.
    since_first_ns: u64,
}

impl Timeline {
    /// The time of the next request, by a clock that counts nanoseconds.
    pub(super) fn at(&mut self, clock_ns: u64) -> Duration {
        let moment = match self.last {
            None => Moment {
                clock_ns,
                since_first_ns: 0,
            },
            Some(last) => last.then(clock_ns),
        };
        self.last = Some(moment);
        Duration::from_nanos(moment.since_first_ns)
    }
}

impl Moment {
    fn then(self, clock_ns: u64) -> Self {
        let passed_ns = clock_ns.saturating_sub(self.clock_ns);
        let was_set = self.clock_ns.saturating_sub(clock_ns) > MAX_DISORDER_NS;
        Self {
            clock_ns: if was_set {
                clock_ns
            } else {
                clock_ns.max(self.clock_ns)
            },
            since_first_ns: self.since_first_ns.saturating_add(passed_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn times_never_decrease() {
        let mut timeline = Timeline::default();
        let mut at = |clock_ns| timeline.at(clock_ns).as_nanos();
        assert_eq!(at(100 * SECOND), 0);
        assert_eq!(at(100 * SECOND + 70), 70);
        // Out of order, and what follows is measured from the later one.
        assert_eq!(at(100 * SECOND + 50), 70);
        assert_eq!(at(100 * SECOND + 80), 80);
        // The clock was set back by an hour; and it goes on from there.
        assert_eq!(at(10), 80);
        assert_eq!(at(30), 100);
        assert_eq!(at(u64::MAX), u128::from(u64::MAX), "no overflow");
    }
}
