//! Taking over the gdbm file of the Python daemon with `pyzor-migrate`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;

use crate::harness::programs::program;
use crate::harness::{Client, Io, Reply, Request, Setup, eventually, reference};

/// How long the reference's server may take until it answers, and until it is gone.
const REFERENCE_LIMIT: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_millis(100);

/// Where the machine that wrote the test files was: not in UTC, and with clocks that are changed.
const ZONE: &str = "Europe/Berlin";

/// Writes a gdbm file: `argv` is its path and the number of good records. Every third of them has the older form.
const WRITER: &str = r#"
import dbm.gnu, datetime, hashlib, sys
path, count = sys.argv[1], int(sys.argv[2])
def wall(time, microsecond=0):
    return str(datetime.datetime.fromtimestamp(time).replace(microsecond=microsecond))
with dbm.gnu.open(path, "nf") as file:
    for number in range(count):
        key = hashlib.sha1(str(number).encode()).hexdigest()
        entered, updated = 1700000000 + number * 100, 1700000000 + number * 100 + 99
        if number % 3 == 0:
            file[key] = f"{number},{entered},{updated}"
        elif number % 3 == 1:
            file[key] = f"1,{number},{wall(entered)},{wall(updated, 999999)},0,None,None"
        else:
            file[key] = f"1,0,None,None,{number},{wall(entered, 1)},{wall(updated)}"
    for key, value in eval(sys.argv[3]):
        file[key] = value
"#;

pub(crate) fn write_gdbm(path: &Path, count: u32, more: &str) {
    let status = Command::new(reference::python())
        .env("TZ", ZONE)
        .args(["-c", WRITER])
        .arg(path)
        .args([&count.to_string(), more])
        .status();
    assert!(status.expect("Python runs").success());
}

/// The digest of the record that [`WRITER`] numbers so.
fn numbered_digest(number: u64) -> String {
    hex::encode(Sha1::digest(number.to_string()))
}

/// What `info` must say of that record: counts, then times.
fn numbered_answer(number: u64) -> [u64; 6] {
    let entered = 1_700_000_000 + number * 100;
    let updated = entered + 99;
    if number % 3 == 2 {
        [0, number, 0, 0, entered, updated]
    } else {
        [number, 0, entered, updated, 0, 0]
    }
}

fn answer(reply: &Reply) -> [u64; 6] {
    const HEADERS: [&str; 6] = [
        "Count",
        "WL-Count",
        "Entered",
        "Updated",
        "WL-Entered",
        "WL-Updated",
    ];
    HEADERS.map(|header| reply.number(header))
}

fn migration(source: &Path, destination: &Path) -> Command {
    let mut command = Command::new(program("pyzor-migrate"));
    command.env("TZ", ZONE).stdin(Stdio::null());
    command
        .args(["--se", "gdbm", "--de", "redb", "--sd"])
        .arg(source);
    command.arg("--dd").arg(destination);
    command
}

fn migrate(source: &Path, destination: &Path) -> Output {
    migration(source, destination).output().expect("it starts")
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn completed(transferred: u32, failed: u32) -> String {
    format!(
        "Migration complete, {transferred} records transferred successfully, {failed} records failed\n"
    )
}

/// The reference's server. Dropping it kills it.
struct ReferenceServer {
    child: Child,
    client: Client,
}

impl ReferenceServer {
    fn start(home: &Path, engine: &str, dsn: &str) -> Self {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let address: SocketAddr = free.expect("a free port");
        let child = reference::server(home)
            .env("TZ", ZONE)
            .args(["-a", "127.0.0.1", "-p", &address.port().to_string()])
            .args(["-e", engine, "--dsn", dsn])
            .stderr(Stdio::null())
            .spawn()
            .expect("the reference's server starts");
        let client = Client::new(address);
        let answers = || client.try_ask(&Request::new("ping"), PING_LIMIT).is_some();
        assert!(eventually(REFERENCE_LIMIT, answers), "it answers");
        Self { child, client }
    }

    fn stop(mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let child = &mut self.child;
        assert!(eventually(REFERENCE_LIMIT, || child
            .try_wait()
            .unwrap()
            .is_some()));
    }
}

impl Drop for ReferenceServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn info(client: &Client, digest: &str) -> [u64; 6] {
    answer(&client.ask(&Request::new("info").digest(digest)))
}

#[test]
fn what_the_reference_counted_goes_on_in_ours() {
    needs!(Reference, Gdbm);
    let setup = Setup::new(Io::Auto).file("pyzord.access", "all : anonymous : allow\n");
    let home = setup.home();
    let theirs = ReferenceServer::start(&home, "gdbm", "pyzord.db");
    let digests: Vec<String> = (0..20).map(numbered_digest).collect();
    for (number, digest) in digests.iter().enumerate() {
        for _ in 0..=number % 4 {
            assert_eq!(
                theirs
                    .client
                    .ask(&Request::new("report").digest(digest))
                    .code(),
                200
            );
        }
        if number % 3 == 0 {
            assert_eq!(
                theirs
                    .client
                    .ask(&Request::new("whitelist").digest(digest))
                    .code(),
                200
            );
        }
    }
    let before: Vec<_> = digests
        .iter()
        .map(|digest| info(&theirs.client, digest))
        .collect();
    assert_eq!(before[3][..2], [4, 1]);

    let (source, destination) = (home.join("pyzord.db"), home.join("pyzord.redb"));
    let refused = migrate(&source, &destination);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("stop the pyzord"),
        "{}",
        stderr(&refused)
    );
    assert!(!destination.exists());

    theirs.stop();
    let migrated = migrate(&source, &destination);
    assert_eq!(stdout(&migrated), completed(20, 0), "{}", stderr(&migrated));
    assert!(migrated.status.success());

    let ours = setup.start();
    let client = ours.client();
    for (digest, before) in digests.iter().zip(&before) {
        assert_eq!(info(&client, digest), *before, "{digest}");
    }
    assert_eq!(
        client
            .ask(&Request::new("report").digest(&digests[3]))
            .code(),
        200
    );
    assert_eq!(info(&client, &digests[3])[..2], [5, 1]);
}

/// What the server or the reference cannot read, as a Python list of keys and values.
const BAD_RECORDS: &str = r#"[
    ("A" * 40, "1,1,None,None,0,None,None"), ("a" * 39, "1,1,None,None,0,None,None"), (b"", "1,2,3"),
    (b"\xff\x00" * 20, "1,2,3"), ("b" * 40, ""), ("c" * 40, "nonsense"), ("d" * 40, "2,1,None,None,0,None,None"),
    ("e" * 40, "1,-1,None,None,0,None,None"), ("f" * 40, "1,1,2026-02-30 00:00:00,None,0,None,None"),
    ("0" * 40, "x" * 100000)]"#;

#[test]
fn many_records_of_both_forms_arrive_and_bad_ones_are_listed() {
    const GOOD: u32 = 100_000;
    needs!(Reference, Gdbm);
    let setup = Setup::new(Io::Auto).arg("--cleanup-age").arg("0");
    let (source, destination) = (
        setup.home().join("pyzord.db"),
        setup.home().join("pyzord.redb"),
    );
    write_gdbm(&source, GOOD, BAD_RECORDS);

    let migrated = migrate(&source, &destination);
    let expected = format!("100000 records transferred...\n{}", completed(GOOD, 10));
    assert_eq!(stdout(&migrated), expected, "{}", stderr(&migrated));
    assert!(migrated.status.success());
    assert!(
        stderr(&migrated).contains("pyzord.redb.failed"),
        "{}",
        stderr(&migrated)
    );
    let mut failed = failures(&setup.home().join("pyzord.redb.failed"));
    failed.sort();
    assert_eq!(failed, expected_failures());

    let client_of = setup.start();
    let client = client_of.client();
    for number in (0..u64::from(GOOD))
        .step_by(487)
        .chain([u64::from(GOOD) - 1])
    {
        let digest = numbered_digest(number);
        assert_eq!(
            info(&client, &digest),
            numbered_answer(number),
            "record {number}"
        );
    }
    assert_eq!(info(&client, &"c".repeat(40)), [0; 6]);
}

/// Key, value and reason of each failure, the first two as text or in hexadecimal digits where they are none.
fn failures(path: &Path) -> Vec<[String; 3]> {
    let text = |field: &str| {
        let bytes = hex::decode(field).ok().map(String::from_utf8);
        bytes
            .and_then(Result::ok)
            .unwrap_or_else(|| field.to_owned())
    };
    let split = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [key, value, reason] = fields[..] else {
            panic!("{line:?} has three fields")
        };
        [
            text(key),
            text(value),
            reason.split(" byte ").next().unwrap().to_owned(),
        ]
    };
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(split)
        .collect()
}

fn expected_failures() -> Vec<[String; 3]> {
    let key =
        "the key is not 40 lower-case hexadecimal digits, and the server refuses such digests";
    let form = "neither the newer nor the older form of a record";
    let record = "1,1,None,None,0,None,None";
    let mut failures = [
        (&*"A".repeat(40), record, key),
        (&"a".repeat(39), record, key),
        ("", "1,2,3", key),
        (&"ff00".repeat(20), "1,2,3", key),
        (&"b".repeat(40), "", form),
        (&"c".repeat(40), "nonsense", form),
        (
            &"d".repeat(40),
            "2,1,None,None,0,None,None",
            "a record of an unknown version",
        ),
        (
            &"e".repeat(40),
            "1,-1,None,None,0,None,None",
            "r_count is not a count",
        ),
        (
            &"f".repeat(40),
            "1,1,2026-02-30 00:00:00,None,0,None,None",
            "r_entered is not a time between 1970 and 2106",
        ),
        ("-", "-", "the entry at"),
    ]
    .map(|(key, value, reason)| [key, value, reason].map(str::to_owned));
    failures.sort();
    failures.into()
}

#[test]
fn an_import_that_is_killed_at_its_start_is_no_store() {
    needs!(Reference, Gdbm);
    let message = refusal_after_a_kill_once("pyzord.redb/journal.redb");
    assert!(message.contains("pyzor-migrate"), "{message}");
}

#[test]
fn an_import_that_is_killed_half_way_is_no_store() {
    needs!(Reference, Gdbm);
    let message = refusal_after_a_kill_once("pyzord.redb/shard-007.redb");
    assert!(message.contains("did not finish"), "{message}");
}

/// Kills an import as soon as it has made `file`; what the server says then, instead of starting.
fn refusal_after_a_kill_once(file: &str) -> String {
    let setup = Setup::new(Io::Auto);
    let (source, destination) = (
        setup.home().join("pyzord.db"),
        setup.home().join("pyzord.redb"),
    );
    write_gdbm(&source, 100_000, "[]");
    let mut child = migration(&source, &destination)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !setup.home().join(file).exists() {
        assert!(child.try_wait().unwrap().is_none(), "it makes {file}");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    assert_eq!(
        child.wait().unwrap().signal(),
        Some(9),
        "it was not done yet"
    );
    let (status, message) = setup.refused();
    assert!(!status.success());
    message
}

/// A gdbm file of ten records in an otherwise empty directory.
fn small_file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("pyzord.db");
    write_gdbm(&source, 10, "[]");
    (directory, source)
}

#[test]
fn an_existing_destination_is_left_alone() {
    needs!(Reference, Gdbm);
    let (directory, source) = small_file();
    let destination = directory.path().join("pyzord.redb");
    assert!(migrate(&source, &destination).status.success());
    let again = migrate(&source, &destination);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("already holds a store"),
        "{}",
        stderr(&again)
    );
}

#[test]
fn the_source_is_deleted_only_when_all_of_it_arrived() {
    needs!(Reference, Gdbm);
    let (directory, source) = small_file();
    let delete = |destination: &str| {
        let destination = directory.path().join(destination);
        migration(&source, &destination)
            .arg("--delete")
            .output()
            .unwrap()
    };
    write_gdbm(&source, 10, BAD_RECORDS);
    let kept = delete("first.redb");
    assert!(kept.status.success() && source.exists());
    assert!(stderr(&kept).contains("not deleted"), "{}", stderr(&kept));
    write_gdbm(&source, 10, "[]");
    assert!(delete("second.redb").status.success());
    assert!(!source.exists());
}

#[test]
fn nothing_readable_is_an_error_and_no_store() {
    needs!(Reference, Gdbm);
    let setup = Setup::new(Io::Auto);
    let (source, destination) = (
        setup.home().join("pyzord.db"),
        setup.home().join("pyzord.redb"),
    );
    write_gdbm(&source, 0, r#"[("key", "value")]"#);
    let output = migrate(&source, &destination);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("not one of 1 records"),
        "{}",
        stderr(&output)
    );
    assert!(!setup.refused().0.success());
}

/// The Python server's pyzor-migrate leaves a new, empty file when it cannot read what it was to copy into it.
#[test]
fn an_import_of_nothing_is_an_error_and_makes_nothing() {
    needs!(Reference, Gdbm);
    let directory = tempfile::tempdir().unwrap();
    let (source, destination) = (
        directory.path().join("pyzord.db"),
        directory.path().join("pyzord.redb"),
    );
    for records in ["[]", r#"[("a" * 40, "1,2,3")]"#] {
        write_gdbm(&source, 0, records);
        let delete_all = "import dbm.gnu, sys; file = dbm.gnu.open(sys.argv[1], 'w'); \
                          [file.__delitem__(key) for key in file.keys()]; file.close()";
        let status = Command::new(reference::python())
            .args(["-c", delete_all])
            .arg(&source)
            .status();
        assert!(status.unwrap().success());
        let output = migration(&source, &destination)
            .arg("--delete")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let errors = stderr(&output);
        assert!(errors.contains("pyzord.db holds no record"), "{errors}");
        assert!(source.exists() && !destination.exists());
    }
}

#[test]
fn what_fails_is_not_written_over_the_source_or_into_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let content = "the digests of years";
    fs::write(path("digests"), content).unwrap();
    fs::hard_link(path("digests"), path("name")).unwrap();
    symlink(path("digests"), path("link")).unwrap();
    symlink(directory.path(), path("folder")).unwrap();
    symlink(path("out/failed"), path("dangling")).unwrap();
    fs::write(path("new.failed"), content).unwrap();
    let refused = |source: &str, destination: &str, failed: Option<&str>| {
        let mut command = migration(&path(source), &path(destination));
        command.args(failed.map(|_| "--failed"));
        command.args(failed.map(&path));
        let output = command.output().unwrap();
        let errors = stderr(&output).to_owned();
        assert_eq!(output.status.code(), Some(1), "{failed:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(!path("out").exists() && !path("new").exists(), "{failed:?}");
        assert_eq!(fs::read_to_string(path(source)).unwrap(), content);
        errors
    };
    for (failed, why) in [
        ("digests", "it is the source"),
        ("name", "it is the source"),
        ("link", "it is the source"),
        ("folder/./digests", "it is the source"),
        ("out", "it lies in the destination"),
        ("out/failed", "it lies in the destination"),
        ("folder/out/a/b", "it lies in the destination"),
        ("out/../folder/out/failed", "it lies in the destination"),
        ("dangling", "a symbolic link to a file that does not exist"),
    ] {
        let errors = refused("digests", "out", Some(failed));
        let says = errors.contains(why) && errors.contains("--failed");
        assert!(says, "{failed}: {errors}");
    }
    let errors = refused("digests", "out", Some("missing/failed"));
    assert!(errors.contains("cannot write"), "{errors}");
    // The default is beside the destination.
    assert!(refused("new.failed", "new", None).contains("it is the source"));
    // Beside the source and the destination it may lie.
    let errors = refused("digests", "out", Some("fine"));
    assert!(errors.contains("not a GNU dbm file"), "{errors}");
    assert!(!path("fine").exists());
}

/// Redis, listening on a socket in `home`. Killed when dropped.
struct Redis(Child);

impl Redis {
    fn start(home: &Path, socket: &Path) -> Self {
        let child = Command::new(reference::REDIS)
            .arg0("redis-server")
            .current_dir(home)
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self(child);
        assert!(eventually(REFERENCE_LIMIT, || socket.exists()));
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_way_from_redis_that_the_server_names_leads_to_ours() {
    needs!(Reference, Gdbm, Redis);
    let setup = Setup::new(Io::Auto).file("pyzord.access", "all : anonymous : allow\n");
    let home = setup.home();
    let socket = home.join("redis.sock");
    let _redis = Redis::start(&home, &socket);
    let dsn = format!("{},,,", socket.display());
    let theirs = ReferenceServer::start(&home, "redis", &dsn);
    let digests: Vec<String> = (0..5).map(numbered_digest).collect();
    for digest in digests.iter().chain(&digests[..2]) {
        let report = Request::new("report").digest(digest);
        assert_eq!(theirs.client.ask(&report).code(), 200);
    }
    let before: Vec<_> = digests
        .iter()
        .map(|digest| info(&theirs.client, digest))
        .collect();
    theirs.stop();

    let refused = Command::new(program("pyzord"))
        .arg("--homedir")
        .arg(&home)
        .args(["-e", "redis"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = stderr(&refused);
    let copy = &message[message.find("python3 -c ").expect("the copy")..];
    let (copy, _) = copy.split_once("\nDSN is").expect("its end");
    let copied = run_in_shell(&copy.replace(" DSN ", &format!(" '{dsn}' ")));
    assert!(copied.status.success(), "{copy}\n{}", stderr(&copied));
    let mut lines = message.lines().map(str::trim);
    let import = lines.find(|line| line.starts_with("pyzor-migrate "));
    let imported = run_in_shell(import.expect("the import"));
    assert_eq!(stdout(&imported), completed(5, 0), "{}", stderr(&imported));

    let ours = setup.start();
    for (digest, before) in digests.iter().zip(&before) {
        assert_eq!(info(&ours.client(), digest), *before, "{digest}");
    }
}

/// A command that a message names, as an operator runs it who has the reference's library and our programs in the path.
fn run_in_shell(command: &str) -> Output {
    let folders = [
        program("pyzor-migrate").parent().unwrap().to_owned(),
        reference::python().parent().unwrap().to_owned(),
        "/usr/bin".into(),
        "/bin".into(),
    ];
    Command::new("sh")
        .args(["-c", command])
        .env("PATH", std::env::join_paths(folders).unwrap())
        .env("TZ", ZONE)
        .output()
        .unwrap()
}

#[test]
fn unusable_sources_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    fs::write(
        &text,
        "certainly not a database, but long enough to be one\n",
    )
    .unwrap();
    let destination = directory.path().join("pyzord.redb");
    for (source, expected) in [
        ("missing", "missing: No such file"),
        ("text", "text is not a GNU dbm file"),
    ] {
        let output = migrate(&directory.path().join(source), &destination);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!destination.exists());
    }
}

#[test]
fn engines_that_do_not_exist_yet_are_refused_by_name() {
    let refusal = |source: &str, destination: &str| {
        let mut command = Command::new(program("pyzor-migrate"));
        command.args([
            "--se",
            source,
            "--sd",
            "a",
            "--de",
            destination,
            "--dd",
            "b",
        ]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        stderr(&output).to_owned()
    };
    assert!(refusal("mysql", "redb").contains("--se mysql: this engine cannot be read yet"));
    assert!(refusal("redis", "redb").contains("--se redis: this engine cannot be read yet"));
    assert!(refusal("gdbm", "redis").contains("--de redis: this engine cannot be written yet"));
}

/// Damage anywhere in a file: the import ends by itself, and by one of its two exit statuses.
#[test]
fn a_damaged_file_neither_crashes_nor_hangs_the_import() {
    const ROUNDS: u64 = 12;
    const FLIPS: u64 = 16;
    needs!(Reference, Gdbm);
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("pyzord.db");
    for round in 0..ROUNDS {
        write_gdbm(&source, 1000, "[]");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&source)
            .unwrap();
        // The first quarter of the flips hits the header and the directory.
        let length = file.metadata().unwrap().len();
        for flip in 0..FLIPS {
            let random = Sha1::digest(format!("{round} {flip}"));
            let random = u64::from_le_bytes(random[..8].try_into().unwrap());
            let reach = if flip < FLIPS / 4 { 8192 } else { length };
            let (at, bit) = (random / 8 % reach, random % 8);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
        }
        let destination = directory.path().join(format!("{round}.redb"));
        let mut command = Command::new("timeout");
        let migration = migration(&source, &destination);
        command
            .arg("60")
            .arg(migration.get_program())
            .args(migration.get_args());
        let output = command.env("TZ", ZONE).output().unwrap();
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 1)),
            "round {round}: {code:?} {}",
            stderr(&output)
        );
        if code == Some(0) {
            assert!(
                stdout(&output).contains("Migration complete"),
                "round {round}"
            );
        }
    }
}
