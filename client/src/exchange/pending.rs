//! A server that has not answered: its addresses, its sockets, and what counts as its answer.
//!
//! Each question has a random `Thread` for each server, and a socket for each address that is asked. A datagram is the answer
//! only if it comes from that address (the socket is connected to it) and carries the thread, or, from a server that could not
//! read the request, a thread below 1024 with an error. Anything else is logged and ignored.
//!
//! # Which address
//!
//! A name may have several addresses of which some lead nowhere. The next one is asked at once where a request cannot be sent
//! or the network says that nobody listens, and when the server is asked once more; the answer to either request counts.
//! The one that answered is the first for the next question.
//!
//! An update must not arrive twice, and one that was sent may have arrived. So where there is a choice of addresses and none
//! has answered yet, a ping finds one that does, and the update goes there and nowhere else.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pyzor_protocol::{MAX_REPLY_BYTES, NewRequest, Operation, Reply, write_request};

use super::{Failure, OK, Question, Response, is_update};
use crate::log::Log;
use crate::session::Server;

/// Threads below this stand for errors.
const FIRST_THREAD: u16 = 1024;

/// Sockets that one server takes at most: the address asked first, and the one asked when it was silent.
pub(crate) const MAX_SOCKETS: usize = 2;

/// Finds an address that answers.
const PING: Question<'_> = Question {
    operation: Operation::Ping,
    digest: None,
};

/// A server that has not answered.
pub(super) struct Pending<'s> {
    pub(super) server: &'s Server,
    /// Where it stands among those that are asked.
    pub(super) position: usize,
    /// When to ask once more, if at all.
    pub(super) retry_at: Option<Instant>,
    request: Request,
    /// Whether the request is a ping that goes before an update.
    is_probe: bool,
    /// Whether the request may be sent a second time.
    is_repeatable: bool,
    /// Addresses that were not tried, the best last.
    untried: Vec<SocketAddr>,
    /// Each connected to an address that was sent the request; none before that.
    sockets: Vec<UdpSocket>,
    was_refused: bool,
}

struct Request {
    thread: u16,
    datagram: Vec<u8>,
}

impl<'s> Pending<'s> {
    pub(super) const fn new(server: &'s Server, position: usize) -> Self {
        Self {
            server,
            position,
            retry_at: None,
            request: Request {
                thread: 0,
                datagram: Vec::new(),
            },
            is_probe: false,
            is_repeatable: false,
            untried: Vec::new(),
            sockets: Vec::new(),
            was_refused: false,
        }
    }

    /// Whether something was sent.
    pub(super) const fn is_asked(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// What becomes readable when there is something to do.
    pub(super) fn awaited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let look_up = if self.is_asked() {
            None
        } else {
            self.server.addresses.is_over()
        };
        self.sockets.iter().map(AsFd::as_fd).chain(look_up)
    }

    /// Sends the first request, if there is an address to send it to. There is no answer yet.
    pub(super) fn ask(
        &mut self,
        question: &Question<'_>,
        retry_at: Option<Instant>,
        log: &Log,
    ) -> Result<Option<Response>, Failure> {
        let Some(found) = self.server.addresses.found() else {
            return Ok(None);
        };
        self.untried = found.map_err(|error| Failure::NoAddress(error.to_string()))?;
        let is_update = is_update(question.operation);
        let has_choice = self.untried.len() > 1 && self.server.addresses.best().is_none();
        self.untried.reverse();
        self.is_probe = is_update && has_choice;
        self.is_repeatable = self.is_probe || !is_update;
        self.retry_at = retry_at.filter(|_| self.is_repeatable);
        let question = if self.is_probe { &PING } else { question };
        self.request = Request::new(self.server, question).map_err(Failure::NotSent)?;
        let socket = self.send_to_next(log).map_err(Failure::NotSent)?;
        self.sockets.push(socket);
        Ok(None)
    }

    /// Asks once more, if it is time: at another address if there is one. The same thread lets a late answer to the first
    /// request be one to the second.
    pub(super) fn retry_if_due(&mut self, now: Instant, log: &Log) {
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        self.retry_at = None;
        log.debug(|| format!("{}: asking again", self.server.name));
        if let Ok(socket) = self.send_to_next(log) {
            self.sockets.push(socket);
        } else if let Some(socket) = self.sockets.last() {
            // A request that could be sent before fails now as if it were lost.
            let _ = socket.send(&self.request.datagram);
        }
    }

    /// The answer, if it is among what has arrived.
    pub(super) fn receive(
        &mut self,
        question: &Question<'_>,
        log: &Log,
    ) -> Result<Option<Response>, Failure> {
        for index in 0..self.sockets.len() {
            let Some(response) = self.receive_from(index, log) else {
                continue;
            };
            let socket = self.sockets.swap_remove(index);
            if let Ok(address) = socket.peer_addr() {
                self.server.addresses.set_best(address);
            }
            if !self.is_probe {
                return Ok(Some(response));
            }
            return self.send_update(socket, question, log);
        }
        Ok(None)
    }

    /// Sends an update where a ping was answered, once.
    fn send_update(
        &mut self,
        socket: UdpSocket,
        question: &Question<'_>,
        log: &Log,
    ) -> Result<Option<Response>, Failure> {
        self.is_probe = false;
        self.is_repeatable = false;
        self.retry_at = None;
        self.request = Request::new(self.server, question).map_err(Failure::NotSent)?;
        log.debug(|| {
            format!(
                "{}: sending as thread {}",
                self.server.name, self.request.thread
            )
        });
        let sent = socket.send(&self.request.datagram);
        sent.map_err(Failure::NotSent)?;
        self.sockets = vec![socket];
        Ok(None)
    }

    /// Why there is no answer when the time is up.
    pub(super) fn given_up(&self) -> Failure {
        if !self.is_asked() {
            Failure::NoAddress("no answer in time".to_owned())
        } else if self.was_refused {
            Failure::NobodyThere
        } else {
            Failure::TimedOut
        }
    }

    /// A socket that is connected to the next address to which the request could be sent; the last error if there is none.
    fn send_to_next(&mut self, log: &Log) -> io::Result<UdpSocket> {
        let mut sent = Err(ErrorKind::NotFound.into());
        while sent.is_err()
            && let Some(address) = self.untried.pop()
        {
            let (name, thread) = (&self.server.name, self.request.thread);
            log.debug(|| format!("{name}: sending to {address} as thread {thread}"));
            sent = send(address, &self.request.datagram);
            if let Err(error) = &sent {
                log.debug(|| format!("{name}: cannot send to {address}: {error}"));
            }
        }
        sent
    }

    /// The same of one socket, to whatever was sent last.
    fn receive_from(&mut self, index: usize, log: &Log) -> Option<Response> {
        let mut datagram = [0; MAX_REPLY_BYTES];
        loop {
            match self.sockets[index].recv(&mut datagram) {
                Ok(length) => match self.read(&datagram[..length]) {
                    Ok(response) => return Some(response),
                    Err(reason) => log.warning(&format!("{}: {reason}; ignored", self.server.name)),
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                // What the network says of the address: nobody listens, or nothing gets there.
                Err(error) => {
                    self.was_refused |= error.kind() == ErrorKind::ConnectionRefused;
                    self.go_on_to_next(index, log);
                    return None;
                }
            }
        }
    }

    /// An address cannot be asked: the next one may do, or else it may just be starting. The time-out says when to give up.
    fn go_on_to_next(&mut self, index: usize, log: &Log) {
        if self.is_repeatable
            && let Ok(socket) = self.send_to_next(log)
        {
            self.sockets[index] = socket;
        }
    }

    fn read(&self, datagram: &[u8]) -> Result<Response, String> {
        let reply = Reply::parse(datagram).map_err(|error| error.to_string())?;
        let is_ours = reply.thread == i64::from(self.request.thread);
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

impl Request {
    fn new(server: &Server, question: &Question<'_>) -> io::Result<Self> {
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
        Ok(Self { thread, datagram })
    }
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
