//! Writes seeds for the fuzz targets: what the reference was asked when the golden cases were recorded, signed for the
//! targets' clock; and a file of each kind as its writer writes it.
#![allow(
    clippy::unwrap_used,
    reason = "a seed that cannot be made is a mistake to fix"
)]

use std::fs;
use std::path::{Path, PathBuf};

use pyzor_fuzz::{NOW, digest};
use pyzor_protocol::{AccountKey, sign};
use serde_json::Value;

const PROFILES: [&str; 3] = ["default", "accounts", "anon-all"];

const CONFIG: &str = "[DEFAULT]
dir = /var/lib/pyzor
[server]
Port: 24441
ListenAddress = 0.0.0.0
Engine = redb
DigestDB = %(dir)s/pyzord.redb
# a comment
CleanupAge = 10368000
Threads = True
UsageLogFile =
  usage.log
[client]
Timeout = 5
";

const STORED_VALUES: [&str; 4] = [
    "1,5,2026-11-21 10:00:00.123456,2026-11-21 10:00:00,0,None,None",
    "1,0,None,None,3,2026-01-01 00:00:00,2026-11-21 10:00:00",
    "12,1163239040,1164239040",
    "2,5,None,None,0,None,None",
];

/// A run of the load generator.
const MEASURED: &str = "2026-11-21-vm-2/hot-check-mmsg.base.1.json";

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.parent().unwrap().join("golden");
    let corpus = root.join("corpus");
    for target in ["handle", "parse"] {
        for (name, datagram) in PROFILES
            .iter()
            .flat_map(|profile| datagrams(&golden, profile))
        {
            write(&corpus, target, &name, &datagram);
        }
    }
    let [passwd, access] =
        ["accounts.passwd", "accounts.access"].map(|file| fs::read(golden.join(file)).unwrap());
    write(&corpus, "passwd", "golden", &passwd);
    let both = [&passwd[..], &access[..]].join(&0);
    write(&corpus, "access_files", "golden", &both);
    write(&corpus, "config", "usual", CONFIG.as_bytes());
    for (number, value) in STORED_VALUES.iter().enumerate() {
        write(
            &corpus,
            "stored_values",
            &number.to_string(),
            value.as_bytes(),
        );
    }
    write(&corpus, "journal", "batch", &batch());
    write_gdbm(&corpus);
    for (name, message) in digest::seeds() {
        write(&corpus, "digest", &name, &message);
    }
    let measured = golden.join("../../ops/runs").join(MEASURED);
    write(&corpus, "result", "measured", &fs::read(measured).unwrap());
    for sample in fs::read_dir(golden.join("traces")).unwrap() {
        let path = sample.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        write(&corpus, "trace", name, &fs::read(&path).unwrap());
    }
}

fn write(corpus: &Path, target: &str, name: &str, contents: &[u8]) {
    fs::write(directory(corpus, target).join(name), contents).unwrap();
}

fn directory(corpus: &Path, target: &str) -> PathBuf {
    let directory = corpus.join(target);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// The requests of a profile, each under its name.
fn datagrams(golden: &Path, profile: &str) -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(golden.join(format!("{profile}.jsonl"))).unwrap();
    text.lines()
        .map(|line| {
            let case: Value = serde_json::from_str(line).unwrap();
            let name = format!("{profile}-{}", case["name"].as_str().unwrap());
            (name, datagram(&case))
        })
        .collect()
}

fn datagram(case: &Value) -> Vec<u8> {
    let time = u64::from(NOW).saturating_add_signed(case["time_offset"].as_i64().unwrap_or(0));
    let text = |value: &Value| {
        let bytes = hex::decode(value.as_str().unwrap()).unwrap();
        replace(&bytes, b"@@TIME@@", time.to_string().as_bytes())
    };
    let datagram = text(&case["request"]);
    let signer = &case["sign"];
    if signer.is_null() {
        return datagram;
    }
    let part = |name: &str| signer[name].as_str().unwrap().as_bytes();
    let key = AccountKey::new(part("user"), part("key"));
    replace(
        &datagram,
        b"@@SIG@@",
        &sign(&text(&signer["text"]), time, &key),
    )
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match text.windows(from.len()).position(|part| part == from) {
        Some(at) => [&text[..at], to, &text[at + from.len()..]].concat(),
        None => text.to_vec(),
    }
}

/// A report and a whitelisting, as the journal holds them: kind, time, digest.
fn batch() -> Vec<u8> {
    let change = |kind: u8| [&[kind][..], &NOW.to_le_bytes(), &[7; 20]].concat();
    [change(1), change(2)].concat()
}

fn write_gdbm(corpus: &Path) {
    let path = directory(corpus, "gdbm_file").join("usual");
    let _ = fs::remove_file(&path);
    let mut file = gdbm_native::OpenOptions::new()
        .create(true)
        .block_size(gdbm_native::BlockSize::Exactly(512))
        .open(&path)
        .unwrap();
    for (number, value) in STORED_VALUES.iter().enumerate() {
        let key = format!("{number:040x}");
        file.insert(key.as_bytes(), value.as_bytes()).unwrap();
    }
    file.close().unwrap();
}
