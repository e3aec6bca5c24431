//! Every question one can ask of a request, and of a reply as a client reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::NOW;
use pyzor_protocol::{
    AccountKey, MAX_DATAGRAM_BYTES, MAX_DIGESTS, Operation, Reply, Request, Scratch,
};

fuzz_target!(|datagram: &[u8]| {
    let _ = Reply::parse(datagram);
    let mut scratch = Scratch::new();
    let request = Request::parse(datagram, &mut scratch);
    let digests: Vec<_> = request.digests().collect();
    assert_eq!(request.first_digest(), digests.first().copied());
    assert!(digests.iter().filter(|digest| digest.is_ok()).count() <= MAX_DIGESTS);
    assert_eq!(request.operation(), Operation::from_name(request.op()));
    let thread = request.thread();
    assert!(thread.len() <= MAX_DATAGRAM_BYTES);
    // A line of its own in the echo could pass for a header.
    for line in thread.split(|byte| *byte == b'\n').skip(1) {
        assert!(matches!(line.first(), Some(b' ' | b'\t')), "{thread:?}");
    }
    let _ = (request.user(), request.is_reply(), request.check_version());
    let key = AccountKey::new(b"bob", b"secret");
    let _ = request.verify_signature(&key, NOW.into());
});
