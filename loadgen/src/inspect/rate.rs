//! Requests over time, whatever the length of a trace.

use std::time::Duration;

/// Intervals kept; when there would be more, each two become one.
const MAX_INTERVALS: usize = 1024;
/// The shortest interval.
const FIRST_LENGTH: Duration = Duration::from_millis(1);

/// Counts requests in intervals of equal lengths, which double as the trace goes on.
#[derive(Debug)]
pub(super) struct RateOverTime {
    length: Duration,
    counts: Vec<u64>,
}

impl RateOverTime {
    pub(super) fn new() -> Self {
        Self {
            length: FIRST_LENGTH,
            counts: Vec::new(),
        }
    }

    /// Counts a request; times do not decrease.
    pub(super) fn count(&mut self, at: Duration) {
        let index = loop {
            match usize::try_from(at.as_nanos() / self.length.as_nanos()) {
                Ok(index) if index < MAX_INTERVALS => break index,
                _ => self.halve(),
            }
        };
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
    }

    fn halve(&mut self) {
        self.length = self.length.saturating_mul(2);
        self.counts = merged(&self.counts, 2);
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }
}

/// Each `group` neighbours added up.
pub(super) fn merged(counts: &[u64], group: usize) -> Vec<u64> {
    counts
        .chunks(group)
        .map(|group| group.iter().sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_and_lose_nothing() {
        let mut rate = RateOverTime::new();
        for millisecond in 0..5000 {
            rate.count(Duration::from_millis(millisecond));
        }
        assert_eq!(rate.length(), Duration::from_millis(8));
        assert_eq!(rate.counts().len(), 625);
        assert!(rate.counts().iter().all(|count| *count == 8));
        rate.count(Duration::from_nanos(u64::MAX));
        assert_eq!(rate.counts().iter().sum::<u64>(), 5001);
        assert!(rate.counts().len() <= MAX_INTERVALS);
        assert_eq!(rate.counts()[0], 5000);
    }
}
