//! Signals: blocked in every thread, taken by one, handed to the main thread as requests.
//!
//! TERM and INT ask for an end, and a second one gets it at once, even while the server is still starting or already
//! stopping. HUP and USR1 ask for a reload, USR2 switches recording on and off. XFSZ stays blocked.

use std::process::exit;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::signal::{SigSet, Signal};

use crate::error::Error;

/// Requests that may wait for the main thread. More reloads than this are one anyway, and nobody toggles so fast.
const MAX_WAITING_REQUESTS: usize = 8;

/// The exit status of a server that was not given the time to stop in order.
const EXIT_AT_ONCE: i32 = 1;

/// What a signal asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalRequest {
    /// Finish what has arrived and end.
    Stop,
    /// Read the passwd and access files and open the logs again.
    Reload,
    /// Switch recording on, or off.
    ToggleRecording,
}

/// Takes all signals from now on. To be called before any other thread is started, because threads inherit what is
/// blocked.
///
/// # Errors
/// When the system does not let us block signals or start a thread.
pub fn listen() -> Result<Receiver<SignalRequest>, Error> {
    let taken = SigSet::from_iter([
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ]);
    taken
        .thread_block()
        .map_err(Error::system("block signals"))?;
    let (requests, received) = bounded(MAX_WAITING_REQUESTS);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || take(taken, &requests))
        .map_err(Error::Thread)?;
    Ok(received)
}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) fail like one to a full disk, where it would kill the process
/// by SIGXFSZ. To be called before any other thread is started.
///
/// # Errors
/// When the system does not let us block a signal.
pub fn make_size_limits_errors() -> Result<(), Error> {
    SigSet::from(Signal::SIGXFSZ)
        .thread_block()
        .map_err(Error::system("block a signal"))
}

fn take(taken: SigSet, requests: &Sender<SignalRequest>) {
    let mut stopping = false;
    while let Ok(signal) = taken.wait() {
        match signal {
            Signal::SIGTERM | Signal::SIGINT if stopping => exit(EXIT_AT_ONCE),
            Signal::SIGTERM | Signal::SIGINT => {
                stopping = true;
                // Waits for a place behind reloads; this must not get lost.
                let _ = requests.send(SignalRequest::Stop);
            }
            Signal::SIGHUP | Signal::SIGUSR1 => {
                let _ = requests.try_send(SignalRequest::Reload);
            }
            Signal::SIGUSR2 => {
                let _ = requests.try_send(SignalRequest::ToggleRecording);
            }
            _ => {}
        }
    }
}
