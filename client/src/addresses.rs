//! Name resolution: a server's name becomes addresses in a thread of its own, so that a slow name server holds up nobody who
//! asks another server, or who has waited for long enough.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::home_files::ServerName;

/// The addresses of a server, which may still be looked up. Clones share what is found.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<LookUp>);

#[derive(Debug)]
struct LookUp {
    found: OnceLock<io::Result<Vec<SocketAddr>>>,
    /// Readable once something is found, or nothing; none for an address that was never looked up.
    is_over: Option<EventFd>,
    /// The one that answered last.
    best: Mutex<Option<SocketAddr>>,
}

impl Addresses {
    /// Takes an address as it stands, and begins to look up a name.
    pub fn of(name: &ServerName) -> Self {
        if let Ok(address) = name.host.parse::<IpAddr>() {
            return Self::known(Ok(vec![SocketAddr::new(address, name.port)]));
        }
        Self::look_up(name).unwrap_or_else(|error| Self::known(Err(error)))
    }

    /// Addresses that need no looking up, or why there are none.
    pub fn known(found: io::Result<Vec<SocketAddr>>) -> Self {
        Self(Arc::new(LookUp {
            found: found.into(),
            is_over: None,
            best: Mutex::default(),
        }))
    }

    fn look_up(name: &ServerName) -> io::Result<Self> {
        let is_over = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        let look_up = Arc::new(LookUp {
            found: OnceLock::new(),
            is_over: Some(is_over),
            best: Mutex::default(),
        });
        let (name, shared) = (name.clone(), Arc::clone(&look_up));
        // Nobody waits for it: the system cannot be told to stop.
        thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || shared.end(resolve(&name)))?;
        Ok(Self(look_up))
    }

    /// Every address, in the order in which to try them: never none. Nothing while they are looked up.
    pub fn found(&self) -> Option<Result<Vec<SocketAddr>, &io::Error>> {
        let found = self.0.found.get()?.as_ref();
        Some(found.map(|addresses| {
            let mut addresses = addresses.clone();
            let best = self.best();
            addresses.sort_by_key(|address| Some(*address) != best);
            alternate_families(addresses)
        }))
    }

    /// Whether at least one is known.
    pub(crate) fn are_known(&self) -> bool {
        self.0.found.get().is_some_and(Result::is_ok)
    }

    /// Waits until they are known, or cannot be.
    pub(crate) fn wait(&self) {
        self.0.found.wait();
    }

    /// Becomes readable when [`Self::found`] has something to say.
    pub(crate) fn is_over(&self) -> Option<BorrowedFd<'_>> {
        self.0.is_over.as_ref().map(EventFd::as_fd)
    }

    /// The one that answered last, if any did.
    pub(crate) fn best(&self) -> Option<SocketAddr> {
        *self.0.best.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer came from this one: the next question goes there first.
    pub(crate) fn set_best(&self, address: SocketAddr) {
        let mut best = self.0.best.lock().unwrap_or_else(PoisonError::into_inner);
        *best = Some(address);
    }

    /// These, waited for, as what is known of a server from now on: `old` ones stay while nobody knows the name any more.
    pub(crate) fn in_place_of(self, old: &Self) -> Self {
        self.wait();
        if old.are_known() && !self.are_known() {
            return old.clone();
        }
        if let Some(best) = old.best() {
            self.set_best(best);
        }
        self
    }
}

impl LookUp {
    fn end(&self, found: io::Result<Vec<SocketAddr>>) {
        // It is set here alone.
        let _ = self.found.set(found);
        // It counts to more than 1 before a write fails.
        let _ = self.is_over.as_ref().map(|is_over| is_over.write(1));
    }
}

/// Asks the system, which knows the best order.
fn resolve(name: &ServerName) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in (name.host.as_str(), name.port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(addresses)
}

/// Alternates IPv4 and IPv6, beginning with the first, because a whole family may lead nowhere.
fn alternate_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == is_ipv4);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let pairs = std::iter::from_fn(|| {
        let pair = [same.next(), other.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    pairs.flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn look_up(host: &str) -> Addresses {
        let addresses = Addresses::of(&ServerName {
            host: host.to_owned(),
            port: 5,
        });
        addresses.wait();
        addresses
    }

    #[test]
    fn names_and_both_kinds_of_addresses_are_resolved() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1:5"), ("::1", "[::1]:5")] {
            let found = look_up(host).found().unwrap().unwrap();
            assert_eq!(found, addresses(&[expected]));
        }
        let found = look_up("localhost").found().unwrap().unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
        assert!(look_up("no.such.host.invalid").found().unwrap().is_err());
    }

    #[test]
    fn families_alternate_and_the_order_within_each_stays() {
        for (found, expected) in [
            (&["[::1]:5", "[::2]:5", "1.0.0.1:5"][..], [0, 2, 1]),
            (&["1.0.0.1:5", "[::1]:5", "[::2]:5"], [0, 1, 2]),
            (&["1.0.0.1:5", "1.0.0.2:5", "1.0.0.3:5"], [0, 1, 2]),
        ] {
            let found = addresses(found);
            let expected = expected.map(|at: usize| found[at]);
            assert_eq!(alternate_families(found), expected);
        }
    }

    #[test]
    fn what_answered_comes_first() {
        let all = addresses(&["[::1]:5", "1.0.0.1:5", "1.0.0.2:5"]);
        let known = Addresses::known(Ok(all.clone()));
        known.set_best(all[2]);
        let expected = [all[2], all[0], all[1]];
        assert_eq!(known.found().unwrap().unwrap(), expected);
        let fresh = Addresses::known(Ok(all)).in_place_of(&known);
        assert_eq!(fresh.found().unwrap().unwrap(), expected);
    }

    #[test]
    fn old_addresses_stay_while_the_name_is_unknown() {
        let unknown = || look_up("no.such.host.invalid");
        let old = Addresses::known(Ok(addresses(&["1.0.0.1:5"])));
        assert!(unknown().in_place_of(&old).are_known());
        assert!(!unknown().in_place_of(&unknown()).are_known());
        let new = look_up("127.0.0.1").in_place_of(&old);
        assert_eq!(new.found().unwrap().unwrap(), addresses(&["127.0.0.1:5"]));
    }
}
