//! A store that is damaged or taken away under a running server, and copies of a store that are none: the server goes on
//! with what is whole, never acknowledges what would be lost, and names the file and what to do.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use crate::harness::{Client, Io, Request, Server, Setup, eventually, random_digest};

/// How long a server may take to notice.
const NOTICE_LIMIT: Duration = Duration::from_secs(20);
const DIGESTS: usize = 20_000;
const DIGESTS_A_REQUEST: usize = 100;
/// Where the pages of a redb file begin that hold more than its head.
const PAGES_START: u64 = 8192;

both_io!(
    a_store_that_is_moved_away_takes_no_updates,
    a_damaged_shard_is_out_of_service_and_nothing_else
);

fn report(client: &Client, digests: &[String]) {
    for digests in digests.chunks(DIGESTS_A_REQUEST) {
        let request = digests
            .iter()
            .fold(Request::new("report"), |request, digest| {
                request.digest(digest)
            });
        let reported = eventually(NOTICE_LIMIT, || client.ask(&request).code() == 200);
        assert!(reported, "room comes with the next fold");
    }
}

fn code(client: &Client, op: &str, digest: &str) -> u16 {
    client.ask(&Request::new(op).digest(digest)).code()
}

fn log_says(server: &Server, words: &[&str]) -> bool {
    eventually(NOTICE_LIMIT, || {
        let log = server.log();
        let mut lines = log.lines();
        lines.any(|line| words.iter().all(|word| line.contains(word)))
    })
}

fn a_store_that_is_moved_away_takes_no_updates(io: Io) {
    let mut server = Server::start(io);
    let client = server.client();
    let digest = random_digest();
    report(&client, std::slice::from_ref(&digest));
    let (store, elsewhere) = (
        server.home().join("pyzord.redb"),
        server.home().join("moved"),
    );
    fs::rename(&store, &elsewhere).unwrap();
    assert!(
        log_says(
            &server,
            &["WARNING", "pyzord.redb/journal.redb", "moved away"]
        ),
        "it is noticed without a report"
    );
    assert_eq!(code(&client, "report", &digest), 503);
    assert_eq!(code(&client, "check", &digest), 200, "memory knows");

    fs::rename(&elsewhere, &store).unwrap();
    assert!(eventually(NOTICE_LIMIT, || code(
        &client, "report", &digest
    ) == 200));
    assert!(server.stop().success());
    server.restart();
    let checked = server.client().ask(&Request::new("check").digest(&digest));
    assert_eq!(checked.counts(), (2, 0), "what got 503 never counted");

    // An older copy of the journal lacks what was acknowledged since.
    assert!(server.stop().success());
    fs::copy(store.join("journal.redb"), &elsewhere).unwrap();
    server.restart();
    let client = server.client();
    report(&client, std::slice::from_ref(&digest));
    fs::rename(&elsewhere, store.join("journal.redb")).unwrap();
    for _ in 0..30 {
        assert_eq!(code(&client, "report", &digest), 503, "it is not taken");
        std::thread::sleep(Duration::from_millis(100));
    }

    fs::remove_dir_all(&store).unwrap();
    assert_eq!(code(&server.client(), "report", &digest), 503, "at once");
}

/// Overwrites everything in a database file but its head.
fn damage(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(PAGES_START)).unwrap();
    let noise: Vec<u8> = (0..length - PAGES_START)
        .map(|at| (at * 167 % 251) as u8)
        .collect();
    file.write_all(&noise).unwrap();
}

fn a_damaged_shard_is_out_of_service_and_nothing_else(io: Io) {
    let mut server = Setup::new(io)
        .arg("--hot-set-memory=1M")
        .arg("--store-cache=1M")
        .start();
    let client = server.client();
    let digests: Vec<_> = (0..DIGESTS).map(|_| random_digest()).collect();
    report(&client, &digests);
    let shard = server.home().join("pyzord.redb/shard-000.redb");
    damage(&shard);
    // The shard of the digests that begin with 000 in binary, which is as many bits as there are shards.
    let (in_shard, elsewhere): (Vec<&String>, Vec<_>) =
        digests.iter().partition(|digest| digest.as_str() < "20");
    let refused = in_shard
        .iter()
        .filter(|digest| code(&client, "check", digest) == 503);
    assert!(refused.count() > 0);
    assert!(log_says(
        &server,
        &["ERROR", "pyzord.redb/shard-000.redb is damaged", "restore"]
    ));
    let well = elsewhere.iter().take(2000);
    assert!(
        well.clone()
            .all(|digest| code(&client, "check", digest) == 200)
    );

    // Updates are taken, as long as there is room for those that the shard lacks.
    let more: Vec<_> = (0..100).map(|_| random_digest()).collect();
    report(&client, &more);
    assert!(server.stop().success());
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");

    let (status, said) = server.refused_again();
    assert!(!status.success());
    assert!(
        said.contains("pyzord.redb/shard-000.redb is damaged"),
        "{said}"
    );
}

/// A copy of a store whose server ran meanwhile: each file is from another moment.
#[test]
fn a_copy_of_a_running_servers_store_is_refused_with_what_to_do() {
    let mut server = Setup::new(Io::Auto).arg("--hot-set-memory=1M").start();
    let client = server.client();
    let store = server.home().join("pyzord.redb");
    let early = server.home().join("early");
    report(
        &client,
        &(0..2000).map(|_| random_digest()).collect::<Vec<_>>(),
    );
    assert!(server.stop().success());
    fs::copy(store.join("shard-003.redb"), &early).unwrap();
    server.restart();
    // Enough that the journal is emptied of what the early copy lacks.
    report(
        &client,
        &(0..DIGESTS).map(|_| random_digest()).collect::<Vec<_>>(),
    );
    assert!(server.stop().success());
    let whole = fs::read(store.join("shard-003.redb")).unwrap();
    fs::copy(&early, store.join("shard-003.redb")).unwrap();
    let (status, said) = server.refused_again();
    assert!(!status.success());
    for words in [
        "shard-003.redb",
        "older than the rest",
        "while a server ran",
    ] {
        assert!(said.contains(words), "{said}");
    }

    // A file that was copied while it was written has pages of two moments.
    fs::write(store.join("shard-003.redb"), whole).unwrap();
    let journal = store.join("journal.redb");
    let length = fs::metadata(&journal).unwrap().len();
    File::options()
        .write(true)
        .open(&journal)
        .unwrap()
        .set_len(length / 2 / 4096 * 4096)
        .unwrap();
    let (status, said) = server.refused_again();
    assert!(!status.success());
    for words in ["pyzord.redb/journal.redb is damaged", "while a server ran"] {
        assert!(said.contains(words), "{said}");
    }
}
