//! The protocol's sizes and times, each with its unit.

use crate::digest::Digest;

/// What is read of a datagram, in bytes; the reference cuts longer ones here.
pub const MAX_DATAGRAM_BYTES: usize = 8192;

/// The UDP port Pyzor servers listen on.
pub const DEFAULT_PORT: u16 = 24441;

/// How far a signed request's `Time` may lie from the server's clock, in seconds, before or after.
pub const MAX_CLOCK_SKEW_SECONDS: u32 = 300;

/// The shortest line that carries a digest: no blank after the colon, and a line feed.
const SHORTEST_DIGEST_LINE_BYTES: usize = b"Op-Digest:".len() + Digest::HEX_DIGITS + 1;

/// The most valid digests one datagram can carry; the last of them may lack its line feed.
pub const MAX_DIGESTS: usize = (MAX_DATAGRAM_BYTES + 1) / SHORTEST_DIGEST_LINE_BYTES;

/// Everything in a reply but the echoed thread id: the longest refusal or the six lines of `info`, generously.
const REPLY_WITHOUT_THREAD_BYTES: usize = 512;

/// The largest reply, in bytes: `Thread` is echoed whatever its length.
pub const MAX_REPLY_BYTES: usize = MAX_DATAGRAM_BYTES + REPLY_WITHOUT_THREAD_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Request, Scratch};

    #[test]
    fn no_datagram_carries_more_digests() {
        let line = format!("Op-Digest:{}\n", "a".repeat(Digest::HEX_DIGITS));
        let datagram = line.repeat(MAX_DIGESTS + 1);
        let mut scratch = Scratch::new();
        let request = Request::parse(datagram.as_bytes(), &mut scratch);
        assert_eq!(request.digests().flatten().count(), MAX_DIGESTS);
    }
}
