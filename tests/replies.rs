//! Where replies come from, and what gets none: they leave from the address that was asked, and nothing that could make
//! two servers talk to each other is answered.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Client, Io, Request, Server, Setup, eventually};

both_io!(
    replies_come_from_the_address_asked,
    replies_come_from_the_ipv6_address_asked,
    every_address_is_served_by_default,
    the_ipv6_wildcard_takes_ipv4_unless_ipv4_is_given,
    every_address_given_is_served,
    a_datagram_from_a_servers_port_gets_no_answer,
    a_datagram_from_port_zero_is_counted,
    two_servers_do_not_talk_for_ever,
);

/// How long a server must keep silent about what it must not answer.
const SILENCE: Duration = Duration::from_millis(300);
/// How long the server may take to log its counters.
const LOG_LIMIT: Duration = Duration::from_secs(10);

/// Asks at `ip`; [`Client`] itself fails when the reply comes from another address.
fn assert_answers_at(server: &Server, ip: impl Into<std::net::IpAddr>) {
    let address = SocketAddr::new(ip.into(), server.address().port());
    let reply = Client::new(address).ask(&Request::new("ping"));
    assert_eq!(reply.code(), 200, "{address}");
}

fn assert_silent_at(server: &Server, ip: Ipv4Addr) {
    let address = (ip, server.address().port());
    let reply = Client::new(address.into()).try_ask(&Request::new("ping"), SILENCE);
    assert_eq!(reply, None, "{ip} was not given");
}

fn replies_come_from_the_address_asked(io: Io) {
    let server = Setup::new(io).listen("").start();
    for last in [1, 2, 3, 77] {
        assert_answers_at(&server, Ipv4Addr::new(127, 0, 0, last));
    }
}

fn replies_come_from_the_ipv6_address_asked(io: Io) {
    needs!(Ipv6);
    assert_answers_at(&Setup::new(io).listen("::1").start(), Ipv6Addr::LOCALHOST);
    assert_answers_at(&Setup::new(io).listen("::").start(), Ipv6Addr::LOCALHOST);
}

fn every_address_is_served_by_default(io: Io) {
    needs!(Ipv6);
    for everywhere in ["", "*", "::"] {
        let setup = Setup::new(io).listen(everywhere);
        let mut server = setup.arg("--usage-log-file").arg("usage").start();
        assert_answers_at(&server, Ipv4Addr::new(127, 0, 0, 2));
        assert_answers_at(&server, Ipv6Addr::LOCALHOST);
        assert!(server.stop().success());
        let usage = fs::read_to_string(server.home().join("usage")).unwrap();
        assert!(usage.contains(" INFO anonymous,127.0.0.1,ping,"), "{usage}");
        assert!(usage.contains(" INFO anonymous,::1,ping,"), "{usage}");
    }
}

fn the_ipv6_wildcard_takes_ipv4_unless_ipv4_is_given(io: Io) {
    needs!(Ipv6);
    let server = Setup::new(io).listen("127.0.0.2,::").start();
    assert_answers_at(&server, Ipv4Addr::new(127, 0, 0, 2));
    assert_answers_at(&server, Ipv6Addr::LOCALHOST);
    assert_silent_at(&server, Ipv4Addr::LOCALHOST);
}

/// One server on every address of both families keeps another from those of either.
#[test]
fn a_server_on_every_address_is_noticed_by_one_on_ipv4() {
    let first = Setup::new(Io::Auto).listen("").start();
    let port = first.address().port().to_string();
    for address in ["127.0.0.1", "0.0.0.0"] {
        let second = Setup::new(Io::Auto)
            .listen(address)
            .arg("--port")
            .arg(&port);
        let (status, stderr) = second.refused();
        assert_eq!(status.code(), Some(1));
        assert_eq!(
            stderr,
            format!("{address}:{port} is in use: is another pyzord running?\n")
        );
    }
}

fn every_address_given_is_served(io: Io) {
    needs!(Ipv6);
    let server = Setup::new(io).listen("127.0.0.2,127.0.0.3,::1").start();
    assert_answers_at(&server, Ipv4Addr::new(127, 0, 0, 2));
    assert_answers_at(&server, Ipv4Addr::new(127, 0, 0, 3));
    assert_answers_at(&server, Ipv6Addr::LOCALHOST);
    assert_silent_at(&server, Ipv4Addr::LOCALHOST);
    let both = Setup::new(io).listen("0.0.0.0,::").start();
    assert_answers_at(&both, Ipv4Addr::LOCALHOST);
    assert_answers_at(&both, Ipv6Addr::LOCALHOST);
}

fn a_datagram_from_a_servers_port_gets_no_answer(io: Io) {
    let server = Server::start(io);
    let same_port = (Ipv4Addr::new(127, 0, 0, 2), server.address().port());
    let socket = UdpSocket::bind(same_port).expect("no server has this address");
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let ping = Request::new("ping").to_bytes();
    socket.send_to(&ping, server.address()).unwrap();
    let answer = socket.recv_from(&mut [0; 1]);
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(counted(&server, "silent_own_port"), 1);
    assert_answers_at(&server, Ipv4Addr::LOCALHOST);
}

fn a_datagram_from_port_zero_is_counted(io: Io) {
    needs!(Root);
    let server = Server::start(io);
    forge(0, server.address(), &Request::new("ping").to_bytes());
    assert_eq!(counted(&server, "silent_port_zero"), 1);
    assert_answers_at(&server, Ipv4Addr::LOCALHOST);
}

/// A ping to one server whose sender is said to be the other: its answer must be the last datagram.
fn two_servers_do_not_talk_for_ever(io: Io) {
    needs!(Root);
    let (one, other) = (Server::start(io), Server::start(io));
    let ping = Request::new("ping").to_bytes();
    forge(other.address().port(), one.address(), &ping);
    assert_eq!(counted(&other, "silent_replies"), 1);
    let before = counted(&one, "datagrams");
    std::thread::sleep(SILENCE);
    assert_eq!(counted(&one, "datagrams"), before, "nothing came back");
    assert_answers_at(&one, Ipv4Addr::LOCALHOST);
    assert_answers_at(&other, Ipv4Addr::LOCALHOST);
}

/// A counter of `server` as of now, once it is not zero any more.
fn counted(server: &Server, counter: &str) -> u64 {
    let mut number = 0;
    eventually(LOG_LIMIT, || {
        let length = server.log().len();
        server.signal(Signal::SIGUSR1);
        eventually(LOG_LIMIT, || server.log()[length..].contains(" datagrams="));
        number = server.counter(counter);
        number > 0
    });
    number
}

/// Sends a datagram that claims to come from `source_port` of this machine.
fn forge(source_port: u16, to: SocketAddr, payload: &[u8]) {
    const HEADER_BYTES: usize = 8;
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).expect("we are root");
    let length = u16::try_from(HEADER_BYTES + payload.len()).unwrap();
    let mut datagram = Vec::new();
    datagram.extend(source_port.to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(length.to_be_bytes());
    // No checksum: IPv4 allows that.
    datagram.extend([0, 0]);
    datagram.extend(payload);
    // A raw socket knows no ports.
    let SocketAddr::V4(mut to) = to else {
        panic!("IPv4 only");
    };
    to.set_port(0);
    raw.send_to(&datagram, &SocketAddrV4::into(to)).unwrap();
}
