//! Both sources of settings merged: the command line first, then the file, then the default.

use std::path::{Path, PathBuf};

use pyzor_protocol::configparser::{ConfigFile, SyntaxError};
use pyzor_protocol::{DEFAULT_PORT, misspelt};
use pyzor_storage::redb_engine::{MIN_HOT_SET_BYTES, RedbOptions};

use super::keys::{self, Key};
use super::values::{self, Parsed};
use super::{Config, IoChoice, Origin, Problem, Problems, RecordConfig, home, store_choice};
use crate::access_files::UsersFile;
use crate::cpus;
use crate::error::Error;
use crate::flags::Flags;
use crate::log::LogTarget;
use crate::memory;

/// The section of the file that is ours; a client has its own in the same file.
const SECTION: &str = "server";

/// What names standard error where a log file is expected.
const STDERR: &str = "stderr";

/// The share of sources that are recorded when nothing else is asked for.
const EVERY_SOURCE: f64 = 1.0;

/// Bytes after which a new recording is begun when nothing else is asked for.
const DEFAULT_RECORD_BYTES: u64 = 1 << 30;

/// Both sources, and what was found wrong with them so far.
pub(super) struct Settings<'a> {
    flags: &'a Flags,
    home: &'a Path,
    file: ConfigFile,
    path: &'a Path,
    problems: Problems,
    mistakes: Vec<String>,
    warnings: Vec<String>,
}

/// What was written for one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) origin: Origin,
    pub(super) value: String,
}

impl<'a> Settings<'a> {
    /// The settings that were typed, and those that `text`, the content of the file at `path`, adds.
    pub(super) fn new(flags: &'a Flags, home: &'a Path, path: &'a Path, text: &str) -> Self {
        let (mut file, errors) = ConfigFile::parse(text);
        for key in known_keys() {
            if let Some(default) = key.default {
                file.know(key.name, (key.typed)(flags), default);
            }
        }
        let mut settings = Self {
            flags,
            home,
            file,
            path,
            problems: Problems::default(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        settings.report_syntax(errors);
        settings.warn_of_ignored_keys();
        settings.find_mistakes();
        settings
    }

    /// All values, defaults filled in.
    ///
    /// # Errors
    /// With every problem of both sources.
    pub(super) fn into_config(self) -> Result<Config, Error> {
        match self.into_parts() {
            (config, None) => Ok(config),
            (_, Some(error)) => Err(error),
        }
    }

    /// All values, with defaults also for those that are wrong, and every problem of both sources.
    pub(super) fn into_parts(mut self) -> (Config, Option<Error>) {
        let mut config = self.config();
        config.mistakes = self.mistakes;
        config.warnings = self.warnings;
        let problems = self.problems;
        let error = (!problems.is_empty()).then(|| Error::Config(problems.sorted()));
        (config, error)
    }

    fn config(&mut self) -> Config {
        self.refuse_forwarding();
        let port = self.value(&keys::PORT, DEFAULT_PORT, values::port);
        let everywhere = values::listen("", port).unwrap_or_default();
        let store = RedbOptions::default();
        let (hot_set_bytes, store_cache_bytes) = self.memory(&store);
        Config {
            home: self.home.to_owned(),
            listen: self.value(&keys::LISTEN_ADDRESS, everywhere, |text| {
                values::listen(text, port)
            }),
            digest_db: self.store(),
            cleanup_age: self.value(&keys::CLEANUP_AGE, store.cleanup_age, values::cleanup_age),
            passwd_file: self.users_file(&keys::PASSWD_FILE, "pyzord.passwd"),
            access_file: self.users_file(&keys::ACCESS_FILE, "pyzord.access"),
            log_file: self.log(&keys::LOG_FILE),
            usage_log_file: self.log(&keys::USAGE_LOG_FILE),
            record: self.record(),
            pid_file: self.path(&keys::PID_FILE, Some("pyzord.pid")),
            debug: self.flags.debug,
            nice: self.value(&keys::NICE, 0, values::nice),
            workers: self.value(&keys::WORKERS, cpus::default_workers(), values::workers),
            io: self.value(&keys::IO, IoChoice::Auto, values::io),
            durability: self.value(&keys::DURABILITY, store.durability, values::durability),
            hot_set_bytes,
            store_cache_bytes,
            mistakes: Vec::new(),
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
                    path: self.path.to_owned(),
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
        let written = self.written_value(key, parse);
        written.map_or(default, |(value, _)| value)
    }

    /// The value that was written for `key`, and where. A wrong one is a problem and reads as none.
    fn written_value<T>(
        &mut self,
        key: &Key,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<(T, Origin)> {
        let Written { origin, value } = self.written(key)?;
        match parse(&value) {
            Ok(parsed) => Some((parsed, origin)),
            Err(expected) => {
                self.problems.push(Problem::Value {
                    origin,
                    value,
                    expected,
                });
                None
            }
        }
    }

    /// A file name, relative to the home directory; an empty one means none, as in the reference.
    fn path(&mut self, key: &Key, default: Option<&str>) -> Option<PathBuf> {
        let name = self.written(key).map(|written| written.value);
        name.as_deref()
            .or(default)
            .filter(|name| !name.is_empty())
            .map(|name| self.home.join(home::expand_user(name)))
    }

    /// A passwd or access file. One that is named, be it by the default name, has to be there.
    fn users_file(&mut self, key: &Key, default: &str) -> Option<UsersFile> {
        let written = self.written(key);
        Some(UsersFile {
            path: self.path(key, Some(default))?,
            named: written.map(|written| written.origin.with_value(&written.value)),
        })
    }

    fn log(&mut self, key: &Key) -> Option<LogTarget> {
        match self.written(key) {
            Some(written) if written.value.eq_ignore_ascii_case(STDERR) => Some(LogTarget::Stderr),
            _ => self.path(key, None).map(LogTarget::File),
        }
    }

    fn record(&mut self) -> Option<RecordConfig> {
        let share = self.value(&keys::RECORD_SAMPLE, EVERY_SOURCE, values::share);
        let max_bytes = self.value(
            &keys::RECORD_MAX_BYTES,
            DEFAULT_RECORD_BYTES,
            values::record_bytes,
        );
        let anonymize = self.value(&keys::RECORD_ANONYMIZE, true, values::boolean);
        Some(RecordConfig {
            file: self.path(&keys::RECORD_FILE, None)?,
            starts_on: (keys::RECORD_FILE.typed)(self.flags).is_some(),
            share,
            max_bytes,
            anonymize,
        })
    }

    /// The budgets of the hot set and of the page caches, in bytes. There has to be as much memory as both ask for; the
    /// defaults ask for no more than half of it.
    fn memory(&mut self, store: &RedbOptions) -> (usize, usize) {
        let available = usize::try_from(memory::available()).unwrap_or(usize::MAX);
        let at_most = (available / 4).max(MIN_HOT_SET_BYTES);
        let parse = |text: &str| values::memory(text, available);
        let hot_set_bytes = store.hot_set_bytes.min(at_most);
        let hot_set_bytes = self.value(&keys::HOT_SET_MEMORY, hot_set_bytes, parse);
        let cache_bytes = self.value(&keys::STORE_CACHE, store.cache_bytes.min(at_most), parse);
        if hot_set_bytes.saturating_add(cache_bytes) > available {
            self.problems.push(Problem::Other(format!(
                "HotSetMemory and StoreCache ask for {} and {} MiB, and there are {} MiB of memory: lower one of them",
                hot_set_bytes >> 20,
                cache_bytes >> 20,
                available >> 20
            )));
        }
        (hot_set_bytes, cache_bytes)
    }

    fn store(&mut self) -> PathBuf {
        let engine = self.written_value(&keys::ENGINE, values::engine);
        let digest_db = self.written(&keys::DIGEST_DB);
        match store_choice::choose(self.home, self.path, engine, digest_db) {
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
        let expected = "nothing: this server does not forward yet; remove it to start without";
        self.written_value(&keys::FORWARD_CLIENT_HOMEDIR, |directory| {
            if directory.is_empty() {
                Ok(())
            } else {
                Err(expected.to_owned())
            }
        });
    }

    fn report_syntax(&mut self, errors: impl IntoIterator<Item = SyntaxError>) {
        let path = self.path;
        self.problems
            .extend(errors.into_iter().map(|error| Problem::Syntax {
                path: path.to_owned(),
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
        let path = self.path.display();
        for (name, line) in self.file.options(SECTION) {
            if is_of_sentry(name) {
                self.warnings.push(format!(
                    "{path}:{line}: {name} is ignored: this server reports errors to its log alone"
                ));
            }
        }
    }

    fn find_mistakes(&mut self) {
        let sections = self.file.sections().filter_map(|(name, line)| {
            let reason = misspelt::unknown_section(name)?;
            Some((line, format!("[{name}]"), reason))
        });
        let options = self.file.options(SECTION).filter_map(|(name, line)| {
            let reason = reason_to_ignore(name)?;
            Some((line, name.to_owned(), reason))
        });
        let defaults = self.file.defaults().filter_map(|(name, line)| {
            let reason = reason_to_ignore_default(name)?;
            Some((line, name.to_owned(), reason))
        });
        let mut ignored: Vec<_> = sections.chain(options).chain(defaults).collect();
        ignored.sort();
        let path = self.path.display();
        let told = |(line, name, reason)| format!("{path}:{line}: {name} is ignored: {reason}");
        self.mistakes = ignored.into_iter().map(told).collect();
    }
}

fn reason_to_ignore(name: &str) -> Option<String> {
    let is_known = known_keys().any(|key| key.is(name)) || is_of_sentry(name);
    (!is_known).then(|| misspelt::unknown_key(name, known_keys().map(|key| key.name)))
}

fn is_of_sentry(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with(keys::SENTRY_PREFIX)
}

/// `[DEFAULT]` reaches only what the Python server has no default for.
fn reason_to_ignore_default(name: &str) -> Option<String> {
    let is_set_elsewhere = |key: &&Key| key.is(name) && key.default.is_some();
    known_keys()
        .any(|key| is_set_elsewhere(&key))
        .then(|| format!("[DEFAULT] does not reach it; write it into section [{SECTION}]"))
}

fn known_keys() -> impl Iterator<Item = &'static Key> {
    keys::ALL.iter().chain(keys::OF_THE_PYTHON_SERVER).copied()
}
