//! Requests, prebuilt but for what differs from one to the next.

use std::time::{SystemTime, UNIX_EPOCH};

use pyzor_protocol::{Digest, Operation};

use crate::mix::HexDigest;

/// The `Thread` of a request, by which its reply is known again: always five digits, so that it can be patched in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread(u16);

impl Thread {
    pub(crate) const FIRST: Self = Self(10_000);
    /// How many there are.
    pub(crate) const COUNT: u16 = u16::MAX - Self::FIRST.0 + 1;
    const DIGITS: usize = 5;

    /// The `number`th, below [`Self::COUNT`].
    pub(crate) fn nth(number: u16) -> Self {
        Self(Self::FIRST.0 + number)
    }

    /// Its place among them, as [`Self::nth`] counts.
    pub(crate) fn number(self) -> u16 {
        self.0 - Self::FIRST.0
    }

    /// Reads a header's value; `None` for what no request of ours could have carried.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let number: u16 = str::from_utf8(text).ok()?.parse().ok()?;
        (number >= Self::FIRST.0).then_some(Self(number))
    }

    /// As it stands in a request.
    pub(crate) fn digits(self) -> [u8; Self::DIGITS] {
        let mut digits = [0; Self::DIGITS];
        self.write(&mut digits);
        digits
    }

    fn write(self, digits: &mut [u8]) {
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

/// A request of one operation as the reference's Python client writes it, with gaps for `Thread` and the digests.
///
/// It comes from the anonymous user, whose time and signature no server checks.
#[derive(Debug)]
pub(crate) struct Template {
    text: Vec<u8>,
    digests: usize,
    digests_at: usize,
    thread_at: usize,
}

const DIGEST_NAME: &[u8] = b"Op-Digest: ";
/// From one digest line to the next.
const DIGEST_LINE_BYTES: usize = DIGEST_NAME.len() + Digest::HEX_DIGITS + 1;

impl Template {
    pub(crate) fn new(operation: Operation, digests: usize) -> Self {
        let mut text = format!("Op: {}\n", operation.name()).into_bytes();
        let digests_at = text.len();
        for _ in 0..digests {
            text.extend(DIGEST_NAME);
            text.extend([b'0'; Digest::HEX_DIGITS]);
            text.push(b'\n');
        }
        if matches!(operation, Operation::Report | Operation::Whitelist) {
            text.extend(b"Op-Spec: 20,3,60,3\n");
        }
        text.extend(b"Thread: ");
        let thread_at = text.len();
        text.extend([b'0'; Thread::DIGITS]);
        text.extend(b"\nPV: 2.1\nUser: anonymous\n");
        text.extend(format!("Time: {}\n", epoch_seconds()).into_bytes());
        text.extend(b"Sig: ");
        text.extend([b'0'; Digest::HEX_DIGITS]);
        text.extend(b"\n\n");
        Self {
            text,
            digests,
            digests_at,
            thread_at,
        }
    }

    /// Length of each request, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Writes a request into `datagram`, which must be long enough; its length.
    pub(crate) fn write(
        &self,
        datagram: &mut [u8],
        thread: Thread,
        mut digest: impl FnMut() -> HexDigest,
    ) -> usize {
        let datagram = &mut datagram[..self.text.len()];
        datagram.copy_from_slice(&self.text);
        thread.write(&mut datagram[self.thread_at..][..Thread::DIGITS]);
        let lines = &mut datagram[self.digests_at..self.thread_at];
        for line in lines.chunks_exact_mut(DIGEST_LINE_BYTES).take(self.digests) {
            line[DIGEST_NAME.len()..][..Digest::HEX_DIGITS].copy_from_slice(&digest());
        }
        self.text.len()
    }
}

fn epoch_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(template: &Template, thread: Thread, digests: &[HexDigest]) -> String {
        let mut datagram = vec![b'?'; template.bytes() + 10];
        let mut digests = digests.iter();
        let length = template.write(&mut datagram, thread, || *digests.next().unwrap());
        assert!(digests.next().is_none(), "a digest was left over");
        assert!(datagram[length..].iter().all(|&byte| byte == b'?'));
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    }

    fn tail(template: &Template) -> String {
        let text = String::from_utf8(template.text.clone()).unwrap();
        let time = text.split("Time: ").nth(1).unwrap();
        let time = time.lines().next().unwrap();
        let sig = "0".repeat(40);
        format!("PV: 2.1\nUser: anonymous\nTime: {time}\nSig: {sig}\n\n")
    }

    #[test]
    fn a_check_reads_as_the_python_client_writes_it() {
        let template = Template::new(Operation::Check, 1);
        let text = written(&template, Thread(12_345), &[[b'a'; 40]]);
        let digest = "a".repeat(40);
        let expected = format!(
            "Op: check\nOp-Digest: {digest}\nThread: 12345\n{}",
            tail(&template)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_report_carries_every_digest_and_the_spec() {
        let template = Template::new(Operation::Report, 2);
        let text = written(&template, Thread(65_535), &[[b'a'; 40], [b'b'; 40]]);
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let expected = format!(
            "Op: report\nOp-Digest: {a}\nOp-Digest: {b}\nOp-Spec: 20,3,60,3\nThread: 65535\n{}",
            tail(&template)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_ping_has_no_digest() {
        let template = Template::new(Operation::Ping, 0);
        let text = written(&template, Thread::FIRST, &[]);
        assert_eq!(
            text,
            format!("Op: ping\nThread: 10000\n{}", tail(&template))
        );
    }

    #[test]
    fn the_servers_own_parser_reads_what_is_written() {
        let template = Template::new(Operation::Report, 3);
        let text = written(&template, Thread::nth(77), &[[b'c'; 40]; 3]);
        let mut scratch = pyzor_protocol::Scratch::new();
        let request = pyzor_protocol::Request::parse(text.as_bytes(), &mut scratch);
        assert_eq!(request.operation(), Some(Operation::Report));
        assert_eq!(request.thread(), b"10077");
        assert_eq!(request.digests().flatten().count(), 3);
        assert_eq!(request.check_version(), Ok(()));
    }

    #[test]
    fn threads_are_numbered_to_the_last() {
        let last = Thread::nth(Thread::COUNT - 1);
        assert_eq!(last, Thread(u16::MAX));
        assert_eq!(last.number(), Thread::COUNT - 1);
        assert_eq!(Thread::read(b"65535"), Some(last));
        for foreign in [&b"9999"[..], b"65536", b"x", b"", b"-1"] {
            assert_eq!(Thread::read(foreign), None);
        }
    }
}
