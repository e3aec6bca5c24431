//! Users, what the access file grants them, and the change from one set of both files to the next.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Account, Io, Request, Server, Setup, StopOnDrop, eventually, random_digest};

both_io!(
    the_last_rule_that_matches_decides,
    all_users_are_the_accounts_without_the_anonymous,
    rules_speak_of_users_in_lower_case,
    lines_that_are_no_rules_or_accounts_are_skipped,
    an_empty_key_lets_anybody_sign,
    a_refused_update_does_not_count,
    a_request_sees_both_old_files_or_both_new_ones,
);

const ALICE: Account = Account {
    user: "alice",
    key: "fc7f1cad729b5f3862b2ef192e2d9e0d0d4bd515",
};
const BOB: Account = Account {
    user: "bob",
    key: "cf88277c5d4abdc0a3f56f416011966d04a3f462",
};
const CAROL: Account = Account {
    user: "Carol",
    key: "c1a50281fc43e860fe78c16c73b9618ada59f959",
};

const PASSWD: &str = "alice : fc7f1cad729b5f3862b2ef192e2d9e0d0d4bd515
bob : cf88277c5d4abdc0a3f56f416011966d04a3f462
# Carol : a comment
Carol : c1a50281fc43e860fe78c16c73b9618ada59f959
";

/// A server with the accounts above and this access file.
fn server(io: Io, access: &str) -> Server {
    Setup::new(io)
        .file("pyzord.passwd", PASSWD)
        .file("pyzord.access", access)
        .start()
}

/// The code that answers `op` on a fresh digest, asked by `account` or the anonymous user.
fn code(server: &Server, account: Option<Account>, op: &str) -> u16 {
    let request = Request::new(op).digest(&random_digest());
    let request = match account {
        Some(account) => request.signed_by(account),
        None => request,
    };
    server.client().ask(&request).code()
}

fn the_last_rule_that_matches_decides(io: Io) {
    let server = server(
        io,
        "all : alice bob : allow
         report whitelist : alice : deny
         check : BOB : DENY
         ALL : bob : Deny
         ping : bob : allow
         whitelist : alice : allow\n",
    );
    for (account, op, wanted) in [
        (ALICE, "check", 200),
        (ALICE, "report", 403),
        (ALICE, "whitelist", 200),
        (BOB, "ping", 200),
        (BOB, "check", 403),
        (BOB, "info", 403),
    ] {
        let got = code(&server, Some(account), op);
        assert_eq!(got, wanted, "{} asks for {op}", account.user);
    }
    assert_eq!(code(&server, None, "check"), 403);
}

fn all_users_are_the_accounts_without_the_anonymous(io: Io) {
    let server = server(io, "check ping : all : allow\n");
    for account in [ALICE, BOB, CAROL] {
        assert_eq!(code(&server, Some(account), "check"), 200);
        assert_eq!(code(&server, Some(account), "report"), 403);
    }
    assert_eq!(code(&server, None, "check"), 403);
}

fn rules_speak_of_users_in_lower_case(io: Io) {
    let server = server(io, "check : ALICE Carol : allow\n");
    assert_eq!(code(&server, Some(ALICE), "check"), 200);
    let capital = code(&server, Some(CAROL), "check");
    assert_eq!(capital, 403, "no rule but `all` can name Carol");
}

fn lines_that_are_no_rules_or_accounts_are_skipped(io: Io) {
    let server = Setup::new(io)
        .file(
            "pyzord.passwd",
            format!("nonsense\nalice : {} : more\n\n{PASSWD}", BOB.key),
        )
        .file(
            "pyzord.access",
            "nonsense\ncheck : alice\ncheck : alice : perhaps\ncheck : bob : allow\n",
        )
        .start();
    assert_eq!(code(&server, Some(ALICE), "check"), 403);
    assert_eq!(code(&server, Some(BOB), "check"), 200);
}

fn an_empty_key_lets_anybody_sign(io: Io) {
    let server = Setup::new(io)
        .file("pyzord.passwd", "open : \n")
        .file("pyzord.access", "all : open : allow\n")
        .start();
    let open = Account {
        user: "open",
        key: "",
    };
    assert_eq!(code(&server, Some(open), "ping"), 200);
    let wrong = Account { key: "ab", ..open };
    assert_eq!(code(&server, Some(wrong), "ping"), 401);
}

fn a_refused_update_does_not_count(io: Io) {
    let server = server(
        io,
        "check : anonymous : allow\nreport whitelist : bob : allow\n",
    );
    let (client, digest) = (server.client(), random_digest());
    let report = Request::new("report").digest(&digest);
    let whitelist = Request::new("whitelist").digest(&digest);
    let forger = Account {
        key: ALICE.key,
        ..BOB
    };
    assert_eq!(client.ask(&report).code(), 403);
    assert_eq!(client.ask(&whitelist).code(), 403);
    assert_eq!(client.ask(&report.clone().signed_by(forger)).code(), 401);
    let stale = report.clone().at(1).signed_by(BOB);
    assert_eq!(client.ask(&stale).code(), 401);
    let half_bad = report.clone().digest("no digest").signed_by(BOB);
    assert_eq!(client.ask(&half_bad).code(), 400);
    let check = Request::new("check").digest(&digest);
    assert_eq!(client.ask(&check).counts(), (0, 0));
    assert_eq!(client.ask(&report.signed_by(BOB)).code(), 200);
    assert_eq!(client.ask(&whitelist.signed_by(BOB)).code(), 200);
    assert_eq!(client.ask(&check).counts(), (1, 1));
}

/// In the first set of files bob's key is one and he may nothing; in the second it is another and he may everything.
/// Only a mixture of both sets answers 200 to the first key, or 403 to the second.
fn a_request_sees_both_old_files_or_both_new_ones(io: Io) {
    let old_key = BOB;
    let new_key = Account {
        key: ALICE.key,
        ..BOB
    };
    let sets = [(old_key, "deny"), (new_key, "allow")].map(|(account, verdict)| {
        (
            format!("bob : {}\n", account.key),
            format!("all : bob : {verdict}\n"),
        )
    });
    let server = Setup::new(io)
        .file("pyzord.passwd", &sets[0].0)
        .file("pyzord.access", &sets[0].1)
        .start();
    thread::scope(|scope| {
        let stop = StopOnDrop::default();
        let askers = [old_key, new_key].map(|account| {
            let (server, stop) = (&server, stop.flag());
            scope.spawn(move || codes_until(&stop, server, account))
        });
        for round in 1..=RELOADS {
            let (passwd, access) = &sets[round % 2];
            fs::write(server.home().join("pyzord.passwd"), passwd).unwrap();
            fs::write(server.home().join("pyzord.access"), access).unwrap();
            server.signal(Signal::SIGUSR1);
            // The next set may be written only when this one has been read.
            let wanted = if round % 2 == 0 { 401 } else { 200 };
            let is_read = eventually(RELOAD_LIMIT, || {
                code(&server, Some(new_key), "ping") == wanted
            });
            assert!(is_read, "round {round} is not read");
        }
        drop(stop);
        let [old, new] = askers.map(|asker| asker.join().unwrap());
        assert_eq!(old, [401, 403], "asked with the old key");
        assert_eq!(new, [200, 401], "asked with the new key");
    });
}

const RELOADS: usize = 20;
/// How long a reload may take; it takes milliseconds.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

/// Pings as `account` until told to stop; the different codes that answered, sorted.
fn codes_until(stop: &AtomicBool, server: &Server, account: Account) -> Vec<u16> {
    let client = server.client();
    let mut codes = std::collections::BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        codes.insert(client.ask(&Request::new("ping").signed_by(account)).code());
    }
    codes.into_iter().collect()
}
