//! Why a store could not be opened, created or filled.

use std::io;
use std::path::{Path, PathBuf};

use crate::redb_engine::LOCK_FILE;

/// Why a store could not be opened, created or filled. Each message names the file and what to do about it.
///
/// A store that runs reports trouble by answering [`Unavailable`](crate::Unavailable), and by logging.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else holds the store.
    #[error("{} is locked by another process: is a pyzord already running on it?", .0.display())]
    Locked(PathBuf),
    /// The file's format is newer than this program.
    #[error(
        "{file} was written by a newer version (format {found}, this version knows {known}): upgrade first"
    )]
    Newer {
        /// The file's name inside the store.
        file: String,
        /// The format it states.
        found: u128,
        /// The newest format this program reads.
        known: u128,
    },
    /// A file that belongs to the store is not there.
    #[error(
        "{file} is missing from the store: restore it from a backup, or move the whole store away"
    )]
    Missing {
        /// The file's name inside the store.
        file: String,
    },
    /// A file of another store, or of another place in this one.
    #[error("{file} does not belong to this store ({detail}): files of two stores have been mixed")]
    Foreign {
        /// The file's name inside the store.
        file: String,
        /// What differs.
        detail: &'static str,
    },
    /// An import was interrupted.
    #[error("{store} holds an import that did not finish: remove it and import again")]
    Unfinished {
        /// The store's directory.
        store: String,
    },
    /// There is a store already.
    #[error("{store} already holds a store: move it away, or import into another directory")]
    Exists {
        /// The store's directory.
        store: String,
    },
    /// A stored value has no meaning.
    #[error(
        "{file} is damaged ({detail}): restore the store from a backup; a copy that was made while a server ran on it is none"
    )]
    Damaged {
        /// The file's name inside the store.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// An option is out of its range.
    #[error("{option} must be {expected}, not {found}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was given.
        found: usize,
        /// What is accepted.
        expected: &'static str,
    },
    /// The operating system refused a file operation.
    #[error("{file}: {source}")]
    Io {
        /// The file's name.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The database refused an operation.
    #[error("{file}: {source}")]
    Database {
        /// The file's name inside the store.
        file: String,
        /// The database's reason.
        source: Box<redb::Error>,
    },
    /// A thread could not be started.
    #[error("the thread {name} could not be started: {source}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl StoreError {
    /// For `map_err` on file operations.
    pub(crate) fn io(file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { file, source }
    }

    /// For `map_err` on database operations.
    pub(crate) fn database<E: Into<redb::Error>>(file: &str) -> impl FnOnce(E) -> Self {
        move |source| {
            let file = file.to_owned();
            match source.into() {
                redb::Error::Corrupted(detail) => Self::Damaged { file, detail },
                source => Self::Database {
                    file,
                    source: Box::new(source),
                },
            }
        }
    }

    /// The same with the whole path of a file of this store.
    #[must_use]
    pub(crate) fn within(mut self, store: &str) -> Self {
        if let Self::Newer { file, .. }
        | Self::Missing { file }
        | Self::Foreign { file, .. }
        | Self::Damaged { file, .. }
        | Self::Io { file, .. }
        | Self::Database { file, .. } = &mut self
            && is_name_in_store(file)
        {
            *file = format!("{store}/{file}");
        }
        self
    }

    /// Whether the disk had no room.
    pub fn is_disk_full(&self) -> bool {
        let error = match self {
            Self::Io { source, .. } => source,
            Self::Database { source, .. } => match source.as_ref() {
                redb::Error::Io(error) => error,
                _ => return false,
            },
            _ => return false,
        };
        error.kind() == io::ErrorKind::StorageFull
    }
}

/// Whether this is the name of a file in a store, and no path or what else errors are about.
fn is_name_in_store(file: &str) -> bool {
    let extension = Path::new(file).extension();
    !file.contains('/') && (file == LOCK_FILE || extension.is_some_and(|name| name == "redb"))
}
