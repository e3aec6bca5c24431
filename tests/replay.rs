//! The open loop counts what really happens: against servers that lose, repeat, mangle and stall on purpose. Times are
//! asserted only where they follow from what the servers here are known to have done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::capture::write_capture;
use crate::harness::client::receive_from;
use crate::harness::fake_server::Fake;
use crate::harness::programs::program;
use crate::harness::{Account, Io, Request, Setup, eventually};

/// Checks without an end, from one source.
pub(crate) const CHECKS: &str = "synthetic:check=1,sources=1";
/// A busy machine takes its time to start a program.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server without a memory.
fn serve(serve: impl Fn(&UdpSocket, u64, &[u8], SocketAddr) + Send + 'static) -> Fake<()> {
    let serve = move |(): &mut (), socket: &UdpSocket, number, datagram: &[u8], client| {
        serve(socket, number, datagram, client);
    };
    Fake::start((), serve, |()| ())
}

/// A server that answers, and the number of requests it has seen.
pub(crate) fn counting() -> (Fake<()>, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    let server = serve(move |socket, number, datagram, client| {
        answer(socket, datagram, client);
        count.store(number + 1, Ordering::Relaxed);
    });
    (server, seen)
}

/// The value of a header, if the datagram has it.
fn header<'d>(datagram: &'d [u8], name: &str) -> Option<&'d str> {
    let text = str::from_utf8(datagram).ok()?;
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&prefix))
}

fn reply(thread: &str) -> Vec<u8> {
    format!("Code: 200\nDiag: OK\nPV: 2.1\nThread: {thread}\n\n").into_bytes()
}

/// Answers a request as it should be.
fn answer(socket: &UdpSocket, datagram: &[u8], client: SocketAddr) {
    let thread = header(datagram, "Thread").unwrap_or_default();
    socket.send_to(&reply(thread), client).unwrap();
}

pub(crate) fn loadgen(command: &str, arguments: &[&str]) -> Command {
    let mut loadgen = Command::new(program("loadgen"));
    loadgen.arg(command).args(arguments);
    loadgen
}

/// Whether nothing went wrong but the machine, which may have been too busy: a run that is void for that fails.
pub(crate) fn is_fine(output: &Output) -> bool {
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_void = |line: &str| {
        line.starts_with("loadgen: the run is void: ")
            || line.starts_with("loadgen: all ") && line.contains(" runs are void, ")
    };
    let all_void = !errors.is_empty() && errors.lines().all(is_void);
    output.status.success() || output.status.code() == Some(1) && all_void
}

/// One `loadgen replay` that must succeed: its JSON.
fn replay(trace: &str, target: SocketAddr, arguments: &[&str]) -> Value {
    result(|json| {
        let target = target.to_string();
        let fixed = [trace, "--target", &target, "--json", json];
        loadgen("replay", &[&fixed, arguments].concat())
            .output()
            .unwrap()
    })
}

fn result(run: impl FnOnce(&str) -> Output) -> Value {
    let folder = TempDir::new().unwrap();
    let json: PathBuf = folder.path().join("result.json");
    let output = run(json.to_str().unwrap());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(is_fine(&output), "{errors}");
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

fn losses(result: &Value, names: &[&str]) -> Vec<u64> {
    let loss = |name: &&str| result["losses"][*name].as_u64().unwrap();
    names.iter().map(loss).collect()
}

fn number(result: &Value, path: &str) -> f64 {
    result
        .pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{path} in {result}"))
}

/// By sender: what it sent, and the threads it used.
type Seen = BTreeMap<SocketAddr, (BTreeMap<(String, Option<String>), u32>, Vec<String>)>;

#[test]
fn the_replayed_mix_is_the_recorded_one_and_every_source_its_own_flow() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("trace.pcap");
    let sources = ["198.51.100.7:1111", "198.51.100.7:2222", "203.0.113.9:1111"];
    let operations = [
        "check",
        "report",
        "ping",
        "check",
        "whitelist",
        "info",
        "check",
    ];
    let mut packets = Vec::new();
    let mut expected = BTreeMap::new();
    for number in 0..200 {
        let source: SocketAddr = sources[number % 3].parse().unwrap();
        let operation = operations[number % 7];
        let datagram = if number % 50 == 49 {
            b"not a request\n".to_vec()
        } else {
            Request::new(operation)
                .digest(&format!("{number:040x}"))
                .to_bytes()
        };
        let op = header(&datagram, "Op").unwrap_or("none").to_owned();
        let digest = header(&datagram, "Op-Digest").map(str::to_owned);
        *expected.entry((source, op, digest)).or_insert(0) += 1;
        packets.push((Duration::from_millis(number as u64 * 10), source, datagram));
    }
    write_capture(&path, &packets);
    let server = Fake::start(
        Seen::new(),
        |seen, socket, _, datagram, client| {
            let (requests, threads) = seen.entry(client).or_default();
            let op = header(datagram, "Op").unwrap_or("none").to_owned();
            let digest = header(datagram, "Op-Digest").map(str::to_owned);
            *requests.entry((op, digest)).or_insert(0) += 1;
            threads.extend(header(datagram, "Thread").map(str::to_owned));
            answer(socket, datagram, client);
        },
        |seen| seen,
    );
    let arguments = [
        "--speed",
        "4",
        "--sources",
        "127.77.0.0/16",
        "--timeout",
        "5",
    ];
    let result = replay(path.to_str().unwrap(), server.address, &arguments);
    let seen = server.stop();

    assert_eq!(result["sent"], 200);
    assert_eq!(result["answered"], 200, "{result}");
    assert_eq!(
        (&result["sockets"], &result["sources"]),
        (&3.into(), &2.into())
    );
    let addresses: BTreeSet<IpAddr> = seen.keys().map(SocketAddr::ip).collect();
    let expected_addresses: Vec<IpAddr> = ["127.77.0.1", "127.77.0.2"]
        .map(|ip| ip.parse().unwrap())
        .into();
    assert_eq!(Vec::from_iter(addresses), expected_addresses);
    let mut recorded: BTreeMap<SocketAddr, BTreeMap<_, u32>> = BTreeMap::new();
    for ((source, op, digest), count) in expected {
        recorded
            .entry(source)
            .or_default()
            .insert((op, digest), count);
    }
    let sorted = |flows: Vec<BTreeMap<(String, Option<String>), u32>>| {
        let mut flows: Vec<String> = flows.iter().map(|flow| format!("{flow:?}")).collect();
        flows.sort();
        flows
    };
    let threads: Vec<Vec<String>> = seen.values().map(|(_, threads)| threads.clone()).collect();
    let replayed = sorted(seen.into_values().map(|(requests, _)| requests).collect());
    assert_eq!(replayed, sorted(recorded.into_values().collect()));
    for threads in threads {
        let different: BTreeSet<&String> = threads.iter().collect();
        assert_eq!(different.len(), threads.len());
        assert!(threads.iter().all(|thread| thread.len() == 5));
    }
    // The last request is due after 1,990 ms of the recording.
    assert!(number(&result, "/window_s") >= 1.99 / 4.0);
    assert_eq!(
        number(&result, "/schedule/kind/recorded/speed").to_bits(),
        4.0_f64.to_bits()
    );
}

#[test]
fn old_signatures_are_made_new_for_accounts_and_kept_for_others() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("trace.pcap");
    let account = |user| Account { user, key: "00ff" };
    let old = |user| {
        Request::new("report")
            .digest(&"a".repeat(40))
            .at(1_000_000_000)
            .signed_by(account(user))
    };
    let source = "198.51.100.7:1111".parse().unwrap();
    let packets: Vec<_> = ["bob", "eve", "bob"]
        .map(|user| (Duration::ZERO, source, old(user).to_bytes()))
        .into();
    write_capture(&path, &packets);
    let accounts = folder.path().join("accounts");
    std::fs::write(&accounts, "somewhere.else : 24441 : bob : aabb,00ff\n").unwrap();
    let server = Setup::new(Io::Auto)
        .file("pyzord.passwd", "bob : 00ff\neve : 00ff\n")
        .file("pyzord.access", "all : all : allow\n")
        .start();
    let codes = |arguments: &[&str]| {
        let result = replay(path.to_str().unwrap(), server.address(), arguments);
        let codes = result["operations"][0]["codes"]
            .as_object()
            .unwrap()
            .clone();
        codes
            .into_iter()
            .map(|(code, answers)| (code, answers["answered"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(&[]), [("401".to_owned(), 3)]);
    let with = codes(&["--accounts", accounts.to_str().unwrap()]);
    assert_eq!(with, [("200".to_owned(), 2), ("401".to_owned(), 1)]);
}

#[test]
fn a_server_that_drops_every_thousandth_reply_shows_exactly_that() {
    let server = serve(|socket, number, datagram, client| {
        if number % 1000 != 999 {
            answer(socket, datagram, client);
        }
    });
    let arguments = ["--rate", "4000", "--duration", "2", "--timeout", "3"];
    let result = replay(CHECKS, server.address, &arguments);
    assert_eq!(result["sent"], 8000);
    assert_eq!(result["answered"], 7992);
    assert_eq!(
        losses(&result, &["lost", "unknown", "own_socket", "unsent"]),
        [8, 8, 0, 0]
    );
}

#[test]
fn repeated_and_mangled_replies_are_counted_as_such() {
    let server = serve(|socket, number, datagram, client| match number % 100 {
        10 => {
            answer(socket, datagram, client);
            answer(socket, datagram, client);
        }
        // No request can have this one yet.
        20 => drop(socket.send_to(&reply("65535"), client)),
        30 => {
            drop(socket.send_to(b"nonsense", client));
            answer(socket, datagram, client);
        }
        _ => answer(socket, datagram, client),
    });
    let arguments = ["--rate", "2000", "--duration", "1", "--timeout", "3"];
    let result = replay(CHECKS, server.address, &arguments);
    assert_eq!(result["answered"], 1980);
    let counted = losses(&result, &["lost", "duplicate", "stray", "late"]);
    assert_eq!(counted, [20, 20, 40, 0]);
}

#[test]
fn replies_after_the_limit_are_lost_and_late() {
    let server = serve(|socket, number, datagram, client| {
        if number == 10 {
            let (socket, datagram) = (socket.try_clone().unwrap(), datagram.to_vec());
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(900));
                answer(&socket, &datagram, client);
            });
        } else {
            answer(socket, datagram, client);
        }
    });
    let arguments = ["--rate", "100", "--duration", "2", "--timeout", "0.5"];
    let result = replay(CHECKS, server.address, &arguments);
    let [late, lost] = losses(&result, &["late", "lost"])[..] else {
        panic!("{result}");
    };
    // On a busy machine others may be late, too.
    assert!(late >= 1 && lost >= late, "{result}");
    assert_eq!(result["answered"].as_u64().unwrap() + lost, 200);
}

/// On a busy machine the generator may be late; in so long a time it is not always.
const ON_TIME_PATIENCE: Duration = Duration::from_secs(180);
const STALL: Duration = Duration::from_millis(200);

#[test]
fn a_server_that_stalls_shows_in_both_latencies() {
    // A request that is late by so much waits in a stall for that much less, which is within what is allowed below.
    let late_us = STALL.as_secs_f64() * 1e6 / 10.0;
    let began = Instant::now();
    while began.elapsed() < ON_TIME_PATIENCE {
        let (result, stalls_s) = replay_to_a_stalling_server();
        if number(&result, "/schedule/lag/p99_us") <= late_us {
            return assert_stalls_show(&result, &stalls_s);
        }
        eprintln!("late, on a busy machine: {}", result["void"]);
    }
    panic!("in {ON_TIME_PATIENCE:?} the generator was never on time");
}

const STALLED_RUN_S: f64 = 4.0;

/// A run against a server that stalls once a second, and how long it stalled each time.
fn replay_to_a_stalling_server() -> (Value, Vec<f64>) {
    let server = Fake::start(
        (Instant::now(), Vec::new()),
        |(next, stalls_s), socket, _, datagram, client| {
            if Instant::now() >= *next {
                let began = Instant::now();
                std::thread::sleep(STALL);
                stalls_s.push(began.elapsed().as_secs_f64());
                *next = began + Duration::from_secs(1);
            }
            answer(socket, datagram, client);
        },
        |(_, stalls_s)| stalls_s,
    );
    let duration = STALLED_RUN_S.to_string();
    let arguments = ["--rate", "1000", "--duration", &duration, "--timeout", "5"];
    let result = replay(CHECKS, server.address, &arguments);
    (result, server.stop())
}

/// Requests come evenly: those that wait longer than so are the ones that came earlier in a stall than that.
fn assert_stalls_show(result: &Value, stalls_s: &[f64]) {
    let share_above = |latency_us: f64| {
        let latency_s = latency_us / 1e6;
        let above = stalls_s
            .iter()
            .map(|stall_s| (stall_s - latency_s).max(0.0));
        above.sum::<f64>() / STALLED_RUN_S
    };
    for clock in ["service", "intended"] {
        let p90_us = number(result, &format!("/operations/0/{clock}/p90_us"));
        let max_us = number(result, &format!("/operations/0/{clock}/max_us"));
        let share = share_above(p90_us);
        assert!(
            (share - 0.1).abs() < 0.02,
            "{clock}: {share} above {p90_us} us"
        );
        assert!(max_us > 190_000.0, "{clock}: {max_us}");
    }
}

/// Runs the load generator, and stops it for a while once so many requests were `seen`.
pub(crate) fn run_with_a_stop(command: &mut Command, seen: &AtomicU64, requests: u64) -> Output {
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(eventually(PATIENCE, || seen.load(Ordering::Relaxed) > requests));
    signal(&child, Signal::SIGSTOP);
    assert!(eventually(PATIENCE, || has_stopped(&child)));
    std::thread::sleep(STOPPED);
    signal(&child, Signal::SIGCONT);
    child.wait_with_output().unwrap()
}

const STOPPED: Duration = Duration::from_millis(200);

#[test]
fn a_generator_that_was_stopped_says_so_and_does_not_blame_the_server() {
    let (server, seen) = counting();
    let target = server.address.to_string();
    let result = result(|json| {
        let fixed = [CHECKS, "--target", &target, "--json", json];
        let limits = ["--rate", "500", "--duration", "3", "--timeout", "5"];
        run_with_a_stop(loadgen("replay", &fixed).args(limits), &seen, 300)
    });
    assert!(result["void"].is_string(), "{result}");
    // The first request that was late by it was due 2 ms after the stop at the latest.
    let stopped_us = STOPPED.as_secs_f64() * 1e6 - 3000.0;
    assert!(
        number(&result, "/schedule/lag/max_us") >= stopped_us,
        "{result}"
    );
    assert!(number(&result, "/operations/0/intended/max_us") >= stopped_us);
    // The timeline tells when.
    let parts = result["timeline"].as_array().unwrap();
    let latest = parts.iter().map(|part| number(part, "/lag/max_us"));
    let latest_us = latest.fold(0.0, f64::max);
    assert!(latest_us >= stopped_us && parts.len() > 2, "{result}");
    let [service_us, intended_us] = ["service", "intended"]
        .map(|clock| number(&result, &format!("/operations/0/{clock}/p99_us")));
    assert!(service_us < intended_us, "{result}");
    assert_eq!(result["sent"], 1500);
    assert_eq!(result["answered"], 1500);
}

/// Whether all threads have: on a busy machine that takes its time.
fn has_stopped(child: &Child) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" T"))
    })
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn what_the_servers_kernel_drops_is_attributed_to_it() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The smallest there is: room for a few requests.
    socket2::SockRef::from(&socket)
        .set_recv_buffer_size(1)
        .unwrap();
    let target = socket.local_addr().unwrap();
    let (end, has_ended) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        assert!(eventually(PATIENCE, || kernel_drops(target.port()) > 400));
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let mut buffer = [0; 9000];
        while let Ok((length, client)) = receive_from(&socket, &mut buffer) {
            answer(&socket, &buffer[..length], client);
        }
        // Its drops are read from it at the end.
        let _ = has_ended.recv();
    });
    let pid = std::process::id().to_string();
    let arguments = [
        "--rate",
        "500",
        "--duration",
        "1",
        "--timeout",
        "4",
        "--server-pid",
        &pid,
    ];
    let result = replay(CHECKS, target, &arguments);
    let counted = losses(&result, &["lost", "server_kernel", "unknown"]);
    assert!(counted[0] > 400, "{result}");
    assert_eq!(counted[1], counted[0], "{result}");
    assert_eq!(counted[2], 0);
    drop(end);
    server.join().unwrap();
}

/// What the kernel has dropped at the IPv4 sockets of a port: the last column of `proc_net_udp(5)`.
fn kernel_drops(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let local = format!(":{port:04X}");
    let sockets = table.lines().map(|line| line.split_whitespace());
    let ours = sockets.filter_map(|mut columns| {
        columns.nth(1)?.ends_with(&local).then_some(())?;
        columns.next_back()?.parse::<u64>().ok()
    });
    ours.sum()
}

#[test]
fn many_sources_share_the_sockets_there_are() {
    let server = Fake::start(
        BTreeSet::new(),
        |clients, socket, _, datagram, client| {
            clients.insert(client);
            answer(socket, datagram, client);
        },
        |clients| clients.len(),
    );
    let arguments = [
        "--rate",
        "1000",
        "--duration",
        "1",
        "--sockets",
        "5",
        "--timeout",
        "5",
        "--poisson",
        "--threads",
        "2",
    ];
    let result = replay("synthetic:check=1,sources=100", server.address, &arguments);
    assert_eq!(server.stop(), 5);
    assert_eq!(result["sockets"], 5);
    assert_eq!(result["sent"], result["answered"]);
    assert_eq!(result["schedule"]["kind"], "poisson");
    assert_eq!(result["losses"]["stray"], 0);
}

#[test]
fn a_trace_in_rounds_goes_on_until_it_is_stopped() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("trace.pcap");
    let source = "198.51.100.7:1111".parse().unwrap();
    let packet = |number: u64| {
        let at = Duration::from_millis(10 * number);
        (at, source, Request::new("ping").to_bytes())
    };
    write_capture(&path, &(0..10).map(packet).collect::<Vec<_>>());
    let (server, seen) = counting();
    let target = server.address.to_string();
    let result = result(|json| {
        let fixed = [
            path.to_str().unwrap(),
            "--target",
            &target,
            "--json",
            json,
            "--loop",
        ];
        let child = loadgen("replay", &fixed)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(eventually(PATIENCE, || seen.load(Ordering::Relaxed) > 30));
        signal(&child, Signal::SIGINT);
        child.wait_with_output().unwrap()
    });
    assert_eq!(result["ended_early"], true);
    let sent = result["sent"].as_u64().unwrap();
    assert!(sent > 10, "more than one round: {result}");
    assert_eq!(result["answered"], sent);
    let window_s = number(&result, "/window_s");
    let due = u64::try_from(Duration::from_secs_f64(window_s).as_millis() / 10 + 1).unwrap();
    assert!(sent <= due, "{sent} of {due}");
}

#[test]
fn a_ramp_measures_each_step() {
    let server = serve(|socket, _, datagram, client| answer(socket, datagram, client));
    let target = server.address.to_string();
    let series = result(|json| {
        let steps = [
            "--from",
            "100",
            "--to",
            "300",
            "--step",
            "100",
            "--step-duration",
            "0.5",
        ];
        let fixed = [
            CHECKS, "--target", &target, "--json", json, "--warmup", "0.1",
        ];
        loadgen("ramp", &[&fixed[..], &steps].concat())
            .output()
            .unwrap()
    });
    let runs = series["runs"].as_array().unwrap();
    let sent: Vec<u64> = runs
        .iter()
        .map(|run| run["sent"].as_u64().unwrap())
        .collect();
    assert_eq!(sent, [50, 100, 150]);
    assert_eq!(series["kind"], "ramp");
}

#[test]
fn the_longest_datagrams_and_a_single_moment_are_replayed() {
    let (server, seen) = counting();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.pcap");
    let source = "192.0.2.7:1024".parse().unwrap();
    let mut long = b"Op: ping\nThread: 1\nTime: 1\nPad: ".to_vec();
    // The most that an IPv4 packet holds: with another Thread and Time it would be longer.
    long.resize(65_507, b'a');
    let ping = b"Op: ping\nThread: 1\n\n".to_vec();
    write_capture(
        &file,
        &[long, ping].map(|datagram| (Duration::ZERO, source, datagram)),
    );
    let arguments = ["--loop", "--duration", "2.5"];
    let result = replay(file.to_str().unwrap(), server.address, &arguments);
    // All of a moment, and the next round a second later.
    assert_eq!(result["sent"], 6, "{result}");
    assert_eq!(result["answered"], 6);
    assert_eq!(seen.load(Ordering::Relaxed), 6);
}

#[test]
fn what_cannot_be_done_is_one_line() {
    let server = serve(|socket, _, datagram, client| answer(socket, datagram, client));
    let alive = server.address.to_string();
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = deaf.local_addr().unwrap().to_string();
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let common = ["--rate", "100", "--duration", "1"];
    let cases = [
        (
            vec![CHECKS, "--target", &closed],
            "refuses: nothing listens there",
        ),
        (
            vec![CHECKS, "--target", "nowhere.invalid:1"],
            "cannot find the target nowhere.invalid:1",
        ),
        (vec!["/dev/null", "--target", &alive], "/dev/null is empty"),
        (
            vec!["-", "--target", &alive, "--loop"],
            "standard input can be read only once",
        ),
        (vec!["/missing", "--target", &alive], "cannot read /missing"),
        (
            vec![CHECKS, "--target", &alive, "--json", "/missing/a"],
            "cannot write /missing/a",
        ),
        (
            vec![CHECKS, "--target", &alive, "--accounts", "/missing"],
            "cannot read /missing",
        ),
        (
            vec![CHECKS, "--target", &alive, "--sources", "192.0.2.0/24"],
            "cannot send from 192.0.2.1",
        ),
        (
            vec![CHECKS, "--target", &alive, "--sources", "::/64"],
            "--sources must be addresses like",
        ),
        (
            vec![CHECKS, "--target", &alive, "--server-pid", "4194304"],
            "process 4194304",
        ),
        (
            vec![CHECKS, "--target", &silent],
            "did not answer a single request",
        ),
    ];
    for (arguments, expected) in cases {
        let output = loadgen("replay", &[&arguments[..], &common].concat())
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}
