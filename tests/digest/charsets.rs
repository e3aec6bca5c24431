//! Charsets, without gaps: every byte, every pair of bytes, and the tables as Python writes them today.

use std::fs;
use std::process::Command;

use super::compare;
use super::random::Random;
use crate::harness::programs::workspace;
use crate::harness::reference;

const NAMES: &str = include_str!("../../client/src/digester/tables/names.txt");

/// Random messages for each charset.
const MESSAGES: usize = 20;

/// Bytes that shift, escape, or begin longer characters.
const SPECIAL: &[u8] = b"\x1B$()BJ@~{}+-\\ux\0\x8E\x8F\xA4\xD4";

/// Characters in each line: few enough for the line to be one, and four lines of them hold all 256 bytes.
const BYTES_OF_LINE: u8 = 64;

/// One name of each decoder.
fn charsets() -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut names = Vec::new();
    for line in NAMES.lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        let (_, decoder) = rest.split_once(' ').unwrap();
        if !seen.contains(&decoder) {
            seen.push(decoder);
            names.push(name);
        }
    }
    names
}

fn message(charset: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("Content-Type: text/plain; charset={charset}\n\n");
    [header.as_bytes(), body].concat()
}

#[test]
fn every_pair_of_bytes_means_what_it_means_to_python() {
    needs!(DigestOracle);
    let messages = charsets().into_iter().flat_map(|charset| {
        (0x80..=0xFF).map(move |first: u8| {
            let lines = (0..=0xFF / BYTES_OF_LINE).flat_map(|line| {
                let from = line * BYTES_OF_LINE;
                let pairs =
                    (from..=from + (BYTES_OF_LINE - 1)).flat_map(|second| [first, second, b' ']);
                pairs.chain([b'\n']).collect::<Vec<u8>>()
            });
            let body: Vec<u8> = lines.collect();
            (format!("{charset} {first:02x}"), message(charset, &body))
        })
    });
    println!("pairs: {}", compare(messages));
}

#[test]
fn random_bytes_mean_what_they_mean_to_python() {
    needs!(DigestOracle);
    let mut random = Random::new(5);
    let messages = charsets().into_iter().flat_map(|charset| {
        (0..MESSAGES)
            .map(|number| {
                let body = random_body(&mut random);
                (format!("{charset} {number}"), message(charset, &body))
            })
            .collect::<Vec<_>>()
    });
    println!("random: {}", compare(messages));
}

/// Short runs of bytes, of kinds that matter to one charset or another.
fn random_body(random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.below(80) {
        for _ in 0..random.below(4) {
            let byte = random.byte();
            body.push(match random.below(5) {
                0 => byte & 0x7F,
                1 => byte | 0x80,
                2 => b'0' + byte % 10,
                3 => SPECIAL[random.below(SPECIAL.len())],
                _ => byte,
            });
        }
        body.push(b' ');
    }
    body
}

#[test]
fn the_tables_are_what_python_writes() {
    needs!(DigestOracle);
    let tables = workspace().join("client/src/digester/tables");
    let written = tempfile::tempdir().unwrap();
    let status = Command::new(reference::oracle_python())
        .arg(tables.join("generate.py"))
        .arg(written.path())
        .status()
        .unwrap();
    assert!(status.success());
    let mut count = 0;
    for entry in fs::read_dir(written.path()).unwrap() {
        let entry = entry.unwrap();
        let committed = fs::read(tables.join(entry.file_name())).unwrap();
        let same = fs::read(entry.path()).unwrap() == committed;
        assert!(
            same,
            "{} is not what Python writes",
            entry.file_name().display()
        );
        count += 1;
    }
    assert_eq!(
        count + 1,
        fs::read_dir(&tables).unwrap().count(),
        "a table nobody writes"
    );
}
