//! The load generator counts what really happens: against its own echo, and against a server.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::programs::program;
use crate::harness::{Io, Request, Server, Setup};
use crate::replay::is_fine;

/// Long enough for hundreds of answers on a busy machine. Without a warm-up, every request is sent in the window.
const SHORT: [&str; 4] = ["--warmup", "0", "--duration", "0.5"];
const IN_FLIGHT: u64 = 256;
/// By then a run has started to measure.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// A started `loadgen echo`, killed when dropped.
pub(crate) struct Echo {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(program("loadgen"))
            .arg("echo")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").expect("its address");
        let address = address.trim().parse().unwrap();
        Self { child, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has had anything to do: whoever echoes uses time.
    pub(crate) fn has_answered(&self) -> bool {
        let switches = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let switches = switches.unwrap();
        let mut lines = switches.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.is_some_and(|count| count.trim().parse::<u32>().unwrap() > 100)
    }

    fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One `loadgen blast`, which must succeed: its JSON.
fn blast(target: SocketAddr, server: u32, arguments: &[&str]) -> Value {
    let folder = TempDir::new().unwrap();
    let json: PathBuf = folder.path().join("result.json");
    let output = try_blast(&target.to_string(), |command| {
        command.args(["--server-pid", &server.to_string()]);
        command.arg("--json").arg(&json).args(SHORT).args(arguments);
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ns CPU an answer"), "{text}");
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

fn try_blast(target: &str, arguments: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(program("loadgen"));
    command.args(["blast", "--target", target]);
    arguments(&mut command);
    command.output().unwrap()
}

fn server_pid(server: &Server) -> u32 {
    server.pid().as_raw().try_into().unwrap()
}

/// The results of one operation.
fn operation<'r>(result: &'r Value, name: &str) -> &'r Value {
    let operations = result["operations"].as_array().unwrap();
    let named = |each: &&Value| each["operation"] == name;
    operations
        .iter()
        .find(named)
        .unwrap_or_else(|| panic!("no {name} in {result}"))
}

#[test]
fn every_request_to_the_echo_comes_back() {
    let mut echo = Echo::start();
    for ask in ["check", "ping"] {
        let result = blast(echo.address, echo.child.id(), &["--op", ask]);
        let asked = operation(&result, ask);
        assert!(asked["answered"].as_u64() > Some(100), "{result}");
        assert_eq!(asked["codes"]["none"]["answered"], asked["answered"]);
        for trouble in ["lost", "late", "duplicate", "stray", "refused", "unsent"] {
            assert_eq!(result["losses"][trouble], 0, "{trouble}");
        }
        assert!(result["server"]["cpu_ns_per_request"].as_f64() > Some(100.0));
        let latency = &asked["service"];
        let point = |name: &str| latency[name].as_f64().unwrap();
        assert!(point("p50_us") > 0.0 && point("p50_us") <= point("p99_us"));
        assert!(point("p99_us") <= point("max_us") && point("max_us") < 1e6);
    }
    assert!(echo.stop().success());
}

#[test]
fn intervals_add_up_to_the_window() {
    let echo = Echo::start();
    let result = blast(echo.address, echo.child.id(), &["--interval", "0.1"]);
    let intervals = result["timeline"].as_array().unwrap();
    assert!(intervals.len() > 1, "{result}");
    let length_s: f64 = intervals
        .iter()
        .map(|interval| interval["length_s"].as_f64().unwrap())
        .sum();
    let window_s = result["window_s"].as_f64().unwrap();
    assert!((length_s - window_s).abs() < 0.01, "{length_s}");
    // On a busy machine an interval may go by without an answer.
    let answered: u64 = intervals
        .iter()
        .flat_map(|interval| interval["operations"].as_array().unwrap())
        .map(|checks| checks["answered"].as_u64().unwrap())
        .sum();
    assert_eq!(operation(&result, "check")["answered"], answered);
}

#[test]
fn preloaded_digests_are_found_and_others_are_not() {
    let server = Server::start(Io::Auto);
    let common = ["--known", "123", "--preload", "--unknown-share", "0.5"];
    let result = blast(server.address(), server_pid(&server), &common);
    let check = operation(&result, "check");
    let (answered, found) = (check["answered"].as_u64(), check["found"].as_u64());
    let (answered, found) = (answered.unwrap(), found.unwrap());
    assert_eq!(check["codes"]["200"]["answered"], answered);
    assert_eq!(result["losses"]["lost"], 0);
    assert!(answered > 100);
    let share = found.abs_diff(answered - found) * 5;
    assert!(
        share < answered,
        "half are known, but {found} of {answered} were found"
    );
}

#[test]
fn acknowledged_reports_are_those_that_count() {
    let server = Server::start(Io::Auto);
    let arguments = ["--op", "report", "--known", "1", "--digests", "2"];
    let result = blast(server.address(), server_pid(&server), &arguments);
    let report = operation(&result, "report");
    assert_eq!(report["codes"]["200"]["answered"], report["answered"]);
    // Both digests of each report are the only known one.
    let known = hex::encode(known_digest(1, 0));
    let (count, _) = server
        .client()
        .ask(&Request::new("check").digest(&known))
        .counts();
    let at_least = 2 * report["answered"].as_u64().unwrap();
    // Those outstanding when the window closed may count, and those without a reply in time.
    let unanswered = IN_FLIGHT + result["losses"]["lost"].as_u64().unwrap();
    assert!(
        (at_least..=at_least + 2 * unanswered).contains(&count),
        "{count}, {result}"
    );
    assert_eq!(count % 2, 0);
}

/// The documented derivation of known digests, so that others can ask about them.
fn known_digest(seed: u64, number: u32) -> [u8; 20] {
    use sha1::{Digest as _, Sha1};
    let mut hash = Sha1::new();
    hash.update(b"known");
    hash.update(seed.to_le_bytes());
    hash.update(number.to_le_bytes());
    hash.finalize().into()
}

#[test]
fn refusals_are_counted_by_code() {
    let setup = Setup::new(Io::Auto).file("pyzord.access", "check ping : anonymous : allow\n");
    let server = setup.start();
    let arguments = ["--op", "mix", "--report-share", "0.3", "--distinct"];
    let result = blast(server.address(), server_pid(&server), &arguments);
    let (check, report) = (operation(&result, "check"), operation(&result, "report"));
    assert_eq!(check["codes"]["200"]["answered"], check["answered"]);
    assert_eq!(report["codes"]["403"]["answered"], report["answered"]);

    let preload = try_blast(&server.address().to_string(), |command| {
        command.arg("--preload").args(SHORT);
    });
    assert_eq!(preload.status.code(), Some(1));
    let errors = String::from_utf8(preload.stderr).unwrap();
    assert!(errors.contains("403"), "{errors}");
}

#[test]
fn a_target_that_is_not_there_gets_one_line() {
    let mut echo = Echo::start();
    assert!(echo.stop().success());
    let output = try_blast(&echo.address.to_string(), |_| ());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let expected = format!("loadgen: {} refuses: nothing listens there\n", echo.address);
    assert_eq!(errors, expected);
}

#[test]
fn an_interrupted_run_reports_what_it_measured() {
    let echo = Echo::start();
    let child = Command::new(program("loadgen"))
        .args(["blast", "--target", &echo.address.to_string()])
        .args(["--warmup", "0", "--duration", "600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(UNDER_WAY);
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("answered") && text.contains("check"),
        "{text}"
    );
}

#[test]
fn every_form_of_the_result_is_written() {
    let echo = Echo::start();
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let output = try_blast(&echo.address.to_string(), |command| {
        command.args(SHORT).arg("--quiet");
        for form in ["json", "csv", "hgrm", "hlog", "html"] {
            command.arg(format!("--{form}")).arg(file(form));
        }
    });
    assert!(output.status.success());
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let result: Value = serde_json::from_str(&read("json")).unwrap();
    let answered = result["answered"].as_u64().unwrap();
    let total = format!("Total count    = {answered:>12}]");
    assert!(read("hgrm").contains(&total), "{}", read("hgrm"));
    let parts = result["timeline"].as_array().unwrap().len();
    let logged = read("hlog")
        .lines()
        .filter(|line| line.starts_with("Tag=service,"))
        .count();
    let rows = read("csv")
        .lines()
        .filter(|line| line.contains(",all,"))
        .count();
    assert_eq!((logged, rows), (parts, parts));
    let page = read("html");
    assert!(page.contains("Latency by percentile") && page.ends_with("</html>\n"));
}

#[test]
fn what_is_asserted_decides_the_status() {
    let echo = Echo::start();
    let asserting = |assertions: &[&str]| {
        try_blast(&echo.address.to_string(), |command| {
            command.args(SHORT).arg("--quiet");
            for assertion in assertions {
                command.args(["--assert", assertion]);
            }
        })
    };
    let met = asserting(&["loss=0", "check.rate>10", "p99<1s"]);
    assert_eq!((met.status.code(), &met.stderr[..]), (Some(0), &b""[..]));
    let missed = asserting(&["p50<1ns", "loss=0", "report.p99<1s"]);
    assert_eq!(missed.status.code(), Some(1));
    let errors = String::from_utf8(missed.stderr).unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 2, "{errors}");
    assert!(
        lines[0].starts_with("loadgen: not met: p50<1ns: it is "),
        "{errors}"
    );
    assert_eq!(
        lines[1],
        "loadgen: not met: report.p99<1s: the run had no report"
    );
    let unknown = asserting(&["p99"]);
    assert_eq!(unknown.status.code(), Some(2));
    let errors = String::from_utf8(unknown.stderr).unwrap();
    assert!(errors.contains("expected [OPERATION.]QUANTITY"), "{errors}");
}

#[test]
fn an_output_that_cannot_be_written_is_noticed_before_the_run() {
    let echo = Echo::start();
    let output = try_blast(&echo.address.to_string(), |command| {
        command.args(["--duration", "600", "--csv", "/nonexistent/out.csv"]);
    });
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.starts_with("loadgen: cannot write /nonexistent/out.csv: "),
        "{errors}"
    );
}

/// A command of the open loop against the echo, with these outputs beside its JSON: what it said, and the JSON if there is one.
fn open_loop(arguments: &[&str], json: &std::path::Path) -> (Output, Option<Value>) {
    let output = Command::new(program("loadgen"))
        .args(arguments)
        .arg("--json")
        .arg(json)
        .output()
        .unwrap();
    let result = std::fs::read(json).ok();
    (
        output,
        result.and_then(|json| serde_json::from_slice(&json).ok()),
    )
}

#[test]
fn a_trace_that_is_damaged_midway_leaves_what_was_measured() {
    const GOOD: usize = 100;
    let echo = Echo::start();
    let folder = TempDir::new().unwrap();
    let (trace, json) = (folder.path().join("trace"), folder.path().join("json"));
    let digests: Vec<String> = (0..GOOD).map(|number| format!("{number:040x}")).collect();
    std::fs::write(&trace, digests.join("\n") + "\ndamage\n").unwrap();
    let target = echo.address.to_string();
    let name = trace.to_str().unwrap();
    let (output, result) = open_loop(
        &[
            "replay",
            name,
            "--target",
            &target,
            "--rate",
            "500",
            "--timeout",
            "5",
        ],
        &json,
    );
    let result = result.expect("what was measured");
    assert_eq!(result["sent"], GOOD);
    assert_eq!(
        (&result["answered"], &result["ended_early"]),
        (&result["sent"], &true.into())
    );
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    // Before it may stand that the machine was too busy.
    let last = errors.lines().next_back().unwrap();
    assert!(
        last.contains("trace, line 101: expected a digest"),
        "{errors}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ended early"), "{text}");

    // A ramp keeps the steps before: the first two take 100 requests.
    let steps = [
        "--from",
        "50",
        "--to",
        "200",
        "--step",
        "50",
        "--step-duration",
        "0.7",
        "--warmup",
        "0",
    ];
    let ramp = ["ramp", name, "--target", &target, "--timeout", "5"];
    let (output, result) = open_loop(&[&ramp[..], &steps].concat(), &json);
    assert_eq!(output.status.code(), Some(1));
    let runs = result.unwrap()["runs"].as_array().unwrap().len();
    assert_eq!(runs, 1, "35 requests, and 70 more");
}

#[test]
fn a_ramp_and_a_knee_are_written_in_every_form() {
    let echo = Echo::start();
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, html) = (file("csv"), file("html"));
    let target = echo.address.to_string();
    let run = |arguments: &[&str], assertion: &str| {
        let fixed = ["synthetic:check=1", "--target", &target, "--timeout", "5"];
        let outputs = ["--csv", &csv, "--html", &html, "--assert", assertion];
        let arguments = [&arguments[..1], &fixed, &arguments[1..], &outputs].concat();
        open_loop(&arguments, &folder.path().join("json"))
    };
    let ramp = [
        "ramp",
        "--from",
        "50",
        "--to",
        "100",
        "--step",
        "50",
        "--step-duration",
        "0.5",
    ];
    let (output, result) = run(&ramp, "check.rate<10");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    // Beside it may stand that the machine was too busy.
    let missed = "loadgen: not met: at 50 /s (and at 1 other rates): check.rate<10";
    let mut lines = errors.lines();
    assert!(lines.any(|line| line.starts_with(missed)), "{errors}");
    assert_eq!(result.unwrap()["runs"].as_array().unwrap().len(), 2);
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&csv).lines().count(), 3);
    assert!(read(&html).contains("Latency by rate"));

    // Nothing is too slow for this.
    let knee = [
        "knee",
        "--slo",
        "p50<1s",
        "--from",
        "50",
        "--to",
        "100",
        "--repeats",
        "1",
        "--trial-duration",
        "0.5",
        "--warmup",
        "0.1",
    ];
    let (output, result) = run(&knee, "rate>=100");
    assert!(
        is_fine(&output),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result = result.unwrap();
    assert_eq!(result["knee"]["limit"], "asked");
    let page = read(&html);
    assert!(
        page.contains("p50&lt;1s") && page.contains("no higher rate was to be tried"),
        "{page}"
    );
    assert_eq!(
        read(&csv).lines().count(),
        1 + result["runs"].as_array().unwrap().len()
    );
}

#[test]
fn outputs_of_a_series_are_tried_before_its_first_run() {
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = deaf.local_addr().unwrap().to_string();
    let common = ["synthetic:check=1", "--target", &target];
    let ramp = [
        "ramp",
        "--from",
        "1",
        "--to",
        "9",
        "--step",
        "1",
        "--html",
        "/nonexistent/a",
    ];
    let knee = ["knee", "--slo", "loss=0", "--csv", "/nonexistent/a"];
    let other = ["knee", "--slo", "loss=0", "--assert", "p99<1s"];
    for (arguments, expected) in [
        (&ramp[..], "cannot write /nonexistent/a"),
        (&knee[..], "cannot write /nonexistent/a"),
        (&other[..], "--assert p99<1s: of a knee only the rate"),
    ] {
        let output = Command::new(program("loadgen"))
            .args([&arguments[..1], &common, &arguments[1..]].concat())
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), errors.lines().count()),
            (Some(1), 1),
            "{errors}"
        );
        assert!(errors.contains(expected), "{errors}");
    }
    // Nobody was asked anything.
    deaf.set_nonblocking(true).unwrap();
    assert!(deaf.recv(&mut [0; 1]).is_err());
}

/// Compares files, which need not be results: status, output and errors.
fn compare(arguments: &[&std::path::Path]) -> (Option<i32>, String, String) {
    let output = Command::new(program("loadgen"))
        .arg("compare")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn comparisons_end_with_a_verdict() {
    let echo = Echo::start();
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let result = blast(echo.address, echo.child.id(), &[]);
    std::fs::write(file("a.json"), result.to_string()).unwrap();
    let (a, b) = (file("a.json"), file("b.json"));
    let against = std::path::Path::new("--against");
    let eight = |other| {
        let before: Vec<&std::path::Path> = vec![&a; 8];
        [before, vec![against], vec![other; 8]].concat()
    };
    let (status, text, _) = compare(&eight(&a));
    assert_eq!(status, Some(0));
    assert!(text.contains("overall: no difference (8 pairs)"), "{text}");
    // Of two short runs nobody can say whether they differ.
    let (status, _, errors) = compare(&[&a, &a]);
    assert_eq!(status, Some(2));
    assert!(errors.contains("too little was measured"), "{errors}");

    // Every number of the slower one is a third of what it was.
    let mut slower = result.clone();
    slower["rate_per_s"] = (result["rate_per_s"].as_f64().unwrap() / 3.0).into();
    for interval in slower["timeline"].as_array_mut().unwrap() {
        interval["answered"] = (interval["answered"].as_u64().unwrap() / 3).into();
    }
    std::fs::write(file("b.json"), slower.to_string()).unwrap();
    let (status, text, _) = compare(&eight(&b));
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("overall: worse (8 pairs)"), "{text}");
}

#[test]
fn what_cannot_be_compared_gets_one_line_and_status_2() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.txt");
    std::fs::write(&file, "no result").unwrap();
    let missing = folder.path().join("missing.json");
    for (arguments, expected) in [
        (
            vec![file.as_path(), &file],
            "is not a result of this program",
        ),
        (vec![missing.as_path(), &missing], "cannot read"),
        (vec![file.as_path()], "expected two results"),
    ] {
        let (status, _, errors) = compare(&arguments);
        assert_eq!(status, Some(2), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn a_plan_names_what_it_assumes() {
    let echo = Echo::start();
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let result = blast(echo.address, echo.child.id(), &[]);
    std::fs::write(file("a.json"), result.to_string()).unwrap();
    let plan = |arguments: &[&str]| {
        let mut command = Command::new(program("loadgen"));
        command.arg("plan").arg(file("a.json")).args(arguments);
        command.output().unwrap()
    };
    let page = file("plan.html");
    let written = plan(&[
        "--target-rate",
        "1000000",
        "--headroom",
        "20%",
        "--growth",
        "5%/month",
        "--digests",
        "5e6",
        "--html",
        page.to_str().unwrap(),
    ]);
    assert!(written.status.success(), "{written:?}");
    let text = String::from_utf8(written.stdout).unwrap();
    for part in [
        "Hosts",
        "Next host due",
        "assumed",
        "CPU time of the server in that run",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(
        std::fs::read_to_string(&page)
            .unwrap()
            .ends_with("</html>\n")
    );
    for wrong in [
        ["--growth", "5%"],
        ["--headroom", "100%"],
        ["--target-rate", "0"],
    ] {
        let mut arguments = vec!["--target-rate", "1000"];
        if wrong[0] == "--target-rate" {
            arguments.clear();
        }
        arguments.extend(wrong);
        let refused = plan(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
    std::fs::write(file("a.json"), "text").unwrap();
    let refused = plan(&["--target-rate", "1000"]);
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "{errors}");
}
