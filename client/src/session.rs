//! What commands that ask servers work with. It is read once and never changes, so that several threads may share one.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use pyzor_protocol::{ANONYMOUS_USER, AccountKey};

use crate::config::Config;
use crate::error::Error;
use crate::home_files::{self, Account, ServerName};
use crate::local_whitelist::LocalWhitelist;
use crate::log::Log;

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
    /// Where it is; or why nobody knows.
    pub address: Result<SocketAddr, io::Error>,
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
    /// Reads the files that `config` names, and looks up the servers' addresses, which may ask a name server.
    ///
    /// # Errors
    /// When a file cannot be used. A server without an address is none: it fails when it is asked.
    pub fn open(config: &Config, log: Arc<Log>) -> Result<Self, Error> {
        let names = home_files::servers(config.servers_file.as_deref(), &log)?;
        let accounts = home_files::accounts(config.accounts_file.as_deref(), &log)?;
        let local_whitelist = match config.local_whitelist.as_deref() {
            Some(path) => LocalWhitelist::read(path)?,
            None => LocalWhitelist::default(),
        };
        Ok(Self {
            servers: names
                .into_iter()
                .map(|name| server(name, &accounts))
                .collect(),
            patience: Patience {
                timeout: config.timeout,
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
        let mut hosts = self.servers.iter().map(|server| &server.name.host);
        hosts.any(|host| host.parse::<IpAddr>().is_err())
    }

    /// Whether every server's address is known.
    pub(crate) fn knows_all_addresses(&self) -> bool {
        self.servers.iter().all(|server| server.address.is_ok())
    }

    /// The same with addresses looked up again. One that is known stays if nobody knows it any more.
    pub(crate) fn with_fresh_addresses(&self) -> Self {
        let servers = self.servers.iter().map(|server| Server {
            name: server.name.clone(),
            address: match (resolve(&server.name), &server.address) {
                (Err(_), Ok(address)) => Ok(*address),
                (resolved, _) => resolved,
            },
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
        address: resolve(&name),
        name,
    }
}

fn anonymous() -> Account {
    Account {
        user: ANONYMOUS_USER.into(),
        key: AccountKey::anonymous(),
    }
}

/// The first IPv4 address, as the reference takes it; another if there is none.
fn resolve(name: &ServerName) -> io::Result<SocketAddr> {
    let addresses: Vec<_> = (name.host.as_str(), name.port).to_socket_addrs()?.collect();
    let first = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first());
    first.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(host: &str, address: io::Result<SocketAddr>) -> Session {
        let name = ServerName {
            host: host.to_owned(),
            port: 5,
        };
        let server = Server {
            name,
            address,
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
        let old: SocketAddr = "192.0.2.1:5".parse().unwrap();
        for known in [Ok(old), Err(io::ErrorKind::NotFound.into())] {
            let session = session("localhost", known).with_fresh_addresses();
            assert!(session.knows_all_addresses());
            let address = *session.servers[0].address.as_ref().unwrap();
            assert_eq!(address, "127.0.0.1:5".parse().unwrap());
        }
    }

    #[test]
    fn an_address_is_kept_while_the_name_is_unknown() {
        let old: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let session = session("no.such.host.invalid", Ok(old)).with_fresh_addresses();
        assert_eq!(*session.servers[0].address.as_ref().unwrap(), old);
        assert!(session.depends_on_names());
    }

    #[test]
    fn addresses_depend_on_no_name() {
        for host in ["127.0.0.1", "::1"] {
            let session = session(host, Err(io::ErrorKind::NotFound.into()));
            assert!(!session.depends_on_names());
            assert!(!session.knows_all_addresses());
        }
    }

    #[test]
    fn names_and_both_kinds_of_addresses_are_resolved() {
        let resolve = |host: &str| {
            resolve(&ServerName {
                host: host.to_owned(),
                port: 5,
            })
        };
        assert_eq!(
            resolve("127.0.0.1").unwrap(),
            "127.0.0.1:5".parse().unwrap()
        );
        assert_eq!(resolve("::1").unwrap(), "[::1]:5".parse().unwrap());
        assert_eq!(
            resolve("localhost").unwrap(),
            "127.0.0.1:5".parse().unwrap()
        );
        assert!(resolve("no.such.host.invalid").is_err());
    }
}
