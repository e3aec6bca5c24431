//! The local whitelist: digests, one a line, in a file of the home directory.
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
        Ok(Self(digest_lines(&content).map(Box::from).collect()))
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
    /// In the file's order.
    lines: Vec<Box<[u8]>>,
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
        let lines: Vec<Box<[u8]>> = digest_lines(&content).map(Box::from).collect();
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            digests: LocalWhitelist(lines.iter().cloned().collect()),
            lines,
        })
    }

    /// Adds a digest; whether it was missing.
    pub(crate) fn add(&mut self, digest: &DigestText) -> bool {
        let is_new = self.digests.0.insert(digest.as_bytes().into());
        if is_new {
            self.lines.push(digest.as_bytes().into());
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
        let mut text = Vec::new();
        for line in self
            .lines
            .iter()
            .filter(|&line| self.digests.0.contains(line))
        {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        let mut file = File::create(path)?;
        file.write_all(&text)?;
        file.sync_all()
    }
}

fn lock(directory: &Path) -> io::Result<Flock<File>> {
    let directory = File::open(directory)?;
    Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// Every line but empty ones: the reference knows no comments here.
fn digest_lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
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
