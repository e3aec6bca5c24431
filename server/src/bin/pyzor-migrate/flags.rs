//! The command line. Names and meanings are the reference's, but for `--failed`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const AFTER_HELP: &str = "\
Stop the pyzord that uses the source first: a running one keeps the file locked. Run this as the user that pyzord runs \
as, so that it may open the store, and on the machine that wrote the source, because its records hold local time; \
elsewhere name the time zone, for example TZ=Europe/Berlin.

The destination must not exist. If the migration is interrupted, remove what it left there and run it again.

Exit status: 0 when the migration is complete, also when single records failed (their number is in the last line); 1 when \
there is no complete store, because something went wrong or because the source holds no record that can be read, or when the \
source could not be deleted; 2 when the command line makes no sense.";

/// Copies all records of one Pyzor store into a new one.
#[derive(Debug, Parser)]
#[command(name = "pyzor-migrate", version, after_long_help = AFTER_HELP, after_help = AFTER_HELP)]
pub(crate) struct Flags {
    /// What kind of store the source is; only gdbm so far
    #[arg(long = "se", visible_alias = "source-engine", value_name = "ENGINE")]
    pub(crate) source_engine: EngineName,

    /// The source: for gdbm a file
    #[arg(long = "sd", visible_alias = "source-dsn", value_name = "FILE")]
    pub(crate) source: PathBuf,

    /// What kind of store the destination is to be; only redb so far
    #[arg(
        long = "de",
        visible_alias = "destination-engine",
        value_name = "ENGINE"
    )]
    pub(crate) destination_engine: EngineName,

    /// The destination: for redb a directory, which must not exist
    #[arg(
        long = "dd",
        visible_alias = "destination-dsn",
        value_name = "DIRECTORY"
    )]
    pub(crate) destination: PathBuf,

    /// Delete the source file at the end, if every record was transferred
    #[arg(long)]
    pub(crate) delete: bool,

    /// Write what could not be transferred to this file, one record a line: key and value in hexadecimal digits, and the
    /// reason, separated by tabs; an existing file is overwritten, but not the source [default: the destination's name with ".failed"]
    #[arg(long, value_name = "FILE")]
    pub(crate) failed: Option<PathBuf>,
}

/// The kinds of store that exist, here or in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    Gdbm,
    Mysql,
    Redb,
    Redis,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gdbm => "gdbm",
            Self::Mysql => "mysql",
            Self::Redb => "redb",
            Self::Redis => "redis",
        })
    }
}

impl Flags {
    /// Where the failed records go.
    pub(crate) fn failures_path(&self) -> PathBuf {
        self.failed.clone().unwrap_or_else(|| {
            // Rebuilt from its parts, so that a slash at the end does not lead into the directory.
            let path: PathBuf = self.destination.components().collect();
            let mut name = OsString::from(path);
            name.push(".failed");
            name.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(destination: &str, more: &[&str]) -> Flags {
        let fixed = [
            "",
            "--se",
            "gdbm",
            "--sd",
            "a",
            "--de",
            "redb",
            "--dd",
            destination,
        ];
        Flags::parse_from(fixed.iter().chain(more))
    }

    #[test]
    fn failures_lie_beside_the_destination() {
        assert_eq!(
            flags("x/b.redb", &[]).failures_path(),
            PathBuf::from("x/b.redb.failed")
        );
        assert_eq!(
            flags("x/b.redb/", &[]).failures_path(),
            PathBuf::from("x/b.redb.failed")
        );
        assert_eq!(
            flags("b", &["--failed", "f"]).failures_path(),
            PathBuf::from("f")
        );
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
    }
}
