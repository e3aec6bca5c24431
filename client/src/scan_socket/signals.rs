//! What signals ask of a scan socket.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// TERM and INT: finish what has been sent, and end.
    Stop,
    /// HUP and USR1: read the files again.
    Reload,
}

/// The signals that we take.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
}

impl Signals {
    /// Takes them from now on. To be called within a runtime.
    pub(super) fn take() -> Result<Self, Error> {
        let take = |kind| signal(kind).map_err(Error::system("take signals"));
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hang_up: take(SignalKind::hangup())?,
            user_1: take(SignalKind::user_defined1())?,
        })
    }

    /// The next that asks for the end.
    pub(super) async fn next_stop(&mut self) {
        while self.next().await != Request::Stop {}
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Reload,
            _ = self.user_1.recv() => Request::Reload,
        }
    }
}
