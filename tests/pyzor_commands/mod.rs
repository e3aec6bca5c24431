//! Our `pyzor` against the reference's, on the same input, files and servers: what it prints, byte for byte, and its exit
//! status. Where the two differ on purpose, what ours does.

mod clients;
mod failures;
mod files;
mod genkey;
mod scripted_server;
mod wire;

use std::fs;

use crate::harness::reference::fresh_mail;
use crate::harness::{Io, Server, Setup, random_digest};
use clients::Clients;

/// A server on which everybody may do everything.
fn open_server() -> Server {
    Setup::new(Io::Auto)
        .file("pyzord.access", "all : anonymous : allow\n")
        .start()
}

fn mailbox(mails: &[String]) -> String {
    let separator = "From sender@example.org Sat Nov 21 10:00:00 2026\n";
    let messages = mails.iter().map(|mail| [separator, mail, "\n"].concat());
    messages.collect()
}

#[test]
fn every_command_prints_what_the_references_does() {
    needs!(Reference);
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let mail = fresh_mail();
    for command in [
        "ping",
        "pong",
        "check",
        "info",
        "digest",
        "predigest",
        "report",
        "check",
        "info",
        "whitelist",
        "check",
        "info",
        "local_whitelist",
        "check",
        "pong",
        "info",
        "local_whitelist",
        "local_unwhitelist",
        "check",
        "local_unwhitelist",
        "nonsense",
    ] {
        let finished = clients.agree(&[command], mail.as_bytes());
        let is_quiet = finished.stderr.is_empty();
        let is_told = ["local_whitelist", "local_unwhitelist", "nonsense"].contains(&command);
        assert!(is_quiet || is_told, "{command}: {finished:?}");
    }
}

#[test]
fn every_style_prints_what_the_references_does() {
    needs!(Reference);
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let mails = [fresh_mail(), fresh_mail(), fresh_mail()];
    let digests = format!(
        "{}\n\n  {}\t\r\n{}",
        random_digest(),
        random_digest(),
        random_digest()
    );
    for (style, input) in [
        ("msg", mails[0].clone()),
        ("mbox", mailbox(&mails)),
        ("digests", digests),
    ] {
        for command in [
            "ping",
            "pong",
            "report",
            "check",
            "whitelist",
            "info",
            "check",
            "digest",
            "predigest",
        ] {
            let finished = clients.agree(&["--style", style, command], input.as_bytes());
            assert_eq!(finished.stderr, "", "{style} {command}");
        }
    }
}

#[test]
fn nothing_on_standard_input_means_the_same_to_both() {
    needs!(Reference);
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    for (style, input) in [
        ("msg", ""),
        ("mbox", ""),
        ("digests", "\n \n"),
        ("mbox", "no separator\n\nThis is no mailbox at all\n"),
    ] {
        for command in ["check", "info", "report", "digest", "predigest"] {
            clients.agree(&["-s", style, command], input.as_bytes());
        }
    }
}

#[test]
fn mailboxes_are_split_where_the_reference_splits_them() {
    needs!(Reference);
    let clients = Clients::of(&["127.0.0.1:9".parse().unwrap()]);
    for mailbox in [
        "junk before\n\nFrom a@b x\nSubject: a\n\nfirst text that is long enough\nFrom inside a paragraph\nmore of it\n\n\nFrom c\n",
        "From a@b x\r\nSubject: q\r\n\r\nfirst message body text\r\n\r\nFrom c@d y\r\n\r\nsecond message body text\r\n",
        "From a\nFrom b\n\nbody text of this thing\n\nFrom\nFrom: x\n>From y here it is\nFromage text in the middle of it",
        "From a\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nfirst part of a message\n--x\n\nsecond without an end\n\nFrom b\n\n\n\n",
        "\nFrom a\nContent-Transfer-Encoding: base64\n\ndGhpcyBpcyBhIGxpbmUgb2YgdGV4dAo\n\nFrom b\nlast line that is no header\n\n",
    ] {
        let finished = clients.agree(&["-s", "mbox", "digest"], mailbox.as_bytes());
        assert!(finished.stdout.len() >= 41, "{mailbox:?}: {finished:?}");
    }
}

/// The server, not the client, says what a digest is.
#[test]
fn what_is_no_digest_is_sent_and_refused() {
    needs!(Reference);
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let upper = random_digest().to_uppercase();
    let long = "x".repeat(300);
    let lines = format!(
        "nothex\n# comment\n{upper}\n{} extra\n{long}\n",
        random_digest()
    );
    for command in ["check", "info", "report", "whitelist", "pong", "digest"] {
        clients.agree(&["-s", "digests", command], lines.as_bytes());
    }
}

#[test]
fn a_line_that_cannot_be_sent_is_told_and_the_others_are_asked_about() {
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let lines = format!("{}\na\u{b}b\n{}\n", random_digest(), random_digest());
    let finished = clients.ours(&["-s", "digests", "report"], lines.as_bytes());
    assert_eq!(finished.stdout.lines().count(), 2, "{finished:?}");
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("standard input, line 2: expected a digest"),
        "{finished:?}"
    );
}

#[test]
fn thresholds_decide_as_the_references() {
    needs!(Reference);
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let (spam, mixed) = (fresh_mail(), fresh_mail());
    for command in ["report", "report"] {
        clients.agree(&[command], spam.as_bytes());
    }
    clients.agree(
        &["-s", "mbox", "report"],
        mailbox(std::slice::from_ref(&mixed)).as_bytes(),
    );
    clients.agree(&["whitelist"], mixed.as_bytes());
    let both = mailbox(&[spam.clone(), mixed.clone()]);
    for thresholds in [
        &[][..],
        &["-r", "3"],
        &["-r", "4"],
        &["-r", "-1"],
        &["-w", "1"],
        &["-w", "2"],
        &["--report-threshold=1", "--whitelist-threshold=5"],
        &["-w", "-1"],
    ] {
        for (style, input) in [("msg", &spam), ("msg", &mixed), ("mbox", &both)] {
            let arguments = [thresholds, &["-s", style, "check"]].concat();
            clients.agree(&arguments, input.as_bytes());
        }
    }
}

#[test]
fn several_commands_run_until_one_fails() {
    needs!(Reference);
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let mail = fresh_mail();
    for commands in [
        &["ping", "ping"][..],
        &["digest", "ping"],
        &["check", "digest"],
        &["report", "nonsense", "ping"],
        &["nonsense", "check"],
        &["predigest", "-s", "msg", "ping"],
        &["ping", "digest"],
        &["--servers-file", "servers", "ping", "pong", "digest"],
    ] {
        clients.agree(commands, mail.as_bytes());
    }
}

#[test]
fn the_local_whitelist_answers_first_in_the_servers_place() {
    needs!(Reference);
    let servers = [open_server(), open_server()];
    let clients = Clients::of(&[servers[0].address()]);
    let two = Clients::of(&[servers[0].address(), servers[1].address()]);
    let mails = [fresh_mail(), fresh_mail(), fresh_mail()];
    let digest = clients.ours(&["digest"], mails[1].as_bytes()).stdout;
    let all = mailbox(&mails);
    clients.agree(&["-s", "mbox", "report"], all.as_bytes());
    for clients in [&clients, &two] {
        clients.write("whitelist", &format!("# no comment\n{digest}"));
        for command in ["info", "report", "pong", "check"] {
            let finished = clients.agree_in_any_order(&["-s", "mbox", command], all.as_bytes());
            let first = finished.stdout.lines().next().unwrap_or_default();
            assert!(
                command != "check" || first.ends_with("\t0\t0"),
                "{finished:?}"
            );
        }
        clients.agree_in_any_order(&["check"], mails[1].as_bytes());
        clients.agree_in_any_order(&["-r", "-1", "check"], mails[1].as_bytes());
    }
    clients.agree(&["-s", "mbox", "check"], all.as_bytes());
}

#[test]
fn the_local_whitelist_holds_what_the_references_holds() {
    needs!(Reference);
    let clients = Clients::of(&["127.0.0.1:9".parse().unwrap()]);
    let lines = ["aa", "bb", "aa", "# c", "dd ee"].join("\n");
    for (command, input) in [
        ("local_whitelist", lines.as_str()),
        ("local_unwhitelist", "bb\nzz\n"),
        ("local_whitelist", "bb"),
        ("local_unwhitelist", "# c\naa"),
    ] {
        let finished = clients.agree(&["-s", "digests", command], input.as_bytes());
        assert_eq!(finished.status, Some(0), "{finished:?}");
        let [reference, ours] = clients.homes().map(|home| {
            let text = fs::read_to_string(home.join("whitelist")).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        });
        assert_eq!(reference, ours, "{command}");
    }
}

#[test]
fn json_says_the_same_for_scripts() {
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let mail = fresh_mail();
    let json = |command: &str| -> serde_json::Value {
        let finished = clients.ours(&["--json", command], mail.as_bytes());
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    };
    let digest = json("digest")["digest"].clone();
    assert_eq!(json("report")["code"], 200);
    let check = json("check");
    assert_eq!(check["server"], server.address().to_string());
    assert_eq!(check["digest"], digest);
    assert_eq!(
        (&check["count"], &check["wl_count"]),
        (&1.into(), &0.into())
    );
    let info = json("info");
    assert!(
        info["entered"]
            .as_i64()
            .is_some_and(|time| time > 1_700_000_000)
    );
    assert_eq!(info["wl_updated"], 0);
    assert_eq!(json("local_whitelist")["changed"], true);
    assert_eq!(json("check")["locally_whitelisted"], true);
}
