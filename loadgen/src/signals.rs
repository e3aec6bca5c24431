//! TERM and INT end a run early, with everything reported that was measured.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Makes a write beyond the limit of file sizes (`ulimit -f`) fail like one to a full disk, where it would kill the process
/// by SIGXFSZ. To be called before any thread starts.
pub(crate) fn make_size_limits_errors() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGXFSZ).thread_block()?)
}

/// TERM or INT, once one has come.
pub(crate) struct StopSignal {
    descriptor: SignalFd,
}

impl StopSignal {
    /// Takes both signals over. To be called before any thread starts, so that no thread is killed by them.
    pub(crate) fn take_over() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor })
    }

    /// Waits until a signal has come, at most `limit`; for ever without one. Whether one came.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        let limit = limit.map_or(PollTimeout::NONE, timeout);
        Ok(poll(&mut [self.poll_entry()], limit)? > 0)
    }

    /// Whether a signal has come.
    pub(crate) fn has_come(&self) -> io::Result<bool> {
        self.wait(Some(Duration::ZERO))
    }

    fn poll_entry(&self) -> PollFd<'_> {
        PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)
    }
}

/// Waits until one of `descriptors` is readable, at most `limit`. Whether one is.
pub(crate) fn wait_readable<'d>(
    descriptors: impl Iterator<Item = BorrowedFd<'d>>,
    limit: Duration,
) -> io::Result<bool> {
    let mut entries: Vec<PollFd<'d>> = descriptors
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
        .collect();
    Ok(poll(&mut entries, timeout(limit))? > 0)
}

/// Whole milliseconds, rounded up, so that a wait never ends before its time.
fn timeout(limit: Duration) -> PollTimeout {
    let milliseconds = limit.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up_and_bounded() {
        assert_eq!(timeout(Duration::ZERO), PollTimeout::ZERO);
        assert_eq!(timeout(Duration::from_micros(1)).as_millis(), Some(1));
        assert_eq!(timeout(Duration::from_secs(1 << 40)), PollTimeout::MAX);
    }
}
