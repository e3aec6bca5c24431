//! `loadgen inspect` finds in traces what is known to be in them: the samples in `golden/traces`, whose README says how
//! they were made, and what Wireshark's own decoder says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::programs::{program, workspace};

const CAPTURES: [&str; 3] = [
    "client_ethernet.pcap",
    "client_cooked.pcap",
    "client_cooked2_ns.pcap",
];

fn sample(name: &str) -> PathBuf {
    workspace().join("tests/golden/traces").join(name)
}

fn try_inspect(trace: &Path, arguments: &[&str]) -> Output {
    Command::new(program("loadgen"))
        .arg("inspect")
        .arg(trace)
        .args(arguments)
        .output()
        .unwrap()
}

/// What is found in a trace, which must be readable.
fn inspect(trace: &Path) -> Value {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("found.json");
    let output = try_inspect(trace, &["--json", json.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!output.stdout.is_empty());
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

/// What is said of a trace that cannot be read to its end, in one line, and what was found before.
fn complaint(trace: &Path, arguments: &[&str]) -> (String, String) {
    let output = try_inspect(trace, arguments);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    (errors, String::from_utf8(output.stdout).unwrap())
}

/// The line that a trace is refused with of which nothing can be read.
fn refusal(trace: &Path, arguments: &[&str]) -> String {
    let (line, found) = complaint(trace, arguments);
    assert!(found.is_empty(), "{found}");
    line
}

/// What the client was made to ask, and two datagrams that are no valid requests.
fn asked() -> Value {
    json!({"check": 3, "info": 1, "other": 1, "ping": 1, "pong": 1, "report": 14, "whitelist": 2})
}

#[test]
fn captures_hold_what_the_client_was_made_to_ask() {
    for name in CAPTURES {
        let found = inspect(&sample(name));
        assert_eq!(found["operations"], asked(), "{name}");
        assert_eq!(found["requests"], 23);
        assert_eq!(
            found["users"]["top"][0],
            json!({"name": "alice", "requests": 14})
        );
        assert_eq!(
            found["digests_a_request"],
            json!({"0": 3, "1": 19, "10": 1})
        );
        assert_eq!(found["digests"]["distinct"], 24);
        assert_eq!(found["sources"]["addresses"], 1);
        assert_eq!(found["sources"]["flows"], 22);
        assert_eq!(
            (&found["duplicates"], &found["malformed"]),
            (&json!(0), &json!(2))
        );
        assert_eq!(found["skipped"]["replies"], 23);
    }
    let skipped = &inspect(&sample(CAPTURES[0]))["skipped"];
    assert_eq!(
        (&skipped["other_port"], &skipped["not_udp"]),
        (&json!(1), &json!(2))
    );
}

#[test]
fn what_two_interfaces_captured_are_duplicates() {
    let found = inspect(&sample("client_two_interfaces.pcapng"));
    assert_eq!(found["requests"], 46);
    assert_eq!(found["duplicates"], 23);
    assert_eq!(found["sources"]["flows"], 22);
    assert_eq!(found["skipped"]["replies"], 46);
}

#[test]
fn usage_logs_hold_what_was_not_refused() {
    let mut carried_out = asked();
    let operations = carried_out.as_object_mut().unwrap();
    operations.remove("other");
    operations["whitelist"] = json!(1);
    // The reference carries out a check of a digest that is none; we refuse it.
    let python = inspect(&sample("usage_python.log"));
    assert_eq!(python["operations"], carried_out);
    assert_eq!(
        (&python["malformed"], &python["skipped"]["refusal_lines"]),
        (&json!(1), &json!(2))
    );
    let rust = inspect(&sample("usage_rust.log"));
    carried_out["check"] = json!(2);
    assert_eq!(rust["operations"], carried_out);
    assert_eq!(
        (&rust["malformed"], &rust["skipped"]["refusal_lines"]),
        (&json!(0), &json!(3))
    );
    for log in [python, rust] {
        assert_eq!(log["digests"]["distinct"], 24);
        assert_eq!(log["duplicates"], Value::Null);
        let notes = log["notes"].to_string();
        assert!(notes.contains("refused"), "{notes}");
    }
}

/// A packet as `tshark` decodes it.
struct Decoded {
    at_s: f64,
    source_port: String,
}

/// The packets to the server's port, and how many are from it.
fn decode(capture: &Path) -> (Vec<Decoded>, usize) {
    let output = Command::new("tshark")
        .arg("-nr")
        .arg(capture)
        .args(["-Y", "udp and not icmp", "-T", "fields"])
        .args([
            "-e",
            "frame.time_epoch",
            "-e",
            "udp.srcport",
            "-e",
            "udp.dstport",
        ])
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut requests, mut replies) = (Vec::new(), 0);
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[1] == "24441" {
            replies += 1;
        } else if fields[2] == "24441" {
            requests.push(Decoded {
                at_s: fields[0].parse().unwrap(),
                source_port: fields[1].to_owned(),
            });
        }
    }
    (requests, replies)
}

#[test]
fn captures_are_read_as_wireshark_reads_them() {
    needs!(Tshark);
    let pcapng = "client_two_interfaces.pcapng";
    for name in CAPTURES.into_iter().chain([pcapng]) {
        let (requests, replies) = decode(&sample(name));
        let found = inspect(&sample(name));
        assert_eq!(found["requests"], requests.len(), "{name}");
        assert_eq!(found["skipped"]["replies"], replies, "{name}");
        let ports: BTreeSet<&str> = requests
            .iter()
            .map(|request| &request.source_port[..])
            .collect();
        assert_eq!(found["sources"]["flows"], ports.len(), "{name}");
        // Its epoch has nanoseconds, of which a float keeps some hundreds.
        let times = requests.iter().map(|request| request.at_s);
        let last = times.fold(0.0, f64::max);
        let length_s = last - requests[0].at_s;
        let difference = (found["duration_s"].as_f64().unwrap() - length_s).abs();
        assert!(difference < 2e-6, "{name}: {difference}");
    }
}

#[test]
fn compressed_traces_are_those_they_were() {
    needs!(Zstd);
    let folder = TempDir::new().unwrap();
    let original = sample(CAPTURES[0]);
    let mut expected = inspect(&original);
    for (packer, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let packed = Command::new(packer).arg("-c").arg(&original).output();
        // The name does not matter.
        let path = folder.path().join(format!("packed.{ending}"));
        std::fs::write(&path, packed.unwrap().stdout).unwrap();
        let found = inspect(&path);
        expected["trace"] = found["trace"].clone();
        assert_eq!(found, expected, "{packer}");
        let cut = std::fs::read(&path).unwrap();
        std::fs::write(&path, &cut[..cut.len() / 2]).unwrap();
        let (line, _) = complaint(&path, &[]);
        assert!(
            line.contains("cannot read") && line.contains("after"),
            "{line}"
        );
    }
}

#[test]
fn of_a_trace_that_is_cut_short_what_is_whole_is_told() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (path, json) = (file("cut"), file("json"));
    // The last packets are replies, and the last line that tells a request is cut.
    for (name, requests, place) in [
        (CAPTURES[0], 23, "the last 137 bytes, from byte 8293 on"),
        ("client_two_interfaces.pcapng", 46, "from byte 18240 on"),
        ("usage_python.log", 20, "its last line, from byte "),
        ("usage_rust.log", 19, "its last line, from byte "),
    ] {
        let whole = std::fs::read(sample(name)).unwrap();
        let told = whole.windows(5).rposition(|part| part == b",200\n");
        let end = told.map_or(whole.len() - 10, |at| at + 2);
        std::fs::write(&path, &whole[..end]).unwrap();
        let arguments = ["--json", json.to_str().unwrap()];
        let (line, text) = complaint(&path, &arguments);
        let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!(found["requests"], requests, "{name}: {line}");
        let says = line.contains("is cut short: ") && line.contains(place);
        assert!(says, "{name}: {line}");
        assert!(text.contains("not read to its end: "), "{name}: {text}");
        // What the message says to do helps.
        let kept = line.split_once("head -c ").unwrap().1;
        let kept: usize = kept.split_once('`').unwrap().0.parse().unwrap();
        std::fs::write(&path, &whole[..kept]).unwrap();
        assert_eq!(inspect(&path)["requests"], requests, "{name}");
    }
}

#[test]
fn what_is_no_trace_gets_one_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("trace");
    let line = |contents: &[u8]| {
        std::fs::write(&path, contents).unwrap();
        let line = refusal(&path, &[]);
        let shown = path.display().to_string();
        line.replace(&shown, "FILE")
    };
    let expected = "expected a pcap or pcapng, a usage log of pyzord, or a list of digests, compressed by gzip or zstd \
                    or not\n";
    assert_eq!(line(b""), format!("loadgen: FILE is empty: {expected}"));
    assert_eq!(
        line(b"Dear Sir or Madam\n"),
        format!("loadgen: FILE is of no known kind: {expected}")
    );
    let mut damaged = std::fs::read(sample("client_two_interfaces.pcapng")).unwrap();
    // The length of the second block.
    damaged[32] ^= 0xff;
    assert_eq!(
        line(&damaged),
        "loadgen: FILE is damaged at byte 28: expected a block of a capture\n"
    );
    assert_eq!(
        line(b"da39a3ee5e6b4b0d3255bfef95601890afd80709 dance\nda39a3ee5e6b4b0d3255bfef95601890afd80709\n"),
        "loadgen: FILE, line 1: expected a digest of 40 lower-case hexadecimal digits, and then an operation or nothing\n"
    );
    let nowhere = refusal(&folder.path().join("nowhere"), &[]);
    assert!(nowhere.contains("nowhere: No such file"), "{nowhere}");
}

#[test]
fn a_capture_of_other_ports_says_which() {
    let line = refusal(&sample(CAPTURES[0]), &["--port", "53"]);
    let path = sample(CAPTURES[0]);
    let expected = format!(
        "loadgen: {} holds no request to UDP port 53; passed over: 47 to other ports, 2 not UDP; UDP ports asked: 24441 (23), ",
        path.display()
    );
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.ends_with(" others: try --port\n"), "{line}");
}

#[test]
fn made_up_requests_are_as_they_were_asked_for() {
    let mix = "synthetic:requests=20000,check=3,report=1,zipf=1.2,known=500,sources=7";
    let found = inspect(Path::new(mix));
    let operations: BTreeMap<String, u64> =
        serde_json::from_value(found["operations"].clone()).unwrap();
    assert_eq!(operations["check"] + operations["report"], 20_000);
    assert!(operations["check"].abs_diff(15_000) < 400, "{operations:?}");
    let exponent = found["digests"]["zipf"]["exponent"].as_f64().unwrap();
    assert!((exponent - 1.2).abs() < 0.05, "{exponent}");
    assert_eq!(found["sources"]["addresses"], 7);
    let endless = refusal(Path::new("synthetic:"), &[]);
    assert_eq!(
        endless,
        "loadgen: synthetic: never ends: say how long with requests=N\n"
    );
}
