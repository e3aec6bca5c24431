//! How the runtime learns that the ring has something: an eventfd that the kernel writes when completions come.
//!
//! A ring with deferred task work does not become readable in epoll by itself; the eventfd registered with it does.
//! While the worker is busy the announcements are off, see [`Ring::keep_silent`].

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::squeue;
use io_uring::types::Fd;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::completion_tag::CompletionTag;
use super::ring::Ring;
use crate::datapath::Waker;

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

/// The entry that completes whenever `waker` is called.
pub(super) fn watch(waker: &Waker) -> squeue::Entry {
    let readable = libc::POLLIN.cast_unsigned().into();
    io_uring::opcode::PollAdd::new(Fd(waker.as_fd().as_raw_fd()), readable)
        .multi(true)
        .build()
        .user_data(CompletionTag::Wake.encode())
}
