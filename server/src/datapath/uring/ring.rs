//! The ring itself: how it is set up, and the few ways of entering the kernel through it.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, cqueue, squeue};

use super::refusal::refused;
use super::send::SEND_BATCH;
use crate::socket::MAX_LISTEN_ADDRESSES;

/// Entries between two submissions: a batch of replies, and every receive rearmed.
const SUBMISSION_ENTRIES: u32 = 256;

const _: () = assert!(SEND_BATCH + MAX_LISTEN_ADDRESSES < SUBMISSION_ENTRIES as usize);

/// Completions that fit before the kernel has to queue them elsewhere: every receive buffer filled, every send of a
/// batch failed.
const COMPLETION_ENTRIES: u32 = 1024;

/// How often the kernel may refuse to take entries for want of memory before the worker gives up.
const SUBMIT_ATTEMPTS: usize = 16;

/// How long closing waits for the receives under way to end.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// A ring that only this thread submits to (`SINGLE_ISSUER`) and whose completions the kernel produces when this
/// thread enters it and at no other time (`DEFER_TASKRUN`).
pub(super) struct Ring {
    uring: IoUring,
}

impl Ring {
    /// A ring whose fixed files are `sockets`, in their order.
    pub(super) fn new(sockets: &[RawFd]) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)
            .map_err(refused("set up a ring with deferred task work"))?;
        uring
            .submitter()
            .register_files(sockets)
            .map_err(refused("register sockets with a ring"))?;
        Ok(Self { uring })
    }

    pub(super) fn uring(&self) -> &IoUring {
        &self.uring
    }

    /// Both queues at once: completions are taken while entries are added.
    pub(super) fn queues(&mut self) -> (SubmissionQueue<'_>, CompletionQueue<'_>) {
        let (_, submissions, completions) = self.uring.split();
        (submissions, completions)
    }

    /// Adds an entry.
    ///
    /// # Safety
    /// What the entry points to must stay valid until the operation has completed.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller keeps what the entry points to alive.
        unsafe { self.uring.submission().push(entry) }.map_err(|_| queue_full())
    }

    /// Whether completions wait in the queue, or in the kernel until the ring is entered.
    pub(super) fn has_news(&mut self) -> bool {
        let submissions = self.uring.submission();
        let is_kernel_holding_some = submissions.taskrun() || submissions.cq_overflow();
        drop(submissions);
        is_kernel_holding_some || self.has_completions()
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    pub(super) fn has_entries(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Hands all entries to the kernel and has it produce the completions that are due. When this returns `Ok`, the
    /// kernel has taken every entry.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let mut refusals = 0;
        loop {
            match self.enter_once() {
                Ok(()) if !self.has_entries() => return Ok(()),
                Err(error) if refusals == SUBMIT_ATTEMPTS || !is_passing(&error) => {
                    return Err(error);
                }
                _ => refusals += 1,
            }
        }
    }

    /// Waits until there is a completion, for `at_most`; whether there is one.
    pub(super) fn wait(&mut self, at_most: Duration) -> io::Result<bool> {
        let timeout = Timespec::from(at_most);
        let arguments = SubmitArgs::new().timespec(&timeout);
        match self.uring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(self.has_news()),
            Err(error) if is_passing(&error) => Ok(self.has_news()),
            Err(error) => Err(error),
        }
    }

    /// Has completions announced through the registered eventfd from now on.
    ///
    /// Whoever waits for it has to look at [`has_news`](Self::has_news) after this: the kernel announces only what
    /// comes later. The fence keeps the look from being carried out before the announcements are on.
    pub(super) fn announce(&mut self) {
        self.uring.completion().enable_eventfd();
        fence(Ordering::SeqCst);
    }

    /// Has completions come silently: announcing each costs the sender's kernel path a wake-up.
    pub(super) fn keep_silent(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Ends every operation under way, so that the kernel writes to no buffer any more.
    pub(super) fn cancel_all(&mut self) -> io::Result<()> {
        let submitter = self.uring.submitter();
        submitter.register_sync_cancel(Some(Timespec::from(CANCEL_WAIT)), CancelBuilder::any())
    }

    fn enter_once(&mut self) -> io::Result<()> {
        let entries = self.uring.submission().len();
        let flags = EnterFlags::GETEVENTS.bits();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a ring has SUBMISSION_ENTRIES entries"
        )]
        let entries = entries as u32;
        // SAFETY: the numbers are those of this ring, and no argument is passed. What the entries point to was
        // vouched for when they were pushed.
        unsafe {
            self.uring
                .submitter()
                .enter::<libc::sigset_t>(entries, 0, flags, None)
        }
        .map(drop)
    }
}

/// The queue had no room although every user of it keeps to its share.
pub(super) fn queue_full() -> io::Error {
    io::Error::other("the submission queue is full")
}

/// Whether a completion is the last one of its multishot operation.
pub(super) fn has_ended(completion: &cqueue::Entry) -> bool {
    !cqueue::more(completion.flags())
}

/// Whether trying again may help: the kernel was short of memory, or a signal came.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)
    )
}
