//! Reports every known digest once before a run, so that checks find them.

use std::time::Duration;

use pyzor_protocol::Operation;

use crate::closed_loop::Work;
use crate::mix::known_digest;
use crate::reply::Reply;
use crate::request::{Template, Thread};

/// Digests in one report: what the reference's batch client sends.
const DIGESTS_A_REPORT: u32 = 10;
const OK: u16 = 200;
/// The store cannot take it now: worth another try.
const UNAVAILABLE: u16 = 503;

/// The reports to be acknowledged. A report is named by its first digest's number.
pub(crate) struct Preload {
    seed: u64,
    known: u32,
    next: u32,
    again: Vec<u32>,
    full: Template,
    /// The last report, when `known` is not a multiple of ten.
    rest: Template,
    unacknowledged: u32,
    refused: Option<u16>,
    unavailable: u64,
}

impl Preload {
    pub(crate) fn new(seed: u64, known: u32) -> Self {
        let template = |digests: u32| Template::new(Operation::Report, digests as usize);
        Self {
            seed,
            known,
            next: 0,
            again: Vec::new(),
            full: template(DIGESTS_A_REPORT),
            rest: template(known % DIGESTS_A_REPORT),
            unacknowledged: known.div_ceil(DIGESTS_A_REPORT),
            refused: None,
            unavailable: 0,
        }
    }

    /// How many reports have not been acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> u32 {
        self.unacknowledged
    }

    /// The code of a reply that will not get better by asking again.
    pub(crate) fn refused(&self) -> Option<u16> {
        self.refused
    }

    /// How often the store was said to be unavailable.
    pub(crate) fn unavailable(&self) -> u64 {
        self.unavailable
    }

    fn next_report(&mut self) -> Option<u32> {
        if self.refused.is_some() {
            return None;
        }
        self.again.pop().or_else(|| self.next_fresh())
    }

    fn next_fresh(&mut self) -> Option<u32> {
        let first = (self.next < self.known).then_some(self.next)?;
        self.next = first.saturating_add(DIGESTS_A_REPORT);
        Some(first)
    }
}

impl Work for Preload {
    type Tag = u32;

    fn longest_request(&self) -> usize {
        self.full.bytes()
    }

    fn next(&mut self, thread: Thread, datagram: &mut [u8]) -> Option<(u32, usize)> {
        let first = self.next_report()?;
        let is_full = self.known - first >= DIGESTS_A_REPORT;
        let template = if is_full { &self.full } else { &self.rest };
        let mut numbers = first..self.known;
        let digest = || known_digest(self.seed, numbers.next().unwrap_or(first)).to_hex();
        Some((first, template.write(datagram, thread, digest)))
    }

    fn answered(&mut self, first: u32, _: Duration, reply: &Reply) {
        match reply.code {
            Some(OK) => self.unacknowledged -= 1,
            None => self.again.push(first),
            Some(UNAVAILABLE) => {
                self.unavailable += 1;
                self.again.push(first);
            }
            Some(code) => self.refused = Some(code),
        }
    }

    /// It may have been counted all the same; a known digest is one that was reported at least once.
    fn lost(&mut self, first: u32) {
        self.again.push(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(datagram: &[u8]) -> Vec<String> {
        let text = String::from_utf8(datagram.to_vec()).unwrap();
        let digests = text
            .lines()
            .filter_map(|line| line.strip_prefix("Op-Digest: "));
        digests.map(str::to_owned).collect()
    }

    fn answer(code: u16) -> Reply {
        Reply {
            code: Some(code),
            ..Reply::default()
        }
    }

    #[test]
    fn each_digest_is_reported_once_and_lost_reports_again() {
        let mut preload = Preload::new(1, 23);
        let mut datagram = vec![0; preload.longest_request()];
        let mut digests = Vec::new();
        let mut tags = Vec::new();
        while let Some((tag, length)) = preload.next(Thread::FIRST, &mut datagram) {
            digests.extend(reported(&datagram[..length]));
            tags.push(tag);
        }
        let expected: Vec<String> = (0..23).map(|n| known_digest(1, n).to_string()).collect();
        assert_eq!(digests, expected);
        assert_eq!(tags, [0, 10, 20]);

        preload.answered(0, Duration::ZERO, &answer(200));
        preload.answered(10, Duration::ZERO, &answer(503));
        preload.lost(20);
        assert_eq!(preload.unacknowledged(), 2);
        assert_eq!(preload.unavailable(), 1);
        let (tag, length) = preload.next(Thread::FIRST, &mut datagram).unwrap();
        assert_eq!((tag, reported(&datagram[..length]).len()), (20, 3));
        assert_eq!(preload.next(Thread::FIRST, &mut datagram).unwrap().0, 10);
        assert_eq!(preload.next(Thread::FIRST, &mut datagram), None);
    }

    #[test]
    fn a_refusal_ends_it() {
        let mut preload = Preload::new(1, 100);
        let mut datagram = vec![0; preload.longest_request()];
        preload.answered(0, Duration::ZERO, &answer(403));
        assert_eq!(preload.next(Thread::FIRST, &mut datagram), None);
        assert_eq!(preload.refused(), Some(403));
    }
}
