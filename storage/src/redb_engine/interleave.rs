//! Places where another thread may come in between, for the test that tries what happens then.
//!
//! In a program this is nothing. In a test run by shuttle (`interleavings`), all threads are one thread's coroutines, and
//! these are the places where it goes from one to another.

use parking_lot::{Mutex, MutexGuard};

#[cfg(not(test))]
pub(super) use std::thread::{Thread, current as current_thread, park};

#[cfg(test)]
pub(super) use switch::{Thread, current_thread, park, switch_point};

#[cfg(not(test))]
pub(super) const fn switch_point() {}

/// Locks without keeping the thread: another coroutine may have the lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    while switch::is_simulated() {
        match mutex.try_lock() {
            Some(guard) => return guard,
            None => switch_point(),
        }
    }
    mutex.lock()
}

#[cfg(test)]
pub(super) mod switch {
    use std::cell::Cell;

    thread_local! {
        static SIMULATED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `test`, switching from coroutine to coroutine at every [`switch_point`].
    pub(in crate::redb_engine) fn simulate(test: impl FnOnce()) {
        SIMULATED.set(true);
        test();
        SIMULATED.set(false);
    }

    pub(in crate::redb_engine) fn is_simulated() -> bool {
        SIMULATED.get()
    }

    pub(in crate::redb_engine) fn switch_point() {
        if is_simulated() {
            shuttle::thread::yield_now();
        }
    }

    /// A thread, or a coroutine.
    pub(in crate::redb_engine) enum Thread {
        Real(std::thread::Thread),
        Simulated(shuttle::thread::Thread),
    }

    impl Thread {
        pub(in crate::redb_engine) fn unpark(&self) {
            match self {
                Self::Real(thread) => thread.unpark(),
                Self::Simulated(thread) => thread.unpark(),
            }
        }
    }

    pub(in crate::redb_engine) fn current_thread() -> Thread {
        if is_simulated() {
            Thread::Simulated(shuttle::thread::current())
        } else {
            Thread::Real(std::thread::current())
        }
    }

    pub(in crate::redb_engine) fn park() {
        if is_simulated() {
            shuttle::thread::park();
        } else {
            std::thread::park();
        }
    }
}
