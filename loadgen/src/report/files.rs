//! The files that results go to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Fails if one of `outputs` cannot be written, or is one that is read, or another output: to be called before a long run
/// rather than found out after it.
pub(crate) fn try_files<'p>(
    outputs: impl IntoIterator<Item = &'p Option<PathBuf>>,
    inputs: impl IntoIterator<Item = &'p Path>,
) -> Result<(), Error> {
    let mut taken: Vec<Identity> = inputs.into_iter().filter_map(Identity::of).collect();
    for path in outputs.into_iter().flatten() {
        try_file(path)?;
        if let Some(identity) = Identity::of(path) {
            if taken.contains(&identity) {
                return Err(Error::Overwrites(path.clone()));
            }
            taken.push(identity);
        }
    }
    Ok(())
}

/// Which file a path leads to; a device can be written by many.
#[derive(PartialEq, Eq)]
enum Identity {
    /// By device and number.
    There(u64, u64),
    /// In a folder that is there.
    New(PathBuf),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        if let Ok(found) = path.metadata() {
            return found
                .is_file()
                .then(|| Self::There(found.dev(), found.ino()));
        }
        let folder = match path.parent()? {
            empty if empty.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        };
        let folder = folder.canonicalize().ok()?;
        Some(Self::New(folder.join(path.file_name()?)))
    }
}

/// Fails if a file cannot be written. One that is there keeps what is in it; one that is not is not left behind: there may
/// never be a result.
fn try_file(path: &Path) -> Result<(), Error> {
    let was_there = path.symlink_metadata().is_ok();
    let tried = OpenOptions::new().create(true).append(true).open(path);
    let tried = tried.and_then(|_| {
        if was_there {
            Ok(())
        } else {
            fs::remove_file(path)
        }
    });
    tried.map_err(|source| Error::Write(path.to_owned(), source))
}

/// Writes a file anew, whatever `content` writes.
pub(crate) fn write_file(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Error> {
    let written = File::create(path).map(BufWriter::new).and_then(|mut out| {
        content(&mut out)?;
        out.flush()
    });
    written.map_err(|source| Error::Write(path.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_file_is_written_twice_or_over_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("trace"), "requests").unwrap();
        symlink(path("trace"), path("link")).unwrap();
        fs::hard_link(path("trace"), path("name")).unwrap();
        symlink(folder.path(), path("folder")).unwrap();
        let trace = path("trace");
        let tried = |outputs: &[&str]| {
            let outputs: Vec<_> = outputs.iter().map(|name| Some(path(name))).collect();
            try_files(&outputs, [trace.as_path()])
        };
        for wrong in [
            &["trace"][..],
            &["link"],
            &["name"],
            &["folder/trace"],
            &["a", "a"],
            &["a", "folder/a"],
        ] {
            let error = tried(wrong).unwrap_err();
            assert!(matches!(error, Error::Overwrites(_)), "{wrong:?}: {error}");
        }
        tried(&["a", "b", "/dev/null", "/dev/null"]).unwrap();
        assert!(!path("a").exists());
        assert_eq!(fs::read(&trace).unwrap(), b"requests");
    }
}
