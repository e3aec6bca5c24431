//! What was typed. Values stay text here: [`crate::config`] reads them together with the configuration file's.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Error, Parser};

use crate::commands::{self, Command};
use crate::generate::Document;
use crate::scan_socket::ServeFlags;

/// Asks Pyzor servers how often a message was reported as spam, and reports messages.
///
/// Reads one message from standard input, or several with --style, and runs the commands in their order until one fails. Each gets
/// the same input: for more than one, up to 256 MiB.
///
/// Exit status: 0 when every server answered 200, and for check and pong at least one count is above the report threshold and no
/// whitelist count above the other; else 1; 2 when the command line cannot be used, before anything is sent.
///
/// Most options can also be a line of section `[client]` in the file `config` of the home directory: `ServersFile`, `AccountsFile`,
/// `LocalWhitelist`, `LogFile`, `Timeout`, `Style`, `ReportThreshold`, `WhitelistThreshold`. The command line wins.
/// Relative file names are relative to the home directory, and `~` is expanded.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "pyzor",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
pub struct Flags {
    /// What to do; several are run one after the other
    #[arg(value_name = "COMMAND", value_parser = CommandParser)]
    pub commands: Vec<Command>,

    /// Directory of the configuration [default: ~/.pyzor, or /etc/pyzor for a user without a home]; created if missing
    #[arg(long, value_name = "DIR")]
    pub homedir: Option<String>,

    /// What is on standard input: msg (one message), mbox (a mailbox) or digests (one per line) [default: msg]
    #[arg(short, long, value_name = "STYLE", help_heading = "Input and output")]
    pub style: Option<String>,

    /// Print one JSON object per line instead
    #[arg(long, help_heading = "Input and output")]
    pub json: bool,

    /// Servers, one HOST:PORT per line, IPv6 addresses in brackets [default: servers, or public.pyzor.org:24441 where that names
    /// none]
    #[arg(long, value_name = "FILE", help_heading = "Servers")]
    pub servers_file: Option<String>,

    /// Accounts, one "host : port : user : salt,key" per line [default: accounts]
    #[arg(long, value_name = "FILE", help_heading = "Servers")]
    pub accounts_file: Option<String>,

    /// Seconds until there are all the answers about one message, with looking up servers and printing [default: 5]
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        allow_hyphen_values = true,
        help_heading = "Servers"
    )]
    pub timeout: Option<String>,

    /// Do not ask a second time, at another address if there is one, when nothing has come by a third of the timeout; reports
    /// are never sent twice anyway
    #[arg(long, help_heading = "Servers")]
    pub no_retry: bool,

    /// A count above this is a hit [default: 0]
    #[arg(
        short,
        long,
        value_name = "NUMBER",
        allow_hyphen_values = true,
        help_heading = "Hits"
    )]
    pub report_threshold: Option<String>,

    /// A whitelist count above this makes it no hit [default: 0]
    #[arg(
        short,
        long,
        value_name = "NUMBER",
        allow_hyphen_values = true,
        help_heading = "Hits"
    )]
    pub whitelist_threshold: Option<String>,

    /// Digests that check answers by itself, with 0 and 0 [default: whitelist]
    #[arg(long, value_name = "FILE", help_heading = "Hits")]
    pub local_whitelist: Option<String>,

    /// Where to log [default: nowhere]
    #[arg(long, value_name = "FILE", help_heading = "Logs and process")]
    pub log_file: Option<String>,

    /// Log debugging details too, and everything to standard error
    #[arg(short, long, help_heading = "Logs and process")]
    pub debug: bool,

    /// Nice level to add, from -20 to 19
    #[arg(
        short,
        long,
        value_name = "LEVEL",
        allow_hyphen_values = true,
        help_heading = "Logs and process"
    )]
    pub nice: Option<String>,

    /// Print the manual page or a shell's completions, and nothing else
    #[arg(long, value_name = "KIND")]
    pub generate: Option<Document>,

    /// What only `serve` takes. Last, because its heading would be that of what follows.
    #[command(flatten)]
    pub serve: ServeFlags,
}

/// Takes the commands that there are, and tells them to help and completions.
#[derive(Clone)]
struct CommandParser;

impl TypedValueParser for CommandParser {
    type Value = Command;

    fn parse_ref(
        &self,
        clap: &clap::Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Command, Error> {
        let typed = value.to_str().and_then(Command::from_name);
        typed.ok_or_else(|| {
            let names = PossibleValuesParser::new(commands::NAMES.map(|(name, _)| name));
            let refusal = names.parse_ref(clap, argument, value).err();
            let nearest = match refusal
                .as_ref()
                .and_then(|it| it.get(ContextKind::SuggestedValue))
            {
                Some(ContextValue::String(name)) => format!("; the nearest is {name}"),
                _ => String::new(),
            };
            let message = format!("there is no command {}{nearest}", value.display());
            Error::raw(ErrorKind::InvalidValue, message).with_cmd(clap)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = commands::NAMES.iter();
        Some(Box::new(
            names.map(|(name, help)| PossibleValue::new(name).help(*help)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typed: &str) -> Result<Flags, Error> {
        Flags::try_parse_from(typed.split(' '))
    }

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
    }

    #[test]
    fn every_option_of_the_reference_is_taken() {
        let flags = parse("pyzor -n -5 -d -s mbox -t 7 -r -1 -w 2 check").unwrap();
        assert_eq!(flags.nice.as_deref(), Some("-5"));
        assert_eq!(flags.style.as_deref(), Some("mbox"));
        assert_eq!(flags.timeout.as_deref(), Some("7"));
        assert_eq!(flags.report_threshold.as_deref(), Some("-1"));
        assert_eq!(flags.whitelist_threshold.as_deref(), Some("2"));
        assert!(flags.debug);
        for option in [
            "nice",
            "homedir",
            "style",
            "log-file",
            "servers-file",
            "accounts-file",
            "local-whitelist",
            "timeout",
            "report-threshold",
            "whitelist-threshold",
        ] {
            assert!(parse(&format!("pyzor --{option} x")).is_ok(), "{option}");
            assert!(parse(&format!("pyzor --{option}=x")).is_ok(), "{option}");
            assert!(parse(&format!("pyzor --{option}")).is_err(), "{option}");
        }
    }

    #[test]
    fn options_stand_anywhere_are_abbreviated_and_repeated_as_python_allows() {
        let flags = parse("pyzor check --home a --homedir b --serv c report").unwrap();
        assert_eq!(flags.homedir.as_deref(), Some("b"));
        assert_eq!(flags.servers_file.as_deref(), Some("c"));
        assert_eq!(
            flags.commands,
            ["check", "report"].map(|name| Command::from_name(name).unwrap())
        );
        assert!(parse("pyzor --lo 1").is_err(), "ambiguous");
    }

    #[test]
    fn an_unknown_command_is_refused_with_the_nearest_name() {
        for (typed, expected) in [
            ("chek", "there is no command chek; the nearest is check"),
            ("Ping", "there is no command Ping"),
            ("x", "there is no command x"),
        ] {
            let refusal = parse(&format!("pyzor ping {typed}"))
                .unwrap_err()
                .to_string();
            let first = refusal.lines().next().unwrap();
            assert!(first.contains(expected), "{refusal}");
        }
        assert!(parse("pyzor check -").is_ok());
    }
}
