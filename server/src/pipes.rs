//! Files that may be named pipes. Opening one waits for somebody at its other end, without a bound and deaf to TERM; nothing
//! here does.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Opens what has to be read whole, now and after every reload, which a pipe does not give.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    if path.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other(
            "it is a pipe, and has to be a file that can be read again",
        ));
    }
    File::open(path)
}

/// Opens what grows at its end: a file, made if need be, a device, or a pipe, which must have a reader. Writing to a pipe
/// may wait.
pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true);
    let file = options.custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) if path.metadata().is_ok_and(|m| m.file_type().is_socket()) => {
            io::Error::other("it is a socket; for standard error, write stderr")
        }
        Some(libc::ENXIO) => io::Error::other("it is a pipe, and nobody reads from it"),
        _ => error,
    })?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}
