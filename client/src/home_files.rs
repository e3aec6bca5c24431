//! The files of the home directory: where they are, and what the lines of the servers, accounts and whitelist files mean.
//!
//! A file that is not there says nothing. One that is there and cannot be read is an error.

use std::collections::HashMap;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::unistd::User;
use pyzor_protocol::home_directory::{self, CONFIG_FILE, HOME_MODE};
use pyzor_protocol::{AccountKey, DEFAULT_PORT, client_accounts};

use crate::error::Error;
use crate::log::Log;

/// Whom to ask when nobody says otherwise.
const PUBLIC_SERVER: &str = "public.pyzor.org";

/// Servers that are asked at most; each takes a socket.
const MAX_SERVERS: usize = 64;

/// Bytes of a file in the home directory that are read at most.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// A server as the servers and accounts files name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerName {
    /// Its name or address; an IPv6 address without its brackets.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
}

impl ServerName {
    /// Reads `HOST:PORT` or `[ADDRESS]:PORT`.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::new(host.trim(), port.trim().parse().ok()?)
    }

    /// Whether its address has to be looked up.
    pub(crate) fn is_looked_up(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    /// Takes the brackets off a host that has some.
    fn new(host: &str, port: u16) -> Option<Self> {
        let inside = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_host = |host: &str| !host.is_empty() && !host.contains(char::is_whitespace);
        let host = match inside {
            Some(address) => address,
            None if host.contains(':') => return None,
            None => host,
        };
        is_host(host).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// As it stands in the file and before each answer.
impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Who asks a server, and with which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub user: Box<[u8]>,
    /// What signs for it.
    pub key: AccountKey,
}

/// The home directory that was named, or the user's.
pub fn home(named: Option<&str>) -> PathBuf {
    let user_home = user_home();
    home_directory::locate(named, user_home.as_deref(), directory_of)
}

/// Makes the home directory if it is missing; its parent must be there.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn create_home(home: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(HOME_MODE).create(home) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            match home_directory::closed_above(home, is_out_of_reach) {
                Some(closed) => Err(Error::file("enter", closed)(error)),
                None => Err(Error::file("create the home directory", home)(error)),
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
pub(crate) fn expand_user(name: &str) -> PathBuf {
    home_directory::expand_user(name, directory_of)
}

/// Path and text of the configuration file.
///
/// # Errors
/// When it cannot be read, or is no text.
pub(crate) fn config(home: &Path) -> Result<(PathBuf, String), Error> {
    let path = home.join(CONFIG_FILE);
    let content = read(&path)?.unwrap_or_default();
    match String::from_utf8(content) {
        Ok(text) => Ok((path, text)),
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.split(|&byte| byte == b'\n').count();
            Err(Error::Line {
                path,
                line,
                message: "expected UTF-8 text".to_owned(),
            })
        }
    }
}

/// The servers to ask, in the file's order: never none. Lines that name none are skipped and logged.
///
/// # Errors
/// When the file cannot be read, names too many, or has lines but no server: it meant somebody else than the public one.
pub(crate) fn servers(path: Option<&Path>, log: &Log) -> Result<Vec<ServerName>, Error> {
    let Some(path) = path else {
        return Ok(vec![public_server()]);
    };
    let Some(content) = read(path)? else {
        return Ok(vec![public_server()]);
    };
    let (servers, wrong_lines) = parse_servers(&content);
    for line in &wrong_lines {
        let path = path.display();
        log.warning(&format!("{path}:{line}: expected HOST:PORT; skipped"));
    }
    let path = || path.to_owned();
    match (servers.len(), wrong_lines.first()) {
        (0, None) => {
            let public = public_server();
            let path = path().display().to_string();
            log.warning(&format!("{path} names no server: {public} is asked"));
            Ok(vec![public])
        }
        (0, Some(&line)) => Err(Error::NoServer { path: path(), line }),
        (1..=MAX_SERVERS, _) => Ok(servers),
        _ => Err(Error::TooManyServers {
            path: path(),
            most: MAX_SERVERS,
        }),
    }
}

/// The accounts file.
#[derive(Debug, Default)]
pub(crate) struct AccountsFile {
    /// By server; a later line for the same server wins.
    pub(crate) accounts: HashMap<ServerName, Account>,
    /// What is wrong with the first line that is no account, and where.
    pub(crate) problem: Option<String>,
}

/// The accounts. Lines that are none are skipped and logged.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn accounts(path: Option<&Path>, log: &Log) -> Result<AccountsFile, Error> {
    let mut file = AccountsFile::default();
    let Some(path) = path else {
        return Ok(file);
    };
    let content = read(path)?.unwrap_or_default();
    for account in client_accounts(&content) {
        let account = account.map_err(|problem| problem.to_string());
        let account = account.and_then(|account| {
            let server = ServerName::new(account.host, account.port)
                .ok_or_else(|| format!("{} is no host; skipped", account.host))?;
            let (user, key) = (account.user.into(), account.key);
            Ok((server, Account { user, key }))
        });
        match account {
            Ok((server, account)) => {
                file.accounts.insert(server, account);
            }
            Err(problem) => {
                let problem = format!("{}: {problem}", path.display());
                log.warning(&problem);
                file.problem.get_or_insert(problem);
            }
        }
    }
    Ok(file)
}

/// The content of a file of the home directory, if it is there.
///
/// # Errors
/// When it cannot be read, or is larger than any that people write.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::file("read", path))?,
    };
    let mut content = Vec::new();
    // One byte more tells a file that is too large from one that just fits.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(Error::file("read", path))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::file("read", path)(ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(content))
}

/// Opening a pipe would wait for somebody at its other end, and there would be nothing in it the next time.
fn open(path: &Path) -> io::Result<File> {
    if path.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other(
            "it is a pipe, and has to be a file that can be read again",
        ));
    }
    File::open(path)
}

fn public_server() -> ServerName {
    ServerName {
        host: PUBLIC_SERVER.to_owned(),
        port: DEFAULT_PORT,
    }
}

/// The lines that are not empty, with their numbers, as Python reads a text file: without white space around them, whatever
/// ends them. A byte order mark is no part of the text.
pub(crate) fn text_lines(content: &[u8]) -> impl Iterator<Item = (usize, String)> {
    let text = String::from_utf8_lossy(content).replace("\r\n", "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_white = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let lines = text.split(['\n', '\r']).zip(1..);
    let lines: Vec<_> = lines
        .map(|(line, number)| (number, line.trim_matches(is_white).to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect();
    lines.into_iter()
}

/// The servers, and the numbers of the lines that say something else.
fn parse_servers(content: &[u8]) -> (Vec<ServerName>, Vec<usize>) {
    let (mut servers, mut wrong_lines) = (Vec::new(), Vec::new());
    for (number, line) in text_lines(content) {
        if line.starts_with('#') {
            continue;
        }
        match ServerName::parse(&line) {
            Some(server) => servers.push(server),
            None => wrong_lines.push(number),
        }
    }
    (servers, wrong_lines)
}

/// What the system knows: the directory of this user, or our own.
fn directory_of(user: Option<&str>) -> Option<PathBuf> {
    match user {
        None => user_home().or_else(|| {
            let user = User::from_uid(nix::unistd::getuid()).ok().flatten();
            user.map(|user| user.dir)
        }),
        Some(user) => User::from_name(user).ok().flatten().map(|user| user.dir),
    }
}

fn user_home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn name(host: &str, port: u16) -> ServerName {
        ServerName {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn servers_are_read_and_shown_as_they_stand() {
        let text = "# mine\n\n a.example:1 \n[::1]:24441\r\n127.0.0.1 : 3\n a\n::1:4\n:5\nb:99999\nb:6 # c\n";
        let (servers, wrong_lines) = parse_servers(text.as_bytes());
        assert_eq!(
            servers,
            [
                name("a.example", 1),
                name("::1", 24441),
                name("127.0.0.1", 3)
            ]
        );
        assert_eq!(wrong_lines, [6, 7, 8, 9, 10]);
        assert_eq!(servers[0].to_string(), "a.example:1");
        assert_eq!(servers[1].to_string(), "[::1]:24441");
    }

    #[test]
    fn text_files_are_read_as_python_reads_them() {
        let text = "\u{feff}# mine\ra:1\r\n\u{a0}b:2\u{2028}\n\n\x1fc:3\r\r# d:4";
        let (servers, wrong_lines) = parse_servers(text.as_bytes());
        assert_eq!(servers, [name("a", 1), name("b", 2), name("c", 3)]);
        assert_eq!(wrong_lines, [0; 0]);
        let numbers: Vec<_> = text_lines(text.as_bytes())
            .map(|(number, _)| number)
            .collect();
        assert_eq!(numbers, [1, 2, 3, 5, 7]);
    }

    #[test]
    fn without_a_server_the_public_one_is_asked_unless_another_was_meant() {
        let log = Log::open(None, false).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("servers");
        let public = [name("public.pyzor.org", 24441)];
        assert_eq!(servers(None, &log).unwrap(), public);
        assert_eq!(servers(Some(&path), &log).unwrap(), public);
        fs::write(&path, "# nothing\n\n").unwrap();
        assert_eq!(servers(Some(&path), &log).unwrap(), public);
        fs::write(&path, "# mine\nmirror\n").unwrap();
        let error = servers(Some(&path), &log).unwrap_err().to_string();
        assert!(error.contains(":2: expected HOST:PORT"), "{error}");
        fs::write(&path, "a:1\n".repeat(MAX_SERVERS + 1)).unwrap();
        assert!(servers(Some(&path), &log).is_err());
        assert!(servers(Some(directory.path()), &log).is_err());
    }

    #[test]
    fn accounts_belong_to_servers() {
        let log = Log::open(None, false).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accounts");
        assert!(accounts(Some(&path), &log).unwrap().accounts.is_empty());
        let text = "[::1] : 1 : bob : a,b\njunk\na : 1 : eve : a,b\na:1:alice:,c\n";
        fs::write(&path, text).unwrap();
        let AccountsFile { accounts, problem } = accounts(Some(&path), &log).unwrap();
        assert!(problem.unwrap().contains("line 2: expected"));
        assert_eq!(accounts.len(), 2);
        assert_eq!(*accounts[&name("::1", 1)].user, *b"bob");
        assert_eq!(accounts[&name("a", 1)].key, AccountKey::new(b"alice", b"c"));
    }

    #[test]
    fn a_missing_home_is_created_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let home = parent.path().join("home");
        create_home(&home).unwrap();
        create_home(&home).unwrap();
        let mode = home.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, HOME_MODE);
        assert!(create_home(&parent.path().join("no/parent")).is_err());
    }
}
