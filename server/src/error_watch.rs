//! Errors of a worker's sockets that stay: when to stop trying at once, and what to say.
//!
//! A single error is counted and no more. One that comes turn after turn makes the worker pause between its attempts, and
//! is said once a minute by one worker for all of them.

use std::io;
use std::sync::Mutex;

use nix::errno::Errno;
use pyzor_storage::Trouble;

use crate::datapath::Counters;

/// Turns in a row without a datagram, each with a failed receive, that make an error one that stays.
const FAILED_TURNS: u32 = 16;

/// Fewer refused replies than this say nothing: a stranger may name a sender that cannot be answered.
const REFUSALS_AT_LEAST: u64 = 16;

/// That receives fail, and that replies do: of all workers.
static RECEIVES_FAIL: Mutex<Trouble> = Mutex::new(Trouble::new());
static REPLIES_FAIL: Mutex<Trouble> = Mutex::new(Trouble::new());

/// What one worker has seen of its errors.
#[derive(Default)]
pub(crate) struct ErrorWatch {
    receive_errors: u64,
    failed_turns: u32,
    send_errors: u64,
    /// Datagrams since the last tick.
    taken: u64,
}

impl ErrorWatch {
    /// To be called after every turn, with the number of datagrams it took.
    pub(crate) fn after_turn(&mut self, taken: usize, counters: &Counters) {
        let has_failed = counters.receive_errors > self.receive_errors;
        self.receive_errors = counters.receive_errors;
        self.taken += taken as u64;
        if taken > 0 || !has_failed {
            let failed = std::mem::take(&mut self.failed_turns) >= FAILED_TURNS;
            if failed && is_over(&RECEIVES_FAIL) {
                tracing::warn!("datagrams are received again");
            }
            return;
        }
        self.failed_turns = self.failed_turns.saturating_add(1);
        if self.is_receive_failing() && is_news(&RECEIVES_FAIL) {
            tracing::error!(
                "nothing can be received, the server goes on trying: {}",
                text(
                    counters.last_receive_error,
                    "no sender's address can be read"
                )
            );
        }
    }

    /// Whether every receive fails, and has for a while.
    pub(crate) fn is_receive_failing(&self) -> bool {
        self.failed_turns >= FAILED_TURNS
    }

    /// To be called now and then: says if most replies are refused.
    pub(crate) fn tick(&mut self, counters: &Counters) {
        let refused = counters.send_errors - self.send_errors;
        let taken = std::mem::take(&mut self.taken);
        self.send_errors = counters.send_errors;
        if are_replies_refused(refused, taken) {
            if is_news(&REPLIES_FAIL) {
                tracing::warn!(
                    "the system refuses to send replies ({refused} of late): {}",
                    text(counters.last_send_error, "it does not say why")
                );
            }
        } else if refused == 0 && taken > 0 && is_over(&REPLIES_FAIL) {
            tracing::warn!("replies are sent again");
        }
    }
}

/// Whether so many refused replies to so many datagrams are more than what a stranger can do.
fn are_replies_refused(refused: u64, taken: u64) -> bool {
    refused >= REFUSALS_AT_LEAST && refused > taken / 2
}

fn text(error: Option<Errno>, unknown: &str) -> String {
    error.map_or_else(
        || unknown.to_owned(),
        |error| io::Error::from(error).to_string(),
    )
}

fn is_over(trouble: &Mutex<Trouble>) -> bool {
    trouble
        .try_lock()
        .is_ok_and(|mut trouble| trouble.is_over())
}

/// Whether it is time to say it, to the one caller who then says it.
fn is_news(trouble: &Mutex<Trouble>) -> bool {
    // Who holds it is about to say it.
    trouble
        .try_lock()
        .is_ok_and(|mut trouble| trouble.is_news())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(receive_errors: u64) -> Counters {
        Counters {
            receive_errors,
            last_receive_error: Some(Errno::EPERM),
            ..Counters::default()
        }
    }

    #[test]
    fn a_few_refused_replies_are_no_trouble() {
        assert!(!are_replies_refused(1, 1));
        assert!(!are_replies_refused(100, 1000));
        assert!(are_replies_refused(100, 150));
    }

    #[test]
    fn only_errors_in_a_row_make_a_worker_pause() {
        let mut watch = ErrorWatch::default();
        for turn in 1..u64::from(FAILED_TURNS) {
            watch.after_turn(0, &failed(turn));
            assert!(!watch.is_receive_failing(), "{turn}");
        }
        watch.after_turn(0, &failed(u64::from(FAILED_TURNS)));
        assert!(watch.is_receive_failing());
        watch.after_turn(0, &failed(u64::from(FAILED_TURNS)));
        assert!(!watch.is_receive_failing(), "a turn without an error");
        for turn in 100..200 {
            let taken = usize::from(turn % 10 == 0);
            watch.after_turn(taken, &failed(turn));
            assert!(!watch.is_receive_failing(), "{turn}");
        }
    }
}
