//! How the runtime learns that the ring has something: an eventfd that the kernel writes when completions come.
//!
//! A ring with deferred task work does not become readable in epoll by itself; the eventfd registered with it does.
//! While the worker is busy the announcements are off, see [`Ring::keep_silent`].

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::completion_tag::CompletionTag;
use super::ring::Ring;
use crate::datapath::waker::{RING_BYTES, Waker};

/// The runtime's ear at the ring.
pub(super) struct Wakeup {
    /// Never read: the runtime's epoll reports every write as an edge of its own.
    announcements: AsyncFd<EventFd>,
}

impl Wakeup {
    /// Has `ring` announce its completions to this thread's runtime.
    pub(super) fn register(ring: &mut Ring) -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        ring.uring()
            .submitter()
            .register_eventfd(event.as_fd().as_raw_fd())?;
        ring.keep_silent();
        // SAFETY: `event` owns its file and never exchanges it.
        let announcements = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) };
        Ok(Self {
            announcements: announcements.map_err(io::Error::from)?,
        })
    }

    /// Waits for an announcement that has not been waited for yet.
    pub(super) async fn announced(&self) -> io::Result<()> {
        self.announcements.readable().await?.clear_ready();
        Ok(())
    }
}

/// The watch on the worker's waker: a receive that ends when it rings.
pub(super) struct WakerWatch {
    waker: Waker,
    /// Where the kernel puts the ring. Boxed, because it is told where that is.
    room: Box<[u8; RING_BYTES as usize]>,
    /// Whether it has to be armed (again).
    pub(super) is_ended: bool,
}

impl WakerWatch {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            waker,
            room: Box::new([0; RING_BYTES as usize]),
            is_ended: true,
        }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// The entry that starts it.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        let sound = Fd(self.waker.as_raw_fd());
        opcode::Recv::new(sound, self.room.as_mut_ptr(), RING_BYTES)
            .build()
            .user_data(CompletionTag::Wake.encode())
    }
}
