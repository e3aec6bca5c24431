//! Seats: there are only so many connections, and only so many long messages. Who has to leave when one more is needed?
//!
//! - Nobody waits for a seat behind a peer that is merely slow: the slowest is sent away, once it has used up its time.
//!   That is [`PATIENCE`], and what it sends earns more, at [`EARNING_BYTES_PER_SECOND`], but never so much that it has more than
//!   [`LONGEST_PAUSE`] left: trickling earns nothing, and however much a peer has sent, it may not stop for longer.
//! - A peer whose message is complete is never sent away. Where all are, the next one waits.
//! - There are never more rows than seats. A peer that was sent away holds what it has for one more turn of the runtime.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a peer may use a seat without sending anything, before it has to leave for another.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a peer that has sent a lot may stop: longer than a busy machine lets it wait for a core.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A peer that sends at this rate is never sent away; on one host, messages come a thousand times faster.
const EARNING_BYTES_PER_SECOND: u64 = 1 << 20;

/// What a peer and those who may send it away know of each other.
#[derive(Debug)]
pub(super) struct Peer {
    is_sending: Cell<bool>,
    /// When it has used up its time.
    time_is_up: Cell<Instant>,
    leave: Notify,
}

impl Peer {
    /// A peer that has yet to send its message.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            is_sending: Cell::new(true),
            time_is_up: Cell::new(Instant::now() + PATIENCE),
            leave: Notify::new(),
        })
    }

    /// It has sent as many bytes more.
    pub(super) fn has_sent(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / EARNING_BYTES_PER_SECOND);
        let most = Instant::now() + LONGEST_PAUSE;
        let time_is_up = self.time_is_up.get().checked_add(earned);
        self.time_is_up
            .set(time_is_up.map_or(most, |at| at.min(most)));
    }

    /// It has a seat: only now can it go on.
    fn begins(&self) {
        self.time_is_up.set(Instant::now() + PATIENCE);
    }

    /// Its message is complete: it keeps its seats until it has its answer.
    pub(super) fn has_finished(&self) {
        self.is_sending.set(false);
    }

    /// Returns when the peer has to leave.
    pub(super) async fn sent_away(&self) {
        self.leave.notified().await;
    }
}

/// Seats of one kind.
#[derive(Debug)]
pub(super) struct Seats {
    capacity: NonZeroUsize,
    /// Who sits here, each with a number of its own.
    rows: RefCell<BTreeMap<u64, Rc<Peer>>>,
    next_number: Cell<u64>,
    freed: Notify,
}

/// A taken seat; dropping it frees it.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Rc<Seats>,
    number: u64,
}

impl Seats {
    /// As many seats as `capacity`, all free.
    pub(super) fn new(capacity: NonZeroUsize) -> Rc<Self> {
        Rc::new(Self {
            capacity,
            rows: RefCell::default(),
            next_number: Cell::new(0),
            freed: Notify::new(),
        })
    }

    /// A seat for `peer`, as soon as there is one.
    pub(super) async fn take(self: &Rc<Self>, peer: &Rc<Peer>) -> Seat {
        loop {
            if let Some(seat) = self.take_free(peer) {
                return seat;
            }
            if let Some((number, time_is_up)) = self.slowest()
                && time_is_up <= Instant::now()
            {
                self.send_away(number);
                continue;
            }
            match self.slowest() {
                Some((_, time_is_up)) => {
                    let _ = timeout_at(time_is_up, self.freed()).await;
                    // What arrived while this process had to wait for a core counts first.
                    tokio::task::yield_now().await;
                }
                None => self.freed().await,
            }
        }
    }

    /// Sends away whoever has used up its time; when to do so again, while others are sending.
    pub(super) fn clear(&self) -> Option<Instant> {
        while let Some((number, time_is_up)) = self.slowest() {
            if time_is_up > Instant::now() {
                return Some(time_is_up);
            }
            self.send_away(number);
        }
        None
    }

    /// Whether nobody has one.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.borrow().is_empty()
    }

    /// Returns when a seat has been freed by its own peer.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn take_free(self: &Rc<Self>, peer: &Rc<Peer>) -> Option<Seat> {
        let mut rows = self.rows.borrow_mut();
        if rows.len() >= self.capacity.get() {
            return None;
        }
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        rows.insert(number, Rc::clone(peer));
        peer.begins();
        Some(Seat {
            seats: Rc::clone(self),
            number,
        })
    }

    /// Whose time is up first of those who are sending, and when.
    fn slowest(&self) -> Option<(u64, Instant)> {
        let rows = self.rows.borrow();
        let sending = rows.iter().filter(|(_, peer)| peer.is_sending.get());
        sending
            .map(|(number, peer)| (*number, peer.time_is_up.get()))
            .min_by_key(|(_, time_is_up)| *time_is_up)
    }

    fn send_away(&self, number: u64) {
        if let Some(peer) = self.rows.borrow_mut().remove(&number) {
            peer.leave.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Whoever was sent away has no row any more, and the seat is another's.
        if self.seats.rows.borrow_mut().remove(&self.number).is_some() {
            self.seats.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const A_WHILE: Duration = Duration::from_secs(3600);

    fn two_seats() -> Rc<Seats> {
        Seats::new(NonZeroUsize::new(2).unwrap())
    }

    /// Runs `test` on a clock that jumps ahead whenever everybody waits.
    fn on_a_fast_clock(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(test);
    }

    async fn is_sent_away(peer: &Peer) -> bool {
        timeout(Duration::ZERO, peer.sent_away()).await.is_ok()
    }

    #[test]
    fn the_slowest_leaves_for_a_third_once_it_had_its_time() {
        on_a_fast_clock(async {
            let seats = two_seats();
            let (first, second, third) = (Peer::new(), Peer::new(), Peer::new());
            let begin = Instant::now();
            let _first_seat = seats.take(&first).await;
            let _second_seat = seats.take(&second).await;
            let _third_seat = seats.take(&third).await;
            assert!(begin.elapsed() >= PATIENCE);
            assert!(begin.elapsed() < 2 * PATIENCE);
            assert!(is_sent_away(&first).await);
            assert!(!is_sent_away(&second).await);
        });
    }

    #[test]
    fn who_sends_faster_stays_and_who_trickles_does_not() {
        on_a_fast_clock(async {
            let seats = two_seats();
            let (trickling, fast, third) = (Peer::new(), Peer::new(), Peer::new());
            let _fast_seat = seats.take(&fast).await;
            let _trickling_seat = seats.take(&trickling).await;
            fast.has_sent(10 << 20);
            trickling.has_sent(100);
            let begin = Instant::now();
            let _third_seat = seats.take(&third).await;
            assert!(begin.elapsed() < 2 * PATIENCE);
            assert!(is_sent_away(&trickling).await);
            assert!(!is_sent_away(&fast).await);
        });
    }

    #[test]
    fn what_was_sent_long_ago_counts_for_nothing() {
        on_a_fast_clock(async {
            let seats = two_seats();
            let (stalled, going_on, third) = (Peer::new(), Peer::new(), Peer::new());
            let _stalled_seat = seats.take(&stalled).await;
            let _going_on_seat = seats.take(&going_on).await;
            stalled.has_sent(31 << 20);
            let begin = Instant::now();
            let go_on = async {
                for _ in 0..10 {
                    going_on.has_sent(1 << 20);
                    tokio::time::sleep(PATIENCE / 2).await;
                }
            };
            tokio::join!(go_on, async {
                let _third_seat = seats.take(&third).await;
                assert!(begin.elapsed() <= LONGEST_PAUSE);
            });
            assert!(is_sent_away(&stalled).await);
            assert!(!is_sent_away(&going_on).await);
        });
    }

    #[test]
    fn nobody_leaves_once_the_message_is_complete() {
        on_a_fast_clock(async {
            let seats = two_seats();
            let (first, second, third) = (Peer::new(), Peer::new(), Peer::new());
            let _first_seat = seats.take(&first).await;
            let second_seat = seats.take(&second).await;
            first.has_finished();
            second.has_finished();
            assert!(timeout(A_WHILE, seats.take(&third)).await.is_err());
            drop(second_seat);
            assert!(timeout(PATIENCE, seats.take(&third)).await.is_ok());
            assert!(!is_sent_away(&first).await);
        });
    }

    #[test]
    fn a_seat_freed_goes_to_whoever_waits() {
        on_a_fast_clock(async {
            let seats = two_seats();
            let held = (
                seats.take(&Peer::new()).await,
                seats.take(&Peer::new()).await,
            );
            let begin = Instant::now();
            let free_one = async {
                tokio::time::sleep(PATIENCE / 2).await;
                drop(held);
            };
            let third = Peer::new();
            tokio::join!(free_one, seats.take(&third));
            assert!(begin.elapsed() < PATIENCE);
        });
    }

    #[test]
    fn whoever_was_sent_away_frees_no_second_seat() {
        on_a_fast_clock(async {
            let seats = two_seats();
            let (first, third) = (Peer::new(), Peer::new());
            let first_seat = seats.take(&first).await;
            let _second_seat = seats.take(&Peer::new()).await;
            let _third_seat = seats.take(&third).await;
            drop(first_seat);
            assert_eq!(seats.rows.borrow().len(), 2);
            assert!(seats.take_free(&Peer::new()).is_none());
        });
    }

    #[test]
    fn clearing_spares_the_new_and_the_complete() {
        on_a_fast_clock(async {
            let seats = two_seats();
            let (complete, slow) = (Peer::new(), Peer::new());
            let _complete_seat = seats.take(&complete).await;
            let _slow_seat = seats.take(&slow).await;
            complete.has_finished();
            let again = seats.clear().expect("one has not had its time");
            assert!(!is_sent_away(&slow).await);
            tokio::time::sleep_until(again).await;
            assert_eq!(seats.clear(), None);
            assert!(is_sent_away(&slow).await);
            assert!(!is_sent_away(&complete).await);
        });
    }
}
