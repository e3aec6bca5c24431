//! A started `pyzord` in a home directory of its own.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::client::Client;
use super::eventually;
use super::message::Request;
use super::programs::program;

/// How long a server may take until it answers, and until it is gone. Generous: the machine may be busy.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long a starting server gets to answer each ping.
const PING_LIMIT: Duration = Duration::from_millis(50);
/// Another test process may take a port between our look at it and the server's bind.
const START_ATTEMPTS: usize = 5;
/// How much of its log a failing test shows.
const SHOWN_LOG_LINES: usize = 40;

/// Which datapath a server is told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    /// `--io uring`
    Uring,
    /// `--io mmsg`
    Mmsg,
    /// No `--io`: the server chooses.
    Auto,
}

/// How to start a server: files in its home directory and arguments.
#[derive(Debug)]
pub(crate) struct Setup {
    io: Io,
    listen: &'static str,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    directory: TempDir,
}

impl Setup {
    /// An empty home directory, a free port of 127.0.0.1, a log file, everything else by default.
    pub(crate) fn new(io: Io) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("home")).unwrap();
        Self {
            io,
            listen: "127.0.0.1",
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory,
        }
    }

    /// The home directory to be.
    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Writes a file in the home directory, for example `pyzord.access`.
    #[must_use]
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.home().join(name), text).unwrap();
        self
    }

    /// Adds an argument of the command line.
    #[must_use]
    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of the server's environment.
    #[must_use]
    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<PathBuf>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// The addresses to listen on instead of 127.0.0.1, with commas between them; empty for the server's default.
    #[must_use]
    pub(crate) fn listen(mut self, addresses: &'static str) -> Self {
        self.listen = addresses;
        self
    }

    /// Has another program, such as prlimit, start the server; it must become the server, or leave it its own process id.
    #[must_use]
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().copied().map(String::from).collect();
        self
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(self) -> Server {
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            let mut server = Server::spawn(&self, port);
            match server.wait_until_it_answers() {
                Ok(()) => return server.keeping(self),
                Err(failure) if failure.contains("in use") => {}
                Err(failure) => panic!("pyzord does not start: {failure}"),
            }
        }
        panic!("found no free port in {START_ATTEMPTS} attempts")
    }

    /// Runs the server where it is expected to refuse: its exit status and what it wrote to its standard error.
    pub(crate) fn refused(self) -> (ExitStatus, String) {
        let mut server = Server::spawn(&self, free_port());
        let status = server.wait(STOP_LIMIT);
        (status.expect("pyzord ends"), server.stderr())
    }

    fn command(&self, port: u16) -> Command {
        // The kernel kills the server when the test's thread ends, however it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(&self.wrapper).arg(program("pyzord"));
        command.arg("--homedir").arg(self.home());
        command.args(["--port", &port.to_string()]);
        command.args(["--log-file", "pyzord.log"]);
        if !self.listen.is_empty() {
            command.args(["--address", self.listen]);
        }
        match self.io {
            Io::Uring => command.args(["--io", "uring"]),
            Io::Mmsg => command.args(["--io", "mmsg"]),
            Io::Auto => &mut command,
        };
        command.args(&self.arguments);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// An address that reaches the server.
    fn first_address(&self) -> IpAddr {
        match self.listen.split(',').next().unwrap_or_default() {
            "" | "*" | "0.0.0.0" => Ipv4Addr::LOCALHOST.into(),
            "::" => Ipv6Addr::LOCALHOST.into(),
            address => address.parse().expect("an IP address"),
        }
    }

    fn stderr_path(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    home: PathBuf,
    stderr: PathBuf,
    setup: Option<Setup>,
}

impl Server {
    /// A server with everything by default.
    pub(crate) fn start(io: Io) -> Self {
        Setup::new(io).start()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a pid is positive"))
    }

    /// Its home directory.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// What its log file holds now.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.home.join("pyzord.log"))
    }

    /// The counter `name` as it was logged last: USR1 and its end make it log them.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let log = self.log();
        let counted = log.lines().rev().find(|line| line.contains(" datagrams="));
        let counters = counted.unwrap_or_else(|| panic!("no counters in the log:\n{log}"));
        let mut words = counters.split(' ').filter_map(|word| word.split_once('='));
        let found = words.find(|(found, _)| *found == name);
        found.map_or(0, |(_, number)| number.parse().expect("a number"))
    }

    /// What it wrote to its standard output and error.
    pub(crate) fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the server runs");
    }

    /// Holds it up, with all its threads, until it is sent CONT.
    pub(crate) fn hold_up(&self) {
        self.signal(Signal::SIGSTOP);
        let is_held = |task: &Path| read_lossy(&task.join("status")).contains("\nState:\tT");
        let tasks = format!("/proc/{}/task", self.pid());
        let are_held = eventually(STOP_LIMIT, || {
            let mut tasks = fs::read_dir(&tasks).expect("the server runs");
            tasks.all(|task| is_held(&task.unwrap().path()))
        });
        assert!(are_held, "the kernel stops the server");
    }

    /// Tells it to stop by TERM and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(STOP_LIMIT).expect("the server stops")
    }

    /// Kills it by KILL, as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, on the same home directory and port, after [`Self::stop`] or [`Self::kill`].
    pub(crate) fn restart(&mut self) {
        let setup = self.setup.as_ref().expect("only a spawned server has none");
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        self.child = spawn(setup, self.address.port());
        if let Err(failure) = self.wait_until_it_answers() {
            panic!("pyzord does not start again: {failure}");
        }
    }

    /// Starts it again where it is expected to refuse: its exit status and what it wrote to its standard error.
    pub(crate) fn refused_again(&mut self) -> (ExitStatus, String) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        let setup = self.setup.as_ref().expect("only a spawned server has none");
        self.child = spawn(setup, self.address.port());
        let status = self.wait(STOP_LIMIT);
        (status.expect("pyzord ends"), self.stderr())
    }

    /// Its exit status, once it has ended within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        eventually(limit, || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status
    }

    fn spawn(setup: &Setup, port: u16) -> Self {
        Self {
            child: spawn(setup, port),
            address: SocketAddr::new(setup.first_address(), port),
            home: setup.home(),
            stderr: setup.stderr_path(),
            setup: None,
        }
    }

    fn keeping(mut self, setup: Setup) -> Self {
        self.setup = Some(setup);
        self
    }

    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let client = self.client();
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if client.try_ask(&Request::new("ping"), PING_LIMIT).is_some() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!("{status}: {}", self.stderr()));
            }
        }
        Err("it does not answer".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("pyzord wrote:\n{}", self.stderr());
            eprintln!("its log ends:\n{}", last_lines(&self.log()));
        }
    }
}

fn spawn(setup: &Setup, port: u16) -> Child {
    let output = File::options()
        .create(true)
        .append(true)
        .open(setup.stderr_path())
        .unwrap();
    setup
        .command(port)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .expect("setpriv (util-linux) starts pyzord")
}

/// A port nobody has bound, outside the range from which the kernel serves clients, so that no client gets it before
/// the server does. Each test process starts elsewhere.
fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const PORTS: u16 = 20_000;
    const PORTS_A_PROCESS: u32 = 97;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(PORTS_A_PROCESS) % u32::from(PORTS);
    let start = u16::try_from(start).expect("less than PORTS");
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + number % PORTS) % PORTS;
        if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n")
}
