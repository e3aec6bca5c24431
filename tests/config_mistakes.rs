//! What an operator has to hear about: mistakes, what does not exist yet, the Python server's digests, ignored settings.

use std::fs;
use std::process::Command;

use crate::harness::programs::program;
use crate::harness::{Io, Request, Setup};

/// Starts a server that must refuse; what it writes to the terminal, with `HOME` for its home directory.
fn refusal(setup: Setup) -> String {
    let home = setup.home();
    let (status, stderr) = setup.refused();
    assert_eq!(status.code(), Some(1), "{stderr}");
    stderr.replace(home.to_str().unwrap(), "HOME")
}

#[test]
fn every_mistake_is_named_at_once() {
    let config = "[server]\nCleanupAge = soon\nWorkers = 0\n[client]\nTimeout = x\n[server]\n";
    let stderr = refusal(
        Setup::new(Io::Auto)
            .file("config", config)
            .arg("--nice")
            .arg("x"),
    );
    assert_eq!(
        stderr,
        "HOME/config:2: CleanupAge = soon: expected a number of seconds, 0 for never\n\
         HOME/config:3: Workers = 0: expected a number of threads from 1 to 1024\n\
         HOME/config:6: section [server] was there before\n\
         --nice x: expected a nice level from -20 to 19\n"
    );
}

#[test]
fn nothing_is_created_by_a_configuration_with_mistakes() {
    let setup = Setup::new(Io::Auto).file("config", "[server]\nWorkers = 0\n");
    let home = setup.home();
    // Keeps the directory while we look at it.
    let kept = fs::File::open(&home).unwrap();
    let (_, stderr) = Setup::new(Io::Auto)
        .arg("--homedir")
        .arg(home.to_str().unwrap())
        .refused();
    assert!(stderr.contains("Workers = 0"), "{stderr}");
    let names: Vec<_> = fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["config"]);
    drop(kept);
}

#[test]
fn the_python_servers_digests_are_not_passed_over() {
    let stderr = refusal(Setup::new(Io::Auto).file("pyzord.db", "digests"));
    assert!(
        stderr.contains(
            "\n    pyzor-migrate --se gdbm --sd HOME/pyzord.db --de redb --dd HOME/pyzord.redb\n"
        ),
        "{stderr}"
    );
    let server = Setup::new(Io::Auto)
        .file("pyzord.db", "digests")
        .file("config", "[server]\nEngine = redb\n")
        .start();
    assert_eq!(server.client().ask(&Request::new("ping")).code(), 200);
    assert_eq!(
        fs::read(server.home().join("pyzord.db")).unwrap(),
        b"digests"
    );
}

#[test]
fn what_does_not_exist_yet_is_refused() {
    for engine in ["gdbm", "mysql", "redis"] {
        let stderr = refusal(Setup::new(Io::Auto).arg("-e").arg(engine));
        assert!(
            stderr.starts_with(&format!("--database-engine {engine}: ")),
            "{stderr}"
        );
        assert!(
            stderr.contains("start with --database-engine redb"),
            "{stderr}"
        );
    }
    let stderr = refusal(
        Setup::new(Io::Auto)
            .arg("--forward-client-homedir")
            .arg("/x"),
    );
    assert!(stderr.contains("does not forward yet"), "{stderr}");
}

#[test]
fn settings_of_the_python_server_are_taken_with_one_warning_each() {
    let config = "[server]\nThreads = true\nMaxThreads = 5\nProcesses = true\nMaxProcesses = 40\nDBConnections = 0\n\
                  Gevent = true\nNoSuchKey = 1\n";
    let mut server = Setup::new(Io::Auto)
        .file("config", config)
        .arg("--pre-fork=4")
        .start();
    assert!(server.stop().success());
    let log = server.log();
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" is ignored: "))
        .collect();
    assert_eq!(warnings.len(), 8, "{log}");
    for key in [
        "2: Threads",
        "3: MaxThreads",
        "4: Processes",
        "5: MaxProcesses",
        "6: DBConnections",
        "7: Gevent",
        "--pre-fork",
    ] {
        let about = format!("{key} is ignored: Workers decides");
        assert_eq!(log.matches(&about).count(), 1, "{about}: {log}");
    }
    assert!(
        warnings
            .iter()
            .any(|line| line.contains("config:8: NoSuchKey is ignored: ")),
        "{log}"
    );
    assert_eq!(server.stderr().lines().count(), 1, "{}", server.stderr());
}

#[test]
fn version_and_help_are_printed_and_a_wrong_option_is_a_usage_error() {
    for option in ["-V", "--version"] {
        let output = Command::new(program("pyzord"))
            .arg(option)
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(output.stdout.starts_with(b"pyzord "));
    }
    let output = Command::new(program("pyzord"))
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("--usage-log-file"));
    let output = Command::new(program("pyzord"))
        .arg("--no-such-option")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
