//! Writes replies.
//!
//! The order is the reference's: `Code`, `Diag`, `PV`, `Thread`, then what the operation adds, then an empty line.
//! Perl clients wait for that line and look for `Thread` on a line of its own that is not the first.

use crate::limits::MAX_REPLY_BYTES;
use crate::status::Refusal;

/// What follows `Thread` in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: `ping`, `report`, `whitelist`, refusals, and requests without a digest.
    Nothing,
    /// `check` and `pong`.
    Counts {
        /// Times reported.
        count: u64,
        /// Times whitelisted.
        wl_count: u64,
    },
    /// `info`; times are seconds since the epoch, 0 when never.
    Info {
        /// First report.
        entered: u64,
        /// Latest report.
        updated: u64,
        /// First whitelisting.
        wl_entered: u64,
        /// Latest whitelisting.
        wl_updated: u64,
        /// Times reported.
        count: u64,
        /// Times whitelisted.
        wl_count: u64,
    },
}

/// Writes a reply to the front of `buffer` and says how many bytes it took.
///
/// `thread` is [`crate::Request::thread`]. `buffer` must have [`MAX_REPLY_BYTES`] for it to be sure of room; what
/// finds none is left out.
pub fn write_reply(
    buffer: &mut [u8],
    status: Result<(), Refusal>,
    thread: &[u8],
    body: &Body,
) -> usize {
    debug_assert!(buffer.len() >= MAX_REPLY_BYTES);
    let mut reply = Writer { buffer, length: 0 };
    match status {
        Ok(()) => reply.put(b"Code: 200\nDiag: OK"),
        Err(refusal) => {
            reply.field(b"Code: ", u64::from(refusal.code()));
            reply.put(b"\nDiag: ");
            reply.put(refusal.diag().as_bytes());
        }
    }
    reply.put(b"\nPV: 2.1\nThread: ");
    reply.put(thread);
    reply.body(body);
    reply.put(b"\n\n");
    reply.length
}

struct Writer<'b> {
    buffer: &'b mut [u8],
    length: usize,
}

impl Writer<'_> {
    fn body(&mut self, body: &Body) {
        match *body {
            Body::Nothing => {}
            Body::Counts { count, wl_count } => self.counts(count, wl_count),
            Body::Info {
                entered,
                updated,
                wl_entered,
                wl_updated,
                count,
                wl_count,
            } => {
                self.field(b"\nEntered: ", entered);
                self.field(b"\nUpdated: ", updated);
                self.field(b"\nWL-Entered: ", wl_entered);
                self.field(b"\nWL-Updated: ", wl_updated);
                self.counts(count, wl_count);
            }
        }
    }

    fn counts(&mut self, count: u64, wl_count: u64) {
        self.field(b"\nCount: ", count);
        self.field(b"\nWL-Count: ", wl_count);
    }

    fn field(&mut self, name: &[u8], value: u64) {
        self.put(name);
        self.put(itoa::Buffer::new().format(value).as_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.buffer.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(status: Result<(), Refusal>, thread: &str, body: &Body) -> String {
        let mut buffer = [0; MAX_REPLY_BYTES];
        let length = write_reply(&mut buffer, status, thread.as_bytes(), body);
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn each_body_has_its_lines_in_the_references_order() {
        assert_eq!(
            written(Ok(()), "2001", &Body::Nothing),
            "Code: 200\nDiag: OK\nPV: 2.1\nThread: 2001\n\n"
        );
        let counts = Body::Counts {
            count: u64::MAX,
            wl_count: 0,
        };
        assert_eq!(
            written(Ok(()), "", &counts),
            "Code: 200\nDiag: OK\nPV: 2.1\nThread: \nCount: 18446744073709551615\nWL-Count: 0\n\n"
        );
        let info = Body::Info {
            entered: 1,
            updated: 2,
            wl_entered: 3,
            wl_updated: 4,
            count: 5,
            wl_count: 6,
        };
        assert_eq!(
            written(Ok(()), "7", &info),
            "Code: 200\nDiag: OK\nPV: 2.1\nThread: 7\nEntered: 1\nUpdated: 2\nWL-Entered: 3\nWL-Updated: 4\nCount: 5\nWL-Count: 6\n\n"
        );
    }

    #[test]
    fn refusals_carry_code_and_diag() {
        assert_eq!(
            written(Err(Refusal::VersionUnsupported), "7", &Body::Nothing),
            "Code: 505\nDiag: Version Not Supported: \nPV: 2.1\nThread: 7\n\n"
        );
        for refusal in Refusal::ALL {
            let reply = written(Err(refusal), "7", &Body::Nothing);
            let head = format!("Code: {}\nDiag: {}\n", refusal.code(), refusal.diag());
            assert!(reply.starts_with(&head), "{reply}");
        }
    }

    #[test]
    fn the_largest_reply_fits() {
        let body = Body::Info {
            entered: u64::MAX,
            updated: u64::MAX,
            wl_entered: u64::MAX,
            wl_updated: u64::MAX,
            count: u64::MAX,
            wl_count: u64::MAX,
        };
        let thread = "7".repeat(crate::MAX_DATAGRAM_BYTES);
        for status in Refusal::ALL.map(Err).into_iter().chain([Ok(())]) {
            let reply = written(status, &thread, &body);
            assert!(reply.ends_with("\nWL-Count: 18446744073709551615\n\n"));
        }
    }
}
