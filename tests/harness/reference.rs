//! The reference's programs: `pyzor` 1.1.2 in Python, which `tests/install.sh` puts into a virtual environment made from
//! Debian's Python, so that the reference server finds Debian's gdbm module.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::target;

/// The Python interpreter that can import the reference's library.
pub(crate) fn python() -> PathBuf {
    installed("python3")
}

/// The reference client as a command, with `home` as its home directory.
pub(crate) fn client(home: &Path) -> Command {
    let mut command = Command::new(python());
    command.arg(installed("pyzor")).arg("--homedir").arg(home);
    command
}

/// The reference server as a command, with `home` as its home directory.
pub(crate) fn server(home: &Path) -> Command {
    let mut command = Command::new(python());
    command.arg(installed("pyzord")).arg("--homedir").arg(home);
    command
}

fn installed(program: &str) -> PathBuf {
    target().join("reference/bin").join(program)
}
