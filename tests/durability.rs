//! Crashes under load: a server is killed again and again while it takes reports, and whatever it acknowledged must be
//! there afterwards, and nothing twice.
//!
//! Ten rounds by default; `PYZOR_TESTS_CRASH_ROUNDS` sets another number for a long run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Client, Io, Reply, Request, Server, Setup, StopOnDrop, random_digest};

both_io!(acknowledged_reports_survive_every_crash_and_count_once);

const ROUNDS_VARIABLE: &str = "PYZOR_TESTS_CRASH_ROUNDS";
const DEFAULT_ROUNDS: u64 = 10;
/// Sockets that report at once, each with requests in flight.
const REPORTERS: u64 = 4;
const IN_FLIGHT: usize = 16;
/// Digests reported by all of them, so that many commits touch the same record.
const SHARED_DIGESTS: usize = 40;
/// Digests of each reporter in each round, so that there are always records nobody saw before.
const FRESH_DIGESTS: usize = 20;
/// How long a reporter waits for the replies to a burst. A reply that comes later counts as none.
const BURST_LIMIT: Duration = Duration::from_millis(500);
/// When the kill comes, after the load has begun, in milliseconds: differs from round to round.
const EARLIEST_KILL_MS: u64 = 20;
const KILL_SPREAD_MS: u64 = 250;

/// What the clients know of one digest and one kind of update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Updates {
    sent: u64,
    acknowledged: u64,
}

/// What the clients know of every digest: reports and whitelistings.
type Oracle = HashMap<String, [Updates; 2]>;

/// An update by its place in [`Oracle`].
const OPERATIONS: [&str; 2] = ["report", "whitelist"];

fn acknowledged_reports_survive_every_crash_and_count_once(io: Io) {
    let mut server = Setup::new(io)
        .file("pyzord.access", "all : anonymous : allow\n")
        // With so little memory changes are folded all the time, not once a minute.
        .arg("--hot-set-memory")
        .arg("1M")
        .start();
    let shared: Vec<String> = (0..SHARED_DIGESTS).map(|_| random_digest()).collect();
    let mut oracle = Oracle::new();
    for round in 0..rounds() {
        report_until_killed(&mut server, &shared, round, &mut oracle);
        server.restart();
        compare(&server.client(), &oracle, round);
    }
    let acknowledged: u64 = oracle
        .values()
        .flatten()
        .map(|updates| updates.acknowledged)
        .sum();
    assert!(acknowledged > rounds() * REPORTERS, "there was a load");
    assert!(server.stop().success());
    server.restart();
    compare(&server.client(), &oracle, rounds());
}

fn rounds() -> u64 {
    std::env::var(ROUNDS_VARIABLE).map_or(DEFAULT_ROUNDS, |number| {
        number.parse().expect("a number of rounds")
    })
}

/// Has several sockets report until the server is killed in the middle of it.
fn report_until_killed(server: &mut Server, shared: &[String], round: u64, oracle: &mut Oracle) {
    let address = server.address();
    thread::scope(|scope| {
        let stop = StopOnDrop::default();
        let reporters: Vec<_> = (0..REPORTERS)
            .map(|_| {
                let flag = stop.flag();
                scope.spawn(move || report_until(&flag, address, shared))
            })
            .collect();
        // Any sequence will do that is not the same every round.
        let delay = EARLIEST_KILL_MS + (round * 97) % KILL_SPREAD_MS;
        thread::sleep(Duration::from_millis(delay));
        server.kill();
        drop(stop);
        for reporter in reporters {
            merge(oracle, &reporter.join().expect("a reporter does not fail"));
        }
    });
}

/// Reports shared and fresh digests, alone and several in a request, until told to stop; what it sent and what was
/// acknowledged.
fn report_until(stop: &AtomicBool, server: SocketAddr, shared: &[String]) -> Oracle {
    let client = Client::new(server);
    let fresh: Vec<String> = (0..FRESH_DIGESTS).map(|_| random_digest()).collect();
    let digests = || shared.iter().chain(&fresh).cycle();
    let (mut next, mut requests, mut oracle) = (digests(), 0, Oracle::new());
    while !stop.load(Ordering::Relaxed) {
        let burst: Vec<Update> = (0..IN_FLIGHT)
            .map(|_| {
                requests += 1;
                Update {
                    // One update in eight is a whitelisting, and one in five names three digests.
                    operation: usize::from(requests % 8 == 0),
                    digests: next
                        .by_ref()
                        .take(if requests % 5 == 0 { 3 } else { 1 })
                        .cloned()
                        .collect(),
                }
            })
            .collect();
        send_burst(&client, &burst, &mut oracle);
    }
    oracle
}

/// One request.
struct Update {
    operation: usize,
    digests: Vec<String>,
}

impl Update {
    fn request(&self) -> Request {
        self.digests.iter().fold(
            Request::new(OPERATIONS[self.operation]),
            |request, digest| request.digest(digest),
        )
    }
}

fn send_burst(client: &Client, burst: &[Update], oracle: &mut Oracle) {
    let mut waiting = HashMap::new();
    for update in burst {
        let request = update.request();
        for digest in &update.digests {
            entry(oracle, digest)[update.operation].sent += 1;
        }
        client.send(&request.to_bytes());
        waiting.insert(request.thread(), update);
    }
    while !waiting.is_empty() {
        let Some(reply) = client.receive(BURST_LIMIT).map(Reply) else {
            return;
        };
        let thread = reply.header("Thread").expect("every reply has a thread");
        let Some(update) = waiting.remove(&thread) else {
            continue;
        };
        if reply.code() == 200 {
            for digest in &update.digests {
                entry(oracle, digest)[update.operation].acknowledged += 1;
            }
        }
    }
}

fn entry<'o>(oracle: &'o mut Oracle, digest: &str) -> &'o mut [Updates; 2] {
    oracle.entry(digest.to_owned()).or_default()
}

fn merge(oracle: &mut Oracle, more: &Oracle) {
    for (digest, more) in more {
        for (updates, more) in entry(oracle, digest).iter_mut().zip(more) {
            updates.sent.add_assign(more.sent);
            updates.acknowledged.add_assign(more.acknowledged);
        }
    }
}

/// Fails unless every digest counts at least what was acknowledged and at most what was sent.
fn compare(client: &Client, oracle: &Oracle, round: u64) {
    for (digest, [reports, whitelistings]) in oracle {
        let (count, wl_count) = client.ask(&Request::new("check").digest(digest)).counts();
        for (name, updates, count) in [
            ("reports", reports, count),
            ("whitelistings", whitelistings, wl_count),
        ] {
            let Updates { sent, acknowledged } = *updates;
            assert!(
                (acknowledged..=sent).contains(&count),
                "round {round}, {digest}: {count} {name}, but {acknowledged} acknowledged of {sent} sent"
            );
        }
    }
}
