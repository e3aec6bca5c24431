//! The passwd and the access file as one immutable snapshot, replaced whole on reload.
//!
//! A request holds the snapshot it began with, so it never sees accounts of one reading and permissions of another.
//! A reload that goes wrong changes nothing: a file that cannot be read or has vanished must neither lock everybody out
//! nor let everybody in.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use pyzor_protocol::{AccessList, Accounts, LineProblem};

use crate::bounded_read::read_at_most;
use crate::error::Error;

/// Bytes of either file that we read at most; a million accounts fit.
const MAX_FILE_BYTES: u64 = 64 << 20;

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
    passwd_file: Option<PathBuf>,
    access_file: Option<PathBuf>,
    current: ArcSwap<Access>,
    /// Which files the current snapshot was read from. Held for the whole of a reload.
    found: Mutex<Found>,
}

/// Which of the files were there.
#[derive(Clone, Copy, Debug)]
struct Found {
    passwd: bool,
    access: bool,
}

impl Found {
    const NOTHING: Self = Self {
        passwd: false,
        access: false,
    };
}

impl AccessFiles {
    /// Reads both files. One that is missing, or not named at all, gives its defaults: nobody but the anonymous user
    /// exists, who may do what the reference lets them do.
    ///
    /// # Errors
    /// When a file exists but cannot be read.
    pub fn load(passwd_file: Option<PathBuf>, access_file: Option<PathBuf>) -> Result<Self, Error> {
        let (passwd, access) = (passwd_file.as_deref(), access_file.as_deref());
        let (current, found) = read_both(passwd, access, Found::NOTHING)?;
        Ok(Self {
            passwd_file,
            access_file,
            current: ArcSwap::from_pointee(current),
            found: Mutex::new(found),
        })
    }

    /// Reads both files again.
    ///
    /// # Errors
    /// When a file cannot be read, or one that was there has vanished. The old snapshot stays, of both files.
    pub fn reload(&self) -> Result<(), Error> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (passwd, access) = (self.passwd_file.as_deref(), self.access_file.as_deref());
        let (next, next_found) = read_both(passwd, access, *found)?;
        *found = next_found;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// The snapshot for the next requests.
    pub fn current(&self) -> Guard<Arc<Access>> {
        self.current.load()
    }
}

/// Reads both files. Those in `must_be_there` may not be missing.
fn read_both(
    passwd_file: Option<&Path>,
    access_file: Option<&Path>,
    must_be_there: Found,
) -> Result<(Access, Found), Error> {
    let passwd = read(passwd_file, must_be_there.passwd)?;
    let access = read(access_file, must_be_there.access)?;
    let found = Found {
        passwd: passwd.is_some(),
        access: access.is_some(),
    };
    let accounts = accounts(passwd);
    let list = access_list(access, &accounts);
    Ok((Access { accounts, list }, found))
}

/// A file's name and content.
type Content<'a> = (&'a Path, Vec<u8>);

/// A file that exists, or nothing for one that does not.
fn read(path: Option<&Path>, must_be_there: bool) -> Result<Option<Content<'_>>, Error> {
    let Some(path) = path else {
        return Ok(None);
    };
    match read_at_most(path, MAX_FILE_BYTES) {
        Ok(content) => Ok(Some((path, content))),
        Err(error) if error.kind() == ErrorKind::NotFound && !must_be_there => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

fn accounts(passwd: Option<Content<'_>>) -> Accounts {
    let Some((path, content)) = passwd else {
        tracing::info!("there is no passwd file: only the anonymous user exists");
        return Accounts::default();
    };
    let (accounts, problems) = Accounts::parse(&content);
    warn_of(path, &problems);
    accounts
}

fn access_list(access: Option<Content<'_>>, accounts: &Accounts) -> AccessList {
    let Some((path, content)) = access else {
        tracing::info!(
            "there is no access file: the anonymous user may check, report, ping, pong and info"
        );
        return AccessList::default();
    };
    let (list, problems) = AccessList::parse(&content, accounts);
    warn_of(path, &problems);
    list
}

fn warn_of(path: &Path, problems: &[LineProblem]) {
    for problem in problems {
        tracing::warn!("{}: {problem}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pyzor_protocol::{Operation, User};
    use tempfile::TempDir;

    use super::*;

    /// Two files that do not exist yet.
    struct Files {
        directory: TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn passwd(&self) -> PathBuf {
            self.directory.path().join("passwd")
        }

        fn access(&self) -> PathBuf {
            self.directory.path().join("access")
        }

        fn write(&self, passwd: &str, access: &str) {
            fs::write(self.passwd(), passwd).unwrap();
            fs::write(self.access(), access).unwrap();
        }

        fn load(&self) -> Result<AccessFiles, Error> {
            AccessFiles::load(Some(self.passwd()), Some(self.access()))
        }
    }

    const ALICE: &str = "alice : fd3b5e0e1a1b8f9e3f6f4c8c7fd0b0a2a8c1a9d7\n";

    fn may(files: &AccessFiles, user: User<'_>, operation: Operation) -> bool {
        files.current().list.permits(user, operation)
    }

    fn exists(files: &AccessFiles, user: &[u8]) -> bool {
        files.current().accounts.get(user).is_some()
    }

    #[test]
    fn missing_files_give_defaults_at_start_and_may_appear_later() {
        let files = Files::new();
        let access = files.load().unwrap();
        assert!(may(&access, User::Anonymous, Operation::Report));
        assert!(!may(&access, User::Anonymous, Operation::Whitelist));
        access.reload().unwrap();
        files.write(ALICE, "check whitelist : alice : allow\n");
        access.reload().unwrap();
        assert!(exists(&access, b"alice"));
        assert!(may(&access, User::Named(b"alice"), Operation::Whitelist));
        assert!(!may(&access, User::Anonymous, Operation::Check));
    }

    #[test]
    fn files_that_are_not_named_are_missing() {
        let access = AccessFiles::load(None, None).unwrap();
        assert!(may(&access, User::Anonymous, Operation::Check));
        access.reload().unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_read_refuses_the_start() {
        for broken in [Files::passwd, Files::access] {
            let files = Files::new();
            files.write(ALICE, "all : alice : allow\n");
            // A directory, because root may read any file.
            fs::remove_file(broken(&files)).unwrap();
            fs::create_dir(broken(&files)).unwrap();
            let error = files.load().err().unwrap().to_string();
            let expected = format!("cannot read {}: ", broken(&files).display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_reload_keeps_the_old_snapshot_when_either_file_vanished_or_cannot_be_read() {
        for broken in [Files::passwd, Files::access] {
            for leave_directory in [false, true] {
                let files = Files::new();
                files.write(ALICE, "whitelist : alice : allow\n");
                let access = files.load().unwrap();
                // Whatever the other file says now must not be seen either.
                files.write("bob : 11\n", "all : anonymous bob : allow\n");
                fs::remove_file(broken(&files)).unwrap();
                if leave_directory {
                    fs::create_dir(broken(&files)).unwrap();
                }
                for _ in 0..2 {
                    let error = access.reload().unwrap_err().to_string();
                    assert!(error.contains(broken(&files).to_str().unwrap()), "{error}");
                    assert!(exists(&access, b"alice") && !exists(&access, b"bob"));
                    assert!(may(&access, User::Named(b"alice"), Operation::Whitelist));
                    assert!(!may(&access, User::Anonymous, Operation::Check));
                }
            }
        }
    }

    #[test]
    fn a_file_that_came_back_is_read() {
        let files = Files::new();
        files.write(ALICE, "all : alice : allow\n");
        let access = files.load().unwrap();
        fs::remove_file(files.access()).unwrap();
        assert!(access.reload().is_err());
        fs::write(files.access(), "ping : anonymous : allow\n").unwrap();
        access.reload().unwrap();
        assert!(may(&access, User::Anonymous, Operation::Ping));
        assert!(!may(&access, User::Named(b"alice"), Operation::Ping));
    }

    #[test]
    fn invalid_lines_are_skipped() {
        let files = Files::new();
        files.write(
            &format!("nonsense\n{ALICE}"),
            "nonsense\ncheck : alice : allow\n",
        );
        let access = files.load().unwrap();
        assert!(exists(&access, b"alice"));
        assert!(may(&access, User::Named(b"alice"), Operation::Check));
    }

    #[test]
    fn a_request_goes_on_with_the_snapshot_it_began_with() {
        let files = Files::new();
        files.write(ALICE, "all : alice : allow\n");
        let access = files.load().unwrap();
        let request = access.current();
        files.write("", "");
        access.reload().unwrap();
        assert!(request.accounts.get(b"alice").is_some());
        assert!(!exists(&access, b"alice"));
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let access = AccessFiles::load(Some("/dev/zero".into()), None);
        assert!(access.is_err());
    }
}
