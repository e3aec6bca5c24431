//! A worker's end of the recording.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::pseudonyms::HashKey;
use super::queue::{Arrival, QueueIn};
use crate::datapath::ReplyPath;
use crate::metrics::{Counter, WorkerMetrics};

/// One worker's end of the recording.
pub struct RecordTap {
    pub(super) queue: QueueIn,
    pub(super) is_on: Arc<AtomicBool>,
    pub(super) sample: Sample,
    /// Where the worker's sockets listen, in their order.
    pub(super) listeners: Arc<[SocketAddr]>,
    pub(super) metrics: Arc<WorkerMetrics>,
}

impl RecordTap {
    /// Records a datagram that arrived at the time `at`, if recording is on and its source is in the sample.
    /// What does not fit into the queue is counted. Never waits and never allocates.
    #[inline]
    pub fn datagram(&mut self, at: SystemTime, path: &ReplyPath, datagram: &[u8]) {
        if self.is_on.load(Ordering::Relaxed) {
            self.record(at, path, datagram);
        }
    }

    fn record(&mut self, at: SystemTime, path: &ReplyPath, datagram: &[u8]) {
        let sender = path.peer();
        if !self.sample.includes(sender.ip()) {
            return;
        }
        let arrival = Arrival {
            at_ns: epoch_ns(at),
            sender,
            receiver: self.receiver(path),
        };
        if !self.queue.push(&arrival, datagram) {
            self.metrics.add(Counter::RecordMissed, 1);
        }
    }

    /// The address that was asked: the socket's, or the one of this machine's that a wildcard socket tells us.
    fn receiver(&self, path: &ReplyPath) -> SocketAddr {
        let listener = self.listeners.get(path.listener());
        let bound = listener.map_or(path.peer().ip(), SocketAddr::ip);
        SocketAddr::new(path.local().unwrap_or(bound), path.local_port())
    }
}

/// Which sources are recorded: all requests of a source or none, so that what one source does stays whole.
#[derive(Clone)]
pub(super) struct Sample {
    key: HashKey,
    /// The largest hash of a source that is recorded.
    up_to: u64,
}

impl Sample {
    /// A share of all sources, above 0 and up to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "the share is between 0 and 1, and its last bits do not matter"
    )]
    pub(super) fn new(key: HashKey, share: f64) -> Self {
        Self {
            key,
            up_to: (share * u64::MAX as f64) as u64,
        }
    }

    fn includes(&self, source: IpAddr) -> bool {
        self.up_to == u64::MAX || self.key.hash_address(source) <= self.up_to
    }
}

/// Nanoseconds since the epoch; 0 before it, and the last that there is from 2554 on.
pub(super) fn epoch_ns(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn included(share: f64) -> usize {
        let sample = Sample::new(HashKey::draw().unwrap(), share);
        let sources = (0..10_000).map(|number| IpAddr::from(Ipv4Addr::from(number)));
        sources.filter(|source| sample.includes(*source)).count()
    }

    #[test]
    fn a_sample_is_about_that_share_of_the_sources() {
        assert_eq!(included(1.0), 10_000);
        // Off by more than ten standard deviations once in a lifetime of the universe.
        assert!((2_500..3_500).contains(&included(0.3)));
        assert!(included(1e-9) <= 1);
    }

    #[test]
    fn a_source_is_in_the_sample_or_not() {
        let sample = Sample::new(HashKey::draw().unwrap(), 0.5);
        for number in 0..100 {
            let source = IpAddr::from(Ipv4Addr::from(number));
            assert_eq!(sample.includes(source), sample.includes(source));
        }
    }
}
