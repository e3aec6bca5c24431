//! Servers that are known by name: several addresses of which some lead nowhere, and name servers that are silent. The look-ups
//! are the system's own.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::harness::own_names::OwnNames;
use crate::harness::reference::{Finished, finish, fresh_mail};
use crate::harness::{Io, Server, Setup};

/// An address to which nothing can be sent, of each family: one without its link, and one for everybody.
const CANNOT_BE_SENT_TO: [&str; 2] = ["fe80::1", "255.255.255.255"];

/// Bound by a test and never read: a name server that is down.
const SILENT_RESOLVER: &str = "127.0.0.77";

/// How long a name takes to fail there, in seconds.
const LOOK_UP_SECONDS: u64 = 30;

/// A server on which everybody may do everything, at one address only.
fn server_at(address: &'static str) -> Server {
    Setup::new(Io::Mmsg)
        .listen(address)
        .file("pyzord.access", "all : anonymous : allow\n")
        .start()
}

/// Reports a new message, and checks it and another thing or two; what each command printed.
fn report_and_check(names: &OwnNames) -> [Finished; 3] {
    let mail = fresh_mail();
    ["ping", "report", "check"].map(|command| {
        // A third of it is long enough for a busy machine to answer.
        let mut client = names.client();
        finish(client.args(["-t", "6", command]), mail.as_bytes())
    })
}

/// The client gets through to a server at `alive`, whose name has these addresses, too, and its report counts once.
fn gets_through(server: &Server, alive: &str, others: &[&str]) {
    let port = server.address().port();
    let addresses = others.iter().chain([&alive]);
    let lines: Vec<String> = addresses.map(|it| format!("{it} mirror.test\n")).collect();
    let hosts = lines.concat();
    let names = OwnNames::new(&hosts, "", &format!("mirror.test:{port}\n"));
    let [ping, report, check] = report_and_check(&names);
    let line = format!("mirror.test:{port}\t(200, 'OK')");
    for finished in [ping, report] {
        assert_eq!(finished.stdout, format!("{line}\n"), "{hosts}{finished:?}");
    }
    assert_eq!(check.stdout, format!("{line}\t1\t0\n"), "{hosts}{check:?}");
    assert_eq!(check.status, Some(0));
}

#[test]
fn an_address_to_which_nothing_can_be_sent_is_passed_over() {
    needs!(Root, Ipv6);
    for alive in ["127.0.0.1", "::1"] {
        let server = server_at(alive);
        for other in CANNOT_BE_SENT_TO {
            gets_through(&server, alive, &[other]);
        }
        gets_through(&server, alive, &CANNOT_BE_SENT_TO);
    }
}

#[test]
fn a_dead_address_does_not_hide_a_living_one() {
    needs!(Root, Ipv6);
    for (alive, dead) in [
        ("127.0.0.1", "::1"),
        ("::1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.2", "127.0.0.1"),
    ] {
        let server = server_at(alive);
        // Nobody listens there.
        gets_through(&server, alive, &[dead]);
        // Somebody listens and says nothing.
        let silent = UdpSocket::bind((dead, server.address().port()));
        let _silent = silent.expect("the port is free on the other address");
        gets_through(&server, alive, &[dead]);
    }
}

#[test]
fn what_answered_once_is_asked_first_from_then_on() {
    needs!(Root, Ipv6);
    let server = server_at("127.0.0.1");
    let port = server.address().port();
    let silent = UdpSocket::bind(("::1", port)).expect("the port is free");
    let hosts = "::1 mirror.test\n127.0.0.1 mirror.test\n";
    let names = OwnNames::new(hosts, "", &format!("mirror.test:{port}\n"));
    let mails: Vec<_> = (0..5).map(|_| fresh_mail()).collect();
    let mut client = names.client();
    client.args(["-s", "mbox", "-t", "6", "report"]);
    let finished = finish(&mut client, super::mailbox(&mails).as_bytes());
    assert_eq!(
        finished.stdout.matches("(200, 'OK')").count(),
        5,
        "{finished:?}"
    );
    silent.set_nonblocking(true).unwrap();
    let mut datagram = [0; 1000];
    let requests: Vec<String> = std::iter::from_fn(|| {
        let length = silent.recv(&mut datagram).ok()?;
        Some(String::from_utf8_lossy(&datagram[..length]).into_owned())
    })
    .collect();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].starts_with("Op: ping\n"),
        "an update that may arrive"
    );
}

#[test]
fn a_name_that_nobody_resolves_takes_no_longer_than_the_time_out() {
    needs!(Root);
    let resolver = UdpSocket::bind((SILENT_RESOLVER, 53));
    let _resolver = resolver.expect("the port of name servers is free");
    let server = server_at("127.0.0.1");
    let alive = server.address();
    let resolv_conf =
        format!("nameserver {SILENT_RESOLVER}\noptions timeout:{LOOK_UP_SECONDS} attempts:1\n");
    let names = OwnNames::new("", &resolv_conf, &format!("slow.test:1\n{alive}\n"));
    let begin = Instant::now();
    for (command, rest) in [("ping", ""), ("report", ""), ("check", "\t1\t0")] {
        let mut client = names.client();
        let finished = finish(client.args(["-t", "2", command]), MAIL);
        let answered = format!("{alive}\t(200, 'OK'){rest}\n");
        assert!(finished.stdout.contains(&answered), "{finished:?}");
        assert!(
            finished.stdout.contains("slow.test:1\t(504, "),
            "{finished:?}"
        );
        assert_eq!((finished.status, finished.stderr.as_str()), (Some(1), ""));
    }
    assert!(begin.elapsed() < Duration::from_secs(LOOK_UP_SECONDS));
}

const MAIL: &[u8] = b"Subject: one\n\nThe same message for three commands in a row.\n";
