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
            self.failed_turns = 0;
            return;
        }
        self.failed_turns = self.failed_turns.saturating_add(1);
        if self.is_receive_failing() && is_news(&RECEIVES_FAIL) {
            tracing::error!(
                "nothing can be received, the server goes on trying: {}",
                text(counters.last_receive_error)
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
        if refused > taken / 2 && is_news(&REPLIES_FAIL) {
            tracing::warn!(
                "the system refuses to send replies ({refused} of late): {}",
                text(counters.last_send_error)
            );
        }
    }
}

fn text(error: Option<Errno>) -> String {
    error.map_or_else(
        || "no sender's address can be read".to_owned(),
        |error| io::Error::from(error).to_string(),
    )
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
