//! `pyzor serve`: takes whole messages from connections and answers each with a line as `pyzor check` prints it.
//!
//! One process instead of one for each mail, for rspamd's `pyzor` module and for whatever else can connect to a socket.
//! A peer sends its message, shuts its side, and reads one line.
//!
//! # Which file does what
//!
//! | file | job |
//! | --- | --- |
//! | `flags` | what was typed |
//! | `limits` | how much is taken on, and what follows for memory |
//! | `descriptors` | how many descriptors that takes |
//! | `listener` | TCP ports, unix sockets, sockets passed on by systemd |
//! | `desk` | a peer's way through the files below |
//! | `seats` | who has to leave when there is no room |
//! | `receive` | a message, up to the limit |
//! | `scanner` | a message's digest, and what the servers say to it |
//! | `answer` | the one line that a peer gets |
//! | `counters` | what became of the peers |
//! | `addresses` | looking up servers again that are known by name |
//! | `signals` | TERM and INT stop, HUP and USR1 read the files again |
//!
//! # What a peer can rely on
//!
//! - The answer is exactly one line. With one server it is that of `pyzor check` to the same message, byte for byte; the counts of
//!   several are added up. Servers, accounts and local whitelist are as they were at the start or at the last reload.
//! - A message over the limit is answered with a refusal in the same form, and one that waited too long for its turn with
//!   the servers' time-out.
//! - A peer that does not finish its message in time, or is too slow while others have no room, is closed without an
//!   answer.
//!
//! One thread takes connections and messages; a connection costs a descriptor and what it has sent. The runtime is this
//! module's alone: no other command starts one.

mod addresses;
mod answer;
mod counters;
mod descriptors;
mod desk;
mod flags;
mod limits;
mod listener;
mod receive;
mod scanner;
mod seats;
mod signals;

use std::rc::Rc;
use std::sync::Arc;

use listenfd::ListenFd;
use pyzor_protocol::configparser::Origin;
use sd_notify::NotifyState;
use tokio::runtime::{self, Runtime};
use tokio::task::{JoinHandle, LocalSet, spawn_blocking, spawn_local};

use crate::config::Config;
use crate::error::Error;
use crate::flags::Flags;
use crate::log::Log;
use crate::session::Session;

pub use flags::ServeFlags;
pub use limits::Limits;
pub use listener::ListenAddress;

use desk::Desk;
use listener::Listener;
use signals::{Request, Signals};

/// Where rspamd expects a scan socket.
const DEFAULT_LISTEN: &str = "127.0.0.1:5953";

/// Who may connect to a unix socket: its owner, and nobody else unless somebody says so.
const DEFAULT_SOCKET_MODE: u32 = 0o600;

/// Serves until a signal asks for the end.
///
/// # Errors
/// What keeps it from starting.
pub fn serve(flags: &Flags) -> Result<(), Error> {
    // First of all, because it changes the environment, which only a process with one thread may.
    let passed = ListenFd::from_env();
    let limits = flags.serve.limits();
    let long_messages = limits.long_messages()?;
    let config = Config::load(flags)?;
    set_nice(config.nice)?;
    let session = open_session(&config)?;
    descriptors::allow(&limits, &session)?;
    let runtime = runtime(&limits)?;
    let desk = Desk::new(limits, long_messages, session);
    let served = LocalSet::new().block_on(&runtime, run(desk, flags, passed));
    // Whoever is still being asked has been waited for long enough.
    runtime.shutdown_background();
    served
}

fn set_nice(level: i32) -> Result<(), Error> {
    if level != 0 {
        rustix::process::nice(level).map_err(Error::system("set the nice level"))?;
    }
    Ok(())
}

fn open_session(config: &Config) -> Result<Session, Error> {
    let log = Log::open_for_service(config.log_file.as_deref(), config.debug)?;
    for warning in &config.warnings {
        log.warning(warning);
    }
    Session::open(config, Arc::new(log))
}

fn runtime(limits: &Limits) -> Result<Runtime, Error> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(scanner::max_threads(limits))
        .build()
        .map_err(Error::system("start the runtime"))
}

async fn run(desk: Rc<Desk>, flags: &Flags, passed: ListenFd) -> Result<(), Error> {
    let mut signals = Signals::take()?;
    let doors = open_doors(&desk, listeners(&flags.serve, passed)?);
    let look_ups = spawn_local(addresses::keep_fresh(Rc::clone(&desk)));
    tell_systemd(&desk, &NotifyState::Ready);
    while signals.next().await == Request::Reload {
        reload(&desk, flags).await;
    }
    desk.log().info("stopping");
    tell_systemd(&desk, &NotifyState::Stopping);
    look_ups.abort();
    doors.iter().for_each(JoinHandle::abort);
    tokio::select! {
        () = desk.finish() => {}
        () = signals.next_stop() => {}
    }
    desk.log().info(&format!("stopped: {}", desk.counters()));
    Ok(())
}

/// Where to listen: what was passed on, and what was typed; what rspamd expects if there is neither.
fn listeners(flags: &ServeFlags, mut passed: ListenFd) -> Result<Vec<Listener>, Error> {
    let mut listeners = Listener::passed_on(&mut passed)?;
    let mode = socket_mode(flags)?;
    for address in &flags.listen {
        listeners.push(Listener::bind(address, mode)?);
    }
    if listeners.is_empty() {
        let address = ListenAddress::Tcp(DEFAULT_LISTEN.to_owned());
        listeners.push(Listener::bind(&address, mode)?);
    }
    Ok(listeners)
}

/// The permissions of unix sockets, which are meant for one.
fn socket_mode(flags: &ServeFlags) -> Result<u32, Error> {
    let is_unix = |address: &ListenAddress| matches!(address, ListenAddress::Unix(_));
    match flags.socket_mode {
        Some(mode) if !flags.listen.iter().any(is_unix) => Err(Error::Setting {
            origin: Origin::Flag("--socket-mode"),
            value: format!("{mode:o}"),
            expected: "--listen with the path of a unix socket",
        }),
        mode => Ok(mode.unwrap_or(DEFAULT_SOCKET_MODE)),
    }
}

/// A task for each listener, which owns it.
fn open_doors(desk: &Rc<Desk>, listeners: Vec<Listener>) -> Vec<JoinHandle<()>> {
    let doors = listeners.into_iter().map(|listener| {
        desk.log()
            .info(&format!("listening on {}", listener.name()));
        spawn_local(Rc::clone(desk).take_peers(listener))
    });
    doors.collect()
}

/// Reads the files again and opens the log again; what cannot be used leaves everything as it was. Limits and sockets stay.
async fn reload(desk: &Desk, flags: &Flags) {
    let flags = flags.clone();
    let read = spawn_blocking(move || open_session(&Config::load(&flags)?)).await;
    let replaced = match read {
        Ok(session) => session.and_then(|session| desk.replace_session(session)),
        Err(_) => return,
    };
    match replaced {
        Ok(()) => desk.log().info("read the files again"),
        Err(error) => desk
            .log()
            .error(&format!("everything stays as it was: {error}")),
    }
    desk.log().info(&format!("so far: {}", desk.counters()));
}

/// Tells systemd, if it is there.
fn tell_systemd(desk: &Desk, state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        desk.log().warning(&format!("cannot tell systemd: {error}"));
    }
}
