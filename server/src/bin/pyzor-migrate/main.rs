//! `pyzor-migrate`: copies every record of one store into a new one.
//!
//! - [`flags`]: the command line, which is the reference's.
//! - [`failures`]: the file of what could not be copied.
//! - [`progress`]: how far it is, in lines or live.
//!
//! The source is never changed, and locked against writers meanwhile. The destination is a store only once it is
//! complete: what an interrupted run leaves behind is refused by the server and by the next run.

mod failures;
mod flags;
mod progress;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use jiff::tz::TimeZone;
use nix::sys::stat::{Mode, umask};
use pyzor_protocol::Digest;
use pyzor_storage::gdbm::{Damage, Entry, GdbmError, GdbmFile};
use pyzor_storage::redb_engine::{BulkLoad, RedbOptions};
use pyzor_storage::reference_record::{self, InvalidRecord};
use pyzor_storage::{Record, StoreError};
use pyzord::signals::make_size_limits_errors;

use failures::Failures;
use flags::{EngineName, Flags};
use progress::{Progress, complain, say};

/// What others may do with the files we make: nothing, as with the server's.
const UMASK: Mode = Mode::S_IRWXG.union(Mode::S_IRWXO);

/// Why the migration did not succeed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Signal(#[from] pyzord::error::Error),
    #[error("--se {0}: this engine cannot be read yet, only gdbm can")]
    SourceEngine(EngineName),
    #[error("--de {0}: this engine cannot be written yet, only redb can")]
    DestinationEngine(EngineName),
    #[error(transparent)]
    Source(#[from] GdbmError),
    #[error(transparent)]
    Destination(#[from] StoreError),
    #[error("not one of {failed} records could be read, see {path}: no store was made", path = .path.display())]
    NothingReadable { failed: u64, path: PathBuf },
    #[error(
        "{path} holds no record: no store was made. If digests were to be copied into it, that did not work; to begin without \
         any, no import is needed: write \"Engine = redb\" into section [server] of the server's config",
        path = .0.display()
    )]
    NoRecords(PathBuf),
    #[error("cannot write what fails to {path}: {problem}; name another file with --failed", path = .path.display())]
    FailuresPlace {
        path: PathBuf,
        problem: &'static str,
    },
    #[error("cannot write {path}: {source}", path = .path.display())]
    Failures { path: PathBuf, source: io::Error },
    #[error("the migration is complete, but {path} cannot be deleted: {source}", path = .path.display())]
    Delete { path: PathBuf, source: io::Error },
}

/// Why one record was not copied.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("the key is not 40 lower-case hexadecimal digits, and the server refuses such digests")]
    Key,
    #[error(transparent)]
    Value(#[from] InvalidRecord),
}

fn main() -> ExitCode {
    match migrate(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn migrate(flags: &Flags) -> Result<(), Error> {
    check_engines(flags)?;
    umask(UMASK);
    make_size_limits_errors()?;
    let mut failures = Failures::new(flags)?;
    let source = GdbmFile::open(&flags.source)?;
    // The Python server's pyzor-migrate leaves such a file when it cannot read what it was to copy.
    if source.entries().next().is_none() {
        return Err(Error::NoRecords(flags.source.clone()));
    }
    let load = BulkLoad::create(&flags.destination, &RedbOptions::default())?;
    let transferred = copy(&source, load, &mut failures)?;
    let failed = failures.count();
    say(&format!(
        "Migration complete, {transferred} records transferred successfully, {failed} records failed"
    ));
    if failed > 0 {
        let path = failures.path().display();
        complain(format_args!("{path} says what failed, and why"));
    }
    if flags.delete {
        delete(&flags.source, failed)?;
    }
    Ok(())
}

fn check_engines(flags: &Flags) -> Result<(), Error> {
    if flags.source_engine != EngineName::Gdbm {
        return Err(Error::SourceEngine(flags.source_engine));
    }
    if flags.destination_engine != EngineName::Redb {
        return Err(Error::DestinationEngine(flags.destination_engine));
    }
    Ok(())
}

/// Copies every record, and returns how many these were.
fn copy(source: &GdbmFile, mut load: BulkLoad, failures: &mut Failures) -> Result<u64, Error> {
    let zone = TimeZone::system();
    let mut progress = Progress::new();
    let mut entries = source.entries();
    while let Some(found) = entries.next() {
        match found {
            Ok(entry) => match convert(&entry, &zone) {
                Ok((digest, record)) => {
                    load.push(digest, record)?;
                    progress.transferred(entries.permille_done());
                }
                Err(failure) => failures.add(Some(&entry), &failure)?,
            },
            Err(damage) => failures.add(None, &damage.into())?,
        }
    }
    progress.end();
    failures.flush()?;
    let transferred = progress.count();
    if transferred == 0 && failures.count() > 0 {
        return Err(Error::NothingReadable {
            failed: failures.count(),
            path: failures.path().to_owned(),
        });
    }
    load.finish()?;
    Ok(transferred)
}

fn convert(entry: &Entry, zone: &TimeZone) -> Result<(Digest, Record), Failure> {
    let digest = Digest::from_hex(&entry.key).map_err(|_| Failure::Key)?;
    let record = reference_record::decode(&entry.value, zone)?;
    Ok((digest, record))
}

/// Deletes the source, unless some of it is nowhere else.
fn delete(source: &Path, failed: u64) -> Result<(), Error> {
    if failed > 0 {
        let path = source.display();
        complain(format_args!(
            "{path} is not deleted, because some of its records failed"
        ));
        return Ok(());
    }
    fs::remove_file(source).map_err(|error| Error::Delete {
        path: source.to_owned(),
        source: error,
    })
}
