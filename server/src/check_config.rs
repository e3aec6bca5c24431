//! `--check-config`: everything that a start reads, and nothing that it writes.
//!
//! A server may be running on the same files: no lock is taken, and an address that is in use is no mistake.

use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::access_files;
use crate::config::{self, Config};
use crate::error::Error;
use crate::flags::Flags;
use crate::log::LogTarget;
use crate::pipes;
use crate::startup::{choose_io, set_nice};

/// Prints that a server would start, or returns every reason why not. What has no effect, and was meant to have one, is a
/// reason here; a server only warns of it.
///
/// # Errors
/// Those reasons.
pub(crate) fn run(flags: &Flags) -> Result<(), Error> {
    let (config, wrong) = Config::look_at(flags)?;
    for warning in &config.warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    let (passwd_file, access_file) = (config.passwd_file.as_ref(), config.access_file.as_ref());
    let (unusable, without_effect) = access_files::look_at(passwd_file, access_file);
    let mut problems: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    problems.extend(config.mistakes.iter().cloned());
    problems.extend(unusable.iter().map(ToString::to_string));
    problems.extend(without_effect);
    let files = files(flags, &config);
    let addresses = config
        .listen
        .iter()
        .filter_map(|address| bind(*address).err());
    let io = choose_io(&config).err();
    let nice = set_nice(config.nice).err();
    let others = files.into_iter().chain(addresses).chain(io).chain(nice);
    problems.extend(others.map(|error| error.to_string()));
    if !problems.is_empty() {
        return Err(Error::Check(problems));
    }
    let _ = writeln!(
        io::stdout(),
        "pyzord would start in {}",
        config.home.display()
    );
    Ok(())
}

/// What is wrong with files and directories that a start opens.
fn files(flags: &Flags, config: &Config) -> Vec<Error> {
    let mut errors = Vec::new();
    let home = &config.home;
    if let Err(error) = creatable(home) {
        errors.push(Error::file("create", home)(error));
        return errors;
    }
    // What lies in a home directory that is still to be made needs no other look.
    let in_new_home = |path: &Path| path.starts_with(home) && !home.exists();
    let logs = [&config.log_file, &config.usage_log_file];
    let logs = logs
        .into_iter()
        .flatten()
        .filter_map(|target| match target {
            LogTarget::File(path) => Some(path),
            LogTarget::Stderr => None,
        });
    let detached = config::detach_file(flags).unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let pid_file = config.pid_file.as_ref().filter(|_| detached.is_some());
    let recording = config.record.as_ref().map(|record| &record.file);
    let opened = logs.chain(recording).chain(pid_file).chain(&detached);
    for path in opened.filter(|path| !in_new_home(path)) {
        errors.extend(writable(path).map_err(Error::file("open", path)).err());
    }
    if !in_new_home(&config.digest_db) {
        errors.extend(store(&config.digest_db));
    }
    errors
}

/// Whether a file can be appended to, or made.
fn writable(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(there) if there.is_dir() => Err(ErrorKind::IsADirectory.into()),
        // Only opening it tells whether somebody reads.
        Ok(there) if there.file_type().is_fifo() => pipes::open_to_append(path).map(drop),
        Ok(_) => may(path, AccessFlags::W_OK),
        Err(error) if error.kind() == ErrorKind::NotFound => creatable(path),
        Err(error) => Err(error),
    }
}

/// Whether something is there, or can be made in a directory that is.
fn creatable(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            may(parent, AccessFlags::W_OK | AccessFlags::X_OK)
        }
        found => found.map(|_| ()),
    }
}

/// What is wrong with the store, as far as permissions go: a server may be running on it.
fn store(directory: &Path) -> Vec<Error> {
    if directory.as_os_str().is_empty() {
        // What is configured names none, which has been said.
        return Vec::new();
    }
    if let Err(error) = creatable(directory) {
        return vec![Error::file("create", directory)(error)];
    }
    if !directory.exists() {
        return Vec::new();
    }
    let all = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let files = may(directory, all).and_then(|()| directory.read_dir()?.collect());
    let files: Vec<_> = match files {
        Ok(files) => files,
        Err(error) => return vec![Error::file("use", directory)(error)],
    };
    let read_and_write = AccessFlags::R_OK | AccessFlags::W_OK;
    files
        .into_iter()
        .map(|file: std::fs::DirEntry| file.path())
        .filter_map(|path| {
            may(&path, read_and_write)
                .err()
                .filter(|error| error.kind() != ErrorKind::NotFound)
                .map(Error::file("open", &path))
        })
        .collect()
}

fn may(path: &Path, what: AccessFlags) -> io::Result<()> {
    Ok(access(path, what)?)
}

/// Whether the address is ours and the port may be had. Somebody may have it already: a server that runs.
fn bind(address: SocketAddr) -> Result<(), Error> {
    match UdpSocket::bind(address) {
        Err(source) if source.kind() != ErrorKind::AddrInUse => Err(Error::Socket {
            action: "bind",
            address,
            source,
        }),
        _ => Ok(()),
    }
}
