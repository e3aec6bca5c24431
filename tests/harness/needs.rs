//! What a test needs of the machine. `tests/install.sh` installs all of it where it may; elsewhere the tests that miss
//! something are skipped, each says so on the terminal, and `tests/run.sh` counts them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::programs::faketime;
use super::reference;

/// Names a file to which each skipped test appends a line; set by `tests/run.sh`.
const SKIPS_FILE_VARIABLE: &str = "PYZOR_TESTS_SKIPS";

/// Something of the machine that some tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The kernel lets us set up an `io_uring`.
    Uring,
    /// The reference client and server in a virtual environment.
    Reference,
    /// The Python client's digester on the `html.parser` of `CPython` 3.11.0 to 3.11.13, and on a newer one.
    DigestOracle,
    /// The real messages that `tests/install_mails.sh` fetches, from every source.
    Mails,
    /// Python's gdbm module (Debian `python3-gdbm`) within reach of the reference server.
    Gdbm,
    /// Redis (Debian `redis-tools`), and its Python library within reach of the reference server.
    Redis,
    /// `HdrHistogram`'s Python library in a virtual environment.
    HdrHistogram,
    /// Debian's `spamassassin`.
    SpamAssassin,
    /// Debian's `rspamd`.
    Rspamd,
    /// Debian's `procmail`.
    Procmail,
    /// `systemd-analyze` and `systemd-socket-activate`; nothing need have been started by systemd.
    Systemd,
    /// `strace`, and leave to trace our own children.
    Strace,
    /// `tcpdump`.
    Tcpdump,
    /// `tshark`, Wireshark without windows.
    Tshark,
    /// `valgrind`.
    Valgrind,
    /// `faketime`, whose library shows a program another clock.
    Faketime,
    /// `zstd`, and `gzip`, which every Debian has.
    Zstd,
    /// An IPv6 loopback address.
    Ipv6,
    /// The rights of the superuser.
    Root,
}

impl Need {
    /// Whether the machine offers it.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(crate) fn check(self) -> Result<(), String> {
        let (there, what) = match self {
            Self::Uring => (io_uring::IoUring::new(2).is_ok(), "io_uring"),
            Self::Reference => (reference::python().exists(), "pyzor 1.1.2 in Python"),
            Self::DigestOracle => (
                reference::has_oracle(),
                "pyzor 1.1.2 on Python 3.11 with the html.parser of both 3.11.3 and 3.14.2",
            ),
            Self::Mails => (
                reference::mails().all(|directory| directory.exists()),
                "messages from every source of tests/install_mails.sh",
            ),
            Self::Gdbm => (reference_imports("_gdbm"), "python3-gdbm"),
            Self::Redis => (
                runs(reference::REDIS, &["--version"]) && reference_imports("redis"),
                "redis-tools and python3-redis",
            ),
            Self::HdrHistogram => (
                reference::hdr_python().exists(),
                "HdrHistogram's Python library",
            ),
            Self::SpamAssassin => (runs("spamassassin", &["--version"]), "spamassassin"),
            Self::Rspamd => (runs("rspamd", &["--version"]), "rspamd"),
            Self::Procmail => (runs("procmail", &["-v"]), "procmail"),
            Self::Systemd => (
                runs("systemd-socket-activate", &["--version"])
                    && runs("systemd-analyze", &["--version"]),
                "systemd",
            ),
            Self::Strace => (runs("strace", &["-o", "/dev/null", "true"]), "strace"),
            Self::Tcpdump => (runs("tcpdump", &["--version"]), "tcpdump"),
            Self::Tshark => (runs("tshark", &["--version"]), "tshark"),
            Self::Valgrind => (runs("valgrind", &["--version"]), "valgrind"),
            Self::Faketime => (faketime().is_some(), "faketime"),
            Self::Zstd => (runs("zstd", &["--version"]), "zstd"),
            Self::Ipv6 => (std::net::UdpSocket::bind("[::1]:0").is_ok(), "IPv6"),
            Self::Root => (nix::unistd::geteuid().is_root(), "root"),
        };
        if there { Ok(()) } else { Err(what.to_owned()) }
    }
}

/// Says that the running test is skipped because `missing` is missing, and counts it.
pub(crate) fn skip(module: &str, missing: &str) {
    let test = std::thread::current().name().unwrap_or(module).to_owned();
    let line = format!("skipped: {test}: this machine has no {missing}\n");
    // Not `eprint!`: the test runner would hide it, as it hides all output of a test that passes.
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr is open");
    if let Some(path) = std::env::var_os(SKIPS_FILE_VARIABLE) {
        append(Path::new(&path), &line);
    }
}

fn append(path: &Path, line: &str) {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the file that counts skipped tests is writable");
}

fn reference_imports(module: &str) -> bool {
    reference::python().exists()
        && runs(
            &reference::python().display().to_string(),
            &["-c", &format!("import {module}")],
        )
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
