//! Which requests of one socket wait for a reply, and which request a reply belongs to.
//!
//! A request occupies a slot. Its `Thread` names the slot and the slot's generation, which changes with every request, so that
//! a second reply, or one that comes after its request was given up, is not taken for the answer to a later request. A slot's
//! generations repeat after `Thread::COUNT / slots` requests; those given up recently are left out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::request::Thread;

/// The most requests one socket keeps outstanding: a slot then still has 54 generations.
pub(crate) const MAX_SLOTS: u16 = 1024;
/// A request without a reply for so long is lost.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(1);
/// How many lost requests of a socket are remembered, so that their replies count as late when they come after all.
const MAX_REMEMBERED_LOSSES: usize = 256;

/// What a reply turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<Tag> {
    /// The answer to the request with this tag, and how long it took.
    Answer(Tag, Duration),
    /// The answer to a request that was given up already.
    Late,
    /// Another answer to a request that was answered already.
    Duplicate,
    /// No request can have had its `Thread`.
    Stray,
}

/// The slots of one socket.
#[derive(Debug)]
pub(crate) struct InFlight<Tag> {
    slots: Vec<Slot<Tag>>,
    free: Vec<u16>,
    lost: VecDeque<Thread>,
}

#[derive(Debug)]
struct Slot<Tag> {
    thread: Thread,
    waiting: Option<Waiting<Tag>>,
}

#[derive(Debug)]
struct Waiting<Tag> {
    tag: Tag,
    since: Instant,
}

impl<Tag: Copy> InFlight<Tag> {
    /// Room for `slots` requests, at least one and at most [`MAX_SLOTS`].
    pub(crate) fn new(slots: u16) -> Self {
        let numbers = 0..slots.clamp(1, MAX_SLOTS);
        let slot = |number| Slot {
            thread: Thread::nth(number),
            waiting: None,
        };
        Self {
            slots: numbers.clone().map(slot).collect(),
            free: numbers.collect(),
            lost: VecDeque::with_capacity(MAX_REMEMBERED_LOSSES),
        }
    }

    /// The `Thread` the next request must carry; `None` when every slot is taken.
    pub(crate) fn next_thread(&self) -> Option<Thread> {
        let slot = *self.free.last()?;
        Some(self.slots[usize::from(slot)].thread)
    }

    /// The request with [`Self::next_thread`] is about to be sent.
    pub(crate) fn open(&mut self, tag: Tag, now: Instant) {
        if let Some(slot) = self.free.pop() {
            self.slots[usize::from(slot)].waiting = Some(Waiting { tag, since: now });
        }
    }

    /// A reply with `thread` came at `now`.
    pub(crate) fn close(&mut self, thread: Thread, now: Instant) -> Verdict<Tag> {
        let number = thread.number() % self.count();
        let slot = &mut self.slots[usize::from(number)];
        if slot.thread != thread {
            return self.forget_loss(thread);
        }
        let Some(waiting) = slot.waiting.take() else {
            return Verdict::Stray;
        };
        self.release(number);
        Verdict::Answer(waiting.tag, now.saturating_duration_since(waiting.since))
    }

    /// Gives up requests older than [`REPLY_LIMIT`], each told to `lost`.
    pub(crate) fn expire(&mut self, now: Instant, mut lost: impl FnMut(Tag)) {
        for number in 0..self.count() {
            let slot = &mut self.slots[usize::from(number)];
            let is_old = |waiting: &mut Waiting<Tag>| {
                now.saturating_duration_since(waiting.since) >= REPLY_LIMIT
            };
            if let Some(waiting) = slot.waiting.take_if(is_old) {
                let thread = slot.thread;
                self.remember_loss(thread);
                self.release(number);
                lost(waiting.tag);
            }
        }
    }

    /// How many requests wait for a reply.
    pub(crate) fn waiting(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn release(&mut self, number: u16) {
        let count = self.count();
        let slot = &mut self.slots[usize::from(number)];
        let generations = Thread::COUNT / count;
        for _ in 0..generations {
            slot.thread = next_generation(slot.thread, count);
            if !self.lost.contains(&slot.thread) {
                break;
            }
        }
        self.free.push(number);
    }

    fn remember_loss(&mut self, thread: Thread) {
        if self.lost.len() == MAX_REMEMBERED_LOSSES {
            self.lost.pop_front();
        }
        self.lost.push_back(thread);
    }

    fn forget_loss(&mut self, thread: Thread) -> Verdict<Tag> {
        match self.lost.iter().position(|&lost| lost == thread) {
            Some(place) => {
                self.lost.remove(place);
                Verdict::Late
            }
            None => Verdict::Duplicate,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_SLOTS, a u16")]
    fn count(&self) -> u16 {
        self.slots.len() as u16
    }
}

/// The next `Thread` of the same slot.
fn next_generation(thread: Thread, slots: u16) -> Thread {
    let number = thread.number();
    if number < Thread::COUNT - slots {
        Thread::nth(number + slots)
    } else {
        Thread::nth(number % slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(in_flight: &mut InFlight<u32>, tag: u32, now: Instant) -> Thread {
        let thread = in_flight.next_thread().unwrap();
        in_flight.open(tag, now);
        thread
    }

    fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_reply_finds_its_request_once() {
        let start = Instant::now();
        let mut in_flight = InFlight::new(3);
        let threads: Vec<Thread> = (0..3).map(|tag| send(&mut in_flight, tag, start)).collect();
        assert_eq!(in_flight.next_thread(), None);
        let later = start + milliseconds(5);
        // The last slot is the first on the free list.
        for (tag, &thread) in threads.iter().enumerate().rev() {
            let tag = u32::try_from(tag).unwrap();
            let answer = Verdict::Answer(tag, milliseconds(5));
            assert_eq!(in_flight.close(thread, later), answer);
            assert_eq!(in_flight.close(thread, later), Verdict::Duplicate);
        }
        assert_eq!(in_flight.waiting(), 0);
    }

    #[test]
    fn a_lost_request_is_given_up_once_and_its_reply_is_late_once() {
        let start = Instant::now();
        let mut in_flight = InFlight::new(2);
        let old = send(&mut in_flight, 1, start);
        let young = send(&mut in_flight, 2, start + milliseconds(1));
        let mut lost = Vec::new();
        in_flight.expire(start + REPLY_LIMIT, |tag| lost.push(tag));
        in_flight.expire(start + REPLY_LIMIT, |tag| lost.push(tag));
        assert_eq!(lost, [1]);
        let again = send(&mut in_flight, 3, start + REPLY_LIMIT);
        assert_ne!(again, old);
        let now = start + REPLY_LIMIT + milliseconds(3);
        assert_eq!(in_flight.close(old, now), Verdict::Late);
        assert_eq!(in_flight.close(old, now), Verdict::Duplicate);
        assert_eq!(
            in_flight.close(again, now),
            Verdict::Answer(3, milliseconds(3))
        );
        assert_eq!(
            in_flight.close(young, now),
            Verdict::Answer(2, milliseconds(1002))
        );
    }

    #[test]
    fn a_thread_that_was_never_sent_is_a_stray() {
        let now = Instant::now();
        let mut in_flight = InFlight::<u32>::new(2);
        let unsent = in_flight.next_thread().unwrap();
        assert_eq!(in_flight.close(unsent, now), Verdict::Stray);
    }

    #[test]
    fn generations_come_round_but_not_to_a_lost_request() {
        let now = Instant::now();
        let mut in_flight = InFlight::new(MAX_SLOTS);
        let lost_thread = send(&mut in_flight, 0, now);
        in_flight.expire(now + REPLY_LIMIT, |_| ());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let thread = send(&mut in_flight, 1, now);
            assert_ne!(thread, lost_thread);
            seen.insert(thread.number());
            assert!(matches!(
                in_flight.close(thread, now),
                Verdict::Answer(1, _)
            ));
        }
        assert_eq!(seen.len(), 53, "54 generations less the lost one");
    }

    #[test]
    fn every_slot_count_keeps_threads_in_range_and_apart() {
        for slots in [1, 3, 7, 1000, MAX_SLOTS] {
            let mut thread = Thread::nth(slots - 1);
            for _ in 0..70_000 {
                thread = next_generation(thread, slots);
                assert_eq!(thread.number() % slots, slots - 1);
            }
        }
    }
}
