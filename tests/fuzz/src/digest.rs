//! What the comparison of digests with the reference's is made of: the messages and the oracle of `tests/digest`, changes to
//! messages that keep them messages, and a note of what was found.

#[path = "../../digest/difference.rs"]
mod difference;
#[path = "../../digest/grammar.rs"]
mod grammar;
#[path = "../../digest/html.rs"]
mod html;
#[path = "../../digest/html5.rs"]
mod html5;
#[path = "../../digest/oracle.rs"]
mod oracle;
#[path = "../../harness/random.rs"]
mod random;
#[path = "../../digest/vocabulary.rs"]
mod vocabulary;

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use difference::Difference;
use oracle::{Oracle, Verdict};
use random::Random;

/// The reference, and what it was found to differ in or to fail on.
#[derive(Debug)]
pub struct Comparison {
    oracle: Oracle,
    errors: HashSet<String>,
}

impl Default for Comparison {
    fn default() -> Self {
        Self::new()
    }
}

impl Comparison {
    /// Starts the reference, from where `tests/install.sh` puts it.
    pub fn new() -> Self {
        Self {
            oracle: start(),
            errors: noted(ERRORS)
                .lines()
                .filter_map(|line| line.split('\t').next().map(kind_of))
                .collect(),
        }
    }

    /// Compares the digests of a message. One that the reference dies of twice is no difference.
    ///
    /// # Panics
    /// If they differ. Then the message, made small, is a line of `artifacts/digest/cases.txt` as `awkward_cases.txt` of the
    /// client's digester holds them.
    pub fn compare(&mut self, message: &[u8]) {
        let Some(verdict) = self.ask(message) else {
            note("deaths.txt", &message.escape_ascii().to_string());
            return;
        };
        if let Verdict::Failure(error, _) = &verdict {
            self.note_error(error, message);
        }
        if Difference::between(verdict, message).is_none() {
            return;
        }
        let difference = difference::minimised(&mut self.oracle, message);
        let difference = difference.expect("the reference says the same each time");
        note("cases.txt", &difference.case());
        panic!("{difference}");
    }

    fn ask(&mut self, message: &[u8]) -> Option<Verdict> {
        for _ in 0..2 {
            match self.oracle.try_ask(message) {
                Ok(verdict) => return Some(verdict),
                Err(_) => self.oracle = start(),
            }
        }
        None
    }

    /// Keeps one message for each error of the reference: where it fails is documented with the digester.
    fn note_error(&mut self, error: &str, message: &[u8]) {
        if self.errors.insert(kind_of(error)) {
            note(ERRORS, &format!("{error}\t{}", message.escape_ascii()));
        }
    }
}

/// An error without what it quotes of the message.
fn kind_of(error: &str) -> String {
    let kind: String = error.split(['\'', '"']).step_by(2).collect();
    kind.replace(|char: char| char.is_ascii_digit(), "")
}

fn start() -> Oracle {
    let script = tests().join("digest/oracle.py");
    let oracle = Oracle::start(&target().join("digest-oracle/bin/python3"), &script);
    eprintln!("the reference runs on Python {}", oracle.version());
    oracle
}

/// Errors of the reference, each with a message.
const ERRORS: &str = "errors.txt";

/// Appends a line, unless the file has it.
fn note(file: &str, line: &str) {
    if noted(file).lines().any(|known| known == line) {
        return;
    }
    let path = beside_artifacts(file);
    let directory = path.parent().expect("it is in a directory");
    fs::create_dir_all(directory).expect("the directory can be made");
    let mut file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.as_mut().expect("the file can be opened");
    writeln!(file, "{line}").expect("the file can be written");
}

fn noted(file: &str) -> String {
    fs::read_to_string(beside_artifacts(file)).unwrap_or_default()
}

/// A file beside what the fuzzer writes.
fn beside_artifacts(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("artifacts/digest")
        .join(file)
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where `tests/install.sh` installs.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tests().join("../target"), PathBuf::from)
}

/// Messages to begin with: generated ones, those that were difficult, and real ones as far as they are installed.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    const GENERATED: u64 = 500;
    const MAX_REAL_BYTES: u64 = 8_192;
    let mut seeds: Vec<_> = (0..GENERATED)
        .map(|number| {
            (
                format!("generated-{number}"),
                grammar::message_of_run(1, number),
            )
        })
        .collect();
    let cases = include_str!("../../../client/src/digester/awkward_cases.txt").lines();
    seeds.extend(cases.enumerate().map(|(number, case)| {
        let message = case.split('\t').next().unwrap_or_default();
        (format!("awkward-{number}"), difference::unescaped(message))
    }));
    let directories = fs::read_dir(target().join("real-mails"));
    let directories = directories.into_iter().flatten().flatten();
    let files =
        directories.flat_map(|directory| fs::read_dir(directory.path()).into_iter().flatten());
    let files = files.flatten().filter(|file| {
        file.metadata()
            .is_ok_and(|data| data.is_file() && data.len() <= MAX_REAL_BYTES)
    });
    seeds.extend(files.filter_map(|file| {
        let name = format!("real-{}", file.file_name().display());
        Some((name, fs::read(file.path()).ok()?))
    }));
    seeds
}

/// Changes the message in the first `size` bytes of the buffer, keeping to what messages are made of; returns the new size.
/// `any_change` is the fuzzer's own way.
pub fn mutate(
    buffer: &mut [u8],
    size: usize,
    seed: u32,
    any_change: impl FnOnce(&mut [u8], usize) -> usize,
) -> usize {
    let mut random = Random::new(seed.into());
    let message = &buffer[..size];
    let changed = match random.below(10) {
        0 | 1 => return any_change(buffer, size),
        2 => grammar::message(random.next()),
        3 | 4 => {
            let other = grammar::message(random.next());
            let piece = some_lines(&mut random, &other).to_vec();
            with_lines_replaced(&mut random, message, &piece)
        }
        5 => {
            let piece = some_lines(&mut random, message).to_vec();
            with_lines_replaced(&mut random, message, &piece)
        }
        6 => with_lines_replaced(&mut random, message, b""),
        7 => {
            let fragment = if random.chance(20) {
                html5::fragment
            } else {
                html::fragment
            };
            let piece = fragment(&mut random);
            with_inserted(&mut random, message, &piece)
        }
        8 => {
            let piece = token(&mut random);
            with_inserted(&mut random, message, piece)
        }
        _ => {
            let mut changed = message.to_vec();
            for byte in 0..=random.below(3) {
                let piece = [random.byte()];
                changed = with_inserted(&mut random, &changed, &piece[..byte.min(1)]);
            }
            changed
        }
    };
    let size = changed.len().min(buffer.len());
    buffer[..size].copy_from_slice(&changed[..size]);
    size
}

/// A few lines that follow each other, with their ends.
fn some_lines<'a>(random: &mut Random, message: &'a [u8]) -> &'a [u8] {
    let range = range_of_lines(random, message);
    &message[range]
}

fn with_lines_replaced(random: &mut Random, message: &[u8], piece: &[u8]) -> Vec<u8> {
    let mut changed = message.to_vec();
    changed.splice(range_of_lines(random, message), piece.iter().copied());
    changed
}

fn range_of_lines(random: &mut Random, message: &[u8]) -> std::ops::Range<usize> {
    const MAX_LINES: usize = 8;
    let mut starts: Vec<usize> = vec![0];
    starts.extend((1..=message.len()).filter(|at| message[at - 1] == b'\n'));
    let first = random.below(starts.len());
    let last = starts.len().min(first + random.below(MAX_LINES));
    starts[first]..starts.get(last).copied().unwrap_or(message.len())
}

/// With a piece in place of a few bytes or none.
fn with_inserted(random: &mut Random, message: &[u8], piece: &[u8]) -> Vec<u8> {
    const MAX_REPLACED_BYTES: usize = 5;
    let start = random.below(message.len() + 1);
    let end = message.len().min(start + random.below(MAX_REPLACED_BYTES));
    let mut changed = message.to_vec();
    changed.splice(start..end, piece.iter().copied());
    changed
}

/// Something with a meaning of its own.
fn token(random: &mut Random) -> &'static [u8] {
    let words = |words: &[&'static str], random: &mut Random| random.pick(words).as_bytes();
    match random.below(8) {
        0 => words(&vocabulary::WORDS, random),
        1 => words(&vocabulary::SUBTYPES, random),
        2 => words(&vocabulary::MULTIPARTS, random),
        3 => words(&vocabulary::MESSAGES, random),
        4 => words(&vocabulary::TRANSFER_ENCODINGS, random),
        5 => words(&vocabulary::CHARSETS, random),
        6 => {
            let (_, sequences) =
                vocabulary::SPECIAL_SEQUENCES[random.below(vocabulary::SPECIAL_SEQUENCES.len())];
            sequences[random.below(sequences.len())]
        }
        _ => vocabulary::LINE_ENDS[random.below(vocabulary::LINE_ENDS.len())],
    }
}
