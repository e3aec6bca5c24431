//! Datagrams of requests of which only the facts are known.

use pyzor_protocol::{ANONYMOUS_USER, AccountKey, Digest, NewRequest, Operation, write_request};

/// Ids below are reserved for errors.
const FIRST_THREAD: u16 = 1024;

/// Writes requests as the reference's client does, each with the next `Thread`.
pub(super) struct Rebuilder {
    key: AccountKey,
    thread: u16,
    buffer: Vec<u8>,
}

impl Default for Rebuilder {
    fn default() -> Self {
        Self {
            key: AccountKey::anonymous(),
            thread: FIRST_THREAD,
            buffer: Vec::new(),
        }
    }
}

impl Rebuilder {
    /// A request at `time`, in seconds since the epoch. The signature of a named user, whose key is not known, is
    /// not the right one.
    pub(super) fn datagram(
        &mut self,
        operation: Operation,
        digests: &[Digest],
        user: &[u8],
        time: u64,
    ) -> Box<[u8]> {
        let request = NewRequest {
            operation,
            digests,
            thread: self.thread,
            user,
            key: &self.key,
            time,
        };
        self.thread = self.thread.checked_add(1).unwrap_or(FIRST_THREAD);
        write_request(&mut self.buffer, &request);
        self.buffer.as_slice().into()
    }

    /// The same with digests as somebody wrote them, whatever they are but for line ends; signed as if there were none.
    pub(super) fn verbatim(
        &mut self,
        operation: Operation,
        digests: &[String],
        user: &[u8],
        time: u64,
    ) -> Box<[u8]> {
        let datagram = self.datagram(operation, &[], user, time);
        let first_line = datagram.iter().take_while(|byte| **byte != b'\n').count() + 1;
        let (operation, rest) = datagram.split_at(first_line.min(datagram.len()));
        let digests = digests.iter();
        let digests: Vec<String> = digests
            .map(|digest| format!("Op-Digest: {digest}\n"))
            .collect();
        [operation, digests.concat().as_bytes(), rest]
            .concat()
            .into()
    }

    /// A valid one by the anonymous user, in the first second of the epoch.
    pub(super) fn anonymous(&mut self, operation: Operation, digests: &[Digest]) -> Box<[u8]> {
        self.datagram(operation, digests, ANONYMOUS_USER, 0)
    }
}
