//! What was typed and what the configuration file says, merged into one validated [`Config`].
//!
//! The command line beats the file, the file beats the default. Every problem is collected before any is reported, so
//! that an operator corrects a file once. Values that may hold a password (`DigestDB`, `SentryDSN`) are never shown.
//!
//! | file | job |
//! | --- | --- |
//! | `configparser` | the file's syntax, which is Python's |
//! | `keys` | every setting's name in the file and on the command line |
//! | `values` | what each kind of value means |
//! | `home` | the home directory, `~`, relative names |
//! | `store_choice` | which store, or how to get from the Python server's to ours |
//! | `problems` | what is wrong, and where |

mod configparser;
mod home;
mod keys;
mod problems;
mod store_choice;
mod values;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf, absolute};

use pyzor_protocol::DEFAULT_PORT;
use pyzor_storage::CleanupAge;
use pyzor_storage::redb_engine::{Durability, RedbOptions};

pub use problems::{Origin, Problem, Problems};

use crate::cpus;
use crate::error::Error;
use crate::flags::Flags;
use configparser::ConfigFile;
use keys::Key;
use values::Parsed;

/// Everything the server is started with. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Config {
    /// The home directory.
    pub home: PathBuf,
    /// Where to listen, ports included; no address twice.
    pub listen: Vec<SocketAddr>,
    /// The directory of the store.
    pub digest_db: PathBuf,
    /// How long a record is kept.
    pub cleanup_age: CleanupAge,
    /// Accounts and their keys; `None` if written empty.
    pub passwd_file: Option<PathBuf>,
    /// Who may do what; `None` if written empty.
    pub access_file: Option<PathBuf>,
    /// The log; none by default.
    pub log_file: Option<PathBuf>,
    /// One line a request; none by default.
    pub usage_log_file: Option<PathBuf>,
    /// Holds the process id while a detached server runs; `None` if written empty.
    pub pid_file: Option<PathBuf>,
    /// Whether to log debugging details, and everything to stderr.
    pub debug: bool,
    /// Added to the process's nice level.
    pub nice: i32,
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// How workers talk to the kernel.
    pub io: IoChoice,
    /// When an update is acknowledged.
    pub durability: Durability,
    /// Memory budget of the store's hot set, in bytes.
    pub hot_set_bytes: usize,
    /// Memory budget of the store's page caches together, in bytes.
    pub store_cache_bytes: usize,
    /// What deserves a warning in the log, once there is one.
    pub warnings: Vec<String>,
}

/// How workers talk to the kernel (`Io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// `io_uring` where it works, else `recvmmsg`.
    Auto,
    /// `io_uring`, or refuse to start.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

/// The kinds of store that the reference or we know (`Engine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Redb,
    Gdbm,
    Mysql,
    Redis,
}

/// The configuration file in the home directory.
const CONFIG_FILE: &str = "config";

/// The section of the file that is ours; a client has its own in the same file.
const SECTION: &str = "server";

/// Bytes of a configuration file that we read at most.
const MAX_CONFIG_BYTES: u64 = 256 * 1024;

impl Config {
    /// Reads the home directory that `flags` name, creating it if missing, and merges the two.
    ///
    /// # Errors
    /// When the directory or its file cannot be used, and with every problem of what is written there.
    pub fn load(flags: &Flags) -> Result<Self, Error> {
        let home = home::locate(flags.homedir.as_deref())?;
        home::create(&home)?;
        let path = home.join(CONFIG_FILE);
        let (file, errors) = ConfigFile::parse(&read(&path)?);
        let mut settings = Settings {
            flags,
            home: &home,
            file,
            problems: Problems::default(),
            warnings: Vec::new(),
            path,
        };
        settings.report_syntax(errors);
        settings.warn_of_ignored_keys();
        let config = settings.config();
        if settings.problems.is_empty() {
            Ok(Self {
                warnings: settings.warnings,
                ..config
            })
        } else {
            Err(Error::Config(settings.problems))
        }
    }
}

/// Where a server in the background writes its output, if it is to run there. A relative name is relative to the
/// working directory: nothing but the command line names it.
///
/// # Errors
/// When the working directory is gone.
pub fn detach_file(flags: &Flags) -> Result<Option<PathBuf>, Error> {
    let name = flags.detach.as_deref().filter(|name| !name.is_empty());
    name.map(home::expand_user)
        .map(|path| absolute(&path).map_err(Error::file("resolve", &path)))
        .transpose()
}

/// The file's text; a file that is not there says nothing.
fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => {
            file.take(MAX_CONFIG_BYTES)
                .read_to_string(&mut text)
                .map_err(Error::file("read", path))?;
            Ok(text)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(text),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// Both sources, and what was found wrong with them so far.
struct Settings<'a> {
    flags: &'a Flags,
    home: &'a Path,
    file: ConfigFile,
    path: PathBuf,
    problems: Problems,
    warnings: Vec<String>,
}

/// What was written for one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    origin: Origin,
    value: String,
}

impl Settings<'_> {
    fn config(&mut self) -> Config {
        self.refuse_forwarding();
        let port = self.value(&keys::PORT, DEFAULT_PORT, values::port);
        let everywhere = values::listen("", port).unwrap_or_default();
        let store = RedbOptions::default();
        Config {
            home: self.home.to_owned(),
            listen: self.value(&keys::LISTEN_ADDRESS, everywhere, |text| {
                values::listen(text, port)
            }),
            digest_db: self.store(),
            cleanup_age: self.value(&keys::CLEANUP_AGE, store.cleanup_age, values::cleanup_age),
            passwd_file: self.path(&keys::PASSWD_FILE, Some("pyzord.passwd")),
            access_file: self.path(&keys::ACCESS_FILE, Some("pyzord.access")),
            log_file: self.path(&keys::LOG_FILE, None),
            usage_log_file: self.path(&keys::USAGE_LOG_FILE, None),
            pid_file: self.path(&keys::PID_FILE, Some("pyzord.pid")),
            debug: self.flags.debug,
            nice: self.value(&keys::NICE, 0, values::nice),
            workers: self.value(&keys::WORKERS, cpus::default_workers(), values::workers),
            io: self.value(&keys::IO, IoChoice::Auto, values::io),
            durability: self.value(&keys::DURABILITY, store.durability, values::durability),
            hot_set_bytes: self.value(&keys::HOT_SET_MEMORY, store.hot_set_bytes, values::memory),
            store_cache_bytes: self.value(&keys::STORE_CACHE, store.cache_bytes, values::memory),
            warnings: Vec::new(),
        }
    }

    /// What was written for `key`, the command line first. A value that cannot be expanded is a problem.
    fn written(&mut self, key: &Key) -> Option<Written> {
        if let Some(typed) = (key.typed)(self.flags) {
            return Some(Written {
                origin: Origin::Flag(key.flag),
                value: typed.to_owned(),
            });
        }
        match self.file.get(SECTION, key.name)? {
            Ok(value) => Some(Written {
                origin: Origin::File {
                    path: self.path.clone(),
                    line: value.line,
                    key: key.name,
                },
                value: value.text,
            }),
            Err(error) => {
                self.report_syntax([error]);
                None
            }
        }
    }

    /// The value of `key`; a wrong one is a problem and reads as the default.
    fn value<T>(&mut self, key: &Key, default: T, parse: impl Fn(&str) -> Parsed<T>) -> T {
        let Some(Written { origin, value }) = self.written(key) else {
            return default;
        };
        parse(&value).unwrap_or_else(|expected| {
            self.problems.push(Problem::Value {
                origin,
                value,
                expected,
            });
            default
        })
    }

    /// A file name, relative to the home directory; an empty one means none, as in the reference.
    fn path(&mut self, key: &Key, default: Option<&str>) -> Option<PathBuf> {
        let name = self.written(key).map(|written| written.value);
        name.as_deref()
            .or(default)
            .filter(|name| !name.is_empty())
            .map(|name| self.home.join(home::expand_user(name)))
    }

    fn store(&mut self) -> PathBuf {
        let engine = self.written(&keys::ENGINE).and_then(|written| {
            let engine = self.value(&keys::ENGINE, None, |text| values::engine(text).map(Some));
            engine.map(|engine| (engine, written.origin))
        });
        let digest_db = self.written(&keys::DIGEST_DB);
        match store_choice::choose(self.home, &self.path, engine, digest_db) {
            Ok(choice) => {
                self.warnings.extend(choice.warning);
                choice.directory
            }
            Err(problem) => {
                self.problems.push(Problem::Other(problem));
                PathBuf::new()
            }
        }
    }

    fn refuse_forwarding(&mut self) {
        let written = self.written(&keys::FORWARD_CLIENT_HOMEDIR);
        if let Some(Written { origin, value }) = written.filter(|written| !written.value.is_empty())
        {
            self.problems.push(Problem::Value {
                origin,
                value,
                expected: "nothing: this server does not forward yet; remove it to start without"
                    .to_owned(),
            });
        }
    }

    fn report_syntax(&mut self, errors: impl IntoIterator<Item = configparser::SyntaxError>) {
        let path = &self.path;
        self.problems
            .extend(errors.into_iter().map(|error| Problem::Syntax {
                path: path.clone(),
                line: error.line,
                message: error.message,
            }));
    }

    fn warn_of_ignored_keys(&mut self) {
        for key in keys::OF_THE_PYTHON_SERVER {
            if let Some(written) = self.written(key) {
                self.warnings.push(format!(
                    "{} is ignored: Workers decides how many threads answer requests",
                    written.origin
                ));
            }
        }
        for (name, line) in self.file.options(SECTION) {
            if let Some(reason) = reason_to_ignore(name) {
                let path = self.path.display();
                self.warnings
                    .push(format!("{path}:{line}: {name} is ignored: {reason}"));
            }
        }
    }
}

fn reason_to_ignore(name: &str) -> Option<&'static str> {
    let is_known = |key: &&Key| key.name.eq_ignore_ascii_case(name);
    if keys::ALL
        .iter()
        .chain(keys::OF_THE_PYTHON_SERVER)
        .any(is_known)
    {
        None
    } else if name.to_ascii_lowercase().starts_with(keys::SENTRY_PREFIX) {
        Some("this server reports errors to its log alone")
    } else {
        Some("there is no such key")
    }
}
