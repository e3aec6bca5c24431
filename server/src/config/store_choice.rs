//! Which store to open, or how an operator gets from the Python server's store to ours.
//!
//! The rule that protects them: a server never starts empty where the Python server's digests lie, unless it is told
//! to. `Engine = redb` says so; having imported says so too, because then our store is there.

use std::path::{Path, PathBuf};

use pyzor_storage::redb_engine::RedbEngine;

use super::settings::Written;
use super::{Engine, Origin, home};

/// Our store's directory, unless configured.
const DEFAULT_STORE: &str = "pyzord.redb";

/// Where the reference keeps its digests, unless configured.
const REFERENCE_DEFAULT: &str = "pyzord.db";

/// What names of gdbm files end in by custom, and what names of our stores do.
const GDBM_EXTENSION: &str = "db";
const STORE_EXTENSION: &str = "redb";

/// Commas that a `DigestDB` for MySQL (`host,user,password,db,table`) or Redis (`host,port,password,db`) has at least.
const DSN_COMMAS: usize = 3;

/// For a Python that has the Python server's library: copies what is in the Redis of the first argument into the gdbm file of the
/// second. Lines begin without blanks, because a shell passes them on as they are.
const COPY_FROM_REDIS: &str = r#"import sys; from pyzor.engines import gdbm_, redis_
source, copy = redis_.RedisDBHandle(sys.argv[1], "r"), gdbm_.GdbmDBHandle(sys.argv[2], "c")
for key in source.db.scan_iter("pyzord.digest_v1.*"): digest = key.decode()[-40:]; copy[digest] = source[digest]"#;

/// A store that the server may start on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoreChoice {
    /// Its directory, there or to be created.
    pub(super) directory: PathBuf,
    /// What the operator should tidy up.
    pub(super) warning: Option<String>,
}

/// Decides by what is configured and by what lies on the disk.
///
/// # Errors
/// Why the server must not start, and what to do about it.
pub(super) fn choose(
    home: &Path,
    config_file: &Path,
    engine: Option<(Engine, Origin)>,
    digest_db: Option<Written>,
) -> Result<StoreChoice, String> {
    let named = Named::by(home, digest_db.as_ref());
    let move_over = MoveOver {
        gdbm_file: named.gdbm_file(home),
        store: named.store(home),
    };
    match engine {
        Some((Engine::Redb, _)) => {}
        Some((Engine::Gdbm, origin)) => return Err(move_over.instead_of_gdbm(&origin)),
        Some((Engine::Mysql, origin)) => {
            let copy = move_over.copy_from_mysql();
            return Err(move_over.instead_of_server("mysql", &copy, &origin));
        }
        Some((Engine::Redis, origin)) => {
            let copy = move_over.copy_from_redis();
            return Err(move_over.instead_of_server("redis", &copy, &origin));
        }
        None => move_over.refuse_to_start_empty(&named, config_file)?,
    }
    Ok(StoreChoice {
        warning: digest_db.and_then(|written| named.warning(&written.origin, &move_over.store)),
        directory: move_over.store,
    })
}

/// What `DigestDB` names.
#[derive(Debug)]
enum Named {
    /// A store of ours.
    Store(PathBuf),
    /// What is, or is named like, a gdbm file.
    GdbmFile(PathBuf),
    /// A database server.
    Server,
}

impl Named {
    fn by(home: &Path, digest_db: Option<&Written>) -> Self {
        let Some(Written { value, .. }) = digest_db.filter(|written| !written.value.is_empty())
        else {
            return Self::Store(home.join(DEFAULT_STORE));
        };
        let path = home.join(home::expand_user(value));
        let named_like_gdbm = path
            .extension()
            .is_some_and(|extension| extension == GDBM_EXTENSION);
        if path.is_dir() {
            Self::Store(path)
        } else if path.exists() || named_like_gdbm {
            Self::GdbmFile(path)
        } else if value.matches(',').count() >= DSN_COMMAS {
            Self::Server
        } else {
            Self::Store(path)
        }
    }

    /// Our store: beside a gdbm file, under the same name, so that the file's configuration goes on working.
    fn store(&self, home: &Path) -> PathBuf {
        match self {
            Self::Store(directory) => directory.clone(),
            Self::GdbmFile(file) => file.with_extension(STORE_EXTENSION),
            Self::Server => home.join(DEFAULT_STORE),
        }
    }

    /// Where the Python server's digests would be.
    fn gdbm_file(&self, home: &Path) -> PathBuf {
        match self {
            Self::GdbmFile(file) => file.clone(),
            Self::Store(_) | Self::Server => home.join(REFERENCE_DEFAULT),
        }
    }

    /// The value is not repeated: a database server's has a password in it.
    fn warning(&self, origin: &Origin, store: &Path) -> Option<String> {
        let what = match self {
            Self::Store(_) => return None,
            Self::GdbmFile(_) => "a file of the Python server",
            Self::Server => "a database server",
        };
        Some(format!(
            "{origin} names {what}; digests are kept in {} instead",
            store.display()
        ))
    }
}

/// The way from the Python server's digests to our store.
struct MoveOver {
    gdbm_file: PathBuf,
    store: PathBuf,
}

impl MoveOver {
    fn instead_of_gdbm(&self, engine: &Origin) -> String {
        let written = engine.with_value("gdbm");
        let change = change_to_redb(engine);
        let store = self.store.display();
        if RedbEngine::exists(&self.store) {
            format!("{written}: the digests are served from {store}; {change}")
        } else if self.gdbm_file.is_file() {
            let import = self.import();
            format!(
                "{written}: this server has a store of its own, {store}. {import}\nThen {change}."
            )
        } else {
            format!("{written}: this server has a store of its own, {store}; {change}")
        }
    }

    fn instead_of_server(&self, name: &str, copy: &str, engine: &Origin) -> String {
        let written = engine.with_value(name);
        let change = change_to_redb(engine);
        let import = self.import_command();
        format!(
            "{written}: this server cannot use {name} yet. To keep the digests, stop the Python server and copy them into a \
             gdbm file {copy}\nDSN is the value of DigestDB. Import that file with\n    {import}\n\
             Then, or to begin without them, {change}."
        )
    }

    fn copy_from_mysql(&self) -> String {
        let gdbm_file = quoted(&self.gdbm_file);
        format!(
            "with the Python server's own pyzor-migrate:\n    pyzor-migrate --se mysql --sd DSN --de gdbm --dd {gdbm_file}"
        )
    }

    /// Not with its tool: under Python 3 that stops at the first key, which is bytes and no text, and leaves an empty file.
    fn copy_from_redis(&self) -> String {
        let gdbm_file = quoted(&self.gdbm_file);
        format!(
            "with the Python server's library (its own pyzor-migrate fails under Python 3):\n    \
             python3 -c '{COPY_FROM_REDIS}' DSN {gdbm_file}"
        )
    }

    fn refuse_to_start_empty(&self, named: &Named, config_file: &Path) -> Result<(), String> {
        if RedbEngine::exists(&self.store) {
            return Ok(());
        }
        let start_empty = format!(
            "To start with an empty store instead, write \"Engine = redb\" into section [server] of {}.",
            config_file.display()
        );
        let gdbm_file = self.gdbm_file.display();
        if matches!(named, Named::Server) {
            return Err(format!(
                "DigestDB names a database server, and this server cannot use one yet. {start_empty}"
            ));
        }
        if self.gdbm_file.is_file() {
            let import = self.import();
            return Err(format!(
                "{gdbm_file} holds the digests of a Python server, and there is no store of this server yet. {import}\n\
                 {start_empty}"
            ));
        }
        Ok(())
    }

    fn import(&self) -> String {
        let command = self.import_command();
        format!("Stop the Python server and import its digests with\n    {command}")
    }

    fn import_command(&self) -> String {
        format!(
            "pyzor-migrate --se gdbm --sd {} --de redb --dd {}",
            quoted(&self.gdbm_file),
            quoted(&self.store)
        )
    }
}

fn change_to_redb(engine: &Origin) -> String {
    match engine {
        Origin::Flag(flag) => format!("start with {flag} redb"),
        Origin::File { path, line, .. } => {
            format!(
                "change line {line} of {} to \"Engine = redb\"",
                path.display()
            )
        }
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%=:,".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pyzor_storage::redb_engine::RedbOptions;
    use tempfile::TempDir;

    use super::*;

    /// Store and warning, or problem.
    type Outcome = Result<(String, Option<String>), String>;

    /// A home directory, and what its configuration file says about the store.
    struct Home(TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn with_gdbm_file(self, name: &str) -> Self {
            fs::write(self.0.path().join(name), "digests").unwrap();
            self
        }

        fn with_store(self, name: &str) -> Self {
            let directory = self.0.path().join(name);
            let clock = std::sync::Arc::new(pyzor_storage::redb_engine::SystemClock);
            RedbEngine::open(&directory, RedbOptions::default(), clock)
                .unwrap()
                .close();
            self
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn written(&self, key: &'static str, line: usize, value: &str) -> Written {
            Written {
                origin: Origin::File {
                    path: self.path().join("config"),
                    line,
                    key,
                },
                value: value.to_owned(),
            }
        }

        /// The outcome, with `HOME` for the home directory in every text.
        fn choose(&self, engine: Option<Engine>, digest_db: Option<&str>) -> Outcome {
            let engine = engine.map(|engine| (engine, self.written("Engine", 2, "").origin));
            let digest_db = digest_db.map(|value| self.written("DigestDB", 3, value));
            let place = |text: String| text.replace(self.path().to_str().unwrap(), "HOME");
            choose(self.path(), &self.path().join("config"), engine, digest_db)
                .map(|choice| {
                    (
                        place(choice.directory.display().to_string()),
                        choice.warning.map(place),
                    )
                })
                .map_err(place)
        }
    }

    #[track_caller]
    fn assert_starts_on(store: &str, outcome: &Outcome) {
        assert_eq!(*outcome, Ok((store.to_owned(), None)));
    }

    const IMPORT: &str =
        "pyzor-migrate --se gdbm --sd HOME/pyzord.db --de redb --dd HOME/pyzord.redb";

    #[test]
    fn a_fresh_home_starts_empty() {
        assert_starts_on("HOME/pyzord.redb", &Home::new().choose(None, None));
        assert_starts_on("HOME/pyzord.redb", &Home::new().choose(None, Some("")));
        assert_starts_on("HOME/x/y", &Home::new().choose(None, Some("x/y")));
        assert_starts_on("/x", &Home::new().choose(Some(Engine::Redb), Some("/x")));
    }

    #[test]
    fn a_python_servers_digests_are_not_passed_over() {
        let home = Home::new().with_gdbm_file("pyzord.db");
        for digest_db in [None, Some("pyzord.db"), Some("pyzord.redb")] {
            let problem = home.choose(None, digest_db).unwrap_err();
            assert!(
                problem.contains("HOME/pyzord.db holds the digests of a Python server"),
                "{problem}"
            );
            assert!(problem.contains(IMPORT), "{problem}");
            assert!(
                problem.contains("write \"Engine = redb\" into section [server] of HOME/config"),
                "{problem}"
            );
        }
        let elsewhere = Home::new().with_gdbm_file("my digests");
        let problem = elsewhere.choose(None, Some("my digests")).unwrap_err();
        assert!(
            problem.contains("--sd 'HOME/my digests' --de redb --dd 'HOME/my digests.redb'"),
            "{problem}"
        );
    }

    #[test]
    fn after_the_import_the_old_configuration_goes_on_working() {
        let home = Home::new()
            .with_gdbm_file("pyzord.db")
            .with_store("pyzord.redb");
        assert_starts_on("HOME/pyzord.redb", &home.choose(None, None));
        let (store, warning) = home.choose(None, Some("pyzord.db")).unwrap();
        assert_eq!(store, "HOME/pyzord.redb");
        assert_eq!(
            warning.as_deref(),
            Some(
                "HOME/config:3: DigestDB names a file of the Python server; digests are kept in HOME/pyzord.redb instead"
            )
        );
    }

    #[test]
    fn redb_written_out_starts_empty_beside_the_old_file() {
        let home = Home::new().with_gdbm_file("pyzord.db");
        assert_starts_on("HOME/pyzord.redb", &home.choose(Some(Engine::Redb), None));
        let (store, warning) = home.choose(Some(Engine::Redb), Some("pyzord.db")).unwrap();
        assert_eq!(store, "HOME/pyzord.redb");
        assert!(warning.is_some());
    }

    #[test]
    fn gdbm_is_refused_with_the_way_to_ours() {
        let home = Home::new().with_gdbm_file("pyzord.db");
        let problem = home
            .choose(Some(Engine::Gdbm), Some("pyzord.db"))
            .unwrap_err();
        assert!(
            problem.starts_with("HOME/config:2: Engine = gdbm: "),
            "{problem}"
        );
        assert!(problem.contains(IMPORT), "{problem}");
        assert!(
            problem.ends_with("Then change line 2 of HOME/config to \"Engine = redb\"."),
            "{problem}"
        );
        let imported = home.with_store("pyzord.redb");
        assert_eq!(
            imported
                .choose(Some(Engine::Gdbm), Some("pyzord.db"))
                .unwrap_err(),
            "HOME/config:2: Engine = gdbm: the digests are served from HOME/pyzord.redb; \
             change line 2 of HOME/config to \"Engine = redb\""
        );
        let nothing = Home::new().choose(Some(Engine::Gdbm), None).unwrap_err();
        assert!(!nothing.contains("pyzor-migrate"), "{nothing}");
    }

    #[test]
    fn database_servers_are_refused_and_their_passwords_kept() {
        let dsn = "localhost,pyzor,secret,pyzor,public";
        for (engine, name) in [
            (Some(Engine::Mysql), "mysql"),
            (Some(Engine::Redis), "redis"),
            (None, ""),
        ] {
            let problem = Home::new().choose(engine, Some(dsn)).unwrap_err();
            assert!(problem.contains(name), "{problem}");
            assert!(problem.contains("\"Engine = redb\""), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
            if engine.is_some() {
                let copy_and_import = "DSN HOME/pyzord.db|--sd DSN --de gdbm --dd HOME/pyzord.db";
                assert!(
                    copy_and_import
                        .split('|')
                        .any(|copy| problem.contains(copy)),
                    "{problem}"
                );
                assert!(problem.contains(IMPORT), "{problem}");
            }
        }
        let (store, warning) = Home::new().choose(Some(Engine::Redb), Some(dsn)).unwrap();
        assert_eq!(store, "HOME/pyzord.redb");
        assert!(!warning.unwrap().contains("secret"));
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(
            quoted(Path::new("/etc/pyzor/pyzord.db")),
            "/etc/pyzor/pyzord.db"
        );
        assert_eq!(quoted(Path::new("/my home/it's")), r"'/my home/it'\''s'");
    }
}
