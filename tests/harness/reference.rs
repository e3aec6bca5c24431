//! The reference's programs: `pyzor` 1.1.2 in Python, which `tests/install.sh` puts into a virtual environment made from
//! Debian's Python, so that the reference server finds Debian's gdbm module.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::message::random_digest;
use super::programs::target;

/// Short enough to count for the digest: longer words may be random identifiers, and are left out.
const WORD_LENGTH: usize = 8;

/// Redis's server: this program is it, under another name. Debian's package of the server would start one.
pub(crate) const REDIS: &str = "redis-check-rdb";

/// The Python interpreter that can import the reference's library.
pub(crate) fn python() -> PathBuf {
    program("python3")
}

/// A Python that computes the network's digests: others read HTML in another way.
pub(crate) fn oracle_python() -> PathBuf {
    target().join("digest-oracle/bin/python3")
}

/// Whether it is there with all that it reads.
pub(crate) fn has_oracle() -> bool {
    oracle_python().exists() && target().join("digest-oracle/cpython-3.14.2").exists()
}

/// A Python that can import the library of `HdrHistogram`'s authors.
pub(crate) fn hdr_python() -> PathBuf {
    target().join("hdrhistogram/bin/python3")
}

/// Where real messages come from, each with a directory of its own: see `tests/install_mails.sh`.
const MAIL_SOURCES: [&str; 8] = [
    "baunsu",
    "django-mailbox",
    "flufl-bounce",
    "hyperkitty",
    "mail-parser-python",
    "mail-parser-rust",
    "python-email",
    "talon",
];

/// The directories of real messages.
pub(crate) fn mails() -> impl Iterator<Item = PathBuf> {
    MAIL_SOURCES
        .into_iter()
        .map(|source| target().join("real-mails").join(source))
}

/// The reference client as a command, with `home` as its home directory.
pub(crate) fn client(home: &Path) -> Command {
    let mut command = Command::new(python());
    command.arg(program("pyzor")).arg("--homedir").arg(home);
    command
}

/// The reference server as a command, with `home` as its home directory.
pub(crate) fn server(home: &Path) -> Command {
    let mut command = Command::new(python());
    command.arg(program("pyzord")).arg("--homedir").arg(home);
    command
}

/// The path of one of its programs.
pub(crate) fn program(name: &str) -> PathBuf {
    target().join("reference/bin").join(name)
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit status; none if a signal ended it.
    pub(crate) status: Option<i32>,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

/// Runs a program to its end with `input` on its standard input.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that does not read its input closes it: that is its affair.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    let output = child.wait_with_output().expect("it is our child");
    Finished {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A mail nobody sent before, and so with a digest of its own.
pub(crate) fn fresh_mail() -> String {
    let words = random_digest();
    let words: Vec<&str> = (0..words.len())
        .step_by(WORD_LENGTH)
        .map(|at| &words[at..at + WORD_LENGTH])
        .collect();
    format!(
        "From: sender@example.org\nTo: receiver@example.org\nSubject: greetings\n\n{}\n",
        words.join(" ")
    )
}
