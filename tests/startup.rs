//! How a server starts and ends: home directory, background, pid file, signals, what it leaves on the terminal.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getsid, mkfifo};
use tempfile::TempDir;

use crate::harness::programs::program;
use crate::harness::{Client, Io, Request, Server, Setup, eventually};

/// How long a server may take to end once it was told to.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A server in the background, ended with the test.
struct Detached {
    directory: TempDir,
    pid: Option<Pid>,
}

impl Detached {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            pid: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `pyzord --detach` to its end, with port 0 for one that the kernel chooses; `home` and `output` are named
    /// relative to the working directory.
    fn start(&mut self, port: u16) -> Output {
        let output = self.run(port);
        let pid = fs::read_to_string(self.path("home/pyzord.pid")).ok();
        self.pid = pid.map(|pid| Pid::from_raw(pid.trim().parse().unwrap()));
        output
    }

    fn run(&self, port: u16) -> Output {
        Command::new(program("pyzord"))
            .current_dir(self.directory.path())
            .args(["--homedir", "home", "--detach", "output"])
            .args(["--address", "127.0.0.1", "--log-file", "log"])
            .args(["--port", &port.to_string()])
            .output()
            .unwrap()
    }

    /// Where it says that it listens.
    fn address(&self) -> SocketAddr {
        let mut address = None;
        eventually(END_LIMIT, || {
            let log = fs::read_to_string(self.path("home/log")).unwrap_or_default();
            let after = log.split_once("listening on ").map(|(_, after)| after);
            address = after.and_then(|after| after.split(' ').next()?.parse().ok());
            address.is_some()
        });
        address.expect("the log names the address")
    }

    fn is_gone(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.unwrap()));
        // Nobody need collect it: our parent may not be a real init.
        status.is_ok_and(|status| status.contains("State:\tZ"))
            || kill(self.pid.unwrap(), None).is_err()
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn detach_returns_when_the_server_serves() {
    let mut server = Detached::new();
    fs::create_dir(server.path("home")).unwrap();
    fs::write(server.path("home/pyzord.pid"), "1\n").unwrap();
    let output = server.start(0);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (0, 0),
        "{output:?}"
    );
    let pid = server.pid.unwrap();
    assert_ne!(pid.as_raw(), 1, "a stale pid file is overwritten");
    // No retry: the sockets must be bound by now.
    assert_eq!(
        Client::new(server.address())
            .ask(&Request::new("ping"))
            .code(),
        200
    );

    assert_eq!(getsid(Some(pid)).unwrap(), pid, "it has left our session");
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        Path::new("/")
    );
    for (number, place) in [
        (0, PathBuf::from("/dev/null")),
        (1, server.path("output")),
        (2, server.path("output")),
    ] {
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap(),
            place
        );
    }
    for name in ["output", "home/log", "home/pyzord.redb"] {
        let mode = fs::metadata(server.path(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name} is for its owner alone");
    }

    kill(pid, Signal::SIGTERM).unwrap();
    assert!(eventually(END_LIMIT, || server.is_gone()));
    assert!(
        !server.path("home/pyzord.pid").exists(),
        "the pid file is removed"
    );
}

#[test]
fn detach_reports_why_the_server_does_not_serve() {
    let mut server = Detached::new();
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let output = server.start(address.port());
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("{address} is in use: is another pyzord running?\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(fs::read_to_string(server.path("output")).unwrap(), expected);
    assert!(
        fs::read_to_string(server.path("home/log"))
            .unwrap()
            .contains(" ERROR ")
    );
    assert!(server.pid.is_none());
}

#[test]
fn detach_reports_mistakes_of_the_configuration() {
    let mut server = Detached::new();
    fs::create_dir(server.path("home")).unwrap();
    fs::write(
        server.path("home/config"),
        "[server]\nWorkers = many\nCleanupAge = x\n",
    )
    .unwrap();
    let output = server.start(0);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("config:2: Workers = many: expected "),
        "{stderr}"
    );
    assert!(
        stderr.contains("config:3: CleanupAge = x: expected "),
        "{stderr}"
    );
}

#[test]
fn detach_to_a_file_that_cannot_be_written_says_so() {
    let mut server = Detached::new();
    fs::create_dir(server.path("output")).unwrap();
    let output = server.start(0);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with(&format!(
            "cannot open {}: ",
            server.path("output").display()
        )),
        "{stderr}"
    );
}

both_io!(term_and_int_stop_in_order);

fn term_and_int_stop_in_order(io: Io) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(io);
        assert_eq!(server.client().ask(&Request::new("ping")).code(), 200);
        server.signal(signal);
        let status = server.wait(END_LIMIT).expect("it ends");
        assert!(status.success(), "{signal}: {status}");
        assert!(server.log().ends_with(" INFO stopped\n"));
        assert_eq!(server.stderr().lines().count(), 1, "{}", server.stderr());
    }
}

/// The server cannot finish: nobody reads the pipe into which it writes its usage log.
#[test]
fn a_second_term_ends_at_once_what_cannot_finish() {
    let setup = Setup::new(Io::Auto)
        .file("pyzord.access", "")
        .arg("--usage-log-file")
        .arg("usage");
    let usage_log = setup.home().join("usage");
    mkfifo(&usage_log, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let _pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&usage_log)
        .unwrap();
    let mut server = setup.start();
    fill_pipe(&server);

    server.signal(Signal::SIGTERM);
    assert!(
        server.wait(Duration::from_secs(1)).is_none(),
        "it has lines to write"
    );
    server.signal(Signal::SIGTERM);
    let status = server.wait(END_LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(1));
}

/// Makes the server log more refusals than a pipe holds.
fn fill_pipe(server: &Server) {
    const PIPE_BYTES: usize = 64 * 1024;
    const LINE_BYTES: usize = 60;
    let client = server.client();
    for _ in 0..=PIPE_BYTES / LINE_BYTES {
        assert_eq!(client.ask(&Request::new("ping")).code(), 403);
    }
}

/// Opening a pipe waits for its other end: that once kept a server from starting, and from ending.
#[test]
fn a_pipe_without_another_end_refuses_the_start() {
    for name in ["config", "pyzord.passwd", "pyzord.access"] {
        assert_refuses_pipe(Setup::new(Io::Auto), name, "cannot read", "read again");
    }
    let nobody = "nobody reads from it";
    assert_refuses_pipe(Setup::new(Io::Auto), "pyzord.log", "cannot open", nobody);
    for option in ["--usage-log-file", "--record"] {
        let setup = Setup::new(Io::Auto).arg(option).arg("output");
        assert_refuses_pipe(setup, "output", "cannot open", nobody);
    }
}

fn assert_refuses_pipe(setup: Setup, name: &str, beginning: &str, end: &str) {
    let pipe = setup.home().join(name);
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let (status, stderr) = setup.refused();
    assert_eq!(status.code(), Some(1));
    let beginning = format!("{beginning} {}: it is a pipe", pipe.display());
    assert!(stderr.starts_with(&beginning), "{name}: {stderr}");
    assert!(stderr.trim_end().ends_with(end), "{name}: {stderr}");
}

/// Whoever reads the usage log from a pipe may stop reading: that keeps no server from ending.
#[test]
fn a_usage_log_that_takes_no_more_does_not_keep_the_server_from_ending() {
    // More than a pipe holds, a line for each.
    const PINGS: usize = 2000;
    let setup = Setup::new(Io::Auto).arg("--usage-log-file").arg("usage");
    let pipe = setup.home().join("usage");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let reader = OpenOptions::new().read(true).write(true).open(&pipe);
    let _reader = reader.expect("a pipe that is open for both waits for nobody");
    let mut server = setup.start();
    let client = server.client();
    for _ in 0..PINGS {
        assert_eq!(client.ask(&Request::new("ping")).code(), 200);
    }
    server.signal(Signal::SIGTERM);
    let status = server.wait(END_LIMIT).expect("it ends");
    assert!(status.success());
    assert!(server.log().contains("the end of the usage log is missing"));
}

/// A pid file is removed in the end: a pipe must not be, nor a device.
#[test]
fn a_pid_file_must_be_a_regular_file() {
    let server = Detached::new();
    fs::create_dir(server.path("home")).unwrap();
    let pid_file = server.path("home/pyzord.pid");
    mkfifo(&pid_file, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let output = server.run(0);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with(&format!("cannot write {}: ", pid_file.display())),
        "{stderr}"
    );
    assert!(pid_file.exists());
}

#[test]
fn usr2_without_a_file_to_record_to_says_how_to_name_one() {
    let mut server = Server::start(Io::Auto);
    server.signal(Signal::SIGUSR2);
    assert_eq!(server.client().ask(&Request::new("ping")).code(), 200);
    assert!(server.stop().success());
    let log = server.log();
    assert!(log.contains("write \"RecordFile = FILE\" into"), "{log}");
}

#[test]
fn a_server_in_the_foreground_writes_no_pid_file() {
    let server = Server::start(Io::Auto);
    assert!(!server.home().join("pyzord.pid").exists());
}

#[test]
fn a_second_server_is_refused_by_the_store_and_by_the_address() {
    let first = Server::start(Io::Auto);
    let on_the_same_store = Setup::new(Io::Auto)
        .arg("--dsn")
        .arg(first.home().join("pyzord.redb").to_str().unwrap());
    let (status, stderr) = on_the_same_store.refused();
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("is a pyzord already running on it?"),
        "{stderr}"
    );

    let port = first.address().port().to_string();
    let (status, stderr) = Setup::new(Io::Auto).arg("--port").arg(port).refused();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        stderr,
        format!(
            "{} is in use: is another pyzord running?\n",
            first.address()
        )
    );
}

#[test]
fn the_home_directory_is_the_users_and_is_created() {
    let user = tempfile::tempdir().unwrap();
    let mut child = Command::new(program("pyzord"))
        .env("HOME", user.path())
        .args(["--address", "127.0.0.1", "--port", "0"])
        .spawn()
        .unwrap();
    let home = user.path().join(".pyzor");
    let created = eventually(END_LIMIT, || home.join("pyzord.redb").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(created);
    assert_eq!(
        fs::metadata(home).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

/// The store's threads come after the workers, whatever is added, and never before.
#[test]
fn nice_is_added_to_every_thread() {
    let usual = Setup::new(Io::Auto).start();
    let comes_after = |nice: i32, levels: &BTreeMap<String, i32>| {
        let stored = levels.iter().filter(|(name, _)| name.starts_with("store-"));
        stored.map(|(_, level)| *level).min() > Some(nice) && levels["log"] > nice
    };
    let mut as_usual = BTreeMap::new();
    assert!(eventually(END_LIMIT, || {
        as_usual = nice_levels(&usual);
        comes_after(as_usual["worker-0"], &as_usual)
    }));
    for added in [3, -3] {
        if added < 0 {
            needs!(Root);
        }
        let nice = format!("--nice={added}");
        let server = Setup::new(Io::Auto).arg(nice).start();
        let mut expected = as_usual.clone();
        for nice in expected.values_mut() {
            *nice += added;
        }
        let are_set = eventually(END_LIMIT, || nice_levels(&server) == expected);
        assert!(are_set, "{:?}", nice_levels(&server));
    }
}

/// The nice level of each thread, by name.
fn nice_levels(server: &Server) -> BTreeMap<String, i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    stats.map(|stat| name_and_nice_level(&stat)).collect()
}

/// In `/proc/PID/stat` the name is in brackets, and the nice level the 19th field, counted behind them.
fn name_and_nice_level(stat: &str) -> (String, i32) {
    const FIELD_BEHIND_NAME: usize = 16;
    let (name, fields) = stat.rsplit_once(')').unwrap();
    let nice = fields.split_whitespace().nth(FIELD_BEHIND_NAME).unwrap();
    let name = name.split_once('(').unwrap().1;
    (name.to_owned(), nice.parse().unwrap())
}
