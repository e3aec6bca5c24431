//! Where peers connect: TCP ports, unix sockets, and listening sockets that systemd passes on.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use listenfd::ListenFd;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::error::Error;

/// Peers that may wait for us to take them on. The kernel may allow fewer: `net.core.somaxconn`.
const LISTEN_BACKLOG: i32 = 1024;

/// Where to listen, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `HOST:PORT` or `[IPv6]:PORT`
    Tcp(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    /// Whatever has a slash is a path.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        match text.rsplit_once(':') {
            Some((host, port)) if is_port(port) && is_one_host(host) => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err("expected HOST:PORT, [IPV6]:PORT, or a path with a slash".to_owned()),
        }
    }
}

/// An IPv6 address without brackets is several fields, the last of which is no port.
fn is_one_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.ends_with(']'),
        None => !host.is_empty() && !host.contains(':'),
    }
}

/// A listening socket. Dropping it stops listening, and removes the file of a unix socket that is ours.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Listening,
    file: Option<SocketFile>,
    /// For the log.
    name: String,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens on `address`, a unix socket with the permissions `mode`. To be called within a runtime.
    pub(super) fn bind(address: &ListenAddress, mode: u32) -> Result<Self, Error> {
        match address {
            ListenAddress::Tcp(address) => Self::bind_tcp(address),
            ListenAddress::Unix(path) => Self::bind_unix(path, mode),
        }
    }

    /// The listening sockets that the parent process, such as systemd, passed on by `LISTEN_FDS`. To be called within a
    /// runtime.
    pub(super) fn passed_on(passed: &mut ListenFd) -> Result<Vec<Self>, Error> {
        (0..passed.len())
            .map(|index| {
                let number = index + 1;
                take(passed, index).map_err(|source| Error::PassedSocket { number, source })
            })
            .collect()
    }

    /// As the log names it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The next peer.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Listening::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            Listening::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }

    fn bind_tcp(address: &str) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            address: address.to_owned(),
            source,
        };
        let listener = StdTcpListener::bind(address).map_err(failed)?;
        Self::from_tcp(listener).map_err(failed)
    }

    fn bind_unix(path: &Path, mode: u32) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            address: path.display().to_string(),
            source,
        };
        remove_left_over(path).map_err(failed)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        let address = SockAddr::unix(path).map_err(failed)?;
        socket.bind(&address).map_err(failed)?;
        let file = SocketFile::at(path).map_err(failed)?;
        // Before it listens: nobody is refused who may connect, and the other way round.
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
        let mut listener = Self::from_unix(socket.into()).map_err(failed)?;
        listener.file = Some(file);
        Ok(listener)
    }

    fn from_tcp(listener: StdTcpListener) -> io::Result<Self> {
        SockRef::from(&listener).listen(LISTEN_BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            name: listener.local_addr()?.to_string(),
            socket: Listening::Tcp(TcpListener::from_std(listener)?),
            file: None,
        })
    }

    fn from_unix(listener: StdUnixListener) -> io::Result<Self> {
        SockRef::from(&listener).listen(LISTEN_BACKLOG)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let name = address.as_pathname().map_or_else(
            || "a unix socket".to_owned(),
            |path| path.display().to_string(),
        );
        Ok(Self {
            name,
            socket: Listening::Unix(UnixListener::from_std(listener)?),
            file: None,
        })
    }
}

/// The passed socket number `index`, which must listen: with `Accept=yes`, systemd passes a connection.
fn take(passed: &mut ListenFd, index: usize) -> io::Result<Listener> {
    if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
        must_listen(&SockRef::from(&listener))?;
        return Listener::from_tcp(listener);
    }
    match passed.take_unix_listener(index)? {
        Some(listener) => {
            must_listen(&SockRef::from(&listener))?;
            Listener::from_unix(listener)
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn must_listen(socket: &SockRef<'_>) -> io::Result<()> {
    if socket.is_listener()? {
        return Ok(());
    }
    let why = "it is a connection; with Accept=yes run `pyzor check` instead";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Removes a unix socket that a process left which was killed.
fn remove_left_over(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    // Only a connection tells whether somebody listens.
    if is_socket && is_refused(StdUnixStream::connect(path)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn is_refused(connected: io::Result<StdUnixStream>) -> bool {
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A unix socket's file, removed when dropped, unless another process has put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
        })
    }

    fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_still_there() {
            // Somebody else may be faster, which is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A connected peer.
#[derive(Debug)]
pub(super) enum Stream {
    /// By TCP.
    Tcp(TcpStream),
    /// By a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Waits until there is something to read, or the peer has shut its side.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Reads what has arrived; 0 bytes once the peer has shut its side.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        }
    }

    /// Writes all of `bytes`.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await?;
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port_or_a_path() {
        for text in ["127.0.0.1:5953", "[::1]:5953", "localhost:0"] {
            assert_eq!(text.parse(), Ok(ListenAddress::Tcp(text.to_owned())));
        }
        for text in ["/run/pyzor.sock", "./pyzor:1"] {
            assert_eq!(text.parse(), Ok(ListenAddress::Unix(text.into())));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "5953",
            ":5953",
            "host:",
            "host:65536",
            "::1:5953",
            "[::1:5953",
            "[::1]",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_dead_socket_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        remove_left_over(&path).unwrap();
        let living = StdUnixListener::bind(&path).unwrap();
        remove_left_over(&path).unwrap();
        assert!(path.exists(), "somebody listens");
        drop(living);
        remove_left_over(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        remove_left_over(&path).unwrap();
        assert!(path.exists(), "it is no socket");
    }

    #[test]
    fn a_file_that_another_has_put_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = StdUnixListener::bind(&path).unwrap();
        let file = SocketFile::at(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let second = StdUnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(SocketFile::at(&path).unwrap());
        assert!(!path.exists());
        drop((first, second));
    }
}
