//! One question to several servers at once: what is sent, what counts as the answer, and until when.
//!
//! Each question has a socket and a random `Thread` for each server. A datagram is the answer only if it comes from the
//! address that was asked (the socket is connected to it) and carries that thread, or, from a server that could not read the
//! request, a thread below 1024 with an error. Anything else is logged and ignored.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pyzor_protocol::{
    DigestText, MAX_REPLY_BYTES, NewRequest, Operation, Reply, ReplyNumbers, write_request,
};

use crate::log::Log;
use crate::session::{Patience, Server};

/// The part of the time-out after which a silent server is asked once more.
const RETRY_FRACTION: u32 = 3;

/// Threads below this stand for errors.
const FIRST_THREAD: u16 = 1024;

/// A server's reply of this code to any request means that it was done.
pub(crate) const OK: i64 = 200;

/// What servers are asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What to do.
    pub operation: Operation,
    /// With what; none for a ping.
    pub digest: Option<&'a DigestText>,
}

/// What came of asking one server.
#[derive(Debug)]
pub struct Answer<'s> {
    /// Who was asked.
    pub server: &'s Server,
    /// Where it stands among those that were asked.
    pub position: usize,
    /// What it said.
    pub outcome: Result<Response, Failure>,
}

/// A reply that says what it should. A time of -1 is never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub code: i64,
    /// The status in words.
    pub diag: Vec<u8>,
    /// What it says about the digest.
    pub numbers: ReplyNumbers,
}

impl Response {
    /// Both counts of a server that did what it was asked.
    pub(crate) fn counts(&self) -> Option<(i64, i64)> {
        let counts = self.numbers.count.zip(self.numbers.wl_count);
        counts.filter(|_| self.code == OK)
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// None came in time.
    #[error("no reply in time")]
    TimedOut,
    /// None came in time, and the network said that nobody listens there; but anybody may have said so.
    #[error("no reply in time: nobody listens on that port")]
    NobodyThere,
    /// The server's name has no address.
    #[error("the name cannot be resolved: {0}")]
    NoAddress(String),
    /// The request could not be sent.
    #[error("the request cannot be sent: {0}")]
    NotSent(io::Error),
    /// The process cannot wait for replies.
    #[error("cannot wait for a reply: {0}")]
    CannotWait(String),
}

/// Asks all servers, and returns each one's answer, in the order in which they came; those that did not answer are last.
pub fn ask<'s>(
    servers: &'s [Server],
    question: &Question<'_>,
    patience: Patience,
    log: &Log,
) -> Vec<Answer<'s>> {
    let started = Instant::now();
    let deadline = started + patience.timeout;
    let retry_at = started + patience.timeout / RETRY_FRACTION;
    let mut exchange = Exchange::begin(servers, question, log);
    let mut waited = Ok(());
    if patience.retry && !is_update(question.operation) {
        waited = exchange.receive_until(retry_at);
        exchange.ask_again();
    }
    let waited = waited.and_then(|()| exchange.receive_until(deadline));
    exchange.finish(&waited)
}

/// Whether asking twice does more than asking once.
pub(crate) const fn is_update(operation: Operation) -> bool {
    matches!(operation, Operation::Report | Operation::Whitelist)
}

/// The servers that have not answered, and the answers.
struct Exchange<'s, 'l> {
    pending: Vec<Pending<'s>>,
    answers: Vec<Answer<'s>>,
    log: &'l Log,
}

impl<'s, 'l> Exchange<'s, 'l> {
    /// Sends each server its request.
    fn begin(servers: &'s [Server], question: &Question<'_>, log: &'l Log) -> Self {
        let mut exchange = Self {
            pending: Vec::with_capacity(servers.len()),
            answers: Vec::with_capacity(servers.len()),
            log,
        };
        for (position, server) in servers.iter().enumerate() {
            match Pending::begin(server, position, question, log) {
                Ok(pending) => exchange.pending.push(pending),
                Err(failure) => exchange.answer(server, position, Err(failure)),
            }
        }
        exchange
    }

    /// Takes answers until every server has given one, or it is `until`.
    fn receive_until(&mut self, until: Instant) -> io::Result<()> {
        while !self.pending.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            wait(&self.pending, left)?;
            self.receive();
            // Not before: what came while this process had to wait for a core is there.
            if left.is_zero() {
                break;
            }
        }
        Ok(())
    }

    fn receive(&mut self) {
        for mut pending in std::mem::take(&mut self.pending) {
            match pending.receive(self.log) {
                Some(response) => self.answer(pending.server, pending.position, Ok(response)),
                None => self.pending.push(pending),
            }
        }
    }

    /// Repeats the request, thread included, so that a late answer to the first is one to the second.
    fn ask_again(&self) {
        for pending in &self.pending {
            let name = &pending.server.name;
            self.log.debug(|| format!("{name}: asking again"));
            // A request that could be sent before fails now as if it were lost.
            let _ = pending.socket.send(&pending.request);
        }
    }

    fn finish(mut self, waited: &io::Result<()>) -> Vec<Answer<'s>> {
        for pending in std::mem::take(&mut self.pending) {
            let failure = match waited {
                Err(error) => Failure::CannotWait(error.to_string()),
                Ok(()) if pending.was_refused => Failure::NobodyThere,
                Ok(()) => Failure::TimedOut,
            };
            self.answer(pending.server, pending.position, Err(failure));
        }
        self.answers
    }

    fn answer(&mut self, server: &'s Server, position: usize, outcome: Result<Response, Failure>) {
        match &outcome {
            Err(failure) => self.log.error(&format!("{}: {failure}", server.name)),
            Ok(response) if response.code != OK => {
                let (code, diag) = (response.code, String::from_utf8_lossy(&response.diag));
                let refusal = format!("{}: refused with {code} {diag:?}", server.name);
                self.log.error(&refusal);
            }
            Ok(_) => {}
        }
        self.answers.push(Answer {
            server,
            position,
            outcome,
        });
    }
}

/// A server that was asked and has not answered.
struct Pending<'s> {
    server: &'s Server,
    position: usize,
    socket: UdpSocket,
    request: Vec<u8>,
    thread: u16,
    was_refused: bool,
}

impl<'s> Pending<'s> {
    fn begin(
        server: &'s Server,
        position: usize,
        question: &Question<'_>,
        log: &Log,
    ) -> Result<Self, Failure> {
        let address = server.address.as_ref();
        let address = address.map_err(|error| Failure::NoAddress(error.to_string()))?;
        let (thread, request) = request(server, question).map_err(Failure::NotSent)?;
        log.debug(|| format!("{}: sending as thread {thread}", server.name));
        let socket = send(*address, &request).map_err(Failure::NotSent)?;
        Ok(Self {
            server,
            position,
            socket,
            request,
            thread,
            was_refused: false,
        })
    }

    /// The answer, if it is among what has arrived.
    fn receive(&mut self, log: &Log) -> Option<Response> {
        let mut datagram = [0; MAX_REPLY_BYTES];
        loop {
            match self.socket.recv(&mut datagram) {
                Ok(length) => match self.read(&datagram[..length]) {
                    Ok(response) => return Some(response),
                    Err(reason) => log.warning(&format!("{}: {reason}; ignored", self.server.name)),
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // It may just be starting: the time-out says when to give up.
                    self.was_refused |= error.kind() == ErrorKind::ConnectionRefused;
                    return None;
                }
            }
        }
    }

    fn read(&self, datagram: &[u8]) -> Result<Response, String> {
        let reply = Reply::parse(datagram).map_err(|error| error.to_string())?;
        let is_ours = reply.thread == i64::from(self.thread);
        let is_error = (0..i64::from(FIRST_THREAD)).contains(&reply.thread) && reply.code != OK;
        if is_ours || is_error {
            Ok(Response::from(&reply))
        } else {
            Err(format!(
                "a reply to another request, of thread {}",
                reply.thread
            ))
        }
    }
}

impl From<&Reply<'_>> for Response {
    fn from(reply: &Reply<'_>) -> Self {
        Self {
            code: reply.code,
            diag: reply.diag.to_vec(),
            numbers: reply.numbers,
        }
    }
}

/// The thread and the datagram of a question to a server.
fn request(server: &Server, question: &Question<'_>) -> io::Result<(u16, Vec<u8>)> {
    let thread = random_thread()?;
    let request = NewRequest {
        operation: question.operation,
        digests: question.digest.map_or(&[][..], std::slice::from_ref),
        thread,
        user: &server.account.user,
        key: &server.account.key,
        time: epoch_seconds(),
    };
    let mut datagram = Vec::new();
    write_request(&mut datagram, &request);
    Ok((thread, datagram))
}

/// A socket that receives from `address` alone, after it has sent the request there.
fn send(address: SocketAddr, request: &[u8]) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    socket.send(request)?;
    Ok(socket)
}

/// From all that are not reserved, so that who does not see the request cannot guess it.
fn random_thread() -> io::Result<u16> {
    loop {
        let mut bytes = [0; 2];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let thread = u16::from_ne_bytes(bytes);
        if thread >= FIRST_THREAD {
            return Ok(thread);
        }
    }
}

fn epoch_seconds() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |time| time.as_secs())
}

/// Returns when one of the sockets has something, or after `limit`.
fn wait(pending: &[Pending<'_>], limit: Duration) -> io::Result<()> {
    let mut sockets: Vec<PollFd<'_>> = pending
        .iter()
        .map(|pending| PollFd::new(pending.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // Rounded up, or else the last millisecond would be spent asking again and again.
    let limit = limit + Duration::from_millis(1);
    match poll(
        &mut sockets,
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
    ) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
