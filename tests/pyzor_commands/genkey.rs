//! `genkey` on a terminal of its own: what it shows, what it makes, and that the terminal is as before.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::clients::{Clients, our_client};
use crate::harness::reference::{self, finish};
use crate::harness::{Io, Setup};

/// How long a program may take to ask; generous: the machine may be busy.
const PROMPT_LIMIT: Duration = Duration::from_secs(20);

/// What became of a program on a terminal.
struct Session {
    shown: String,
    status: ExitStatus,
    echoes: bool,
}

/// Runs `genkey` on a new terminal, and types each answer once it has been asked for it.
fn on_terminal(client: &Command, answers: &[&str]) -> Session {
    let pty = openpty(None, None).unwrap();
    // What starts the tests may ignore interrupts, as a shell does for what runs in its background; that is inherited.
    let mut command = Command::new("env");
    command.args(["--default-signal", "setsid", "--ctty", "--wait"]);
    command.arg(client.get_program()).args(client.get_args());
    let end = || pty.slave.try_clone().unwrap();
    let mut child = command
        .arg("genkey")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    // It holds ends of the terminal, which would never seem closed.
    drop(command);
    let mut terminal = File::from(pty.master);
    let mut shown = String::new();
    for answer in answers {
        while !shown.ends_with(": ") {
            assert!(
                read_some(&mut terminal, &mut shown),
                "no prompt in {shown:?}"
            );
        }
        shown.push_str("<typed>");
        terminal.write_all(answer.as_bytes()).unwrap();
    }
    let status = child.wait().unwrap();
    let echoes = tcgetattr(&pty.slave).unwrap();
    drop::<OwnedFd>(pty.slave);
    while read_some(&mut terminal, &mut shown) {}
    Session {
        shown,
        status,
        echoes: echoes.local_flags.contains(LocalFlags::ECHO),
    }
}

/// Whether something came before the program was gone or the time was up.
fn read_some(terminal: &mut File, shown: &mut String) -> bool {
    let mut waited = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(PROMPT_LIMIT).unwrap();
    if poll(&mut waited, limit) == Ok(0) {
        return false;
    }
    let mut buffer = [0; 1000];
    match terminal.read(&mut buffer) {
        Ok(length @ 1..) => {
            shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
            true
        }
        // A terminal whose program is gone cannot be read.
        Ok(0) | Err(_) => false,
    }
}

/// Hexadecimal digits become `x`.
fn shape(shown: &str) -> String {
    let digit = |c: char| if c.is_ascii_digit() { 'x' } else { c };
    let lines = shown.lines().map(|line| {
        let is_key = line.len() == 81
            && line
                .bytes()
                .all(|byte| byte == b',' || byte.is_ascii_hexdigit());
        let line = if is_key {
            line.replace(|c: char| c.is_ascii_hexdigit(), "x")
        } else {
            line.to_owned()
        };
        line.chars().map(digit).collect::<String>()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn it_asks_twice_shows_nothing_and_prints_what_the_reference_prints() {
    needs!(Reference);
    let home = tempfile::tempdir().unwrap();
    for answers in [["secret\n", "secret\n"], ["\n", "\n"]] {
        let reference = on_terminal(&reference::client(home.path()), &answers);
        let ours = on_terminal(&our_client(home.path()), &answers);
        let (shown, where_to) = ours.shown.split_at(reference.shown.len());
        assert_eq!(shape(shown), shape(&reference.shown));
        for line in ["HOST : PORT : USER : SALT,KEY", "USER : KEY"] {
            assert!(where_to.contains(line), "{where_to}");
        }
        assert!(!ours.shown.contains("secret"), "{}", ours.shown);
        assert!(ours.echoes && ours.status.success(), "{}", ours.shown);
        assert!(reference.status.success(), "{}", reference.shown);
    }
}

#[test]
fn two_passphrases_make_no_key() {
    needs!(Reference);
    let home = tempfile::tempdir().unwrap();
    let answers = ["secret\n", "other\n"];
    let reference = on_terminal(&reference::client(home.path()), &answers);
    let ours = on_terminal(&our_client(home.path()), &answers);
    assert_eq!(ours.status.code(), reference.status.code());
    assert!(!ours.shown.contains("salt"), "{}", ours.shown);
    assert!(
        ours.shown.contains("the passphrases differ"),
        "{}",
        ours.shown
    );
}

/// `setsid` ends as its child does: by 128 and the signal.
#[test]
fn an_interrupt_gives_the_terminal_its_echo_back() {
    let home = tempfile::tempdir().unwrap();
    for answers in [&["\u{3}"][..], &["secret\n", "\u{3}"], &["\u{1c}"]] {
        let ours = on_terminal(&our_client(home.path()), answers);
        assert!(ours.echoes, "{}", ours.shown);
        assert!(!ours.status.success(), "{}", ours.shown);
        assert!(!ours.shown.contains("salt"), "{}", ours.shown);
    }
    let ended = on_terminal(&our_client(home.path()), &["\u{4}"]);
    assert!(ended.echoes, "{}", ended.shown);
    assert!(
        ended.shown.contains("cannot ask for a passphrase"),
        "{}",
        ended.shown
    );
}

/// The salt and key that `genkey` made of two lines of standard input, where there is no terminal.
fn made_key(home: &Path) -> (String, String) {
    let client = our_client(home);
    let mut command = Command::new("setsid");
    command
        .arg("--wait")
        .arg(client.get_program())
        .args(client.get_args());
    let made = finish(command.arg("genkey"), b"secret\nsecret\n");
    assert_eq!(made.stdout.lines().count(), 2, "{made:?}");
    let line = made.stdout.strip_prefix("salt,key:\n");
    let (salt, key) = line
        .and_then(|line| line.trim_end().split_once(','))
        .unwrap_or_else(|| panic!("{made:?}"));
    assert!(!made.stderr.contains(salt) && !made.stderr.contains(key));
    (salt.to_owned(), key.to_owned())
}

#[test]
fn the_key_authenticates_with_both_clients() {
    let home = tempfile::tempdir().unwrap();
    let (salt, key) = made_key(home.path());
    let server = Setup::new(Io::Auto)
        .file("pyzord.passwd", format!("bob : {key}\n"))
        .file("pyzord.access", "all : bob : allow\n")
        .start();
    let clients = Clients::of(&[server.address()]);
    let (ip, port) = (server.address().ip(), server.address().port());
    clients.write("accounts", &format!("{ip} : {port} : bob : {salt},{key}\n"));
    let ours = clients.ours(&["ping"], b"");
    assert_eq!(ours.status, Some(0), "{ours:?}");
    needs!(Reference);
    clients.agree(&["ping"], b"");
}
