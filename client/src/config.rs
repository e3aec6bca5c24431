//! What was typed and what the configuration file says, merged into one validated [`Config`].
//!
//! The command line beats the file, the file beats the default. The first problem ends the program with one line, because a
//! mail filter may be all there is to read it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pyzor_protocol::configparser::{ConfigFile, Origin, SyntaxError};
use pyzor_protocol::misspelt;

use crate::error::Error;
use crate::flags::Flags;
use crate::home_files;
use crate::input::Style;

/// The section of the file that is ours; a server has its own in the same file.
const SECTION: &str = "client";

/// How long all the answers about one message may take by default, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 5;

/// The longest time-out that is taken for one: a day, in seconds.
const MAX_TIMEOUT_SECONDS: u64 = 86_400;

/// Everything the client is started with. All paths are absolute, or relative to the working directory if the home
/// directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is on standard input.
    pub style: Style,
    /// Whom to ask; `None` if written empty, which means the public server as a missing file does.
    pub servers_file: Option<PathBuf>,
    /// Whom to ask as; `None` if written empty.
    pub accounts_file: Option<PathBuf>,
    /// Digests that are answered here; `None` if written empty.
    pub local_whitelist: Option<PathBuf>,
    /// The log; none by default.
    pub log_file: Option<PathBuf>,
    /// How long all the answers about one message may take.
    pub timeout: Duration,
    /// Whether to ask a second time when no answer has come by a part of it.
    pub retry: bool,
    /// A count above this is a hit.
    pub report_threshold: i64,
    /// A whitelist count above this makes it none.
    pub whitelist_threshold: i64,
    /// Whether to print JSON.
    pub json: bool,
    /// Whether to log debugging details, and everything to stderr.
    pub debug: bool,
    /// Added to the process's nice level.
    pub nice: i32,
    /// What deserves a warning in the log, once there is one.
    pub warnings: Vec<String>,
}

/// One setting: its name in the file and on the command line, and what was typed for it.
struct Key {
    name: &'static str,
    flag: &'static str,
    typed: fn(&Flags) -> Option<&str>,
    /// What values of the file that refer to the setting get if nobody sets it: the Python client's default.
    default: &'static str,
}

macro_rules! keys {
    ($($constant:ident = $name:literal, $flag:literal, $field:ident, $default:literal;)+) => {
        $(const $constant: Key = Key {
            name: $name,
            flag: $flag,
            typed: |flags| flags.$field.as_deref(),
            default: $default,
        };)+
        /// Every setting that the file may have.
        const ALL_KEYS: &[&Key] = &[$(&$constant),+];
    };
}

keys! {
    SERVERS_FILE = "ServersFile", "--servers-file", servers_file, "servers";
    ACCOUNTS_FILE = "AccountsFile", "--accounts-file", accounts_file, "accounts";
    LOCAL_WHITELIST = "LocalWhitelist", "--local-whitelist", local_whitelist, "whitelist";
    LOG_FILE = "LogFile", "--log-file", log_file, "";
    TIMEOUT = "Timeout", "--timeout", timeout, "5";
    STYLE = "Style", "--style", style, "msg";
    REPORT_THRESHOLD = "ReportThreshold", "--report-threshold", report_threshold, "0";
    WHITELIST_THRESHOLD = "WhitelistThreshold", "--whitelist-threshold", whitelist_threshold, "0";
}

impl Config {
    /// Reads the home directory that `flags` name, creating it if missing, and merges the two.
    ///
    /// # Errors
    /// When the directory or its file cannot be used, and with the first problem of what is written there.
    pub fn load(flags: &Flags) -> Result<Self, Error> {
        let home = home_files::home(flags.homedir.as_deref());
        home_files::create_home(&home)?;
        let (path, text) = home_files::config(&home)?;
        let (mut file, errors) = ConfigFile::parse(&text);
        for key in ALL_KEYS {
            file.know(key.name, (key.typed)(flags), key.default);
        }
        if let Some(error) = errors.into_iter().next() {
            return Err(syntax_error(&path, error));
        }
        let settings = Settings {
            flags,
            home: &home,
            path: &path,
            file: &file,
        };
        settings.config()
    }
}

/// Both sources.
struct Settings<'a> {
    flags: &'a Flags,
    home: &'a Path,
    path: &'a Path,
    file: &'a ConfigFile,
}

impl Settings<'_> {
    fn config(&self) -> Result<Config, Error> {
        let timeout = self.value(&TIMEOUT, DEFAULT_TIMEOUT_SECONDS, timeout_seconds)?;
        Ok(Config {
            style: self.value(&STYLE, Style::Msg, style)?,
            servers_file: self.file_to_read(&SERVERS_FILE, "servers")?,
            accounts_file: self.file_to_read(&ACCOUNTS_FILE, "accounts")?,
            local_whitelist: self.path(&LOCAL_WHITELIST, Some("whitelist"))?,
            log_file: self.path(&LOG_FILE, None)?,
            timeout: Duration::from_secs(timeout),
            retry: !self.flags.no_retry,
            report_threshold: self.value(&REPORT_THRESHOLD, 0, number)?,
            whitelist_threshold: self.value(&WHITELIST_THRESHOLD, 0, number)?,
            json: self.flags.json,
            debug: self.flags.debug,
            nice: self.nice()?,
            warnings: self.warnings(),
        })
    }

    /// What was written for `key`, the command line first.
    fn written(&self, key: &Key) -> Result<Option<(Origin, String)>, Error> {
        if let Some(typed) = (key.typed)(self.flags) {
            return Ok(Some((Origin::Flag(key.flag), typed.to_owned())));
        }
        let Some(value) = self.file.get(SECTION, key.name) else {
            return Ok(None);
        };
        let value = value.map_err(|error| syntax_error(self.path, error))?;
        let origin = Origin::File {
            path: self.path.to_owned(),
            line: value.line,
            key: key.name,
        };
        Ok(Some((origin, value.text)))
    }

    fn value<T>(
        &self,
        key: &Key,
        default: T,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<T, Error> {
        match self.written(key)? {
            Some((origin, text)) => parsed(origin, text, parse),
            None => Ok(default),
        }
    }

    /// A file name, relative to the home directory; an empty one means none, as in the reference.
    fn path(&self, key: &Key, default: Option<&str>) -> Result<Option<PathBuf>, Error> {
        let name = self.written(key)?.map(|(_, name)| name);
        let name = name.as_deref().or(default).filter(|name| !name.is_empty());
        Ok(name.map(|name| self.home.join(home_files::expand_user(name))))
    }

    /// The same of a file that is only read: one that is named, and is not the usual one, has to be there, because without it
    /// the public server is asked, or others as anonymous.
    fn file_to_read(&self, key: &Key, default: &str) -> Result<Option<PathBuf>, Error> {
        let path = self.path(key, Some(default))?;
        let is_missing =
            |path: &PathBuf| *path != self.home.join(default) && !path.try_exists().unwrap_or(true);
        match self.written(key)? {
            Some((origin, value)) if path.as_ref().is_some_and(is_missing) => Err(Error::Setting {
                origin,
                value,
                expected: "a file that is there",
            }),
            _ => Ok(path),
        }
    }

    fn nice(&self) -> Result<i32, Error> {
        match &self.flags.nice {
            Some(level) => parsed(Origin::Flag("--nice"), level.clone(), nice),
            None => Ok(0),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let keys = || ALL_KEYS.iter().map(|key| key.name);
        let sections = self.file.sections().filter_map(|(name, line)| {
            let reason = misspelt::unknown_section(name)?;
            Some((line, format!("[{name}]"), reason))
        });
        let options = self.file.options(SECTION).filter_map(|(name, line)| {
            let is_known = keys().any(|key| key.eq_ignore_ascii_case(name));
            (!is_known).then(|| (line, name.to_owned(), misspelt::unknown_key(name, keys())))
        });
        let mut ignored: Vec<_> = sections.chain(options).collect();
        ignored.sort();
        let path = self.path.display();
        let told = |(line, name, reason)| format!("{path}:{line}: {name} is ignored: {reason}");
        ignored.into_iter().map(told).collect()
    }
}

fn syntax_error(path: &Path, error: SyntaxError) -> Error {
    Error::Line {
        path: path.to_owned(),
        line: error.line,
        message: error.message,
    }
}

fn parsed<T>(
    origin: Origin,
    value: String,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<T, Error> {
    parse(value.trim()).map_err(|expected| Error::Setting {
        origin,
        value,
        expected,
    })
}

fn timeout_seconds(text: &str) -> Result<u64, &'static str> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=MAX_TIMEOUT_SECONDS).contains(seconds))
        .ok_or("a whole number of seconds from 1 to 86400")
}

fn style(text: &str) -> Result<Style, &'static str> {
    Style::from_name(text).ok_or("one of msg, mbox, digests")
}

fn number(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| "a whole number")
}

fn nice(text: &str) -> Result<i32, &'static str> {
    text.parse()
        .ok()
        .filter(|level| (-20..=19).contains(level))
        .ok_or("a nice level from -20 to 19")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;

    /// Loads what `file` and the command line say together. The home directory stays as long as the first part.
    fn load(file: &str, typed: &[&str]) -> (TempDir, Result<Config, String>) {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("config"), file).unwrap();
        let name = home.path().to_str().unwrap().to_owned();
        let flags = Flags::parse_from(["pyzor", "--homedir", &name].iter().chain(typed));
        let loaded = Config::load(&flags).map_err(|error| error.to_string().replace(&name, "HOME"));
        (home, loaded)
    }

    #[test]
    fn values_refer_to_other_settings_and_their_defaults() {
        let text = "\u{feff}[client]\nLogFile = %(Style)s-%(Timeout)s-%(ServersFile)s\n";
        let (home, config) = load(text, &["--timeout", "7"]);
        let log = home.path().join("msg-7-servers");
        assert_eq!(config.unwrap().log_file, Some(log));
    }

    #[test]
    fn everything_has_a_default() {
        let (home, config) = load("[server]\nPort = x\n", &[]);
        let expected = Config {
            style: Style::Msg,
            servers_file: Some(home.path().join("servers")),
            accounts_file: Some(home.path().join("accounts")),
            local_whitelist: Some(home.path().join("whitelist")),
            log_file: None,
            timeout: Duration::from_secs(5),
            retry: true,
            report_threshold: 0,
            whitelist_threshold: 0,
            json: false,
            debug: false,
            nice: 0,
            warnings: Vec::new(),
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn the_usual_files_may_be_named_and_missing() {
        let file = "[client]\nServersFile = servers\nAccountsFile = accounts\n";
        let (home, config) = load(file, &[]);
        assert_eq!(
            config.unwrap().servers_file,
            Some(home.path().join("servers"))
        );
    }

    #[test]
    fn the_command_line_beats_the_file() {
        let file = "[client]\ntimeout = 9\nStyle: mbox\nLogFile = /x\nAccountsFile =\nServerFile = x\n\
                    ReportThreshold = 3\n[Client]\n";
        let (home, config) = load(file, &["-t", "2", "--log-file", "log", "-r", "-1"]);
        let config = config.unwrap();
        assert_eq!(config.timeout, Duration::from_secs(2));
        assert_eq!(config.style, Style::Mbox);
        assert_eq!(config.log_file, Some(home.path().join("log")));
        assert_eq!(config.accounts_file, None);
        assert_eq!(config.report_threshold, -1);
        let place = home.path().join("config");
        assert_eq!(
            config.warnings,
            [
                "6: ServerFile is ignored: there is no such key; did you mean ServersFile?",
                "8: [Client] is ignored: there is no such section; did you mean [client]?",
            ]
            .map(|mistake| format!("{}:{mistake}", place.display()))
        );
    }

    #[test]
    fn a_mistake_is_one_line_that_says_where_and_what() {
        for (file, typed, expected) in [
            (
                "[client]\nTimeout = 1.5\n",
                &[][..],
                "HOME/config:2: Timeout = 1.5: expected a whole number of seconds from 1 to 86400",
            ),
            (
                "",
                &["-t", "0"],
                "--timeout 0: expected a whole number of seconds from 1 to 86400",
            ),
            (
                "",
                &["-s", "MSG"],
                "--style MSG: expected one of msg, mbox, digests",
            ),
            (
                "[client]\nWhitelistThreshold = x\n",
                &[],
                "HOME/config:2: WhitelistThreshold = x: expected a whole number",
            ),
            (
                "",
                &["-n", "20"],
                "--nice 20: expected a nice level from -20 to 19",
            ),
            (
                "[client]\nServersFile = mirors\n",
                &[],
                "HOME/config:2: ServersFile = mirors: expected a file that is there",
            ),
            (
                "",
                &["--accounts-file", "no/acounts"],
                "--accounts-file no/acounts: expected a file that is there",
            ),
            (
                "[client\n",
                &[],
                "HOME/config:1: expected a section header such as [server]",
            ),
            (
                "[client]\nTimeout = %(x)s\n",
                &[],
                "HOME/config:2: %(x)s refers to an option that is not there",
            ),
        ] {
            let (_home, loaded) = load(file, typed);
            assert_eq!(loaded, Err(expected.to_owned()));
        }
    }
}
