//! The load generator's answer check, against servers of which one knows something that the other does not.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::programs::program;
use crate::harness::{Io, Request, Server};
use crate::replay::is_fine;

const DIGESTS: usize = 50;
/// Reported once more on one of the servers.
const DIFFERENT: usize = 17;

fn digest(number: usize) -> String {
    format!("{number:040x}")
}

/// A server to which each digest was reported up to three times.
fn server() -> Server {
    let server = Server::start(Io::Auto);
    for number in 0..DIGESTS {
        let report = Request::new("report").digest(&digest(number));
        (0..number % 4).for_each(|_| report_once(&server, &report));
    }
    server
}

fn report_once(server: &Server, report: &Request) {
    let reply = server.client().ask(report);
    assert_eq!(reply.code(), 200);
}

fn replay(trace: &Path, server: &Server, arguments: &[&Path]) -> Output {
    Command::new(program("loadgen"))
        .arg("replay")
        .arg(trace)
        .args(["--target", &server.address().to_string()])
        .args([
            "--rate",
            "500",
            "--timeout",
            "5",
            "--loop",
            "--duration",
            "1",
        ])
        .args(arguments)
        .output()
        .unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn one_digest_that_differs_between_two_servers_is_named() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    // The last one is in no file of expectations.
    let trace: String = (0..=DIGESTS).map(|number| digest(number) + "\n").collect();
    std::fs::write(file("trace"), trace).unwrap();
    let first = server();
    let saved = replay(
        &file("trace"),
        &first,
        &["--answers".as_ref(), &file("answers")],
    );
    assert!(is_fine(&saved), "{}", errors(&saved));
    let answers = std::fs::read_to_string(file("answers")).unwrap();
    assert!(
        answers.contains(&format!("{} 1 0\n", digest(DIFFERENT))),
        "{answers}"
    );
    let (all, last) = answers.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(last, format!("{} 0 0", digest(DIGESTS)));
    std::fs::write(file("expected"), all).unwrap();

    let expecting = |server: &Server| {
        let output = replay(
            &file("trace"),
            server,
            &[
                "--expect".as_ref(),
                &file("expected"),
                "--assert".as_ref(),
                "differences=0".as_ref(),
                "--json".as_ref(),
                &file("result.json"),
                "--html".as_ref(),
                &file("result.html"),
            ],
        );
        let json = std::fs::read(file("result.json")).unwrap();
        let result: Value = serde_json::from_slice(&json).unwrap();
        (output, result["answers"].clone())
    };
    let (same, answers) = expecting(&first);
    assert!(same.status.success(), "{}", errors(&same));
    // The trace goes round ten times, but for its last digests the last time.
    assert_eq!(
        answers["checked"].as_u64().unwrap() + answers["unlisted"].as_u64().unwrap(),
        500
    );
    assert_eq!(answers["unlisted"], 9);
    assert_eq!(answers["differing"], 0);

    let second = server();
    report_once(&second, &Request::new("report").digest(&digest(DIFFERENT)));
    let (other, answers) = expecting(&second);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        errors(&other).contains("not met: differences=0: it is 10"),
        "{}",
        errors(&other)
    );
    let difference = json!({
        "digest": digest(DIFFERENT),
        "expected": {"count": 1, "whitelisted": 0},
        "found": {"count": 2, "whitelisted": 0},
        "answers": 10,
    });
    assert_eq!(answers["differences"], json!([difference]));
    let text = String::from_utf8(other.stdout).unwrap();
    let line = format!("{}   expected 1 and 0, found 2 and 0", digest(DIFFERENT));
    assert!(text.contains(&line), "{text}");
    let page = std::fs::read_to_string(file("result.html")).unwrap();
    assert!(page.contains(&digest(DIFFERENT)) && page.contains("2 and 0"));
}

#[test]
fn a_file_of_expectations_that_is_none_gets_one_line() {
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    std::fs::write(&trace, digest(1)).unwrap();
    let server = Server::start(Io::Auto);
    let output = replay(&trace, &server, &["--expect".as_ref(), &trace]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "loadgen: {}, line 1: expected a digest of 40 lower-case hexadecimal digits, its count and its whitelist count\n",
        trace.display()
    );
    assert_eq!(errors(&output), expected);
}
