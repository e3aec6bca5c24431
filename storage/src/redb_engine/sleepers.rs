//! Readers without work sleep, and workers wake them without ever waiting for one.
//!
//! A channel's own way to wake takes a lock that a reader holds while it lies down: a reader has a lower priority than a
//! worker, and may lose the processor there for milliseconds. Here a reader says that it sleeps, looks for work once more,
//! and only then sleeps; a worker puts its work down first and looks for a sleeper then. One of the two sees the other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::interleave::{Thread, current_thread, park, switch_point};

/// The readers of a store, each under its number.
pub(super) struct Sleepers {
    readers: Box<[Sleeper]>,
}

#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Sleepers {
    pub(super) fn new(readers: usize) -> Self {
        Self {
            readers: (0..readers).map(|_| Sleeper::default()).collect(),
        }
    }

    /// Lets the calling thread, which is reader `number`, sleep until it is woken, or not at all if it `is_needed`. May
    /// return without reason.
    pub(super) fn sleep(&self, number: usize, is_needed: impl FnOnce() -> bool) {
        let own = &self.readers[number];
        own.thread.get_or_init(current_thread);
        switch_point();
        own.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        switch_point();
        if !is_needed() {
            switch_point();
            park();
        }
        own.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes a reader if one sleeps; for who has just put work down.
    pub(super) fn wake_one(&self) {
        fence(Ordering::SeqCst);
        switch_point();
        // The first one that is woken ends the search.
        let _ = self.readers.iter().any(Sleeper::wake);
    }

    /// Wakes every reader that sleeps.
    pub(super) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        for reader in &self.readers {
            reader.wake();
        }
    }
}

impl Sleeper {
    /// Returns whether it slept. Reads first: most of the time nobody sleeps, and a line that is not written stays shared.
    fn wake(&self) -> bool {
        let slept =
            self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Acquire);
        if slept && let Some(thread) = self.thread.get() {
            switch_point();
            thread.unpark();
        }
        slept
    }
}
