//! Our client where names mean what a test wants: in a root directory of its own, so that the system's real look-ups read the
//! test's `/etc/hosts` and `/etc/resolv.conf`. Takes the rights of the superuser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::programs::{program, target};

/// A root directory with nothing but our client, what it is linked with, and the files of name resolution.
#[derive(Debug)]
pub(crate) struct OwnNames(TempDir);

impl OwnNames {
    /// One in which `/etc/hosts` and `/etc/resolv.conf` hold this, and the client asks `servers`.
    pub(crate) fn new(hosts: &str, resolver: &str, servers: &str) -> Self {
        let root = tempfile::tempdir_in(target().join("tmp")).unwrap();
        let place = |path: &str| root.path().join(path);
        for directory in ["etc", "home"] {
            fs::create_dir(place(directory)).unwrap();
        }
        for (path, text) in [
            ("etc/hosts", hosts),
            ("etc/resolv.conf", resolver),
            ("etc/nsswitch.conf", "hosts: files dns\n"),
            // Every line of a name counts, as in Debian's.
            ("etc/host.conf", "multi on\n"),
            ("home/servers", servers),
        ] {
            fs::write(place(path), text).unwrap();
        }
        fs::hard_link(program("pyzor"), place("pyzor")).expect("both lie in the target directory");
        for library in libraries(program("pyzor")) {
            let copy = place(library.strip_prefix("/").unwrap().to_str().unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&library, copy).unwrap();
        }
        Self(root)
    }

    /// Our client.
    pub(crate) fn client(&self) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.0.path());
        command.args(["/pyzor", "--homedir", "/home"]);
        command
    }
}

/// The libraries that a program loads, and what loads them.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let words = text.split_ascii_whitespace();
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}
