//! How other threads end a worker's wait: a doorbell that costs a system call only for the first who rings it.
//!
//! It is a pair of sockets and not an eventfd, because a ring that watches an eventfd announces it through another one,
//! and the kernel puts such a signal within a signal off: by 18 milliseconds when measured, and the next one for ever.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the wait of one worker. Cheap to clone; every clone rings the same bell.
#[derive(Clone, Debug)]
pub struct Waker {
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    /// Set by the first ring, cleared when the worker has heard it.
    rung: AtomicBool,
    /// Each ring that finds `rung` clear sends one byte from here,
    push: UnixDatagram,
    /// to here, where the worker's datapath takes it.
    sound: UnixDatagram,
}

/// What is sent for a ring, in bytes.
pub(super) const RING_BYTES: u32 = 1;

impl Waker {
    /// A bell nobody listens to yet.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn new() -> io::Result<Self> {
        let (push, sound) = UnixDatagram::pair()?;
        push.set_nonblocking(true)?;
        let rung = AtomicBool::new(false);
        Ok(Self {
            bell: Arc::new(Bell { rung, push, sound }),
        })
    }

    /// Ends the worker's wait, or its next one if it is not waiting. Never blocks.
    pub fn wake(&self) {
        if !self.bell.rung.swap(true, Ordering::AcqRel) {
            // This fails only when several rings are still untaken, and then one of them ends the wait.
            let _ = self.bell.push.send(&[0; RING_BYTES as usize]);
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

    /// Where rings arrive. It blocks, unless made not to.
    pub(super) fn sound(&self) -> &UnixDatagram {
        &self.bell.sound
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.sound.as_raw_fd()
    }
}
