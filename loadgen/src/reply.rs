//! What a reply says, as far as a load generator cares.

use crate::request::Thread;

/// One reply. Anything may be missing: replies of the echo have no code, and foreign datagrams nothing at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) thread: Option<Thread>,
    pub(crate) code: Option<u16>,
    /// A `Count` above 0: the digest was known.
    pub(crate) found: bool,
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

    fn read_line(&mut self, line: &[u8]) {
        if let Some(value) = line.strip_prefix(b"Thread: ") {
            self.thread = Thread::read(value);
        } else if let Some(value) = line.strip_prefix(b"Code: ") {
            self.code = str::from_utf8(value)
                .ok()
                .and_then(|code| code.parse().ok());
        } else if let Some(value) = line.strip_prefix(b"Count: ") {
            self.found = value != b"0";
        }
    }
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
            found: true,
        };
        assert_eq!(Reply::read(reply), expected);
    }

    #[test]
    fn a_count_of_nought_is_not_found() {
        let reply = Reply::read(b"Code: 200\nThread: 12345\nCount: 0\nWL-Count: 3\n\n");
        assert!(!reply.found);
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
