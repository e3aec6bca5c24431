//! The home directory, and what `~` and relative names mean.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf, absolute};

use nix::unistd::User;
use pyzor_protocol::home_directory::{self, HOME_MODE};

use crate::error::Error;

/// The directory that `--homedir` names, else `$HOME/.pyzor`, else the system's; absolute.
///
/// # Errors
/// When the working directory, which a relative name needs, is gone.
pub(super) fn locate(homedir: Option<&str>) -> Result<PathBuf, Error> {
    let user_home = user_home().map(PathBuf::from);
    let home = home_directory::locate(homedir, user_home.as_deref(), directory_of);
    absolute(&home).map_err(Error::file("resolve", &home))
}

/// Makes the home directory if it is missing; its parent must be there.
///
/// # Errors
/// When it cannot be created, or a directory above it cannot be entered, so that nobody knows whether it is there.
pub(super) fn create(home: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(HOME_MODE).create(home) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            match home_directory::closed_above(home, is_out_of_reach) {
                Some(closed) => Err(Error::file("enter", closed)(error)),
                None => Err(Error::file("create", home)(error)),
            }
        }
        _ => Ok(()),
    }
}

fn is_out_of_reach(path: &Path) -> bool {
    let denied = |error: io::Error| error.kind() == ErrorKind::PermissionDenied;
    path.metadata().is_err_and(denied)
}

/// Replaces a leading `~` or `~user` by that user's directory. An unknown user's name stays as it is.
pub(super) fn expand_user(name: &str) -> PathBuf {
    home_directory::expand_user(name, directory_of)
}

/// What the system knows: the directory of this user, or our own.
fn directory_of(user: Option<&str>) -> Option<PathBuf> {
    match user {
        None => user_home().map(PathBuf::from).or_else(own_directory),
        Some(user) => User::from_name(user).ok().flatten().map(|user| user.dir),
    }
}

fn user_home() -> Option<OsString> {
    std::env::var_os("HOME").filter(|home| !home.is_empty())
}

fn own_directory() -> Option<PathBuf> {
    let user = User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map(|user| user.dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_somebodys_directory() {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        assert_eq!(expand_user("~"), home);
        assert_eq!(expand_user("~/x/y"), home.join("x/y"));
        assert_eq!(expand_user("~root/x"), PathBuf::from("/root/x"));
        for other in ["x", "/x", "x/~", "~nobody-has-this-name/x", ""] {
            assert_eq!(expand_user(other), PathBuf::from(other));
        }
    }

    #[test]
    fn a_missing_home_is_created_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let home = parent.path().join("home");
        create(&home).unwrap();
        create(&home).unwrap();
        let mode = home.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, HOME_MODE);
        assert!(create(&parent.path().join("no/parent")).is_err());
    }

    #[test]
    fn a_named_home_wins_and_becomes_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(locate(Some("x")).unwrap(), here.join("x"));
        assert_eq!(locate(Some("/x")).unwrap(), PathBuf::from("/x"));
    }
}
