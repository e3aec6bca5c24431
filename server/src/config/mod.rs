//! What was typed and what the configuration file says, merged into one validated [`Config`].
//!
//! The command line beats the file, the file beats the default. Every problem is collected before any is reported, so
//! that an operator corrects a file once. Values that may hold a password (`DigestDB`, `SentryDSN`) are never shown.
//!
//! | file | job |
//! | --- | --- |
//! | `settings` | both sources merged, problems collected |
//! | `keys` | every setting's name in the file and on the command line |
//! | `values` | what each kind of value means |
//! | `home` | the home directory, `~`, relative names |
//! | `store_choice` | which store, or how to get from the Python server's to ours |
//! | `problems` | what is wrong, and where |

mod home;
mod keys;
mod problems;
mod settings;
mod store_choice;
mod values;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf, absolute};
use std::string::FromUtf8Error;

use pyzor_protocol::configparser::Origin;
use pyzor_protocol::home_directory::CONFIG_FILE;
use pyzor_storage::CleanupAge;
use pyzor_storage::redb_engine::Durability;

pub use problems::{Problem, Problems};

use crate::access_files::UsersFile;
use crate::bounded_read::read_at_most;
use crate::error::Error;
use crate::flags::Flags;
use crate::log::LogTarget;
use settings::Settings;

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
    pub passwd_file: Option<UsersFile>,
    /// Who may do what; `None` if written empty.
    pub access_file: Option<UsersFile>,
    /// The log; none by default.
    pub log_file: Option<LogTarget>,
    /// One line a request; none by default.
    pub usage_log_file: Option<LogTarget>,
    /// What may be recorded; nothing by default.
    pub record: Option<RecordConfig>,
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
    /// What has no effect and was meant to have one, with file and line; a warning in the log, once there is one.
    pub mistakes: Vec<String>,
    /// What else deserves a warning there.
    pub warnings: Vec<String>,
}

/// How requests are recorded (`RecordFile` and its companions).
#[derive(Clone, Debug, PartialEq)]
pub struct RecordConfig {
    /// The file.
    pub file: PathBuf,
    /// Whether recording is on from the start: it is if the command line named the file, and otherwise USR2 switches it
    /// on.
    pub starts_on: bool,
    /// The share of sources that are recorded, above 0 and up to 1.
    pub share: f64,
    /// Bytes after which a new file is begun.
    pub max_bytes: u64,
    /// Whether pseudonyms replace sources and users.
    pub anonymize: bool,
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
        let text = read(&path)?;
        Settings::new(flags, &home, &path, &text).into_config()
    }

    /// The same for a look that changes nothing: a home directory that is missing is not created, and the rest of what
    /// can be told goes with the problems.
    ///
    /// # Errors
    /// When the directory or its file cannot be read.
    pub fn look_at(flags: &Flags) -> Result<(Self, Option<Error>), Error> {
        let home = home::locate(flags.homedir.as_deref())?;
        let path = home.join(CONFIG_FILE);
        let text = read(&path)?;
        Ok(Settings::new(flags, &home, &path, &text).into_parts())
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
    match read_at_most(path, MAX_CONFIG_BYTES) {
        Ok(content) => String::from_utf8(content).map_err(|error| not_utf8(path, &error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

fn not_utf8(path: &Path, error: &FromUtf8Error) -> Error {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let mut problems = Problems::default();
    problems.push(Problem::Syntax {
        path: path.to_owned(),
        line: valid.split(|&byte| byte == b'\n').count(),
        message: "expected UTF-8 text".to_owned(),
    });
    Error::Config(problems)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;
    use crate::cpus;

    /// Loads what `file` and the command line say together. The home directory stays as long as the first part.
    fn load(file: &str, typed: &[&str]) -> (TempDir, Result<Config, String>) {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(CONFIG_FILE), file).unwrap();
        let name = home.path().to_str().unwrap().to_owned();
        let flags = Flags::parse_from(["pyzord", "--homedir", &name].iter().chain(typed));
        let loaded = Config::load(&flags).map_err(|error| error.to_string().replace(&name, "HOME"));
        (home, loaded)
    }

    fn config(file: &str, typed: &[&str]) -> (TempDir, Config) {
        let (home, config) = load(file, typed);
        (home, config.unwrap())
    }

    #[test]
    fn everything_has_a_default() {
        let (home, config) = config("", &[]);
        let in_home = |name: &str| home.path().join(name);
        let by_default = |name: &str| UsersFile {
            path: in_home(name),
            named: None,
        };
        assert_eq!(config.home, home.path());
        let everywhere: Vec<_> = config
            .listen
            .iter()
            .map(|a| a.ip().is_unspecified())
            .collect();
        assert_eq!((everywhere, config.listen[0].port()), (vec![true], 24441));
        assert_eq!(config.digest_db, in_home("pyzord.redb"));
        assert_eq!(config.cleanup_age, CleanupAge::from_seconds(10_368_000));
        assert_eq!(config.passwd_file, Some(by_default("pyzord.passwd")));
        assert_eq!(config.access_file, Some(by_default("pyzord.access")));
        assert_eq!(config.pid_file, Some(in_home("pyzord.pid")));
        assert_eq!((config.log_file, config.usage_log_file), (None, None));
        assert_eq!(config.record, None);
        assert_eq!((config.debug, config.nice), (false, 0));
        assert_eq!(config.workers, cpus::default_workers());
        assert_eq!(config.io, IoChoice::Auto);
        assert_eq!(config.durability, Durability::Group);
        assert!(config.warnings.is_empty() && config.mistakes.is_empty());
    }

    #[test]
    fn the_command_line_beats_the_file() {
        let file = "[server]\nPort = 1\nLogFile = a\nWorkers = 3\nIo = mmsg\nHotSetMemory = 64M\n";
        let (home, config) = config(
            file,
            &["-p", "2", "--log-file", "b", "--durability", "relaxed"],
        );
        assert_eq!(config.listen[0].port(), 2);
        assert_eq!(config.log_file, Some(log_to(home.path().join("b"))));
        assert_eq!(config.workers.get(), 3);
        assert_eq!(config.io, IoChoice::Mmsg);
        assert_eq!(config.durability, Durability::Relaxed);
        assert_eq!(config.hot_set_bytes, 64 << 20);
    }

    #[test]
    fn file_names_are_relative_to_the_home_directory() {
        let file = "[server]\nPasswdFile =\nAccessFile = /etc/access\nLogFile = ~/log\nUsageLogFile = ./x/usage\n";
        let (home, config) = config(file, &[]);
        let user_home = PathBuf::from(std::env::var_os("HOME").unwrap());
        assert_eq!(config.passwd_file, None);
        let named = format!(
            "{}:3: AccessFile = /etc/access",
            home.path().join(CONFIG_FILE).display()
        );
        let access_file = UsersFile {
            path: "/etc/access".into(),
            named: Some(named),
        };
        assert_eq!(config.access_file, Some(access_file));
        assert_eq!(config.log_file, Some(log_to(user_home.join("log"))));
        let usage_log_file = log_to(home.path().join("x/usage"));
        assert_eq!(config.usage_log_file, Some(usage_log_file));
    }

    #[test]
    fn a_log_may_be_standard_error_or_a_file_of_that_name() {
        let text = "[server]\nLogFile = stderr\nUsageLogFile = ./stderr\n";
        let (home, config) = config(text, &[]);
        assert_eq!(config.log_file, Some(LogTarget::Stderr));
        let usage_log_file = log_to(home.path().join("stderr"));
        assert_eq!(config.usage_log_file, Some(usage_log_file));
    }

    fn log_to(path: PathBuf) -> LogTarget {
        LogTarget::File(path)
    }

    /// The Python server sets its defaults before it reads the file.
    #[test]
    fn values_refer_to_other_settings_and_their_defaults() {
        let text = "\u{feff}[DEFAULT]\nPort = 7\n[server]\nLogFile = %(Port)s-%(CleanupAge)s-%(PidFile)s\n";
        let log_file = |typed: &[&str]| {
            let (home, config) = config(text, typed);
            let Some(LogTarget::File(path)) = config.log_file else {
                panic!("no log file");
            };
            let name = path.strip_prefix(home.path()).unwrap();
            (name.display().to_string(), config.listen[0].port())
        };
        let expected = "24441-10368000-pyzord.pid".to_owned();
        assert_eq!(log_file(&[]), (expected, 24441));
        let expected = "9-10368000-pyzord.pid".to_owned();
        assert_eq!(log_file(&["--port", "9"]), (expected, 9));
    }

    #[test]
    fn what_is_misspelt_is_warned_of_with_what_was_meant() {
        let text = "[DEFAULT]\nPort = 7\nplace = x\n[Server]\nPort = 1\n[client]\nNonsense = 1\n[backup]\n\
                    [server]\nAcessFile = x\nPrt = 1\nMaxThread = 2\nColour = red\n";
        let (_home, config) = config(text, &[]);
        let place = config.home.join(CONFIG_FILE).display().to_string();
        let mistakes: Vec<_> = config
            .mistakes
            .iter()
            .map(|told| told.replace(&place, "FILE"))
            .collect();
        assert_eq!(
            mistakes,
            [
                "FILE:2: Port is ignored: [DEFAULT] does not reach it; write it into section [server]",
                "FILE:4: [Server] is ignored: there is no such section; did you mean [server]?",
                "FILE:8: [backup] is ignored: there is no such section",
                "FILE:10: AcessFile is ignored: there is no such key; did you mean AccessFile?",
                "FILE:11: Prt is ignored: there is no such key; did you mean Port?",
                "FILE:12: MaxThread is ignored: there is no such key; did you mean MaxThreads?",
                "FILE:13: Colour is ignored: there is no such key",
            ]
        );
        assert_eq!(config.listen[0].port(), 24441);
    }

    #[test]
    fn a_recording_starts_on_if_the_command_line_names_it() {
        let file = "[server]\nRecordFile = r.pcap\nRecordSample = 0.5\nRecordMaxBytes = 8M\nRecordAnonymize = No\n";
        let (home, in_file) = config(file, &[]);
        let expected = RecordConfig {
            file: home.path().join("r.pcap"),
            starts_on: false,
            share: 0.5,
            max_bytes: 8 << 20,
            anonymize: false,
        };
        assert_eq!(in_file.record, Some(expected));
        let (home, typed) = config("", &["--record", "typed"]);
        let expected = RecordConfig {
            file: home.path().join("typed"),
            starts_on: true,
            share: 1.0,
            max_bytes: 1 << 30,
            anonymize: true,
        };
        assert_eq!(typed.record, Some(expected));
    }

    #[test]
    fn a_file_without_our_section_and_no_file_at_all_say_nothing() {
        let (home, other) = config("[client]\nTimeout = 5\nNonsense = 1\nPort = x\n", &[]);
        assert!(other.warnings.is_empty() && other.mistakes.is_empty());
        fs::remove_file(home.path().join(CONFIG_FILE)).unwrap();
        let flags = Flags {
            homedir: Some(home.path().to_str().unwrap().to_owned()),
            ..Flags::default()
        };
        assert!(Config::load(&flags).is_ok());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let file = "[server]\nPort = abc\nCleanupAge: -1\nnonsense\nlistenaddress = 1.2.3.4:5\nWorkers = %(x)s\n\
                    Engine = dbm\nHotSetMemory = 5 MB\nForwardClientHomeDir = /x\nRecordSample = 2\n\
                    RecordMaxBytes = 9\nRecordAnonymize = maybe\n";
        let (_home, loaded) = load(
            file,
            &["--nice", "99", "--io", "epoll", "--durability", "never"],
        );
        assert_eq!(
            loaded.unwrap_err(),
            "HOME/config:2: Port = abc: expected a port number up to 65535\n\
             HOME/config:3: CleanupAge = -1: expected a number of seconds, 0 for never\n\
             HOME/config:4: expected NAME = VALUE\n\
             HOME/config:5: ListenAddress = 1.2.3.4:5: expected IP addresses or host names (without a port); \
             \"1.2.3.4:5\" is neither\n\
             HOME/config:6: %(x)s refers to an option that is not there\n\
             HOME/config:7: Engine = dbm: expected one of redb, gdbm, mysql, redis\n\
             HOME/config:8: HotSetMemory = 5 MB: expected a memory size of at least 1M, such as 512M or 4G\n\
             HOME/config:9: ForwardClientHomeDir = /x: expected nothing: this server does not forward yet; remove it \
             to start without\n\
             HOME/config:10: RecordSample = 2: expected a share above 0 and up to 1, such as 0.1\n\
             HOME/config:11: RecordMaxBytes = 9: expected a file size of at least 1M, such as 512M or 4G\n\
             HOME/config:12: RecordAnonymize = maybe: expected one of yes, no, true, false, on, off, 1, 0\n\
             --nice 99: expected a nice level from -20 to 19\n\
             --io epoll: expected one of auto, uring, mmsg\n\
             --durability never: expected one of group, relaxed"
        );
    }

    #[test]
    fn what_is_ignored_is_warned_of_once() {
        let file = "[DEFAULT]\nplace = /var/log\n[server]\nthreads = true\nPortt = 1\nSentryDSN = https://secret@host\n\
                    LogFile = %(place)s/log\n";
        let (_home, config) = config(file, &["--max-threads", "5", "--gevent=true"]);
        let place = config.home.join(CONFIG_FILE);
        let place = place.display();
        assert_eq!(
            config.warnings,
            [
                format!(
                    "{place}:4: Threads is ignored: Workers decides how many threads answer requests"
                ),
                "--max-threads is ignored: Workers decides how many threads answer requests"
                    .to_owned(),
                "--gevent is ignored: Workers decides how many threads answer requests".to_owned(),
                format!(
                    "{place}:6: SentryDSN is ignored: this server reports errors to its log alone"
                ),
            ]
        );
        let mistake =
            format!("{place}:5: Portt is ignored: there is no such key; did you mean Port?");
        assert_eq!(config.mistakes, [mistake]);
        assert_eq!(config.log_file, Some(log_to("/var/log/log".into())));
    }

    #[test]
    fn a_file_that_cannot_be_read_refuses_the_start() {
        let (home, _) = load("", &[]);
        let path = home.path().join(CONFIG_FILE);
        let flags = Flags {
            homedir: Some(home.path().to_str().unwrap().to_owned()),
            ..Flags::default()
        };
        fs::write(&path, b"[server]\nLogFile = \xff\n").unwrap();
        let error = Config::load(&flags).unwrap_err().to_string();
        assert_eq!(error, format!("{}:2: expected UTF-8 text", path.display()));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = Config::load(&flags).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot read {}: ", path.display())),
            "{error}"
        );
    }

    #[test]
    fn the_output_of_a_detached_server_is_relative_to_the_working_directory() {
        let detach = |name: &str| {
            let flags = Flags {
                detach: Some(name.to_owned()),
                ..Flags::default()
            };
            detach_file(&flags).unwrap()
        };
        assert_eq!(detach("/x/y"), Some("/x/y".into()));
        assert_eq!(
            detach("y"),
            Some(std::env::current_dir().unwrap().join("y"))
        );
        assert_eq!(detach(""), None);
        assert_eq!(detach_file(&Flags::default()).unwrap(), None);
    }
}
