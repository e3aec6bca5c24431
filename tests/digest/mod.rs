//! Our digests against the reference's own, on `CPython` 3.11: generated messages, real ones, and what was found before.

mod bounds;
mod charsets;
mod difference;
mod grammar;
mod html;
mod oracle;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::programs::workspace;
use crate::harness::{random, reference};
use difference::Difference;
use oracle::{Oracle, Verdict};

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
        (name, difference::unescaped(message))
    });
    let summary = compare(messages);
    println!("awkward messages: {summary}");
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
        let verdict = oracle.ask(&message);
        match &verdict {
            Verdict::Digest(_) => summary.digested += 1,
            Verdict::Failure(error, _) => {
                let kind = error.split(':').next().unwrap_or_default().to_owned();
                *summary.failed.entry(kind).or_default() += 1;
            }
        }
        if Difference::between(verdict, &message).is_some() {
            differences.push((name, message));
        }
    }
    let shown: Vec<String> = differences
        .iter()
        .take(MAX_SHOWN)
        .map(
            |(name, message)| match difference::minimised(&mut oracle, message) {
                Some(difference) => format!("{name}: {difference}"),
                None => format!("{name}: differed, and no more when it was asked again"),
            },
        )
        .collect();
    assert!(
        differences.is_empty(),
        "{} messages differ; {summary}\n{}",
        differences.len(),
        shown.join("\n")
    );
    summary
}
