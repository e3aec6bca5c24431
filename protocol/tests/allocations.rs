//! Nothing between a datagram and its reply allocates, whatever the layout.

use allocation_counter::measure;
use pyzor_protocol::{
    AccountKey, Accounts, Body, MAX_REPLY_BYTES, NewRequest, Operation, Refusal, Request, Scratch,
    write_reply, write_request,
};

const NOW: u64 = 1_700_000_000;

fn answer(
    datagram: &[u8],
    accounts: &Accounts,
    scratch: &mut Scratch,
    reply: &mut [u8],
) -> Result<(), Refusal> {
    let request = Request::parse(datagram, scratch);
    let key = accounts.get(b"bob").ok_or(Refusal::UnknownUser)?;
    let status = request
        .verify_signature(key, NOW)
        .and_then(|()| request.check_version());
    let body = Body::Counts {
        count: request.digests().count() as u64,
        wl_count: u64::MAX,
    };
    write_reply(reply, status, request.thread(), &body);
    status
}

fn signed_report() -> Vec<u8> {
    let mut datagram = Vec::new();
    let request = NewRequest {
        operation: Operation::Report,
        digests: &[pyzor_protocol::Digest::from_bytes([7; 20]); 10],
        thread: 2000,
        user: b"bob",
        key: &AccountKey::new(b"bob", b"secret"),
        time: NOW,
    };
    write_request(&mut datagram, &request);
    datagram
}

#[test]
fn requests_are_answered_without_allocating() {
    let (accounts, _) = Accounts::parse(b"bob : secret");
    let mut scratch = Scratch::new();
    let mut reply = [0; MAX_REPLY_BYTES];
    let canonical = signed_report();
    let text = String::from_utf8_lossy(&canonical).into_owned();
    let crlf = text.replace('\n', "\r\n");
    let refolded = text
        .replace("PV: 2.1", "PV: 2.1_0")
        .replace("Thread: ", "Thread: 1\n ");
    for (datagram, expected) in [
        (&canonical[..], Ok(())),
        (crlf.as_bytes(), Ok(())),
        (refolded.as_bytes(), Err(Refusal::BadSignature)),
        (b"", Err(Refusal::BadTime)),
        (&[b'a', b':', b'\n'].repeat(3000), Err(Refusal::BadTime)),
    ] {
        let mut status = Ok(());
        let allocated = measure(|| {
            status = answer(datagram, &accounts, &mut scratch, &mut reply);
        });
        assert_eq!(status, expected);
        assert_eq!(
            allocated.count_total,
            0,
            "{}",
            String::from_utf8_lossy(datagram)
        );
    }
}

/// The counter itself counts.
#[test]
fn allocations_are_seen() {
    assert!(measure(|| drop(signed_report())).count_total > 0);
}

#[test]
fn writing_requests_into_the_same_vector_does_not_allocate() {
    let key = AccountKey::anonymous();
    let mut datagram = signed_report();
    let request = NewRequest {
        operation: Operation::Check,
        digests: &[] as &[pyzor_protocol::Digest],
        thread: 2000,
        user: pyzor_protocol::ANONYMOUS_USER,
        key: &key,
        time: NOW,
    };
    let allocated = measure(|| write_request(&mut datagram, &request));
    assert_eq!(allocated.count_total, 0);
}
