//! Which requests of one socket wait for a reply, and which request a reply belongs to.
//!
//! Requests are numbered in the order they are sent, and their `Thread`s follow the numbers, round and round. What is known of
//! each lies in a ring by its number, so that a reply finds its request in one step, however many wait. Invariants:
//!
//! 1. `ring` holds the requests from number `first` on without a gap, [`MAX_RING`] at most.
//! 2. Of those with the same `Thread`, at most one waits, and it is the latest that was sent.
//! 3. All before number `front` are settled.
//! 4. A settled request stays until it is twice the limit old, so that a second reply is known from a late one.

use std::collections::VecDeque;

use crate::request::Thread;

const THREADS: u64 = Thread::COUNT as u64;
/// The most requests of a socket that are remembered: each `Thread` twice.
const MAX_RING: usize = 2 * Thread::COUNT as usize;
/// The most requests without a `Thread` of ours that wait on one socket; more are sent and called lost.
const MAX_UNMARKED: usize = 1024;

/// A request that was sent. Times are nanoseconds on one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent<Tag> {
    pub(crate) tag: Tag,
    pub(crate) intended_ns: u64,
    pub(crate) at_ns: u64,
}

/// What a reply turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<Tag> {
    /// The answer to this request.
    Answer(Sent<Tag>),
    /// The first reply to this request, which was not given up yet, but came after the limit.
    Overdue(Sent<Tag>),
    /// A reply to a request that was given up.
    Late,
    /// Another reply to a request that was answered.
    Duplicate,
    /// No request can have had its `Thread`.
    Stray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    Lost,
    /// Not sent, because an older request with the same `Thread` was still waiting, or our kernel had no room.
    Skipped,
}

/// The requests of one socket.
#[derive(Debug)]
pub(crate) struct Outstanding<Tag> {
    ring: VecDeque<(Sent<Tag>, State)>,
    first: u64,
    front: u64,
    /// Requests without a `Thread` of ours. Their replies come in order, as far as anybody can know.
    unmarked: VecDeque<Sent<Tag>>,
    waiting: usize,
    limit_ns: u64,
}

impl<Tag: Copy> Outstanding<Tag> {
    /// A request without a reply for `limit_ns` is lost.
    pub(crate) fn new(limit_ns: u64) -> Self {
        Self {
            ring: VecDeque::new(),
            first: 0,
            front: 0,
            unmarked: VecDeque::new(),
            waiting: 0,
            limit_ns,
        }
    }

    /// The `Thread` of the `number`th request.
    pub(crate) fn thread(number: u64) -> Thread {
        Thread::nth((number % THREADS) as u16)
    }

    /// Whether the next request can be told from all that wait.
    pub(crate) fn has_room(&self) -> bool {
        let mut older = self.next();
        while let Some(number) = older.checked_sub(THREADS)
            && let Some(&(_, state)) = self.at(number)
        {
            if state != State::Skipped {
                return state != State::Waiting;
            }
            older = number;
        }
        true
    }

    /// The next request, whose `Thread` is that of its number, is about to be sent. Whoever is forgotten for it while it waits
    /// is lost: told to `lost`.
    pub(crate) fn open(&mut self, sent: Sent<Tag>, lost: impl FnMut(Sent<Tag>)) {
        self.push(sent, State::Waiting, lost);
        self.waiting += 1;
    }

    /// The next request is not sent.
    pub(crate) fn skip(&mut self, sent: Sent<Tag>, lost: impl FnMut(Sent<Tag>)) {
        self.push(sent, State::Skipped, lost);
    }

    /// A request without a `Thread` of ours is about to be sent; whether its reply can be waited for.
    pub(crate) fn open_unmarked(&mut self, sent: Sent<Tag>) -> bool {
        let has_room = self.unmarked.len() < MAX_UNMARKED;
        if has_room {
            self.unmarked.push_back(sent);
            self.waiting += 1;
        }
        has_room
    }

    /// A reply with `thread`, if it has one that can be ours, came at `now_ns`.
    pub(crate) fn close(&mut self, thread: Option<Thread>, now_ns: u64) -> Verdict<Tag> {
        match thread {
            Some(thread) => self.close_marked(thread, now_ns),
            None => self.close_unmarked(now_ns),
        }
    }

    fn close_marked(&mut self, thread: Thread, now_ns: u64) -> Verdict<Tag> {
        let Some(mut number) = self.latest(thread) else {
            return Verdict::Stray;
        };
        let limit_ns = self.limit_ns;
        while let Some((sent, state)) = self.at_mut(number) {
            let sent = *sent;
            match state {
                State::Waiting => {
                    let is_overdue = now_ns.saturating_sub(sent.at_ns) >= limit_ns;
                    *state = if is_overdue {
                        State::Lost
                    } else {
                        State::Answered
                    };
                    self.waiting -= 1;
                    return verdict(sent, is_overdue);
                }
                State::Answered => return Verdict::Duplicate,
                State::Lost => {
                    // Its next reply is the second.
                    *state = State::Answered;
                    return Verdict::Late;
                }
                State::Skipped => match number.checked_sub(THREADS) {
                    Some(older) => number = older,
                    None => return Verdict::Stray,
                },
            }
        }
        // Forgotten, which happens long after the limit only.
        Verdict::Late
    }

    fn close_unmarked(&mut self, now_ns: u64) -> Verdict<Tag> {
        let Some(sent) = self.unmarked.pop_front() else {
            return Verdict::Stray;
        };
        self.waiting -= 1;
        verdict(sent, now_ns.saturating_sub(sent.at_ns) >= self.limit_ns)
    }

    /// Gives up what has waited for the limit, each told to `lost`, and forgets what is older still.
    pub(crate) fn expire(&mut self, now_ns: u64, mut lost: impl FnMut(Sent<Tag>)) {
        let age_ns = |sent: &Sent<Tag>| now_ns.saturating_sub(sent.at_ns);
        let limit_ns = self.limit_ns;
        while let Some((sent, state)) = self.at_mut(self.front) {
            if *state == State::Waiting {
                if age_ns(sent) < limit_ns {
                    break;
                }
                *state = State::Lost;
                lost(*sent);
                self.waiting -= 1;
            }
            self.front += 1;
        }
        while self.first < self.front
            && let Some((sent, _)) = self.ring.front()
            && age_ns(sent) >= 2 * limit_ns
        {
            self.ring.pop_front();
            self.first += 1;
        }
        while let Some(&sent) = self.unmarked.front()
            && age_ns(&sent) >= limit_ns
        {
            self.unmarked.pop_front();
            lost(sent);
            self.waiting -= 1;
        }
    }

    /// How many requests wait for a reply.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    fn push(&mut self, sent: Sent<Tag>, state: State, mut lost: impl FnMut(Sent<Tag>)) {
        if self.ring.len() == MAX_RING {
            if let Some((forgotten, State::Waiting)) = self.ring.pop_front() {
                lost(forgotten);
                self.waiting -= 1;
            }
            self.first += 1;
            self.front = self.front.max(self.first);
        }
        self.ring.push_back((sent, state));
    }

    /// The number of the request to come.
    fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// The number of the latest request that was due under `thread`, if there was one.
    fn latest(&self, thread: Thread) -> Option<u64> {
        let last = self.next().checked_sub(1)?;
        let distance = (last + THREADS - u64::from(thread.number())) % THREADS;
        last.checked_sub(distance)
    }

    fn at(&self, number: u64) -> Option<&(Sent<Tag>, State)> {
        self.ring.get(index(number.checked_sub(self.first)?))
    }

    fn at_mut(&mut self, number: u64) -> Option<&mut (Sent<Tag>, State)> {
        self.ring.get_mut(index(number.checked_sub(self.first)?))
    }
}

fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

fn verdict<Tag>(sent: Sent<Tag>, is_overdue: bool) -> Verdict<Tag> {
    if is_overdue {
        Verdict::Overdue(sent)
    } else {
        Verdict::Answer(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_NS: u64 = 1000;
    const ROUND: u64 = THREADS;

    fn sent(tag: u64, at_ns: u64) -> Sent<u64> {
        Sent {
            tag,
            intended_ns: at_ns,
            at_ns,
        }
    }

    /// A reply to the `number`th request comes.
    fn close(requests: &mut Outstanding<u64>, number: u64, now_ns: u64) -> Verdict<u64> {
        requests.close(Some(Outstanding::<u64>::thread(number)), now_ns)
    }

    fn none(sent: Sent<u64>) {
        panic!("{sent:?} is lost");
    }

    #[test]
    fn replies_in_any_order_find_their_requests_once() {
        let mut requests = Outstanding::new(LIMIT_NS);
        for number in 0..100 {
            requests.open(sent(number, number), none);
        }
        for number in (0..100).rev() {
            let answer = Verdict::Answer(sent(number, number));
            assert_eq!(close(&mut requests, number, 200), answer);
            assert_eq!(close(&mut requests, number, 201), Verdict::Duplicate);
        }
        assert_eq!(requests.waiting(), 0);
        assert_eq!(close(&mut requests, 100, 202), Verdict::Stray);
        assert_eq!(requests.close(None, 203), Verdict::Stray);
    }

    #[test]
    fn a_request_is_lost_once_and_its_replies_are_late_and_then_second() {
        let mut requests = Outstanding::new(LIMIT_NS);
        requests.open(sent(0, 0), none);
        requests.open(sent(1, 5), none);
        let mut lost = Vec::new();
        requests.expire(LIMIT_NS, |sent| lost.push(sent.tag));
        requests.expire(LIMIT_NS, |sent| lost.push(sent.tag));
        assert_eq!(lost, [0]);
        assert_eq!(close(&mut requests, 0, LIMIT_NS + 1), Verdict::Late);
        assert_eq!(close(&mut requests, 0, LIMIT_NS + 2), Verdict::Duplicate);
        // Nobody had looked at the clock when this one came.
        let overdue = Verdict::Overdue(sent(1, 5));
        assert_eq!(close(&mut requests, 1, LIMIT_NS + 5), overdue);
        assert_eq!(requests.waiting(), 0);
    }

    #[test]
    fn settled_requests_are_forgotten_in_time_and_their_replies_are_late() {
        let mut requests = Outstanding::new(LIMIT_NS);
        for number in 0..10 {
            requests.open(sent(number, 0), none);
            close(&mut requests, number, 1);
        }
        requests.expire(2 * LIMIT_NS - 1, none);
        assert_eq!(requests.ring.len(), 10);
        requests.expire(2 * LIMIT_NS, none);
        assert_eq!(requests.ring.len(), 0);
        assert_eq!(close(&mut requests, 3, 2 * LIMIT_NS), Verdict::Late);
    }

    #[test]
    fn threads_come_round_to_requests_that_were_answered() {
        let mut requests = Outstanding::new(LIMIT_NS);
        for number in 0..3 * ROUND {
            assert!(requests.has_room());
            requests.open(sent(number, number), none);
            let answer = Verdict::Answer(sent(number, number));
            assert_eq!(close(&mut requests, number, number), answer);
        }
        assert!(requests.ring.len() <= MAX_RING);
    }

    #[test]
    fn a_thread_that_still_waits_is_not_used_again() {
        let mut requests = Outstanding::new(LIMIT_NS);
        for number in 0..ROUND {
            assert!(requests.has_room());
            requests.open(sent(number, 0), none);
        }
        assert!(!requests.has_room());
        requests.skip(sent(ROUND, 1), none);
        let answer = Verdict::Answer(sent(0, 0));
        assert_eq!(close(&mut requests, 0, 2), answer);
        assert_eq!(close(&mut requests, 1, 2), Verdict::Answer(sent(1, 0)));
        assert!(requests.has_room());
        requests.open(sent(ROUND + 1, 3), none);
        let answer = Verdict::Answer(sent(ROUND + 1, 3));
        assert_eq!(close(&mut requests, 1, 4), answer);
    }

    #[test]
    fn what_a_silent_server_leaves_behind_is_bounded_and_lost() {
        let mut requests = Outstanding::new(LIMIT_NS);
        let mut lost = 0;
        let total = 3 * ROUND;
        for number in 0..total {
            if requests.has_room() {
                requests.open(sent(number, 0), |_| lost += 1);
            } else {
                requests.skip(sent(number, 0), |_| lost += 1);
            }
        }
        assert!(requests.ring.len() <= MAX_RING);
        requests.expire(LIMIT_NS, |_| lost += 1);
        assert_eq!(requests.waiting(), 0);
        assert_eq!(lost, ROUND, "only the first round was sent");
    }

    #[test]
    fn replies_without_a_thread_answer_requests_without_one_in_order() {
        let mut requests = Outstanding::new(LIMIT_NS);
        requests.open(sent(0, 0), none);
        assert!(requests.open_unmarked(sent(1, 1)));
        assert!(requests.open_unmarked(sent(2, 2)));
        assert_eq!(requests.close(None, 3), Verdict::Answer(sent(1, 1)));
        assert_eq!(close(&mut requests, 0, 3), Verdict::Answer(sent(0, 0)));
        let mut lost = Vec::new();
        requests.expire(LIMIT_NS + 2, |sent| lost.push(sent.tag));
        assert_eq!((lost, requests.waiting()), (vec![2], 0));
        for number in 0..MAX_UNMARKED as u64 {
            assert!(requests.open_unmarked(sent(number, 0)));
        }
        assert!(!requests.open_unmarked(sent(0, 0)));
    }
}
