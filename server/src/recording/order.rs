//! The queues of all workers, read in the order of time.
//!
//! The kernel stamps a datagram when it arrives, and a worker queues it when it answers it. So what was stamped only a moment
//! ago waits until every worker should have queued what came before.

use std::time::{Duration, SystemTime};

use pyzor_protocol::MAX_DATAGRAM_BYTES;

use super::queue::{Arrival, QueueOut};
use super::tap::epoch_ns;

/// How long a datagram may wait for its worker without the order suffering.
const SETTLE_AFTER: Duration = Duration::from_millis(20);

/// Stamps further in the future than this were made before the clock was set back.
const CLOCK_LEAP: Duration = Duration::from_secs(1);

/// Which arrivals may be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    settled_ns: u64,
    leapt_ns: u64,
}

impl Horizon {
    /// Everything that is queued.
    pub(super) const ALL: Self = Self {
        settled_ns: u64::MAX,
        leapt_ns: u64::MAX,
    };

    /// What no worker can add something earlier to any more.
    pub(super) fn settled(now: SystemTime) -> Self {
        Self::received_by(now.checked_sub(SETTLE_AFTER).unwrap_or(now))
    }

    /// What came before this time, as far as it is queued.
    pub(super) fn received_by(time: SystemTime) -> Self {
        Self {
            settled_ns: epoch_ns(time),
            leapt_ns: epoch_ns(time.checked_add(CLOCK_LEAP).unwrap_or(time)),
        }
    }

    fn includes(self, at_ns: u64) -> bool {
        at_ns <= self.settled_ns || at_ns > self.leapt_ns
    }
}

/// All queues.
pub(super) struct Queues {
    queues: Vec<QueueOut>,
    run: Run,
}

/// What can be taken from one queue without a look at the others.
#[derive(Clone, Copy, Default)]
struct Run {
    queue: usize,
    until_ns: u64,
}

impl Queues {
    pub(super) fn new(queues: Vec<QueueOut>) -> Self {
        Self {
            queues,
            run: Run::default(),
        }
    }

    /// Takes the earliest datagram within `horizon`, written to the beginning of `buffer`; its length.
    pub(super) fn take(
        &mut self,
        horizon: Horizon,
        buffer: &mut [u8; MAX_DATAGRAM_BYTES],
    ) -> Option<(Arrival, usize)> {
        if !self.run_goes_on(horizon) {
            let next = self.next_run(horizon);
            // At the end no run is left over: what comes next may come to another queue.
            self.run = next.unwrap_or_default();
            next?;
        }
        self.queues.get_mut(self.run.queue)?.take(buffer)
    }

    /// Throws away what is queued; how many datagrams that was.
    pub(super) fn clear(&mut self, buffer: &mut [u8; MAX_DATAGRAM_BYTES]) -> u64 {
        let mut cleared = 0;
        while self.take(Horizon::ALL, buffer).is_some() {
            cleared += 1;
        }
        cleared
    }

    fn run_goes_on(&mut self, horizon: Horizon) -> bool {
        let Run { queue, until_ns } = self.run;
        let next = self.queues.get_mut(queue).and_then(QueueOut::next_at_ns);
        next.is_some_and(|at_ns| at_ns <= until_ns && horizon.includes(at_ns))
    }

    /// The queue that is first, until the one that is second would be.
    fn next_run(&mut self, horizon: Horizon) -> Option<Run> {
        let mut first = None;
        let mut second_ns = u64::MAX;
        for (queue, arrivals) in self.queues.iter_mut().enumerate() {
            let at_ns = arrivals
                .next_at_ns()
                .filter(|&at_ns| horizon.includes(at_ns));
            match (at_ns, first) {
                (None, _) => {}
                (Some(at_ns), Some((first_ns, _))) if at_ns >= first_ns => {
                    second_ns = second_ns.min(at_ns);
                }
                (Some(at_ns), earlier) => {
                    second_ns = earlier.map_or(second_ns, |(first_ns, _)| first_ns);
                    first = Some((at_ns, queue));
                }
            }
        }
        first.map(|(_, queue)| Run {
            queue,
            until_ns: second_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::queue::{QueueIn, queue};
    use super::*;

    const NOW_NS: u64 = 1_795_261_432_000_000_000;
    const MS: u64 = 1_000_000;

    fn queues(number: usize) -> (Vec<QueueIn>, Queues) {
        let (ends_in, ends_out) = (0..number).map(|_| queue()).unzip();
        (ends_in, Queues::new(ends_out))
    }

    fn push(queue: &mut QueueIn, at_ns: u64) {
        let arrival = Arrival {
            at_ns,
            sender: "192.0.2.1:1".parse().unwrap(),
            receiver: "192.0.2.2:2".parse().unwrap(),
        };
        assert!(queue.push(&arrival, b"datagram"));
    }

    fn taken(queues: &mut Queues, horizon: Horizon) -> Vec<u64> {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let mut times = Vec::new();
        while let Some((arrival, _)) = queues.take(horizon, &mut buffer) {
            times.push(arrival.at_ns);
        }
        times
    }

    #[test]
    fn several_workers_are_read_in_the_order_of_time() {
        let (mut ends, mut queues) = queues(3);
        for (end, times) in ends
            .iter_mut()
            .zip([[1, 1, 7, 9], [2, 3, 4, 9], [0, 5, 6, 8]])
        {
            for at_ns in times {
                push(end, at_ns);
            }
        }
        assert_eq!(
            taken(&mut queues, Horizon::ALL),
            [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
        );
    }

    #[test]
    fn what_comes_later_is_compared_afresh() {
        let (mut ends, mut queues) = queues(2);
        push(&mut ends[0], 1);
        assert_eq!(taken(&mut queues, Horizon::ALL), [1]);
        push(&mut ends[0], 3);
        push(&mut ends[1], 2);
        assert_eq!(taken(&mut queues, Horizon::ALL), [2, 3]);
    }

    #[test]
    fn what_is_too_young_waits_unless_the_clock_was_set_back() {
        let (mut ends, mut queues) = queues(2);
        let now = UNIX_EPOCH + Duration::from_nanos(NOW_NS);
        for at_ns in [NOW_NS - 30 * MS, NOW_NS - 10 * MS] {
            push(&mut ends[0], at_ns);
        }
        push(&mut ends[1], NOW_NS + 3_600_000 * MS);
        assert_eq!(
            taken(&mut queues, Horizon::settled(now)),
            [NOW_NS - 30 * MS, NOW_NS + 3_600_000 * MS]
        );
        let later = now + Duration::from_millis(10);
        assert_eq!(
            taken(&mut queues, Horizon::settled(later)),
            [NOW_NS - 10 * MS]
        );
    }

    #[test]
    fn what_is_cleared_is_counted() {
        let (mut ends, mut queues) = queues(2);
        push(&mut ends[0], 1);
        push(&mut ends[1], NOW_NS);
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        assert_eq!(queues.clear(&mut buffer), 2);
        assert_eq!(queues.clear(&mut buffer), 0);
    }
}
