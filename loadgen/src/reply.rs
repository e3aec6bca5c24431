//! What a reply says, as far as a load generator cares.

use std::str::FromStr;

use crate::answers::DigestCounts;
use crate::request::Thread;

/// One reply. Anything may be missing: replies of the echo have no code, and foreign datagrams nothing at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) thread: Option<Thread>,
    pub(crate) code: Option<u16>,
    /// How often the digest was reported.
    pub(crate) count: Option<u64>,
    /// How often it was whitelisted.
    pub(crate) whitelisted: Option<u64>,
}

impl Reply {
    /// Reads header lines in any order, up to the first empty one.
    pub(crate) fn read(datagram: &[u8]) -> Self {
        let mut reply = Self::default();
        for line in datagram.split(|&byte| byte == b'\n') {
            if line.is_empty() {
                break;
            }
            reply.read_line(line);
        }
        reply
    }

    /// Whether the digest was known.
    pub(crate) fn found(&self) -> bool {
        self.count.is_some_and(|count| count > 0)
    }

    /// What a reply without complaint says of a digest; `None` if it does not.
    pub(crate) fn counts(&self) -> Option<DigestCounts> {
        const DONE: u16 = 200;
        let (count, whitelisted) = self.count.zip(self.whitelisted)?;
        (self.code == Some(DONE)).then_some(DigestCounts { count, whitelisted })
    }

    fn read_line(&mut self, line: &[u8]) {
        if let Some(value) = line.strip_prefix(b"Thread: ") {
            self.thread = Thread::read(value);
        } else if let Some(value) = line.strip_prefix(b"Code: ") {
            self.code = number(value);
        } else if let Some(value) = line.strip_prefix(b"Count: ") {
            self.count = number(value);
        } else if let Some(value) = line.strip_prefix(b"WL-Count: ") {
            self.whitelisted = number(value);
        }
    }
}

fn number<N: FromStr>(digits: &[u8]) -> Option<N> {
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use pyzor_protocol::Operation;

    use super::*;
    use crate::request::Template;

    #[test]
    fn a_check_reply_is_read() {
        let reply = b"Code: 200\nDiag: OK\nPV: 2.1\nThread: 12345\nCount: 7\nWL-Count: 0\n\n";
        let expected = Reply {
            thread: Some(Thread::nth(2_345)),
            code: Some(200),
            count: Some(7),
            whitelisted: Some(0),
        };
        assert_eq!(Reply::read(reply), expected);
    }

    #[test]
    fn a_count_of_nought_is_not_found() {
        let reply = Reply::read(b"Code: 200\nThread: 12345\nCount: 0\nWL-Count: 3\n\n");
        assert!(!reply.found());
        let counts = DigestCounts {
            count: 0,
            whitelisted: 3,
        };
        assert_eq!(reply.counts(), Some(counts));
        let refusal = Reply::read(b"Code: 503\nThread: 12345\nCount: 0\nWL-Count: 3\n\n");
        assert_eq!(refusal.counts(), None);
    }

    #[test]
    fn an_echoed_request_has_a_thread_and_no_code() {
        let check = Template::new(Operation::Check, 1);
        let mut datagram = [0; 200];
        check.write(&mut datagram, Thread::nth(5), || [b'f'; 40]);
        let reply = Reply::read(&datagram[..84]);
        assert_eq!(reply.thread, Some(Thread::nth(5)));
        assert_eq!(reply.code, None);
    }

    #[test]
    fn nothing_past_the_empty_line_counts() {
        assert_eq!(
            Reply::read(b"\nCode: 200\nThread: 12345\n"),
            Reply::default()
        );
        assert_eq!(Reply::read(b"Code: x\nThread: 1\n\n"), Reply::default());
    }
}
