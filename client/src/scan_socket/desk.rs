//! A peer's way: a seat, its message, the answer. And what all peers share.

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::counters::Counters;
use super::descriptors;
use super::limits::Limits;
use super::listener::{Listener, Stream};
use super::receive::{Received, receive};
use super::scanner::Scanner;
use super::seats::{Peer, Seat, Seats};
use crate::error::Error;
use crate::log::Log;
use crate::session::Session;

/// How long a peer may take to read its answer, which fits into what the kernel keeps for it.
const SEND_TIME: Duration = Duration::from_secs(5);

/// How long to wait when a connection cannot be taken, for lack of memory for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long stopping may take beyond the servers' time-out.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What all peers share.
#[derive(Debug)]
pub(super) struct Desk {
    limits: Limits,
    seats: Rc<Seats>,
    long_seats: Rc<Seats>,
    scanner: Scanner,
    counters: Rc<Counters>,
}

impl Desk {
    /// A desk with seats for as many peers as `limits` say, and for `long_messages` of them.
    pub(super) fn new(limits: Limits, long_messages: NonZeroUsize, session: Session) -> Rc<Self> {
        let counters = Rc::new(Counters::default());
        Rc::new(Self {
            seats: Seats::new(limits.max_connections),
            long_seats: Seats::new(long_messages),
            scanner: Scanner::new(&limits, session, Rc::clone(&counters)),
            limits,
            counters,
        })
    }

    /// Whom it asks and how, now.
    pub(super) fn session(&self) -> Arc<Session> {
        self.scanner.session()
    }

    /// Where it logs, now.
    pub(super) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.session().log)
    }

    /// What became of the peers so far.
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Asks as `session` says from now on.
    ///
    /// # Errors
    /// When it has more servers than there may be descriptors for.
    pub(super) fn replace_session(&self, session: Session) -> Result<(), Error> {
        descriptors::allow(&self.limits, &session)?;
        self.scanner.replace_session(session);
        Ok(())
    }

    /// Asks the same servers, at other addresses.
    pub(super) fn replace_addresses(&self, session: Session) {
        self.scanner.replace_session(session);
    }

    /// Takes peers from one listener for as long as the task runs.
    pub(super) async fn take_peers(self: Rc<Self>, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    let peer = Peer::new();
                    let seat = self.seats.take(&peer).await;
                    spawn_local(Rc::clone(&self).attend(stream, peer, seat));
                }
                Err(error) => {
                    let name = listener.name();
                    self.log()
                        .warning(&format!("cannot take a connection on {name}: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until every peer is done: who sends too slowly has to leave, the others have the servers' time-out for their
    /// answer.
    pub(super) async fn finish(&self) {
        let deadline = Instant::now() + self.scanner.timeout() + STOP_TIME;
        while !self.seats.is_empty() && Instant::now() < deadline {
            let next = self.seats.clear().unwrap_or(deadline);
            let _ = timeout_at(next.min(deadline), self.seats.freed()).await;
        }
    }

    /// One peer, from its first byte to its answer.
    async fn attend(self: Rc<Self>, stream: Stream, peer: Rc<Peer>, _seat: Seat) {
        let received = tokio::select! {
            biased;
            () = peer.sent_away() => return self.counters.sent_away.add_one(),
            received = self.receive(&stream, &peer) => received,
        };
        let Some(received) = received else {
            return;
        };
        peer.has_finished();
        if let Some(answer) = self.answer(received).await {
            self.send(&stream, answer.as_bytes()).await;
        }
    }

    /// What the peer sent, if it did in time.
    async fn receive(&self, stream: &Stream, peer: &Rc<Peer>) -> Option<Received> {
        let max_bytes = self.limits.max_message_bytes;
        let receiving = receive(stream, peer, &self.long_seats, max_bytes);
        match timeout(self.limits.max_receive_time, receiving).await {
            Ok(Ok(received)) => return Some(received),
            Ok(Err(_)) => self.counters.broken.add_one(),
            Err(_) => self.counters.too_slow.add_one(),
        }
        None
    }

    async fn answer(&self, received: Received) -> Option<String> {
        match received {
            Received::Whole(message) => self.scanner.answer(message).await,
            Received::TooLong => {
                let max_bytes = self.limits.max_message_bytes;
                self.log()
                    .warning(&format!("refused a message longer than {max_bytes} bytes"));
                Some(self.scanner.too_long())
            }
        }
    }

    async fn send(&self, stream: &Stream, answer: &[u8]) {
        let sent = timeout(SEND_TIME, stream.write_all(answer)).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.counters.broken.add_one();
        }
    }
}
