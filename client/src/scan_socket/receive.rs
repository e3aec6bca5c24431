//! A message from a peer: everything until it shuts its side, up to the limit.
//!
//! Nothing is allocated before the first byte, and a message that grows out of its connection's share waits for a seat of
//! the long ones, unread, so that the sender waits too. What is too long is read to its end and dropped: a peer that is
//! still sending would not see an answer.

use std::io;
use std::rc::Rc;

use super::limits::SHORT_MESSAGE_BYTES;
use super::listener::Stream;
use super::seats::{Peer, Seat, Seats};

/// Bytes taken from a socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// Reads from one peer before others get their turn.
const READS_PER_TURN: usize = 16;

/// A message, and the seat it needs if it is long.
#[derive(Debug)]
pub(super) struct Message {
    /// As it was sent.
    pub(super) bytes: Vec<u8>,
    /// Held for as long as `bytes` are.
    pub(super) long_seat: Option<Seat>,
}

/// What a peer sent.
#[derive(Debug)]
pub(super) enum Received {
    /// A whole message.
    Whole(Message),
    /// More than the limit.
    TooLong,
}

/// Takes a message from `stream`, up to `max_bytes`.
///
/// # Errors
/// What the system says of a connection that broke.
pub(super) async fn receive(
    stream: &Stream,
    peer: &Rc<Peer>,
    long_seats: &Rc<Seats>,
    max_bytes: usize,
) -> io::Result<Received> {
    let mut message = Message {
        bytes: Vec::new(),
        long_seat: None,
    };
    let short_bytes = SHORT_MESSAGE_BYTES.min(max_bytes);
    let mut taken = take_up_to(stream, peer, &mut message.bytes, short_bytes).await?;
    if taken == Taken::OverLimit && short_bytes < max_bytes {
        message.long_seat = Some(long_seats.take(peer).await);
        taken = take_up_to(stream, peer, &mut message.bytes, max_bytes).await?;
    }
    if taken == Taken::All {
        return Ok(Received::Whole(message));
    }
    drop(message);
    drop_rest(stream).await?;
    Ok(Received::TooLong)
}

/// How far a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// To its end.
    All,
    /// To the limit and one byte further.
    OverLimit,
}

/// Appends to `bytes` until the peer has shut its side, or `limit` is exceeded by one byte.
async fn take_up_to(
    stream: &Stream,
    peer: &Peer,
    bytes: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Taken> {
    while bytes.len() <= limit {
        stream.readable().await?;
        let length_before = bytes.len();
        if append_arrived(stream, bytes, limit)? {
            return Ok(Taken::All);
        }
        peer.has_sent(bytes.len() - length_before);
        tokio::task::yield_now().await;
    }
    Ok(Taken::OverLimit)
}

/// Appends what has arrived, at most one turn's worth; whether the peer has shut its side.
fn append_arrived(stream: &Stream, bytes: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES];
    for _ in 0..READS_PER_TURN {
        let room = (limit + 1).saturating_sub(bytes.len()).min(READ_BYTES);
        if room == 0 {
            return Ok(false);
        }
        match read_arrived(stream, &mut buffer[..room])? {
            Some(0) => return Ok(true),
            Some(length) => append(bytes, &buffer[..length], limit + 1),
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// Appends `arrived` to `bytes`, which double their memory as they grow but never take more than `max_capacity`.
fn append(bytes: &mut Vec<u8>, arrived: &[u8], max_capacity: usize) {
    let needed = bytes.len() + arrived.len();
    if needed > bytes.capacity() {
        let capacity = (2 * bytes.capacity()).clamp(needed, max_capacity.max(needed));
        bytes.reserve_exact(capacity - bytes.len());
    }
    bytes.extend_from_slice(arrived);
}

async fn drop_rest(stream: &Stream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        if drop_arrived(stream)? {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Drops what has arrived, at most one turn's worth; whether the peer has shut its side.
fn drop_arrived(stream: &Stream) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES];
    for _ in 0..READS_PER_TURN {
        match read_arrived(stream, &mut buffer)? {
            Some(0) => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// The bytes read, 0 at the end; nothing where nothing has arrived.
fn read_arrived(stream: &Stream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.try_read(buffer) {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_doubles_up_to_the_limit_and_no_further() {
        let mut bytes = Vec::new();
        let mut capacities = Vec::new();
        for _ in 0..10 {
            append(&mut bytes, &[b'x'; 100], 1000);
            capacities.push(bytes.capacity());
        }
        assert_eq!(
            capacities,
            [100, 200, 400, 400, 800, 800, 800, 800, 1000, 1000]
        );
        assert_eq!(bytes, [b'x'; 1000]);
    }
}
