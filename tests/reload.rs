//! USR1 and HUP: both logs are opened again, so that they can be rotated; and what the logs hold.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Account, Io, Request, Server, Setup, eventually, random_digest};

/// How long a server may take to do what a signal asks.
const LIMIT: Duration = Duration::from_secs(5);

const ALICE: Account = Account {
    user: "alice",
    key: "0123456789abcdef0123456789abcdef01234567",
};
const PASSWD: &str = "alice : 0123456789abcdef0123456789abcdef01234567\n";

fn with_usage_log(io: Io) -> Setup {
    Setup::new(io).arg("--usage-log-file").arg("usage.log")
}

fn read(server: &Server, name: &str) -> String {
    fs::read_to_string(server.home().join(name)).unwrap_or_default()
}

/// Waits until the file `name` in the home directory contains `text`.
fn await_text(server: &Server, name: &str, text: &str) {
    let found = eventually(LIMIT, || read(server, name).contains(text));
    assert!(found, "{name} lacks {text:?}: {}", read(server, name));
}

/// What the usage log `name` holds besides pings, which the harness sends, too: lines without time and process id, once
/// there are so many.
fn usage(server: &Server, name: &str, lines: usize) -> Vec<String> {
    let mut found = Vec::new();
    eventually(LIMIT, || {
        let text = read(server, name);
        let after_pid = |line: &str| line.splitn(4, ' ').nth(3).unwrap().to_owned();
        found = text
            .lines()
            .filter(|line| !line.contains(",ping,"))
            .map(after_pid)
            .collect();
        found.len() >= lines
    });
    found
}

both_io!(both_logs_can_be_rotated);

fn both_logs_can_be_rotated(io: Io) {
    for signal in [Signal::SIGUSR1, Signal::SIGHUP] {
        let server = with_usage_log(io).start();
        let client = server.client();
        for name in ["pyzord.log", "usage.log"] {
            fs::rename(
                server.home().join(name),
                server.home().join(format!("{name}.1")),
            )
            .unwrap();
        }
        client.ask(&Request::new("pong"));
        assert_eq!(
            usage(&server, "usage.log.1", 1),
            ["INFO anonymous,127.0.0.1,pong,None,200"]
        );
        server.signal(signal);
        await_text(
            &server,
            "pyzord.log",
            " INFO read the passwd and access files again\n",
        );
        // The usage log is opened again at the same time, but by another thread.
        assert!(eventually(LIMIT, || server
            .home()
            .join("usage.log")
            .exists()));
        client.ask(&Request::new("info"));
        assert_eq!(
            usage(&server, "usage.log", 1),
            ["INFO anonymous,127.0.0.1,info,None,200"]
        );
        assert_eq!(usage(&server, "usage.log.1", 1).len(), 1);
        assert!(!read(&server, "pyzord.log.1").contains("again"));
    }
}

both_io!(the_usage_log_has_a_line_a_request);

fn the_usage_log_has_a_line_a_request(io: Io) {
    let mut server = with_usage_log(io)
        .file("pyzord.passwd", PASSWD)
        .file(
            "pyzord.access",
            "all : alice : allow\nping check : anonymous : allow\n",
        )
        .start();
    let client = server.client();
    let [first, second] = [random_digest(), random_digest()];
    client.ask(&Request::new("check").digest(&first));
    client.ask(
        &Request::new("report")
            .digest(&first)
            .digest(&second)
            .signed_by(ALICE),
    );
    client.ask(&Request::new("report").digest(&first));
    client.ask(&Request::new("frobnicate"));
    client.ask(&Request::new("ping").signed_by(Account { key: "ff", ..ALICE }));
    assert!(server.stop().success());
    assert_eq!(
        usage(&server, "usage.log", 5),
        [
            format!("INFO anonymous,127.0.0.1,check,['{first}'],200"),
            format!("INFO alice,127.0.0.1,report,['{first}', '{second}'],200"),
            "ERROR 403: Forbidden: User is not authorized to request the operation.".to_owned(),
            "ERROR 403: Forbidden: User is not authorized to request the operation.".to_owned(),
            "ERROR 401: Unauthorized: Signature Error: Invalid signature.".to_owned(),
        ]
    );
    let text = read(&server, "usage.log");
    let pid = format!(" ({}) ", server.pid());
    assert!(text.lines().all(|line| line.contains(&pid)), "{text}");
}

both_io!(a_reload_that_fails_changes_nothing_and_says_so);

fn a_reload_that_fails_changes_nothing_and_says_so(io: Io) {
    let server = Setup::new(io)
        .file("pyzord.passwd", PASSWD)
        .file(
            "pyzord.access",
            "check : alice : allow\nping : anonymous : allow\n",
        )
        .start();
    let access = server.home().join("pyzord.access");
    let code = |request: Request| {
        server
            .client()
            .ask(&request.digest(&random_digest()))
            .code()
    };
    let is_unchanged = || {
        code(Request::new("check").signed_by(ALICE)) == 200 && code(Request::new("report")) == 403
    };
    assert!(is_unchanged());
    fs::remove_file(&access).unwrap();
    server.signal(Signal::SIGUSR1);
    await_text(
        &server,
        "pyzord.log",
        " ERROR accounts and permissions stay as they were: cannot read ",
    );
    assert!(
        is_unchanged(),
        "a vanished access file must not open the server"
    );
    // A directory, because root may read any file.
    fs::create_dir(&access).unwrap();
    server.signal(Signal::SIGHUP);
    await_text(&server, "pyzord.log", "Is a directory");
    assert!(is_unchanged());
    fs::remove_dir(&access).unwrap();
    fs::write(&access, "report : anonymous : allow\n").unwrap();
    server.signal(Signal::SIGUSR1);
    await_text(
        &server,
        "pyzord.log",
        " INFO read the passwd and access files again\n",
    );
    assert_eq!(code(Request::new("report")), 200);
}

#[test]
fn a_file_that_cannot_be_read_refuses_the_start() {
    for name in ["pyzord.passwd", "pyzord.access"] {
        let setup = Setup::new(Io::Auto);
        fs::create_dir(setup.home().join(name)).unwrap();
        let (status, stderr) = setup.refused();
        assert_eq!(status.code(), Some(1));
        assert!(
            stderr.starts_with("cannot read ") && stderr.contains(name),
            "{stderr}"
        );
    }
}

#[test]
fn invalid_lines_are_logged_without_keys() {
    let secret = "0123456789abcdef";
    let server = Setup::new(Io::Auto)
        .file("pyzord.passwd", format!("alice {secret}\n{PASSWD}"))
        .file("pyzord.access", "all : alice\nall : alice : allow\n")
        .start();
    let log = server.log();
    for name in ["pyzord.passwd", "pyzord.access"] {
        let found = log
            .lines()
            .any(|line| line.contains(" WARNING ") && line.contains(&format!("{name}:1: ")));
        assert!(found, "{log}");
    }
    assert!(!log.contains(secret), "{log}");
}

#[test]
fn debugging_shows_everything_on_the_terminal_as_well() {
    let mut server = Setup::new(Io::Auto).arg("--debug").start();
    assert!(server.stop().success());
    assert_eq!(server.stderr(), server.log());
    assert!(server.log().contains(" INFO "));
}
