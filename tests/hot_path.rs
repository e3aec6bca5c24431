//! What a request costs besides its own work: on the hot path no allocation, and no system call beyond those that move
//! batches of datagrams.

use std::alloc::System;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyzor_storage::redb_engine::{RedbEngine, RedbOptions, SystemClock};
use pyzord::access_files::AccessFiles;
use pyzord::config::RecordConfig;
use pyzord::metrics::{Counter, Metrics};
use pyzord::recording::{RecordTap, Recorder};
use pyzord::{datapath, socket, worker};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::harness::client::receive_from;
use crate::harness::{Io, Request, Server, Setup, eventually, random_digest};

both_io!(
    reads_do_not_allocate,
    recorded_reads_do_not_allocate,
    system_calls_are_shared_by_many_requests,
    system_calls_are_shared_by_many_recorded_requests,
);

/// Counts every allocation of the test process, so only a process that runs one test alone learns anything from it.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Set in the process that runs one test alone.
const ALONE_VARIABLE: &str = "PYZOR_TESTS_ALONE";

/// Requests between two looks at the counters.
const WINDOW_REQUESTS: usize = 600;
/// Other threads of the store wake up now and then; one window without them is enough.
const WINDOWS: usize = 30;

fn reads_do_not_allocate(io: Io) {
    if std::env::var_os(ALONE_VARIABLE).is_none() {
        return run_this_test_alone();
    }
    let directory = tempfile::tempdir().unwrap();
    let (worker, address) = start_worker(io, directory.path(), None);
    assert_reads_do_not_allocate(address);
    worker.stop();
    worker.join().unwrap();
}

fn recorded_reads_do_not_allocate(io: Io) {
    if std::env::var_os(ALONE_VARIABLE).is_none() {
        return run_this_test_alone();
    }
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(1);
    let config = RecordConfig {
        file: directory.path().join("record.pcap"),
        starts_on: true,
        share: 1.0,
        max_bytes: 1 << 30,
        anonymize: true,
    };
    let listeners = ["127.0.0.1:1".parse().unwrap()];
    let (recorder, mut taps) = Recorder::start(&config, &listeners, &metrics).unwrap();
    let (worker, address) = start_worker(io, directory.path(), taps.pop());
    assert_reads_do_not_allocate(address);
    worker.stop();
    worker.join().unwrap();
    recorder.finish();
    let written = metrics.snapshot().counter(Counter::Recorded);
    assert!(written > (WINDOWS * WINDOW_REQUESTS) as u64, "{written}");
}

fn assert_reads_do_not_allocate(address: SocketAddr) {
    let (reported, unknown) = (random_digest(), random_digest());
    let client = connect(address);
    exchange(
        &client,
        &[Request::new("report").digest(&reported).to_bytes()],
        1,
    );
    let requests = [
        Request::new("ping").to_bytes(),
        Request::new("check").digest(&reported).to_bytes(),
        Request::new("check").digest(&unknown).to_bytes(),
        Request::new("info").digest(&reported).to_bytes(),
        Request::new("check").digest("no digest").to_bytes(),
        Request::new("pong").digest(&reported).to_bytes(),
    ];
    let fewest = (0..WINDOWS)
        .map(|_| {
            let region = Region::new(ALLOCATOR);
            exchange(&client, &requests, WINDOW_REQUESTS);
            let change = region.change();
            change.allocations + change.reallocations
        })
        .min();
    assert_eq!(fewest, Some(0), "allocations in {WINDOW_REQUESTS} requests");
}

/// Runs the test that calls it again, in a process that runs nothing else.
fn run_this_test_alone() {
    let name = thread::current()
        .name()
        .expect("tests have names")
        .to_owned();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(ALONE_VARIABLE, "1")
        .output()
        .expect("the test binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// One worker on a store of its own, within this process.
fn start_worker(
    io: Io,
    directory: &Path,
    record_tap: Option<RecordTap>,
) -> (worker::WorkerHandle, SocketAddr) {
    let one = NonZeroUsize::MIN;
    let listening = socket::bind(&["127.0.0.1:0".parse().unwrap()], one).unwrap();
    let engine = RedbEngine::open(
        &directory.join("pyzord.redb"),
        RedbOptions::default(),
        Arc::new(SystemClock),
    );
    let setup = worker::WorkerSetup {
        index: 0,
        core: pyzord::cpus::allowed_cores()[0],
        io: match io {
            Io::Uring => datapath::Io::Uring,
            Io::Mmsg | Io::Auto => datapath::Io::Mmsg,
        },
        fallback: None,
        sockets: listening.workers.into_iter().next().unwrap(),
        access: Arc::new(AccessFiles::load(None, None).unwrap()),
        engine: Arc::new(engine.unwrap()),
        metrics: Metrics::new(1).worker(0),
        usage_log: None,
        record_tap,
    };
    (worker::spawn(setup).unwrap(), listening.addresses[0])
}

fn connect(server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client
}

/// Sends the requests in turn until `number` of them are answered, one at a time. Allocates nothing.
fn exchange(client: &UdpSocket, requests: &[Vec<u8>], number: usize) {
    let mut buffer = [0; 2048];
    for request in requests.iter().cycle().take(number) {
        client.send(request).unwrap();
        receive_from(client, &mut buffer).expect("a reply");
    }
}

/// Requests sent under strace, in bursts.
const TRACED_REQUESTS: usize = 12_800;
const BURST: usize = 128;
/// The calls that move datagrams, many at a time.
const DATAGRAM_CALLS: [&str; 3] = ["io_uring_enter", "recvmmsg", "sendmmsg"];
/// All other calls together, waking up and waiting included, as a share of the requests.
const OTHER_CALLS_SHARE: usize = 4;
const STRACE_LIMIT: Duration = Duration::from_secs(20);

fn system_calls_are_shared_by_many_requests(io: Io) {
    needs!(Strace);
    assert_system_calls_are_shared(&Server::start(io));
}

fn system_calls_are_shared_by_many_recorded_requests(io: Io) {
    needs!(Strace);
    let mut server = Setup::new(io).arg("--record").arg("record.pcap").start();
    assert_system_calls_are_shared(&server);
    assert!(server.stop().success());
    assert!(server.counter("recorded") > TRACED_REQUESTS as u64);
}

fn assert_system_calls_are_shared(server: &Server) {
    let client = connect(server.address());
    let digest = random_digest();
    exchange(
        &client,
        &[Request::new("report").digest(&digest).to_bytes()],
        1,
    );
    let check = Request::new("check").digest(&digest).to_bytes();
    let calls = system_calls(server, || send_bursts(&client, &check));
    let (own, other): (Vec<_>, Vec<_>) = calls
        .iter()
        .partition(|(name, _)| DATAGRAM_CALLS.contains(&name.as_str()));
    let sum = |calls: &[&(String, usize)]| calls.iter().map(|(_, number)| number).sum::<usize>();
    assert!(sum(&own) > 0, "strace saw the datagrams: {calls:?}");
    assert!(sum(&own) < TRACED_REQUESTS, "{calls:?}");
    assert!(
        sum(&other) < TRACED_REQUESTS / OTHER_CALLS_SHARE,
        "{calls:?}"
    );
}

fn send_bursts(client: &UdpSocket, request: &[u8]) {
    let mut buffer = [0; 2048];
    for _ in 0..TRACED_REQUESTS / BURST {
        for _ in 0..BURST {
            client.send(request).unwrap();
        }
        for _ in 0..BURST {
            receive_from(client, &mut buffer).expect("a reply");
        }
    }
}

/// The system calls of `server`, by name, while `load` runs.
fn system_calls(server: &Server, load: impl FnOnce()) -> Vec<(String, usize)> {
    let directory = tempfile::tempdir().unwrap();
    let (counts, said) = (
        directory.path().join("counts"),
        directory.path().join("said"),
    );
    let mut strace = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "strace", "-f", "-c", "-o"])
        .arg(&counts)
        .args(["-p", &server.pid().to_string()])
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .expect("strace starts");
    let attached = eventually(STRACE_LIMIT, || {
        fs::read_to_string(&said).unwrap().contains("attached")
    });
    assert!(attached, "strace: {}", fs::read_to_string(&said).unwrap());
    load();
    let pid = Pid::from_raw(strace.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).expect("strace runs");
    strace.wait().expect("it is our child");
    let table = fs::read_to_string(&counts).unwrap();
    table.lines().filter_map(counted_call).collect()
}

/// The name and number of calls in a line of strace's table: `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn counted_call(line: &str) -> Option<(String, usize)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    columns.first()?.parse::<f64>().ok()?;
    let name = columns.last().filter(|name| **name != "total")?;
    Some(((*name).to_owned(), columns.get(3)?.parse().ok()?))
}
