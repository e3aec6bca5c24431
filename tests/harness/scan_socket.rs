//! A started `pyzor serve` with a home directory of its own.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::eventually;
use super::programs::program;

/// How long it may take to start, to answer, and to end. Generous: the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A home directory of a client that asks `servers`.
pub(crate) fn client_home(servers: &[SocketAddr]) -> TempDir {
    let home = tempfile::tempdir().expect("a temporary directory");
    write_servers(home.path(), servers);
    home
}

/// Makes `servers` those of the client's home directory `home`.
pub(crate) fn write_servers(home: &Path, servers: &[SocketAddr]) {
    let lines: Vec<String> = servers.iter().map(|server| format!("{server}\n")).collect();
    fs::write(home.join("servers"), lines.concat()).unwrap();
}

/// Our client with this home directory.
pub(crate) fn client(home: &Path) -> Command {
    let mut command = Command::new(program("pyzor"));
    command.arg("--homedir").arg(home);
    command
}

/// A TCP address of 127.0.0.1 that nobody listens on, for programs that cannot say which port they got.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().unwrap()
}

/// A running scan socket. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ScanSocket {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

impl ScanSocket {
    /// One that listens on a free port of 127.0.0.1 and asks `servers`.
    pub(crate) fn start(servers: &[SocketAddr]) -> Self {
        Self::start_with(client_home(servers), &[])
    }

    /// The same with a home directory that holds more, and with more `arguments`.
    pub(crate) fn start_with(home: TempDir, arguments: &[&str]) -> Self {
        let mut command = client(home.path());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        Self::start_command(home, command.args(arguments))
    }

    /// What `command` starts, with its standard error in `home`.
    pub(crate) fn start_command(home: TempDir, command: &Command) -> Self {
        let child = spawn(command, home.path());
        let mut socket = Self {
            child,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            home,
        };
        let listens = eventually(LIMIT, || {
            socket.has_ended() || socket.listens_on().is_some()
        });
        let address = socket.listens_on();
        assert!(listens, "pyzor serve does not start");
        socket.address = address.unwrap_or_else(|| panic!("pyzor serve ended: {}", socket.log()));
        socket
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its home directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// What it wrote to its standard error, where it logs.
    pub(crate) fn log(&self) -> String {
        read_log(self.home.path())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().try_into().expect("a pid is positive");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Tells it to end by TERM, and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        assert!(eventually(LIMIT, || self.has_ended()), "{}", self.log());
        self.child.wait().expect("it is our child")
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// The answer to `mail`.
    pub(crate) fn scan(&self, mail: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(mail).expect("it takes messages");
        finish(stream)
    }

    /// Whether its log holds `text` before long.
    pub(crate) fn logs(&self, text: &str) -> bool {
        eventually(LIMIT, || self.log().contains(text))
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// The address in the log line that says where it listens.
    fn listens_on(&self) -> Option<SocketAddr> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("listening on "))?;
        line.rsplit_once("listening on ")?.1.trim().parse().ok()
    }
}

impl Drop for ScanSocket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("pyzor serve wrote:\n{}", self.log());
        }
    }
}

/// Shuts our side of `stream` and reads to the end; what cannot be read counts as none.
pub(crate) fn finish(mut stream: TcpStream) -> String {
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Starts `command`, which the kernel kills when the test's thread ends, with its standard error in the home directory.
pub(crate) fn spawn(command: &Command, home: &Path) -> Child {
    let log = File::create(log_path(home)).unwrap();
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "KILL", "--"]);
    guarded.arg(command.get_program()).args(command.get_args());
    guarded
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("setpriv (util-linux) starts it")
}

/// What a program wrote that [`spawn`] started.
pub(crate) fn read_log(home: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log_path(home)).unwrap_or_default()).into_owned()
}

fn log_path(home: &Path) -> PathBuf {
    home.join("stderr")
}
