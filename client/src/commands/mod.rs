//! What each command does.
//!
//! | file | commands |
//! | --- | --- |
//! | `ask` | `check`, `info`, `report`, `whitelist`, `ping`, `pong` |
//! | `change_whitelist` | `local_whitelist`, `local_unwhitelist` |
//! | `genkey` | `genkey` |
//!
//! `digest` and `predigest` are here. What a command prints goes through the [`Printer`]; whether it succeeded is the exit
//! status.

mod ask;
mod change_whitelist;
mod genkey;

use std::sync::Arc;

use pyzor_protocol::{DigestText, Operation};
use serde::Serialize;

use crate::config::Config;
use crate::digester;
use crate::error::Error;
use crate::input::{self, Input, Style};
use crate::log::Log;
use crate::output::json_line;
use crate::printer::Printer;
use crate::session::Session;

/// Every command's name, and what it does.
pub(crate) const NAMES: [(&str, &str); 12] = [
    ("check", "How often was it reported and whitelisted?"),
    ("info", "The same, with the first and latest times"),
    ("report", "Count it as spam"),
    ("whitelist", "Count it as not spam"),
    ("ping", "Is the server there?"),
    (
        "pong",
        "A check that every server answers with a hit, to try what a hit does",
    ),
    ("digest", "Print its digest"),
    ("predigest", "Print what the digest is made of"),
    (
        "genkey",
        "Ask for a passphrase and print a key, and where it belongs",
    ),
    (
        "local_whitelist",
        "Let checks of it answer 0 without asking a server",
    ),
    ("local_unwhitelist", "Ask servers about it again"),
    (
        "serve",
        "Stay, take messages from connections and answer each with one line as check does, with the sum of all servers; TERM stops it, HUP reads the files again",
    ),
];

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask servers.
    Ask(Operation),
    /// Print digests.
    Digest,
    /// Print what a digest is made of.
    Predigest,
    /// Make a key.
    Genkey,
    /// Add to the local whitelist.
    LocalWhitelist,
    /// Remove from the local whitelist.
    LocalUnwhitelist,
    /// Go on until a signal ends it; not run here.
    Serve,
    /// `-`, which stands for standard input in rspamd's documentation: nothing to do.
    StandardInput,
}

impl Command {
    /// The command of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "digest" => Self::Digest,
            "predigest" => Self::Predigest,
            "genkey" => Self::Genkey,
            "local_whitelist" => Self::LocalWhitelist,
            "local_unwhitelist" => Self::LocalUnwhitelist,
            "serve" => Self::Serve,
            "-" => Self::StandardInput,
            name => Self::Ask(Operation::from_name(name.as_bytes())?),
        })
    }

    /// Whether it needs what is on standard input.
    const fn reads_input(self) -> bool {
        match self {
            Self::Ask(operation) => !matches!(operation, Operation::Ping),
            Self::Digest | Self::Predigest | Self::LocalWhitelist | Self::LocalUnwhitelist => true,
            Self::Genkey | Self::Serve | Self::StandardInput => false,
        }
    }
}

/// Runs commands in their order until one does not succeed; whether all did.
///
/// # Errors
/// When a command cannot be run.
pub fn run(commands: &[Command], config: &Config, log: &Arc<Log>) -> Result<bool, Error> {
    let readers = commands.iter().filter(|command| command.reads_input());
    let mut runner = Runner {
        config,
        log,
        session: None,
        input: Input::of_standard_input(readers.count()),
        printer: Printer::new(),
    };
    for &command in commands {
        let is_success = runner.run(command)?;
        runner.printer.flush()?;
        if !is_success {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What commands share.
struct Runner<'a> {
    config: &'a Config,
    log: &'a Arc<Log>,
    /// Opened by the first command that asks servers.
    session: Option<Session>,
    input: Input,
    printer: Printer,
}

impl Runner<'_> {
    fn run(&mut self, command: Command) -> Result<bool, Error> {
        match command {
            Command::Ask(operation) => {
                let session = match self.session.take() {
                    Some(session) => session,
                    None => Session::open(self.config, Arc::clone(self.log))?,
                };
                let is_success = self.ask(operation, &session);
                self.session = Some(session);
                is_success
            }
            Command::Digest => self.digest(),
            Command::Predigest => self.predigest(),
            Command::Genkey => self.genkey(),
            Command::LocalWhitelist => self.change_whitelist(true),
            Command::LocalUnwhitelist => self.change_whitelist(false),
            Command::Serve | Command::StandardInput => Ok(true),
        }
    }

    fn digest(&mut self) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct Json<'a> {
            digest: std::borrow::Cow<'a, str>,
        }
        let is_json = self.config.json;
        self.for_each_digest(|runner, _, digest| {
            let digest = String::from_utf8_lossy(digest.as_bytes());
            let line = if is_json {
                json_line(&Json { digest })
            } else {
                format!("{digest}\n")
            };
            runner.printer.print(line.as_bytes())
        })
    }

    /// Prints what the digest of one message is made of, whatever the style.
    fn predigest(&mut self) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct Json<'a> {
            lines: Vec<std::borrow::Cow<'a, str>>,
        }
        let message = input::message(self.input.reader()?)?;
        let lines = digester::predigest(&message);
        if self.config.json {
            let lines = lines.iter().map(|line| String::from_utf8_lossy(line));
            let json = json_line(&Json {
                lines: lines.collect(),
            });
            self.printer.print(json.as_bytes())?;
            return Ok(true);
        }
        for line in lines {
            self.printer.print(&line)?;
            self.printer.print(b"\n")?;
        }
        Ok(true)
    }

    /// Does something with each digest of standard input and its number, counted from 1; whether all could be used.
    fn for_each_digest(
        &mut self,
        mut act: impl FnMut(&mut Self, usize, &DigestText) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut is_success = true;
        let shows_progress = self.config.style != Style::Msg;
        let digests = input::digests(self.config.style, self.input.reader()?);
        for (number, digest) in (1..).zip(digests) {
            match digest? {
                Ok(digest) => act(self, number, &digest)?,
                Err(unusable) => {
                    self.printer.hide_progress();
                    self.log.critical(&unusable.to_string());
                    is_success = false;
                }
            }
            if shows_progress {
                self.printer.advance();
            }
        }
        Ok(is_success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_name() {
        for operation in Operation::ALL {
            let command = Command::from_name(operation.name());
            assert_eq!(command, Some(Command::Ask(operation)));
        }
        for (name, _) in NAMES {
            assert!(Command::from_name(name).is_some(), "{name}");
        }
        assert_eq!(Command::from_name("CHECK"), None);
        assert_eq!(Command::from_name(""), None);
    }
}
