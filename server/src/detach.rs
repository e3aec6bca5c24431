//! `--detach`: running in the background without forking, which safe Rust cannot do.
//!
//! The process that was started runs the program a second time, with a pipe as the child's standard input and the output
//! file as its output, and waits. The child leaves the terminal's session and starts as usual; when it serves, or has
//! failed, it says so through the pipe. So the command returns only when the sockets are bound and the pid file is written, and its exit status tells.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::unistd::{dup2_stdin, setsid};

use crate::error::Error;
use crate::pipes;

/// How the child is told that it is one; [`crate::flags`] hides it.
const CHILD_FLAG: &str = "--report-on-stdin";

/// What the child reports once it serves. Anything else is why it does not.
const READY: &str = "ready\n";

/// Bytes of a child's report.
const MAX_REPORT_BYTES: u64 = 64 * 1024;

/// Starts this program again in the background, with the same arguments, and waits until it serves.
///
/// # Errors
/// Why it does not.
pub fn start_child(output: &Path) -> Result<(), Error> {
    let file = pipes::open_to_append(output).map_err(Error::file("open", output))?;
    let copy = file.try_clone().map_err(Error::file("open", output))?;
    let (report, child_end) = pipe().map_err(Error::system("make a pipe"))?;
    let program = std::env::current_exe().map_err(Error::system("find this program"))?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(&program);
    command
        .arg0(arguments.next().unwrap_or_else(|| program.into()))
        .args(arguments)
        .arg(CHILD_FLAG)
        .stdin(child_end)
        .stdout(copy)
        .stderr(file);
    let child = command
        .spawn()
        .map_err(Error::system("start in the background"))?;
    // The command holds our copy of the child's end, and the pipe ends when the last copy is closed.
    drop(command);
    wait_for(report, child)
}

fn wait_for(report: PipeReader, mut child: Child) -> Result<(), Error> {
    let mut text = String::new();
    report
        .take(MAX_REPORT_BYTES)
        .read_to_string(&mut text)
        .map_err(Error::system("read the report of the background process"))?;
    if text == READY {
        return Ok(());
    }
    // Only when the child has ended is its output complete and everything free for another attempt.
    let status = child
        .wait()
        .map_err(Error::system("wait for the background process"))?;
    if text.is_empty() {
        text = format!("the background process ended while it started: {status}");
    }
    Err(Error::Detached(text))
}

/// The waiting process, seen from the child.
pub struct Parent(File);

impl Parent {
    /// Takes the pipe from standard input, and leaves the terminal's session for one of its own.
    ///
    /// # Errors
    /// When the system refuses one of the steps. The parent learns of it.
    pub fn take_from_stdin() -> Result<Self, Error> {
        let pipe = io::stdin().as_fd().try_clone_to_owned();
        let parent = Self(pipe.map_err(Error::system("keep the pipe"))?.into());
        match leave_terminal() {
            Ok(()) => Ok(parent),
            Err(error) => {
                parent.report(&Err(&error));
                Err(error)
            }
        }
    }

    /// Says that the server serves, or why it does not.
    pub fn report(mut self, started: &Result<(), &Error>) {
        // A parent that is gone has nobody to tell.
        let _ = match started {
            Ok(()) => self.0.write_all(READY.as_bytes()),
            Err(error) => write!(self.0, "{error}"),
        };
    }
}

fn leave_terminal() -> Result<(), Error> {
    let null = File::open("/dev/null").map_err(Error::file("open", Path::new("/dev/null")))?;
    dup2_stdin(null).map_err(Error::system("close standard input"))?;
    setsid().map_err(Error::system("leave the terminal's session"))?;
    Ok(())
}

/// Keeps no file system busy by standing in it. To be called once all relative names are resolved.
///
/// # Errors
/// When even the root directory cannot be entered.
pub fn leave_directory() -> Result<(), Error> {
    std::env::set_current_dir("/").map_err(Error::system("change to /"))
}

/// The file that holds our process id. Dropping it removes the file.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file, over one that an earlier process left behind: that nobody else runs on the same store is known
    /// from the store's lock.
    ///
    /// # Errors
    /// When the file cannot be written, or something else has its name, which must not be removed in the end: a pipe, or a
    /// device.
    pub fn write(path: &Path) -> Result<Self, Error> {
        let is_file_or_new = path.metadata().map_or(true, |there| there.is_file());
        let written = if is_file_or_new {
            fs::write(path, format!("{}\n", std::process::id()))
        } else {
            Err(io::Error::other(
                "there is something that is no regular file",
            ))
        };
        written.map_err(Error::file("write", path))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_pid_file_is_overwritten_and_ours_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        fs::write(&path, "999999999999\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    fn report(started: Result<(), &Error>) -> Result<(), Error> {
        let (report, child_end) = pipe().unwrap();
        let parent = Parent(std::os::fd::OwnedFd::from(child_end).into());
        parent.report(&started);
        wait_for(report, Command::new("true").spawn().unwrap())
    }

    #[test]
    fn the_parent_learns_what_the_child_reports() {
        assert!(report(Ok(())).is_ok());
        let failure = Error::Detached("no luck".to_owned());
        assert_eq!(report(Err(&failure)).unwrap_err().to_string(), "no luck");
    }

    #[test]
    fn a_child_that_dies_is_a_failure() {
        let (silence, child_end) = pipe().unwrap();
        drop(child_end);
        let child = Command::new("false").spawn().unwrap();
        let error = wait_for(silence, child).unwrap_err().to_string();
        assert!(error.ends_with("exit status: 1"), "{error}");
    }
}
