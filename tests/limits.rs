//! A server where the system gives too little: it says so and does not start, or goes on with less.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::programs::program;
use crate::harness::{Io, Request, Server, Setup, eventually, random_digest};
use crate::import::write_gdbm;

/// How long the store may take to write again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// More workers than cores, so that they need many files.
const WORKERS: &str = "40";

/// How long a failing call is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// More calls than a server makes in that time that pauses, and far fewer than one that does not.
const CALLS_OF_A_PAUSING_SERVER: usize = 500;

fn workers(io: Io) -> Setup {
    Setup::new(io).arg("--workers").arg(WORKERS)
}

fn warnings(server: &Server, about: &str) -> usize {
    let log = server.log();
    let warnings = log.lines().filter(|line| line.contains(" WARNING "));
    warnings.filter(|line| line.contains(about)).count()
}

both_io!(the_soft_limit_of_open_files_is_raised);

fn the_soft_limit_of_open_files_is_raised(io: Io) {
    let setup = workers(io).under(&["prlimit", "--nofile=64:4096"]);
    let mut server = setup.start();
    assert!(server.stop().success());
    assert_eq!(warnings(&server, ""), 0, "{}", server.log());
}

#[test]
fn a_hard_limit_too_low_for_rings_is_enough_without() {
    let setup = workers(Io::Auto).under(&["prlimit", "--nofile=400"]);
    let mut server = setup.start();
    assert_eq!(server.client().ask(&Request::new("ping")).code(), 200);
    assert!(server.stop().success());
    assert_eq!(warnings(&server, "open files"), 1, "{}", server.log());
}

/// The sockets could be bound, and the rings could not be set up: once, that was noticed after the start.
#[test]
fn a_hard_limit_too_low_refuses_the_start_in_the_background_too() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("prlimit")
        .arg("--nofile=200")
        .arg(program("pyzord"))
        .arg("--homedir")
        .arg(home.path())
        .args(["--address", "127.0.0.1", "--port", "0", "--io", "uring"])
        .args(["--workers", WORKERS, "--detach"])
        .arg(home.path().join("output"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("40 workers need ") && stderr.contains(" and 200 are allowed: "),
        "{stderr}"
    );
}

/// The first ring of each thread can be set up, the others cannot: that of the trial, and none of a worker's.
const ONE_RING: &str = "inject=io_uring_setup:error=ENOMEM:when=2+";

/// Fails what `expression` says, in every thread; the calls it traces are in `calls`.
fn failing<'a>(expression: &'a str, calls: &'a str) -> [&'a str; 6] {
    // With -D the server, and not strace, is our child.
    ["strace", "-Df", "-o", calls, "-e", expression]
}

#[test]
fn a_worker_without_a_ring_falls_back_with_one_warning() {
    needs!(Strace, Uring);
    let setup = Setup::new(Io::Auto).arg("--workers").arg("3");
    let mut server = setup.under(&failing(ONE_RING, "/dev/null")).start();
    assert_eq!(server.client().ask(&Request::new("ping")).code(), 200);
    assert!(server.stop().success());
    assert_eq!(warnings(&server, "3 of 3 workers"), 1, "{}", server.log());
    assert_eq!(warnings(&server, ""), 1, "{}", server.log());
}

#[test]
fn a_worker_that_must_have_a_ring_refuses_the_start() {
    needs!(Strace, Uring);
    let setup = Setup::new(Io::Uring).arg("--workers").arg("3");
    let (status, stderr) = setup.under(&failing(ONE_RING, "/dev/null")).refused();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("cannot receive with --io uring"),
        "{stderr}"
    );
    assert!(stderr.contains("Cannot allocate memory"), "{stderr}");
}

/// Receives succeed while the server starts, and then never again.
#[test]
fn a_receive_that_fails_for_good_is_said_once_and_costs_little() {
    needs!(Strace);
    let directory = tempfile::tempdir().unwrap();
    let calls = directory.path().join("calls");
    let failing = failing(
        "inject=recvmmsg:error=ENOMEM:when=100+",
        calls.to_str().unwrap(),
    );
    let setup = Setup::new(Io::Mmsg).arg("--workers").arg("1");
    let mut server = setup.under(&failing).start();
    let client = server.client();
    let ping = Request::new("ping");
    while client.try_ask(&ping, Duration::from_millis(500)).is_some() {}
    let before = lines(&calls);
    std::thread::sleep(WATCHED);
    let made = lines(&calls) - before;
    assert!(made < CALLS_OF_A_PAUSING_SERVER, "{made} calls");
    assert!(server.stop().success());
    let log = server.log();
    let said = log.matches("nothing can be received").count();
    assert_eq!(said, 1, "{log}");
}

/// An operator's slip, and what would fill the memory once and be ended by the kernel then.
#[test]
fn more_memory_than_there_is_refuses_the_start_with_both_figures() {
    for option in ["--hot-set-memory=20000G", "--store-cache=20000G"] {
        let (status, stderr) = Setup::new(Io::Auto).arg(option).refused();
        assert_eq!(status.code(), Some(1));
        let (option, _) = option.split_once('=').unwrap();
        let expected = format!("{option} 20000G: expected no more than there is here, ");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
    let limited = Setup::new(Io::Auto).under(&["prlimit", &format!("--as={}", 3_u64 << 30)]);
    let budgets = limited
        .arg("--hot-set-memory=2G")
        .arg("--store-cache=1025M");
    let (status, stderr) = budgets.refused();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        stderr,
        "HotSetMemory and StoreCache ask for 2048 and 1025 MiB, and there are 3072 MiB of memory: lower one of them\n"
    );
}

/// Every program ends by itself, as on a full disk, where the kernel's signal would end it.
#[test]
fn a_limit_of_file_sizes_is_an_error() {
    needs!(Gdbm);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (home, gdbm, store) = (path("home"), path("gdbm"), path("store"));
    write_gdbm(Path::new(&gdbm), 10, "[]");
    for words in [
        &["pyzord", "--homedir", &home, "--address", "127.0.0.1"][..],
        &[
            "pyzor-migrate",
            "--se",
            "gdbm",
            "--sd",
            &gdbm,
            "--de",
            "redb",
            "--dd",
            &store,
        ],
        &["pyzor", "--generate", "man"],
        &["loadgen", "inspect", "synthetic:check=1,requests=10"],
    ] {
        let output = Command::new("prlimit")
            .arg("--fsize=512")
            .arg(program(words[0]))
            .args(&words[1..])
            .stdout(File::create(path("stdout")).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("File too large"), "{words:?}: {stderr}");
    }
}

both_io!(a_running_server_at_a_limit_of_file_sizes_refuses_reports);

fn a_running_server_at_a_limit_of_file_sizes_refuses_reports(io: Io) {
    let mut server = Setup::new(io).start();
    let (known, new) = (random_digest(), random_digest());
    let ask = |operation, digest: &str| {
        let request = Request::new(operation).digest(digest);
        server.client().ask(&request).code()
    };
    assert_eq!(ask("report", &known), 200);
    limit_file_sizes(&server, "0:unlimited");
    assert_eq!(ask("report", &new), 503);
    assert_eq!(ask("check", &known), 200);
    limit_file_sizes(&server, "unlimited");
    assert!(eventually(RECOVERY_LIMIT, || ask("report", &new) == 200));
    assert!(server.stop().success());
}

fn limit_file_sizes(server: &Server, limit: &str) {
    let mut prlimit = Command::new("prlimit");
    let pid = server.pid().to_string();
    let prlimit = prlimit
        .args(["--pid", &pid])
        .arg(format!("--fsize={limit}"));
    assert!(prlimit.status().unwrap().success());
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}
