//! The passwd and the access file as one immutable snapshot, replaced whole on reload.
//!
//! A request holds the snapshot it began with, so it never sees accounts of one reading and permissions of another.
//! A reload that goes wrong changes nothing: a file that cannot be read, says nothing that can be read, or has vanished must
//! neither lock everybody out nor let everybody in.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use pyzor_protocol::{AccessList, Accounts, LineProblem, is_unreadable};

use crate::bounded_read::read_at_most;
use crate::error::Error;

/// Bytes of either file that we read at most; a million accounts fit.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Warnings about one file at most: more would push out of the log what else it says.
const MAX_WARNINGS: usize = 20;

/// Who exists and what each may do, read at one moment.
#[derive(Default)]
pub struct Access {
    /// The named users and their keys.
    pub accounts: Accounts,
    /// What each user may do.
    pub list: AccessList,
}

/// A passwd or access file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersFile {
    /// Where it is.
    pub path: PathBuf,
    /// The setting that names it, and where that was written. A file that nobody named may be missing.
    pub named: Option<String>,
}

/// The two files, and what they said when they were last read.
pub struct AccessFiles {
    passwd_file: Option<UsersFile>,
    access_file: Option<UsersFile>,
    current: ArcSwap<Access>,
    /// Which files the current snapshot was read from. Held for the whole of a reload.
    found: Mutex<Found>,
}

/// Which of the files were there.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    passwd: bool,
    access: bool,
}

impl AccessFiles {
    /// Reads both files. One that is missing without being named gives its defaults: nobody but the anonymous user exists,
    /// who may do what the reference lets them do.
    ///
    /// # Errors
    /// When a file cannot be read, is named and missing, or has lines of which none can be read: so that a server does not
    /// start that lets everybody in, or nobody.
    pub fn load(
        passwd_file: Option<UsersFile>,
        access_file: Option<UsersFile>,
    ) -> Result<Self, Error> {
        let mut files = Self {
            passwd_file,
            access_file,
            current: ArcSwap::default(),
            found: Mutex::default(),
        };
        let (current, found) = files.read(Found::default())?;
        files.current = ArcSwap::from_pointee(current);
        files.found = Mutex::new(found);
        Ok(files)
    }

    /// Reads both files again.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and when a file that was there has vanished. The old snapshot stays, of both files.
    pub fn reload(&self) -> Result<(), Error> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, next_found) = self.read(*found)?;
        *found = next_found;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// The snapshot for the next requests.
    pub fn current(&self) -> Guard<Arc<Access>> {
        self.current.load()
    }

    /// Reads both files, and logs what is wrong with their lines. Those in `must_be_there` may not be missing.
    fn read(&self, must_be_there: Found) -> Result<(Access, Found), Error> {
        let (passwd_file, access_file) = (self.passwd_file.as_ref(), self.access_file.as_ref());
        let passwd = read_accounts(passwd_file, must_be_there.passwd)?;
        let access = read_list(access_file, &passwd.value, must_be_there.access)?;
        if !passwd.was_there {
            let path = shown(passwd_file);
            tracing::info!("there is no passwd file{path}: only the anonymous user exists");
        }
        if !access.was_there {
            let path = shown(access_file);
            tracing::info!(
                "there is no access file{path}: the anonymous user may check, report, ping, pong and info"
            );
        }
        for warning in passwd.warnings.iter().chain(&access.warnings) {
            tracing::warn!("{warning}");
        }
        let found = Found {
            passwd: passwd.was_there,
            access: access.was_there,
        };
        let access = Access {
            accounts: passwd.value,
            list: access.value,
        };
        Ok((access, found))
    }
}

/// Reads both files and leaves it at that: why a server would not start with them, and what it would warn of.
pub fn look_at(
    passwd_file: Option<&UsersFile>,
    access_file: Option<&UsersFile>,
) -> (Vec<Error>, Vec<String>) {
    let passwd = read_accounts(passwd_file, false);
    let nobody = Accounts::default();
    let accounts = passwd.as_ref().map_or(&nobody, |reading| &reading.value);
    let access = read_list(access_file, accounts, false);
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let accounts_are_known = passwd.is_ok();
    match passwd {
        Ok(reading) => warnings.extend(reading.warnings),
        Err(error) => errors.push(error),
    }
    match access {
        // Without the accounts nobody knows which rules mean whom.
        Ok(reading) if accounts_are_known => warnings.extend(reading.warnings),
        Ok(_) => {}
        Err(error) => errors.push(error),
    }
    (errors, warnings)
}

/// What a file says, or what holds without it.
#[derive(Default)]
struct Reading<T> {
    value: T,
    was_there: bool,
    /// What is wrong with its lines, with their numbers.
    warnings: Vec<String>,
}

fn read_accounts(
    file: Option<&UsersFile>,
    must_be_there: bool,
) -> Result<Reading<Accounts>, Error> {
    let Some((path, content)) = read(file, must_be_there)? else {
        return Ok(Reading::default());
    };
    let (value, problems) = Accounts::parse(&content);
    reading(path, &content, value, &problems)
}

fn read_list(
    file: Option<&UsersFile>,
    accounts: &Accounts,
    must_be_there: bool,
) -> Result<Reading<AccessList>, Error> {
    let Some((path, content)) = read(file, must_be_there)? else {
        let without_rules = "there are accounts and no access file: named users may do nothing";
        let warn = !accounts.is_empty();
        return Ok(Reading {
            warnings: warn.then(|| without_rules.to_owned()).into_iter().collect(),
            ..Reading::default()
        });
    };
    let (value, problems) = AccessList::parse(&content, accounts);
    reading(path, &content, value, &problems)
}

/// A file's name and content.
type Content<'a> = (&'a Path, Vec<u8>);

/// A file that exists, or nothing for one that need not.
fn read(file: Option<&UsersFile>, must_be_there: bool) -> Result<Option<Content<'_>>, Error> {
    let Some(UsersFile { path, named }) = file else {
        return Ok(None);
    };
    match (read_at_most(path, MAX_FILE_BYTES), named) {
        (Ok(content), _) => Ok(Some((path, content))),
        (Err(error), None) if error.kind() == ErrorKind::NotFound && !must_be_there => Ok(None),
        (Err(error), Some(named)) if error.kind() == ErrorKind::NotFound && !must_be_there => {
            Err(Error::Missing {
                named: named.clone(),
                path: path.clone(),
            })
        }
        (Err(error), _) => Err(Error::file("read", path)(error)),
    }
}

fn reading<T>(
    path: &Path,
    content: &[u8],
    value: T,
    problems: &[LineProblem],
) -> Result<Reading<T>, Error> {
    if is_unreadable(content, problems)
        && let Some(first) = problems.first()
    {
        let (line, problem) = (first.line, first.problem.clone());
        let path = path.to_owned();
        return Err(Error::Unreadable {
            path,
            line,
            problem,
        });
    }
    let shown = path.display();
    let mut warnings: Vec<_> = problems
        .iter()
        .take(MAX_WARNINGS)
        .map(|LineProblem { line, problem }| format!("{shown}:{line}: {problem}"))
        .collect();
    if let Some(more @ 1..) = problems.len().checked_sub(MAX_WARNINGS) {
        warnings.push(format!("{shown}: {more} more of this kind are not listed"));
    }
    Ok(Reading {
        value,
        was_there: true,
        warnings,
    })
}

/// The name of a file that is to be there, as words to add.
fn shown(file: Option<&UsersFile>) -> String {
    file.map_or_else(String::new, |file| format!(", {}", file.path.display()))
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
            let file = |path| Some(UsersFile { path, named: None });
            AccessFiles::load(file(self.passwd()), file(self.access()))
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
    fn a_file_that_is_named_has_to_be_there() {
        let files = Files::new();
        let named = UsersFile {
            path: files.access(),
            named: Some("HOME/config:2: AccessFile = access".to_owned()),
        };
        let error = AccessFiles::load(None, Some(named.clone())).err().unwrap();
        let expected = format!(
            "HOME/config:2: AccessFile = access: there is no {}: create it, or remove the setting to do without",
            files.access().display()
        );
        assert_eq!(error.to_string(), expected);
        files.write("", "");
        assert!(AccessFiles::load(None, Some(named)).is_ok());
    }

    #[test]
    fn a_file_of_which_no_line_can_be_read_changes_nothing() {
        for broken in [Files::passwd, Files::access] {
            let files = Files::new();
            files.write(ALICE, "whitelist : alice : allow\n");
            let access = files.load().unwrap();
            fs::write(broken(&files), "# rules\nalice\n").unwrap();
            let expected = format!("{}:2: expected ", broken(&files).display());
            for error in [access.reload().unwrap_err(), files.load().err().unwrap()] {
                assert!(error.to_string().starts_with(&expected), "{error}");
            }
            assert!(may(&access, User::Named(b"alice"), Operation::Whitelist));
            fs::write(broken(&files), "# nothing\n").unwrap();
            access.reload().unwrap();
            assert!(
                !(exists(&access, b"alice")
                    && may(&access, User::Named(b"alice"), Operation::Whitelist))
            );
        }
    }

    #[test]
    fn warnings_name_file_and_line_and_are_bounded() {
        let files = Files::new();
        let rules = "ping : eve : allow\n".repeat(100);
        files.write(ALICE, &rules);
        let file = |path| UsersFile { path, named: None };
        let (passwd, access) = (file(files.passwd()), file(files.access()));
        let (errors, warnings) = look_at(Some(&passwd), Some(&access));
        assert!(errors.is_empty());
        let expected = format!("{}:1: there is no account `eve`", access.path.display());
        assert!(warnings[0].starts_with(&expected), "{warnings:?}");
        assert_eq!(warnings.len(), MAX_WARNINGS + 1);
        let (_, warnings) = look_at(Some(&passwd), None);
        assert!(warnings[0].contains("no access file"), "{warnings:?}");
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
        let endless = UsersFile {
            path: "/dev/zero".into(),
            named: None,
        };
        assert!(AccessFiles::load(Some(endless), None).is_err());
    }
}
