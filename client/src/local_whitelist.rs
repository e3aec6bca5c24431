//! The local whitelist: digests, one per line, in a file of the home directory.
//!
//! What follows a `#` is a comment, unless a backslash stands before it or nothing at all: so reads the Python client.
//!
//! A change is made under a lock of the directory and takes effect at once or not at all, so that two mail filters that
//! change it at the same time lose nothing, and a reader never sees half a file.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use pyzor_protocol::DigestText;

use crate::error::Error;
use crate::home_files;

/// The digests of the file. The default has none.
#[derive(Clone, Debug, Default)]
pub struct LocalWhitelist(HashSet<Box<[u8]>>);

impl LocalWhitelist {
    /// Reads `path`; a file that is not there has no digests.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let content = home_files::read(path)?.unwrap_or_default();
        let lines = home_files::text_lines(&content);
        let digests = lines.map(|(_, line)| digest_of(&line).into());
        Ok(Self(digests.collect()))
    }

    /// Whether the digest is in it.
    pub fn contains(&self, digest: &DigestText) -> bool {
        self.0.contains(digest.as_bytes())
    }

    /// Whether it has no digest.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The file, while nobody else changes it.
pub(crate) struct LockedWhitelist {
    path: PathBuf,
    _lock: Flock<File>,
    /// In the file's order, with their comments.
    lines: Vec<String>,
    digests: LocalWhitelist,
}

impl LockedWhitelist {
    /// Waits until nobody else changes `path`, and reads it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let lock = lock(directory).map_err(Error::file("lock", directory))?;
        let content = home_files::read(path)?.unwrap_or_default();
        let lines = home_files::text_lines(&content);
        let lines: Vec<String> = lines.map(|(_, line)| line).collect();
        let digests = lines.iter().map(|line| digest_of(line).into());
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            digests: LocalWhitelist(digests.collect()),
            lines,
        })
    }

    /// Adds a digest; whether it was missing.
    pub(crate) fn add(&mut self, digest: &DigestText) -> bool {
        let is_new = self.digests.0.insert(digest.as_bytes().into());
        if is_new {
            let line = String::from_utf8_lossy(digest.as_bytes());
            self.lines.push(line.into_owned());
        }
        is_new
    }

    /// Removes a digest; whether it was there.
    pub(crate) fn remove(&mut self, digest: &DigestText) -> bool {
        self.digests.0.remove(digest.as_bytes())
    }

    /// Puts the changed file in the place of the old one.
    pub(crate) fn save(&self) -> Result<(), Error> {
        let mut partial = self.path.clone().into_os_string();
        partial.push(".new");
        let partial = PathBuf::from(partial);
        self.write(&partial)
            .map_err(Error::file("write", &partial))?;
        fs::rename(&partial, &self.path).map_err(Error::file("replace", &self.path))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        let lines = self.lines.iter();
        for line in lines.filter(|line| self.digests.0.contains(digest_of(line))) {
            text += line;
            text.push('\n');
        }
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

fn lock(directory: &Path) -> io::Result<Flock<File>> {
    let directory = File::open(directory)?;
    Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// A line without its comment.
fn digest_of(line: &str) -> &[u8] {
    let mut before = '\\';
    let comment = line.find(|c| {
        let begins = c == '#' && before != '\\';
        before = c;
        begins
    });
    let digest = &line[..comment.unwrap_or(line.len())];
    digest.trim_end().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> DigestText {
        DigestText::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn changes_keep_the_rest_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("whitelist");
        assert!(LocalWhitelist::read(&path).unwrap().is_empty());
        fs::write(&path, "c\r\n\n  b \na").unwrap();
        let mut file = LockedWhitelist::open(&path).unwrap();
        assert!(file.add(&digest("d")));
        assert!(!file.add(&digest("a")));
        assert!(file.remove(&digest("b")));
        assert!(!file.remove(&digest("e")));
        file.save().unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\na\nd\n");
        let whitelist = LocalWhitelist::read(&path).unwrap();
        assert!(whitelist.contains(&digest("d")));
        assert!(!whitelist.contains(&digest("b")));
    }

    #[test]
    fn comments_are_no_part_of_a_digest_and_stay_in_the_file() {
        for (line, digest) in [
            ("a # mine", "a"),
            ("a#b # c", "a"),
            ("a\\# b", "a\\# b"),
            ("# a", "# a"),
            ("# a # b", "# a"),
            ("##", "#"),
        ] {
            assert_eq!(digest_of(line), digest.as_bytes(), "{line}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("whitelist");
        fs::write(&path, "\u{feff}a # mine\r\u{a0}b\u{2028}#theirs\n").unwrap();
        let mut file = LockedWhitelist::open(&path).unwrap();
        assert!(!file.add(&digest("a")));
        assert!(file.remove(&digest("b")));
        file.save().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a # mine\n");
    }

    #[test]
    fn the_second_who_changes_it_waits_and_sees_what_the_first_did() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("whitelist");
        std::thread::scope(|scope| {
            for name in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let mut file = LockedWhitelist::open(path).unwrap();
                    assert!(file.add(&digest(&name.to_string())));
                    file.save().unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 8);
    }
}
