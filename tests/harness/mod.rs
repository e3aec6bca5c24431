//! What the tests share: the workspace's programs, started servers, raw clients, and what the machine must offer.
//!
//! - [`own_names`]: our client where names mean what a test wants.
//! - [`programs`]: builds the workspace's binaries once and finds them.
//! - [`server`]: a `pyzord` in a home directory of its own, killed when dropped.
//! - [`fake_server`]: a server that does what a test wants.
//! - [`capture`]: captures for the load generator.
//! - [`client`]: datagrams as bytes, with time-outs.
//! - [`message`]: requests and replies, written and read without the crates under test.
//! - [`needs`]: what a test needs of the machine; a test that lacks it is skipped and counted.
//! - [`random`]: choices that a seed determines.
//! - [`reference`]: the reference's Python programs.
//! - [`scan_socket`]: a `pyzor serve` in a home directory of its own, killed when dropped.
//! - [`systemd`]: sockets that are passed on to a program.

pub(crate) mod capture;
pub(crate) mod client;
pub(crate) mod fake_server;
pub(crate) mod message;
pub(crate) mod needs;
pub(crate) mod own_names;
pub(crate) mod programs;
pub(crate) mod random;
pub(crate) mod reference;
pub(crate) mod scan_socket;
pub(crate) mod server;
pub(crate) mod systemd;

pub(crate) use client::Client;
pub(crate) use message::{Account, Reply, Request, random_digest};
pub(crate) use needs::Need;
pub(crate) use server::{Io, Server, Setup};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Makes two tests of each function `fn name(io: Io)`: `name::uring` and `name::mmsg`.
macro_rules! both_io {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[test]
            fn uring() {
                needs!(Uring);
                super::$name($crate::harness::Io::Uring);
            }
            #[test]
            fn mmsg() {
                super::$name($crate::harness::Io::Mmsg);
            }
        })+
    };
}

/// Skips the rest of the test, and counts it as skipped, unless the machine offers every [`Need`] named.
macro_rules! needs {
    ($($need:ident),+ $(,)?) => {
        $(if let Err(missing) = $crate::harness::Need::$need.check() {
            return $crate::harness::needs::skip(module_path!(), &missing);
        })+
    };
}

/// Polls `condition` until it holds; whether it did within `limit`.
pub(crate) fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    const POLL_INTERVAL: Duration = Duration::from_millis(10);
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Tells threads to stop when it goes, so that they also do when the test fails.
#[derive(Debug, Default)]
pub(crate) struct StopOnDrop(Arc<AtomicBool>);

impl StopOnDrop {
    /// The flag that will be set.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
