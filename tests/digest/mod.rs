//! Our digests against those of the Python client, on `CPython` 3.11: generated messages, real ones, and what was found before.

mod agreement;
mod bounds;
mod charsets;
mod dear_messages;
mod difference;
mod grammar;
mod html;
mod html5;
mod oracle;
mod spamassassin;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
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

/// What the older `html.parser` fails on has the digest that newer Pythons compute, whatever stands around it.
#[test]
fn html_that_older_pythons_fail_on_has_the_digest_of_newer_ones() {
    needs!(DigestOracle);
    let mut random = random::Random::new(7);
    let messages = (0..MESSAGES).map(|number| {
        let parts = ["<![", "<![x]>", "<![]]>", "<![ if]>"].map(str::as_bytes);
        let mut body = html::fragment(&mut random);
        body.extend_from_slice(parts[random.below(parts.len())]);
        body.extend(html5::fragment(&mut random));
        (format!("HTML {number}"), message_of_html(&body))
    });
    let summary = compare(messages);
    println!("HTML: {summary}");
    let failed: usize = summary.failed.values().sum();
    assert!(failed > summary.digested, "{summary}");
}

fn message_of_html(body: &[u8]) -> Vec<u8> {
    [b"Content-Type: text/html; charset=utf-8\n\n", body].concat()
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

/// What packages that read mail are tested with, and `SpamAssassin`'s samples.
#[test]
fn real_messages_have_the_references_digest() {
    needs!(DigestOracle, Mails, SpamAssassin);
    let summary = compare(real_messages());
    println!("real messages: {summary}");
    assert!(summary.digested >= MIN_REAL_MESSAGES, "{summary}");
}

/// What there is at least.
const MIN_REAL_MESSAGES: usize = 300;

/// Real messages, each with its path.
fn real_messages() -> impl Iterator<Item = (String, Vec<u8>)> {
    let samples = PathBuf::from("/usr/share/doc/spamassassin/examples");
    let samples = files_of(&samples).filter(|path| path.to_string_lossy().ends_with("spam.txt"));
    let mails: Vec<PathBuf> = reference::mails().collect();
    let files = mails.into_iter().flat_map(|directory| files_of(&directory));
    files
        .chain(samples)
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
}

fn files_of(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter()
}

/// The messages of a seed.
fn generated_messages(seed: u64) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..MESSAGES).map(move |number| {
        let name = format!("seed {seed}, message {number}");
        (name, grammar::message_of_run(seed, number))
    })
}

fn compare_generated(seed: u64) {
    let summary = compare(generated_messages(seed));
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

fn start_oracle() -> Oracle {
    let script = workspace().join("tests/digest/oracle.py");
    Oracle::start(&reference::oracle_python(), &script)
}

/// Compares every message, and fails with a list of those that differ.
fn compare(messages: impl Iterator<Item = (String, Vec<u8>)>) -> Summary {
    let mut oracle = start_oracle();
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
