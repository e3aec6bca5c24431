//! What was typed. Values stay text here: [`crate::config`] reads them together with the configuration file's, so that
//! every mistake is reported at once and in the same words.

use clap::Parser;

/// Listens for Pyzor requests and answers them.
///
/// Every option but --homedir, --check-config, --detach and --debug can also be a line of section `[server]` in the file `config` of the
/// home directory; the command line wins. Relative file names are relative to the home directory, and `~` is expanded.
///
/// SIGUSR1 and SIGHUP read the passwd and access files again and reopen the logs. SIGUSR2 switches recording on and off. SIGTERM and SIGINT stop the server
/// once it has answered what has arrived; a second one stops it at once.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "pyzord",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
pub struct Flags {
    /// Directory of the configuration [default: ~/.pyzor, or /etc/pyzor for a user without a home]; created if missing
    #[arg(long, value_name = "DIR")]
    pub homedir: Option<String>,

    /// Read what a start reads, print every mistake, and end: with status 0 if there is none, else 1
    ///
    /// Reads the configuration, the passwd and access files, and looks at the logs, the store, the addresses and the way to
    /// the kernel. Nothing is created or changed, and a server may be running. What has no effect, such as a misspelt key or a
    /// rule for a user without an account, is a mistake here; a server starts with it and logs a warning.
    #[arg(long, help_heading = "Process")]
    pub check_config: bool,

    /// Run in the background, with FILE for its output; returns when requests are answered, or prints why not
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub detach: Option<String>,

    /// Holds the process id while a detached server runs [default: pyzord.pid]
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub pid_file: Option<String>,

    /// Nice level to add, from -20 to 19
    #[arg(
        short,
        long,
        value_name = "LEVEL",
        allow_hyphen_values = true,
        help_heading = "Process"
    )]
    pub nice: Option<String>,

    /// IP addresses or host names to listen on, separated by commas or blanks; * is every address, :: too unless an IPv4
    /// address stands beside it [default: *]
    #[arg(
        short = 'a',
        long = "address",
        value_name = "ADDRESSES",
        help_heading = "Network"
    )]
    pub listen_address: Option<String>,

    /// UDP port to listen on [default: 24441]
    #[arg(short, long, value_name = "PORT", help_heading = "Network")]
    pub port: Option<String>,

    /// How to talk to the kernel: auto, uring or mmsg [default: auto, which is uring where it works]
    #[arg(long, value_name = "WAY", help_heading = "Network")]
    pub io: Option<String>,

    /// Worker threads, each on a core of its own [default: one a core that we may use]
    #[arg(long, value_name = "NUMBER", help_heading = "Network")]
    pub workers: Option<String>,

    /// Kind of the store; redb is the only one so far
    #[arg(
        short = 'e',
        long = "database-engine",
        value_name = "ENGINE",
        help_heading = "Store"
    )]
    pub engine: Option<String>,

    /// Directory of the store [default: pyzord.redb]
    #[arg(long = "dsn", value_name = "DIR", help_heading = "Store")]
    pub digest_db: Option<String>,

    /// Seconds after which a digest that nobody reports any more is forgotten, 0 for never [default: 10368000]
    #[arg(long, value_name = "SECONDS", help_heading = "Store")]
    pub cleanup_age: Option<String>,

    /// When a report is acknowledged: group (when it is safe on disk) or relaxed (at once) [default: group]
    #[arg(long, value_name = "WHEN", help_heading = "Store")]
    pub durability: Option<String>,

    /// Memory for digests in use, with suffix K, M or G [default: 256M, a quarter of all memory at most]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    pub hot_set_memory: Option<String>,

    /// Memory for pages of the store's files, with suffix K, M or G [default: 256M, a quarter of all memory at most]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    pub store_cache: Option<String>,

    /// Accounts, one "user : key" a line [default: pyzord.passwd]
    #[arg(
        long = "password-file",
        value_name = "FILE",
        help_heading = "Access control"
    )]
    pub passwd_file: Option<String>,

    /// Permissions, one "operations : users : allow|deny" a line; the last match wins [default: pyzord.access]
    #[arg(long, value_name = "FILE", help_heading = "Access control")]
    pub access_file: Option<String>,

    /// Where to log; stderr is standard error [default: nowhere, and warnings to standard error]
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    pub log_file: Option<String>,

    /// Where to log every request; stderr is standard error [default: nowhere]
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    pub usage_log_file: Option<String>,

    /// Record the requests that arrive, as a pcap file that tcpdump and Wireshark read
    ///
    /// A relative FILE lies in the home directory, as every file that is named here does. A packet's time is when a worker received it, which may be a little after the kernel did. USR2 switches recording
    /// off and on again, each time with a new file; FILE.1 to FILE.3 are the ones before. Named by `RecordFile` in the file
    /// `config` alone, it starts off. A disk that fails or is nearly full pauses the recording, which is logged, until USR2
    /// or HUP. HUP begins a new file if FILE was moved away.
    #[arg(long, value_name = "FILE", help_heading = "Recording")]
    pub record: Option<String>,

    /// Share of the sources to record, such as 0.1; a source is recorded with all its requests or none [default: 1]
    #[arg(long, value_name = "SHARE", help_heading = "Recording")]
    pub record_sample: Option<String>,

    /// Size at which a new file is begun, with suffix K, M or G [default: 1G]
    #[arg(long, value_name = "SIZE", help_heading = "Recording")]
    pub record_max_bytes: Option<String>,

    /// Record pseudonyms for sources and users: yes or no [default: yes]
    ///
    /// Addresses become ones of 240.0.0.0/4 and `fd00::/64`, the same for the same source until the server ends, and with no
    /// way back. A named user becomes another name, and what they signed loses its signature. Ports, digests and times
    /// stay.
    #[arg(long, value_name = "BOOL", help_heading = "Recording")]
    pub record_anonymize: Option<String>,

    /// Log debugging details too, and everything to standard error
    #[arg(short, long, help_heading = "Logs")]
    pub debug: bool,

    /// Not there yet: forward reports to the servers of a client's home directory
    #[arg(long, value_name = "DIR", help_heading = "Of the Python server")]
    pub forward_client_homedir: Option<String>,

    /// Ignored, as are the next six: --workers decides
    #[arg(long, value_name = "BOOL", help_heading = "Of the Python server")]
    pub threads: Option<String>,

    /// Ignored
    #[arg(long, value_name = "NUMBER", help_heading = "Of the Python server")]
    pub max_threads: Option<String>,

    /// Ignored
    #[arg(long, value_name = "BOOL", help_heading = "Of the Python server")]
    pub processes: Option<String>,

    /// Ignored
    #[arg(long, value_name = "NUMBER", help_heading = "Of the Python server")]
    pub max_processes: Option<String>,

    /// Ignored
    #[arg(long, value_name = "NUMBER", help_heading = "Of the Python server")]
    pub db_connections: Option<String>,

    /// Ignored
    #[arg(long, value_name = "BOOL", help_heading = "Of the Python server")]
    pub pre_fork: Option<String>,

    /// Ignored
    #[arg(long, value_name = "BOOL", help_heading = "Of the Python server")]
    pub gevent: Option<String>,

    /// How the parent of a detached server tells it that standard input is the pipe to report on.
    #[arg(long, hide = true)]
    pub report_on_stdin: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typed: &str) -> Result<Flags, clap::Error> {
        Flags::try_parse_from(typed.split(' '))
    }

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
    }

    #[test]
    fn the_short_options_are_the_references() {
        let flags = parse("pyzord -n -5 -d -a 127.0.0.1 -p 1 -e redb").unwrap();
        assert_eq!(flags.nice.as_deref(), Some("-5"));
        assert!(flags.debug);
        assert_eq!(flags.listen_address.as_deref(), Some("127.0.0.1"));
        assert_eq!(flags.port.as_deref(), Some("1"));
        assert_eq!(flags.engine.as_deref(), Some("redb"));
    }

    #[test]
    fn every_long_option_of_the_reference_is_taken() {
        for option in [
            "nice",
            "homedir",
            "address",
            "port",
            "database-engine",
            "dsn",
            "gevent",
            "threads",
            "max-threads",
            "processes",
            "max-processes",
            "db-connections",
            "pre-fork",
            "password-file",
            "access-file",
            "cleanup-age",
            "log-file",
            "usage-log-file",
            "pid-file",
            "forward-client-homedir",
            "detach",
        ] {
            assert!(parse(&format!("pyzord --{option} x")).is_ok(), "{option}");
            assert!(parse(&format!("pyzord --{option}=x")).is_ok(), "{option}");
            assert!(parse(&format!("pyzord --{option}")).is_err(), "{option}");
        }
        assert!(parse("pyzord --debug").unwrap().debug);
    }

    #[test]
    fn options_are_abbreviated_and_repeated_as_python_allows() {
        let flags = parse("pyzord --home a --homedir b --usage c").unwrap();
        assert_eq!(flags.homedir.as_deref(), Some("b"));
        assert_eq!(flags.usage_log_file.as_deref(), Some("c"));
        assert!(parse("pyzord --pr 1").is_err(), "ambiguous");
    }

    #[test]
    fn help_shows_every_option_but_the_hidden_one() {
        use clap::CommandFactory;
        let help = Flags::command().render_long_help().to_string();
        assert!(help.contains("--usage-log-file <FILE>"));
        assert!(help.contains("SIGHUP"));
        assert!(!help.contains("report-on-stdin"));
    }
}
