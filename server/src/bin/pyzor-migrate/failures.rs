//! The file of what could not be copied: a line for each, `KEY <TAB> VALUE <TAB> REASON`, key and value in hexadecimal
//! digits, or `-` where a damaged file does not even give those. Made only when something fails.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use pyzor_storage::gdbm::Entry;

use super::{Error, Failure};

/// Counts and writes down what failed.
#[derive(Debug)]
pub(crate) struct Failures {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl Failures {
    /// Nothing failed yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            count: 0,
        }
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
