//! Writes requests, as the reference's client does.

use crate::account::AccountKey;
use crate::digest::Digest;
use crate::digest_text::OpDigest;
use crate::operation::Operation;
use crate::signature::sign;

/// Which lines of a message its digest was made from; servers ignore it.
const OP_SPEC: &[u8] = b"20,3,60,3";

/// What a client asks, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct NewRequest<'a, D = Digest> {
    /// What to do.
    pub operation: Operation,
    /// With what: at most one for `check` and `info`, usually 10 and at most [`crate::MAX_DIGESTS`] for `report`
    /// and `whitelist`.
    pub digests: &'a [D],
    /// Tells replies apart. Ids below 1024 are reserved for errors.
    pub thread: u16,
    /// The account's name, or [`crate::ANONYMOUS_USER`].
    pub user: &'a [u8],
    /// The account's key, or [`AccountKey::anonymous`].
    pub key: &'a AccountKey,
    /// Now, in seconds since the epoch.
    pub time: u64,
}

/// Replaces what is in `datagram` by the signed request. Its room is kept, so that writing into the same vector
/// again does not allocate.
pub fn write_request<D: OpDigest>(datagram: &mut Vec<u8>, request: &NewRequest<'_, D>) {
    datagram.clear();
    put(datagram, b"Op", request.operation.name().as_bytes());
    for digest in request.digests {
        put(datagram, b"Op-Digest", digest.text().as_ref());
    }
    if matches!(request.operation, Operation::Report | Operation::Whitelist) {
        put(datagram, b"Op-Spec", OP_SPEC);
    }
    put_number(datagram, b"Thread", u64::from(request.thread));
    put(datagram, b"PV", b"2.1");
    put(datagram, b"User", request.user);
    put_number(datagram, b"Time", request.time);
    let sig = sign(datagram.trim_ascii_end(), request.time, request.key);
    put(datagram, b"Sig", &sig);
    datagram.push(b'\n');
}

fn put(datagram: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for piece in [name, b": ", value, b"\n"] {
        datagram.extend_from_slice(piece);
    }
}

fn put_number(datagram: &mut Vec<u8>, name: &[u8], value: u64) {
    put(datagram, name, itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;
    use crate::request::{ANONYMOUS_USER, Request, Scratch, User};

    const DIGEST: Digest = Digest::from_bytes([0xaa; Digest::BYTES]);

    /// A datagram of the reference's client.
    #[test]
    fn requests_are_what_the_references_client_sends() {
        let mut datagram = Vec::new();
        let request = NewRequest {
            operation: Operation::Check,
            digests: &[DIGEST],
            thread: 10942,
            user: ANONYMOUS_USER,
            key: &AccountKey::anonymous(),
            time: 1_795_262_348,
        };
        write_request(&mut datagram, &request);
        assert_eq!(
            String::from_utf8_lossy(&datagram),
            "Op: check\nOp-Digest: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nThread: 10942\nPV: 2.1\n\
             User: anonymous\nTime: 1795262348\nSig: 63a6a07dcda6a38394728534819c6f5371553a13\n\n"
        );
    }

    #[test]
    fn what_is_written_can_be_read_and_verified() {
        let key = AccountKey::new(b"bob", b"secret");
        let mut datagram = b"left over".to_vec();
        let mut scratch = Scratch::new();
        for operation in Operation::ALL {
            let request = NewRequest {
                operation,
                digests: &[DIGEST, DIGEST],
                thread: 1024,
                user: b"bob",
                key: &key,
                time: 1000,
            };
            write_request(&mut datagram, &request);
            assert!(canonical::read(&datagram).is_some());
            let read = Request::parse(&datagram, &mut scratch);
            assert_eq!(read.operation(), Some(operation));
            assert_eq!(read.thread(), b"1024");
            assert_eq!(read.user(), User::Named(b"bob"));
            assert_eq!(read.digests().filter_map(Result::ok).count(), 2);
            assert_eq!(read.check_version(), Ok(()));
            assert_eq!(read.verify_signature(&key, 1000), Ok(()));
        }
    }
}
