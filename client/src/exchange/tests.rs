use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};

use pyzor_protocol::{ANONYMOUS_USER, AccountKey};

use super::*;
use crate::addresses::Addresses;
use crate::home_files::{Account, ServerName};

/// Long enough for a busy machine to answer within a third of it.
const PATIENT: Duration = Duration::from_secs(6);
const IMPATIENT: Duration = Duration::from_millis(90);

fn server(address: SocketAddr) -> Server {
    Server {
        name: ServerName {
            host: address.ip().to_string(),
            port: address.port(),
        },
        addresses: Addresses::known(Ok(vec![address])),
        account: Account {
            user: ANONYMOUS_USER.into(),
            key: AccountKey::anonymous(),
        },
    }
}

fn socket() -> (UdpSocket, Server) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let server = server(socket.local_addr().unwrap());
    (socket, server)
}

fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut datagram = [0; 1000];
    let (length, from) = socket.recv_from(&mut datagram).unwrap();
    let request = String::from_utf8_lossy(&datagram[..length]);
    (request.into_owned(), from)
}

fn thread_of(request: &str) -> u16 {
    let (_, rest) = request.split_once("Thread: ").unwrap();
    rest.lines().next().unwrap().parse().unwrap()
}

fn reply(code: u16, thread: u16) -> Vec<u8> {
    format!("Code: {code}\nDiag: x\nPV: 2.1\nThread: {thread}\nCount: 3\nWL-Count: 1\n\n")
        .into_bytes()
}

fn check(servers: &[Server], timeout: Duration, retry: bool) -> Vec<Answer<'_>> {
    let digest = DigestText::new(b"d").unwrap();
    let question = Question {
        operation: Operation::Check,
        digest: Some(&digest),
    };
    let log = Log::open(None, false).unwrap();
    ask(servers, &question, Patience { timeout, retry }, &log)
}

/// A server that answers one request with what `replies` makes of its thread.
fn answering(replies: impl Fn(u16) -> Vec<Vec<u8>> + Send + 'static) -> (Server, JoinHandle<()>) {
    let (socket, server) = socket();
    let thread = thread::spawn(move || {
        let (request, from) = receive(&socket);
        for reply in replies(thread_of(&request)) {
            socket.send_to(&reply, from).unwrap();
        }
    });
    (server, thread)
}

#[test]
fn answers_come_in_their_order_and_silence_last() {
    let (_silent_socket, silent) = socket();
    let (answers, thread) = answering(|thread| vec![reply(200, thread)]);
    let unknown = Server {
        addresses: Addresses::known(Err(ErrorKind::NotFound.into())),
        ..server("127.0.0.1:9".parse().unwrap())
    };
    let servers = [silent, answers, unknown];
    let answers = check(&servers, IMPATIENT, true);
    thread.join().unwrap();
    assert!(matches!(answers[0].outcome, Err(Failure::NoAddress(_))));
    let counts = answers[1].outcome.as_ref().ok().and_then(Response::counts);
    assert_eq!(counts, Some((3, 1)));
    assert!(matches!(answers[2].outcome, Err(Failure::TimedOut)));
    assert_eq!(answers[2].server.name, servers[0].name);
}

#[test]
fn only_what_answers_this_request_counts() {
    let (server, thread) = answering(|thread| {
        vec![
            b"nonsense".to_vec(),
            reply(200, thread ^ 1),
            reply(200, 0),
            reply(403, 2000),
            reply(200, thread),
        ]
    });
    let servers = [server];
    let answers = check(&servers, PATIENT, false);
    thread.join().unwrap();
    assert_eq!(answers[0].outcome.as_ref().unwrap().code, 200);
}

#[test]
fn an_error_may_have_no_thread() {
    let (server, thread) = answering(|_| vec![reply(400, 0)]);
    let servers = [server];
    let answers = check(&servers, PATIENT, false);
    thread.join().unwrap();
    let response = answers[0].outcome.as_ref().unwrap();
    assert_eq!((response.code, response.counts()), (400, None));
}

#[test]
fn another_address_cannot_answer() {
    let (socket, server) = socket();
    let servers = [server];
    let thread = thread::spawn(move || {
        let (request, from) = receive(&socket);
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let forged = reply(200, thread_of(&request));
        // The client's socket is connected to another: this may even fail.
        let _ = stranger.send_to(&forged, from);
        socket
    });
    let answers = check(&servers, IMPATIENT, false);
    thread.join().unwrap();
    assert!(matches!(answers[0].outcome, Err(Failure::TimedOut)));
}

#[test]
fn a_lost_request_is_repeated_once_with_its_thread() {
    let (socket, server) = socket();
    let servers = [server];
    let thread = thread::spawn(move || {
        let (first, _) = receive(&socket);
        let (second, from) = receive(&socket);
        assert_eq!(first, second);
        socket
            .send_to(&reply(200, thread_of(&second)), from)
            .unwrap();
    });
    let answers = check(&servers, PATIENT, true);
    thread.join().unwrap();
    assert!(answers[0].outcome.is_ok());
}

#[test]
fn what_counts_is_never_repeated() {
    for (operation, retry, requests) in [
        (Operation::Check, true, 2),
        (Operation::Ping, true, 2),
        (Operation::Check, false, 1),
        (Operation::Report, true, 1),
        (Operation::Whitelist, true, 1),
    ] {
        let (socket, server) = socket();
        let question = Question {
            operation,
            digest: None,
        };
        let patience = Patience {
            timeout: IMPATIENT,
            retry,
        };
        let log = Log::open(None, false).unwrap();
        let servers = [server];
        let answers = ask(&servers, &question, patience, &log);
        assert!(matches!(answers[0].outcome, Err(Failure::TimedOut)));
        socket.set_nonblocking(true).unwrap();
        let mut datagram = [0; 1000];
        let received = std::iter::from_fn(|| socket.recv(&mut datagram).ok());
        assert_eq!(received.count(), requests, "{operation:?} {retry}");
    }
}

#[test]
fn nobody_there_is_told_apart_from_silence() {
    let (socket, server) = socket();
    drop(socket);
    let servers = [server];
    let answers = check(&servers, IMPATIENT, true);
    assert!(matches!(answers[0].outcome, Err(Failure::NobodyThere)));
}

#[test]
fn an_ipv6_server_is_asked() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        return;
    };
    let servers = [server(socket.local_addr().unwrap())];
    let thread = thread::spawn(move || {
        let (request, from) = receive(&socket);
        let reply = reply(200, thread_of(&request));
        socket.send_to(&reply, from).unwrap();
    });
    let answers = check(&servers, PATIENT, false);
    thread.join().unwrap();
    assert!(answers[0].outcome.is_ok());
}
