//! Runs of the load generator that end otherwise than planned: traces that do not come, servers that go away, nothing
//! measured, searches without a knee. What was measured is kept, and what was not is not called good.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::Ordering;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::eventually;
use crate::harness::programs::program;
use crate::loadgen::Echo;
use crate::replay::{CHECKS, PATIENCE, counting, is_fine, loadgen, run_with_a_stop, signal};

fn read(json: &Path) -> Value {
    serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
}

fn start(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The only line on standard error of a run that failed.
fn complaint(output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

/// Whether it has taken TERM and INT over: they are blocked.
fn has_begun(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap() & (1 << 1) != 0
}

#[test]
fn a_trace_that_does_not_come_is_not_waited_for_when_a_signal_does() {
    let (server, _) = counting();
    let target = server.address.to_string();
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let pipe = pipe.to_str().unwrap();
    for trace in ["-", pipe] {
        let mut command = loadgen("replay", &[trace, "--target", &target]);
        let child = start(command.stdin(Stdio::piped()));
        assert!(eventually(PATIENCE, || has_begun(&child)));
        signal(&child, Signal::SIGINT);
        let mut child = child;
        let _input = child.stdin.take();
        let why = complaint(child.wait_with_output().unwrap());
        assert_eq!(why, "loadgen: stopped before anything was measured\n");
    }
    for endless in [
        &["replay", pipe, "--loop"][..],
        &["knee", pipe, "--slo", "loss=0"],
    ] {
        let arguments = [&endless[1..], &["--target", &target]].concat();
        let output = loadgen(endless[0], &arguments).output().unwrap();
        assert!(complaint(output).contains("can be read only once"));
    }
}

#[test]
fn a_trace_that_stops_coming_ends_with_the_time() {
    let (server, seen) = counting();
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("json");
    let target = server.address.to_string();
    let fixed = ["-", "--target", &target, "--rate", "2000"];
    let mut command = loadgen("replay", &fixed);
    let limits = ["--duration", "1", "--timeout", "5", "--json"];
    let command = command.args(limits).arg(&json).stdin(Stdio::piped());
    let mut child = start(command);
    // More than are read ahead to tell what they are, and fewer than the time takes.
    let mut input = child.stdin.take().unwrap();
    let digests = format!("{}\n", "a".repeat(40)).repeat(1700);
    input.write_all(digests.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(is_fine(&output), "{errors}");
    let result = read(&json);
    let sent = result["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent <= 1700, "{result}");
    assert_eq!(result["answered"], sent);
    assert_eq!(seen.load(Ordering::Relaxed), sent);
    assert_eq!(result["ended_early"], false);
    assert_eq!(result["window_s"], 1.0);
}

#[test]
fn what_is_measured_of_a_server_that_goes_away_is_kept() {
    for command in ["replay", "blast"] {
        let echo = Echo::start();
        let folder = TempDir::new().unwrap();
        let json = folder.path().join("json");
        let (target, pid) = (echo.address.to_string(), echo.pid().to_string());
        let fixed = ["--target", &target, "--server-pid", &pid, "--duration", "2"];
        let mut run = loadgen(command, &fixed);
        if command == "replay" {
            run.args([CHECKS, "--rate", "500", "--timeout", "0.2"]);
            run.args(["--interval", "0.2"]);
        } else {
            run.args(["--warmup", "0", "--in-flight", "1"]);
        }
        let child = start(run.arg("--json").arg(&json));
        assert!(eventually(PATIENCE, || echo.has_answered()));
        drop(echo);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let gone = format!("cannot read the CPU time of process {pid}: ");
        assert!(errors.contains(&gone), "{command}: {errors}");
        let result = read(&json);
        assert!(result["answered"].as_u64().unwrap() > 0, "{result}");
        assert!(result["losses"]["lost"].as_u64().unwrap() > 0, "{result}");
        assert!(result["server"].is_null(), "{result}");
    }
}

#[test]
fn a_run_that_measured_nothing_is_no_success() {
    let (server, _) = counting();
    let target = server.address.to_string();
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("json");
    let short = "synthetic:check=1,rate=1000,requests=300";
    let arguments = [short, "--target", &target, "--warmup", "5"];
    let mut run = loadgen("replay", &arguments);
    run.args(["--assert", "loss=0", "--json"]).arg(&json);
    let why = complaint(run.output().unwrap());
    assert!(why.contains("nothing was sent"), "{why}");
    assert!(!json.exists());
    for none in [
        &["blast", "--duration", "0"][..],
        &["replay", CHECKS, "--duration", "0"],
    ] {
        let arguments = [&none[1..], &["--target", &target]].concat();
        let output = loadgen(none[0], &arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{none:?}");
    }
}

#[test]
fn rates_of_a_run_that_was_stopped_are_those_of_its_time() {
    let (server, seen) = counting();
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("json");
    let target = server.address.to_string();
    let mut run = loadgen("replay", &[CHECKS, "--target", &target, "--rate", "0.1"]);
    let child = start(run.arg("--json").arg(&json));
    assert!(eventually(PATIENCE, || seen.load(Ordering::Relaxed) > 0));
    std::thread::sleep(std::time::Duration::from_millis(200));
    signal(&child, Signal::SIGINT);
    assert!(is_fine(&child.wait_with_output().unwrap()));
    let result = read(&json);
    assert_eq!(result["answered"], 1);
    // One in at least 200 ms.
    assert!(result["rate_per_s"].as_f64().unwrap() <= 5.0, "{result}");
    assert!(result["generator_idle_share"].as_f64().unwrap() <= 1.0);
}

#[test]
fn a_search_without_a_knee_is_nothing_to_plan_from() {
    let (server, _) = counting();
    let target = server.address.to_string();
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("knee.json");
    let fixed = [CHECKS, "--target", &target, "--trial-duration", "0.1"];
    let search = |objectives: &str| {
        let mut knee = loadgen("knee", &fixed);
        knee.args(["--warmup", "0", "--from", "8", "--to", "8"]);
        knee.args(["--slo", objectives]).arg("--json").arg(&json);
        knee.output().unwrap()
    };
    for objectives in ["cpu<1s", "p99<1s,differences=0"] {
        let why = complaint(search(objectives));
        assert!(why.starts_with("loadgen: --slo: "), "{why}");
        assert!(!json.exists());
    }
    let output = search("p99<1ns,whitelist.p99<1s");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    for part in ["not met: p99<1ns: it is ", "the run had no whitelist"] {
        assert!(errors.contains(part), "{errors}");
    }
    let plan = [json.to_str().unwrap(), "--target-rate", "1000"];
    let why = complaint(loadgen("plan", &plan).output().unwrap());
    assert!(why.contains("found no knee"), "{why}");
}

#[test]
fn outputs_replace_nothing_that_is_read_and_may_have_any_name() {
    let echo = Echo::start();
    let target = echo.address.to_string();
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    let digests = format!("{}\n", "a".repeat(40));
    fs::write(&trace, &digests).unwrap();
    let replay = || {
        let mut command = Command::new(program("loadgen"));
        command.arg("replay").arg(&trace);
        command.args(["--target", &target]);
        command
    };
    let output = replay().arg("--csv").arg(&trace).output().unwrap();
    assert!(complaint(output).contains("would be written over"));
    assert_eq!(fs::read_to_string(&trace).unwrap(), digests);

    let unreadable = std::ffi::OsStr::from_bytes(b"j\xff.json");
    let json = folder.path().join(unreadable);
    let output = replay().arg("--json").arg(&json).output().unwrap();
    assert!(is_fine(&output), "{output:?}");
    assert!(File::open(&json).is_ok());
}

#[test]
fn what_is_void_is_no_success_and_nothing_to_plan_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, html) = (file("json"), file("html"));
    let ramp = [
        "--from",
        "500",
        "--to",
        "500",
        "--step",
        "1",
        "--step-duration",
        "3",
    ];
    for (command, arguments, requests) in [
        ("replay", vec!["--rate", "500", "--duration", "3"], 300),
        ("ramp", ramp.to_vec(), 500),
    ] {
        let (server, seen) = counting();
        let target = server.address.to_string();
        let fixed = [
            CHECKS,
            "--target",
            &target,
            "--timeout",
            "5",
            "--json",
            &json,
            "--html",
            &html,
        ];
        let mut run = loadgen(command, &fixed);
        let output = run_with_a_stop(run.args(&arguments), &seen, requests);
        let errors = String::from_utf8_lossy(&output.stderr);
        let page = fs::read_to_string(&html).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{command}: {errors}");
        assert!(errors.contains("void"), "{command}: {errors}");
        assert!(page.contains("class=\"banner bad\""), "{command}");
        let plan = loadgen("plan", &[&json, "--target-rate", "1000"]);
        let refused = { plan }.output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{command}: {refused:?}");
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(
            errors.contains("no plan can rest on these results: all 1 runs are void"),
            "{errors}"
        );
        assert!(refused.stdout.is_empty());
    }
}
