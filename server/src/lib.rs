//! `pyzord`: a drop-in Pyzor server on io_uring.
//!
//! # One datagram's way
//!
//! ```text
//! datapath (uring or mmsg) -> worker -> request: authenticate, authorize, execute, respond -> datapath
//!                               |                           |
//!                               |                           +-> storage: an answer from memory, at once
//!                               +<- pending_replies <- storage: a commit is durable, a disk read is done
//! ```
//!
//! 1. [`datapath`] takes a batch of datagrams from the sockets of one core ([`socket`] bound them) and hands each to
//! 2. [`worker`], one pinned thread a core, which passes it to
//! 3. [`request`], the pure core: may this user ask this, and what does the store answer?
//! 4. The reply goes back through the datapath at once, or waits in [`pending_replies`] until the store has made the
//!    update durable or has read the disk.
//!
//! # Around it
//!
//! | file | job |
//! | --- | --- |
//! | `main`, `flags`, `config` | what was typed and written -> one validated `Config` |
//! | `startup`, `detach`, `signals` | the order of starting, stopping and reloading |
//! | `check_config` | the same settings read, and nothing started |
//! | `cpus`, `memory`, `control_groups`, `open_files` | which cores and how much memory there is, how many files may be open |
//! | `access_files` | passwd and access file as one immutable snapshot |
//! | `bounded_read`, `pipes` | configuration files of any size, read up to a bound; files that may be pipes |
//! | `recording` | what arrived, as a pcap file |
//! | `metrics`, `usage_log`, `log`, `log_line`, `panic_log` | what happened: counted, one line a request, one line an event |
//! | `error`, `error_watch` | every way this crate can fail; errors of sockets that stay |
//!
//! `unsafe` lives in `datapath/uring` and `datapath/mmsg` only: system calls that no safe crate wraps at this cost.

pub mod access_files;
mod bounded_read;
mod check_config;
pub mod config;
mod control_groups;
pub mod cpus;
pub mod datapath;
pub mod detach;
pub mod error;
mod error_watch;
pub mod flags;
pub mod log;
pub mod log_line;
mod memory;
pub mod metrics;
mod open_files;
mod panic_log;
pub mod pending_replies;
mod pipes;
pub mod recording;
pub mod request;
pub mod signals;
pub mod socket;
pub mod startup;
pub mod usage_log;
pub mod worker;
