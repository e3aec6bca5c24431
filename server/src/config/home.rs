//! The home directory, and what `~` and relative names mean.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf, absolute};

use nix::unistd::User;

use crate::error::Error;

/// The home directory of a server whose user has none.
const SYSTEM_HOME: &str = "/etc/pyzor";

/// Permissions of a home directory that we create.
const HOME_MODE: u32 = 0o700;

/// The directory that `--homedir` names, else `$HOME/.pyzor`, else the system's; absolute.
///
/// # Errors
/// When the working directory, which a relative name needs, is gone.
pub(super) fn locate(homedir: Option<&str>) -> Result<PathBuf, Error> {
    let home = match (homedir, user_home()) {
        (Some(named), _) => expand_user(named),
        (None, Some(user_home)) => PathBuf::from(user_home).join(".pyzor"),
        (None, None) => PathBuf::from(SYSTEM_HOME),
    };
    absolute(&home).map_err(Error::file("resolve", &home))
}

/// Makes the home directory if it is missing; its parent must be there.
///
/// # Errors
/// When it cannot be created.
pub(super) fn create(home: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(HOME_MODE).create(home) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::file("create", home)(error))
        }
        _ => Ok(()),
    }
}

/// Replaces a leading `~` or `~user` by that user's directory. An unknown user's name stays as it is.
pub(super) fn expand_user(name: &str) -> PathBuf {
    let Some(rest) = name.strip_prefix('~') else {
        return PathBuf::from(name);
    };
    let (user, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let directory = if user.is_empty() {
        user_home().map(PathBuf::from).or_else(own_directory)
    } else {
        User::from_name(user).ok().flatten().map(|user| user.dir)
    };
    match directory {
        Some(directory) if rest.is_empty() => directory,
        Some(directory) => directory.join(rest),
        None => PathBuf::from(name),
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
