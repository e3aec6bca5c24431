//! A server with more to do than it can: it stays able to stop, to reload and to answer, and does not answer in vain.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{
    Client, Io, Reply, Request, Server, Setup, StopOnDrop, eventually, random_digest,
};

both_io!(
    what_queued_while_the_server_was_away_for_long_is_discarded,
    it_stops_under_a_blast,
    it_reloads_under_a_blast,
    reports_are_acknowledged_under_a_blast,
);

/// Longer than the 5 s that clients wait.
const ABSENCE: Duration = Duration::from_secs(6);
/// Requests queued meanwhile.
const QUEUED: usize = 100;
/// How long a server under load may take for what it owes: milliseconds, but the machine may be busy.
const LIVENESS_LIMIT: Duration = Duration::from_secs(10);
/// Sockets that blast at once.
const BLASTERS: usize = 2;

/// Blasts take the whole machine, so there is one at a time.
static ONE_BLAST: Mutex<()> = Mutex::new(());

fn what_queued_while_the_server_was_away_for_long_is_discarded(io: Io) {
    let mut server = Setup::new(io).arg("--workers").arg("1").start();
    let (client, digest) = (server.client(), random_digest());
    server.signal(Signal::SIGSTOP);
    assert!(eventually(LIVENESS_LIMIT, || is_stopped(&server)));
    for _ in 0..QUEUED {
        client.send(&Request::new("report").digest(&digest).to_bytes());
    }
    thread::sleep(ABSENCE);
    server.signal(Signal::SIGCONT);
    let check = Request::new("check").digest(&digest);
    let later = eventually(LIVENESS_LIMIT, || {
        let reply = server.client().try_ask(&check, Duration::from_millis(200));
        reply.is_some_and(|reply| reply.counts() == (0, 0))
    });
    assert!(
        later,
        "what comes afterwards is answered, and nothing counted"
    );
    let answer = client.receive(Duration::from_millis(1));
    assert_eq!(answer, None, "nobody waits for these answers any more");
    assert!(server.stop().success());
    // The first of the requests that came afterwards may have been among what was discarded.
    assert!(server.counter("stale_discarded") >= QUEUED as u64);
}

/// Whether the kernel has stopped every thread of the server.
fn is_stopped(server: &Server) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap())
        .all(|stat| stat.contains(") T "))
}

fn it_stops_under_a_blast(io: Io) {
    let mut server = Server::start(io);
    let address = server.address();
    blast(address, || {
        assert!(server.stop().success());
    });
    let counters = server.log();
    assert!(counters.contains(" datagrams="), "{counters}");
}

fn it_reloads_under_a_blast(io: Io) {
    let server = Server::start(io);
    blast(server.address(), || {
        let access = "whitelist check ping : anonymous : allow\n";
        std::fs::write(server.home().join("pyzord.access"), access).unwrap();
        server.signal(Signal::SIGUSR1);
        let whitelist = Request::new("whitelist").digest(&random_digest());
        let reloaded = eventually(LIVENESS_LIMIT, || {
            ask_persistently(&server.client(), &whitelist).code() == 200
        });
        assert!(reloaded, "the new access file holds");
    });
}

fn reports_are_acknowledged_under_a_blast(io: Io) {
    let server = Server::start(io);
    blast(server.address(), || {
        let digest = random_digest();
        let report = Request::new("report").digest(&digest);
        let check = Request::new("check").digest(&digest);
        assert_eq!(ask_persistently(&server.client(), &report).code(), 200);
        let (reports, _) = ask_persistently(&server.client(), &check).counts();
        assert!(reports >= 1, "an acknowledged report is seen at once");
    });
}

/// Asks again until there is a reply: under a blast the kernel drops most of what is sent.
fn ask_persistently(client: &Client, request: &Request) -> Reply {
    let mut reply = None;
    let answered = eventually(LIVENESS_LIMIT, || {
        reply = client.try_ask(request, Duration::from_millis(50));
        reply.is_some()
    });
    assert!(answered, "no reply to {request:?}");
    reply.expect("there is one")
}

/// Runs `test` while sockets send checks to `server` as fast as they can, without looking at the answers.
fn blast(server: SocketAddr, test: impl FnOnce()) {
    let _alone = ONE_BLAST.lock();
    thread::scope(|scope| {
        let stop = StopOnDrop::default();
        for _ in 0..BLASTERS {
            let flag = stop.flag();
            scope.spawn(move || send_until(&flag, server));
        }
        thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        test();
        assert!(began.elapsed() < LIVENESS_LIMIT, "it took too long");
    });
}

fn send_until(stop: &AtomicBool, server: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let check = Request::new("check").digest(&random_digest()).to_bytes();
    while !stop.load(Ordering::Relaxed) {
        // A server that is gone refuses; a full queue drops.
        let _ = socket.send_to(&check, server);
    }
}
