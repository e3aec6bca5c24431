//! The settings: each one's key in the configuration file and option on the command line.

use crate::flags::Flags;

/// A setting that can be written in two places.
pub(super) struct Key {
    /// As documented; any case is read.
    pub(super) name: &'static str,
    /// The option of the command line.
    pub(super) flag: &'static str,
    /// What was typed with it.
    pub(super) typed: fn(&Flags) -> Option<&str>,
    /// What values of the file that refer to the setting get if nobody sets it: the Python server's default. None for a
    /// setting that it does not have.
    pub(super) default: Option<&'static str>,
}

impl Key {
    /// Whether this is what `name` in the file means.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Defines each key and lists them all.
macro_rules! keys {
    ($list:ident: $($constant:ident = $name:literal, $flag:literal, $field:ident, $default:expr;)*) => {
        $(pub(super) const $constant: Key = Key {
            name: $name,
            flag: $flag,
            typed: |flags| flags.$field.as_deref(),
            default: $default,
        };)*
        pub(super) const $list: &[&Key] = &[$(&$constant),*];
    };
}

keys! { ALL:
    NICE = "Nice", "--nice", nice, None;
    LISTEN_ADDRESS = "ListenAddress", "--address", listen_address, Some("0.0.0.0");
    PORT = "Port", "--port", port, Some("24441");
    IO = "Io", "--io", io, None;
    WORKERS = "Workers", "--workers", workers, None;
    ENGINE = "Engine", "--database-engine", engine, Some("gdbm");
    DIGEST_DB = "DigestDB", "--dsn", digest_db, Some("pyzord.db");
    CLEANUP_AGE = "CleanupAge", "--cleanup-age", cleanup_age, Some("10368000");
    DURABILITY = "Durability", "--durability", durability, None;
    HOT_SET_MEMORY = "HotSetMemory", "--hot-set-memory", hot_set_memory, None;
    STORE_CACHE = "StoreCache", "--store-cache", store_cache, None;
    PASSWD_FILE = "PasswdFile", "--password-file", passwd_file, Some("pyzord.passwd");
    ACCESS_FILE = "AccessFile", "--access-file", access_file, Some("pyzord.access");
    LOG_FILE = "LogFile", "--log-file", log_file, Some("");
    USAGE_LOG_FILE = "UsageLogFile", "--usage-log-file", usage_log_file, Some("");
    RECORD_FILE = "RecordFile", "--record", record, None;
    RECORD_SAMPLE = "RecordSample", "--record-sample", record_sample, None;
    RECORD_MAX_BYTES = "RecordMaxBytes", "--record-max-bytes", record_max_bytes, None;
    RECORD_ANONYMIZE = "RecordAnonymize", "--record-anonymize", record_anonymize, None;
    PID_FILE = "PidFile", "--pid-file", pid_file, Some("pyzord.pid");
    FORWARD_CLIENT_HOMEDIR = "ForwardClientHomeDir", "--forward-client-homedir", forward_client_homedir, Some("");
}

keys! { OF_THE_PYTHON_SERVER:
    THREADS = "Threads", "--threads", threads, Some("False");
    MAX_THREADS = "MaxThreads", "--max-threads", max_threads, Some("0");
    PROCESSES = "Processes", "--processes", processes, Some("False");
    MAX_PROCESSES = "MaxProcesses", "--max-processes", max_processes, Some("40");
    DB_CONNECTIONS = "DBConnections", "--db-connections", db_connections, Some("0");
    PRE_FORK = "PreFork", "--pre-fork", pre_fork, Some("0");
    GEVENT = "Gevent", "--gevent", gevent, Some("False");
}

/// Keys that begin like this configure the Python server's error reports to a third party.
pub(super) const SENTRY_PREFIX: &str = "sentry";
