//! Which store to open, or how an operator gets from the Python server's store to ours.
//!
//! The rule that protects them: a server never starts empty where the Python server's digests lie, unless it is told
//! to. `Engine = redb` says so; having imported says so too, because then our store is there.

use std::path::{Path, PathBuf};

use pyzor_storage::redb_engine::RedbEngine;

use super::{Engine, Origin, Written, home};

/// Our store's directory, unless configured.
const DEFAULT_STORE: &str = "pyzord.redb";

/// Where the reference keeps its digests, unless configured.
const REFERENCE_DEFAULT: &str = "pyzord.db";

/// What names of gdbm files end in by custom, and what names of our stores do.
const GDBM_EXTENSION: &str = "db";
const STORE_EXTENSION: &str = "redb";

/// Commas that a `DigestDB` for MySQL (`host,user,password,db,table`) or Redis (`host,port,password,db`) has at least.
const DSN_COMMAS: usize = 3;

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
        Some((Engine::Mysql, origin)) => return Err(move_over.instead_of_server("mysql", &origin)),
        Some((Engine::Redis, origin)) => return Err(move_over.instead_of_server("redis", &origin)),
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

    fn instead_of_server(&self, name: &str, engine: &Origin) -> String {
        let written = engine.with_value(name);
        let change = change_to_redb(engine);
        let gdbm_file = quoted(&self.gdbm_file);
        let import = self.import();
        format!(
            "{written}: this server cannot use {name} yet. To keep the digests, copy them into a gdbm file with the \
             Python server's pyzor-migrate (--se {name} --sd DSN --de gdbm --dd {gdbm_file}) first. {import}\n\
             Then, or to begin without them, {change}."
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
        format!(
            "Stop the Python server and import its digests with\n    \
             pyzor-migrate --se gdbm --sd {} --de redb --dd {}",
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
