//! What commands that ask servers work with. It is read once and never changes, so that several threads may share one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pyzor_protocol::{ANONYMOUS_USER, AccountKey};

use crate::addresses::Addresses;
use crate::config::Config;
use crate::error::Error;
use crate::exchange;
use crate::home_files::{self, Account, ServerName};
use crate::local_whitelist::LocalWhitelist;
use crate::log::Log;

/// The part of the time-out that is kept for starting and printing: SpamAssassin ends a client that takes as long as its own
/// time-out, which is 5 seconds, too.
const RESERVED_FRACTION: u32 = 20;

/// Servers with their addresses and accounts, thresholds, the local whitelist and the log.
#[derive(Debug)]
pub struct Session {
    /// Whom to ask, in the order of the file; at least one.
    pub servers: Vec<Server>,
    /// How long to wait for them.
    pub patience: Patience,
    /// A count above this is a hit.
    pub report_threshold: i64,
    /// A whitelist count above this makes it none.
    pub whitelist_threshold: i64,
    /// Digests that `check` does not ask about.
    pub local_whitelist: LocalWhitelist,
    /// Whether answers are written as JSON.
    pub json: bool,
    /// Where failures go.
    pub log: Arc<Log>,
}

/// A server, and who asks it.
#[derive(Debug)]
pub struct Server {
    /// As the file names it.
    pub name: ServerName,
    /// Where it is.
    pub addresses: Addresses,
    /// Who asks.
    pub account: Account,
}

/// How long to wait for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For all servers together.
    pub timeout: Duration,
    /// Whether a server that has not answered by a third of it is asked once more, where that cannot count twice.
    pub retry: bool,
}

impl Session {
    /// Reads the files that `config` names, and begins to look up the servers' addresses.
    ///
    /// # Errors
    /// When a file cannot be used. A server without an address is none: it fails when it is asked.
    pub fn open(config: &Config, log: Arc<Log>) -> Result<Self, Error> {
        let names = home_files::servers(config.servers_file.as_deref(), &log)?;
        let file = home_files::accounts(config.accounts_file.as_deref(), &log)?;
        if let Some(problem) = file.problem
            && !names.iter().any(|name| file.accounts.contains_key(name))
        {
            log.critical(&format!("{problem}; servers are asked as anonymous"));
        }
        let local_whitelist = match config.local_whitelist.as_deref() {
            Some(path) => LocalWhitelist::read(path)?,
            None => LocalWhitelist::default(),
        };
        Ok(Self {
            servers: names
                .into_iter()
                .map(|name| server(name, &file.accounts))
                .collect(),
            patience: Patience {
                timeout: config
                    .timeout
                    .saturating_sub(config.timeout / RESERVED_FRACTION),
                retry: config.retry,
            },
            report_threshold: config.report_threshold,
            whitelist_threshold: config.whitelist_threshold,
            local_whitelist,
            json: config.json,
            log,
        })
    }
}

/// A session that goes on for long.
impl Session {
    /// Whether a server is known by name, so that its address may change.
    pub(crate) fn depends_on_names(&self) -> bool {
        self.servers.iter().any(|server| server.name.is_looked_up())
    }

    /// File descriptors that one question takes at most.
    pub(crate) fn sockets_per_question(&self) -> usize {
        let sockets = self.servers.iter().map(|server| {
            if server.name.is_looked_up() {
                exchange::MAX_SOCKETS
            } else {
                1
            }
        });
        sockets.sum()
    }

    /// Whether every server's address is known.
    pub(crate) fn knows_all_addresses(&self) -> bool {
        let mut servers = self.servers.iter();
        servers.all(|server| server.addresses.are_known())
    }

    /// The same with addresses looked up again, all at the same time, and waited for. One that is known stays if nobody knows
    /// it any more.
    pub(crate) fn with_fresh_addresses(&self) -> Self {
        let servers = self.servers.iter();
        let looked_up: Vec<_> = servers.map(|server| Addresses::of(&server.name)).collect();
        let servers = self.servers.iter().zip(looked_up);
        let servers = servers.map(|(server, fresh)| Server {
            name: server.name.clone(),
            addresses: fresh.in_place_of(&server.addresses),
            account: server.account.clone(),
        });
        Self {
            servers: servers.collect(),
            local_whitelist: self.local_whitelist.clone(),
            log: Arc::clone(&self.log),
            ..*self
        }
    }
}

fn server(name: ServerName, accounts: &HashMap<ServerName, Account>) -> Server {
    Server {
        account: accounts.get(&name).cloned().unwrap_or_else(anonymous),
        addresses: Addresses::of(&name),
        name,
    }
}

pub(crate) fn anonymous() -> Account {
    Account {
        user: ANONYMOUS_USER.into(),
        key: AccountKey::anonymous(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn session(host: &str, known: io::Result<Vec<std::net::SocketAddr>>) -> Session {
        let name = ServerName {
            host: host.to_owned(),
            port: 5,
        };
        let server = Server {
            name,
            addresses: Addresses::known(known),
            account: anonymous(),
        };
        Session {
            servers: vec![server],
            patience: Patience {
                timeout: Duration::from_secs(1),
                retry: true,
            },
            report_threshold: 0,
            whitelist_threshold: 0,
            local_whitelist: LocalWhitelist::default(),
            json: false,
            log: Arc::new(Log::open(None, false).unwrap()),
        }
    }

    #[test]
    fn fresh_addresses_replace_those_that_were_unknown_or_have_changed() {
        let old = vec!["192.0.2.1:5".parse().unwrap()];
        for known in [Ok(old), Err(io::ErrorKind::NotFound.into())] {
            let session = session("localhost", known).with_fresh_addresses();
            assert!(session.knows_all_addresses());
            let addresses = session.servers[0].addresses.found().unwrap().unwrap();
            assert!(addresses[0].ip().is_loopback());
        }
    }

    #[test]
    fn addresses_depend_on_no_name() {
        for (host, depends) in [("127.0.0.1", false), ("::1", false), ("a.example", true)] {
            let session = session(host, Err(io::ErrorKind::NotFound.into()));
            assert_eq!(session.depends_on_names(), depends);
            assert!(!session.knows_all_addresses());
        }
    }
}
