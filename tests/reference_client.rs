//! The reference's client, as a command and as a library, against a started server.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use crate::harness::reference::{self, Finished, fresh_mail};
use crate::harness::{Io, Request, Server, Setup, eventually, random_digest};

both_io!(
    the_command_sees_its_own_reports,
    the_command_sees_its_reports_after_a_crash,
    a_whitelisted_mail_is_no_hit,
    the_mbox_and_digests_styles_count_each_digest,
    a_named_user_reports_where_the_anonymous_may_not,
    wrong_keys_and_unknown_users_are_told_so,
    a_named_user_with_a_wrong_clock_is_told_so,
    the_library_sends_batches,
    the_library_sees_a_report_that_it_has_not_waited_for,
);

/// The reference client with a home directory that names one server.
struct Pyzor {
    home: TempDir,
    server: SocketAddr,
}

impl Pyzor {
    fn new(server: &Server) -> Self {
        let home = tempfile::tempdir().unwrap();
        let server = server.address();
        fs::write(home.path().join("servers"), format!("{server}\n")).unwrap();
        Self { home, server }
    }

    /// Has it sign as `user` with `key`.
    fn with_account(self, user: &str, key: &str) -> Self {
        let (ip, port) = (self.server.ip(), self.server.port());
        let line = format!("{ip} : {port} : {user} : {},{key}\n", "0".repeat(40));
        fs::write(self.home.path().join("accounts"), line).unwrap();
        self
    }

    fn run(&self, arguments: &[&str], input: &str) -> Finished {
        let mut client = reference::client(self.home.path());
        reference::finish(client.args(arguments), input.as_bytes())
    }

    /// Runs a command and expects it to print one line for the server, the part after the address, and to end so.
    fn expect(&self, command: &str, input: &str, line: &str, status: i32) {
        let finished = self.run(&[command], input);
        let line = format!("{}\t{line}\n", self.server);
        assert_eq!(finished.stdout, line, "{command}: {finished:?}");
        assert_eq!(finished.status, Some(status), "{command}: {finished:?}");
    }

    fn digest(&self, mail: &str) -> String {
        self.run(&["digest"], mail).stdout.trim().to_owned()
    }

    /// Runs a Python script that finds the library, and its arguments: the server's host and port, then these.
    fn library(&self, script: &str, arguments: &[String]) -> Finished {
        let mut python = std::process::Command::new(reference::python());
        python.args(["-c", script]);
        python.arg(self.server.ip().to_string());
        python.arg(self.server.port().to_string());
        reference::finish(python.args(arguments), b"")
    }
}

fn the_command_sees_its_own_reports(io: Io) {
    needs!(Reference);
    let server = Server::start(io);
    let (pyzor, mail) = (Pyzor::new(&server), fresh_mail());
    pyzor.expect("ping", "", "(200, 'OK')", 0);
    pyzor.expect("pong", &mail, "(200, 'OK')\t9223372036854775807\t0", 0);
    pyzor.expect("check", &mail, "(200, 'OK')\t0\t0", 1);
    pyzor.expect("report", &mail, "(200, 'OK')", 0);
    pyzor.expect("report", &mail, "(200, 'OK')", 0);
    pyzor.expect("check", &mail, "(200, 'OK')\t2\t0", 0);
    let info = pyzor.run(&["info"], &mail);
    assert_eq!(info.status, Some(0));
    assert!(info.stdout.contains("\tCount: 2\n"), "{info:?}");
    assert!(info.stdout.contains("\tWL-Count: 0\n"), "{info:?}");
}

fn the_command_sees_its_reports_after_a_crash(io: Io) {
    needs!(Reference);
    let mut server = Server::start(io);
    let (pyzor, mail) = (Pyzor::new(&server), fresh_mail());
    pyzor.expect("report", &mail, "(200, 'OK')", 0);
    server.kill();
    server.restart();
    pyzor.expect("check", &mail, "(200, 'OK')\t1\t0", 0);
    let info = pyzor.run(&["info"], &mail);
    assert!(info.stdout.contains("\tCount: 1\n"), "{info:?}");
}

fn a_whitelisted_mail_is_no_hit(io: Io) {
    needs!(Reference);
    let server = Setup::new(io)
        .file("pyzord.access", "all : anonymous : allow\n")
        .start();
    let (pyzor, mail) = (Pyzor::new(&server), fresh_mail());
    pyzor.expect("report", &mail, "(200, 'OK')", 0);
    pyzor.expect("whitelist", &mail, "(200, 'OK')", 0);
    pyzor.expect("check", &mail, "(200, 'OK')\t1\t1", 1);
}

fn the_mbox_and_digests_styles_count_each_digest(io: Io) {
    needs!(Reference);
    let server = Server::start(io);
    let pyzor = Pyzor::new(&server);
    let mails = [fresh_mail(), fresh_mail(), fresh_mail()];
    let separator = "From sender@example.org Sat Nov 21 10:00:00 2026\n";
    let mbox = mails
        .each_ref()
        .map(|mail| [separator, mail, "\n"].concat())
        .concat();
    let report = pyzor.run(&["-s", "mbox", "report"], &mbox);
    assert_eq!(report.status, Some(0), "{report:?}");
    let digests = mails.each_ref().map(|mail| pyzor.digest(mail)).join("\n");
    let check = pyzor.run(&["-s", "digests", "check"], &digests);
    let each = format!("{}\t(200, 'OK')\t1\t0\n", server.address());
    assert_eq!(check.stdout, each.repeat(mails.len()));
    assert_eq!(check.status, Some(0), "{check:?}");
}

const BOB: &str = "cf88277c5d4abdc0a3f56f416011966d04a3f462";
const FORBIDDEN: &str = "(403, 'Forbidden: User is not authorized to request the operation.')";

/// A server on which bob may do everything and the anonymous nothing.
fn bobs_server(io: Io) -> Server {
    Setup::new(io)
        .file("pyzord.passwd", format!("bob : {BOB}\n"))
        .file("pyzord.access", "all : bob : allow\n")
        .start()
}

fn a_named_user_reports_where_the_anonymous_may_not(io: Io) {
    needs!(Reference);
    let server = bobs_server(io);
    let mail = fresh_mail();
    let bob = Pyzor::new(&server).with_account("bob", BOB);
    bob.expect("report", &mail, "(200, 'OK')", 0);
    bob.expect("whitelist", &mail, "(200, 'OK')", 0);
    bob.expect("check", &mail, "(200, 'OK')\t1\t1", 1);
    let anonymous = Pyzor::new(&server);
    anonymous.expect("report", &mail, FORBIDDEN, 1);
    anonymous.expect("check", &mail, &format!("{FORBIDDEN}\t"), 1);
    anonymous.expect("ping", "", FORBIDDEN, 1);
    bob.expect("check", &mail, "(200, 'OK')\t1\t1", 1);
}

fn wrong_keys_and_unknown_users_are_told_so(io: Io) {
    needs!(Reference);
    let server = bobs_server(io);
    let forger = Pyzor::new(&server).with_account("bob", &"ab".repeat(20));
    let invalid = "(401, 'Unauthorized: Signature Error: Invalid signature.')";
    forger.expect("ping", "", invalid, 1);
    let stranger = Pyzor::new(&server).with_account("mallory", BOB);
    let unknown = "(401, 'Unauthorized: Signature Error: Unknown user.')";
    stranger.expect("ping", "", unknown, 1);
}

/// Pings with a clock that is wrong by as many seconds as the fifth argument says, as the user and key before it.
const PING_WITH_WRONG_CLOCK: &str = "
import sys, time
import pyzor.account, pyzor.client
host, port, user, key, offset = sys.argv[1:]
server = (host, int(port))
true_time = time.time
time.time = lambda: true_time() + int(offset)
accounts = {server: pyzor.account.Account(user, '', key)} if user else {}
response = pyzor.client.Client(accounts).ping(server)
print(response.head_tuple())
";

fn a_named_user_with_a_wrong_clock_is_told_so(io: Io) {
    needs!(Reference);
    let server = Setup::new(io)
        .file("pyzord.passwd", format!("bob : {BOB}\n"))
        .file("pyzord.access", "all : bob anonymous : allow\n")
        .start();
    let pyzor = Pyzor::new(&server);
    let ping = |user: &str, offset: i32| {
        let arguments = [user.to_owned(), BOB.to_owned(), offset.to_string()];
        let finished = pyzor.library(PING_WITH_WRONG_CLOCK, &arguments);
        assert_eq!(finished.status, Some(0), "{finished:?}");
        finished.stdout.trim().to_owned()
    };
    let stale = "(401, 'Unauthorized: Signature Error: Timestamp not within allowed range.')";
    assert_eq!(ping("bob", -290), "(200, 'OK')");
    assert_eq!(ping("bob", 290), "(200, 'OK')");
    assert_eq!(ping("bob", -3600), stale);
    assert_eq!(ping("bob", 3600), stale);
    assert_eq!(ping("", 3600), "(200, 'OK')");
}

/// Reports every digest given through a batch client, which sends ten at once and the rest when told to;
/// not told to forget it, the client sends the rest once more when it goes.
const REPORT_IN_BATCHES: &str = "
import sys
import pyzor.client
host, port = sys.argv[1:3]
client = pyzor.client.BatchClient()
for digest in sys.argv[3:]:
    client.report(digest, (host, int(port)))
client.force()
client.flush()
";

fn the_library_sends_batches(io: Io) {
    needs!(Reference);
    let server = Server::start(io);
    let digests: Vec<String> = (0..25).map(|_| random_digest()).collect();
    let finished = Pyzor::new(&server).library(REPORT_IN_BATCHES, &digests);
    assert_eq!(finished.status, Some(0), "{finished:?}");
    let client = server.client();
    let all_counted = eventually(crate::harness::client::REPLY_LIMIT, || {
        digests.iter().all(|digest| {
            let reply = client.ask(&Request::new("check").digest(digest));
            reply.counts() == (1, 0)
        })
    });
    assert!(
        all_counted,
        "a batch does not wait for its reply, but counts"
    );
}

/// Reports digests and asks at once how often they were reported, on another socket.
const REPORT_AND_ASK: &str = r#"
import sys
import pyzor, pyzor.client
server = (sys.argv[1], int(sys.argv[2]))
batch, one = pyzor.client.BatchClient(batch_size=1), pyzor.client.Client()

def count(digest):
    while True:
        try:
            return int(one.check(digest, server)["Count"])
        except pyzor.ProtocolError:
            # The late answer to a report, on a port that was given again.
            pass

for number in range(300):
    digest = "%040x" % (number // 3 + 1)
    before = count(digest)
    batch.report(digest, server)
    after = count(digest)
    assert after == before + 1, "%d after %d" % (after, before)
"#;

/// The library's `BatchClient` never waits for an answer, and whoever asks next counts on the order in which requests came.
/// One worker: between the sockets of several, the kernel promises no order.
fn the_library_sees_a_report_that_it_has_not_waited_for(io: Io) {
    needs!(Reference);
    let server = Setup::new(io).arg("--workers=1").start();
    let finished = Pyzor::new(&server).library(REPORT_AND_ASK, &[]);
    assert_eq!(finished.status, Some(0), "{finished:?}");
}
