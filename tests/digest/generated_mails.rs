//! Writes messages that the tests of digests generate, as files: `generated_mails DIRECTORY SEED COUNT`.
#![expect(clippy::print_stderr, reason = "it is for tests alone")]

#[expect(clippy::expect_used, reason = "what the tests share fails as tests do")]
#[path = "grammar.rs"]
mod grammar;
#[path = "html.rs"]
mod html;
#[expect(clippy::expect_used, reason = "what the tests share fails as tests do")]
#[path = "../harness/random.rs"]
mod random;
#[path = "vocabulary.rs"]
mod vocabulary;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let parsed = match &arguments[..] {
        [directory, seed, count] => seed
            .parse()
            .ok()
            .zip(count.parse().ok())
            .map(|(seed, count)| (directory, seed, count)),
        _ => None,
    };
    let Some((directory, seed, count)) = parsed else {
        eprintln!("usage: generated_mails DIRECTORY SEED COUNT");
        return ExitCode::from(2);
    };
    match write(Path::new(directory), seed, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generated_mails: {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path, seed: u64, count: u64) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for number in 0..count {
        let message = grammar::message_of_run(seed, number);
        fs::write(directory.join(format!("{number:06}.eml")), message)?;
    }
    Ok(())
}
