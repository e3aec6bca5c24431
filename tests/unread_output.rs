//! Output that nobody reads, or that has no room: no program ends before its work is done, or in any other way than it would
//! have ended.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::programs::program;
use crate::loadgen::Echo;
use crate::replay::is_fine;

/// What `| head` leaves behind.
fn nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(program(words[0]));
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Two results of the load generator, in a folder.
fn results(echo: &Echo, folder: &Path) -> [String; 2] {
    ["a.json", "b.json"].map(|name| {
        let path = folder.join(name).to_str().unwrap().to_owned();
        let target = echo.address.to_string();
        let run = ["loadgen", "blast", "--target", &target, "--json", &path];
        let window = ["--warmup", "0", "--duration", "0.2", "--quiet"];
        let output = command(&[&run[..], &window].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        path
    })
}

#[test]
fn without_a_reader_programs_end_as_with_one() {
    let echo = Echo::start();
    let folder = TempDir::new().unwrap();
    let [before, after] = results(&echo, folder.path());
    let target = echo.address.to_string();
    let missing = folder.path().join("missing/home");
    let missing = missing.to_str().unwrap();
    let made = folder.path().join("store");
    let made = made.to_str().unwrap();
    let blast = ["loadgen", "blast", "--target", &target];
    let missed = ["--warmup", "0", "--duration", "0.2", "--assert", "rate<0"];
    let cases = [
        [&blast[..], &missed].concat(),
        vec!["loadgen", "plan", &before, "--target-rate", "1000"],
        vec!["loadgen", "compare", &before, &after],
        vec!["loadgen", "inspect", "synthetic:check=1,requests=10"],
        vec!["loadgen", "inspect", missing],
        vec!["pyzord", "--homedir", missing, "--engine", "none"],
        vec!["pyzord", "--homedir", "/dev/null"],
        vec![
            "pyzor-migrate",
            "--se",
            "gdbm",
            "--sd",
            missing,
            "--de",
            "redb",
            "--dd",
            made,
        ],
        vec!["pyzor", "--homedir", missing, "digest"],
        vec!["pyzor", "check", "--what"],
    ];
    for words in cases {
        let read = command(&words).output().unwrap();
        let unread = command(&words)
            .stdout(nobody())
            .stderr(nobody())
            .status()
            .unwrap();
        assert!(read.status.code().is_some(), "{words:?}: {read:?}");
        assert_eq!(unread, read.status, "{words:?}: {read:?}");
    }
}

#[test]
fn what_cannot_be_printed_is_in_the_files_all_the_same() {
    let echo = Echo::start();
    let target = echo.address.to_string();
    let load = ["synthetic:check=1", "--target", &target, "--timeout", "5"];
    let window = ["--warmup", "0", "--duration", "0.2"];
    let blast = [&["loadgen", "blast", "--target", &target], &window[..]].concat();
    let replay = [
        &["loadgen", "replay"],
        &load[..],
        &window,
        &["--rate", "100"],
    ]
    .concat();
    let knee = [&["loadgen", "knee"], &load[..], &["--slo", "p50<1s"]].concat();
    let rates = ["--from", "50", "--to", "50", "--repeats", "1"];
    let knee = [&knee[..], &rates, &["--trial-duration", "0.2"]].concat();
    for (words, has_result) in [(blast, true), (replay, true), (knee, false)] {
        let folder = TempDir::new().unwrap();
        let json = folder.path().join("json");
        let run = |stdout: Stdio| -> (Output, Value) {
            let mut command = command(&words);
            let output = command.arg("--json").arg(&json).stdout(stdout);
            let output = output.stderr(Stdio::piped()).output().unwrap();
            let result = std::fs::read(&json).unwrap_or_default();
            (output, serde_json::from_slice(&result).unwrap_or_default())
        };
        let (output, result) = run(nobody());
        assert!(is_fine(&output), "{words:?}: {output:?}");
        assert!(result.is_object(), "{words:?}");
        std::fs::remove_file(&json).unwrap();

        let (output, result) = run(full());
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        let last = errors.lines().next_back().unwrap();
        assert!(
            last.starts_with("loadgen: cannot write to standard output: No space left"),
            "{errors}"
        );
        // A search ends before its first run, and has nothing to write.
        assert_eq!(result.is_object(), has_result, "{words:?}");
    }
}
