//! What an operator is told without having asked: on the terminal where there is no log, by `--check-config`, and of files
//! that do not say what was meant.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::harness::programs::program;
use crate::harness::{Account, Io, Request, Server, Setup, eventually, random_digest, reference};

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

/// How long a server may take to do what it was told.
const LIMIT: Duration = Duration::from_secs(10);

/// A server without a log file.
fn without_log() -> Setup {
    Setup::new(Io::Auto).arg("--log-file").arg("")
}

fn lines_of_stderr(server: &Server) -> Vec<String> {
    let home = server.home().to_str().unwrap();
    let stderr = server.stderr().replace(home, "HOME");
    stderr.lines().map(str::to_owned).collect()
}

fn await_stderr(server: &Server, text: &str) {
    let told = eventually(LIMIT, || server.stderr().contains(text));
    assert!(told, "{text:?} is not in {}", server.stderr());
}

#[test]
fn a_start_in_the_foreground_says_one_line() {
    let mut server = Setup::new(Io::Mmsg).arg("--workers").arg("1").start();
    await_stderr(&server, "\n");
    assert!(server.stop().success());
    let version = env!("CARGO_PKG_VERSION");
    let address = server.address();
    assert_eq!(
        lines_of_stderr(&server),
        [format!(
            "pyzord {version} serves HOME on {address} with 1 worker and mmsg"
        )]
    );
}

#[test]
fn without_a_log_warnings_are_on_the_terminal_and_nothing_else_is() {
    let mut server = without_log()
        .file("config", "[sever]\nPort = 1\n[server]\nAcessFile = x\n")
        .start();
    await_stderr(&server, "serves");
    server.signal(Signal::SIGHUP);
    assert_eq!(server.client().ask(&Request::new("ping")).code(), 200);
    assert!(server.stop().success());
    let lines = lines_of_stderr(&server);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, expected) in lines.iter().zip([
        " WARNING HOME/config:1: [sever] is ignored: there is no such section; did you mean [server]?",
        " WARNING HOME/config:4: AcessFile is ignored: there is no such key; did you mean AccessFile?",
        "pyzord ",
    ]) {
        assert!(line.contains(expected), "{lines:#?}");
    }
}

#[test]
fn in_the_background_warnings_are_in_its_output() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("config"), "[Server]\n").unwrap();
    let output = home.path().join("output");
    let started = pyzord(
        home.path(),
        &["--detach", output.to_str().unwrap(), "--port", "0"],
    );
    let pid = fs::read_to_string(home.path().join("pyzord.pid")).unwrap();
    let stopped = Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(started.status.success() && stopped.success(), "{started:?}");
    // What it says is written by a thread that comes last.
    let pid_file = home.path().join("pyzord.pid");
    assert!(eventually(LIMIT, || !pid_file.exists()));
    assert!(eventually(LIMIT, || !fs::read(&output).unwrap().is_empty()));
    let told = fs::read_to_string(output).unwrap();
    assert!(told.contains("did you mean [server]?"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn a_log_may_be_standard_error() {
    let config = "[server]\nLogFile = stderr\nUsageLogFile = stderr\n";
    // The harness names a log file; an option that is given twice counts once.
    let setup = Setup::new(Io::Auto).file("config", config);
    let mut server = setup.arg("--log-file").arg("stderr").start();
    server.signal(Signal::SIGHUP);
    await_stderr(&server, " INFO read the passwd and access files again\n");
    await_stderr(&server, " INFO store: digests=0 hot_entries=0 ");
    await_stderr(&server, " INFO so far: datagrams=");
    await_stderr(&server, ",ping,None,200\n");
    assert!(server.stop().success());
    assert!(server.stderr().ends_with(" INFO stopped\n"));
    assert!(!server.stderr().contains(" serves "), "the log says it");
    let files: Vec<_> = fs::read_dir(server.home()).unwrap().collect();
    assert_eq!(files.len(), 2, "config and store: {files:?}");
}

#[test]
fn a_file_that_is_named_and_missing_refuses_the_start() {
    for key in ["PasswdFile", "AccessFile"] {
        let setup = Setup::new(Io::Auto).file("config", format!("[server]\n{key} = typo\n"));
        let home = setup.home().display().to_string();
        let (status, stderr) = setup.refused();
        assert_eq!(status.code(), Some(1));
        assert_eq!(
            stderr.replace(&home, "HOME"),
            format!(
                "HOME/config:2: {key} = typo: there is no HOME/typo: create it, or remove the setting to do without\n"
            )
        );
    }
    let (_, stderr) = Setup::new(Io::Auto)
        .arg("--access-file")
        .arg("typo")
        .refused();
    assert!(
        stderr.starts_with("--access-file typo: there is no "),
        "{stderr}"
    );
}

/// Runs `pyzord` to its end.
fn pyzord(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("pyzord"));
    command.args(["--address", "127.0.0.1", "--homedir"]);
    command.arg(home).args(arguments).output().unwrap()
}

/// What `--check-config` says on standard error, with `HOME` for the home directory, and its status.
fn check_config(home: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let output = pyzord(home, &[&["--check-config"], arguments].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let told = stderr.replace(home.to_str().unwrap(), "HOME");
    assert_eq!(output.stdout.is_empty(), output.status.code() != Some(0));
    (told, output.status.code())
}

/// Every file and directory below this one, and when it was changed.
fn everything(directory: &Path) -> Vec<String> {
    let mut found = vec![format!("{:?}", directory.metadata().unwrap().modified())];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            let modified = path.metadata().unwrap().modified();
            found.push(format!("{} {modified:?}", path.display()));
        }
    }
    found.sort();
    found
}

#[test]
fn check_config_prints_every_mistake_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let config = "[sever]\n[server]\nWorkers = no\nAcessFile = x\nPasswdFile = nope\nLogFile = no/log\n\
                  DigestDB = config\nThreads = True\nEngine = redb\n";
    fs::write(home.join("config"), config).unwrap();
    fs::write(home.join("pyzord.access"), "everything is allowed\n").unwrap();
    let before = everything(home);
    let (told, status) = check_config(
        home,
        &["--address", "192.0.2.1", "--usage-log-file", "config/u"],
    );
    assert_eq!(status, Some(1));
    let lines: Vec<_> = told.lines().collect();
    let expected = [
        "warning: HOME/config:8: Threads is ignored: Workers decides how many threads answer requests",
        "warning: HOME/config:7: DigestDB names a file of the Python server; digests are kept in HOME/config.redb instead",
        "HOME/config:3: Workers = no: expected a number of threads from 1 to 1024",
        "HOME/config:1: [sever] is ignored: there is no such section; did you mean [server]?",
        "HOME/config:4: AcessFile is ignored: there is no such key; did you mean AccessFile?",
        "HOME/config:5: PasswdFile = nope: there is no HOME/nope: create it, or remove the setting to do without",
        "HOME/pyzord.access:1: expected `operations : users : allow` or",
        "cannot open HOME/no/log: No such file or directory",
        "cannot open HOME/config/u: Not a directory",
        "cannot bind 192.0.2.1:24441: Cannot assign requested address",
    ];
    assert_eq!(lines.len(), expected.len(), "{told}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{told}");
    }
    assert_eq!(everything(home), before);
}

#[test]
fn check_config_is_content_with_what_a_server_runs_on() {
    let server = Setup::new(Io::Auto)
        .file("config", "\u{feff}[server]\nMaxThreads = 5\n")
        .file("pyzord.passwd", format!("alice : {KEY}\n"))
        .file("pyzord.access", "all : alice : allow\n")
        .start();
    let port = server.address().port().to_string();
    let (told, status) = check_config(server.home(), &["--port", &port]);
    assert_eq!(status, Some(0), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(server.client().ask(&Request::new("ping")).code(), 403);

    let nowhere = server.home().join("new");
    let (told, status) = check_config(&nowhere, &["--port", "0"]);
    assert_eq!((told.as_str(), status), ("", Some(0)));
    assert!(!nowhere.exists(), "the home directory is not created");
    let (told, status) = check_config(&nowhere.join("newer"), &["--port", "0"]);
    assert_eq!(status, Some(1));
    assert!(
        told.starts_with("cannot create HOME: No such file"),
        "{told}"
    );
}

#[test]
fn rules_and_accounts_without_effect_are_warned_of_at_the_start_and_after_a_reload() {
    let passwd =
        format!("Alice : {KEY}\nanonymous : {KEY}\nbob : {KEY}\nbob : nothex\nren\u{e9} : {KEY}\n");
    let access = "all : all : allow\nall : ALL : allow\nreport : Alice : deny\ncheck : eve ren\u{e9} : allow\n";
    let server = Setup::new(Io::Auto)
        .file("pyzord.passwd", passwd)
        .file("pyzord.access", access)
        .start();
    let code = |request: Request| {
        server
            .client()
            .ask(&request.digest(&random_digest()))
            .code()
    };
    assert_eq!(
        code(Request::new("whitelist")),
        403,
        "an account of the anonymous user is none of `all`"
    );
    let alice = Account {
        user: "Alice",
        key: KEY,
    };
    assert_eq!(code(Request::new("whitelist").signed_by(alice)), 200);
    let expected = [
        "pyzord.passwd:2: the anonymous user never signs",
        "pyzord.passwd:4: this user's key in line 3 is replaced",
        "pyzord.passwd:4: the key is not 40 hexadecimal digits",
        "pyzord.passwd:5: requests cannot name a user beyond ASCII",
        "pyzord.access:2: the same as line 1",
        "pyzord.access:3: names are read in lower case here",
        "pyzord.access:4: there is no account `eve`",
        "pyzord.access:4: requests cannot name a user beyond ASCII",
    ];
    let are_told = |times: usize| {
        let log = server.log();
        let warnings: Vec<_> = log
            .lines()
            .filter(|line| line.contains(" WARNING "))
            .collect();
        let is_told =
            |text: &&str| warnings.iter().filter(|line| line.contains(*text)).count() == times;
        warnings.len() == times * expected.len() && expected.iter().all(is_told)
    };
    assert!(eventually(LIMIT, || are_told(1)), "{}", server.log());
    server.signal(Signal::SIGUSR1);
    assert!(eventually(LIMIT, || are_told(2)), "{}", server.log());
    assert!(!server.log().contains("nothex") && !server.log().contains(KEY));
}

#[test]
fn accounts_without_an_access_file_are_warned_of() {
    let server = without_log()
        .file("pyzord.passwd", format!("alice : {KEY}\n"))
        .start();
    await_stderr(&server, " WARNING there are accounts and no access file: ");
}

#[test]
fn a_reload_keeps_the_old_rules_when_no_line_of_the_new_ones_can_be_read() {
    let server = Setup::new(Io::Auto)
        .file("pyzord.passwd", format!("alice : {KEY}\n"))
        .file("pyzord.access", "check ping : anonymous : allow\n")
        .start();
    let access = server.home().join("pyzord.access");
    let asked = |op| {
        server
            .client()
            .ask(&Request::new(op).digest(&random_digest()))
            .code()
    };
    for broken in ["check; anonymous; allow\n", "<html>\nNot found\n</html>\n"] {
        let before = server.log().len();
        fs::write(&access, broken).unwrap();
        server.signal(Signal::SIGHUP);
        let expected = format!(
            " ERROR accounts and permissions stay as they were: {}:1: expected ",
            access.display()
        );
        let told = eventually(LIMIT, || server.log()[before..].contains(&expected));
        assert!(told, "{}", server.log());
        assert_eq!((asked("check"), asked("report")), (200, 403));
    }
    // Nothing granted is a rule, too.
    fs::write(&access, "# closed\n").unwrap();
    server.signal(Signal::SIGHUP);
    assert!(eventually(LIMIT, || asked("check") == 403));
    fs::write(&access, "check; anonymous; allow\n").unwrap();
    let mut server = server;
    assert!(server.stop().success());
    let (told, status) = check_config(server.home(), &["--port", "0"]);
    assert_eq!(status, Some(1));
    assert!(
        told.starts_with("HOME/pyzord.access:1: expected "),
        "{told}"
    );
}

/// What the Python server grants these users.
const PYTHON: &str = "import json, pyzor.config as c, sys\n\
    accounts = c.load_passwd_file(sys.argv[1] + '/pyzord.passwd')\n\
    acl = c.load_access_file(sys.argv[1] + '/pyzord.access', accounts)\n\
    print(json.dumps({user: sorted(acl.get(user, ())) for user in ('alice', 'bob', 'carol')}))";

/// The Python server's own readers and a server of ours, on files with white space beyond ASCII and CR line ends.
#[test]
fn access_files_are_read_as_the_python_server_reads_them() {
    needs!(Reference);
    let other = "fedcba9876543210fedcba9876543210fedcba98";
    let server = Setup::new(Io::Auto)
        .file(
            "pyzord.passwd",
            format!("# no one\ralice\u{a0}:\u{2028}{KEY}\rbob : {other}\u{2028}\r\n\u{3000}carol : {KEY}\u{1c}\n"),
        )
        .file(
            "pyzord.access",
            "check\u{a0}report : alice\u{2028}bob : allow\u{a0}\r# all : all : deny\rreport:bob:deny\r\n\
             \u{2028}ping\u{b}info : carol : ALLOW\n",
        )
        .start();
    let granted = |account: Account| {
        let mut operations = ["check", "info", "ping", "pong", "report", "whitelist"].to_vec();
        operations.retain(|op| {
            let request = Request::new(op).digest(&random_digest()).signed_by(account);
            server.client().ask(&request).code() == 200
        });
        format!("\"{}\": [\"{}\"]", account.user, operations.join("\", \""))
    };
    let ours = [("alice", KEY), ("bob", other), ("carol", KEY)]
        .map(|(user, key)| granted(Account { user, key }))
        .join(", ");
    let mut python = Command::new(reference::python());
    let python = python
        .env("PYTHONUTF8", "1")
        .args(["-c", PYTHON])
        .arg(server.home());
    let finished = reference::finish(python, b"");
    assert_eq!(
        finished.stdout,
        format!("{{{ours}}}\n"),
        "{}",
        finished.stderr
    );
    assert!(!server.log().contains(" WARNING "), "{}", server.log());
}

#[test]
fn a_byte_order_mark_means_nothing() {
    let server = Setup::new(Io::Auto)
        .file("config", "\u{feff}[server]\nWorkers = 1\n")
        .file("pyzord.passwd", format!("\u{feff}alice : {KEY}\n"))
        .file("pyzord.access", "\u{feff}check : alice : allow\n")
        .start();
    let alice = Account {
        user: "alice",
        key: KEY,
    };
    let check = Request::new("check")
        .digest(&random_digest())
        .signed_by(alice);
    assert_eq!(server.client().ask(&check).code(), 200);
    assert!(!server.log().contains(" WARNING "), "{}", server.log());
    let is_read = eventually(LIMIT, || server.log().contains(" with 1 workers, "));
    assert!(is_read, "{}", server.log());
}

#[test]
fn a_host_name_that_is_not_resolved_comes_with_the_resolvers_words() {
    let (_, stderr) = Setup::new(Io::Auto)
        .arg("--address")
        .arg("nowhere.invalid")
        .refused();
    let expected = "--address nowhere.invalid: expected IP addresses or host names (without a port); \
                    \"nowhere.invalid\" is no address and is not resolved: failed to lookup address information: ";
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn a_store_that_cannot_be_locked_is_named_with_its_directory() {
    let setup = Setup::new(Io::Auto);
    let lock = setup.home().join("pyzord.redb/lock");
    // A directory, because root may open any file.
    fs::create_dir_all(&lock).unwrap();
    let expected = format!(
        "the store {} cannot be opened: {}: Is a directory (os error 21)\n",
        lock.parent().unwrap().display(),
        lock.display()
    );
    let (status, stderr) = setup.refused();
    assert_eq!((status.code(), stderr), (Some(1), expected));
}

#[test]
fn a_home_that_cannot_be_entered_is_not_said_to_be_missing() {
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    let home = closed.join("home");
    fs::create_dir_all(&home).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(directory.path(), 0o755).unwrap();
    mode(&closed, 0o000).unwrap();
    let mut told = Vec::new();
    for name in ["pyzord", "pyzor"] {
        let mut command = by_nobody(name, directory.path());
        command.arg("--homedir").arg(&home);
        if name == "pyzor" {
            command.arg("ping");
        }
        let output = command.output().unwrap();
        told.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    mode(&closed, 0o700).unwrap();
    let expected = format!(
        "cannot enter {}: Permission denied (os error 13)\n",
        closed.display()
    );
    for told in told {
        assert!(told.ends_with(&expected), "{told}");
    }
}

/// A program as somebody runs it whom permissions hold back: if we are root, another user with a copy of it.
fn by_nobody(name: &str, directory: &Path) -> Command {
    if !Uid::effective().is_root() {
        return Command::new(program(name));
    }
    let copy = directory.join(name);
    fs::copy(program(name), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &nobody,
        "--regid",
        &nobody,
        "--clear-groups",
        "--",
    ]);
    command.arg(copy);
    command
}

/// A user that owns nothing.
const NOBODY: u32 = 65_534;
