//! Where the home directory is, and what `~` means in a file's name, for server and client alike. What the system knows
//! of its users is asked through a function, so that nothing is read here.

use std::path::{Path, PathBuf};

/// The configuration file in the home directory.
pub const CONFIG_FILE: &str = "config";

/// Permissions of a home directory that is created.
pub const HOME_MODE: u32 = 0o700;

/// The home directory of programs whose user has none.
const SYSTEM_HOME: &str = "/etc/pyzor";

/// The home directory's name in a user's own directory.
const NAME_AT_HOME: &str = ".pyzor";

/// The directory that was named, else `.pyzor` in the user's own, which `HOME` names, else the system's.
///
/// It is relative if the name is. `directory_of` is that of [`expand_user`].
pub fn locate(
    named: Option<&str>,
    user_home: Option<&Path>,
    directory_of: impl FnOnce(Option<&str>) -> Option<PathBuf>,
) -> PathBuf {
    match (named, user_home) {
        (Some(named), _) => expand_user(named, directory_of),
        (None, Some(user_home)) => user_home.join(NAME_AT_HOME),
        (None, None) => PathBuf::from(SYSTEM_HOME),
    }
}

/// Replaces a leading `~` or `~user` by that user's directory, which `directory_of` tells: that of the user of this name, or
/// without a name our own. An unknown user's name stays as it is.
pub fn expand_user(
    name: &str,
    directory_of: impl FnOnce(Option<&str>) -> Option<PathBuf>,
) -> PathBuf {
    let Some(rest) = name.strip_prefix('~') else {
        return PathBuf::from(name);
    };
    let (user, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match directory_of((!user.is_empty()).then_some(user)) {
        Some(directory) if rest.is_empty() => directory,
        Some(directory) => directory.join(rest),
        None => PathBuf::from(name),
    }
}

/// The lowest directory above `path` that may not be entered, so that nobody knows what is in it; `is_out_of_reach` tells
/// whether the system denies the permission to look at a path.
pub fn closed_above(path: &Path, is_out_of_reach: impl Fn(&Path) -> bool) -> Option<&Path> {
    let mut downwards = path.ancestors().collect::<Vec<_>>().into_iter().rev();
    let out_of_reach = downwards.find(|path| is_out_of_reach(path))?;
    out_of_reach.parent().filter(|path| *path != Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory_of(user: Option<&str>) -> Option<PathBuf> {
        match user {
            None => Some("/home/me".into()),
            Some("root") => Some("/root".into()),
            Some(_) => None,
        }
    }

    #[test]
    fn a_tilde_is_somebodys_directory() {
        let expand = |name| expand_user(name, directory_of);
        assert_eq!(expand("~"), PathBuf::from("/home/me"));
        assert_eq!(expand("~/x/y"), PathBuf::from("/home/me/x/y"));
        assert_eq!(expand("~root/x"), PathBuf::from("/root/x"));
        for other in ["x", "/x", "x/~", "~stranger/x", ""] {
            assert_eq!(expand(other), PathBuf::from(other));
        }
    }

    #[test]
    fn the_directory_that_is_closed_is_found() {
        let below = |closed: &'static str| {
            move |path: &Path| path.starts_with(closed) && path != Path::new(closed)
        };
        let home = Path::new("/root/x/home");
        assert_eq!(closed_above(home, below("/root")), Some(Path::new("/root")));
        assert_eq!(closed_above(home, below("/root/x")), home.parent());
        assert_eq!(closed_above(home, |_| false), None);
        assert_eq!(closed_above(Path::new("home"), |_| true), None);
    }

    #[test]
    fn a_named_home_wins() {
        let user_home = Some(Path::new("/home/me"));
        let locate = |named, user_home| locate(named, user_home, directory_of);
        assert_eq!(locate(Some("~root"), user_home), PathBuf::from("/root"));
        assert_eq!(locate(None, user_home), PathBuf::from("/home/me/.pyzor"));
        assert_eq!(locate(None, None), PathBuf::from("/etc/pyzor"));
    }
}
