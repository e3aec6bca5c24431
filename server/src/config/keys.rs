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
}

/// Defines each key and lists them all.
macro_rules! keys {
    ($list:ident: $($constant:ident = $name:literal, $flag:literal, $field:ident;)*) => {
        $(pub(super) const $constant: Key = Key {
            name: $name,
            flag: $flag,
            typed: |flags| flags.$field.as_deref(),
        };)*
        pub(super) const $list: &[&Key] = &[$(&$constant),*];
    };
}

keys! { ALL:
    NICE = "Nice", "--nice", nice;
    LISTEN_ADDRESS = "ListenAddress", "--address", listen_address;
    PORT = "Port", "--port", port;
    IO = "Io", "--io", io;
    WORKERS = "Workers", "--workers", workers;
    ENGINE = "Engine", "--database-engine", engine;
    DIGEST_DB = "DigestDB", "--dsn", digest_db;
    CLEANUP_AGE = "CleanupAge", "--cleanup-age", cleanup_age;
    DURABILITY = "Durability", "--durability", durability;
    HOT_SET_MEMORY = "HotSetMemory", "--hot-set-memory", hot_set_memory;
    STORE_CACHE = "StoreCache", "--store-cache", store_cache;
    PASSWD_FILE = "PasswdFile", "--password-file", passwd_file;
    ACCESS_FILE = "AccessFile", "--access-file", access_file;
    LOG_FILE = "LogFile", "--log-file", log_file;
    USAGE_LOG_FILE = "UsageLogFile", "--usage-log-file", usage_log_file;
    RECORD_FILE = "RecordFile", "--record", record;
    RECORD_SAMPLE = "RecordSample", "--record-sample", record_sample;
    RECORD_MAX_BYTES = "RecordMaxBytes", "--record-max-bytes", record_max_bytes;
    RECORD_ANONYMIZE = "RecordAnonymize", "--record-anonymize", record_anonymize;
    PID_FILE = "PidFile", "--pid-file", pid_file;
    FORWARD_CLIENT_HOMEDIR = "ForwardClientHomeDir", "--forward-client-homedir", forward_client_homedir;
}

keys! { OF_THE_PYTHON_SERVER:
    THREADS = "Threads", "--threads", threads;
    MAX_THREADS = "MaxThreads", "--max-threads", max_threads;
    PROCESSES = "Processes", "--processes", processes;
    MAX_PROCESSES = "MaxProcesses", "--max-processes", max_processes;
    DB_CONNECTIONS = "DBConnections", "--db-connections", db_connections;
    PRE_FORK = "PreFork", "--pre-fork", pre_fork;
    GEVENT = "Gevent", "--gevent", gevent;
}

/// Keys that begin like this configure the Python server's error reports to a third party.
pub(super) const SENTRY_PREFIX: &str = "sentry";
