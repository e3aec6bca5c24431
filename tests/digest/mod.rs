//! Our digests against the reference's own, on `CPython` 3.11: generated messages, real ones, and what was found before.

mod bounds;
mod charsets;
mod grammar;
mod html;
mod oracle;
mod random;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use pyzor::digester;

use crate::harness::programs::workspace;
use crate::harness::reference;
use oracle::{Digested, Oracle, Verdict};

/// Messages of each seed.
const MESSAGES: u64 = 5_000;

/// So many differences are shown.
const MAX_SHOWN: usize = 5;

/// Names another seed than the one of the time, and how many of them to try after it.
const SEED_VARIABLE: &str = "PYZOR_TESTS_DIGEST_SEED";
const SEEDS_VARIABLE: &str = "PYZOR_TESTS_DIGEST_SEEDS";

#[test]
fn generated_messages_have_the_references_digest() {
    needs!(DigestOracle);
    compare_generated(1);
}

#[test]
fn messages_from_a_fresh_seed_have_the_references_digest() {
    needs!(DigestOracle);
    let number = |variable| {
        std::env::var(variable)
            .ok()
            .and_then(|text| text.parse().ok())
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let first = number(SEED_VARIABLE).unwrap_or(now);
    for seed in first..first + number(SEEDS_VARIABLE).unwrap_or(1) {
        compare_generated(seed);
    }
}

/// The awkward messages that the client's own tests go by, in case what is written there of the reference is wrong.
#[test]
fn awkward_messages_have_the_references_digest() {
    needs!(DigestOracle);
    let path = workspace().join("client/src/digester/awkward_cases.txt");
    let cases = fs::read_to_string(&path).unwrap();
    let messages = cases.lines().enumerate().map(|(number, case)| {
        let message = case.split('\t').next().unwrap_or_default();
        let name = format!("{}:{}", path.display(), number + 1);
        (name, unescaped(message))
    });
    let summary = compare(messages);
    println!("awkward messages: {summary}");
}

/// `\n`, `\r`, `\t`, `\xNN`, and any other character behind a backslash for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            Some(other) => other,
        });
    }
    bytes
}

/// Real messages: those that Python's email package is tested with, and SpamAssassin's samples.
#[test]
fn real_messages_have_the_references_digest() {
    needs!(DigestOracle, Mails, SpamAssassin);
    let directories = [
        reference::mails(),
        PathBuf::from("/usr/share/doc/spamassassin/examples"),
    ];
    let files = directories.iter().flat_map(|directory| {
        fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
    });
    let messages = files.map(|path| (path.display().to_string(), fs::read(&path).unwrap()));
    let summary = compare(messages);
    println!("real messages: {summary}");
    assert!(summary.digested >= MIN_REAL_MESSAGES, "{summary}");
}

/// What there is at least.
const MIN_REAL_MESSAGES: usize = 40;

fn compare_generated(seed: u64) {
    let messages = (0..MESSAGES).map(|number| {
        // Seeds of messages are far apart from those of the next run.
        let message = grammar::message(seed.wrapping_mul(0x1_0000_0001).wrapping_add(number));
        (format!("seed {seed}, message {number}"), message)
    });
    let summary = compare(messages);
    println!("seed {seed}: {summary}");
}

/// What came of a comparison.
#[derive(Debug, Default)]
struct Summary {
    version: String,
    digested: usize,
    /// By the kind of error with which the reference ends.
    failed: BTreeMap<String, usize>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let failed: usize = self.failed.values().sum();
        write!(
            f,
            "Python {}: {} messages agree, {failed} more on which the reference fails: {:?}",
            self.version, self.digested, self.failed
        )
    }
}

/// Compares every message, and fails with a list of those that differ.
fn compare(messages: impl Iterator<Item = (String, Vec<u8>)>) -> Summary {
    let script = workspace().join("tests/digest/oracle.py");
    let mut oracle = Oracle::start(&reference::oracle_python(), &script);
    let mut summary = Summary {
        version: oracle.version().to_owned(),
        ..Summary::default()
    };
    let mut differences = Vec::new();
    for (name, message) in messages {
        let expected = match oracle.ask(&message) {
            Verdict::Digest(expected) => {
                summary.digested += 1;
                Some(expected)
            }
            Verdict::Failure(error, expected) => {
                let kind = error.split(':').next().unwrap_or_default().to_owned();
                *summary.failed.entry(kind).or_default() += 1;
                expected
            }
        };
        let ours = digested(&message);
        if expected.is_some_and(|expected| expected != ours) {
            differences.push((name, message));
        }
    }
    let shown: Vec<String> = differences
        .iter()
        .take(MAX_SHOWN)
        .map(|(name, message)| show(&mut oracle, name, message))
        .collect();
    assert!(
        differences.is_empty(),
        "{} messages differ; {summary}\n{}",
        differences.len(),
        shown.join("\n")
    );
    summary
}

fn digested(message: &[u8]) -> Digested {
    let lines = digester::predigest(message);
    Digested {
        digest: digester::digest_of(message).to_string(),
        lines: lines
            .iter()
            .flat_map(|line| [b"\n", &**line].concat())
            .collect(),
    }
}

/// A message that differs, made as small as it can be made by leaving out pieces.
fn show(oracle: &mut Oracle, name: &str, message: &[u8]) -> String {
    let differs = |oracle: &mut Oracle, message: &[u8]| match oracle.ask(message) {
        Verdict::Digest(expected) | Verdict::Failure(_, Some(expected)) => {
            (expected != digested(message)).then_some(expected)
        }
        Verdict::Failure(_, None) => None,
    };
    let mut small = message.to_vec();
    let mut length = small.len();
    while length > 0 {
        let mut at = 0;
        while at < small.len() {
            let mut less = small.clone();
            less.drain(at..small.len().min(at + length));
            if differs(oracle, &less).is_some() {
                small = less;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    let expected = differs(oracle, &small).map(|expected| expected.lines);
    format!(
        "{name}: \"{}\"\n  expected {:?}\n  found    {:?}",
        small.escape_ascii(),
        expected.map(|lines| String::from_utf8_lossy(&lines).into_owned()),
        String::from_utf8_lossy(&digested(&small).lines)
    )
}
