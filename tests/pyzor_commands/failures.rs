//! Servers that are silent, refuse, answer nonsense or cannot be found, and output that nobody reads.

use std::io::Read as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;

use super::clients::Clients;
use super::open_server;
use super::scripted_server::{ScriptedServer, header};
use crate::harness::client::{REPLY_LIMIT, receive_from};
use crate::harness::reference::fresh_mail;
use crate::harness::{Io, Setup};

const KEY: &str = "cf88277c5d4abdc0a3f56f416011966d04a3f462";
const ASKING: [&str; 6] = ["ping", "pong", "check", "info", "report", "whitelist"];

/// A silent address: a bound socket that nobody reads.
fn silence() -> (ScriptedServer, SocketAddr) {
    let server = ScriptedServer::new("");
    let address = server.address;
    (server, address)
}

#[test]
fn silence_is_a_time_out() {
    needs!(Reference);
    let (_server, address) = silence();
    let clients = Clients::of(&[address]);
    for command in ASKING {
        let finished = clients.agree(&["-t", "1", command], fresh_mail().as_bytes());
        assert!(finished.stdout.contains("(504, "), "{finished:?}");
        assert_eq!((finished.status, finished.stderr.as_str()), (Some(1), ""));
    }
}

/// The order of the lines is that of the answers, and for a ping that of the servers.
#[test]
fn a_dead_server_comes_last_except_in_a_ping() {
    needs!(Reference);
    let (_server, dead) = silence();
    let alive = open_server();
    let clients = Clients::of(&[dead, alive.address()]);
    for command in ["ping", "check", "info"] {
        // The living one must have answered by then, on a busy machine, too.
        let finished = clients.agree(&["-t", "4", command], fresh_mail().as_bytes());
        let dead_first = finished.stdout.starts_with(&dead.to_string());
        assert_eq!(dead_first, command == "ping", "{finished:?}");
        assert_eq!(finished.status, Some(1), "{finished:?}");
    }
}

#[test]
fn two_servers_that_answer_both_count() {
    needs!(Reference);
    let servers = [open_server(), open_server()];
    let both = Clients::of(&[servers[0].address(), servers[1].address()]);
    let one = Clients::of(&[servers[1].address()]);
    let mail = fresh_mail();
    one.agree(&["report"], mail.as_bytes());
    for command in [
        "check",
        "info",
        "report",
        "check",
        "pong",
        "whitelist",
        "check",
        "ping",
    ] {
        let finished = both.agree_in_any_order(&[command], mail.as_bytes());
        assert_eq!(finished.stderr, "", "{finished:?}");
    }
}

#[test]
fn refusals_are_printed_and_logged() {
    needs!(Reference);
    let server = Setup::new(Io::Auto)
        .file("pyzord.passwd", format!("bob : {KEY}\n"))
        .file("pyzord.access", "all : bob : allow\n")
        .start();
    let address = server.address();
    let mail = fresh_mail();
    for (clients, code) in [
        (Clients::of(&[address]), 403),
        (
            Clients::of(&[address]).with_account(address, "bob", &"ab".repeat(20)),
            401,
        ),
        (
            Clients::of(&[address]).with_account(address, "eve", KEY),
            401,
        ),
        (
            Clients::of(&[address]).with_account(address, "bob", KEY),
            200,
        ),
        (
            Clients::of(&[address]).with_account(address, "bob", &KEY.to_uppercase()),
            200,
        ),
    ] {
        for command in ASKING {
            let finished = clients.agree(&["--log-file", "log", command], mail.as_bytes());
            assert!(
                finished.stdout.contains(&format!("\t({code}, ")),
                "{finished:?}"
            );
            assert_eq!(finished.stderr, "", "{finished:?}");
        }
        let log = std::fs::read_to_string(clients.homes()[1].join("log")).unwrap();
        let refusals = log.lines().filter(|line| line.contains(" ERROR "));
        let expected = if code == 200 { 0 } else { ASKING.len() };
        assert_eq!(refusals.count(), expected, "{log}");
        assert!(!log.contains(KEY) && !log.contains("Sig:"), "{log}");
    }
}

/// Replies that a server may send, and none of ours does.
#[test]
fn strange_replies_print_as_the_reference_prints_them() {
    needs!(Reference);
    let head = "PV: 2.1\nThread: {T}\n";
    let replies = [
        format!("Code: 403\nDiag: Forbidden: It's not allowed\n{head}\n"),
        format!("Code: 403\nDiag: say \"it's\" \\back\ttab\n{head}\n"),
        "Code: 400\nDiag: Bad\nPV: 2.1\nThread: 0\n\n".to_owned(),
        format!("Code: 200\nDiag: OK\n{head}Count: -5\nWL-Count: -1\n\n"),
        format!("Code: 200\nDiag: OK\n{head}Count: 07\nWL-Count:  1 \nCode: 500\n\n"),
        format!("code: 200\ndiag: OK\n{head}wl-count: 1\ncount: 3\n\n"),
        format!("Code: 0200\nDiag: OK\n fold\n{head}Count: 7\nWL-Count: 1\n\n"),
        "Code: 200\r\nDiag: OK\r\nPV: 3.1\r\nThread: {T}\r\nCount: 7\r\nWL-Count: 1\r\n\r\n"
            .to_owned(),
        format!(
            "Code: 200\nDiag: OK\n{head}Count: 7\nWL-Count: 1\nEntered: -1\nUpdated: 0\nWL-Entered: 1388829694\nWL-Updated: -2\n\n"
        ),
        format!("Code: 299\nDiag: \n{head}Count: 7\nWL-Count: 1\nEntered: 1388829694\n\n"),
    ];
    for reply in replies {
        let server = ScriptedServer::new(&reply);
        let clients = Clients::of(&[server.address]);
        for command in ["check", "info", "ping"] {
            clients.agree(&[command], fresh_mail().as_bytes());
        }
    }
}

#[test]
fn times_are_local() {
    needs!(Reference);
    let reply =
        "Code: 200\nDiag: OK\nPV: 2.1\nThread: {T}\nEntered: 1388829694\nUpdated: 1405000000\n\n";
    let server = ScriptedServer::new(reply);
    let clients = Clients::of(&[server.address]);
    for zone in [
        "UTC",
        "Europe/Vienna",
        "EST5EDT,M3.2.0,M11.1.0",
        "<+0330>-3:30",
    ] {
        let [reference, ours] = [
            crate::harness::reference::client(&clients.homes()[0]),
            clients.our_command(),
        ]
        .map(|mut client| {
            let client = client.env("TZ", zone).arg("info");
            crate::harness::reference::finish(client, b"x").stdout
        });
        assert_eq!(ours, reference, "{zone}");
    }
}

/// The reference takes whatever comes first for the answer.
#[test]
fn what_is_no_answer_is_ignored_and_logged() {
    for reply in [
        "Code: 200\nDiag: OK\nPV: 2.1\nThread: 5\nCount: 3\nWL-Count: 0\n\n",
        "Code: 200\nDiag: OK\nPV: 2.1\nThread: 1{T}\nCount: 3\nWL-Count: 0\n\n",
        "Code: 200\nDiag: OK\nThread: {T}\nCount: 3\nWL-Count: 0\n\n",
        "Code: x\nDiag: OK\nPV: 2.1\nThread: {T}\nCount: 3\nWL-Count: 0\n\n",
        "nonsense",
    ] {
        let server = ScriptedServer::new(reply);
        let clients = Clients::of(&[server.address]);
        let arguments = ["-t", "1", "--no-retry", "--log-file", "log", "check"];
        let finished = clients.ours(&arguments, b"x");
        let expected = format!("{}\t(504, 'Reading response timed-out.')\n", server.address);
        assert_eq!(finished.stdout, expected, "{reply:?}");
        assert_eq!((finished.status, finished.stderr.as_str()), (Some(1), ""));
        let log = std::fs::read_to_string(clients.homes()[1].join("log")).unwrap();
        assert!(
            log.contains(" WARNING ") && log.contains("ignored"),
            "{log}"
        );
    }
}

#[test]
fn an_answer_without_counts_is_no_answer_to_a_check() {
    let server = ScriptedServer::new("Code: 200\nDiag: OK\nPV: 2.1\nThread: {T}\nCount: 3\n\n");
    let clients = Clients::of(&[server.address]);
    let finished = clients.ours(&["check"], b"x");
    assert_eq!(
        finished.stdout,
        format!("{}\t(200, 'OK')\t\n", server.address)
    );
    assert_eq!(finished.status, Some(1));
}

#[test]
fn a_name_that_cannot_be_resolved_is_a_line_and_a_failure() {
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    clients.write(
        "servers",
        &format!("no.such.host.invalid:1\n{}\n", server.address()),
    );
    for command in ASKING {
        let finished = clients.ours(&[command], fresh_mail().as_bytes());
        assert!(
            finished.stdout.contains("no.such.host.invalid:1\t(504, "),
            "{finished:?}"
        );
        assert!(finished.stdout.contains("(200, 'OK')"), "{finished:?}");
        assert_eq!((finished.status, finished.stderr.as_str()), (Some(1), ""));
    }
}

/// The first is answered only when the second has been asked, too.
#[test]
fn servers_are_asked_together() {
    let sockets = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    for socket in &sockets {
        socket.set_read_timeout(Some(REPLY_LIMIT * 4)).unwrap();
    }
    let addresses = sockets
        .each_ref()
        .map(|socket| socket.local_addr().unwrap());
    let clients = Clients::of(&addresses);
    let thread = std::thread::spawn(move || {
        let asked = sockets.each_ref().map(|socket| {
            let mut datagram = [0; 9000];
            let (length, client) = receive_from(socket, &mut datagram).unwrap();
            let request = String::from_utf8_lossy(&datagram[..length]).into_owned();
            (header(&request, "Thread"), client)
        });
        for (socket, (thread, client)) in sockets.iter().zip(asked) {
            let reply = format!("Code: 200\nDiag: OK\nPV: 2.1\nThread: {thread}\n\n");
            socket.send_to(reply.as_bytes(), client).unwrap();
        }
    });
    let finished = clients.ours(&["report"], fresh_mail().as_bytes());
    thread.join().unwrap();
    assert_eq!(
        finished.stdout.matches("(200, 'OK')").count(),
        2,
        "{finished:?}"
    );
}

#[test]
fn each_silent_server_is_asked_once_more() {
    let silent: Vec<_> = (0..8).map(|_| silence()).collect();
    let addresses: Vec<_> = silent.iter().map(|(_, address)| *address).collect();
    let clients = Clients::of(&addresses);
    for (arguments, times) in [
        (&["check"][..], 2),
        (&["--no-retry", "check"], 1),
        (&["report"], 1),
    ] {
        let finished = clients.ours(&[&["-t", "1"], arguments].concat(), fresh_mail().as_bytes());
        assert_eq!(finished.stdout.matches("(504, ").count(), 8);
        for (server, _) in &silent {
            let requests = server.requests();
            assert_eq!(requests.len(), times, "{arguments:?}");
            assert!(requests.iter().all(|request| *request == requests[0]));
        }
    }
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let clients = Clients::of(&["127.0.0.1:9".parse().unwrap()]);
    for arguments in [
        &["--help"][..],
        &["-V"],
        &["--generate", "man"],
        &["-s", "mbox", "digest"],
    ] {
        let mut child = clients
            .our_command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut input = child.stdin.take().unwrap();
        // More than a pipe and a buffer hold, so that writing fails before the end.
        let mailbox = super::mailbox(&vec![fresh_mail(); 5000]);
        let _ = std::io::Write::write_all(&mut input, mailbox.as_bytes());
        drop(input);
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(stderr, "", "{arguments:?}");
        assert!(status.code().is_some(), "{arguments:?}: {status}");
    }
}
