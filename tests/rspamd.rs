//! Debian's rspamd, whose `pyzor` module asks at the scan socket, with the settings in `ops/mail/rspamd/`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Group, Pid, User, chown, geteuid};
use tempfile::TempDir;

use crate::harness::programs::{program, workspace};
use crate::harness::reference::{finish, fresh_mail};
use crate::harness::scan_socket::{LIMIT, ScanSocket, client_home, free_address, spawn};
use crate::harness::systemd::ActivatedSocket;
use crate::harness::{Io, Request, Server, eventually};

/// Debian's package makes this user; rspamd does not want to be the superuser.
const USER: &str = "_rspamd";

/// Where the settings in `ops/` expect the scan socket.
const USUAL_SCAN_SOCKET: &str = "127.0.0.1:5953";

#[test]
fn what_was_reported_has_the_symbol_and_what_was_not_has_none() {
    needs!(Rspamd);
    let server = Server::start(Io::Mmsg);
    let socket = ScanSocket::start(&[server.address()]);
    one_spam_and_one_ham(&server, socket.address());
}

/// Its module reads one line, whatever the number of servers.
#[test]
fn several_servers_count_together_and_dead_ones_do_not() {
    needs!(Rspamd);
    let servers = [Server::start(Io::Mmsg), Server::start(Io::Mmsg)];
    let dead = Server::start(Io::Mmsg);
    dead.hold_up();
    for addresses in [
        &[servers[0].address(), servers[1].address()][..],
        &[dead.address(), servers[1].address()],
    ] {
        let home = client_home(addresses);
        fs::write(home.path().join("config"), "[client]\nTimeout = 4\n").unwrap();
        let socket = ScanSocket::start_with(home, &[]);
        let log = one_spam_and_one_ham(&servers[1], socket.address());
        assert!(!log.contains("error parsing response"), "{log}");
    }
}

#[test]
fn one_process_a_message_does_as_well() {
    needs!(Rspamd, Systemd);
    let server = Server::start(Io::Mmsg);
    let home = client_home(&[server.address()]);
    let check = [
        program("pyzor").display().to_string(),
        format!("--homedir={}", home.path().display()),
        "check".to_owned(),
    ];
    let socket = ActivatedSocket::start(&["--accept", "--inetd"], &check);
    one_spam_and_one_ham(&server, socket.address());
}

#[test]
fn a_refused_message_and_a_missing_socket_are_no_spam() {
    needs!(Rspamd);
    let server = Server::start(Io::Mmsg);
    let home = client_home(&[server.address()]);
    let mut socket = ScanSocket::start_with(home, &["--max-message", "1K"]);
    let rspamd = Rspamd::start(socket.address());
    let mail = format!("{}{}", fresh_mail(), "a line of text\n".repeat(200));
    report(&server, &mail, 5);
    assert_eq!(rspamd.pyzor_symbols(&mail), Vec::<String>::new());
    assert!(
        rspamd.log().contains("Message too long"),
        "{}",
        rspamd.log()
    );
    assert_eq!(socket.stop().code(), Some(0));
    assert_eq!(rspamd.pyzor_symbols(&fresh_mail()), ["PYZOR_FAIL"]);
}

/// What rspamd logged meanwhile.
fn one_spam_and_one_ham(server: &Server, scan_socket: SocketAddr) -> String {
    let rspamd = Rspamd::start(scan_socket);
    let (spam, ham) = (fresh_mail(), fresh_mail());
    report(server, &spam, 5);
    assert_eq!(rspamd.pyzor_symbols(&spam), ["PYZOR"]);
    assert_eq!(rspamd.pyzor_symbols(&ham), Vec::<String>::new());
    rspamd.log()
}

fn report(server: &Server, mail: &str, times: usize) {
    let digest = pyzor::digester::digest_of(mail.as_bytes()).to_string();
    for _ in 0..times {
        let request = Request::new("report").digest(&digest);
        assert_eq!(server.client().ask(&request).code(), 200);
    }
}

/// A running rspamd that has no module but the one for external services.
struct Rspamd {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Rspamd {
    /// One that asks at `scan_socket`, once it takes messages.
    fn start(scan_socket: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        write_configuration(directory.path(), address, scan_socket);
        let child = spawn(&command(directory.path()), directory.path());
        let mut rspamd = Self {
            child,
            address,
            directory,
        };
        let is_there = eventually(LIMIT, || {
            rspamd.has_ended() || TcpStream::connect(address).is_ok()
        });
        assert!(is_there && !rspamd.has_ended(), "rspamd: {}", rspamd.log());
        rspamd
    }

    /// The names of those symbols in the result for `mail` that are about Pyzor.
    fn pyzor_symbols(&self, mail: &str) -> Vec<String> {
        let mut rspamc = Command::new("rspamc");
        rspamc.args(["-h", &self.address.to_string(), "symbols"]);
        let finished = finish(&mut rspamc, mail.as_bytes());
        assert!(finished.stdout.contains("\nAction: "), "{finished:?}");
        let symbols = finished.stdout.lines();
        symbols
            .filter_map(|line| line.strip_prefix("Symbol: "))
            .filter_map(|symbol| symbol.split(' ').next())
            .filter(|name| name.starts_with("PYZOR"))
            .map(str::to_owned)
            .collect()
    }

    fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("state/rspamd.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }
}

impl Drop for Rspamd {
    fn drop(&mut self) {
        // Its children end when it does in order; killed, it would leave them.
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        if !eventually(LIMIT, || self.has_ended()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("rspamd logged:\n{}", self.log());
        }
    }
}

fn command(directory: &Path) -> Command {
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
        command.args([&user, &group, "--clear-groups", "rspamd"]);
        command
    } else {
        Command::new("rspamd")
    };
    command.args(["--no-fork", "--config"]);
    command.arg(directory.join("rspamd.conf"));
    let (local, state) = (directory.display(), directory.join("state"));
    command.arg(format!("--var=LOCAL_CONFDIR={local}"));
    command.arg(format!("--var=STATE={}", state.display()));
    command
}

fn write_configuration(directory: &Path, address: SocketAddr, scan_socket: SocketAddr) {
    let (state, local) = (directory.join("state"), directory.join("local.d"));
    for made in [&state, &local] {
        fs::create_dir(made).unwrap();
    }
    let configuration = CONFIGURATION.replace("ADDRESS", &address.to_string());
    fs::write(directory.join("rspamd.conf"), configuration).unwrap();
    fs::write(state.join("top_level_domains"), "org\ncom\n").unwrap();
    for name in ["external_services.conf", "external_services_group.conf"] {
        let shipped = fs::read_to_string(shipped(name)).unwrap();
        let here = shipped.replace(USUAL_SCAN_SOCKET, &scan_socket.to_string());
        fs::write(local.join(name), here).unwrap();
    }
    if geteuid().is_root() {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        let user = User::from_name(USER).unwrap().expect("the package made it");
        let group = Group::from_name(USER)
            .unwrap()
            .expect("the package made it");
        chown(&state, Some(user.uid), Some(group.gid)).unwrap();
    }
}

fn shipped(name: &str) -> PathBuf {
    workspace().join("ops/mail/rspamd").join(name)
}

/// As little of Debian's configuration as shows symbols.
const CONFIGURATION: &str = r#"
options {
    filters = "";
    cache_file = "$STATE/symbols.cache";
    dynamic_conf = "$STATE/dynamic";
    history_file = "$STATE/history";
    hs_cache_dir = "$STATE";
    tempdir = "$STATE";
    control_socket = "$STATE/control mode=0600";
    url_tld = "$STATE/top_level_domains";
    dns { nameserver = ["127.0.0.1:1"]; }
}
logging {
    type = "file";
    filename = "$STATE/rspamd.log";
    level = "info";
}
worker "normal" {
    bind_socket = "ADDRESS";
    count = 1;
}
modules { path = "$PLUGINSDIR/external_services.lua"; }
actions { reject = 15; }
external_services {
    .include "$LOCAL_CONFDIR/local.d/external_services.conf"
}
group "external_services" {
    .include "$LOCAL_CONFDIR/local.d/external_services_group.conf"
}
"#;
