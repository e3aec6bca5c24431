//! What the feed has made ready for one sender, in the order of its times.

use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::feed::{Chunk, Prepared};

/// One sender's requests.
pub(super) struct Queue {
    chunks: Receiver<Chunk>,
    current: Chunk,
    next: usize,
    /// Sockets of the chunks so far that nobody has taken.
    opened: Vec<UdpSocket>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(chunks: Receiver<Chunk>) -> Self {
        Self {
            chunks,
            current: Chunk::default(),
            next: 0,
            opened: Vec::new(),
            is_closed: false,
        }
    }

    /// The next request, if it is due at `now_ns`.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Prepared> {
        if self.next == self.current.requests.len() {
            self.refill();
        }
        let next = self.current.requests.get(self.next).copied();
        next.filter(|request| request.intended_ns <= now_ns)
    }

    /// When the next request is due; `None` if none is ready.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let next = self.current.requests.get(self.next)?;
        Some(next.intended_ns)
    }

    /// Its bytes; to be asked for before [`Self::advance`].
    pub(super) fn datagram(&self, request: &Prepared) -> &[u8] {
        &self.current.bytes[request.start as usize..][..request.length as usize]
    }

    /// Goes on to the request after it.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Sockets that were opened for the chunks so far, each once, in the order of their numbers.
    pub(super) fn take_opened(&mut self) -> Vec<UdpSocket> {
        std::mem::take(&mut self.opened)
    }

    /// Nothing is left and nothing will come.
    pub(super) fn has_ended(&self) -> bool {
        self.is_closed && self.next == self.current.requests.len()
    }

    fn refill(&mut self) {
        match self.chunks.try_recv() {
            Ok(mut chunk) => {
                self.opened.append(&mut chunk.opened);
                self.current = chunk;
                self.next = 0;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => self.is_closed = true,
        }
    }
}
