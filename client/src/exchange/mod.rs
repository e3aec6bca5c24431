//! One question to several servers at once: what is sent, what counts as the answer, and until when.
//!
//! | file | job |
//! | --- | --- |
//! | `pending` | one server: its addresses, its sockets, and what counts as its answer |
//!
//! Looking up names counts into the time-out, and so does everything else. A server whose name is still being looked up is
//! asked as soon as its address is known, however far the others are.

mod pending;

use std::io;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pyzor_protocol::{DigestText, Operation, Reply, ReplyNumbers};

use crate::log::Log;
use crate::session::{Patience, Server};

use pending::Pending;

pub(crate) use pending::MAX_SOCKETS;

/// The part of the time that is left for a server after which, if silent, it is asked once more.
const RETRY_FRACTION: u32 = 3;

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
    let mut exchange = Exchange {
        question: *question,
        retry: patience.retry,
        deadline: Instant::now() + patience.timeout,
        pending: Vec::with_capacity(servers.len()),
        answers: Vec::with_capacity(servers.len()),
        log,
    };
    for (position, server) in servers.iter().enumerate() {
        exchange.go_on(Pending::new(server, position));
    }
    let waited = exchange.receive();
    exchange.finish(&waited)
}

/// Whether asking twice does more than asking once.
pub(crate) const fn is_update(operation: Operation) -> bool {
    matches!(operation, Operation::Report | Operation::Whitelist)
}

/// The servers that have not answered, and the answers.
struct Exchange<'s, 'q> {
    question: Question<'q>,
    /// Whether a silent server is asked once more.
    retry: bool,
    deadline: Instant,
    pending: Vec<Pending<'s>>,
    answers: Vec<Answer<'s>>,
    log: &'q Log,
}

impl<'s> Exchange<'s, '_> {
    /// Takes answers until every server has given one, or the time is up.
    fn receive(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let now = Instant::now();
            wait(
                &self.pending,
                self.next_event().saturating_duration_since(now),
            )?;
            for pending in std::mem::take(&mut self.pending) {
                self.go_on(pending);
            }
            // Not before: what came while this process had to wait for a core is there.
            if now >= self.deadline {
                break;
            }
            for pending in &mut self.pending {
                pending.retry_if_due(now, self.log);
            }
        }
        Ok(())
    }

    /// When to stop waiting for datagrams, and ask again or give up.
    fn next_event(&self) -> Instant {
        let retries = self.pending.iter().filter_map(|pending| pending.retry_at);
        retries.min().unwrap_or(self.deadline).min(self.deadline)
    }

    /// Does for a server what can be done now.
    fn go_on(&mut self, mut pending: Pending<'s>) {
        let progress = if pending.is_asked() {
            pending.receive(&self.question, self.log)
        } else {
            let now = Instant::now();
            let retry_in = self.deadline.saturating_duration_since(now) / RETRY_FRACTION;
            let retry_at = self.retry.then_some(now + retry_in);
            pending.ask(&self.question, retry_at, self.log)
        };
        match progress {
            Ok(None) => self.pending.push(pending),
            Ok(Some(response)) => self.answer(&pending, Ok(response)),
            Err(failure) => self.answer(&pending, Err(failure)),
        }
    }

    fn finish(mut self, waited: &io::Result<()>) -> Vec<Answer<'s>> {
        for pending in std::mem::take(&mut self.pending) {
            let failure = match waited {
                Err(error) => Failure::CannotWait(error.to_string()),
                Ok(()) => pending.given_up(),
            };
            self.answer(&pending, Err(failure));
        }
        self.answers
    }

    fn answer(&mut self, pending: &Pending<'s>, outcome: Result<Response, Failure>) {
        let Pending {
            server, position, ..
        } = *pending;
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

impl From<&Reply<'_>> for Response {
    fn from(reply: &Reply<'_>) -> Self {
        Self {
            code: reply.code,
            diag: reply.diag.to_vec(),
            numbers: reply.numbers,
        }
    }
}

/// Returns when one of the servers has something, or after `limit`.
fn wait(pending: &[Pending<'_>], limit: Duration) -> io::Result<()> {
    let mut awaited: Vec<PollFd<'_>> = pending
        .iter()
        .flat_map(Pending::awaited)
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
        .collect();
    // Rounded up, or else the last millisecond would be spent asking again and again.
    let limit = limit + Duration::from_millis(1);
    match poll(
        &mut awaited,
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
    ) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
