//! `systemd-socket-activate`, which passes listening sockets and connections on as systemd does.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};

use tempfile::TempDir;

use super::eventually;
use super::scan_socket::{LIMIT, free_address, read_log, spawn};

/// Where systemd keeps it.
const PROGRAM: &str = "systemd-socket-activate";

/// A socket at which a program is started by the first connection, or by each. Dropping it kills what listens.
#[derive(Debug)]
pub(crate) struct ActivatedSocket {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl ActivatedSocket {
    /// Listens on a free port and starts `program`, with its arguments, in the way that `options` say.
    pub(crate) fn start(options: &[&str], program: &[String]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = Command::new(PROGRAM);
        command.arg("--listen").arg(address.to_string());
        command.args(options).args(program);
        let child = spawn(&command, directory.path());
        let socket = Self {
            child,
            address,
            directory,
        };
        // A connection would start the program, so its own word must do.
        assert!(socket.logs("Listening on"), "{}", socket.log());
        socket
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Whether it or the program writes `text` before long.
    pub(crate) fn logs(&self, text: &str) -> bool {
        eventually(LIMIT, || self.log().contains(text))
    }

    /// What it and the program wrote.
    pub(crate) fn log(&self) -> String {
        read_log(self.directory.path())
    }
}

impl Drop for ActivatedSocket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{PROGRAM} wrote:\n{}", self.log());
        }
    }
}
