//! How other threads end a worker's wait: a doorbell that costs a system call only for the first who rings it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Ends the wait of one worker. Cheap to clone; every clone rings the same bell.
#[derive(Clone, Debug)]
pub struct Waker {
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    /// Set by the first ring, cleared when the worker has heard it.
    rung: AtomicBool,
    /// Every write is one event for the ring or the epoll that watches it. Both report edges, so nobody reads it.
    event: EventFd,
}

impl Waker {
    /// A bell nobody listens to yet.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            bell: Arc::new(Bell {
                rung: AtomicBool::new(false),
                event,
            }),
        })
    }

    /// Ends the worker's wait, or its next one if it is not waiting. Never blocks.
    pub fn wake(&self) {
        if !self.bell.rung.swap(true, Ordering::AcqRel) {
            // A write can fail only when 2^64 wake-ups have gone unread.
            let _ = self.bell.event.write(1);
        }
    }

    /// Whether it has rung and the worker has not heard it yet.
    pub(super) fn has_rung(&self) -> bool {
        self.bell.rung.load(Ordering::Acquire)
    }

    /// Notes that the worker is awake: what was announced so far will be seen by it, what comes now rings again.
    pub(super) fn hear(&self) {
        if self.has_rung() {
            self.bell.rung.swap(false, Ordering::AcqRel);
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.event.as_fd()
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.event.as_fd().as_raw_fd()
    }
}
