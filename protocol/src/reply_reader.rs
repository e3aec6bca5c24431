//! Reads replies, for clients.

use crate::message::{Headers, Message};
use crate::numbers;

/// A server's reply. Numbers are as sent, so they may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'d> {
    /// The status, 200 when all went well.
    pub code: i64,
    /// The status in words.
    pub diag: &'d [u8],
    /// The request's id; below 1024 when the server could not read the request.
    pub thread: i64,
    /// What it says about the digest.
    pub numbers: ReplyNumbers,
}

/// What a reply says about a digest, as far as it does. Times are in seconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyNumbers {
    /// Times reported.
    pub count: Option<i64>,
    /// Times whitelisted.
    pub wl_count: Option<i64>,
    /// First report.
    pub entered: Option<i64>,
    /// Latest report.
    pub updated: Option<i64>,
    /// First whitelisting.
    pub wl_entered: Option<i64>,
    /// Latest whitelisting.
    pub wl_updated: Option<i64>,
}

/// Why a datagram is no reply; each names the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReply {
    /// Every reply has this header.
    #[error("the reply has no {0}")]
    Missing(&'static str),
    /// This header must be an integer.
    #[error("{0} in the reply is no number")]
    NotANumber(&'static str),
}

impl<'d> Reply<'d> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`InvalidReply`] if a header that every reply has is missing (`Code`, `Diag`, `PV`, `Thread`), or a number
    /// is none.
    pub fn parse(datagram: &'d [u8]) -> Result<Self, InvalidReply> {
        let headers = Message::split(datagram).headers();
        required(&headers, "PV")?;
        let number = |name| number(&headers, name);
        let required_number = |name| number(name)?.ok_or(InvalidReply::Missing(name));
        Ok(Self {
            code: required_number("Code")?,
            diag: required(&headers, "Diag")?,
            thread: required_number("Thread")?,
            numbers: ReplyNumbers {
                count: number("Count")?,
                wl_count: number("WL-Count")?,
                entered: number("Entered")?,
                updated: number("Updated")?,
                wl_entered: number("WL-Entered")?,
                wl_updated: number("WL-Updated")?,
            },
        })
    }
}

fn required<'d>(headers: &Headers<'d>, name: &'static str) -> Result<&'d [u8], InvalidReply> {
    value(headers, name).ok_or(InvalidReply::Missing(name))
}

fn number(headers: &Headers<'_>, name: &'static str) -> Result<Option<i64>, InvalidReply> {
    let read = |text| numbers::integer(text).ok_or(InvalidReply::NotANumber(name));
    value(headers, name).map(read).transpose()
}

/// Trimmed, so that a reply with CRLF line ends reads the same.
fn value<'d>(headers: &Headers<'d>, name: &str) -> Option<&'d [u8]> {
    headers
        .clone()
        .find(|header| header.is(name.as_bytes()))
        .map(|header| header.value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_REPLY_BYTES;
    use crate::reply::{Body, write_reply};
    use crate::status::Refusal;

    #[test]
    fn what_is_written_can_be_read() {
        let mut buffer = [0; MAX_REPLY_BYTES];
        let body = Body::Info {
            entered: 1,
            updated: 2,
            wl_entered: 3,
            wl_updated: 4,
            count: 5,
            wl_count: 6,
        };
        let length = write_reply(&mut buffer, Ok(()), b"2000", &body);
        assert_eq!(
            Reply::parse(&buffer[..length]),
            Ok(Reply {
                code: 200,
                diag: b"OK",
                thread: 2000,
                numbers: ReplyNumbers {
                    count: Some(5),
                    wl_count: Some(6),
                    entered: Some(1),
                    updated: Some(2),
                    wl_entered: Some(3),
                    wl_updated: Some(4),
                },
            })
        );
    }

    #[test]
    fn refusals_have_no_counts() {
        let mut buffer = [0; MAX_REPLY_BYTES];
        let length = write_reply(&mut buffer, Err(Refusal::Forbidden), b"7", &Body::Nothing);
        let reply = Reply::parse(&buffer[..length]);
        let read = reply.map(|reply| (reply.code, reply.diag, reply.numbers));
        assert_eq!(
            read,
            Ok((
                403,
                Refusal::Forbidden.diag().as_bytes(),
                ReplyNumbers::default()
            ))
        );
    }

    #[test]
    fn case_and_line_ends_do_not_matter() {
        let reply =
            Reply::parse(b"code:200\r\nDIAG: OK\r\npv: 2.1\r\nthread: 5\r\ncount: -1\r\n\r\n");
        let read = reply.map(|reply| (reply.code, reply.diag, reply.thread, reply.numbers.count));
        assert_eq!(read, Ok((200, &b"OK"[..], 5, Some(-1))));
    }

    #[test]
    fn what_is_no_reply_says_why() {
        for (datagram, error) in [
            ("", InvalidReply::Missing("PV")),
            (
                "PV: 2.1\nDiag: OK\nThread: 5\n\n",
                InvalidReply::Missing("Code"),
            ),
            (
                "PV: 2.1\nCode: 200\nThread: 5\n\n",
                InvalidReply::Missing("Diag"),
            ),
            (
                "PV: 2.1\nCode: 200\nDiag: OK\n\nThread: 5\n",
                InvalidReply::Missing("Thread"),
            ),
            (
                "PV: 2.1\nCode: x\nDiag: OK\nThread: 5\n",
                InvalidReply::NotANumber("Code"),
            ),
            (
                "PV: 2.1\nCode: 200\nDiag: OK\nThread: 5\nCount: 1.5\n",
                InvalidReply::NotANumber("Count"),
            ),
        ] {
            assert_eq!(
                Reply::parse(datagram.as_bytes()),
                Err(error),
                "{datagram:?}"
            );
        }
    }
}
