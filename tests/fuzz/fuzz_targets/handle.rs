//! The whole way of a datagram to its reply. Whatever comes, there is an answer or a reason for silence, the answer has
//! the form that clients read, a refused request changes nothing, and no answer is answered in turn.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::{MemoryEngine, NOW, both_accesses};
use pyzor_protocol::{MAX_REPLY_BYTES, Reply, Scratch};
use pyzord::access_files::Access;
use pyzord::request::{Context, Outcome, Ports, Silence, handle};

static ACCESSES: LazyLock<[Access; 2]> = LazyLock::new(both_accesses);
static ENGINE: LazyLock<MemoryEngine> = LazyLock::new(MemoryEngine::default);

const PORTS: Ports = Ports {
    peer: 40_000,
    local: 24_441,
};

fn answer(access: &Access, datagram: &[u8], reply: &mut [u8; MAX_REPLY_BYTES]) -> Outcome {
    let context = Context {
        access,
        engine: &*ENGINE,
        now: NOW,
        may_wait: true,
    };
    let mut scratch = Scratch::new();
    handle(context, PORTS, datagram, &mut scratch, reply).outcome
}

fn check_reply(access: &Access, reply: &[u8]) {
    assert!(reply.starts_with(b"Code: "));
    assert!(reply.ends_with(b"\n\n"));
    let found = |needle: &[u8]| reply.windows(needle.len()).any(|part| part == needle);
    assert!(found(b"\nPV: 2.1\nThread: "));
    // A Thread that is no number is echoed all the same; then clients do not know the reply.
    if let Ok(parsed) = Reply::parse(reply) {
        assert!([200, 400, 401, 403, 501, 503, 505].contains(&parsed.code));
    }
    let outcome = answer(access, reply, &mut [0; MAX_REPLY_BYTES]);
    assert_eq!(outcome, Outcome::Silent(Silence::IsReply));
}

fuzz_target!(|datagram: &[u8]| {
    for access in &*ACCESSES {
        let updates = ENGINE.updates();
        let mut reply = [0; MAX_REPLY_BYTES];
        match answer(access, datagram, &mut reply) {
            Outcome::Reply { status, length } => {
                check_reply(access, &reply[..length]);
                assert!(status.is_ok() || ENGINE.updates() == updates);
            }
            Outcome::Silent(silence) => {
                assert_eq!(silence, Silence::IsReply);
                assert_eq!(ENGINE.updates(), updates);
            }
            deferred => panic!("a store in memory defers nothing: {deferred:?}"),
        }
    }
});
