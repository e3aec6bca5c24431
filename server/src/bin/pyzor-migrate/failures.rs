//! The file of what could not be copied: a line for each, `KEY <TAB> VALUE <TAB> REASON`, key and value in hexadecimal
//! digits, or `-` where a damaged file does not even give those. Made only when something fails.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use pyzor_storage::gdbm::Entry;

use super::flags::Flags;
use super::{Error, Failure};

/// Counts and writes down what failed.
#[derive(Debug)]
pub(crate) struct Failures {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl Failures {
    /// Nothing failed yet. Nothing is changed either: this is asked before anything else is touched.
    ///
    /// # Errors
    /// When the file would overwrite the source, lie in the source or the destination, or cannot be written.
    pub(crate) fn new(flags: &Flags) -> Result<Self, Error> {
        let path = flags.failures_path();
        if let Some(problem) = conflict(&path, flags) {
            return Err(Error::FailuresPlace { path, problem });
        }
        if flags.failed.is_some() {
            try_file(&path).map_err(|source| Error::Failures {
                path: path.clone(),
                source,
            })?;
        }
        Ok(Self {
            path,
            file: None,
            count: 0,
        })
    }

    /// Where they are written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Writes down one more.
    pub(crate) fn add(&mut self, entry: Option<&Entry>, reason: &Failure) -> Result<(), Error> {
        self.count += 1;
        self.write(entry, reason).map_err(|error| self.error(error))
    }

    /// Hands everything to the system.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        flushed.map_err(|error| self.error(error))
    }

    fn write(&mut self, entry: Option<&Entry>, reason: &Failure) -> io::Result<()> {
        let (key, value) = entry.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |entry| (hex::encode(&entry.key), hex::encode(&entry.value)),
        );
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(File::create(&self.path)?)),
        };
        writeln!(file, "{key}\t{value}\t{reason}")
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Failures {
            path: self.path.clone(),
            source,
        }
    }
}

/// Why nothing may be written to `path`, if so.
fn conflict(path: &Path, flags: &Flags) -> Option<&'static str> {
    let leads_nowhere = path.is_symlink() && !path.exists();
    let (source, destination) = (&flags.source, &flags.destination);
    if leads_nowhere {
        Some("it is a symbolic link to a file that does not exist")
    } else if is_same_file(path, source) {
        Some("it is the source")
    } else if is_within(path, source) {
        Some("it lies in the source")
    } else if is_within(path, destination) {
        Some("it lies in the destination")
    } else {
        None
    }
}

/// Whether both names lead to one file, through links of either kind or none.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// Whether `path` is `place`, or lies below it; neither need exist yet.
fn is_within(path: &Path, place: &Path) -> bool {
    resolved(path).starts_with(resolved(place))
}

/// Where a path leads, without links; what does not exist has none.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut place = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            place.pop();
        } else {
            place.push(component);
            place = place.canonicalize().unwrap_or(place);
        }
    }
    place
}

/// Fails if a file cannot be written. One that exists keeps what is in it, and one that does not is not left behind.
fn try_file(path: &Path) -> io::Result<()> {
    let found = path.metadata();
    // To open a pipe would wait for its reader.
    if found
        .as_ref()
        .is_ok_and(|found| !found.is_file() && !found.is_dir())
    {
        return Ok(());
    }
    File::options().append(true).create(true).open(path)?;
    match found {
        Ok(_) => Ok(()),
        Err(_) => fs::remove_file(path),
    }
}
