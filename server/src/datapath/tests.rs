//! Both datapaths, over the loopback interface, doing the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use pyzor_protocol::MAX_DATAGRAM_BYTES;

use super::reply_path::Listener;
use super::*;
use crate::socket::{self, Listening};

const BOTH: [Io; 2] = [Io::Uring, Io::Mmsg];

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

const V4: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: (IpAddr, u16) = (IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
const ANY_V4: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const ANY_V6: (IpAddr, u16) = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// Sends every datagram back to where it came from.
struct Echo;

impl Handler for Echo {
    fn datagram(
        &mut self,
        datagram: Received<'_>,
        reply: &mut [u8; MAX_REPLY_BYTES],
    ) -> Option<usize> {
        reply[..datagram.bytes.len()].copy_from_slice(datagram.bytes);
        Some(datagram.bytes.len())
    }
}

/// Echoes until told to stop.
struct EchoUntil {
    stop: Arc<AtomicBool>,
    /// The first datagram is answered only when this says so, or its other end is gone.
    gate: Option<mpsc::Receiver<()>>,
}

impl Serve for EchoUntil {
    type Output = Counters;

    async fn serve(mut self, mut datapath: impl Datapath) -> Counters {
        while !self.stop.load(Ordering::Acquire) {
            if datapath.turn(&mut self).unwrap() == 0 {
                datapath.arrived().await.unwrap();
            }
        }
        datapath.counters()
    }
}

impl Handler for EchoUntil {
    fn datagram(
        &mut self,
        datagram: Received<'_>,
        reply: &mut [u8; MAX_REPLY_BYTES],
    ) -> Option<usize> {
        if let Some(gate) = self.gate.take() {
            let _ = gate.recv_timeout(PATIENCE);
        }
        Echo.datagram(datagram, reply)
    }
}

struct Server {
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: JoinHandle<Counters>,
}

impl Server {
    fn start(io: Io, listen: &[(IpAddr, u16)]) -> Self {
        Self::start_behind(io, listen, None)
    }

    fn start_behind(io: Io, listen: &[(IpAddr, u16)], gate: Option<mpsc::Receiver<()>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let serve = EchoUntil {
            stop: Arc::clone(&stop),
            gate,
        };
        let (addresses, waker, thread) = spawn(io, listen, serve);
        Self {
            addresses,
            stop,
            waker,
            thread,
        }
    }

    fn finish(self) -> Counters {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        self.thread.join().unwrap()
    }
}

/// Serves `listen` on a thread of its own.
fn spawn<S>(
    io: Io,
    listen: &[(IpAddr, u16)],
    serve: S,
) -> (Vec<SocketAddr>, Waker, JoinHandle<S::Output>)
where
    S: Serve<Output: Send + 'static> + Send + 'static,
{
    spawn_with(io, listen, |_| {}, serve)
}

/// The same on sockets that `set_up` has seen.
fn spawn_with<S>(
    io: Io,
    listen: &[(IpAddr, u16)],
    set_up: impl FnOnce(&mut Listening),
    serve: S,
) -> (Vec<SocketAddr>, Waker, JoinHandle<S::Output>)
where
    S: Serve<Output: Send + 'static> + Send + 'static,
{
    let listen: Vec<_> = listen.iter().copied().map(SocketAddr::from).collect();
    let mut listening = socket::bind(&listen, NonZeroUsize::MIN).unwrap();
    set_up(&mut listening);
    let sockets = listening.workers.pop().unwrap();
    let waker = Waker::new().unwrap();
    let thread = std::thread::spawn({
        let waker = waker.clone();
        move || open(io, &sockets, waker).unwrap().serve(serve)
    });
    (listening.addresses, waker, thread)
}

/// A client that hears only what comes from `server`.
fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { ANY_V4 } else { ANY_V6 };
    let client = UdpSocket::bind(any).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(server).unwrap();
    client
}

fn ask(client: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    client.send(datagram).unwrap();
    receive(client)
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 1 << 16];
    let length = client.recv(&mut reply).unwrap();
    reply.truncate(length);
    reply
}

#[test]
fn io_uring_works_here() {
    // Else every test of it in this file would fail in a less readable way.
    assert_eq!(choose(IoChoice::Uring).unwrap(), Io::Uring);
    assert_eq!(choose(IoChoice::Auto).unwrap(), Io::Uring);
    assert_eq!(choose(IoChoice::Mmsg).unwrap(), Io::Mmsg);
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    for io in BOTH {
        let server = Server::start(io, &[V4, V6, ANY_V4, ANY_V6]);
        let port = |listener: usize| server.addresses[listener].port();
        for asked in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port(0))),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port(1))),
            SocketAddr::from((Ipv4Addr::LOCALHOST, port(2))),
            SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port(2))),
            SocketAddr::from((Ipv4Addr::new(127, 9, 9, 9), port(2))),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port(3))),
        ] {
            let client = client(asked);
            for text in [&b"first"[..], b"second"] {
                assert_eq!(ask(&client, text), text, "{io:?} {asked}");
            }
        }
        assert_eq!(server.finish(), Counters::default(), "{io:?}");
    }
}

#[test]
fn datagrams_of_every_size_arrive_cut_at_the_limit() {
    for io in BOTH {
        for address in [V4, V6, ANY_V4, ANY_V6] {
            let server = Server::start(io, &[address]);
            let mut asked = server.addresses[0];
            if asked.ip().is_unspecified() {
                asked.set_ip(if asked.is_ipv4() { V4.0 } else { V6.0 });
            }
            let client = client(asked);
            for length in [0, 1, 84, 4096, 8191, 8192, 8193, 60_000, 0] {
                let datagram: Vec<u8> = (0..=250).cycle().take(length).collect();
                let expected = &datagram[..length.min(MAX_DATAGRAM_BYTES)];
                assert!(ask(&client, &datagram) == expected, "{io:?} {length}");
            }
            let cut = server.finish().datagrams_cut;
            assert_eq!(cut, 2, "{io:?} {address:?}");
        }
    }
}

/// Queues `each` datagrams at every address while the server is held at its first one, so that it finds them all at
/// once.
fn crowd(io: Io, listeners: usize, each: usize) -> Counters {
    let (open, gate) = mpsc::channel();
    let server = Server::start_behind(io, &vec![V4; listeners], Some(gate));
    let clients: Vec<_> = server.addresses.iter().map(|a| client(*a)).collect();
    for client in &clients {
        for number in 0..each {
            client.send(&number.to_ne_bytes()).unwrap();
        }
    }
    drop(open);
    for client in &clients {
        let mut numbers: Vec<_> = (0..each).map(|_| receive(client)).collect();
        numbers.sort_unstable();
        let mut expected: Vec<_> = (0..each).map(|n| n.to_ne_bytes().to_vec()).collect();
        expected.sort_unstable();
        assert_eq!(numbers, expected, "{io:?}");
    }
    server.finish()
}

#[test]
fn nothing_is_lost_when_receive_buffers_run_out() {
    // The kernel fills 32 buffers a socket at a time: this many sockets at once take more than there are.
    let listeners = 20;
    let counters = crowd(Io::Uring, listeners, 100);
    assert!(counters.buffers_exhausted > 0, "{counters:?}");
    assert_eq!(
        counters.receive_errors + counters.send_errors,
        0,
        "{counters:?}"
    );
    assert_eq!(crowd(Io::Mmsg, listeners, 100), Counters::default());
}

#[test]
fn a_hundred_thousand_requests_lose_none() {
    const REQUESTS: u32 = 100_000;
    const IN_FLIGHT: u32 = 64;
    for io in BOTH {
        let server = Server::start(io, &[V4]);
        let client = client(server.addresses[0]);
        let mut is_answered = vec![false; REQUESTS as usize];
        for number in 0..REQUESTS + IN_FLIGHT {
            if number < REQUESTS {
                client.send(&number.to_ne_bytes()).unwrap();
            }
            if number >= IN_FLIGHT {
                let reply = receive(&client).try_into().unwrap();
                let answered = &mut is_answered[u32::from_ne_bytes(reply) as usize];
                assert!(!std::mem::replace(answered, true), "{io:?} answered twice");
            }
        }
        assert!(is_answered.iter().all(|answered| *answered), "{io:?}");
        assert_eq!(server.finish(), Counters::default(), "{io:?}");
    }
}

/// Discards what is queued when it is told to, then echoes one datagram.
struct DrainThenEcho {
    queued: mpsc::Receiver<()>,
}

impl Serve for DrainThenEcho {
    type Output = u64;

    async fn serve(self, mut datapath: impl Datapath) -> u64 {
        self.queued.recv_timeout(PATIENCE).unwrap();
        let drained = datapath.drain().unwrap();
        while datapath.turn(&mut Echo).unwrap() == 0 {
            datapath.arrived().await.unwrap();
        }
        drained
    }
}

#[test]
fn what_queued_is_drained_whole_and_what_follows_is_answered() {
    for io in BOTH {
        let (tell, queued) = mpsc::channel();
        let (addresses, _, thread) = spawn(io, &[V4, V6], DrainThenEcho { queued });
        for address in &addresses {
            let stale = client(*address);
            for _ in 0..200 {
                stale.send(b"stale").unwrap();
            }
        }
        tell.send(()).unwrap();
        let client = client(addresses[0]);
        // The server may still be draining, which takes this one too: ask until it answers.
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut asked = 0;
        let answer = loop {
            client.send(b"fresh").unwrap();
            asked += 1;
            let mut reply = [0; 16];
            if let Ok(length) = client.recv(&mut reply) {
                break reply[..length].to_vec();
            }
            assert!(asked < 50, "{io:?}");
        };
        assert_eq!(answer, b"fresh");
        let drained = thread.join().unwrap();
        assert!(
            (400..400 + asked).contains(&drained),
            "{io:?} {drained} {asked}"
        );
    }
}

/// Answers the first datagram with many late replies: `small` of 84 bytes, then `large` of the largest size.
struct Late {
    small: usize,
    large: usize,
}

impl Serve for Late {
    type Output = Counters;

    async fn serve(self, mut datapath: impl Datapath) -> Counters {
        let mut keep = KeepPath(None);
        while datapath.turn(&mut keep).unwrap() == 0 {
            datapath.arrived().await.unwrap();
        }
        let path = keep.0.unwrap();
        let nowhere: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = Listener { index: 0, port: 1 };
        let unsendable = ReplyPath::new(listener, nowhere, None);
        for _ in 0..self.small {
            datapath.send_later(&path, &[1; 84]).unwrap();
        }
        datapath
            .send_later(&unsendable, b"refused by the kernel")
            .unwrap();
        for _ in 0..self.large {
            datapath.send_later(&path, &[2; MAX_REPLY_BYTES]).unwrap();
        }
        datapath.flush().unwrap();
        // A refusal is counted when the next turn comes upon it.
        datapath.turn(&mut Echo).unwrap();
        datapath.counters()
    }
}

struct KeepPath(Option<ReplyPath>);

impl Handler for KeepPath {
    fn datagram(&mut self, datagram: Received<'_>, _: &mut [u8; MAX_REPLY_BYTES]) -> Option<usize> {
        self.0 = Some(datagram.path);
        None
    }
}

#[test]
fn late_replies_of_any_size_arrive_and_a_refused_one_is_counted() {
    // Few enough that the client's default receive buffer holds them all.
    let (small, large) = (140, 5);
    for io in BOTH {
        for (listen, asked) in [(V4, V4.0), (ANY_V4, Ipv4Addr::new(127, 0, 0, 3).into())] {
            let (addresses, _, thread) = spawn(io, &[listen], Late { small, large });
            let client = client((asked, addresses[0].port()).into());
            client.send(b"ask").unwrap();
            for _ in 0..small {
                assert_eq!(receive(&client), [1; 84], "{io:?}");
            }
            for _ in 0..large {
                assert_eq!(receive(&client), [2; MAX_REPLY_BYTES], "{io:?}");
            }
            assert_eq!(thread.join().unwrap().send_errors, 1, "{io:?}");
        }
    }
}

#[test]
fn a_path_names_both_ends() {
    struct TellPath;
    impl Serve for TellPath {
        type Output = ReplyPath;
        async fn serve(self, mut datapath: impl Datapath) -> ReplyPath {
            let mut keep = KeepPath(None);
            while datapath.turn(&mut keep).unwrap() == 0 {
                datapath.arrived().await.unwrap();
            }
            keep.0.unwrap()
        }
    }
    for io in BOTH {
        let (addresses, _, thread) = spawn(io, &[V4, V6], TellPath);
        let client = client(addresses[1]);
        client.send(b"").unwrap();
        let path = thread.join().unwrap();
        assert_eq!(path.peer(), client.local_addr().unwrap(), "{io:?}");
        assert_eq!(path.port(), client.local_addr().unwrap().port(), "{io:?}");
        assert_eq!(path.local_port(), addresses[1].port(), "{io:?}");
        assert_eq!(path.listener(), 1, "{io:?}");
    }
}

/// What came in, and what the clock said at the beginning of each batch.
#[derive(Default)]
struct Batches {
    began: Option<SystemTime>,
    arrivals: Vec<(SystemTime, Received<'static>)>,
}

impl Handler for Batches {
    fn begin_batch(&mut self) {
        self.began = Some(SystemTime::now());
    }

    fn datagram(&mut self, datagram: Received<'_>, _: &mut [u8; MAX_REPLY_BYTES]) -> Option<usize> {
        let began = self.began.expect("a batch begins before its datagrams");
        let bytes = b"";
        self.arrivals.push((began, Received { bytes, ..datagram }));
        None
    }
}

/// Takes so many datagrams while they come.
struct TakeBatches(usize);

impl Serve for TakeBatches {
    type Output = Vec<(SystemTime, Received<'static>)>;

    async fn serve(self, mut datapath: impl Datapath) -> Self::Output {
        let mut batches = Batches::default();
        while batches.arrivals.len() < self.0 {
            batches.began = None;
            if datapath.turn(&mut batches).unwrap() == 0 {
                datapath.arrived().await.unwrap();
            }
        }
        batches.arrivals
    }
}

#[test]
fn a_batch_begins_when_it_has_arrived_and_arrivals_are_noted_where_asked_for() {
    const DATAGRAMS: usize = 2000;
    let takes = |io, listen: (IpAddr, u16), notes| {
        let set_up = |listening: &mut Listening| {
            if notes {
                listening.note_arrivals().unwrap();
            }
        };
        let (addresses, _, thread) = spawn_with(io, &[listen], set_up, TakeBatches(DATAGRAMS));
        let loopback = if listen.0.is_ipv4() { V4.0 } else { V6.0 };
        let client = client((loopback, addresses[0].port()).into());
        let before = SystemTime::now();
        for _ in 0..DATAGRAMS {
            client.send(b"datagram").unwrap();
        }
        for (began, received) in thread.join().unwrap() {
            assert_eq!(received.arrived.is_some(), notes, "{io:?} {listen:?}");
            let arrived = received.arrived.unwrap_or(before);
            assert!(before <= arrived && arrived <= began, "{io:?} {listen:?}");
            let local = listen.0.is_unspecified().then_some(loopback);
            assert_eq!(received.path.local(), local, "{io:?} {listen:?}");
        }
    };
    for io in BOTH {
        for listen in [V4, ANY_V4, V6, ANY_V6] {
            takes(io, listen, false);
            takes(io, listen, true);
        }
    }
}

/// Waits until it has been woken for every number up to `last`, telling each.
struct CountWakes {
    announced: Arc<AtomicU32>,
    last: u32,
    heard: mpsc::Sender<u32>,
}

impl Serve for CountWakes {
    type Output = ();

    async fn serve(self, mut datapath: impl Datapath) {
        let mut number = 0;
        while number < self.last {
            let arrived = tokio::time::timeout(PATIENCE, datapath.arrived()).await;
            arrived.expect("nobody woke the worker").unwrap();
            assert_eq!(datapath.turn(&mut Echo).unwrap(), 0);
            // A wait may end once too often; what counts is that a wake-up is never missed.
            let announced = self.announced.load(Ordering::Acquire);
            if announced != std::mem::replace(&mut number, announced) {
                self.heard.send(number).unwrap();
            }
        }
        let mut waits = 0;
        let quiet = Duration::from_millis(50);
        while tokio::time::timeout(quiet, datapath.arrived())
            .await
            .is_ok()
        {
            datapath.turn(&mut Echo).unwrap();
            waits += 1;
            assert!(waits < 5, "waits end although nothing happens");
        }
    }
}

#[test]
fn a_waker_ends_one_wait_before_or_during_it() {
    for io in BOTH {
        let (heard, answers) = mpsc::channel();
        let announced = Arc::new(AtomicU32::new(0));
        let last = 200;
        let serve = CountWakes {
            announced: Arc::clone(&announced),
            last,
            heard,
        };
        let (_, waker, thread) = spawn(io, &[V4], serve);
        for number in 1..=last {
            // Sometimes while it waits on the ring or in the runtime, sometimes before it waits.
            std::thread::sleep(Duration::from_micros(
                [0, 10, 300, 3000][number as usize % 4],
            ));
            announced.store(number, Ordering::Release);
            waker.wake();
            assert_eq!(answers.recv_timeout(PATIENCE), Ok(number), "{io:?}");
        }
        thread.join().unwrap();
    }
}

/// Gives up a wait again and again, as a worker whose timer is due does, and answers in between.
struct Impatient {
    rounds: usize,
}

impl Serve for Impatient {
    type Output = usize;

    async fn serve(self, mut datapath: impl Datapath) -> usize {
        let mut taken = 0;
        for _ in 0..self.rounds {
            let _ = tokio::time::timeout(Duration::from_millis(1), datapath.arrived()).await;
            taken += datapath.turn(&mut Echo).unwrap();
        }
        taken
    }
}

#[test]
fn a_wait_given_up_loses_nothing() {
    for io in BOTH {
        let (addresses, _, thread) = spawn(io, &[V4], Impatient { rounds: 400 });
        let client = client(addresses[0]);
        for number in 0..50_usize {
            assert_eq!(
                ask(&client, &number.to_ne_bytes()),
                number.to_ne_bytes(),
                "{io:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(thread.join().unwrap(), 50, "{io:?}");
    }
}

#[test]
fn a_datapath_can_be_closed_with_datagrams_under_way_and_opened_again() {
    for io in BOTH {
        let mut addresses = vec![V4, V6];
        for _ in 0..20 {
            let server = Server::start(io, &addresses);
            let client = client(server.addresses[0]);
            assert_eq!(ask(&client, b"alive"), b"alive", "{io:?}");
            // The next round takes the same ports.
            addresses = server
                .addresses
                .iter()
                .map(|a| (a.ip(), a.port()))
                .collect();
            for _ in 0..50 {
                let _ = client.send(b"never answered, or late");
            }
            server.finish();
        }
    }
}
