//! The units in `ops/systemd/`, read by systemd's own tools, and sockets passed on as systemd passes them.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::harness::programs::{program, workspace};
use crate::harness::reference::{finish, fresh_mail};
use crate::harness::scan_socket::{self, client, client_home};
use crate::harness::systemd::ActivatedSocket;
use crate::harness::{Io, Server};

/// Where the units expect the client.
const USUAL_PROGRAM: &str = "/usr/local/bin/pyzor";

/// How exposed a service may be, of 100, in the words of `systemd-analyze security`.
const MAX_EXPOSURE: &str = "15";

#[test]
fn the_units_are_valid_and_harden_what_they_start() {
    needs!(Systemd);
    let directory = tempfile::tempdir().unwrap();
    let units = copy_units(directory.path());
    assert_eq!(units.len(), 4, "{units:?}");
    for unit in &units {
        let mut verify = analyze(directory.path(), &["verify", "--man=no"]);
        let verified = finish(verify.arg(format!("./{unit}")), b"");
        assert_eq!(verified.status, Some(0), "{unit}: {verified:?}");
        assert_eq!(verified.stderr, "", "{unit}");
    }
    for service in ["pyzor-scan.service", "pyzor-check@instance.service"] {
        let judge = ["security", "--offline=true", "--no-pager", "--threshold"];
        let mut security = analyze(directory.path(), &judge);
        let judged = finish(security.args([MAX_EXPOSURE, &format!("./{service}")]), b"");
        assert_eq!(judged.status, Some(0), "{service}: {judged:?}");
    }
}

fn analyze(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("systemd-analyze");
    command.current_dir(directory).args(arguments);
    command
}

/// Copies the units to `directory`, templates also as an instance, with the program where it is here; their names.
fn copy_units(directory: &Path) -> Vec<String> {
    let is_unit = |name: &str| name.ends_with(".socket") || name.ends_with(".service");
    let files = fs::read_dir(workspace().join("ops/systemd")).unwrap();
    let units = files.map(|file| file.unwrap().path());
    let units = units.filter(|unit| is_unit(unit.file_name().unwrap().to_str().unwrap()));
    let here = program("pyzor").display().to_string();
    let copied = units.map(|unit| {
        let name = unit.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&unit).unwrap();
        let text = text.replace(USUAL_PROGRAM, &here);
        fs::write(directory.join(name.replace('@', "@instance")), &text).unwrap();
        fs::write(directory.join(name), text).unwrap();
        name.to_owned()
    });
    copied.collect()
}

#[test]
fn a_listening_socket_is_taken_over() {
    needs!(Systemd);
    let server = Server::start(Io::Mmsg);
    let home = client_home(&[server.address()]);
    let serve = pyzor(home.path(), "serve");
    let socket = ActivatedSocket::start(&[], &serve);
    let mail = fresh_mail();
    for _ in 0..3 {
        assert_eq!(scan(&socket, &mail), printed_by_check(home.path(), &mail));
    }
    let listening = format!("listening on {}", socket.address());
    assert_eq!(
        socket.log().matches(&listening).count(),
        1,
        "{}",
        socket.log()
    );
}

#[test]
fn a_connection_passed_in_its_place_is_refused_with_advice() {
    needs!(Systemd);
    let home = client_home(&["127.0.0.1:9".parse().unwrap()]);
    let serve = pyzor(home.path(), "serve");
    let socket = ActivatedSocket::start(&["--accept"], &serve);
    assert_eq!(scan(&socket, &fresh_mail()), "");
    assert!(socket.logs("Accept=yes"), "{}", socket.log());
}

#[test]
fn check_answers_a_connection_that_is_its_standard_input() {
    needs!(Systemd);
    let server = Server::start(Io::Mmsg);
    let home = client_home(&[server.address()]);
    let check = pyzor(home.path(), "check");
    let socket = ActivatedSocket::start(&["--accept", "--inetd"], &check);
    let mail = fresh_mail();
    assert_eq!(scan(&socket, &mail), printed_by_check(home.path(), &mail));
}

/// Our client's command line.
fn pyzor(home: &Path, command: &str) -> [String; 3] {
    [
        program("pyzor").display().to_string(),
        format!("--homedir={}", home.display()),
        command.to_owned(),
    ]
}

fn scan(socket: &ActivatedSocket, mail: &str) -> String {
    let mut stream = socket.connect();
    // Who refuses does not read.
    let _ = stream.write_all(mail.as_bytes());
    scan_socket::finish(stream)
}

fn printed_by_check(home: &Path, mail: &str) -> String {
    let printed = finish(client(home).arg("check"), mail.as_bytes()).stdout;
    assert!(printed.contains("\t(200, 'OK')\t0\t0\n"), "{printed}");
    printed
}
