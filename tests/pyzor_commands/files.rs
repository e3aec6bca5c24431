//! The files of the home directory, the configuration file, the log, and the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::clients::{Clients, our_client};
use super::open_server;
use super::scripted_server::{ScriptedServer, header};
use crate::harness::reference::{finish, fresh_mail};
use crate::harness::{Io, Setup};

/// Says `OK` to whatever it is asked.
const OK: &str = "Code: 200\nDiag: OK\nPV: 2.1\nThread: {T}\nCount: 3\nWL-Count: 0\n\n";

#[test]
fn servers_files_are_read_as_the_reference_reads_them() {
    needs!(Reference);
    let server = open_server();
    let port = server.address().port();
    let clients = Clients::of(&[server.address()]);
    for text in [
        format!("# comment\n\n  127.0.0.1:{port} \n# more\n"),
        format!("127.0.0.1:{port}\r\n"),
        format!("localhost:{port}\n"),
        format!("127.0.0.1:{port}\n127.0.0.1:{port}\n"),
        format!("  # indented\n127.0.0.1:{port}"),
        format!("127.0.0.1\nnonsense\n127.0.0.1:{port}\n"),
        format!("# comment\r127.0.0.1:{port}\r"),
        format!("\u{2028}127.0.0.1:{port}\u{a0}\n"),
    ] {
        clients.write("servers", &text);
        clients.agree(&["check"], fresh_mail().as_bytes());
    }
    let other = format!("127.0.0.1:{port}\n");
    clients.write("others", &other);
    clients.write("servers", "127.0.0.1:9\n");
    clients.write("config", "[client]\nServersFile = others\n");
    clients.agree(&["ping"], b"");
    clients.write("config", "[client]\nServersFile = nowhere\n");
    clients.agree(&["--servers-file", "others", "ping"], b"");
}

/// Who asks, as a server sees it.
#[test]
fn accounts_files_are_read_as_the_reference_reads_them() {
    needs!(Reference);
    let server = ScriptedServer::new(OK);
    let port = server.address.port();
    let clients = Clients::of(&[server.address]);
    for text in [
        format!("127.0.0.1 : {port} : bob : salt,key\n"),
        format!("127.0.0.1:{port}:bob:salt,key\n"),
        format!("  127.0.0.1 : {port} : bob : salt,key  \r\n"),
        format!("# c\n\n127.0.0.1 : {port} : bob : ,key\n127.0.0.1 : {port} : alice : salt,key2\n"),
        format!("127.0.0.1 : {port} : bob : nocomma\n"),
        format!("127.0.0.1 : {port} : bob : a,b,c\n"),
        format!("127.0.0.1 : {port} : bob : ,\n"),
        format!("127.0.0.1 : {port} : bob : salt,\n"),
        format!("127.0.0.1 : {port} : bob\n"),
        format!("127.0.0.1 : {port} : bob : salt,key : extra\n"),
        "127.0.0.1 : abc : bob : salt,key\n".to_owned(),
        format!("127.0.0.1 : {} : bob : salt,key\n", port ^ 1),
        format!("localhost : {port} : bob : salt,key\n"),
        format!("  # ind\n127.0.0.1 : {port} : Bob Q : salt,key\n"),
        format!("junk\n127.0.0.1 : {port} : bob : salt,KEY\n"),
    ] {
        clients.write("accounts", &text);
        let reference = clients.reference(&["ping"], b"");
        let ours = clients.ours(&["ping"], b"");
        assert_eq!(ours.stdout, reference.stdout, "{text:?}");
        assert_eq!(ours.status, reference.status, "{text:?}");
        let requests = server.requests();
        let users: Vec<_> = requests.iter().map(|sent| header(sent, "User")).collect();
        assert_eq!(users.len(), 2, "{text:?}");
        assert_eq!(users[0], users[1], "{text:?}");
    }
}

#[test]
fn an_ipv6_server_and_its_account_are_named_in_brackets() {
    needs!(Ipv6);
    let server = Setup::new(Io::Auto)
        .listen("::1")
        .file("pyzord.passwd", "bob : 0011\n")
        .file("pyzord.access", "all : bob : allow\n")
        .start();
    let port = server.address().port();
    let clients = Clients::of(&[server.address()]);
    let refused = clients.ours(&["ping"], b"");
    assert!(
        refused.stdout.starts_with(&format!("[::1]:{port}\t(403, ")),
        "{refused:?}"
    );
    clients.write("accounts", &format!("[::1] : {port} : bob : aa,0011\n"));
    let answered = clients.ours(&["ping"], b"");
    assert_eq!(answered.stdout, format!("[::1]:{port}\t(200, 'OK')\n"));
}

#[test]
fn the_configuration_file_means_the_same_to_both() {
    needs!(Reference);
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let mail = fresh_mail();
    clients.agree(&["report"], mail.as_bytes());
    for (config, command) in [
        ("[client]\nTimeout = 2\n", "check"),
        ("[client]\nReportThreshold = 1\n", "check"),
        ("[client]\nReportThreshold: 2\n", "check"),
        (
            "[client]\nreportthreshold = 9\nWhitelistThreshold=-1\n",
            "check",
        ),
        (
            "[DEFAULT]\nn = 1\n[client]\nReportThreshold = %(n)s\n",
            "check",
        ),
        ("[server]\nPort = 1\n[client]\nStyle = digests\n", "digest"),
        ("[client]\nStyle = mbox\nLocalWhitelist =\n", "digest"),
        ("[client]\nAccountsFile =\nLogFile =\n", "ping"),
        ("# nothing\n", "check"),
    ] {
        clients.write("config", config);
        let finished = clients.agree(&[command], mail.as_bytes());
        assert_eq!(finished.stderr, "", "{config:?}");
    }
}

/// What is misspelt would otherwise ask others than were meant, without a word.
#[test]
fn what_is_misspelt_in_the_configuration_file_is_told() {
    let clients = Clients::of(&["127.0.0.1:9".parse().unwrap()]);
    clients.write("config", "[client]\nServerFile = mirrors\n[Client]\n");
    let finished = clients.ours(&["digest"], b"Subject: x\n\nsome words of a mail\n");
    assert_eq!(finished.status, Some(0), "{finished:?}");
    let told: Vec<_> = finished.stderr.lines().collect();
    for (line, meant) in told.iter().zip(["ServersFile?", "[client]?"]) {
        assert!(line.ends_with(&format!("; did you mean {meant}")), "{line}");
    }
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn what_cannot_be_used_is_one_line() {
    let clients = Clients::of(&["127.0.0.1:9".parse().unwrap()]);
    let home = clients.homes()[1].clone();
    let log_in_nowhere = ["--log-file", "no/such/log", "ping"];
    for (arguments, status, reason) in [
        (&["--nonsense"][..], 2, "unexpected argument '--nonsense'"),
        (
            &["-t", "abc", "check"],
            2,
            "--timeout abc: expected a whole number",
        ),
        (&["-s", "MSG", "check"], 2, "--style MSG: expected one of"),
        (&["--lo", "x", "check"], 2, "--lo"),
        (&["--servers-file", ".", "ping"], 1, "cannot read"),
        (&["--accounts-file", ".", "ping"], 1, "cannot read"),
        (&["--local-whitelist", ".", "check"], 1, "cannot read"),
        (
            &["--local-whitelist", "", "local_whitelist"],
            1,
            "LocalWhitelist is empty",
        ),
        (&log_in_nowhere, 1, "cannot open"),
    ] {
        let finished = clients.ours(arguments, b"x");
        assert_eq!(finished.status, Some(status), "{finished:?}");
        assert_eq!(finished.stdout, "", "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.starts_with("pyzor: "), "{finished:?}");
        assert!(finished.stderr.contains(reason), "{finished:?}");
    }
    for (name, text, reason) in [
        (
            "config",
            "[client]\nTimeout = abc\n",
            "config:2: Timeout = abc: expected",
        ),
        ("config", "[client\n", "config:1: expected a section header"),
        (
            "config",
            "[client]\nnoise\n",
            "config:2: expected NAME = VALUE",
        ),
        (
            "servers",
            "# mine\nmirror\n",
            "servers:2: expected HOST:PORT",
        ),
    ] {
        clients.write(name, text);
        let finished = clients.ours(&["ping"], b"");
        assert_eq!((finished.status, finished.stdout.as_str()), (Some(1), ""));
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains(reason), "{finished:?}");
        fs::remove_file(home.join(name)).unwrap();
    }
    let file = home.join("file");
    fs::write(&file, "x").unwrap();
    for wrong_home in [file, home.join("no/such")] {
        let finished = finish(our_client(&wrong_home).arg("ping"), b"");
        assert_eq!(finished.status, Some(1), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    }
}

#[test]
fn failures_go_to_the_log_and_to_stderr_only_when_debugging() {
    let silent = ScriptedServer::new("");
    let clients = Clients::of(&[silent.address]);
    let (ip, port) = (silent.address.ip(), silent.address.port());
    let account = format!("{ip} : {port} : bob : salt,key\n");
    clients.write("accounts", &format!("junk\n{account}"));
    let quiet = clients.ours(&["-t", "1", "--log-file", "log", "check"], b"x");
    assert_eq!(quiet.stderr, "");
    let path = clients.homes()[1].join("log");
    let log = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains(" WARNING ") && lines[0].contains("accounts: line 1: "),
        "{log}"
    );
    let time_out = format!(" ERROR {}: no reply in time", silent.address);
    assert!(lines[1].ends_with(&time_out), "{log}");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let debugged = clients.ours(&["-t", "1", "-d", "check"], b"x");
    assert!(debugged.stderr.contains(&time_out), "{debugged:?}");
    assert!(debugged.stderr.contains(" DEBUG "), "{debugged:?}");
    assert!(!debugged.stderr.contains("Sig:"), "{debugged:?}");
}

/// A line that is skipped is told where the user is not who they meant to be.
#[test]
fn who_has_no_account_for_a_mistake_in_the_file_is_told() {
    let server = ScriptedServer::new(OK);
    let (ip, port) = (server.address.ip(), server.address.port());
    let clients = Clients::of(&[server.address]);
    for (text, told) in [
        (format!("{ip} : {port} : bob\n"), true),
        (
            format!("other : 1 : bob : 00,5ec2e7\n{ip} : {port}\n"),
            true,
        ),
        (format!("junk\n{ip} : {port} : bob : 00,5ec2e7\n"), false),
        ("other : 1 : bob : 00,5ec2e7\n".to_owned(), false),
    ] {
        clients.write("accounts", &text);
        let finished = clients.ours(&["ping"], b"");
        assert_eq!(finished.status, Some(0), "{finished:?}");
        let is_told = finished.stderr.contains("accounts: line ");
        assert_eq!(is_told, told, "{text}{finished:?}");
        assert_eq!(finished.stderr.lines().count(), usize::from(told));
        assert!(!finished.stderr.contains("5ec2e7"), "{finished:?}");
    }
}

#[test]
fn a_servers_file_without_servers_asks_the_public_one_and_says_so_in_the_log() {
    let clients = Clients::of(&["127.0.0.1:9".parse().unwrap()]);
    for text in ["", "# nothing yet\r"] {
        clients.write("servers", text);
        // The digest is answered locally: nobody is asked.
        clients.ours(&["local_whitelist"], b"");
        let finished = clients.ours(&["--log-file", "log", "check"], b"");
        let expected = "public.pyzor.org:24441\t(200, 'OK')\t0\t0\n";
        assert_eq!(finished.stdout, expected, "{finished:?}");
        let log = fs::read_to_string(clients.homes()[1].join("log")).unwrap();
        assert!(log.contains("servers names no server"), "{log}");
        fs::remove_file(clients.homes()[1].join("log")).unwrap();
    }
}

#[test]
fn a_missing_home_directory_is_made_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(crate::harness::programs::program("pyzor"));
    let finished = finish(command.env("HOME", parent.path()).arg("digest"), b"");
    assert_eq!(
        finished.stdout,
        "da39a3ee5e6b4b0d3255bfef95601890afd80709\n"
    );
    let home = fs::metadata(parent.path().join(".pyzor")).unwrap();
    assert_eq!(home.permissions().mode() & 0o777, 0o700);
}

#[test]
fn help_and_documents_name_every_option() {
    let clients = Clients::of(&["127.0.0.1:9".parse().unwrap()]);
    let help = clients.ours(&["--help"], b"");
    assert_eq!((help.status, help.stderr.as_str()), (Some(0), ""));
    let options: Vec<&str> = help
        .stdout
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"))
        .map(|option| option.trim_end_matches(|c: char| !c.is_alphanumeric()))
        .collect();
    assert!(options.len() > 10, "{options:?}");
    for kind in ["man", "bash", "zsh", "fish"] {
        let document = clients.ours(&["--generate", kind], b"");
        assert_eq!(document.status, Some(0), "{document:?}");
        let text = document.stdout.replace('\\', "");
        for option in &options {
            assert!(text.contains(option), "{kind} lacks {option}");
        }
        // The generator of fish completions leaves out what is no option.
        let has_commands = text.contains("local_unwhitelist");
        assert!(has_commands || kind == "fish", "{kind}");
    }
}

/// Opening a pipe waits for its other end, which would keep a mail waiting.
#[test]
fn a_pipe_in_the_home_directory_is_refused() {
    let server = open_server();
    for (name, options) in [
        ("config", &[][..]),
        ("servers", &[]),
        ("accounts", &[]),
        ("whitelist", &[]),
        ("log", &["--log-file", "log"]),
    ] {
        let clients = Clients::of(&[server.address()]);
        let pipe = clients.homes()[1].join(name);
        let _ = fs::remove_file(&pipe);
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let refused = clients.ours(&[options, &["check"]].concat(), fresh_mail().as_bytes());
        assert_ne!(refused.status, Some(0), "{name}: {refused:?}");
        assert!(
            refused.stderr.contains(pipe.to_str().unwrap()),
            "{name}: {refused:?}"
        );
    }
}
