//! What became of the peers, counted.

use std::cell::Cell;
use std::fmt;

/// Numbers since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Messages that were answered, time-outs of the servers included.
    pub(super) answered: Count,
    /// Messages over the limit, which were answered with a refusal.
    pub(super) too_long: Count,
    /// Messages for which no server was asked because too many others waited.
    pub(super) no_turn: Count,
    /// Peers that did not finish in time.
    pub(super) too_slow: Count,
    /// Peers that were sent away for others.
    pub(super) sent_away: Count,
    /// Connections that broke.
    pub(super) broken: Count,
}

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Count(Cell<u64>);

impl Count {
    /// One more.
    pub(super) fn add_one(&self) {
        self.0.set(self.0.get().saturating_add(1));
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            (&self.answered, "answered"),
            (&self.too_long, "too long"),
            (&self.no_turn, "answered without asking"),
            (&self.too_slow, "too slow"),
            (&self.sent_away, "sent away for others"),
            (&self.broken, "broken off"),
        ];
        for (index, (count, name)) in numbers.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} {name}", count.0.get())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_name() {
        let counters = Counters::default();
        counters.answered.add_one();
        counters.answered.add_one();
        counters.broken.add_one();
        assert_eq!(
            counters.to_string(),
            "2 answered, 0 too long, 0 answered without asking, 0 too slow, 0 sent away for others, 1 broken off"
        );
    }
}
