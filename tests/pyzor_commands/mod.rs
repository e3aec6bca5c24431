//! Our `pyzor` against the reference's, on the same input, files and servers: what it prints, byte for byte, and its exit
//! status. Where the two differ on purpose, what ours does.

mod clients;
mod failures;
mod files;
mod genkey;
mod names;
mod scripted_server;
mod wire;

use std::fs;

use crate::harness::reference::fresh_mail;
use crate::harness::{Io, Server, Setup, random_digest};
use clients::Clients;
use scripted_server::ScriptedServer;

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
    ] {
        let finished = clients.agree(&[command], mail.as_bytes());
        let is_quiet = finished.stderr.is_empty();
        let is_told = ["local_whitelist", "local_unwhitelist"].contains(&command);
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
            if (style, command) != ("msg", "report") {
                clients.agree(&["-s", style, command], input.as_bytes());
            }
        }
    }
}

/// The reference counts it for everybody whose message has no text.
#[test]
fn the_digest_of_no_text_is_checked_and_never_reported() {
    const EMPTY: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let no_text = "Subject: nothing\n\n\n";
    let mails = [fresh_mail(), no_text.to_owned(), fresh_mail()];
    let digests = format!("{}\n{EMPTY}\n{}\n", random_digest(), random_digest());
    for command in ["report", "whitelist"] {
        for (options, input, answered, reason) in [
            (&["-s", "msg"][..], no_text, 0, EMPTY),
            (&["-s", "msg", "--json"], "", 0, EMPTY),
            (&["-s", "mbox"], &mailbox(&mails), 2, "message 2: "),
            (
                &["-s", "mbox", "--json"],
                &mailbox(&mails),
                2,
                "message 2: ",
            ),
            (&["-s", "digests"], &digests, 2, EMPTY),
        ] {
            let finished = clients.ours(&[options, &[command]].concat(), input.as_bytes());
            assert_eq!(finished.stdout.lines().count(), answered, "{finished:?}");
            assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
            assert!(finished.stderr.contains(reason), "{finished:?}");
            assert_eq!(finished.status, Some(1), "{finished:?}");
        }
    }
    let check = clients.ours(&["-r", "-1", "check"], no_text.as_bytes());
    assert!(check.stdout.ends_with("(200, 'OK')\t0\t0\n"), "{check:?}");
    assert_eq!(check.status, Some(0));
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
        &["predigest", "-s", "msg", "ping"],
        &["ping", "digest"],
        &["--servers-file", "servers", "ping", "pong"],
    ] {
        clients.agree(commands, mail.as_bytes());
    }
}

/// The reference gives the second an empty message.
#[test]
fn each_of_several_commands_gets_the_same_input() {
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let commands = [
        "digest",
        "report",
        "predigest",
        "whitelist",
        "info",
        "pong",
        "report",
    ];
    let digests = format!("{}\n{}\n", random_digest(), random_digest());
    let mails = mailbox(&[fresh_mail(), fresh_mail()]);
    for (style, input) in [("msg", fresh_mail()), ("mbox", mails), ("digests", digests)] {
        let alone: Vec<String> = commands
            .iter()
            .map(|command| {
                clients
                    .ours(&["-s", style, command], input.as_bytes())
                    .stdout
            })
            .collect();
        let arguments = [&["-s", style][..], &commands].concat();
        let together = clients.ours(&arguments, input.as_bytes());
        assert_eq!(together.status, Some(0), "{together:?}");
        assert_eq!(
            without_info(&together.stdout),
            without_info(&alone.concat())
        );
        let counts = clients
            .ours(&["-s", style, "check"], input.as_bytes())
            .stdout;
        let messages = if style == "msg" { 1 } else { 2 };
        // Reported twice and whitelisted once alone, and together again.
        assert_eq!(counts.matches("\t4\t2\n").count(), messages, "{counts}");
    }
}

/// Lines without the indented ones of `info`, which grow from one run to the next.
fn without_info(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.starts_with('\t'))
        .collect()
}

#[test]
fn more_than_fits_for_several_commands_is_refused_before_any_reads_it() {
    let server = ScriptedServer::new("");
    let clients = Clients::of(&[server.address]);
    let over = vec![b'x'; pyzor::input::MAX_MESSAGE_BYTES + 1];
    let finished = clients.ours(&["-s", "mbox", "report", "check"], &over);
    assert_eq!((finished.status, finished.stdout.as_str()), (Some(1), ""));
    assert!(finished.stderr.contains("several commands"), "{finished:?}");
    assert_eq!(server.requests().len(), 0);
}

/// Every status but 0 keeps procmail from taking a message for spam.
#[test]
fn unknown_commands_and_none_are_usage_errors_before_anything_is_sent() {
    let server = ScriptedServer::new("");
    let clients = Clients::of(&[server.address]);
    for (arguments, reason) in [
        (&["chek"][..], "chek; the nearest is check"),
        (&["report", "no/file"], "no command no/file"),
        (&["PING"], "no command PING"),
        (&[""], "no command"),
        (&[], "expected a command"),
        (&["-"], "expected a command"),
        (&["--json"], "expected a command"),
        (&["serve", "check"], "serve goes with no other command"),
    ] {
        let finished = clients.ours(arguments, fresh_mail().as_bytes());
        assert_eq!((finished.status, finished.stdout.as_str()), (Some(2), ""));
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains(reason), "{finished:?}");
        assert_eq!(server.requests().len(), 0, "{arguments:?}");
    }
}

/// As rspamd's documentation writes it.
#[test]
fn a_dash_stands_for_standard_input() {
    let server = open_server();
    let clients = Clients::of(&[server.address()]);
    let mail = fresh_mail();
    clients.ours(&["report"], mail.as_bytes());
    let finished = clients.ours(&["check", "-"], mail.as_bytes());
    assert!(finished.stdout.ends_with("\t1\t0\n"), "{finished:?}");
    assert_eq!((finished.status, finished.stderr.as_str()), (Some(0), ""));
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
        let digest = digest.trim();
        clients.write("whitelist", &format!("# no comment\n{digest} # mine\n"));
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
    clients.write("whitelist", "ff\rgg\u{a0}\n");
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
