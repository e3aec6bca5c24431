//! One clock for what is sent and what is received: nanoseconds since a run began.
//!
//! Sending is timed by the monotonic clock. The kernel notes arrivals by the clock on the wall, which somebody may set during
//! the run; so the distance between the two is taken again and again, and an arrival that cannot be, because it lies
//! in the future, counts as of now.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the distance is tried for one in which nothing came between the three readings.
const ATTEMPTS: u32 = 5;
/// Readings of clocks so close together are as good as simultaneous.
const CLOSE_NS: u64 = 1_000;
/// The wall clock was set if its distance changed by more. It gains no more by running faster, as a slewed clock does.
const STEP_NS: u64 = 1_000_000;

/// Both clocks.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// What the wall clock showed, in nanoseconds since 1970, when the run began.
    wall_at_start_ns: u64,
    steps: u32,
}

impl Clock {
    /// Shows 0 at `start`.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            wall_at_start_ns: wall_at(start),
            steps: 0,
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// Takes the distance again. To be called every few milliseconds.
    pub(crate) fn adjust(&mut self) {
        let wall_ns = wall_at(self.start);
        self.steps += u32::from(wall_ns.abs_diff(self.wall_at_start_ns) > STEP_NS);
        self.wall_at_start_ns = wall_ns;
    }

    /// How often the wall clock was set.
    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    /// When a datagram came that is read at `now_ns`, if the wall clock showed `wall` then; now, where that is not
    /// known or cannot be, after now.
    pub(crate) fn arrival_ns(&self, wall: Option<Duration>, now_ns: u64) -> u64 {
        let since_start =
            wall.and_then(|wall| nanoseconds(wall).checked_sub(self.wall_at_start_ns));
        since_start.map_or(now_ns, |arrival_ns| arrival_ns.min(now_ns))
    }
}

/// What the wall clock shows, in nanoseconds since 1970, when the monotonic one shows `moment`, which may be long ago or to
/// come.
fn wall_at(moment: Instant) -> u64 {
    let mut best = (u64::MAX, 0);
    for _ in 0..ATTEMPTS {
        let before = Instant::now();
        let wall = SystemTime::now();
        let apart = nanoseconds(before.elapsed());
        if apart < best.0 {
            let wall_ns = nanoseconds(wall.duration_since(UNIX_EPOCH).unwrap_or_default());
            let middle = before + Duration::from_nanos(apart / 2);
            let ago_ns = nanoseconds(middle.saturating_duration_since(moment));
            let ahead_ns = nanoseconds(moment.saturating_duration_since(middle));
            best = (
                apart,
                wall_ns.saturating_add(ahead_ns).saturating_sub(ago_ns),
            );
        }
        if apart < CLOSE_NS {
            break;
        }
    }
    best.1
}

/// As a number, which lasts for 584 years.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_placed_between_readings_of_the_other() {
        let clock = Clock::new(Instant::now());
        let before_ns = clock.now_ns();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        let after_ns = clock.now_ns();
        let arrival_ns = clock.arrival_ns(Some(wall), after_ns);
        // The distance itself is uncertain by what lay between its readings, on a busy machine more than usual.
        assert!(arrival_ns < after_ns, "{before_ns} {arrival_ns} {after_ns}");
        assert!(arrival_ns + STEP_NS > before_ns, "{before_ns} {arrival_ns}");
    }

    #[test]
    fn an_arrival_that_cannot_be_is_now() {
        let clock = Clock::new(Instant::now());
        let wall = |ns| Some(Duration::from_nanos(clock.wall_at_start_ns + ns));
        assert_eq!(clock.arrival_ns(wall(5), 10), 5);
        assert_eq!(clock.arrival_ns(wall(11), 10), 10);
        assert_eq!(clock.arrival_ns(Some(Duration::ZERO), 10), 10);
        assert_eq!(clock.arrival_ns(None, 10), 10);
    }

    #[test]
    fn a_set_wall_clock_is_noticed_once() {
        let mut clock = Clock::new(Instant::now());
        clock.wall_at_start_ns += 1_000_000_000;
        clock.adjust();
        assert_eq!(clock.steps(), 1);
        let start_ns = clock.wall_at_start_ns;
        clock.adjust();
        assert!(clock.wall_at_start_ns.abs_diff(start_ns) < STEP_NS);
    }
}
