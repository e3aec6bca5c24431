//! Requests that were sent again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use pyzor_protocol::Request;

use crate::trace::Source;

/// A request is remembered for at least this long, and at most twice as long: clients give up after seconds.
const MEMORY: Duration = Duration::from_secs(60);
/// Requests remembered in each half of the memory; each takes 8 bytes and some. At higher rates, it is shorter.
const MAX_REMEMBERED: usize = 2_000_000;

/// Counts requests that came before from the same address and port, with the same `Thread`, operation and first digest.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// Hashes of requests since `began`, and of those in the time before.
    recent: HashSet<u64>,
    older: HashSet<u64>,
    began: Duration,
    count: u64,
}

impl Duplicates {
    pub(super) fn count(&mut self, at: Duration, source: Source, request: &Request<'_>) {
        if at.saturating_sub(self.began) >= MEMORY || self.recent.len() >= MAX_REMEMBERED {
            self.older = std::mem::take(&mut self.recent);
            self.began = at;
        }
        let hash = hash(source, request);
        let is_new = self.recent.insert(hash) && !self.older.contains(&hash);
        self.count += u64::from(!is_new);
    }

    pub(super) fn total(&self) -> u64 {
        self.count
    }
}

/// Two requests in 2^64 have the same by chance.
fn hash(source: Source, request: &Request<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    request.thread().hash(&mut hasher);
    request.op().hash(&mut hasher);
    let digest = request.first_digest().and_then(Result::ok);
    digest.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use pyzor_protocol::Scratch;

    use super::*;

    #[test]
    fn only_the_same_from_the_same_source_soon_after_is_a_duplicate() {
        let mut duplicates = Duplicates::default();
        let mut ask = |seconds, port, thread| {
            let text = format!(
                "Op: check\nOp-Digest: {}\nThread: {thread}\n\n",
                "a".repeat(40)
            );
            let mut scratch = Scratch::new();
            let request = Request::parse(text.as_bytes(), &mut scratch);
            let source = Source(([127, 0, 0, 1], port).into());
            duplicates.count(Duration::from_secs(seconds), source, &request);
            duplicates.total()
        };
        assert_eq!(ask(0, 1, 2000), 0);
        assert_eq!(ask(1, 2, 2000), 0);
        assert_eq!(ask(2, 1, 2001), 0);
        assert_eq!(ask(3, 1, 2000), 1);
        // In the older half now; and then forgotten.
        assert_eq!(ask(62, 1, 2000), 2);
        assert_eq!(ask(300, 5, 5), 2);
        assert_eq!(ask(400, 5, 6), 2);
        assert_eq!(ask(401, 1, 2000), 2);
    }
}
