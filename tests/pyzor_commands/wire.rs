//! What both clients send for the same input.

use super::clients::Clients;
use super::mailbox;
use super::scripted_server::{ScriptedServer, header};
use crate::harness::message::{epoch_seconds, signature};
use crate::harness::reference::fresh_mail;

const OK: &str = "Code: 200\nDiag: OK\nPV: 2.1\nThread: {T}\nCount: 3\nWL-Count: 0\n\n";

/// The values that differ from one request to the next.
const VARYING: [&str; 3] = ["Thread", "Time", "Sig"];

/// A request without what differs each time.
fn shape(request: &str) -> String {
    let mut shape = String::new();
    for line in request.split_inclusive('\n') {
        let name = line.split(':').next().unwrap();
        let is_varying = VARYING.contains(&name);
        shape += if is_varying { name } else { line };
    }
    shape
}

fn check_varying(request: &str, user: &str, key: &str) {
    let thread: u32 = header(request, "Thread").parse().unwrap();
    assert!((1024..65536).contains(&thread), "{request}");
    let time: u64 = header(request, "Time").parse().unwrap();
    assert!(epoch_seconds().abs_diff(time) < 60, "{request}");
    let (signed, _) = request.split_once("\nSig: ").unwrap();
    let expected = signature(user, key, &time.to_string(), signed.as_bytes());
    assert_eq!(header(request, "Sig"), expected, "{request}");
}

#[test]
fn both_send_the_same_requests() {
    needs!(Reference);
    let server = ScriptedServer::new(OK);
    let anonymous = Clients::of(&[server.address]);
    let bob = Clients::of(&[server.address]).with_account(server.address, "bob", "00Ff");
    let (mail, mails) = (fresh_mail(), mailbox(&[fresh_mail(), fresh_mail()]));
    let digests = format!("{}\n# no digest\n a b \n", "ab".repeat(20));
    for (clients, user, key) in [(&anonymous, "anonymous", ""), (&bob, "bob", "00Ff")] {
        for (style, input) in [("msg", &mail), ("mbox", &mails), ("digests", &digests)] {
            for command in ["ping", "pong", "check", "info", "report", "whitelist"] {
                let arguments = ["-s", style, command];
                clients.reference(&arguments, input.as_bytes());
                let expected = server.requests();
                clients.ours(&arguments, input.as_bytes());
                let sent = server.requests();
                assert!(!sent.is_empty(), "{arguments:?}");
                for request in &sent {
                    check_varying(request, user, key);
                }
                let [expected, sent] =
                    [expected, sent].map(|requests| requests.iter().map(|r| shape(r)).collect());
                let (expected, sent): (Vec<String>, Vec<String>) = (expected, sent);
                assert_eq!(sent, expected, "{arguments:?}");
            }
        }
    }
}
