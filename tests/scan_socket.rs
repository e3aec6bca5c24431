//! `pyzor serve`: the same answers as `pyzor check`, whatever the other peers do, and within its bounds.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::harness::own_names::OwnNames;
use crate::harness::reference::{finish, fresh_mail};
use crate::harness::scan_socket::{self, LIMIT, ScanSocket, client, client_home, write_servers};
use crate::harness::{Io, Request, Server, Setup, eventually};

/// What `pyzor check` prints for `mail`.
fn checked(home: &Path, mail: &[u8]) -> String {
    finish(client(home).arg("check"), mail).stdout
}

/// A server that anybody may tell anything.
fn obliging_server() -> Server {
    let setup = Setup::new(Io::Mmsg).file("pyzord.access", "all : anonymous : allow\n");
    setup.start()
}

/// Reports or whitelists `mail`.
fn tell(server: &Server, op: &str, mail: &str) {
    let digest = pyzor::digester::digest_of(mail.as_bytes()).to_string();
    let request = Request::new(op).digest(&digest);
    assert_eq!(server.client().ask(&request).code(), 200);
}

#[test]
fn with_one_server_answers_are_those_of_check_byte_for_byte() {
    let server = obliging_server();
    let (spam, listed) = (fresh_mail(), fresh_mail());
    for _ in 0..3 {
        tell(&server, "report", &spam);
    }
    tell(&server, "whitelist", &spam);
    let home = client_home(&[server.address()]);
    let local = finish(
        client(home.path()).arg("local_whitelist"),
        listed.as_bytes(),
    );
    assert_eq!(local.status, Some(0), "{local:?}");
    let socket = ScanSocket::start_with(home, &[]);
    let long = format!("{spam}\n{}", "a line of text\n".repeat(100_000));
    let binary: Vec<u8> = (0..=u8::MAX).cycle().take(70_000).collect();
    let unknown = fresh_mail();
    let mails: [&[u8]; 6] = [
        spam.as_bytes(),
        listed.as_bytes(),
        unknown.as_bytes(),
        long.as_bytes(),
        &binary,
        b"",
    ];
    for mail in mails {
        let expected = checked(socket.home(), mail);
        assert_eq!(expected.lines().count(), 1);
        assert_eq!(socket.scan(mail), expected);
    }
    let answer = socket.scan(spam.as_bytes());
    let expected = format!("{}\t(200, 'OK')\t3\t1\n", server.address());
    assert_eq!(answer, expected);
}

#[test]
fn refusals_and_time_outs_are_those_of_check() {
    let refusing = Setup::new(Io::Mmsg)
        .file("pyzord.access", "ping : anonymous : allow\n")
        .start();
    let silent = Server::start(Io::Mmsg);
    silent.hold_up();
    for (server, code) in [(&refusing, 403), (&silent, 504)] {
        let home = client_home(&[server.address()]);
        fs::write(home.path().join("config"), "[client]\nTimeout = 1\n").unwrap();
        let socket = ScanSocket::start_with(home, &[]);
        let mail = fresh_mail();
        let expected = checked(socket.home(), mail.as_bytes());
        assert!(expected.contains(&format!("\t({code}, ")), "{expected}");
        assert_eq!(socket.scan(mail.as_bytes()), expected);
    }
}

/// rspamd reads one line. SpamAssassin adds up those of `check`.
#[test]
fn with_several_servers_the_answer_is_one_line_with_the_sum_of_what_answered() {
    let (first, second) = (obliging_server(), obliging_server());
    let refusing = Setup::new(Io::Mmsg)
        .file("pyzord.access", "ping : anonymous : allow\n")
        .start();
    let silent = Server::start(Io::Mmsg);
    silent.hold_up();
    let (spam, listed) = (fresh_mail(), fresh_mail());
    for server in [&first, &second] {
        tell(server, "report", &spam);
        tell(server, "whitelist", &spam);
    }
    tell(&second, "report", &spam);
    let start = |servers: &[&Server]| {
        let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address()).collect();
        let home = client_home(&addresses);
        // What is alive must have answered by then, on a busy machine, too.
        fs::write(home.path().join("config"), "[client]\nTimeout = 4\n").unwrap();
        let mut local = client(home.path());
        finish(local.arg("local_whitelist"), listed.as_bytes());
        ScanSocket::start_with(home, &["--max-message", "100K"])
    };
    let both = format!("{},{}", first.address(), second.address());
    let sum = format!("{both}\t(200, 'OK')\t3\t2\n");
    for servers in [
        &[&first, &second][..],
        &[&silent, &first, &refusing, &second],
    ] {
        let socket = start(servers);
        assert_eq!(socket.scan(spam.as_bytes()), sum);
    }
    let socket = start(&[&first, &second]);
    let local = format!("{both}\t(200, 'OK')\t0\t0\n");
    assert_eq!(socket.scan(listed.as_bytes()), local);
    let too_long = format!("{both}\t(413, 'Message too long.')\t\n");
    assert_eq!(socket.scan(&vec![b'x'; 200 << 10]), too_long);
    for (servers, code) in [(&[&silent, &refusing][..], 403), (&[&silent, &silent], 504)] {
        let answer = start(servers).scan(spam.as_bytes());
        assert_eq!(answer.lines().count(), 1, "{answer}");
        assert!(answer.contains(&format!("\t({code}, ")), "{answer}");
    }
}

#[test]
fn a_thousand_slow_peers_do_not_hold_up_a_fast_one() {
    const SLOW_PEERS: usize = 1000;
    allow_descriptors(SLOW_PEERS + 100);
    let server = Server::start(Io::Mmsg);
    let socket = ScanSocket::start(&[server.address()]);
    let mail = fresh_mail();
    let slow: Vec<TcpStream> = (0..SLOW_PEERS)
        .map(|number| {
            let mut peer = socket.connect();
            // Half of them have begun a message; the others say nothing.
            let begun = if number % 2 == 0 { 10 } else { 0 };
            peer.write_all(&mail.as_bytes()[..begun]).unwrap();
            peer
        })
        .collect();
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", socket.pid()))
            .unwrap()
            .count()
    };
    assert!(eventually(LIMIT, || descriptors() > SLOW_PEERS));
    let answer = socket.scan(mail.as_bytes());
    assert!(answer.contains("\t(200, 'OK')\t0\t0\n"), "{answer:?}");
    assert!(descriptors() > SLOW_PEERS, "all of them are still held");
    // The slow ones are answered as well, once they have sent their message.
    for (number, mut peer) in slow.into_iter().enumerate().step_by(50) {
        let begun = if number % 2 == 0 { 10 } else { 0 };
        peer.write_all(&mail.as_bytes()[begun..]).unwrap();
        assert_eq!(scan_socket::finish(peer), answer, "peer {number}");
    }
}

#[test]
fn a_silent_peer_is_closed_in_time() {
    let socket = ScanSocket::start_with(
        client_home(&["127.0.0.1:9".parse().unwrap()]),
        &["--max-receive-time", "1"],
    );
    let mut silent = socket.connect();
    let mut trickling = socket.connect();
    let begin = Instant::now();
    while begin.elapsed() < LIMIT && trickling.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(
        trickling.write_all(b"x").is_err(),
        "time since the start counts"
    );
    assert_eq!(
        silent.read(&mut [0; 1]).unwrap(),
        0,
        "closed without an answer"
    );
    socket.signal(Signal::SIGUSR1);
    assert!(socket.logs(" 2 too slow"), "{}", socket.log());
}

#[test]
fn a_message_over_the_limit_is_refused_and_the_next_is_not() {
    let server = Server::start(Io::Mmsg);
    let socket =
        ScanSocket::start_with(client_home(&[server.address()]), &["--max-message", "128K"]);
    let just_right = vec![b'x'; 128 * 1024];
    assert!(socket.scan(&just_right).contains("\t(200, 'OK')\t"));
    let refusal = format!("{}\t(413, 'Message too long.')\t\n", server.address());
    for length in [just_right.len() + 1, 10 << 20] {
        assert_eq!(socket.scan(&vec![b'x'; length]), refusal, "{length} bytes");
    }
    assert!(socket.logs("longer than"), "{}", socket.log());
    assert!(
        socket
            .scan(fresh_mail().as_bytes())
            .contains("\t(200, 'OK')\t0\t0\n")
    );
}

#[test]
fn where_every_seat_is_taken_the_slowest_makes_room() {
    let server = Server::start(Io::Mmsg);
    let socket = ScanSocket::start_with(
        client_home(&[server.address()]),
        &["--max-connections", "4"],
    );
    let mut slow: Vec<TcpStream> = (0..4).map(|_| socket.connect()).collect();
    for _ in 0..2 {
        let answer = socket.scan(fresh_mail().as_bytes());
        assert!(answer.contains("\t(200, 'OK')\t0\t0\n"), "{answer:?}");
    }
    // One seat was made free for the two, and it was the one taken first.
    assert_eq!(slow[0].read(&mut [0; 1]).unwrap(), 0);
    for peer in slow.drain(1..) {
        assert!(scan_socket::finish(peer).contains("\t(200, 'OK')\t"));
    }
    socket.signal(Signal::SIGHUP);
    assert!(socket.logs(" 1 sent away"), "{}", socket.log());
}

#[test]
fn long_messages_wait_for_each_other_and_memory_is_bounded() {
    const PEERS: usize = 48;
    const MESSAGE_BYTES: usize = 1_000_000;
    /// Two messages of the greatest length, and 64 KiB for each connection.
    const LIMITS: [&str; 8] = [
        "--max-message",
        "1M",
        "--max-memory",
        "6M",
        "--max-connections",
        "64",
        // The machine may be busy, and they take turns.
        "--max-receive-time",
        "600",
    ];
    /// The program itself takes half of it. All messages at a time would be 48 MB.
    const MAX_RESIDENT_KIB: u64 = 32 * 1024;
    let server = Server::start(Io::Mmsg);
    let socket = ScanSocket::start_with(client_home(&[server.address()]), &LIMITS);
    let line = b"a line of text as it may well stand in a message\n";
    let lines = line.repeat(MESSAGE_BYTES / line.len());
    let mail = [fresh_mail().into_bytes(), lines].concat();
    let expected = checked(socket.home(), &mail);
    // One that stops in the middle of a long message must not stop the others.
    let mut stuck = socket.connect();
    stuck.write_all(&mail[..MESSAGE_BYTES / 2]).unwrap();
    std::thread::scope(|scope| {
        let peers: Vec<_> = (0..PEERS)
            .map(|_| scope.spawn(|| socket.scan(&mail)))
            .collect();
        for peer in peers {
            assert_eq!(peer.join().unwrap(), expected);
        }
    });
    let resident_kib = peak_resident_kib(socket.pid());
    assert!(resident_kib < MAX_RESIDENT_KIB, "{resident_kib} KiB");
}

/// What they sent before counts for nothing: they could stay for as long as a message may take.
#[test]
fn peers_that_stop_in_the_middle_of_the_longest_messages_leave_for_others() {
    const MOST_LONG_MESSAGES: usize = 4;
    const SENT_BYTES: usize = 31 << 20;
    const MAX_RECEIVE_SECONDS: u64 = 600;
    let server = Server::start(Io::Mmsg);
    let limit = MAX_RECEIVE_SECONDS.to_string();
    let home = client_home(&[server.address()]);
    let socket = ScanSocket::start_with(home, &["--max-receive-time", &limit]);
    let mut stalled: Vec<TcpStream> = (0..MOST_LONG_MESSAGES).map(|_| socket.connect()).collect();
    for peer in &mut stalled {
        peer.write_all(&vec![b'x'; SENT_BYTES]).unwrap();
    }
    let mail = format!("{}{}", fresh_mail(), "a line of text\n".repeat(7000));
    let answer = socket.scan(mail.as_bytes());
    assert!(answer.contains("\t(200, 'OK')\t"), "{answer:?}");
    socket.signal(Signal::SIGHUP);
    assert!(socket.logs(" sent away"), "{}", socket.log());
    assert!(!socket.log().contains(" 0 sent away"), "{}", socket.log());
}

#[test]
fn hostile_messages_do_not_hold_up_short_ones() {
    const HOSTILE: usize = 8;
    const SHORT: usize = 20;
    let server = Server::start(Io::Mmsg);
    let socket = ScanSocket::start(&[server.address()]);
    let hostile = format!(
        "Content-Type: text/html\n\n{}",
        "<a b='&amp;&#x26;".repeat(5 << 20 >> 4)
    );
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..HOSTILE {
            scope.spawn(|| {
                assert!(!socket.scan(hostile.as_bytes()).is_empty());
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
        // Once one of them is answered, the others are being digested or wait for that.
        assert!(eventually(LIMIT, || answered.load(Ordering::SeqCst) > 0));
        for _ in 0..SHORT {
            let answer = socket.scan(fresh_mail().as_bytes());
            assert!(answer.contains("\t(200, 'OK')\t0\t0\n"), "{answer:?}");
        }
        let answered = answered.load(Ordering::SeqCst);
        assert!(answered <= HOSTILE / 2, "{answered} went first");
    });
}

#[test]
fn what_waits_too_long_for_its_turn_is_answered_as_a_time_out() {
    const PEERS: usize = 6;
    let silent = Server::start(Io::Mmsg);
    silent.hold_up();
    let home = client_home(&[silent.address()]);
    fs::write(home.path().join("config"), "[client]\nTimeout = 1\n").unwrap();
    let socket = ScanSocket::start_with(home, &["--max-lookups", "1"]);
    let expected = format!(
        "{}\t(504, 'Reading response timed-out.')\n",
        silent.address()
    );
    std::thread::scope(|scope| {
        let peers: Vec<_> = (0..PEERS)
            .map(|_| scope.spawn(|| socket.scan(fresh_mail().as_bytes())))
            .collect();
        for peer in peers {
            assert_eq!(peer.join().unwrap(), expected);
        }
    });
    socket.signal(Signal::SIGUSR1);
    assert!(socket.logs(" answered without asking"), "{}", socket.log());
    assert!(
        !socket.log().contains(" 0 answered without asking"),
        "{}",
        socket.log()
    );
}

#[test]
fn a_message_in_hand_is_answered_before_the_end() {
    let server = Server::start(Io::Mmsg);
    let mut socket = ScanSocket::start(&[server.address()]);
    server.hold_up();
    let mut idle = socket.connect();
    let mut peer = socket.connect();
    peer.write_all(fresh_mail().as_bytes()).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    // The request is on its way once it waits in the server's socket.
    assert!(eventually(LIMIT, || receive_queue_bytes(server.address()) > 0));
    socket.signal(Signal::SIGTERM);
    assert!(socket.logs("stopping"), "{}", socket.log());
    assert!(eventually(LIMIT, || TcpStream::connect(socket.address()).is_err()));
    server.signal(Signal::SIGCONT);
    assert!(scan_socket::finish(peer).contains("\t(200, 'OK')\t0\t0\n"));
    assert_eq!(
        idle.read(&mut [0; 1]).unwrap_or(0),
        0,
        "the idle peer gets nothing"
    );
    assert_eq!(socket.wait().code(), Some(0));
    assert!(socket.log().contains("stopped"), "{}", socket.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::start(Io::Mmsg);
    let home = client_home(&[server.address()]);
    fs::write(home.path().join("config"), "[client]\nTimeout = 3600\n").unwrap();
    let mut socket = ScanSocket::start_with(home, &[]);
    server.hold_up();
    let mut peer = socket.connect();
    peer.write_all(fresh_mail().as_bytes()).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(eventually(LIMIT, || receive_queue_bytes(server.address()) > 0));
    socket.signal(Signal::SIGTERM);
    assert!(socket.logs("stopping"), "{}", socket.log());
    socket.signal(Signal::SIGINT);
    assert_eq!(socket.wait().code(), Some(0));
}

#[test]
fn a_reload_reads_the_files_again_or_keeps_what_was() {
    let (first, second) = (Server::start(Io::Mmsg), Server::start(Io::Mmsg));
    let socket = ScanSocket::start(&[first.address()]);
    let mail = fresh_mail();
    assert!(
        socket
            .scan(mail.as_bytes())
            .starts_with(&first.address().to_string())
    );
    write_servers(socket.home(), &[second.address()]);
    assert!(
        socket
            .scan(mail.as_bytes())
            .starts_with(&first.address().to_string())
    );
    socket.signal(Signal::SIGHUP);
    assert!(socket.logs("read the files again"), "{}", socket.log());
    assert!(
        socket
            .scan(mail.as_bytes())
            .starts_with(&second.address().to_string())
    );
    fs::write(socket.home().join("config"), "[client]\nTimeout = soon\n").unwrap();
    socket.signal(Signal::SIGUSR1);
    assert!(socket.logs("stays as it was"), "{}", socket.log());
    assert!(
        socket
            .scan(mail.as_bytes())
            .starts_with(&second.address().to_string())
    );
}

#[test]
fn a_unix_socket_comes_and_goes() {
    let server = Server::start(Io::Mmsg);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("scan");
    let name = path.display().to_string();
    let mail = fresh_mail();
    let mut socket = ScanSocket::start_with(client_home(&[server.address()]), &["--listen", &name]);
    let scan = || {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(mail.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(scan(), checked(socket.home(), mail.as_bytes()));
    let refused = finish(
        client(socket.home()).args(["serve", "--listen", &name]),
        b"",
    );
    assert_ne!(refused.status, Some(0));
    assert!(refused.stderr.contains(&name), "{refused:?}");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    assert!(path.exists(), "it is the first one's");
    assert_eq!(socket.stop().code(), Some(0));
    assert!(!path.exists(), "nobody listens any more");
    // What a killed process leaves is in nobody's way.
    drop(UnixListener::bind(&path).unwrap());
    let again = ScanSocket::start_with(client_home(&[server.address()]), &["--listen", &name]);
    assert_eq!(scan(), checked(again.home(), mail.as_bytes()));
}

#[test]
fn a_unix_socket_is_for_its_owner_or_for_whom_the_mode_says() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("scan");
    let name = path.display().to_string();
    for (arguments, expected) in [
        (&["--listen", &name][..], 0o600),
        (&["--listen", &name, "--socket-mode", "660"], 0o660),
        (&["--socket-mode=0666", "--listen", &name], 0o666),
    ] {
        let home = client_home(&["127.0.0.1:9".parse().unwrap()]);
        let mut socket = ScanSocket::start_with(home, arguments);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, expected);
        assert_eq!(socket.stop().code(), Some(0));
    }
}

/// Neither the start nor a reload waits for name servers, and neither does a peer for longer than for other servers.
#[test]
fn a_silent_name_server_holds_up_nobody() {
    const RESOLVER: &str = "127.0.0.78";
    const LOOK_UP_SECONDS: u64 = 30;
    needs!(Root);
    let resolver = UdpSocket::bind((RESOLVER, 53));
    let _resolver = resolver.expect("the port of name servers is free");
    let server = Server::start(Io::Mmsg);
    let begin = Instant::now();
    let names = OwnNames::new(
        "",
        &format!("nameserver {RESOLVER}\noptions timeout:{LOOK_UP_SECONDS} attempts:1\n"),
        &format!("slow.test:1\n{}\n", server.address()),
    );
    let mut serve = names.client();
    serve.args(["-t", "2", "serve", "--listen", "127.0.0.1:0"]);
    let socket = ScanSocket::start_command(client_home(&[]), &serve);
    let expected = format!("{}\t(200, 'OK')\t0\t0\n", server.address());
    assert_eq!(socket.scan(fresh_mail().as_bytes()), expected);
    socket.signal(Signal::SIGHUP);
    assert!(socket.logs("read the files again"), "{}", socket.log());
    assert_eq!(socket.scan(fresh_mail().as_bytes()), expected);
    assert!(begin.elapsed() < Duration::from_secs(LOOK_UP_SECONDS));
}

#[test]
fn what_cannot_work_is_refused_in_one_line() {
    let socket = ScanSocket::start(&["127.0.0.1:9".parse().unwrap()]);
    let taken = socket.address().to_string();
    let home = client_home(&["127.0.0.1:9".parse().unwrap()]);
    for (arguments, words) in [
        (["--listen", taken.as_str()], taken.as_str()),
        (["--max-memory", "1M"], "--max-memory"),
        (["--listen", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--listen", "5953"], "HOST:PORT"),
        (["--max-connections", "0"], "--max-connections"),
        (["--max-message", "much"], "--max-message"),
        (["--max-receive-time", "soon"], "--max-receive-time"),
        (["--socket-mode", "rw-rw----"], "--socket-mode"),
        (["--socket-mode", "1666"], "--socket-mode"),
        (["--socket-mode", "660"], "unix socket"),
    ] {
        let refused = finish(client(home.path()).arg("serve").args(arguments), b"");
        assert!(![Some(0), None].contains(&refused.status), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
}

/// Lets this process open as many descriptors.
fn allow_descriptors(number: usize) {
    let number = u64::try_from(number).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < number {
        setrlimit(Resource::RLIMIT_NOFILE, number.min(hard), hard).unwrap();
    }
}

/// The most memory that a process ever had in use.
fn peak_resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse().unwrap()
}

/// Bytes that wait in the UDP socket bound to `address`, an IPv4 one.
fn receive_queue_bytes(address: SocketAddr) -> u64 {
    let port = format!(":{:04X}", address.port());
    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
    let queues = sockets.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let queue = fields.get(4)?.split_once(':')?.1;
        let is_ours = fields.get(1)?.ends_with(&port);
        is_ours.then(|| u64::from_str_radix(queue, 16).unwrap_or(0))
    });
    queues.sum()
}
