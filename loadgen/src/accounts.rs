//! The client's accounts file: `host : port : user : salt,key` on each line.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use pyzor_protocol::AccountKey;

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
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1_usize..) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let (user, key) = account(line).ok_or(number)?;
            let key = Arc::new(AccountKey::new(user, key));
            accounts.keys.insert(user.into(), key);
        }
        Ok(accounts)
    }

    pub(crate) fn key(&self, user: &[u8]) -> Option<&AccountKey> {
        self.keys.get(user).map(AsRef::as_ref)
    }
}

/// User and key of a line; from its end, because an IPv6 host has colons of its own.
fn account(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = line
        .rsplitn(4, |&byte| byte == b':')
        .map(<[u8]>::trim_ascii);
    let (secret, user, port, host) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    str::from_utf8(port).ok()?.parse::<u16>().ok()?;
    let comma = secret.iter().position(|&byte| byte == b',')?;
    let is_complete = !user.is_empty() && !host.is_empty();
    is_complete.then_some((user, &secret[comma + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_the_last_line_wins() {
        let text =
            b"# hosts\n\nmirror.example : 24441 : bob : aa,0011\n[::1] : 24441 : alice : ,0022\n\
            127.0.0.1:24441:bob:bb,0033\r\n";
        let accounts = Accounts::parse(text).unwrap();
        let key = |user: &[u8], key: &[u8]| AccountKey::new(user, key);
        assert_eq!(accounts.key(b"bob"), Some(&key(b"bob", b"0033")));
        assert_eq!(accounts.key(b"alice"), Some(&key(b"alice", b"0022")));
        assert_eq!(accounts.key(b"eve"), None);
        assert!(!format!("{accounts:?}").contains("0033"));
    }

    #[test]
    fn a_line_that_is_no_account_is_named_by_its_number_only() {
        for (text, line) in [
            (&b"host : 1 : bob\n"[..], 1),
            (b"# fine\nhost : 1 : bob : nocomma\n", 2),
            (b"host : port : bob : a,b\n", 1),
            (b"\n\nhost : 1 : : a,b\n", 3),
        ] {
            assert_eq!(Accounts::parse(text).unwrap_err(), line);
        }
    }
}
