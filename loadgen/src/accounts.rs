//! The client's accounts file, for signing recorded requests again.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use pyzor_protocol::{AccountKey, client_accounts};

use crate::error::Error;

/// Whose requests can be signed again. The default has nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    keys: HashMap<Box<[u8]>, Arc<AccountKey>>,
}

impl Accounts {
    /// Reads `path`. Hosts and ports are not looked at, since a recording is played to another server than it was made at;
    /// of several lines for one user the last one wins.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read(path).map_err(|source| Error::Read(path.to_owned(), source))?;
        Self::parse(&text).map_err(|line| Error::AccountsLine(path.to_owned(), line))
    }

    /// The accounts, or the number of the first line that is none. Never what stands there: it holds a key.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, usize> {
        let mut accounts = Self::default();
        for account in client_accounts(text) {
            let account = account.map_err(|problem| problem.line)?;
            let key = Arc::new(account.key);
            accounts.keys.insert(account.user.into(), key);
        }
        Ok(accounts)
    }

    pub(crate) fn key(&self, user: &[u8]) -> Option<&AccountKey> {
        self.keys.get(user).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_for_a_user_wins() {
        let text = b"a : 1 : bob : aa,0011\nb : 1 : alice : ,0022\nc : 2 : bob : bb,0033\n";
        let accounts = Accounts::parse(text).unwrap();
        let key = |user: &[u8], key: &[u8]| AccountKey::new(user, key);
        assert_eq!(accounts.key(b"bob"), Some(&key(b"bob", b"0033")));
        assert_eq!(accounts.key(b"alice"), Some(&key(b"alice", b"0022")));
        assert_eq!(accounts.key(b"eve"), None);
        assert!(!format!("{accounts:?}").contains("0033"));
    }

    #[test]
    fn a_line_that_is_no_account_is_named_by_its_number() {
        let text = b"# fine\nhost : 1 : bob : nocomma\n";
        assert_eq!(Accounts::parse(text).unwrap_err(), 2);
    }
}
