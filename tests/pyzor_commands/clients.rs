//! Both clients, each with a home directory of its own, so that neither sees the other's changes there.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::programs::program;
use crate::harness::reference::{self, Finished, finish};

/// The reference's client and ours, on equal files.
pub(super) struct Clients {
    directory: TempDir,
}

impl Clients {
    /// Clients of these servers.
    pub(super) fn of(servers: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clients = Self { directory };
        for home in clients.homes() {
            fs::create_dir(home).unwrap();
        }
        let lines: Vec<String> = servers.iter().map(ToString::to_string).collect();
        clients.write("servers", &lines.join("\n"));
        clients
    }

    /// Has both sign as `user` with `key` at `server`.
    pub(super) fn with_account(self, server: SocketAddr, user: &str, key: &str) -> Self {
        let (ip, port) = (server.ip(), server.port());
        let line = format!("{ip} : {port} : {user} : {},{key}\n", "0".repeat(40));
        self.write("accounts", &line);
        self
    }

    /// Writes a file in both home directories.
    pub(super) fn write(&self, name: &str, text: &str) {
        for home in self.homes() {
            fs::write(home.join(name), text).unwrap();
        }
    }

    /// The home directories, the reference's first.
    pub(super) fn homes(&self) -> [PathBuf; 2] {
        ["reference", "ours"].map(|name| self.directory.path().join(name))
    }

    /// Our client's command.
    pub(super) fn our_command(&self) -> Command {
        our_client(&self.homes()[1])
    }

    /// Runs the reference's client.
    pub(super) fn reference(&self, arguments: &[&str], input: &[u8]) -> Finished {
        finish(reference::client(&self.homes()[0]).args(arguments), input)
    }

    /// Runs our client.
    pub(super) fn ours(&self, arguments: &[&str], input: &[u8]) -> Finished {
        finish(self.our_command().args(arguments), input)
    }

    /// Runs both and expects the same output and exit status; what ours did.
    pub(super) fn agree(&self, arguments: &[&str], input: &[u8]) -> Finished {
        self.compare(arguments, input, str::to_owned)
    }

    /// As [`Self::agree`], where several servers answer and the first to answer comes first.
    pub(super) fn agree_in_any_order(&self, arguments: &[&str], input: &[u8]) -> Finished {
        self.compare(arguments, input, |text| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        })
    }

    fn compare(&self, arguments: &[&str], input: &[u8], show: impl Fn(&str) -> String) -> Finished {
        let reference = self.reference(arguments, input);
        let ours = self.ours(arguments, input);
        let context = format!("{arguments:?}\nreference: {reference:?}\nours: {ours:?}");
        assert_eq!(show(&ours.stdout), show(&reference.stdout), "{context}");
        assert_eq!(ours.status, reference.status, "{context}");
        assert_eq!(
            ours.stderr.is_empty(),
            reference.stderr.is_empty(),
            "{context}"
        );
        ours
    }
}

/// Our client as a command, with `home` as its home directory.
pub(super) fn our_client(home: &Path) -> Command {
    let mut command = Command::new(program("pyzor"));
    command.arg("--homedir").arg(home);
    command
}
